"""The review API: a day's work of moderators and a lead, by HTTP alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.access import GRANTS, Permission, Role
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.features.hashes import sha256
from moderation.governance import banks
from moderation.review import decisions, filters, opening
from moderation.review.listing import Filter
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, BankEntry, Case, CaseSkip, Decision, Item, PersonSession
from moderation.storage.vault import Vault
from tests import people, reviewing, scenes
from tests.people import Member
from tests.support import image_part, text_part


@pytest.fixture
def now() -> datetime:
    """An hour ago: what is decided then is in force when the API is asked."""
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No case is golden, none is judged again."""
    monkeypatch.setattr("api.routes.review._dice", lambda: 0.999)


@pytest.fixture
def moderator(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.MODERATOR) as member:
        yield member


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEAD) as member:
        yield member


@pytest.fixture
def case(client: TestClient, databases: Databases, policy: Policy, now: datetime) -> UUID:
    """An open case in the queue `harassment`."""
    return opened(client, databases, policy, now)


def opened(
    client: TestClient,
    databases: Databases,
    policy: Policy,
    now: datetime,
    name: str = "post-1",
    **changes: Any,
) -> UUID:
    item = reviewing.submitted(client, name, **changes)
    reviewing.decide(databases, policy, item, now, Route.REVIEW, "harassment")
    with transaction(databases.content) as session:
        decision = decisions.in_force(session, [item], now)[item]
        draft = CaseDraft(CaseReason.UNCERTAIN, "harassment", 2, 0.6)
        return opening.open_case(session, policy, session.get_one(Item, item), decision.id, draft, now)


def judged(number: int, **changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"form_key": str(uuid4()), "number": number, "verdict": "remove"}
    return body | {"category": "harassment"} | changes


def test_from_the_queue_to_a_decision_and_back(moderator: Member, case: UUID, databases: Databases) -> None:
    [queue] = moderator.get("/v1/review/queues").json()
    assert (queue["name"], queue["open"], queue["claimed"]) == ("harassment", 1, 0)
    [row] = moderator.get("/v1/review/cases", params={"queue": "harassment"}).json()
    assert row["id"] == str(case)
    assert moderator.get("/v1/review/cases", params={"queue": "spam"}).json() == []
    held = moderator.post("/v1/review/next").json()
    assert held["case_id"] == str(case)
    file = moderator.get(f"/v1/review/cases/{case}").json()
    assert file["parts"][0]["text"] == "Lovely weather in Lisbon today."
    assert file["why"] == ["Chosen by a test."]
    beat = moderator.post(f"/v1/review/cases/{case}/heartbeat", json={"number": held["number"]})
    assert beat.json()["until"] > held["until"]
    body = judged(held["number"], note="Mild, but aimed at somebody.")
    answer = moderator.post(f"/v1/review/cases/{case}/opinions", json=body).json()
    assert answer["result"] == "decided"
    again = moderator.post(f"/v1/review/cases/{case}/opinions", json=body).json()
    assert (again["result"], again["decision_id"]) == ("repeated", answer["decision_id"])
    back = moderator.post(f"/v1/review/undo/{answer['undo']['id']}").json()
    assert back == {"cases": [str(case)]}
    with transaction(databases.content) as session:
        assert session.get_one(Decision, UUID(answer["decision_id"])).undone_at is not None
        viewed = select(AuditEvent).where(AuditEvent.action == "case.viewed")
        assert session.scalars(viewed).one().subject_id == str(case)


