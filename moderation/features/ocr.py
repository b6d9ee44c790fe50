"""The text that stands in a picture: its lines, where they stand, and how sure the reader is of them.

Two networks of PP-OCRv6 (PaddleOCR; `models/artifacts/ocr-pp-v6`) on ONNX Runtime: one draws where lines are, one
reads a line. What is around them is ours, on NumPy: the package that ships them brings an image library with
codecs of its own and a downloader, for what a few lines do here. Reads decoded arrays only, keeps and logs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.registry import ARTIFACTS, ArtifactError, load
from models.runtime import open_session
from moderation.features import text_boxes
from moderation.features.decode import RGB, Frame, Picture
from moderation.features.text_boxes import Map, Points

FOLDER = ARTIFACTS / "ocr-pp-v6" / "1"
VERSION = "pp-v6-1"
SEEN_PIXELS = 330_000
"""Of what the detector sees: enough for lines of which it is 7 pixels high, in about a tenth of a second."""
FLAT = 12
"""A picture in which no two neighbours differ by so much of 255 has nothing that anybody could read."""
HEIGHT, SHORTEST, WIDEST = 48, 8, 2400
"""Of a line as it is read, in pixels, and the least and the most of its length."""
AT_ONCE = 1600
"""Pixels of length in one run; more of them save no time, and cost memory."""
PIXELS = 80_000
"""Of all lines of a picture, in their length: some 1,000 words, or five seconds."""
LOOK = 2_000
"""What it costs to draw where lines stand in one look, in the same pixels."""
CONFIDENCE, ALONE = 0.5, 0.9
"""A line below is dropped, as is a single character below the second: what is read into foliage lies there."""
DOUBTFUL = 0.93
"""A line below is read upside down as well, and the surer of the two stays."""
CODE_POINTS = 50_000
STEP, DIFFERENT = 16, 2.0
"""Two looks of a picture differ where a square of so many pixels does by so much of 255 on average."""

Corner = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """Code points [start, end) of a text, and where they stand.

    `box` has the corners from the line's own top left on, clockwise, each (x, y) in 0..1 of the upright picture;
    `look` counts the moments of an animation in which it was read. `confidence` is the mean of its characters'.
    """

    start: int
    end: int
    box: tuple[Corner, Corner, Corner, Corner]
    confidence: float
    look: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands in a picture: lines in the order in which one reads them, joined by spaces and line breaks.

    `whole` is false if there was more than is read of one picture; `looks` are an animation's sampled moments.
    `cost` is what it took, in pixels of lines: 16,000 of them are about a second of a core.
    """

    text: str
    lines: tuple[Line, ...]
    whole: bool = True
    looks: int = 1
    cost: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class _Said:
    text: str
    confidence: float
    corners: Points


