"""How pictures become a network's input, and pictures that are the same on every machine.

The conversion scripts and their measurements use the same functions as the service, so that a network is made
smaller and measured on exactly the input it is served with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.registry import ArtifactError

RGB = NDArray[np.uint8]
"""A picture of any size, (height, width, 3), red first."""
Floats = NDArray[np.float32]
Plane = NDArray[np.float64]
"""One colour, or one coordinate, over a picture; from 0 to 1."""


class Preparer(Protocol):
    """One picture to one network's input: float32, (side, side, 3)."""

    def __call__(self, rgb: RGB) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Preparation:
    """As open_nsfw wants it: the middle of a picture, blue first.

    Scaled to `resize` x `resize` without keeping its shape, cut to the middle `crop` x `crop`, written
    and read as JPEG at `jpeg_quality` (None: not at all), channels in the order blue, green, red, less
    `mean_bgr`. The network was trained on pictures that had gone through the JPEG step (Mahadeokar and
    Pesavento 2016, open_nsfw), and it moves scores by up to 0.01.
    """

    NAME: ClassVar[str] = "open-nsfw-1"

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

    def __call__(self, rgb: RGB) -> Floats:
        side, crop = self.resize, self.crop
        edge = (side - crop) // 2
        image = Image.fromarray(rgb).resize((side, side), Image.Resampling.BILINEAR)
        image = image.crop((edge, edge, edge + crop, edge + crop))
        if self.jpeg_quality is not None:
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=self.jpeg_quality)
            with Image.open(buffer) as again:
                image = again.convert("RGB")
        bgr = np.asarray(image, dtype=np.float32)[..., ::-1]
        return bgr - np.array(self.mean_bgr, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class UnitRgb:
    """As nsfwjs wants it: RGB from 0 to 1, the whole picture scaled to `side` x `side`, corners on corners.

    Bilinear between the four nearest pixels and nothing else, as TensorFlow.js does with `alignCorners`: a large
    picture is sampled, not averaged.
    """

    NAME: ClassVar[str] = "unit-rgb-1"

    side: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> UnitRgb:
        """From a manifest's `input`.

        Raises:
            ArtifactError: the side is missing or makes no sense.
        """
        return cls(_side(document))

    def __call__(self, rgb: RGB) -> Floats:
        top, bottom, down = _corners(rgb.shape[0], self.side)
        left, right, across = _corners(rgb.shape[1], self.side)
        down, across = down[:, None, None], across[None, :, None]
        upper, lower = rgb[top].astype(np.float32), rgb[bottom].astype(np.float32)
        rows = upper + (lower - upper) * down
        near, far = rows[:, left], rows[:, right]
        found: Floats = (near + (far - near) * across) / np.float32(255.0)
        return found


@dataclass(frozen=True, slots=True)
class CentredRgb:
    """As EfficientNet-Lite wants it: (x - 127) / 128, RGB, the whole picture scaled to `side` x `side`.

    Not the middle alone, which is what such networks are measured by: what nobody may see is not always there.
    """

    NAME: ClassVar[str] = "centred-rgb-1"

    side: int

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> CentredRgb:
        """From a manifest's `input`.

        Raises:
            ArtifactError: the side is missing or makes no sense.
        """
        return cls(_side(document))

    def __call__(self, rgb: RGB) -> Floats:
        image = Image.fromarray(rgb).resize((self.side, self.side), Image.Resampling.BILINEAR)
        return (np.asarray(image, dtype=np.float32) - np.float32(127.0)) / np.float32(128.0)


_PREPARERS: Mapping[str, Callable[[Mapping[str, Any]], Preparer]] = {
    Preparation.NAME: Preparation.of,
    UnitRgb.NAME: UnitRgb.of,
    CentredRgb.NAME: CentredRgb.of,
}


def preparer(document: Mapping[str, Any]) -> Preparer:
    """The preparation that a manifest's `input`, or a member of one, names.

    Raises:
        ArtifactError: there is none of this name, or its numbers make no sense.
    """
    name = document.get("preparer")
    if not isinstance(name, str) or name not in _PREPARERS:
        raise ArtifactError(f"There is no preparation {name!r}; known are {', '.join(_PREPARERS)}.")
    return _PREPARERS[name](document)


def _side(document: Mapping[str, Any]) -> int:
    side = document.get("side")
    if type(side) is not int or not 0 < side <= 4096:
        raise ArtifactError(f"The manifest's side of a picture makes no sense: {side!r}.")
    return side


def _corners(size: int, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Per output pixel the two input pixels it lies between, and how far it is on the way."""
    at = np.arange(side, dtype=np.float32) * np.float32((size - 1) / max(1, side - 1))
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (at - low).astype(np.float32)


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
