"""Holds: what keeps content, who may say so, and that neither a hold nor a deletion wins by half."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import Phase
from hypothesis import settings as hypothesis
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from moderation.domain.access import Role
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.governance import erasure, hold_lists, holds, transparency
from moderation.governance.holds import Wanted
from moderation.governance.policies import PolicyCache
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, HeldItem, Hold, Item
from moderation.storage.vault import Vault
from tests import people
from tests.holding import WHY, HoldMachine, Place, Race

DAY = timedelta(days=1)


@pytest.fixture
def place(databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime) -> Place:
    """An installation with two people of the legal role."""
    ann, bob = (people.principal(databases, vault, Role.LEGAL) for _ in range(2))
    return Place(databases, vault, blobs, policy, ann, bob, now)


@pytest.fixture
def stored(databases: Databases) -> Callable[[UUID], Hold]:
    def stored(hold: UUID) -> Hold:
        with transaction(databases.content) as session:
            return session.get_one(Hold, hold)

    return stored


def actions(databases: Databases, hold: UUID) -> set[str]:
    with transaction(databases.content) as session:
        found = session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(hold))).all()
    assert len(found) == len(set(found)), "each is recorded once"
    return set(found)


def test_a_request_keeps_a_refusal_lets_go(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    hold = place.ask(now, item_id=item)
    place.expire([item], now)
    place.sweep(now)
    assert place.readable(item), "kept before anybody approved it"
    place.answer("refuse", hold.id, now)
    place.sweep(now)
    assert place.gone(item)
    assert actions(place.databases, hold.id) == {"hold.requested", "hold.refused"}


def test_an_approved_hold_ends_by_release_alone(
    place: Place, now: datetime, stored: Callable[[UUID], Hold]
) -> None:
    (item,) = place.submit("acct-1", now)
    before = place.row(item)
    hold = place.ask(now, item_id=item)
    place.answer("approve", hold.id, now)
    later = now + 40 * DAY
    place.sweep(later)
    assert place.readable(item)
    after = place.row(item)
    assert before is not None
    assert after is not None
    assert after.expires_at == before.expires_at, "a hold changes no clock"
    assert stored(hold.id).state == "active", "a hold does not end by itself"
    place.answer("release", hold.id, later)
    place.sweep(later)
    assert place.gone(item)
    assert actions(place.databases, hold.id) == {"hold.requested", "hold.approved", "hold.released"}


def test_a_request_that_was_taken_back_counts_as_no_approval(place: Place, now: datetime) -> None:
    for answers in (("release",), ("refuse",), ("approve", "release")):
        (item,) = place.submit("acct-1", now)
        hold = place.ask(now, item_id=item)
        for answer in answers:
            place.answer(answer, hold.id, now)
    with transaction(place.databases.content) as session:
        made = transparency.report(session, PolicyCache(), now - DAY, now + DAY, now)
    assert made.sections["authorities"]["holds_decided"] == {"approved": 1, "refused": 1, "taken_back": 1}


def test_a_hold_on_an_author_keeps_what_comes_later(place: Place, now: datetime) -> None:
    old = place.submit("acct-1", now, 2)
    (other,) = place.submit("acct-2", now)
    hold = place.ask(now, author_id=place.author_of(old[0]))
    assert (hold.held, hold.missed) == (2, ())
    (new,) = place.submit("acct-1", now)
    place.expire([*old, new, other], now)
    place.sweep(now)
    assert all(map(place.readable, [*old, new]))
    assert place.gone(other), "nobody holds the others"
    place.answer("release", hold.id, now)
    place.sweep(now)
    assert all(map(place.gone, [*old, new]))
    (again,) = place.submit("acct-1", now)
    row = place.row(again)
    assert row is not None
    assert row.holds == 0


def test_holds_overlap_and_each_lets_go_of_its_own(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    author = place.author_of(item)
    first, second = place.ask(now, item_id=item), place.ask(now, author_id=author)
    (later,) = place.submit("acct-1", now)
    third = place.ask(now, author_id=author)
    assert [row.holds for one in (item, later) if (row := place.row(one))] == [3, 2]
    place.answer("release", second.id, now)
    assert [row.holds for one in (item, later) if (row := place.row(one))] == [2, 1]
    with pytest.raises(Conflict):
        place.answer("release", second.id, now)
    place.answer("release", third.id, now)
    place.expire([item, later], now)
    place.sweep(now)
    assert place.gone(later)
    assert place.readable(item)
    place.answer("release", first.id, now)
    place.sweep(now)
    assert place.gone(item)


def test_what_has_ended_can_not_be_held_and_the_answer_says_why(place: Place, now: datetime) -> None:
    gone, doomed, live = place.submit("acct-1", now, 3)
    author = place.author_of(live)
    place.delete(gone, now)
    with place.databases.content.begin() as connection:
        connection.execute(
            text("UPDATE items SET doomed_at = :now WHERE id = :id"), {"now": now, "id": doomed}
        )
    with pytest.raises(Conflict, match=r"destroyed on 2026-11-22 \(deleted by the content service\)"):
        place.ask(now, item_id=gone)
    with pytest.raises(Conflict, match="its destruction has begun"):
        place.ask(now, item_id=doomed)
    made = place.ask(now, author_id=author)
    assert made.held == 1
    assert {one.item_id: one.why for one in made.missed} == {
        gone: "its content was destroyed on 2026-11-22 (deleted by the content service)",
        doomed: "its destruction has begun",
    }
    with pytest.raises(NotFound):
        place.ask(now, item_id=uuid4())
    with transaction(place.databases.content) as session:
        assert session.scalars(select(HeldItem.item_id)).all() == [live]
        whole = hold_lists.one(session, place.vault, made.id, now)
    assert {one.item_id for one in whole.missed} == {gone, doomed}


def test_what_is_held_outlives_its_author(place: Place, now: datetime) -> None:
    held, free = place.submit("acct-1", now, 2)
    author = place.author_of(held)
    hold = place.ask(now, item_id=held)
    place.answer("approve", hold.id, now)
    place.erase(author, now)
    place.carry_out(now)
    assert place.readable(held)
    assert place.gone(free)
    place.answer("release", hold.id, now)
    place.sweep(now)
    place.carry_out(now)
    assert place.gone(held)
    with transaction(place.databases.content) as session:
        assert session.get(Author, author) is None


def test_an_author_under_a_hold_is_not_forgotten(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    author = place.author_of(item)
    hold = place.ask(now, author_id=author)
    place.erase(author, now)
    place.carry_out(now)
    place.sweep(now)
    assert place.readable(item)
    with transaction(place.databases.content) as session:
        kept = session.get_one(Author, author)
    _, key = place.vault.keys_of(item, author)
    assert key is not None
    assert key.decrypt(kept.reference, "authors", "reference", str(author)) == b"acct-1"
    place.answer("release", hold.id, now)
    place.sweep(now)
    place.carry_out(now)
    assert place.gone(item)


def test_four_eyes(place: Place, now: datetime, databases: Databases, vault: Vault) -> None:
    (item,) = place.submit("acct-1", now)
    hold = place.ask(now, item_id=item)
    with transaction(databases.content) as session, pytest.raises(Forbidden, match="somebody else"):
        holds.approve(session, place.ann, hold.id, now)
    with databases.content.begin() as connection, pytest.raises(IntegrityError, match="four_eyes"):
        connection.execute(
            text("UPDATE holds SET state = 'active', approved_by = requested_by WHERE id = :id"),
            {"id": hold.id},
        )
    with databases.content.begin() as connection, pytest.raises(IntegrityError, match="ck_holds_approved"):
        connection.execute(text("UPDATE holds SET state = 'active' WHERE id = :id"), {"id": hold.id})
    place.answer("approve", hold.id, now)
    with pytest.raises(Conflict, match="only a request"):
        place.answer("approve", hold.id, now)
    with pytest.raises(Conflict, match="Release it instead"):
        place.answer("refuse", hold.id, now)
    auditor = people.principal(databases, vault, Role.AUDITOR)
    with transaction(databases.content) as session, pytest.raises(Forbidden):
        holds.release(session, auditor, hold.id, now)
    with transaction(databases.content) as session:
        holds.release(session, place.ann, hold.id, now)


@pytest.mark.parametrize(
    "wrong",
    [{"authority": " "}, {"basis": ""}, {"basis": "x" * 301}, {"review_at": -DAY}, {"review_at": 367 * DAY}],
)
def test_a_request_that_says_too_little(place: Place, now: datetime, wrong: dict[str, object]) -> None:
    (item,) = place.submit("acct-1", now)
    if isinstance(wrong.get("review_at"), timedelta):
        wrong = {"review_at": now + wrong["review_at"]}  # type: ignore[operator]
    with transaction(place.databases.content) as session, pytest.raises(InvalidInput):
        holds.request(session, place.vault, place.ann, Wanted(**WHY | wrong, item_id=item), now)  # type: ignore[arg-type]


def test_the_file_number_is_encrypted(place: Place, now: datetime, stored: Callable[[UUID], Hold]) -> None:
    (item,) = place.submit("acct-1", now)
    wanted = Wanted(**WHY, reference="17 Js 4711/26", item_id=item)
    with transaction(place.databases.content) as session:
        made = holds.request(session, place.vault, place.ann, wanted, now)
        assert hold_lists.one(session, place.vault, made.id, now).reference == "17 Js 4711/26"
    reference = stored(made.id).reference
    assert reference is not None
    assert b"4711" not in reference


def test_reviews_that_are_overdue_are_counted_and_a_review_sets_the_next(
    place: Place, now: datetime, stored: Callable[[UUID], Hold]
) -> None:
    first, second = place.submit("acct-1", now, 2)
    active, waiting = place.ask(now, item_id=first), place.ask(now, item_id=second)
    place.answer("approve", active.id, now)

    def overdue(moment: datetime) -> int:
        with transaction(place.databases.content) as session:
            return holds.overdue(session, moment)

    assert stored(active.id).review_at == now + 90 * DAY
    assert [overdue(now + days * DAY) for days in (0, 6, 7, 89, 90)] == [0, 0, 1, 1, 2]
    with transaction(place.databases.content) as session:
        holds.extend(session, place.bob, active.id, now + 300 * DAY, now + 91 * DAY)
        with pytest.raises(InvalidInput):
            holds.extend(session, place.bob, active.id, now + 500 * DAY, now + 91 * DAY)
        with pytest.raises(Conflict):
            holds.extend(session, place.bob, waiting.id, now + 100 * DAY, now)
    assert overdue(now + 91 * DAY) == 1


def test_intake_of_authors_without_a_hold_asks_for_none(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    (other,) = place.submit("acct-2", now)
    place.ask(now, author_id=place.author_of(other))
    place.submit("acct-1", now, 3)
    with transaction(place.databases.content) as session:
        assert session.scalars(select(HeldItem.item_id)).all() == [other]
        assert set(session.scalars(select(Item.holds).where(Item.author_id == place.author_of(item)))) == {0}


def test_lists_of_holds(place: Place, now: datetime) -> None:
    items = place.submit("acct-1", now, 3)
    made = [place.ask(now + n * DAY, item_id=item) for n, item in enumerate(items)]
    place.answer("refuse", made[1].id, now)
    with transaction(place.databases.content) as session:
        assert [one.hold.id for one in hold_lists.listing(session, now)] == [made[0].id, made[2].id]
        (ended,) = hold_lists.listing(session, now, ended=True)
        assert (ended.hold.id, ended.items) == (made[1].id, 0)
        assert hold_lists.listing(session, now + 8 * DAY)[0].overdue


def test_nobody_looks_because_of_a_hold_that_nobody_approved(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    hold = place.ask(now, item_id=item)
    with transaction(place.databases.content) as session:
        with pytest.raises(NotFound):
            hold_lists.held_item(session, hold.id, item)
        holds.approve(session, place.bob, hold.id, now)
        assert hold_lists.held_item(session, hold.id, item)[1].id == item
        holds.release(session, place.bob, hold.id, now)
        with pytest.raises(NotFound):
            hold_lists.held_item(session, hold.id, item)


def test_held_content_outlives_deletion_by_its_content_service(place: Place, now: datetime) -> None:
    (item,) = place.submit("acct-1", now)
    hold = place.ask(now, item_id=item)
    place.delete(item, now)
    row = place.row(item)
    assert row is not None
    assert row.state == "deleted", "hidden from everybody at once"
    assert place.readable(item)
    with transaction(place.databases.content) as session:
        assert erasure.overdue(session, now + 50 * DAY) == {}, "what is held is not late"
    place.answer("release", hold.id, now)
    place.sweep(now)
    assert place.gone(item)


# ---- hold against deletion --------------------------------------------------------------------------------


def test_neither_wins_by_half_whatever_happens(place: Place) -> None:
    run_state_machine_as_test(
        lambda: HoldMachine(place),
        settings=hypothesis(max_examples=8, stateful_step_count=20, phases=[Phase.generate]),
    )


def test_holds_race_sweeps(place: Place, settings: Settings) -> None:
    outcome = Race(place, items=24, seed=1).run(attempts=100)
    assert outcome.faults == []
    assert min(outcome.won, outcome.lost) >= 5, outcome
