"""From a decision to its statement of reasons (Article 17 of the Digital Services Act), as a record of schema v2.

Every text is a template filled with the policy's words, category names and dates: content never comes this far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from moderation.domain import dsa
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Restriction
from moderation.domain.reviewing import Clause
from moderation.domain.signals import Category


class Source(StrEnum):
    """How what was decided came to our attention."""

    OWN = "own"  # screening, draws, a look of our own
    REPORT = "report"  # a user's report: a notice by Article 16


class Automation(StrEnum):
    """How far a machine took the decision, in the database's words."""

    FULLY = "AUTOMATED_DECISION_FULLY"
    PARTIALLY = "AUTOMATED_DECISION_PARTIALLY"
    NOT = "AUTOMATED_DECISION_NOT_AUTOMATED"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one of our categories is in the EU's words, and in a sentence of ours ("it is ...")."""

    eu_category: str
    keywords: tuple[str, ...]
    words: str
    other: str = ""  # for KEYWORD_OTHER, where no keyword says it


_OTHER = "KEYWORD_OTHER"
MEANINGS: Mapping[Category, Meaning] = {
    Category.HARASSMENT: Meaning(
        "STATEMENT_CATEGORY_CYBER_VIOLENCE", ("KEYWORD_CYBER_HARASSMENT",), "harassment of a person"
    ),
    Category.HATE: Meaning(
        "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH",
        ("KEYWORD_HATE_SPEECH",),
        "hatred against people for who they are",
    ),
    Category.THREAT: Meaning(
        "STATEMENT_CATEGORY_VIOLENCE", ("KEYWORD_INCITEMENT_VIOLENCE_HATRED",), "a threat of violence"
    ),
    Category.SEXUAL: Meaning(
        "STATEMENT_CATEGORY_OTHER_VIOLATION_TC", ("KEYWORD_ADULT_SEXUAL_MATERIAL",), "sexual material"
    ),
    Category.SEXUAL_MINORS: Meaning(
        "STATEMENT_CATEGORY_PROTECTION_OF_MINORS",
        ("KEYWORD_CHILD_SEXUAL_ABUSE_MATERIAL",),
        "sexual material that involves minors",
    ),
    Category.SELF_HARM: Meaning(
        "STATEMENT_CATEGORY_SELF_HARM",
        ("KEYWORD_SELF_MUTILATION", "KEYWORD_SUICIDE"),
        "content about harming oneself",
    ),
    Category.VIOLENCE: Meaning(
        "STATEMENT_CATEGORY_VIOLENCE",
        (_OTHER,),
        "a depiction or praise of violence",
        "Depiction or praise of violence",
    ),
    Category.FRAUD: Meaning(
        "STATEMENT_CATEGORY_SCAMS_AND_FRAUD",
        (_OTHER,),
        "an attempt to obtain money or data by deceit",
        "Deceit to obtain money or personal data",
    ),
    Category.SPAM: Meaning(
        "STATEMENT_CATEGORY_OTHER_VIOLATION_TC", (_OTHER,), "unsolicited advertising", "Unsolicited advertising"
    ),
    Category.MISINFORMATION: Meaning(
        "STATEMENT_CATEGORY_NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS",
        ("KEYWORD_MISINFORMATION_DISINFORMATION",),
        "false or misleading information",
    ),
    Category.ILLEGAL_GOODS: Meaning(
        "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS",
        ("KEYWORD_PROHIBITED_PRODUCTS",),
        "an offer of prohibited goods or services",
    ),
    Category.UNDERAGE: Meaning(
        "STATEMENT_CATEGORY_PROTECTION_OF_MINORS",
        ("KEYWORD_AGE_SPECIFIC_RESTRICTIONS_MINORS",),
        "the account of somebody below the age that the service allows",
    ),
}  # fmt: skip
UNSCREENED = Meaning(
    "STATEMENT_CATEGORY_OTHER_VIOLATION_TC",
    (_OTHER,),
    "content that could not be checked",
    "Restricted because it could not be checked",
)

