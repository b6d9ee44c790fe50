"""What every page must be, whatever it says: accessible, as wide as the window, with targets a finger can hit."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, ViewportSize
from sqlalchemy import select, update

from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement
from moderation.governance import policies
from moderation.review import cases, opinions
from moderation.review.opinions import Given
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Decision
from moderation.storage.vault import Vault
from tests import browser, people, seeding
from tests.browser import Visitor
from tests.service import Service

# All of axe's rules, those that are off by default for being as new as WCAG 2.2 too.
_AXE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
LOOKS: tuple[tuple[ViewportSize, Literal["light", "dark"]], ...] = (
    (browser.NARROW, "dark"),
    (browser.WIDE, "light"),
    (browser.WIDE, "dark"),
    (browser.NARROW, "light"),
)
SMALLEST = 24  # CSS pixels, WCAG 2.2's success criterion 2.5.8

# A link within a sentence is as high as its line, and what only a screen reader sees has no size.
_TARGETS = """
(smallest) => [...document.querySelectorAll(
    'button, input:not([type=hidden]), select, textarea, summary, nav a, a.button, [role=button]')]
  .filter((one) => one.checkVisibility({visibilityProperty: true, opacityProperty: true}))
  .map((one) => {
    const label = ['checkbox', 'radio'].includes(one.type) && one.labels && one.labels[0];
    const box = (label || one).getBoundingClientRect();
    const name = (one.getAttribute('aria-label') || one.textContent || one.name || '').trim().slice(0, 40);
    return [one.tagName.toLowerCase(), name, box.width, box.height];
  })
  .filter(([, , width, height]) => width > 1 && height > 1 && Math.min(width, height) < smallest - 0.5)
  .map(([tag, name, width, height]) => `${tag} "${name}" ${width.toFixed(0)}x${height.toFixed(0)}`)
"""
_WIDEST = """
() => [...document.querySelectorAll('body *')]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .filter((one) => {  // what scrolls by itself, or is cut off, makes no page wide
    for (let above = one.parentElement; above; above = above.parentElement)
      if (above !== document.body && getComputedStyle(above).overflowX !== 'visible') return false;
    return true;
  })
  .slice(0, 5).map((one) => `${one.tagName.toLowerCase()}.${one.className}`)
"""


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page as it stands."""
    if page.evaluate("() => window.axe === undefined"):
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate("options => axe.run(document, options)", _AXE)["violations"]
    return [
        f"{one['id']} ({one['impact']}): {', '.join(str(node['target'][0]) for node in one['nodes'][:4])}"
        for one in found
    ]


def too_wide(page: Page) -> list[str]:
    """What makes the page scroll sideways, if it does."""
    beyond = page.evaluate("() => document.scrollingElement.scrollWidth - innerWidth")
    return [f"{beyond} px too wide: {page.evaluate(_WIDEST)}"] if beyond > 0 else []


def too_small(page: Page) -> list[str]:
    """Targets that a finger misses."""
    found: list[str] = page.evaluate(_TARGETS, SMALLEST)
    return found


def examine(visitor: Visitor, looks: int = 2) -> list[str]:
    """Everything wrong with the page as it stands, in the first so many of `LOOKS`."""
    page = visitor.page
    wrong: list[str] = []
    for viewport, scheme in LOOKS[:looks]:
        page.set_viewport_size(viewport)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        here = f"{viewport['width']} px, {scheme}: "
        wrong += [here + one for one in (*violations(page), *too_wide(page))]
        if viewport is browser.NARROW:
            wrong += [here + one for one in too_small(page)]
    page.set_viewport_size(browser.WIDE)
    page.emulate_media(color_scheme="light")
    return wrong


def examine_all(visitor: Visitor, addresses: Mapping[str, str], looks: int = 2) -> dict[str, list[str]]:
    """What is wrong on which page; nothing is left out for being wrong."""
    found = {}
    for address in addresses.values():
        visitor.go(address)
        if wrong := examine(visitor, looks):
            found[address] = wrong
    return found


