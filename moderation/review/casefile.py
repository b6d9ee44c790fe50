"""Everything the page of one case shows, read in one transaction that also records who looked.

What a blind case must hide is left empty here and never reaches a template. A part that does not open any more
shows as gone; it does not take the page with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, true
from sqlalchemy.orm import Session

from moderation.domain import cases as rules
from moderation.domain.cases import CaseKind, CaseReason, CaseState, Stage
from moderation.domain.decisions import DecidedBy
from moderation.domain.errors import NotFound
from moderation.domain.policy import Policy
from moderation.features.hashes import normalised
from moderation.features.views import views
from moderation.governance import audit, erasure
from moderation.governance.sessions import PersonPrincipal
from moderation.review import (
    appeals,
    clusters,
    force,
    lines,
    listing,
    marks,
    measures,
    notes,
    opinions,
    reports,
    score_bars,
    wellness,
)
from moderation.review.views import (
    AppealView,
    AuthorView,
    CaseFile,
    CaseRow,
    DecisionView,
    Forewarning,
    ImageView,
    MatchView,
    NoteView,
    OpinionView,
    ReportView,
    Span,
    TextView,
)
from moderation.storage import items as queue
from moderation.storage.database import among
from moderation.storage.ids import lower_bound
from moderation.storage.tables import (
    AccountAction,
    Appeal,
    Author,
    BankEntry,
    Case,
    CaseNote,
    Decision,
    Item,
    Opinion,
    Part,
    Report,
    SignalRow,
)
from moderation.storage.vault import Key, Vault, VaultError

OUTCOMES_OF = timedelta(days=90)
AGE, AGE_SAID = "age", "stated age"  # the detector, and what its find is called
Signals = Mapping[tuple[str, str], SignalRow]  # by part and detector
# Of an author, a case and an item: more says no more to whoever judges, and must not slow the page.
MOST_DECISIONS, MOST_REPORTS, MOST_NOTES, MOST_ALIKE = 2000, 50, 100, 50


@dataclass(frozen=True, slots=True)
class _Reading:
    """What every part of the page is read with."""

    session: Session
    vault: Vault
    policy: Policy
    now: datetime
    reference: str | None  # what the content service calls the author


def load(
    session: Session, vault: Vault, policy: Policy, person: PersonPrincipal, case_id: UUID, now: datetime
) -> CaseFile:
    """The file of a case. Who looked is recorded first, in the same transaction: commit before showing it.

    Raises:
        NotFound: there is no such case.
    """
    case = session.get(Case, case_id)
    golden = case is not None and case.kind == CaseKind.GOLDEN
    if case is None or (golden and case.reserved_for != person.person_id):
        raise NotFound("There is no such case.")
    event = audit.Event(person.actor, "case.viewed", "case", str(case_id), {"item": str(case.item_id)})
    audit.record(session, [event], now)
    item, author = session.execute(
        select(Item, Author)
        .select_from(Case)
        .outerjoin(Item, Item.id == case.item_id)
        .outerjoin(Author, Author.id == case.author_id)
        .where(Case.id == case_id)
    ).one()
    key, whose = vault.keys_of(case.item_id, case.author_id)
    if item is not None and erasure.hidden(session, item, now):
        key = None  # whatever keeps it, it is for the legal role alone
    if author is not None and author.erasing_at is not None:
        whose = None
    reference = _opened(whose, author.reference, "authors", "reference", str(author.id)) if author else None
    return _file(_Reading(session, vault, policy, now, reference), person, case, item, key)


def kept_back(file: CaseFile) -> CaseFile:
    """The same file without its texts, nor what quotes them: for whoever has not revealed what is grave."""
    parts = tuple(
        replace(part, text="", spans=(), lines=(), normalised=None, seen=None, kept_back=not part.gone)
        if isinstance(part, TextView)
        else part
        for part in file.parts
    )
    return replace(file, parts=parts, reports=tuple(replace(one, comment=None) for one in file.reports))


def _file(
    reading: _Reading, person: PersonPrincipal, case: Case, item: Item | None, key: Key | None
) -> CaseFile:
    session, policy, now = reading.session, reading.policy, reading.now
    hidden = rules.hides(case.blind, Stage(case.stage))
    made = force.history(session, case.item_id)
    machine = next((row for row in made if row.decided_by == DecidedBy.MACHINE and row.findings), None)
    # Why a machine decided as it did, or asked people: what brought the item here.
    first = next((row for row in made if row.decided_by == DecidedBy.MACHINE and not row.reverses), None)
    named = _details(item, key)
    settles = case.stage == Stage.ADJUDICATION
    mine = next((row for row in made if row.case_id == case.id and row.person_id == person.person_id), None)
    reports = () if hidden else _reports(session, case.item_id, key)
    appeal = _appeal(reading, case)
    matches = () if hidden else _matches(session, [*(first.matches if first else ()), *case.matches])
    signals = {} if hidden else _signals(session, case.item_id)
    return CaseFile(
        case=listing.view(case, now),
        claim=listing.claim_of(case, person.person_id, now),
        blind=hidden,
        forewarning=Forewarning(case.category, case.severity, wellness.is_grave(policy, case.severity)),
        parts=tuple(
            _found_in(_part(part, key), matches, signals) for part in queue.parts_of(session, [case.item_id])
        ),
        external_id=named.get("external_id"),
        kind=item.kind if item else "",
        language=item.language if item else case.language,
        reach=item.reach if item else None,
        posted_at=item.posted_at if item else case.opened_at,
        thread=named.get("thread"),
        parent=named.get("parent"),
        why=() if hidden else (*_occasion(case, reports, appeal), *(first.reasons if first else ())),
        scores=() if hidden or machine is None else score_bars.of(session, policy, machine, signals, now),
        matches=matches,
        author=_author(reading, case, hidden),
        history=() if hidden else _history(session, made, now),
        opinions=_opinions(session, case.item_id) if settles else (),
        notes=() if hidden else _notes(session, case.item_id, key),
        reports=reports,
        appeal=appeal,
        cluster=_cluster(session, case, now),
        clauses=tuple(clause for name in policy.categories for clause in policy.clauses_of(name)),
        categories=tuple(policy.categories),
        undo=opinions.undo_of(session, person, mine.id, now) if mine else None,
        gone=item is None or item.destroyed_at is not None or key is None,
        deleted_because=item.deleted_because if item else None,
        failed=() if hidden else _failed(made),
    )


def _occasion(case: Case, reports: Sequence[ReportView], appeal: AppealView | None) -> tuple[str, ...]:
    """What brought the case here beside the machine, in a sentence; the machine's own reasons follow."""
    if appeal is not None:
        return (f"The {appeal.by} asks that the decision be looked at again.",)
    found_by = dict.fromkeys(match["bank"] for match in case.matches)
    said = [f"A search through what was there before found it by the bank {bank}." for bank in found_by]
    if case.reason == CaseReason.CONFLICT:
        said.append("Opinions differ; somebody has to settle it.")
    if reports:
        named = Counter(report.category.replace("_", " ") for report in reports)
        who = "One reader" if len(reports) == 1 else f"{len(reports)} readers"
        how = "as" if len(named) == 1 else "mostly as"
        said.append(f"{who} reported it {how} {named.most_common(1)[0][0]}.")
    return tuple(said)


