"""Signed reports: counted from the log alone, the same whenever they are made, and missed when they are late."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.errors import InvalidInput, Unavailable
from moderation.domain.purposes import Purpose
from moderation.domain.reporting import Period, ReportKind, Schedule
from moderation.governance import audit, ledger, report_counts, reports, signing
from moderation.governance.audit import Event
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Item, SignedReport
from moderation.storage.vault import Vault
from moderation.upkeep import opened, tasks
from tests import people, support
from tests.caseload import Caseload

DAY = timedelta(days=1)
ANN = "person:019ab000-0000-7000-8000-00000000000a"


@pytest.fixture
def period() -> Period:
    """The month in which the installation began."""
    since = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return Period(since, (since + 40 * DAY).replace(day=1))


@pytest.fixture
def after(period: Period) -> datetime:
    """A moment at which the month is over."""
    return period.until + timedelta(hours=2)


def happened(databases: Databases, at: datetime, *events: Event) -> None:
    with transaction(databases.content) as session:
        audit.record(session, events, at)


def signed_log(databases: Databases, vault: Vault, now: datetime) -> None:
    """Number every event and sign the tree, as the relay does."""
    with transaction(databases.content) as session:
        while ledger.sequence(session, 1000):
            pass
        ledger.checkpoint(session, vault, now)


def a_month(databases: Databases, vault: Vault, period: Period, after: datetime) -> None:
    """Some of everything that reports count."""
    at = period.since + DAY
    happened(
        databases,
        at,
        Event("operator", "person.created", "person", ANN.removeprefix("person:"), {"roles": ["moderator"]}),
        Event(ANN, "case.viewed", "case", "1"),
        Event(ANN, "case.viewed", "case", "1"),
        Event(ANN, "item.viewed", "item", "2", purpose=Purpose.RIGHTS),
        Event("partner:labs", "partner.item_read", "item", "2"),
        Event("machine", "item.expired", "item", "3", {"class": "allowed"}),
        Event("machine", "item.destroyed", "item", "3", {"class": "allowed"}),
        Event("machine", "hold.approved", "hold", "4"),
    )
    for day, late in ((1, 5), (2, 0)):
        kept = {"allowed": {"kept": 10 - day, "overdue": late, "held": 1}}
        happened(
            databases,
            period.since + day * DAY,
            Event("machine", report_counts.MEASURED, "retention", str(day), kept),
        )
    happened(databases, period.since - DAY, Event(ANN, "case.viewed", "case", "9"))
    signed_log(databases, vault, after)


@pytest.mark.parametrize("kind", list(ReportKind))
def test_a_report_made_again_after_later_events_is_the_same_byte_for_byte(
    databases: Databases, vault: Vault, period: Period, after: datetime, kind: ReportKind
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        first = reports.counted(session, kind, period)
        report = reports.make(session, vault, kind, period, "operator", after)
        assert report.document.encode() == first
    happened(
        databases,
        after + DAY,
        Event(ANN, "case.viewed", "case", "7"),
        Event("machine", "item.destroyed", "item", "8", {"class": "allowed"}),
        Event("operator", "person.roles_changed", "person", ANN.removeprefix("person:"), {"to": ["lead"]}),
    )
    signed_log(databases, vault, after + DAY)
    with transaction(databases.content) as session:
        assert reports.counted(session, kind, period) == first
        assert reports.check(session, vault, report) == reports.Checked(signed=True, again=True)
        again = reports.make(session, vault, kind, period, "operator", after + 2 * DAY)
        assert again == report, "one report for a period"


def test_the_audit_report_counts_by_family_and_cites_the_tree(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        counts = reports.make(session, vault, ReportKind.AUDIT, period, "operator", after).counts
        last = ledger.last_checkpoint(session)
    assert counts["events"] == 10
    assert counts["by_family"] == {
        "case": 2, "hold": 1, "item": 3, "partner": 1, "person": 1, "retention": 2,
    }  # fmt: skip
    assert counts["by_actor"] == {"machine": 5, "operator": 1, "partner": 1, "person": 3}
    assert last is not None
    assert counts["log"]["checkpoint"]["root"] == last.root.hex()


def test_the_access_report_says_who_saw_what_for_which_purpose(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        counts = reports.make(session, vault, ReportKind.ACCESS, period, "operator", after).counts
    assert counts["reads"] == 4
    assert counts["by_purpose"] == {"legal": 1, "review": 2, "rights": 1}
    assert counts["by_role"] == {
        "moderator": {"case.viewed": 2, "item.viewed": 1}, "partner": {"partner.item_read": 1},
    }  # fmt: skip
    viewed = next(one for one in counts["by_actor"] if one["action"] == "case.viewed")
    assert viewed == {"actor": ANN, "action": "case.viewed", "purpose": "review", "count": 2, "subjects": 1}


def test_the_retention_report_says_what_was_kept_overdue_and_swept_by_class(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        counts = reports.make(session, vault, ReportKind.RETENTION, period, "operator", after).counts
    assert counts["measured_on"] == ["1", "2"]
    assert counts["by_class"] == {
        "allowed": {
            "kept": 8, "held": 1, "held_at_most": 1, "overdue": 0, "overdue_at_most": 5, "came_due": 1, "swept": 1,
        }
    }  # fmt: skip
    assert counts["events"] == {"hold.approved": 1, "retention.measured": 2}


def test_an_unsigned_log_is_not_reported_on(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    happened(databases, period.since + DAY, Event("machine", "item.expired", "item", "3"))
    with transaction(databases.content) as session, pytest.raises(Unavailable, match="checkpoint"):
        reports.make(session, vault, ReportKind.AUDIT, period, "operator", after)
    with transaction(databases.content) as session:
        made = reports.make_next(session, vault, Schedule.MONTHLY, "machine", after)
        assert made is not None
        assert made.kind is not ReportKind.AUDIT, "the others do not wait for it"


def test_a_period_that_is_not_over_has_no_report(databases: Databases, vault: Vault, period: Period) -> None:
    with transaction(databases.content) as session, pytest.raises(InvalidInput, match="not over"):
        reports.make(session, vault, ReportKind.ACCESS, period, "operator", period.until - DAY)


def test_a_report_that_was_changed_is_found_out(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        report = reports.make(session, vault, ReportKind.ACCESS, period, "operator", after)
        fewer = replace(report, document=report.document.replace('"reads":4', '"reads":3'))
        assert fewer.document != report.document
        assert reports.check(session, vault, fewer) == reports.Checked(signed=False, again=False)


def test_a_report_is_checked_by_whoever_has_the_file_and_the_key(
    databases: Databases, vault: Vault, period: Period, after: datetime
) -> None:
    a_month(databases, vault, period, after)
    with transaction(databases.content) as session:
        report = reports.make(session, vault, ReportKind.ACCESS, period, "operator", after)
        held = json.loads(reports.envelope(report, signing.public_key(vault)))
        assert reports.check(session, vault, reports.opened(held)).signed
    assert signing.verify(held["public_key"], held["purpose"], held["document"].encode(), held["signature"])
    assert not signing.verify(held["public_key"], "another", held["document"].encode(), held["signature"])
    for broken in ({}, [], {"document": "{}", "signature": ""}, {"document": 3, "signature": ""}):
        with pytest.raises(InvalidInput, match="no signed report"):
            reports.opened(broken)


def test_what_is_kept_is_measured_once_a_day(load: Caseload, databases: Databases) -> None:
    items = load.items(3)
    with transaction(databases.content) as session:
        session.execute(
            update(Item).where(Item.id == items[0]).values(expires_at=load.now - timedelta(hours=2))
        )
        session.execute(
            update(Item).where(Item.id == items[1]).values(expires_at=load.now - 2 * DAY, holds=1)
        )
        assert report_counts.measure(session, load.now)
        assert not report_counts.measure(session, load.now + timedelta(hours=3))
        assert report_counts.measure(session, load.now + DAY)
        (first, _) = session.scalars(
            select(AuditEvent.details)
            .where(AuditEvent.action == report_counts.MEASURED)
            .order_by(AuditEvent.id)
        )
    assert first == {"pending": {"kept": 3, "overdue": 1, "held": 1}}


def test_upkeep_makes_what_is_owed(
    settings: Settings, databases: Databases, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    support.unprotected(
        databases.content, "UPDATE policies SET published_at = published_at - interval '40 days'"
    )
    try:
        with opened(settings) as upkeep:
            for task in tasks(upkeep):
                if task.seconds == 300.0:
                    task.task()
        with transaction(databases.content) as session:
            kinds = session.scalars(select(SignedReport.kind)).all()
            assert session.scalars(select(SignedReport.made_by)).first() == "machine"
    finally:
        support.unprotected(
            databases.content, "UPDATE policies SET published_at = published_at + interval '40 days'"
        )
    assert set(kinds) == set(ReportKind)


def test_the_console_lists_makes_shows_and_hands_over(
    settings: Settings, databases: Databases, vault: Vault
) -> None:
    support.unprotected(
        databases.content, "UPDATE policies SET published_at = published_at - interval '40 days'"
    )
    try:
        with people.logged_in(settings, databases, vault, "auditor") as auditor:
            assert "To be made" in auditor.get("/console/governance/reports").text
            made = auditor.post("/console/governance/reports")
            assert made.headers["location"] == "/console/governance/reports?said=made"
            with transaction(databases.content) as session:
                ids = session.scalars(select(SignedReport.id)).all()
            for one in ids:
                shown = auditor.get(f"/console/governance/reports/{one}")
                assert shown.status_code == 200
                assert "ours" in shown.text
                file = auditor.get(f"/console/governance/reports/{one}/download")
                assert json.loads(file.text)["signature"]
            assert "To be made" not in auditor.get("/console/governance/reports").text
    finally:
        support.unprotected(
            databases.content, "UPDATE policies SET published_at = published_at + interval '40 days'"
        )
    with people.logged_in(settings, databases, vault, "lead") as lead:
        assert lead.get("/console/governance/reports").status_code == 200
        assert lead.post("/console/governance/reports").status_code == 403


def test_readiness_turns_amber_and_stays_ready(
    settings: Settings, databases: Databases, client: TestClient
) -> None:
    assert client.get("/readyz").json()["checks"]["reports"] == "ok"
    support.unprotected(
        databases.content, "UPDATE policies SET published_at = published_at - interval '90 days'"
    )
    try:
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["reports"] == "overdue"
    finally:
        support.unprotected(
            databases.content, "UPDATE policies SET published_at = published_at + interval '90 days'"
        )
