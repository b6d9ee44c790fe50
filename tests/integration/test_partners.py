"""Partners: they read what was assigned to them in the fields they need, and delete it until they say so."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select, update

from moderation import cli
from moderation.domain.errors import Forbidden, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import Right
from moderation.governance import erasure, partners, restriction, rights
from moderation.governance.partners import Field
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Author, Case, Item, Partner, PartnerItem
from moderation.storage.vault import Vault
from tests import reviewing, support
from tests.judging import Floor, at_once

DAY = timedelta(days=1)
CONTEXT = {"thread": "thread-9", "language": "pt"}


def create(
    databases: Databases,
    vault: Vault,
    name: str = "lab",
    fields: Sequence[str] = tuple(Field),
    **changes: Any,
) -> str:
    now = datetime.now(UTC)
    values = {"purpose": "review", "expires_at": now + DAY, "actor": "operator", "now": now} | changes
    with transaction(databases.content) as session:
        return partners.create(session, vault, name=name, fields=fields, **values)


def assign(databases: Databases, *items: UUID, name: str = "lab") -> int:
    with transaction(databases.content) as session:
        return partners.assign(session, name, "operator", datetime.now(UTC), items=items)


@contextmanager
def calling(settings: Settings, token: str) -> Iterator[TestClient]:
    with support.calling(settings, token) as client:
        yield client


def reads(databases: Databases) -> list[tuple[str, str, str]]:
    with transaction(databases.content) as session:
        found = session.scalars(select(AuditEvent).where(AuditEvent.action == "partner.item_read"))
        return [(row.actor, row.subject_id, row.details["purpose"]) for row in found]


def deletions(client: TestClient) -> list[str]:
    answer = client.get("/v1/partner/deletions")
    assert answer.status_code == 200, answer.text
    return [row["item_id"] for row in answer.json()["deletions"]]


def tagged() -> bytes:
    """A picture whose file says with what it was taken."""
    exif, made = Image.Exif(), BytesIO()
    exif[0x0110] = "zq96camera"
    Image.new("RGB", (64, 48), (120, 90, 60)).save(made, "JPEG", exif=exif)
    return made.getvalue()


def test_a_partner_reads_what_was_assigned_and_each_read_is_an_event(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, policy: Policy
) -> None:
    picture = support.image_part(tagged())
    mine = reviewing.submitted(
        client, "post-1", parts=[support.text_part("Look here."), picture], context=CONTEXT
    )
    reviewing.decide(databases, policy, mine, datetime.now(UTC))
    other = reviewing.submitted(client, "post-2")
    token = create(databases, vault)
    assert assign(databases, mine) == 1
    assert assign(databases, mine) == 0, "once"
    with calling(settings, token) as lab:
        listed = lab.get("/v1/partner/items").json()
        assert [row["id"] for row in listed["items"]] == [str(mine)]
        assert (listed["purpose"], sorted(listed["fields"])) == ("review", sorted(Field))
        shown = lab.get(f"/v1/partner/items/{mine}").json()
        assert lab.get(f"/v1/partner/items/{other}").status_code == 404
        assert lab.get(f"/v1/partner/items/{uuid4()}").status_code == 404
    assert (shown["language"], shown["thread"]) == ("pt", "thread-9")
    assert shown["parts"][0]["text"] == "Look here."
    given = base64.b64decode(shown["parts"][1]["data"])
    assert b"zq96camera" in base64.b64decode(picture["data"]), "else this shows nothing"
    assert b"zq96camera" not in given, "what a file says of where it comes from is nobody's field"
    with Image.open(BytesIO(given)) as seen:
        assert (seen.format, seen.size, dict(seen.getexif())) == ("WEBP", (64, 48), {})
    assert reads(databases) == [("partner:lab", str(mine), "review")]


@pytest.mark.parametrize("field", list(Field))
def test_only_the_fields_it_needs(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, policy: Policy, field: Field
) -> None:
    item = reviewing.submitted(
        client, "post-1", parts=[support.text_part("Look here."), support.image_part()], context=CONTEXT
    )
    reviewing.decide(databases, policy, item, datetime.now(UTC), category="spam")
    token = create(databases, vault, fields=[field])
    assign(databases, item)
    with calling(settings, token) as lab:
        shown = lab.get(f"/v1/partner/items/{item}").json()
    parts = shown.pop("parts", [])
    extra = set(shown) - {"id", "kind"}
    if field in (Field.TEXT, Field.IMAGE):
        assert [part["type"] for part in parts] == [field]
        assert not extra
    else:
        assert not parts
        assert extra == {str(field)}
    assert "acct-1" not in str(shown)
    assert "post-1" not in str(shown)


def test_keys_end(settings: Settings, databases: Databases, vault: Vault, client: TestClient) -> None:
    item = reviewing.submitted(client)
    token = create(databases, vault)
    assign(databases, item)
    with calling(settings, token) as lab:
        with transaction(databases.content) as session:
            session.execute(update(Partner).values(expires_at=datetime.now(UTC)))
        assert lab.get(f"/v1/partner/items/{item}").status_code == 403
        assert lab.get("/v1/partner/items").status_code == 403
        # What was handed over has to end all the same.
        assert deletions(lab) == [str(item)]
        assert lab.post(f"/v1/partner/deletions/{item}/ack").status_code == 200
        with transaction(databases.content) as session:
            partners.revoke(session, "lab", "operator", datetime.now(UTC))
        assert lab.get("/v1/partner/deletions").status_code == 401
    with pytest.raises(Forbidden):
        assign(databases, item)


@pytest.mark.parametrize(
    "token", ["", "mp_", "mp_" + "0" * 16 + "_" + "a" * 43, "mk_" + "0" * 16 + "_" + "a" * 43]
)
def test_nobody_else_comes_in(settings: Settings, databases: Databases, vault: Vault, token: str) -> None:
    create(databases, vault)
    with calling(settings, token or "x") as nobody:
        assert nobody.get("/v1/partner/items").status_code == 401


def test_a_services_key_is_no_partners_and_the_other_way_round(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client)
    assert client.get("/v1/partner/items").status_code == 401
    with calling(settings, create(databases, vault)) as lab:
        assert lab.get(f"/v1/items/{item}").status_code == 401


def test_deletions_are_told_until_they_are_acknowledged(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    item, kept = reviewing.submitted(client), reviewing.submitted(client, "post-2", author="acct-2")
    token = create(databases, vault)
    assign(databases, item, kept)
    with calling(settings, token) as lab:
        assert deletions(lab) == []
        assert lab.post(f"/v1/partner/deletions/{kept}/ack").status_code == 404
        client.post(
            "/v1/subjects/acct-1/requests", json={"kind": "erase", "identity_verified": True}
        ).raise_for_status()
        assert lab.get(f"/v1/partner/items/{item}").status_code == 410
        assert deletions(lab) == deletions(lab) == [str(item)]
        erasure.run(databases, vault, blobs, datetime.now(UTC), 10)
        assert deletions(lab) == [str(item)], "also once nothing of it is left here"
        later = datetime.now(UTC) + timedelta(days=8)
        with transaction(databases.content) as session:
            assert partners.unacknowledged(session, later) == 1
        assert lab.post(f"/v1/partner/deletions/{item}/ack").json()["acknowledged_at"]
        assert lab.post(f"/v1/partner/deletions/{item}/ack").status_code == 200
        assert deletions(lab) == []
    with transaction(databases.content) as session:
        assert partners.unacknowledged(session, later) == 0
        said = session.scalars(
            select(AuditEvent.actor).where(AuditEvent.action == "partner.deletion_acknowledged")
        ).all()
        assert said == ["partner:lab"]


def test_what_may_be_used_for_nothing_else_is_taken_back(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client)
    token = create(databases, vault)
    assign(databases, item)
    with transaction(databases.content) as session:
        author = session.scalars(select(Author)).one()
        restriction.restrict(session, author, Right.OBJECT, "operator", datetime.now(UTC))
    with calling(settings, token) as lab:
        assert lab.get(f"/v1/partner/items/{item}").status_code == 410
        assert not reads(databases)
        assert deletions(lab) == [str(item)]
    with pytest.raises(Gone):
        assign(databases, item)
    with transaction(databases.content) as session:
        restriction.lift(session, session.scalars(select(Author)).one(), "operator", datetime.now(UTC))
    assert assign(databases, item) == 0, "not before they have said that it is gone"
    with calling(settings, token) as lab:
        lab.post(f"/v1/partner/deletions/{item}/ack").raise_for_status()
        assert assign(databases, item) == 1
        assert lab.get(f"/v1/partner/items/{item}").status_code == 200


def test_an_item_is_hidden_when_its_time_has_come(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = reviewing.submitted(client)
    token = create(databases, vault)
    assign(databases, item)
    with transaction(databases.content) as session:
        session.execute(update(Item).values(expires_at=datetime.now(UTC)))
    with calling(settings, token) as lab:
        assert lab.get(f"/v1/partner/items/{item}").status_code == 410


def test_a_case_is_assigned_by_its_id(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy
) -> None:
    floor = Floor(client, databases, vault, at_once(policy))
    item = floor.decided("post", Route.REVIEW, "hate")
    create(databases, vault)
    with transaction(databases.content) as session:
        case = session.scalars(select(Case.id)).one()
        assert partners.assign(session, "lab", "operator", datetime.now(UTC), case=case) == 1
        assert session.scalars(select(PartnerItem.item_id)).all() == [item]
        with pytest.raises(NotFound):
            partners.assign(session, "lab", "operator", datetime.now(UTC), case=uuid4())


@pytest.mark.parametrize(
    "wrong",
    [{"name": "Lab 1"}, {"fields": []}, {"fields": ["author"]}, {"purpose": "profit"},
     {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, {"expires_at": datetime(2200, 1, 1, tzinfo=UTC)}],
)  # fmt: skip
def test_what_can_not_be_is_refused(databases: Databases, vault: Vault, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        create(databases, vault, **wrong)
    assert support.count(databases.content, "partners") == 0


def test_the_command_line(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    item = reviewing.submitted(client)
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    add = ["partners", "add", "lab", "--purpose", "review", "--field", "text", "--days", "30"]
    assert cli.main(add) == 0
    token = capsys.readouterr().out.strip()
    assert cli.main(add) == cli.REFUSED
    assert cli.main(["partners", "assign", "lab", str(item)]) == 0
    assert "1 item" in capsys.readouterr().out
    with calling(settings, token) as lab:
        assert lab.get(f"/v1/partner/items/{item}").json()["parts"][0]["text"] == support.MILD
    assert cli.main(["partners", "list"]) == 0
    assert "lab" in capsys.readouterr().out
    assert cli.main(["partners", "revoke", "lab"]) == 0
    assert cli.main(["partners", "revoke", "lab"]) == cli.REFUSED
    assert cli.main(["partners", "assign", "lab", "nonsense"]) == cli.REFUSED
    with calling(settings, token) as lab:
        assert lab.get("/v1/partner/items").status_code == 401
    with transaction(databases.content) as session:
        (view,) = partners.listing(session, datetime.now(UTC))
        assert (view.items, view.unacknowledged) == (0, 1), "what they hold is to be deleted"


def test_upkeep_notes_what_has_ended(client: TestClient, databases: Databases, vault: Vault) -> None:
    item = reviewing.submitted(client)
    create(databases, vault)
    assign(databases, item)
    client.delete(f"/v1/items/{item}").raise_for_status()
    rights.tend(databases, vault, datetime.now(UTC))
    with transaction(databases.content) as session:
        assert session.scalars(select(PartnerItem.deleted_at)).one() is not None
