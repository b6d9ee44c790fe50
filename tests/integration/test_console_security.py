"""The console against people who mean harm, and against mistakes: what it must refuse, hide and keep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from sqlalchemy import select, update

from api.bodies import FORM_BYTES
from api.console import security
from api.console.routes.login import HOME, inside
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import CaseDraft, Judgement
from moderation.domain.errors import Conflict
from moderation.domain.routing import Route
from moderation.governance import invitations, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.review import opinions
from moderation.review.opinions import Given
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AuditEvent,
    Case,
    Decision,
    Exposure,
    Invitation,
    Opinion,
    PersonSession,
)
from moderation.storage.vault import Vault
from tests import hostile, people
from tests.caseload import Caseload
from tests.people import Member
from tests.support import image_part, post, text_part

TEXT = "Looking for a flat near the station from March on"


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def ada(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    """A moderator at the console."""
    with people.logged_in(settings, databases, vault, "moderator") as client:
        yield client


def stale(databases: Databases) -> None:
    """Have every second factor given an hour ago."""
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(hours=1)))


def form(page: Response) -> dict[str, str]:
    """The hidden fields of the decision's form."""
    assert page.status_code == 200, page.text
    body = page.text[page.text.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(number|form_key)" value="([^"]+)">', body))


def grave(load: Caseload, case: UUID) -> None:
    with transaction(load.engine) as session:
        session.execute(update(Case).where(Case.id == case).values(severity=5, category="threat"))


def events(databases: Databases, action: str) -> list[AuditEvent]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action)))


# ---- near-duplicates, decided together


