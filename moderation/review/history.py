"""Everything that happened to an item, or to an author, in the order of time and without content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, text
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseState, Stage
from moderation.domain.decisions import DecidedBy, Standing
from moderation.domain.errors import NotFound
from moderation.domain.policy import Policy
from moderation.domain.signals import DetectorStatus
from moderation.governance import erasure
from moderation.review import force, measures
from moderation.storage import items as queue
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import (
    AccountAction,
    Appeal,
    AuditEvent,
    Author,
    Case,
    Decision,
    Item,
    Opinion,
    Outbox,
    Part,
    Report,
    SignalRow,
    WebhookEndpoint,
)
from moderation.storage.vault import Key, Vault, VaultError

MOST = 200  # of each kind: an item that was reported a thousand times is told in its newest
OUTCOME_DAYS = 90
VIEWS = ("case.viewed", "item.viewed", "media.revealed")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline. `said` is the headline, `lines` what belongs to it; ids lead to other pages."""

    at: datetime
    kind: str
    said: str
    lines: tuple[str, ...] = ()
    decision: UUID | None = None
    case: UUID | None = None
    item: UUID | None = None
    verdict: str | None = None
    in_force: bool = False
    undone: bool = False
    certificates: tuple[UUID, ...] = ()  # what a machine's decision stands on


@dataclass(frozen=True, slots=True)
class PartInfo:
    """What a part is, without what it holds."""

    position: int
    name: str
    kind: str
    media_type: str
    size: int
    machine_read: bool = False  # nobody posted it: a machine read it in a picture


@dataclass(frozen=True, slots=True)
class Views:
    """How often the content was looked at, by how many people, and when last."""

    times: int
    people: int
    last: datetime | None


@dataclass(frozen=True, slots=True)
class ItemHistory:
    """One item with everything that is recorded of it. Its content service's own ids are None once it ended."""

    id: UUID
    client: str
    author_id: UUID
    kind: str
    language: str | None
    reach: int | None
    posted_at: datetime
    received_at: datetime
    state: str
    retention_class: str
    expires_at: datetime
    deleted_because: str | None
    destroyed_at: datetime | None
    external_id: str | None
    thread: str | None
    parent: str | None
    parts: tuple[PartInfo, ...]
    decision: Decision | None
    open_cases: tuple[Case, ...]
    last_case: UUID | None
    views: Views
    entries: tuple[Entry, ...]


def judging_blind(session: Session, item_id: UUID, person_id: UUID) -> bool:
    """Whether the person has a case of this item in hand of which they must not know what others thought."""
    return item_id in judged_blind(session, person_id)


def judged_blind(session: Session, person_id: UUID) -> Mapping[UUID, UUID]:
    """The items, each with its author, that the person may still judge without knowing what others thought.

    Whoever held a case last may answer even when the claim ran out.
    """
    hidden = or_(and_(Case.blind, Case.stage != Stage.ADJUDICATION), Case.stage == Stage.SECOND)
    held = select(Case.item_id, Case.author_id).where(
        Case.state == CaseState.OPEN, Case.claimed_by == person_id, hidden
    )
    return dict(session.execute(held).all())


def of_item(session: Session, vault: Vault, item_id: UUID, now: datetime) -> ItemHistory:
    """An item and its timeline, oldest entry first.

    Raises:
        NotFound: there is no such item.
    """
    item = session.scalar(select(Item).where(Item.id == item_id))
    if item is None:
        raise NotFound("There is no item with this id; check it, or search by the content service's own id.")
    found = session.scalars(
        select(Case)
        .where(Case.item_id == item_id, Case.kind != CaseKind.GOLDEN)  # one that shows gives itself away
        .order_by(Case.id.desc())
        .limit(MOST)
    ).all()
    made = force.history(session, item_id)[:MOST]
    in_force = force.in_force(session, [item_id], now).get(item_id)
    over = erasure.hidden(session, item, now)
    named = {} if over else _named_by_client(vault, item)
    entries = [
        *_life(item),
        *_signals(session, item, made),
        *_decided(made, in_force, _measures(session, [row.id for row in made])),
        *_cases(session, found),
        *_reports(session, Report.item_id == item_id),
        *_appeals(session, Appeal.item_id == item_id),
    ]
    entries += _messages(session, item_id, [entry.at for entry in entries])
    return ItemHistory(
        id=item.id,
        client=item.client,
        author_id=item.author_id,
        kind=item.kind,
        language=item.language,
        reach=item.reach,
        posted_at=item.posted_at,
        received_at=item.received_at,
        state=item.state,
        retention_class=item.retention_class,
        expires_at=item.expires_at,
        deleted_because=item.deleted_because,
        destroyed_at=item.destroyed_at,
        external_id=named.get("external_id"),
        thread=named.get("thread"),
        parent=named.get("parent"),
        parts=tuple(
            PartInfo(
                part.position, part.name, part.kind, part.media_type, part.size, part.derived_from is not None
            )
            for part in queue.parts_of(session, [item_id])
        ),
        decision=in_force,
        open_cases=tuple(case for case in found if case.state == CaseState.OPEN),
        last_case=found[0].id if found else None,
        views=_views(session, [item_id, *(case.id for case in found)]),
        entries=_in_order(entries),
    )


