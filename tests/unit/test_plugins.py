"""Classifiers of others: found by their entry point, asked where a setting names them, failed where they fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from models import plugins
from models.plugins import PluginError
from models.preparation import synthetic
from moderation.domain.signals import DetectorStatus, Signal
from moderation.features.decode import Frame, Picture
from moderation.pipeline.batch import Batch, Image
from moderation.pipeline.classify_image import classify_image
from moderation.settings import SettingsError, from_environment
from tests.unit.test_settings import COMPLETE

PACKAGE = '''
import numpy as np

class Brightness:
    """A benign classifier: how bright a picture is."""
    version = "3"
    categories = ("brightness",)

    def score(self, pictures):
        return [[float(np.mean(picture)) / 255] for picture in pictures]

class Wrong(Brightness):
    def score(self, pictures):
        return [[1.5] for _ in pictures]

class Breaks(Brightness):
    def score(self, pictures):
        raise RuntimeError("inside")

class Nameless(Brightness):
    categories = ()

def absent():
    raise OSError("weights are missing")
'''
NAMES = {
    "brightness": "Brightness",
    "wrong": "Wrong",
    "breaks": "Breaks",
    "nameless": "Nameless",
    "absent": "absent",
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path) -> Iterator[None]:
    """A package as an installer leaves it, with its entry points."""
    (tmp_path / "bright_plugin.py").write_text(PACKAGE)
    about = tmp_path / "bright_plugin-3.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-plugin\nVersion: 3\n")
    lines = [f"{name} = bright_plugin:{made}" for name, made in NAMES.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{plugins.GROUP}]", *lines]))
    sys.path.insert(0, str(tmp_path))
    try:
        yield
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("bright_plugin", None)


def signals(names: Sequence[str], *pictures: NDArray[np.uint8]) -> list[Signal]:
    """What the stage of the pipeline makes of them."""
    batch = Batch((), datetime.now(UTC))
    for rgb in pictures:
        picture = Picture("PNG", 8, 8, 1, 1, (Frame(0, "raw", rgb),))
        batch.images.append(Image(uuid4(), "photo", b"", picture))
    classify_image(batch, plugins.load(names))
    return [signal for found in batch.signals.values() for signal in found]


def test_a_plug_in_speaks_under_its_own_name() -> None:
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 204, np.uint8)
    first, second = signals(["brightness"], dark, bright)
    assert (first.detector, first.version, first.status) == ("plugin-brightness", "3", DetectorStatus.OK)
    assert first.scores["brightness"] < 0.01
    assert second.scores["brightness"] == pytest.approx(0.8)


def test_nothing_is_asked_that_nobody_named() -> None:
    assert plugins.load(()) == ()
    assert signals([], synthetic("rings", 8)) == []


@pytest.mark.parametrize("name", ["wrong", "breaks", "nameless", "absent", "not-installed"])
def test_what_fails_is_a_failed_detector_and_keeps_nobody_from_speaking(name: str) -> None:
    found = {signal.detector: signal for signal in signals([name, "brightness"], synthetic("rings", 8))}
    assert found[f"plugin-{name}"].status is DetectorStatus.FAILED
    assert not found[f"plugin-{name}"].scores
    assert found["plugin-brightness"].status is DetectorStatus.OK


def test_why_it_fails_is_said_without_a_strangers_words() -> None:
    absent, missing = plugins.load(["absent", "not-installed"])
    assert absent.trouble == "OSError while loading 'absent'."
    assert "No installed package offers 'not-installed'" in missing.trouble
    with pytest.raises(PluginError, match="No installed"):
        missing.score([synthetic("rings", 8)])


def test_the_setting_names_them(tmp_path: Path) -> None:
    environment: dict[str, Any] = COMPLETE | {"MODERATION_IMAGE_PLUGINS": "nudenet, brightness"}
    assert from_environment(environment).image_plugins == ("nudenet", "brightness")
    assert from_environment(COMPLETE).image_plugins == ()
    with pytest.raises(SettingsError, match="IMAGE_PLUGINS"):
        from_environment(COMPLETE | {"MODERATION_IMAGE_PLUGINS": "../x"})
