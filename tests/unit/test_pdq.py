"""PDQ agrees with published hashes, with the published program, and with itself in all eight orientations.

`tests/pdq_published.csv` has the table of hashes published in facebook/ThreatExchange (pdq/python/README.md, BSD)
and what its program, by `pdqhash` 0.2.8, makes of `drawn` pictures. MODERATION_PDQ_VECTORS names a folder with the
pictures of that table (pdq/data in the same place), where there is one.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from moderation.features import pdq
from moderation.features.decode import Decoder
from moderation.features.fingerprints import asked

RGB = NDArray[np.uint8]
ROWS = list(csv.DictReader((Path(__file__).parents[1] / "pdq_published.csv").read_text().splitlines()))
DRAWN = sorted({(row["picture"], row["quality"]) for row in ROWS if row["picture"].startswith("drawn")})
PUBLISHED = [row for row in ROWS if not row["picture"].startswith("drawn")]
VECTORS = os.environ.get("MODERATION_PDQ_VECTORS")
TURNS = (
    lambda rgb: rgb,
    lambda rgb: np.rot90(rgb, 1),
    lambda rgb: np.rot90(rgb, 2),
    lambda rgb: np.rot90(rgb, 3),
    np.flipud,
    np.fliplr,
    lambda rgb: rgb.transpose(1, 0, 2),
    lambda rgb: np.rot90(rgb, 2).transpose(1, 0, 2),
)


def drawn(height: int, width: int, seed: int) -> RGB:
    """Overlapping waves, in whole numbers so that they are the same everywhere."""
    y, x = np.mgrid[:height, :width]
    channels = []
    for channel in range(3):
        total = np.zeros((height, width), np.int64)
        for wave in range(1, 6):
            key = seed * 1009 + channel * 331 + wave * 73
            steps = (x * (key % 7 + 1) * 512) // width + (y * (key % 11 + 1) * 512) // height
            phase = (steps + key % 512) % 512
            total += np.minimum(phase, 511 - phase) * (6 - wave)
        channels.append(total // 15)
    return np.stack(channels, axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(wall_seconds=60) as decoder:
        yield decoder


@pytest.mark.parametrize(("name", "quality"), DRAWN)
def test_hashes_are_those_of_the_published_program(name: str, quality: str) -> None:
    height, width, seed = map(int, name.split()[1:])
    hashes, said = pdq.oriented(drawn(height, width, seed))
    expected = np.stack([pdq.of_hex(row["hash"]) for row in ROWS if row["picture"] == name])
    # Rounding differs between machines, so that the one coefficient nearest to the median may.
    assert max(pdq.distance(*pair) for pair in zip(hashes, expected, strict=True)) <= 2
    assert abs(said - int(quality)) <= 1
    assert pdq.distance(pdq.hashed(drawn(height, width, seed))[0], hashes[0]) == 0


def test_published_hashes_of_one_picture_are_near_and_those_of_others_far() -> None:
    hashes = [pdq.of_hex(row["hash"]) for row in PUBLISHED]
    assert len(hashes) == 12
    assert max(pdq.distance(a, b) for a in hashes for b in hashes) == 22
    others = [pdq.of_hex(row["hash"]) for row in ROWS if row["picture"].startswith("drawn")]
    assert min(pdq.distance(a, b) for a in hashes for b in others) > 80


@pytest.mark.skipif(not VECTORS, reason="MODERATION_PDQ_VECTORS names no folder with the published pictures")
def test_published_pictures_have_the_published_hashes(decoder: Decoder) -> None:
    for row in PUBLISHED:
        data = (Path(VECTORS or "") / row["picture"]).read_bytes()
        picture = asked(decoder.decode(data), b"")
        # Those of 512 pixels and less are equal; the others were published of reductions to that size.
        assert pdq.distance(picture.pdq[0], pdq.of_hex(row["hash"])) <= 10, row["picture"]
        assert picture.quality == int(row["quality"])


@pytest.mark.skipif(not VECTORS, reason="MODERATION_PDQ_VECTORS names no folder with the published pictures")
def test_published_orientations_and_colours_are_found(decoder: Decoder) -> None:
    folder = Path(VECTORS or "")
    bridge, *turned = [
        asked(decoder.decode(file.read_bytes()), b"") for file in sorted(folder.glob("bridge-*"))
    ]
    for number, other in enumerate(turned, 1):
        assert pdq.distance(bridge.pdq[number], other.pdq[0]) <= 10, number
    first, *others = [
        asked(decoder.decode((folder / name).read_bytes()), b"").pdq[0]
        for name in ("RGB.jpg", "CMYK.jpg", "L.png", "P.png")
    ]
    assert [pdq.distance(first, other) for other in others] == [0, 0, 0]


def scene(height: int, width: int, seed: int) -> RGB:
    """Detail of every size, as photographs have it."""
    chance = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for side in (3, 7, 15, 31, 63):
        coarse = Image.fromarray(chance.integers(0, 256, (side, side, 3), np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / side
    return np.asarray(total / total.max() * 255, np.uint8)


@given(st.integers(0, 50))
@settings(max_examples=5, deadline=None)
def test_one_transform_gives_the_hashes_of_all_orientations(seed: int) -> None:
    # Windows of an odd number of pixels have a middle, so that turning them moves next to nothing.
    rgb = scene(384, 640, seed)
    hashes, _ = pdq.oriented(rgb)
    for turn, expected in zip(TURNS, hashes, strict=True):
        made, _ = pdq.hashed(np.ascontiguousarray(turn(rgb)))
        assert pdq.distance(made, expected) <= 12


@given(st.integers(0, 50), st.integers(200, 400), st.integers(200, 400), st.floats(1.2, 3.0))
@settings(max_examples=5, deadline=None)
def test_a_reduction_has_the_hash_of_the_whole(seed: int, height: int, width: int, scale: float) -> None:
    whole = scene(round(height * scale), round(width * scale), seed)
    part = np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BOX))
    expected, _ = pdq.hashed(whole)
    assert pdq.distance(pdq.hashed(part, whole.shape[:2])[0], expected) <= 10


def test_quality_tells_plain_pictures() -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    assert pdq.hashed(grey)[1] == 0
    assert pdq.hashed(drawn(300, 400, 1))[1] == 100
    assert pdq.hashed(drawn(4, 400, 1))[1] == 0


@given(st.integers(1, 80), st.integers(1, 80))
def test_every_size_has_a_hash(height: int, width: int) -> None:
    hashes, quality = pdq.oriented(drawn(height, width, 3))
    assert hashes.shape == (8, 32)
    assert 0 <= quality <= 100


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "g" * 64, "0 " * 32, " " * 64])
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        pdq.of_hex(text)