def test_near_duplicates_are_decided_together_and_taken_back_together(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    first, second, third, fourth = load.alike(4)
    page = ada.get(f"/console/cases/{first}/cluster")
    assert page.text.count(TEXT) == 4
    assert page.text.count('name="member"') == 3
    sent = form(page) | {"verdict": "remove", "category": "spam", "member": [str(second), str(third)]}
    answer = ada.post(f"/console/cases/{first}/cluster", data=sent)
    assert answer.status_code == 303, answer.text
    with transaction(databases.content) as session:
        made = session.scalars(select(Decision).where(Decision.decided_by == "person")).all()
        assert {row.case_id for row in made} == {first, second, third}
        assert len({row.undo_id for row in made}) == 1
        assert len(session.scalars(select(Opinion)).all()) == 3
    onwards = ada.get(answer.headers["location"])
    assert "3 posts removed as spam." in onwards.text
    undo = re.search(r"/console/undo/[0-9a-f-]+", onwards.text)
    assert undo
    ada.post(undo[0])
    assert {load.case(case).state for case in (first, second, third, fourth)} == {"open"}


def test_each_of_a_cluster_is_revealed_and_each_reveal_is_on_the_record(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    first, second, third = load.alike(3)
    grave(load, first)
    grave(load, second)
    assert ada.get(f"/console/cases/{first}/cluster").text.count(TEXT) == 1
    ada.post(f"/console/cases/{first}/reveal")
    assert ada.get(f"/console/cases/{first}/cluster").text.count(TEXT) == 2
    answer = ada.post(f"/console/cases/{first}/cluster/reveal")
    assert answer.headers["location"] == f"/console/cases/{first}/cluster"
    assert ada.get(f"/console/cases/{first}/cluster").text.count(TEXT) == 3
    assert {event.subject_id for event in events(databases, "media.revealed")} == {
        str(case) for case in (first, second, third)
    }


def test_pictures_of_a_cluster_are_shown_as_each_is_revealed(
    ada: Member, load: Caseload, client: TestClient, databases: Databases, vault: Vault
) -> None:
    from moderation.features import sketch
    from moderation.review import clusters

    picture = hostile.saved(hostile.gradient(), "PNG")
    ids = []
    for name in ("p-1", "p-2"):
        answer = client.post("/v1/items", json=post(name, text_part(), image_part(picture)))
        ids.append(UUID(answer.json()["id"]))
    draft = CaseDraft(CaseReason.UNCERTAIN, "spam", 1, 0.6)
    first, second = load.routed(ids, Route.REVIEW, draft)
    with transaction(databases.content) as session:
        for item in ids:
            same = sketch.of_text(TEXT)
            clusters.store(session, clusters.rows(vault, item, [("body", same)]))
    here = f"/console/cases/{first}/cluster"
    assert ada.get(here).text.count("view=blurred") == 2
    ada.post(f"{here}/reveal")
    shown = ada.get(here).text
    assert "view=blurred" not in shown
    assert f"/console/media/{second}/1?view=grey" in shown
    assert ada.get(f"/console/media/{second}/1?view=grey").status_code == 200


def test_a_cluster_that_is_too_much_for_today_is_not_revealed_in_part(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    first = load.alike(3)[0]
    grave(load, first)
    with transaction(databases.content) as session:
        for _ in range(58):
            session.add(
                Exposure(
                    id=uuid4(), person_id=ada.person_id, case_id=uuid4(), kind="reveal", severity=5,
                    category="threat", at=datetime.now(UTC),
                )
            )  # fmt: skip
    refused = ada.post(f"/console/cases/{first}/cluster/reveal")
    assert refused.status_code == 429
    assert "which is the most" in refused.text
    assert events(databases, "media.revealed") == []


def test_what_two_people_decide_is_not_decided_in_bulk(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    first, second, third = load.alike(3)
    with transaction(databases.content) as session:
        session.execute(update(Case).where(Case.id == third).values(opinions_wanted=2))
    page = ada.get(f"/console/cases/{first}/cluster")
    assert str(third) not in page.text.split('id="decide"')[1]
    sent = form(page) | {"verdict": "remove", "category": "spam", "member": [str(second), str(third)]}
    refused = ada.post(f"/console/cases/{first}/cluster", data=sent)
    assert refused.status_code == 409
    assert "not to be decided by one person alone" in refused.text
    with transaction(databases.content) as session:
        assert session.scalars(select(Opinion)).all() == []


def test_a_rule_that_asks_for_two_people_is_not_applied_in_bulk(load: Caseload, ann: PersonPrincipal) -> None:
    first, second = load.alike(2)
    number = load.claim(ann, first).number
    two = replace(load.policy.categories["hate"], opinions=2)
    policy = replace(load.policy, categories={**load.policy.categories, "hate": two})
    given = Given(uuid4(), Judgement(Verdict.REMOVE, "hate"))
    with transaction(load.engine) as session, pytest.raises(Conflict) as refused:
        opinions.give_cluster(
            session, load.vault, policy, ann, first, number, [second], given, datetime.now(UTC)
        )
    assert refused.value.code == "not_alone"


def test_a_bulk_decision_asks_for_a_fresh_second_factor(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    first, second = load.alike(2)
    sent = form(ada.get(f"/console/cases/{first}/cluster"))
    sent |= {"verdict": "remove", "category": "spam", "member": str(second)}
    stale(databases)
    for address in (f"/console/cases/{first}/cluster", f"/console/cases/{first}/cluster/reveal"):
        answer = ada.post(address, data=sent)
        assert answer.headers["location"] == (
            f"/console/second-factor?next=%2Fconsole%2Fcases%2F{first}%2Fcluster"
        )
    with transaction(databases.content) as session:
        assert session.scalars(select(Opinion)).all() == []


# ---- what is grave, by the API as by the console


def test_the_api_keeps_back_what_is_grave_and_asks_for_a_fresh_second_factor(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting(category="threat", text=TEXT)
    url = f"/v1/review/cases/{case}"
    file = ada.get(url).json()
    assert (file["parts"][0]["text"], file["parts"][0]["kept_back"]) == ("", True)
    stale(databases)
    refused = ada.post(f"{url}/reveal")
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
    assert TEXT not in ada.get(url).text
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC)))
    assert ada.post(f"{url}/reveal").status_code == 204
    assert ada.get(url).json()["parts"][0]["text"] == TEXT


def test_the_page_of_an_item_shows_nothing_grave_without_a_reveal(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting(category="threat", text=TEXT)
    address = f"/console/items/{load.case(case).item_id}/content"
    stale(databases)
    answer = ada.get(address)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/second-factor?next=")
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC)))
    assert TEXT in ada.get(address).text
    assert [event.subject_id for event in events(databases, "media.revealed")] == [str(case)]


# ---- blind cases


def test_a_blind_case_is_not_known_by_its_company_nor_by_a_search(
    ada: Member, load: Caseload, databases: Databases
) -> None:
    case = load.checked(Route.REMOVE, CaseReason.AUDIT)
    row = load.case(case)
    page = ada.get(f"/console/cases/{case}")
    name = re.search(r"post-[0-9a-f-]{36}", page.text)
    assert name
    assert ada.get(f"/v1/review/cases/{case}/near-duplicates").json() == []
    for address in (
        f"/console/items?external_id={name[0]}",
        f"/console/items?item={row.item_id}",
        "/console/items?author=acct-1",
        "/console/items?verdict=remove",
        "/console/items",
        f"/console/authors/{row.author_id}",
    ):
        answer = ada.get(address)
        found = answer.text.split("<main", 1)[1]
        assert str(row.item_id) not in found.replace(f'value="{row.item_id}"', ""), address


def test_a_golden_case_of_somebody_else_is_not_there(
    ada: Member, load: Caseload, ann: PersonPrincipal, databases: Databases
) -> None:
    case = load.checked()
    with transaction(databases.content) as session:
        session.execute(
            update(Case)
            .where(Case.id == case)
            .values(kind="golden", reason="golden", reserved_for=ann.person_id)
        )
    late = {"number": 1, "form_key": str(uuid4()), "verdict": "allow"}
    assert ada.post(f"/v1/review/cases/{case}/opinions", json=late).status_code == 404
    for method, path in (
        ("GET", f"/v1/review/cases/{case}"),
        ("GET", f"/v1/review/cases/{case}/near-duplicates"),
        ("POST", f"/v1/review/cases/{case}/reveal"),
        ("GET", f"/console/cases/{case}"),
        ("GET", f"/console/media/{case}/0"),
        ("POST", f"/console/cases/{case}/reveal"),
        ("POST", f"/console/cases/{case}/notes"),
        ("POST", f"/console/cases/{case}/bank"),
        ("POST", f"/console/banks/spam/entries/{uuid4()}/not-the-same"),
    ):
        fields = {"note": "x", "bank": "spam", "position": "0", "case": str(case)}
        answer = ada.request(method, path, data=fields if method == "POST" else None)
        assert answer.status_code == 404, path


# ---- nothing that was written is lost


def test_what_was_written_survives_a_refusal(ada: Member, load: Caseload, bob: PersonPrincipal) -> None:
    load.now = datetime.now(UTC)
    (case,) = load.waiting()
    sent = form(ada.get(f"/console/cases/{case}")) | {"note": "my words", "category": "harassment"}
    banned = ada.post(f"/console/cases/{case}/decide", data=sent | {"verdict": "remove", "measure": "ban"})
    assert banned.status_code == 403
    assert "don&#39;t allow to ban" in banned.text
    assert "my words</textarea>" in banned.text
    ada.post(f"/console/cases/{case}/release", data=sent)
    load.claim(bob, case)
    for act in ("escalate", "hand-over"):
        lost = ada.post(f"/console/cases/{case}/{act}", data=sent | {"to": str(uuid4())})
        assert lost.status_code == 409, act
        assert "my words</textarea>" in lost.text
        assert "Somebody else has this case" in lost.text
    long = ada.post(f"/console/cases/{case}/notes", data={"note": "my words " * 300})
    assert long.status_code == 413
    assert "my words" in long.text


# ---- addresses to come back to


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/console/", "//evil.example/console/", "/\\evil.example", "/console/..//evil.example",
        "//[", "/console/\\evil", "javascript:alert(1)", "/console/\n", "", "console/", "/elsewhere",
    ],
)  # fmt: skip
def test_a_way_on_stays_inside(address: str) -> None:
    assert inside(address) == HOME


