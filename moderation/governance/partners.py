"""Partners: processors whom we hand items to, for one purpose, in the fields they need, until a date.

A key `mp_<id>_<secret>` opens the items that were assigned to it one by one, and of them the fields it was
made for; the rest is not there. Each read is an event, committed before the answer. When an item ends here
its partners are told, and told again, until they acknowledge that it is gone there too.

Source: GDPR articles 28, 17(2) and 19.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.content import ItemState
from moderation.domain.errors import Forbidden, Gone, InvalidInput, NotFound, Unauthenticated
from moderation.domain.purposes import Purpose
from moderation.governance import audit
from moderation.governance.restriction import set_apart
from moderation.storage import items as queue
from moderation.storage.blobs import BlobMissing, FolderBlobs
from moderation.storage.database import among
from moderation.storage.tables import Case, Decision, Item, Part, Partner, PartnerItem
from moderation.storage.vault import Key, Vault, VaultError

TOKEN = re.compile(r"mp_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
LONGEST = timedelta(days=366)
PATIENCE = timedelta(days=7)  # to acknowledge a deletion
PAGE = 100
MOST_AT_ONCE = 1000
INVALID = "This partner key is not valid; ask whoever gave it to you."


class Field(StrEnum):
    """What of an item a partner may be given."""

    TEXT = "text"
    IMAGE = "image"
    CATEGORY = "category"
    LANGUAGE = "language"
    POSTED_AT = "posted_at"
    THREAD = "thread"


class Right(StrEnum):
    """What a route for partners asks for."""

    ITEMS = "partner:items"  # ends with the key's date
    DELETIONS = "partner:deletions"  # goes on after it: what was handed over has to end


@dataclass(frozen=True, slots=True)
class PartnerPrincipal:
    """Which partner calls."""

    partner_id: str
    name: str
    purpose: Purpose
    fields: frozenset[Field]

    @property
    def actor(self) -> str:
        """How the audit log names this caller."""
        return f"partner:{self.name}"


@dataclass(frozen=True, slots=True)
class PartnerView:
    """A partner with what is in their hands."""

    row: Partner
    items: int
    unacknowledged: int

    def state(self, now: datetime) -> str:
        """Whether the key opens anything."""
        return "revoked" if self.row.revoked_at else "expired" if self.row.expires_at <= now else "active"


def create(
    session: Session,
    vault: Vault,
    *,
    name: str,
    purpose: str,
    fields: Sequence[str],
    expires_at: datetime,
    actor: str,
    now: datetime,
) -> str:
    """A new partner; its key in the clear, for the only time.

    Raises:
        InvalidInput: a name, purpose, field or date that can't be.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput("A partner's name is 1 to 32 lower-case letters, digits and hyphens.")
    if session.scalar(select(exists().where(Partner.name == name))):
        raise InvalidInput("There is a partner of this name; names are not used twice.")
    if purpose not in set(Purpose):
        raise InvalidInput(f"The purpose must be one of {', '.join(Purpose)}.")
    if not fields or not set(fields) <= set(Field):
        raise InvalidInput(f"Name the fields they need, of {', '.join(Field)}.")
    if not now < expires_at <= now + LONGEST:
        raise InvalidInput("A partner's key ends within a year; choose a date ahead.")
    identifier, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    chosen = [str(field) for field in Field if field in set(fields)]
    session.add(
        Partner(
            id=identifier,
            name=name,
            secret_digest=vault.digest("partner", identifier, secret),
            purpose=purpose,
            fields=chosen,
            created_by=actor,
            created_at=now,
            expires_at=expires_at,
        )
    )
    session.flush()
    details = {"name": name, "purpose": purpose, "fields": chosen, "until": expires_at.isoformat()}
    audit.record(session, [audit.Event(actor, "partner.created", "partner", identifier, details)], now)
    return f"mp_{identifier}_{secret}"


