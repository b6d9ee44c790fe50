"""Guarded decoding: every hostile picture ends in a picture or a refusal, and every picture as people see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from moderation.features import decode, decode_child, header
from moderation.features.decode import Decoder
from tests import hostile
from tests.hostile import gradient, outcome, saved

PATIENCE = 60.0
"""Only a machine that stalls takes so long; slowness has a test of its own."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        yield decoder


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.name)
def test_hostile_picture_ends_as_it_should(decoder: Decoder, case: hostile.Case) -> None:
    restarts = decoder.restarts
    assert outcome(decoder, case.make()) in case.allowed
    assert outcome(decoder, saved(gradient(), "PNG")) == hostile.DECODED
    assert decoder.restarts == restarts, "the child was lost over a picture that it should have refused"


@pytest.mark.parametrize("kind", header.FORMATS)
def test_every_format_shows_its_pixels(decoder: Decoder, kind: header.Format) -> None:
    picture = decoder.decode(saved(gradient(), kind, quality=95))
    assert (picture.format, picture.width, picture.height) == (kind, 96, 64)
    assert (picture.total, picture.reached) == (1, 1)
    (frame,) = picture.frames
    assert (frame.index, frame.variant) == (0, "raw")
    assert not frame.rgb.flags.writeable
    difference = np.abs(frame.rgb.astype(int) - np.asarray(gradient()).astype(int))
    assert difference.mean() < 8


def test_a_large_picture_comes_small_and_keeps_its_shape(decoder: Decoder) -> None:
    for kind in ("JPEG", "PNG"):
        picture = decoder.decode(saved(gradient(1500, 1000), kind))
        assert (picture.width, picture.height) == (1500, 1000)
        rgb = picture.frames[0].rgb
        assert rgb.shape == (341, 512, 3)
        assert rgb[10, 500, 0] > 240
        assert rgb[10, 500, 1] < 20


