"""What is read of a picture before anything is decoded: its format and size, or a refusal."""

from __future__ import annotations

import contextlib
import pickle
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.features import header
from moderation.features.decode import UndecodableImage, inspect
from tests import hostile, mutations
from tests.hostile import gradient, saved


@pytest.mark.parametrize("kind", header.FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (333, 77), (1023, 1025)])
def test_inspect_reads_the_size(kind: header.Format, size: tuple[int, int]) -> None:
    found = inspect(saved(gradient(*size), kind))
    assert (found.format, found.width, found.height) == (kind, *size)
    assert found.media_type == f"image/{kind.lower()}"


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\0\0"}, {"quality": 10}])
def test_inspect_reads_each_kind_of_webp(options: dict[str, object]) -> None:
    found = inspect(saved(gradient(300, 200), "WEBP", **options))
    assert (found.width, found.height) == (300, 200)


def test_inspect_counts_scans_only_of_the_picture() -> None:
    # A thumbnail in EXIF and an archive behind the end may hold any bytes, markers of scans included.
    data = saved(gradient(), "JPEG", exif=b"Exif\0\0" + b"\xff\xda\x00\x02" * 200)
    data += b"\x00\x02" + b"\xff\xda\x00\x02" * 200
    assert inspect(data).format == "JPEG"


def test_inspect_is_quick_on_the_largest_posts() -> None:
    noise = random.Random(1).randbytes(header.MAX_BYTES - 2_000_000).replace(b"\xff", b"\xff\x00")
    photo = saved(gradient(), "JPEG")[:-2] + noise + b"\xff\xd9"
    boxes = saved(gradient(), "AVIF", speed=10) + b"\x00\x00\x00\x08free" * 1_000_000
    start = time.process_time()
    assert inspect(photo).format == "JPEG"
    for data in (hostile.segment_flood(), boxes):
        with pytest.raises(UndecodableImage):
            inspect(data)
    assert time.process_time() - start < 1.5


def test_nested_boxes_do_not_exhaust_the_stack() -> None:
    nest = b""
    for _ in range(5_000):
        nest = (len(nest) + 8).to_bytes(4) + b"moov" + nest
    with pytest.raises(UndecodableImage):
        inspect(b"\x00\x00\x00\x0cftypavif" + nest)


@settings(deadline=None)
@given(st.sampled_from(mutations.seeds()), st.binary(max_size=64), st.integers(0, 400))
def test_inspect_gives_a_header_or_a_refusal(seed: bytes, splice: bytes, at: int) -> None:
    with contextlib.suppress(UndecodableImage):
        found = inspect(seed[:at] + splice + seed[at + len(splice) // 2 :])
        assert 0 < found.width * found.height <= header.MAX_PIXELS


def test_a_refusal_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(UndecodableImage("too_slow")))
    assert (copy.code, str(copy)) == ("too_slow", header.SENTENCES["too_slow"])
