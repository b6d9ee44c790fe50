"""Undo: within its window it leaves no trace outside; after it, a decision is reversed by another one."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

from api import views
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import CaseDraft, Judgement
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.domain.retention import Clock
from moderation.governance import erasure, outbox, webhooks
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, decisions, measures, opinions, reports
from moderation.review.opinions import Answer, Given, Result
from moderation.storage.database import transaction
from moderation.storage.tables import AuditEvent, Case, Decision, Item, Opinion, Outbox, Report, Reporter
from tests.caseload import ALLOW, REMOVE, Caseload, strike

SECOND = timedelta(seconds=1)


@pytest.fixture
def endpoint(load: Caseload) -> UUID:
    """An endpoint that hears of everything."""
    with transaction(load.engine) as session:
        url = "http://127.0.0.1:4099/hook"
        return webhooks.register(session, load.vault, "app", "hook", url, outbox.EVENTS, True, load.now)[0]


def undo(load: Caseload, person: PersonPrincipal, answer: Answer) -> list[UUID]:
    with transaction(load.engine) as session:
        assert answer.decision_id
        undo_id = session.get_one(Decision, answer.decision_id).undo_id
        assert undo_id
        return decisions.undo(session, load.policy, person, undo_id, load.now)


def seen_outside(load: Caseload, item_id: UUID) -> dict[str, Any]:
    """All that a client can know of an item: what it may ask for, and what it was or will be told."""
    with transaction(load.engine) as session:
        item = session.get_one(Item, item_id)
        shown = views.items(session, [item], load.now)[0]
        told = session.execute(
            select(Outbox.event, Outbox.payload["verdict"].astext).where(Outbox.not_before <= load.now)
        ).all()
        standing = measures.standing_of(session, load.policy, item.author_id, load.now)
    return {"item": shown, "told": sorted(told), "standing": standing}


def stored(load: Caseload, item_id: UUID) -> dict[str, Any]:
    """What an undo puts back on our side: the clock, the reports, what is in force without an end."""
    with transaction(load.engine) as session:
        item = session.get_one(Item, item_id)
        standing = decisions.standing(session, item_id)
        assert standing
        return {
            "clock": (item.retention_class, item.decided_at, item.expires_at),
            "reports": session.execute(select(Report.outcome, Report.settled_by)).all(),
            "reporters": session.execute(select(Reporter.upheld, Reporter.rejected)).all(),
            "standing": standing.id,
            "waiting": session.scalars(select(Outbox.id).order_by(Outbox.id)).all(),
        }


def test_within_the_window_nothing_is_seen_and_an_undo_leaves_nothing(
    load: Caseload, ann: PersonPrincipal, endpoint: UUID
) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    with transaction(load.engine) as session:
        reports.report(session, load.vault, load.policy, "app", item_id, "r-1", "spam", None, load.now)
        session.add(Reporter(client="app", digest=b"other", upheld=0, rejected=0, last_at=load.now))
    before, kept = seen_outside(load, item_id), stored(load, item_id)
    answer = load.give(ann, case_id, strike(), dice=0.0)
    assert answer.undo
    assert answer.undo.cases == (str(case_id),)
    assert seen_outside(load, item_id) == before
    load.now = answer.undo.until - SECOND
    assert seen_outside(load, item_id) == before
    assert undo(load, ann, answer) == [case_id]
    load.now += 3600 * SECOND
    assert seen_outside(load, item_id) == before
    after = stored(load, item_id)
    assert sorted(after.pop("reporters")) == [(0, 0), (0, 0)]
    kept.pop("reporters")
    assert after == kept


def test_an_undone_case_is_open_again_in_the_same_hands_under_a_new_number(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    number = load.claim(ann, case_id).number
    answer = load.give(ann, case_id, dice=0.0, number=number)
    undo(load, ann, answer)
    case = load.case(case_id)
    assert (case.state, case.closed_at, case.claimed_by) == ("open", None, ann.person_id)
    assert case.claim_number == number + 1
    with transaction(load.engine) as session:
        checks = session.scalars(select(Case).where(Case.kind == "quality")).all()
        assert [check.state for check in checks] == ["closed"], "nothing is left to check"
        (opinion,) = session.scalars(select(Opinion)).all()
        assert opinion.undone_at == load.now
        told = session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(case.item_id)))
        assert sorted(told) == ["decision.made", "decision.undone", "item.decided", "item.received"]
    again = load.give(ann, case_id, ALLOW, number=number + 1)
    assert again.result is Result.DECIDED
    with transaction(load.engine) as session:
        verdicts = decisions.in_force(session, [case.item_id], load.now + 60 * SECOND)
    assert verdicts[case.item_id].route == "allow"
    assert undo(load, ann, answer) == [case_id], "doing it twice is doing it once"
    assert load.case(case_id).state == "closed"


def test_after_the_window_it_takes_effect_and_can_not_be_undone(
    load: Caseload, ann: PersonPrincipal, endpoint: UUID
) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    answer = load.give(ann, case_id, strike())
    assert answer.undo
    load.now = answer.undo.until
    seen = seen_outside(load, item_id)
    assert (seen["item"]["verdict"], seen["item"]["status"]) == ("remove", "decided")
    assert ("author.measure", None) in seen["told"]
    assert ("item.decided", "remove") in seen["told"]
    assert seen["standing"].strikes == 1
    with pytest.raises(Conflict) as refused:
        undo(load, ann, answer)
    assert refused.value.code == "undo_over"


def test_only_who_decided_may_undo(load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    answer = load.give(ann, case_id)
    with pytest.raises(NotFound):
        undo(load, lead, answer)
    with pytest.raises(NotFound), transaction(load.engine) as session:
        decisions.undo(session, load.policy, ann, uuid4(), load.now)


def test_a_message_that_is_on_its_way_decides(load: Caseload, ann: PersonPrincipal, endpoint: UUID) -> None:
    """Clocks of two machines differ: what the relay has leased can't be taken back, and then nothing is."""
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    answer = load.give(ann, case_id, strike())
    assert answer.undo
    with transaction(load.engine) as session:
        # Of item.in_review, item.decided and author.measure: one of what is to be undone is left.
        claimed = outbox.claim(session, answer.undo.until, 2, 5.0)
        assert claimed
        assert len(claimed[1]) == 2
    before = stored(load, item_id)
    with pytest.raises(Conflict) as refused:
        undo(load, ann, answer)
    assert refused.value.code == "undo_over"
    assert stored(load, item_id) == before
    assert load.case(case_id).state == "closed"