VISIBILITY: Mapping[Restriction, str] = {
    Restriction.AGE_GATE: "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED",
    Restriction.DEMOTE: "DECISION_VISIBILITY_CONTENT_DEMOTED",
    Restriction.LABEL: "DECISION_VISIBILITY_CONTENT_LABELLED",
    Restriction.NO_INTERACTION: "DECISION_VISIBILITY_CONTENT_INTERACTION_RESTRICTED",
}
REMOVED = "DECISION_VISIBILITY_CONTENT_REMOVED"
# A warning and a strike restrict nothing that the database has a name for; the facts tell of them.
ACCOUNT: Mapping[AccountMeasure, str] = {
    AccountMeasure.SUSPEND: "DECISION_ACCOUNT_SUSPENDED",
    AccountMeasure.BAN: "DECISION_ACCOUNT_TERMINATED",
}
SOURCES: Mapping[Source, str] = {Source.OWN: "SOURCE_VOLUNTARY", Source.REPORT: "SOURCE_ARTICLE_16"}
CONTENT: Mapping[str, str] = {"text": "CONTENT_TYPE_TEXT", "image": "CONTENT_TYPE_IMAGE"}
_UNKNOWN_CONTENT = "CONTENT_TYPE_OTHER"
# Codes that ISO 639 has replaced, and browsers still send.
_RENAMED: Mapping[str, str] = {"iw": "he", "in": "id", "ji": "yi"}


@dataclass(frozen=True, slots=True)
class Act:
    """That a machine or a person judged an item. `found`: it said that a rule is broken."""

    person: bool
    found: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision that restricts, and what belongs to it, say: enough for a statement, and no content.

    `before` are the acts on the same item that came before it; `matched` that an entry of a bank led to it.
    """

    decision_id: str
    verdict: Verdict
    category: str | None
    clause: Clause | None
    policy: str
    eu_category: str | None
    restrictions: tuple[Restriction, ...]
    measure: AccountMeasure | None
    until: datetime | None
    person: bool
    before: tuple[Act, ...]
    matched: bool
    source: Source
    content_types: tuple[str, ...]
    content_at: datetime | None
    language: str | None
    decided_at: datetime
    effective_at: datetime


def detected(facts: Facts) -> bool:
    """Whether automated means found what was restricted; not where a user's report did."""
    own = Act(facts.person, found=not facts.person)
    return facts.source is Source.OWN and any(act.found and not act.person for act in (*facts.before, own))


def automation(facts: Facts) -> Automation:
    """Fully automated if and only if no person judged the item before or by this decision."""
    if not facts.person:
        return Automation.PARTIALLY if any(act.person for act in facts.before) else Automation.FULLY
    return Automation.PARTIALLY if detected(facts) else Automation.NOT


def meaning(category: str | None) -> Meaning:
    """What a category is to the EU."""
    return MEANINGS[Category(category)] if category in set(Category) else UNSCREENED


def eu_category(category: str | None, of_policy: str | None) -> str:
    """The statement category: as the policy has it, or as its category means where that is no name of schema v2."""
    if of_policy is not None and of_policy in dsa.enumerations().enums["STATEMENT_CATEGORIES"]:
        return of_policy
    return meaning(category).eu_category


def visibility(verdict: Verdict, restrictions: Sequence[Restriction]) -> list[str]:
    """What is restricted of the content. A machine that limits shows less widely, and names no restriction."""
    if verdict is Verdict.REMOVE:
        return [REMOVED]
    return sorted({VISIBILITY[one] for one in restrictions or (Restriction.DEMOTE,)})


def content_language(tag: str | None) -> str | None:
    """The language of a BCP 47 tag as the database takes it; None for one that it has no code for."""
    primary = (tag or "").split("-", 1)[0].lower()
    primary = _RENAMED.get(primary, primary)
    return primary.upper() if primary in dsa.LANGUAGES else None


def statement(facts: Facts) -> dict[str, Any]:
    """The record for the EU's database."""
    category = eu_category(facts.category, facts.eu_category)
    applied = _within(facts.effective_at, dsa.FIRST_APPLIED)
    found: dict[str, Any] = {
        "puid": facts.decision_id,
        "decision_visibility": visibility(facts.verdict, facts.restrictions),
        **_account(facts, applied),
        **_ground(facts),
        **_content(facts),
        "category": category,
        **_keywords(facts, category),
        # The service knows no borders: what is restricted is so everywhere.
        "territorial_scope": sorted(dsa.enumerations().enums["TERRITORIAL_SCOPE"]),
        "application_date": applied.isoformat(),
        "decision_facts": _cut(" ".join(_told(facts)), dsa.LONG),
        "source_type": SOURCES[facts.source],
        "automated_detection": "Yes" if detected(facts) else "No",
        "automated_decision": str(automation(facts)),
    }
    return found


def _account(facts: Facts, applied: date) -> dict[str, str]:
    if facts.measure is None or facts.measure not in ACCOUNT:
        return {}
    found = {"decision_account": ACCOUNT[facts.measure]}
    # No end means for ever; so does one beyond what the database can write down, and the facts name the day.
    end = facts.until.astimezone(UTC).date() if facts.until else None
    if end and end <= dsa.LAST:
        found["end_date_account_restriction"] = max(end, applied).isoformat()
    return found


