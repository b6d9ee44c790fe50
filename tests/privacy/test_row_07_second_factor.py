"""Row 7: nobody is in without a second factor, and what is grave asks for it again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.app import create_app
from moderation.domain.access import Permission
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.routing import Route
from moderation.governance import invitations, secondfactor
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import PersonSession
from moderation.storage.vault import Vault
from tests import people
from tests.caseload import Caseload
from tests.integration.test_role_matrix import checks
from tests.people import Account, browsing
from tests.unit.test_architecture import walk

GOOD = "correct horse battery staple 7"
# Whoever holds one of these acts for others, or takes something out: never on a second factor of this morning.
GRAVE = {
    Permission.HOLD_APPROVE,
    Permission.EVIDENCE_READ,
    Permission.ERASURE_RUN,
    Permission.REPORT_SIGN,
    Permission.PEOPLE_MANAGE,
    Permission.PARTNER_MANAGE,
    Permission.MINOR_DECIDE,
    Permission.SUBJECT_HANDLE,
}
# A list of what could be seen, without any of it.
LISTS = {"/console/governance/evidence"}


@pytest.fixture
def account(databases: Databases, vault: Vault) -> Account:
    return people.new_account(databases, vault, "moderator", "lead")


def test_a_password_alone_opens_nothing(settings: Settings, account: Account, databases: Databases) -> None:
    with browsing(settings) as browser:
        browser.look("/console/login")
        browser.fill("/console/login", email=account.email, password=account.password)
        half = browser.cookies["moderation_dev"]
        for page in ("/console/", "/console/queue", "/console/account", "/console/governance"):
            assert (
                browser.get(page).headers["location"].startswith(("/console/login", "/console/second-factor"))
            )
    with TestClient(create_app(settings)) as client:
        bearer = {"Authorization": f"Bearer {half}"}
        assert client.get("/v1/sessions/current", headers=bearer).status_code == 401
        asked = {"email": account.email, "password": account.password}
        assert client.post("/v1/sessions", json=asked).status_code == 422, "a code belongs to it"
        assert client.post("/v1/sessions", json=asked | {"code": "000000"}).status_code == 401
    with transaction(databases.content) as session:
        assert set(session.scalars(select(PersonSession.confirmed_at))) == {None}


def test_a_code_used_twice_is_refused_by_every_door(settings: Settings, account: Account) -> None:
    code = pyotp.TOTP(account.secret).now()
    asked = {"email": account.email, "password": account.password, "code": code}
    with TestClient(create_app(settings)) as client:
        assert client.post("/v1/sessions", json=asked).status_code == 201
        assert client.post("/v1/sessions", json=asked).status_code == 401
    with browsing(settings) as browser:
        browser.look("/console/login")
        browser.fill("/console/login", email=account.email, password=account.password)
        browser.look("/console/second-factor")
        assert browser.fill("/console/second-factor", code=code).status_code == 401


def test_a_reset_does_not_go_round_it(
    settings: Settings, account: Account, databases: Databases, vault: Vault
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        codes = secondfactor.issue_recovery_codes(session, vault, account.id, now)
        link = invitations.reset(session, vault, account.id, now, "operator")
    with browsing(settings) as browser:
        page = browser.look(f"/console/join/{link}")
        form = {"password": GOOD, "again": GOOD}
        assert browser.fill(f"/console/join/{link}", **form, code="000000").status_code in (401, 422)
        assert browser.fill(f"/console/join/{link}", **form, code=codes[0]).status_code in (401, 422)
        old = pyotp.TOTP(account.secret).now()
        assert browser.fill(f"/console/join/{link}", **form, code=old).status_code in (401, 422)
        offered = re.search(r"\b[A-Z2-7]{32}\b", page.text)
        assert offered is not None, "a reset sets up another one"
        assert offered[0] != account.secret
        code = pyotp.TOTP(offered[0]).now()
        assert browser.fill(f"/console/join/{link}", **form, code=code).status_code == 200
        browser.look("/console/login")
        browser.fill("/console/login", email=account.email, password=GOOD)
        assert browser.get("/console/queue").status_code == 303, "and that one is asked for"


def test_a_link_for_a_password_asks_for_it(
    settings: Settings, account: Account, databases: Databases, vault: Vault
) -> None:
    with transaction(databases.content) as session:
        link = invitations.new_password(session, vault, account.id, datetime.now(UTC), "operator")
    with browsing(settings) as browser:
        browser.look(f"/console/join/{link}")
        form = {"password": GOOD, "again": GOOD}
        assert browser.fill(f"/console/join/{link}", **form, code="000000").status_code == 401
        assert browser.fill(f"/console/join/{link}", **form, code=account.code()).status_code == 303


def stale(databases: Databases) -> None:
    """Have every second factor given an hour ago."""
    with transaction(databases.content) as session:
        session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC) - timedelta(hours=1)))


def test_what_is_severe_is_revealed_after_the_second_factor_only(
    settings: Settings, databases: Databases, vault: Vault, load: Caseload
) -> None:
    load.now = datetime.now(UTC)
    gravest = CaseDraft(CaseReason.UNCERTAIN, "sexual_minors", 5, 0.6)
    (case,) = load.routed(load.items(), Route.REVIEW, gravest, "sexual_minors")
    item = load.case(case).item_id
    with people.logged_in(settings, databases, vault, "moderator") as moderator:
        stale(databases)
        asked = moderator.post(f"/console/cases/{case}/reveal")
        assert asked.headers["location"].startswith("/console/second-factor?next=")
        assert moderator.post(f"/v1/review/cases/{case}/reveal").status_code == 403
        shown = moderator.get(f"/console/items/{item}/content")
        assert shown.headers["location"].startswith("/console/second-factor?next=")
        with transaction(databases.content) as session:
            session.execute(update(PersonSession).values(confirmed_at=datetime.now(UTC)))
        assert moderator.post(f"/console/cases/{case}/reveal").headers["location"] == f"/console/cases/{case}"


def test_exports_evidence_and_acts_for_others_ask_for_it_anew(settings: Settings) -> None:
    found = 0
    for route in walk(create_app(settings).routes):
        if not isinstance(route, APIRoute) or route.path in LISTS:
            continue
        asked = list(checks(route.dependant))
        acts = route.methods - {"GET", "HEAD"} or "download" in route.path or "export" in route.path
        if (
            asked
            and asked[0].permission in GRAVE
            and (acts or asked[0].permission is Permission.EVIDENCE_READ)
        ):
            found += 1
            assert any(check.fresh for check in asked), f"{route.methods} {route.path}"
        if asked and route.path.endswith(("/export", "/proof/{identifier}")):
            assert any(check.fresh for check in asked), f"{route.methods} {route.path}"
    assert found > 15
