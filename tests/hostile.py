"""Hostile and odd pictures, made by hand from nothing, and what a guarded decoder must make of each.

Every picture is a shape, a gradient or noise. The unit tests and the fuzz benchmark share these.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from moderation.features.decode import Decoder, UndecodableImage

DECODED = "decoded"


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and the outcomes allowed for it: DECODED or codes of refusals."""

    name: str
    make: Callable[[], bytes]
    allowed: tuple[str, ...]


def outcome(decoder: Decoder, data: bytes) -> str:
    """DECODED, or the code of the refusal."""
    try:
        decoder.decode(data)
    except UndecodableImage as refusal:
        return refusal.code
    return DECODED


def gradient(width: int = 96, height: int = 64) -> Image.Image:
    """Red grows to the right, green downwards, blue is constant: every corner tells where it was."""
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 255, width)[None, :]
    rgb[..., 1] = np.linspace(0, 255, height)[:, None]
    rgb[..., 2] = 64
    return Image.fromarray(rgb)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# --- PNG by hand ---------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of the given header and chunks. Colour: 0 grey, 2 RGB, 3 palette, 6 RGBA."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def deflated_zeros(length: int) -> bytes:
    """A zlib stream of `length` zero bytes, made from one flushed block instead of from `length` bytes."""
    unit = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(unit)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = last.compress(bytes(length % unit)) + last.flush()
    # Adler-32 of n zero bytes: the low half stays 1, the high half counts to n.
    return b"\x78\xda" + block * (length // unit) + tail + struct.pack(">HH", length % 65521, 1)


def png_bomb() -> bytes:
    """13,000 x 13,000 pixels, half a gigabyte when decoded, in under a megabyte."""
    side = 13_000
    return png(side, side, chunk(b"IDAT", deflated_zeros(side * (1 + 3 * side))))


def png_just_allowed() -> bytes:
    """39.7 megapixels: within the cap, so that it has to be decoded in time and memory."""
    side = 6_300
    return png(side, side, chunk(b"IDAT", deflated_zeros(side * (1 + 3 * side))))


def png_text_bomb() -> bytes:
    """An iTXt chunk that inflates to 200 MB."""
    text = b"note\x00\x01\x00en\x00note\x00" + deflated_zeros(200 << 20)
    rows = zlib.compress(b"\x00\x01\x02\x03")
    return png(1, 1, chunk(b"iTXt", text), chunk(b"IDAT", rows))


def png_profile_bomb() -> bytes:
    """A colour profile that inflates to 200 MB."""
    rows = zlib.compress(b"\x00\x01\x02\x03")
    return png(1, 1, chunk(b"iCCP", b"p\x00\x00" + deflated_zeros(200 << 20)), chunk(b"IDAT", rows))


def png_bad_checksum() -> bytes:
    data = bytearray(saved(gradient(), "PNG"))
    data[29] ^= 0xFF
    return bytes(data)


def apng(frames: int = 8, claimed: int | None = None) -> bytes:
    """An animated PNG; `claimed` overwrites the number of frames that it says it has."""
    images = [gradient().rotate(10 * i) for i in range(frames)]
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:])
    at = data.index(b"acTL")
    control = struct.pack(">II", claimed or frames, 0)
    return data[: at - 4] + chunk(b"acTL", control) + data[at + 16 :]


# --- JPEG by hand --------------------------------------------------------------------------------------