def authenticate(session: Session, vault: Vault, token: str, right: Right, now: datetime) -> PartnerPrincipal:
    """The partner behind a bearer token.

    Raises:
        Unauthenticated: malformed, unknown or revoked; the sentence does not say which.
        Forbidden: the key's time has passed, and it opens nothing but the deletions.
    """
    match = TOKEN.fullmatch(token)
    row = session.get(Partner, match[1]) if match else None
    if match is None or row is None or row.revoked_at is not None:
        raise Unauthenticated(INVALID)
    if not hmac.compare_digest(row.secret_digest, vault.digest("partner", row.id, match[2])):
        raise Unauthenticated(INVALID)
    if row.expires_at <= now and right is not Right.DELETIONS:
        raise Forbidden(
            "This partner key has expired: it opens no item any more, only the deletions to acknowledge.",
            code="expired",
        )
    return PartnerPrincipal(
        row.id, row.name, Purpose(row.purpose), frozenset(Field(one) for one in row.fields)
    )


def listing(session: Session, now: datetime) -> list[PartnerView]:
    """Every partner there ever was, the newest first."""
    note_deletions(session, now)
    open_ = PartnerItem.deleted_at.is_not(None) & PartnerItem.acknowledged_at.is_(None)
    counts = (
        select(
            PartnerItem.partner_id,
            func.count().filter(PartnerItem.deleted_at.is_(None)).label("given"),
            func.count().filter(open_).label("waiting"),
        )
        .group_by(PartnerItem.partner_id)
        .subquery()
    )
    rows = session.execute(
        select(Partner, counts.c.given, counts.c.waiting)
        .outerjoin(counts, counts.c.partner_id == Partner.id)
        .order_by(Partner.created_at.desc(), Partner.id)
    )
    return [PartnerView(row, items or 0, waiting or 0) for row, items, waiting in rows]


def one(session: Session, name: str) -> Partner:
    """A partner by name.

    Raises:
        NotFound: there is none.
    """
    row = session.scalar(select(Partner).where(Partner.name == name))
    if row is None:
        raise NotFound("There is no partner of this name; `moderation partners list` shows them.")
    return row


def revoke(session: Session, name: str, actor: str, now: datetime) -> None:
    """End a partner at once: the key opens nothing, and everything they were given is to be deleted there.

    Raises:
        NotFound: there is no such partner, or it is revoked already.
    """
    row = one(session, name)
    if row.revoked_at is not None:
        raise NotFound("This partner is revoked already.")
    row.revoked_at = now
    session.flush()
    audit.record(session, [audit.Event(actor, "partner.revoked", "partner", row.id, {"name": name})], now)
    note_deletions(session, now, row.id)


def assign(
    session: Session,
    name: str,
    actor: str,
    now: datetime,
    *,
    items: Sequence[UUID] = (),
    case: UUID | None = None,
) -> int:
    """Let a partner read these items, or that of a case; how many are new to them.

    Raises:
        NotFound: there is no such partner, case or item.
        Gone: an item has ended, or may be used for nothing but to judge it.
        InvalidInput: none is named, or too many.
        Forbidden: the partner's time is over.
    """
    row = one(session, name)
    if row.revoked_at is not None or row.expires_at <= now:
        raise Forbidden("This partner's time is over; make a new one.", code="expired")
    wanted = set(items)
    if case is not None:
        of_case = session.scalar(select(Case.item_id).where(Case.id == case))
        if of_case is None:
            raise NotFound("There is no such case.")
        wanted.add(of_case)
    if not 0 < len(wanted) <= MOST_AT_ONCE:
        raise InvalidInput(f"Name 1 to {MOST_AT_ONCE:,} items.")
    found = session.execute(
        select(Item.id, Item.author_id, *_readable(now))
        .where(among(Item.id, wanted))
        .with_for_update(read=True, of=Item)
    ).all()
    if len(found) < len(wanted):
        raise NotFound("One of these items does not exist; copy the whole of each id.")
    if not all(live and not apart for _, _, live, apart in found):
        raise Gone("One of these items has ended, or may be used for nothing but to judge it; leave it out.")
    values = [
        {"partner_id": row.id, "item_id": item, "author_id": author, "assigned_by": actor, "assigned_at": now}
        for item, author, _, _ in found
    ]
    fresh = session.scalars(
        # What was deleted there, as they said, may be given anew: a restriction may have been lifted since.
        upsert(PartnerItem)
        .on_conflict_do_update(
            index_elements=[PartnerItem.partner_id, PartnerItem.item_id],
            set_={"assigned_by": actor, "assigned_at": now, "deleted_at": None, "acknowledged_at": None},
            where=PartnerItem.acknowledged_at.is_not(None),
        )
        .returning(PartnerItem.item_id),
        values,
        execution_options={"synchronize_session": False},
    ).all()
    details = {"partner": name}
    events = [audit.Event(actor, "partner.assigned", "item", str(item), details) for item in fresh]
    audit.record(session, events, now)
    return len(fresh)


