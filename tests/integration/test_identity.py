"""How people come in, stay in and are kept out: the door of the console and of the review API."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyotp
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from sqlalchemy import select, update
from webauthn.helpers import encode_cbor
from webauthn.helpers.bytes_to_base64url import bytes_to_base64url

from api.app import create_app
from moderation import cli
from moderation.domain.access import Permission
from moderation.domain.errors import (
    Conflict,
    Gone,
    InvalidInput,
    StepUpRequired,
    TooManyRequests,
    Unauthenticated,
)
from moderation.governance import invitations, logins, passwords, people, secondfactor, sessions
from moderation.governance.logins import Source
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, LoginFailures, Passkey, Person, PersonSession
from moderation.storage.vault import Vault
from tests.people import (
    Account,
    Browser,
    browsing,
    logged_in,
    new_account,
    new_person,
    new_session,
    principal,
)

GOOD = "lantern orbit quarry mosaic"


@pytest.fixture
def browser(settings: Settings) -> Iterator[Browser]:
    with browsing(settings) as browser:
        yield browser


@pytest.fixture
def account(databases: Databases, vault: Vault) -> Account:
    return new_account(databases, vault, "moderator")


def actions(databases: Databases) -> list[str]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))


# --- sessions ---


def test_a_session_is_of_a_person_and_carries_what_their_roles_carry(
    databases: Databases, vault: Vault
) -> None:
    who = principal(databases, vault, "auditor", "trainer")
    assert who.roles == {"auditor", "trainer"}
    assert {Permission.AUDIT_READ, Permission.LABEL_EXPORT} <= who.permissions
    assert Permission.CASE_READ not in who.permissions


def test_a_session_ends_by_itself(databases: Databases, vault: Vault) -> None:
    now = datetime.now(UTC)
    token = new_session(databases, new_person(databases, vault, "moderator"))

    def good_at(moment: datetime) -> bool:
        with transaction(databases.content) as session:
            try:
                sessions.authenticate(session, vault, token, moment)
            except Unauthenticated:
                return False
            return True

    assert not good_at(now + timedelta(minutes=61))  # idle, and not noted as used by having been refused
    for minutes in range(0, 720, 55):
        assert good_at(now + timedelta(minutes=minutes))
    assert not good_at(now + timedelta(hours=12, seconds=1))


def test_the_database_holds_no_token(databases: Databases, vault: Vault) -> None:
    token = new_session(databases, new_person(databases, vault, "moderator"))
    with transaction(databases.content) as session:
        row = session.scalars(select(PersonSession)).one()
    assert token.startswith("ms_")
    assert token[3:].encode() not in row.digest
    assert len(row.digest) == 32


def test_a_fresh_second_factor_is_one_of_the_last_quarter_of_an_hour(
    databases: Databases, vault: Vault
) -> None:
    who = principal(databases, vault, "moderator")
    assert who.confirmed_at is not None
    sessions.require_fresh(who, who.confirmed_at + timedelta(minutes=15))
    with pytest.raises(StepUpRequired):
        sessions.require_fresh(who, who.confirmed_at + timedelta(minutes=15, seconds=1))
    with pytest.raises(StepUpRequired):
        sessions.require_fresh(replace(who, confirmed_at=None), datetime.now(UTC))


# --- the door of the console ---


def test_both_factors_let_in(browser: Browser, account: Account, databases: Databases) -> None:
    assert browser.get("/console/account").headers["location"].startswith("/console/login?next=%2Fconsole")
    browser.look("/console/login?next=/console/account")
    answer = browser.fill(
        "/console/login", email=" Mod@Example.ORG ", password=account.password, next="/console/account"
    )
    assert answer.status_code == 303
    before = browser.cookies["moderation_dev"]
    assert browser.get("/console/account").status_code == 303, "the password alone opens nothing"
    browser.look(answer.headers["location"])
    answer = browser.fill("/console/second-factor", code=account.code(), next="/console/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/account")
    assert browser.cookies["moderation_dev"] != before, "the token is another once the second factor is given"
    page = browser.look("/console/account")
    assert page.status_code == 200
    assert account.email in page.text
    assert actions(databases)[-1] == "person.logged_in"


@pytest.mark.parametrize("wrong", ["email", "password"])
def test_what_is_wrong_is_not_said(
    browser: Browser, account: Account, databases: Databases, wrong: str
) -> None:
    browser.look("/console/login")
    given = {"email": account.email, "password": account.password, wrong: "nobody@example.org"}
    answer = browser.fill("/console/login", **given)
    assert answer.status_code == 401
    assert logins.WRONG in answer.text
    with transaction(databases.content) as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.action, event.actor, event.subject_id) == ("login.failed", "machine", "unknown")


def test_a_code_works_once(browser: Browser, account: Account, settings: Settings) -> None:
    code = pyotp.TOTP(account.secret).now()
    for attempt in (303, 401):
        with browsing(settings) as another:
            another.look("/console/login")
            another.fill("/console/login", email=account.email, password=account.password)
            another.look("/console/second-factor")
            assert another.fill("/console/second-factor", code=code).status_code == attempt


def test_a_recovery_code_works_once_and_however_it_is_written(
    account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    with transaction(databases.content) as session:
        codes = secondfactor.issue_recovery_codes(session, vault, account.id, now)
        assert len(set(codes)) == 10
        written = codes[0].replace("-", " ").lower().replace("0", "o").replace("1", "l")
        assert secondfactor.check_code(session, vault, account.id, written, now)
        assert not secondfactor.check_code(session, vault, account.id, codes[0], now)
        assert secondfactor.recovery_codes_left(session, account.id) == 9
        other = new_person(databases, vault, "moderator")
        assert not secondfactor.check_code(session, vault, other, codes[1], now)


def test_a_form_from_elsewhere_logs_nobody_in(browser: Browser, account: Account) -> None:
    browser.look("/console/login")
    given = {"email": account.email, "password": account.password}
    assert browser.post("/console/login", data=given).status_code == 403
    assert browser.fill("/console/login", {"Sec-Fetch-Site": "cross-site"}, **given).status_code == 403
    assert browser.fill("/console/login", {"Origin": "https://evil.example"}, **given).status_code == 403
    browser.cookies.clear()
    assert browser.fill("/console/login", **given).status_code == 403, "the token is of another visit"


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/", "//evil.example/console/", "/\\evil.example", "/console/../..//evil.example",
     "javascript:alert(1)", "/console//evil.example", "/elsewhere", "/console/\x0d\x0aSet-Cookie: a=b"],
)  # fmt: skip
def test_a_log_in_leads_to_no_other_site(browser: Browser, account: Account, address: str) -> None:
    browser.look("/console/login")
    browser.fill("/console/login", email=account.email, password=account.password)
    browser.look("/console/second-factor")
    answer = browser.fill("/console/second-factor", code=account.code(), next=address)
    assert answer.headers["location"] == "/console/"


def test_logging_out_ends_the_session(browser: Browser, account: Account, databases: Databases) -> None:
    browser.enter(account)
    token = browser.cookies["moderation_dev"]
    browser.look("/console/account")
    assert browser.fill("/console/logout").headers["location"] == "/console/login"
    browser.cookies.set("moderation_dev", token)
    assert browser.get("/console/account").status_code == 303
    assert actions(databases)[-1] == "session.revoked"


def test_cookies_are_for_this_host_and_tls_only(settings: Settings, account: Account) -> None:
    strict = replace(settings, insecure_dev=False)
    with TestClient(create_app(strict), base_url="https://console.example", follow_redirects=False) as client:
        page = client.get("/console/login")
        cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-moderation_visit=")
    for word in ("HttpOnly", "Path=/", "SameSite=strict", "Secure"):
        assert word in cookie
    assert "Domain" not in cookie
    with TestClient(create_app(strict), base_url="http://localhost", client=("127.0.0.1", 1)) as client:
        assert client.get("/console/login").headers["set-cookie"].startswith("moderation_visit_dev=")
    with TestClient(create_app(strict), base_url="http://console.example", client=("127.0.0.1", 1)) as client:
        assert client.get("/console/login").headers["set-cookie"].startswith("__Host-")


def test_a_link_from_elsewhere_finds_the_session_again(browser: Browser, account: Account) -> None:
    # A strict cookie is not sent along by the browser, but it is by the page in between.
    page = browser.look("/console/login?next=/console/account", **{"Sec-Fetch-Site": "cross-site"})
    assert 'http-equiv="refresh" content="0;url=/console/login?next=%2Fconsole%2Faccount"' in page.text
    browser.enter(account)
    assert browser.get("/console/login?next=/console/account").headers["location"] == "/console/account"


# --- guessing ---


def guess(databases: Databases, vault: Vault, email: str, source: Source, now: datetime) -> bool:
    """Whether an attempt was judged at all."""
    with transaction(databases.content) as session:
        try:
            logins.attempt(session, vault, email, source, now)
        except TooManyRequests:
            return False
        return True


def test_guessing_gets_slower_and_slower(databases: Databases, vault: Vault, now: datetime) -> None:
    here, moment, waits = Source("203.0.113.7"), now, []
    for _ in range(17):
        with transaction(databases.content) as session:
            try:
                logins.attempt(session, vault, "mod@example.org", here, moment)
            except TooManyRequests as refusal:
                waits.append(round(refusal.retry_after))
                moment += timedelta(seconds=refusal.retry_after)
                logins.attempt(session, vault, "mod@example.org", here, moment)
    # Five at once, at last one in a quarter of an hour.
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_strangers_do_not_lock_out_the_owner(
    settings: Settings, account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    with browsing(settings, "203.0.113.7") as browser:
        browser.enter(account)
        device = browser.cookies["moderation_device_dev"]
        for number in range(20):
            guess(databases, vault, account.email, Source(f"198.51.100.{number % 2}"), now)
            guess(databases, vault, account.email, Source("203.0.113.7"), now)
        assert not guess(databases, vault, account.email, Source("203.0.113.7"), now)
        # The owner's browser is known here, and another address was never heard of.
        assert guess(databases, vault, account.email, Source("203.0.113.7", device), now)
        assert guess(databases, vault, account.email, Source("203.0.113.200"), now)
        browser.cookies.delete("moderation_dev")
        assert browser.enter(account).status_code == 303


def test_a_device_cookie_is_of_one_account_and_can_not_be_made(
    account: Account, databases: Databases, vault: Vault
) -> None:
    with transaction(databases.content) as session:
        mine = session.get_one(Person, account.id).email_digest
    cookie = logins.new_device(vault, mine)
    assert logins.device_of(vault, mine, cookie)
    assert not logins.device_of(vault, people.email_digest(vault, "other@example.org"), cookie)
    assert not logins.device_of(vault, mine, "0" * 96)
    assert not logins.device_of(vault, mine, "ü" * 96)
    assert not logins.device_of(vault, mine, None)


def test_a_known_browser_does_not_guess_for_free(
    account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    with transaction(databases.content) as session:
        mine = logins.new_device(vault, session.get_one(Person, account.id).email_digest)
    judged = [guess(databases, vault, account.email, Source("203.0.113.7", mine), now) for _ in range(20)]
    assert sum(judged) == 5


def test_one_source_does_not_try_every_account(databases: Databases, vault: Vault, now: datetime) -> None:
    tried = [
        guess(databases, vault, f"person{number}@example.org", Source(f"2001:db8::{number:x}"), now)
        for number in range(80)
    ]
    assert sum(tried) == 50
    assert guess(databases, vault, "person1@example.org", Source("2001:db8:1::1"), now)


def test_codes_are_guessed_as_slowly_from_everywhere(
    account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    judged = 0
    for number in range(50):
        with transaction(databases.content) as session:
            try:
                logins.attempt_factor(session, vault, account.id, Source(f"198.51.100.{number}"), now)
                judged += 1
            except TooManyRequests:
                continue
    assert judged == 5


def test_waiting_is_said_on_the_page(browser: Browser, account: Account) -> None:
    browser.look("/console/login")
    for _ in range(5):
        browser.fill("/console/login", email=account.email, password="not this one")
    answer = browser.fill("/console/login", email=account.email, password=account.password)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "Too many failed attempts from here" in answer.text


def test_counters_hold_no_names_and_are_forgotten(
    account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    guess(databases, vault, "somebody@example.org", Source("203.0.113.7"), now)
    with transaction(databases.content) as session:
        logins.forget(session, b"", now + timedelta(hours=25))
        assert session.scalars(select(LoginFailures)).all() == []


# --- passwords ---


@pytest.mark.parametrize(
    "password",
    ["short", "x" * 201, "aaaaaaaaaaaaaaaa", "password1234", "Moderation-Moderation", "mod@example.org12"],
)
def test_a_password_that_would_be_guessed_is_refused(password: str) -> None:
    with pytest.raises(InvalidInput):
        passwords.check_good(password, "mod@example.org")
    passwords.check_good(GOOD, "mod@example.org")


def test_an_old_hash_is_made_anew_at_the_next_log_in(
    browser: Browser, account: Account, databases: Databases
) -> None:
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=8192).hash(account.password)
    with transaction(databases.content) as session:
        session.get_one(Person, account.id).password_hash = weak
    browser.enter(account)
    with transaction(databases.content) as session:
        fresh = session.get_one(Person, account.id).password_hash
    assert fresh != weak
    assert not passwords.outdated(fresh)
    assert passwords.matches(fresh, account.password)


# --- the review API ---


def test_a_program_logs_in_with_password_and_code(settings: Settings, account: Account) -> None:
    with TestClient(create_app(settings)) as client:
        given = {"email": account.email, "password": account.password}
        code = account.code()
        refused = [
            client.post("/v1/sessions", json=given | {"code": "000000"}),
            client.post("/v1/sessions", json=given | {"code": code, "password": "wrong"}),
            client.post("/v1/sessions", json=given | {"code": code, "email": "a@example.org"}),
        ]
        assert {answer.status_code for answer in refused} == {401}
        assert len({answer.text for answer in refused}) == 1, "nothing tells which of them was wrong"
        answer = client.post("/v1/sessions", json=given | {"code": code})
        assert answer.status_code == 201
        client.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        assert client.get("/v1/sessions/current").json()["roles"] == ["moderator"]
        assert client.delete("/v1/sessions/current").status_code == 204
        assert client.get("/v1/sessions/current").status_code == 401


# --- links ---


def link_of(page: Any) -> str:
    """The path of the link that a page shows."""
    return "/console/join/" + page.text.split("/console/join/")[1].split('"')[0]


def secret_of(page: Any) -> str:
    return str(page.text.split('<code class="break">')[1].split("<")[0])


def test_an_invitation_makes_a_person_who_can_log_in(
    settings: Settings, browser: Browser, databases: Databases, vault: Vault
) -> None:
    with browsing(settings) as admin:
        admin.enter(new_account(databases, vault, "admin", email="admin@example.org"))
        admin.look("/console/people")
        made = admin.fill("/console/people", email="new@example.org", roles=["moderator", "trainer"])
        link = link_of(made)
        assert "new@example.org" in admin.look("/console/people").text
    page = browser.look(link)
    secret = secret_of(page)
    assert "<svg" in page.text
    assert secret_of(browser.look(link)) == secret, "loading it again must not spoil what was scanned"
    code = pyotp.TOTP(secret).now()
    form = {"password": GOOD, "again": GOOD, "code": code}
    assert browser.fill(link, **form | {"again": "another one"}).status_code == 401
    assert browser.fill(link, **form | {"password": "short", "again": "short"}).status_code == 422
    assert browser.fill(link, **form | {"code": "000000"}).status_code == 422
    done = browser.fill(link, **form)
    assert done.status_code == 200
    assert done.text.count("<li>") == 10
    assert browser.look("/console/account").status_code == 200
    assert browser.get(link).status_code == 410
    with browsing(settings) as again:
        new = Account(UUID(int=0), "new@example.org", GOOD, secret, steps=0)
        assert again.enter(new).status_code == 303


def test_a_link_ends_after_two_days_and_when_it_is_withdrawn(
    databases: Databases, vault: Vault, now: datetime
) -> None:
    with transaction(databases.content) as session:
        token = invitations.invite(session, vault, "new@example.org", ["moderator"], now, "operator")
        assert invitations.read(session, vault, token, now + timedelta(hours=47)).email == "new@example.org"
        with pytest.raises(Gone):
            invitations.read(session, vault, token, now + timedelta(hours=48))
        waiting = invitations.pending(session, vault, now)
        invitations.withdraw(session, waiting[0].id, now, "operator")
        with pytest.raises(Gone):
            invitations.read(session, vault, token, now)
        with pytest.raises(Gone):
            invitations.read(session, vault, "x" * 43, now)


def test_a_new_password_asks_for_the_second_factor(
    settings: Settings, browser: Browser, account: Account, databases: Databases, vault: Vault
) -> None:
    with transaction(databases.content) as session:
        token = invitations.new_password(session, vault, account.id, datetime.now(UTC), "operator")
    old_session = new_session(databases, account.id)
    link = f"/console/join/{token}"
    page = browser.look(link)
    assert account.secret not in page.text
    form = {"password": GOOD, "again": GOOD}
    assert browser.fill(link, **form, code="000000").status_code == 401
    assert browser.fill(link, **form, code=account.code()).headers["location"] == "/console/login"
    account.password = GOOD
    assert browser.enter(account).status_code == 303
    assert browser.get(link).status_code == 410
    with TestClient(create_app(settings), headers={"Authorization": f"Bearer {old_session}"}) as client:
        assert client.get("/v1/sessions/current").status_code == 401


def test_a_reset_takes_everything_away_at_once(
    account: Account, databases: Databases, vault: Vault, now: datetime
) -> None:
    token = new_session(databases, account.id)
    with transaction(databases.content) as session:
        codes = secondfactor.issue_recovery_codes(session, vault, account.id, now)
        invitations.reset(session, vault, account.id, now, "operator")
    with transaction(databases.content) as session:
        person = session.get_one(Person, account.id)
        assert not passwords.matches(person.password_hash, account.password)
        assert person.totp_secret is None
        assert not secondfactor.check_code(session, vault, account.id, codes[0], now)
        with pytest.raises(Unauthenticated):
            sessions.authenticate(session, vault, token, datetime.now(UTC))
        # Only the one link is left, and a link for a password alone would go round the second factor.
        with pytest.raises(Conflict):
            invitations.new_password(session, vault, account.id, now, "operator")


def test_a_link_for_a_password_does_not_set_up_a_second_factor(
    account: Account, databases: Databases, vault: Vault
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        token = invitations.new_password(session, vault, account.id, now, "operator")
        offered = pyotp.TOTP(invitations.offered_secret(vault, token)).at(now)
        with pytest.raises(InvalidInput):
            invitations.accept(session, vault, token, GOOD, offered, now)


# --- who may be what ---


def test_changing_roles_and_disabling_end_every_session_at_once(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    for act in ("roles", "disable"):
        who = new_person(databases, vault, "moderator")
        bearer = {"Authorization": f"Bearer {new_session(databases, who)}"}
        with logged_in(settings, databases, vault, "admin") as admin:
            assert admin.get("/v1/sessions/current", headers=bearer).status_code == 200
            assert admin.post(f"/console/people/{who}/{act}", data={"roles": "auditor"}).status_code == 303
            assert admin.get("/v1/sessions/current", headers=bearer).status_code == 401


def test_nobody_raises_themselves_and_one_administrator_stays(
    settings: Settings, databases: Databases, vault: Vault, now: datetime
) -> None:
    with logged_in(settings, databases, vault, "admin") as admin:
        for act, fields in (("roles", {"roles": ["admin", "lead"]}), ("disable", {}), ("reset", {})):
            answer = admin.post(f"/console/people/{admin.person_id}/{act}", data=fields)
            assert answer.status_code == 403, act
        with transaction(databases.content) as session:
            for act in (
                lambda: people.disable(session, admin.person_id, now, "operator"),
                lambda: people.change_roles(session, admin.person_id, ["lead"], now, "operator"),
            ):
                with pytest.raises(Conflict, match="no administrator left"):
                    act()
        new_person(databases, vault, "admin")
        with transaction(databases.content) as session:
            people.change_roles(session, admin.person_id, ["lead"], now, "operator")


def test_sessions_are_listed_and_ended_by_their_owner_only(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    with logged_in(settings, databases, vault, "moderator") as me:
        other = new_session(databases, new_person(databases, vault, "moderator"))
        mine = new_session(databases, me.person_id)
        with transaction(databases.content) as session:
            rows = sessions.listing(session, me.person_id, datetime.now(UTC))
            theirs = sessions.authenticate(session, vault, other, datetime.now(UTC))
        assert len(rows) == 2
        assert me.post(f"/console/account/sessions/{theirs.session_id}/end").status_code == 404
        assert me.post("/console/account/sessions/end-others").status_code == 303
        assert me.get("/v1/sessions/current").status_code == 200
        for token, status in ((other, 200), (mine, 401)):
            answer = me.get("/v1/sessions/current", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == status


def test_keys_are_made_and_revoked_on_their_page(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    with logged_in(settings, databases, vault, "admin") as admin:
        page = admin.post("/console/keys", data={"client": "forum", "scopes": ["items:read"]})
        key = page.text.split('value="mk_')[1].split('"')[0]
        assert "mk_" + key not in admin.get("/console/keys").text
        assert admin.post("/console/keys", data={"client": "No Such"}).status_code == 422
        assert admin.post(f"/console/keys/{key[:16]}/revoke").status_code == 303
        assert admin.post(f"/console/keys/{key[:16]}/revoke").status_code == 404


def test_the_password_is_changed_by_who_knows_it(
    browser: Browser, account: Account, databases: Databases
) -> None:
    browser.enter(account)
    elsewhere = new_session(databases, account.id)
    browser.look("/console/account")
    form = {"password": GOOD, "again": GOOD}
    assert browser.fill("/console/account/password", old="wrong", **form).status_code == 401
    answer = browser.fill("/console/account/password", old=account.password, **form)
    assert answer.headers["location"] == "/console/account?said=password"
    assert browser.get("/console/account").status_code == 200
    with transaction(databases.content) as session, pytest.raises(Unauthenticated):
        sessions.half(session, elsewhere, datetime.now(UTC))


def test_every_page_of_people_and_accounts_is_drawn(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    other = new_person(databases, vault, "moderator")
    with logged_in(settings, databases, vault, "admin") as admin:
        paths = ["account", "account/totp", "account/passkeys/new", "people", f"people/{other}", "keys"]
        for path in [*paths, f"people/{admin.person_id}"]:
            page = admin.get(f"/console/{path}")
            assert page.status_code == 200, path
            assert "<style" not in page.text
            assert " style=" not in page.text
            assert not re.search(r"<script(?![^>]* src=)", page.text), path
        assert "Reset the log-in" in admin.get(f"/console/people/{other}").text
        assert "Reset the log-in" not in admin.get(f"/console/people/{admin.person_id}").text
        assert admin.post("/console/account/recovery-codes").text.count("<li>") == 10
        assert "/console/join/" in admin.post(f"/console/people/{other}/reset").text
    with logged_in(settings, databases, vault, "lead") as lead:
        assert "Invite somebody" not in lead.get("/console/people").text


def test_the_last_second_factor_stays(account: Account, databases: Databases, now: datetime) -> None:
    with transaction(databases.content) as session, pytest.raises(Conflict, match="only second factor"):
        secondfactor.remove_totp(session, account.id, now)


# --- passkeys ---


class Authenticator:
    """A security key made of software: one key pair, a counter, and honest answers to what a page asks."""

    def __init__(self, origin: str = "http://testserver") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.origin, self.id, self.count = origin, os.urandom(16), 0

    def make(self, options: dict[str, Any]) -> str:
        """What `navigator.credentials.create` answers."""
        numbers = self.key.public_key().public_numbers()
        point = {-2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        public = encode_cbor({1: 2, 3: -7, -1: 1} | point)
        described = bytes(16) + len(self.id).to_bytes(2, "big") + self.id + public
        data = self._data(options["rp"]["id"], 0x45) + described
        attested = encode_cbor({"fmt": "none", "attStmt": {}, "authData": data})
        return self._answer(
            attestationObject=attested, clientDataJSON=self._client("webauthn.create", options)
        )

    def sign(self, options: dict[str, Any]) -> str:
        """What `navigator.credentials.get` answers."""
        self.count += 1
        data, client = self._data(options["rpId"], 0x05), self._client("webauthn.get", options)
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(authenticatorData=data, clientDataJSON=client, signature=signature)

    def _data(self, party: str, flags: int) -> bytes:
        return hashlib.sha256(party.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def _client(self, kind: str, options: dict[str, Any]) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": self.origin}
        return json.dumps(said).encode()

    def _answer(self, **response: bytes) -> str:
        written = {name: bytes_to_base64url(value) for name, value in response.items()}
        named = bytes_to_base64url(self.id)
        return json.dumps({"id": named, "rawId": named, "type": "public-key", "response": written})


def options_of(page: Any) -> dict[str, Any]:
    """What a page asks the browser's authenticator for."""
    return dict(json.loads(html.unescape(page.text.split('data-options="')[1].split('"')[0])))


