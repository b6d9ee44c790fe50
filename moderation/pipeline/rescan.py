"""Look for the entries of one bank in items that were screened before it knew them.

Pictures are asked for by the hashes that screening stored and decoded anew only where there are none; texts are
opened. What an allow bank clears is looked up for what is found, so that it wins here as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.errors import Unavailable
from moderation.domain.signals import BankKind, Match
from moderation.features import fingerprints
from moderation.features.decode import Decoder, UndecodableImage
from moderation.features.fingerprints import MAKER, Asked
from moderation.features.hashes import sha256, text_digest
from moderation.governance import banks
from moderation.governance.bank_rules import sampled
from moderation.pipeline import pictures
from moderation.pipeline.matchers import Matchers, Unembedded
from moderation.pipeline.matchers import Snapshot as Texts
from moderation.pipeline.pictures import PictureBanks
from moderation.pipeline.pictures import Snapshot as Pictures
from moderation.review import likeness
from moderation.storage import items as queue
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import BankEntry, Part, Rescan
from moderation.storage.vault import Key, Vault, VaultError

RETRY_SECONDS = 60.0
DECODED_AT_ONCE = 8
"""Pictures in memory at a time: an item may have a hundred, and a page a hundred items."""

log = structlog.get_logger()
Place = tuple[UUID, str]
"""An item and a part of it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a search holds as long as it runs."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    decoder: Decoder
    banks: Matchers
    pictures: PictureBanks


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for: a bank as it was when the search was opened, and of it the `entries`, or all."""

    bank: str
    kind: BankKind
    enabled: bool
    since: int
    entries: frozenset[str] | None
    texts: Texts = field(default_factory=Texts)
    pictures: Pictures = field(default_factory=Pictures)

    def wants(self, match: Match) -> bool:
        return self.entries is None or match.entry in self.entries


@dataclass(slots=True)
class _Asked:
    """The parts of a page: their digests, and what pictures are asked for by."""

    digests: dict[Place, bytes] = field(default_factory=dict)
    hashed: dict[Place, Asked] = field(default_factory=dict)
    texts: dict[Place, str] = field(default_factory=dict)
    read_in: dict[Place, bytes] = field(
        default_factory=dict
    )  # of texts read in pictures, the picture's digest
    rows: list[Mapping[str, object]] = field(default_factory=list)  # hashes that were made anew


def opened(session: Session, tools: Tools, rescan: Rescan, name: str, now: datetime) -> Search:
    """What a rescan looks for, compiled once.

    Raises:
        NotFound: the bank is gone.
    """
    bank = banks.named(session, name)
    entries = None
    if rescan.since_version > 0:
        newer = select(BankEntry.id).where(
            BankEntry.bank_id == bank.id, BankEntry.version > rescan.since_version
        )
        entries = frozenset(str(one) for one in session.scalars(newer))
    search = Search(bank.name, BankKind(bank.kind), bank.enabled, rescan.since_version, entries)
    if search.kind is BankKind.IMAGE:
        return replace(search, pictures=tools.pictures.current(session, tools.vault, now))
    # One of its own: what is held of all banks that are on must not be taken for this one alone.
    return replace(search, texts=tools.banks.current(session, tools.vault, now, only=bank.name))


def find(
    tools: Tools, search: Search, ids: Sequence[UUID], now: datetime, *, keep: bool
) -> dict[UUID, list[Match]]:
    """What is found in each of `ids`, with what clears a part of it; items with nothing are left out.

    With `keep` hashes that had to be made anew are stored. Owns its transactions.

    Raises:
        Unavailable: claims are looked for, and no model can embed sentences.
    """
    image = search.kind is BankKind.IMAGE
    with transaction(tools.databases.content) as session:
        parts = [part for part in queue.parts_of(session, ids) if part.kind == ("image" if image else "text")]
        sealed = likeness.of_items(session, ids, likeness.HASHES, MAKER)
    keys = tools.vault.item_keys(sorted({part.item_id for part in parts}))
    parts = [part for part in parts if part.item_id in keys]
    asked = _pictures(tools, parts, keys, sealed) if image else _texts(parts, keys, sealed)
    with transaction(tools.databases.content) as session:
        if keep:
            likeness.add(session, asked.rows)
        known = banks.lookup(session, _digests(search, asked), now, only=search.bank)
    found: dict[Place, list[Match]] = {}
    for place, digest in asked.digests.items():
        mine = known.get((str(search.kind), digest), ())
        found[place] = [one for one in mine if search.wants(one)]
    near = _near_pictures(tools, search, asked, now) if image else _near_texts(tools, search, asked, now)
    for place, matches in near.items():
        equal = {one.entry for one in found[place]}
        found[place] += [one for one in matches if one.entry not in equal and search.wants(one)]
    return _settled(tools, search, asked, {place: those for place, those in found.items() if those}, now)


def _digests(search: Search, asked: _Asked) -> set[tuple[str, bytes]]:
    if search.kind not in (BankKind.IMAGE, BankKind.TEXT):
        return set()  # words, links and claims are part of a text, and no text is one
    return {(str(search.kind), digest) for digest in asked.digests.values()}


def _pictures(
    tools: Tools, parts: Sequence[Part], keys: Mapping[UUID, Key], sealed: Mapping[tuple[UUID, int], bytes]
) -> _Asked:
    asked, missing = _Asked(), list[Part]()
    for part in parts:
        kept = _kept(keys[part.item_id], part.item_id, part.position, sealed)
        if kept is None:
            missing.append(part)
            continue
        place = (part.item_id, part.name)
        asked.hashed[place], asked.digests[place] = kept, kept.sha256
    for start in range(0, len(missing), DECODED_AT_ONCE):
        _decode(tools, missing[start : start + DECODED_AT_ONCE], keys, asked)
    return asked


def _kept(key: Key, item_id: UUID, position: int, sealed: Mapping[tuple[UUID, int], bytes]) -> Asked | None:
    """The hashes that were stored of a picture; None where there are none, or none that can be read."""
    value = sealed.get((item_id, position))
    try:
        where = likeness.place(likeness.HASHES, item_id, position)
        return None if value is None else Asked.unpack(key.decrypt(value, *where))
    except (VaultError, ValueError):
        return None


def _decode(tools: Tools, parts: Sequence[Part], keys: Mapping[UUID, Key], asked: _Asked) -> None:
    """Hash pictures anew; one that can't be is known by its bytes alone."""
    opened: list[tuple[Part, bytes]] = []
    for part in parts:
        where = ("parts", "blob", str(part.item_id), str(part.position))
        try:
            opened.append((part, keys[part.item_id].decrypt(tools.blobs.open(part.blob or ""), *where)))
        except (VaultError, BlobMissing) as error:
            log.warning("part_unreadable", item=str(part.item_id), reason=type(error).__name__)
    decoded = tools.decoder.decode_many([content for _, content in opened])
    for (part, content), picture in zip(opened, decoded, strict=True):
        place = (part.item_id, part.name)
        asked.digests[place] = sha256(content)
        if isinstance(picture, UndecodableImage):
            continue
        try:
            made = asked.hashed[place] = fingerprints.asked(picture, asked.digests[place])
        except Exception as error:  # noqa: BLE001 - one picture must not end the search, nor each that follows it
            log.warning("picture_not_hashed", item=str(part.item_id), reason=type(error).__name__)
            continue
        row = (part.item_id, part.position, likeness.HASHES, MAKER, made.pack())
        asked.rows.append(likeness.row(keys[part.item_id], *row))


