"""Incidents: a breach of personal data or a suspicion of one, and the clock that runs from its detection.

Whom it touches is a question to the audit log, where every view and every change is: which events are concerned
(whose, which actions, from when to when) leads to items, and these to authors. Content services are told by
the outbox how many of their authors are concerned, and read which ones from the API, since only they know them.

Source: GDPR articles 33 (72 hours) and 34.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from moderation.domain.content import checked_moment
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit, outbox, papers
from moderation.governance import incident_scopes as scopes
from moderation.governance.incident_scopes import Scope
from moderation.governance.outbox import Notice
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Incident, IncidentAuthor
from moderation.storage.vault import Vault, VaultError

TOLD_WITHIN = timedelta(hours=72)
KINDS = ("access", "disclosure", "loss", "change", "availability", "other")
SEVERITIES = range(1, 6)
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Affected:
    """Whom an incident touches. Authors erased since, and items that lead to nobody any more, are only counted."""

    items: int
    authors: int
    erased: int
    lost: int
    by_client: dict[str, int]


@dataclass(frozen=True, slots=True)
class Told:
    """Which content services are being told, and which have no endpoint that wants to hear of incidents."""

    clients: tuple[str, ...]
    unreachable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One author of a content service: its own reference, and our id to go on from."""

    id: UUID
    reference: str


def open_incident(
    session: Session,
    vault: Vault,
    *,
    kind: str,
    severity: int,
    description: str,
    detected_at: datetime,
    scope: Scope,
    actor: str,
    now: datetime,
) -> UUID:
    """Write an incident down; from its detection there are 72 hours to tell the authority.

    Raises:
        InvalidInput: the kind or severity is unknown, nothing is described, or the times can't be.
    """
    if kind not in KINDS:
        raise InvalidInput(f"The kind must be one of {', '.join(KINDS)}.")
    if severity not in SEVERITIES:
        raise InvalidInput("The severity is a number from 1 (nuisance) to 5 (gravest).")
    if checked_moment(detected_at, "The detection") > now:
        raise InvalidInput("The detection can't lie ahead; say when it was noticed.")
    if scope.since and scope.until and scope.since >= scope.until:
        raise InvalidInput("The first moment must lie before the last; exchange the two.")
    identifier = new_id(now)
    said = papers.line(description, "The description", papers.TEXT)
    session.add(
        Incident(
            id=identifier,
            kind=kind,
            severity=severity,
            description=papers.sealed(vault, "incidents", "description", identifier, said),
            detected_at=detected_at,
            opened_by=actor,
            opened_at=now,
            notify_by=detected_at + TOLD_WITHIN,
            scope=scopes.stored(scope),
        )
    )
    session.flush()
    _record(session, actor, "incident.opened", identifier, now, kind=kind, severity=severity)
    return identifier


def rescope(session: Session, incident_id: UUID, scope: Scope, actor: str, now: datetime) -> None:
    """Say anew which events are concerned, as long as nobody was told whom that touches.

    Raises:
        NotFound: there is no such incident.
        Conflict: it is closed, or authors were named to a content service already.
    """
    row = _open(session, incident_id)
    if told(session, incident_id):
        raise Conflict("Content services were told already whom this touches; open another incident.")
    row.scope, row.affected = scopes.stored(scope), None
    session.execute(text("DELETE FROM incident_authors WHERE incident_id = :id"), {"id": incident_id})
    event = audit.Event(actor, "incident.rescoped", "incident", str(incident_id), scopes.stored(scope))
    audit.record(session, [event], now)


def find_affected(session: Session, incident_id: UUID, actor: str, now: datetime) -> Affected:
    """Ask the log whom the incident touches, and keep the answer; asked again, it adds who came since.

    Raises:
        NotFound: there is no such incident.
        Conflict: it is closed.
    """
    row = _open(session, incident_id)
    items, erased, lost = scopes.find(session, incident_id, scopes.read(row.scope))
    by_client = counts(session, incident_id)
    row.affected = sum(by_client.values())
    found = Affected(items, row.affected, erased, lost, by_client)
    details = {"items": items, "authors": found.authors, "erased": erased, "lost": lost}
    _record(session, actor, "incident.affected", incident_id, now, **details)
    return found


