"""What our scores are called by clients of other services. One table each; `docs/compat.md` says it in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.pipeline.scoring import Scored

# OpenAI's thirteen names, each with a category of ours; of two the lower counts, as what is both is at most that
# likely. None: no model of ours looks for it.
OPENAI: Mapping[str, tuple[str, ...]] = {
    "harassment": ("harassment",),
    "harassment/threatening": ("harassment", "threat"),
    "hate": ("hate",),
    "hate/threatening": ("hate", "threat"),
    "illicit": (),
    "illicit/violent": (),
    "self-harm": ("self_harm",),
    "self-harm/instructions": (),
    "self-harm/intent": (),
    "sexual": ("sexual",),
    "sexual/minors": (),
    "violence": ("threat",),
    "violence/graphic": (),
}
# And beside them our own, under our own names.
OWN = ("fraud", "profanity", "spam", "threat", "toxicity")

# Perspective's names. A comment is severely toxic as far as it is toxic and, besides, hateful or threatening.
PERSPECTIVE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "TOXICITY": (("toxicity",),),
    "SEVERE_TOXICITY": (("toxicity", "hate"), ("toxicity", "threat")),
    "IDENTITY_ATTACK": (("hate",),),
    "INSULT": (("harassment",),),
    "PROFANITY": (("profanity",),),
    "THREAT": (("threat",),),
    "SEXUALLY_EXPLICIT": (("sexual",),),
    "SPAM": (("spam",),),
    "FRAUD": (("fraud",),),
    "SELF_HARM": (("self_harm",),),
}
EXPERIMENTAL = "_EXPERIMENTAL"  # the same attribute in languages that Perspective tried out


def known_attribute(name: str) -> bool:
    """Whether there is such an attribute."""
    return name.removesuffix(EXPERIMENTAL) in PERSPECTIVE


def attribute(scored: Scored, name: str) -> float | None:
    """The score of one of Perspective's attributes, in [0, 1]; None where no model that serves looks for it."""
    found = PERSPECTIVE[name.removesuffix(EXPERIMENTAL)]
    if any(scored.score(category) is None for categories in found for category in categories):
        return None
    return max(_least(scored, categories) for categories in found)


def category(name: str) -> str | None:
    """The category of ours whose score an attribute is; None where it is made of several, or is none."""
    found = PERSPECTIVE.get(name.removesuffix(EXPERIMENTAL), ())
    return found[0][0] if len(found) == 1 and len(found[0]) == 1 else None


def result(scored: Scored, policy: Policy) -> dict[str, object]:
    """One result as OpenAI's clients read it."""
    names: dict[str, tuple[str, ...]] = {**OPENAI, **{name: (name,) for name in OWN}}
    return {
        "flagged": scored.routing.route is not Route.ALLOW,
        "categories": {name: _refused(scored, of, policy) for name, of in names.items()},
        "category_scores": {name: _least(scored, of) for name, of in names.items()},
        "category_applied_input_types": {name: _kinds(scored, of) for name, of in names.items()},
    }


def _least(scored: Scored, categories: Sequence[str]) -> float:
    scores = [scored.score(category) for category in categories]
    return min((0.0 if score is None else score for score in scores), default=0.0)


def _refused(scored: Scored, categories: Sequence[str], policy: Policy) -> bool:
    """Whether each of the categories is at least as likely as the policy leaves uncontested."""
    return bool(categories) and all(
        category in policy.categories
        and (scored.score(category) or 0.0) >= policy.categories[category].bands.allow_below
        for category in categories
    )


def _kinds(scored: Scored, categories: Sequence[str]) -> list[str]:
    looked = [scored.kinds(category) for category in categories]
    return [kind for kind in (looked[0] if looked else []) if all(kind in one for one in looked)]
