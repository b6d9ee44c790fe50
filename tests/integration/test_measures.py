"""Measures against an account: taken with a decision, in force after its undo window, lifted with its reversal."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, checked
from moderation.domain.policy import Policy
from moderation.governance import erasure
from moderation.governance.outbox import Notice
from moderation.review import decisions, measures
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AccountAction, Item, Outbox
from moderation.storage.vault import Vault
from tests import people, reviewing

LATER = timedelta(minutes=1)


def remove(
    databases: Databases, policy: Policy, item: UUID, person: UUID, now: datetime, **changes: object
) -> tuple[UUID, UUID]:
    """A removal by `person` as its id and its undo id."""
    judgement = checked(Judgement(Verdict.REMOVE, "harassment", **changes), policy, now)  # type: ignore[arg-type]
    undo_id = new_id(now)
    with transaction(databases.content) as session:
        row = session.get_one(Item, item)
        made = decisions.by_person(
            session, policy, row, judgement, person_id=person, case_id=None, undo_id=undo_id, now=now
        )
    return made, undo_id


def told(databases: Databases, event: str) -> list[Outbox]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Outbox).where(Outbox.event == event).order_by(Outbox.id)))


def test_an_author_with_a_measure_that_counts_is_not_forgotten(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    person = people.new_person(databases, vault, "moderator")
    struck, warned = (reviewing.submitted(client, f"post-{n}", author=f"acct-{n}") for n in range(2))
    remove(databases, policy, struck, person, now, measure=AccountMeasure.STRIKE)
    remove(databases, policy, warned, person, now, measure=AccountMeasure.WARN)
    with transaction(databases.content) as session:
        session.execute(update(Item).values(destroyed_at=now))
    assert erasure.sweep_authors(databases, vault, now + LATER) == 1, "a warning is over once it was given"
    over = now + timedelta(days=policy.review.strikes.window_days)
    assert erasure.sweep_authors(databases, vault, over - LATER) == 0
    assert erasure.sweep_authors(databases, vault, over) == 1


def test_strikes_count_after_the_undo_window_and_decay(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    person = people.new_person(databases, vault, "moderator")
    items = [reviewing.decided(client, databases, policy, now, f"post-{n}") for n in range(2)]
    for item in items:
        remove(databases, policy, item, person, now, measure=AccountMeasure.STRIKE)
    with transaction(databases.content) as session:
        author = session.get_one(Item, items[0]).author_id
        assert measures.standing_of(session, policy, author, now).strikes == 0
        standing = measures.standing_of(session, policy, author, now + LATER)
        assert (standing.strikes, standing.advice) == (2, AccountMeasure.SUSPEND)
        over = now + timedelta(days=policy.review.strikes.window_days)
        assert measures.standing_of(session, policy, author, over).strikes == 0


def test_the_client_is_told_when_it_takes_effect(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    reviewing.endpoint(client, "author.measure", "author.measure_reversed")
    person = people.new_person(databases, vault, "moderator")
    item = reviewing.decided(client, databases, policy, now)
    until = now + timedelta(days=3)
    made, undo_id = remove(databases, policy, item, person, now, measure=AccountMeasure.SUSPEND, until=until)
    [message] = told(databases, "author.measure")
    assert message.payload == {
        "decision_id": str(made),
        "item_id": str(item),
        "measure": "suspend",
        "until": until.isoformat().replace("+00:00", "Z"),
    }
    assert message.not_before == now + timedelta(seconds=policy.review.undo_seconds)
    assert message.undo_id == undo_id


def test_an_undo_leaves_no_measure_and_no_message(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    reviewing.endpoint(client, "author.measure", "author.measure_reversed", "item.decided")
    person = people.principal(databases, vault, "moderator")
    item = reviewing.decided(client, databases, policy, now)
    _, undo_id = remove(databases, policy, item, person.person_id, now, measure=AccountMeasure.BAN)
    with transaction(databases.content) as session:
        decisions.undo(session, policy, person, undo_id, now + timedelta(seconds=1))
    assert told(databases, "author.measure") == []
    with transaction(databases.content) as session:
        author = session.get_one(Item, item).author_id
        assert not measures.standing_of(session, policy, author, now + LATER).banned
        assert session.scalars(select(AccountAction)).all() == []


def test_a_reversal_lifts_what_the_decision_did(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    reviewing.endpoint(client, "author.measure_reversed")
    lead = people.principal(databases, vault, "lead")
    item = reviewing.decided(client, databases, policy, now)
    made, _ = remove(databases, policy, item, lead.person_id, now, measure=AccountMeasure.BAN)
    with transaction(databases.content) as session:
        author = session.get_one(Item, item).author_id
        assert measures.standing_of(session, policy, author, now + LATER).banned
        reversal = decisions.reverse(session, vault, policy, lead, made, now + LATER, "mistaken")
    with transaction(databases.content) as session:
        assert not measures.standing_of(session, policy, author, now + 2 * LATER).banned
        assert session.scalars(select(AccountAction)).one().reversed_by == reversal
    [message] = told(databases, "author.measure_reversed")
    assert (message.payload["measure"], message.payload["decision_id"]) == ("ban", str(made))


@pytest.mark.parametrize("value", [["age_gate", "demote"], ["x"] * 16, []])
def test_a_notice_takes_lists_of_short_words(value: list[str]) -> None:
    assert Notice("app", UUID(int=1), "item.decided", {"restrictions": value})


@pytest.mark.parametrize("value", [["two words"], ["x"] * 17, [["age_gate"]], [1], {"a": "b"}, 0.5])
def test_a_notice_takes_nothing_that_could_hold_content(value: object) -> None:
    with pytest.raises(ValueError, match="neither an id"):
        Notice("app", UUID(int=1), "item.decided", {"restrictions": value})
