"""Pictures to small RGB arrays, decoded in a child process that may be killed at any moment.

Image libraries are C, and what they are given here was made by strangers. So the bytes of a picture are
decoded only in `decode_child`, a process without the right to open a file or to ask the kernel for anything
but memory and the time, with caps on memory and CPU time, which dies with its parent and is killed when a
picture takes longer than the wall limit. A picture that does so costs itself alone: the next one finds a new
child.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from moderation.features.header import MAX_PIXELS, Format, Header, UndecodableImage, inspect

__all__ = ["Decoder", "DecoderBroken", "Frame", "Header", "Picture", "UndecodableImage", "inspect"]

WALL_SECONDS = 2.0
CPU_SECONDS = 4
"""Above the wall limit: it is for the child whose parent is too stuck to kill it."""
START_SECONDS = 20.0
MEMORY_BYTES = 1_200_000_000
"""Address space. The dearest picture known, an animated transparent WebP at the pixel cap, takes 0.73 GB."""
RECYCLED_AFTER = 2_000
IN_FLIGHT = 2
SIDE = 768
MAX_FRAMES = 12
"""Four moments of an animation, each as stored, on a white page and on a black one."""
FINE_PIXELS = 1_000_000
_MAX_ANSWER = (MAX_FRAMES * SIDE * SIDE + FINE_PIXELS) * 3 + 4096
_CHILD = Path(__file__).with_name("decode_child.py")

Variant = Literal["raw", "composited", "dark"]
RGB = NDArray[np.uint8]


class DecoderBroken(RuntimeError):
    """No child can be started, so no picture can be decoded: the installation is at fault, not a picture."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One look at a picture: `rgb` is (height, width, 3), upright, read-only, no side over 768.

    `variant` is "raw" for the stored colours, transparency ignored, "composited" for what people see on a white
    page, and "dark" for what they see on a black one where the white one hides something of it; opaque frames
    have only the first. `index` counts an animation's frames from 0.
    """

    index: int
    variant: Variant
    rgb: RGB


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture: its stored size in pixels and up to four frames, in one to three variants each.

    Of an animation's `total` frames the first `reached` were open to sampling; fewer than `total` means
    that its rest was never looked at. `fine` is the first frame as people see it in up to a million pixels, of a
    picture that has more of them than its frames here, for whoever looks for small print.
    """

    format: Format
    width: int
    height: int
    total: int
    reached: int
    frames: tuple[Frame, ...]
    fine: RGB | None = None


class _ChildLost(Exception):
    """The child ended or was killed before it answered; `code` is one of SENTENCES."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Child:
    """One child process and its pipes. Neither side ever blocks on the other while both are writing."""

    def __init__(self, memory: int) -> None:
        limits = [os.getpid(), memory, MAX_PIXELS, CPU_SECONDS]
        # -I: no user site, no PYTHON* variables, no current folder. More arenas would eat address space.
        environment = {"MALLOC_ARENA_MAX": "1"}
        if "LD_LIBRARY_PATH" in os.environ:
            environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own file, numbers
            [sys.executable, "-I", "-B", str(_CHILD), *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._sink, self._source = self.process.stdin.fileno(), self.process.stdout.fileno()
        for pipe in (self._sink, self._source):
            os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):  # The system may grant no more than the usual 64 KiB.
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._unsent: deque[memoryview] = deque()
        self._received = bytearray()
        self.served = 0

    def send(self, header: Header, data: bytes) -> None:
        """Queue a picture; it leaves while `receive` waits."""
        head = struct.pack(">I4s", 4 + len(data), header.format.encode().ljust(4))
        self._unsent += (memoryview(head), memoryview(data))
        self.served += 1
        self._write()

    def receive(self, seconds: float) -> bytes:
        """The next frame from the child.

        Raises:
            _ChildLost: none within `seconds`, or the child is gone; it must not be used again.
        """
        deadline = time.monotonic() + seconds
        while (frame := self._frame()) is None:
            poll = select.poll()
            poll.register(self._source, select.POLLIN)
            if self._unsent:
                poll.register(self._sink, select.POLLOUT)
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if not ready:
                raise _ChildLost("too_slow")
            if self._sink in ready:
                self._write()
            if self._source in ready:
                self._read()
        return frame

    def _frame(self) -> bytes | None:
        if len(self._received) < 4:
            return None
        end = 4 + int.from_bytes(self._received[:4])
        if end > _MAX_ANSWER:
            raise _ChildLost("crashed")
        if len(self._received) < end:
            return None
        frame = bytes(memoryview(self._received)[4:end])
        del self._received[:end]
        return frame

    def _read(self) -> None:
        chunk = os.read(self._source, 1 << 20)
        if not chunk:
            raise _ChildLost(self._cause())
        self._received += chunk

    def _write(self) -> None:
        try:
            while self._unsent:
                written = os.write(self._sink, self._unsent[0])
                self._unsent[0] = self._unsent[0][written:]
                if not self._unsent[0]:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent.clear()  # The end of the child's answers says so too, and is read next.

    def _cause(self) -> str:
        """Why the child ended by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(timeout=1.0) == -signal.SIGXCPU:
                return "too_slow"
        return "crashed"

    def end(self) -> None:
        """Kill the child and give its pipes and its entry in the process table back."""
        self.process.kill()
        self._unsent.clear()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.wait()