def test_a_sliver_keeps_a_pixel_each_way(decoder: Decoder) -> None:
    assert decoder.decode(saved(gradient(4000, 2), "PNG")).frames[0].rgb.shape == (1, 512, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientation_is_applied(decoder: Decoder, kind: str, value: int) -> None:
    data = hostile.oriented(value, kind)
    picture = decoder.decode(data)
    with Image.open(BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    assert picture.frames[0].rgb.shape == expected.shape
    assert np.abs(picture.frames[0].rgb - expected).max() <= 2
    assert (picture.width, picture.height) == (96, 64)


def test_what_transparency_hides_is_seen_raw_and_what_people_see_is_seen_too(decoder: Decoder) -> None:
    raw, composited = decoder.decode(hostile.hidden()).frames
    assert (raw.variant, composited.variant) == ("raw", "composited")
    assert np.array_equal(raw.rgb, np.asarray(gradient()))
    assert (composited.rgb == 255).all()


def test_a_sieve_of_holes_is_mixed_before_it_is_scaled(decoder: Decoder) -> None:
    # Half the pixels are black and opaque, the others hidden: on white that reads as middle grey. Scaling
    # first would mix black with the hidden white and then with the page, and end near 191.
    _, composited = decoder.decode(hostile.sieve()).frames
    assert abs(float(composited.rgb.mean()) - 127.5) < 4


def test_alpha_that_hides_nothing_adds_no_variant(decoder: Decoder) -> None:
    image = gradient()
    image.putalpha(255)
    assert [frame.variant for frame in decoder.decode(saved(image, "PNG")).frames] == ["raw"]


def test_palette_alpha_is_composited(decoder: Decoder) -> None:
    raw, composited, *_ = decoder.decode(hostile.palette_with_alpha()).frames
    assert int(composited.rgb.mean()) > int(raw.rgb.mean()) + 20


def test_sixteen_bit_grey_keeps_its_ramp(decoder: Decoder) -> None:
    row = decoder.decode(hostile.grey16()).frames[0].rgb[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert np.abs(row - np.linspace(0, 255, 96)).max() <= 1


@pytest.mark.parametrize(
    ("colour", "channels", "mean"),
    [(2, 3, 127), (4, 2, 127), (6, 4, 127)],
    ids=["rgb", "grey-alpha", "rgba"],
)
def test_sixteen_bits_of_any_kind_keep_the_upper_eight(
    decoder: Decoder, colour: int, channels: int, mean: int
) -> None:
    picture = decoder.decode(hostile.png16(colour, *[hostile.ramp16()] * channels))
    raw = picture.frames[0].rgb.astype(int)
    assert abs(raw.mean() - mean) < 2
    assert np.abs(raw - (hostile.ramp16() >> 8)[..., None]).max() <= 1


def test_what_sixteen_bit_grey_hides_is_white_on_a_page(decoder: Decoder) -> None:
    raw, composited = decoder.decode(hostile.grey16_with_hidden()).frames
    assert raw.rgb[0, 0].tolist() == [0x12] * 3
    assert composited.rgb[0, 0].tolist() == [255] * 3
    assert raw.rgb[0, -1].tolist() == composited.rgb[0, -1].tolist() == [0x80] * 3


@pytest.mark.parametrize("make", [hostile.ycck, hostile.cmyk], ids=["ycck", "cmyk"])
def test_four_channels_keep_their_colours(decoder: Decoder, make: Callable[[], bytes]) -> None:
    rgb = decoder.decode(make()).frames[0].rgb
    assert np.abs(rgb.astype(int) - (200, 40, 40)).max() < 12


@pytest.mark.parametrize(
    ("mode", "kind"),
    [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [("L", "JPEG"), ("L", "WEBP"), ("1", "GIF"), ("L", "GIF"), ("LA", "AVIF"), ("L", "AVIF")],
)
def test_each_mode_comes_as_rgb(decoder: Decoder, mode: str, kind: str) -> None:
    image = gradient().convert(mode)
    found = decoder.decode(saved(image, kind)).frames[0].rgb
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_a_mode_nobody_thought_of_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_child, "MODES", decode_child.MODES - {"LA"})
    data = saved(gradient().convert("LA"), "PNG")
    assert b"undecodable" in decode_child.answer(b"PNG ", data, 40_000_000)
    assert b"refused" not in decode_child.answer(b"PNG ", saved(gradient(), "PNG"), 40_000_000)


@pytest.mark.parametrize("page", [(255, 255, 255, 0), (0, 0, 0, 0)])
def test_white_on_nothing_is_seen_on_a_black_page(decoder: Decoder, page: tuple[int, int, int, int]) -> None:
    frames = {frame.variant: frame.rgb for frame in decoder.decode(hostile.white_on_nothing(page)).frames}
    assert list(frames) == ["raw", "composited", "dark"]
    assert (frames["composited"] == 255).all()
    assert frames["dark"][100, 150].tolist() == [255] * 3
    assert frames["dark"][30, 30].tolist() == [0] * 3


def test_a_hole_in_white_is_seen_on_a_black_page(decoder: Decoder) -> None:
    *_, dark = decoder.decode(hostile.holes_in_white()).frames
    assert dark.variant == "dark"
    assert (dark.rgb[100, 150].max(), dark.rgb[5, 5].min()) == (0, 255)


def test_a_black_page_that_shows_no_more_is_not_looked_at(decoder: Decoder) -> None:
    dark_ink = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    dark_ink.paste((90, 20, 60, 255), (50, 50, 200, 150))
    corners = gradient(300, 200)
    corners.putalpha(Image.new("L", corners.size, 255))
    corners.putpixel((0, 0), (255, 255, 255, 0))
    for image in (dark_ink, corners):
        found = decoder.decode(saved(image, "PNG")).frames
        assert [frame.variant for frame in found] == ["raw", "composited"]


def test_an_odd_gamma_is_seen_as_browsers_show_it(decoder: Decoder) -> None:
    raw, composited = decoder.decode(hostile.odd_gamma()).frames
    assert (raw.variant, composited.variant) == ("raw", "composited")
    assert np.median(raw.rgb) >= 240
    seen, meant = composited.rgb.astype(int), np.asarray(gradient()).astype(int)
    assert np.corrcoef(seen.ravel(), meant.ravel())[0, 1] > 0.9, "coarse, as it was stored"
    assert [frame.variant for frame in decoder.decode(hostile.odd_gamma(0.45455)).frames] == ["raw"]
    assert [frame.variant for frame in decoder.decode(hostile.odd_gamma(0.0)).frames] == ["raw"]


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(64, 48), (900, 40), (800, 700)]))
def test_the_black_page_equals_one_mixed_at_full_size(seed: int, size: tuple[int, int]) -> None:
    # It is computed from the white one after shrinking, which is far cheaper.
    dice = np.random.default_rng(seed)
    pixels = dice.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    pixels[..., :3] |= 0xE0
    image = Image.fromarray(pixels)
    _, samples = decode_child.decode(b"PNG ", saved(image, "PNG", compress_level=1), 40_000_000)
    dark = next(small for _, variant, small in samples if variant == "dark")
    page = Image.new("RGB", size, "black")
    page.paste(image, mask=image.getchannel("A"))
    expected = np.asarray(decode_child.shrunk(page)).astype(int)
    assert np.abs(np.asarray(dark) - expected).max() <= 3


