"""Pictures as people may see them: made anew from decoded pixels, on demand, with nothing of their files in them.

What was posted is opened for its SHA-256, for the decoding child, for what is sealed or disclosed by law, and for
the author's own copy; whoever else needs a picture gets one of these. None is stored.
"""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from moderation.features.decode import RGB, Picture

View = Literal["blurred", "grey", "full"]
MEDIA_TYPE = "image/webp"
BLURRED_SIDE = 24
GAP = 8


def sheet(picture: Picture) -> RGB:
    """What people saw of a picture: on a page if it is transparent, several moments of it if it moves.

    The page is white, and grey where a white one hides what a black one shows: on grey both can be made out.
    """
    moments: dict[int, dict[str, RGB]] = {}
    for frame in picture.frames:
        moments.setdefault(frame.index, {})[frame.variant] = frame.rgb
    looks = [_look(moments[index]) for index in sorted(moments)]
    if len(looks) == 1:
        return looks[0]
    height, width = (max(look.shape[axis] for look in looks) for axis in (0, 1))
    rows = (len(looks) + 1) // 2
    made = np.full((rows * (height + GAP) - GAP, 2 * width + GAP, 3), 255, np.uint8)
    for place, look in enumerate(looks):
        top, left = (place // 2) * (height + GAP), (place % 2) * (width + GAP)
        made[top : top + look.shape[0], left : left + look.shape[1]] = look
    return made


def _look(variants: dict[str, RGB]) -> RGB:
    light = variants.get("composited", variants.get("raw"))
    assert light is not None
    if "dark" not in variants:
        return light
    # What a page adds to a picture is in proportion to how light it is: between white and black lies grey.
    return light // 2 + variants["dark"] // 2


def rendition(rgb: RGB, view: View) -> bytes:
    """A picture as WebP, without any of its metadata.

    `blurred` keeps at most 24 pixels a side, grey and muted, and blurs those: what the browser gets can't be
    sharpened again.
    """
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if view == "blurred":
        size = image.size
        image = image.convert("L")
        image.thumbnail((BLURRED_SIDE, BLURRED_SIDE), Image.Resampling.BOX)
        image = image.filter(ImageFilter.GaussianBlur(1.6)).point(lambda value: 88 + value * 0.4)
        image = image.resize(size, Image.Resampling.BICUBIC)
    elif view == "grey":
        image = image.convert("L")
    made = BytesIO()
    image.save(made, "WEBP", quality=82, method=2)
    return made.getvalue()
