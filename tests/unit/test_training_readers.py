"""Readers for labelled texts that a trainer brings, and what stage `dataset` makes of them. Without torch."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from moderation import bundles
from training import readers
from training.__main__ import main
from training.common import Run, TrainingError
from training.dataset import CAPS, HELD_OUT_CAP, OWN, Row, brought, key, lacking, read
from training.readers import CASES, Labelled, civil, hatecheck, jigsaw, lines
from training.sentences import rows as contrast_rows

NOW = datetime.now(UTC)
JIGSAW = "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate"
CIVIL = "id,target,comment_text,severe_toxicity,obscene,identity_attack,insult,threat,sexual_explicit"
ROW = {"ref": "r1", "text": "You fool.", "labels": {"harassment": 1}, "policy_version": 3, "propensity": 0.2,
       "score_shown": False, "reviewers": 2}  # fmt: skip


def file(folder: Path, *rows: str, name: str = "given.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def test_jigsaw_labels_become_heads_and_minus_one_is_unknown(tmp_path: Path) -> None:
    path = file(tmp_path, JIGSAW, '1,"You fool,\nreally",1,1,0,0,1,0', "2,Kind words,-1,-1,-1,-1,-1,-1")
    first, second = jigsaw(path)
    assert first == Labelled(
        "You fool,\nreally",
        "jigsaw",
        {"toxicity": 1, "profanity": 0, "threat": 0, "harassment": 1, "hate": 0},
    )
    assert second.labels == {}


def test_civil_shares_become_yes_no_or_unknown(tmp_path: Path) -> None:
    path = file(tmp_path, CIVIL, "1,0.5,You fool,0,0.1,0.11,0.83,0,", "2,0.0,Kind,0,0,0,0,0,0")
    first, second = civil(path)
    assert first.labels == {"toxicity": 1, "profanity": 0, "harassment": 1, "threat": 0}
    assert set(second.labels.values()) == {0}
    later = file(tmp_path, "comment_text,toxicity", "Kind,0.05")
    assert [one.labels for one in civil(later)] == [{"toxicity": 0}]


def test_hatecheck_cases_keep_their_functionality(tmp_path: Path) -> None:
    path = file(
        tmp_path, "functionality,test_case,label_gold,x", "negate_pos,A b,hateful,", "ident,C d,non-hateful,"
    )
    assert list(hatecheck(path)) == [
        Labelled("A b", "negate_pos", {"hate": 1}),
        Labelled("C d", "ident", {"hate": 0}),
    ]


def test_lines_take_rows_as_bundles_hold_them_and_rows_with_an_embedding_alone(tmp_path: Path) -> None:
    alone = {name: value for name, value in ROW.items() if name != "text"} | {"embedding": [0.5, -1]}
    short = {"text": "Win a prize", "labels": {"spam": 1, "profanity": 0, "violence": 0}}
    path = file(tmp_path, *map(json.dumps, (ROW, alone, short)), "", name="rows.jsonl")
    assert list(lines(path)) == [
        Labelled("You fool.", "lines", {"harassment": 1}),
        Labelled(None, "lines", {"harassment": 1}),
        Labelled("Win a prize", "lines", {"spam": 1, "profanity": 0}),
    ]
    rows, aside = brought(lines(path))
    assert (len(rows), aside) == (2, 1)


@pytest.mark.parametrize(
    ("reader", "rows", "refusal"),
    [
        (jigsaw, ["id,comment_text,toxic", "1,a,0"], r"line 1, column 'obscene': is missing"),
        (
            jigsaw,
            [JIGSAW, "1,a,0,0,0,0,0,0", "2,b,0,0,maybe,0,0,0"],
            r"line 3, column 'obscene': must be a number",
        ),
        (jigsaw, [JIGSAW, "1,a,0.4,0,0,0,0,0"], r"line 2, column 'toxic': must be 0, 1, or -1"),
        (jigsaw, [JIGSAW, "1,a,0,0"], r"line 2, column 'obscene': is missing"),
        (jigsaw, [JIGSAW, "1,a,0,0,0,0,0,0,9"], r"line 2: has more cells"),
        (jigsaw, [JIGSAW, '1,"a"b,0,0,0,0,0,0'], r"line 2: is no CSV"),
        (civil, ["comment_text,insult", "a,0"], r"line 1, column 'target or toxicity': is missing"),
        (civil, [CIVIL, "1,1.5,a,0,0,0,0,0,0"], r"line 2, column 'target': must be a share from 0 to 1"),
        (
            hatecheck,
            ["functionality,test_case,label_gold", "f,a,yes"],
            r"line 2, column 'label_gold': must be one",
        ),
        (lines, ["{"], r"line 1: is no JSON"),
        (lines, ["[]"], r"line 1, column 'labels': must be"),
        (lines, ['{"labels": {}}'], r"line 1, column 'text': must be there, or an embedding"),
        (
            lines,
            ['{"text": "a", "labels": {"hate": 2}}'],
            r"column 'labels': must be categories, each with 0 or 1",
        ),
        (
            lines,
            ['{"text": "a", "labels": {"hatred": 1}}'],
            r"column 'labels.hatred': must be one of toxicity",
        ),
        (lines, ['{"text": "a", "labels": {"underage": 0}}'], r"'labels.underage': is never trained on"),
        (
            lines,
            ['{"text": "a", "labels": {}, "propensity": 0}'],
            r"column 'propensity': must be a number above 0",
        ),
        (lines, ['{"embedding": [1, null], "labels": {}}'], r"column 'embedding': must be a list of finite"),
    ],
)
def test_a_file_that_is_not_of_its_format_is_refused_by_line_and_column(
    tmp_path: Path, reader: Any, rows: list[str], refusal: str
) -> None:
    with pytest.raises(TrainingError, match=refusal) as refused:
        list(reader(file(tmp_path, *rows)))
    assert str(tmp_path / "given.csv") in str(refused.value)


def test_a_file_that_is_missing_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="can't be read: No such file"):
        list(jigsaw(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes(JIGSAW.encode() + b"\n1,gr\xfc\xdfe,0,0,0,0,0,0\n")
    with pytest.raises(TrainingError, match="is not UTF-8"):
        list(jigsaw(tmp_path / "latin.csv"))


def test_a_long_file_keeps_rare_positives_and_an_even_sample_of_what_is_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CAPS, "jigsaw", 50)  # type: ignore[arg-type]  # a table that nobody else writes to
    monkeypatch.setattr("training.dataset.HELD_OUT_CAP", 20)
    assert HELD_OUT_CAP > 20
    given = [
        Labelled(f"text {'abcdefghij'[i % 10]} {'x' * i}", "jigsaw", {"threat": int(i % 40 == 0)})
        for i in range(800)
    ]
    rows, _ = brought(given)
    assert rows == brought(given)[0]
    sizes = Counter((row.part, row.labels["threat"]) for _, row in rows)
    held = [row.labels["threat"] for _, row in rows if row.part in {"calibrate", "evaluate"}]
    assert len(held) == 40
    assert sizes["train", 0] == 50
    assert sizes["train", 1] + sum(held) >= 12
    assert {row.part for _, row in brought(given, unseen=["jigsaw"])[0]} == {"unseen"}


def sealed(path: Path, rows: list[dict[str, Any]]) -> Path:
    secret, identifier = bundles.new_key(), UUID(int=7)
    bundles.seal(
        path, rows, secret, identifier=identifier, created_at=NOW, expires_at=NOW + timedelta(days=1)
    )
    bundles.write_key(path.with_name(f"{path.name}.key"), identifier, secret)
    return path


def test_the_dataset_stage_needs_no_published_table_where_something_else_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of our own sentences take a while to be compared with everything.
    monkeypatch.setattr("training.dataset.contrast_rows", lambda make, data: contrast_rows(make, data)[:50])
    bundle = sealed(
        tmp_path / "own.bundle", [ROW, {**ROW, "ref": "r2", "embedding": [1.0], "text": "See you."}]
    )
    comments = file(
        tmp_path, JIGSAW, "1,The fence is painted,0,0,0,0,0,0", "2,Those people are lesser,1,0,0,0,0,1"
    )
    checks = file(
        tmp_path, "functionality,test_case,label_gold", "f1,those people are LESSER!,hateful", name="hc.csv"
    )
    run = Run(tmp_path / "run")
    arguments = ["dataset", "--run", str(run.folder), "--bundle", str(bundle), "--jigsaw", str(comments)]
    assert main([*arguments, "--hatecheck", str(checks)]) == 0
    rows = {
        row.text: row
        for row in read(run, "train", "calibrate", "evaluate", CASES)
        if row.source != "contrast"
    }
    assert rows["You fool."].source == OWN
    assert rows["The fence is painted"].labels["hate"] == 0
    assert "Those people are lesser" not in rows, "what HateCheck asks is never trained on"
    assert rows["those people are LESSER!"].part == CASES
    record = run.record("dataset")
    assert {"jigsaw given.csv", "hatecheck hc.csv", f"bundle {UUID(int=7)}"} <= set(record["data"])
    assert run.folder.stat().st_mode & 0o077 == 0


def test_a_bundle_that_holds_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = sealed(tmp_path / "own.bundle", [ROW, {"ref": "r2", "text": "a", "labels": {}}])
    assert main(["dataset", "--run", str(tmp_path / "run"), "--bundle", str(bundle)]) == 1
    assert "line 2, column 'policy_version': must be a whole number" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_every_reader_maps_to_heads_alone() -> None:
    assert {*readers.JIGSAW.values(), *readers.CIVIL.values()} < set(readers.HEADS)
    assert set(readers.READERS) <= set(CAPS) | {"lines"}
    assert key("x") == "x"


def test_what_can_not_be_calibrated_is_refused_before_it_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.dataset.contrast_rows", lambda make, data: contrast_rows(make, data)[:50])
    bundle = sealed(tmp_path / "own.bundle", [ROW])
    assert main(["all", "--run", str(tmp_path / "run"), "--bundle", str(bundle)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("train: There are too few labels:")
    assert "profanity has no yes to train on" in said


def test_heads_lack_what_neither_training_nor_calibration_has() -> None:
    full = [
        Row("a", "cad", part, dict.fromkeys(readers.HEADS, value))
        for part in ("train", "calibrate")
        for value in (0, 1)
    ]
    assert lacking(full) == []
    assert len(lacking([])) == len(readers.HEADS)
    del full[3].labels["spam"], full[1].labels["hate"]
    assert lacking(full) == ["hate has no yes to train on", "spam has no yes to calibrate on"]
