"""Borders cut off pictures: frames, letterboxes, captions above, the page that a screenshot shows around a picture.

Perceptual hashes describe the whole of a picture, so a border of 5 % makes another hash of it. A line of pixels
belongs to a border if enough of it has the colour of the outermost line. How much is enough nobody knows from
the picture alone: white paper in a white frame goes with the frame, a caption's letters interrupt its bar. So there
are several cuts, and whoever looks a picture up tries each. Only the green channel is looked at: it costs
nothing to single out, and a border that differs from what it frames in red or blue alone is hardly seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 0.2
"""The share of either side that must be left: a wide film on an upright screen leaves a quarter of it."""
LEAST_ON_PAGE = 0.1
"""The same for a picture on a page: others show it small."""
RINGING = 16
"""Lines beside a picture in which JPEG's noise may blur where it begins: two of its blocks."""

RGB = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cut:
    """What counts as a border: `share` of a line within `near` levels of 256; borders in borders by `rounds`."""

    near: int
    share: float
    rounds: int


FRAME = Cut(near=4, share=0.98, rounds=1)
"""A border that somebody drew, and nothing of the picture in it."""
PLAIN = Cut(near=12, share=0.9, rounds=3)
"""All that is plain, the picture's own background included."""
WORDS = 0.75
"""The share of a page's line that is left blank by words, and isn't by a picture."""
INK = 16
"""Levels of 256 that a page's pixels may be away from its colour."""


def framed(rgb: RGB) -> list[RGB]:
    """`rgb`, and what is left of it without its borders where it has any: one or two views."""
    return _distinct([rgb, trimmed(rgb, FRAME), trimmed(rgb, PLAIN)])


def looks(rgb: RGB) -> list[RGB]:
    """The same, and the picture that a page shows among words.

    That one is for looking up only. The greatest block of a screenshot may be the keyboard, the same below many.
    """
    return _distinct([*framed(rgb), on_page(rgb)])


def _distinct(views: list[RGB]) -> list[RGB]:
    """Each view once: those of one picture are the same if they begin at the same place and are of one size."""
    return list({(view.ctypes.data, view.shape): view for view in views}.values())


def trimmed(rgb: RGB, cut: Cut = PLAIN) -> RGB:
    """The part of an RGB picture (height, width, 3) within its borders: a view, or `rgb` itself.

    A picture of which too little would be left is a small thing on a plain page, and is left as it is.
    """
    inner = rgb
    for _ in range(cut.rounds):
        before = inner.shape
        first, last = _inside(inner[..., 1], cut)
        inner = inner[first:last]
        first, last = _inside(inner[..., 1].T, cut)
        inner = inner[:, first:last]
        if not _enough(inner, rgb, LEAST):
            return rgb
        if inner.shape == before:
            break
    return inner


def on_page(rgb: RGB) -> RGB:
    """The greatest block of a page with words on it that isn't words: a view, or `rgb` itself.

    The page is of the colour that most pixels have, and some line is blank all over.
    """
    green = rgb[..., 1]
    page = int(np.bincount(green.ravel(), minlength=256).argmax())
    blank = (green >= max(0, page - INK)) & (green <= min(255, page + INK))
    shares = blank.mean(axis=1)
    if max(shares.max(), blank.mean(axis=0).max()) < FRAME.share:
        return rgb
    top, bottom = _longest(shares < WORDS)
    left, right = _longest(blank[top:bottom].mean(axis=0) < WORDS) if bottom > top else (0, 0)
    inner = rgb[top:bottom, left:right]
    return inner if _enough(inner, rgb, LEAST_ON_PAGE) else rgb


def _enough(inner: RGB, rgb: RGB, share: float) -> bool:
    return all(left >= share * whole for left, whole in zip(inner.shape, rgb.shape, strict=True))


def _longest(lines: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest run of true begins, and where it has ended."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lines.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    best = int((ends - starts).argmax())
    return int(starts[best]), int(ends[best])


def _inside(green: RGB, cut: Cut) -> tuple[int, int]:
    """The first row of `green` (height, width) within the borders above and below, and the one after the last."""
    height = len(green)
    if not height or not green.shape[1]:
        return 0, height
    first = _border(green, cut)
    return (first, height - _border(green[::-1], cut)) if first < height else (0, 0)


def _border(green: RGB, cut: Cut) -> int:
    """How many of the first rows are of the colour of the very first; all but none, or all."""
    colour = int(np.median(green[0]))
    # The first row alone tells most pictures without a border.
    if not _alike(green[:1], colour, cut)[0]:
        return 0
    others = np.flatnonzero(~_alike(green, colour, cut))
    if not len(others):
        return len(green)
    found = int(others[0])
    # The picture begins where the step from one row to the next is greatest.
    lines = green[found - 1 : found + RINGING].astype(np.int16)
    steps = np.abs(np.diff(lines, axis=0)).mean(axis=1)
    return found + int(steps.argmax()) if len(steps) else found


def _alike(rows: RGB, colour: int, cut: Cut) -> NDArray[np.bool_]:
    """Which of the rows are nearly all of that colour."""
    low, high = max(0, colour - cut.near), min(255, colour + cut.near)
    return np.asarray(((rows >= low) & (rows <= high)).mean(axis=1) >= cut.share)
