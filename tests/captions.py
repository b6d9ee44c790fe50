"""Pictures with something written in them, in a font that Pillow brings along."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from tests import hostile


def drawn(
    *lines: str, size: tuple[int, int] = (640, 400), height: int = 36, colour: str = "white", at: int = 40
) -> Image.Image:
    """Soft blue with lines of text from (`at`, `at`) downwards."""
    image = Image.new("RGB", size, (70, 90, 120))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(height)
    for number, line in enumerate(lines):
        pen.text((at, at + number * height * 1.5), line, font=font, fill=colour)
    return image


def saved(*lines: str) -> bytes:
    """The same as a PNG."""
    return hostile.saved(drawn(*lines), "PNG")
