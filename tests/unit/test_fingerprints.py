"""What pictures are looked up with finds what a bank keeps of their originals, and of no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from moderation.features import pdq
from moderation.features.decode import Decoder, Frame, Picture
from moderation.features.fingerprints import MATCH, PHASH_REVIEW, REVIEW, Asked, Kept, asked, kept
from moderation.features.hashes import hamming, sha256

RGB = NDArray[np.uint8]
Edit = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(wall_seconds=60) as decoder:
        yield decoder


def scene(seed: int, width: int = 900, height: int = 620) -> Image.Image:
    """Detail of every size, as photographs have it."""
    chance = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for side in (3, 7, 15, 31, 63, 127):
        coarse = Image.fromarray(chance.integers(0, 256, (side, side, 3), np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / side
    spread = (total - total.mean()) / total.std()
    return Image.fromarray(np.asarray(np.clip(128 + 60 * spread, 0, 255), np.uint8))


def on_page(image: Image.Image) -> Image.Image:
    """Between words, as a chat shows it."""
    page = ImageOps.expand(image, (80, 300), "white")
    pen = ImageDraw.Draw(page)
    for top in (40, 150, image.height + 340, image.height + 450):
        pen.text((60, top), "have you seen this one?", font=ImageFont.load_default(48), fill="black")
    return ImageOps.expand(page, (0, 60), "navy")


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


COPIES: dict[str, Edit] = {
    "itself": lambda image: image,
    "half its size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "grey": lambda image: image.convert("L"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned back": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "turned about": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned and mirrored": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "framed": lambda image: ImageOps.expand(image, 40, "white"),
    "letterboxed and turned": lambda image: ImageOps.expand(image, (0, 90), "black").transpose(
        Image.Transpose.ROTATE_90
    ),
    "on a page": on_page,
    "cropped by a tenth": lambda image: image.crop((45, 31, 855, 589)),
    "cropped by a quarter": lambda image: image.crop((112, 77, 788, 543)),
}


def nearest(mine: Asked, entry: Kept) -> int:
    """The least distance in bits between any two hashes."""
    return min(pdq.distance(a, b) for a in mine.pdq for b in entry.pdq)


@pytest.mark.parametrize("name", COPIES)
def test_copies_match_what_a_bank_keeps(decoder: Decoder, name: str) -> None:
    entry = kept(decoder.decode(saved(scene(1), quality=95)))
    mine = asked(decoder.decode(saved(COPIES[name](scene(1)), quality=60)), b"")
    assert nearest(mine, entry) <= MATCH
    assert nearest(asked(decoder.decode(saved(COPIES[name](scene(2)))), b""), entry) > REVIEW


def test_a_framed_entry_matches_the_picture_in_it(decoder: Decoder) -> None:
    entry = kept(decoder.decode(saved(COPIES["framed"](scene(1)))))
    assert nearest(asked(decoder.decode(saved(scene(1))), b""), entry) <= MATCH


def test_a_page_is_not_kept_by_its_greatest_block(decoder: Decoder) -> None:
    entry = kept(decoder.decode(saved(COPIES["on a page"](scene(1)))))
    assert nearest(asked(decoder.decode(saved(scene(1))), b""), entry) > REVIEW


def test_the_second_hash_bears_more_than_the_first(decoder: Decoder) -> None:
    entry = kept(decoder.decode(saved(scene(1))))
    mine = asked(decoder.decode(saved(scene(1).crop((0, 0, 880, 606)))), b"")
    assert nearest(mine, entry) > MATCH
    assert entry.phash is not None
    assert min(hamming(entry.phash, value) for value in mine.phashes) <= PHASH_REVIEW


def test_plain_pictures_have_no_hash(decoder: Decoder) -> None:
    for colour in ("white", "grey"):
        picture = decoder.decode(saved(Image.new("RGB", (400, 300), colour), "PNG"))
        mine, entry = asked(picture, b"\x01" * 32), kept(picture)
        assert (mine.pdq.shape, mine.phashes, mine.quality) == ((0, 32), (), 0)
        assert (entry.pdq.shape, entry.phash) == ((0, 32), None)
        assert Asked.unpack(mine.pack()).pdq.shape == (0, 32)


def test_every_frame_is_asked_and_kept(decoder: Decoder) -> None:
    first, *others = [scene(seed, 300, 300) for seed in range(4)]
    data = saved(first, "WEBP", save_all=True, append_images=others, duration=100)
    for seed in range(4):
        one = decoder.decode(saved(scene(seed, 300, 300)))
        assert nearest(asked(decoder.decode(data), b""), kept(one)) <= MATCH
        assert nearest(asked(one, b""), kept(decoder.decode(data))) <= MATCH


def test_what_transparency_hides_is_asked_but_not_kept() -> None:
    hidden, page = (np.asarray(scene(seed, 300, 300)) for seed in (1, 2))
    frames = (Frame(0, "raw", hidden), Frame(0, "composited", page))
    picture = Picture("PNG", 300, 300, 1, 1, frames)
    secret = kept(Picture("PNG", 300, 300, 1, 1, frames[:1]))
    assert nearest(asked(picture, b""), secret) <= MATCH
    assert nearest(asked(Picture("PNG", 300, 300, 1, 1, frames[:1]), b""), kept(picture)) > REVIEW


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
def test_a_reduced_photograph_that_exif_turns_is_hashed_as_if_whole(
    decoder: Decoder, orientation: int
) -> None:
    image = scene(5, 1200, 810)
    exif = Image.Exif()
    exif[0x0112] = orientation
    mine = asked(decoder.decode(saved(image, exif=exif, quality=95)), b"")
    upright = ImageOps.exif_transpose(Image.open(BytesIO(saved(image, exif=exif, quality=95))))
    whole, _ = pdq.hashed(np.asarray(upright))
    assert pdq.distance(mine.pdq[0], whole) <= 2


@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.binary(min_size=32, max_size=32), max_size=5),
    st.lists(st.integers(0, 2**64 - 1), max_size=3),
    st.integers(0, 100),
)
def test_what_is_packed_is_unpacked(
    sha: bytes, hashes: list[bytes], phashes: list[int], quality: int
) -> None:
    rows = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    mine = Asked.unpack(Asked(sha, rows, tuple(phashes), quality).pack())
    assert (mine.sha256, mine.phashes, mine.quality) == (sha, tuple(phashes), quality)
    assert (mine.pdq == rows).all()
    entry = Kept.unpack(Kept(rows, phashes[0] if phashes else None).pack())
    assert entry.phash == (phashes[0] if phashes else None)
    assert (entry.pdq == rows).all()


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_read_whole(data: bytes) -> None:
    for kind in (Asked, Kept):
        try:
            one = kind.unpack(data)
        except ValueError:
            continue
        assert one.pack() == data


def test_cut_records_are_refused(decoder: Decoder) -> None:
    picture = decoder.decode(saved(scene(1)))
    for kind, packed in ((Asked, asked(picture, sha256(b"")).pack()), (Kept, kept(picture).pack())):
        for end in (0, 1, len(packed) // 2, len(packed) - 1):
            with pytest.raises(ValueError, match="hashes"):
                kind.unpack(packed[:end])
        with pytest.raises(ValueError, match="hashes"):
            kind.unpack(packed + b"\0")


def test_a_bank_keeps_few_hashes_of_a_picture(decoder: Decoder) -> None:
    for image, most in ((scene(1), 8), (COPIES["framed"](scene(1)), 9)):
        entry = kept(decoder.decode(saved(image)))
        assert 8 <= len(entry.pdq) <= most
        assert pdq.distance(entry.pdq[0], asked(decoder.decode(saved(image)), b"").pdq[0]) == 0


def test_hashes_from_others_are_kept_as_they_are() -> None:
    text = "d8f8f0cce0f4a84f0e370a22028f67f0b36e2ed596623e1d33e6b39c4e9c9b22"
    entry = Kept.of_hash(text)
    assert (entry.pdq.tobytes().hex(), entry.pdq.shape, entry.phash) == (text, (1, 32), None)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        Kept.of_hash(text[:-1])