def test_relay_and_undo_at_the_same_moment_agree(
    load: Caseload, ann: PersonPrincipal, endpoint: UUID
) -> None:
    """Whichever comes first: either everything is told, or nothing is."""
    for case_id in load.waiting(12):
        answer = load.give(ann, case_id, strike())
        assert answer.undo
        until = answer.undo.until
        barrier, leased, undone = threading.Barrier(2), [], []

        def relay(barrier: threading.Barrier, leased: list[Any], until: datetime) -> None:
            barrier.wait()
            with transaction(load.engine) as session:
                claimed = outbox.claim(session, until, 50, 60.0)
            leased.extend(claimed[1] if claimed else ())

        def take_back(barrier: threading.Barrier, undone: list[Any], answer: Answer) -> None:
            barrier.wait()
            with suppress(Conflict):
                undone.extend(undo(load, ann, answer))

        threads = [
            threading.Thread(target=relay, args=(barrier, leased, until)),
            threading.Thread(target=take_back, args=(barrier, undone, answer)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with transaction(load.engine) as session:
            mine = select(Outbox.state).where(Outbox.undo_id == UUID(answer.undo.id))
            states = session.scalars(mine).all()
            row = session.get_one(Decision, answer.decision_id)
        if undone:
            assert row.undone_at
            assert not states
        else:
            assert row.undone_at is None
            assert len(states) == 2


def test_what_somebody_has_gone_on_from_stays(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    late, checked, deleted = load.waiting(3)
    stale = load.claim(bob, late).number
    load.now += 3600 * SECOND
    answers = {
        case: load.give(ann, case, dice=0.0 if case == checked else 0.99) for case in (late, checked, deleted)
    }
    load.now += SECOND
    load.give(bob, late, ALLOW, number=stale)
    with transaction(load.engine) as session:
        check = session.scalars(select(Case.id).where(Case.kind == "quality")).one()
        items = session.scalars(select(Item).where(Item.id == load.case(deleted).item_id)).all()
        erasure.mark_deleted(session, items, load.policy.retention, "client:app", load.now)
    load.give(bob, check, ALLOW)
    codes = {}
    for case, answer in answers.items():
        with pytest.raises(Conflict) as refused:
            undo(load, ann, answer)
        codes[case] = refused.value.code
    assert codes == {late: "judged_since", checked: "judged_since", deleted: "deleted"}


def test_a_case_that_was_opened_meanwhile_becomes_one_with_the_one_that_opens_again(
    load: Caseload, ann: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    case = load.case(case_id)
    answer = load.give(ann, case_id, ALLOW)
    with transaction(load.engine) as session:
        draft = CaseDraft(CaseReason.REPORT, "hate", 4, 0.9)
        item = session.get_one(Item, case.item_id)
        other = cases.open_case(session, load.policy, item, case.decision_id, draft, load.now)
    assert other != case_id
    undo(load, ann, answer)
    assert load.case(other).state == "closed"
    assert load.case(case_id).state == "open"
    assert load.case(case_id).priority == load.case(other).priority


def test_a_reversal_restores_nothing_less_than_everything(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal, endpoint: UUID
) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    answer = load.give(ann, case_id, strike())
    assert answer.undo
    assert answer.decision_id
    with pytest.raises(Forbidden):
        reverse(load, ann, answer.decision_id)
    with pytest.raises(Conflict) as refused:
        reverse(load, lead, answer.decision_id)
    assert refused.value.code == "not_in_force_yet"
    load.now = answer.undo.until + SECOND
    reversal = reverse(load, lead, answer.decision_id)
    seen = seen_outside(load, item_id)
    assert (seen["item"]["verdict"], seen["item"]["decision_id"]) == ("allow", str(reversal))
    assert seen["standing"].strikes == 0
    assert [event for event, _ in seen["told"]].count("author.measure_reversed") == 1
    assert [verdict for event, verdict in seen["told"] if event == "item.decided"] == ["allow", "remove"]
    with pytest.raises(Conflict) as refused:
        reverse(load, lead, answer.decision_id)
    assert refused.value.code == "superseded"
    restored = reverse(load, lead, reversal)
    seen = seen_outside(load, item_id)
    assert (seen["item"]["verdict"], seen["item"]["decision_id"]) == ("remove", str(restored))
    assert seen["standing"].strikes == 0, "a measure against the account is taken anew or not at all"


def reverse(load: Caseload, person: PersonPrincipal, decision_id: UUID) -> UUID:
    with transaction(load.engine) as session:
        return decisions.reverse(
            session, load.vault, load.policy, person, decision_id, load.now, "Looked again."
        )


def test_what_restricts_nothing_is_not_reversed(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal
) -> None:
    (case_id,) = load.waiting()
    answer = load.give(ann, case_id, ALLOW)
    load.now += 60 * SECOND
    assert answer.decision_id
    with pytest.raises(Conflict) as refused:
        reverse(load, lead, answer.decision_id)
    assert refused.value.code == "no_restriction"


def test_an_undo_takes_back_a_whole_cluster(load: Caseload, ann: PersonPrincipal) -> None:
    first, *others = load.alike(4)
    number = load.claim(ann, first).number
    given = Given(uuid4(), strike())
    with transaction(load.engine) as session:
        answer = opinions.give_cluster(
            session, load.vault, load.policy, ann, first, number, others, given, load.now
        )
    with transaction(load.engine) as session:
        made = session.scalars(select(Decision).where(Decision.person_id == ann.person_id)).all()
        author = made[0].author_id
        assert len(made) == 4
        assert len({row.undo_id for row in made}) == 1
        later = load.now + 60 * SECOND
        assert measures.standing_of(session, load.policy, author, later).strikes == 1, "once an account"
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "decision.made")).all()
        assert len(events) == 4
    assert sorted(undo(load, ann, answer)) == sorted([first, *others])
    with transaction(load.engine) as session:
        assert measures.standing_of(session, load.policy, author, later).strikes == 0
        rows = session.scalars(select(Case)).all()
        assert {(row.state, row.claimed_by) for row in rows} == {("open", ann.person_id)}
        inside = decisions.in_force(session, [row.item_id for row in rows], later)
        assert {row.route for row in inside.values()} == {"review"}


def test_a_shorter_window_does_not_overtake_a_longer_one(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal, bob: PersonPrincipal
) -> None:
    """Decisions take effect in the order in which they were made, whatever the policy says by then."""
    (case_id,) = load.waiting()
    stale = load.claim(bob, case_id).number
    load.now += 3600 * SECOND
    first = load.give(ann, case_id, REMOVE)
    load.give(bob, case_id, ALLOW, number=stale)
    load.policy = replace(load.policy, review=replace(load.policy.review, undo_seconds=0))
    second = load.give(lead, case_id, Judgement(Verdict.ALLOW))
    with transaction(load.engine) as session:
        one, two = (session.get_one(Decision, answer.decision_id) for answer in (first, second))
        assert one.effective_at <= two.effective_at
        assert one.superseded_at == two.effective_at


def test_an_undo_puts_back_the_one_decision_that_it_had_replaced(
    load: Caseload, ann: PersonPrincipal, lead: PersonPrincipal, bob: PersonPrincipal
) -> None:
    """Two that take effect at one moment: the earlier one alone comes back."""
    (case_id,) = load.waiting()
    stale = load.claim(bob, case_id).number
    load.now += 3600 * SECOND
    first = load.give(ann, case_id, REMOVE)
    load.give(bob, case_id, ALLOW, number=stale)
    load.now += SECOND
    load.policy = replace(load.policy, review=replace(load.policy.review, undo_seconds=0))
    second = load.give(lead, case_id, ALLOW)
    undo(load, lead, second)
    with transaction(load.engine) as session:
        of_item = select(Decision).where(Decision.item_id == load.case(case_id).item_id)
        open_ended = session.scalars(of_item.where(Decision.superseded_at.is_(None))).all()
        assert [row.id for row in open_ended] == [first.decision_id]


def test_what_is_due_already_waits_until_nobody_can_undo(load: Caseload, ann: PersonPrincipal) -> None:
    retention = load.policy.retention
    short = replace(retention.classes[retention.allow], clock=Clock.RECEIVED, days=30)
    classes = {**retention.classes, retention.allow: short}
    load.policy = replace(load.policy, retention=replace(retention, classes=classes))
    (case_id,) = load.waiting()
    load.now += timedelta(days=80)
    item_id = load.case(case_id).item_id
    answer = load.give(ann, case_id, ALLOW)
    assert erasure.sweep(load.databases, load.vault, load.blobs, load.now + SECOND) == 0
    assert undo(load, ann, answer) == [case_id]
    load.give(ann, case_id, ALLOW, number=load.case(case_id).claim_number)
    load.now += 3600 * SECOND
    assert erasure.sweep(load.databases, load.vault, load.blobs, load.now) == 1
    with transaction(load.engine) as session:
        assert session.get_one(Item, item_id).state == "deleted"


def test_moments_at_the_edge_show_one_decision(load: Caseload, ann: PersonPrincipal) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    answer = load.give(ann, case_id)
    assert answer.undo
    routes = []
    for moment in (answer.undo.until - timedelta(microseconds=1), answer.undo.until):
        with transaction(load.engine) as session:
            found = session.scalars(
                select(Decision.route).where(
                    Decision.item_id == item_id,
                    Decision.effective_at <= moment,
                    text("(superseded_at IS NULL OR superseded_at > :moment)").bindparams(moment=moment),
                )
            ).all()
            assert found == [decisions.in_force(session, [item_id], moment)[item_id].route]
        routes += found
    assert routes == ["review", "remove"]
