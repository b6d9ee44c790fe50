"""What people are shown of a picture, and that nobody but those named here opens what was posted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moderation.features.decode import RGB, Decoder, Frame, Picture
from moderation.features.rendition import BLURRED_SIDE, GAP, rendition, sheet
from tests import hostile
from tests.hostile import gradient, saved

ROOT = Path(__file__).parent.parent.parent
CANARY = b"zq7Canary9x"

CHILD = "hands it to the decoding child"
READERS = {
    "moderation/pipeline/normalise.py": f"takes its SHA-256 and {CHILD}",
    "moderation/governance/preservation.py": "seals it as evidence, and opens what was sealed to disclose it",
    "moderation/governance/evidence.py": "for those seals; the console's pages of it hand it to the decoding child",
    "moderation/governance/exports.py": "the author's own copy",
    "moderation/governance/partners.py": f"the route that answers with it {CHILD}",
    "moderation/governance/bank_parts.py": f"takes its SHA-256 and {CHILD}",
    "moderation/pipeline/rescan.py": f"takes its SHA-256 and {CHILD}",
    "api/console/routes/media.py": CHILD,
}
"""Who opens what was posted, and what for."""
WRITERS = {"moderation/pipeline/intake.py": "stores it, encrypted, without having looked at it"}
DECODERS = {
    "moderation/worker.py": "screening",
    "moderation/rescanning.py": "looks for a bank's entries in what was posted before hashes were kept",
    "moderation/backtesting.py": "scores retained items with a candidate",
    "moderation/administration.py": "a file that an operator puts into a bank",
    "moderation/commands/bank_entry.py": "the same",
    "moderation/governance/bank_loading.py": "files that an operator puts into a bank",
    "api/scoring.py": "scores while the caller waits, and keeps nothing",
    "api/console/routes/media.py": "renditions for pages and partners, and what is sent to banks",
}
"""Who starts a decoding child."""


@cache
def sources(*folders: str) -> list[tuple[str, ast.Module]]:
    """Every module of some folders, parsed."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def names_a_blob(call: ast.Call) -> bool:
    """Whether a call gives the place at which the bytes of a posted picture are encrypted."""
    said = [one.value for one in call.args if isinstance(one, ast.Constant)]
    return "blob" in said and "parts" in said


def opens_a_blob(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "open":
        return False
    return ast.unparse(call.func.value).endswith("blobs")


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_only_those_named_here_open_what_was_posted() -> None:
    found = {
        path
        for path, tree in sources("api", "moderation", "models")
        if any(opens_a_blob(call) or names_a_blob(call) for call in calls(tree))
    }
    assert found == READERS.keys() | WRITERS.keys(), "say what it is opened for, or use a rendition"


def test_only_the_child_hands_bytes_to_an_image_library() -> None:
    """Pillow's plug-ins are named in the child alone; elsewhere it works on arrays of pixels."""
    allowed = {
        "moderation/features/decode_child.py",
        "models/preparation.py",  # what it opens it has saved itself: one model was trained on JPEG's losses
    }
    for path, tree in sources("api", "moderation", "models"):
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        modules |= {
            name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
        }
        plugins = {name for name in modules if name.startswith("PIL.")} | (modules & {"cv2", "imageio"})
        opened = {ast.unparse(call.func) for call in calls(tree)} & {"Image.open", "Image.frombytes"}
        assert path in allowed or not (plugins or opened), f"{path}: {plugins | opened}"


def test_only_those_named_here_start_a_decoding_child() -> None:
    found = {
        path
        for path, tree in sources("api", "moderation", "models")
        if any(isinstance(call.func, ast.Name) and call.func.id == "Decoder" for call in calls(tree))
    }
    assert found <= DECODERS.keys()
    assert {"moderation/worker.py", "api/scoring.py"} <= found


def test_a_reader_that_nobody_named_would_be_seen() -> None:
    tree = ast.parse("data = key.decrypt(self._blobs.open(part.blob), 'parts', 'blob', *place)")
    assert [opens_a_blob(call) for call in calls(tree)] == [False, True]
    assert [names_a_blob(call) for call in calls(tree)] == [True, False]


def flat(value: int, height: int = 40, width: int = 60) -> RGB:
    return np.full((height, width, 3), value, np.uint8)


def picture(*frames: tuple[int, str, RGB]) -> Picture:
    made = tuple(Frame(index, variant, rgb) for index, variant, rgb in frames)  # type: ignore[arg-type]
    return Picture("PNG", 60, 40, len(frames), len(frames), made)


def test_people_see_the_page_and_not_what_it_hides() -> None:
    assert (sheet(picture((0, "raw", flat(7)), (0, "composited", flat(200)))) == 200).all()


def test_what_white_hides_is_shown_on_grey() -> None:
    with Decoder() as decoder:
        found = sheet(decoder.decode(hostile.white_on_nothing()))
    assert found[30, 30].tolist() == [127] * 3, "the page"
    assert found[100, 150].tolist() == [254] * 3, "the disc"


def test_moments_of_an_animation_stand_side_by_side() -> None:
    made = sheet(picture(*((index, "raw", flat(index * 10)) for index in range(3))))
    assert made.shape == (2 * 40 + GAP, 2 * 60 + GAP, 3)
    assert made[0, 0, 0] == 0
    assert made[0, 60 + GAP, 0] == 10
    assert made[40 + GAP, 0, 0] == 20
    assert made[-1, -1, 0] == 255, "nothing was the fourth"


@pytest.mark.parametrize("view", ["blurred", "grey", "full"])
def test_a_rendition_holds_nothing_of_the_file(view: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = CANARY.decode()
    exif[0x0112] = 6
    data = saved(gradient(), "JPEG", exif=exif.tobytes(), comment=CANARY) + CANARY
    with Decoder() as decoder:
        made = rendition(sheet(decoder.decode(data)), view)  # type: ignore[arg-type]
    assert CANARY in data
    assert CANARY not in made
    with Image.open(BytesIO(made)) as image:
        assert (image.format, image.size) == ("WEBP", (64, 96)), "upright"
        assert not image.getexif()
        assert not image.info.get("icc_profile")


def test_a_blurred_picture_keeps_nothing_to_sharpen() -> None:
    stripes = np.zeros((480, 480, 3), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = 255
    with Image.open(BytesIO(rendition(stripes, "blurred"))) as image:
        grey = np.asarray(image.convert("L")).astype(int)
    assert grey.std() < 4, "stripes finer than a pixel of the blurred one are gone"
    assert 480 / BLURRED_SIDE > 16


def test_grey_has_no_colour() -> None:
    with Image.open(BytesIO(rendition(np.asarray(gradient()), "grey"))) as image:
        rgb = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(rgb[..., 0] - rgb[..., 2]).max() <= 2