def _failed(made: Sequence[Decision]) -> tuple[str, ...]:
    machine = next((row for row in made if row.detectors), None)
    named = machine.detectors if machine else ()
    return tuple(detector["name"] for detector in named if detector.get("status") == "failed")


def _details(item: Item | None, key: Key | None) -> Mapping[str, str | None]:
    """What the content service calls the item, and what surrounds it."""
    if item is None or item.details is None or key is None:
        return {}
    try:
        details: dict[str, str | None] = json.loads(
            key.decrypt(item.details, "items", "details", str(item.id))
        )
    except VaultError:
        return {}
    return details


def _part(part: Part, key: Key | None) -> TextView | ImageView:
    if part.kind != "text":
        return ImageView(part.name, part.position, part.media_type, gone=key is None)
    place = ("parts", "content", str(part.item_id), str(part.position))
    text = _opened(key, part.content, *place)
    if text is None:
        return TextView(part.name, "", part.position, gone=True, read_in=part.derived_from)
    folded = normalised(text)
    return TextView(
        part.name,
        text,
        part.position,
        normalised=folded if folded != text else None,
        language=part.language if part.language not in {"en", "und"} else None,
        read_in=part.derived_from,
        lines=lines.of_part(part, key),
    )


def _signals(session: Session, item_id: UUID) -> Signals:
    """What detectors said of an item, by part and detector; not what a shadow said, which decided nothing."""
    rows = session.scalars(select(SignalRow).where(SignalRow.item_id == item_id, ~SignalRow.shadow))
    return {(row.part, row.detector): row for row in rows}