def texts(session: Session, vault: Vault, item_id: UUID) -> dict[int, str]:
    """The text parts of an item in the clear, by position; nothing where the content has ended.

    Whoever calls this has recorded and committed before that somebody looks.
    """
    key = vault.item_keys([item_id]).get(item_id)
    if key is None:
        return {}
    return {
        part.position: text
        for part in queue.parts_of(session, [item_id])
        if part.kind == "text" and (text := _opened(key, part)) is not None
    }


def _opened(key: Key, part: Part) -> str | None:
    place = (str(part.item_id), str(part.position))
    try:
        return key.decrypt(part.content or b"", "parts", "content", *place).decode()
    except VaultError:
        return None


def _named_by_client(vault: Vault, item: Item) -> dict[str, str | None]:
    """What the content service calls the item and what surrounds it; empty once its key is gone."""
    key = vault.item_keys([item.id]).get(item.id)
    if key is None or item.details is None:
        return {}
    try:
        details: dict[str, str | None] = json.loads(
            key.decrypt(item.details, "items", "details", str(item.id))
        )
    except VaultError:
        return {}
    return details


def _in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: entry.at))


def _life(item: Item) -> list[Entry]:
    entries = [Entry(item.received_at, "received", f"Received from {item.client}")]
    if item.deleted_at:
        entries.append(Entry(item.deleted_at, "ended", f"Hidden: {item.deleted_because}"))
    if item.destroyed_at:
        entries.append(
            Entry(item.destroyed_at, "ended", "Content destroyed", ("Its key is gone; nobody can read it.",))
        )
    return entries


def _signals(session: Session, item: Item, made: Sequence[Decision]) -> list[Entry]:
    """What detectors said: in one entry, at the moment of the first decision they led to."""
    rows = session.scalars(
        select(SignalRow).where(SignalRow.item_id == item.id).order_by(SignalRow.part, SignalRow.detector)
    ).all()
    if not rows:
        return []
    at = min((row.decided_at for row in made), default=item.received_at)
    return [Entry(at, "signals", "Screened", tuple(_signal(row) for row in rows))]


def _signal(row: SignalRow) -> str:
    said = f"{row.detector} {row.version} on {row.part}"
    if row.shadow:
        said = (
            f"{row.detector.partition(':')[0]} {row.version} on {row.part}, as a shadow that decides nothing"
        )
    if row.status != DetectorStatus.OK:
        cause = row.evidence.get("cause")
        return f"{said}: {row.status}{f' ({cause})' if cause else ''}"
    highest = sorted(row.scores.items(), key=lambda one: -one[1])[:3]
    return f"{said}: " + (", ".join(f"{name} {score:.2f}" for name, score in highest) or "nothing")


def _measures(session: Session, ids: Sequence[UUID]) -> dict[UUID, AccountAction]:
    rows = session.scalars(select(AccountAction).where(among(AccountAction.decision_id, ids)))
    return {row.decision_id: row for row in rows}


_SAID = {
    "allow": "Allowed",
    "limit": "Limited",
    "remove": "Removed",
    "review": "Put before people",
}


def _decided(
    made: Sequence[Decision], in_force: Decision | None, taken: Mapping[UUID, AccountAction]
) -> list[Entry]:
    return [
        Entry(
            at=row.decided_at,
            kind="decision",
            said=_headline(row),
            lines=_details(row, taken.get(row.id)),
            decision=row.id,
            case=row.case_id,
            item=row.item_id,
            verdict=row.route,
            in_force=in_force is not None and row.id == in_force.id,
            undone=row.undone_at is not None,
            certificates=tuple(row.certificates),
        )
        for row in made
    ]


