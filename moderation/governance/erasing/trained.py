"""Bundles without what was erased: written again where their files are here, and marked for whoever has copies.

Models that learned from a row that was taken out for somebody's sake are marked with it (`governance.lineage`):
erased, deleted on request, objected to, restricted, perhaps a minor's. What only came to the end of its time is
taken out as well and marks no model.

A file is replaced only after the registry knows its new key: whatever a crash leaves behind is told apart by the
manifest's SHA-256, and put in place or thrown away at the next turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import Session, aliased

from moderation import bundles
from moderation.bundles import BundleError
from moderation.domain.content import ItemState
from moderation.domain.erasing import EXPIRED
from moderation.governance import audit, lineage
from moderation.storage.database import Databases, among, transaction
from moderation.storage.tables import Bundle, BundleItem, Item, Suggestion
from moderation.storage.vault import Vault

FRESH = ".fresh"


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of one bundle: rows taken out, and whether its file was here to be written again.

    `withdrawn` of the rows were taken out for somebody's sake; the others had come to their end.
    """

    bundle_id: UUID
    rows: int
    rewritten: bool
    withdrawn: int = 0


def reference(vault: Vault, bundle: UUID, item: UUID) -> str:
    """What a bundle calls an item: another name in every bundle, which leads nowhere without the vault."""
    return vault.digest("bundle", bundle.bytes, item.bytes).hex()[:32]


def key_of(vault: Vault, bundle: Bundle) -> bytes | None:
    """The key of a bundle that has not ended, for writing it again without somebody's rows."""
    if bundle.key is None:
        return None
    return vault.account_key().decrypt(bundle.key, "bundles", "key", str(bundle.id))


def clean(databases: Databases, vault: Vault, now: datetime, author_id: UUID | None = None) -> list[Cleaned]:
    """Take the rows of items that have ended, or of one author, out of every bundle. Owns its transactions."""
    whose = BundleItem.author_id == author_id if author_id is not None else _ended()
    posted = aliased(Item)
    with transaction(databases.content) as session:
        found = session.execute(
            select(BundleItem.bundle_id, BundleItem.item_id, posted.deleted_because)
            .join(Bundle, Bundle.id == BundleItem.bundle_id)
            .outerjoin(posted, posted.id == BundleItem.item_id)
            .where(whose)
        ).all()
        waiting = session.scalars(select(Bundle).where(Bundle.ended_at.is_(None), Bundle.path.is_not(None)))
        for bundle in waiting:
            _settle(bundle)
    members: Mapping[UUID, list[UUID]] = defaultdict(list)
    withdrawn: Counter[UUID] = Counter()
    for bundle_id, item_id, because in found:
        members[bundle_id].append(item_id)
        # Of one without a row only its time can have come: an erasure looks here before it lets go of rows.
        withdrawn[bundle_id] += author_id is not None or because not in (None, EXPIRED)
    return [
        _clean(databases, vault, bundle_id, items, now, withdrawn[bundle_id])
        for bundle_id, items in members.items()
    ]


def _ended() -> ColumnElement[bool]:
    ended = exists().where(Item.id == BundleItem.item_id, Item.state == ItemState.DELETED)
    suggested = exists().where(Suggestion.id == BundleItem.item_id)
    return or_(ended, ~exists().where(Item.id == BundleItem.item_id) & ~suggested)


def _clean(
    databases: Databases,
    vault: Vault,
    bundle_id: UUID,
    items: Sequence[UUID],
    now: datetime,
    withdrawn: int = 0,
) -> Cleaned:
    with transaction(databases.content) as session:
        bundle = session.get_one(Bundle, bundle_id, with_for_update=True, populate_existing=True)
        rewritten = bundle.ended_at is None and _written_again(vault, bundle, items, now)
        if bundle.ended_at is None and not rewritten:
            bundle.tainted_at = bundle.tainted_at or now
            bundle.erased += len(items)
        gone = session.scalars(
            delete(BundleItem)
            .where(BundleItem.bundle_id == bundle_id, among(BundleItem.item_id, items))
            .returning(BundleItem.item_id)
            .execution_options(synchronize_session=False)
        ).all()
        # Whoever cleans at the same moment finds them gone, and counts nothing twice.
        withdrawn = min(withdrawn, len(gone))
        if withdrawn:
            bundle.withdrawn += withdrawn
            bundle.withdrawn_at = bundle.withdrawn_at or now
            lineage.mark(session, bundle_id, withdrawn, now)
        details = {"rows": len(items), "rewritten": rewritten, "withdrawn": withdrawn}
        event = audit.Event(audit.MACHINE, "bundle.erased_from", "bundle", str(bundle_id), details)
        audit.record(session, [event], now)
        session.flush()
    if rewritten:
        _settle(bundle)
    return Cleaned(bundle_id, len(items), rewritten, withdrawn)


def _written_again(vault: Vault, bundle: Bundle, items: Sequence[UUID], now: datetime) -> bool:
    """Write the file anew beside the old one, and note its key; False where there is no such file here."""
    key = key_of(vault, bundle)
    if bundle.path is None or bundle.key_path is None or key is None:
        return False
    path, key_path = Path(bundle.path), Path(bundle.key_path)
    without = {reference(vault, bundle.id, item) for item in items}
    try:
        header = bundles.header_of(path)
        if header.id != bundle.id or not key_path.is_file():
            return False
        fresh = bundles.new_key()
        rows = (row for row in bundles.read(path, key, now) if row["ref"] not in without)
        target = _beside(path)
        sealed = bundles.seal(
            target,
            rows,
            fresh,
            identifier=header.id,
            created_at=header.created_at,
            expires_at=header.expires_at,
        )
        _beside(key_path).unlink(missing_ok=True)
        bundles.write_key(_beside(key_path), bundle.id, fresh)
    except (BundleError, OSError):
        return False
    bundle.rows, bundle.sha256 = sealed.rows, sealed.manifest_sha256
    bundle.key = vault.account_key().encrypt(fresh, "bundles", "key", str(bundle.id))
    return True


def _beside(path: Path) -> Path:
    return path.with_name(path.name + FRESH)


def _settle(bundle: Bundle) -> None:
    """Put what was written beside a bundle in its place, if it is what the registry speaks of; else remove it."""
    if bundle.path is None or bundle.key_path is None:
        return
    path, key_path = Path(bundle.path), Path(bundle.key_path)
    if not _beside(path).exists() and not _beside(key_path).exists():
        return
    with suppress(BundleError, OSError):
        there = _beside(path) if _beside(path).exists() else path
        if bundles.header_of(there).manifest_sha256 == bundle.sha256:
            if there != path:
                there.replace(path)
            if _beside(key_path).exists():
                _beside(key_path).replace(key_path)
            return
    for stale in (_beside(path), _beside(key_path)):
        with suppress(OSError):
            stale.unlink(missing_ok=True)


def tainted(session: Session) -> Sequence[Bundle]:
    """Bundles that still hold erased rows somewhere: their copies should be deleted and asked for again."""
    return session.scalars(
        select(Bundle).where(Bundle.tainted_at.is_not(None), Bundle.ended_at.is_(None)).order_by(Bundle.id)
    ).all()