@pytest.mark.parametrize(
    ("sent", "page"),
    [
        ("/console/cases/{id}/reveal", "/console/cases/{id}"),
        ("/console/cases/{id}/cluster", "/console/cases/{id}/cluster"),
        ("/console/cases/{id}/cluster/reveal", "/console/cases/{id}/cluster"),
        ("/console/undo/{id}", "/console/queue"),
        ("/console/logout", "/console/"),
        ("/console/people/links/{id}/withdraw", "/console/people"),
        ("/console/people/{id}/reset", "/console/people/{id}"),
        ("/console/policy/publish", "/console/policy"),
        ("/console/account/passkeys/{id}/remove", "/console/account"),
        ("/console/keys/x/revoke", "/console/keys"),
        ("/console/banks/spam/entries", "/console/banks/spam"),
    ],
)
def test_whoever_has_to_log_in_first_comes_back_to_the_page_of_the_form(
    settings: Settings, sent: str, page: str
) -> None:
    one = uuid4()
    with people.browsing(settings) as browser:
        answer = browser.post(sent.format(id=one))
        wanted = page.format(id=one).replace("/", "%2F")
        assert answer.headers["location"] == f"/console/login?next={wanted}"


def test_a_post_to_the_console_itself_is_refused_like_any(settings: Settings) -> None:
    with people.browsing(settings) as browser:
        for path in ("/console", "/console/", "/console/nowhere"):
            answer = browser.post(path)
            assert answer.status_code in (404, 405), path
            assert answer.headers["content-security-policy"] == security.CONTENT_SECURITY_POLICY


