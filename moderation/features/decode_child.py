"""The child that decodes: a program of its own, run as a file, that imports Pillow and nothing of ours.

It reads pictures from standard input and answers on standard output, one at a time, until its input
ends. Frames of both pipes are a big-endian 32-bit length and that many bytes. A request is four letters
of the format and the picture; an answer is one line of JSON and the pixels it describes. The child gives
up every right it doesn't need before the first picture; its parent kills it when a picture takes too long.
"""

from __future__ import annotations

import copy
import ctypes
import json
import math
import os
import platform
import resource
import signal
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    Image,
    ImageChops,
    ImageColor,
    ImageFile,
    ImageFilter,
    ImagePalette,
    TiffImagePlugin,
)
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

SIDE = 512
KEPT = 768
"""Up to this size a picture is left as it is: whoever scores it scales it anyway, and once is cheaper."""
FINE_PIXELS = 1_000_000
"""Of the one look that has more detail than the samples: small print is lost at SIDE."""
FRAMES = 4
# An animation's frames are built on each other, so reaching a late one costs all before it. The first two
# caps are counts: the same file gives the same frames on any machine that isn't too slow for them.
FRAMES_REACHED = 1_000
PIXELS_REACHED = 100_000_000
ANIMATION_SECONDS = 1.0

# Pillow imports these in the middle of its work, when this process can't open a file any more.
IMPORTED_EARLY = (copy, ImageColor, ImageFilter, ImagePalette, TiffImagePlugin)

# Not Image.open: it would hand a JPEG that holds a second picture to a parser nobody needs here.
OPENERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"JPEG": JpegImageFile,
    b"PNG ": PngImageFile,
    b"WEBP": WebPImageFile,
    b"GIF ": GifImageFile,
    b"AVIF": AvifImageFile,
}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What the accepted formats decode to, and nothing else: a mode that nobody thought of is refused.
MODES = frozenset(
    ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B")
)
# How light a pixel must be to be lost on a white page, and how light to be seen on a black one; which share of
# a picture's pixels makes a difference worth another look.
LOST, SEEN = 216, 40
NOTICEABLE = 0.003
SCREEN_GAMMA, ODD = 2.2, 1.5

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38

Sample = tuple[int, str, Image.Image]
"""Index of the frame, variant, and an RGB image whose longest side is at most KEPT."""


class TooManyPixels(Exception):
    """The decoder found more pixels than the header had promised."""


class UnknownMode(Exception):
    """The decoder gave pixels of a kind that is not in MODES."""


