"""Pictures in which there is something to see, drawn from nothing: shapes over a soft ground, one for each seed.

Two scenes have nothing in common but their kind, and a scene is as rich as a photograph to a perceptual hash.
"""

from __future__ import annotations

import random
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

SIDE = (640, 480)


def scene(seed: int, size: tuple[int, int] = SIDE) -> Image.Image:
    """A scene of a few dozen shapes."""
    chance = random.Random(seed)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    ground = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(ground)
    width, height = size
    for _ in range(30):
        x, y = chance.randrange(width), chance.randrange(height)
        across, down = chance.randrange(width // 12, width // 3), chance.randrange(height // 12, height // 3)
        box = (x - across // 2, y - down // 2, x + across // 2, y + down // 2)
        colour = (chance.randrange(256), chance.randrange(256), chance.randrange(256))
        chance.choice((draw.ellipse, draw.rectangle))(box, fill=colour)
    return ground.filter(ImageFilter.GaussianBlur(1.5))


def saved(image: Image.Image, kind: str = "JPEG", quality: int = 90) -> bytes:
    """The picture as a file."""
    buffer = BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def recoded(image: Image.Image) -> Image.Image:
    """Smaller, and compressed hard."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return Image.open(BytesIO(saved(half, quality=40)))


def mirrored(image: Image.Image) -> Image.Image:
    return ImageOps.mirror(image)


def turned(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


def bordered(image: Image.Image) -> Image.Image:
    """With a black border of a tenth."""
    return ImageOps.expand(image, image.width // 10, (0, 0, 0))


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Without `share` of each side."""
    across, down = int(image.width * share), int(image.height * share)
    return image.crop((across, down, image.width - across, image.height - down))