def _headline(row: Decision) -> str:
    by = "by a person" if row.decided_by == DecidedBy.PERSON else "by machine"
    category = f" for {row.category.replace('_', ' ')}" if row.category else ""
    reversal = ", reversing an earlier decision" if row.reverses else ""
    return f"{_SAID.get(row.route, row.route)}{category} {by}{reversal}"


def _details(row: Decision, measure: AccountAction | None) -> tuple[str, ...]:
    lines = [f"Policy version {row.policy_version}" + (f", clause {row.clause}" if row.clause else "")]
    if row.restrictions:
        lines.append("Restricted: " + ", ".join(one.replace("_", " ") for one in row.restrictions))
    if measure:
        lines.append(_measured(measure))
    lines += row.reasons
    if row.undone_at:
        lines.append("Taken back within the undo window; it never took effect.")
    return tuple(lines)


def _measured(action: AccountAction) -> str:
    until = f" until {action.until:%Y-%m-%d %H:%M}" if action.until else ""
    lifted = f"; lifted {action.reversed_at:%Y-%m-%d %H:%M}" if action.reversed_at else ""
    return f"Account: {action.kind}{until}{lifted}"


def _cases(session: Session, found: Sequence[Case]) -> list[Entry]:
    counts = dict(
        session.execute(
            select(Opinion.case_id, func.count())
            .where(among(Opinion.case_id, [case.id for case in found]), Opinion.undone_at.is_(None))
            .group_by(Opinion.case_id)
        ).all()
    )
    entries = []
    for case in found:
        reason = case.reason.replace("_", " ")
        where = f"Queue {case.queue.replace('_', ' ')}, deadline {case.deadline:%Y-%m-%d %H:%M}"
        entries.append(
            Entry(case.opened_at, "case", f"Case opened: {reason}", (where,), case=case.id, item=case.item_id)
        )
        if case.closed_at:
            number = counts.get(case.id, 0)
            given = f"{number} opinion{'' if number == 1 else 's'}"
            entries.append(
                Entry(case.closed_at, "case", "Case closed", (given,), case=case.id, item=case.item_id)
            )
    return entries


def _reports(session: Session, condition: ColumnElement[bool]) -> list[Entry]:
    rows = session.scalars(select(Report).where(condition).order_by(Report.id.desc()).limit(MOST))
    return [
        Entry(
            row.reported_at,
            "report",
            f"Reported for {row.category.replace('_', ' ')}",
            (f"Weight {row.weight:.2f}" + (f", {row.outcome}" if row.outcome else ", nobody decided yet"),),
            case=row.case_id,
            item=row.item_id,
        )
        for row in rows
    ]


def _appeals(session: Session, condition: ColumnElement[bool]) -> list[Entry]:
    rows = session.scalars(select(Appeal).where(condition).order_by(Appeal.id.desc()).limit(MOST))
    entries = []
    for row in rows:
        said = f"Appeal by the {row.by}"
        lines = (f"To be answered by {row.deadline:%Y-%m-%d %H:%M}",)
        entries.append(
            Entry(row.lodged_at, "appeal", said, lines, decision=row.decision_id, item=row.item_id)
        )
        if row.closed_at:
            entries.append(
                Entry(
                    row.closed_at,
                    "appeal",
                    f"Appeal {row.state}",
                    decision=row.outcome_id,
                    item=row.item_id,
                )
            )
    return entries


def _messages(session: Session, item_id: UUID, moments: Sequence[datetime]) -> list[Entry]:
    """The webhooks that told of the item.

    A message is written in the transaction of what it tells of, and its id is of that moment: looked for by
    the moments of everything else, it needs no index on items.
    """
    starts = {lower_bound(moment) for moment in moments}
    told = text("""
        SELECT outbox.id FROM unnest(CAST(:lows AS uuid[]), CAST(:highs AS uuid[])) AS moment (low, high)
        JOIN outbox ON outbox.id >= moment.low AND outbox.id < moment.high WHERE outbox.item_id = :item
    """)
    bounds = {"lows": list(starts), "highs": [UUID(int=low.int + (1 << 80)) for low in starts]}
    ids = session.execute(told, bounds | {"item": item_id}).scalars().all()
    rows = session.execute(
        select(Outbox, WebhookEndpoint.name)
        .join(WebhookEndpoint, WebhookEndpoint.id == Outbox.endpoint_id)
        .where(among(Outbox.id, ids))
        .limit(MOST)
    )
    return [
        Entry(row.delivered_at or row.created_at, "webhook", f"Webhook {row.event} to {name}", (_sent(row),))
        for row, name in rows
    ]


