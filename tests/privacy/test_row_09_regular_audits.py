"""Row 9: signed reports come by themselves, are missed when they don't, and are the same whoever counts again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from moderation.domain.reporting import GRACE, Period, ReportKind, Schedule
from moderation.governance import audit, ledger, reports
from moderation.governance.audit import Event
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault
from moderation.upkeep import opened, tasks
from tests import people, support

MONTH = Schedule.MONTHLY


@contextmanager
def begun(databases: Databases, days: int) -> Iterator[None]:
    """As if the installation had begun so many days ago."""
    move = "UPDATE policies SET published_at = published_at {} interval '{} days'"
    support.unprotected(databases.content, move.format("-", days))
    try:
        yield
    finally:
        support.unprotected(databases.content, move.format("+", days))


def test_overdue_turns_readiness_amber_until_they_are_made(
    settings: Settings, databases: Databases, vault: Vault, client: TestClient
) -> None:
    assert client.get("/readyz").json()["status"] == "ok"
    with begun(databases, 95):
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["checks"]["reports"] == "overdue"
        with people.logged_in(settings, databases, vault, "auditor") as auditor:
            assert "overdue" in auditor.get("/console/governance").text
            assert "overdue" in auditor.get("/console/governance/reports").text
        with opened(settings) as upkeep:
            for task in tasks(upkeep):
                task.task()
        assert client.get("/readyz").json()["status"] == "ok"


def test_overdue_by_the_clock(databases: Databases, vault: Vault) -> None:
    now = datetime.now(UTC)
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=40)).replace(day=1)
    with transaction(databases.content) as session:
        for moment, owed, overdue in (
            (now, 0, 0),
            (following + timedelta(hours=2), 3, 0),
            (following + GRACE, 3, 3),
        ):
            found = reports.outstanding(session, MONTH, moment)
            assert (len(found), sum(one.overdue for one in found)) == (owed, overdue)
        assert reports.outstanding(session, Schedule.OFF, following + GRACE) == []


@pytest.mark.parametrize("kind", list(ReportKind))
def test_a_report_is_reproducible_from_data(databases: Databases, vault: Vault, kind: ReportKind) -> None:
    since = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    period = Period(since, (since + timedelta(days=40)).replace(day=1))
    for at in (period.since + timedelta(days=1), period.until + timedelta(days=1)):
        with transaction(databases.content) as session:
            viewed = Event("person:1", "item.viewed", "item", "2")
            ended = Event("machine", "item.destroyed", "item", "3", {"class": "allowed"})
            audit.record(session, [viewed, ended], at)
        with transaction(databases.content) as session:
            ledger.sequence(session, 1000)
            ledger.checkpoint(session, vault, at)
        with transaction(databases.content) as session:
            made = reports.make(session, vault, kind, period, "machine", period.until + timedelta(days=1))
            assert reports.check(session, vault, made) == reports.Checked(signed=True, again=True)
