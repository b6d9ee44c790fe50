"""Reports: what each weighs, that a brigade saturates, the case they open, and what people's verdicts teach."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from moderation.domain.cases import CaseReason, CaseState, Verdict
from moderation.domain.decisions import Judgement, checked
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.review import decisions, reporters, reports
from moderation.review.reporters import TOGETHER_AT_MOST, Witness, probability
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Item, Part, Report, Reporter
from moderation.storage.vault import Vault
from tests import people, reviewing, support

LATER = timedelta(minutes=1)
PROVEN = Witness(upheld=20)
witnesses = st.builds(Witness, upheld=st.integers(0, 50), rejected=st.integers(0, 50))


@pytest.fixture
def now() -> datetime:
    """An hour ago: what is decided then is in force when the API is asked."""
    return datetime.now(UTC) - timedelta(hours=1)


def send(client: TestClient, item: UUID, reporter: str = "acct-81", **changes: Any) -> Any:
    body = {"reporter": reporter, "category": "harassment"} | changes
    return client.post(f"/v1/items/{item}/reports", json=body)


def cases_of(databases: Databases, item: UUID) -> list[Case]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Case).where(Case.item_id == item).order_by(Case.id)))


def judge(
    databases: Databases, vault: Vault, policy: Policy, item: UUID, verdict: Verdict, now: datetime
) -> tuple[people.PersonPrincipal, UUID]:
    """A person's decision; who it is, and the undo id."""
    person = people.principal(databases, vault, "moderator")
    category = None if verdict is Verdict.ALLOW else "harassment"
    judgement = checked(Judgement(verdict, category), policy, now)
    undo_id = new_id(now)
    with transaction(databases.content) as session:
        decisions.by_person(
            session, policy, session.get_one(Item, item), judgement,
            person_id=person.person_id, case_id=None, undo_id=undo_id, now=now,
        )  # fmt: skip
        for case in session.scalars(select(Case).where(Case.item_id == item)):
            case.state, case.closed_at = CaseState.CLOSED, now
    return person, undo_id


def test_the_weight_is_what_past_reports_say() -> None:
    assert Witness().weight == 0.25
    assert round(PROVEN.weight, 2) == 0.88
    assert round(Witness(rejected=20).weight, 2) == 0.04


def test_a_brigade_of_new_accounts_saturates_below_one_proven_reporter() -> None:
    assert probability([Witness()] * 1000) <= TOGETHER_AT_MOST < probability([PROVEN])
    assert probability([Witness(rejected=20)] * 1000) < probability([Witness()])
    assert probability([Witness(upheld=4)] * 1000) <= TOGETHER_AT_MOST


@given(st.lists(witnesses, max_size=30), witnesses)
def test_one_more_report_never_lowers_the_probability(some: list[Witness], one: Witness) -> None:
    assert 0 <= probability(some) <= probability([*some, one]) + 1e-9 <= 0.95 + 1e-9


