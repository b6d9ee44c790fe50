"""What every page must be, whatever it says: accessible, as wide as the window, with targets a finger can hit."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

import httpx
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, ViewportSize
from sqlalchemy import select, update

from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement
from moderation.domain.erasing import Cause
from moderation.domain.reporting import Period, ReportKind
from moderation.domain.signals import BankAction, Match
from moderation.governance import (
    bank_guard,
    banks,
    drafts,
    erasure,
    learning,
    partners,
    policies,
    report_counts,
    reports,
)
from moderation.review import cases, opinions
from moderation.review.opinions import Given
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Decision, Item
from moderation.storage.vault import Vault
from tests import authorities, browser, people, promising, seeding
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
    "/console/governance/erasures/{erasure_id}/receipt.json",
    "/console/governance/evidence/{item_id}/{position}",
    "/console",
    "/console/next",
    "/console/audit/checkpoint",
    "/console/audit/proof/{identifier}",
    "/console/media/{case_id}/{position}",
    "/console/static/{version}/{name:path}",
    "/console/oidc",
    "/console/oidc/callback",
    "/console/login",
    "/console/join/{token}",
    "/console/governance/holds/{hold_id}/items/{item_id}/{position}",
    "/console/governance/preservations/{package_id}/picture",
    "/console/governance/statements/{decision_id}/statement.json",
    "/console/governance/transparency/report.{form}",
    "/console/governance/reports/{report_id}/download",
}
_ALWAYS = (
    "/console/governance/retention", "/console/governance/erasures", "/console/governance/evidence",
    "/console/", "/console/queue", "/console/items", "/console/appeals", "/console/banks", "/console/policy",
    "/console/policy/edit", "/console/policy/versions", "/console/quality", "/console/governance",
    "/console/people", "/console/keys", "/console/audit", "/console/settings", "/console/account",
    "/console/account/totp",
    "/console/account/passkeys/new", "/console/second-factor", "/console/governance/holds",
    "/console/governance/preservations", "/console/governance/disclosures", "/console/governance/incidents",
    "/console/governance/transparency", "/console/governance/statements", "/console/governance/reports",
    "/console/policy/drafts", "/console/models", "/console/promises",
    "/console/governance/requests", "/console/governance/minors", "/console/governance/partners",
)  # fmt: skip
_ONE_OF_EACH = {
    "/console/governance/erasures/{erasure_id}": "SELECT id FROM erasures ORDER BY id LIMIT 1",
    "/console/governance/evidence/{item_id}": """
        SELECT id FROM items WHERE state = 'deleted' AND destroyed_at IS NULL AND retention_class = 'grave'
        ORDER BY id LIMIT 1""",
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
    "/console/governance/statements/{decision_id}": """
        SELECT id FROM decisions WHERE route = 'remove' AND effective_at <= now() AND undone_at IS NULL
        ORDER BY id LIMIT 1""",
    "/console/governance/requests/{request_id}": "SELECT id FROM subject_requests WHERE kind = 'correct' LIMIT 1",
    "/console/governance/minors/{check_id}": "SELECT id FROM minor_checks ORDER BY id LIMIT 1",
    "/console/governance/partners/{name}": "SELECT name FROM partners ORDER BY name LIMIT 1",
    "/console/governance/holds/{hold_id}": "SELECT id FROM holds WHERE state = 'active' ORDER BY id LIMIT 1",
    "/console/governance/holds/{hold_id}/items/{item_id}": """
        SELECT hold_id, held_items.item_id FROM held_items JOIN holds ON holds.id = hold_id
        WHERE state = 'active' ORDER BY held_items.item_id LIMIT 1""",
    "/console/governance/preservations/{package_id}": "SELECT id FROM preservations ORDER BY id LIMIT 1",
    "/console/governance/preservations/{package_id}/files": "SELECT id FROM preservations ORDER BY id LIMIT 1",
    "/console/governance/preservations/{package_id}/file": "SELECT id FROM preservations ORDER BY id LIMIT 1",
    "/console/governance/disclosures/{disclosure_id}": "SELECT id FROM disclosures ORDER BY id LIMIT 1",
    "/console/governance/incidents/{incident_id}": "SELECT id FROM incidents ORDER BY id LIMIT 1",
    "/console/authors/{author_id}": "SELECT author_id FROM decisions ORDER BY id LIMIT 1",
    "/console/banks/{name}": "SELECT name FROM banks ORDER BY kind LIMIT 1",
    "/console/banks/{name}/entries/{entry_id}": """
        SELECT b.name, e.id FROM bank_entries e JOIN banks b ON b.id = e.bank_id
        WHERE e.quarantined_at IS NOT NULL ORDER BY e.id LIMIT 1""",
    "/console/policy/versions/{version}": "SELECT max(version) FROM policies",
    "/console/policy/drafts/{draft_id}": "SELECT id FROM policy_drafts ORDER BY name DESC LIMIT 1",
    "/console/policy/drafts/{draft_id}/simulate": "SELECT id FROM policy_drafts ORDER BY name DESC LIMIT 1",
    "/console/governance/reports/{report_id}": "SELECT id FROM signed_reports ORDER BY kind LIMIT 1",
    "/console/models/{name}/{version}": "SELECT name, version FROM models WHERE kind = 'text' LIMIT 1",
    "/console/models/{name}/{version}/shadow": "SELECT name, version FROM models WHERE kind = 'text' LIMIT 1",
    "/console/models/{name}/{version}/simulate": "SELECT name, version FROM models WHERE kind = 'text' LIMIT 1",
    "/console/promises/{certificate_id}": "SELECT id FROM certificates ORDER BY id LIMIT 1",
    "/console/people/{person_id}": "SELECT id FROM people ORDER BY id LIMIT 1",
}


def addresses(service: Service) -> dict[str, str]:
    """Every page by its route, and the address of one such page where there is something to show."""
    found = {route: route for route in _ALWAYS}
    with service.database() as database:
        for route, statement in _ONE_OF_EACH.items():
            row = database.execute(statement).fetchone()
            if row is not None and row[0] is not None:
                found[route] = _address(route, row)
    return found


def _address(route: str, row: Sequence[object]) -> str:
    """A route with a value in place of each parameter."""
    for value in row:
        route = re.sub(r"{.*?}", str(value), route, count=1)
    return route


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
        _rights(client)
    authorities.fill(service, items, now)
    with seeding.opened(service) as (databases, vault):
        _partner(databases, vault, items[3], now)
        _promises(databases, now)
        _draft(databases, now)
        _reports(databases, vault, now)
        _banks(databases, vault, now)
    _ended(service, now)


def _banks(databases: Databases, vault: Vault, now: datetime) -> None:
    """A bank of pictures by their hashes, one of which is in quarantine; and how often it matched before."""
    with transaction(databases.content) as session:
        banks.create(
            session, name="known_pictures", kind="image", category="spam", action="remove", allow=False,
            actor="operator", now=now - timedelta(days=20), distance=28, sample_share=0.25, source="A list of May",
        )  # fmt: skip
        for number in range(3):
            known = banks.add_content(
                session, vault, bank="known_pictures", content=f"{0x0F << number:02x}".encode() * 32, form="pdq",
                note="A picture that comes again and again.", verified=number < 2, actor="operator",
                now=now - timedelta(days=20 - number),
            ).id  # fmt: skip
            if number == 1:
                match = Match("photo", "known_pictures", str(known), "spam", BankAction.REMOVE, verified=True)
                for ago, hits in ((6, 1), (4, 3), (3, 2), (0, 90)):
                    found = [(uuid4(), [match]) for _ in range(hits)]
                    bank_guard.count(session, found, now - timedelta(days=ago))
        session.flush()
        bank_guard.watch(session, now)


def _ended(service: Service, now: datetime) -> None:
    """Somebody who was erased, and an item that the law has kept after its content service deleted it."""
    with service.client() as client:
        for author in ("leaving-1", "leaving-2"):
            part = {"type": "text", "name": "body", "text": "See you all some other time."}
            body = {"external_id": author, "author": author, "kind": "comment", "parts": [part]}
            made = client.post("/v1/items?wait=20", json=body).raise_for_status().json()
    with seeding.opened(service) as (databases, vault), transaction(databases.content) as session:
        name = session.scalars(select(Item.client).where(Item.id == UUID(made["id"]))).one()
        erasure.request(
            session, vault, client=name, author_id=erasure.author_of(session, vault, name, "leaving-1"),
            cause=Cause.CANCELLATION, requested_by=f"client:{name}", now=now,
        )  # fmt: skip
        kept = {
            "state": "deleted", "lease_token": None, "lease_until": None, "deleted_at": now,
            "deleted_because": erasure.BY_CLIENT, "retention_class": "grave",
            "expires_at": now + timedelta(days=365),
        }  # fmt: skip
        session.execute(update(Item).where(Item.id == UUID(made["id"])).values(kept))


def _promises(databases: Databases, now: datetime) -> None:
    """Promises, two of which are certified, and a certificate that ended."""
    with transaction(databases.content) as session:
        policy = promising.publish(session, now)
        for _ in range(2):
            promising.certify(session, policy, now)
    with transaction(databases.content) as session:
        rounds = (("forum", "There are too few labels."), (None, "The version does not pass its gates."))
        for client, trouble in rounds:
            learning.without_labels(session, new_id(now), client, "operator", trouble, now)


def _draft(databases: Databases, now: datetime) -> None:
    """A draft that would send more before people, and an announced version."""
    with transaction(databases.content) as session:
        base, document = policies.newest_document(session)
        changed = re.sub(r"allow_below: [0-9.]+", "allow_below: 0.0", document)
        drafts.save(session, name="More to people", document=changed, base=base, by="operator", now=now)
        drafts.save(session, name="Half done", document="name: [", base=base, by="operator", now=now)
        policies.publish(session, changed, "operator", now, effective_at=now + timedelta(days=10))


def _reports(databases: Databases, vault: Vault, now: datetime) -> None:
    """Signed reports on what has happened so far, and on the quiet day before."""
    day = timedelta(days=1)
    with transaction(databases.content) as session:
        report_counts.measure(session, now)
        for kind in (ReportKind.ACCESS, ReportKind.RETENTION):
            reports.make(session, vault, kind, Period(now - day, now), "operator", now)
        reports.make(session, vault, ReportKind.AUDIT, Period(now - 3 * day, now - 2 * day), "operator", now)


def _rights(client: httpx.Client) -> None:
    """Requests that wait and that were answered, and a suspected minor."""
    for author, kind, verified in (
        ("1-3", "correct", True),
        ("1-3", "access", True),
        ("1-4", "erase", False),
    ):
        body = {"kind": kind, "identity_verified": verified, "details": "The language is not English."}
        client.post(f"/v1/subjects/author-{author}/requests", json=body).raise_for_status()
    client.post("/v1/subjects/author-1-5/minor-notice").raise_for_status()


def _partner(databases: Databases, vault: Vault, item: str, now: datetime) -> None:
    """A partner who may read an item."""
    with transaction(databases.content) as session:
        partners.create(
            session, vault, name="lab", purpose="review", fields=["text", "language"], actor="operator",
            expires_at=now + timedelta(days=30), now=now,
        )  # fmt: skip
        partners.assign(session, "lab", "operator", now, items=[UUID(item)])


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
