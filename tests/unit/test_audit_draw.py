"""The audit draw: who is drawn with which probability, and that the draw does what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Bands, Policy
from moderation.domain.reviewing import AuditShare
from moderation.domain.routing import Route, audit_propensity
from moderation.domain.routing import route as decide
from moderation.domain.signals import BankAction, Category, DetectorStatus, Match, Signal
from moderation.governance.policies import default_document, read
from moderation.pipeline.batch import Batch
from moderation.pipeline.route import route

SHARES = AuditShare(share=0.01, near_share=0.2, margin=0.1)
DEFAULT = read(default_document(), 1)
POLICY = replace(DEFAULT, review=replace(DEFAULT.review, audit=SHARES))
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def signal(**scores: float) -> Signal:
    return Signal("body", "text-minilm", "1", DetectorStatus.OK, scores)


def propensity(policy: Policy = POLICY, match: Match | None = None, **scores: float) -> float:
    return audit_propensity(policy, decide(policy, [signal(**scores)], [match] if match else []))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"hate": 0.01}, SHARES.share),  # allow below 0.30
        ({"hate": 0.21}, SHARES.near_share),
        ({"hate": 0.50}, 0.0),  # people see it anyway
        ({"hate": 0.975}, SHARES.near_share),  # remove from 0.97, half of what is left above it
        ({"hate": 0.999}, SHARES.share),
        # A threshold of 0.08: within 0.1 of it lies everything below, so half of the band counts instead.
        ({"self_harm": 0.001}, SHARES.share),
        ({"self_harm": 0.05}, SHARES.near_share),
        ({"hate": 0.01, "self_harm": 0.05}, SHARES.near_share),
        # What was removed for one category is not near to anything because of another.
        ({"spam": 0.999, "hate": 0.29}, SHARES.share),
        ({"harassment": 0.91}, SHARES.near_share),  # limit from 0.90
        ({}, SHARES.share),
    ],
)
def test_strata(scores: dict[str, float], expected: float) -> None:
    assert propensity(**scores) == expected


def test_the_ends_of_the_scale_are_no_thresholds() -> None:
    never_alone = replace(POLICY.categories["hate"], bands=Bands(allow_below=0.0, remove_from=0.0))
    policy = replace(POLICY, categories={**POLICY.categories, "hate": never_alone})
    assert propensity(policy, hate=0.999) == SHARES.share
    sure = Match("body", "known_spam", "e1", "spam", BankAction.LIMIT, verified=True)
    assert propensity(match=sure, spam=0.1) == SHARES.share, "a bank's word has no score that could be near"


@given(st.dictionaries(st.sampled_from(list(map(str, Category))), st.floats(0, 1), max_size=4))
def test_everything_automatic_can_be_drawn_and_nothing_else(scores: dict[str, float]) -> None:
    routing = decide(POLICY, [signal(**scores)], [])
    found = audit_propensity(POLICY, routing)
    assert (found == 0) == (routing.route is Route.REVIEW)
    assert found in (0.0, SHARES.share, SHARES.near_share)


def drawn(signals: list[Signal], dice: float) -> CaseDraft | None:
    item = uuid4()
    batch = Batch([cast(Any, SimpleNamespace(id=item))], NOW, signals={item: signals})
    return route(batch, POLICY, [], lambda: dice)[item].case


def test_a_draw_opens_a_case_that_does_not_tell_what_the_machine_thought() -> None:
    allowed, removed = [signal(hate=0.01)], [signal(hate=0.999)]
    for signals in (allowed, removed):
        assert drawn(signals, SHARES.share) is None
        draft = drawn(signals, SHARES.share - 1e-9)
        assert draft == CaseDraft(CaseReason.AUDIT, "hate", 4, 0.5, SHARES.share)


def test_what_people_decide_anyway_stays_an_ordinary_case() -> None:
    draft = drawn([signal(hate=0.5)], 0.0)
    assert draft is not None
    assert (draft.reason, draft.propensity) == (CaseReason.UNCERTAIN, 1.0)


def test_each_item_of_a_batch_gets_a_throw_of_its_own() -> None:
    items = [UUID(int=number) for number in range(4000)]
    signals = {item: [signal(hate=0.01 if item.int % 2 else 0.29)] for item in items}
    batch = Batch([cast(Any, SimpleNamespace(id=item)) for item in items], NOW, signals=signals)
    outcomes = route(batch, POLICY, [], Random(3).random)
    counts = Counter(one.case.propensity for one in outcomes.values() if one.case)
    # 2,000 of each stratum, within four standard deviations.
    assert abs(counts[SHARES.share] - 20) <= 18
    assert abs(counts[SHARES.near_share] - 400) <= 72
