"""Which copies of pictures hashes find: `python -m benchmarks.robustness --photos DIR`.

DIR holds pictures, and a LIST.csv with the columns `file` and `kind`; kinds get tables of their own. Each picture
as it is makes an entry of a bank, each edit of `benchmarks.picture_edits`, made of a reduction to 1024 pixels and
saved as JPEG, is asked. All go through the real decoder. False matches are of all pairs of different pictures,
kinds mixed: as they are, and each edited copy against each other picture's entry.
"""

from __future__ import annotations

import argparse
import csv
import io
import pickle
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.picture_edits import copies
from moderation.features import pdq
from moderation.features.decode import Decoder, Picture, UndecodableImage
from moderation.features.fingerprints import MATCH, PHASH_REVIEW, REVIEW, Asked, Kept, asked, crops, kept
from moderation.features.hashes import hamming, perceptual_hash, sha256

SIDE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A decoded picture's hashes: the eight of its first frame without any trimming, and what the product asks."""

    pdq: NDArray[np.uint8]
    phash: int
    asked: Asked


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One picture of the collection."""

    name: str
    kind: str
    look: Look
    kept: Kept
    crops: NDArray[np.uint8]
    """Hashes of seven crops around the centre (7, 32)."""
    full: int
    """Bits between the hash of the decoder's frame and that of all its pixels."""
    copies: dict[str, Look]

    def uncropped(self) -> NDArray[np.uint8]:
        """What the bank keeps without the crops."""
        middle = set(map(bytes, self.crops))
        return np.array([row for row in self.kept.pdq if bytes(row) not in middle], np.uint8).reshape(
            -1, pdq.BYTES
        )

    def cropped(self) -> NDArray[np.uint8]:
        """All that the bank keeps."""
        return np.concatenate([self.uncropped(), self.crops]) if len(self.kept.pdq) else self.kept.pdq


def main(arguments: Sequence[str] | None = None) -> int:
    """Print tables as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, default=Path())
    parser.add_argument("--most", type=int, default=sys.maxsize, help="pictures of each kind but photo")
    parser.add_argument("--kind", action="append", help="only this kind; more than one are allowed")
    parser.add_argument("--save", type=Path, help="a file for the hashes")
    parser.add_argument("--load", type=Path, action="append", help="such a file instead of pictures; or more")
    options = parser.parse_args(arguments)
    if options.load:
        # Pickle runs what it reads, so these are the caller's own files.
        entries = [entry for file in options.load for entry in pickle.loads(file.read_bytes())]
    else:
        entries = list(_entries(options.photos, options.most, options.kind))
    if options.save:
        options.save.write_bytes(pickle.dumps(entries))
    kinds = defaultdict(list)
    for entry in entries:
        kinds[entry.kind].append(entry)
    for kind, some in kinds.items():
        _print_found(kind, some)
    _print_false(entries)
    return 0


def _entries(folder: Path, most: int, only: Sequence[str] | None) -> list[Entry]:
    chosen: dict[str, list[str]] = defaultdict(list)
    with (folder / "LIST.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            chosen[row["kind"]].append(row["file"])
    entries: list[Entry] = []
    with Decoder() as decoder:
        for kind in only or sorted(chosen, reverse=True):
            for name in chosen[kind][: None if kind == "photo" else most]:
                try:
                    entries.append(_entry(folder, name, kind, decoder))
                except UndecodableImage as refusal:
                    print(f"{name} is refused: {refusal}", file=sys.stderr)
    return entries


def _entry(folder: Path, name: str, kind: str, decoder: Decoder) -> Entry:
    data = (folder / name).read_bytes()
    picture = decoder.decode(data)
    look = _look(picture, data)
    whole = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if whole.has_transparency_data:
        page = Image.new("RGBA", whole.size, "white")
        page.alpha_composite(whole.convert("RGBA"))
        whole = page
    whole = whole.convert("RGB")
    full = pdq.distance(pdq.hashed(np.asarray(whole))[0], look.pdq[0])
    whole.thumbnail((SIDE, SIDE))
    edited = {edit: _look(decoder.decode(copy), copy) for edit, copy in copies(whole).items()}
    return Entry(name, kind, look, kept(picture), _crops(picture), full, edited)


def _look(picture: Picture, data: bytes) -> Look:
    first = [frame for frame in picture.frames if frame.index == picture.frames[0].index][-1]
    hashes, _ = pdq.oriented(first.rgb, _full(picture, first.rgb))
    return Look(hashes, perceptual_hash(first.rgb), asked(picture, sha256(data)))


def _full(picture: Picture, rgb: NDArray[np.uint8]) -> pdq.Size:
    turned = (rgb.shape[1] > rgb.shape[0]) != (picture.width > picture.height)
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _crops(picture: Picture) -> NDArray[np.uint8]:
    rgb = picture.frames[-1].rgb
    full = _full(picture, rgb)
    made = []
    for part in crops(rgb):
        down, across = (round(full[axis] * part.shape[axis] / rgb.shape[axis]) for axis in (0, 1))
        made.append(pdq.hashed(part, (down, across))[0])
    return np.stack(made)


def _print_found(kind: str, entries: Sequence[Entry]) -> None:
    none = sum(not len(entry.kept.pdq) for entry in entries)
    drift = [entry.full for entry in entries]
    print(f"\n{len(entries)} pictures of kind {kind}; {none} have no hash (quality below {pdq.GOOD}).")
    print(f"Decoder's frame against all pixels: mean {np.mean(drift):.1f} bits, at most {max(drift)}.\n")
    print(
        f"| change | PDQ <= {MATCH} | PDQ <= {REVIEW} | 8 orientations | and borders off | and crops: **matched** "
        f"| pHash <= {PHASH_REVIEW} | **matched or reviewed** |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for edit in entries[0].copies:
        shares = np.mean([_found(entry, entry.copies[edit]) for entry in entries], axis=0) * 100
        print(f"| {edit} | {' | '.join(f'{share:.0f}' for share in shares)} |")


def _found(entry: Entry, copy: Look) -> list[bool]:
    upright = pdq.distance(entry.look.pdq[0], copy.pdq[0])
    either = _nearest(copy.pdq, entry.look.pdq[:1])
    both = _nearest(copy.asked.pdq, entry.uncropped())
    every = min(both, _nearest(copy.asked.pdq, entry.cropped()))
    second = entry.kept.phash is not None and any(
        hamming(entry.kept.phash, value) <= PHASH_REVIEW for value in copy.asked.phashes
    )
    return [
        upright <= MATCH,
        upright <= REVIEW,
        either <= MATCH,
        both <= MATCH,
        every <= MATCH,
        hamming(entry.look.phash, copy.phash) <= PHASH_REVIEW,
        every <= REVIEW or second,
    ]


def _nearest(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return int(_distances(a, b).min()) if len(a) and len(b) else pdq.BITS


def _distances(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Of all of (n, 32) to all of (m, 32): (n, m)."""
    words, others = a.view(np.uint64), b.view(np.uint64)
    return np.asarray(np.bitwise_count(words[:, None] ^ others[None]).sum(axis=2, dtype=np.uint16))


