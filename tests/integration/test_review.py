"""Opinions and decisions of people: one, two, a conflict, a check; and what the page of a case shows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from api import views
from moderation import metrics
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.domain.routing import Route
from moderation.domain.signals import BankAction, Match
from moderation.governance import bank_judging, banks, erasure
from moderation.governance.sessions import PersonPrincipal
from moderation.review import appeals, casefile, cases, decisions, golden, opinions, reports
from moderation.review.appealed import By
from moderation.review.opinions import Given, Result
from moderation.review.views import CaseFile, MatchView, TextView
from moderation.storage import items as queue
from moderation.storage.database import transaction
from moderation.storage.tables import (
    AuditEvent,
    Case,
    CaseNote,
    Decision,
    Item,
    Opinion,
    Part,
    Person,
    Report,
    Reporter,
)
from tests import people
from tests.caseload import ALLOW, LIMIT, REMOVE, Caseload, strike
from tests.support import MILD, count

Load = Callable[[PersonPrincipal, UUID], CaseFile]
HOUR = timedelta(hours=1)


@pytest.fixture
def opened(load: Caseload) -> Load:
    """The page of a case."""

    def read(person: PersonPrincipal, case_id: UUID) -> CaseFile:
        with transaction(load.engine) as session:
            return casefile.load(session, load.vault, load.policy, person, case_id, load.now)

    return read


def with_two_opinions(load: Caseload) -> None:
    rule = replace(load.policy.categories["harassment"], opinions=2)
    load.policy = replace(load.policy, categories={**load.policy.categories, "harassment": rule})


def in_force(load: Caseload, case_id: UUID) -> Decision:
    item_id = load.case(case_id).item_id
    with transaction(load.engine) as session:
        return decisions.in_force(session, [item_id], load.now)[item_id]


def test_a_decision_says_who_why_and_until_when_its_content_stays(
    load: Caseload, ann: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    answer = load.give(ann, case_id, LIMIT)
    load.now += 60 * timedelta(seconds=1)
    row = in_force(load, case_id)
    assert answer.result is Result.DECIDED
    assert answer.decision_id == row.id
    assert (row.route, row.category, row.clause) == ("limit", "harassment", "H1")
    assert row.restrictions == ["age_gate"]
    assert (row.decided_by, row.person_id, row.case_id) == ("person", ann.person_id, case_id)
    assert row.reasons == ["Clause H1: It insults a person."]
    assert row.reverses is None, "a machine that asked people had decided nothing"
    with transaction(load.engine) as session:
        item = session.get_one(Item, row.item_id)
        clock = load.policy.retention.classes["appealable"]
        assert item.retention_class == clock.name
        assert item.expires_at == row.decided_at + timedelta(days=clock.days)
        decided = queue.page(session, "app", "decided", None, 9, load.now)
        waiting = queue.page(session, "app", "in_review", None, 9, load.now)
        before = queue.page(session, "app", "in_review", None, 9, row.decided_at)
    assert [one.id for one in decided] == [item.id]
    assert waiting == []
    assert [one.id for one in before] == [item.id]
    assert load.case(case_id).state == "closed"


def test_a_form_sent_twice_counts_once_even_at_the_same_moment(load: Caseload, ann: PersonPrincipal) -> None:
    for case_id in load.waiting(5):
        number, form_key = load.claim(ann, case_id).number, uuid4()
        answers: list[opinions.Answer] = []
        barrier = threading.Barrier(4)

        def send(
            case_id: UUID, number: int, key: UUID, into: list[opinions.Answer], wait: threading.Barrier
        ) -> None:
            wait.wait()
            into.append(load.give(ann, case_id, number=number, form_key=key))

        threads = [
            threading.Thread(target=send, args=(case_id, number, form_key, answers, barrier))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one.result for one in answers) == ["decided", "repeated", "repeated", "repeated"]
        assert len({(one.opinion_id, one.decision_id, one.undo) for one in answers}) == 1
    assert count(load.engine, "opinions") == 5


def test_a_form_is_of_one_case_and_one_person(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    first, second = load.waiting(2)
    key = uuid4()
    load.give(ann, first, form_key=key)
    for person, case_id in ((ann, second), (bob, first)):
        with pytest.raises(Conflict) as refused:
            load.give(person, case_id, form_key=key, number=1)
        assert refused.value.code == "form_used"


def test_two_who_agree_decide_and_the_second_does_not_see_the_first(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, opened: Load
) -> None:
    with_two_opinions(load)
    (case_id,) = load.waiting()
    first = load.give(ann, case_id, note="It is an insult.")
    assert (first.result, first.decision_id) == (Result.SECOND, None)
    assert in_force(load, case_id).route == "review"
    page = opened(bob, case_id)
    assert page.blind
    assert (page.why, page.scores, page.opinions, page.notes, page.history) == ((), (), (), (), ())
    second = load.give(bob, case_id, Judgement(Verdict.REMOVE, "harassment", "H2"))
    assert second.result is Result.DECIDED
    with transaction(load.engine) as session:
        rows = session.scalars(select(Opinion).order_by(Opinion.given_at, Opinion.stage)).all()
        assert {row.decision_id for row in rows} == {second.decision_id}
        assert {row.stage: row.score_shown for row in rows} == {"review": True, "second": False}
        assert session.get_one(Decision, second.decision_id).clause == "H2", "the newest is the decision"


def test_a_category_chosen_by_hand_may_ask_for_two(load: Caseload, ann: PersonPrincipal) -> None:
    with_two_opinions(load)
    (case_id,) = load.waiting(category="spam")
    assert load.give(ann, case_id, REMOVE).result is Result.SECOND


def test_those_who_differ_are_settled_by_a_lead_who_sees_everything(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal, opened: Load
) -> None:
    with_two_opinions(load)
    (case_id,) = load.waiting()
    load.give(ann, case_id, REMOVE)
    load.now += HOUR
    assert load.give(bob, case_id, ALLOW).result is Result.ADJUDICATION
    case = load.case(case_id)
    assert (case.stage, case.reason, case.state) == ("adjudication", "conflict", "open")
    page = opened(lead, case_id)
    assert not page.blind
    said = [(one.person_id, one.verdict) for one in page.opinions]
    assert said == [(ann.person_id, "remove"), (bob.person_id, "allow")]
    answer = load.give(lead, case_id, LIMIT)
    assert answer.result is Result.DECIDED
    load.now += HOUR
    assert in_force(load, case_id).route == "limit"


def test_a_lead_settles_a_conflict_of_their_own_only_if_nobody_else_can(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal
) -> None:
    with_two_opinions(load)
    (case_id,) = load.waiting()
    other = people.principal(load.databases, load.vault, "lead")
    load.give(lead, case_id, REMOVE)
    assert load.give(ann, case_id, ALLOW).result is Result.ADJUDICATION
    with pytest.raises(Conflict) as refused:
        load.claim(lead, case_id)
    assert refused.value.code == "judged_already"
    assert next_of(load, lead) is None
    with transaction(load.engine) as session:
        session.get_one(Person, other.person_id).disabled_at = load.now
    assert next_of(load, ann) is None, "alone is not enough: they must be one who settles"
    assert next_of(load, lead) == case_id
    number = load.case(case_id).claim_number
    assert load.give(lead, case_id, REMOVE, number=number).result is Result.DECIDED
    with transaction(load.engine) as session:
        own = select(AuditEvent.actor).where(AuditEvent.details["own_conflict"].as_boolean())
        assert session.scalars(own).all() == [lead.actor]


def test_after_its_deadline_whoever_settles_may_settle_their_own(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal
) -> None:
    with_two_opinions(load)
    (case_id,) = load.waiting()
    people.principal(load.databases, load.vault, "lead")
    load.give(lead, case_id, REMOVE)
    load.give(ann, case_id, ALLOW)
    assert next_of(load, lead) is None
    load.now = load.case(case_id).deadline
    assert next_of(load, ann) is None
    assert next_of(load, lead) == case_id


def next_of(load: Caseload, person: PersonPrincipal) -> UUID | None:
    with transaction(load.engine) as session:
        claim = cases.next_case(session, load.policy, person, cases.Filter(), 1.0, 1.0, load.now)
        return claim.case_id if claim else None


def test_only_who_had_a_case_can_be_late_with_it(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    with pytest.raises(Conflict) as refused:
        load.give(bob, case_id, ALLOW, number=1)
    assert refused.value.code == "not_claimed"
    decision_id = load.give(ann, case_id, REMOVE).decision_id
    load.now += HOUR
    with transaction(load.engine) as session:
        appeals.lodge(session, load.vault, load.policy, "app", decision_id, By.AUTHOR, None, None, load.now)
        appeal = session.scalars(select(Case.id).where(Case.kind == "appeal")).one()
    number = load.claim(bob, appeal).number
    with pytest.raises(Conflict) as refused:
        load.give(ann, appeal, REMOVE, number=number)
    assert refused.value.code == "not_claimed", "who decided has no say in the appeal, late or not"
    with transaction(load.engine) as session, pytest.raises(InvalidInput, match="had a part"):
        cases.hand_over(session, load.vault, bob, appeal, number, ann.person_id, None, load.now)


def test_two_clusters_with_the_same_reporters_do_not_wait_for_each_other(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has decided one item and its reporter when it comes to the reporter of the other's first."""
    clusters = {person: sorted(load.alike(2)) for person in (ann, bob)}
    for members, names in zip(clusters.values(), (("r-1", "r-2"), ("r-2", "r-1")), strict=True):
        for case_id, name in zip(members, names, strict=True):
            with transaction(load.engine) as session:
                item = load.case(case_id).item_id
                reports.report(session, load.vault, load.policy, "app", item, name, "spam", None, load.now)
    numbers = {person: load.claim(person, members[0]).number for person, members in clusters.items()}
    both = threading.Barrier(2)
    record = decisions.by_person

    def slowly(*arguments: Any, **named: Any) -> UUID:
        made = record(*arguments, **named)
        with suppress(threading.BrokenBarrierError):
            both.wait(1)
        return made

    monkeypatch.setattr(decisions, "by_person", slowly)
    results: list[Result] = []

    def together(person: PersonPrincipal) -> None:
        first, *members = clusters[person]
        given = Given(uuid4(), REMOVE)
        with transaction(load.engine) as session:
            answer = opinions.give_cluster(
                session, load.vault, load.policy, person, first, numbers[person], members, given, load.now
            )
        results.append(answer.result)

    threads = [threading.Thread(target=together, args=(person,)) for person in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Result.DECIDED, Result.DECIDED]
    with transaction(load.engine) as session:
        assert session.execute(select(Reporter.upheld, Reporter.rejected)).all() == [(2, 0), (2, 0)]


