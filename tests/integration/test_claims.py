"""Claims: who gets which case, for how long, and that nobody gets one out of another's hands."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text

from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, opinions
from moderation.review import next as following
from moderation.review.cases import Filter
from moderation.review.opinions import Given
from moderation.review.views import Claim
from moderation.storage.database import transaction
from moderation.storage.tables import AuditEvent, Case, CaseSkip, Decision, Item, Opinion, Person
from tests import people, support
from tests.caseload import ALLOW, REMOVE, Caseload

MINUTE = timedelta(minutes=1)
Next = Callable[..., Claim | None]


@pytest.fixture
def take(load: Caseload) -> Next:
    """The next case for somebody, with dice that leave nothing to chance."""

    def ask(person: PersonPrincipal, wanted: Filter = Filter(), turn: float = 0.99) -> Claim | None:  # noqa: B008
        with transaction(load.engine) as session:
            return cases.next_case(session, load.policy, person, wanted, 0.99, turn, load.now)

    return ask


def actions(load: Caseload, case_id: UUID) -> list[str]:
    with transaction(load.engine) as session:
        rows = session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(case_id)))
        return sorted(rows)


def change(load: Caseload, person: PersonPrincipal, **values: object) -> None:
    with transaction(load.engine) as session:
        row = session.get_one(Person, person.person_id)
        for name, value in values.items():
            setattr(row, name, value)


def test_deadlines_come_first_then_harm_and_now_and_then_the_oldest(
    load: Caseload, ann: PersonPrincipal, take: Next
) -> None:
    (oldest,) = load.waiting(category="spam", probability=0.5)
    load.now += MINUTE
    (worst,) = load.waiting(category="hate", probability=0.9)
    (urgent,) = load.waiting(category="threat", probability=0.2)

    def order(turn: float) -> list[UUID]:
        found = []
        for _ in range(3):
            claim = take(people.principal(load.databases, load.vault, "moderator"), turn=turn)
            assert claim
            found.append(claim.case_id)
        load.now += 60 * MINUTE
        return found

    assert order(0.99) == [urgent, worst, oldest]
    assert order(0.0) == [urgent, oldest, worst]


def test_a_claim_that_is_held_comes_back_under_its_number(
    load: Caseload, ann: PersonPrincipal, take: Next
) -> None:
    load.waiting(2)
    first = take(ann)
    load.now += MINUTE
    again = take(ann)
    assert first
    assert again
    assert (again.case_id, again.number) == (first.case_id, first.number)
    assert again.until == first.until + MINUTE


def test_a_claim_leaves_by_itself_and_its_number_rises(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    (case_id,) = load.waiting()
    mine = take(ann)
    assert mine
    assert take(bob) is None
    with pytest.raises(Conflict) as refused:
        load.claim(bob, case_id)
    assert refused.value.code == "claimed"
    load.now += load.policy.review.claim_minutes * MINUTE
    theirs = take(bob)
    assert theirs
    assert (theirs.case_id, theirs.number) == (case_id, mine.number + 1)


def test_a_sign_of_life_keeps_it_and_a_lost_claim_is_said_to_be_lost(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    load.waiting()
    mine = take(ann)
    assert mine

    def beat(person: PersonPrincipal, number: int) -> datetime:
        with transaction(load.engine) as session:
            return cases.heartbeat(session, person, mine.case_id, number, load.now, load.policy)

    for _ in range(3):
        load.now += 9 * MINUTE
        assert beat(ann, mine.number) == load.now + load.policy.review.claim_minutes * MINUTE
        assert take(bob) is None
    load.now += 11 * MINUTE
    assert take(bob)
    for person, number in ((ann, mine.number), (bob, mine.number)):
        with pytest.raises(Conflict) as refused:
            beat(person, number)
        assert refused.value.code == "claim_lost"


def test_giving_back_twice_is_giving_back_once(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    load.waiting()
    mine = take(ann)
    assert mine
    for _ in range(2):
        with transaction(load.engine) as session:
            cases.release(session, ann, mine.case_id, mine.number, load.now)
    assert actions(load, mine.case_id) == ["case.claimed", "case.released"]
    with pytest.raises(Conflict), transaction(load.engine) as session:
        cases.heartbeat(session, ann, mine.case_id, mine.number, load.now, load.policy)
    theirs = take(bob)
    assert theirs
    # What comes late from whoever had it before takes it from nobody.
    with transaction(load.engine) as session:
        cases.release(session, ann, mine.case_id, mine.number, load.now)
    assert load.case(mine.case_id).claim_until == theirs.until


def test_what_somebody_passed_on_goes_to_others(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    (case_id,) = load.waiting()
    mine = take(ann)
    assert mine
    with transaction(load.engine) as session:
        cases.skip(session, ann, case_id, mine.number, "distress", load.now)
    assert take(ann) is None
    assert take(bob)
    with transaction(load.engine) as session:
        assert session.scalars(select(CaseSkip.reason)).all() == [None], "nobody is asked why"
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "case.skipped")).all()
        assert [event.details for event in events] == [{}]
    with pytest.raises(InvalidInput), transaction(load.engine) as session:
        cases.skip(session, ann, case_id, mine.number, "bored", load.now)


def test_work_finds_people_by_skill_and_leaves_out_what_they_do_not_want(
    load: Caseload, ann: PersonPrincipal, take: Next
) -> None:
    (spam,) = load.waiting(category="spam", language="pt-BR")
    (hate,) = load.waiting(category="hate", language="en")
    change(load, ann, queues=["spam"])
    claim = take(ann)
    assert claim
    assert claim.case_id == spam
    with transaction(load.engine) as session:
        cases.release(session, ann, spam, claim.number, load.now)
    change(load, ann, queues=[], languages=["en"], opt_outs=["hate"])
    assert take(ann) is None
    assert take(ann, Filter(queue="hate")) is None, "asking for it does not undo an opt-out"
    claim = take(ann, Filter(language="pt"))
    assert claim, "what is asked for by name is not a matter of skill"
    assert claim.case_id == spam
    assert load.case(hate).claimed_by is None


def test_what_is_to_be_settled_waits_for_a_lead(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal, take: Next
) -> None:
    (case_id,) = load.waiting()
    mine = take(ann)
    assert mine
    with transaction(load.engine) as session:
        cases.escalate(session, load.vault, ann, case_id, mine.number, "Please look.", load.now)
    assert take(bob) is None
    with pytest.raises(Forbidden):
        load.claim(bob, case_id)
    claim = take(lead, Filter(stage="adjudication"))
    assert claim
    assert claim.case_id == case_id
    assert actions(load, case_id) == ["case.claimed", "case.claimed", "case.escalated"]


def test_nobody_checks_what_they_had_a_part_in(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    (case_id,) = load.waiting()
    load.give(ann, case_id, REMOVE, dice=0.0)
    claim = take(ann)
    assert claim is None
    with transaction(load.engine) as session:
        check = session.scalars(select(Case.id).where(Case.kind == "quality")).one()
    with pytest.raises(Conflict) as refused:
        load.claim(ann, check)
    assert refused.value.code == "own_decision"
    claim = take(bob)
    assert claim
    assert claim.case_id == check


def test_a_second_opinion_is_asked_of_somebody_else(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, take: Next
) -> None:
    rule = replace(load.policy.categories["harassment"], opinions=2)
    load.policy = replace(load.policy, categories={**load.policy.categories, "harassment": rule})
    (case_id,) = load.waiting()
    load.give(ann, case_id)
    assert take(ann) is None
    with pytest.raises(Conflict) as refused:
        load.claim(ann, case_id)
    assert refused.value.code == "judged_already"
    claim = take(bob)
    assert claim
    assert claim.case_id == case_id


def test_a_case_that_is_handed_over_is_for_one_person_until_its_deadline(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal, take: Next
) -> None:
    (worst,) = load.waiting(probability=0.95)
    (case_id,) = load.waiting(probability=0.9)
    load.waiting(probability=0.5)
    number = load.claim(ann, case_id).number
    with transaction(load.engine) as session:
        cases.hand_over(session, load.vault, ann, case_id, number, bob.person_id, "Yours.", load.now)
    load.claim(lead, worst)
    other = take(ann)
    assert other
    assert other.case_id != case_id, "the worst that is left is not for her"
    with pytest.raises(Conflict) as refused:
        load.claim(ann, case_id)
    assert refused.value.code == "reserved"
    with transaction(load.engine) as session:
        cases.release(session, lead, worst, 1, load.now)
    theirs = take(bob)
    assert theirs, "what is kept for somebody comes before everything else"
    assert theirs.case_id == case_id
    load.now = load.case(case_id).deadline
    load.claim(lead, case_id)


def test_only_a_lead_takes_a_case_from_others_and_only_for_who_can_judge_it(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal, lead: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    number = load.claim(ann, case_id).number
    auditor = people.new_person(load.databases, load.vault, "auditor")

    def hand(person: PersonPrincipal, to: UUID) -> None:
        with transaction(load.engine) as session:
            cases.hand_over(session, load.vault, person, case_id, None, to, None, load.now)

    with pytest.raises(Forbidden):
        hand(bob, bob.person_id)
    with pytest.raises(InvalidInput):
        hand(lead, auditor)
    with pytest.raises(NotFound):
        hand(lead, uuid4())
    hand(lead, bob.person_id)
    load.claim(bob, case_id)
    answer = load.give(ann, case_id, number=number)
    assert answer.result is opinions.Result.LATE


def test_the_query_for_the_next_case_uses_its_indexes(load: Caseload, ann: PersonPrincipal) -> None:
    """With many cases; the plan of a handful would be anything."""
    decision_id = load.case(load.waiting()[0]).decision_id
    with load.engine.begin() as connection:
        connection.execute(
            text("""
                INSERT INTO cases (id, item_id, author_id, client, decision_id, reason, queue, severity, priority,
                                   deadline, state, opened_at, urgent)
                SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'app', :decision, 'uncertain',
                       'queue_' || n % 7, 2, random(), now() + n * interval '1 second',
                       CASE WHEN n % 2 = 0 THEN 'open' ELSE 'closed' END, now() - n * interval '1 second',
                       n % 20 = 0
                FROM generate_series(1, 20000) AS n
            """),
            {"decision": decision_id},
        )
    with support.as_owner(load.databases.content) as connection:
        connection.execute(text("ANALYZE cases"))
    values = {
        "me": ann.person_id,
        "now": load.now,
        "adjudicates": False,
        "alone": False,
        "appeals": True,
        "opt_outs": [],
    }
    expected = {"urgent": "ix_cases_urgent", "harm": "ix_cases_harm", "oldest": "ix_cases_oldest"}
    for turn, index in expected.items():
        plan = explained(load, following._TURNS[following.Turn(turn)], (), values)
        assert f"Index Scan using {index} on cases" in plan, plan
        assert "Sort" not in plan, plan
    plan = explained(load, following._TURNS[following.Turn.HARM], ("queue",), values | {"queue": "queue_3"})
    assert "Index Scan using ix_cases_queue on cases" in plan, plan


def explained(
    load: Caseload, turn: tuple[str, str], named: tuple[str, ...], values: dict[str, object]
) -> str:
    statement = following._statement(turn, named)
    with load.engine.connect() as connection:
        rows = connection.execute(text(f"EXPLAIN {statement.text}"), values)
        return "\n".join(row[0] for row in rows)


def test_lists_are_in_the_order_in_which_work_is_taken_page_by_page(load: Caseload) -> None:
    for probability in (0.2, 0.9, 0.5):
        load.waiting(category="spam", probability=probability)
        load.waiting(category="threat", probability=probability)
        load.now += MINUTE
    with transaction(load.engine) as session:
        whole = cases.listing(session, Filter(), load.now)
        paged, after = [], None
        while page := cases.listing(session, Filter(), load.now, after, 2):
            paged += page
            after = page[-1].id
        (spam,) = [queue for queue in cases.queues(session, load.now) if queue.name == "spam"]
        filtered = cases.listing(session, Filter(queue="spam"), load.now)
    assert [row.id for row in paged] == [row.id for row in whole]
    assert [row.urgent for row in whole] == [True] * 3 + [False] * 3
    assert [row.deadline for row in whole[:3]] == sorted(row.deadline for row in whole[:3])
    assert [row.priority for row in whole[3:]] == sorted((row.priority for row in whole[3:]), reverse=True)
    assert (spam.open, spam.claimed, spam.overdue) == (3, 0, 0)
    assert [row.id for row in filtered] == [row.id for row in whole[3:]]


def test_a_report_raises_the_case_that_is_open(load: Caseload) -> None:
    (case_id,) = load.waiting(category="spam")
    before = load.case(case_id)
    draft = CaseDraft(CaseReason.REPORT, "sexual_minors", 5, 0.9)
    with transaction(load.engine) as session:
        item = session.get_one(Item, before.item_id)
        opened = cases.open_case(session, load.policy, item, before.decision_id, draft, load.now)
    after = load.case(case_id)
    assert opened == case_id
    assert (after.reason, after.queue, after.urgent, after.severity) == ("minor", "sexual_minors", True, 5)
    assert after.priority > before.priority
    assert after.deadline < before.deadline
    assert after.opened_at == before.opened_at


def test_many_hands_decide_everything_once_and_lose_nothing(load: Caseload) -> None:
    """Eight people, 300 cases, claims given back and run out at random, forms sent twice and late."""
    load.waiting(300)
    sent: list[tuple[UUID, UUID]] = []
    errors: list[BaseException] = []
    threads = []
    for seed in range(8):
        person = people.principal(load.databases, load.vault, "moderator", "lead")
        shift = Shift(load, person, random.Random(seed), sent, errors)
        threads.append(threading.Thread(target=shift.work))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    check_books(load, sent)


@dataclass
class Shift:
    """One person's work until nothing is left for them, with what may go wrong on the way."""

    load: Caseload
    person: PersonPrincipal
    chance: random.Random
    sent: list[tuple[UUID, UUID]]
    errors: list[BaseException]
    kept: list[Claim] = field(default_factory=list)

    def work(self) -> None:
        try:
            while self.once():
                if self.kept and self.chance.random() < 0.3:
                    self.submit(self.kept.pop())
            for claim in self.kept:
                self.submit(claim)
        except BaseException as error:
            self.errors.append(error)

    def once(self) -> bool:
        load, turn = self.load, self.chance.random()
        with transaction(load.engine) as session:
            claim = cases.next_case(session, load.policy, self.person, Filter(), 0.99, turn, load.now)
        if claim is None:
            return False
        act = self.chance.random()
        if act < 0.1:
            with transaction(load.engine) as session:
                cases.release(session, self.person, claim.case_id, claim.number, load.now)
        elif act < 0.2:
            expire(load, claim)
        if act < 0.2:
            self.kept.append(claim)
        else:
            self.submit(claim)
        return True

    def submit(self, claim: Claim) -> None:
        load, form_key = self.load, uuid4()
        given = Given(form_key, REMOVE if self.chance.random() < 0.8 else ALLOW)
        for _ in range(2 if self.chance.random() < 0.2 else 1):
            dice = self.chance.random()
            with transaction(load.engine) as session:
                opinions.give(
                    session,
                    load.vault,
                    load.policy,
                    self.person,
                    claim.case_id,
                    claim.number,
                    given,
                    load.now,
                    dice,
                )
        self.sent.append((form_key, claim.case_id))


