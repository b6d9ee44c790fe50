"""Golden items: items whose right answer a lead has set, asked again of others who can't tell them from the rest.

A golden case lies in the table of cases like any blind check: filed under the item's highest score, opened as
long ago as such checks usually wait, its id with it. Only the columns `kind` and `reason` say what it is, and
those of a blind case are shown to nobody who might get it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain.cases import MINORS, CaseKind, CaseReason, CaseState, Stage
from moderation.domain.content import ItemState
from moderation.domain.decisions import blind_draft
from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import audit
from moderation.governance.restriction import is_set_apart, set_apart
from moderation.governance.sessions import PersonPrincipal
from moderation.review import notes
from moderation.review.force import ANY_TIME, in_force, lock_items
from moderation.review.listing import Filter
from moderation.review.notes import NoteKind
from moderation.review.opening import OTHER_QUEUE, case_row, primary
from moderation.storage.database import insert_many
from moderation.storage.tables import (
    Appeal,
    Case,
    CaseNote,
    CaseSkip,
    Decision,
    GoldenItem,
    Item,
    Opinion,
    Person,
)
from moderation.storage.vault import Key, Vault, VaultError

OPEN, UPHELD, WITHDRAWN = "open", "upheld", "withdrawn"
# How many of the checks that were last closed say how long such a case usually waits.
_LAST_CLOSED = 2000


@dataclass(frozen=True, slots=True)
class GoldenView:
    """A golden item and how it did: what many get wrong may be wrong itself."""

    item_id: UUID
    verdict: str
    category: str | None
    added_at: datetime
    retired_at: datetime | None
    answered: int
    agreed: int
    contested: int


@dataclass(frozen=True, slots=True)
class Contest:
    """Somebody says that a golden answer is wrong. Who it is stays with the opinion."""

    opinion_id: UUID
    case_id: UUID
    item_id: UUID
    right_verdict: str
    right_category: str | None
    given_verdict: str
    given_category: str | None
    why: str
    at: datetime


def add(session: Session, person: PersonPrincipal, item_id: UUID, now: datetime) -> None:
    """Make a decided item golden: the decision in force is the right answer from now on.

    Raises:
        NotFound: there is no such item.
        Gone: its content has ended.
        Conflict: people still decide on it, or an appeal of it is open.
        InvalidInput: it concerns minors, or its author restricted its use; nobody is shown that for a test.
    """
    item = lock_items(session, [item_id]).get(item_id)
    if item is None:
        raise NotFound("There is no item with this id.")
    if item.state not in (ItemState.DONE, ItemState.DEAD):
        raise Gone("Only an item that was decided and still has its content can be golden.")
    decision = in_force(session, [item_id], now).get(item_id)
    if decision is None or decision.route == Route.REVIEW:
        raise Conflict("People still decide on this item; make it golden once they have.")
    if session.scalar(select(exists().where(Appeal.item_id == item_id, Appeal.state == OPEN))):
        raise Conflict("An appeal about this item is open; make it golden once that is answered.")
    if {decision.category, top_category(session, item_id)} & MINORS:
        raise InvalidInput("This item concerns minors; nobody is shown such content for a test.")
    if is_set_apart(session, item.author_id):
        raise InvalidInput(
            "What this author posted is used for nothing but to judge it; choose another item."
        )
    values = {
        "author_id": item.author_id,
        "verdict": decision.route,
        "category": decision.category,
        "added_by": person.person_id,
        "added_at": now,
        "retired_at": None,
    }
    session.execute(
        upsert(GoldenItem)
        .values(item_id=item_id, **values)
        .on_conflict_do_update(index_elements=[GoldenItem.item_id], set_=values),
        execution_options={"synchronize_session": False},
    )
    details = {"verdict": decision.route, "decision": str(decision.id)}
    audit.record(session, [audit.Event(person.actor, "golden.added", "item", str(item_id), details)], now)


def retire(session: Session, person: PersonPrincipal, item_id: UUID, now: datetime) -> None:
    """Ask nobody about this item any more; answers given so far stay.

    Raises:
        NotFound: it is not golden.
    """
    _retire(session, person.actor, item_id, now)


def _retire(session: Session, actor: str, item_id: UUID, now: datetime) -> None:
    retired = session.scalars(
        update(GoldenItem)
        .where(GoldenItem.item_id == item_id, GoldenItem.retired_at.is_(None))
        .values(retired_at=now)
        .returning(GoldenItem.item_id)
    ).all()
    if not retired:
        raise NotFound("This item is not golden, or it was retired already.")
    # Whoever has it in hand may answer; nobody else is given it.
    session.execute(
        update(Case)
        .where(Case.item_id == item_id, Case.kind == CaseKind.GOLDEN, Case.state == CaseState.OPEN)
        .where(or_(Case.claim_until.is_(None), Case.claim_until < now))
        .values(state=CaseState.CLOSED, closed_at=now)
    )
    audit.record(session, [audit.Event(actor, "golden.retired", "item", str(item_id))], now)


def listing(session: Session) -> list[GoldenView]:
    """Every golden item, the newest first, with how it was answered."""
    counts = _counted().subquery()
    rows = session.execute(
        select(GoldenItem, counts.c.answered, counts.c.agreed, counts.c.contested)
        .outerjoin(counts, counts.c.item_id == GoldenItem.item_id)
        .order_by(GoldenItem.added_at.desc())
    )
    return [
        GoldenView(
            one.item_id, one.verdict, one.category, one.added_at, one.retired_at,
            answered or 0, agreed or 0, contested or 0,
        )
        for one, answered, agreed, contested in rows
    ]  # fmt: skip


def _counted() -> Select[UUID, int, int, int]:
    return (
        select(
            GoldenItem.item_id,
            func.count().label("answered"),
            func.count().filter(Opinion.verdict == GoldenItem.verdict).label("agreed"),
            func.count().filter(Opinion.contested == OPEN).label("contested"),
        )
        .join(Opinion, Opinion.item_id == GoldenItem.item_id)
        .join(Case, and_(Case.id == Opinion.case_id, Case.kind == CaseKind.GOLDEN))
        .where(Opinion.undone_at.is_(None))
        .group_by(GoldenItem.item_id)
    )


def golden_case(
    session: Session,
    policy: Policy,
    person: PersonPrincipal,
    now: datetime,
    wanted: Filter | None = None,
) -> UUID | None:
    """A golden case reserved for this person and in their hands; None if there is none for them.

    Never an item they have judged, skipped, decided, or made golden themselves, nor one in a category they
    opted out of, in a queue or language that is neither theirs nor asked for by `wanted`, whose content ended, or
    whose decision has changed since. One at a time.
    """
    wanted = wanted or Filter()
    if wanted.reason not in (None, CaseReason.AUDIT) or wanted.stage not in (None, Stage.REVIEW):
        return None
    who = session.get(Person, person.person_id)
    mine = exists().where(
        Case.kind == CaseKind.GOLDEN, Case.state == CaseState.OPEN, Case.reserved_for == person.person_id
    )
    if who is None or session.scalar(select(mine)):
        return None
    candidates = session.execute(
        select(Item, Decision)
        .join(GoldenItem, GoldenItem.item_id == Item.id)
        .join(Decision, Decision.item_id == Item.id)
        .where(
            GoldenItem.retired_at.is_(None),
            GoldenItem.added_by != who.id,
            Item.state.in_([ItemState.DONE, ItemState.DEAD]),
            Item.destroyed_at.is_(None),
            Item.expires_at > now,
            Decision.superseded_at.is_(None),
            Decision.effective_at <= now,
            Decision.route == GoldenItem.verdict,
            *([Item.client == wanted.client] if wanted.client else []),
            *_unknown_to(who.id),
            ~set_apart(Item.author_id),
        )
        # Another order for everybody, so that two who sit side by side are not asked the same.
        .order_by(func.md5(func.concat(Item.id, who.id)))
        .limit(20)
    ).all()
    for item, decision in candidates:
        category = top_category(session, item.id)
        if _suits(who, wanted, item, category, decision.category):
            return _insert(session, policy, person, item, decision, category, now)
    return None


def _unknown_to(person: UUID) -> list[ColumnElement[bool]]:
    """The person has had nothing to do with the item so far."""
    asked = exists().where(Case.item_id == Item.id, Case.reserved_for == person, Case.kind == CaseKind.GOLDEN)
    judged = exists().where(Opinion.item_id == Item.id, Opinion.person_id == person)
    skipped = exists().where(
        Case.item_id == Item.id, CaseSkip.case_id == Case.id, CaseSkip.person_id == person
    )
    decided = (
        select(Decision.id)
        .where(Decision.item_id == Item.id, Decision.person_id == person, ANY_TIME)
        .correlate(Item)
        .exists()
    )
    return [~asked, ~judged, ~skipped, ~decided]


def _suits(who: Person, wanted: Filter, item: Item, filed: str | None, category: str | None) -> bool:
    if {filed, category} & {*who.opt_outs, *MINORS}:
        return False
    queues = [wanted.queue] if wanted.queue else who.queues
    languages = [wanted.language] if wanted.language else [*who.languages, None] if who.languages else []
    return (not queues or (filed or OTHER_QUEUE) in queues) and (
        not languages or primary(item.language) in languages
    )


def _insert(
    session: Session,
    policy: Policy,
    person: PersonPrincipal,
    item: Item,
    decision: Decision,
    category: str | None,
    now: datetime,
) -> UUID:
    draft = blind_draft(CaseReason.GOLDEN, policy, category)
    opened = max(now - _usual_wait(session, item.id, person.person_id), decision.decided_at)
    row = case_row(policy, item, decision.id, draft, opened)
    row |= {
        "reserved_for": person.person_id,
        "claimed_by": person.person_id,
        "claimed_at": now,
        "claim_number": 1,
        "claim_until": now + timedelta(minutes=policy.review.claim_minutes),
    }
    insert_many(session, Case, [row])
    identifier: UUID = row["id"]
    details = {"item": str(item.id), "reason": str(CaseReason.GOLDEN)}
    events = [
        audit.Event(audit.MACHINE, "case.opened", "case", str(identifier), details),
        audit.Event(person.actor, "case.claimed", "case", str(identifier)),
    ]
    audit.record(session, events, now)
    return identifier


def _usual_wait(session: Session, item: UUID, person: UUID) -> timedelta:
    """How long one of the last ordinary checks waited until it was taken; some minutes if there was none."""
    last = (
        select(Case.kind, Case.claimed_at, Case.opened_at)
        .where(Case.state == CaseState.CLOSED)
        .order_by(Case.closed_at.desc())
        .limit(_LAST_CLOSED)
        .subquery()
    )
    rows = session.execute(
        select(last.c.claimed_at, last.c.opened_at)
        .where(last.c.kind == CaseKind.QUALITY, last.c.claimed_at.is_not(None))
        .limit(50)
    )
    waits = [claimed - opened for claimed, opened in rows]
    number = int.from_bytes(sha256(item.bytes + person.bytes).digest()[:8], "big")
    return waits[number % len(waits)] if waits else timedelta(seconds=60 + number % 7200)


def top_category(session: Session, item: UUID) -> str | None:
    """The category of the highest score that screening found, under which checks of the item are filed."""
    found: str | None = session.scalars(
        select(Decision.findings[0]["category"].astext)
        .where(Decision.item_id == item, ANY_TIME, Decision.findings[0]["category"].is_not(None))
        .order_by(Decision.id)
        .limit(1)
    ).first()
    return found


def contest(
    session: Session, vault: Vault, person: PersonPrincipal, opinion_id: UUID, why: str, now: datetime
) -> None:
    """Say that a golden answer is wrong; only whoever answered may, once, until the item ends.

    Raises:
        NotFound: the person gave no such answer, or the item was not golden.
        Conflict: it is contested already.
        InvalidInput: no reason is given.
        Gone: the item has ended.
    """
    row = session.execute(
        select(Opinion, Case)
        .join(Case, Case.id == Opinion.case_id)
        .where(Opinion.id == opinion_id, Opinion.person_id == person.person_id)
        .where(Case.kind == CaseKind.GOLDEN, Opinion.undone_at.is_(None))
        .with_for_update(of=Opinion)
    ).one_or_none()
    if row is None:
        raise NotFound("You gave no such answer.")
    opinion, case = row
    if opinion.contested is not None:
        raise Conflict("This answer is contested already.")
    if notes.add(session, vault, person, case, NoteKind.CONTEST, why, now) is None:
        raise InvalidInput("Say why the answer is wrong; a lead will read it.")
    opinion.contested = OPEN
    session.flush()
    event = audit.Event(person.actor, "golden.contested", "item", str(case.item_id), {"case": str(case.id)})
    audit.record(session, [event], now)


def contests(session: Session, vault: Vault, person: PersonPrincipal, now: datetime) -> list[Contest]:
    """The contests that wait for a lead, the oldest first. The reason is empty if the item has ended.

    Who reads the reasons is recorded in the same transaction: commit before showing them.
    """
    rows = session.execute(
        select(Opinion, GoldenItem, CaseNote)
        .join(GoldenItem, GoldenItem.item_id == Opinion.item_id)
        .join(
            CaseNote,
            and_(
                CaseNote.case_id == Opinion.case_id,
                CaseNote.person_id == Opinion.person_id,
                CaseNote.kind == NoteKind.CONTEST,
            ),
        )
        .where(Opinion.contested == OPEN)
        .order_by(CaseNote.at)
    ).all()
    keys = vault.item_keys([opinion.item_id for opinion, _, _ in rows])
    read = [
        audit.Event(person.actor, "golden.contests_viewed", "item", str(opinion.item_id))
        for opinion, _, _ in rows
    ]
    audit.record(session, read, now)
    return [
        Contest(
            opinion_id=opinion.id,
            case_id=opinion.case_id,
            item_id=opinion.item_id,
            right_verdict=golden.verdict,
            right_category=golden.category,
            given_verdict=opinion.verdict,
            given_category=opinion.category,
            why=_opened(keys.get(opinion.item_id), note),
            at=note.at,
        )
        for opinion, golden, note in rows
    ]


def _opened(key: Key | None, note: CaseNote) -> str:
    if key is None or note.text is None:
        return ""
    try:
        return key.decrypt(note.text, *notes.place(note.id)).decode()
    except VaultError:
        return ""


def settle(
    session: Session, person: PersonPrincipal, opinion_id: UUID, now: datetime, *, upheld: bool
) -> None:
    """Answer a contest: the golden answer stands, or it is withdrawn, retired, and counts against nobody.

    Raises:
        NotFound: there is no such contest, or it is settled.
        Conflict: it is the person's own.
    """
    opinion = session.get(Opinion, opinion_id, with_for_update=True)
    if opinion is None or opinion.contested != OPEN:
        raise NotFound("There is no such contest, or somebody settled it already.")
    if opinion.person_id == person.person_id:
        raise Conflict("This contest is your own; somebody else settles it.")
    opinion.contested = UPHELD if upheld else WITHDRAWN
    session.flush()
    golden = session.get(GoldenItem, opinion.item_id)
    if not upheld and golden is not None and golden.retired_at is None:
        _retire(session, person.actor, opinion.item_id, now)
    details = {"case": str(opinion.case_id), "outcome": opinion.contested}
    event = audit.Event(person.actor, "golden.settled", "item", str(opinion.item_id), details)
    audit.record(session, [event], now)
