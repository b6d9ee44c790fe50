"""Stage 2: matches with banks of what is known: by digest, by what pictures show, by what texts hold and mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from moderation.domain.signals import BankAction, DetectorStatus, Match, Signal
from moderation.features import fingerprints
from moderation.governance import banks
from moderation.governance.bank_rules import sampled
from moderation.pipeline import pictures
from moderation.pipeline.batch import Batch, failed, part_name
from moderation.pipeline.matchers import Matchers, Snapshot, Unembedded
from moderation.pipeline.pictures import Proposed
from moderation.storage.vault import Vault

LABELS = "banks"
"""The detector whose signals say what only labels, and that has none where nothing did."""
CLAIMS = "claims"
HASHES = "hashes"
VERSION = "1"


def fingerprint(batch: Batch) -> None:
    """Hash the pictures that were decoded: what banks are asked by, and what is kept for a later search."""
    for image in batch.images:
        if image.picture is None:
            continue
        try:
            asked = fingerprints.asked(image.picture, image.digest)
        except Exception:  # noqa: BLE001 - the policy says what follows, as for any detector that could not speak
            batch.add_signal(image.item, failed(image.part, HASHES, fingerprints.MAKER, "no hash"))
            continue
        batch.asked[image.item, image.part] = asked
        batch.add_feature(image.item, image.part, HASHES, fingerprints.MAKER, asked.pack())


def match(session: Session, batch: Batch, vault: Vault, matchers: Matchers) -> Snapshot:
    """Add a match for every part that equals a live entry of an enabled bank.

    Answers the banks as they are now, for `match_texts`: what takes its time has no business in a transaction.
    """
    parts = [("text", text.digest, text.item, text.part) for text in batch.texts]
    parts += [("image", image.digest, image.item, image.part) for image in batch.images]
    found = banks.lookup(session, {(kind, digest) for kind, digest, _, _ in parts}, batch.now)
    for kind, digest, item, part in parts:
        mine = found.get((kind, digest), ())
        _add(batch, item, part, mine)
        if (item, part) in batch.written:
            # What is harmless as a whole is so with what stands in it.
            _add(batch, item, part_name(part), [one for one in mine if one.clears])
    return matchers.current(session, vault, batch.now) if batch.texts else Snapshot()


def match_pictures(session: Session, batch: Batch, proposed: Sequence[Proposed]) -> None:
    """Add what the entries that were proposed for each of `batch.asked` mean now."""
    found = pictures.matches(session, proposed, batch.now)
    for (item, part), mine in zip(batch.asked, found, strict=True):
        _add(batch, item, part, mine)


def match_texts(batch: Batch, snapshot: Snapshot) -> None:
    """Add what texts hold, resemble or mean; then a signal for what only labels."""
    distinct = list(dict.fromkeys(text.text for text in batch.texts))
    _add_all(batch, distinct, snapshot.find(distinct, batch.now, lambda text: batch.read(text).views))
    try:
        _add_all(batch, distinct, snapshot.find_claims(distinct, batch.now))
    except Unembedded:
        # The policy says what follows, as for any detector that could not speak.
        for text in batch.texts:
            batch.add_signal(text.item, failed(text.part, CLAIMS, VERSION, "no embedding model"))
    _label(batch)


def _add_all(batch: Batch, texts: Sequence[str], matches: Sequence[Sequence[Match]]) -> None:
    found = dict(zip(texts, matches, strict=True))
    for text in batch.texts:
        _add(batch, text.item, text.part, found[text.text])


def _label(batch: Batch) -> None:
    """One signal for each part with what only labels it: evidence, and no score."""
    for item, matches in batch.matches.items():
        by_part: dict[str, list[dict[str, Any]]] = {}
        for one in matches:
            if one.action is BankAction.LABEL and not one.allow:
                by_part.setdefault(one.part, []).append(one.labelled())
        for part, labels in by_part.items():
            batch.add_signal(item, Signal(part, LABELS, VERSION, DetectorStatus.OK, {}, {"labels": labels}))


def _add(batch: Batch, item: UUID, part: str, found: Sequence[Match]) -> None:
    """Add matches of a part, each entry once: what equals it is more than what resembles it."""
    known = {one.entry for one in batch.matches.get(item, ()) if one.part == part}
    for one in found:
        if one.entry not in known:
            # Outside the sample of its bank it only labels.
            batch.add_match(item, replace(sampled(one, item), part=part))
