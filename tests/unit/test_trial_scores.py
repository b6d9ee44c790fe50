"""Who judges what: canaries their share, heads their clients' items; shadows judge nothing, whatever they do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from models.heads import WEIGHTS, ImageHead
from models.registry import Manifest, Output, load, write_manifest
from models.runtime import Scores
from models.serving import Served, Trials, in_share
from models.text import TextClassifier
from models.text_heads import TextHead
from moderation.domain.signals import DetectorStatus, Signal
from moderation.features.decode import Frame, Picture
from moderation.features.hashes import text_digest
from moderation.governance.shadows import INSTEAD_OF
from moderation.pipeline import batch as batches
from moderation.pipeline.batch import Batch, Image, Text
from moderation.pipeline.classify_image import classify_image, shadow_image
from moderation.pipeline.classify_text import classify_text, shadow_text
from moderation.pipeline.embed_image import embed_image
from moderation.storage.ids import new_id
from tests import artifacts

NAME = "text-minilm"
MILD = "A lovely day in the park."


@pytest.fixture(scope="module")
def champion() -> TextClassifier:
    return TextClassifier(artifacts.champion())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> TextClassifier:
    """Another version, whose log-odds are higher by 2."""
    return TextClassifier(load(artifacts.shifted(tmp_path_factory.mktemp("other"), "9", 2.0)))


def head(folder: Path, version: str = "1", **options: Any) -> TextHead:
    return TextHead(load(artifacts.text_head(folder, "head-forum", version, **options)))


def batch(count: int, text: str = MILD, client: str = "forum") -> Batch:
    now = datetime.now(UTC)
    made = Batch((), now)
    for _ in range(count):
        item = new_id(now)
        made.clients[item] = client
        made.texts.append(Text(item, "body", text, text_digest(text)))
    return made


def only(signals: Sequence[Signal]) -> Signal:
    (signal,) = signals
    return signal


def asked(made: Batch, item: UUID) -> list[str]:
    return [f"{one.name} {one.version}" for one in made.asked_models[item]]


def test_a_canary_judges_its_share_and_the_champion_the_rest(
    champion: TextClassifier, other: TextClassifier
) -> None:
    made = batch(40)
    classify_text(made, [champion], (), Trials(canary=Served(text=[other]), shares={NAME: 0.5}))
    usual = champion.score([MILD])[0]
    mine = {item for item in made.ids if in_share(item, 0.5)}
    assert 5 < len(mine) < 35
    for item in made.ids:
        signal = only(made.signals[item])
        version, by = ("9", 2.0) if item in mine else (champion.manifest.version, 0.0)
        assert (signal.detector, signal.version) == (NAME, version)
        assert asked(made, item) == [f"{NAME} {version}"]
        expected = [artifacts.moved(float(score), by) for score in usual]
        assert list(signal.scores.values()) == pytest.approx(expected, abs=1e-4)


def test_what_only_a_canary_scores_is_scored_for_its_share_alone(other: TextClassifier) -> None:
    made = batch(30)
    classify_text(made, [], (), Trials(canary=Served(text=[other]), shares={NAME: 0.4}))
    assert set(made.signals) == {item for item in made.ids if in_share(item, 0.4)} == set(made.asked_models)


def test_a_head_speaks_for_its_client_and_the_base_is_silent_there(
    champion: TextClassifier, tmp_path: Path
) -> None:
    forum = head(tmp_path, by=1.0, clients=["forum"])
    ours, theirs = batch(1), batch(1, client="shop")
    for made in (ours, theirs):
        classify_text(made, [champion], [forum])
    (item,), (elsewhere,) = ours.ids, theirs.ids
    base, corrected = ours.signals[item]
    usual = only(theirs.signals[elsewhere])
    assert (base.detector, corrected.detector) == (NAME, "head-forum")
    assert base.scores.keys() == usual.scores.keys() - {"harassment"}
    assert corrected.scores == {
        "harassment": pytest.approx(artifacts.moved(usual.scores["harassment"], 1.0), abs=1e-4)
    }
    assert asked(ours, item) == [f"{NAME} {champion.manifest.version}", "head-forum 1"]
    assert asked(theirs, elsewhere) == [f"{NAME} {champion.manifest.version}"]


def test_a_head_is_not_asked_where_a_canary_takes_its_bases_place(
    champion: TextClassifier, other: TextClassifier, tmp_path: Path
) -> None:
    made = batch(30)
    trials = Trials(canary=Served(text=[other]), shares={NAME: 0.5})
    classify_text(made, [champion], [head(tmp_path)], trials)
    for item in made.ids:
        judged = asked(made, item)
        assert judged == ([f"{NAME} 9"] if in_share(item, 0.5) else [f"{NAME} 2", "head-forum 1"])


def test_a_canary_of_a_head_and_a_head_that_breaks(
    champion: TextClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = head(tmp_path), head(tmp_path, "2", by=3.0)
    made = batch(30)
    trials = Trials(canary=Served(text_head=[new]), shares={"head-forum": 0.5})
    classify_text(made, [champion], [old], trials)
    versions = {item: made.signals[item][1].version for item in made.ids}
    assert versions == {item: "2" if in_share(item, 0.5) else "1" for item in made.ids}

    # What can't be judged by its head is judged by the base, and the head has failed.
    def broken(*_: object) -> Scores:
        raise FloatingPointError

    monkeypatch.setattr(TextHead, "judged", broken)
    made = batch(2)
    classify_text(made, [champion], [old])
    for base, corrected in made.signals.values():
        assert (base.status, "harassment" in base.scores) == (DetectorStatus.OK, True)
        assert (corrected.status, corrected.scores) == (DetectorStatus.FAILED, {})


def test_a_shadow_says_what_it_says_and_nobody_hears(
    champion: TextClassifier, other: TextClassifier, tmp_path: Path
) -> None:
    made, alone = batch(3), batch(3)
    classify_text(alone, [champion])
    trials = Trials(shadow=Served(text=[other], text_head=[head(tmp_path, by=1.0, clients=["forum"])]))
    classify_text(made, [champion], (), trials)
    shadow_text(made, trials)
    said = [signal for its in alone.signals.values() for signal in its]
    assert [signal for its in made.signals.values() for signal in its] == said
    for item in made.ids:
        assert asked(made, item) == [f"{NAME} 2"]
        corrected, version = made.shadow_signals[item]
        assert (version.detector, version.version) == (NAME, "9")
        assert version.scores["hate"] == pytest.approx(artifacts.moved(said[0].scores["hate"], 2.0), abs=1e-4)
        assert (corrected.detector, list(corrected.scores)) == ("head-forum", ["harassment"])
        assert corrected.evidence == {INSTEAD_OF: NAME}


def test_a_head_may_be_tried_beside_a_base_that_is_tried(other: TextClassifier, tmp_path: Path) -> None:
    made = batch(2)
    mine = head(tmp_path, base=other.manifest.folder, clients=["forum"])
    shadow_text(made, Trials(shadow=Served(text=[other], text_head=[mine])))
    assert {len(signals) for signals in made.shadow_signals.values()} == {2}
    made = batch(2, client="shop")
    shadow_text(made, Trials(shadow=Served(text=[other], text_head=[mine])))
    assert {len(signals) for signals in made.shadow_signals.values()} == {1}


class Raises:
    """A shadow that breaks on everything."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.maker = manifest, "nobody"

    def score(self, batch: Sequence[Any]) -> Scores:
        raise RuntimeError

    def read(self, batch: Sequence[Any], heads: Sequence[Any]) -> Scores:
        raise RuntimeError


