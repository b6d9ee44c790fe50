"""PDQ, the perceptual hash that services exchange: 256 bits, of which copies of a picture share most.

Written from Facebook's description "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm"
(hashing.pdf in facebook/ThreatExchange, BSD): luminance, blurred by two passes of a box filter a 128th of each
side wide, taken at 64 x 64 points, of whose discrete cosine transform the 16 x 16 lowest frequencies without
the constant one are compared with their median. Turning or mirroring a picture moves these coefficients or
changes their sign, so one transform gives the hashes of all eight orientations.

The blur and the sampling are linear and go along one axis at a time, so both are one matrix for each axis.
That also lets a reduced picture be hashed as if it were whole: the published window is a whole number of
pixels, so that a hash depends on the size at which it is made (mean 4.4 and up to 32 bits between photographs
and their reductions to 512 pixels). Where the original's size is given, its window and its points are used, with
each pixel standing for the area of the original that it was made of: mean 0.5 and at most 6 bits on the same
photographs.

Hashes are 32 bytes in the order of the published hexadecimal form: the first bit belongs to the highest
frequency. Two unrelated pictures differ in about 128 bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BITS = 256
BYTES = BITS // 8
BLOCK = 64
"""Sampled points on each side."""
KEPT = 16
"""Frequencies kept on each side."""
SMALLEST = 5
"""Pixels on a side below which there is no hash."""
GOOD = 50
"""The quality below which the published algorithm advises to discard a hash."""
ORIENTATIONS = 8

Floats = NDArray[np.float32]
Hashes = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width in pixels."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def hashed(rgb: NDArray[np.uint8], full: Size | None = None) -> tuple[Hashes, int]:
    """The hash (32 bytes) of an RGB picture of shape (height, width, 3), and its quality from 0 to 100.

    `full` is the height and width of the picture of which this one is a reduction.
    """
    block = sampled(rgb, full)
    return bits(transformed(block)), quality(block)


def oriented(rgb: NDArray[np.uint8], full: Size | None = None) -> tuple[Hashes, int]:
    """The hashes (8, 32) of all orientations of an RGB picture, itself first, and its quality.

    In order: as it is, turned anticlockwise by 90, 180 and 270 degrees, upside down as in water, mirrored left
    to right, and mirrored at either diagonal. `full` as for `hashed`.
    """
    block = sampled(rgb, full)
    return dihedral(transformed(block)), quality(block)


def sampled(rgb: NDArray[np.uint8], full: Size | None = None) -> Floats:
    """The blurred luminance of an RGB picture at 64 x 64 points; zeroes where a side is under five pixels."""
    height, width = rgb.shape[:2]
    if min(height, width) < SMALLEST:
        return np.zeros((BLOCK, BLOCK), np.float32)
    down, across = (max(pair) for pair in zip(full or (0, 0), (height, width), strict=True))
    pixels = rgb.astype(np.float32).reshape(height, width * 3)
    # Luminance is linear too, and cheaper for the 64 rows that are left of the picture.
    rows = np.concatenate([weights @ pixels[start:end] for start, end, weights in _bands(height, down)])
    grey = rows.reshape(BLOCK, width, 3) @ _LUMA
    points = [grey[:, start:end] @ weights.T for start, end, weights in _bands(width, across)]
    return np.concatenate(points, axis=1)


def quality(block: Floats) -> int:
    """How much there is to see, from 0 to 100: steps between neighbouring points, small ones not counted."""
    steps = sum(np.abs(np.trunc(np.diff(block, axis=axis) * (100 / 255))).sum() for axis in (0, 1))
    return min(100, int(steps) // 90)


def transformed(block: Floats) -> Floats:
    """The 16 x 16 lowest frequencies of the block, vertical ones along the first axis."""
    return np.asarray(_COSINES @ block @ _COSINES.T, np.float32)


def bits(coefficients: Floats) -> Hashes:
    """The hash of one (16, 16) or more (..., 16, 16) sets of coefficients: shape (32,) or (..., 32)."""
    flat = coefficients.reshape(*coefficients.shape[:-2], BITS)
    # The lower of the two medians, as in the published algorithm: half of the bits are set.
    median = np.partition(flat, BITS // 2 - 1, axis=-1)[..., BITS // 2 - 1 : BITS // 2]
    return np.packbits((flat > median)[..., ::-1], axis=-1)


def dihedral(coefficients: Floats) -> Hashes:
    """The hashes (8, 32) of all orientations, in the order of `oriented`."""
    turned = coefficients.T
    return bits(
        np.stack(
            [
                coefficients,
                turned * _ODD[:, None],
                coefficients * _ODD[:, None] * _ODD,
                turned * _ODD,
                coefficients * _ODD[:, None],
                coefficients * _ODD,
                turned,
                turned * _ODD[:, None] * _ODD,
            ]
        )
    )


def distance(a: Hashes, b: Hashes) -> int:
    """In how many of 256 bits two hashes of 32 bytes differ."""
    return int(np.bitwise_count(a ^ b).sum())


def of_hex(text: str) -> Hashes:
    """The 32 bytes of a hash in its published form of 64 hexadecimal digits.

    Raises:
        ValueError: it is anything else.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    # Blanks between digits are read over, so both lengths count.
    if len(text) != 2 * BYTES or len(value) != BYTES:
        raise ValueError("A PDQ hash is 64 hexadecimal digits.")
    return np.frombuffer(value, np.uint8)


