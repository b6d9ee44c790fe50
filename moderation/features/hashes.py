"""Digests for exact copies and perceptual hashes for near copies."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def sha256(data: bytes) -> bytes:
    """The 32 bytes of SHA-256 of `data`."""
    return hashlib.sha256(data).digest()


def normalised(text: str) -> str:
    """`text` without what makes no difference to a reader: case, width, kind and run of spaces.

    NFKC and casefold as Unicode's definition D146 of a compatibility caseless match combines them, then any
    run of white space as one blank, none at the ends.
    """
    for _ in range(2):  # Folding can undo normalising, and the other way round; twice is a fixed point.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", text).casefold())
    return " ".join(text.split())


def text_digest(text: str) -> bytes:
    """SHA-256 of the `normalised` text: 32 bytes, the same for copies that read the same."""
    # Half a surrogate pair is refused at the door; here it must not be an error of its own.
    return sha256(normalised(text).encode("utf-8", "surrogatepass"))


def perceptual_hash(rgb: NDArray[np.uint8]) -> int:
    """64-bit pHash of an RGB picture of shape (height, width, 3), from 0 to 2**64 - 1.

    The signs of the 64 lowest DCT coefficients against their median, by `imagehash.phash`. Copies that
    were scaled, compressed or recoloured stay within a Hamming distance of 8; crops, turns and mirror
    images do not. A picture of one colour has next to no coefficients and matches others like it.
    """
    import imagehash  # brings scipy, which only this function needs

    return int(str(imagehash.phash(Image.fromarray(rgb, "RGB"))), 16)


def hamming(a: int, b: int) -> int:
    """How many bits of two hashes differ, 0 to 64."""
    return (a ^ b).bit_count()
