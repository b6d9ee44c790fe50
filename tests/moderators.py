"""Two people in two browsers on one queue, struck at random, and the accounting afterwards, as `tests.chaos.storm`.

Each person works in a thread of their own with a browser of their own. What strikes: a window closed and a page
crashed in the middle of a case, an answer that never comes back, and a lease that runs out while somebody is away
and the other decides meanwhile. Every form that was sent is remembered by its key.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Error, Page, Route

from tests import browser, keyboard, seeding
from tests.browser import Account
from tests.chaos.harness import free_port
from tests.service import Service

CLAIM_SECONDS = 6.0  # the shortest that a policy allows


@dataclass(frozen=True, slots=True)
class Plan:
    """How many cases there are, and how often each thing strikes somebody in the middle of one."""

    seed: int
    cases: int
    closed: int
    crashed: int
    unanswered: int
    away: int


@dataclass(slots=True)
class Sent:
    """A decision that somebody sent; `answered` if the page that says so was seen."""

    person: str
    case: str
    key: str
    verdict: str
    answered: bool = False
    away: bool = False


@dataclass(slots=True)
class Outcome:
    """What came of it; the first group must be nothing."""

    lost: int = 0  # sent and answered, and not stored
    unexpected: int = 0  # stored and never sent
    twice: int = 0  # one form stored more than once
    decided_twice: int = 0  # two decisions of one case without anybody settling it
    late_lost: int = 0  # came too late, differs, and nobody is asked to settle it
    left_over: int = 0  # cases that are still open and that nobody escalated
    without_audit: int = 0  # decisions or opinions that the audit log has not exactly once
    without_notice: int = 0  # decisions that the outbox has not exactly once
    faults: int = 0  # what the pages did that they must not
    sent: int = 0
    answered: int = 0
    stored: int = 0
    decided: int = 0
    late: int = 0
    late_agreeing: int = 0
    to_settle: int = 0
    unknown_stored: int = 0  # nobody saw an answer, and it is stored; sent again it counted once
    seconds: float = 0.0
    strikes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, int]:
        """Whatever should be nothing and is not."""
        names = (
            "lost", "unexpected", "twice", "decided_twice", "late_lost", "left_over", "without_audit",
            "without_notice", "faults",
        )  # fmt: skip
        return {name: value for name in names if (value := getattr(self, name))}


@dataclass(slots=True)
class _Storm:
    service: Service
    plan: Plan
    sent: list[Sent] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    lock: threading.Lock = field(default_factory=threading.Lock)
    away: threading.Lock = field(default_factory=threading.Lock)  # somebody has to be there
    faults: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(
        default_factory=list
    )  # of those at work: nobody goes on without them

    def send(self, sent: Sent) -> Sent:
        with self.lock:
            self.sent.append(sent)
        return sent

    def ask(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self.service.database() as database:
            return database.execute(statement, arguments).fetchall()

    def waiting(self, stages: tuple[str, ...]) -> int:
        statement = "SELECT count(*) FROM cases WHERE state = 'open' AND stage = any(%s)"
        return int(self.ask(statement, list(stages))[0][0])


def storm(service: Service, plan: Plan) -> Outcome:
    """A policy with the shortest claims, an endpoint that is owed every decision, two people, a lead, and cases."""
    seeding.publish(service, claim_minutes=CLAIM_SECONDS / 60, undo_seconds=1)
    with service.client() as client:
        nobody = {"name": "nobody", "url": f"http://127.0.0.1:{free_port()}/", "events": ["item.decided"]}
        client.post("/v1/webhook-endpoints", json=nobody).raise_for_status()
    with browser.launched() as window:
        ada, ben = (
            browser.invited(window, service, f"{name}@example.org", "moderator") for name in ("ada", "ben")
        )
        lead = browser.invited(window, service, "lea@example.org", "lead", "moderator")
    seeding.cases(service, plan.cases, plan.seed)
    return run(service, plan, (ada, ben), lead)


def run(service: Service, plan: Plan, pair: tuple[Account, Account], lead: Account) -> Outcome:
    """Two people work until nothing is left to them, then a lead settles the rest; the accounting of it."""
    storm = _Storm(service, plan)
    began = time.monotonic()
    chance = random.Random(plan.seed)
    strikes = [
        kind for kind in ("closed", "crashed", "unanswered", "away") for _ in range(getattr(plan, kind))
    ]
    chance.shuffle(strikes)

    def at_work(who: Account, stages: tuple[str, ...], mine: list[str]) -> None:
        try:
            with browser.launched() as window:
                _Moderator(storm, window, who, stages, mine, random.Random(f"{plan.seed}{who.email}")).work()
        except BaseException as failure:
            storm.failures.append(failure)

    crews: Sequence[Sequence[tuple[Account, tuple[str, ...], list[str]]]] = (
        [(one, ("review", "second"), strikes[index::2]) for index, one in enumerate(pair)],
        [(lead, ("review", "second", "adjudication"), [])],
    )
    for crew in crews:
        threads = [threading.Thread(target=at_work, args=one) for one in crew]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if storm.failures:
            raise storm.failures[0]
    storm.outcome.seconds = time.monotonic() - began
    _settle(storm)
    return storm.outcome


@dataclass(slots=True)
class _Moderator:
    """Somebody at work in a browser of their own, and what strikes them."""

    storm: _Storm
    window: Browser
    who: Account
    stages: tuple[str, ...]
    strikes: list[str]
    chance: random.Random
    state: Any = None
    context: BrowserContext | None = None
    page: Page | None = None
    watch: browser.Watch | None = None

    def work(self) -> None:
        share = max(1, self.storm.plan.cases // 2 // (len(self.strikes) + 1))
        done = 0
        while True:
            page = self._page()
            page.goto(f"{self.storm.service.url}/console/next")
            here = keyboard.shown(page)
            while here["case"]:
                done += 1
                if self.strikes and done % share == 0:
                    self._struck(page, here, self.strikes.pop())
                    break
                self._decide(page, here)
                here = keyboard.shown(page, here["key"])
                self._answered()
            else:
                if self.storm.failures or self.storm.waiting(self.stages) == 0:
                    break
                time.sleep(0.5)  # what is left is in the other's hands, or was
        self._leave()

    def _page(self) -> Page:
        if self.page is not None:
            return self.page
        self.context = self.window.new_context(viewport=browser.WIDE, storage_state=self.state)
        self.context.set_default_timeout(browser.WAIT_MS)
        self.watch = browser.Watch(self.storm.service.url)
        self.watch.attach(self.context)
        self.page = self.context.new_page()
        if self.state is None:
            visitor = browser.Visitor(self.storm.service, self.context, self.page, self.watch)
            browser.log_in(visitor, self.who)
            self.state = self.context.storage_state()
        return self.page

    def _leave(self) -> None:
        """Close the window, keeping what its pages did wrong: not that they were cut off."""
        if self.context is None or self.watch is None:
            return
        with suppress(Error):
            self.context.close()
        noise = "Failed to load resource"
        with self.storm.lock:
            self.storm.faults += self.watch.policy + self.watch.errors + self.watch.elsewhere
            self.storm.faults += [words for words in self.watch.console if noise not in words]
        self.context = self.page = self.watch = None

    def _decide(self, page: Page, here: dict[str, Any], *, away: bool = False) -> Sent:
        verdict = self.chance.choice(("allow", "remove"))
        sent = self.storm.send(Sent(self.who.email, here["case"], here["key"], verdict, away=away))
        page.keyboard.press(verdict[0])
        return sent

    def _answered(self) -> None:
        """The page that follows was seen, so whatever this person sent last was taken."""
        mine = [sent for sent in self.storm.sent if sent.person == self.who.email]
        mine[-1].answered = True

    def _struck(self, page: Page, here: dict[str, Any], kind: str) -> None:
        if kind == "away" and not self.storm.away.acquire(blocking=False):
            self.strikes.insert(0, kind)  # the other is away: later then
            self._decide(page, here)
            keyboard.shown(page, here["key"])
            self._answered()
            return
        with self.storm.lock:
            self.storm.outcome.strikes[kind] += 1
        if kind == "away":
            self._away(page, here)
            return
        if kind == "unanswered":
            self._unanswered(page, here)
            return
        if self.chance.random() < 0.5:  # else with nothing sent at all
            self._decide(page, here)
            time.sleep(self.chance.uniform(0.0, 0.15))
        if kind == "crashed":
            self._crash()
        self._leave()
        if self.chance.random() < 0.3:
            time.sleep(CLAIM_SECONDS + 1)

    def _crash(self) -> None:
        """Kill the processes that show this browser's pages; the browser itself stays."""
        shown = self.window.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
        for process in shown:
            if process["type"] == "renderer":
                with suppress(ProcessLookupError):
                    os.kill(process["id"], signal.SIGKILL)

    def _away(self, page: Page, here: dict[str, Any]) -> None:
        """Leave the case lying until the other has decided it, then decide as if nothing had happened."""
        try:
            deadline = time.monotonic() + 10 * CLAIM_SECONDS
            while time.monotonic() < deadline and not self.storm.failures:
                (row,) = self.storm.ask("SELECT state FROM cases WHERE id = %s", here["case"])
                if row[0] == "closed":
                    break
                time.sleep(0.2)
        finally:
            self.storm.away.release()
        self._decide(page, here, away=True)
        keyboard.shown(page, here["key"])
        self._answered()

    def _unanswered(self, page: Page, here: dict[str, Any]) -> None:
        """The service hears the form, and the browser hears nothing: it is sent again, the very same."""
        bodies: list[str] = []

        def swallow(route: Route) -> None:
            body = route.request.post_data or ""
            route.fetch(max_redirects=0, timeout=browser.WAIT_MS)
            route.abort()
            bodies.append(body)

        assert self.context is not None
        address = f"{self.storm.service.url}/console/cases/{here['case']}/decide"
        page.route(address, swallow)
        sent = self._decide(page, here)
        deadline = time.monotonic() + 2 * browser.WAIT_MS / 1000
        while not bodies and time.monotonic() < deadline:
            page.wait_for_timeout(50)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.storm.service.url}
        answer = self.context.request.post(address, data=bodies[0], headers=headers, max_redirects=0)
        sent.answered = answer.status == 303
        page.unroute(address)


