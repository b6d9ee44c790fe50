"""Fitting heads for texts: weights of rows, near duplicates, the prior, and an artifact from a sealed bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import gates
from models.registry import load
from models.text import Headed, TextClassifier
from models.text_heads import Seen, TextHead
from moderation import bundles
from tests import artifacts
from tests.community_texts import sentences
from training import metrics, weighted
from training.__main__ import main
from training.common import TrainingError
from training.judged import Judged, learned_from, lineage
from training.text_examples import Given, certainty, of_bundles, parted, stands_for
from training.text_head import SEED, Wanted, fit, named
from training.text_head_fit import Features, platt
from training.text_head_fit import fit as fit_category
from training.weighted import Rows

NOW = datetime.now(UTC)
FORUM = {"harassment": 1}
CLEAN = {"harassment": 0, "hate": 0, "spam": 0}

cases = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.integers(1, 9), st.integers(1, 4)), min_size=2, max_size=30
)


@given(cases)
def test_a_row_of_weight_n_is_n_rows(rows: list[tuple[float, int, int]]) -> None:
    truth, score = (np.array([row[i] for row in rows], dtype=float) for i in (0, 1))
    score, times = score / 10, np.array([row[2] for row in rows])
    weight, many = times.astype(float), np.repeat(np.arange(len(rows)), times)
    for mine, plain in (
        (weighted.auc, metrics.auc),
        (weighted.average_precision, metrics.average_precision),
        (weighted.brier, metrics.brier),
    ):
        expected = plain(truth[many], score[many])
        assert mine(truth, score, weight) == pytest.approx(expected, nan_ok=True)


@given(cases)
def test_every_row_is_in_one_bin_and_the_curve_ends_with_every_positive(
    rows: list[tuple[float, int, int]],
) -> None:
    truth, score, weight = (np.array([row[i] for row in rows], dtype=float) for i in range(3))
    assert sum(size for *_, size in weighted.reliability(truth, score / 10, weight)) == pytest.approx(
        weight.sum()
    )
    curve = weighted.precision_recall(truth, score / 10, weight)
    assert not curve or curve[-1][2] == pytest.approx(1)
    assert [point[0] for point in curve] == sorted({point[0] for point in curve}, reverse=True)


def test_what_is_calibrated_has_no_calibration_error_and_what_is_not_has() -> None:
    numbers = np.random.default_rng(1)
    p = numbers.uniform(0, 1, 4000)
    truth = (numbers.uniform(0, 1, 4000) < p).astype(float)
    ones = np.ones(4000)
    assert weighted.ece(truth, p, ones) < 0.03
    assert weighted.ece(truth, np.minimum(p + 0.2, 1), ones) > 0.1


def test_near_duplicates_are_drawn_together() -> None:
    rows = Rows(np.array([1.0, 0, 1, 0]), np.array([1.0, 2, 3, 4]), np.array([7, 7, 2, 2]))
    for drawn in weighted.resamples(rows, 20, 0):
        assert drawn[0] / 1 == drawn[1] / 2
        assert drawn[2] / 3 == drawn[3] / 4


def test_rare_checks_count_more_up_to_a_limit_and_single_verdicts_less() -> None:
    rows = [Judged("a", FORUM), Judged("b", FORUM, 0.1, "agreed"), Judged("c", FORUM, 0.001, "new word")]
    assert stands_for(rows, 20.0).tolist() == [1.0, 10.0, 20.0]
    assert certainty(rows).tolist() == [0.8, 1.0, 0.8]


def test_near_duplicates_are_on_one_side_whatever_comes_later() -> None:
    texts = [text for text, _ in sentences(300)]
    copies = [f"{text} Indeed." for text in texts[:100]]
    first, later = parted(texts, SEED), parted([*texts, *copies], SEED)
    assert 0.15 < first.measures.mean() < 0.35
    found = later.group[300:] == later.group[:100]
    assert found.mean() > 0.9
    assert (later.measures[300:] == later.measures[:100])[found].all()
    assert (later.measures[:300] == first.measures).mean() > 0.95, "what measures goes on measuring"
    assert (parted(texts, SEED + 1).measures != first.measures).any()


def made_up(count: int, learn: bool, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Texts of one or two windows, judged by the base's score, or by a direction that the score does not know."""
    numbers = np.random.default_rng(seed)
    odds = numbers.normal(0, 2, (count, 3))
    windows = [numbers.normal(0, 1, (1 + (i % 5 == 0), 20)) for i in range(count)]
    peak = np.array([one[:, 3].max() for one in windows])
    logit = 3 * peak - 1 if learn else odds[:, 0]
    truth = (numbers.uniform(0, 1, count) < 1 / (1 + np.exp(-logit))).astype(float)
    return Features.of([Seen(o, w.astype(np.float32)) for o, w in zip(odds, windows, strict=True)]), truth


