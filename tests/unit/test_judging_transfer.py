"""Text from elsewhere: who is left out with whom, and what nothing may be learned from."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from training.dataset import LABELS, Row
from training.leaving_out import GROUPS, Group, clusters, divided, published, thin_first
from training.transfer import markdown, summary

MAIL = (
    "Dear customer, the garden centre has new tulip bulbs from Monday on, and opens at nine in the morning."
)
OPTIONS = Namespace(train_rows=50, calibrate_rows=50, test_rows=40, thin=5)


def test_every_source_that_is_left_out_is_left_out_once_and_never_split_in_the_same_group() -> None:
    left_out = [source for group in GROUPS for source in group.sources]
    assert len(GROUPS) == 4
    assert len(set(left_out)) == len(left_out)
    for group in GROUPS:
        assert not set(group.split) & set(group.sources)
        assert {head for heads in group.split.values() for head in heads} <= set(LABELS.values())


def test_near_duplicates_share_a_cluster_through_each_other() -> None:
    rows = [
        Row(MAIL, "cad", "train"),
        Row(MAIL.replace("Monday", "Friday"), "sbic", "train"),
        Row("An entirely different remark about the weather in the hills near the old town.", "cad", "train"),
    ]
    found = clusters(rows)
    assert found[0] == found[1] != found[2]


def rows_of(source: str, part: str, count: int, **labels: int) -> list[Row]:
    return [Row(f"{source} {part} remark number {i}", source, part, dict(labels)) for i in range(count)]


def test_a_group_learns_nothing_from_what_is_near_to_what_it_measures() -> None:
    group = Group("toy", ("cad",), {"sbic": ("sexual",)})
    rows = [
        *rows_of("cad", "train", 60, toxicity=1),
        *rows_of("sbic", "train", 60, sexual=1, hate=0),
        *rows_of("edos", "train", 60, hate=1),
        *rows_of("edos", "calibrate", 20, hate=1),
        *rows_of("edos", "evaluate", 20, hate=1),
    ]
    numbers = np.arange(len(rows))
    numbers[120] = numbers[0]  # a text of edos is near to one of cad
    parts = divided(rows, numbers, group, OPTIONS)
    assert {row.source for row in parts.test} == {"cad", "sbic"}
    assert sum(row.source == "cad" for row in parts.test) == OPTIONS.test_rows
    assert all(set(row.labels) == {"sexual"} for row in parts.test if row.source == "sbic")
    learned = {row.text for row in parts.train}
    assert rows[120].text not in learned
    assert not learned & {row.text for row in parts.test}
    assert {row.part for row in parts.train} == {"train"}
    assert {row.part for row in parts.calibrate} == {"calibrate"}
    assert 0 < sum(row.source == "sbic" for row in parts.test) < 60


def test_our_own_annotations_are_learned_from_and_measured_only_where_there_are_no_others(
    tmp_path: Path,
) -> None:
    from hashlib import sha256

    from training.dataset import key

    row = Row("You have won a prize, dear friend", "sms_spam", "train", {"spam": 1, "fraud": 1, "threat": 0})
    name = sha256(key(row.text).encode()).hexdigest()[:16]
    path = tmp_path / "annotations.csv"
    path.write_text(f"key,head,value\n{name},fraud,1\n{name},threat,0\n")
    [found] = published([row], path)
    assert found.labels == {"spam": 1, "fraud": 1}
    assert published([Row(row.text, "sms_spam", "train", {"threat": 0})], path) == []


def test_a_cut_keeps_rare_positives_up_to_their_share() -> None:
    rows = [*rows_of("cad", "train", 30, threat=0), *rows_of("edos", "train", 8, threat=1)]
    assert sum(row.labels["threat"] for row in thin_first(rows, 20, 5)) >= 5
    assert len(thin_first(rows, 20, 5)) == 20


def measured(**aucs: float) -> dict[str, Any]:
    return {name: {"auc": [value, value, value], "ap": [value, None, None]} for name, value in aucs.items()}


def test_the_mean_over_rows_compares_a_model_that_is_silent_on_some_on_its_own_rows() -> None:
    common = {"group": "toy", "by_cluster": False, "labelled": 20, "positives": 10, "taught": 100}
    rows = [
        {"category": "hate", "source": "cad", **common, "models": measured(mixed=0.8, linear=0.7, words=0.6)},
        {"category": "spam", "source": "sms_spam", **common, "models": measured(mixed=0.6, linear=0.5)},
        {"category": "fraud", "source": "smishing", **common, "taught": 3},
    ]
    found = summary(rows)
    assert found["rows"] == 2
    assert found["models"]["mixed"]["auc"] == 0.7
    assert found["models"]["words"] == {
        "rows": 1, "auc": 0.6, "ap": 0.6, "mixed_auc": 0.8, "mixed_ap": 0.8
    }  # fmt: skip
    assert found["categories"]["spam"] == {"mixed": 0.6, "linear": 0.5, "words": None}
    assert found["margin"] == {"linear": 0.1, "words": 0.2}
    assert found["not_beaten"] == {}
    table, after = markdown(rows, found).split("\n\n")
    table = table.splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert "+0.100 over the linear, +0.200 over the words" in after
    assert "not learned: 3 positives left" in table[4]