def _texts(
    parts: Sequence[Part], keys: Mapping[UUID, Key], sealed: Mapping[tuple[UUID, int], bytes]
) -> _Asked:
    asked = _Asked()
    for part in parts:
        key, place = keys[part.item_id], (part.item_id, part.name)
        where = ("parts", "content", str(part.item_id), str(part.position))
        try:
            said = key.decrypt(part.content or b"", *where).decode()
        except VaultError as error:
            log.warning("part_unreadable", item=str(part.item_id), reason=type(error).__name__)
            continue
        asked.texts[place] = said
        asked.digests[place] = text_digest(said)
        if part.derived_from is not None and (kept := _kept(key, part.item_id, part.derived_from, sealed)):
            asked.read_in[place] = kept.sha256
    return asked


def _near_pictures(tools: Tools, search: Search, asked: _Asked, now: datetime) -> dict[Place, list[Match]]:
    proposed = search.pictures.propose(list(asked.hashed.values()))
    if not any(proposed):
        return {}
    newer = BankEntry.version > search.since
    with transaction(tools.databases.content) as session:
        found = pictures.matches(session, proposed, now, only=search.bank, among_these=newer)
    return dict(zip(asked.hashed, found, strict=True))


def _near_texts(tools: Tools, search: Search, asked: _Asked, now: datetime) -> dict[Place, list[Match]]:
    said = list(dict.fromkeys(asked.texts.values()))
    try:
        claims = search.texts.find_claims(said, now)
    except Unembedded as error:
        raise Unavailable(
            "No model can embed sentences now, so claims can't be looked for.", retry_after=RETRY_SECONDS
        ) from error
    found = {
        text: [*held, *claimed]
        for text, held, claimed in zip(said, search.texts.find(said, now), claims, strict=True)
    }
    # What an allow bank of words or links clears lies within a text, so these are looked through once more.
    again = [
        text for text, matches in found.items() if matches and search.kind in (BankKind.TERM, BankKind.LINK)
    ]
    if again and search.enabled:
        with transaction(tools.databases.content) as session:
            everything = tools.banks.current(session, tools.vault, now)
        for text, matches in zip(again, everything.find(again, now), strict=True):
            left = {one.entry for one in matches}
            found[text] = [one for one in found[text] if one.entry in left]
    return {place: found[text] for place, text in asked.texts.items()}


def _settled(
    tools: Tools, search: Search, asked: _Asked, found: Mapping[Place, Sequence[Match]], now: datetime
) -> dict[UUID, list[Match]]:
    """By item, with what equals an entry of an allow bank; outside the sample of its bank a match only labels."""
    if not found:
        return {}
    kind = "image" if search.kind is BankKind.IMAGE else "text"
    wholes = {place: [(kind, asked.digests[place])] for place in found}
    for place in found.keys() & asked.read_in.keys():
        wholes[place].append(("image", asked.read_in[place]))
    with transaction(tools.databases.content) as session:
        equal = banks.lookup(session, {one for those in wholes.values() for one in those}, now)
    by_item: dict[UUID, list[Match]] = {}
    for (item, part), matches in found.items():
        same = [one for whole in wholes[item, part] for one in equal.get(whole, ())]
        for one in (*matches, *(one for one in same if one.clears)):
            by_item.setdefault(item, []).append(replace(sampled(one, item), part=part))
    return by_item