def tell_services(session: Session, incident_id: UUID, actor: str, now: datetime) -> Told:
    """Tell each content service how many of its authors are concerned; told twice, it hears of the new ones.

    Raises:
        NotFound: there is no such incident.
        Conflict: it is closed, or nobody asked yet whom it touches.
    """
    row = _open(session, incident_id)
    if row.affected is None:
        raise Conflict("Ask first whom it touches: `moderation incident affected`.", code="not_asked")
    waiting = session.execute(
        select(IncidentAuthor.client, func.count())
        .where(IncidentAuthor.incident_id == incident_id, IncidentAuthor.told_at.is_(None))
        .group_by(IncidentAuthor.client)
        .order_by(IncidentAuthor.client)
    ).all()
    told: list[str] = []
    unreachable: list[str] = []
    for client, count in waiting:
        payload = {
            "incident_id": str(incident_id),
            "kind": row.kind,
            "severity": row.severity,
            "authors": count,
            "detected_at": f"{row.detected_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        sent = outbox.enqueue(session, [Notice(client, None, "incident.notice", payload)], now)
        (told if sent else unreachable).append(client)
    _told(session, incident_id, told, now)
    if not unreachable and waiting:
        row.authors_told_at = now
    details = {"clients": told, "unreachable": unreachable}
    _record(session, actor, "incident.notified", incident_id, now, **details)
    return Told(tuple(told), tuple(unreachable))


def _told(session: Session, incident_id: UUID, clients: Sequence[str], now: datetime) -> None:
    session.execute(
        update(IncidentAuthor)
        .where(
            IncidentAuthor.incident_id == incident_id,
            IncidentAuthor.client.in_(clients),
            IncidentAuthor.told_at.is_(None),
        )
        .values(told_at=now)
        .execution_options(synchronize_session=False)
    )


def authors_of(
    session: Session, vault: Vault, client: str, incident_id: UUID, after: UUID | None, now: datetime
) -> tuple[list[Line], UUID | None]:
    """The authors of one content service that an incident touches, by its own references; and where to go on.

    Reading them is being told of them. The caller has recorded and committed before that somebody looks.

    Raises:
        NotFound: there is no such incident, or it touches nobody of this client.
    """
    get_for(session, incident_id, client)
    query = (
        select(Author)
        .join(IncidentAuthor, IncidentAuthor.author_id == Author.id)
        .where(
            IncidentAuthor.incident_id == incident_id,
            IncidentAuthor.client == client,
            Author.erasing_at.is_(None),
        )
    )
    if after is not None:
        query = query.where(Author.id > after)
    rows = session.scalars(query.order_by(Author.id).limit(PAGE + 1)).all()
    lines = []
    for row in rows[:PAGE]:
        _, key = vault.keys_of(row.id, row.id)
        try:
            reference = key and key.decrypt(row.reference, "authors", "reference", str(row.id)).decode()
        except VaultError:
            reference = None
        if reference:
            lines.append(Line(row.id, reference))
    _told(session, incident_id, [client], now)
    return lines, rows[PAGE - 1].id if len(rows) > PAGE else None


def authority_told(session: Session, incident_id: UUID, at: datetime, actor: str, now: datetime) -> None:
    """Write down when the supervisory authority was told; the clock stops.

    Raises:
        NotFound: there is no such incident.
        InvalidInput: that moment lies ahead, or before the detection.
        Conflict: it is closed, or they were told already.
    """
    row = _open(session, incident_id)
    if row.authority_told_at is not None:
        raise Conflict(f"The authority was told on {row.authority_told_at:%Y-%m-%d %H:%M} already.")
    if not row.detected_at <= at <= now:
        raise InvalidInput("The authority was told after the detection and before now; check the moment.")
    row.authority_told_at = at
    _record(session, actor, "incident.authority_told", incident_id, now, late=at > row.notify_by)


def close(session: Session, incident_id: UUID, actor: str, now: datetime, *, no_risk: bool = False) -> None:
    """Close an incident, once the authority was told or somebody says that there is no risk to anybody.

    Raises:
        NotFound: there is no such incident.
        Conflict: it is closed, or the authority was not told and nobody says that there is no risk.
    """
    row = _open(session, incident_id)
    if row.authority_told_at is None and not no_risk:
        raise Conflict(
            "Say first when the authority was told, or that the incident is unlikely to put anybody at risk."
        )
    row.closed_at = now
    _record(session, actor, "incident.closed", incident_id, now, no_risk=no_risk)


def seconds_left(session: Session, now: datetime) -> float:
    """The time left to tell the authority of the most urgent incident; below 0 if overdue, infinite without one."""
    nearest = session.scalar(
        select(func.min(Incident.notify_by)).where(
            Incident.closed_at.is_(None), Incident.authority_told_at.is_(None)
        )
    )
    return (nearest - now).total_seconds() if nearest else float("inf")


def overdue(session: Session, now: datetime) -> int:
    """How many open incidents the authority was not told of in time."""
    late = (Incident.closed_at.is_(None), Incident.authority_told_at.is_(None), Incident.notify_by <= now)
    return session.scalar(select(func.count()).select_from(Incident).where(*late)) or 0


def listing(session: Session, limit: int = 200) -> Sequence[Incident]:
    """Incidents, the open ones first, then the newest."""
    return session.scalars(
        select(Incident).order_by(Incident.closed_at.is_not(None), Incident.id.desc()).limit(limit)
    ).all()


def get(session: Session, incident_id: UUID) -> Incident:
    """One incident.

    Raises:
        NotFound: there is no such incident.
    """
    row = session.get(Incident, incident_id)
    if row is None:
        raise NotFound("There is no incident with this id; `moderation incident list` shows them.")
    return row


def get_for(session: Session, incident_id: UUID, client: str) -> Incident:
    """An incident that touches an author of this content service.

    Raises:
        NotFound: there is none.
    """
    row = session.scalar(
        select(Incident)
        .join(IncidentAuthor, IncidentAuthor.incident_id == Incident.id)
        .where(Incident.id == incident_id, IncidentAuthor.client == client)
        .limit(1)
    )
    if row is None:
        raise NotFound("There is no incident with this id that touches an author of yours.")
    return row


def counts(session: Session, incident_id: UUID) -> dict[str, int]:
    """How many authors of each content service it touches, as far as was asked; those erased since are left out."""
    rows = session.execute(
        select(IncidentAuthor.client, func.count())
        .join(Author, Author.id == IncidentAuthor.author_id)
        .where(IncidentAuthor.incident_id == incident_id, Author.erasing_at.is_(None))
        .group_by(IncidentAuthor.client)
        .order_by(IncidentAuthor.client)
    )
    return dict(rows.all())


def told(session: Session, incident_id: UUID) -> dict[str, datetime]:
    """Since when each content service has been told, of those that were."""
    rows = session.execute(
        select(IncidentAuthor.client, func.max(IncidentAuthor.told_at))
        .where(IncidentAuthor.incident_id == incident_id, IncidentAuthor.told_at.is_not(None))
        .group_by(IncidentAuthor.client)
    )
    return {client: at for client, at in rows if at is not None}


def description_of(vault: Vault, row: Incident) -> str:
    """What was written down, in the clear."""
    return papers.opened(vault, "incidents", "description", row.id, row.description)


def _open(session: Session, incident_id: UUID) -> Incident:
    get(session, incident_id)
    query = select(Incident).where(Incident.id == incident_id).with_for_update(key_share=True)
    row = session.scalars(query.execution_options(populate_existing=True)).one()
    if row.closed_at is not None:
        raise Conflict("This incident is closed; open another one.", code="closed")
    return row


def _record(
    session: Session, actor: str, action: str, incident_id: UUID, now: datetime, **details: object
) -> None:
    audit.record(session, [audit.Event(actor, action, "incident", str(incident_id), details)], now)
