"""Row 18: after an objection, restriction or withdrawal no machine judges and no trainer reads; nor in a race."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation import worker
from moderation.domain.content import Lane
from moderation.domain.errors import InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import Right
from moderation.governance import restriction
from moderation.pipeline import run
from moderation.review import labels
from moderation.review.labels import Wanted
from moderation.settings import Settings
from moderation.storage import items as queue
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Decision, Item, SignalRow, Sketch
from moderation.storage.vault import Vault
from tests import reviewing, support
from tests.judging import Floor, at_once

DAY, LEASE = timedelta(days=1), timedelta(seconds=120)


def use(client: TestClient, kind: str, author: str) -> None:
    body = {"kind": kind, "identity_verified": True}
    client.post(f"/v1/subjects/{author}/requests", json=body).raise_for_status()


@pytest.mark.parametrize("kind", ["restrict", "object", "withdraw"])
def test_what_waits_when_the_right_is_used_is_judged_by_no_machine(
    client: TestClient, settings: Settings, databases: Databases, kind: str
) -> None:
    item = reviewing.submitted(client)
    use(client, kind, "acct-1")
    support.drain(settings, dice=0.0)
    with transaction(databases.content) as session:
        assert not session.scalars(select(SignalRow)).all()
        assert not session.scalars(select(Sketch)).all()
        made = session.scalars(select(Decision).where(Decision.item_id == item)).all()
        assert all(row.route == "review" and not row.findings for row in made)
        assert len(made) == (0 if kind == "withdraw" else 1), "people are asked, unless it was withdrawn"


@pytest.mark.parametrize("kind", ["restrict", "object", "withdraw"])
def test_no_trainer_reads_it(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, tmp_path: Path, kind: str
) -> None:
    floor = Floor(client, databases, vault, at_once(policy))
    item = floor.decided("mine", Route.REVIEW, "hate")
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    wanted = Wanted(floor.now - DAY, floor.now + DAY)
    with transaction(databases.content) as session:
        assert len(list(labels.labels(session, floor.now, since=wanted.since, until=wanted.until))) == 1
    use(client, kind, "author of mine")
    with transaction(databases.content) as session, pytest.raises(InvalidInput, match="no label"):
        labels.export(session, vault, tmp_path / "a", tmp_path / "a.key", wanted, "operator", floor.now)
    assert not list(tmp_path.iterdir())


def test_whoever_commits_first_is_heard_by_the_other(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    """A restriction that comes in the middle of a commit waits for it; a commit after it finds it."""
    items = [reviewing.submitted(client, f"post-{number}") for number in range(2)]
    now = datetime.now(UTC)
    with worker.tools(settings, lambda: 1.0) as tools:
        claims = []
        for _ in items:
            with transaction(databases.content) as session:
                claims.append(queue.claim_due(session, Lane.LIVE, 1, LEASE, now))
        done = [run.examine(tools, claim.token, claim.ids, now, LEASE) for claim in claims if claim]
        thread = threading.Thread(target=restrict, args=(databases, items[0]))
        first, second = claims
        assert first is not None
        assert second is not None
        with transaction(databases.content) as session:
            run.commit(session, first.token, done[0])
            thread.start()
            thread.join(0.5)
            assert thread.is_alive(), "the restriction waits for the batch that is being committed"
        thread.join(30)
        assert not thread.is_alive()
        with transaction(databases.content) as session:
            run.commit(session, second.token, done[1])
    with transaction(databases.content) as session:
        routes = {row.item_id: row.route for row in session.scalars(select(Decision))}
        judged = set(session.scalars(select(SignalRow.item_id)))
        since = session.scalars(select(Author.restricted_at)).one()
    assert since is not None
    assert (routes[first.ids[0]], routes[second.ids[0]]) == ("allow", "review")
    assert judged == {first.ids[0]}


def restrict(databases: Databases, item: UUID) -> None:
    with transaction(databases.content) as session:
        author = session.get_one(Author, session.get_one(Item, item).author_id)
        restriction.restrict(session, author, Right.OBJECT, "operator", datetime.now(UTC))
