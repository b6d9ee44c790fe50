"""Pictures to calibrated probabilities: one convolutional network over RGB arrays, prepared as it was trained.

`prepare` is what the conversion script and its measurements use too, so that a model is quantised and
measured on exactly the input it is served with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.registry import ArtifactError, Manifest
from models.runtime import Scores, calibrate, open_session

PREPARER = "open-nsfw-1"

RGB = NDArray[np.uint8]
Logits = NDArray[np.float32]
Plane = NDArray[np.float64]
"""One colour, or one coordinate, over a picture; from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a picture becomes the network's input.

    Scaled to `resize` x `resize` without keeping its shape, cut to the middle `crop` x `crop`, written
    and read as JPEG at `jpeg_quality` (None: not at all), channels in the order blue, green, red, less
    `mean_bgr`. The network was trained on pictures that had gone through the JPEG step (Mahadeokar and
    Pesavento 2016, open_nsfw), and it moves scores by up to 0.01.
    """

    resize: int
    crop: int
    jpeg_quality: int | None
    mean_bgr: tuple[float, float, float]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Preparation:
        """From a manifest's `input`.

        Raises:
            ArtifactError: a number is missing or makes no sense.
        """
        try:
            quality = document["jpeg_quality"]
            blue, green, red = (float(value) for value in document["mean_bgr"])
            found = cls(
                int(document["resize"]),
                int(document["crop"]),
                None if quality is None else int(quality),
                (blue, green, red),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"The manifest's input is malformed: {error!r}.") from error
        if not 0 < found.crop <= found.resize:
            raise ArtifactError(f"The manifest's sizes make no sense: {found}.")
        return found


def prepare(rgb: RGB, preparation: Preparation) -> NDArray[np.float32]:
    """The network's input for one RGB picture of any size: float32, (crop, crop, 3), blue first."""
    side, crop = preparation.resize, preparation.crop
    edge = (side - crop) // 2
    image = Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR)
    image = image.crop((edge, edge, edge + crop, edge + crop))
    if preparation.jpeg_quality is not None:
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=preparation.jpeg_quality)
        with Image.open(buffer) as again:
            image = again.convert("RGB")
    bgr = np.asarray(image, dtype=np.float32)[..., ::-1]
    return bgr - np.array(preparation.mean_bgr, dtype=np.float32)


class ImageClassifier:
    """An image artifact, loaded: `models.runtime.Classifier[RGB]`. Keeps and logs no picture."""

    def __init__(self, manifest: Manifest, threads: int = 1) -> None:
        """Load the artifact's model.

        Raises:
            ArtifactError: the manifest is not of an image model, or asks for what this class doesn't do.
        """
        if manifest.kind != "image" or manifest.input.get("preparer") != PREPARER:
            raise ArtifactError(f"{manifest.name} {manifest.version} is not for preparer {PREPARER}.")
        heads = list(manifest.input.get("heads", ()))
        missing = [output.head for output in manifest.outputs if output.head not in heads]
        if missing:
            raise ArtifactError(f"{manifest.name} {manifest.version} names unknown heads {missing}.")
        self._manifest = manifest
        self._columns = [heads.index(output.head) for output in manifest.outputs]
        self._heads = len(heads)
        self.preparation = Preparation.of(manifest.input)
        self._batch = max(1, int(manifest.input.get("batch", 1)))
        self._session = open_session(manifest.path("model.onnx"), threads)

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def score(self, batch: Sequence[RGB]) -> Scores:
        """Probabilities of shape (len(batch), len(manifest.outputs)) for uint8 arrays (height, width, 3)."""
        return calibrate(self.logits(batch)[:, self._columns], self._manifest.outputs)

    def logits(self, batch: Sequence[RGB]) -> Logits:
        """Each head's log-odds against all others, shape (len(batch), heads), in the manifest's order."""
        found = [np.empty((0, self._heads), np.float32)]
        for start in range(0, len(batch), self._batch):
            part = [prepare(rgb, self.preparation) for rgb in batch[start : start + self._batch]]
            (raw,) = self._session.run(["logits"], {"pictures": np.stack(part)})
            found.append(log_odds(np.asarray(raw, dtype=np.float32)))
        return np.concatenate(found)

    def golden_input(self, entry: Mapping[str, Any]) -> RGB:
        """The picture that one of the manifest's golden vectors speaks of."""
        return synthetic(**entry["input"])


def log_odds(raw: Logits) -> Logits:
    """log(p / (1 - p)) of each class of a softmax, straight from its inputs; (n, classes) both.

    Going through p would lose everything beyond seven digits next to 0 and 1.
    """
    classes = raw.shape[1]
    columns = []
    for column in range(classes):
        others = np.delete(raw, column, axis=1)
        columns.append(raw[:, column] - np.logaddexp.reduce(others, axis=1))
    return np.stack(columns, axis=1)


def _gradient(y: Plane, x: Plane, _: int) -> tuple[Plane, ...]:
    return x, y, 1 - x


def _rings(y: Plane, x: Plane, _: int) -> tuple[Plane, ...]:
    radius = np.hypot(x - 0.5, y - 0.5)
    return (6 * radius) % 1, 1 - radius, radius


def _board(y: Plane, x: Plane, _: int) -> tuple[Plane, ...]:
    dark = (np.floor(8 * x) + np.floor(8 * y)) % 2
    return 0.2 + 0.7 * dark, 0.9 - 0.5 * dark, 0.5 * dark


def _waves(y: Plane, x: Plane, seed: int) -> tuple[Plane, ...]:
    """Soft coloured waves: of many seeds some lie far from 0, which makes them the sharper check."""
    # Multiples of the golden ratio stand for chance: no generator of random numbers may ever change them.
    chance = [((seed * 7919 + i * 104_729) * 0.618_033_988_749_895) % 1 for i in range(18)]
    shape = sum(
        np.sin(6.283 * (1 + 3 * a) * (x * np.cos(6.283 * b) + y * np.sin(6.283 * b)) + 6.283 * c)
        for a, b, c in zip(chance[:4], chance[4:8], chance[8:12], strict=True)
    )
    level = 0.5 + 0.125 * np.asarray(shape)
    return tuple(low + (high - low) * level for low, high in zip(chance[12:15], chance[15:18], strict=True))


_GENERATORS: Mapping[str, Callable[[Plane, Plane, int], tuple[Plane, ...]]] = {
    "gradient": _gradient,
    "rings": _rings,
    "board": _board,
    "waves": _waves,
}


def synthetic(generator: str, size: int, seed: int = 0) -> RGB:
    """A picture of shape (size, size, 3) that is the same on every machine: gradient, rings, board, waves.

    Raises:
        ArtifactError: no such generator.
    """
    if generator not in _GENERATORS:
        raise ArtifactError(f"There is no generator {generator!r}; known are {', '.join(_GENERATORS)}.")
    y, x = np.mgrid[0:size, 0:size] / max(1, size - 1)
    planes = _GENERATORS[generator](y, x, seed)
    # Rounded to a thousandth first, so that no last bit of a square root decides a pixel.
    return np.stack([np.floor(np.round(plane, 3) * 255.0) for plane in planes], axis=-1).astype(np.uint8)