def _readable(now: datetime) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Whether an item's content lives, and whether its author is set apart."""
    live = (
        (Item.state != ItemState.DELETED)
        & Item.destroyed_at.is_(None)
        & Item.doomed_at.is_(None)
        & (Item.expires_at > now)
    )
    return live.label("live"), set_apart(Item.author_id).label("apart")


def items(session: Session, partner: PartnerPrincipal, now: datetime) -> list[PartnerItem]:
    """What a partner was assigned and may still read, the newest first; that they looked is recorded."""
    live, apart = _readable(now)
    rows = session.scalars(
        select(PartnerItem)
        .join(Item, Item.id == PartnerItem.item_id)
        .where(PartnerItem.partner_id == partner.partner_id, PartnerItem.deleted_at.is_(None), live, ~apart)
        .order_by(PartnerItem.assigned_at.desc(), PartnerItem.item_id)
        .limit(PAGE)
    ).all()
    event = audit.Event(
        partner.actor, "partner.items_listed", "partner", partner.partner_id, {"items": len(rows)}
    )
    audit.record(session, [event], now)
    return list(rows)


def check_readable(session: Session, partner: PartnerPrincipal, item_id: UUID, now: datetime) -> Item:
    """An item that a partner may read now; that they read it is recorded: commit before showing it.

    Raises:
        NotFound: it was not assigned to them.
        Gone: it has ended, or may be used for nothing but to judge it.
    """
    given = session.get(PartnerItem, (partner.partner_id, item_id))
    if given is None:
        raise NotFound("There is no such item among those assigned to you.")
    found = session.execute(select(Item, *_readable(now)).where(Item.id == item_id)).one_or_none()
    if given.deleted_at is not None or found is None or not found.live:
        raise Gone("This item is gone; delete it with you and acknowledge that.", code="deleted")
    if found.apart:
        raise Gone("This item may be used for nothing but to judge it any more.", code="restricted")
    event = audit.Event(
        partner.actor,
        "partner.item_read",
        "item",
        str(item_id),
        {"fields": sorted(partner.fields)},
        partner.purpose,
    )
    audit.record(session, [event], now)
    item: Item = found.Item
    return item


def shown(
    session: Session, vault: Vault, blobs: FolderBlobs, partner: PartnerPrincipal, item: Item
) -> dict[str, Any]:
    """The fields of an item that the partner was made for, in the clear. `check_readable` is committed before.

    Raises:
        Gone: it ended in between.
    """
    key = vault.item_keys([item.id]).get(item.id)
    if key is None:
        raise Gone("This item is gone; delete it with you and acknowledge that.", code="deleted")
    said: dict[str, Any] = {"id": str(item.id), "kind": item.kind}
    if Field.LANGUAGE in partner.fields:
        said["language"] = item.language
    if Field.POSTED_AT in partner.fields:
        said["posted_at"] = item.posted_at
    if Field.CATEGORY in partner.fields:
        said["category"] = session.scalar(
            select(Decision.category).where(Decision.item_id == item.id, Decision.superseded_at.is_(None))
        )
    if Field.THREAD in partner.fields:
        said["thread"] = _details(item, key).get("thread")
    wanted = {str(field) for field in partner.fields}
    # What was read in a picture is both, and goes to whoever may have both.
    parts = [
        part
        for part in queue.parts_of(session, [item.id])
        if part.kind in wanted and (part.derived_from is None or {Field.TEXT, Field.IMAGE} <= wanted)
    ]
    if wanted & {Field.TEXT, Field.IMAGE}:
        said["parts"] = [one for part in parts if (one := _part(part, key, blobs)) is not None]
    return said


