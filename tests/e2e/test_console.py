"""The console of a whole installation in a real browser; `python -m benchmarks.console` has the full counts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Page, expect

from moderation import administration
from moderation.domain.access import Role
from moderation.governance import outbox
from tests import browser, captions, keyboard, pages, receiver, seeding
from tests.browser import Visitor
from tests.service import Service, running

UNDO_SECONDS = 600  # a test ends the window when it has seen what it wants to see
# The page's clock in our hands: it says what `tick` set last.
CLOCK = "performance.now = () => Number(localStorage.getItem('clock'))"
SETTLING_MS = 250


@dataclasses.dataclass
class Console:
    """A service with a browser, and the log-in of its first administrator, who leads too."""

    service: Service
    browser: Browser
    state: dict

    def __call__(self, **options):
        return browser.visiting(self.browser, self.service, **({"storage_state": self.state} | options))

    def one(self, statement, *arguments):
        """The first row of an answer."""
        with self.service.database() as database:
            return database.execute(statement, arguments).fetchone()

    def open_cases(self, count, **changes):
        """The paths of cases that nobody has in hand; those with a picture come first."""
        items = seeding.cases(self.service, count, seed=time.time_ns() % 10**9, **changes)
        with self.service.database() as database:
            rows = database.execute(
                "SELECT item_id::text, id FROM cases WHERE item_id = any(%s::uuid[])", [items]
            ).fetchall()
        assert len(rows) == count
        return [f"/console/cases/{dict(rows)[item]}" for item in items]


@pytest.fixture(scope="module")
def console(tmp_path_factory) -> Iterator[Console]:
    browser.need_chromium()
    with running(tmp_path_factory.mktemp("console") / "var") as service, browser.launched() as window:
        seeding.publish(service)
        with browser.visiting(window, service) as visitor:
            browser.log_in(visitor, browser.first_admin(service))
            state = visitor.context.storage_state()
            assert visitor.watch.faults == {}
        with service.database() as database:  # somebody who sees every page there is
            database.execute("UPDATE people SET roles = %s", [list(Role)])
        yield Console(service, window, state)


# --- every page ---


def routes_of(console):
    """Every page that the application serves under /console, as its route is written."""
    from api.app import create_app

    def walk(routes):
        for route in routes:
            if "GET" in (getattr(route, "methods", None) or ()):
                yield route.path
            yield from walk(getattr(getattr(route, "original_router", route), "routes", ()))

    app = create_app(seeding.settings_of(console.service))
    return {path for path in walk(app.routes) if path.startswith("/console")}


def test_every_page_of_an_empty_installation(console):
    with console() as visitor:
        assert pages.examine_all(visitor, pages.addresses(console.service), looks=1) == {}
        assert visitor.watch.faults == {}


def test_every_page_with_content(console):
    pages.fill(console.service)
    addresses = pages.addresses(console.service)
    with console() as visitor:
        assert pages.examine_all(visitor, addresses) == {}
        assert visitor.watch.faults == {}
    assert routes_of(console) - pages.NO_PAGES == set(addresses), "pages that nobody looks at"


def test_the_door(console):
    """Invitation, log-in and second factor, which nobody sees who is in."""
    settings = seeding.settings_of(console.service)
    token = administration.invite_person(settings, "door@example.org", ["moderator"])
    with browser.visiting(console.browser, console.service) as visitor:
        visitor.go(f"/console/join/{token}")
        assert pages.examine(visitor) == []
        account = browser.join(visitor, visitor.page.url)
        assert visitor.page.get_by_role("navigation", name="Pages").is_visible()
    with browser.visiting(console.browser, console.service) as visitor:
        visitor.go("/console/queue?reason=bank")
        assert visitor.path.startswith("/console/login"), "nobody is in without a log-in"
        assert pages.examine(visitor) == []
        visitor.page.get_by_label("E-mail").fill(account.email)
        visitor.page.get_by_label("Password").fill(account.password)
        visitor.page.get_by_role("button", name="Continue").click()
        visitor.page.get_by_role("textbox", name="Code").wait_for()
        assert pages.examine(visitor) == []
        visitor.page.get_by_role("textbox", name="Code").fill(account.authenticator.code())
        visitor.page.get_by_role("button", name="Continue").click()
        visitor.page.wait_for_url("**/console/queue?reason=bank")
        assert visitor.watch.faults == {}


# --- text in pictures ---


def test_lines_read_in_a_picture_and_their_places_show_each_other(console):
    settings = seeding.settings_of(console.service)
    bank = f"trips_{uuid4().hex[:8]}"  # another one where the test is run again
    administration.create_bank(settings, bank, "term", "spam", "review", allow=False)
    administration.fill_bank(settings, bank, [b"train to the coast"], "Seen before.", verified=True)
    said = ("Lovely weather in Lisbon", "and a train to the coast", "leaves at nine")
    (item,) = seeding.submit(console.service, [seeding.post(bank, "See the picture.", captions.saved(*said))])
    (case,) = console.one("SELECT id FROM cases WHERE item_id = %s::uuid", item)
    with console() as visitor:
        page = visitor.page
        visitor.go(f"/console/cases/{case}")
        lines = page.locator(".line")
        expect(lines).to_contain_text(said)
        expect(page.locator(".places")).to_have_count(0)  # a blurred picture has nothing over it
        assert pages.examine(visitor) == []
        page.get_by_role("button", name="Reveal").click()
        expect(page.locator(".places polygon")).to_have_count(3)
        lies_over = """() => {
          const [one, other] = ['.framed img', '.places'].map((which) => document.querySelector(which))
            .map((element) => element.getBoundingClientRect());
          return ['left', 'top', 'width', 'height'].map((side) => Math.abs(one[side] - other[side]));
        }"""
        for viewport in (browser.NARROW, browser.WIDE):
            page.set_viewport_size(viewport)
            page.wait_for_function("document.querySelector('.framed img').complete")
            assert max(page.evaluate(lies_over)) < 1
        assert pages.examine(visitor, looks=4) == []
        here = page.locator(".places .here")
        lines.nth(1).hover()
        expect(here).to_have_attribute("data-line", "1")
        page.mouse.move(0, 0)
        expect(here).to_have_count(0)
        page.locator('.places [data-line="2"]').hover()
        expect(page.locator(".line.here")).to_have_text(said[2])
        page.mouse.move(0, 0)
        lines.nth(0).focus()
        page.keyboard.press("ArrowDown")
        expect(lines.nth(1)).to_be_focused()
        expect(here).to_have_attribute("data-line", "1")
        page.get_by_label("Show where text was read").uncheck()
        expect(page.locator(".places")).to_be_hidden()
        assert visitor.watch.faults == {}


# --- keys ---


def test_decisions_at_machine_speed_are_stored_once_each(console):
    account = browser.invited(console.browser, console.service, "keys@example.org", "moderator", "lead")
    seeding.cases(console.service, 50, seed=2, pictures=2)
    with browser.visiting(console.browser, console.service) as visitor:
        browser.log_in(visitor, account)
        pressed = keyboard.work(visitor, 32, seed=7)
        assert visitor.watch.faults == {}
    assert set(pressed.kinds) == set(keyboard.WEIGHTS)
    assert keyboard.differences(console.service, pressed, account.email) == []


def opinions_of(console, path):
    return console.one("SELECT count(*) FROM opinions WHERE case_id = %s", path.rsplit("/", 1)[1])[0]


def test_keys_are_letters_while_one_writes(console):
    (path,) = console.open_cases(1)
    with console() as visitor:
        visitor.go(path)
        keyboard.shown(visitor.page)
        visitor.page.keyboard.press("n")
        visitor.page.keyboard.type("a real useless line 1 2 3 ?")
        expect(visitor.page.get_by_label("Note", exact=True)).to_have_value("a real useless line 1 2 3 ?")
        visitor.page.locator("h1").focus()
        for key in ("Control+a", "Alt+a", "Shift+a", "Meta+r"):
            visitor.page.keyboard.press(key)
        assert visitor.path == path
        assert opinions_of(console, path) == 0
        visitor.page.keyboard.press("a")
        visitor.page.wait_for_url(lambda url: path not in url)
    assert opinions_of(console, path) == 1


def tick(page, milliseconds):
    page.evaluate("(now) => localStorage.setItem('clock', now)", milliseconds)


def test_a_key_pressed_twice_decides_one_case(console):
    """A second press at once is dropped, and so is one that comes sooner after the next case than one can judge."""
    console.open_cases(3)
    with console() as visitor:
        page = visitor.page
        visitor.context.add_init_script(CLOCK)
        visitor.go("/console/next")
        first = keyboard.shown(page)
        (before,) = console.one("SELECT count(*) FROM opinions")
        page.keyboard.press("a")
        assert keyboard.shown(page)["key"] == first["key"], "nobody can have judged it yet"
        tick(page, SETTLING_MS)
        page.keyboard.press("a")
        page.keyboard.press("a")
        second = keyboard.shown(page, first["key"])
        tick(page, 2 * SETTLING_MS - 1)
        page.keyboard.press("a")
        assert keyboard.shown(page)["key"] == second["key"]
        assert console.one("SELECT count(*) FROM opinions") == (before + 1,)
        tick(page, 2 * SETTLING_MS)
        page.keyboard.press("a")
        keyboard.shown(page, second["key"])
        assert console.one("SELECT count(*) FROM opinions") == (before + 2,)


def test_a_key_held_down_decides_one_case(console):
    console.open_cases(3)
    with console() as visitor:
        visitor.go("/console/next")
        keyboard.shown(visitor.page)
        (before,) = console.one("SELECT count(*) FROM opinions")
        for _ in range(40):  # all but the first are repeats
            visitor.page.keyboard.down("a")
            visitor.page.wait_for_timeout(30)
        visitor.page.keyboard.up("a")
        keyboard.shown(visitor.page)
        assert console.one("SELECT count(*) FROM opinions") == (before + 1,)


def test_keys_are_remapped_and_switched_off(console):
    first, second = console.open_cases(2)
    account = browser.invited(console.browser, console.service, "remap@example.org", "moderator")
    with browser.visiting(console.browser, console.service) as visitor:
        browser.log_in(visitor, account)
        page = visitor.page
        visitor.go("/console/settings")
        page.get_by_label("Allow", exact=True).fill("x")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved.").wait_for()
        visitor.go(first)
        keyboard.shown(page)
        expect(page.get_by_role("button", name="Allow")).to_have_attribute("aria-keyshortcuts", "X")
        page.keyboard.press("a")
        page.wait_for_timeout(300)
        assert opinions_of(console, first) == 0
        page.keyboard.press("x")
        page.wait_for_url(lambda url: first not in url)
        assert opinions_of(console, first) == 1

        visitor.go("/console/settings")
        page.get_by_label("Work with keys").uncheck()
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Saved.").wait_for()
        visitor.go(second)
        keyboard.shown(page)
        assert page.locator("kbd:visible").all_inner_texts() in ([], ["Ctrl K"])
        for key in ("a", "x", "r", "u", "1"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        assert opinions_of(console, second) == 0
        assert visitor.watch.faults == {}


# --- without a script ---


def test_everything_that_decides_works_without_javascript(console):
    plain, kept, passed, raised = console.open_cases(4, pictures=1)
    with console(java_script_enabled=False) as visitor:
        page = visitor.page
        visitor.go(plain)
        blurred = page.locator("article img").get_attribute("src")
        page.get_by_role("button", name="Reveal").click()
        assert page.locator("article img").get_attribute("src") != blurred
        page.get_by_role("radio", name="Spam").check(force=True)
        page.get_by_role("button", name="Remove").click()
        assert visitor.path.partition("?")[0] != plain
        assert stored(console, plain) == ("remove", "spam", False)
        page.get_by_role("button", name="Undo").click()
        assert visitor.path.partition("?")[0] == plain
        assert stored(console, plain) == ("remove", "spam", True)

        visitor.go(kept)
        page.get_by_role("button", name="Limit").click()
        assert stored(console, kept)[0] == "limit"
        visitor.go(passed)
        page.locator("summary").filter(has_text="Skip").click()
        page.get_by_role("button", name="I am not sure").click()
        assert console.one("SELECT reason FROM case_skips WHERE case_id = %s", identifier(passed)) == (
            "unsure",
        )
        visitor.go(raised)
        page.locator("summary").filter(has_text="Escalate").click()
        page.get_by_label("What should they know?").fill("Please look at the link.")
        page.get_by_role("button", name="Escalate").click()
        assert console.one("SELECT stage FROM cases WHERE id = %s", identifier(raised)) == ("adjudication",)
        assert visitor.watch.faults == {}


def identifier(path):
    return path.rsplit("/", 1)[1]


def stored(console, path):
    return console.one(
        "SELECT verdict, category, undone_at IS NOT NULL FROM opinions WHERE case_id = %s "
        "ORDER BY given_at DESC LIMIT 1",
        identifier(path),
    )


# --- undo and reversal ---


def test_an_undone_decision_leaves_no_trace_outside_and_a_reversal_is_sent(console):
    seeding.publish(console.service, undo_seconds=UNDO_SECONDS)
    with receiver.receiving() as outside, console.service.client() as client, console() as visitor:
        registered = client.post(
            "/v1/webhook-endpoints",
            json={"name": "outside", "url": outside.url, "events": list(outbox.EVENTS)},
        )
        assert registered.status_code == 201, registered.text
        (path,) = console.open_cases(1)
        (item,) = console.one("SELECT item_id::text FROM cases WHERE id = %s", identifier(path))
        asked = outside.wait(item, 1)
        before = client.get(f"/v1/items/{item}").json()

        decide(visitor, path, "Remove")
        assert client.get(f"/v1/items/{item}").json() == before
        visitor.page.get_by_role("button", name="Undo").click()
        expect(visitor.page.get_by_text("Undone; nobody outside heard of it.")).to_be_visible()
        end_window(console, item)
        time.sleep(1)
        assert client.get(f"/v1/items/{item}").json() == before
        assert outside.about(item) == asked, "nobody is told of what was taken back"

        decide(visitor, path, "Remove")
        time.sleep(1)
        assert outside.about(item) == asked, "nobody is told before the window ends"
        end_window(console, item)
        told = outside.wait(item, len(asked) + 1)
        assert [event["type"] for event in told[len(asked) :]] == ["item.decided"]
        removed = client.get(f"/v1/items/{item}").json()
        assert removed["verdict"] == "remove"

        visitor.go(f"/console/items/{item}/reverse")
        visitor.page.get_by_role("button", name="Reverse it").click()
        after = outside.wait(item, len(told) + 1)[len(told) :]
        assert [event["type"] for event in after] == ["item.decided"]
        allowed = client.get(f"/v1/items/{item}").json()
        assert allowed["verdict"] == "allow"
        assert allowed["decision_id"] != removed["decision_id"]
        assert visitor.watch.faults == {}


def end_window(console, item):
    """What the clock does when the time to undo is over, for one item alone."""
    with console.service.database() as database:
        for table, column in (("decisions", "effective_at"), ("outbox", "not_before")):
            database.execute(f"UPDATE {table} SET {column} = now() WHERE item_id = %s", [item])


def decide(visitor: Visitor, path: str, verdict: str) -> None:
    visitor.go(path)
    keyboard.shown(visitor.page)
    visitor.page.get_by_role("button", name=verdict).click()
    visitor.page.wait_for_url(lambda url: path not in url)


# --- passkeys ---


def test_a_passkey_is_the_second_factor(console):
    # Passkeys are for names, and the address of a machine is none.
    port = console.service.url.rsplit(":", 1)[1]
    service = dataclasses.replace(console.service, url=f"http://localhost:{port}")
    settings = seeding.settings_of(service)
    token = administration.invite_person(settings, "passkey@example.org", ["moderator"])
    with browser.visiting(console.browser, service) as visitor:
        page = visitor.page
        account = browser.join(visitor, f"{service.url}/console/join/{token}")
        add_authenticator(page)
        visitor.go("/console/account/passkeys/new")
        assert pages.examine(visitor) == []
        page.get_by_label("Name").fill("This laptop")
        page.get_by_role("button", name="Add").click()
        page.get_by_text("The passkey is added.").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("E-mail").fill(account.email)
        page.get_by_label("Password").fill(account.password)
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("button", name="Use a passkey").wait_for()
        assert pages.examine(visitor) == []
        page.get_by_role("button", name="Use a passkey").click()
        page.wait_for_url(f"{service.url}/console/")
        assert visitor.watch.faults == {}


def add_authenticator(page: Page) -> None:
    """A security key of Chromium's own making, which is touched by itself."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    session.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
