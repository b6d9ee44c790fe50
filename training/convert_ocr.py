"""The networks that read text in pictures: PP-OCRv6 small, as the package `rapidocr` brings them, in 16 bits.

Nothing is trained here, and the service needs nothing else of that package. A tenth of the detector's weights are
so small that processors compute with them many times slower; in 16 bits they are zero.

    python -m training.convert_ocr
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from models.registry import ARTIFACTS, CARD, file_sha256, write_manifest
from models.runtime import open_session
from training.common import TrainingError
from training.shrinking import halve

PACKAGE, RELEASE = "rapidocr", "3.10.0"
FOLDER = ARTIFACTS / "ocr-pp-v6" / "1"
# What we call a network, how the package does, and an input of its shape.
NETWORKS = {
    "detect.onnx": ("PP-OCRv6_det_small.onnx", (1, 3, 480, 640)),
    "read.onnx": ("PP-OCRv6_rec_small.onnx", (4, 3, 48, 640)),
}
DOCUMENT = {
    "name": "ocr-pp-v6",
    "version": "1",
    "kind": "reader",
    "input": {},
    "licence": "Apache-2.0",
    "source": {"package": PACKAGE, "version": RELEASE},
}
MOST = 0.02
"""By how much a probability may differ between 16 and 32 bits."""

CARD_TEXT = """\
# ocr-pp-v6 1

**What it is.** Two networks of PP-OCRv6 small (PaddleOCR): `detect.onnx` draws where lines of text stand,
`read.onnx` reads one line in 18,708 characters: Latin without the Vietnamese accents, Greek, Chinese and Japanese;
no Cyrillic, Korean, Arabic, Hebrew, Thai or Indian script. They are those of the package `rapidocr` 3.10.0, their
weights stored in 16 bits (`training/convert_ocr.py`):

| file | from | its SHA-256 | largest change of a probability |
|---|---|---|---|
{rows}

**What it is for.** The text in a posted picture is screened as any text is. `moderation/features/ocr.py` has what
is around the networks.

**What it does not say.** Anything about what a picture shows. Handwriting, bent or very small letters and letters
made of other things are often missed, and a person who wants to can write so that it is.

**Measured** in `docs/benchmarks.md`, Text in pictures.

**Licence.** Apache-2.0 (`LICENSE.txt`); the weights are copyright Baidu and the PaddleOCR authors, converted to
ONNX by the RapidOCR authors, and changed here as said above (`NOTICE.txt`).
"""
NOTICE = """\
PP-OCRv6 small, detection and recognition
Copyright Baidu and the PaddleOCR authors

Converted from an official PaddleOCR model to ONNX and packaged for use with RapidOCR 3.10.0 by the RapidOCR
Authors. The upstream model weights are copyright Baidu and/or the applicable PaddleOCR rights holders and are
licensed under the Apache License, Version 2.0 (LICENSE.txt). Changed here: weights are stored in 16 bits.
"""


def package() -> Path:
    """The folder of the package, which is only read as files.

    Raises:
        TrainingError: it is not installed, or another release.
    """
    found = distribution(PACKAGE)
    if found.version != RELEASE:
        raise TrainingError(f"{PACKAGE} is {found.version}; install {PACKAGE}=={RELEASE}.")
    return Path(str(found.locate_file(PACKAGE)))


def difference(first: Path, second: Path, shape: Sequence[int]) -> float:
    """The largest difference of an output of two networks for one input."""
    given = np.random.default_rng(0).normal(0, 0.3, shape).astype(np.float32)
    (one,), (other,) = (open_session(path, 1).run(None, {"x": given}) for path in (first, second))
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def convert(target: Path) -> None:
    """Write the artifact into `target`.

    Raises:
        TrainingError: the package is not there, or 16 bits change a probability by more than `MOST`.
    """
    source = package()
    target.mkdir(parents=True, exist_ok=True)
    rows, changes = [], {}
    for name, (theirs, shape) in NETWORKS.items():
        network = source / "models" / theirs
        halve(network, target / name)
        changed = difference(network, target / name, shape)
        if changed > MOST:
            raise TrainingError(f"{name} in 16 bits changes a probability by {changed:.3f}.")
        changes[name] = {"largest_change_of_a_probability": round(changed, 5)}
        rows.append(f"| `{name}` | `{theirs}` | `{file_sha256(network)}` | {changed:.4f} |")
    licences = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}-{RELEASE}.dist-info"))) / "licenses"
    shutil.copyfile(licences / "LICENSE", target / "LICENSE.txt")
    (target / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")
    (target / CARD).write_text(CARD_TEXT.format(rows="\n".join(rows)), encoding="utf-8")
    write_manifest(target, {**DOCUMENT, "metrics": changes}, (*NETWORKS, CARD, "LICENSE.txt", "NOTICE.txt"))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--out", type=Path, default=FOLDER, help="the artifact's folder")
    convert(asked.parse_args().out)


if __name__ == "__main__":
    main()