def _ground(facts: Facts) -> dict[str, str]:
    explained = _cut(_explained(facts), dsa.MIDDLE)
    if facts.clause and facts.clause.law:
        return {
            "decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT",
            "illegal_content_legal_ground": _cut(facts.clause.law, dsa.SHORT),
            "illegal_content_explanation": explained,
        }
    return {
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": _cut(ground(facts), dsa.SHORT),
        "incompatible_content_explanation": explained,
    }


def ground(facts: Facts) -> str:
    """Which rule it is, as a reference into the policy."""
    if facts.clause and facts.clause.id != facts.category:
        return f"Clause {facts.clause.id} of the {facts.policy}: {facts.clause.rule}"
    if facts.category is None:
        return f"The {facts.policy}: what can't be checked is restricted."
    return f"The {facts.policy}, category {facts.category.replace('_', ' ')}"


def _explained(facts: Facts) -> str:
    said = f"The content was judged to be {meaning(facts.category).words}."
    return f"{said} {facts.clause.reason}" if facts.clause and facts.clause.reason else said


def _content(facts: Facts) -> dict[str, Any]:
    kinds = sorted({CONTENT.get(kind, _UNKNOWN_CONTENT) for kind in facts.content_types}) or [
        _UNKNOWN_CONTENT
    ]
    found: dict[str, Any] = {"content_type": kinds, "content_date": _posted(facts).isoformat()}
    if _UNKNOWN_CONTENT in kinds:
        found["content_type_other"] = "The kind of the content was not recorded."
    if (language := content_language(facts.language)) is not None:
        found["content_language"] = language
    return found


def _posted(facts: Facts) -> date:
    """When it was posted, by the content service's clock; the day of the decision where that is not known."""
    at = facts.content_at or facts.decided_at
    return _within(min(at, facts.decided_at), dsa.FIRST_POSTED)


def _within(at: datetime, first: date) -> date:
    return min(max(at.astimezone(UTC).date(), first), dsa.LAST)


def _keywords(facts: Facts, category: str) -> dict[str, Any]:
    means = meaning(facts.category)
    if means.eu_category != category:  # the policy counts it elsewhere; these keywords are not of there
        return {}
    return {"category_specification": list(means.keywords)} | (
        {"category_specification_other": means.other} if means.other else {}
    )


_HOW: Mapping[tuple[bool, Automation], str] = {
    (
        False,
        Automation.FULLY,
    ): "Automated means took the decision, by thresholds that the policy sets; no person "
    "had judged the content before.",
    (False, Automation.PARTIALLY): "Automated means took the decision after people had judged the content.",
    (True, Automation.PARTIALLY): "A person took the decision, after automated means had found the content.",
    (True, Automation.NOT): "A person took the decision, without an automated finding to go by.",
}
_DONE: Mapping[str, str] = {
    REMOVED: "The content was removed.",
    "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED": "The content is shown to adults only.",
    "DECISION_VISIBILITY_CONTENT_DEMOTED": "The content is shown less widely.",
    "DECISION_VISIBILITY_CONTENT_LABELLED": "The content carries a label.",
    "DECISION_VISIBILITY_CONTENT_INTERACTION_RESTRICTED": "Nobody can react to the content.",
}
_MEASURES: Mapping[AccountMeasure, str] = {
    AccountMeasure.WARN: "The account was warned.",
    AccountMeasure.STRIKE: "The account got a strike.",
    AccountMeasure.SUSPEND: "The account was suspended.",
    AccountMeasure.BAN: "The account was terminated.",
}


def _told(facts: Facts) -> list[str]:
    """The facts, sentence by sentence."""
    if facts.source is Source.REPORT:
        found = "A user of the service reported the content."
    elif not detected(facts):
        found = "The service looked at the content of its own accord, without an automated finding."
    elif facts.matched:
        found = "Automated screening found the content equal to some that was judged before."
    else:
        found = "Automated screening of what is posted found the content."
    if facts.category is None:
        judged = "It could not be checked whether it breaks a rule."
    else:
        judged = f"It was judged to be {meaning(facts.category).words}."
    told = [found, judged, _HOW[facts.person, automation(facts)]]
    told += [_DONE[one] for one in visibility(facts.verdict, facts.restrictions)]
    if facts.measure:
        told.append(_MEASURES[facts.measure])
        if facts.until:
            told.append(f"That ends on {facts.until.astimezone(UTC).date()}.")
    if facts.content_at is None:
        told.append("When it was posted is not recorded; the date given is that of the decision.")
    return told


def _cut(text: str, most: int) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