@pytest.fixture
def device(browser: Browser, account: Account) -> Authenticator:
    """The passkey of the account, whose browser is logged out again."""
    device = Authenticator()
    browser.enter(account)
    made = device.make(options_of(browser.look("/console/account/passkeys/new")))
    assert browser.fill("/console/account/passkeys", name="key ring", credential=made).status_code == 303
    assert "key ring" in browser.look("/console/account").text
    browser.fill("/console/logout")
    return device


def half_in(browser: Browser, account: Account) -> dict[str, Any]:
    """Give the password, and answer what the passkey is asked."""
    browser.look("/console/login")
    browser.fill("/console/login", email=account.email, password=account.password)
    return options_of(browser.look("/console/second-factor"))


def test_a_passkey_is_a_second_factor(browser: Browser, account: Account, device: Authenticator) -> None:
    answer = device.sign(half_in(browser, account))
    assert browser.fill("/console/second-factor/passkey", credential=answer).status_code == 303
    assert browser.get("/console/account").status_code == 200


def test_a_passkey_answers_one_challenge_once(
    browser: Browser, account: Account, device: Authenticator
) -> None:
    old = device.sign(half_in(browser, account))
    browser.look("/console/second-factor")  # asks for something else
    assert browser.fill("/console/second-factor/passkey", credential=old).status_code == 401