def counted(outcome: str) -> float:
    labels = {"name": NAME, "outcome": outcome}
    return REGISTRY.get_sample_value("moderation_shadow_parts_total", labels) or 0.0


def test_a_shadow_that_breaks_is_counted_and_no_more(champion: TextClassifier) -> None:
    made, before = batch(2), counted("failed")
    broken: Any = Raises(champion.manifest)
    trials = Trials(shadow=Served(text=[broken]))
    classify_text(made, [champion], (), trials)
    shadow_text(made, trials)
    assert {only(signals).status for signals in made.signals.values()} == {DetectorStatus.OK}
    assert {only(signals).status for signals in made.shadow_signals.values()} == {DetectorStatus.FAILED}
    assert counted("failed") == before + 2
    # What can't even be understood is no harm either: it answers nothing that fits its categories.
    broken.read = lambda some, heads: np.zeros((len(some), 1))
    made = batch(1)
    shadow_text(made, trials)
    assert not made.shadow_signals
    assert counted("failed") == before + 3


def test_a_shadow_has_so_much_time_and_no_more(
    champion: TextClassifier, other: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, before = batch(3), counted("late")
    monkeypatch.setattr(batches, "SHADOW_SECONDS", 0.0)
    shadow_text(made, Trials(shadow=Served(text=[other])))
    assert not made.shadow_signals
    assert counted("late") == before + 3


class Brightness:
    """How bright a picture is, by another measure in another version."""

    def __init__(self, version: str, times: float) -> None:
        self.manifest = Manifest(
            "brightness",
            version,
            "image",
            Path(),
            {},
            (Output("bright", "bright", 1, 0),),
            {},
            (),
            {},
            sha256=version,
        )
        self._times = times

    def score(self, pictures: Sequence[NDArray[np.uint8]]) -> Scores:
        return np.array([[float(picture.mean()) / 255 * self._times] for picture in pictures])


def pictures() -> Batch:
    now = datetime.now(UTC)
    made = Batch((), now)
    for shade in range(0, 200, 10):
        rgb = np.full((8, 8, 3), shade, np.uint8)
        made.images.append(
            Image(new_id(now), "photo", b"", Picture("PNG", 8, 8, 1, 1, (Frame(0, "raw", rgb),)))
        )
    return made


class Plain:
    """A backbone whose vectors say how bright a picture is."""

    maker = "plain/1"

    def embed(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.array([[float(picture.mean()) / 255, 1.0] for picture in pictures], np.float32)


def bright_head(folder: Path, version: str, weight: float) -> ImageHead:
    folder = folder / version
    folder.mkdir()
    np.savez(folder / WEIGHTS, weights=np.array([[weight, 0.0]]), bias=np.zeros(1))
    document = {
        "name": "image-head-bright",
        "version": version,
        "kind": "head",
        "outputs": [{"category": "bright", "head": "bright", "scale": 1.0, "shift": 0.0}],
        "input": {"backbone": {"name": "plain", "version": "1"}, "dimensions": 2, "heads": ["bright"]},
    }
    return ImageHead(write_manifest(folder, document, (WEIGHTS,)))


def test_heads_of_pictures_have_canaries_and_shadows_too(tmp_path: Path) -> None:
    made, backbone = pictures(), cast(Any, Plain())
    old, new, third = (bright_head(tmp_path, str(number), float(number)) for number in (1, 2, 3))
    trials = Trials(Served(head=[third]), Served(head=[new]), {"image-head-bright": 0.5})
    embed_image(made, [backbone], [old], trials)
    for image in made.images:
        version = "2" if in_share(image.item, 0.5) else "1"
        assert only(made.signals[image.item]).version == version
        assert asked(made, image.item) == [f"image-head-bright {version}"]
        assert only(made.shadow_signals[image.item]).version == "3"
    # One that can't be asked over these vectors says nothing, and nobody else is silent for it.
    made, stranger = pictures(), Raises(third.manifest)
    stranger.maker = "plain/1"
    embed_image(made, [backbone], [old], Trials(Served(head=[cast(Any, stranger)])))
    assert {only(signals).status for signals in made.signals.values()} == {DetectorStatus.OK}
    assert {only(signals).status for signals in made.shadow_signals.values()} == {DetectorStatus.FAILED}


def test_pictures_have_canaries_and_shadows_too() -> None:
    made = pictures()
    first, second = Brightness("1", 1.0), Brightness("2", 0.5)
    trials = Trials(Served(image=[second]), Served(image=[second]), {"brightness": 0.5})
    classify_image(made, [first], trials)
    shadow_image(made, trials)
    for image in made.images:
        version = "2" if in_share(image.item, 0.5) else "1"
        assert (only(made.signals[image.item]).version, asked(made, image.item)) == (
            version,
            [f"brightness {version}"],
        )
        assert only(made.shadow_signals[image.item]).version == "2"