# Answers that are no pages: pictures, styles, and those that only lead elsewhere. The door is looked at apart.
NO_PAGES = {
    "/console",
    "/console/next",
    "/console/media/{case_id}/{position}",
    "/console/static/{version}/{name:path}",
    "/console/oidc",
    "/console/oidc/callback",
    "/console/login",
    "/console/join/{token}",
}
_ALWAYS = (
    "/console/", "/console/queue", "/console/items", "/console/appeals", "/console/banks", "/console/policy",
    "/console/policy/edit", "/console/policy/versions", "/console/quality", "/console/people", "/console/keys",
    "/console/audit", "/console/settings", "/console/account", "/console/account/totp",
    "/console/account/passkeys/new", "/console/second-factor",
)  # fmt: skip
_ONE_OF_EACH = {
    "/console/cases/{case_id}": "SELECT id FROM cases WHERE state = 'open' ORDER BY id LIMIT 1",
    "/console/cases/{case_id}/cluster": """
        SELECT c.id FROM cases c JOIN sketches a ON a.item_id = c.item_id
        JOIN sketches b ON b.key = a.key AND b.item_id <> a.item_id
        JOIN cases other ON other.item_id = b.item_id AND other.state = 'open'
        WHERE c.state = 'open' AND c.stage = 'review' ORDER BY c.id LIMIT 1""",
    "/console/items/{item_id}": "SELECT item_id FROM decisions WHERE person_id IS NOT NULL ORDER BY id LIMIT 1",
    "/console/items/{item_id}/content": "SELECT id FROM items ORDER BY id LIMIT 1",
    "/console/items/{item_id}/reverse": """
        SELECT item_id FROM decisions WHERE route = 'remove' AND superseded_at IS NULL
        AND effective_at <= now() ORDER BY id LIMIT 1""",
    "/console/authors/{author_id}": "SELECT author_id FROM decisions ORDER BY id LIMIT 1",
    "/console/banks/{name}": "SELECT name FROM banks ORDER BY name LIMIT 1",
    "/console/policy/versions/{version}": "SELECT max(version) FROM policies",
    "/console/people/{person_id}": "SELECT id FROM people ORDER BY id LIMIT 1",
}


def addresses(service: Service) -> dict[str, str]:
    """Every page by its route, and the address of one such page where there is something to show."""
    found = {route: route for route in _ALWAYS}
    with service.database() as database:
        for route, statement in _ONE_OF_EACH.items():
            row = database.execute(statement).fetchone()
            if row is not None and row[0] is not None:
                found[route] = re.sub(r"{.*?}", str(row[0]), route)
    return found


def fill(service: Service) -> None:
    """Something for every page to show: pictures, near-duplicates, a report, decisions, an appeal, notes."""
    items = seeding.cases(service, 6, seed=1, pictures=2)
    text = seeding.sentence(random.Random(1))
    seeding.alike(service, [f"{text} Number {number} of three, and nothing else." for number in range(3)])
    now = datetime.now(UTC)
    with seeding.opened(service) as (databases, vault):
        _decide(databases, vault, items[:3], now)
    with service.client() as client:
        decided = client.get(f"/v1/items/{items[0]}").json()["decision_id"]
        report = {"reporter": "reader-1", "category": "harassment", "comment": "This is about my sister."}
        client.post(f"/v1/items/{items[4]}/reports", json=report).raise_for_status()
        client.post(f"/v1/decisions/{decided}/informed", json={}).raise_for_status()
        appeal = {"by": "author", "statement": "It was meant as a joke among friends."}
        client.post(f"/v1/decisions/{decided}/appeals", json=appeal).raise_for_status()


def _decide(databases: Databases, vault: Vault, items: Sequence[str], now: datetime) -> None:
    """Remove these items; it takes effect at once, as nobody here waits for it."""
    judge = people.principal(databases, vault, "moderator", "lead")
    with transaction(databases.content) as session:
        policy = policies.PolicyCache().current(session)
        for item in items:
            case = session.scalars(select(Case).where(Case.item_id == UUID(item))).one()
            number = cases.claim(session, policy, judge, case.id, now).number
            judgement = Judgement(Verdict.REMOVE, "spam", measure=AccountMeasure.STRIKE)
            given = Given(uuid4(), judgement, "Seen twice this week.")
            opinions.give(session, vault, policy, judge, case.id, number, given, now, dice=0.99)
        session.execute(update(Decision).where(Decision.case_id.is_not(None)).values(effective_at=now))
