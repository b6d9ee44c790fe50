"""Another policy over the same findings: what it would have done, and nothing invented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from moderation.domain import simulation
from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Certificate, Side
from moderation.domain.routing import Thresholds, route
from moderation.domain.signals import DetectorStatus, Signal
from moderation.domain.simulation import Comparison, Read, Screened
from moderation.governance.policies import default_document, read

DEFAULT = default_document()
# Harassment: allowed below 0.40, limited from 0.90, removed from 0.97.
LENIENT = DEFAULT.replace("allow_below: 0.40", "allow_below: 0.60", 1)


@pytest.fixture
def lenient() -> Policy:
    return read(LENIENT, 2)


def finding(probability: float, category: str = "harassment") -> dict[str, Any]:
    return {
        "category": category,
        "probability": probability,
        "part": "body",
        "detector": "text-minilm",
        "version": "1",
    }


def one(number: int, decided: str, *findings: dict[str, Any], **changes: Any) -> Screened | None:
    options: dict[str, Any] = {"matches": [], "detectors": [], "categories": {}} | changes
    return simulation.screened(UUID(int=number), decided, 1, findings, **options)


def test_what_lies_between_the_old_threshold_and_the_new_changes_sides(
    policy: Policy, lenient: Policy
) -> None:
    compared = Comparison(policy, lenient)
    for number, (probability, decided) in enumerate([(0.1, "allow"), (0.5, "review"), (0.7, "review")]):
        item = one(number, decided, finding(probability))
        assert item is not None
        compared.add(item)
    found = simulation.result(compared, Read(1, 3, 0), 60.0)
    assert found.routes["review"] == (2, 1)
    assert found.routes["allow"] == (1, 2)
    assert [(flip.before, flip.after, flip.items, flip.named) for flip in found.flips] == [
        ("review", "allow", 1, (UUID(int=1),))
    ]
    assert found.categories["harassment"]["review"] == (2, 1)
    assert (found.same_version, found.reproduced) == (3, 3)
    assert not found.sampled


def test_the_load_counts_cases_a_day_blind_checks_too_and_the_hours_they_take(policy: Policy) -> None:
    compared = Comparison(policy, policy)
    for number in range(10):
        item = one(number, "review", finding(0.6))
        assert item is not None
        compared.add(item)
    sample = simulation.result(compared, Read(2, 40, 0, sampled=True), 90.0)
    assert sample.sampled
    assert sample.before.cases == pytest.approx(20)
    assert sample.before.hours == pytest.approx(20 * 90 / 3600)
    assert simulation.result(compared, Read(2, 10, 0), None).after.hours is None
    allowed = one(11, "allow", finding(0.01))
    assert allowed is not None
    compared.add(allowed)
    assert compared.was.drawn == pytest.approx(policy.review.audit.share)


def test_a_match_counts_with_the_action_it_had_and_a_failure_as_the_policy_says(policy: Policy) -> None:
    match = {"part": "body", "bank": "known", "entry": "e1", "action": "remove", "verified": True}
    matched = one(1, "remove", matches=[match], categories={"known": "spam"})
    assert matched is not None
    assert route(policy, matched.signals, matched.matches).route == "remove"
    assert route(policy, matched.signals, matched.matches).category == "spam"
    failed = one(2, "review", detectors=[{"name": "decoder", "version": "1", "status": "failed"}])
    assert failed is not None
    assert route(policy, failed.signals, failed.matches).route == "review"
    opened = read(DEFAULT.replace("decoder:        {fail: review}", "decoder:        {fail: open}"), 2)
    assert route(opened, failed.signals, failed.matches).route == "allow"


def test_what_no_machine_looked_at_is_left_out() -> None:
    assert one(1, "review") is None
    skipped = one(2, "allow", detectors=[{"name": "d", "version": "1", "status": "skipped"}])
    assert skipped == Screened(UUID(int=2), "allow", 1, [], [], models=(("d", "1"),))


def test_it_routes_as_the_pipeline_did(policy: Policy) -> None:
    signals = [Signal("body", "text-minilm", "1", DetectorStatus.OK, {"harassment": 0.93, "spam": 0.2})]
    then = route(policy, signals, ())
    kept = [finding(each.probability, each.category) for each in then.findings]
    item = one(1, str(then.route), *kept)
    assert item is not None
    assert route(policy, item.signals, item.matches).route == then.route == "limit"


def test_each_policy_routes_with_what_is_certified_under_it(policy: Policy) -> None:
    """What is certified under one says nothing of the other; what is drawn of people's work is no more work."""
    item = one(1, "review", finding(0.6, "hate"))
    assert item is not None
    held = Certificate(UUID(int=7), "hate", Side.REMOVE, EVERYTHING, "m 1", 0.5, 0.02)
    after = replace(policy, version=2)

    def certified(screened: Screened) -> dict[str, Thresholds]:
        assert screened is item
        return {"hate": Thresholds.of(after.categories["hate"].bands, held, None)}

    compared = Comparison(policy, after, becomes_certified=certified)
    compared.add(item)
    assert compared.flips == {("review", "remove"): 1}
    assert compared.was.drawn == 0
    assert compared.becomes.drawn > 0
