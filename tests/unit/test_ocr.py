"""What is read in pictures: the words, their places and their order, and what is not read at all."""

from __future__ import annotations

import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.registry import ArtifactError
from moderation.features import decode, ocr, text_boxes
from moderation.features.decode import Decoder, Format, Frame, Picture, Variant
from moderation.features.ocr import Reader
from tests import captions, hostile

FORMAT: Format = "PNG"
LINES = ("Lovely weather in Lisbon", "and a train to the coast")


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def picture(*images: Image.Image | NDArray[np.uint8], variants: tuple[Variant, ...] = ()) -> Picture:
    """Frames of an animation, or variants of one picture."""
    frames = tuple(
        Frame(0 if variants else index, variants[index] if variants else "raw", np.asarray(image))
        for index, image in enumerate(images)
    )
    height, width = frames[0].rgb.shape[:2]
    return Picture(FORMAT, width, height, len(frames), len(frames), frames)


def test_lines_are_read_with_their_places(reader: Reader) -> None:
    found = reader.read(picture(captions.drawn(*LINES)))
    assert found.text == "\n".join(LINES)
    assert found.whole
    assert [found.text[line.start : line.end] for line in found.lines] == list(LINES)
    for number, line in enumerate(found.lines):
        assert line.confidence > 0.9
        x, y = np.array(line.box).mean(axis=0)
        assert (
            0.2 < x < 0.6
        )  # drawn in the left half of 640, 36 high, from 40 downwards, 54 from line to line
        assert y == pytest.approx((40 + 54 * number + 22) / 400, abs=0.04)
        (left, top), (right, _), _, (_, bottom) = line.box
        assert left == pytest.approx(40 / 640, abs=0.03)
        assert right - left > 0.4
        assert 0.05 < bottom - top < 0.2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_picture_is_read_all_the_same(reader: Reader, quarters: int) -> None:
    turned = np.rot90(np.asarray(captions.drawn(*LINES)), quarters)
    found = reader.read(picture(np.ascontiguousarray(turned)))
    assert found.text == "\n".join(LINES)
    first, second = found.lines[0].box[:2]
    along = (second[0] - first[0], second[1] - first[1])
    # The box begins where the line begins: counter-clockwise, a quarter turns rightwards to upwards.
    assert (
        max(range(4), key=lambda turn: along @ np.array([(1, 0), (0, -1), (-1, 0), (0, 1)][turn])) == quarters
    )


def test_columns_are_read_one_after_the_other(reader: Reader) -> None:
    image = captions.drawn("The first", "column", size=(768, 400))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(36)
    for number, line in enumerate(("the second", "one here")):
        pen.text((460, 36 + number * 54), line, font=font, fill="white")  # a little higher
    pen.text((250, 320), "and what follows", font=font, fill="white")
    said = "The first\ncolumn\n\nthe second\none here\n\nand what follows"
    assert reader.read(picture(image)).text == said


def test_words_of_one_line_are_one_line() -> None:
    def box(x: int, y: int, width: int = 100, height: int = 20) -> NDArray[np.float64]:
        return text_boxes.Box(x + width / 2, y + height / 2, width, height, 0.0).corners()

    ordered = text_boxes.in_order([box(120, 2), box(0, 30), box(0, 0), box(400, 4), box(400, 200)])
    assert ordered == [[[2, 0], [1]], [[3]], [[4]]]
    assert text_boxes.in_order([]) == []


def test_where_nothing_stands_nothing_is_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reader.read(picture(hostile.gradient())) == ocr.Reading("", ())
    assert reader.read(picture(Image.new("RGB", (1, 1)))) == ocr.Reading("", ())

    def forbidden(*_: object) -> None:
        raise AssertionError("a flat picture reached the networks")

    monkeypatch.setattr(Reader, "map", forbidden)
    assert reader.read(picture(Image.new("RGB", (64, 64), "teal"))) == ocr.Reading("", ())
    with pytest.raises(AssertionError, match="flat"):
        reader.read(picture(captions.drawn(*LINES)))