def rows_of(truth: np.ndarray) -> Rows:
    return Rows(truth, np.ones(len(truth)), np.arange(len(truth)))


def test_where_the_base_is_right_labels_change_little() -> None:
    fresh, expected = made_up(2000, learn=False, seed=99)
    ones, prior, kept = np.ones(2000), np.array([1.0, 0, 0]), 0
    best = weighted.brier(expected, 1 / (1 + np.exp(-fresh.odds[:, 0])), ones)
    for seed in range(6):
        features, truth = made_up(150, learn=False, seed=seed)
        found = fit_category(features, rows_of(truth), np.ones(150), prior)
        if (found.freedom.vector, found.freedom.scores) == (0.0, 0.0):
            kept += 1
            assert found.weights.scores.tolist() == prior.tolist()
            assert not found.weights.vector.any()
        probability = found.calibration(found.weights.logits(fresh))
        assert weighted.brier(expected, probability, ones) < best + 0.02
    assert kept >= 3


def test_what_the_base_does_not_know_is_learned_from_its_vectors() -> None:
    features, truth = made_up(400, learn=True)
    found = fit_category(features, rows_of(truth), np.ones(400), np.array([1.0, 0, 0]))
    assert found.freedom.vector > 0
    assert found.surprise["taken"] < found.surprise["prior"]
    fresh, expected = made_up(1000, learn=True, seed=1)
    ones = np.ones(1000)
    assert weighted.auc(expected, fresh.odds[:, 0], ones) < 0.6
    probability = found.calibration(found.weights.logits(fresh))
    assert weighted.auc(expected, probability, ones) > 0.85
    assert weighted.ece(expected, probability, ones) < 0.08


def test_weights_are_obeyed() -> None:
    """The same rows, one half of them wrong: whoever counts more is believed."""
    features, truth = made_up(600, learn=True)
    torn = np.where(np.arange(600) % 2 == 0, truth, 1 - truth)
    fresh, expected = made_up(500, learn=True, seed=1)
    for heavy, better in ((0, True), (1, False)):
        weight = np.where(np.arange(600) % 2 == heavy, 20.0, 1.0)
        found = fit_category(features, rows_of(torn), weight, np.zeros(3))
        assert (weighted.auc(expected, found.weights.logits(fresh), np.ones(500)) > 0.5) is better


def test_too_little_of_one_side_and_a_ranking_upside_down_are_refused() -> None:
    features, truth = made_up(50, learn=False)
    with pytest.raises(TrainingError, match="Too few"):
        fit_category(features, rows_of(np.zeros(50)), np.ones(50), np.zeros(3))
    with pytest.raises(TrainingError, match="wrong way round"):
        platt(-20 * (truth - 0.5), truth, np.full(50, 10.0))


# --- bundles ---


