"""Stage 2: the text in pictures becomes a text of its item, and passes everything that texts pass."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from moderation.features.hashes import text_digest
from moderation.features.ocr import PIXELS, VERSION, Reader, Reading
from moderation.pipeline.batch import PARTLY, Batch, Text, failed, part_name

OCR = "ocr"
MOST = 6 * PIXELS
"""What is read of one item costs no more, some thirty seconds: it may have a hundred pictures, and others wait."""


def read(batch: Batch, reader: Reader | None) -> None:
    """Add a text for each picture in which something stands, as a part of its own; with no reader nothing is read.

    A picture that breaks the reader, or in which there is more than it reads, leaves a failed signal: the policy
    says what follows. So does one that is not read because those before it, of the same item, took too long.
    """
    known: dict[bytes, Reading | None] = {}
    spent: Counter[UUID] = Counter()
    for image in batch.images:
        if reader is None or image.picture is None:
            continue
        if image.digest not in known:
            if spent[image.item] >= MOST:
                batch.add_signal(image.item, failed(image.part, OCR, VERSION, PARTLY))
                continue
            try:
                found = known[image.digest] = reader.read(image.picture)
                spent[image.item] += found.cost
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
