"""From scores and matches to a route: whatever the numbers, the graver word wins and says why."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.policy import Bands, Fail, Policy
from moderation.domain.routing import Route, Routing, route
from moderation.domain.signals import BankAction, Category, DetectorStatus, Match, Signal
from moderation.governance.policies import default_document, read

POLICY = read(default_document(), 1)
GRAVITY = {Route.ALLOW: 0, Route.LIMIT: 1, Route.REVIEW: 2, Route.REMOVE: 3}
# How sure a machine must be before one category says this.
SURENESS = [Route.ALLOW, Route.REVIEW, Route.LIMIT, Route.REMOVE]

PROBABILITIES = st.floats(0, 1)
SCORES = st.dictionaries(st.sampled_from([*map(str, Category), "toxicity"]), PROBABILITIES, max_size=6)
PARTS = st.sampled_from(["body", "title", "photo"])
SIGNALS = st.lists(
    st.builds(Signal, PARTS, st.just("text-minilm"), st.just("1"), st.just(DetectorStatus.OK), SCORES),
    max_size=4,
)
MATCHES = st.lists(
    st.builds(
        Match, PARTS, st.just("bank"), st.just("entry"), st.sampled_from(list(map(str, Category))),
        st.sampled_from(BankAction), st.booleans(), st.just(False),
    ),
    max_size=3,
)  # fmt: skip


def signal(part: str = "body", **scores: float) -> Signal:
    return Signal(part, "text-minilm", "1", DetectorStatus.OK, scores)


def match(action: BankAction, *, verified: bool = True, allow: bool = False, part: str = "body") -> Match:
    return Match(part, "known_spam", "e1", "spam", action, verified, allow)


def failure(detector: str = "text-minilm") -> Signal:
    return Signal("body", detector, "1", DetectorStatus.FAILED, {}, {"cause": "error"})


def failing(mode: Fail) -> Policy:
    return replace(POLICY, detectors={"text-minilm": mode})


def alone(category: str, probability: float) -> Route:
    return route(POLICY, [signal(**{category: probability})], []).route


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (0.0, Route.ALLOW), (0.4999, Route.ALLOW), (0.5, Route.REVIEW), (0.8999, Route.REVIEW),
        (0.9, Route.LIMIT), (0.9799, Route.LIMIT), (0.98, Route.REMOVE), (1.0, Route.REMOVE),
    ],
)  # fmt: skip
def test_thresholds_belong_to_the_graver_side(probability: float, expected: Route) -> None:
    assert alone("spam", probability) is expected


@given(st.sampled_from(Category), PROBABILITIES, PROBABILITIES)
def test_a_higher_score_of_a_category_never_says_less(category: Category, one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    assert SURENESS.index(alone(category, lower)) <= SURENESS.index(alone(category, higher))


@given(st.sampled_from(Category), PROBABILITIES)
def test_one_means_that_a_machine_never_removes(category: Category, probability: float) -> None:
    if POLICY.categories[category].bands.remove_from == 1:
        assert alone(category, probability) is not Route.REMOVE
        assert alone(category, 1.0) is Route.REVIEW


@given(SIGNALS, MATCHES, SIGNALS, MATCHES)
def test_more_evidence_never_gives_a_milder_route(
    signals: list[Signal], matches: list[Match], more: list[Signal], further: list[Match]
) -> None:
    """What raises a score adds a finding; the one exception is a category that itself becomes sure."""
    before = route(POLICY, signals, matches)
    raised = {finding.category for finding in route(POLICY, more, []).findings}
    kept = [f for f in before.findings if f.category not in raised]
    others = [signal(f.part, **{f.category: f.probability}) for f in kept]
    after = route(POLICY, [*signals, *more], [*matches, *further])
    assert GRAVITY[after.route] >= GRAVITY[route(POLICY, others, matches).route]
    assert before.route is Route.ALLOW or after.route is not Route.ALLOW
    assert before.route is not Route.REMOVE or after.route is Route.REMOVE


@given(SIGNALS, MATCHES)
def test_the_order_in_which_detectors_spoke_does_not_matter(
    signals: list[Signal], matches: list[Match]
) -> None:
    one, other = route(POLICY, signals, matches), route(POLICY, signals[::-1], matches[::-1])
    assert one.route is other.route
    assert one.probability == other.probability


@given(SIGNALS, MATCHES)
def test_the_route_is_the_gravest_of_its_parts(signals: list[Signal], matches: list[Match]) -> None:
    opinions = [alone(f.category, f.probability) for f in route(POLICY, signals, []).findings]
    opinions += [route(POLICY, [], [each]).route for each in matches]
    expected = max(opinions, key=GRAVITY.__getitem__, default=Route.ALLOW)
    assert route(POLICY, signals, matches).route is expected


@given(SIGNALS, MATCHES)
def test_reasons_are_words_and_numbers(signals: list[Signal], matches: list[Match]) -> None:
    found = route(POLICY, signals, matches)
    assert found.reasons
    for reason in found.reasons:
        assert reason.endswith(".")
        assert re.search(r"\d\.\d\d|entry|No detector", reason), reason
    assert [f.probability for f in found.findings] == sorted(
        (f.probability for f in found.findings), reverse=True
    )


def test_a_reason_names_both_thresholds() -> None:
    (reason,) = route(POLICY, [signal(hate=0.71)], []).reasons
    assert reason == "hate 0.71 in body lies between allow below 0.30 and remove from 0.97."


def test_uncertainty_stands_above_a_mere_limit() -> None:
    found = route(POLICY, [signal(spam=0.95, hate=0.5)], [])
    assert (found.route, found.category) == (Route.REVIEW, "hate")
    assert len(found.reasons) == 2, "the limit is still named"


def test_of_equals_the_severest_category_leads() -> None:
    assert route(POLICY, [signal(harassment=0.6, threat=0.6, spam=0.6)], []).category == "threat"


def test_what_the_policy_does_not_name_decides_nothing() -> None:
    found = route(POLICY, [signal(toxicity=1.0)], [])
    assert (found.route, found.findings) == (Route.ALLOW, ())


@pytest.mark.parametrize("action", [BankAction.REMOVE, BankAction.LIMIT, BankAction.REVIEW])
def test_a_verified_entry_gets_its_banks_action(action: BankAction) -> None:
    found = route(POLICY, [signal(spam=0.0)], [match(action)])
    assert (str(found.route), found.matches, found.probability) == (str(action), (match(action),), 1.0)


def test_an_entry_that_nobody_verified_is_looked_at() -> None:
    found = route(POLICY, [], [match(BankAction.REMOVE, verified=False)])
    assert found.route is Route.REVIEW
    assert "nobody has verified" in found.reasons[0]


def test_a_label_decides_nothing() -> None:
    found = route(POLICY, [], [match(BankAction.LABEL)])
    assert (found.route, found.matches) == (Route.ALLOW, ())


def test_a_verified_allow_bank_clears_its_part_and_no_other() -> None:
    allow = match(BankAction.LABEL, allow=True)
    cleared = route(POLICY, [signal(spam=0.99)], [allow, match(BankAction.REMOVE)])
    assert cleared.route is Route.ALLOW
    assert "allow bank" in cleared.reasons[0]
    assert cleared.matches == ()
    assert route(POLICY, [signal("title", spam=0.99)], [allow]).route is Route.REMOVE
    elsewhere = match(BankAction.REMOVE, part="title")
    found = route(POLICY, [], [allow, match(BankAction.REMOVE), elsewhere])
    assert (found.route, found.matches) == (Route.REMOVE, (elsewhere,))


def test_an_allow_entry_that_nobody_verified_clears_nothing() -> None:
    allow = match(BankAction.LABEL, verified=False, allow=True)
    assert route(POLICY, [signal(spam=0.99)], [allow]).route is Route.REMOVE


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(Fail.OPEN, Route.ALLOW), (Fail.CLOSED, Route.LIMIT), (Fail.REVIEW, Route.REVIEW)],
)
def test_a_failed_detector_means_what_the_policy_says(mode: Fail, expected: Route) -> None:
    found = route(failing(mode), [failure()], [])
    assert found.route is expected
    assert found.failed == ("text-minilm",), "never silently"


def test_a_failure_never_makes_another_verdict_milder() -> None:
    for mode in Fail:
        assert route(failing(mode), [failure(), signal("title", spam=0.99)], []).route is Route.REMOVE


def test_a_failure_is_named_with_its_cause() -> None:
    (reason,) = route(failing(Fail.REVIEW), [failure()], []).reasons
    assert reason == "text-minilm could not judge body (error); the policy then says review."


def test_nothing_to_judge_is_said_so() -> None:
    assert route(POLICY, [], []) == Routing(
        Route.ALLOW, None, 0.0, ("No detector found anything to judge.",), ()
    )


@given(PROBABILITIES, st.lists(PROBABILITIES, min_size=3, max_size=3).map(sorted))
def test_any_bands_are_obeyed(probability: float, thresholds: list[float]) -> None:
    allow, limit, remove = thresholds
    rules = dict(POLICY.categories)
    rules["spam"] = replace(rules["spam"], bands=Bands(allow, remove, limit))
    found = route(replace(POLICY, categories=rules), [signal(spam=probability)], []).route
    if probability < allow:
        assert found is Route.ALLOW
    elif probability >= remove and remove < 1:
        assert found is Route.REMOVE
    else:
        assert found is (Route.LIMIT if probability >= limit else Route.REVIEW)
