"""Find items without reading their content.

Content is encrypted under a key per item, so there is no search in it: items are found by what their content
service calls them, by their author, and by what was decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session, aliased

from moderation.domain.content import ItemState
from moderation.review import force
from moderation.storage.database import among
from moderation.storage.ids import lower_bound, moment_of
from moderation.storage.tables import ApiKey, Author, Decision, Item
from moderation.storage.vault import Vault

PAGE = 50
WINDOW = 20_000  # items that one page looks at: a rare outcome must not read the whole table


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; everything that is given must hold. `before` is the id to go on from."""

    item: UUID | None = None
    external_id: str | None = None
    author: str | None = None
    author_id: UUID | None = None
    client: str | None = None
    state: str | None = None
    verdict: str | None = None
    category: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One item in a list: what is recorded of it, without its content."""

    id: UUID
    client: str
    author_id: UUID
    kind: str
    language: str | None
    state: str
    received_at: datetime
    verdict: str | None
    category: str | None
    decided_by: str | None
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """Items newest first. `next` goes on; with `looked_until` the search stopped there to stay quick."""

    items: tuple[Found, ...] = ()
    next: UUID | None = None
    looked_until: datetime | None = None


def clients(session: Session) -> list[str]:
    """The content services that have, or had, a key."""
    return list(session.scalars(select(ApiKey.client).distinct().order_by(ApiKey.client)))


def items(session: Session, vault: Vault, query: Query, now: datetime) -> Page:
    """A page of the items that `query` asks for."""
    few = _named(session, vault, query)
    if few is not None:
        rows = session.scalars(
            select(Item)
            .where(*few, *_bounds(query), *_filters(query, Item))
            .order_by(Item.id.desc())
            .limit(PAGE + 1)
        ).all()
        return _page(session, rows, now)
    return _in_window(session, query, now)


def _named(session: Session, vault: Vault, query: Query) -> list[ColumnElement[bool]] | None:
    """Conditions that an index answers with few items: one, the revisions of a post, those of an author."""
    few: list[ColumnElement[bool]] = []
    named = [query.client] if query.client else clients(session)
    if query.item:
        few.append(Item.id == query.item)
    if query.external_id:
        digests = [vault.digest("external", client, query.external_id) for client in named]
        few += [among(Item.client, named), among(Item.external_digest, digests)]
    if query.author:
        digests = [vault.digest("author", client, query.author) for client in named]
        known = select(Author.id).where(among(Author.client, named), among(Author.reference_digest, digests))
        few.append(among(Item.author_id, session.scalars(known).all()))
    if query.author_id:
        few.append(Item.author_id == query.author_id)
    return few or None


def _in_window(session: Session, query: Query, now: datetime) -> Page:
    """The newest items first, of which one page looks at `WINDOW` at most."""
    newest = select(Item).where(*_bounds(query)).order_by(Item.id.desc())
    looked_at = aliased(Item, newest.limit(WINDOW).subquery())
    wanted = select(looked_at).where(*_filters(query, looked_at)).order_by(looked_at.id.desc())
    page = _page(session, session.scalars(wanted.limit(PAGE + 1)).all(), now)
    if page.next is not None:
        return page
    last = session.scalar(newest.with_only_columns(Item.id).offset(WINDOW - 1).limit(1))
    return page if last is None else Page(page.items, last, moment_of(last))


def _bounds(query: Query) -> list[ColumnElement[bool]]:
    bounds: list[ColumnElement[bool]] = []
    if query.since:
        bounds.append(Item.id >= lower_bound(query.since))
    if query.until:
        bounds.append(Item.id < lower_bound(query.until))
    if query.before:
        bounds.append(Item.id < query.before)
    return bounds


def _filters(query: Query, item: type[Item]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if query.client:
        found.append(item.client == query.client)
    if query.state:
        found.append(item.state == query.state)
    outcome = [Decision.item_id == item.id, Decision.superseded_at.is_(None), Decision.undone_at.is_(None)]
    if query.verdict:
        outcome.append(Decision.route == query.verdict)
    if query.category:
        outcome.append(Decision.category == query.category)
    if query.verdict or query.category:
        found.append(exists().where(*outcome))
    return found


def _page(session: Session, rows: Sequence[Item], now: datetime) -> Page:
    outcomes = force.in_force(session, [row.id for row in rows], now)
    found = [_found(row, outcomes.get(row.id), now) for row in rows[:PAGE]]
    return Page(tuple(found), found[-1].id if len(rows) > PAGE else None)


def _found(item: Item, decision: Decision | None, now: datetime) -> Found:
    return Found(
        id=item.id,
        client=item.client,
        author_id=item.author_id,
        kind=item.kind,
        language=item.language,
        # What is over is hidden from this moment on, whether or not it was swept yet.
        state=item.state if item.expires_at > now else ItemState.DELETED,
        received_at=item.received_at,
        verdict=decision.route if decision else None,
        category=decision.category if decision else None,
        decided_by=decision.decided_by if decision else None,
        decided_at=decision.decided_at if decision else None,
    )