def test_a_report_puts_an_allowed_item_before_people(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    answer = send(client, item, comment="This is about me.")
    assert answer.status_code == 202, answer.text
    [case] = cases_of(databases, item)
    assert (case.reason, case.category, case.state) == (CaseReason.REPORT, "harassment", "open")
    assert not case.urgent
    with transaction(databases.content) as session:
        row = session.scalars(select(Report)).one()
        assert (row.weight, row.case_id) == (0.25, case.id)
        sealed = row.comment
    assert sealed is not None
    assert b"about me" not in sealed
    key = vault.item_keys([item])[item]
    assert key.decrypt(sealed, *reports.comment_place(row.id)) == b"This is about me."


@pytest.mark.parametrize("category", ["sexual_minors", "underage"])
def test_a_report_of_minors_is_urgent(
    client: TestClient, databases: Databases, policy: Policy, now: datetime, category: str
) -> None:
    item = reviewing.decided(client, databases, policy, now, route=Route.REMOVE, category="spam")
    assert send(client, item).status_code == 202
    assert cases_of(databases, item) == [], "nobody needs to look at what is removed for something else"
    assert send(client, item, "acct-82", category=category).status_code == 202
    [case] = cases_of(databases, item)
    assert (case.reason, case.urgent) == (CaseReason.MINOR, True)


def test_the_same_reporter_counts_once_and_others_raise_the_case(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    first = send(client, item).json()
    [case] = cases_of(databases, item)
    again = send(client, item).json()
    assert again["id"] == first["id"]
    assert cases_of(databases, item)[0].priority == case.priority
    send(client, item, "acct-82")
    [raised] = cases_of(databases, item)
    assert raised.id == case.id
    assert raised.priority > case.priority


def test_a_report_before_the_outcome_waits_for_it(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.submitted(client)
    assert send(client, item).status_code == 202
    assert cases_of(databases, item) == []
    reviewing.decide(databases, policy, item, now)
    [case] = cases_of(databases, item)
    assert case.reason == CaseReason.REPORT


def test_screening_itself_takes_up_what_waits(
    client: TestClient, databases: Databases, settings: Any
) -> None:
    item = reviewing.submitted(client)
    assert send(client, item).status_code == 202
    support.drain(settings)
    [case] = cases_of(databases, item)
    assert case.reason == CaseReason.REPORT


def test_verdicts_teach_what_a_reporter_weighs(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    for number, verdict in enumerate((Verdict.REMOVE, Verdict.REMOVE, Verdict.ALLOW)):
        item = reviewing.decided(client, databases, policy, now, f"post-{number}")
        send(client, item)
        judge(databases, vault, policy, item, verdict, now + LATER)
        outcome = "rejected" if verdict is Verdict.ALLOW else "upheld"
        assert send(client, item).json()["outcome"] == outcome
    with transaction(databases.content) as session:
        row = session.scalars(select(Reporter)).one()
        assert (row.upheld, row.rejected) == (2, 1)
    item = reviewing.decided(client, databases, policy, now, "post-9")
    send(client, item)
    with transaction(databases.content) as session:
        weight = session.scalars(select(Report.weight).where(Report.item_id == item)).one()
    assert weight == pytest.approx(Witness(2, 1).weight)


def test_an_undo_takes_the_lesson_back_and_a_reversal_turns_it_round(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    send(client, item)

    def learnt() -> tuple[int, int, str | None]:
        with transaction(databases.content) as session:
            row = session.scalars(select(Reporter)).one()
            return row.upheld, row.rejected, session.scalars(select(Report.outcome)).one()

    with transaction(databases.content) as session:
        reported = session.scalars(select(Report.reported_at)).one()
    at = max(now, reported) + LATER
    judge(databases, vault, policy, item, Verdict.REMOVE, at)
    assert learnt() == (1, 0, "upheld")
    person, undo_id = judge(databases, vault, policy, item, Verdict.ALLOW, at + LATER)
    assert learnt() == (0, 1, "rejected")
    with transaction(databases.content) as session:
        decisions.undo(session, policy, person, undo_id, at + LATER + timedelta(seconds=1))
    assert learnt() == (1, 0, "upheld"), "what the decision before had settled holds again"


def test_what_a_person_allowed_comes_back_only_with_more_than_two_newcomers(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    judge(databases, vault, policy, item, Verdict.ALLOW, now)
    for number in range(2):
        assert send(client, item, f"new-{number}").status_code == 202
        assert cases_of(databases, item) == []
    send(client, item, "new-2")
    assert len(cases_of(databases, item)) == 1


def test_what_is_gone_can_not_be_reported(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    assert send(client, UUID(int=7)).status_code == 404
    client.delete(f"/v1/items/{item}")
    answer = send(client, item)
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")


def test_what_can_not_be_taken_says_why(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    for changes in ({"category": "weather"}, {"comment": "a\x00b"}, {"reporter": "a\nb"}, {"mood": "bad"}):
        answer = send(client, item, **changes)  # type: ignore[arg-type]
        assert answer.status_code == 422, changes
    assert send(client, item, "acct-1").json()["code"] == "own_post"
    assert cases_of(databases, item) == []


def test_reports_end_with_their_item(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    send(client, item)
    assert client.delete(f"/v1/items/{item}").status_code == 204
    with transaction(databases.content) as session:
        assert session.scalars(select(Part)).all() == []
        assert session.scalars(select(Report)).all() == []


def test_settling_twice_counts_once(
    client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    send(client, item)
    with transaction(databases.content) as session:
        for _ in range(2):
            reporters.resolve(session, item, Verdict.REMOVE, now, UUID(int=1))
        row = session.scalars(select(Reporter)).one()
        assert (row.upheld, row.rejected) == (1, 0)