def test_a_list_has_pages(
    moderator: Member, client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    made = {str(opened(client, databases, policy, now, f"post-{number}")) for number in range(3)}
    seen: list[str] = []
    for _ in range(4):
        params = {"queue": "harassment", "limit": "1"} | ({"after": seen[-1]} if seen else {})
        seen += [row["id"] for row in moderator.get("/v1/review/cases", params=params).json()]
    assert (len(seen), set(seen)) == (3, made)


def test_two_people_on_one_case(moderator: Member, lead: Member, case: UUID, databases: Databases) -> None:
    held = moderator.post(f"/v1/review/cases/{case}/claim").json()
    refused = lead.post(f"/v1/review/cases/{case}/claim")
    assert (refused.status_code, refused.json()["code"]) == (409, "claimed")
    assert lead.post("/v1/review/next").status_code == 204
    number = {"number": held["number"]}
    for _ in range(2):
        assert moderator.post(f"/v1/review/cases/{case}/release", json=number).status_code == 204
    taken = lead.post("/v1/review/next", json={"queue": "harassment"}).json()
    lost = moderator.post(f"/v1/review/cases/{case}/heartbeat", json=number)
    assert (lost.status_code, lost.json()["code"]) == (409, "claim_lost")
    late = moderator.post(f"/v1/review/cases/{case}/opinions", json=judged(held["number"]))
    assert late.json()["result"] == "late"
    assert lead.post(f"/v1/review/cases/{case}/opinions", json=judged(taken["number"])).status_code == 200


def test_a_case_is_skipped_noted_escalated_and_handed_over(
    moderator: Member, lead: Member, case: UUID, databases: Databases
) -> None:
    number = moderator.post("/v1/review/next").json()["number"]
    url = f"/v1/review/cases/{case}"
    assert moderator.post(f"{url}/notes", json={"text": "Seen before?"}).status_code == 204
    assert moderator.post(f"{url}/notes", json={"text": " "}).status_code == 422
    escalation = {"number": number, "note": "Please look."}
    assert moderator.post(f"{url}/escalate", json=escalation).status_code == 204
    assert moderator.post("/v1/review/next").status_code == 204, "it takes a lead now"
    held = lead.post("/v1/review/next", json={"stage": "adjudication"}).json()
    assert [note["text"] for note in lead.get(url).json()["notes"]] == ["Seen before?", "Please look."]
    answer = lead.post(f"{url}/hand-over", json={"to": str(moderator.person_id), "number": held["number"]})
    assert answer.status_code == 422, "a moderator settles nothing"
    skipped = lead.post(f"{url}/skip", json={"number": held["number"], "reason": "distress"})
    assert skipped.status_code == 204
    assert lead.post("/v1/review/next").status_code == 204
    with transaction(databases.content) as session:
        assert session.scalars(select(CaseSkip)).one().reason is None


def test_a_part_is_banked_from_its_case(
    client: TestClient, moderator: Member, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    photo = scenes.saved(scenes.scene(3))
    case = opened(client, databases, policy, now, parts=[text_part(), image_part(photo)])
    with transaction(databases.content) as session:
        for kind in ("image", "text"):
            banks.create(
                session, name=f"known_{kind}s", kind=kind, category="spam", action="remove", allow=False,
                actor="operator", now=now,
            )  # fmt: skip
    path = f"/v1/review/cases/{case}/bank"
    body = {"part": "photo", "bank": "known_images", "note": "The third today."}
    answer = moderator.post(path, json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["fresh"]
    with transaction(databases.content) as session:
        entry = session.get_one(BankEntry, UUID(answer.json()["entry"]))
        assert (entry.digest, entry.verified, entry.note) == (sha256(photo), False, "The third today.")
        assert entry.features is not None
    assert not moderator.post(path, json=body).json()["fresh"], "it is there once"
    assert moderator.post(path, json=body | {"part": "body", "bank": "known_texts"}).status_code == 201
    for changed, status in (({"part": "body"}, 422), ({"part": "film"}, 404), ({"bank": "nothing"}, 404)):
        assert moderator.post(path, json=body | changed).status_code == status
    near = client.post("/v1/hashes/match", files={"image": scenes.saved(scenes.mirrored(scenes.scene(3)))})
    assert [one["verified"] for one in near.json()["matches"]] == [False]


def test_saved_filters(moderator: Member, lead: Member) -> None:
    wanted = {"queue": "harassment", "language": "es", "mine": True}
    mine = moderator.post("/v1/review/filters", json={"name": "Spanish", "filter": wanted})
    assert mine.status_code == 201, mine.text
    assert mine.json()["query"] == "queue=harassment&language=es&mine=yes"
    assert filters.from_query(mine.json()["query"]) == Filter("harassment", "es", mine=True)
    shared = {"name": "Appeals", "filter": {"reason": "appeal"}, "shared": True}
    assert moderator.post("/v1/review/filters", json=shared).status_code == 403
    everybodys = lead.post("/v1/review/filters", json=shared).json()
    assert [one["name"] for one in moderator.get("/v1/review/filters").json()] == ["Appeals", "Spanish"]
    assert [one["name"] for one in lead.get("/v1/review/filters").json()] == ["Appeals"]
    assert moderator.delete(f"/v1/review/filters/{everybodys['id']}").status_code == 404
    assert lead.delete(f"/v1/review/filters/{mine.json()['id']}").status_code == 404
    assert lead.delete(f"/v1/review/filters/{everybodys['id']}").status_code == 204
    assert [one["name"] for one in moderator.get("/v1/review/filters").json()] == ["Spanish"]


def test_a_cluster_asks_for_a_fresh_second_factor(
    moderator: Member, case: UUID, databases: Databases
) -> None:
    number = moderator.post("/v1/review/next").json()["number"]
    url = f"/v1/review/cases/{case}"
    assert moderator.get(f"{url}/near-duplicates").json() == []
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(minutes=16)))
    body = judged(number, members=[str(uuid4())])
    refused = moderator.post(f"{url}/cluster-decision", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")


def test_a_lead_reverses(
    moderator: Member, lead: Member, client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now, route=Route.REMOVE, category="spam")
    with transaction(databases.content) as session:
        made = decisions.in_force(session, [item], now)[item].id
    url = f"/v1/review/decisions/{made}/reverse"
    assert moderator.post(url, json={"note": "No."}).status_code == 403
    answer = lead.post(url, json={"note": "A quotation."})
    assert answer.status_code == 200, answer.text
    assert client.get(f"/v1/items/{item}").json()["decision_id"] == answer.json()["decision_id"]
    assert lead.post(url, json={"note": "Again."}).json()["code"] == "superseded"


def test_quality_is_numbers_and_for_those_who_may(
    moderator: Member, lead: Member, client: TestClient, databases: Databases, policy: Policy, now: datetime
) -> None:
    item = reviewing.decided(client, databases, policy, now)
    for path in ("agreement", "overturns", "checks"):
        assert lead.get(f"/v1/review/{path}").status_code == 200
        assert moderator.get(f"/v1/review/{path}").status_code == 403
    assert moderator.get("/v1/review/results").json()["opinions"] == 0
    assert lead.put(f"/v1/review/golden/{item}").status_code == 204
    [golden] = lead.get("/v1/review/golden").json()
    assert (golden["item_id"], golden["verdict"], golden["retired_at"]) == (str(item), "allow", None)
    assert lead.delete(f"/v1/review/golden/{item}").status_code == 204
    assert lead.delete(f"/v1/review/golden/{item}").status_code == 404
    assert lead.get("/v1/review/contests").json() == []
    assert moderator.post(f"/v1/review/opinions/{uuid4()}/contest", json={"text": "Why?"}).status_code == 404


def test_bodies_are_strict(moderator: Member, case: UUID) -> None:
    number = moderator.post("/v1/review/next").json()["number"]
    url = f"/v1/review/cases/{case}/opinions"
    bad: tuple[dict[str, Any], ...] = (
        judged(number, mood="bad"),
        judged(number, verdict="shrug"),
        judged(number, verdict="allow", restrictions=["demote"]),
        judged(number, restrictions=["demote"]),
        judged(number, category="weather"),
        judged(number, clause="Z9"),
        judged(number, measure="suspend", until="9999-12-31T23:59:59-12:00"),
        judged(number, measure="suspend", until="1999-01-01T00:00:00Z"),
        judged(number, form_key="x"),
        judged(number, note="a\x00b"),
        judged(2**31),
    )
    for body in bad:
        answer = moderator.post(url, json=body)
        assert answer.status_code == 422, (body, answer.text)
    assert moderator.get("/v1/review/cases", params={"queue": "a\x00"}).status_code == 422
    assert moderator.get("/v1/review/cases", params={"nonsense": "1"}).status_code == 422


def test_a_moderator_does_not_ban(moderator: Member, case: UUID) -> None:
    number = moderator.post("/v1/review/next").json()["number"]
    answer = moderator.post(f"/v1/review/cases/{case}/opinions", json=judged(number, measure="ban"))
    assert answer.status_code == 403


@pytest.mark.parametrize("role", [role for role in Role if Permission.CASE_READ not in GRANTS[role]])
def test_who_does_not_review_sees_no_case(
    settings: Settings, databases: Databases, vault: Vault, case: UUID, role: Role
) -> None:
    with people.logged_in(settings, databases, vault, role) as member:
        for path in (f"/v1/review/cases/{case}", "/v1/review/cases", "/v1/review/queues"):
            assert member.get(path).status_code == 403
        assert member.post("/v1/review/next").status_code == 403


def test_an_api_key_is_nobody(client: TestClient, case: UUID, databases: Databases) -> None:
    assert client.get(f"/v1/review/cases/{case}").status_code == 401
    with transaction(databases.content) as session:
        assert session.scalars(select(AuditEvent).where(AuditEvent.action == "case.viewed")).all() == []
        assert session.get_one(Case, case).claimed_by is None
