"""Row 8: every access is traceable. Reads of content = view events, and an altered row fails verification."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation import cli
from moderation.domain.access import Role
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.domain.purposes import READS
from moderation.domain.routing import Route
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Case, Item
from moderation.storage.vault import Vault
from tests import support
from tests.audited import Log
from tests.caseload import Caseload
from tests.people import Member, logged_in
from tests.support import image_part, post, text_part
from tests.unit.test_architecture import walk

TOKEN = "quetzalcanary7"
AUTHOR = "account-of-quetzalcanary7"
NAME = "post-of-quetzalcanary7"
NOTHING = "019ab000-0000-7000-8000-000000000000"


@pytest.fixture
def reader(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    """Somebody with every role."""
    with logged_in(settings, databases, vault, *Role) as client:
        yield client


@pytest.fixture
def case(client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy) -> Case:
    """A case about a text and a picture, each of them recognisable."""
    sent = post(NAME, text_part(f"Lovely {TOKEN} in Lisbon."), image_part(), author=AUTHOR)
    item = UUID(client.post("/v1/items", json=sent).json()["id"])
    load = Caseload(databases, vault, blobs, policy, datetime.now(UTC))
    draft = CaseDraft(CaseReason.UNCERTAIN, "harassment", 2, 0.6)
    return load.case(load.routed([item], Route.REVIEW, draft, "harassment")[0])


def views(databases: Databases, who: Member) -> list[AuditEvent]:
    """What the log says that somebody has read."""
    with transaction(databases.content) as session:
        query = select(AuditEvent).where(
            AuditEvent.actor == f"person:{who.person_id}", AuditEvent.action.in_(READS)
        )
        return list(session.scalars(query.order_by(AuditEvent.id)))


def addresses(client: Any, case: Case) -> dict[str, str]:
    """Every page and API route that people may read, with ids of what there is to be seen."""
    known = {"case_id": case.id, "item_id": case.item_id, "author_id": case.author_id, "position": 1}
    found = {}
    for route in walk(client.app.routes):
        if isinstance(route, APIRoute) and "GET" in route.methods and "static" not in route.path:
            names = [one.split(":")[0] for one in route.param_convertors]
            values = {name: known.get(name, NOTHING) for name in names}
            address = route.path
            for name, value in values.items():
                address = address.replace(f"{{{name}}}", str(value)).replace(f"{{{name}:path}}", str(value))
            found[route.path] = address
    return found


def test_no_page_shows_content_without_an_event(reader: Member, databases: Databases, case: Case) -> None:
    """Every route people may read is asked; whichever answers with content has to have recorded it before."""
    showed, silent = [], []
    for path, address in addresses(reader, case).items():
        before = len(views(databases, reader))
        answer = reader.get(address)
        assert answer.status_code < 500, path
        if TOKEN in answer.text:
            showed.append(path)
            if len(views(databases, reader)) == before:
                silent.append(path)
    assert not silent
    assert {"/console/cases/{case_id}", "/console/items/{item_id}/content", "/v1/review/cases/{case_id}"} <= {
        *showed
    }


def test_reads_are_counted_one_by_one(reader: Member, databases: Databases, case: Case) -> None:
    reads = [
        ("case.viewed", f"/console/cases/{case.id}", case.id),
        ("case.viewed", f"/v1/review/cases/{case.id}", case.id),
        ("item.viewed", f"/console/items/{case.item_id}/content", case.item_id),
        ("author.viewed", f"/console/authors/{case.author_id}", case.author_id),
    ]
    assert reader.post(f"/console/cases/{case.id}/reveal").status_code == 303
    for _ in range(3):
        for _, address, _ in reads:
            assert reader.get(address).status_code == 200
        for view in ("full", "grey"):
            assert reader.get(f"/console/media/{case.id}/1?view={view}").status_code == 200
    found = [(event.action, event.subject_id) for event in views(databases, reader)]
    expected = [(action, str(subject)) for action, _, subject in reads] * 3
    # The same page says what the content service calls the item, and what became of it.
    expected += [("item.history_viewed", str(case.item_id))] * 3
    expected += [("media.revealed", str(case.id)), *[("media.viewed", str(case.id))] * 6]
    assert sorted(found) == sorted(expected)
    assert all("purpose" in event.details for event in views(databases, reader))


def test_what_was_refused_or_blurred_was_not_read(reader: Member, databases: Databases, case: Case) -> None:
    assert reader.get(f"/console/media/{case.id}/1?view=full").status_code == 403
    assert reader.get(f"/console/media/{case.id}/1").status_code == 200
    assert reader.get(f"/console/cases/{NOTHING}").status_code == 404
    assert views(databases, reader) == []


def test_an_event_outlives_what_it_is_about(reader: Member, databases: Databases, case: Case) -> None:
    reader.get(f"/console/cases/{case.id}")
    with transaction(databases.content) as session:
        session.delete(session.get_one(Item, case.item_id))
    assert [event.subject_id for event in views(databases, reader)] == [str(case.id)]


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'person:somebody-else'", "action = 'item.received'", "subject = 'item'", "subject_id = 'another'",
        "at = at - interval '1 day'", "details = '{}'", "salt = sha256('x')", "commitment = sha256('x')",
        "id = gen_random_uuid()",
    ],
)  # fmt: skip
def test_any_altered_row_fails_verification(
    reader: Member, case: Case, databases: Databases, vault: Vault, settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str,
) -> None:  # fmt: skip
    """The log of who looked at a case, and somebody who would rather not have looked."""
    told = replace(settings, checkpoint_dir=tmp_path)
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: told)
    reader.get(f"/console/cases/{case.id}")
    Log(databases, vault, datetime.now(UTC)).sign()
    assert cli.main(["audit", "verify"]) == 0
    support.unprotected(databases.content, f"UPDATE audit_events SET {change} WHERE action = 'case.viewed'")
    capsys.readouterr()
    assert cli.main(["audit", "verify"]) == 1
    assert "The log is NOT intact." in capsys.readouterr().out


# What writes without an event of its own, and why that is right.
SILENT = {
    "governance/audit": "it is the log",
    "governance/bank_entries": "what is derived of an entry: vectors; that it was added is recorded",
    "governance/ledger": "it is the log",
    "governance/erasing/floors": "part of an erasure or a sweep, which are recorded",
    "governance/erasing/tombstones": "written with the erasure, which is recorded",
    "governance/watching": "numbers of what was seen; that a certificate is void is recorded by whoever voids it",
    "governance/shadows": "scores that decide nothing; that a shadow or a back-test began is recorded",
    "governance/outbox": "messages of what was recorded when it happened",
    "review/clusters": "what is derived of an item: sketches",
    "review/likeness": "what is derived of an item: hashes and vectors of its pictures",
    "review/reconsidering": "a label beside decisions and cases, whose events are recorded; the search itself is",
    "review/notes": "whoever takes a note records it: case.noted, case.escalated, opinion.given",
}


def writing(tree: ast.Module) -> bool:
    """Whether a module changes rows."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else None
            on_session = (
                isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "session"
                and node.func.attr in ("add", "add_all", "delete")
            )
            if on_session or name in {"insert", "insert_many", "update", "delete"}:
                return True
    return False


def test_whatever_changes_rows_records_events(repository: Path) -> None:
    """Every service that writes records events, or says here why it need not."""
    silent = {}
    for folder in ("governance", "review"):
        for path in sorted((repository / "moderation" / folder).rglob("*.py")):
            name = str(path.relative_to(repository / "moderation").with_suffix(""))
            source = path.read_text(encoding="utf-8")
            if "audit.record" not in source and writing(ast.parse(source)):
                silent[name] = path
    assert silent.keys() == SILENT.keys()