def expire(load: Caseload, claim: Claim) -> None:
    """What the clock does to a claim, for one case alone."""
    with load.engine.begin() as connection:
        connection.execute(
            text("UPDATE cases SET claim_until = :now WHERE id = :id AND claim_number = :number"),
            {"now": load.now, "id": claim.case_id, "number": claim.number},
        )


def check_books(load: Caseload, sent: list[tuple[UUID, UUID]]) -> None:
    with transaction(load.engine) as session:
        given = session.execute(select(Opinion.form_key, Opinion.case_id)).all()
        assert sorted(given) == sorted(sent), "each form is stored once, and none is lost"
        standing = session.execute(
            select(Decision.item_id, func.count())
            .where(Decision.superseded_at.is_(None))
            .group_by(Decision.item_id)
        ).all()
        assert {number for _, number in standing} == {1}
        made = Counter(session.scalars(select(Decision.case_id).where(Decision.person_id.is_not(None))).all())
        told = Counter(
            session.scalars(
                select(AuditEvent.details["case"].astext).where(AuditEvent.action == "decision.made")
            )
        )
        assert {str(case): number for case, number in made.items()} == dict(told), "none of them silently"
        for case_id, number in made.items():
            case = session.get_one(Case, case_id)
            if number > 1:
                assert case.kind != "review" or case.reason == "conflict", (
                    "only what was settled is decided again"
                )
        disputed = differing(session.execute(select(Opinion.case_id, Opinion.verdict)).all())
        reviewed = session.scalars(select(Case).where(Case.kind == "review")).all()
        for case in reviewed:
            if case.id in disputed:
                assert case.stage == "adjudication", "whoever differs is heard"


def differing(said: list[tuple[UUID, str]]) -> set[UUID]:
    verdicts: dict[UUID, set[str]] = {}
    for case_id, verdict in said:
        verdicts.setdefault(case_id, set()).add(verdict)
    return {case_id for case_id, found in verdicts.items() if len(found) > 1}
