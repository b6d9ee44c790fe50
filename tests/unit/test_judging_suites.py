"""The suites as gates, with a toy scorer in the place of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from models.gates import failures
from training.dataset import HEADS
from training.gating import gates, said_yes, suites, with_views
from training.metrics import best_threshold
from training.suites import functional

HATE = HEADS.index("hate")
TRUTH = {case.text: case for case in functional.load()}


def by_word(texts: Sequence[str]) -> np.ndarray:
    """Certain of hate where a text says "vermin", and half certain of nothing else."""
    found = np.full((len(texts), len(HEADS)), 0.1)
    found[:, HATE] = [0.9 if "vermin" in text.lower() else 0.1 for text in texts]
    return found


def knowing(texts: Sequence[str]) -> np.ndarray:
    """Right on every case of the suite as it is written, and sure of no harm in anything else."""
    found = np.full((len(texts), len(HEADS)), 0.1)
    for row, text in enumerate(texts):
        if (case := TRUTH.get(text)) is not None and case.label:
            found[row, HEADS.index(case.head)] = 0.4
    return found


def test_a_view_may_raise_a_score_and_never_lowers_one() -> None:
    texts = ["They are v.e.r.m.i.n, all of them.", "They are vermin.", "The tulips are out."]
    assert list(by_word(texts)[:, HATE]) == [0.1, 0.9, 0.1]
    assert list(with_views(by_word, texts)[:, HATE]) == [0.9, 0.9, 0.1]


def test_a_head_says_yes_from_its_own_threshold_and_one_that_a_model_has_not_says_no() -> None:
    found = np.array([[0.4, np.nan], [0.5, 1.0]])
    assert said_yes(found, np.array([0.5, 0.0])).tolist() == [[False, False], [True, True]]


def test_the_suites_are_judged_at_the_thresholds_that_the_manifest_names() -> None:
    found = suites(knowing, dict.fromkeys(HEADS, 0.3))
    assert found["functional"]["overall"]["accuracy"] == 1.0
    assert found["functional_at_half"]["harmful"]["accuracy"] == 0.0
    assert found["evasion"]["without_views"]["plain"]["recall"] == 1.0
    assert found["clean"]["by_view_alone"] == 0
    assert found["clean"]["sentences"] >= 1000
    judged = {gate.name: gate for gate in gates({"suites": found})}
    assert judged["functional"].passed
    assert judged["functional"].low is not None
    assert judged["functional"].low < 1.0
    assert judged["functional_harmless"].passed
    at_half = gates({"suites": suites(knowing, {})})
    assert "functional" in {gate.name for gate in failures(at_half)}


@pytest.mark.parametrize(
    ("truth", "probability", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 0.3),
        (
            [0, 1, 0, 1],
            [0.3, 0.3, 0.3, 0.9],
            0.9,
        ),  # all at .3: F1 4/6, only the surest: 2/3, and the first wins
        ([0, 0], [0.1, 0.9], 0.5),
    ],
)
def test_the_threshold_is_where_f1_is_highest(
    truth: list[float], probability: list[float], expected: float
) -> None:
    assert best_threshold(np.array(truth), np.array(probability)) == expected