@pytest.mark.parametrize("fault", ["origin", "key", "count", "nonsense", "unknown"])
def test_a_passkey_that_does_not_prove_itself_is_refused(
    browser: Browser, account: Account, device: Authenticator, databases: Databases, fault: str
) -> None:
    options = half_in(browser, account)
    if fault == "origin":
        device.origin = "https://evil.example"
    elif fault == "key":
        device.key = ec.generate_private_key(ec.SECP256R1())
    elif fault == "unknown":
        device.id = os.urandom(16)
    elif fault == "count":  # a copy of the key was used meanwhile
        with transaction(databases.content) as session:
            session.execute(update(Passkey).values(sign_count=7))
    answer = "[1]" if fault == "nonsense" else device.sign(options)
    refused = browser.fill("/console/second-factor/passkey", credential=answer)
    assert refused.status_code == 401
    assert logins.WRONG_PASSKEY in html.unescape(refused.text)
    assert browser.get("/console/account").status_code == 303


def test_with_a_passkey_the_app_may_go_and_then_the_passkey_stays(
    account: Account, device: Authenticator, databases: Databases, now: datetime
) -> None:
    with transaction(databases.content) as session:
        secondfactor.remove_totp(session, account.id, now)
        only = secondfactor.passkeys(session, account.id)[0]
        with pytest.raises(Conflict, match="only second factor"):
            secondfactor.remove_passkey(session, account.id, only.id, now)


