"""What a candidate is judged by, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.dataset import HEADS, Row
from training.evaluate import identity_report
from training.gating import against_champion, gates
from training.metrics import auc, average_precision, group_aucs, paired, power_mean, wilson

TOXICITY, HATE = HEADS.index("toxicity"), HEADS.index("hate")


def test_the_three_aucs_of_a_group_compare_the_sides_that_borkan_says() -> None:
    # In the group: a harmful text at .9 and harmless ones at .8 and .3; outside: harmful .7 and .2, harmless .1.
    truth = np.array([1.0, 0, 0, 1, 1, 0])
    score = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1])
    member = np.array([True, True, True, False, False, False])
    found = group_aucs(truth, score, member)
    assert found.subgroup == 1.0  # .9 over .8 and .3
    assert found.bpsn == pytest.approx(1 / 4)  # of .7 and .2 against .8 and .3 only .7 > .3
    assert found.bnsp == 1.0  # .9 over .1
    assert found.bpsn != group_aucs(truth, score, ~member).bpsn


def test_a_group_without_a_side_has_no_auc_and_no_weight_in_the_mean() -> None:
    found = group_aucs(np.array([1.0, 1, 0]), np.array([0.9, 0.8, 0.1]), np.array([True, True, False]))
    assert math.isnan(found.subgroup)
    assert math.isnan(found.bpsn)
    assert found.bnsp == 1.0
    # ((.5^-5 + 1) / 2)^(-1/5), the worse group weighing most; a mean would be .75.
    assert power_mean(np.array([0.5, 1.0, math.nan])) == pytest.approx((33 / 2) ** -0.2)
    assert math.isnan(power_mean(np.array([math.nan])))


def test_wilson_holds_the_share_and_stays_inside_nought_and_one() -> None:
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert wilson(0, 10)[0] == pytest.approx(0.0)


def sample(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    truth = (generator.random(rows) < 0.3).astype(float)
    return truth, truth + generator.normal(0, 1, rows)


def test_a_model_against_itself_differs_by_nothing_and_a_shuffled_one_is_surely_worse() -> None:
    truth, score = sample()
    same = paired(auc, truth, score, score.copy(), 50, seed=1)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = paired(auc, truth, np.random.default_rng(1).permutation(score), score, 200, seed=1)
    assert worse.high < -0.05
    assert worse.low < worse.value < worse.high
    better = paired(average_precision, truth, score, -score, 200, seed=1)
    assert better.low > 0.05


def test_pairing_is_what_makes_two_nearly_equal_models_comparable() -> None:
    truth, score = sample()
    nearly = score + np.random.default_rng(2).normal(0, 0.05, len(score))
    found = paired(auc, truth, nearly, score, 200, seed=1)
    assert found.high - found.low < 0.03  # the interval of either alone is four times as wide


def test_a_champion_is_compared_only_where_both_speak_and_there_is_enough() -> None:
    truth, score = sample()
    shape = (len(truth), len(HEADS))
    labels, ours, theirs = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for column in (TOXICITY, HATE):
        labels[:, column], ours[:, column] = truth, score
    theirs[:, TOXICITY] = score
    labels[50:, HATE] = np.nan
    found = against_champion(ours, theirs, labels, 20, seed=1)
    assert set(found) == {"toxicity"}
    assert found["toxicity"] == {
        "labelled": 400, "positives": int(truth.sum()), "auc": [0, 0, 0], "ap": [0, 0, 0]
    }  # fmt: skip
    assert all(gate.passed for gate in gates({"champion": {"heads": found}}))
    lost = against_champion(-ours, np.where(np.isnan(theirs), np.nan, ours), labels, 200, seed=1)
    assert [gate.passed for gate in gates({"champion": {"heads": lost}})] == [False, False]


def test_the_identity_report_finds_the_group_whose_harmless_texts_rank_too_high() -> None:
    rows, scores = [], []
    for term in ("potters", "sailors"):
        for number in range(20):
            toxic = number % 2
            rows.append(Row(f"{term} {number}", term, "templates", {"toxicity": toxic}))
            scores.append(0.9 if toxic else 0.95 if term == "sailors" else 0.1)
    found = identity_report(rows, np.tile(np.array(scores)[:, None], (1, len(HEADS))))["heads"]["toxicity"]
    assert found["bpsn_auc"]["worst"] == {"sailors": 0.0, "potters": 1.0}
    assert found["subgroup_auc"]["worst"]["sailors"] == 0.0
    assert found["bnsp_auc"]["worst"]["sailors"] == 1.0
    assert found["worst_terms"] == {"sailors": 1.0, "potters": 0.0}
