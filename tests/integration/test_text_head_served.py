"""A community's own head in the service: its items and its callers are judged by it, nobody else's are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.domain.access import Role
from moderation.governance import models, promotions
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Decision, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, support
from tests.support import post, text_part

NAME, HEAD = "text-minilm", "head-app"
SHIPPED = artifacts.champion().version
SAID = "What a dumb idea, you clown."


@pytest.fixture(autouse=True)
def _serving(databases: Databases, settings: Settings, vault: Vault, tmp_path: Path) -> Iterator[None]:
    """A head of the client `app` that says less of harassment by 3 in log-odds, promoted by two people."""
    with artifacts.put_back(databases, settings):
        by = [
            promotions.logged_in(people.principal(databases, vault, role))
            for role in (Role.TRAINER, Role.LEAD)
        ]
        folder, now = artifacts.text_head(tmp_path, HEAD, "1", by=-3.0, clients=["app"]), datetime.now(UTC)
        with transaction(databases.content) as session:
            models.add(session, folder, settings.models, "operator", now)
            promotions.propose(session, settings.models, by[0], HEAD, "1", now)
            promotions.promote(session, settings.models, by[1], HEAD, "1", now)
        yield


def signals(databases: Databases, item: UUID) -> dict[str, SignalRow]:
    with transaction(databases.content) as session:
        found = session.scalars(select(SignalRow).where(SignalRow.item_id == item)).all()
        return {row.detector: row for row in found}


def detectors(databases: Databases, item: UUID) -> list[tuple[str, str]]:
    with transaction(databases.content) as session:
        (decision,) = session.scalars(select(Decision).where(Decision.item_id == item))
        return [(one["name"], one["version"]) for one in decision.detectors]


def test_a_head_judges_what_its_client_posts_and_asks_about(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    ours = UUID(client.post("/v1/items", json=post("ours", text_part(SAID))).json()["id"])
    with support.calling(settings, support.new_key(databases, vault, "shop")) as other:
        theirs = UUID(other.post("/v1/items", json=post("theirs", text_part(SAID))).json()["id"])
        support.drain(settings)
        usual = signals(databases, theirs)[NAME].scores
        assert other.post("/v1/moderations", json={"input": SAID}).json()["model"] == f"{NAME}-{SHIPPED}"
        answer = client.post("/v1/moderations", json={"input": SAID}).json()
    said = signals(databases, ours)
    assert said[NAME].scores.keys() == usual.keys() - {"harassment"}
    expected = artifacts.moved(usual["harassment"], -3.0)
    assert said[HEAD].scores == {"harassment": pytest.approx(expected, abs=1e-3)}
    assert (HEAD, "1") in detectors(databases, ours)
    assert HEAD not in [name for name, _ in detectors(databases, theirs)]
    assert HEAD not in signals(databases, theirs)
    # Whoever waits for a score is given the one that an item would have.
    assert answer["model"] == f"{NAME}-{SHIPPED}+{HEAD}-1"
    assert answer["results"][0]["category_scores"]["harassment"] == pytest.approx(expected, abs=1e-3)