# --- the command line ---


def test_the_command_line_is_the_way_back_in(
    settings: Settings,
    databases: Databases,
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in {
        "DATABASE_URL": settings.database_url.replace("+psycopg", ""),
        "KEYSTORE_URL": settings.keystore_url.replace("+psycopg", ""),
        "REDIS_URL": settings.redis_url,
        "KEK": base64.b64encode(settings.kek.keys[1]).decode(),
        "BLOB_DIR": str(settings.blob_dir),
        "CONSOLE_URL": "https://console.example",
    }.items():
        monkeypatch.setenv(f"MODERATION_{name}", value)
    assert cli.main(["people", "add", "a@example.org", "--role", "admin", "--role", "lead"]) == 0
    token = capsys.readouterr().out.strip().removeprefix("https://console.example/console/join/")
    code = pyotp.TOTP(invitations.offered_secret(vault, token)).now()
    with transaction(databases.content) as session:
        invitations.accept(session, vault, token, GOOD, code, datetime.now(UTC))
    assert cli.main(["people", "list"]) == 0
    assert capsys.readouterr().out == "a@example.org  active  never seen  lead admin\n"
    assert cli.main(["people", "reset", "A@example.org"]) == 0
    assert "/console/join/" in capsys.readouterr().out
    new_person(databases, vault, "admin")
    assert cli.main(["people", "disable", "a@example.org"]) == 0
    assert cli.main(["people", "enable", "a@example.org"]) == 0
    assert cli.main(["people", "disable", "b@example.org"]) == 2
    assert "Nobody here has this e-mail address" in capsys.readouterr().err