class Decoder:
    """A context manager over one child process, started when first needed and replaced when it is lost.

    For one thread: the child is told to die with the *thread* that started it, so make the decoder in a
    thread that outlives it, and after any fork. `restarts` counts the children that pictures have cost.
    """

    def __init__(self, *, wall_seconds: float = WALL_SECONDS, memory_bytes: int = MEMORY_BYTES) -> None:
        self._wall = wall_seconds
        self._memory = memory_bytes
        self._child: _Child | None = None
        self.restarts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._child.process.pid if self._child else None

    def close(self) -> None:
        """End the child. The decoder may be used again and then starts another."""
        if self._child:
            self._child.end()
            self._child = None

    def decode(self, data: bytes) -> Picture:
        """The picture in `data`, within the wall limit and the time it takes to start a child.

        Raises:
            UndecodableImage: it is refused by `inspect`, damaged, too slow, or it crashed the child.
            DecoderBroken: no child can be started.
        """
        (result,) = self.decode_many([data])
        if isinstance(result, UndecodableImage):
            raise result
        return result

    def decode_many(self, pictures: Sequence[bytes]) -> list[Picture | UndecodableImage]:
        """A picture or a refusal for each of `pictures`; the child reads ahead while answers are read.

        Raises:
            DecoderBroken: no child can be started.
        """
        results: dict[int, Picture | UndecodableImage] = {}
        waiting: deque[tuple[int, Header]] = deque()
        for index, data in enumerate(pictures):
            try:
                waiting.append((index, inspect(data)))
            except UndecodableImage as refusal:
                results[index] = refusal
        try:
            self._run(pictures, waiting, results)
        except BaseException:
            # Answers still under way would be taken for those of the next call.
            self.close()
            raise
        return [results[index] for index in range(len(pictures))]

    def _run(
        self,
        pictures: Sequence[bytes],
        waiting: deque[tuple[int, Header]],
        results: dict[int, Picture | UndecodableImage],
    ) -> None:
        sent: deque[tuple[int, Header]] = deque()
        while waiting or sent:
            child = self._running(idle=not sent)
            while waiting and len(sent) < IN_FLIGHT:
                sent.append(waiting.popleft())
                child.send(sent[-1][1], pictures[sent[-1][0]])
            index, header = sent.popleft()
            try:
                results[index] = _result(header, child.receive(self._wall))
            except _ChildLost as lost:
                results[index] = UndecodableImage(lost.code)
                # Those behind it are innocent until they have had a child of their own.
                waiting.extendleft(reversed(sent))
                sent.clear()
                self.close()
                self.restarts += 1

    def _running(self, *, idle: bool) -> _Child:
        """A child that has said it is ready; a new one if there is none, or if it has died or aged."""
        child = self._child
        if child and idle and (child.served >= RECYCLED_AFTER or child.process.poll() is not None):
            self.close()
        if not self._child:
            self._child = _started(self._memory)
        return self._child


def _started(memory: int, tries: int = 2) -> _Child:
    for _ in range(tries):
        child = _Child(memory)
        try:
            if child.receive(START_SECONDS) == b"ready":
                return child
        except _ChildLost:
            pass
        except BaseException:
            child.end()
            raise
        child.end()
    raise DecoderBroken(f"The decoder's child does not start; try `{sys.executable} -I {_CHILD}` by hand.")


def _result(header: Header, answer: bytes) -> Picture | UndecodableImage:
    """An answer's meaning. The child may have been taken over by a picture, so nothing it says is trusted.

    Raises:
        _ChildLost: the answer makes no sense.
    """
    try:
        end = answer.index(b"\n")
        facts = json.loads(answer[:end])
        if "refused" in facts:
            return UndecodableImage(facts["refused"])
        width, height, total, reached = (int(facts[key]) for key in ("width", "height", "total", "reached"))
        if min(width, height) < 1 or width * height > MAX_PIXELS:
            raise ValueError("an impossible size")  # whoever hashes a picture reckons with it
        frames, fine = _frames(facts["frames"], memoryview(answer)[end + 1 :])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _ChildLost("crashed") from error
    return Picture(header.format, width, height, total, reached, frames, fine)


def _frames(described: Sequence[Any], pixels: memoryview) -> tuple[tuple[Frame, ...], RGB | None]:
    """The frames, and the fine look if there is one."""
    frames: list[Frame] = []
    fine: RGB | None = None
    start = 0
    for index, variant, width, height in described:
        detailed = variant == "fine" and fine is None and height > 0 and 0 < width <= FINE_PIXELS // height
        if not detailed and not (variant in get_args(Variant) and 0 < width <= SIDE and 0 < height <= SIDE):
            raise ValueError("an impossible frame")
        rgb = np.frombuffer(pixels, np.uint8, count=width * height * 3, offset=start)
        rgb = rgb.reshape(height, width, 3)
        if detailed:
            fine = rgb
        else:
            frames.append(Frame(int(index), variant, rgb))
        start += rgb.size
    if not frames or start != len(pixels):
        raise ValueError("frames and pixels do not agree")
    return tuple(frames), fine
