"""How many words of captioned pictures are read, and in what time: by us, by tesseract, by the networks' package.

    python -m benchmarks.ocr [--photos DIR] [--show DIR]

Captions of harmless sentences in several sizes, fonts, places and contrasts are drawn on the pictures of a folder,
or on synthetic ones, saved as JPEG and decoded as posts are; then pages of text in the sizes of screens. All read
the same decoded pixels in one thread each, and what is shown is processor time: other work adds little to it.
`tesseract` is called as a command, in its page mode and (`sparse`) in that for sparse text; `rapidocr` is used if
it is installed. DejaVu and Liberation fonts are needed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from moderation.features.decode import RGB, Decoder, Frame, Picture
from moderation.features.ocr import Reader

SCREEN = Console()
FONTS = Path("/usr/share/fonts/truetype")
FACES = (
    "dejavu/DejaVuSans.ttf",
    "dejavu/DejaVuSans-Bold.ttf",
    "dejavu/DejaVuSerif.ttf",
    "liberation/LiberationSans-Regular.ttf",
    "liberation/LiberationSans-Bold.ttf",
    "liberation/LiberationSerif-Italic.ttf",
    "liberation/LiberationSansNarrow-Regular.ttf",
    "liberation/LiberationMono-Regular.ttf",
)
SIZES = (18, 24, 32, 48, 72)
"""Pixels on a picture 1,024 wide; as decoded three quarters of it."""
STYLES = ("outlined", "plain", "boxed", "faint", "turned")
WIDTH = 1024
SENTENCES = (
    "The train to the coast leaves at nine",
    "Fresh bread and coffee every morning",
    "My grandmother grows tomatoes on her balcony",
    "When the meeting could have been an email",
    "Please remember to water the plants",
    "Open daily from ten until six",
    "Nobody expects rain in the middle of July",
    "Visit our garden near the old harbour",
    "He scored twice in the second half",
    "Lost cat, answers to the name of Biscuit",
)
WORD = re.compile(r"[a-z0-9']{2,}")
Read = Callable[[RGB], str]


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture as decoded, the words drawn on it, and how they were drawn."""

    rgb: RGB
    words: Counter[str]
    size: int
    style: str


def words(text: str) -> Counter[str]:
    return Counter(WORD.findall(text.lower().replace("\u2019", "'")))


def backgrounds(folder: Path | None, count: int) -> list[Image.Image]:
    """Pictures of one width, from files spread evenly over a folder, or synthetic ones."""
    found: list[Image.Image] = []
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []
    files = [path for path in files if not re.search("screen|text|page|logo", path.name, re.IGNORECASE)]
    random.Random(4).shuffle(files)
    for path in files:
        try:
            with Image.open(path) as image:
                if image.width < 256 or not 0.4 <= image.height / image.width <= 2.5:
                    continue
                found.append(image.convert("RGB").resize((WIDTH, round(image.height * WIDTH / image.width))))
        except OSError:
            continue
        if len(found) == count:
            return found
    while len(found) < count:
        coarse = np.random.default_rng(len(found)).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        found.append(Image.fromarray(coarse).resize((WIDTH, 768), Image.Resampling.BICUBIC))
    return found


