"""The pages of promises and their JSON: what is promised, who may certify and void, and what answers say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api import promised, views
from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.promises import Side, Void
from moderation.domain.routing import Route
from moderation.governance import audit, certification, policies
from moderation.review import score_bars
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, CertificateRow, Decision, Outbox, PersonSession
from moderation.storage.vault import Vault
from tests import people, promising, reviewing
from tests.people import Member
from tests.support import drain

PROMISES = "/console/promises"
NOBODY = "019ab000-0000-7000-8000-000000000000"
ALLOWS = "Of the items a machine lets pass by itself, at most 2 % break the rule on harassment."


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEAD) as member:
        yield member


@pytest.fixture
def moderator(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.MODERATOR) as member:
        yield member


@pytest.fixture
def held(databases: Databases) -> dict[Side, UUID]:
    """A policy that promises, and the certificates of its two promises on harassment."""
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        made = promising.certify(session, promising.publish(session, now), now)
    return {one.side: one.certificate for one in made.attempts if one.certificate}


def test_without_a_promise_the_page_says_how_to_write_one(
    lead: Member, moderator: Member, databases: Databases
) -> None:
    with transaction(databases.content) as session:
        _, document = policies.newest_document(session)
        policies.publish(session, promising.silent(document), "operator", datetime.now(UTC))
    for page in (lead.get(PROMISES), moderator.get(PROMISES)):
        assert page.status_code == 200
        assert "promises nothing" in page.text
        assert "wrong_at_most" in page.text
    assert "Edit the policy" in lead.get(PROMISES).text
    assert "Edit the policy" not in moderator.get(PROMISES).text
    refused = lead.post(PROMISES)
    assert (refused.status_code, "The policy promises nothing yet" in refused.text) == (409, True)


def test_every_promise_stands_with_its_certificate_or_why_it_has_none(
    moderator: Member, held: dict[Side, UUID]
) -> None:
    page = moderator.get(PROMISES).text
    assert "2 of 4" in page
    assert ALLOWS in page
    assert f"{PROMISES}/{held[Side.ALLOW]}" in page
    assert page.count(">certified<") == 2
    assert page.count(">no certificate<") == 2
    assert "Certify now" not in page
    assert "2 of 4" in moderator.get("/console/").text
    policy = moderator.get("/console/policy").text
    assert "certified" in policy
    assert f"{PROMISES}/{held[Side.REMOVE]}" in policy


def test_a_certificate_names_what_it_was_proved_for(moderator: Member, held: dict[Side, UUID]) -> None:
    for side, identifier in held.items():
        page = moderator.get(f"{PROMISES}/{identifier}")
        assert page.status_code == 200
        assert "in force" in page.text
        assert 'class="plot curve"' in page.text
        assert "Let pass below" in page.text if side is Side.ALLOW else "Remove from" in page.text
        assert page.text.count('<tr class="here">') == 1
        assert "0" * 64 in page.text
        assert "Void this certificate" not in page.text
    assert moderator.get(f"{PROMISES}/{NOBODY}").status_code == 404


def test_whoever_may_publish_voids_a_certificate_at_once(
    lead: Member, moderator: Member, held: dict[Side, UUID], databases: Databases
) -> None:
    here = f"{PROMISES}/{held[Side.ALLOW]}"
    assert moderator.post(f"{here}/void").status_code == 403
    assert "Void this certificate" in lead.get(here).text
    assert lead.post(f"{here}/void").headers["location"] == f"{here}?said=voided"
    page = lead.get(here)
    assert "somebody voided it" in page.text
    assert "Void this certificate" not in page.text
    again = lead.post(f"{here}/void")
    assert (again.status_code, "ended already" in again.text) == (409, True)
    assert lead.post(f"{PROMISES}/{NOBODY}/void").status_code == 404
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        row = session.get_one(CertificateRow, held[Side.ALLOW])
        assert row.void_reason == Void.PERSON
        (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "certificate.voided"))
        assert event.actor == f"person:{lead.person_id}"
    assert "1 of 4" in lead.get(PROMISES).text
    assert moderator.get(f"/v1/certificates/{held[Side.ALLOW]}").json()["state"] == "voided"
    assert now < datetime.now(UTC)


def test_certifying_costs_one_of_the_quarters(
    lead: Member, moderator: Member, held: dict[Side, UUID], databases: Databases
) -> None:
    assert "certification 2 of 16" in lead.get(PROMISES).text
    assert moderator.post(PROMISES).status_code == 403
    # Nobody has checked anything here, so that nothing is proved; what was stays.
    assert lead.post(PROMISES).headers["location"] == f"{PROMISES}?said=nothing"
    with transaction(databases.content) as session:
        made = session.scalars(select(AuditEvent).where(AuditEvent.action == "certification.made")).all()
        assert [event.actor for event in made] == ["operator", f"person:{lead.person_id}"]
        live = session.scalars(select(CertificateRow.id).where(CertificateRow.voided_at.is_(None))).all()
    assert set(live) == set(held.values())


def test_whoever_certifies_or_voids_gives_a_second_factor(
    lead: Member, held: dict[Side, UUID], databases: Databases
) -> None:
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(minutes=16)))
    here = f"{PROMISES}/{held[Side.ALLOW]}"
    for address, back in ((PROMISES, PROMISES), (f"{here}/void", here)):
        answer = lead.post(address)
        assert answer.headers["location"] == f"/console/second-factor?next={back.replace('/', '%2F')}"


def test_the_api_lists_promises_and_shows_certificates(moderator: Member, held: dict[Side, UUID]) -> None:
    found = moderator.get("/v1/certificates").json()
    assert [(one["category"], one["side"], one["certified"]) for one in found] == [
        ("harassment", "remove", True), ("harassment", "allow", True), ("threat", "allow", False),
        ("spam", "remove", False),
    ]  # fmt: skip
    allow = found[1]
    assert (allow["promise"], allow["certificate"]) == (ALLOWS, str(held[Side.ALLOW]))
    assert allow["bound"] <= allow["allowed"]
    assert found[2]["why"]
    one = moderator.get(f"/v1/certificates/{held[Side.ALLOW]}").json()
    assert one["state"] == "in_force"
    assert one["models"][0]["manifest_sha256"]
    assert one["models"][0]["calibration_sha256"]
    assert [point["threshold"] for point in one["curve"]].count(one["threshold"]) == 1
    assert moderator.get(f"/v1/certificates/{NOBODY}").status_code == 404
    assert moderator.get("/v1/certificates/one").status_code == 422


# ---- what answers say -------------------------------------------------------------------------------------


def decided(
    client: TestClient, databases: Databases, policy: Policy, route: Route, certificates: list[UUID]
) -> dict[str, str]:
    """An item that a machine decided on these certificates, as its content service is told of it."""
    name = f"post-{uuid4()}"
    item = reviewing.decided(client, databases, policy, datetime.now(UTC), name, route, "harassment")
    with transaction(databases.content) as session:
        session.execute(update(Decision).where(Decision.item_id == item).values(certificates=certificates))
    answer: dict[str, str] = client.get(f"/v1/items/{item}").json()
    return answer


def test_an_item_and_its_decision_say_what_is_promised(
    client: TestClient, databases: Databases, policy: Policy, held: dict[Side, UUID], lead: Member
) -> None:
    removed = decided(client, databases, policy, Route.REMOVE, [held[Side.REMOVE]])
    assert removed["certificates"] == [str(held[Side.REMOVE])]
    sentence = "Removed under a certificate: at most 10 % of such removals are wrong."
    assert removed["promise"] == sentence
    listed = client.get("/v1/items").json()["items"]
    assert next(one for one in listed if one["id"] == removed["id"])["promise"] == sentence
    decision = client.get(f"/v1/decisions/{removed['decision_id']}").json()
    assert (decision["promise"], decision["certificates"]) == (sentence, removed["certificates"])
    for page in (
        f"/console/items/{removed['id']}",
        f"/console/governance/statements/{removed['decision_id']}",
    ):
        text = lead.get(page).text
        assert sentence in text, page
        assert f"{PROMISES}/{held[Side.REMOVE]}" in text, page


def test_without_a_certificate_an_answer_says_so(
    client: TestClient, databases: Databases, policy: Policy, held: dict[Side, UUID]
) -> None:
    for route in (Route.ALLOW, Route.LIMIT, Route.REMOVE):
        answer = decided(client, databases, policy, route, [])
        assert (answer["certificates"], answer["promise"]) == ([], promised.NONE)
    waits = decided(client, databases, policy, Route.REVIEW, [])
    assert not {"certificates", "promise"} & set(waits), "nobody has decided"
    assert held


def test_a_promise_ended_since_was_one_when_the_machine_decided(
    client: TestClient, databases: Databases, policy: Policy, held: dict[Side, UUID]
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        certification.void(session, list(held.values()), Void.RISK, audit.MACHINE, now)
    answer = decided(client, databases, policy, Route.ALLOW, [held[Side.ALLOW]])
    assert answer["promise"].startswith("Allowed under a certificate: of such items at most 2 % break")


def test_what_the_service_decides_under_a_certificate_is_told_with_it(
    client: TestClient, databases: Databases, settings: Settings, held: dict[Side, UUID]
) -> None:
    reviewing.endpoint(client, "item.decided")
    item = reviewing.submitted(client, "post-1")
    drain(settings)
    answer = client.get(f"/v1/items/{item}").json()
    assert (answer["verdict"], answer["certificates"]) == ("allow", [str(held[Side.ALLOW])])
    assert "at most 2 % break the rule on harassment. No promise on " in answer["promise"]
    with transaction(databases.content) as session:
        (told,) = session.scalars(select(Outbox).where(Outbox.event == "item.decided"))
        assert told.payload == {
            "item_id": str(item),
            "decision_id": answer["decision_id"],
            "verdict": "allow",
            "certificates": answer["certificates"],
        }


def made(route: Route, ids: list[UUID], *scored: str, by: str = "machine") -> Decision:
    findings = [{"category": name, "probability": 0.1} for name in scored]
    return Decision(route=route, decided_by=by, certificates=ids, findings=findings)


def test_the_sentence_of_each_kind_of_decision() -> None:
    ids = [uuid4() for _ in range(4)]
    categories = ("hate", "spam", "self_harm", "threat")
    held = {
        identifier: CertificateRow(id=identifier, category=category, side="allow", allowed=allowed)
        for identifier, category, allowed in zip(ids, categories, (0.005, 0.02, 0.02, 0.00125), strict=True)
    }
    said = promised.sentence(
        made(Route.ALLOW, ids[:3], "hate", "spam", "self_harm", "sexual", "threat"), held
    )
    assert said == (
        "Allowed under certificates: of such items at most 0.5 % break the rule on hate; at most 2 % break the "
        "rule on self harm and spam. No promise on sexual and threat."
    )
    assert promised.sentence(made(Route.ALLOW, ids[3:], "threat"), held) == (
        "Allowed under a certificate: of such items at most 0.125 % break the rule on threat."
    )
    assert promised.sentence(made(Route.REMOVE, [], "hate"), held) == promised.NONE
    assert promised.sentence(made(Route.REMOVE, [], "hate", by="person"), held) is None
    assert promised.sentence(made(Route.REVIEW, [], "hate"), held) is None
    assert views.promise(made(Route.LIMIT, [], by="person"), held) == {"certificates": None, "promise": None}
    assert promised.listed([f"c{number}" for number in range(6)]) == "c0, c1, c2 and 3 more"


def test_a_case_shows_its_scores_against_certified_thresholds(
    databases: Databases, held: dict[Side, UUID]
) -> None:
    now = datetime.now(UTC)
    findings = [
        {"category": name, "probability": 0.5, "part": "body", "detector": "text-minilm", "version": "2"}
        for name in ("harassment", "hate")
    ]
    detectors = [{"name": "text-minilm", "version": "2", "status": "ok"}]
    machine = Decision(findings=findings, detectors=detectors, slice="*")
    with transaction(databases.content) as session:
        policy = policies.PolicyCache().current(session, now)
        lines = {
            side: session.get_one(CertificateRow, identifier).threshold for side, identifier in held.items()
        }
        bars = {bar.category: bar for bar in score_bars.of(session, policy, machine, {}, now)}
    bands = policy.categories["hate"].bands
    assert (bars["hate"].allow_below, bars["hate"].remove_from) == (bands.allow_below, bands.remove_from)
    # Removing comes first: what is let pass ends where it begins.
    assert bars["harassment"].remove_from == lines[Side.REMOVE]
    assert bars["harassment"].allow_below == min(lines[Side.ALLOW], lines[Side.REMOVE])