def _details(item: Item, key: Key) -> Mapping[str, Any]:
    try:
        details: Mapping[str, Any] = json.loads(
            key.decrypt(item.details or b"", "items", "details", str(item.id))
        )
    except VaultError:
        return {}
    return details


def _part(part: Part, key: Key, blobs: FolderBlobs) -> dict[str, Any] | None:
    place = (str(part.item_id), str(part.position))
    try:
        if part.kind == "text":
            text = key.decrypt(part.content or b"", "parts", "content", *place).decode()
            read = {"machine_read": True} if part.derived_from is not None else {}
            return {"type": "text", "name": part.name, "text": text, **read}
        data = key.decrypt(blobs.open(part.blob or ""), "parts", "blob", *place)
    except (VaultError, BlobMissing):
        return None
    return {"type": "image", "name": part.name, "media_type": part.media_type, "data": data}


def note_deletions(session: Session, now: datetime, partner_id: str | None = None) -> int:
    """Mark what has ended, or whose partner's time is over, as to be deleted there; how many are new.

    Whatever hides an item marks it too; this finds what ends in other ways, for one partner or for all.
    """
    mine = PartnerItem.partner_id == partner_id if partner_id else true()
    gone = ~exists().where(Item.id == PartnerItem.item_id, _readable(now)[0])
    over = exists().where(
        Partner.id == PartnerItem.partner_id,
        or_(Partner.revoked_at.is_not(None), Partner.expires_at <= now),
    )
    apart = set_apart(PartnerItem.author_id)
    marked = session.scalars(
        update(PartnerItem)
        .where(mine, PartnerItem.deleted_at.is_(None), or_(gone, over, apart))
        .values(deleted_at=now)
        .returning(PartnerItem.item_id)
        .execution_options(synchronize_session=False)
    ).all()
    return len(marked)


def deletions(session: Session, partner_id: str, now: datetime) -> list[PartnerItem]:
    """What a partner has to delete and has not acknowledged, the oldest first: the same until they do."""
    note_deletions(session, now, partner_id)
    return list(
        session.scalars(
            select(PartnerItem)
            .where(
                PartnerItem.partner_id == partner_id,
                PartnerItem.deleted_at.is_not(None),
                PartnerItem.acknowledged_at.is_(None),
            )
            .order_by(PartnerItem.deleted_at, PartnerItem.item_id)
            .limit(PAGE)
        )
    )


def given(session: Session, partner_id: str) -> Sequence[PartnerItem]:
    """What a partner may read, the newest first."""
    return session.scalars(
        select(PartnerItem)
        .where(PartnerItem.partner_id == partner_id, PartnerItem.deleted_at.is_(None))
        .order_by(PartnerItem.assigned_at.desc(), PartnerItem.item_id)
        .limit(PAGE)
    ).all()


def acknowledge(session: Session, partner_id: str, item_id: UUID, actor: str, now: datetime) -> PartnerItem:
    """Note that an item is deleted at the partner's, by their word; the first word counts.

    Raises:
        NotFound: they were never given it, or it is not to be deleted.
    """
    row = session.get(PartnerItem, (partner_id, item_id), with_for_update=True)
    if row is None or row.deleted_at is None:
        raise NotFound("There is no such item among those to be deleted.")
    if row.acknowledged_at is None:
        row.acknowledged_at = now
        session.flush()
        event = audit.Event(actor, "partner.deletion_acknowledged", "item", str(item_id))
        audit.record(session, [event], now)
    return row


def unacknowledged(session: Session, now: datetime) -> int:
    """How many deletions a partner has left without a word for too long."""
    return (
        session.scalar(
            select(func.count()).where(
                PartnerItem.deleted_at < now - PATIENCE, PartnerItem.acknowledged_at.is_(None)
            )
        )
        or 0
    )