class Reader:
    """Both networks, loaded. Keeps nothing between two pictures, so several threads may share one."""

    def __init__(self, threads: int = 1, folder: Path = FOLDER) -> None:
        """Load the networks.

        Raises:
            ArtifactError: a file is missing, or is not the one that the manifest names.
        """
        manifest = load(folder)
        if manifest.kind != "reader":
            raise ArtifactError(f"{folder} holds no reader of text in pictures; install the package again.")
        self._detector = open_session(manifest.path("detect.onnx"), threads, keep_memory=False)
        self._recogniser = open_session(manifest.path("read.onnx"), threads, keep_memory=False)
        known = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = np.array(["", *known, " "])

    def read(self, picture: Picture) -> Reading:
        """The text of a picture, empty if there is none; of looks that say the same only the first."""
        left, whole, drawn = PIXELS, True, 0
        moments = {index: look for look, index in enumerate(sorted({f.index for f in picture.frames}))}
        blocks: list[tuple[int, list[list[_Said]]]] = []
        said: set[str] = set()
        for number, frame in enumerate(different(picture.frames)):
            # The first is what there may be in more detail.
            rgb = frame.rgb if number or picture.fine is None else picture.fine
            found, spent, all_read = self._look(rgb, left)
            left, whole, drawn = left - spent, whole and all_read, drawn + 1
            new = {one.text for block in found for row in block for one in row} - said
            if new:
                said |= new
                blocks += [(moments[frame.index], block) for block in found]
        return replace(joined(blocks, whole, len(moments)), cost=PIXELS - left + LOOK * drawn)

    def map(self, rgb: RGB) -> Map:
        """How surely each pixel of the picture, in `SEEN_PIXELS` at most, belongs to a line."""
        height, width = rgb.shape[:2]
        scale = min(1.0, sqrt(SEEN_PIXELS / (height * width)))
        size = tuple(max(32, round(length * scale / 32) * 32) for length in (width, height))
        (found,) = self._detector.run(None, {"x": _prepared([Image.fromarray(rgb).resize(size)], size[0])})
        drawn: Map = np.asarray(found, dtype=np.float32)[0, 0]
        return drawn

    def _look(self, rgb: RGB, left: int) -> tuple[list[list[list[_Said]]], int, bool]:
        """The blocks of one frame, what they cost of the `left` pixels, and whether that was all."""
        if is_flat(rgb):
            return [], 0, True
        drawn = self.map(rgb)
        boxes = text_boxes.find(drawn)
        size = np.array([rgb.shape[1], rgb.shape[0]], dtype=np.float64)
        scale = size / [drawn.shape[1], drawn.shape[0]]
        places = [_upright(box.corners() * scale) for box in boxes]
        lengths = [_length(corners) for corners in places]
        fitting = int((np.cumsum(lengths) <= left).sum())
        image = Image.fromarray(rgb)
        crops = [_cut(image, *one) for one in zip(places[:fitting], lengths, strict=False)]
        lines = [one for one in self._lines(crops, places) if _is_text(one)]
        ordered = [
            [[replace(lines[index], corners=lines[index].corners / size) for index in row] for row in block]
            for block in text_boxes.in_order([one.corners for one in lines])
        ]
        return ordered, sum(lengths[:fitting]), fitting == len(boxes)

    def _lines(self, crops: Sequence[Image.Image], places: Sequence[Points]) -> list[_Said]:
        """What the lines say; turned upside down where that makes it surer."""
        found = self._recognised(crops)
        lines = [_Said(*one, place) for one, place in zip(found, places, strict=False)]
        doubtful = [index for index, one in enumerate(lines) if one.confidence < DOUBTFUL]
        again = self._recognised([crops[index].rotate(180) for index in doubtful])
        for index, (text, confidence) in zip(doubtful, again, strict=True):
            if confidence > lines[index].confidence:
                lines[index] = _Said(text, confidence, np.roll(places[index], 2, axis=0))
        return lines

    def _recognised(self, crops: Sequence[Image.Image]) -> list[tuple[str, float]]:
        found: dict[int, tuple[str, float]] = {}
        # Lines of about one length together: the shorter ones are filled up.
        waiting = sorted(range(len(crops)), key=lambda index: crops[index].width)
        while waiting:
            batch = [waiting.pop()]
            widest = crops[batch[0]].width
            while waiting and widest * (len(batch) + 1) <= AT_ONCE and crops[waiting[-1]].width > widest // 2:
                batch.append(waiting.pop())
            prepared = _prepared([crops[index] for index in batch], widest)
            (rows,) = self._recogniser.run(None, {"x": prepared})
            for index, row in zip(batch, np.asarray(rows), strict=True):
                found[index] = self._decoded(row)
        return [found[index] for index in range(len(crops))]

    def _decoded(self, row: NDArray[np.float32]) -> tuple[str, float]:
        """The characters of a line from (steps, characters) probabilities: repeats and blanks (0) fall out."""
        best = row.argmax(axis=1)
        kept = best != 0
        kept[1:] &= best[1:] != best[:-1]
        if not kept.any():
            return "", 0.0
        return "".join(self._characters[best[kept]]), float(row.max(axis=1)[kept].mean())