_OPINIONS = """
SELECT o.form_key::text, o.case_id::text, o.stage, o.verdict, o.late,
       (SELECT count(*) FROM audit_events a WHERE a.action = 'opinion.given' AND a.details->>'opinion' = o.id::text)
FROM opinions o ORDER BY o.given_at, o.id
"""
_DECISIONS = """
SELECT d.case_id::text, d.id::text,
       (SELECT o.stage FROM opinions o WHERE o.decision_id = d.id AND NOT o.late ORDER BY o.id DESC LIMIT 1),
       (SELECT count(*) FROM audit_events a WHERE a.action = 'decision.made'
        AND a.details->>'decision' = d.id::text),
       (SELECT count(*) FROM outbox w WHERE w.event = 'item.decided' AND w.payload->>'decision_id' = d.id::text)
FROM decisions d WHERE d.person_id IS NOT NULL
"""


def _settle(storm: _Storm) -> None:
    outcome = storm.outcome
    opinions, decisions = storm.ask(_OPINIONS), storm.ask(_DECISIONS)
    stored = Counter(row[0] for row in opinions)
    sent = {one.key: one for one in storm.sent}
    outcome.sent, outcome.answered = len(sent), sum(one.answered for one in sent.values())
    outcome.stored, outcome.decided = len(opinions), len(decisions)
    outcome.lost = sum(one.answered and one.key not in stored for one in sent.values())
    outcome.unknown_stored = sum(not one.answered and one.key in stored for one in sent.values())
    outcome.unexpected = len(stored.keys() - sent.keys())
    outcome.twice = sum(count - 1 for count in stored.values())
    outcome.twice += sum(
        (row[1], row[3]) != (sent[row[0]].case, sent[row[0]].verdict) for row in opinions if row[0] in sent
    )
    first = Counter(case for case, _, stage, _, _ in decisions if stage != "adjudication")
    outcome.decided_twice = sum(count - 1 for count in first.values())
    verdicts: dict[str, set[str]] = {}
    settled = set()
    for _, case, stage, verdict, late, audited in opinions:
        outcome.without_audit += audited != 1
        outcome.late += late
        if stage == "adjudication" and not late:
            settled.add(case)
        else:
            verdicts.setdefault(case, set()).add(verdict)
    differing = {case for case, given in verdicts.items() if len(given) > 1}
    outcome.to_settle = len(settled)
    outcome.late_lost = len(differing - settled)
    outcome.late_agreeing = sum(row[4] and row[1] not in differing for row in opinions)
    outcome.without_audit += sum(row[3] != 1 for row in decisions)
    outcome.without_notice = sum(row[4] != 1 for row in decisions)
    outcome.left_over = storm.waiting(("review", "second", "adjudication"))
    outcome.faults = len(storm.faults)
    outcome.notes = storm.faults[:10]
