"""A made-up day of review: a living console, made once, and never mixed with anybody's posts."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from moderation import demo_governance, demo_review
from moderation.governance import passwords, people
from moderation.review import cases, clusters, dashboard
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    Appeal,
    Case,
    Decision,
    Disclosure,
    Erasure,
    GoldenItem,
    Hold,
    Incident,
    Item,
    MinorCheck,
    Opinion,
    Partner,
    PolicyDraft,
    Preservation,
    Report,
    SubjectRequest,
)
from moderation.storage.vault import Vault
from tests import support
from tests.support import post


@pytest.fixture
def day(settings: Settings, databases: Databases) -> datetime:
    until = datetime.now(UTC)
    assert demo_review.run_day(settings, until, items=200) == 0
    return until


def test_a_day_has_everything_a_console_shows(
    day: datetime, settings: Settings, databases: Databases, vault: Vault, capsys: pytest.CaptureFixture[str]
) -> None:
    with transaction(databases.content) as session:
        received = session.scalars(select(Item.received_at)).all()
        assert min(received) < day - timedelta(hours=22)
        assert max(received) <= day
        assert len({moment.hour for moment in received}) == 24
        assert session.scalar(select(func.max(Opinion.given_at))) <= day + timedelta(minutes=15)
        opinions = Counter(session.scalars(select(Opinion.verdict)))
        assert all(opinions[verdict] for verdict in ("allow", "limit", "remove"))
        kinds = Counter(tuple(row) for row in session.execute(select(Case.kind, Case.state)))
        assert kinds["review", "open"] >= 10
        assert kinds["review", "closed"] >= 30
        assert kinds["quality", "closed"] > 0
        reasons = set(session.scalars(select(Case.reason)))
        assert {"bank", "report", "uncertain", "dead_letter", "appeal"} <= reasons
        assert session.scalar(select(func.count()).select_from(Appeal)) > 3
        assert {"open", "upheld", "reversed"} & set(session.scalars(select(Appeal.state)))
        assert session.scalar(select(func.count()).select_from(GoldenItem)) > 0
        assert session.scalar(select(func.count()).select_from(Report).where(Report.outcome.is_not(None))) > 5
        now = datetime.now(UTC)
        stale = select(Case.id).where(Case.state == "open", Case.claim_until < now)
        assert session.scalars(stale).all()
        states = cases.queues(session, now)
        assert len(states) >= 4
        assert sum(state.overdue for state in states) >= 1
        assert dashboard.waiting(session).items == 0
        people_decided = select(func.count()).select_from(Decision).where(Decision.person_id.is_not(None))
        assert session.scalar(people_decided) >= 30
        campaign = session.scalars(
            select(Case.item_id).where(Case.reason == "bank", Case.state == "open")
        ).all()
        assert any(clusters.near(session, item) for item in campaign)

    _governed(databases)
    _nobody_can_log_in(databases, vault)
    _made_once(settings, databases, capsys)


def _governed(databases: Databases) -> None:
    """One of everything that governance has a page for."""
    with transaction(databases.content) as session:
        states = {
            table: session.scalars(select(column)).all()
            for table, column in {
                "hold": Hold.state, "package": Preservation.cause, "disclosure": Disclosure.state,
                "minor": MinorCheck.state, "erasure": Erasure.state, "incident": Incident.kind,
                "partner": Partner.name, "draft": PolicyDraft.name,
            }.items()
        }  # fmt: skip
        requests = Counter(session.scalars(select(SubjectRequest.kind)))
    assert states["hold"] == ["active"]
    assert (states["disclosure"], states["minor"], states["erasure"]) == (
        ["requested"],
        ["suspected"],
        ["done"],
    )
    assert all(len(found) == 1 for found in states.values()), states
    assert requests == {"correct": 1, "export": 1, "object": 1}


def _nobody_can_log_in(databases: Databases, vault: Vault) -> None:
    with transaction(databases.content) as session:
        for name in (*demo_review.STAFF, *demo_governance.OFFICERS):
            found = people.find(session, vault, f"{name}@example.org")
            assert found is not None
            assert (found.password_hash, found.totp_secret) == ("", None)
            assert not passwords.matches(found.password_hash, "")


def _made_once(settings: Settings, databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    before = len(support.items(databases))
    capsys.readouterr()
    assert demo_review.run_day(settings) == 0
    assert len(support.items(databases)) == before
    assert "made before" in capsys.readouterr().err


def test_it_keeps_away_from_posts_of_others(
    client: TestClient, settings: Settings, databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    client.post("/v1/items", json=post("post-1"))
    assert demo_review.run_day(settings) == 1
    assert "must not be mixed" in capsys.readouterr().err
    assert len(support.items(databases)) == 1


def test_the_plain_demonstration_is_not_others(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    client.post("/v1/items", json=post("demo-1a2b-recipe"))
    assert demo_review.run_day(settings, items=60) == 0
    assert len(support.items(databases)) > 50
