"""Appeals: who may, until when, who may not decide them, and what follows from the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Restriction
from moderation.domain.errors import Conflict, InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, policies
from moderation.governance.sessions import PersonPrincipal
from moderation.review import appeals, cases, decisions, measures, opinions, reports
from moderation.review.cases import Filter
from moderation.review.opinions import Answer, Given, Result
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AccountAction, Appeal, AuditEvent, Case, Decision, Item, Outbox, Part
from moderation.storage.vault import Vault
from tests import people, reviewing

LATER = timedelta(minutes=1)
NEVER = 1.0
ALLOW = Judgement(Verdict.ALLOW)
REMOVE = Judgement(Verdict.REMOVE, "harassment")


@dataclass(frozen=True, slots=True)
class Court:
    """A client whose item was decided, and people who may look again."""

    client: TestClient
    databases: Databases
    vault: Vault
    policy: Policy
    now: datetime

    def decided(self, judgement: Judgement, name: str = "post-1") -> tuple[UUID, UUID, PersonPrincipal]:
        """An item that a person decided, an hour ago: item, decision, person."""
        item = reviewing.decided(self.client, self.databases, self.policy, self.now, name)
        person = people.principal(self.databases, self.vault, "moderator", "lead")
        with transaction(self.databases.content) as session:
            row = session.get_one(Item, item)
            made = decisions.by_person(
                session, self.policy, row, judgement,
                person_id=person.person_id, case_id=None, undo_id=new_id(self.now), now=self.now,
            )  # fmt: skip
        return item, made, person

    def lodge(self, decision: UUID, by: str = "author", **body: Any) -> Any:
        return self.client.post(f"/v1/decisions/{decision}/appeals", json={"by": by} | body)

    def answer(self, judgement: Judgement, *roles: str, at: datetime | None = None) -> Answer:
        """Somebody who had no part in it takes the appeal and judges."""
        person = people.principal(self.databases, self.vault, *(roles or ("moderator",)))
        return self.answer_as(person, judgement, at or datetime.now(UTC))

    def answer_as(self, person: PersonPrincipal, judgement: Judgement, at: datetime) -> Answer:
        with transaction(self.databases.content) as session:
            held = cases.next_case(session, self.policy, person, Filter(reason="appeal"), NEVER, NEVER, at)
            assert held is not None
        with transaction(self.databases.content) as session:
            return opinions.give(
                session, self.vault, self.policy, person, held.case_id, held.number,
                Given(uuid4(), judgement), at, NEVER,
            )  # fmt: skip

    def rows(self, table: type, *where: Any) -> Sequence[Any]:
        with transaction(self.databases.content) as session:
            return session.scalars(select(table).where(*where).order_by(table.id)).all()  # type: ignore[attr-defined]


@pytest.fixture
def now() -> datetime:
    """An hour ago: what is decided then is in force when the API is asked."""
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def court(client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime) -> Court:
    return Court(client, databases, vault, policy, now)


def test_an_appeal_opens_an_urgent_case_with_the_policys_deadline(court: Court) -> None:
    item, made, _ = court.decided(REMOVE)
    answer = court.lodge(made, statement="It was a quotation.")
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["state"], shown["by"], shown["decision_id"]) == ("open", "author", str(made))
    [case] = court.rows(Case)
    assert (case.kind, case.reason, case.urgent, str(case.appeal_id)) == (
        "appeal", "appeal", True, shown["id"],
    )  # fmt: skip
    [row] = court.rows(Appeal)
    assert row.deadline - row.lodged_at == timedelta(hours=court.policy.review.appeal_deadline_hours)
    assert case.deadline == row.deadline
    assert b"quotation" not in row.statement
    with transaction(court.databases.content) as session:
        assert appeals.statement_of(session, court.vault, row) == "It was a quotation."
        assert session.get_one(Item, item).expires_at >= row.deadline + timedelta(days=30)
    assert court.client.get(f"/v1/appeals/{shown['id']}").json() == shown


def test_each_side_appeals_once(court: Court) -> None:
    _, made, _ = court.decided(REMOVE)
    first = court.lodge(made, statement="One.")
    again = court.lodge(made, statement="Two.")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert len(court.rows(Case)) == len(court.rows(Appeal)) == 1


def test_nobody_judges_an_appeal_of_their_own_decision(court: Court) -> None:
    _, made, decider = court.decided(REMOVE)
    court.lodge(made)
    [case] = court.rows(Case)
    at = datetime.now(UTC)
    with transaction(court.databases.content) as session:
        assert cases.next_case(session, court.policy, decider, Filter(), NEVER, NEVER, at) is None
    with transaction(court.databases.content) as session, pytest.raises(Conflict) as refused:
        cases.claim(session, court.policy, decider, case.id, at)
    assert refused.value.code == "own_decision"
    other = people.principal(court.databases, court.vault, "moderator")
    with transaction(court.databases.content) as session:
        held = cases.next_case(session, court.policy, other, Filter(), NEVER, NEVER, at)
        assert held is not None
        assert held.case_id == case.id


def test_a_reversal_undoes_all_that_the_decision_did(court: Court) -> None:
    reviewing.endpoint(court.client, "appeal.decided", "item.decided", "author.measure_reversed")
    limited = Judgement(
        Verdict.LIMIT, "harassment", None, (Restriction.DEMOTE, Restriction.NO_INTERACTION),
        AccountMeasure.STRIKE, court.now + timedelta(days=90),
    )  # fmt: skip
    item, made, _ = court.decided(limited)
    lodged = court.lodge(made).json()
    at = datetime.now(UTC)
    answer = court.answer(ALLOW, at=at)
    assert answer.result is Result.DECIDED
    after = at + LATER
    with transaction(court.databases.content) as session:
        row = decisions.in_force(session, [item], after)[item]
        assert (row.id, row.route, row.reverses, row.restrictions) == (answer.decision_id, "allow", made, [])
        author = session.get_one(Item, item).author_id
        assert measures.standing_of(session, court.policy, author, after).strikes == 0
        appeal, outcome = appeals.of_client(session, "app", UUID(lodged["id"]), after)
        assert (appeal.state, outcome.id if outcome else None) == ("reversed", answer.decision_id)
    [told] = court.rows(Outbox, Outbox.event == "appeal.decided")
    assert told.payload == {
        "appeal_id": lodged["id"], "by": "author", "outcome": "reversed", "appealed_id": str(made),
        "decision_id": str(answer.decision_id), "verdict": "allow", "item_id": str(item),
    }  # fmt: skip
    assert told.not_before == at + timedelta(seconds=court.policy.review.undo_seconds)
    assert len(court.rows(Outbox, Outbox.event == "author.measure_reversed")) == 1


def test_until_it_can_not_be_undone_the_answer_is_not_told(court: Court) -> None:
    _, made, _ = court.decided(REMOVE)
    lodged = court.lodge(made).json()
    person = people.principal(court.databases, court.vault, "moderator")
    at = datetime.now(UTC)
    answer = court.answer_as(person, ALLOW, at)
    assert court.client.get(f"/v1/appeals/{lodged['id']}").json() == lodged
    assert court.client.get(f"/v1/decisions/{answer.decision_id}").status_code == 404
    assert answer.undo is not None
    with transaction(court.databases.content) as session:
        decisions.undo(session, court.policy, person, UUID(answer.undo.id), at + timedelta(seconds=1))
    [row] = court.rows(Appeal)
    assert (row.state, row.outcome_id) == ("open", None)
    [case] = court.rows(Case)
    assert (case.state, case.claimed_by) == ("open", person.person_id)


def test_upholding_keeps_what_was_done_and_is_final(court: Court) -> None:
    judgement = Judgement(Verdict.REMOVE, "harassment", None, (), AccountMeasure.BAN)
    item, made, _ = court.decided(judgement)
    lodged = court.lodge(made).json()
    answer = court.answer(REMOVE, at=court.now + LATER)
    shown = court.client.get(f"/v1/appeals/{lodged['id']}").json()
    assert (shown["state"], shown["verdict"]) == ("upheld", "remove")
    [action] = court.rows(AccountAction)
    assert (action.kind, action.reversed_at) == ("ban", None)
    again = court.lodge(answer.decision_id)  # type: ignore[arg-type]
    assert (again.status_code, again.json()["code"]) == (409, "final")
    assert court.lodge(made).json()["id"] == lodged["id"]
    with transaction(court.databases.content) as session:
        assert decisions.in_force(session, [item], datetime.now(UTC))[item].id == answer.decision_id


def test_an_appeal_never_ends_worse_for_the_author(court: Court) -> None:
    limited = Judgement(Verdict.LIMIT, "harassment", None, (Restriction.DEMOTE,))
    _, made, _ = court.decided(limited)
    court.lodge(made)
    worse = (
        REMOVE,
        Judgement(Verdict.LIMIT, "harassment", None, (Restriction.DEMOTE, Restriction.LABEL)),
        Judgement(Verdict.LIMIT, "harassment", None, (Restriction.DEMOTE,), AccountMeasure.WARN),
    )
    person = people.principal(court.databases, court.vault, "moderator")
    for judgement in worse:
        with pytest.raises(InvalidInput):
            court.answer_as(person, judgement, court.now + LATER)
    assert [row.state for row in court.rows(Appeal)] == ["open"]
    assert court.answer_as(person, limited, court.now + LATER).result is Result.DECIDED


def test_a_milder_measure_replaces_a_graver_one(court: Court) -> None:
    judgement = Judgement(Verdict.REMOVE, "harassment", None, (), AccountMeasure.BAN)
    item, made, _ = court.decided(judgement)
    court.lodge(made)
    court.answer(Judgement(Verdict.REMOVE, "harassment", None, (), AccountMeasure.WARN), at=court.now + LATER)
    assert [row.state for row in court.rows(Appeal)] == ["reversed"]
    kinds = {row.kind: row.reversed_at is None for row in court.rows(AccountAction)}
    assert kinds == {"ban": False, "warn": True}
    with transaction(court.databases.content) as session:
        author = session.get_one(Item, item).author_id
        assert not measures.standing_of(session, court.policy, author, datetime.now(UTC)).banned


def test_a_machines_decision_is_appealed_to_a_person(court: Court) -> None:
    item = reviewing.decided(
        court.client, court.databases, court.policy, court.now, route=Route.REMOVE, category="spam"
    )
    with transaction(court.databases.content) as session:
        made = decisions.in_force(session, [item], court.now)[item].id
    assert court.lodge(made).status_code == 201
    answer = court.answer(ALLOW, at=court.now + LATER)
    shown = court.client.get(f"/v1/decisions/{answer.decision_id}").json()
    assert (shown["decided_by"], shown["reverses"]) == ("person", str(made))


def test_a_reporter_appeals_that_what_they_reported_was_allowed(court: Court) -> None:
    item, made, _ = court.decided(ALLOW)
    assert court.lodge(made, "reporter", reporter="acct-81").status_code == 403
    with transaction(court.databases.content) as session:
        reports.report(
            session, court.vault, court.policy, "app", item, "acct-81", "harassment", None, court.now
        )
        for case in session.scalars(select(Case)):
            case.state, case.closed_at = "closed", court.now
    answer = court.lodge(made, "reporter", reporter="acct-81", statement="Look again, please.")
    assert answer.status_code == 201, answer.text
    court.answer(REMOVE, at=court.now + LATER)
    assert court.client.get(f"/v1/appeals/{answer.json()['id']}").json()["state"] == "reversed"


def test_a_report_that_people_still_have_is_not_appealed(court: Court) -> None:
    item = reviewing.decided(court.client, court.databases, court.policy, court.now)
    court.client.post(f"/v1/items/{item}/reports", json={"reporter": "acct-81", "category": "harassment"})
    with transaction(court.databases.content) as session:
        made = decisions.in_force(session, [item], court.now)[item].id
    answer = court.lodge(made, "reporter", reporter="acct-81")
    assert (answer.status_code, answer.json()["code"]) == (409, "undecided")


@pytest.mark.parametrize("how", ["informed", "delivered", "swept"])
def test_the_time_to_appeal_counts_from_when_it_was_told(court: Court, how: str) -> None:
    reviewing.endpoint(court.client, "item.decided")
    long_ago = Court(
        court.client, court.databases, court.vault, court.policy, court.now - timedelta(days=200)
    )
    _, made, _ = long_ago.decided(REMOVE)
    assert "appeal_until" not in court.client.get(f"/v1/decisions/{made}").json(), "nobody was told"
    told = long_ago.now + timedelta(days=1)
    if how == "informed":
        answer = court.client.post(f"/v1/decisions/{made}/informed", json={"at": told.isoformat()})
        assert answer.status_code == 204, answer.text
    else:
        with transaction(court.databases.content) as session:
            session.execute(update(Outbox).values(state="delivered", delivered_at=told))
            if how == "swept":
                assert erasure.sweep_records(session, court.now, told + timedelta(days=30)) > 0
    shown = court.client.get(f"/v1/decisions/{made}").json()
    until = told + timedelta(days=court.policy.review.appeal_days)
    assert datetime.fromisoformat(shown["appeal_until"]) == until
    answer = court.lodge(made)
    assert (answer.status_code, answer.json()["code"]) == (409, "too_late")


def test_who_was_never_told_may_always_appeal(court: Court) -> None:
    long_ago = Court(
        court.client, court.databases, court.vault, court.policy, court.now - timedelta(days=200)
    )
    _, made, _ = long_ago.decided(REMOVE)
    assert court.lodge(made).status_code == 201


def test_the_first_word_on_being_informed_counts(court: Court) -> None:
    _, made, _ = court.decided(REMOVE)
    url = f"/v1/decisions/{made}/informed"
    first = court.now + LATER
    for at in (first, first + LATER):
        assert court.client.post(url, json={"at": at.isoformat()}).status_code == 204
    assert court.client.post(url).status_code == 204
    [row] = court.rows(Decision, Decision.id == made)
    assert row.informed_at == first
    assert len(court.rows(AuditEvent, AuditEvent.action == "decision.informed")) == 1
    for at in (datetime.now(UTC) + timedelta(days=1), court.now - timedelta(days=1)):
        assert court.client.post(url, json={"at": at.isoformat()}).status_code == 422


def test_what_can_not_be_appealed_says_why(court: Court) -> None:
    _, allowed, _ = court.decided(ALLOW)
    assert court.lodge(allowed).status_code == 422
    item, removed, _ = court.decided(REMOVE, "post-2")
    assert court.lodge(removed, reporter="acct-9").status_code == 422
    assert court.lodge(removed, "reporter").status_code == 422
    assert court.lodge(UUID(int=3)).status_code == 404
    lead = people.principal(court.databases, court.vault, "lead")
    with transaction(court.databases.content) as session:
        decisions.reverse(session, court.vault, court.policy, lead, removed, court.now + LATER, None)
    answer = court.lodge(removed)
    assert (answer.status_code, answer.json()["code"]) == (409, "superseded")
    waiting = reviewing.decided(
        court.client, court.databases, court.policy, court.now, "post-3", Route.REVIEW
    )
    with transaction(court.databases.content) as session:
        undecided = decisions.in_force(session, [waiting], court.now)[waiting].id
    assert court.lodge(undecided).json()["code"] == "undecided"
    assert court.client.get(f"/v1/items/{item}").status_code == 200


def test_the_evidence_outlives_the_appeal(court: Court, blobs: FolderBlobs) -> None:
    item, made, _ = court.decided(REMOVE)
    court.lodge(made)
    much_later = court.now + timedelta(days=4000)
    erasure.sweep(court.databases, court.vault, blobs, much_later)
    assert court.rows(Item)[0].state == "done"
    assert court.client.delete(f"/v1/items/{item}").status_code == 204
    erasure.sweep(court.databases, court.vault, blobs, much_later)
    assert court.rows(Item)[0].destroyed_at is None
    assert [case.state for case in court.rows(Case)] == ["open"], "the appeal goes on"
    court.answer(ALLOW, at=court.now + LATER)
    erasure.sweep(court.databases, court.vault, blobs, much_later)
    assert court.rows(Item)[0].destroyed_at == much_later
    with transaction(court.databases.content) as session:
        assert session.scalars(select(Part)).all() == []
    gone = court.lodge(made)
    assert gone.status_code == 200, "the same appeal, whatever became of the content"


def test_deleting_the_post_settles_what_a_reporter_asked(court: Court) -> None:
    item, made, _ = court.decided(ALLOW)
    with transaction(court.databases.content) as session:
        reports.report(
            session, court.vault, court.policy, "app", item, "acct-81", "harassment", None, court.now
        )
        for case in session.scalars(select(Case)):
            case.state, case.closed_at = "closed", court.now
    lodged = court.lodge(made, "reporter", reporter="acct-81").json()
    court.client.delete(f"/v1/items/{item}")
    assert court.client.get(f"/v1/appeals/{lodged['id']}").json()["state"] == "withdrawn"
    assert [case.state for case in court.rows(Case, Case.kind == "appeal")] == ["closed"]
    assert court.rows(Item)[0].destroyed_at is not None


def test_a_decision_gives_the_reason_that_its_own_policy_gave(court: Court) -> None:
    _, made, _ = court.decided(Judgement(Verdict.REMOVE, "harassment", "H1"))
    with transaction(court.databases.content) as session:
        document = policies.newest_document(session)[1].replace("It insults a person.", "It was reworded.")
        policies.publish(session, document, "operator", court.now)
    assert court.client.get(f"/v1/decisions/{made}").json()["reason"] == "It insults a person."


def test_a_decision_in_full(court: Court) -> None:
    limited = Judgement(Verdict.LIMIT, "harassment", "H1", (Restriction.DEMOTE,), AccountMeasure.WARN)
    item, made, _ = court.decided(limited)
    shown = court.client.get(f"/v1/decisions/{made}").json()
    assert (shown["item_id"], shown["author"], shown["verdict"]) == (str(item), "acct-1", "limit")
    assert (shown["clause"], shown["reason"]) == ("H1", "It insults a person.")
    assert shown["restrictions"] == ["demote"]
    assert [one["measure"] for one in shown["measures"]] == ["warn"]
    assert shown["decided_by"] == "person"
    assert "person_id" not in shown, "who decided is nobody's business outside"
