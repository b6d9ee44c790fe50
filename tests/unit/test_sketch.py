"""Sketches: near copies share bands, others do not, and short texts only equal themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.near_duplicates import EDITS, paragraphs
from moderation.features import sketch
from moderation.features.decode import Frame, Picture
from moderation.features.hashes import perceptual_hash
from moderation.features.sketch import ALIKE, BANDS, SketchKind

POST = (
    "Looking for a flat near the station from March on, two rooms or three, quiet, with a balcony if "
    "possible; I work in town and travel by train. Who knows of something?"
)


@given(st.text())
def test_every_text_has_a_sketch_and_equals_itself(text: str) -> None:
    made = sketch.of_text(text)
    assert len(made.bands) == (1 if made.kind is SketchKind.EXACT else BANDS)
    assert sketch.share(made, sketch.of_text(f"  {text.casefold()} ")) == 1.0


@pytest.mark.parametrize(
    "edited",
    [
        POST.upper(),
        f"Dear all, {POST}",
        f"{POST} https://example.org/1",
        POST.replace("three", "four"),
    ],
)
def test_an_edited_copy_is_near(edited: str) -> None:
    assert sketch.share(sketch.of_text(POST), sketch.of_text(edited)) >= ALIKE


def test_another_text_is_not() -> None:
    other = (
        POST[: len(POST) // 3]
        + " Anything, really, as long as dogs are welcome and the rent is fair to all of us."
    )
    assert sketch.share(sketch.of_text(POST), sketch.of_text(other)) < ALIKE


def test_recall_and_precision_on_prose() -> None:
    chance = random.Random(3)
    texts = [one for one in paragraphs(chance, 300) if len(one) >= 120]
    made = [sketch.of_text(one) for one in texts]
    for name in ("another greeting in front", "an address appended", "one word changed"):
        copies = [sketch.of_text(EDITS[name](chance, one)) for one in texts]
        found = sum(sketch.share(a, b) >= ALIKE for a, b in zip(made, copies, strict=True))
        assert found / len(texts) >= 0.95, name
    wrong = sum(sketch.share(a, b) >= ALIKE for n, a in enumerate(made) for b in made[:n])
    assert wrong <= 2


def test_short_texts_are_near_only_when_equal() -> None:
    assert sketch.share(sketch.of_text("So true!"), sketch.of_text("so  TRUE!")) == 1.0
    assert sketch.share(sketch.of_text("So true!"), sketch.of_text("so true")) == 0.0
    assert sketch.of_text("x" * 19).kind is SketchKind.EXACT
    assert sketch.of_text("x" * 20).kind is SketchKind.TEXT
    assert sketch.share(sketch.of_text("x" * 19), sketch.of_text("x" * 20)) == 0.0


def test_sketches_stay_as_they_are() -> None:
    """Stored sketches are compared with those of later versions: a change here needs a migration."""
    assert (
        sketch.of_text(POST).bands[0].hex()
        == "91ae508259c2980310b465b63ec6660297a3cfc2a7803a00a5d17d35c95a6703"
    )
    assert (
        b"".join(sketch.of_hash(0x123456789ABCDEF0).bands).hex()
        == "675c522b5e3843ce032dfb31ac1b71592ec33a703dfe8a05a2ebbca463984b8d"
    )


@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=2))
def test_hashes_two_bits_apart_are_near(value: int, flipped: set[int]) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    assert sketch.share(sketch.of_hash(value), sketch.of_hash(other)) >= 0.5


def test_hashes_far_apart_share_nothing() -> None:
    assert sketch.share(sketch.of_hash(0), sketch.of_hash(2**64 - 1)) == 0.0


def test_a_picture_is_sketched_as_people_see_it() -> None:
    stored, seen = _noise(1), _noise(2)
    picture = Picture("png", 64, 64, 1, 1, (Frame(0, "raw", stored), Frame(0, "composited", seen)))
    assert sketch.of_picture(picture) == sketch.of_hash(perceptual_hash(seen))
    assert sketch.of_picture(picture) != sketch.of_hash(perceptual_hash(stored))


def test_plain_pictures_are_near_only_when_equal() -> None:
    """Any two plain pictures, or even gradients, have the same perceptual hash."""
    white, red = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    made = [sketch.of_picture(Picture("png", 64, 64, 1, 1, (Frame(0, "raw", one),))) for one in (white, red)]
    assert made[0].kind is SketchKind.EXACT
    assert sketch.share(*made) == 0.0
    assert sketch.share(made[0], made[0]) == 1.0


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
