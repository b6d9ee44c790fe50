"""Row 17: the export is every row that leads to the author, opened, and nothing of anybody else's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, exports, partners
from moderation.review import decisions, golden, labels
from moderation.review.labels import Wanted
from moderation.storage.blobs import FolderBlobs
from moderation.storage.columns import Ciphertext
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Base, Item
from moderation.storage.vault import Vault
from tests import reviewing, support
from tests.judging import Floor, at_once

# Of third parties: planted wherever something of theirs stands beside the author's.
OTHERS_POST, OTHERS_WORDS, OTHERS_REFERENCE = "zq70quince", "zq71medlar", "zq72reader"
OWN = ("zq80mine", "zq81note", "zq82statement", "zq83request", "zq84thread", "zq85asreporter")
MINE = "author of mine"


@dataclass
class Scene:
    """An author of whom there is something in nearly every table, and somebody else beside them."""

    floor: Floor
    author: UUID
    digest: bytes
    staff: set[str]


@pytest.fixture
def scene(client: TestClient, databases: Databases, vault: Vault, policy: Policy, tmp_path: Path) -> Scene:
    floor = Floor(client, databases, vault, at_once(policy))
    endpoint(client)
    lead, moderator, other = floor.person("lead"), floor.person(), floor.person("lead")
    parts = (support.text_part(f"{OWN[0]} as posted"), support.image_part())
    # Reports of others under the author's item, with the reporter's own words.
    first = floor.decided("mine", Route.ALLOW, parts=parts)
    report(client, first, OTHERS_REFERENCE, OTHERS_WORDS)
    floor.give(moderator, floor.case_of(first), "remove", "hate")
    with transaction(databases.content) as session:
        decision = decisions.in_force(session, [first], floor.now)[first].id
    appeal(client, decision, OWN[2])
    golden_item(floor, lead, tmp_path)
    foreign = floor.decided("foreign", Route.ALLOW, parts=(support.text_part(OTHERS_POST),))
    report(client, foreign, MINE, OWN[5])
    with transaction(databases.content) as session:
        whose = select(Item.author_id).where(Item.id == first).scalar_subquery()
        author = session.scalars(select(Author).where(Author.id == whose)).one()
        partners.create(
            session, vault, name="lab", purpose="review", fields=["text"], actor=lead.actor,
            expires_at=floor.now + timedelta(days=1), now=floor.now,
        )  # fmt: skip
        partners.assign(session, "lab", lead.actor, floor.now, items=[first])
    planted(databases, author, first, decision)
    ask(client)
    return Scene(
        floor, author.id, author.reference_digest, {str(p.person_id) for p in (lead, moderator, other)}
    )


def planted(databases: Databases, author: Author, item: UUID, decision: UUID) -> None:
    """Rows that nothing in this scene makes by itself."""
    values = {"author": author.id, "digest": author.reference_digest, "item": item, "decision": decision,
              "id": uuid4()}  # fmt: skip
    statements = (
        "INSERT INTO reporters VALUES ('app', :digest, 1, 0, now())",
        "INSERT INTO signals VALUES (:item, 'body', 'detector', '1', 'ok', '{}', '{}')",
        "INSERT INTO sketches VALUES (:item, 'body', 0, :digest)",
        "INSERT INTO tombstones VALUES ('app', 'author', :digest, NULL, now() + interval '1 day')",
        "INSERT INTO account_actions VALUES (:id, :author, 'app', :decision, 'warn', now())",
        "INSERT INTO statement_deliveries VALUES (:decision, :author, 'one', 'pending', 0, now())",
    )
    with databases.content.begin() as connection:
        for statement in statements:
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)


def endpoint(client: TestClient) -> None:
    reviewing.endpoint(client, "item.decided", "item.in_review", "subject_request.closed")


def report(client: TestClient, item: UUID, reporter: str, comment: str) -> None:
    body = {"reporter": reporter, "category": "hate", "comment": comment}
    client.post(f"/v1/items/{item}/reports", json=body).raise_for_status()


def appeal(client: TestClient, decision: UUID, statement: str) -> None:
    client.post(f"/v1/decisions/{decision}/informed", json={}).raise_for_status()
    body = {"by": "author", "statement": statement}
    client.post(f"/v1/decisions/{decision}/appeals", json=body).raise_for_status()


def golden_item(floor: Floor, lead: Any, folder: Path) -> None:
    """A second item of the author: golden, in a bundle, with a note, and erased afterwards on its own."""
    context = {"thread": OWN[4], "language": "en"}
    item = reviewing.submitted(floor.client, "second", author=MINE, context=context)
    reviewing.decide(floor.databases, floor.policy, item, floor.now, Route.ALLOW)
    report(floor.client, item, "reader-2", "Look.")
    case = floor.case_of(item)
    floor.give(lead, case, "remove", "hate")
    with transaction(floor.databases.content) as session:
        golden.add(session, lead, item, floor.now)
        row = session.get_one(Item, item)
        key = floor.vault.item_keys([item])[item]
        identifier = uuid4()
        sealed = key.encrypt(OWN[1].encode(), "case_notes", "text", str(identifier))
        session.execute(
            text("INSERT INTO case_notes (id, case_id, item_id, author_id, person_id, kind, text, at) "
                 "VALUES (:id, :case, :item, :author, :person, 'note', :sealed, now())"),
            {"id": identifier, "case": case, "item": item, "author": row.author_id, "person": lead.person_id,
             "sealed": sealed},
        )  # fmt: skip
        wanted = Wanted(floor.now - timedelta(days=1), floor.now + timedelta(days=1))
        labels.export(
            session, floor.vault, folder / "a.bundle", folder / "a.key", wanted, "operator", floor.now
        )


def ask(client: TestClient) -> None:
    body = {"kind": "correct", "identity_verified": True, "details": OWN[3]}
    client.post(f"/v1/subjects/{MINE}/requests", json=body).raise_for_status()
    client.post(f"/v1/subjects/{MINE}/minor-notice").raise_for_status()


def copied(scene: Scene, now: datetime) -> dict[str, Any]:
    with transaction(scene.floor.databases.content) as session:
        author = session.get_one(Author, scene.author)
        document = exports.make(session, scene.floor.vault, author, now).document
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


def counted(scene: Scene) -> Mapping[str, int]:
    """How many rows of each table lead to the author, found without the code under test: row by row."""
    found = {}
    with scene.floor.databases.content.connect() as connection:
        mine = {str(row[0]) for row in connection.execute(
            text("SELECT id FROM items WHERE author_id = :a"), {"a": scene.author}
        )}  # fmt: skip
        for name, table in Base.metadata.tables.items():
            path = next(iter(table.columns)).info["author_path"]
            if path is None:
                continue
            first, last = path.split(">")[0], path.split(">")[-1]
            rows = connection.execute(text(f'SELECT * FROM "{name}"')).mappings().all()
            if last == "authors.reference_digest":
                hits = [r for r in rows if r["client"] == "app" and bytes(r[first]) == scene.digest]
            elif ">" in path:
                hits = [r for r in rows if str(r[first]) in mine or str(r[first]) == str(scene.author)]
            else:
                hits = [r for r in rows if r[first] == scene.author]
            found[name] = len(hits)
    return found


def test_the_export_is_every_row_that_leads_to_the_author(scene: Scene, now: datetime) -> None:
    document, expected = copied(scene, now), counted(scene)
    assert set(document["tables"]) | set(document["withheld"]) == set(expected), "a table that nobody copies"
    assert {name: len(rows) for name, rows in document["tables"].items()} == {
        name: count for name, count in expected.items() if name not in document["withheld"]
    }
    filled = {name for name, count in expected.items() if count}
    assert len(filled) >= 23, f"too little is there to show anything: {sorted(filled)}"


def test_what_the_author_wrote_and_what_is_said_of_them_stands_in_the_clear(
    scene: Scene, now: datetime
) -> None:
    document = copied(scene, now)
    said = json.dumps(document["tables"])
    assert [word for word in OWN[:5] if word not in said] == []
    assert [(row["category"], row["comment"]) for row in document["reports_made"]] == [("hate", OWN[5])]
    assert document["recipients"] == ["lab"]


def test_nothing_of_others_is_in_it(scene: Scene, now: datetime) -> None:
    said = json.dumps(copied(scene, now))
    planted = (OTHERS_POST, OTHERS_WORDS, OTHERS_REFERENCE, *scene.staff)
    assert [word for word in planted if word in said] == []
    digest = scene.floor.vault.digest("author", "app", OTHERS_REFERENCE)
    assert digest.hex() not in said
    assert exports.STAFF in said, "that a person did it is said, not which"


def test_every_ciphertext_is_opened_or_left_out_for_a_reason() -> None:
    for table in exports.tables():
        for column in table.columns:
            name = f"{table.name}.{column.name}"
            if isinstance(column.type, Ciphertext):
                left_out = column.name in exports.LEFT_OUT.get(table.name, ())
                assert (name in exports.OPENERS) != left_out, name


def test_a_hold_shows_nowhere(scene: Scene, now: datetime) -> None:
    before = json.dumps(copied(scene, now)["tables"]["items"])
    with scene.floor.databases.content.begin() as connection:
        connection.execute(text("UPDATE items SET holds = 1"))
        connection.execute(text("UPDATE authors SET holds = 1"))
    after = copied(scene, now)
    assert json.dumps(after["tables"]["items"]) == before
    assert "holds" not in after["tables"]["authors"][0]


def test_what_nothing_but_a_hold_keeps_is_not_in_it(scene: Scene, now: datetime) -> None:
    with scene.floor.databases.content.begin() as connection:
        for statement in (
            "UPDATE items SET holds = 1 WHERE author_id = :author",
            "UPDATE items SET state = 'deleted', deleted_at = now() WHERE id = (SELECT item_id FROM case_notes)",
        ):
            used = {"author": scene.author} if ":author" in statement else {}
            connection.execute(text(statement), used)
    tables = copied(scene, now)["tables"]
    assert len(tables["items"]) == 1, "the other is not over: a hold changes nothing of it"
    assert OWN[0] in json.dumps(tables)
    assert [word for word in (OWN[1], OWN[4]) if word in json.dumps(tables)] == []


def test_nothing_is_handed_out_of_somebody_who_is_gone(
    scene: Scene, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    client = scene.floor.client
    body = {"kind": "export", "identity_verified": True}
    made = client.post(f"/v1/subjects/{MINE}/requests", json=body).json()
    assert client.get(made["export_url"]).status_code == 200
    client.post(f"/v1/subjects/{MINE}/requests", json=body | {"kind": "cancel"}).raise_for_status()
    assert client.get(made["export_url"]).status_code == 404
    erasure.run(databases, vault, blobs, scene.floor.now, 10)
    assert client.get(made["export_url"]).status_code == 404
