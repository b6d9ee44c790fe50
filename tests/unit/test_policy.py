"""The policy: read with every fault at its line, and never half understood."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.errors import PolicyInvalid
from moderation.domain.policy import Bands, Fail, Policy, parse_policy
from moderation.domain.signals import Category
from moderation.governance.policies import default_document, read

DATA: dict[str, Any] = yaml.safe_load(default_document())


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    change(data)
    return data


def faults(data: object) -> list[str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(data, 1)
    assert caught.value.faults, "a refusal names what is wrong"
    return [str(fault) for fault in caught.value.faults]


def test_the_default_policy_speaks_of_every_category(policy: Policy) -> None:
    assert set(policy.categories) == set(Category)
    assert policy.version == 1
    assert policy.deadline_hours == 72


def test_a_machine_never_removes_where_truth_or_need_is_judged(policy: Policy) -> None:
    for category in (Category.SELF_HARM, Category.MISINFORMATION, Category.SEXUAL_MINORS, Category.UNDERAGE):
        assert policy.categories[category].bands.remove_from == 1


def test_a_detector_that_is_not_named_fails_to_people(policy: Policy) -> None:
    assert policy.fail_mode("nobody") is Fail.REVIEW


def test_promises_are_read(policy: Policy) -> None:
    data = changed(
        lambda d: d["categories"]["hate"].update(
            remove={"wrong_at_most": 0.02}, allow={"missed_at_most": 0.005}
        )
    )
    promise = parse_policy(data, 1).categories["hate"].promise
    assert (promise.wrong_at_most, promise.missed_at_most) == (0.02, 0.005)
    assert policy.categories["threat"].promise.wrong_at_most is None


def bands(d: dict[str, Any], **values: Any) -> None:
    d["categories"]["spam"]["until_certified"].update(values)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an unknown key": (lambda d: d.update(tresholds={}), r"tresholds: is not known here"),
    "no name": (lambda d: d.pop("name"), r"name is missing"),
    "a name that is a number": (lambda d: d.update(name=5), r"name: name must be a str"),
    "no hours": (lambda d: d.pop("deadline_hours"), r"deadline_hours is missing"),
    "no time at all": (lambda d: d.update(deadline_hours=0), r"must lie between 0.1 and 8760"),
    "a missing category": (lambda d: d["categories"].pop("hate"), r"category hate is missing"),
    "an unknown category": (lambda d: d["categories"].update(rude={}), r"categories.rude: is not known"),
    "severity 6": (lambda d: d["categories"]["spam"].update(severity=6), r"spam.severity: .* 1 and 5"),
    "severity 2.5": (
        lambda d: d["categories"]["spam"].update(severity=2.5),
        r"spam.severity: .*whole number",
    ),
    "severity true": (lambda d: d["categories"]["spam"].update(severity=True), r"severity must be a number"),
    "a percentage": (lambda d: bands(d, allow_below=50), r"allow_below must lie between 0 and 1"),
    "nan": (lambda d: bands(d, allow_below=float("nan")), r"allow_below must lie between"),
    "falling thresholds": (lambda d: bands(d, allow_below=0.95, limit_from=0.9), r"thresholds must rise"),
    "limit above remove": (lambda d: bands(d, limit_from=0.99, remove_from=0.98), r"thresholds must rise"),
    "an EU category of ours": (
        lambda d: d["categories"]["spam"].update(eu_category="SPAM"),
        r"must be a statement category",
    ),
    "an unknown class": (
        lambda d: d["categories"]["spam"].update(retention="forever"),
        r"spam.retention: retention must be one of",
    ),
    "a stage without a class": (lambda d: d["retention"].pop("allow"), r"allow must be one of"),
    "half a day": (
        lambda d: d["retention"]["classes"]["allowed"].update(days=0.5),
        r"allowed.days: days must be a whole number",
    ),
    "a floor above the days": (
        lambda d: d["retention"]["classes"]["allowed"].update(floor_days=31),
        r"floor_days must not pass days",
    ),
    "a clock of its own": (
        lambda d: d["retention"]["classes"]["allowed"].update({"from": "monday"}),
        r"allowed.from: from must be one of decided, received",
    ),
    "no retention": (lambda d: d.update(retention={}), r"retention"),
    "retention as a list": (lambda d: d.update(retention=[]), r"retention: must be a mapping"),
    "a detector's mood": (
        lambda d: d["detectors"]["decoder"].update(fail="maybe"),
        r"detectors.decoder.fail: fail must be one of closed, open, review",
    ),
    "a promise of nothing": (
        lambda d: d["categories"]["spam"].update(remove={"wrong_at_most": 0}),
        r"spam.remove.wrong_at_most: .*0.0001",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_fault_is_named_with_its_place(name: str) -> None:
    change, expected = BROKEN[name]
    assert any(re.search(expected, fault) for fault in faults(changed(change))), faults(changed(change))


@pytest.mark.parametrize("data", [None, [], "text", 5, {}, {"categories": [], "retention": None}])
def test_what_is_no_policy_at_all_is_refused(data: object) -> None:
    assert faults(data)


def test_every_fault_is_found_at_once() -> None:
    def spoil(d: dict[str, Any]) -> None:
        d.pop("name")
        d["categories"]["spam"]["severity"] = 9
        d["retention"]["classes"]["pending"]["days"] = -1

    assert len(faults(changed(spoil))) == 3


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = st.sampled_from(
    [
        ("name",), ("retention",), ("categories",), ("detectors",), ("categories", "spam"),
        ("categories", "spam", "until_certified"), ("categories", "spam", "severity"),
        ("retention", "classes"), ("retention", "classes", "allowed"), ("retention", "classes", "allowed", "days"),
        ("detectors", "decoder"), ("categories", "spam", "remove"),
    ]
)  # fmt: skip


def understood(data: object) -> bool:
    """Whether it is a policy, or refused for a reason; anything else raises."""
    try:
        return isinstance(parse_policy(data, 1), Policy)
    except PolicyInvalid as refusal:
        return bool(refusal.faults)


@given(PLACES, JUNK)
def test_any_data_makes_a_policy_or_a_refusal(place: tuple[str, ...], junk: Any) -> None:
    data = copy.deepcopy(DATA)
    target = data
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = junk
    assert understood(data)


def test_a_fault_has_its_line() -> None:
    document = default_document()
    line = next(number for number, text in enumerate(document.splitlines(), 1) if text == "    severity: 4")
    with pytest.raises(PolicyInvalid) as caught:
        read(document.replace("\n    severity: 4\n", "\n    severity: 44\n", 1), 1)
    assert [fault.line for fault in caught.value.faults] == [line]
    assert str(caught.value).startswith(f"line {line}: categories.hate.severity")


def test_a_missing_key_has_the_line_of_what_it_is_missing_from() -> None:
    document = default_document()
    kept = [text for text in document.splitlines() if "STATEMENT_CATEGORY_SELF_HARM" not in text]
    with pytest.raises(PolicyInvalid) as caught:
        read("\n".join(kept), 1)
    (fault,) = caught.value.faults
    assert kept[(fault.line or 0) - 1].strip() == "self_harm:"


def test_a_key_that_stands_twice_is_refused_with_its_line() -> None:
    document = default_document() + "name: again\n"
    with pytest.raises(PolicyInvalid, match=f"line {len(document.splitlines())}: name: stands twice"):
        read(document, 1)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("a: [", "not YAML"),
        ("a: b: c", "line 1: .*not YAML"),
        ("a: !!python/name:os.system x", "not YAML"),
        ("\0", "not YAML"),
        ("a: 2026-13-45", "not YAML"),
        ("a: &x {b: *x}", "line 1: .*aliases"),
        ("a: &x [1]\nb: [*x, *x]", "line 2: .*aliases"),
        ("a: " + "[" * 1200, "not YAML"),
        ("", "must be a mapping"),
    ],
)
def test_a_document_that_can_not_be_read_is_refused(document: str, said: str) -> None:
    with pytest.raises(PolicyInvalid, match=said):
        read(document, 1)


def test_bands_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Bands(0.1, 0.9).allow_below = 0.5  # type: ignore[misc]