def decode(kind: bytes, data: bytes, max_pixels: int) -> tuple[dict[str, object], list[Sample]]:
    """What the picture is, and samples of it. Raises whatever Pillow raises, and TooManyPixels."""
    image = OPENERS[kind](BytesIO(data))
    width, height = image.size
    total = int(getattr(image, "n_frames", 1))
    reach = max(1, min(total, FRAMES_REACHED, PIXELS_REACHED // max(1, width * height)))
    turn = orientation(image)
    deadline = time.monotonic() + ANIMATION_SECONDS
    samples: list[Sample] = []
    for wanted in spread(reach):
        index = advance(image, wanted, deadline)
        if samples and index <= samples[-1][0]:
            break
        if image.width * image.height > max_pixels:
            raise TooManyPixels
        looks = variants(image, fine=not samples)
        samples += [(index, variant, turned(small, turn)) for variant, small in looks]
    return {"width": width, "height": height, "total": total, "reached": samples[-1][0] + 1}, samples


def spread(reach: int) -> list[int]:
    """At most FRAMES indices over `reach` frames, evenly spaced, the first and the last included."""
    count = min(FRAMES, reach)
    return [round(i * (reach - 1) / (count - 1)) for i in range(count)] if count > 1 else [0]


def advance(image: ImageFile.ImageFile, wanted: int, deadline: float) -> int:
    """Go towards frame `wanted` until there, out of frames or out of time; the index of the frame reached."""
    try:
        # One by one, as Pillow would do itself: here the clock can be looked at in between.
        while image.tell() < wanted and time.monotonic() < deadline:
            image.seek(image.tell() + 1)
    except EOFError:
        pass  # It ends before the number of frames that it claims; Pillow is back at the last one.
    return image.tell()


def orientation(image: ImageFile.ImageFile) -> Image.Transpose | None:
    """The turn that EXIF asks for. Broken EXIF asks for none, which is also what browsers make of it."""
    try:
        return TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # noqa: BLE001 - the parsers raise what they like
        return None


def turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def variants(image: ImageFile.ImageFile, *, fine: bool) -> Iterator[tuple[str, Image.Image]]:
    """The current frame as stored, and, where that differs, as seen on white, and on a black that shows more.

    With `fine` also as people see it in more detail, if it has more.
    """
    if isinstance(image, JpegImageFile):
        image.draft("RGB", (SIDE, SIDE))
    image.load()
    if image.mode not in MODES:
        raise UnknownMode
    tone = toned(image)
    if not image.has_transparency_data:
        stored = opaque(image)
        yield "raw", shrunk(stored)
        if tone:
            stored = stored.point(tone)
            yield "composited", shrunk(stored)
        if fine and max(image.size) > KEPT:
            yield "fine", detailed(stored)
        return
    full = deep(image) if image.mode.startswith("I") else image
    full = full if full.mode == "RGBA" else full.convert("RGBA")
    # Resizing RGBA would blacken what full transparency hides; that is what the raw variant is for.
    stored = full.convert("RGB")
    yield "raw", shrunk(stored)
    alpha = full.getchannel("A")
    if alpha.getextrema() == (255, 255) and not tone:
        if fine and max(image.size) > KEPT:
            yield "fine", detailed(stored)
        return
    # At full size: mixing after shrinking would let a fine pattern of holes show another picture.
    page = Image.new("RGB", full.size, "white")
    page.paste(stored.point(tone) if tone else stored, mask=alpha)
    del full, stored
    if fine and max(image.size) > KEPT:
        yield "fine", detailed(page)
    light, alpha = shrunk(page), shrunk(alpha)
    yield "composited", light
    # What a white page adds is 255 - alpha. That commutes with scaling, so the black page costs no second mix.
    dark = ImageChops.subtract(light, Image.merge("RGB", [ImageChops.invert(alpha)] * 3))
    if lost_on_white(light, dark):
        yield "dark", dark


def toned(image: Image.Image) -> list[int] | None:
    """What browsers make of each value of a PNG whose gamma is far from a screen's; None for all others.

    Such a picture can be white to whoever reads its values, and a photograph to whoever looks at it.
    """
    gamma = image.info.get("gamma")
    if not gamma or not isinstance(image, PngImageFile) or image.info.keys() & {"srgb", "icc_profile"}:
        return None
    exponent = 1 / (SCREEN_GAMMA * gamma)
    if max(exponent, 1 / exponent) < ODD:
        return None
    return [round(255 * (value / 255) ** exponent) for value in range(256)] * 3


def lost_on_white(light: Image.Image, dark: Image.Image) -> bool:
    """Whether part of a picture can be made out on a black page only: white on nothing, or holes in white."""
    pale = light.convert("L").point([255 * (value >= LOST) for value in range(256)])
    drawn = ImageChops.darker(pale, dark.convert("L").point([255 * (value >= SEEN) for value in range(256)]))
    return min(share(drawn, SEEN), share(ImageChops.difference(light, dark), LOST - SEEN)) >= NOTICEABLE


def share(image: Image.Image, least: int) -> float:
    """The share of pixels that are as light as `least`."""
    return sum(image.convert("L").histogram()[least:]) / (image.width * image.height)


def opaque(image: Image.Image) -> Image.Image:
    """RGB from any mode without transparency; 16-bit grey keeps its upper eight bits."""
    if image.mode.startswith("I"):
        image = upper(image.convert("I"))
    return image if image.mode == "RGB" else image.convert("RGB")


def upper(grey: Image.Image) -> Image.Image:
    """The upper eight bits of 16-bit grey."""
    return grey.point([value >> 8 for value in range(1 << 16)], "L")


def deep(image: Image.Image) -> Image.Image:
    """16-bit grey of which one value is transparent, with eight bits of grey and of alpha."""
    grey, hidden = image.convert("I"), image.info.get("transparency")
    alpha = grey.point([255 * (value != hidden) for value in range(1 << 16)], "L")
    return Image.merge("LA", (upper(grey), alpha))


def shrunk(image: Image.Image) -> Image.Image:
    """`image` itself if no side is over KEPT, else one of SIDE at most; at least a pixel each way."""
    if max(image.size) <= KEPT:
        return image.copy()
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def detailed(image: Image.Image) -> Image.Image:
    """`image` with FINE_PIXELS at most; at least a pixel each way, and of an endless strip what that leaves."""
    scale = min(1.0, math.sqrt(FINE_PIXELS / (image.width * image.height)))
    width, height = (max(1, int(side * scale)) for side in image.size)
    width = min(width, FINE_PIXELS)
    size = (width, min(height, FINE_PIXELS // width))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)


def answer(kind: bytes, data: bytes, max_pixels: int) -> bytes:
    """One answer's bytes, whatever the picture does short of killing the process."""
    try:
        facts, samples = decode(kind, data, max_pixels)
    except (TooManyPixels, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return refusal("too_many_pixels")
    except MemoryError:
        return refusal("too_much_memory")
    except EOFError:
        return refusal("truncated")
    except Exception as error:  # noqa: BLE001 - Pillow raises what it likes
        # Its words are the only sign of which it was. They are looked at, never passed on.
        return refusal("truncated" if "truncated" in str(error).lower() else "undecodable")
    facts["frames"] = [[index, variant, *image.size] for index, variant, image in samples]
    pixels = b"".join(image.tobytes() for _, _, image in samples)
    return json.dumps(facts).encode() + b"\n" + pixels


def refusal(code: str) -> bytes:
    return json.dumps({"refused": code}).encode() + b"\n"


def confine(parent: int, memory: int) -> None:
    """Give up rights: at most `memory` bytes, no files, processes or core dumps, no life after the parent."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("The parent was gone before the child could ask to be told.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        # The three standard streams and nothing else: no file, socket or device can be opened any more.
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (value, value))
    program = kernel_filter(platform.machine())
    if program:
        # Where a kernel has no filters the limits above hold all the same.
        code = (ctypes.c_char * len(program)).from_buffer_copy(program)
        described = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        prctl(PR_SET_SECCOMP, 2, described, 0, 0)


# What this process may still ask of the kernel once it decodes: to read, to write, memory, the time, to end. Not to
# delete, rename, signal, trace, fork, execute or connect, none of which needs a file to be open. By machine: its
# AUDIT_ARCH, and the number of each call there.
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sched_yield": (24, 124), "mremap": (25, 216),
    "madvise": (28, 233), "getpid": (39, 172), "exit": (60, 93), "getrusage": (98, 165), "times": (100, 153),
    "sigaltstack": (131, 132), "gettid": (186, 178), "futex": (202, 98), "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "exit_group": (231, 94), "getrandom": (318, 278),
    "rseq": (334, 293),
}  # fmt: skip
PRLIMIT = (302, 261)


def kernel_filter(machine: str) -> bytes:
    """A seccomp filter in BPF that refuses every call but CALLS with EPERM; empty where numbers are not known.

    Instructions are (code, jump if true, jump if false, value), as linux/filter.h has them.
    """
    if machine not in MACHINES:
        return b""
    which = list(MACHINES).index(machine)
    load, equal, back = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    program = [(load, 0, 0, 4), (equal, 1, 0, MACHINES[machine]), (back, 0, 0, kill), (load, 0, 0, 0)]
    # Each jumps over those after it and the four behind them, to the last line.
    program += [(equal, len(CALLS) - line + 3, 0, call[which]) for line, call in enumerate(CALLS.values())]
    # Its own limits, whose process is 0, and nobody else's.
    program += [(equal, 0, 2, PRLIMIT[which]), (load, 0, 0, 16), (equal, 1, 0, 0)]
    program += [(back, 0, 0, refuse), (back, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *line) for line in program)


def allow_cpu(seconds: float) -> None:
    """Let the kernel kill this process after `seconds` more of CPU time, rounded up to whole seconds."""
    soft = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def exactly(stream: BinaryIO, length: int) -> bytes:
    """The next `length` bytes; ends the process where the parent has closed the pipe."""
    data = stream.read(length)
    if len(data) < length:
        sys.exit(0)
    return data


def main() -> None:
    """Serve until standard input ends. Arguments: parent's id, bytes of memory, pixels, CPU seconds."""
    parent, memory, max_pixels, cpu = (int(argument) for argument in sys.argv[1:])
    Image.MAX_IMAGE_PIXELS = max_pixels
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    confine(parent, memory)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    reply = b"ready"
    while True:
        sink.write(struct.pack(">I", len(reply)))
        sink.write(reply)
        sink.flush()
        (length,) = struct.unpack(">I", exactly(source, 4))
        request = exactly(source, length)
        allow_cpu(cpu)
        reply = answer(request[:4], request[4:], max_pixels)


if __name__ == "__main__":
    main()
