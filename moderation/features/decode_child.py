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
import resource
import signal
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from PIL import Image, ImageColor, ImageFile, ImageFilter, ImagePalette, TiffImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

SIDE = 512
KEPT = 768
"""Up to this size a picture is left as it is: whoever scores it scales it anyway, and once is cheaper."""
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
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38

Sample = tuple[int, str, Image.Image]
"""Index of the frame, variant, and an RGB image whose longest side is at most KEPT."""


class TooManyPixels(Exception):
    """The decoder found more pixels than the header had promised."""


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
        samples += [(index, variant, turned(small, turn)) for variant, small in variants(image)]
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


def variants(image: ImageFile.ImageFile) -> Iterator[tuple[str, Image.Image]]:
    """The current frame as stored, and, where that differs, as people see it on a white page."""
    if isinstance(image, JpegImageFile):
        image.draft("RGB", (SIDE, SIDE))
    image.load()
    if not image.has_transparency_data or image.mode.startswith("I"):
        yield "raw", shrunk(opaque(image))
        return
    full = image if image.mode == "RGBA" else image.convert("RGBA")
    # Resizing RGBA would blacken what full transparency hides; that is what the raw variant is for.
    yield "raw", shrunk(full.convert("RGB"))
    alpha = full.getchannel("A")
    if alpha.getextrema() != (255, 255):
        # At full size: mixing after shrinking would let a fine pattern of holes show another picture.
        page = Image.new("RGB", full.size, "white")
        page.paste(full, mask=alpha)
        yield "composited", shrunk(page)


def opaque(image: Image.Image) -> Image.Image:
    """RGB from any mode without transparency; 16-bit grey keeps its upper eight bits."""
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image if image.mode == "RGB" else image.convert("RGB")


def shrunk(image: Image.Image) -> Image.Image:
    """`image` itself if no side is over KEPT, else one of SIDE at most; at least a pixel each way."""
    if max(image.size) <= KEPT:
        return image.copy()
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
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
    """Give up rights: at most `memory` bytes, no files, no core dumps, no life after the parent."""
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
        # The three standard streams and nothing else: no file, socket or device can be opened any more.
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (value, value))


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