def different(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that look unlike those before them; what people see of the first one first, raw colours last."""
    kept: list[tuple[Frame, NDArray[np.float32]]] = []
    first = next(
        (one for one in frames if (one.index, one.variant) == (frames[0].index, "composited")), frames[0]
    )
    for frame in sorted(frames, key=lambda one: (one is not first, one.variant == "raw")):
        small = _small(frame.rgb)
        if all(other.shape != small.shape or np.abs(other - small).max() >= DIFFERENT for _, other in kept):
            kept.append((frame, small))
    return [frame for frame, _ in kept]


def joined(blocks: Sequence[tuple[int, list[list[_Said]]]], whole: bool, looks: int) -> Reading:
    """Blocks of rows of lines as one text of `CODE_POINTS` at most."""
    text = ""
    lines: list[Line] = []
    for look, block in blocks:
        between = "\n\n"
        for row in block:
            for one in row:
                start = len(text) + (len(between) if text else 0)
                if start + len(one.text) > CODE_POINTS:
                    return Reading(text, tuple(lines), whole=False, looks=looks)
                text += (between if text else "") + one.text
                (a, b, c, d) = ((round(float(x), 4), round(float(y), 4)) for x, y in one.corners.clip(0, 1))
                lines.append(Line(start, len(text), (a, b, c, d), round(one.confidence, 3), look))
                between = " "
            between = "\n" if between == " " else between
    return Reading(text, tuple(lines), whole, looks)


def is_flat(rgb: RGB) -> bool:
    """Whether there is no edge at all, in any colour: such a picture is spared the networks."""
    # As bytes, neighbours' difference: the larger less the smaller never wraps.
    along = [(rgb[1:], rgb[:-1]), (rgb[:, 1:], rgb[:, :-1])]
    return not any((np.maximum(a, b) - np.minimum(a, b) >= FLAT).any() for a, b in along)


def layout(reading: Reading) -> list[dict[str, Any]]:
    """The lines of a text as they are kept; of an animation with the moment, and how many were looked at."""
    moving = reading.looks > 1
    return [
        {"start": one.start, "end": one.end, "box": [list(corner) for corner in one.box],
         "confidence": one.confidence, **({"look": one.look, "looks": reading.looks} if moving else {})}
        for one in reading.lines
    ]  # fmt: skip


def _is_text(line: _Said) -> bool:
    said = line.text.strip()
    return bool(said) and line.confidence >= (ALONE if len(said) == 1 else CONFIDENCE)


def _small(rgb: RGB) -> NDArray[np.float32]:
    """The mean of each square of `STEP` pixels, what is over at the ends left out unless there is no more."""
    height, width = (max(1, length // STEP) for length in rgb.shape[:2])
    image = Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float32)


def _upright(corners: Points) -> Points:
    """The corners of a tall box from its top right on: such a line is taken to run downwards."""
    width, height = _sides(corners)
    return np.roll(corners, -1, axis=0) if height >= 1.5 * width else corners


def _sides(corners: Points) -> tuple[float, float]:
    return float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[3] - corners[0]))


def _length(corners: Points) -> int:
    """The length of a line in pixels once it is `HEIGHT` high."""
    width, height = _sides(corners)
    return int(np.clip(round(HEIGHT * width / max(height, 1.0)), SHORTEST, WIDEST))


def _cut(image: Image.Image, corners: Points, length: int) -> Image.Image:
    first, second, third, fourth = corners.tolist()
    quad = (*first, *fourth, *third, *second)
    return image.transform((length, HEIGHT), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)


def _prepared(images: Sequence[Image.Image], width: int) -> NDArray[np.float32]:
    """(n, 3, height, width) in -1..1, blue first, filled up with grey on the right."""
    made = np.zeros((len(images), 3, images[0].height, width), np.float32)
    for index, image in enumerate(images):
        pixels = np.asarray(image, dtype=np.float32)[..., ::-1] / 127.5 - 1.0
        made[index, :, :, : image.width] = pixels.transpose(2, 0, 1)
    return made