def row(number: int, text: str, labels: Mapping[str, int], **changes: Any) -> dict[str, Any]:
    return {
        "ref": f"row-{number}", "text": text, "labels": labels, "policy_version": 3, "propensity": 1.0,
        "score_shown": False, "reviewers": 1, "agreement": "single", "source": "review", **changes,
    }  # fmt: skip


def sealed(path: Path, rows: Sequence[Mapping[str, Any]]) -> UUID:
    key, identifier = bundles.new_key(), uuid4()
    bundles.seal(path, rows, key, identifier=identifier, created_at=NOW, expires_at=NOW + timedelta(days=1))
    bundles.write_key(path.with_name(f"{path.name}.key"), identifier, key)
    return identifier


def community(count: int) -> list[dict[str, Any]]:
    """Rows of a community that has words of its own: reviewed ones, and every fifth a blind check."""
    found = []
    for number, (text, harsh) in enumerate(sentences(count)):
        check = {"source": "audit", "propensity": 0.2, "agreement": "agreed"} if number % 5 == 0 else {}
        found.append(row(number, text, FORUM if harsh else CLEAN, **check))
    return found


def test_rows_are_taken_by_client_and_policy_and_the_last_bundle_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first.bundle", tmp_path / "second.bundle"
    ids = [
        sealed(first, [
            row(1, "one", CLEAN), row(2, "two", CLEAN, client="shop"), row(3, "three", CLEAN, client="forum"),
            row(4, "four", CLEAN, policy_version=1), {**row(5, "", CLEAN), "text": ""},
        ]),
        sealed(second, [row(1, "one", FORUM)]),
    ]  # fmt: skip
    given = of_bundles([first, second], None, ["forum"], 2, NOW)
    assert {one.text: one.labels for one in given.rows} == {"one": FORUM, "three": CLEAN}
    assert [one["id"] for one in given.bundles] == [str(one) for one in ids]
    assert all(len(one["sha256"]) == 64 for one in given.bundles)
    assert len(of_bundles([first], None, [], 0, NOW).rows) == 4


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row(1, "one", {"sexual_minors": 1})], "minors"),
        ([row(1, "one", CLEAN, propensity=0)], "propensity"),
        ([row(1, "one", CLEAN, client="shop")], "no judged text"),
    ],
    ids=["minors", "malformed", "nobody's"],
)
def test_what_can_t_be_learned_from_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], sentence: str
) -> None:
    sealed(tmp_path / "own.bundle", rows)
    with pytest.raises(TrainingError, match=sentence):
        of_bundles([tmp_path / "own.bundle"], None, ["forum"], 0, NOW)


