"""Logging in by an OpenID provider, against one that speaks HTTP, checks PKCE and signs its tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from moderation.governance import invitations, people
from moderation.settings import Oidc, Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Person
from moderation.storage.vault import Vault
from tests.people import Account, Browser, browsing, new_account, new_person

CLIENT, SECRET = "console", "a secret+with/signs"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Provider:
    """An OpenID provider: one user, whose claims the test chooses; a code is good once, with its verifier."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        self.claims: dict[str, Any] = {"sub": "user-1", "email": "mod@example.org", "email_verified": True}
        self.signed_by: Any = self.key
        self.header = {"alg": "ES256", "kid": "one"}
        self.codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(200, provider.published(self.path))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = {name: values[0] for name, values in parse_qs(form).items()}
                token = provider.exchanged(fields, self.headers.get("Authorization", ""))
                self.answer(
                    200 if token else 400, {"id_token": token} if token else {"error": "invalid_grant"}
                )

            def answer(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def published(self, path: str) -> dict[str, Any]:
        if path == "/jwks":
            return {"keys": [self.key.as_dict(private=False)]}
        names = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
        return {"issuer": self.issuer} | {name: self.issuer + path for name, path in names.items()}

    def authorized(self, address: str) -> tuple[str, str]:
        """What the user does there: agree, and come back with a code and the state."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return code, query["state"]

    def exchanged(self, fields: dict[str, str], authorization: str) -> str | None:
        query = self.codes.pop(fields.get("code", ""), None)
        pair = base64.b64encode(f"{CLIENT}:a+secret%2Bwith%2Fsigns".encode()).decode()
        if query is None or authorization != f"Basic {pair}":
            return None
        digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
        challenge = encoded(digest)
        if (query["code_challenge"], query["redirect_uri"]) != (challenge, fields["redirect_uri"]):
            return None
        now = int(time.time())
        times = {"iat": now, "exp": now + 300, "auth_time": now}
        claims = {"iss": self.issuer, "aud": CLIENT, "nonce": query["nonce"]} | times | self.claims
        if self.header["alg"] in ("none", "HS256"):  # by hand: no library would
            signed = ".".join(encoded(json.dumps(part).encode()) for part in (self.header, claims))
            shared = self.key.as_pem(private=False)
            mac = hmac.digest(shared, signed.encode(), "sha256") if self.header["alg"] == "HS256" else b""
            return f"{signed}.{encoded(mac)}"
        return jwt.encode(self.header, claims, self.signed_by, algorithms=[self.header["alg"]])


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield provider
    provider.server.shutdown()
    thread.join()
    provider.server.server_close()


@pytest.fixture
def browser(settings: Settings, provider: Provider) -> Iterator[Browser]:
    with browsing(replace(settings, oidc=Oidc(provider.issuer, CLIENT, SECRET, "Our provider"))) as browser:
        yield browser


@pytest.fixture
def account(databases: Databases, vault: Vault) -> Account:
    return new_account(databases, vault, "moderator")


def go(browser: Browser, provider: Provider, path: str = "/console/oidc") -> Any:
    """To the provider and back."""
    away = browser.get(path)
    assert away.status_code == 303
    code, state = provider.authorized(away.headers["location"])
    return browser.look(f"/console/oidc/callback?code={code}&state={state}")


def inside(browser: Browser) -> bool:
    return browser.get("/console/account").status_code == 200


def test_a_provider_that_saw_two_factors_lets_in(
    browser: Browser, provider: Provider, account: Account
) -> None:
    assert "Our provider" in browser.look("/console/login").text
    provider.claims["amr"] = ["pwd", "mfa"]
    page = go(browser, provider, "/console/oidc?next=/console/account")
    assert 'content="0;url=/console/account"' in page.text
    assert inside(browser)


def test_one_factor_leaves_the_second_to_us(browser: Browser, provider: Provider, account: Account) -> None:
    page = go(browser, provider)
    assert "url=/console/second-factor" in page.text
    assert not inside(browser)
    browser.look("/console/second-factor")
    assert browser.fill("/console/second-factor", code=account.code()).status_code == 303
    assert inside(browser)


def test_from_the_second_time_on_the_subject_counts_and_not_the_address(
    browser: Browser, provider: Provider, account: Account, databases: Databases, vault: Vault
) -> None:
    provider.claims["amr"] = ["mfa"]
    go(browser, provider)
    provider.claims |= {"email": "renamed@example.org"}
    assert go(browser, provider).status_code == 200
    # Another subject with the old address is somebody else.
    provider.claims |= {"sub": "user-2", "email": "mod@example.org"}
    browser.cookies.clear()
    assert go(browser, provider).status_code == 403
    assert not inside(browser)


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": "true"},
        {"email": "stranger@example.org"},
        {"email": None},
    ],
    ids=["unverified", "a word for true", "unknown", "none"],
)
def test_who_is_not_one_of_ours_stays_out(
    browser: Browser, provider: Provider, account: Account, claims: dict[str, Any]
) -> None:
    provider.claims |= {"amr": ["mfa"]} | claims
    assert go(browser, provider).status_code == 403
    assert not inside(browser)


def test_somebody_disabled_stays_out(
    browser: Browser, provider: Provider, account: Account, databases: Databases
) -> None:
    provider.claims["amr"] = ["mfa"]
    with transaction(databases.content) as session:
        session.get_one(Person, account.id).disabled_at = datetime.now(UTC)
    assert go(browser, provider).status_code == 403


def test_somebody_invited_joins_if_two_factors_were_seen(
    browser: Browser, provider: Provider, databases: Databases, vault: Vault
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        token = invitations.invite(session, vault, "New@example.org", ["trainer"], now, "operator")
    provider.claims |= {"email": "new@example.org"}
    assert go(browser, provider).status_code == 403, "without a second factor anywhere nobody joins"
    provider.claims["amr"] = ["mfa"]
    assert go(browser, provider).status_code == 200
    assert inside(browser)
    assert browser.get(f"/console/join/{token}").status_code == 410
    with transaction(databases.content) as session:
        person = people.find(session, vault, "new@example.org")
        assert person is not None
        assert person.roles == ["trainer"]


def test_an_old_log_in_at_the_provider_confirms_nothing(
    browser: Browser, provider: Provider, databases: Databases, vault: Vault
) -> None:
    new_person(databases, vault, "admin", email="mod@example.org")
    provider.claims |= {"amr": ["mfa"], "auth_time": int(time.time()) - 3600}
    go(browser, provider)
    browser.look("/console/people")
    answer = browser.fill("/console/people", email="a@example.org", roles="legal")
    assert answer.headers["location"].startswith("/console/second-factor")
    assert "Confirm with Our provider" in browser.look(answer.headers["location"]).text
    away = browser.get("/console/oidc?again=true").headers["location"]
    assert "max_age=0" in away
    assert "prompt=login" in away
    provider.claims["auth_time"] = int(time.time())
    go(browser, provider, "/console/oidc?again=true")
    browser.look("/console/people")
    assert browser.fill("/console/people", email="a@example.org", roles="legal").status_code == 200


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "another"}, {"nonce": None}, {"aud": "somebody else"}, {"aud": [CLIENT, "another"]},
     {"iss": "https://evil.example"}, {"exp": int(time.time()) - 120}, {"exp": None}, {"iat": 1}, {"sub": ""},
     {"sub": 7}],
    ids=str,
)  # fmt: skip
def test_a_token_that_says_the_wrong_thing_is_refused(
    browser: Browser, provider: Provider, account: Account, claims: dict[str, Any]
) -> None:
    provider.claims |= {"amr": ["mfa"]} | claims
    assert go(browser, provider).status_code == 401
    assert not inside(browser)


@pytest.mark.parametrize("fault", ["another key", "no signature", "the public key as a shared secret"])
def test_a_token_that_the_provider_did_not_sign_is_refused(
    browser: Browser, provider: Provider, account: Account, fault: str
) -> None:
    provider.claims["amr"] = ["mfa"]
    if fault == "another key":
        provider.signed_by = ECKey.generate_key("P-256", {"kid": "one"})
    elif fault == "no signature":
        provider.header = {"alg": "none"}
    else:
        provider.header = {"alg": "HS256", "kid": "one"}
    assert go(browser, provider).status_code == 401
    assert not inside(browser)


def test_the_answer_to_another_log_in_is_refused(
    browser: Browser, provider: Provider, account: Account
) -> None:
    provider.claims["amr"] = ["mfa"]
    code, state = provider.authorized(browser.get("/console/oidc").headers["location"])
    for query in (f"code={code}&state=x", f"state={state}", f"code=x&state={state}", "error=access_denied"):
        assert browser.get(f"/console/oidc/callback?{query}").status_code == 401
    code, state = provider.authorized(browser.get("/console/oidc").headers["location"])
    browser.cookies.clear()  # somebody else's browser
    assert browser.get(f"/console/oidc/callback?code={code}&state={state}").status_code == 401


def test_an_unreachable_provider_leaves_the_password(settings: Settings, account: Account) -> None:
    nowhere = replace(settings, oidc=Oidc("http://127.0.0.1:1", CLIENT, SECRET, "Our provider"))
    with browsing(nowhere) as browser:
        answer = browser.look("/console/oidc")
        assert answer.status_code == 503
        assert "log in by password" in answer.text
        assert browser.enter(account).status_code == 303


def test_without_a_provider_there_is_no_such_door(settings: Settings) -> None:
    with browsing(settings) as browser:
        assert browser.get("/console/oidc").status_code == 404
        assert browser.get("/console/oidc/callback").status_code == 404