def _print_false(entries: Sequence[Entry]) -> None:
    names = ["as they are", *entries[0].copies]
    print(f"\nFalse matches: {len(entries) * (len(entries) - 1)} ordered pairs of different pictures.\n")
    bands = f"<= {MATCH} | <= {REVIEW} | nearest"
    print(f"| asked | {bands} | with crops: {bands} | pHash <= {PHASH_REVIEW} |")
    print("|---|---|---|---|---|---|---|---|")
    plain = [entry.uncropped() for entry in entries]
    more = [entry.cropped() for entry in entries]
    for name in names:
        looks = [entry.copies.get(name, entry.look) for entry in entries]
        nearest = [_nearest_others(entries, looks, bank) for bank in (plain, more)]
        cells = [f"{(found <= MATCH).sum()} | {(found <= REVIEW).sum()} | {found.min()}" for found in nearest]
        print(f"| {name} | {' | '.join(cells)} | {_second(entries, looks)} |")


def _nearest_others(
    entries: Sequence[Entry], looks: Sequence[Look], bank: Sequence[NDArray[np.uint8]]
) -> NDArray[np.uint16]:
    """For each pair of a look and another picture's entry, the least distance."""
    owners = np.repeat(np.arange(len(bank)), [len(hashes) for hashes in bank])
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    together = np.concatenate(bank)
    found = []
    for index, look in enumerate(looks):
        if not len(look.asked.pdq):
            continue
        least = np.minimum.reduceat(_distances(look.asked.pdq, together).min(axis=0), starts)
        others = owners[starts] != index
        for other in np.flatnonzero((least <= REVIEW) & others):
            print(entries[index].name, entries[owners[starts][other]].name, least[other], file=sys.stderr)
        found.append(least[others])
    return np.concatenate(found)


def _second(entries: Sequence[Entry], looks: Sequence[Look]) -> int:
    """Pairs of a look and another picture's entry that the second hash takes for copies."""
    values = [
        (index, entry.kept.phash) for index, entry in enumerate(entries) if entry.kept.phash is not None
    ]
    owners = np.array([index for index, _ in values])
    hashes = np.array([value for _, value in values], np.uint64)
    count = 0
    for index, look in enumerate(looks):
        near = np.zeros(len(hashes), np.bool_)
        for value in look.asked.phashes:
            near |= np.bitwise_count(hashes ^ np.uint64(value)) <= PHASH_REVIEW
        count += int((near & (owners != index)).sum())
    return count


if __name__ == "__main__":
    sys.exit(main())