def test_a_way_on_keeps_its_query(settings: Settings, databases: Databases, vault: Vault) -> None:
    account = people.new_account(databases, vault, "moderator")
    wanted = "/console/queue?queue=spam&language=en"
    with people.browsing(settings) as browser:
        browser.enter(account)
        with people.browsing(settings) as other:
            page = other.get(
                "/console/login", params={"next": wanted}, headers={"sec-fetch-site": "cross-site"}
            )
    assert "next=%2Fconsole%2Fqueue%3Fqueue%3Dspam%26language%3Den" in page.text


# ---- sizes and strange values


def test_a_form_has_a_size_and_so_has_everything_else(settings: Settings, ada: Member) -> None:
    large = "x" * (FORM_BYTES + 1)
    with people.browsing(settings) as browser:
        refused = browser.post("/console/login", data={"email": large})
        assert refused.status_code == 413
        assert "which is the most" in refused.text
        assert refused.headers["content-security-policy"] == security.CONTENT_SECURITY_POLICY
        program = browser.post("/v1/sessions", json={"email": large})
        assert (program.status_code, program.json()["code"]) == (413, "too_large")

        def chunks() -> Iterator[bytes]:
            yield from (b"email=" + b"x" * 65_536 for _ in range(20))

        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert browser.post("/console/login", content=chunks(), headers=kind).status_code == 413
    assert ada.post("/v1/review/next", content=large.encode()).status_code == 413


FAR = "99999999999999999999"


ADDRESSES = (
    "/console/queue?queue=%00",
    "/console/queue?queue=%ff",
    "/console/queue?after=x",
    "/console/next?reason=%00",
    "/console/queue?client=%00&stage=%00",
    "/console/queue?undo=x&said=x",
    f"/console/media/{uuid4()}/{FAR}",
    f"/console/cases/{uuid4()}?undo=%00&queue=%00",
    "/console/items?external_id=%00",
    "/console/items?author=%00",
    "/console/items?item=x",
    "/console/items?client=%00",
    "/console/items?from=9999-12-31&to=9999-12-31",
    "/console/items?to=9999-12-31",
    "/console/items?before=x",
    "/console/audit?actor=%00",
    "/console/audit?subject_id=%00",
    "/console/audit?action=%00",
    "/console/audit?to=9999-12-31",
    f"/console/policy/versions/{FAR}",
    f"/console/policy/versions/1?against={FAR}",
    f"/console/policy/edit?version={FAR}",
    "/console/policy/versions/-1",
    "/console/banks/%00",
    "/console/banks/nowhere?before=x&show=x",
    "/console/appeals?show=%00&after=x",
    "/console/quality?said=%00",
    f"/console/authors/{uuid4()}?before=x",
    "/console/people/links",
    "/console/people?said=%00",
    "/console/join/%00",
    "/console/login?next=//[",
    "/console/second-factor?next=//[",
    "/console/static/x/%00",
    "/console/oidc/callback?state=%00",
    f"/v1/review/cases?queue=a&after={uuid4()}&limit=1",
    "/v1/review/agreement?days=99999999",
)


def test_no_address_is_a_fault_of_ours(settings: Settings, databases: Databases, vault: Vault) -> None:
    with people.logged_in(settings, databases, vault, "lead", "admin", "auditor") as client:
        faults = [path for path in ADDRESSES if client.get(path).status_code >= 500]
    assert faults == []


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "/console/cases/{case}/decide",
        {"verdict": "remove", "category": "spam", "measure": "suspend", "until": "9999-12-31"},
    ),
    ("/console/cases/{case}/decide", {"verdict": "remove", "category": "\0", "clause": "\0"}),
    ("/console/cases/{case}/decide", {"verdict": "allow", "note": "a\0b"}),
    ("/console/cases/{case}/decide", {"verdict": "allow", "number": FAR}),
    ("/console/cases/{case}/heartbeat", {"number": FAR}),
    ("/console/cases/{case}/release", {"number": FAR}),
    ("/console/cases/{case}/skip", {"reason": "\0"}),
    ("/console/cases/{case}/notes", {"note": "a\0b"}),
    ("/console/cases/{case}/hand-over", {"to": str(uuid4())}),
    ("/console/cases/{case}/cluster", {"verdict": "remove", "category": "spam", "member": str(uuid4())}),
    ("/console/cases/{case}/bank", {"bank": "\0", "position": FAR}),
    ("/console/banks", {"name": "\0", "kind": "text", "category": "spam", "action": "review"}),
    ("/console/banks/nowhere/entries", {"text": "a\0", "note": "\0", "expires": "9999-12-31"}),
    ("/console/quality/sample", {"count": FAR, "days": FAR}),
    ("/console/quality/sample", {"count": "1", "days": "7", "route": "\0", "category": "\0", "clause": "\0"}),
    ("/console/policy/edit", {"document": "\0", "base": FAR}),
    ("/console/policy/publish", {"document": "a: [", "base": FAR}),
    ("/console/queue/filters", {"name": "\0", "query": "queue=%00"}),
    ("/console/queue/filters", {"name": "odd", "query": "queue=%00"}),
    ("/console/settings", {"theme": "\0", "languages": "\0"}),
    ("/console/people", {"email": "a\0@example.org", "roles": "moderator"}),
    ("/console/people", {"email": "new@example.org", "roles": "\0"}),
    ("/console/keys", {"client": "\0", "scopes": "items:read"}),
    ("/console/keys/%00/revoke", {}),
    ("/console/account/name", {"name": "\0"}),
    ("/console/account/passkeys", {"name": "\0", "credential": "[" * 19_000}),
    ("/console/second-factor", {"code": "\0"}),
    ("/console/second-factor", {"code": "١٢٣٤٥٦"}),
    ("/console/second-factor/passkey", {"credential": '{"id": 5}'}),
    ("/console/second-factor/passkey", {"credential": "[" * 19_000}),
)


