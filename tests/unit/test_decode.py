"""Guarded decoding: every hostile picture ends in a picture or a refusal, and the decoder lives on."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from moderation.features import decode, decode_child, header
from moderation.features.decode import Decoder, DecoderBroken, Picture, UndecodableImage, inspect
from tests import hostile
from tests.hostile import gradient, saved

PATIENCE = 60.0
"""Only a machine that stalls takes so long; slowness has a test of its own."""
SLOW = hostile.png_just_allowed()
"""Half a second of work and 200 MB, in 118 kB."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        yield decoder


def outcome(decoder: Decoder, data: bytes) -> str:
    try:
        decoder.decode(data)
    except UndecodableImage as refusal:
        return refusal.code
    return hostile.DECODED


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def gone(pid: int, seconds: float = PATIENCE) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not alive(pid)


# --- what each picture becomes -------------------------------------------------------------------------


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
    raw, composited = decoder.decode(hostile.palette_with_alpha()).frames
    assert int(composited.rgb.mean()) > int(raw.rgb.mean()) + 20


def test_sixteen_bit_grey_keeps_its_ramp(decoder: Decoder) -> None:
    row = decoder.decode(hostile.grey16()).frames[0].rgb[0, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert np.abs(row - np.linspace(0, 255, 96)).max() <= 1


def test_cmyk_keeps_its_colours(decoder: Decoder) -> None:
    data = saved(Image.new("RGB", (64, 64), (200, 40, 40)).convert("CMYK"), "JPEG")
    rgb = decoder.decode(data).frames[0].rgb
    assert np.abs(rgb.astype(int) - (200, 40, 40)).max() < 12


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


# --- the header alone ----------------------------------------------------------------------------------


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
@given(st.sampled_from(hostile.seeds()), st.binary(max_size=64), st.integers(0, 400))
def test_inspect_gives_a_header_or_a_refusal(seed: bytes, splice: bytes, at: int) -> None:
    with contextlib.suppress(UndecodableImage):
        found = inspect(seed[:at] + splice + seed[at + len(splice) // 2 :])
        assert 0 < found.width * found.height <= header.MAX_PIXELS


def test_a_refusal_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(UndecodableImage("too_slow")))
    assert (copy.code, str(copy)) == ("too_slow", header.SENTENCES["too_slow"])


# --- the child -----------------------------------------------------------------------------------------


def test_a_slow_picture_is_cut_off_and_the_next_one_is_not() -> None:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        decoder.decode(saved(gradient(), "PNG"))
        first = decoder.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # slower than any picture
        decoder._wall = 0.1
        assert outcome(decoder, SLOW) == "too_slow"
        decoder._wall = PATIENCE
        assert gone(first)
        assert outcome(decoder, saved(gradient(), "PNG")) == hostile.DECODED
        assert decoder.restarts == 1


def test_a_greedy_picture_is_refused_and_the_next_one_is_not() -> None:
    with Decoder(wall_seconds=PATIENCE, memory_bytes=100_000_000) as decoder:
        assert outcome(decoder, SLOW) in ("too_much_memory", "undecodable", "crashed")
        assert outcome(decoder, saved(gradient(), "PNG")) == hostile.DECODED


def test_a_child_killed_in_mid_decode_costs_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        small = saved(gradient(), "PNG")
        decoder.decode(small)
        pid = decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # or it might be done before it is killed
        sent = threading.Event()
        receive = decode._Child.receive

        def receiving(child: Any, seconds: float) -> bytes:
            sent.set()
            return receive(child, seconds)

        def kill() -> None:
            sent.wait(PATIENCE)
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)

        monkeypatch.setattr(decode._Child, "receive", receiving)
        killer = threading.Thread(target=kill)
        killer.start()
        results = decoder.decode_many([SLOW, small, small])
        killer.join()
        assert [getattr(result, "code", None) for result in results] == ["crashed", None, None]
        assert decoder.restarts == 1


def test_a_child_that_died_while_idle_costs_nothing() -> None:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        decoder.decode(saved(gradient(), "PNG"))
        pid = decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert outcome(decoder, saved(gradient(), "PNG")) == hostile.DECODED
        assert decoder.restarts == 0


def test_an_interrupted_call_leaves_no_answer_for_the_next(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Picture:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decode, "_result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoder.decode_many([saved(gradient(10, 10), "PNG"), saved(gradient(20, 20), "PNG")])
    assert decoder.decode(saved(gradient(30, 30), "PNG")).width == 30


def test_many_pictures_keep_their_order(decoder: Decoder) -> None:
    pictures = [saved(gradient(10 + i, 10), "PNG") if i % 7 else b"nothing" for i in range(60)]
    for i, result in enumerate(decoder.decode_many(pictures)):
        if i % 7:
            assert isinstance(result, Picture)
            assert result.width == 10 + i
        else:
            assert isinstance(result, UndecodableImage)


def test_large_pictures_both_ways_do_not_lock_up(decoder: Decoder) -> None:
    # More than a pipe holds, in and out at once.
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    frames = [noise.rotate(90 * i) for i in range(4)]
    data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)
    assert len(data) > 2_000_000
    assert all(isinstance(result, Picture) for result in decoder.decode_many([data] * 4))


def test_the_child_has_given_up_its_rights(decoder: Decoder) -> None:
    decoder.decode(saved(gradient(), "PNG"))
    limits = Path(f"/proc/{decoder.pid}/limits").read_text(encoding="ascii")
    found = {line[:26].strip(): line[26:46].strip() for line in limits.splitlines()}
    assert found["Max open files"] == "3"
    assert found["Max core file size"] == "0"
    assert found["Max file size"] == "0"
    assert int(found["Max address space"]) == decode.MEMORY_BYTES
    assert int(found["Max cpu time"]) < 60
    status = Path(f"/proc/{decoder.pid}/status").read_text(encoding="ascii")
    assert "NoNewPrivs:\t1" in status
    environment = Path(f"/proc/{decoder.pid}/environ").read_bytes()
    assert b"HOME=" not in environment
    assert len(list(Path(f"/proc/{decoder.pid}/fd").iterdir())) == 3


def test_the_child_dies_with_its_parent() -> None:
    program = (
        "import os, sys, time\n"
        "from moderation.features.decode import Decoder\n"
        "decoder = Decoder(wall_seconds=60)\n"
        "decoder.decode(sys.stdin.buffer.read())\n"
        "print(decoder.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert parent.stdin
    assert parent.stdout
    with parent, parent.stdin as stdin, parent.stdout as stdout:
        try:
            stdin.write(saved(gradient(), "PNG"))
            stdin.close()
            child = int(stdout.readline())
            # A stopped child can't notice that its pipe has closed: only the kernel's promise ends it.
            os.kill(child, signal.SIGSTOP)
        finally:
            parent.kill()
            parent.wait()
        try:
            assert gone(child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_nothing_is_left_open() -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    pids = []
    for _ in range(3):
        with Decoder(wall_seconds=PATIENCE) as decoder:
            decoder.decode(saved(gradient(), "PNG"))
            pids.append(decoder.pid)
            decoder.close()
            decoder.decode(saved(gradient(), "PNG"))
            pids.append(decoder.pid)
    assert open_files() == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_aged_child_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "RECYCLED_AFTER", 2)
    with Decoder(wall_seconds=PATIENCE) as decoder:
        pids = []
        for _ in range(4):
            decoder.decode(saved(gradient(), "PNG"))
            pids.append(decoder.pid)
        assert pids[0] == pids[1] != pids[2] == pids[3]
        assert decoder.restarts == 0


def test_a_child_that_never_starts_is_said_to_be_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit(1)", encoding="utf-8")
    monkeypatch.setattr(decode, "_CHILD", broken)
    with Decoder() as decoder, pytest.raises(DecoderBroken):
        decoder.decode(saved(gradient(), "PNG"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"[]\n",
        b'{"refused": "no such code"}\n',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": []}\n',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": [[0, "raw", 1, 1]]}\nxx',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": [[0, "raw", 1, 1]]}\nxxxx',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": [[0, "raw", -1, -1]]}\nxxx',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": [[0, "odd", 1, 1]]}\nxxx',
        b'{"width": 1, "height": 1, "total": 1, "reached": 1, "frames": [[0, [], 1, 1]]}\nxxx',
        b"[" * 100_000 + b"\n",
    ],
)
def test_the_child_is_not_believed(answer: bytes) -> None:
    with pytest.raises(decode._ChildLost):
        decode._result(header.Header("PNG", 1, 1), answer)


def test_mutated_pictures_end_in_a_picture_or_a_refusal(decoder: Decoder) -> None:
    dice = random.Random(20_261_122)
    seeds = hostile.seeds()
    results = decoder.decode_many([hostile.mutated(dice.choice(seeds), dice) for _ in range(600)])
    decoded = sum(isinstance(result, Picture) for result in results)
    assert 100 < decoded < 500, "the mutations are all harmless or all fatal, and so test little"
    assert all(isinstance(result, Picture | UndecodableImage) for result in results)
    assert decoder.decode(saved(gradient(), "PNG")).width == 96