def test_one_command_makes_a_head_that_knows_its_community(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = tmp_path / "own.bundle", tmp_path / "head"
    identifier = sealed(bundle, community(240))
    given = [
        "text-head",
        "--data",
        str(bundle),
        "--client",
        "Forum 1",
        "--version",
        "own-1",
        "--out",
        str(out),
    ]
    assert main([*given, "--resamples", "60"]) == 0, capsys.readouterr()
    manifest, base = load(out), TextClassifier(artifacts.champion())
    assert (manifest.name, manifest.kind, manifest.categories) == (
        "text-head-forum-1",
        "text-head",
        ("harassment",),
    )
    assert manifest.input["clients"] == ["Forum 1"]
    assert not gates.failures(gates.check(manifest))
    base.bears(TextHead(manifest))
    training = manifest.document["training"]
    assert [one["id"] for one in training["bundles"]] == [str(identifier)]
    assert training["labels"]["by_source"] == {"audit": 48, "review": 192}
    assert training["labels"]["by_policy_version"] == {"3": 240}
    assert training["labels"]["by_category"] == {"harassment": {"yes": 120, "no": 120}}
    less = manifest.document["metrics"]["less_base"]["harassment"]
    assert less["brier"][2] < 0, "it knows what its base does not"
    assert manifest.document["metrics"]["curves"]["harassment"]["reliability"]
    card = " ".join((out / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert str(identifier) in card
    assert "takes the base's place in harassment" in card
    fresh = [text for text, _ in sentences(60, seed=9)]
    harsh = np.array([float(one) for _, one in sentences(60, seed=9)])
    ours = Headed(base, TextHead(manifest)).score(fresh)[:, 0]
    theirs = base.score(fresh)[:, base.manifest.categories.index("harassment")]
    assert metrics.brier(harsh, ours) < 0.1 < metrics.brier(harsh, theirs)
    assert main(given) == 1
    assert "holds an artifact already" in capsys.readouterr().err


def test_with_too_few_labels_the_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "own.bundle"
    sealed(bundle, community(40))
    given = ["text-head", "--data", str(bundle), "--version", "own-1", "--out", str(tmp_path / "head")]
    assert main(given) == 1
    assert "No category has 30 distinct texts" in capsys.readouterr().err
    assert main([*given, "--category", "harassment", "--resamples", "20"]) == 1
    said = capsys.readouterr()
    assert "fails text_head_positives:harassment" in said.err
    assert "FAILED  text_head_negatives:harassment" in said.out


def test_the_same_rows_make_the_same_head_and_a_champion_is_compared_with(tmp_path: Path) -> None:
    base = TextClassifier(artifacts.champion())
    rows = [Judged(text, FORUM if harsh else CLEAN) for text, harsh in sentences(160)]
    asked = Wanted("1", tmp_path / "one", ("forum",), ("harassment",), resamples=20)
    one = fit(Given(rows), base, asked)
    two = fit(Given(rows), base, Wanted("1", tmp_path / "two", ("forum",), ("harassment",), resamples=20))
    assert one.sha256 == two.sha256
    again = Wanted("2", tmp_path / "three", ("forum",), champion=tmp_path / "one", resamples=20)
    three = fit(Given(rows), base, again)
    assert three.document["metrics"]["champion"]["less"]["harassment"]["auc"] == [0.0, 0.0, 0.0]
    assert "champion_auc:harassment" in {gate.name for gate in gates.check(three)}


@pytest.mark.parametrize(
    ("clients", "name"), [([], "text-head"), (["forum"], "text-head-forum"), (["Café 9"], "text-head-caf-9")]
)
def test_a_head_is_named_after_its_client(clients: list[str], name: str) -> None:
    assert named(clients) == name


def test_a_head_for_several_clients_needs_a_name() -> None:
    for clients in (["forum", "shop"], ["***"]):
        with pytest.raises(TrainingError, match="--name"):
            named(clients)


def test_a_category_of_minors_is_never_learned(tmp_path: Path) -> None:
    base = TextClassifier(artifacts.champion())
    with pytest.raises(TrainingError, match="sexual_minors"):
        fit(Given([Judged("one", CLEAN)]), base, Wanted("1", tmp_path, categories=("sexual_minors",)))


def test_the_manifest_counts_labels_by_where_they_came_from() -> None:
    rows = [Judged("a", FORUM, source="audit"), Judged("b", CLEAN, score_shown=True, policy_version=4)]
    found = lineage(rows, ["harassment", "spam"])
    assert found["by_source"] == {"audit": 1, "review": 1}
    assert found["by_policy_version"] == {"0": 1, "4": 1}
    assert found["score_shown"] == 1
    assert found["by_category"] == {"harassment": {"yes": 1, "no": 1}, "spam": {"yes": 0, "no": 1}}


def test_an_encoder_names_every_bundle_that_is_in_its_weights() -> None:
    mine, theirs, oldest = ({"id": str(uuid4()), "sha256": "0"} for _ in range(3))
    began = {"bundles": [theirs, mine], "began_with": {"bundles": [oldest], "began_with": None}}
    assert learned_from({"bundles": [mine]}, {"began_with": began}) == [mine, theirs, oldest]
    assert learned_from({}, {"began_with": None}) == []