def test_no_form_is_a_fault_of_ours(
    settings: Settings, load: Caseload, databases: Databases, vault: Vault
) -> None:
    account = people.new_account(databases, vault, "lead", "admin", "auditor")
    faults = []
    with people.browsing(settings) as browser:
        browser.enter(account)
        for path, fields in FORMS:
            (case,) = load.waiting()
            sent = form(browser.look(f"/console/cases/{case}")) | fields
            answer = browser.fill(path.format(case=case), **sent)
            assert "did not come from a page" not in answer.text, path
            if answer.status_code >= 500:
                faults.append((path, fields))
        browser.cookies.clear()
        browser.look("/console/login")
        odd = {"email": "a\0@example.org", "password": "\0", "again": "\0", "code": "\0"}
        for path in ("/console/login", "/console/join/" + "x" * 43, "/console/join/%00"):
            assert browser.fill(path, **odd).status_code < 500, path
    assert faults == []


def test_a_program_that_logs_in_with_nonsense_is_refused(settings: Settings) -> None:
    with people.browsing(settings) as browser:
        for odd in ("\\ud800", "\\u0000", "a" * 300):
            body = f'{{"email": "{odd}", "password": "{odd}", "code": "{odd}"}}'
            kind = {"content-type": "application/json"}
            assert browser.post("/v1/sessions", content=body, headers=kind).status_code < 500, odd


# ---- who logs in


def test_those_who_come_in_do_not_make_their_neighbours_wait(
    settings: Settings, databases: Databases, vault: Vault, now: datetime
) -> None:
    from moderation.governance import logins
    from moderation.governance.logins import Source

    account = people.new_account(databases, vault, "moderator")
    office = Source("192.0.2.7")
    for _ in range(logins.FREE_OF_SOURCE + 5):
        with transaction(databases.content) as session:
            candidate = logins.attempt(session, vault, account.email, office, now)
            logins.password_given(session, candidate, account.password, "tests", now)
    for number in range(logins.FREE_OF_SOURCE):
        with transaction(databases.content) as session:
            logins.attempt(session, vault, f"{number}@example.org", office, now)


def test_sessions_and_links_are_forgotten_a_month_after_their_end(
    databases: Databases, vault: Vault, now: datetime
) -> None:
    somebody = people.new_person(databases, vault, "moderator")
    with transaction(databases.content) as session:
        for days in (0, 29, 31):
            begun = now - timedelta(days=days)
            sessions.start(session, people.new_person(databases, vault), "tests", begun, confirmed=True)
            invitations.invite(session, vault, f"{days}@example.org", ["moderator"], begun, "operator")
    assert somebody
    later = now + timedelta(hours=12)
    with transaction(databases.content) as session:
        assert sessions.forget(session, later) == 1
        assert sessions.forget(session, later) == 0
        assert len(session.scalars(select(PersonSession)).all()) == 2
    later = now + timedelta(hours=48)
    with transaction(databases.content) as session:
        assert invitations.forget(session, later) == 1
        left = session.scalars(select(Invitation.expires_at)).all()
        assert sorted(moment.date() for moment in left) == sorted(
            (now - timedelta(days=days) + invitations.LASTS).date() for days in (0, 29)
        )


def test_nobody_without_roles_sees_a_thing(settings: Settings, databases: Databases, vault: Vault) -> None:
    with people.logged_in(settings, databases, vault) as client:
        for path in ("/console/", "/console/queue", "/console/people", "/console/audit", "/console/items"):
            assert client.get(path).status_code == 403, path