def _sent(row: Outbox) -> str:
    if row.delivered_at:
        return f"Delivered, attempt {row.attempts}"
    if row.state == "dead":
        return f"Given up after {row.attempts} attempts"
    return "Waiting to be sent" if row.attempts == 0 else f"Tried {row.attempts} times, will be sent again"


def _views(session: Session, subjects: Sequence[UUID]) -> Views:
    times, people, last = session.execute(
        select(func.count(), func.count(AuditEvent.actor.distinct()), func.max(AuditEvent.at)).where(
            among(AuditEvent.subject_id, [str(subject) for subject in subjects]),
            AuditEvent.action.in_(VIEWS),
        )
    ).one()
    return Views(times, people, last)


@dataclass(frozen=True, slots=True)
class AuthorHistory:
    """An account: how it stands, what was done to it, what became of its items in the last 90 days."""

    id: UUID
    client: str
    reference: str | None
    created_at: datetime
    standing: Standing
    outcomes: Mapping[str, int]
    items: int
    actions: tuple[AccountAction, ...]
    open_appeals: int
    entries: tuple[Entry, ...]


def of_author(
    session: Session, vault: Vault, policy: Policy, author_id: UUID, now: datetime
) -> AuthorHistory:
    """An author with their timeline, newest entry first.

    Raises:
        NotFound: there is no such author, or nothing is left of them.
    """
    author = session.get(Author, author_id)
    if author is None:
        raise NotFound("There is no author with this id; their last item may have ended.")
    since = now - timedelta(days=OUTCOME_DAYS)
    made = session.scalars(
        select(Decision)
        .where(
            Decision.author_id == author_id,
            or_(Decision.route != "allow", Decision.decided_by == DecidedBy.PERSON),
        )
        .order_by(Decision.id.desc())
        .limit(MOST)
    ).all()
    actions = session.scalars(
        select(AccountAction)
        .where(AccountAction.author_id == author_id)
        .order_by(AccountAction.id.desc())
        .limit(MOST)
    ).all()
    taken = {row.decision_id: row for row in actions}
    standing_in_force = force.in_force(session, [row.item_id for row in made], now)
    entries = [entry for row in made for entry in _decided([row], standing_in_force.get(row.item_id), taken)]
    entries += _reports(session, Report.author_id == author_id)
    entries += _appeals(session, Appeal.author_id == author_id)
    entries.append(Entry(author.created_at, "received", f"First seen at {author.client}"))
    return AuthorHistory(
        id=author.id,
        client=author.client,
        reference=_reference(vault, author),
        created_at=author.created_at,
        standing=measures.standing_of(session, policy, author_id, now),
        outcomes=_outcomes(session, author_id, since, now),
        items=session.scalar(select(func.count()).where(Item.author_id == author_id)) or 0,
        actions=tuple(actions),
        open_appeals=session.scalar(
            select(func.count()).where(Appeal.author_id == author_id, Appeal.state == "open")
        )
        or 0,
        entries=_in_order(entries)[::-1],
    )


def _outcomes(session: Session, author_id: UUID, since: datetime, now: datetime) -> dict[str, int]:
    rows = session.execute(
        select(Decision.route, func.count())
        .where(
            Decision.author_id == author_id,
            Decision.id >= lower_bound(since),
            Decision.undone_at.is_(None),
            Decision.effective_at <= now,
            or_(Decision.superseded_at.is_(None), Decision.superseded_at > now),
        )
        .group_by(Decision.route)
    )
    return dict(rows.all())


def _reference(vault: Vault, author: Author) -> str | None:
    _, key = vault.keys_of(author.id, author.id)
    if key is None or author.erasing_at is not None:
        return None
    try:
        return key.decrypt(author.reference, "authors", "reference", str(author.id)).decode()
    except VaultError:
        return None