def _found_in(
    part: TextView | ImageView, matches: Sequence[MatchView], signals: Signals
) -> TextView | ImageView:
    """A part with what rules found in it marked: under a bank's name what it knows, and statements of an age."""
    if isinstance(part, ImageView) or part.gone:
        return part
    found = [
        (one.view, Span(one.start, one.end, one.bank))
        for one in matches
        if one.part == part.name and one.start is not None and one.end is not None
    ]
    age = signals.get((part.name, AGE))
    if age is not None and "start" in age.evidence:
        found.append(("", Span(age.evidence["start"], age.evidence["end"], AGE_SAID)))
    spans = [span for view, span in found if not view]
    if any(view for view, _ in found):
        said = {view.name: view.text for view in views(part.text)}
        for view, span in found:
            if view in said:  # what was found in a view stands elsewhere in the text
                spans += marks.in_original(part.text, view, said[view], [span])
    return replace(part, spans=(*part.spans, *spans))


def _opened(key: Key | None, sealed: bytes | None, *place: str) -> str | None:
    if key is None or sealed is None:
        return None
    try:
        return key.decrypt(sealed, *place).decode()
    except VaultError:
        return None


def _matches(session: Session, found: Sequence[Mapping[str, Any]]) -> tuple[MatchView, ...]:
    """The matches a decision was made with, and what is noted down of their entries now."""
    if not found:
        return ()
    ids = {UUID(match["entry"]) for match in found}
    notes_of = dict(
        session.execute(select(BankEntry.id, BankEntry.note).where(among(BankEntry.id, ids))).all()
    )
    return tuple(
        MatchView(
            part=match["part"],
            bank=match["bank"],
            entry=match["entry"],
            note=notes_of.get(UUID(match["entry"]), ""),
            verified=match["verified"],
            action=match["action"],
            withdrawn=UUID(match["entry"]) not in notes_of,
            how=match.get("how", "equal"),
            score=match.get("score", 1.0),
            view=match.get("view", ""),
            start=match.get("start"),
            end=match.get("end"),
            distance=match.get("distance"),
            source=match.get("source"),
            quarantined=match.get("quarantined", False),
        )
        for match in found
    )


def _author(reading: _Reading, case: Case, hidden: bool) -> AuthorView:
    """The account behind the item; in a blind case without what became of this very item."""
    session, now, author_id = reading.session, reading.now, case.author_id
    since = lower_bound(now - OUTCOMES_OF)
    others = Decision.item_id != case.item_id if hidden else true()
    latest = (
        select(Decision.route, Decision.item_id)
        .where(
            Decision.author_id == author_id,
            Decision.id >= since,
            Decision.effective_at <= now,
            or_(Decision.superseded_at.is_(None), Decision.superseded_at > now),
            others,
        )
        .limit(MOST_DECISIONS)
        .subquery()
    )
    outcomes: dict[str, int] = dict(
        session.execute(select(latest.c.route, func.count()).group_by(latest.c.route)).all()
    )
    return AuthorView(
        id=author_id,
        reference=reading.reference,
        standing=measures.standing_of(
            session, reading.policy, author_id, now, but=case.item_id if hidden else None
        ),
        outcomes=outcomes,
        items=sum(outcomes.values()),
    )


