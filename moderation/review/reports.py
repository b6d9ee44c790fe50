"""Reports by users of the content service: stored once per reporter, weighed, and put before people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, and_, select
from sqlalchemy.orm import Session

from moderation.domain import content
from moderation.domain.cases import MINORS, CaseKind, CaseReason, CaseState
from moderation.domain.content import ItemState
from moderation.domain.decisions import CaseDraft, DecidedBy
from moderation.domain.errors import Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import Category
from moderation.domain.subjects import MinorSource
from moderation.governance import audit, erasure
from moderation.review import opening, suspicion
from moderation.review.force import in_force, lock_items
from moderation.review.reporters import Witness, probability
from moderation.storage.database import among
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, Case, Item, Report, Reporter
from moderation.storage.vault import Vault

COUNTED = 200  # the weightiest reports of an item; further ones add nothing that could be seen
# Once a person has allowed an item, two newcomers more do not put it before people again.
AGAIN_FROM = 0.4
COMMENT_LENGTH = 1000


def report(
    session: Session,
    vault: Vault,
    policy: Policy,
    client: str,
    item_id: UUID,
    reporter: str,
    category: str,
    comment: str | None,
    now: datetime,
) -> Report:
    """Take a report, and put the item before people if it weighs enough; the same reporter counts once.

    A report of an item that is not screened yet waits for its outcome (`take_up`).

    Raises:
        NotFound: the client has no such item.
        Gone: the item was deleted, or its retention period ended.
        InvalidInput: the category, the reporter or the comment is none.
    """
    content.checked_reference(reporter, "reporter")
    if category not in policy.categories:
        raise InvalidInput("There is no such category; name one of the policy's categories.")
    if comment is not None:
        content.checked_text(comment, "comment", COMMENT_LENGTH)
    item = _reportable(session, client, item_id, now)
    digest = reporter_digest(vault, client, reporter)
    if session.scalar(select(Author.reference_digest).where(Author.id == item.author_id)) == digest:
        raise InvalidInput("An author can't report their own post; delete it instead.", code="own_post")
    row = _stored(session, vault, item, digest, category, comment, now)
    if row.outcome is None:
        _open(session, policy, item, row, now)
        if row.category == Category.UNDERAGE:
            suspicion.of_item(session, policy, item, MinorSource.REPORT, f"client:{client}", now)
    return row


def reporter_digest(vault: Vault, client: str, reference: str) -> bytes:
    """The digest of a reporter: that of the same account as an author, so that one request finds both."""
    return vault.digest("author", client, reference)


def _reportable(session: Session, client: str, item_id: UUID, now: datetime) -> Item:
    """The item, locked: whoever decides it, or writes its first outcome, comes before this report or after it."""
    item = lock_items(session, [item_id]).get(item_id)
    if item is None or item.client != client:
        raise NotFound("There is no such item.")
    if item.state == ItemState.DELETED:
        raise Gone(f"This item is gone: {item.deleted_because}. Nobody needs to look at it any more.")
    if erasure.hidden(session, item, now):
        raise Gone(f"This item is gone: {erasure.EXPIRED}. Nobody needs to look at it any more.")
    return item


def _stored(
    session: Session,
    vault: Vault,
    item: Item,
    digest: bytes,
    category: str,
    comment: str | None,
    now: datetime,
) -> Report:
    """The reporter's one report of this item: new, or the one there is with their newest words."""
    known = session.scalar(select(Report).where(Report.item_id == item.id, Report.reporter_digest == digest))
    if known is not None and known.outcome is not None:
        return known
    identifier = known.id if known else new_id(now)
    sealed = None
    if comment:
        key = vault.item_keys([item.id]).get(item.id)
        if key is None:
            raise Gone("This item is gone; nobody needs to look at it any more.")
        sealed = key.encrypt(comment.encode(), *comment_place(identifier))
    if known is not None:
        known.category, known.comment = category, sealed or known.comment
        session.flush()
        return known
    weight = _witness(session.get(Reporter, (item.client, digest))).weight
    row = Report(
        id=identifier,
        item_id=item.id,
        author_id=item.author_id,
        client=item.client,
        reporter_digest=digest,
        category=category,
        comment=sealed,
        weight=weight,
        reported_at=now,
    )
    session.add(row)
    session.flush()
    event = audit.Event(
        f"client:{item.client}", "item.reported", "item", str(item.id), {"category": category}
    )
    audit.record(session, [event], now)
    return row


def comment_place(report_id: UUID) -> tuple[str, str, str]:
    """Where a comment lives, for its encryption under the item's key."""
    return ("reports", "comment", str(report_id))


def _open(session: Session, policy: Policy, item: Item, row: Report, now: datetime) -> None:
    """Open a case for a report, or raise the one there is, where there is something left to decide."""
    decision = in_force(session, [item.id], now).get(item.id)
    if decision is None:
        return
    minor = row.category in MINORS
    if decision.route == Route.REMOVE and not minor:
        return
    weight = probability(_witnesses(session, item.id, row.category))
    allowed = decision.decided_by == DecidedBy.PERSON and decision.route == Route.ALLOW
    if allowed and not minor and weight < AGAIN_FROM and not _has_case(session, item.id):
        return
    draft = CaseDraft(CaseReason.REPORT, row.category, policy.categories[row.category].severity, weight)
    row.case_id = opening.open_case(session, policy, item, decision.id, draft, now)
    session.flush()


def _has_case(session: Session, item_id: UUID) -> bool:
    query = select(Case.id).where(
        Case.item_id == item_id, Case.state == CaseState.OPEN, Case.kind == CaseKind.REVIEW
    )
    return session.scalar(query) is not None


def _witnesses(session: Session, item_id: UUID, category: str) -> list[Witness]:
    """Whoever reported the item for `category` and waits for an answer."""
    rows = session.execute(
        select(Reporter.upheld, Reporter.rejected)
        .select_from(Report)
        .outerjoin(
            Reporter, and_(Reporter.client == Report.client, Reporter.digest == Report.reporter_digest)
        )
        .where(Report.item_id == item_id, Report.category == category, Report.outcome.is_(None))
        .order_by(Report.weight.desc())
        .limit(COUNTED)
    )
    return [_witness(row) for row in rows]


def _witness(row: Reporter | Row[int, int] | None) -> Witness:
    return Witness() if row is None else Witness(row.upheld or 0, row.rejected or 0)


def take_up(session: Session, policy: Policy, decided: Sequence[Item], now: datetime) -> int:
    """Open the cases of reports that came before their items had an outcome; returns how many reports."""
    waiting = session.scalars(
        select(Report)
        .where(among(Report.item_id, [item.id for item in decided]), Report.case_id.is_(None))
        .where(Report.outcome.is_(None))
        .order_by(Report.id)
    ).all()
    by_id = {item.id: item for item in decided}
    for row in waiting:
        _open(session, policy, by_id[row.item_id], row, now)
    return len(waiting)