@pytest.mark.parametrize(
    ("data", "total", "indices"),
    [
        (hostile.apng(8), 8, [0, 2, 5, 7]),
        (hostile.webp_animation(12), 12, [0, 4, 7, 11]),
        (hostile.avif_animation(5), 5, [0, 1, 3, 4]),
        (hostile.gif_with_palettes(40), 40, [0, 13, 26, 39]),
    ],
    ids=["png", "webp", "avif", "gif"],
)
def test_an_animation_is_sampled_from_end_to_end(
    decoder: Decoder, data: bytes, total: int, indices: list[int]
) -> None:
    picture = decoder.decode(data)
    assert (picture.total, picture.reached) == (total, total)
    assert [frame.index for frame in picture.frames if frame.variant == "raw"] == indices
    first, last = picture.frames[0].rgb.astype(int), picture.frames[-1].rgb.astype(int)
    assert np.abs(first - last).mean() > 10


def test_a_long_animation_says_how_far_it_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_child, "ANIMATION_SECONDS", 60.0)
    monkeypatch.setattr(decode_child, "PIXELS_REACHED", 50 * 32 * 24)
    facts, samples = decode_child.decode(b"GIF ", hostile.long_gif(200, 32, 24), 40_000_000)
    assert (facts["total"], facts["reached"]) == (200, 50)
    assert [index for index, _, _ in samples] == [0, 16, 33, 49]
    monkeypatch.setattr(decode_child, "FRAMES_REACHED", 10)
    facts, _ = decode_child.decode(b"GIF ", hostile.long_gif(200, 32, 24), 40_000_000)
    assert facts["reached"] == 10


def test_the_child_counts_pixels_itself() -> None:
    data = saved(gradient(), "PNG")
    decode_child.decode(b"PNG ", data, 96 * 64)
    with pytest.raises(decode_child.TooManyPixels):
        decode_child.decode(b"PNG ", data, 96 * 64 - 1)
    assert b"too_many_pixels" in decode_child.answer(b"PNG ", data, 96 * 64 - 1)


@pytest.mark.parametrize(("width", "height"), [(0, 4), (-4, -4), (10**12, 4), (40_000_001, 1)])
def test_a_size_that_can_not_be_is_not_believed(width: int, height: int) -> None:
    facts = {"width": width, "height": height, "total": 1, "reached": 1, "frames": [(0, "raw", 4, 4)]}
    answer = json.dumps(facts).encode() + b"\n" + bytes(4 * 4 * 3)
    with pytest.raises(decode._ChildLost):
        decode._result(header.Header("PNG", 4, 4), answer)


def test_an_animation_stops_at_its_time_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_child, "ANIMATION_SECONDS", 0.0)
    facts, samples = decode_child.decode(b"GIF ", hostile.long_gif(100), 40_000_000)
    assert facts["reached"] == 1
    assert [index for index, _, _ in samples] == [0]


def test_spread_takes_both_ends() -> None:
    assert [decode_child.spread(n) for n in (1, 2, 3, 4, 100)] == [
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 33, 66, 99],
    ]