def captioned(image: Image.Image, index: int, decoder: Decoder) -> Captioned:
    """The picture with two lines in one size, font, place and style, decoded from a JPEG."""
    dice = random.Random(index)
    size, style = SIZES[index % 5], STYLES[index // 5 % 5]
    face = ImageFont.truetype(FONTS / FACES[index % len(FACES)], size)
    layer = Image.new("RGBA", image.size)
    pen = ImageDraw.Draw(layer)
    text = _wrapped(SENTENCES[index % 10], face, WIDTH - 80)
    box = pen.multiline_textbbox((0, 0), text, font=face)
    x = dice.randrange(20, max(21, int(WIDTH - box[2] - 20)))
    y = dice.randrange(20, max(21, int(image.height - box[3] - 40)))
    beneath = float(np.asarray(image.convert("L").crop((x, y, x + int(box[2]), y + int(box[3])))).mean())
    if style == "boxed":
        pen.rectangle((x - 8, y - 8, x + box[2] + 8, y + box[3] + 8), fill=(250, 240, 200, 255))
        pen.multiline_text((x, y), text, font=face, fill=(60, 20, 20, 255))
    elif style == "outlined":
        pen.multiline_text(
            (x, y), text, font=face, fill="white", stroke_width=max(1, size // 14), stroke_fill="black"
        )
    elif style == "faint":
        shade = int(beneath - 60 if beneath > 128 else beneath + 60)
        pen.multiline_text((x, y), text, font=face, fill=(shade, shade, shade, 255))
    else:
        pen.multiline_text((x, y), text, font=face, fill="white" if beneath < 128 else "black")
    if style == "turned":
        layer = layer.rotate(
            dice.choice((-12, -6, 6, 12)), Image.Resampling.BICUBIC, center=(x + box[2] / 2, y)
        )
    made = image.copy()
    made.paste(layer, (0, 0), layer)
    return Captioned(decoded(made, decoder), words(text), size, style)


def _wrapped(sentence: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) > width or (len(lines) == 1 and len(longer) > len(sentence) * 0.6):
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def decoded(image: Image.Image, decoder: Decoder) -> RGB:
    """What of the picture is read: its first frame, in more detail if there is more."""
    data = BytesIO()
    image.save(data, "JPEG", quality=85)
    picture = decoder.decode(data.getvalue())
    return picture.frames[0].rgb if picture.fine is None else picture.fine


def screens(decoder: Decoder) -> list[Captioned]:
    """Pages of text: two phones, two monitors, a scan, and a conversation of eight screens."""
    made = []
    for name, width, height, size, count in (
        ("phone, 1080 x 2160, 40 px", 1080, 2160, 40, 20),
        ("phone, 1080 x 2160, 32 px", 1080, 2160, 32, 25),
        ("monitor, 1920 x 1080, 18 px", 1920, 1080, 18, 20),
        ("monitor, 2560 x 1440, 18 px", 2560, 1440, 18, 25),
        ("scan, 2480 x 3508, 40 px", 2480, 3508, 40, 35),
        ("long, 1080 x 8000, 40 px", 1080, 8000, 40, 85),
    ):
        image = Image.new("RGB", (width, height), "white")
        pen, face = ImageDraw.Draw(image), ImageFont.truetype(FONTS / FACES[3], size)
        said = [SENTENCES[line % 10] for line in range(count)]
        for line, sentence in enumerate(said):
            place = (60 if line % 2 else width // 8, 80 + round(line * size * 2.2))
            pen.text(place, sentence, font=face, fill=(30, 30, 30))
        made.append(Captioned(decoded(image, decoder), words(" ".join(said)), size, name))
    return made


def ours() -> Read:
    reader = Reader(threads=1)

    def read(rgb: RGB) -> str:
        height, width = rgb.shape[:2]
        return reader.read(Picture("PNG", width, height, 1, 1, (Frame(0, "raw", rgb),))).text

    return read


def tesseract(mode: str) -> Read:
    command = shutil.which("tesseract") or "tesseract"

    def read(rgb: RGB) -> str:
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            Image.fromarray(rgb).save(file.name, compress_level=1)
            asked = [command, file.name, "-", "--psm", mode, "-l", "eng"]
            limits = {**os.environ, "OMP_THREAD_LIMIT": "1"}
            return subprocess.run(asked, env=limits, capture_output=True, text=True, check=True).stdout

    return read


def package() -> Read | None:
    """The package that ships the networks, with its own code around them."""
    try:
        from rapidocr import RapidOCR
    except ImportError:
        return None
    threads = {"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "critical"}
    engine = RapidOCR(
        params={**threads, "Global.use_cls": False, "Det.limit_type": "max", "Det.limit_side_len": 640}
    )

    def read(rgb: RGB) -> str:
        found = engine(np.ascontiguousarray(rgb[..., ::-1]))
        return "\n".join(getattr(found, "txts", None) or ())

    return read


def spent() -> float:
    """Seconds of processor time so far, of this process and of the commands that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(read: Read, marked: Sequence[Captioned], bare: Sequence[RGB]) -> tuple[list[str], dict[str, str]]:
    """A row of the table, and the words found of those there are by how they were drawn and by their size."""
    hits: dict[str, list[int]] = {}
    took: list[float] = []
    without: list[float] = []
    said = 0
    read(marked[0].rgb)
    for one in marked:
        start = spent()
        text = read(one.rgb)
        took.append(spent() - start)
        right = sum((words(text) & one.words).values())
        for key in ("all", one.style, f"{one.size} px"):
            counted = hits.setdefault(key, [0, 0])
            counted[0] += right
            counted[1] += sum(one.words.values())
    for rgb in bare:
        start = spent()
        said += sum(words(read(rgb)).values())
        without.append(spent() - start)
    found = {key: f"{got}/{of}" for key, (got, of) in hits.items()}
    return [found.pop("all"), *_milliseconds(took), *_milliseconds(without), str(said)], found


def _milliseconds(seconds: Sequence[float]) -> tuple[str, str]:
    ordered = sorted(seconds)
    return f"{statistics.median(ordered) * 1000:.0f}", f"{ordered[int(len(ordered) * 0.95)] * 1000:.0f}"


def table(title: str, *columns: str) -> Table:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column)
    return shown


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--photos", type=Path, help="a folder of pictures to draw on; else synthetic ones")
    asked.add_argument("--show", type=Path, help="where to put the captioned pictures, to look at them")
    asked.add_argument("--count", type=int, default=50)
    asked.add_argument(
        "--only", nargs="+", help="of ours, rapidocr, tesseract and sparse those that shall read"
    )
    given = asked.parse_args()
    made = backgrounds(given.photos, given.count)
    with Decoder() as decoder:
        marked = [captioned(image, index, decoder) for index, image in enumerate(made)]
        bare = [decoded(image, decoder) for image in made]
        pages = screens(decoder)
    if given.show:
        given.show.mkdir(parents=True, exist_ok=True)
        for index, one in enumerate(marked):
            Image.fromarray(one.rgb).save(given.show / f"{index:02}-{one.style}-{one.size}.png")
    has = shutil.which("tesseract") is not None
    readers: Mapping[str, Read | None] = {
        "ours": ours(),
        "rapidocr": package(),
        "tesseract": tesseract("3") if has else None,
        "sparse": tesseract("11") if has else None,
    }
    chosen = {name: read for name, read in readers.items() if not given.only or name in given.only}
    report(chosen, marked, bare, pages)


def report(
    readers: Mapping[str, Read | None],
    marked: Sequence[Captioned],
    bare: Sequence[RGB],
    pages: Sequence[Captioned],
) -> None:
    shown = table(
        f"{len(marked)} captioned pictures, and the same without",
        "", "words", "with text: ms", "p95", "without: ms", "p95", "words read without",
    )  # fmt: skip
    drawn: dict[str, dict[str, str]] = {}
    read_of: dict[str, list[str]] = {}
    for name, read in readers.items():
        if read is None:
            continue
        numbers, drawn[name] = measure(read, marked, bare)
        shown.add_row(name, *numbers)
        for page in pages:
            start = spent()
            right = sum((words(read(page.rgb)) & page.words).values())
            said = f"{right}/{sum(page.words.values())}, {(spent() - start) * 1000:.0f} ms"
            read_of.setdefault(page.style, []).append(said)
    SCREEN.print(shown)
    by_kind = table("words by how they were drawn", "", *drawn)
    for key in next(iter(drawn.values())):
        by_kind.add_row(key, *(found[key] for found in drawn.values()))
    SCREEN.print(by_kind)
    by_page = table("pages of text", "", *drawn)
    for style, row in read_of.items():
        by_page.add_row(style, *row)
    SCREEN.print(by_page)


if __name__ == "__main__":
    main()
