"""Borders come off to the pixel or nearly so, and pictures without one stay whole."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from moderation.features import trimming
from moderation.features.trimming import framed, looks, on_page, trimmed

RGB = NDArray[np.uint8]
COLOURS = ((0, 0, 0), (255, 255, 255), (30, 90, 200), (128, 128, 128))


def busy(height: int, width: int, seed: int = 1) -> RGB:
    """Something that is nowhere plain."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(seed).integers(-60, 60, (height, width, 1))
    return np.asarray(np.clip(smooth + grain, 0, 255), np.uint8)


def bordered(rgb: RGB, sides: tuple[int, int, int, int], colour: tuple[int, int, int]) -> RGB:
    """With `sides` pixels of one colour above, below, left and right."""
    top, bottom, left, right = sides
    whole = np.full((rgb.shape[0] + top + bottom, rgb.shape[1] + left + right, 3), colour, np.uint8)
    whole[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
    return whole


def saved(rgb: RGB, quality: int) -> RGB:
    """As it comes out of a JPEG."""
    file = BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@given(
    st.integers(80, 300),
    st.integers(80, 300),
    st.tuples(*[st.integers(0, 60)] * 4),
    st.sampled_from(COLOURS),
)
@settings(deadline=None, max_examples=40)
def test_a_drawn_border_comes_off(
    height: int, width: int, sides: tuple[int, ...], colour: tuple[int, ...]
) -> None:
    rgb = busy(height, width)
    top, bottom, left, right = sides
    whole = bordered(rgb, (top, bottom, left, right), (colour[0], colour[1], colour[2]))
    for inner in framed(whole)[1:] if any(sides) else framed(whole):
        assert inner.shape == rgb.shape
        assert (inner == rgb).all()


@pytest.mark.parametrize("colour", COLOURS)
def test_noise_beside_the_picture_hides_no_border(colour: tuple[int, int, int]) -> None:
    rgb = busy(300, 400)
    inner = trimmed(saved(bordered(rgb, (37, 50, 21, 44), colour), 30))
    assert np.abs(np.subtract(inner.shape, rgb.shape)).max() <= 2


def test_a_letterbox_within_a_screen_comes_off() -> None:
    rgb = busy(200, 400)
    inside = bordered(rgb, (40, 40, 0, 0), (0, 0, 0))
    assert trimmed(bordered(inside, (90, 90, 0, 0), (255, 255, 255))).shape == rgb.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (300, 400)])
def test_plain_pictures_stay_whole(shape: tuple[int, int]) -> None:
    grey = np.full((*shape, 3), 128, np.uint8)
    assert [one.shape for one in looks(grey)] == [grey.shape]


def test_little_things_on_plain_pages_stay_where_they_are() -> None:
    page = bordered(busy(40, 40), (300, 300, 300, 300), (255, 255, 255))
    assert [one.shape for one in looks(page)] == [page.shape]


def test_pictures_without_borders_have_one_look() -> None:
    rgb = busy(300, 400)
    assert looks(rgb)[0] is rgb
    assert len(looks(rgb)) == 1


def test_a_picture_among_words_is_found() -> None:
    rgb = busy(300, 500)
    page = Image.fromarray(bordered(rgb, (400, 500, 60, 90), (255, 255, 255)))
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, page.width, 60), fill=(0, 100, 90))
    for top in (120, 200, 780, 900, 1000):
        pen.text((40, top), "have you seen this one?", font=ImageFont.load_default(40), fill="black")
    inner = on_page(np.asarray(page))
    assert (inner == rgb).all()
    assert any(one.shape == rgb.shape for one in looks(np.asarray(page)))
    # What a bank keeps must not be a block of a page, which may be the same on many.
    assert all(one.shape != rgb.shape for one in framed(np.asarray(page)))


def test_views_are_no_copies() -> None:
    whole = bordered(busy(100, 100), (20, 20, 20, 20), (0, 0, 0))
    assert all(np.shares_memory(one, whole) for one in looks(whole))
    assert trimming.LEAST_ON_PAGE < trimming.LEAST
