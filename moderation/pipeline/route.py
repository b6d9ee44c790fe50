"""Stage 5: the policy's word on each item, and whether people are asked; the audit draw comes last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from uuid import UUID

from models.registry import Manifest
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import UNKNOWN_SEVERITY, CaseDraft, Outcome, drafted
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.domain.routing import route as decide
from moderation.domain.signals import DetectorStatus, Signal
from moderation.governance import restriction
from moderation.pipeline.batch import RULES, Batch, Image, Text, failed


def route(
    batch: Batch, policy: Policy, detectors: Sequence[Manifest], dice: Callable[[], float]
) -> dict[UUID, Outcome]:
    """The outcome of every item of the batch; `dice` gives a number in [0, 1) for each that a machine judges."""
    return {
        item.id: unjudged()
        if item.id in batch.restricted
        else _outcome(batch, item.id, policy, detectors, dice())
        for item in batch.items
    }


def unjudged() -> Outcome:
    """The outcome of an item that no machine may judge: people decide, and are told why."""
    routing = Routing(Route.REVIEW, None, 0.0, (restriction.SENTENCE,), ())
    return Outcome(routing, (), (), CaseDraft(CaseReason.RESTRICTED, None, UNKNOWN_SEVERITY, 0.5))


def _outcome(batch: Batch, item: UUID, policy: Policy, detectors: Sequence[Manifest], dice: float) -> Outcome:
    batch.signals.setdefault(item, []).extend(_unjudged(batch, item))
    signals = batch.signals[item]
    routing = decide(policy, signals, batch.matches.get(item, []))
    case = drafted(routing, policy, dice)
    findings = tuple(asdict(finding) for finding in routing.findings)
    return Outcome(routing, findings, _detectors(signals, detectors), case)


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
