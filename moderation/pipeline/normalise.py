"""Stage 1: open the ciphertexts and bring every part into the form the detectors read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from moderation import metrics
from moderation.features.decode import Decoder, UndecodableImage
from moderation.features.hashes import sha256, text_digest
from moderation.pipeline.batch import Batch, Image, Text, failed
from moderation.storage.blobs import FolderBlobs
from moderation.storage.tables import Part
from moderation.storage.vault import Key, VaultError

DECODER = "decoder"
UNDECODABLE = "undecodable"
DECODER_VERSION = "2"


def normalise(
    batch: Batch, parts: Sequence[Part], keys: Mapping[UUID, Key], blobs: FolderBlobs, decoder: Decoder
) -> None:
    """Fill `batch.texts` and `batch.images`; a picture that can't be decoded leaves a failed signal.

    Raises:
        VaultError: a part does not open. The whole batch fails, and its items are then tried one by one.
    """
    pictures: list[tuple[Part, bytes]] = []
    for part in parts:
        content = _open(part, keys, blobs)
        if part.kind == "text":
            text = content.decode()
            batch.texts.append(Text(part.item_id, part.name, text, text_digest(text)))
        else:
            pictures.append((part, content))
    if not pictures:
        return
    with metrics.STAGE_DURATION.labels("decode").time():
        decoded = decoder.decode_many([content for _, content in pictures])
    for (part, content), picture in zip(pictures, decoded, strict=True):
        if isinstance(picture, UndecodableImage):
            batch.add_signal(part.item_id, failed(part.name, DECODER, DECODER_VERSION, _cause(picture)))
        batch.images.append(
            Image(
                item=part.item_id,
                part=part.name,
                digest=sha256(content),
                picture=None if isinstance(picture, UndecodableImage) else picture,
            )
        )


def _cause(refusal: UndecodableImage) -> str:
    """Why a picture was refused, in words of ours: `undecodable: too slow`."""
    return UNDECODABLE if refusal.code == UNDECODABLE else f"{UNDECODABLE}: {refusal.code.replace('_', ' ')}"


def _open(part: Part, keys: Mapping[UUID, Key], blobs: FolderBlobs) -> bytes:
    if part.item_id not in keys:
        raise VaultError("An item's key is gone.")
    place = (str(part.item_id), str(part.position))
    if part.kind == "text":
        return keys[part.item_id].decrypt(part.content or b"", "parts", "content", *place)
    return keys[part.item_id].decrypt(blobs.open(part.blob or ""), "parts", "blob", *place)