def many_scans(side: int = 256, scans: int = 200) -> bytes:
    """A progressive JPEG with one of its scans repeated: little to send, a whole pass each to decode."""
    data = saved(Image.new("L", (side, side), 90), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * scans + b"\xff\xd9"


def app1_flood(length: int) -> bytes:
    """A small JPEG behind `length` bytes of EXIF segments, which a reader may join one by one."""
    body = b"Exif\x00\x00" + bytes(65_000)
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    data = saved(gradient(), "JPEG")
    return data[:2] + segment * (length // len(segment)) + data[2:]


def jpeg_without_height() -> bytes:
    data = bytearray(saved(gradient(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = b"\x00\x00"
    return bytes(data)


def two_frame_headers(*, first: bool) -> bytes:
    """A JPEG with another frame header, before or after its own, that claims 60,000 x 60,000."""
    data = saved(gradient(), "JPEG")
    at = data.index(b"\xff\xc0")
    length = int.from_bytes(data[at + 2 : at + 4]) + 2
    header = bytearray(data[at : at + length])
    header[5:9] = struct.pack(">HH", 60_000, 60_000)
    at += 0 if first else length
    return data[:at] + bytes(header) + data[at:]


def polyglot() -> bytes:
    """A JPEG that is also a ZIP archive: one reads from the front, the other from the back."""
    import zipfile

    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("note.txt", "a picture and an archive")
    return saved(gradient(), "JPEG") + buffer.getvalue()


def segment_flood() -> bytes:
    """2,400,000 empty segments: each costs a reader that walks them far more than the four bytes it takes."""
    return b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2_400_000 + saved(gradient(), "JPEG")[2:]


def oriented(value: int, kind: str = "JPEG") -> bytes:
    """The gradient with an EXIF orientation, 1 to 8."""
    exif = Image.Exif()
    exif[0x0112] = value
    return saved(gradient(), kind, exif=exif.tobytes())


def broken_exif() -> bytes:
    return saved(gradient(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")


# --- GIF, WebP, AVIF -----------------------------------------------------------------------------------


def long_gif(frames: int = 1000, width: int = 320, height: int = 240) -> bytes:
    """One frame's blocks, `frames` times over."""
    data = saved(gradient(width, height).quantize(64, Image.Quantize.FASTOCTREE), "GIF")
    body = 13 + 3 * (2 << (data[10] & 7))
    return data[:body] + data[body:-1] * frames + b";"


def gif_with_palettes(frames: int = 40) -> bytes:
    """Every frame with a palette of 256 colours of its own."""
    images = [gradient().rotate(9 * i).quantize(256, Image.Quantize.FASTOCTREE) for i in range(frames)]
    return saved(images[0], "GIF", save_all=True, append_images=images[1:], optimize=False)


def gif_beyond_its_screen() -> bytes:
    """A screen of one pixel with a frame of 65,535 x 65,535 on it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x44\x01\x00;"


def webp_animation(frames: int = 12) -> bytes:
    images = [gradient().rotate(15 * i) for i in range(frames)]
    return saved(images[0], "WEBP", save_all=True, append_images=images[1:], duration=40)


def avif_animation(frames: int = 5) -> bytes:
    images = [gradient().rotate(15 * i) for i in range(frames)]
    return saved(images[0], "AVIF", save_all=True, append_images=images[1:], speed=10)


def resized_avif(data: bytes, side: int) -> bytes:
    """`data` with another size in the container; the coded picture inside stays as it is."""
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", side, side) + data[at + 8 :]


# zlib over what Pillow wrote for 12,000 x 12,000 black pixels as AVIF: encoding them takes eight seconds.
_BLACK = (
    b"c-muNU{FXasVqn=%S>Yc0uY^>nP!-qnV9D5Xy^nKdYzkElE?r7iWw<6MNl?FL1uCZ0~+8f$SlbPvlxL`E;A=T8N_h`@fjhajKT~I"
    b"Y-&KZMrLMS8eFXukdw*;<t3IG7&_<Y<b&<X$}A`<0Mg!>1<Cn9S|qc$AQfVr-UA3`5Gcs3$OMTnb8v6~DW1eKL+3_$9*~f5a(+%x"
    b"UUE(a&}3c)wg#Y(cxFK^%uhgvu`n_<vjAPCmz$DUBE-POE&o05{_fgEOj5iYMpJkMT#mQ5r803S%yR^)k3D}baINMOsar=A6ypuv"
    b"tT<Dkd3M4=O|So&Y<w+?tg@Ofa6E8Y{mC&#`R-Ax%!T#A^IwZ^&*8i#v1H!zldEFQj)!X+8t*zP(^GOF!Z(in|C2|RM|Kz7Td<Jz"
    b"HtT|=58}_CizsLM{Jbv2ea3Z1i@VnrZq%}FUH);y{e`h<vkaR4#XV<@eX}+}+ik=1Bg%<ijti+-CB%KOx3h7mn|tQt2^sEv4_}-O"
    b"+ZJRl|L_dc0d2M`Y=34cN%i^eo}qm#J$e`IEr=uDf<IPnRyVc!Z2mjeKPh>a>J}Z?Z?t^BdHTA!mv$fcH~EjGfZ64SugM>HE`EF7"
    b"#99BN%VX1H|Dhj3qfsy#1(ZfX9Bn<Ycc`0B+u$z%0I*?Ma{"
)


def avif_144_megapixels() -> bytes:
    """432 MB of pixels in 1,849 bytes."""
    return zlib.decompress(base64.b85decode(_BLACK))


def avif_larger_than_claimed() -> bytes:
    """The same in a container that speaks of 64 x 64."""
    return resized_avif(avif_144_megapixels(), 64)


# --- transparency and modes ----------------------------------------------------------------------------


def hidden() -> bytes:
    """A gradient that nobody sees: every pixel is fully transparent."""
    image = gradient()
    image.putalpha(0)
    return saved(image, "PNG")


def sieve(side: int = 1024) -> bytes:
    """Only every other pixel is opaque; what shows is dark, what is hidden between is its opposite."""
    rgba = np.zeros((side, side, 4), np.uint8)
    seen = np.indices((side, side)).sum(axis=0) % 2 == 0
    rgba[seen] = (0, 0, 0, 255)
    rgba[~seen] = (255, 255, 255, 0)
    return saved(Image.fromarray(rgba), "PNG")


def palette_with_alpha() -> bytes:
    image = gradient().quantize(16)
    return saved(image, "PNG", transparency=bytes(range(0, 256, 16)))


def ramp16() -> Any:
    """A ramp over all of 16 bits, (64, 96)."""
    return np.tile(np.linspace(0, 65_535, 96).astype(np.uint16), (64, 1))


def grey16() -> bytes:
    return saved(Image.fromarray(ramp16()), "PNG")


def png16(colour: int, *channels: Any) -> bytes:
    """A PNG of 16 bits a channel, of channels of one shape."""
    pixels = np.stack(channels, axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    height, width = pixels.shape[:2]
    return png(width, height, chunk(b"IDAT", zlib.compress(rows)), depth=16, colour=colour)


def grey16_with_hidden() -> bytes:
    """Two greys in 16 bits; the darker of the two, which is a column of its own, is transparent."""
    grey = np.full((40, 40), 0x8000, np.uint16)
    grey[:, :20] = 0x1234
    data = png16(0, grey)
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(b"tRNS", b"\x12\x34") + data[at:]


def cmyk() -> bytes:
    """A JPEG of four inks: red."""
    return saved(Image.new("RGB", (64, 64), (200, 40, 40)).convert("CMYK"), "JPEG")


def ycck() -> bytes:
    """The same with luma and chroma for the first three inks, as printers' programs write it."""
    red = Image.new("RGB", (64, 64), (200, 40, 40))
    # Such files hold inks inverted, which Pillow does as it saves and undoes as it loads.
    luma = Image.merge("CMYK", (*red.convert("YCbCr").split(), Image.new("L", (64, 64), 0)))
    data = saved(luma, "JPEG", quality=95)
    at = data.index(b"Adobe") + 11
    return data[:at] + b"\x02" + data[at + 1 :]


def white_on_nothing(page: tuple[int, int, int, int] = (255, 255, 255, 0)) -> bytes:
    """A white frame and a white disc on a page that is all transparent: nothing of it shows on white."""
    image = Image.new("RGBA", (300, 200), page)
    draw = ImageDraw.Draw(image)
    draw.rectangle((10, 10, 290, 190), outline="white", width=4)
    draw.ellipse((100, 50, 200, 150), fill="white")
    return saved(image, "PNG")


def odd_gamma(gamma: float = 0.02) -> bytes:
    """Almost white to whoever reads its values; a browser applies its gamma and shows the gradient."""
    stored = gradient().point([round(255 * (value / 255) ** (2.2 * gamma)) for value in range(256)] * 3)
    data = saved(stored, "PNG")
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000))) + data[at:]


def holes_in_white() -> bytes:
    """White all over, with a disc cut out of it."""
    image = Image.new("RGBA", (300, 200), "white")
    ImageDraw.Draw(image).ellipse((100, 50, 200, 150), fill=(255, 255, 255, 0))
    return saved(image, "PNG")


def _converted(mode: str, kind: str) -> Callable[[], bytes]:
    return lambda: saved(gradient().convert(mode), kind)


def _half(kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        data = saved(gradient(200, 200), kind)
        return data[: len(data) // 2]

    return make


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(64)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'

BROKEN = ("truncated", "undecodable")
CASES = (
    Case("png-bomb", png_bomb, ("too_many_pixels",)),
    Case("png-just-allowed", png_just_allowed, (DECODED,)),
    Case("png-text-bomb", png_text_bomb, BROKEN),
    Case("png-profile-bomb", png_profile_bomb, BROKEN),
    Case("png-bad-checksum", png_bad_checksum, BROKEN),
    Case("png-zero-size", lambda: png(0, 0, chunk(b"IDAT", zlib.compress(b""))), ("undecodable",)),
    Case("apng", apng, (DECODED,)),
    Case("apng-claims-too-many", lambda: apng(claimed=2**31 - 1), (DECODED, *BROKEN)),
    Case("jpeg-200-scans", many_scans, ("too_many_scans",)),
    Case("jpeg-39-mp-200-scans", partial(many_scans, 6_300), ("too_many_scans",)),
    Case("jpeg-39-mp-40-scans", partial(many_scans, 6_300, 40), ("too_many_scans",)),
    Case("jpeg-some-scans", lambda: many_scans(scans=35), (DECODED,)),
    Case("jpeg-20-mb-of-app1", lambda: app1_flood(20_000_000), ("too_large",)),
    Case("jpeg-9-mb-of-app1", lambda: app1_flood(9_000_000), (DECODED,)),
    Case("jpeg-segment-flood", segment_flood, ("undecodable",)),
    Case("jpeg-zero-height", jpeg_without_height, ("undecodable",)),
    Case("jpeg-huge-frame-first", partial(two_frame_headers, first=True), ("too_many_pixels",)),
    Case("jpeg-huge-frame-second", partial(two_frame_headers, first=False), ("too_many_pixels",)),
    Case("jpeg-and-zip", polyglot, (DECODED,)),
    Case("jpeg-broken-exif", broken_exif, (DECODED,)),
    Case("jpeg-cmyk", _converted("CMYK", "JPEG"), (DECODED,)),
    Case("jpeg-ycck", ycck, (DECODED,)),
    Case("jpeg-oriented", partial(oriented, 6), (DECODED,)),
    Case("gif-1000-frames", long_gif, (DECODED,)),
    Case("gif-palettes", gif_with_palettes, (DECODED,)),
    Case("gif-beyond-its-screen", gif_beyond_its_screen, ("too_many_pixels", *BROKEN)),
    Case("webp-animation", webp_animation, (DECODED,)),
    Case("avif-animation", avif_animation, (DECODED,)),
    Case("avif-144-megapixels", avif_144_megapixels, ("too_many_pixels",)),
    Case("avif-lies", avif_larger_than_claimed, ("too_many_pixels", "too_much_memory", DECODED, *BROKEN)),
    Case("empty", lambda: b"", ("truncated",)),
    Case("random", lambda: random.Random(0).randbytes(5_000), ("unsupported_format",)),
    Case("svg", lambda: SVG, ("unsupported_format",)),
    Case("heic", lambda: HEIC, ("unsupported_format",)),
    Case("bmp", _converted("RGB", "BMP"), ("unsupported_format",)),
    *(
        Case(f"{kind.lower()}-truncated", _half(kind), BROKEN)
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
    ),
    Case("png-hidden", hidden, (DECODED,)),
    Case("png-sieve", sieve, (DECODED,)),
    Case("png-palette-alpha", palette_with_alpha, (DECODED,)),
    Case("png-white-on-nothing", white_on_nothing, (DECODED,)),
    Case("png-holes-in-white", holes_in_white, (DECODED,)),
    Case("png-odd-gamma", odd_gamma, (DECODED,)),
    Case("png-16-bit", grey16, (DECODED,)),
    Case("png-16-bit-hidden", grey16_with_hidden, (DECODED,)),
    Case("png-16-bit-rgba", lambda: png16(6, *[ramp16()] * 4), (DECODED,)),
    Case("png-1-bit", _converted("1", "PNG"), (DECODED,)),
    Case("png-grey-alpha", _converted("LA", "PNG"), (DECODED,)),
)
