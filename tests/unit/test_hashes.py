"""Digests of copies and hashes of near copies."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from moderation.features.hashes import hamming, perceptual_hash, sha256, text_digest
from tests.hostile import gradient

GRADIENT = 0xA06BB6599274D63C
RGB = NDArray[np.uint8]


def scene(seed: int, side: int = 256) -> RGB:
    """Smooth blobs of colour, a different scene for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def test_sha256_is_the_published_one() -> None:
    # FIPS 180-2, appendix B.1.
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "copy",
    [
        "  Buy   cheap\tWATCHES\n now ",
        "buy cheap watches now",
        "Ｂｕｙ ｃｈｅａｐ ｗａｔｃｈｅｓ ｎｏｗ",
        "buy\u00a0cheap\u2003watches\u3000now",
        "𝐛𝐮𝐲 cheap watches now",
    ],
)
def test_trivial_copies_of_a_text_share_a_digest(copy: str) -> None:
    assert text_digest(copy) == text_digest("Buy cheap watches now")


def test_the_digest_is_fixed_for_stored_banks() -> None:
    # A bank holds these bytes: a change of the normalisation orphans every entry.
    assert text_digest("  Straße ") == hashlib.sha256(b"strasse").digest()
    assert text_digest("") == hashlib.sha256(b"").digest()


def test_different_texts_differ() -> None:
    texts = ["buy watches", "buywatches", "buy watch es", "buy wätches", ""]
    assert len({text_digest(text) for text in texts}) == len(texts)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_has_a_digest_that_spacing_and_normal_forms_leave_alone(text: str) -> None:
    assert text_digest(f" {text}\n") == text_digest(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert text_digest(unicodedata.normalize(form, text)) == text_digest(text)


def test_a_changed_copy_of_a_picture_stays_near_and_another_picture_does_not() -> None:
    for seed in range(8):
        original = scene(seed)
        first = perceptual_hash(original)
        assert 0 <= first < 2**64
        image = Image.fromarray(original)
        copies = [
            image.resize((90, 120)),
            image.convert("L").convert("RGB"),
            Image.fromarray((original * 0.7).astype(np.uint8)),
        ]
        assert all(hamming(first, perceptual_hash(np.asarray(copy))) <= 8 for copy in copies)
        assert hamming(first, perceptual_hash(scene(seed + 100))) > 12


def test_the_hash_is_fixed_for_stored_banks() -> None:
    assert hamming(perceptual_hash(np.asarray(gradient())), GRADIENT) == 0


def test_hamming_counts_bits() -> None:
    assert hamming(0, 0) == 0
    assert hamming(0b1011, 0b0010) == 2
    assert hamming(0, 2**64 - 1) == 64