def _history(session: Session, made: Sequence[Decision], now: datetime) -> tuple[DecisionView, ...]:
    by_people = [row.id for row in made if row.person_id]  # a machine takes no measure
    measured = select(AccountAction.decision_id, AccountAction.kind).where(
        among(AccountAction.decision_id, by_people)
    )
    taken = dict(session.execute(measured).all()) if by_people else {}
    return tuple(
        DecisionView(
            id=row.id,
            route=row.route,
            category=row.category,
            clause=row.clause,
            restrictions=tuple(row.restrictions),
            reasons=tuple(row.reasons),
            decided_by=row.decided_by,
            person_id=row.person_id,
            policy_version=row.policy_version,
            decided_at=row.decided_at,
            effective_at=row.effective_at,
            superseded_at=row.superseded_at,
            undone_at=row.undone_at,
            reverses=row.reverses,
            measure=taken.get(row.id),
            in_force=row.effective_at <= now and (row.superseded_at is None or row.superseded_at > now),
            certificates=tuple(row.certificates),
        )
        for row in made
    )


def _opinions(session: Session, item_id: UUID) -> tuple[OpinionView, ...]:
    """What everybody thought of the item, in whichever case; golden answers are nobody's business."""
    rows = session.scalars(
        select(Opinion)
        .join(Case, Case.id == Opinion.case_id)
        .where(Opinion.item_id == item_id, Opinion.undone_at.is_(None), Case.kind != CaseKind.GOLDEN)
        .order_by(Opinion.given_at, Opinion.id)
    )
    return tuple(
        OpinionView(
            id=row.id,
            person_id=row.person_id,
            stage=row.stage,
            verdict=row.verdict,
            category=row.category,
            clause=row.clause,
            restrictions=tuple(row.restrictions),
            account_action=row.account_action,
            late=row.late,
            given_at=row.given_at,
        )
        for row in rows
    )


def _notes(session: Session, item_id: UUID, key: Key | None) -> tuple[NoteView, ...]:
    rows = session.scalars(
        select(CaseNote)
        .join(Case, Case.id == CaseNote.case_id)
        .where(CaseNote.item_id == item_id, Case.kind != CaseKind.GOLDEN)
        .order_by(CaseNote.at, CaseNote.id)
        .limit(MOST_NOTES)
    )
    return tuple(
        NoteView(row.id, row.kind, row.person_id, _opened(key, row.text, *notes.place(row.id)) or "", row.at)
        for row in rows
    )


def _reports(session: Session, item_id: UUID, key: Key | None) -> tuple[ReportView, ...]:
    rows = session.scalars(
        select(Report)
        .where(Report.item_id == item_id)
        .order_by(Report.weight.desc(), Report.id)
        .limit(MOST_REPORTS)
    )
    return tuple(
        ReportView(
            row.category,
            row.weight,
            _opened(key, row.comment, *reports.comment_place(row.id)),
            row.reported_at,
            row.outcome,
        )
        for row in rows
    )


def _appeal(reading: _Reading, case: Case) -> AppealView | None:
    row = reading.session.get(Appeal, case.appeal_id) if case.appeal_id else None
    if row is None:
        return None
    statement = appeals.statement_of(reading.session, reading.vault, row)
    return AppealView(row.id, row.decision_id, row.by, statement, row.lodged_at, row.deadline, row.state)


def _cluster(session: Session, case: Case, now: datetime) -> tuple[CaseRow, ...]:
    # What is judged blind must not be known by its company.
    if (
        case.blind
        or case.kind != CaseKind.REVIEW
        or case.state != CaseState.OPEN
        or case.stage != Stage.REVIEW
    ):
        return ()
    return tuple(listing.of_items(session, clusters.near(session, case.item_id, MOST_ALIKE), now))
