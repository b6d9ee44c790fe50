"""Stage 5: the policy's word on each item, and whether people are asked; the audit draw comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from uuid import UUID

from models.registry import Manifest
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import UNKNOWN_SEVERITY, CaseDraft, Outcome, drafted
from moderation.domain.policy import Policy
from moderation.domain.promises import InForce
from moderation.domain.routing import Route, Routing, Thresholds, audit_propensity, thresholds
from moderation.domain.routing import route as decide
from moderation.domain.signals import DetectorStatus, Signal
from moderation.governance import lineups, restriction
from moderation.pipeline.batch import RULES, Batch, Image, Text, failed
from moderation.storage.tables import Item

NONE_IN_FORCE = InForce()
UNDETERMINED = "und"


@dataclass(frozen=True, slots=True)
class Certified:
    """The thresholds that hold for an item, worked out once for all items that are alike."""

    policy: Policy
    in_force: InForce = NONE_IN_FORCE
    _known: dict[tuple[str, tuple[tuple[str, str], ...]], Mapping[str, Thresholds]] = field(
        default_factory=dict
    )

    def thresholds(self, slice_: str, models: Sequence[Manifest]) -> Mapping[str, Thresholds]:
        """Of each category that is certified for items of this slice, judged by these models."""
        if not self.in_force.certificates:
            return {}
        alike = (slice_, tuple((one.name, one.version) for one in models))
        if alike not in self._known:
            categories = {category for category, *_ in self.in_force.certificates}
            asked = {category: lineups.of_models(category, models) for category in categories}
            self._known[alike] = thresholds(self.policy, self.in_force, slice_, asked)
        return self._known[alike]


def route(
    batch: Batch,
    policy: Policy,
    detectors: Sequence[Manifest],
    dice: Callable[[], float],
    in_force: InForce = NONE_IN_FORCE,
    scale: float = 1.0,
) -> dict[UUID, Outcome]:
    """The outcome of every item of the batch; `dice` gives a number in [0, 1) for each that a machine judges.

    `detectors` are those in use, for items of which the batch does not say who judged them. `in_force` is what is
    certified, and `scale` makes every draw rarer, to keep to the day's budget.
    """
    certified, languages = Certified(policy, in_force), _languages(batch)
    outcomes = {}
    for item in batch.items:
        if item.id in batch.restricted:
            outcomes[item.id] = unjudged()
            continue
        asked = batch.asked_models.get(item.id, detectors)
        slice_ = policy.certificates.slice_of(languages.get(item.id) or item.language)
        outcomes[item.id] = _outcome(batch, item, certified, asked, slice_, dice(), scale)
    return outcomes


def _languages(batch: Batch) -> dict[UUID, str]:
    """The language of each item's first text, where screening could tell."""
    first: dict[UUID, str] = {}
    for text in reversed(batch.texts):
        first[text.item] = batch.languages.get((text.item, text.part), UNDETERMINED)
    return {item: language for item, language in first.items() if language != UNDETERMINED}


def unjudged() -> Outcome:
    """The outcome of an item that no machine may judge: people decide, and are told why."""
    routing = Routing(Route.REVIEW, None, 0.0, (restriction.SENTENCE,), ())
    return Outcome(routing, (), (), CaseDraft(CaseReason.RESTRICTED, None, UNKNOWN_SEVERITY, 0.5))


def _outcome(
    batch: Batch,
    item: Item,
    certified: Certified,
    asked: Sequence[Manifest],
    slice_: str,
    dice: float,
    scale: float,
) -> Outcome:
    policy = certified.policy
    signals = batch.signals.setdefault(item.id, [])
    signals.extend(_unjudged(batch, item.id))
    routing = decide(policy, signals, batch.matches.get(item.id, []), certified.thresholds(slice_, asked))
    return Outcome(
        routing,
        tuple(asdict(finding) for finding in routing.findings),
        _detectors(signals, asked),
        drafted(routing, policy, dice, scale),
        slice_,
        routing.stratum,
        audit_propensity(policy, routing, scale),
    )


def _unjudged(batch: Batch, item: UUID) -> list[Signal]:
    """A failed signal for each part that no detector said anything of: not being looked at is no verdict."""
    said = {
        signal.part
        for signal in batch.signals.get(item, ())
        # What only tells of a part (a label, its language) has not judged it.
        if (signal.scores and signal.detector not in RULES) or signal.status is DetectorStatus.FAILED
    }
    looked_at: tuple[Text | Image, ...] = (*batch.texts, *batch.images)
    parts = [one.part for one in looked_at if one.item == item]
    return [failed(part, "classifier", "none", "no model is installed") for part in parts if part not in said]


def _detectors(signals: Iterable[Signal], known: Sequence[Manifest]) -> tuple[dict[str, str], ...]:
    """Every detector by name: failed if it failed anywhere, skipped if it had nothing to look at."""
    said: dict[str, dict[str, str]] = {
        manifest.name: {"name": manifest.name, "version": manifest.version, "status": DetectorStatus.SKIPPED}
        for manifest in known
    }
    for signal in signals:
        status = said.setdefault(signal.detector, {"name": signal.detector, "version": signal.version})
        if status.get("status") != DetectorStatus.FAILED:
            status["status"] = signal.status
    return tuple(said.values())
