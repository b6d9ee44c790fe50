"""Debian's Chromium on the console of a real service, and a record of everything that a page must not do.

Nothing but the service can be reached from it: every other name is unknown to the browser, and to have asked
for one is a fault. The Content Security Policy is never switched off: `axe` is evaluated through the
debugger, which is not subject to it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyotp
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    Response,
    ViewportSize,
    WebError,
    expect,
    sync_playwright,
)

from moderation import administration
from tests.seeding import settings_of
from tests.service import Service

PACKAGE = Path(__file__).with_name("debian.txt").read_text().strip()
WIDE: ViewportSize = {"width": 1440, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
WAIT_MS = 60_000  # only a machine that stalls takes so long
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_REPORTS = "/console/csp-reports"
_STEP_SECONDS = 30
expect.set_options(timeout=WAIT_MS)


@cache
def executable() -> str | None:
    """The Chromium of this machine: `CHROMIUM`, or the first on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def need_chromium() -> None:
    """Skip the test that is about to begin where there is no Chromium; with BROWSER_TESTS=required, fail it."""
    if executable():
        return
    sentence = f"Needs a browser: apt-get install {PACKAGE} (or set CHROMIUM to one)."
    if os.environ.get("BROWSER_TESTS") == "required":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser of its own, with a driver of its own: for one thread."""
    with sync_playwright() as driver, started(driver) as browser:
        yield browser


@contextmanager
def started(driver: Playwright) -> Iterator[Browser]:
    """A browser that knows no name but this machine's."""
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's sandbox refuses to work for root
    browser = driver.chromium.launch(executable_path=executable(), args=arguments)
    try:
        yield browser
    finally:
        browser.close()


@dataclass  # without slots: playwright keeps a note on whatever object listens to it
class Watch:
    """What the pages of one context did that they must not do."""

    origin: str
    policy: list[str] = field(default_factory=list)  # violations of the Content Security Policy
    console: list[str] = field(default_factory=list)  # errors and warnings
    errors: list[str] = field(default_factory=list)  # exceptions that nobody caught
    failed: list[str] = field(default_factory=list)  # answers of 400 and above, and none at all
    elsewhere: list[str] = field(default_factory=list)  # requests to anybody but the service

    @property
    def faults(self) -> dict[str, list[str]]:
        """All of it by kind; empty when nothing happened."""
        kinds = ("policy", "console", "errors", "failed", "elsewhere")
        return {kind: seen for kind in kinds if (seen := getattr(self, kind))}

    def clear(self) -> None:
        """Forget what was seen, after a test has done something that is refused on purpose."""
        for seen in (self.policy, self.console, self.errors, self.failed, self.elsewhere):
            seen.clear()

    def attach(self, context: BrowserContext) -> None:
        """See everything that happens in `context` from now on."""
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", self._on_request)
        context.on("requestfailed", self._on_failure)
        context.on("response", self._on_response)
        context.expose_binding("violatedPolicy", lambda _, words: self.policy.append(words))
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => "
            "violatedPolicy(`${event.documentURI}: ${event.violatedDirective} ${event.blockedURI}`))"
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(message.text)

    def _on_error(self, error: WebError) -> None:
        self.errors.append(str(error.error))

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:", "blob:")):
            self.elsewhere.append(request.url)
        if request.url == self.origin + _REPORTS:
            self.policy.append(f"reported: {request.post_data}")

    def _on_failure(self, request: Request) -> None:
        # Whoever leaves a page cuts its requests short. "csp" is what a script fails with where scripts are off;
        # a violation of the policy is seen as such.
        if request.failure not in ("net::ERR_ABORTED", "csp", None):
            self.failed.append(f"{request.method} {request.url} {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.failed.append(f"{response.request.method} {response.url} {response.status}")


@dataclass(slots=True)
class Visitor:
    """One person's browser window on the console."""

    service: Service
    context: BrowserContext
    page: Page
    watch: Watch

    def go(self, path: str) -> None:
        """Open a page of the console and wait until it is at rest."""
        self.page.goto(self.service.url + path)

    @property
    def path(self) -> str:
        """Where the window is."""
        return self.page.url.removeprefix(self.service.url)


@contextmanager
def visiting(browser: Browser, service: Service, **options: Any) -> Iterator[Visitor]:
    """A fresh window that nobody is logged in to."""
    context = browser.new_context(**({"viewport": WIDE, "locale": "en-GB"} | options))
    context.set_default_timeout(WAIT_MS)
    watch = Watch(service.url)
    watch.attach(context)
    try:
        yield Visitor(service, context, context.new_page(), watch)
    finally:
        context.close()


@dataclass(slots=True)
class Authenticator:
    """An authenticator app: each of its codes works once, so it never shows one twice.

    The service takes the codes of one step before and one after its own. Only those of this step and the next are
    shown: each of them is good for half a minute at least, however long the machine stalls before it arrives.
    """

    secret: str
    last: int = 0

    def code(self) -> str:
        """The next code that the service takes, waiting for it if need be."""
        while True:
            here = int(time.time()) // _STEP_SECONDS
            step = max(self.last + 1, here)
            if step <= here + 1:
                self.last = step
                return pyotp.TOTP(self.secret).generate_otp(step)
            time.sleep(0.5)


@dataclass(slots=True)
class Account:
    """By what somebody logs in."""

    email: str
    password: str
    authenticator: Authenticator


def first_admin(service: Service) -> Account:
    """Whom the first run made: administrator and lead."""
    written = json.loads((service.directory / "first-run.json").read_text())["admin"]
    return Account(written["email"], written["password"], Authenticator(written["totp_secret"]))


def log_in(visitor: Visitor, account: Account) -> None:
    """Through the real pages, password first and then the code; ends on the dashboard."""
    page = visitor.page
    visitor.go("/console/login")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("textbox", name="Code").fill(account.authenticator.code())
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(visitor.service.url + "/console/")


def join(visitor: Visitor, link: str) -> Account:
    """Follow an invitation: choose a password, set up the authenticator, keep the recovery codes."""
    page = visitor.page
    page.goto(link)
    email = page.locator("input[name=username]").get_attribute("value") or ""
    account = Account(email, "four words of nothing much", Authenticator(page.locator("code").inner_text()))
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_label("Password again").fill(account.password)
    page.get_by_role("textbox", name="Code").fill(account.authenticator.code())
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("link", name="I have kept them").click()
    page.wait_for_url(visitor.service.url + "/console/")
    return account


def invited(window: Browser, service: Service, email: str, *roles: str) -> Account:
    """Somebody new with these roles, who came in by an invitation."""
    token = administration.invite_person(settings_of(service), email, roles)
    with visiting(window, service) as visitor:
        return join(visitor, f"{service.url}/console/join/{token}")
