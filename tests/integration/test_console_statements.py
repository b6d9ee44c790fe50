"""The console's pages of statements and of the transparency report: filled, empty, asked wrongly, and by whom."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from moderation.domain import dsa
from moderation.domain.access import Role
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft, Outcome
from moderation.domain.routing import Route, Routing
from moderation.governance import sessions, transparency
from moderation.review import cases, decisions
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Decision, Item, StatementDelivery
from moderation.storage.vault import Vault
from tests import people, stating
from tests.people import Member
from tests.stating import World

STATEMENTS = "/console/governance/statements"
REPORT = "/console/governance/transparency"


@pytest.fixture
def world(databases: Databases, vault: Vault, blobs: FolderBlobs) -> World:
    return stating.world(databases, vault, blobs, datetime.now(UTC) - timedelta(days=2), 8, 0)


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEAD) as member:
        yield member


def removed(world: World, draft: CaseDraft | None = None) -> Decision:
    """What a machine removed, with a check of it if there is a draft of one."""
    [item] = world.posted(1)
    with transaction(world.databases.content) as session:
        routing = Routing(Route.REMOVE, "spam", 0.99, ("As drawn.",), ())
        row = session.get_one(Item, item)
        decisions.record(session, world.policy, [(row, Outcome(routing, (), (), draft))], world.tick())
    with transaction(world.databases.content) as session:
        return session.scalars(select(Decision).where(Decision.item_id == item)).one()


def test_the_pages_are_there_before_anything_has_happened(lead: Member) -> None:
    listing = lead.get(STATEMENTS)
    assert listing.status_code == 200
    assert "No statement fits." in listing.text
    assert "nobody set MODERATION_STATEMENTS_URL" in listing.text
    report = lead.get(REPORT)
    assert report.status_code == 200
    assert "None in this period." in report.text
    assert "nobody looked" in report.text


def test_a_statement_with_its_notice_in_a_language(lead: Member, world: World) -> None:
    made = removed(world)
    listing = lead.get(STATEMENTS)
    assert f"{STATEMENTS}/{made.id}" in listing.text
    page = lead.get(f"{STATEMENTS}/{made.id}", params={"language": "nl"})
    assert page.status_code == 200
    assert "Uw bericht is verwijderd" in page.text
    assert ">valid<" in page.text
    record = lead.get(f"{STATEMENTS}/{made.id}/statement.json")
    assert dsa.faults(record.json()) == []
    assert "attachment" in record.headers["content-disposition"]
    item = lead.get(f"/console/items/{made.item_id}")
    assert f"{STATEMENTS}/{made.id}" in item.text


def test_what_makes_no_sense_is_refused_with_a_sentence(lead: Member, world: World) -> None:
    made = removed(world)
    assert lead.get(f"{STATEMENTS}/{made.id}", params={"language": "tlh"}).status_code == 422
    assert lead.get(f"{STATEMENTS}/{UUID(int=5)}").status_code == 404
    assert lead.get(STATEMENTS, params={"state": "lost"}).status_code == 422
    assert lead.get(STATEMENTS, params={"before": "yesterday"}).status_code == 422
    for period in (
        {"from": "2026-13-01"},
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"from": "1980-01-01"},
    ):
        answer = lead.get(REPORT, params=period)
        assert answer.status_code == 422, period
        assert 'role="alert"' in answer.text
        assert lead.get(f"{REPORT}/report.csv", params=period).status_code == 422
    assert lead.get(f"{REPORT}/report.pdf").status_code == 422


def test_what_allows_has_no_statement_and_its_page_says_so(lead: Member, world: World) -> None:
    made = removed(world)
    with transaction(world.databases.content) as session:
        at = world.tick()
        lifted = decisions.reverse(session, world.vault, world.policy, world.judges[0], made.id, at)
    page = lead.get(f"{STATEMENTS}/{lifted}")
    assert "There is no statement of this decision." in page.text
    assert "Our earlier decision on your post was reversed" in page.text
    assert lead.get(f"{STATEMENTS}/{lifted}/statement.json").status_code == 409


def test_pages_go_on_and_show_what_was_refused(lead: Member, world: World, settings: Settings) -> None:
    rows = [removed(world) for _ in range(52)]
    now = datetime.now(UTC)
    with transaction(world.databases.content) as session:
        session.add(
            StatementDelivery(
                decision_id=rows[0].id, author_id=rows[0].author_id, puid=str(rows[0].id), state="refused",
                attempts=1, not_before=now, last_status=422, last_error="refused: category",
            )
        )  # fmt: skip
    first = lead.get(STATEMENTS)
    assert first.text.count(f'href="{STATEMENTS}/') == 50
    assert str(rows[0].id) not in first.text
    older = lead.get(STATEMENTS, params={"before": str(rows[2].id)})
    assert str(rows[0].id) in older.text
    refused = lead.get(STATEMENTS, params={"state": "refused"})
    assert refused.text.count(f'href="{STATEMENTS}/') == 1
    assert "refused: category" in refused.text
    on = replace(settings, statements_url="https://example.org/", statements_token="2|x")
    with people.logged_in(on, world.databases, world.vault, Role.AUDITOR) as auditor:
        shown = auditor.get(STATEMENTS)
        assert "1 refused" in shown.text
        assert f'href="{STATEMENTS}/' not in shown.text  # an auditor sees no items
        assert auditor.get(f"{STATEMENTS}/{rows[0].id}").status_code == 403


def test_whoever_judges_blind_learns_nothing_here(
    settings: Settings, databases: Databases, vault: Vault, world: World
) -> None:
    made = removed(world, CaseDraft(CaseReason.AUDIT, "spam", 1, 0.5, 0.2))
    [check] = world.open_cases(made.item_id)
    with people.logged_in(settings, databases, vault, Role.LEAD) as blind:
        assert blind.get(f"{STATEMENTS}/{made.id}").status_code == 200
        with transaction(databases.content) as session:
            me = sessions.authenticate(session, vault, blind.token, datetime.now(UTC))
            cases.claim(session, world.policy, me, check, datetime.now(UTC))
        refused = blind.get(f"{STATEMENTS}/{made.id}")
        assert refused.status_code == 409
        assert "judging this item blind" in refused.text
        assert blind.get(f"{STATEMENTS}/{made.id}/statement.json").status_code == 409
        assert str(made.id) not in blind.get(STATEMENTS).text


def test_the_report_is_taken_away_and_that_is_on_record(lead: Member, world: World) -> None:
    removed(world)
    now = datetime.now(UTC)
    begin, day = f"{now - timedelta(days=30):%Y-%m-%d}", f"{now:%Y-%m-%d}"
    period = {"from": begin, "to": day}
    as_json = lead.get(f"{REPORT}/report.json", params=period)
    assert json.loads(as_json.text)["statements"]["total"] == 1
    named = f"transparency-{now - timedelta(days=30):%Y%m%d}-{now:%Y%m%d}.json"
    assert named in as_json.headers["content-disposition"]
    as_csv = lead.get(f"{REPORT}/report.csv", params=period)
    assert as_csv.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(as_csv.text)))
    assert ["statements", "total", "", "1"] in rows
    page = lead.get(REPORT, params=period)
    assert "Other violation of provider" in page.text
    assert set(transparency.BY) == {
        "category", "source", "detection", "automation", "visibility", "account", "ground", "content_type",
        "language",
    }  # fmt: skip
    with transaction(world.databases.content) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "transparency.exported")).all()
    assert [event.details["format"] for event in sorted(events, key=lambda one: one.at)] == ["json", "csv"]
    assert {event.actor for event in events} == {f"person:{lead.person_id}"}
