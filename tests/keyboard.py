"""Decisions by keyboard at machine speed, and what the database has of them compared with what was pressed."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

from moderation.governance.people import email_digest
from tests import seeding
from tests.browser import Visitor
from tests.service import Service

WEIGHTS = {"allow": 40, "remove": 25, "limit": 12, "escalate": 8, "skip": 7, "undo": 8}
_SKIPS = {"1": "unsure", "2": "language", "3": "conflict_of_interest", "4": None}  # distress keeps no reason
# What is shown once a page listens; the form's key tells one visit of a case from another.
_SHOWN = """
(before) => {
  if (document.documentElement.dataset.ready !== 'true' || document.documentElement.dataset.busy) return null;
  const form = document.querySelector('form#decide');
  const shown = {path: location.pathname, case: '', key: '', stage: '', undo: false, digits: {}};
  if (form) {
    shown.case = form.dataset.case;
    shown.key = form.elements.form_key.value;
    shown.undo = document.querySelector('button[data-action=undo]') !== null;
    shown.escalate = document.querySelector('[data-action=escalate]') !== null;
    for (const label of document.querySelectorAll('[data-digit]'))
      shown.digits[label.dataset.digit] = label.querySelector('input').value;
    shown.restrictions = [...document.querySelectorAll('[name=restriction]:checked')].map((one) => one.value);
  }
  return shown.key === before && before !== '' ? null : shown;
}
"""


@dataclass(slots=True)
class Press:
    """One decision as it was pressed; `key` is of the form it was pressed on."""

    case: str
    key: str
    verdict: str
    category: str | None = None
    restrictions: tuple[str, ...] = ()
    undone: bool = False


@dataclass(slots=True)
class Pressed:
    """Everything that was pressed, in order, and how long it took."""

    decisions: list[Press] = field(default_factory=list)
    escalated: list[str] = field(default_factory=list)
    skipped: dict[str, str | None] = field(default_factory=dict)
    undone: int = 0
    seconds: float = 0.0

    @property
    def kinds(self) -> Counter[str]:
        """How many of each."""
        others = {"escalate": len(self.escalated), "skip": len(self.skipped), "undo": self.undone}
        return Counter(press.verdict for press in self.decisions) + Counter(others)


def shown(page: Page, before: str = "") -> dict[str, Any]:
    """Wait until a case is shown that is not the form `before`, or the queue when none is left."""
    found: dict[str, Any] = page.wait_for_function(_SHOWN, arg=before).json_value()
    assert found["case"] or found["path"] == "/console/queue", page.locator("main").inner_text()
    return found


def work(visitor: Visitor, count: int, seed: int) -> Pressed:
    """Take `count` decisions, each key the moment the page listens; undone ones count, as they are stored too."""
    chance = random.Random(seed)
    page, pressed, first = visitor.page, Pressed(), ["undo", *WEIGHTS][:-1]  # each kind once, then by chance
    visitor.go("/console/next")
    began, here = time.monotonic(), shown(page)
    while len(pressed.decisions) < count:
        assert here["case"], f"no case is left after {len(pressed.decisions)} decisions: {here['path']}"
        kind = first.pop() if first else chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if (kind == "undo" and not here["undo"]) or (kind == "escalate" and not here["escalate"]):
            kind = "allow"
        _act(page, kind, here, chance, pressed)
        here = shown(page, here["key"])
    pressed.seconds = time.monotonic() - began
    return pressed


def _act(page: Page, kind: str, here: dict[str, Any], chance: random.Random, pressed: Pressed) -> None:
    keyboard = page.keyboard
    if kind == "undo":
        taken_back = next(press for press in reversed(pressed.decisions) if not press.undone)
        taken_back.undone, pressed.undone = True, pressed.undone + 1
        keyboard.press("u")
    elif kind == "escalate":
        pressed.escalated.append(here["case"])
        keyboard.press("e")
        keyboard.type("all are keys here: a r l u")
        keyboard.press("Tab")
        keyboard.press("Enter")
    elif kind == "skip":
        digit = chance.choice(list(_SKIPS))
        pressed.skipped[here["case"]] = _SKIPS[digit]
        keyboard.press("s")
        keyboard.press(digit)
    elif kind == "allow":
        pressed.decisions.append(Press(here["case"], here["key"], "allow"))
        keyboard.press("a")
    else:
        digit = chance.choice(list(here["digits"]))
        restrictions = tuple(here["restrictions"]) if kind == "limit" else ()
        pressed.decisions.append(Press(here["case"], here["key"], kind, here["digits"][digit], restrictions))
        keyboard.press(digit)
        keyboard.press(kind[0])


_MINE = "(SELECT id FROM people WHERE email_digest = %s)"
_OPINIONS = f"""
SELECT form_key::text, case_id::text, verdict, category, restrictions, undone_at IS NOT NULL, late
FROM opinions WHERE person_id = {_MINE}
"""
_SKIPPED = f"SELECT case_id::text, reason FROM case_skips WHERE person_id = {_MINE}"
_ESCALATED = (
    f"SELECT case_id::text FROM case_notes WHERE kind = 'escalation' AND person_id = {_MINE} ORDER BY at"
)
_DECIDED = f"""
SELECT case_id::text, count(*) FROM decisions WHERE undone_at IS NULL AND person_id = {_MINE} GROUP BY 1
"""


def differences(service: Service, pressed: Pressed, email: str) -> list[str]:
    """Where the database says anything but what was pressed by `email`; empty when it agrees one by one."""
    with seeding.opened(service) as (_, vault):
        digest = email_digest(vault, email)
    with service.database() as database:
        stored = {row[0]: row[1:] for row in database.execute(_OPINIONS, [digest]).fetchall()}
        skipped: dict[str, str | None] = dict(database.execute(_SKIPPED, [digest]).fetchall())
        escalated = [row[0] for row in database.execute(_ESCALATED, [digest]).fetchall()]
        decided: dict[str, int] = dict(database.execute(_DECIDED, [digest]).fetchall())
    wrong: list[str] = []
    for press in pressed.decisions:
        wanted = (press.case, press.verdict, press.category, list(press.restrictions), press.undone, False)
        if stored.get(press.key) != wanted:
            wrong.append(f"pressed {wanted}, stored {stored.get(press.key)}")
    never = stored.keys() - {press.key for press in pressed.decisions}
    wrong += [f"stored and never pressed: {stored[key]}" for key in never]
    kept = dict(Counter(press.case for press in pressed.decisions if not press.undone))
    for name, found, wanted_rows in (
        ("decided", decided, kept),
        ("skipped", skipped, pressed.skipped),
        ("escalated", escalated, pressed.escalated),
    ):
        if found != wanted_rows:
            wrong.append(f"{name}: {found} instead of {wanted_rows}")
    return wrong