def test_who_may_not_settle_or_ban_is_told_so(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    number = load.claim(ann, case_id).number
    ban = Judgement(Verdict.REMOVE, "harassment", None, (), AccountMeasure.BAN)
    with pytest.raises(Forbidden, match="ban"):
        load.give(ann, case_id, ban, number=number)
    with pytest.raises(InvalidInput):
        load.give(ann, case_id, Judgement(Verdict.LIMIT, "harassment"), number=number)
    assert count(load.engine, "opinions") == 0
    assert load.give(lead, load.waiting()[0], ban).result is Result.DECIDED
    with pytest.raises(NotFound):
        load.give(ann, uuid4(), number=1)


def test_a_late_opinion_that_agrees_is_kept_and_that_is_all(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    stale = load.claim(ann, case_id).number
    load.now += HOUR
    load.give(bob, case_id, REMOVE)
    answer = load.give(ann, case_id, REMOVE, number=stale)
    assert (answer.result, answer.decision_id) == (Result.LATE, None)
    assert load.case(case_id).state == "closed"
    with transaction(load.engine) as session:
        assert session.get_one(Opinion, answer.opinion_id).late


def test_a_late_opinion_that_differs_opens_the_case_again_for_a_lead(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    stale = load.claim(ann, case_id).number
    load.now += HOUR
    first = load.give(bob, case_id, REMOVE)
    assert load.give(ann, case_id, ALLOW, number=stale).result is Result.LATE
    case = load.case(case_id)
    assert (case.state, case.stage, case.reason) == ("open", "adjudication", "conflict")
    confirmed = load.give(lead, case_id, REMOVE)
    assert confirmed.result is Result.CONFIRMED, "the same again is no other decision"
    load.now += HOUR
    assert in_force(load, case_id).id == first.decision_id


def test_a_late_opinion_on_an_open_case_waits_for_whoever_has_it(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    stale = load.claim(ann, case_id).number
    load.now += HOUR
    number = load.claim(bob, case_id).number
    load.give(ann, case_id, ALLOW, number=stale)
    assert load.case(case_id).claimed_by == bob.person_id, "nobody loses a case to somebody who is late"
    assert load.give(bob, case_id, REMOVE, number=number).result is Result.ADJUDICATION


def test_an_expired_claim_that_nobody_took_is_in_time(load: Caseload, ann: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    number = load.claim(ann, case_id).number
    with transaction(load.engine) as session:
        cases.release(session, ann, case_id, number, load.now)
    load.now += HOUR
    assert load.give(ann, case_id, number=number).result is Result.DECIDED


def test_the_page_says_what_matched(load: Caseload, ann: PersonPrincipal, opened: Load) -> None:
    with transaction(load.engine) as session:
        make = {"kind": "text", "category": "spam", "action": "remove", "allow": False, "actor": "operator"}
        banks.create(session, name="known_spam", now=load.now, **make)  # type: ignore[arg-type]
        entry = banks.add_entry(
            session, bank="known_spam", digest=b"d" * 32, note="Sold twice.", verified=False,
            actor="operator", now=load.now,
        )  # fmt: skip
    match = Match("body", "known_spam", str(entry), "spam", BankAction.REMOVE, verified=False)
    draft = CaseDraft(CaseReason.BANK, "spam", 1, 0.5)
    (case_id,) = load.routed(load.items(), Route.REVIEW, draft, "spam", (match,))
    shown = MatchView("body", "known_spam", str(entry), "Sold twice.", verified=False, action="remove")
    assert opened(ann, case_id).matches == (shown,)
    with transaction(load.engine) as session:
        bank_judging.verify(session, "known_spam", entry, actor="operator", now=load.now)
    assert opened(ann, case_id).matches == (shown,), "as it was when it matched"
    with transaction(load.engine) as session:
        banks.remove_entry(session, "known_spam", entry, actor="operator", now=load.now)
    assert opened(ann, case_id).matches == (replace(shown, note="", withdrawn=True),)


def test_a_check_overturns_nothing_alone_and_tells_nobody_what_it_was(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal, opened: Load
) -> None:
    check = load.checked(Route.ALLOW)
    page = opened(ann, check)
    assert page.blind
    assert (page.why, page.scores, page.matches, page.history, page.opinions) == ((), (), (), (), ())
    assert page.author.items == 0, "what became of this very item would tell"
    overturned = metrics.OVERTURNS.labels("quality")._value.get()
    assert load.give(ann, check, REMOVE).result is Result.CONFIRMED
    assert load.case(check).stage == "second"
    assert in_force(load, check).route == "allow"
    answer = load.give(bob, check, REMOVE)
    assert answer.result is Result.DECIDED
    assert metrics.OVERTURNS.labels("quality")._value.get() == overturned + 1
    with transaction(load.engine) as session:
        made = session.get_one(Decision, answer.decision_id)
        assert made.reverses == load.case(check).decision_id
        shown = session.scalars(select(Opinion.score_shown)).all()
        assert shown == [False, False]
        assert set(session.scalars(select(Opinion.propensity))) == {0.05}


def test_a_check_that_finds_it_right_changes_nothing(load: Caseload, ann: PersonPrincipal) -> None:
    check = load.checked(Route.ALLOW)
    before = in_force(load, check).id
    assert load.give(ann, check, ALLOW).result is Result.CONFIRMED
    load.now += HOUR
    assert in_force(load, check).id == before
    assert load.case(check).state == "closed"


def test_a_golden_case_looks_like_a_check_and_leads_to_nothing(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal, opened: Load
) -> None:
    (source,) = load.waiting()
    load.give(bob, source, REMOVE)
    load.now += HOUR
    with transaction(load.engine) as session:
        golden.add(session, lead, load.case(source).item_id, load.now)
    with transaction(load.engine) as session:
        claim = cases.next_case(session, load.policy, ann, cases.Filter(), 0.0, 0.99, load.now)
    assert claim
    assert load.case(claim.case_id).kind == "golden"
    page = opened(ann, claim.case_id)
    check = opened(ann, load.checked())
    for name in ("kind", "reason", "blind", "stage", "reserved_for", "appeal_id"):
        assert getattr(page.case, name) == getattr(check.case, name), name
    assert (page.blind, page.why, page.history) == (check.blind, check.why, check.history)
    with pytest.raises(NotFound):
        opened(lead, claim.case_id)
    with transaction(load.engine) as session:
        assert claim.case_id not in {row.id for row in cases.listing(session, cases.Filter(), load.now)}
    assert load.give(ann, claim.case_id, ALLOW, number=claim.number).result is Result.CONFIRMED
    assert in_force(load, source).route == "remove"
    assert load.case(claim.case_id).state == "closed"


def test_some_decisions_are_judged_again_by_somebody_else(load: Caseload, ann: PersonPrincipal) -> None:
    share = load.policy.review.second_opinion_share
    drawn, left = load.waiting(2)
    load.give(ann, drawn, dice=share / 2)
    load.give(ann, left, dice=share)
    with transaction(load.engine) as session:
        (check,) = session.scalars(select(Case).where(Case.kind == "quality")).all()
    assert (check.item_id, check.reason, check.blind) == (load.case(drawn).item_id, "second_opinion", True)
    assert check.propensity == share


def test_reports_are_settled_by_what_people_decide(load: Caseload, ann: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    with transaction(load.engine) as session:
        reports.report(session, load.vault, load.policy, "app", item_id, "r-1", "spam", "Look.", load.now)
    answer = load.give(ann, case_id, REMOVE)
    with transaction(load.engine) as session:
        (row,) = session.scalars(select(Report)).all()
    assert (row.outcome, row.settled_by) == ("upheld", answer.decision_id)


def test_whoever_looks_at_a_case_is_on_record(load: Caseload, ann: PersonPrincipal, opened: Load) -> None:
    (case_id,) = load.waiting(author="acct-7", thread="thread-1", language="en", reach=12)
    page = opened(ann, case_id)
    (body,) = page.parts
    assert isinstance(body, TextView)
    assert (body.text, body.normalised) == (MILD, MILD.lower())
    assert (page.author.reference, page.thread, page.language, page.reach) == ("acct-7", "thread-1", "en", 12)
    assert page.why == ("The test says review.",)
    assert [(bar.category, bar.probability, bar.allow_below) for bar in page.scores] == [
        ("harassment", 0.6, 0.4)
    ]
    assert not page.forewarning.grave
    with transaction(load.engine) as session:
        seen = session.scalars(select(AuditEvent).where(AuditEvent.action == "case.viewed")).all()
    assert [(event.actor, event.subject_id) for event in seen] == [(ann.actor, str(case_id))]
    with pytest.raises(NotFound):
        opened(ann, uuid4())


def test_notes_and_comments_are_read_by_whoever_judges_and_encrypted_for_all_others(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, opened: Load
) -> None:
    (case_id,) = load.waiting()
    with transaction(load.engine) as session:
        item_id = load.case(case_id).item_id
        reports.report(
            session, load.vault, load.policy, "app", item_id, "r-1", "spam", "A comment.", load.now
        )
        cases.add_note(session, load.vault, ann, case_id, "A note.", load.now)
    page = opened(bob, case_id)
    assert [(note.person_id, note.text) for note in page.notes] == [(ann.person_id, "A note.")]
    assert [report.comment for report in page.reports] == ["A comment."]
    with transaction(load.engine) as session:
        assert b"note" not in session.scalars(select(CaseNote.text)).one()
    with pytest.raises(InvalidInput), transaction(load.engine) as session:
        cases.add_note(session, load.vault, ann, case_id, "  ", load.now)


def test_what_does_not_open_shows_as_gone_and_the_rest_of_the_page_stays(
    load: Caseload, ann: PersonPrincipal, opened: Load
) -> None:
    (case_id,) = load.waiting()
    with transaction(load.engine) as session:
        part = session.scalars(select(Part)).one()
        part.content = b"\0" * 40
    page = opened(ann, case_id)
    assert [(part.gone, part.text) for part in page.parts if isinstance(part, TextView)] == [(True, "")]
    assert page.external_id
    assert not page.gone


def test_of_what_has_ended_opinions_stay_and_nothing_else(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal, opened: Load
) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    with transaction(load.engine) as session:
        reports.report(session, load.vault, load.policy, "app", item_id, "r-1", "spam", "Look.", load.now)
    stale = load.claim(ann, case_id).number
    load.give(lead, load.alike(2)[0], ALLOW)
    load.give(ann, case_id, ALLOW, number=stale, note="Nothing in it.")
    load.now += HOUR
    with transaction(load.engine) as session:
        golden.add(session, lead, item_id, load.now)
        ids = list(session.scalars(select(Item.id)))
        rows = session.scalars(select(Item)).all()
        erasure.mark_deleted(session, rows, load.policy.retention, "client:app", load.now)
    erasure.destroy(load.databases, load.vault, load.blobs, ids, load.now)
    for table in ("case_notes", "reports", "golden_items", "sketches", "parts"):
        assert count(load.engine, table) == 0, table
    assert count(load.engine, "opinions") == 2
    page = opened(lead, case_id)
    assert page.gone
    assert page.parts == ()
    assert page.deleted_because == erasure.BY_CLIENT
    late = load.give(ann, case_id, REMOVE, number=stale, note="Too late for a note.")
    assert late.result is Result.LATE
    assert load.case(case_id).state == "closed"
    assert count(load.engine, "case_notes") == 0


def test_a_deletion_closes_cases_but_not_an_appeal(load: Caseload, ann: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    answer = load.give(ann, case_id, strike())
    load.now += HOUR
    with transaction(load.engine) as session:
        assert answer.decision_id
        appeals.lodge(
            session,
            load.vault,
            load.policy,
            "app",
            answer.decision_id,
            appeals.By.AUTHOR,
            None,
            "Why?",
            load.now,
        )
    other = load.waiting()[0]
    with transaction(load.engine) as session:
        rows = session.scalars(select(Item)).all()
        erasure.mark_deleted(session, rows, load.policy.retention, "client:app", load.now)
    with transaction(load.engine) as session:
        states = dict(session.execute(select(Case.kind, Case.state).where(Case.state == "open")).all())
    assert states == {"appeal": "open"}
    assert load.case(other).state == "closed"


def test_an_appeal_is_judged_by_somebody_else_and_undone_with_its_answer(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    answer = load.give(ann, case_id, strike())
    load.now += HOUR
    with transaction(load.engine) as session:
        assert answer.decision_id
        appeal = appeals.lodge(
            session,
            load.vault,
            load.policy,
            "app",
            answer.decision_id,
            appeals.By.AUTHOR,
            None,
            "Why?",
            load.now,
        )
        appealed = session.scalars(select(Case.id).where(Case.kind == "appeal")).one()
    with pytest.raises(Conflict):
        load.claim(ann, appealed)
    reversal = load.give(bob, appealed, ALLOW)
    assert reversal.result is Result.DECIDED
    assert state_of(load, appeal.id) == "reversed"
    with transaction(load.engine) as session:
        assert reversal.undo
        decisions.undo(session, load.policy, bob, UUID(reversal.undo.id), load.now)
    assert state_of(load, appeal.id) == "open"
    assert load.case(appealed).state == "open"
    load.now += HOUR
    assert in_force(load, case_id).route == "remove"


def state_of(load: Caseload, appeal_id: UUID) -> str:
    with transaction(load.engine) as session:
        return session.get_one(appeals.Appeal, appeal_id).state


def test_only_near_duplicates_that_nobody_else_has_are_decided_together(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, opened: Load
) -> None:
    first, second, third = load.alike(3)
    (stranger,) = load.waiting()
    number = load.claim(ann, first).number
    assert {row.id for row in opened(ann, first).cluster} == {second, third}

    def together(*members: UUID) -> opinions.Answer:
        with transaction(load.engine) as session:
            given = Given(uuid4(), REMOVE)
            return opinions.give_cluster(
                session, load.vault, load.policy, ann, first, number, members, given, load.now
            )

    with pytest.raises(Conflict) as refused:
        together(second, stranger)
    assert refused.value.code == "not_near"
    load.claim(bob, third)
    with pytest.raises(Conflict) as refused:
        together(second, third)
    assert refused.value.code == "claimed"
    assert count(load.engine, "opinions") == 0, "all of them, or none"
    assert together(second).result is Result.DECIDED
    assert [load.case(one).state for one in (first, second, third)] == ["closed", "closed", "open"]


def test_minors_detector_failures_and_dead_letters_reach_people(load: Caseload) -> None:
    (minor,) = load.waiting(category="underage")
    (failed,) = load.waiting(category=None, reason=CaseReason.DETECTOR_FAILED)
    ids = load.items()
    with transaction(load.engine) as session:
        rows = session.scalars(select(Item).where(Item.id.in_(ids))).all()
        decisions.record(session, load.policy, [(rows[0], decisions.unscreened(3))], load.now)
    with transaction(load.engine) as session:
        dead = session.scalars(select(Case).where(Case.item_id == ids[0])).one()
    found = [(one.reason, one.queue, one.urgent) for one in (load.case(minor), load.case(failed), dead)]
    assert found == [
        ("minor", "underage", True),
        ("detector_failed", "other", False),
        ("dead_letter", "other", False),
    ]


def test_a_deletion_and_a_decision_at_once_do_not_wait_for_each_other(
    load: Caseload, ann: PersonPrincipal
) -> None:
    """Both lock the item before its case; whichever is second finds what the first did."""
    errors: list[BaseException] = []

    def guarded(act: Callable[[], object], barrier: threading.Barrier) -> None:
        try:
            barrier.wait()
            act()
        except BaseException as error:
            errors.append(error)

    def delete(item_id: UUID) -> None:
        with transaction(load.engine) as session:
            rows = list(decisions.lock_items(session, [item_id]).values())
            erasure.mark_deleted(session, rows, load.policy.retention, "client:app", load.now)

    for case_id in load.waiting(20):
        number, item_id = load.claim(ann, case_id).number, load.case(case_id).item_id
        barrier = threading.Barrier(2)
        acts = (lambda c=case_id, n=number: load.give(ann, c, number=n), lambda i=item_id: delete(i))
        threads = [threading.Thread(target=guarded, args=(act, barrier)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors, errors[0]
    assert count(load.engine, "opinions") == 20
    with transaction(load.engine) as session:
        assert session.scalar(select(func.count()).where(Case.state == "open")) == 0


def test_views_of_the_api_say_who_decided(load: Caseload, ann: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    load.give(ann, case_id, ALLOW)
    load.now += HOUR
    with transaction(load.engine) as session:
        item = session.get_one(Item, load.case(case_id).item_id)
        (shown,) = views.items(session, [item], load.now)
    assert (shown["verdict"], shown["decided_by"], shown["status"]) == ("allow", "person", "decided")
