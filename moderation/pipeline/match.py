"""Stage 2: matches with banks of what is known, by digest, by what a text holds, and by what it means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from moderation.domain.signals import BankAction, DetectorStatus, Match, Signal
from moderation.governance import banks
from moderation.pipeline.batch import Batch, failed
from moderation.pipeline.matchers import Matchers, Snapshot, Unembedded
from moderation.storage.vault import Vault

LABELS = "banks"
"""The detector whose signals say what only labels, and that has none where nothing did."""
CLAIMS = "claims"
VERSION = "1"


def match(session: Session, batch: Batch, vault: Vault, matchers: Matchers) -> Snapshot:
    """Add a match for every part that equals a live entry of an enabled bank.

    Answers the banks as they are now, for `match_texts`: what takes its time has no business in a transaction.
    """
    parts = [("text", text.digest, text.item, text.part) for text in batch.texts]
    parts += [("image", image.digest, image.item, image.part) for image in batch.images]
    found = banks.lookup(session, {(kind, digest) for kind, digest, _, _ in parts}, batch.now)
    for kind, digest, item, part in parts:
        _add(batch, item, part, found.get((kind, digest), ()))
    return matchers.current(session, vault, batch.now) if batch.texts else Snapshot()


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
                said = {"bank": one.bank, "entry": one.entry, "category": one.category, "how": str(one.how),
                        "score": round(one.score, 4), "verified": one.verified}  # fmt: skip
                by_part.setdefault(one.part, []).append(said)
        for part, labels in by_part.items():
            batch.add_signal(item, Signal(part, LABELS, VERSION, DetectorStatus.OK, {}, {"labels": labels}))


def _add(batch: Batch, item: UUID, part: str, found: Sequence[Match]) -> None:
    """Add matches of a part, each entry once: what equals it is more than what resembles it."""
    known = {one.entry for one in batch.matches.get(item, ()) if one.part == part}
    for one in found:
        if one.entry not in known:
            batch.add_match(item, replace(one, part=part))
