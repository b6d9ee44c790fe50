"""Vectors of pictures, the heads over them, and which head may serve beside which backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import gates
from models.backbone import ImageEmbedder, packed, pooled, unpacked
from models.heads import WEIGHTS, ImageHead
from models.preparation import synthetic
from models.registry import ARTIFACTS, MANIFEST, ArtifactError, Manifest, load, write_manifest
from models.runtime import check_golden
from models.serving import Serving, Wanted
from tests import artifacts
from training.common import TrainingError
from training.image_examples import Examples, distinct, divided
from training.image_head import fitted

SIZE = 1280


@pytest.fixture(scope="module")
def backbone() -> Manifest:
    return load(ARTIFACTS / "image-embedding" / "1")


@pytest.fixture(scope="module")
def embedder(backbone: Manifest) -> ImageEmbedder:
    return ImageEmbedder(backbone)


def head(folder: Path, embedder: ImageEmbedder, version: str = "1", **changes: Any) -> Manifest:
    """A head that says yes to what looks like rings."""
    folder = folder / version
    folder.mkdir(parents=True)
    rings, board = embedder.embed([synthetic("rings", 128), synthetic("board", 128)])
    np.savez(folder / WEIGHTS, weights=(8 * (rings - board))[None], bias=np.zeros(1, np.float32))
    document: dict[str, Any] = {
        "name": "image-head-rings", "version": version, "kind": "head",
        "outputs": [{"category": "rings", "head": "rings", "scale": 1.0, "shift": 0.0}],
        "input": {
            "backbone": {"name": embedder.manifest.name, "version": embedder.manifest.version},
            "dimensions": SIZE, "heads": ["rings"],
        },
    }  # fmt: skip
    document |= changes
    made = ImageHead(write_manifest(folder, document, (WEIGHTS,)))
    golden = [
        {
            "input": {"vector": [float(x) for x in vector]},
            "scores": {"rings": float(made.score([vector])[0, 0])},
        }
        for vector in (rings, board, pooled(np.stack([rings, board])))
    ]
    return write_manifest(folder, {**document, "golden": golden}, (WEIGHTS,))


def wanted(manifest: Manifest) -> Wanted:
    return Wanted(manifest.name, manifest.version, manifest.kind, manifest.folder, manifest.sha256)


def rewritten(manifest: Manifest, changes: Mapping[str, Any]) -> Manifest:
    document = json.loads((manifest.folder / MANIFEST).read_text()) | changes
    return replace(manifest, document=document, input=document["input"])


def test_vectors_are_of_unit_length_and_do_not_depend_on_their_neighbours(embedder: ImageEmbedder) -> None:
    pictures = [synthetic(name, size) for name in ("gradient", "rings", "board") for size in (40, 300)]
    found = embedder.embed(pictures)
    assert found.shape == (6, SIZE)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-5)
    for picture, vector in zip(pictures, found, strict=True):
        assert float(embedder.embed([picture])[0] @ vector) > 0.9999
    assert embedder.embed([]).shape == (0, SIZE)


def test_the_same_at_another_size_lies_near_and_another_far(embedder: ImageEmbedder) -> None:
    found = embedder.embed([synthetic("rings", 200), synthetic("rings", 320), synthetic("gradient", 200)])
    assert found[0] @ found[1] > 0.9
    assert found[0] @ found[2] < 0.7


def test_golden_vectors_see_a_wrong_input(backbone: Manifest, embedder: ImageEmbedder) -> None:
    check_golden(embedder)
    wrong = rewritten(backbone, {"input": {**backbone.input, "preparer": "unit-rgb-1"}})
    with pytest.raises(ArtifactError, match="cosine"):
        check_golden(ImageEmbedder(wrong))


def test_the_card_says_what_it_is_and_the_licence_lies_beside_it(backbone: Manifest) -> None:
    card = backbone.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert "EfficientNet-Lite0" in card
    assert "Apache" in backbone.path("LICENSE.txt").read_text(encoding="utf-8")
    assert backbone.document["metrics"]["least_cosine"] >= 0.99


@pytest.mark.parametrize(
    "change", [{"dimensions": 0}, {"dimensions": "1280"}, {"preparer": "none"}, {"side": None}], ids=str
)
def test_a_malformed_backbone_is_refused(backbone: Manifest, change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        ImageEmbedder(replace(backbone, input={**backbone.input, **change}))


def test_a_vector_is_stored_in_two_bytes_a_number(embedder: ImageEmbedder) -> None:
    (vector,) = embedder.embed([synthetic("waves", 96, 3)])
    data = packed(vector)
    assert len(data) == 2 * SIZE
    assert float(unpacked(data) @ vector) > 0.99999


def test_frames_are_pooled_to_one_direction() -> None:
    frames = np.eye(4, dtype=np.float32)[:2]
    assert pooled(frames) == pytest.approx([0.5**0.5, 0.5**0.5, 0, 0])
    assert pooled(frames[:1]) == pytest.approx(frames[0])


def test_a_head_scores_vectors(embedder: ImageEmbedder, tmp_path: Path) -> None:
    made = ImageHead(head(tmp_path, embedder))
    check_golden(made)
    scores = made.score(list(embedder.embed([synthetic("rings", 200), synthetic("board", 200)])))
    assert scores.shape == (2, 1)
    assert scores[0, 0] > 0.9
    assert scores[1, 0] < 0.1
    assert made.score([]).shape == (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"input": {"dimensions": SIZE, "heads": ["rings"]}},
        {"input": {"backbone": {"name": "x", "version": "1"}, "dimensions": 3, "heads": ["rings"]}},
        {"input": {"backbone": {"name": "x", "version": "1"}, "dimensions": SIZE, "heads": ["other"]}},
        {"outputs": []},
    ],
    ids=["no backbone", "another length", "unknown head", "no output"],
)
def test_a_malformed_head_is_refused(embedder: ImageEmbedder, tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        head(tmp_path, embedder, **change)


def test_a_head_serves_only_beside_its_backbone(
    backbone: Manifest, embedder: ImageEmbedder, tmp_path: Path
) -> None:
    made, serving = head(tmp_path, embedder), Serving()
    (change,) = serving.follow([wanted(made)])
    assert "does not serve here" in change.refused
    assert serving.follow([wanted(made)]) == [], "it is said once"
    # Named first, it is still taken after its backbone.
    assert [one.refused for one in serving.follow([wanted(made), wanted(backbone)])] == ["", ""]
    served = serving.current()
    assert (len(served.backbone), len(served.head)) == (1, 1)
    other = load(artifacts.another(tmp_path / "other", "2", of=backbone))
    changes = {one.wanted.name: one.refused for one in serving.follow([wanted(made), wanted(other)])}
    assert changes[other.name] == ""
    assert "does not serve here" in changes[made.name]
    assert serving.current().head == ()
    assert len(served.head) == 1, "whoever began with it ends with it"
    back = serving.follow([wanted(made), wanted(backbone)])
    assert [one.refused for one in back] == ["", ""]
    assert len(serving.current().head) == 1


def test_a_head_shows_its_numbers_or_may_not_serve(embedder: ImageEmbedder, tmp_path: Path) -> None:
    made = head(tmp_path, embedder)
    (gate,) = gates.failures(gates.check(made))
    assert "image-head" in gate.sentence
    names = gates.required(made)
    good = [{"name": name, "value": artifacts.good(name)} for name in names]
    assert not gates.failures(gates.check(rewritten(made, {"gates": good})))
    # On few rows a ranking must be good for sure: its lower end counts.
    unsure = [
        one | {"value": 0.9, "low": 0.55, "high": 0.99} if "auc" in one["name"] else one for one in good
    ]
    (failed,) = gates.failures(gates.check(rewritten(made, {"gates": unsure})))
    assert failed.name == "head_auc:rings"
    few = [one | {"value": 12} if "positives" in one["name"] else one for one in good]
    assert [one.name for one in gates.failures(gates.check(rewritten(made, {"gates": few})))] == [
        "head_positives:rings"
    ]


def examples(count: int, seed: int = 0) -> Examples:
    """Vectors in two clouds that overlap a little."""
    dice = np.random.default_rng(seed)
    truth = np.arange(count) % 3 == 0
    vectors = dice.normal(size=(count, 24)).astype(np.float32)
    vectors[:, 0] += 2.5 * truth
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Examples(vectors, truth.astype(np.float64), tuple(f"p{i}" for i in range(count)))


def twice(some: Examples, rows: list[int], truth: NDArray[np.float64] | None = None) -> Examples:
    """Examples with some of them once more, judged as `truth` says."""
    again = some.only(np.array(rows))
    return Examples(
        np.concatenate([some.vectors, again.vectors]),
        np.concatenate([some.truth, again.truth if truth is None else truth]),
        (*some.names, *(f"again {name}" for name in again.names)),
    )


def test_near_duplicates_count_once_and_those_judged_both_ways_not_at_all() -> None:
    some = examples(60)
    same = distinct(twice(some, [0, 1, 2]), 0.99)
    assert (len(same.kept.truth), same.copies, same.torn) == (60, 3, 0)
    both = distinct(twice(some, [5], 1 - some.truth[[5]]), 0.99)
    assert (len(both.kept.truth), both.copies, both.torn) == (59, 2, 1)
    # Nothing is chained: the ends of a row of neighbours stay two pictures.
    angle = np.linspace(0, 1.2, 13)
    row = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    chain = Examples(row, np.zeros(13), tuple(f"c{i}" for i in range(13)))
    assert len(distinct(chain, 0.99).kept.truth) > 3


def test_parts_share_nothing_and_hold_their_share_of_yes() -> None:
    some = examples(120)
    parts = divided(some, seed=1)
    names = [name for part in parts.values() for name in part.names]
    assert sorted(names) == sorted(some.names)
    assert {name: part.counted["yes"] for name, part in parts.items()} == {
        "fit": 20,
        "calibrate": 10,
        "evaluate": 10,
    }
    assert divided(some, seed=1)["fit"].names == parts["fit"].names


def test_the_fit_finds_what_is_there_and_refuses_too_little() -> None:
    weights, bias, _ = fitted(examples(300), seed=1)
    other = examples(200, seed=9)
    logits = other.vectors @ weights + bias
    assert float(((logits > 0) == (other.truth == 1)).mean()) > 0.75
    with pytest.raises(TrainingError, match="Too few"):
        fitted(examples(9), seed=1)
