"""Exposure: counted once, capped by the day, and followed by something else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from moderation.domain.errors import InvalidInput, NotFound, TooManyRequests
from moderation.domain.policy import Policy
from moderation.domain.reviewing import Exposure as Rules
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, wellness
from moderation.review.cases import Filter
from moderation.storage.database import transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Case, Exposure, Person
from tests.caseload import Caseload


def ruled(policy: Policy, **rules: float) -> Policy:
    return replace(policy, review=replace(policy.review, exposure=replace(Rules(), **rules)))


def reveal(load: Caseload, person: PersonPrincipal, case: UUID) -> None:
    with transaction(load.engine) as session:
        wellness.reveal(session, load.policy, person, case, "photo", load.now)


def see(load: Caseload, person: PersonPrincipal, case: UUID) -> None:
    with transaction(load.engine) as session:
        wellness.opened(session, person, session.get_one(Case, case), load.now)
    load.now += timedelta(minutes=1)


def is_due(load: Caseload, person: PersonPrincipal) -> bool:
    with transaction(load.engine) as session:
        return wellness.rotation(session, load.policy, person, load.now)


def test_a_reveal_is_on_the_record_once_and_is_ones_own(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    (case,) = load.waiting()
    reveal(load, ann, case)
    reveal(load, ann, case)
    with transaction(load.engine) as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "media.revealed")).one()
        assert (event.actor, event.subject_id, event.details["part"]) == (ann.actor, str(case), "photo")
        assert wellness.is_revealed(session, ann, case, load.now)
        assert not wellness.is_revealed(session, bob, case, load.now)
        assert not wellness.is_revealed(session, ann, case, load.now + timedelta(days=1))


def test_a_day_has_a_cap_and_the_next_day_another(
    load: Caseload, ann: PersonPrincipal, bob: PersonPrincipal
) -> None:
    load.policy = ruled(load.policy, reveals_a_day=2)
    first, second, third = load.waiting(3)
    reveal(load, ann, first)
    reveal(load, ann, second)
    with pytest.raises(TooManyRequests, match="revealed 2 cases today") as refused:
        reveal(load, ann, third)
    assert 0 < refused.value.retry_after <= 86_400
    reveal(load, ann, first)  # again, which costs nothing
    reveal(load, bob, third)
    load.now += timedelta(days=1)
    reveal(load, ann, third)


def test_there_must_be_such_a_case(load: Caseload, ann: PersonPrincipal) -> None:
    with pytest.raises(NotFound):
        reveal(load, ann, new_id(load.now))


def test_after_a_run_of_grave_cases_something_else_comes_first(load: Caseload, ann: PersonPrincipal) -> None:
    load.policy = ruled(load.policy, in_a_row=3)
    grave = load.waiting(4, category="violence")
    (mild,) = load.waiting(category="spam", probability=0.5)
    for case in grave[:2]:
        see(load, ann, case)
    see(load, ann, grave[1])  # looked at again: not another one
    assert not is_due(load, ann)
    see(load, ann, grave[2])
    assert is_due(load, ann)
    with transaction(load.engine) as session:
        claim = cases.next_case(session, load.policy, ann, Filter(), 1.0, 1.0, load.now)
    assert claim
    assert claim.case_id == mild
    see(load, ann, mild)
    assert not is_due(load, ann)


def test_a_run_ends_with_the_shift(load: Caseload, ann: PersonPrincipal) -> None:
    load.policy = ruled(load.policy, in_a_row=2)
    for case in load.waiting(2, category="violence"):
        see(load, ann, case)
    assert is_due(load, ann)
    load.now += wellness.RUN_ENDS
    assert not is_due(load, ann)


def test_what_nothing_counts_any_more_is_forgotten(load: Caseload, ann: PersonPrincipal) -> None:
    first, second = load.waiting(2)
    see(load, ann, first)
    load.now += wellness.KEPT + timedelta(hours=1)
    see(load, ann, second)
    with transaction(load.engine) as session:
        assert [row.case_id for row in session.scalars(select(Exposure))] == [second]


def test_what_somebody_opts_out_of_is_not_dealt_to_them_and_named_nowhere(
    load: Caseload, ann: PersonPrincipal
) -> None:
    load.waiting(category="violence")
    (spam,) = load.waiting(category="spam", probability=0.5)
    with transaction(load.engine) as session:
        wellness.opt_out(session, load.policy, ann, ["violence", "violence"], load.now)
        wellness.opt_out(session, load.policy, ann, ["violence"], load.now)
    with transaction(load.engine) as session:
        assert session.get_one(Person, ann.person_id).opt_outs == ["violence"]
        claim = cases.next_case(session, load.policy, ann, Filter(), 1.0, 1.0, load.now)
        changes = select(AuditEvent).where(AuditEvent.action == "person.opt_outs_changed")
        assert session.scalars(changes).one().details == {}
    assert claim
    assert claim.case_id == spam
    with pytest.raises(InvalidInput), transaction(load.engine) as session:
        wellness.opt_out(session, load.policy, ann, ["weather"], load.now)
