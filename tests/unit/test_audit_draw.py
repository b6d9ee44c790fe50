"""The audit draw: who is drawn with which probability, and that the draw does what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Bands, Policy
from moderation.domain.promises import Stratum
from moderation.domain.reviewing import AuditShare
from moderation.domain.routing import Route, audit_propensity
from moderation.domain.routing import route as decide
from moderation.domain.signals import BankAction, Category, DetectorStatus, Match, Signal
from moderation.governance.policies import default_document, read
from moderation.pipeline.batch import Batch
from moderation.pipeline.route import route

SHARES = AuditShare(share=0.01, near_share=0.2, uncertain_share=0.3, margin=0.1)
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
        ({"hate": 0.50}, SHARES.uncertain_share),  # people decide it anyway, and some see no score
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


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"hate": 0.01}, Stratum.FAR),
        ({"hate": 0.21}, Stratum.NEAR),
        ({"hate": 0.50}, Stratum.UNCERTAIN),
        ({"hate": 0.999}, Stratum.FAR),
        ({"harassment": 0.91}, Stratum.NEAR),
        ({}, Stratum.OTHER),  # no score had a say
        ({"toxicity": 0.9}, Stratum.OTHER),  # nor of what the policy does not name
    ],
)
def test_a_stratum_says_how_near_the_scores_lie(scores: dict[str, float], expected: Stratum) -> None:
    assert decide(POLICY, [signal(**scores)], []).stratum is expected


ENTRY = Match("body", "known_spam", "e1", "spam", BankAction.REMOVE, verified=True)
FAILED = Signal("body", "text-minilm", "1", DetectorStatus.FAILED, {})


@pytest.mark.parametrize(
    ("scores", "match", "failed", "expected"),
    [
        ({"hate": 0.01}, ENTRY, False, Stratum.OTHER),
        ({"hate": 0.999}, ENTRY, False, Stratum.OTHER),  # the bank would have removed it without the score
        ({"hate": 0.5}, replace(ENTRY, action=BankAction.LIMIT), False, Stratum.UNCERTAIN),
        ({"hate": 0.5}, replace(ENTRY, verified=False), False, Stratum.OTHER),
        ({"hate": 0.01}, None, True, Stratum.OTHER),
        ({"hate": 0.5}, None, True, Stratum.OTHER),
        ({"hate": 0.999}, None, True, Stratum.FAR),  # asking people would have been less
    ],
)
def test_what_a_bank_or_a_failure_decides_is_no_stratum_of_scores(
    scores: dict[str, float], match: Match | None, failed: bool, expected: Stratum
) -> None:
    signals = [signal(**scores), *([FAILED] if failed else [])]
    assert decide(POLICY, signals, [match] if match else []).stratum is expected


def test_people_are_shown_what_a_bank_found_and_what_failed() -> None:
    """Of what they decide for such a reason none is drawn: to judge it they have to know."""
    asked = decide(POLICY, [signal(hate=0.1)], [replace(ENTRY, verified=False)])
    assert (asked.route, audit_propensity(POLICY, asked)) == (Route.REVIEW, 0.0)
    failed = decide(POLICY, [FAILED], [])
    assert (failed.route, audit_propensity(POLICY, failed)) == (Route.REVIEW, 0.0)


@given(
    st.dictionaries(st.sampled_from(list(map(str, Category))), st.floats(0, 1), max_size=4), st.floats(0, 1)
)
def test_a_budget_makes_all_draws_rarer_alike(scores: dict[str, float], scale: float) -> None:
    routing = decide(POLICY, [signal(**scores)], [])
    assert audit_propensity(POLICY, routing, scale) == audit_propensity(POLICY, routing) * scale


def test_the_ends_of_the_scale_are_no_thresholds() -> None:
    never_alone = replace(POLICY.categories["hate"], bands=Bands(allow_below=0.0, remove_from=0.0))
    policy = replace(POLICY, categories={**POLICY.categories, "hate": never_alone})
    assert propensity(policy, hate=0.999) == SHARES.share
    sure = Match("body", "known_spam", "e1", "spam", BankAction.LIMIT, verified=True)
    assert propensity(match=sure, spam=0.1) == SHARES.share, "a bank's word has no score that could be near"


@given(st.dictionaries(st.sampled_from(list(map(str, Category))), st.floats(0, 1), max_size=4))
def test_everything_that_scores_decide_can_be_drawn(scores: dict[str, float]) -> None:
    routing = decide(POLICY, [signal(**scores)], [])
    found = audit_propensity(POLICY, routing)
    assert (found == SHARES.uncertain_share) == (routing.route is Route.REVIEW)
    assert found in (SHARES.uncertain_share, SHARES.share, SHARES.near_share)


def posted(identifier: UUID) -> Any:
    return SimpleNamespace(id=identifier, client="forum", language=None)


def drawn(signals: list[Signal], dice: float, scale: float = 1.0) -> CaseDraft | None:
    item = uuid4()
    batch = Batch([posted(item)], NOW, signals={item: signals})
    return route(batch, POLICY, [], lambda: dice, scale=scale)[item].case


def test_a_draw_opens_a_case_that_does_not_tell_what_the_machine_thought() -> None:
    allowed, removed = [signal(hate=0.01)], [signal(hate=0.999)]
    for signals in (allowed, removed):
        assert drawn(signals, SHARES.share) is None
        draft = drawn(signals, SHARES.share - 1e-9)
        assert draft == CaseDraft(CaseReason.AUDIT, "hate", 4, 0.5, SHARES.share)


def test_what_people_decide_anyway_keeps_its_case_and_its_place_when_it_is_drawn() -> None:
    ordinary = drawn([signal(hate=0.5)], SHARES.uncertain_share)
    assert ordinary == CaseDraft(CaseReason.UNCERTAIN, "hate", 4, 0.5, 1.0)
    blind = drawn([signal(hate=0.5)], SHARES.uncertain_share - 1e-9)
    assert blind == replace(ordinary, propensity=SHARES.uncertain_share, blind=True)


def test_with_a_budget_a_case_is_drawn_with_the_smaller_probability_and_says_so() -> None:
    assert drawn([signal(hate=0.01)], SHARES.share * 0.6, scale=0.5) is None
    draft = drawn([signal(hate=0.01)], SHARES.share * 0.4, scale=0.5)
    assert draft is not None
    assert draft.propensity == SHARES.share * 0.5
    assert drawn([signal(hate=0.01)], 0.0, scale=0.0) is None, "nothing once the day's checks are drawn"


def test_an_outcome_says_how_likely_it_was_drawn_whether_it_was_or_not() -> None:
    item = uuid4()
    batch = Batch([posted(item)], NOW, signals={item: [signal(hate=0.21)]})
    outcome = route(batch, POLICY, [], lambda: 0.999, scale=0.5)[item]
    assert outcome.case is None
    assert (outcome.stratum, outcome.propensity) == (Stratum.NEAR, SHARES.near_share * 0.5)


def test_of_what_no_machine_judged_there_is_no_probability() -> None:
    item = uuid4()
    batch = Batch([posted(item)], NOW, restricted={item})
    outcome = route(batch, POLICY, [], lambda: 0.0)[item]
    assert (outcome.slice, outcome.stratum, outcome.propensity) == (None, None, None)


def test_each_item_of_a_batch_gets_a_throw_of_its_own() -> None:
    items = [UUID(int=number) for number in range(4000)]
    signals = {item: [signal(hate=0.01 if item.int % 2 else 0.29)] for item in items}
    batch = Batch([posted(item) for item in items], NOW, signals=signals)
    outcomes = route(batch, POLICY, [], Random(3).random)
    counts = Counter(one.case.propensity for one in outcomes.values() if one.case)
    # 2,000 of each stratum, within four standard deviations.
    assert abs(counts[SHARES.share] - 20) <= 18
    assert abs(counts[SHARES.near_share] - 400) <= 72
