"""The decoding child: what it may do, what it costs when it is lost, and that nothing it says is believed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moderation.features import decode, decode_child, header
from moderation.features.decode import Decoder, DecoderBroken, Picture, UndecodableImage
from tests import hostile, mutations
from tests.hostile import gradient, outcome, saved

PATIENCE = 60.0
"""Only a machine that stalls takes so long; slowness has a test of its own."""
SLOW = hostile.png_just_allowed()
"""Half a second of work and 200 MB, in 118 kB."""


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        yield decoder


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
    assert found["Max processes"] == "0"
    assert int(found["Max address space"]) == decode.MEMORY_BYTES
    assert int(found["Max cpu time"]) < 60
    status = Path(f"/proc/{decoder.pid}/status").read_text(encoding="ascii")
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "Threads:\t1" in status, "AVIF would be decoded in threads of its own"
    environment = Path(f"/proc/{decoder.pid}/environ").read_bytes()
    assert b"HOME=" not in environment
    assert len(list(Path(f"/proc/{decoder.pid}/fd").iterdir())) == 3


ATTEMPTS = {
    "delete": "os.unlink(victim)",
    "rename": "os.rename(victim, victim + '.moved')",
    "chmod": "os.chmod(victim, 0o777)",
    "folder": "os.mkdir(victim + '.folder')",
    "read": "os.open(victim, os.O_RDONLY)",
    "list": "os.listdir('/')",
    "signal": "os.kill(os.getppid(), 0)",
    "fork": "os.fork()",
    "execute": "os.execv('/bin/true', ['/bin/true'])",
    "connect": "socket.socket()",
    "trace": "ptrace(16, os.getppid())",
    "limit another": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU)",
}


def test_the_child_can_ask_the_kernel_for_nothing_that_would_hurt(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    program = [
        "import ctypes, importlib.util, os, resource, socket, sys",
        "spec = importlib.util.spec_from_file_location('child', sys.argv[1])",
        "child = importlib.util.module_from_spec(spec)",
        "spec.loader.exec_module(child)",
        "victim, libc = sys.argv[2], ctypes.CDLL(None, use_errno=True)",
        "def ptrace(*arguments):",
        "    if libc.ptrace(*arguments, 0, 0):",
        "        raise OSError(ctypes.get_errno(), 'refused')",
        "child.confine(os.getppid(), 1_000_000_000)",
        "child.allow_cpu(5)  # its own limit it may set",
    ]
    for name, attempt in ATTEMPTS.items():
        program += [
            "try:",
            f"    {attempt}",
            "except OSError as error:",
            f"    print({name!r}, error.errno, flush=True)",
        ]
    told = subprocess.run(
        [sys.executable, "-I", "-c", "\n".join(program), str(decode._CHILD), str(victim)],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert told.stdout.split("\n")[:-1] == [f"{name} {errno.EPERM}" for name in ATTEMPTS], told.stderr
    assert victim.read_text() == "here"
    assert [path.name for path in tmp_path.iterdir()] == ["victim"]


def test_where_calls_have_unknown_numbers_there_is_no_filter() -> None:
    assert decode_child.kernel_filter("riscv64") == b""
    assert {len(decode_child.kernel_filter(machine)) for machine in decode_child.MACHINES} == {
        8 * (len(decode_child.CALLS) + 9)
    }


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


def test_mutated_pictures_end_in_a_picture_or_a_refusal() -> None:
    with Decoder(wall_seconds=PATIENCE) as decoder:
        results = decoder.decode_many(list(mutations.pictures(500, 20_261_122)))
        decoded = sum(isinstance(result, Picture) for result in results)
        assert 50 < decoded < 400, "the accidents are all harmless or all fatal, and so test little"
        assert all(isinstance(result, Picture | UndecodableImage) for result in results)
        codes = {result.code for result in results if isinstance(result, UndecodableImage)}
        assert {"truncated", "undecodable", "too_many_pixels"} <= codes
        assert decoder.restarts == 0
        assert decoder.decode(saved(gradient(), "PNG")).width == 96
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{decoder.pid}/status").read_text())
        assert peak is not None
        assert int(peak[1]) * 1024 < decode.MEMORY_BYTES


def test_the_same_accidents_happen_again() -> None:
    assert mutations.seeds() == mutations.seeds.__wrapped__()
    first, again, other = (list(mutations.pictures(20, start)) for start in (1, 1, 2))
    assert first == again != other
    for seed in mutations.seeds():
        found = mutations.blocks(seed)
        assert found, "its blocks are not found"
        assert found[-1].end <= len(seed)
