"""Folders of benign pictures to measure on: decoded as the service does, near copies kept once, one at a time.

A folder may hold a `LIST.csv` with the columns `file` and `kind` (photo, art, astro): what is no photograph is
reported apart. Pictures without a line there count as photographs.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from moderation.features.decode import Decoder, Picture, UndecodableImage
from moderation.features.hashes import hamming, perceptual_hash

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff"}
LIST = "LIST.csv"
PHOTO = "photo"
NEAR = 8
"""Bits of a pHash up to which two pictures count as one."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One benign picture: where it lies below its folder, its kind, and its frames as the service sees them."""

    name: str
    kind: str
    sha256: str
    picture: Picture

    @property
    def half(self) -> str:
        """Which half it belongs to, by its content: what calibrates is never measured on."""
        return "calibrate" if int(self.sha256[:8], 16) % 2 else "measure"


def photographs(folders: Iterable[Path]) -> Iterator[Photo]:
    """The distinct pictures under `folders`, one after the other: all of them at once would take gigabytes."""
    hashes: list[int] = []
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for photo in photographs_of(files, folder):
            found = perceptual_hash(photo.picture.frames[-1].rgb)
            if all(hamming(found, other) > NEAR for other in hashes):
                hashes.append(found)
                yield photo


def photographs_of(files: Iterable[Path], folder: Path) -> Iterator[Photo]:
    """Those of `files`, which lie below `folder`, that can be read."""
    kinds = _kinds(folder)
    with Decoder(wall_seconds=20) as decoder:
        for path in files:
            name, data = str(path.relative_to(folder)), path.read_bytes()
            try:
                picture = decoder.decode(data)
            except UndecodableImage as refusal:
                print(f"left out: {name}: {refusal}")
                continue
            yield Photo(name, kinds.get(name, PHOTO), hashlib.sha256(data).hexdigest(), picture)


def _kinds(folder: Path) -> dict[str, str]:
    if not (folder / LIST).exists():
        return {}
    with (folder / LIST).open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["kind"] for row in csv.DictReader(file)}
