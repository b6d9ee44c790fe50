"""Gates: judged from the numbers and the table here, whatever a manifest says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models.gates import LIMITS, check, failures, judge, required
from models.registry import ArtifactError, Kind, Manifest, Output
from training.gating import gates

CATEGORIES = ("hate", "spam")


def manifest(kind: Kind = "text", **document: Any) -> Manifest:
    outputs = tuple(Output(category, category, 1.0, 0.0) for category in CATEGORIES)
    golden = tuple({"input": str(number)} for number in range(3))
    return Manifest("toy", "1", kind, Path(), {}, outputs, {}, golden, document, "0" * 64)


def good(name: str) -> float:
    limit = LIMITS[name.partition(":")[0]]
    return limit.least if limit.least is not None else 0.0


def passing(**values: float | None) -> list[dict[str, Any]]:
    """Every gate at its limit, which is just enough; some with other numbers."""
    return [{"name": name, "value": values.get(name, good(name))} for name in required(manifest())]


def test_a_manifest_that_shows_everything_passes() -> None:
    assert failures(check(manifest(gates=passing()))) == []


def test_a_forged_passed_is_not_believed() -> None:
    entries = passing(functional=0.6)
    forged = [{**entry, "passed": True, "limit": 0.5, "sentence": "Fine."} for entry in entries]
    [failed] = failures(check(manifest(gates=forged)))
    assert failed.name == "functional"
    assert failed.limit == 0.85
    assert "0.6; at least 0.85 is asked, so it may not serve" in failed.sentence


def test_a_gate_left_out_or_without_a_number_has_failed() -> None:
    entries = [entry for entry in passing() if entry["name"] != "evasion"]
    assert [gate.name for gate in failures(check(manifest(gates=entries)))] == ["evasion"]
    for nothing in (None, float("nan"), "0.1", True):
        entries = [
            {**entry, "value": nothing} if entry["name"] == "ece:hate" else entry for entry in passing()
        ]
        assert [gate.name for gate in failures(check(manifest(gates=entries)))] == ["ece:hate"]
    assert [gate.name for gate in failures(check(manifest()))] == ["results"]
    assert failures(check(manifest(kind="image"))) == []


def test_what_is_asked_by_category_depends_on_what_there_was_to_measure() -> None:
    thin = {"hate": {"positives": 500}, "spam": {"positives": 60}}
    names = required(manifest(metrics={"held_out": thin, "precision": "int8"}))
    assert {"ece:hate", "auc:hate", "int8:hate", "int8:spam"} <= set(names)
    assert "ece:spam" not in names
    exact = required(manifest(metrics={"held_out": thin, "precision": "fp32"}))
    assert not [name for name in exact if name.startswith("int8")]


def test_a_comparison_fails_only_if_it_is_surely_worse() -> None:
    assert judge("champion_auc:hate", -0.02, -0.05, 0.01).passed
    assert judge("champion_auc:hate", -0.005, -0.009, -0.001).passed
    assert not judge("champion_auc:hate", -0.04, -0.06, -0.02).passed
    assert not judge("champion_auc:hate", -0.04).passed
    # An absolute limit is not softened by a wide interval.
    assert not judge("functional", 0.84, 0.80, 0.88).passed


def test_speed_is_recorded_and_judged_only_by_a_limit_that_somebody_gave() -> None:
    metrics = {"speed": {"p50_ms": 3.0, "p99_ms": 20.0, "texts_a_second": 400.0}}
    assert failures(gates(metrics)) == []
    [failed] = failures(gates(metrics, latency_ms=15.0))
    assert failed.name == "latency_ms:p99"
    stored = [*passing(), failed.document() | {"passed": True}]
    assert [gate.name for gate in failures(check(manifest(gates=stored)))] == ["latency_ms:p99"]


def test_a_waiver_names_a_gate_and_a_reason_and_is_shown() -> None:
    entries = passing(functional=0.6)
    found = check(manifest(gates=entries), {"functional": "Only for a trial in one forum."})
    assert failures(found) == []
    [gate] = [gate for gate in found if gate.name == "functional"]
    assert not gate.passed
    assert gate.sentence.endswith("is asked. Waived: Only for a trial in one forum.")
    assert gate.document()["waived"] == "Only for a trial in one forum."
    own = check(manifest(gates=entries, waived={"functional": "As the card says."}))
    assert failures(own) == []
    assert all(
        gate.waived is None for gate in check(manifest(gates=passing()), {"functional": "Not needed."})
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"gates": [*passing(), {"name": "brilliance", "value": 1.0}]}, "no gate 'brilliance'"),
        ({"gates": [*passing(functional=0.1), {"name": "functional", "value": 0.9}]}, "twice"),
        ({"gates": "all passed"}, "malformed"),
        ({"gates": [{"value": 1.0}]}, "malformed"),
        ({"gates": passing(), "waived": {"functional": "  "}}, "takes a reason"),
        ({"gates": passing(), "waived": {"functionel": "A slip."}}, "no gate functionel to waive"),
        ({"gates": passing(functional=0.1), "waived": {"functional": None}}, "takes a reason"),
        ({"waived": {"results": "One waiver for all of them."}}, "no gate results to waive"),
        ({"gates": passing(), "waived": ["functional"]}, "malformed"),
        ({"gates": passing(), "metrics": {"held_out": {"hate": {"positives": float("inf")}}}}, "malformed"),
        ({"gates": passing(), "metrics": {"held_out": {"hate": 3}}}, "malformed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        check(manifest(**document))