def _sampler(length: int, full: int) -> Floats:
    """The matrix (64, length) that blurs a line of pixels twice and takes it at 64 points.

    The line has `length` pixels, made of equal shares of `full` pixels, for which window and points are.
    """
    window = -(-full // (2 * BLOCK))
    before, after = window - (window + 2) // 2, (window + 2) // 2 - 1
    points = ((np.arange(BLOCK) + 0.5) * full / BLOCK).astype(np.intp)[:, None]

    def counted(at: NDArray[np.intp]) -> NDArray[np.intp]:
        """How many pixels of the line are in the window at a place."""
        return np.minimum(at + after, full - 1) - np.maximum(at - before, 0) + 1

    # Of either pass, each point's weights from the first place that can have any.
    once = points + np.arange(-before, after + 1)
    inside = (once >= 0) & (once < full)
    weights = np.where(inside, 1.0 / (counted(points) * counted(np.where(inside, once, 0))), 0.0)
    sums = _summed(weights)
    twice = np.arange(2 * window - 1)
    weights = sums[:, np.minimum(twice + 1, window)] - sums[:, np.maximum(twice - window + 1, 0)]
    places = points - 2 * before + twice
    sums = _summed(np.where((places >= 0) & (places < full), weights, 0.0))
    edges = np.clip(np.arange(length + 1) * (full / length) - (points - 2 * before), 0, 2 * window - 1)
    whole = np.minimum(edges.astype(np.intp), 2 * window - 2)
    low, high = (np.take_along_axis(sums, index, axis=1) for index in (whole, whole + 1))
    return np.asarray(np.diff(low + (high - low) * (edges - whole), axis=1), np.float32)


@lru_cache(maxsize=64)
def _bands(length: int, full: int) -> tuple[tuple[int, int, Floats], ...]:
    """`_sampler` without most of its zeroes: for four points at a time, from where to where, and the weights.

    Products this small are also left to one thread by the libraries that multiply, which wait long for each
    other's threads on a busy machine.
    """
    matrix = _sampler(length, full)
    bands = []
    for first in range(0, BLOCK, 4):
        used = np.flatnonzero(matrix[first : first + 4].any(axis=0))
        start, end = int(used[0]), int(used[-1]) + 1
        bands.append((start, end, np.ascontiguousarray(matrix[first : first + 4, start:end])))
    return tuple(bands)


def _summed(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, ... weights of each row."""
    return np.pad(weights.cumsum(axis=1), ((0, 0), (1, 0)))


_ODD = np.where(np.arange(1, KEPT + 1) % 2, -1.0, 1.0).astype(np.float32)
"""What mirroring does along an axis: cosines of odd frequency change their sign."""
_COSINES = (
    np.sqrt(2 / BLOCK)
    * np.cos(np.pi / (2 * BLOCK) * np.outer(np.arange(1, KEPT + 1), 2 * np.arange(BLOCK) + 1))
).astype(np.float32)
