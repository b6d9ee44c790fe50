"""Thresholds by certificate: they take the place of the policy's, stay in order, and are cited by what they do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.policy import Bands, Fail, Policy
from moderation.domain.promises import EVERYTHING, Certificate, InForce, Side, Stratum, lineup
from moderation.domain.routing import Route, Thresholds, thresholds
from moderation.domain.routing import route as decide
from moderation.domain.signals import BankAction, DetectorStatus, Match, Signal
from moderation.governance.policies import default_document, read
from moderation.pipeline.batch import Batch, Text
from moderation.pipeline.route import route

DEFAULT = read(default_document(), 1)
LINEUP = lineup([("text-minilm", "2")])
SURENESS = [Route.ALLOW, Route.REVIEW, Route.LIMIT, Route.REMOVE]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
P = st.floats(0, 1)
SORTED_BANDS = st.tuples(P, P, P).map(sorted).map(lambda t: Bands(t[0], t[2], t[1])) | st.tuples(P, P).map(
    sorted
).map(lambda t: Bands(t[0], t[1]))


def certificate(
    category: str = "hate", side: Side = Side.REMOVE, threshold: float = 0.6, **changes: Any
) -> Certificate:
    made = Certificate(uuid4(), category, side, EVERYTHING, LINEUP, threshold, 0.02)
    return replace(made, **changes)


def removing(threshold: float) -> Certificate:
    return certificate(threshold=threshold)


def allowing(threshold: float) -> Certificate:
    return certificate(side=Side.ALLOW, threshold=threshold)


CERTIFIED = st.tuples(st.none() | P.map(removing), st.none() | P.map(allowing))


def signal(part: str = "body", **scores: float) -> Signal:
    return Signal(part, "text-minilm", "2", DetectorStatus.OK, scores)


def holding(*certificates: Certificate, policy: Policy = DEFAULT) -> dict[str, Thresholds]:
    """Thresholds of an item of no language in particular, which one model judges for every category."""
    return thresholds(policy, InForce.of(certificates), EVERYTHING, dict.fromkeys(policy.categories, LINEUP))


@given(SORTED_BANDS, CERTIFIED)
def test_thresholds_stay_in_order(
    bands: Bands, certified: tuple[Certificate | None, Certificate | None]
) -> None:
    found = Thresholds.of(bands, *certified).bands
    limit = found.remove_from if found.limit_from is None else found.limit_from
    assert found.allow_below <= limit <= found.remove_from
    assert (found.limit_from is None) == (bands.limit_from is None)


@given(SORTED_BANDS, CERTIFIED)
def test_what_is_certified_takes_the_place_of_the_policy_s_and_removing_comes_first(
    bands: Bands, certified: tuple[Certificate | None, Certificate | None]
) -> None:
    remove, allow = certified
    found = Thresholds.of(bands, remove, allow)
    assert (found.remove, found.allow) == (remove, allow)
    assert found.bands.remove_from == (remove.threshold if remove else bands.remove_from)
    asked = allow.threshold if allow else bands.allow_below
    assert found.bands.allow_below == min(asked, found.bands.remove_from)
    if remove is None and allow is None:
        assert found.bands == bands


@given(SORTED_BANDS, CERTIFIED, P, P)
def test_a_higher_score_never_says_less_under_certificates_either(
    bands: Bands, certified: tuple[Certificate | None, Certificate | None], one: float, other: float
) -> None:
    rules = {"hate": Thresholds.of(bands, *certified)}
    lower, higher = (decide(DEFAULT, [signal(hate=p)], [], rules).route for p in sorted((one, other)))
    assert SURENESS.index(lower) <= SURENESS.index(higher)


@given(P, st.tuples(P, P).map(sorted))
def test_a_looser_certificate_never_automates_less(score: float, two: list[float]) -> None:
    loose, strict = (decide(DEFAULT, [signal(hate=score)], [], holding(removing(t))).route for t in two)
    assert strict is not Route.REMOVE or loose is Route.REMOVE or two[0] >= 1
    strict, loose = (decide(DEFAULT, [signal(hate=score)], [], holding(allowing(t))).route for t in two)
    assert strict is not Route.ALLOW or loose is Route.ALLOW


@given(st.floats(0, 0.9999), P)
def test_any_certified_threshold_is_obeyed_and_cited(threshold: float, score: float) -> None:
    one = removing(threshold)
    found = decide(DEFAULT, [signal(hate=score)], [], holding(one))
    assert (found.route is Route.REMOVE) == (score >= threshold)
    assert found.certificates == ((one.id,) if found.route is Route.REMOVE else ())
    other = allowing(threshold)
    found = decide(DEFAULT, [signal(hate=score)], [], holding(other))
    below = min(threshold, DEFAULT.categories["hate"].bands.remove_from)
    assert (found.route is Route.ALLOW) == (score < below)
    assert found.certificates == ((other.id,) if found.route is Route.ALLOW else ())


def test_a_certificate_removes_where_the_policy_lets_no_machine_remove_without_one() -> None:
    bands = DEFAULT.categories["self_harm"].bands
    assert bands.remove_from == 1
    assert decide(DEFAULT, [signal(self_harm=0.99)], []).route is not Route.REMOVE
    one = certificate("self_harm", threshold=0.95)
    assert decide(DEFAULT, [signal(self_harm=0.99)], [], holding(one)).route is Route.REMOVE


def test_what_is_removed_under_a_certificate_is_not_limited_instead() -> None:
    limit = DEFAULT.categories["harassment"].bands.limit_from
    assert limit is not None
    one = certificate("harassment", threshold=limit - 0.1)
    found = decide(DEFAULT, [signal(harassment=limit - 0.05)], [], holding(one))
    assert (found.route, found.certificates) == (Route.REMOVE, (one.id,))


def test_what_is_let_pass_stands_on_the_certificate_of_each_scored_category_that_has_one() -> None:
    hate, spam = allowing(0.2), certificate("spam", Side.ALLOW, 0.3)
    rules = holding(hate, spam, certificate("threat", Side.ALLOW, 0.1))
    found = decide(DEFAULT, [signal(hate=0.1, spam=0.2, fraud=0.1)], [], rules)
    assert found.route is Route.ALLOW
    assert set(found.certificates) == {hate.id, spam.id}, "nobody looked for threats"


def test_only_the_rule_that_decided_is_cited() -> None:
    hate, spam = removing(0.9), certificate("spam", threshold=0.9)
    found = decide(DEFAULT, [signal(hate=0.95, spam=0.96)], [], holding(hate, spam))
    assert (found.category, found.certificates) == ("hate", (hate.id,))
    # One that has no certificate decides: nothing is promised of it, whatever else is certified.
    found = decide(
        DEFAULT, [signal(hate=0.95, spam=0.985)], [], holding(certificate("hate", Side.ALLOW, 0.1))
    )
    assert (found.route, found.category, found.certificates) == (Route.REMOVE, "spam", ())


ENTRY = Match("body", "known_spam", "e1", "hate", BankAction.REMOVE, verified=True)


def test_what_a_bank_decides_stands_on_no_certificate() -> None:
    rules = holding(removing(0.9), allowing(0.2))
    for score in (0.1, 0.95):
        found = decide(DEFAULT, [signal(hate=score)], [ENTRY], rules)
        assert (found.route, found.certificates, found.stratum) == (Route.REMOVE, (), Stratum.OTHER)
    cleared = replace(ENTRY, allow=True)
    found = decide(DEFAULT, [signal(hate=0.95)], [cleared], rules)
    assert (found.route, found.certificates, found.stratum) == (Route.ALLOW, (), Stratum.OTHER)


def test_what_a_failure_decides_stands_on_no_certificate() -> None:
    closed = replace(DEFAULT, detectors={"image-x": Fail.CLOSED})
    failed = Signal("photo", "image-x", "1", DetectorStatus.FAILED)
    found = decide(closed, [signal(hate=0.1), failed], [], holding(allowing(0.2), policy=closed))
    assert (found.route, found.certificates, found.stratum) == (Route.LIMIT, (), Stratum.OTHER)


def test_strata_follow_the_certified_thresholds() -> None:
    """What lies near a threshold is near the one that acts."""
    assert decide(DEFAULT, [signal(hate=0.55)], [], holding(removing(0.5))).stratum is Stratum.NEAR
    assert decide(DEFAULT, [signal(hate=0.01)], [], holding(allowing(0.02))).stratum is Stratum.NEAR
    assert decide(DEFAULT, [signal(hate=0.03)], [], holding(allowing(0.02))).stratum is Stratum.UNCERTAIN


def reason(score: float, *held: Certificate) -> str:
    return decide(DEFAULT, [signal(hate=score)], [], holding(*held)).reasons[0]


def test_reasons_say_what_is_promised() -> None:
    one, other = removing(0.92995), allowing(0.1)
    assert reason(0.9312, one) == (
        f"hate 0.9312 in body reaches remove from 0.92995, certified: at most 2 % wrong (certificate {one.id})."
    )
    assert reason(0.05, other) == (
        "Every scored category lies below its allow threshold; the highest is hate 0.05 in body, allow below 0.10, "
        f"certified: at most 2 % missed (certificate {other.id})."
    )
    found = decide(DEFAULT, [signal(hate=0.05, spam=0.01)], [], holding(other)).reasons[0]
    assert found.endswith(f"(certificate {other.id}). 1 of 2 scored categories have a certificate.")
    assert reason(0.5, other) == "hate 0.50 in body lies between allow below 0.10 and remove from 0.97."


@pytest.mark.parametrize("scores", [{"hate": 0.99}, {"harassment": 0.92}, {"hate": 0.01}])
def test_without_a_certificate_what_a_machine_does_by_itself_says_that_nothing_is_promised(
    scores: dict[str, float],
) -> None:
    found = decide(DEFAULT, [signal(**scores)], [])
    assert found.route is not Route.REVIEW
    assert "(no certificate: no promise)" in found.reasons[0]
    assert found.certificates == ()


def test_a_certificate_holds_for_its_slice_and_its_models_only() -> None:
    one = removing(0.6)
    held = InForce.of([one])
    assert thresholds(DEFAULT, held, EVERYTHING, {"hate": LINEUP})["hate"].remove == one
    assert thresholds(DEFAULT, held, "de", {"hate": LINEUP}) == {}
    assert thresholds(DEFAULT, held, EVERYTHING, {"hate": lineup([("text-minilm", "3")])}) == {}
    assert thresholds(DEFAULT, held, EVERYTHING, {"spam": LINEUP}) == {}
    assert thresholds(DEFAULT, InForce(), EVERYTHING, {"hate": LINEUP}) == {}


# What the pipeline makes of it: the slice and the models of each item.

POLICY = replace(DEFAULT, certificates=replace(DEFAULT.certificates, languages=("de",)))


def manifest(name: str, version: str, *categories: str) -> Any:
    return SimpleNamespace(name=name, version=version, categories=categories)


def posted(number: int, language: str | None = None) -> Any:
    return SimpleNamespace(id=UUID(int=number), client="forum", language=language)


MODEL = manifest("text-minilm", "2", "hate", "spam")


def test_each_item_is_routed_by_what_is_certified_for_its_language() -> None:
    german = certificate(slice="de")
    items = [posted(1), posted(2, "de-AT"), posted(3, "de"), posted(4, "fr")]
    batch = Batch(items, NOW, signals={one.id: [signal(hate=0.7)] for one in items})
    batch.texts = [Text(one.id, part, "", b"") for one in items for part in ("body", "title")]
    # The first text counts, and what was found in it before what was said of it.
    found = {(1, "body"): "de", (1, "title"): "fr", (3, "body"): "fr", (3, "title"): "de", (4, "body"): "und"}
    batch.languages = {(UUID(int=number), part): language for (number, part), language in found.items()}
    outcomes = route(batch, POLICY, [MODEL], lambda: 1.0, InForce.of([german]))
    slices = [outcomes[one.id].slice for one in items]
    assert slices == ["de", "de", EVERYTHING, EVERYTHING]
    cited = [outcomes[one.id].routing.certificates for one in items]
    assert cited == [(german.id,), (german.id,), (), ()]


def test_who_was_asked_decides_which_certificate_holds() -> None:
    """Another model for the same category, beside or in place of the certified one, is not what was certified."""
    one = certificate()
    items = [posted(1), posted(2), posted(3)]
    batch = Batch(items, NOW, signals={each.id: [signal(hate=0.7)] for each in items})
    canary, head = manifest("text-minilm", "3", "hate"), manifest("head-forum", "1", "hate")
    picture = manifest("image-nsfw", "1", "sexual")
    batch.asked_models = {items[0].id: [MODEL, picture], items[1].id: [canary], items[2].id: [MODEL, head]}
    outcomes = route(batch, DEFAULT, [], lambda: 1.0, InForce.of([one]))
    assert [outcomes[each.id].routing.certificates for each in items] == [(one.id,), (), ()]
    assert [each["name"] for each in outcomes[items[2].id].detectors] == ["text-minilm", "head-forum"]
