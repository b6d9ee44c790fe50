"""A passkey in a real browser, whose authenticator is Chromium's own virtual one: made, and then used to log in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api.app import create_app
from moderation.settings import Settings
from moderation.storage.database import Databases
from moderation.storage.vault import Vault
from tests import browser
from tests.people import new_account
from tests.service import Service

AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """The console alone, under a name: a passkey belongs to a name and never to a number."""
    browser.need_chromium()
    config = uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    assert server.started
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Service(Path(), f"http://localhost:{port}", "")
    server.should_exit = True
    thread.join()


def test_a_passkey_is_made_and_logs_in(service: Service, databases: Databases, vault: Vault) -> None:
    account = new_account(databases, vault, "moderator")
    with browser.launched() as window, browser.visiting(window, service) as visitor:
        page = visitor.page
        debugger = visitor.context.new_cdp_session(page)
        debugger.send("WebAuthn.enable")
        debugger.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        key = browser.Authenticator(account.secret)
        browser.log_in(visitor, browser.Account(account.email, account.password, key))
        visitor.go("/console/account/passkeys/new")
        page.get_by_label("Name").fill("this laptop")
        page.get_by_role("button", name="Add").click()
        page.wait_for_url("**/console/account?said=passkey")
        assert page.get_by_text("this laptop").is_visible()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("E-mail").fill(account.email)
        page.get_by_label("Password").fill(account.password)
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Use a passkey").click()
        page.wait_for_url("**/console/")
        visitor.go("/console/account")
        page.get_by_text("Second factors").wait_for()
        assert visitor.watch.policy == []
        assert visitor.watch.errors == []
        assert visitor.watch.elsewhere == []