def test_looks_that_are_alike_are_read_once(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = captions.drawn("Lovely weather"), captions.drawn("in old Lisbon")
    looked: list[int] = []
    original = Reader.map
    monkeypatch.setattr(Reader, "map", lambda self, rgb: looked.append(1) or original(self, rgb))
    found = reader.read(picture(first, first, last))
    assert (found.text, len(looked), found.looks) == ("Lovely weather\n\nin old Lisbon", 2, 3)
    assert [line.look for line in found.lines] == [0, 2]
    kept = ocr.layout(found)
    assert [(one["look"], one["looks"]) for one in kept] == [(0, 3), (2, 3)]
    assert "look" not in ocr.layout(reader.read(picture(first)))[0]


def test_a_caption_that_stays_is_said_once(reader: Reader) -> None:
    moving = [captions.drawn("Lovely weather") for _ in range(2)]
    ImageDraw.Draw(moving[1]).ellipse((300, 200, 500, 380), fill="orange")
    assert reader.read(picture(*moving)).text == "Lovely weather"


def test_what_transparency_hides_is_read_after_what_is_seen(reader: Reader) -> None:
    raw, seen = captions.drawn("in the colours"), captions.drawn("on the page", at=150)
    found = reader.read(picture(raw, seen, variants=("raw", "composited")))
    assert found.text == "on the page\n\nin the colours"


def test_hidden_text_of_a_real_file(reader: Reader) -> None:
    """White on full transparency: nothing on a white page, and on a dark one everything."""
    image = Image.new("RGBA", (640, 400), (255, 255, 255, 0))
    pen = ImageDraw.Draw(image)
    pen.text((40, 40), LINES[0], font=ImageFont.load_default(36), fill=(255, 255, 255, 255))
    with Decoder() as decoder:
        found = reader.read(decoder.decode(hostile.saved(image, "PNG")))
    assert found.text == LINES[0]


def test_small_print_of_a_large_picture_is_read(reader: Reader) -> None:
    """Letters of 18 pixels on a monitor; in the frame that the models see there are five of them."""
    said = [f"{line} leaves at {number}" for number, line in enumerate(LINES * 4)]
    image = captions.drawn(*said, size=(1920, 1080), height=18, at=300)
    with Decoder() as decoder:
        found = decoder.decode(hostile.saved(image, "PNG"))
        assert max(found.frames[0].rgb.shape) == 512
        assert found.fine is not None
        assert found.fine.shape == (750, 1333, 3)
        read = reader.read(found)
        assert read.text.split("\n") == said
        left, top = read.lines[0].box[0]
        assert (left, top) == (pytest.approx(300 / 1920, abs=0.01), pytest.approx(300 / 1080, abs=0.02))
        assert reader.read(replace(found, fine=None)).text != read.text
        assert decoder.decode(captions.saved(*LINES)).fine is None


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 50_000), (4000, 900), (769, 769)])
def test_a_detailed_look_is_never_too_large(size: tuple[int, int]) -> None:
    with Decoder() as decoder:
        found = decoder.decode(hostile.saved(Image.new("RGB", size, "teal"), "PNG"))
    assert found.fine is not None
    height, width, _ = found.fine.shape
    assert 0 < height * width <= decode.FINE_PIXELS
    assert width <= size[0]
    assert height <= size[1]


def test_what_is_there_in_detail_stands_for_the_first_moment_alone(reader: Reader) -> None:
    """Of an animation only the later moment is transparent: what people see of it is another look."""
    first, later = np.full((200, 400, 3), 90, np.uint8), np.asarray(captions.drawn(*LINES))
    frames = (Frame(0, "raw", first), Frame(1, "raw", np.zeros_like(later)), Frame(1, "composited", later))
    fine = np.full((400, 800, 3), 90, np.uint8)
    found = reader.read(Picture(FORMAT, 800, 400, 2, 2, frames, fine))
    assert found.text == "\n".join(LINES)
    assert {line.look for line in found.lines} == {1}


@pytest.mark.parametrize(
    "frames",
    [
        [(0, "raw", 4, 4), (0, "fine", 4, 4), (0, "fine", 4, 4)],
        [(0, "raw", 4, 4), (0, "fine", 1001, 1000)],
        [(0, "raw", 4, 4), (0, "fine", 4, 0)],
        [(0, "raw", 4, 4), (0, "fine", -4, -4)],
        [(0, "fine", 4, 4)],
    ],
)
def test_a_detailed_look_that_can_not_be_is_not_believed(frames: list[tuple[int, str, int, int]]) -> None:
    pixels = bytes(sum(abs(width * height) * 3 for _, _, width, height in frames))
    with pytest.raises(ValueError, match=r"frame|buffer|reshape"):
        decode._frames(frames, memoryview(pixels))


def test_there_is_an_end_to_what_is_read_of_a_picture(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = captions.drawn(*LINES)
    whole = reader.read(picture(image))
    monkeypatch.setattr(ocr, "PIXELS", 800)
    less = reader.read(picture(image))
    assert not less.whole
    assert less.text in LINES
    monkeypatch.setattr(ocr, "PIXELS", 80_000)
    monkeypatch.setattr(ocr, "CODE_POINTS", len(LINES[0]) + 5)
    cut = reader.read(picture(image))
    assert (cut.text, cut.whole, whole.whole) == (LINES[0], False, True)


def test_noise_is_no_text_and_takes_no_longer_than_it_may(reader: Reader) -> None:
    dice = np.random.default_rng(1)
    for kind in (dice.integers(0, 256, (512, 512, 3)), dice.integers(0, 2, (512, 512, 1)) * np.full(3, 255)):
        found = reader.read(picture(kind.astype(np.uint8)))
        assert len(found.text) < 200
    assert len(text_boxes.find(dice.random((640, 640), dtype=np.float32))) <= text_boxes.MOST_LINES


@pytest.mark.parametrize("size", [(1, 700), (700, 1), (3, 3), (31, 33), (768, 20)])
def test_any_shape_is_read(reader: Reader, size: tuple[int, int]) -> None:
    dice = np.random.default_rng(2)
    reader.read(picture(dice.integers(0, 256, (*size, 3), dtype=np.uint8)))


def test_a_changed_network_is_not_loaded(tmp_path: Path) -> None:
    shutil.copytree(ocr.FOLDER, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "read.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="SHA-256"):
        Reader(folder=tmp_path)
    (tmp_path / "detect.onnx").unlink()
    with pytest.raises(ArtifactError, match="can't be read"):
        Reader(folder=tmp_path)


def test_nothing_is_fetched_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("somebody wants the network")

    monkeypatch.setattr(socket, "socket", refused)
    assert Reader().read(picture(captions.drawn(LINES[0]))).text == LINES[0]
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
