"""Near duplicates that wait are found by their sketches; what else there is of them is nobody's business."""

from __future__ import annotations

import os
from datetime import datetime
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import func, select, text

from moderation.domain.cases import CaseKind, CaseState
from moderation.features import sketch
from moderation.features.hashes import text_digest
from moderation.governance import erasure
from moderation.review import clusters
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Item
from moderation.storage.tables import Sketch as SketchRow
from moderation.storage.vault import Vault
from tests import hostile, support
from tests.support import drain, image_part, post, text_part

FLAT = "Looking for a flat near the station from March on, two rooms or three, quiet, with a balcony if possible."


def _before_people(databases: Databases, now: datetime, *texts: str) -> None:
    for one in texts:
        support.bank_of(databases, text_digest(one), "review", now)


def _item(client: TestClient, name: str, *parts: dict[str, object]) -> UUID:
    return UUID(client.post("/v1/items", json=post(name, *parts)).json()["id"])


def _near(databases: Databases, item: UUID, limit: int = 50) -> list[UUID]:
    with transaction(databases.content) as session:
        return clusters.near(session, item, limit)


def test_edited_copies_before_people_are_found(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    copies = [FLAT, f"Dear all, {FLAT}", f"{FLAT} https://example.org/1"]
    other = "The trick is to toast the rice before adding the stock, and to stir it for as long as it takes."
    _before_people(databases, now, *copies, other)
    ids = [_item(client, f"post-{n}", text_part(one)) for n, one in enumerate([*copies, other])]
    allowed = _item(client, "allowed", text_part(FLAT.replace("March", "April")))
    drain(settings)
    assert set(_near(databases, ids[0])) == {ids[1], ids[2]}
    assert len(_near(databases, ids[0], limit=1)) == 1
    assert _near(databases, ids[3]) == []
    assert _near(databases, allowed) == [], "what no person looks at has no sketch"
    with transaction(databases.content) as session:
        assert session.scalar(select(func.count()).select_from(SketchRow)) == 4 * sketch.BANDS


def test_only_open_cases_about_the_decision_count(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    _before_people(databases, now, FLAT)
    ids = [_item(client, f"post-{n}", text_part(FLAT)) for n in range(4)]
    drain(settings)
    assert set(_near(databases, ids[0])) == set(ids[1:])
    with transaction(databases.content) as session:
        rows = {case.item_id: case for case in session.scalars(select(Case))}
        rows[ids[1]].state, rows[ids[1]].closed_at = CaseState.CLOSED, now
        rows[ids[2]].kind = CaseKind.GOLDEN
    assert _near(databases, ids[0]) == [ids[3]]


def test_alike_means_in_every_part(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> None:
    texts = [FLAT, "So true!", "Never!"]
    _before_people(databases, now, *texts)
    photo = image_part(hostile.saved(hostile.gradient(), "PNG"))
    ids = [_item(client, f"post-{n}", text_part(one), photo) for n, one in enumerate([*texts, texts[1]])]
    lone = _item(client, "lone", text_part(texts[1]))
    drain(settings)
    assert _near(databases, ids[0]) == []
    assert _near(databases, ids[1]) == [ids[3]], "the same picture, and an equal short text"
    assert _near(databases, ids[2]) == []
    assert _near(databases, lone) == [], "one part less is another post"


def test_the_database_alone_can_not_be_asked_for_a_text(databases: Databases, vault: Vault) -> None:
    made = clusters.rows(vault, UUID(int=1), [("body", sketch.of_text(FLAT))])
    bands = sketch.of_text(FLAT).bands
    assert {row["key"] for row in made}.isdisjoint(bands)
    assert not any(band[:8] in row["key"] for row in made for band in bands)
    assert len({row["key"] for row in made}) == sketch.BANDS
    again = clusters.rows(vault, UUID(int=2), [("body", sketch.of_text(FLAT))])
    assert [row["key"] for row in again] == [row["key"] for row in made]


def test_a_flood_is_looked_at_from_its_newest_end(databases: Databases, vault: Vault, now: datetime) -> None:
    one = [("body", sketch.of_text("So true!"))]
    ids = [new_id(now) for _ in range(clusters.LOOKED_AT + 20)]
    others = [
        {"item_id": new_id(now), "part": "body", "band": 0, "key": os.urandom(clusters.KEY_BYTES)}
        for _ in range(5000)
    ]
    with transaction(databases.content) as session:
        clusters.store(session, others)
        clusters.store(session, [row for item in ids for row in clusters.rows(vault, item, one)])
    with support.as_owner(databases.content) as connection:
        connection.execute(text("ANALYZE sketches"))
    with transaction(databases.content) as session:
        plan = session.execute(
            text(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {clusters.EQUAL}"),
            {"item": ids[0], "looked_at": clusters.LOOKED_AT},
        ).scalar_one()
    read = max(_rows(plan[0]["Plan"], "ix_sketches_key"))
    assert read <= clusters.LOOKED_AT + 1


def _rows(plan: dict[str, object], index: str) -> list[float]:
    found = [float(str(plan["Actual Rows"]))] if plan.get("Index Name") == index else []
    plans = plan.get("Plans", [])
    assert isinstance(plans, list)
    return found + [rows for inner in plans for rows in _rows(inner, index)]


def test_sketches_end_with_the_item(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    now: datetime,
) -> None:
    _before_people(databases, now, FLAT)
    ids = [_item(client, f"post-{n}", text_part(FLAT)) for n in range(2)]
    drain(settings)
    assert client.delete(f"/v1/items/{ids[0]}").status_code == 204
    assert _near(databases, ids[1]) == []
    erasure.destroy(databases, vault, blobs, [ids[0]], now)
    with transaction(databases.content) as session:
        assert set(session.scalars(select(SketchRow.item_id))) == {ids[1]}
        assert session.get(Item, ids[0]) is not None
