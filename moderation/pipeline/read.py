"""Stage 2: the text in pictures becomes a text of its item, and passes everything that texts pass."""

from __future__ import annotations

from moderation.features.hashes import text_digest
from moderation.features.ocr import VERSION, Reader, Reading
from moderation.pipeline.batch import PARTLY, Batch, Text, failed

OCR = "ocr"


def read(batch: Batch, reader: Reader | None) -> None:
    """Add a text for each picture in which something stands, as a part of its own; with no reader nothing is read.

    A picture that breaks the reader, or in which there is more than it reads, leaves a failed signal: the policy
    says what follows.
    """
    known: dict[bytes, Reading | None] = {}
    for image in batch.images:
        if reader is None or image.picture is None:
            continue
        if image.digest not in known:
            try:
                known[image.digest] = reader.read(image.picture)
            except Exception:  # noqa: BLE001 - whatever a picture does to it, the item is told that it failed
                known[image.digest] = None
        reading = known[image.digest]
        if reading is None or not reading.whole:
            batch.add_signal(
                image.item, failed(image.part, OCR, VERSION, "error" if reading is None else PARTLY)
            )
        if reading is not None and reading.text:
            name = part_name(image.part)
            batch.texts.append(Text(image.item, name, reading.text, text_digest(reading.text)))
            batch.written[image.item, image.part] = reading


def part_name(picture: str) -> str:
    """What the text of a picture is called; no posted part has a dot in its name."""
    return f"{picture}.text"
