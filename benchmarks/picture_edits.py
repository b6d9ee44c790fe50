"""What people do to pictures before they send them on, for `benchmarks.robustness`."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

Picture = Image.Image
Edit = Callable[[Picture], Picture]

LINE = "when the meeting could have been a mail"
FINE = 85
"""JPEG's quality for copies of which nothing else is said."""


def copies(picture: Picture) -> dict[str, bytes]:
    """Each edit of `EDITS` as the bytes of a JPEG, by name; saved coarsely where that is the edit."""
    return {
        name: jpeg(edit(picture), 30 if name.startswith("JPEG") else FINE) for name, edit in EDITS.items()
    }


def jpeg(picture: Picture, quality: int) -> bytes:
    """`picture` as a file."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _watermark(picture: Picture) -> Picture:
    layer = Image.new("RGBA", picture.size)
    pen, font = ImageDraw.Draw(layer), _font(picture.width / 12)
    for row in (0.2, 0.5, 0.8):
        for column in (0.05, 0.55):
            place = (picture.width * column, picture.height * row)
            pen.text(place, "© example", font=font, fill=(255, 255, 255, 90))
    return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")


def _caption(picture: Picture) -> Picture:
    copy = picture.copy()
    pen, font = ImageDraw.Draw(copy), _font(picture.width / 16)
    for height, words in ((0.02, LINE[:20]), (0.85, LINE[20:])):
        place = (picture.width * 0.5, picture.height * height)
        stroke = max(1, picture.width // 200)
        pen.text(place, words, font=font, fill="white", stroke_width=stroke, stroke_fill="black", anchor="ma")
    return copy


def _bar(picture: Picture) -> Picture:
    """A white bar with a line of text above, 15 % of the height."""
    bar = round(picture.height * 0.15)
    copy = Image.new("RGB", (picture.width, picture.height + bar), "white")
    copy.paste(picture, (0, bar))
    pen, font = ImageDraw.Draw(copy), _font(min(bar * 0.4, picture.width / 24))
    pen.text((picture.width * 0.5, bar * 0.5), LINE, font=font, fill="black", anchor="mm")
    return copy


def _letterbox(picture: Picture) -> Picture:
    """Black bars of an eighth of the height above and below."""
    bar = picture.height // 8
    copy = Image.new("RGB", (picture.width, picture.height + 2 * bar))
    copy.paste(picture, (0, bar))
    return copy


def _screenshot(picture: Picture) -> Picture:
    """In a chat on an upright telephone: a name above, lines of text above and below, margins all round."""
    screen = Image.new("RGB", (720, 1280), "white")
    pen, font = ImageDraw.Draw(screen), _font(26)
    pen.rectangle((0, 0, 720, 90), fill=(0, 110, 100))
    pen.text((90, 30), "Family", font=_font(34), fill="white")
    pen.ellipse((20, 20, 70, 70), fill=(200, 200, 200))
    shown = picture.copy()
    shown.thumbnail((560, 700))
    screen.paste(shown, (120, 220))
    pen.text((120, 150), "have you seen this one?", font=font, fill="black")
    for number, words in enumerate(("hahaha no", "where was that?", "last week, at the lake")):
        top = 260 + shown.height + number * 70
        pen.rounded_rectangle((40, top, 420, top + 54), 16, fill=(230, 240, 230))
        pen.text((60, top + 12), words, font=font, fill="black")
    return screen


def _cropped(share: float) -> Edit:
    """Without that share of width and height, taken away evenly."""

    def crop(picture: Picture) -> Picture:
        x, y = picture.width * share / 2, picture.height * share / 2
        return picture.crop((round(x), round(y), round(picture.width - x), round(picture.height - y)))

    return crop


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(8, round(size)))


EDITS: dict[str, Edit] = {
    "JPEG at quality 30": lambda picture: picture,
    "resized to 50 %": lambda picture: picture.resize(
        (max(1, picture.width // 2), max(1, picture.height // 2)), Image.Resampling.LANCZOS
    ),
    "blur of radius 2": lambda picture: picture.filter(ImageFilter.GaussianBlur(2)),
    "greyscale": lambda picture: picture.convert("L").convert("RGB"),
    "brightness x 1.4": lambda picture: ImageEnhance.Brightness(picture).enhance(1.4),
    "watermark": _watermark,
    "caption over it": _caption,
    "rotated by 2°": lambda picture: picture.rotate(2, Image.Resampling.BICUBIC),
    "cropped by 5 %": _cropped(0.05),
    "cropped by 10 %": _cropped(0.10),
    "cropped by 25 %": _cropped(0.25),
    "mirrored": ImageOps.mirror,
    "rotated by 90°": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "rotated by 180°": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    "border of 5 %": lambda picture: ImageOps.expand(picture, round(max(picture.size) * 0.05), "white"),
    "letterbox": _letterbox,
    "caption bar of 15 %": _bar,
    "inside a screenshot": _screenshot,
}
