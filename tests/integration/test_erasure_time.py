"""What ends by its time: hidden exactly then, swept after, records after five years, whole months by partition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.governance import erasure, keeping
from moderation.governance.erasing import ending, floors, months, records
from moderation.governance.sessions import PersonPrincipal
from moderation.review import casefile, history, reports, search
from moderation.settings import Settings
from moderation.storage import items as queue
from moderation.storage import partitions
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import lower_bound, new_id
from moderation.storage.tables import AuditEvent, Case, Decision, Item, Outbox, Part, SignalRow
from moderation.storage.vault import Vault
from tests import people
from tests.caseload import Caseload
from tests.people import Member
from tests.support import MILD, calling, count, drain, image_part, new_key, post, text_part

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def ends(databases: Databases, item: UUID | str, at: datetime) -> None:
    with transaction(databases.content) as session:
        session.execute(update(Item).where(Item.id == UUID(str(item))).values(expires_at=at))


def test_at_its_time_it_is_hidden_from_its_content_service_before_any_sweep(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    item = client.post("/v1/items", json=post()).json()
    other = client.post("/v1/items", json=post("post-2")).json()
    drain(settings)
    ends(databases, item["id"], datetime.now(UTC) - SECOND)
    gone = client.get(item["status_url"])
    assert (gone.status_code, gone.json()["code"]) == (404, "deleted")
    assert gone.json()["detail"] == "This item is gone: its retention period ended."
    assert client.delete(item["status_url"]).status_code == 404

    def listed(**query: str) -> list[tuple[str, str]]:
        shown = client.get("/v1/items", params=query).json()["items"]
        return [(one["id"], one["status"]) for one in shown]

    assert listed() == [(other["id"], "decided")]
    assert listed(state="decided") == [(other["id"], "decided")]
    assert listed(state="deleted") == [(item["id"], "deleted")]
    assert listed(external_id="post-1") == []
    assert listed(external_id="post-1", state="deleted") == [(item["id"], "deleted")]
    shown = client.get("/v1/items", params={"state": "deleted"}).json()["items"][0]
    assert "verdict" not in shown
    report = {"reporter": "r-1", "category": "spam", "comment": "Look."}
    assert client.post(f"/v1/items/{item['id']}/reports", json=report).status_code == 410
    again = client.post("/v1/items", json=post())
    assert (again.status_code, again.json()["code"]) == (410, "deleted"), "its old request is answered too"


def test_at_its_time_no_worker_takes_it(client: TestClient, settings: Settings, databases: Databases) -> None:
    item = client.post("/v1/items", json=post()).json()
    ends(databases, item["id"], datetime.now(UTC) - SECOND)
    drain(settings)
    assert count(databases.content, "decisions") == 0
    with transaction(databases.content) as session:
        assert session.scalars(select(Item.state)).all() == ["received"]


def test_at_its_time_no_person_reads_it(
    load: Caseload, ann: PersonPrincipal, databases: Databases, vault: Vault
) -> None:
    (case_id,) = load.waiting()
    item_id = load.case(case_id).item_id
    with transaction(load.engine) as session:
        reports.report(session, vault, load.policy, "app", item_id, "r-1", "spam", "Look.", load.now)

    def opened() -> tuple[Any, Any, Any]:
        with transaction(load.engine) as session:
            file = casefile.load(session, vault, load.policy, ann, case_id, load.now)
            page = history.of_item(session, vault, item_id, load.now)
            found = search.items(session, vault, search.Query(item=item_id), load.now).items[0]
        return file, page, found

    file, page, found = opened()
    assert (file.gone, file.parts[0].text, file.reports[0].comment) == (False, MILD, "Look.")
    assert page.external_id
    assert found.state == "done"
    ends(databases, item_id, load.now)
    file, page, found = opened()
    assert (file.gone, file.parts[0].text, file.reports[0].comment) == (True, "", None)
    assert page.external_id is None
    assert found.state == "deleted"
    answer = load.give(ann, case_id)
    load.now += timedelta(hours=1)
    with transaction(load.engine) as session:
        assert session.get_one(Item, item_id).expires_at < load.now, "nobody brings it back by coming late"
    assert answer.decision_id


def test_its_pictures_and_texts_are_hidden_too(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, load: Caseload
) -> None:
    item = client.post("/v1/items", json=post("post-1", text_part(), image_part())).json()
    (case_id,) = load.routed([UUID(item["id"])], Route.REVIEW, draft=_draft())
    with people.logged_in(settings, databases, vault, Role.MODERATOR) as member:
        assert member.get(f"/console/media/{case_id}/1").status_code == 200
        assert MILD in member.get(f"/console/items/{item['id']}/content").text
        ends(databases, item["id"], datetime.now(UTC) - SECOND)
        assert member.get(f"/console/media/{case_id}/1").status_code == 410
        shut = member.get(f"/console/items/{item['id']}/content")
        assert shut.status_code == 410
        assert MILD not in shut.text


def _draft() -> Any:
    from moderation.domain.cases import CaseReason
    from moderation.domain.decisions import CaseDraft

    return CaseDraft(CaseReason.UNCERTAIN, "harassment", 2, 0.6)


def test_its_content_service_is_told_of_an_expiry(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    hook = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["item.deleted"]}
    client.post("/v1/webhook-endpoints", json=hook)
    item = client.post("/v1/items", json=post()).json()
    assert erasure.sweep(databases, vault, blobs, datetime.now(UTC) + 31 * DAY) == 1
    with transaction(databases.content) as session:
        (message,) = session.scalars(select(Outbox)).all()
        assert (message.event, message.payload) == ("item.deleted", {"item_id": item["id"]})


def test_two_sweeps_at_once_end_each_item_once(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client.post("/v1/items/batch", json={"items": [post(f"post-{number}") for number in range(60)]})
    later = datetime.now(UTC) + 31 * DAY

    def sweep_all(_: int) -> int:
        total = swept = 0
        while swept := erasure.sweep(databases, vault, blobs, later, limit=7):
            total += swept
        return total

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(sweep_all, range(4))) == 60
    with transaction(databases.content) as session:
        ended = session.scalars(
            select(AuditEvent.subject_id).where(AuditEvent.action == "item.destroyed")
        ).all()
    assert len(ended) == len(set(ended)) == 60


# ---- the restricted state -------------------------------------------------------------------------------------


@pytest.fixture
def grave(client: TestClient, load: Caseload) -> dict[str, Any]:
    """An item before people for the gravest category, which nobody has decided yet."""
    item: dict[str, Any] = client.post("/v1/items", json=post("post-1", text_part(), image_part())).json()
    load.routed([UUID(item["id"])], Route.REVIEW, draft=_draft(), category="sexual_minors")
    return item


@pytest.fixture
def legal(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.LEGAL) as member:
        yield member


def test_a_deletion_keeps_the_evidence_of_the_gravest_for_its_floor(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    settings: Settings,
    grave: dict[str, Any],
    legal: Member,
) -> None:
    assert client.delete(grave["status_url"]).status_code == 204
    assert client.get(grave["status_url"]).status_code == 404
    with transaction(databases.content) as session:
        item = session.get_one(Item, UUID(grave["id"]))
        until = item.received_at + timedelta(days=365)
        assert (item.retention_class, item.expires_at, item.destroyed_at) == ("grave", until, None)
    address = f"/console/governance/evidence/{grave['id']}"
    listed = legal.get("/console/governance/evidence")
    assert address in listed.text
    assert MILD in legal.get(address).text
    assert legal.get(f"{address}/1").headers["content-type"] == "image/webp"
    for role in (Role.MODERATOR, Role.LEAD, Role.PRIVACY_OFFICER, Role.ADMIN, Role.AUDITOR):
        with people.logged_in(settings, databases, vault, role) as member:
            assert member.get(address).status_code == 403, role
            assert member.get("/console/governance/evidence").status_code == 403, role
            assert member.get(f"/console/items/{grave['id']}/content").status_code in (403, 410), role
    with transaction(databases.content) as session:
        viewed = session.scalars(
            select(AuditEvent).where(AuditEvent.action == "item.viewed", AuditEvent.subject_id == grave["id"])
        ).all()
        assert [one.details["purpose"] for one in viewed] == ["legal"]
    assert erasure.sweep(databases, vault, blobs, until - SECOND) == 0
    assert erasure.sweep(databases, vault, blobs, until) == 1, "it ends by itself"
    assert legal.get(address).status_code == 404
    assert not vault.item_keys([UUID(grave["id"])])


def test_an_authors_erasure_keeps_the_gravest_and_nothing_else(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    grave: dict[str, Any],
    legal: Member,
) -> None:
    from tests.integration.test_erasure_author import ask, author_id, row

    mild = client.post("/v1/items", json=post("post-2")).json()
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    now = datetime.now(UTC)
    assert erasure.run(databases, vault, blobs, now, 60.0) == 1
    half = row(databases, identifier)
    assert half.state == "held"
    assert [(one["item"], one["because"], one["class"]) for one in half.kept] == [
        (grave["id"], "floor", "grave")
    ]
    assert client.get(mild["status_url"]).json()["detail"] == "There is no such item."
    assert MILD in legal.get(f"/console/governance/evidence/{grave['id']}").text
    later = now + 366 * DAY
    assert erasure.sweep(databases, vault, blobs, later) == 1
    assert erasure.run(databases, vault, blobs, later, 60.0) == 1
    assert row(databases, identifier).state == "done"
    assert count(databases.keystore, "package_keys") == 0


def test_what_is_not_grave_has_no_floor_of_the_law(
    client: TestClient, databases: Databases, load: Caseload, policy: Policy
) -> None:
    item = client.post("/v1/items", json=post()).json()
    load.routed([UUID(item["id"])], Route.REVIEW, draft=_draft(), category="harassment")
    with transaction(databases.content) as session:
        which = ending.Of((UUID(item["id"]),))
        assert not list(floors.of(session, which, policy.retention, load.now))
    client.delete(item["status_url"])
    assert count(databases.content, "parts") == 0


# ---- rows, records, months ------------------------------------------------------------------------------------


def test_rows_of_what_ended_go_a_month_later(
    client: TestClient, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    item = client.post("/v1/items", json=post()).json()
    client.delete(item["status_url"])
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        assert erasure.sweep_rows(session, now + 29 * DAY) == 0
        assert erasure.sweep_rows(session, now + 31 * DAY) == 1
    assert count(databases.content, "items") == 0
    late = client.post("/v1/items", json=post())
    assert (late.status_code, late.json()["code"]) == (410, "deleted"), "the tombstone answers"


def test_records_end_after_five_years_and_a_ban_keeps_its_own(
    load: Caseload, ann: PersonPrincipal, databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    first, second = load.waiting(), load.waiting(author="acct-2")
    for case_id in (*first, *second):
        load.give(ann, case_id)
    banned = load.case(second[0])
    with transaction(load.engine) as session:
        decision = session.scalars(select(Decision.id).where(Decision.case_id == banned.id)).one()
        session.execute(
            text(
                "INSERT INTO account_actions (id, author_id, client, decision_id, kind, effective_at) "
                "VALUES (:id, :author, 'app', :decision, 'ban', :now)"
            ),
            {"id": new_id(load.now), "author": banned.author_id, "decision": decision, "now": load.now},
        )
    later = load.now + 1827 * DAY
    swept = 1
    while swept:
        swept = erasure.sweep(databases, vault, blobs, later)
    with transaction(load.engine) as session:
        assert records.sweep(session, later, 3000) == 0, "not before their time"
    for _ in range(4):
        with transaction(load.engine) as session:
            erasure.sweep_rows(session, later + 31 * DAY)
            records.sweep(session, later + 31 * DAY, 1826)
    with transaction(load.engine) as session:
        assert set(session.scalars(select(Decision.author_id))) == {banned.author_id}
        assert session.scalars(select(Item.author_id)).all() == [banned.author_id]
        assert not session.scalars(select(Case).where(Case.author_id != banned.author_id)).all()
    assert count(load.engine, "audit_events") > 0, "the log is append-only"


def old(databases: Databases, vault: Vault, month: date, number: int) -> list[UUID]:
    """Items of a month long ago, with a partition of their own, expired since."""
    at = datetime(month.year, month.month, 3, tzinfo=UTC)
    with databases.content.begin() as connection:
        for table in partitions.PARTITIONED:
            connection.execute(text("SELECT ensure_partition(:t, :m)"), {"t": table, "m": month})
    author, ids = uuid4(), [new_id(at + number * SECOND) for number in range(number)]
    keys = vault.create_item_keys(dict.fromkeys(ids, author), at)
    common = {
        "client": "app", "author_id": author, "kind": "comment", "posted_at": at, "received_at": at,
        "lane": "live", "state": "done", "attempts": 1, "not_before": at, "retention_class": "allowed",
        "expires_at": at + 30 * DAY,
    }  # fmt: skip
    with transaction(databases.content) as session:
        for one in ids:
            sealed = keys[one].encrypt(b"long ago", "parts", "content", str(one), "0")
            session.add(Item(id=one, external_digest=one.bytes, **common))
            session.add(
                Part(item_id=one, position=0, name="b", kind="text", media_type="t", size=1, content=sealed)
            )
            session.add(
                SignalRow(
                    item_id=one, part="b", detector="d", version="1", status="ok", scores={}, evidence={}
                )
            )
    return ids


def test_a_month_in_which_everything_is_due_is_dropped(
    databases: Databases, vault: Vault, blobs: FolderBlobs
) -> None:
    ids = old(databases, vault, date(2026, 1, 1), 5)
    held = old(databases, vault, date(2026, 2, 1), 3)
    with transaction(databases.content) as session:
        session.execute(update(Item).where(Item.id == held[0]).values(holds=1))
    now = datetime.now(UTC)
    dropped = months.end_due(databases, vault, blobs, now, 60.0)
    left = ["parts_p202601", "part_features_p202601", "signals_p202601"]
    assert dropped == left, "the rows of items wait for a month"
    assert not vault.item_keys(ids)
    assert set(vault.item_keys(held)) == set(held), "one of them is held: that month goes item by item"
    assert erasure.sweep(databases, vault, blobs, now) == 2
    with transaction(databases.content) as session:
        assert session.scalars(select(Item.id).where(Item.destroyed_at.is_(None))).all() == [held[0]]
        session.execute(update(Item).where(Item.id.in_(ids)).values(destroyed_at=now - 31 * DAY))
    assert months.end_due(databases, vault, blobs, now, 60.0) == ["items_p202601"]
    with transaction(databases.content) as session:
        assert (
            session.scalar(select(Item.id).where(Item.id < lower_bound(datetime(2026, 2, 1, tzinfo=UTC))))
            is None
        )
        events = session.scalars(
            select(AuditEvent.subject_id).where(AuditEvent.action == "retention.partition_dropped")
        ).all()
    assert sorted(events) == sorted(["items_p202601", *left])
    with transaction(databases.content) as session:
        session.execute(update(Item).where(Item.id == held[0]).values(holds=0))
    assert erasure.sweep(databases, vault, blobs, now) == 1
    with databases.content.begin() as connection:
        for table in ("parts", "part_features", "signals"):
            assert partitions.drop_empty(connection, table, date(2026, 2, 1))


def test_a_hold_that_comes_while_a_month_is_ending_leaves_nothing_for_ever(
    databases: Databases, vault: Vault, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    month, now = date(2026, 3, 1), datetime.now(UTC)
    ids = old(databases, vault, month, 3)
    with transaction(databases.content) as session:
        session.execute(update(Item).where(Item.id == ids[-1]).values(expires_at=Item.expires_at + SECOND))
    monkeypatch.setattr(months, "AT_ONCE", 1)
    finishing = months.finish

    def finished(*args: Any, **options: Any) -> int:
        ended = finishing(*args, **options)
        with transaction(databases.content) as session:
            later = (Item.id == ids[-1], Item.doomed_at.is_(None))
            session.execute(update(Item).where(*later).values(holds=1))
        return ended

    monkeypatch.setattr(months, "finish", finished)
    assert not [name for name in months.end_due(databases, vault, blobs, now, 60.0) if "202603" in name]
    assert set(vault.item_keys(ids)) == {ids[-1]}, "the held one is whole"
    assert count(databases.content, "parts") == 3
    with transaction(databases.content) as session:
        erasure.sweep_rows(session, now + 31 * DAY)
        assert session.scalars(select(Part.item_id)).all() == [ids[-1]], (
            "what the month left goes with its item"
        )
        assert session.scalars(select(SignalRow.item_id)).all() == [ids[-1]]
        session.execute(update(Item).values(holds=0))
    assert erasure.sweep(databases, vault, blobs, now) == 1
    with databases.content.begin() as connection:
        for table in ("parts", "signals"):
            assert partitions.drop_empty(connection, table, month)


# ---- the report -----------------------------------------------------------------------------------------------


def test_the_report_says_what_is_due_when_and_what_is_kept_beyond(
    client: TestClient, databases: Databases, load: Caseload, policy: Policy, grave: dict[str, Any]
) -> None:
    names = ("overdue", "today", "week", "month", "later", "held")
    made = {name: client.post("/v1/items", json=post(f"post-{name}")).json()["id"] for name in names}
    client.delete(grave["status_url"])
    now = datetime.now(UTC).replace(hour=11)
    when = {
        "overdue": -DAY,
        "today": 2 * SECOND,
        "week": 3 * DAY,
        "month": 20 * DAY,
        "later": 60 * DAY,
        "held": -DAY,
    }
    for name in names:
        ends(databases, made[name], now + when[name])
    with transaction(databases.content) as session:
        session.execute(update(Item).where(Item.id == UUID(made["held"])).values(holds=1))
    with transaction(databases.content) as session:
        found = keeping.report(session, policy.retention, now)
    lines = {line.name: line for line in found.lines}
    pending = lines["pending"]
    counted = {name: getattr(pending, name) for name in keeping.COUNTED}
    assert counted == {
        "overdue": 1, "today": 1, "week": 1, "month": 2, "later": 1, "held": 1, "appeal": 0, "restricted": 0,
    }  # fmt: skip
    assert (lines["grave"].restricted, lines["grave"].later) == (1, 1)
    assert found.total.all == 7
    assert found.days[now.date()] == 2, "what is overdue counts for today"
    assert found.days[(now + 3 * DAY).date()] == 1
    assert sum(found.months.values()) == 6
    document = found.document()
    assert document["classes"]["pending"]["overdue"] == 1
    assert document["records"]["days"] == 1826


def test_what_is_kept_is_not_overdue(client: TestClient, databases: Databases) -> None:
    item = client.post("/v1/items", json=post()).json()
    ends(databases, item["id"], datetime.now(UTC) - DAY)
    with transaction(databases.content) as session:
        assert erasure.overdue(session, datetime.now(UTC))["pending"] >= 86_399
        session.execute(update(Item).values(holds=1))
    with transaction(databases.content) as session:
        assert erasure.overdue(session, datetime.now(UTC)) == {}


def test_how_long_records_are_kept_is_the_policys_to_say(policy: Policy) -> None:
    from moderation.governance import policies

    document = policies.default_document()
    assert policies.read(document, 1).retention.records_days == 1826
    longer = document.replace("  received: pending", "  records_days: 4000\n  received: pending")
    assert policies.read(longer, 1).retention.records_days == 4000
    short = document.replace("  received: pending", "  records_days: 10\n  received: pending")
    with pytest.raises(policies.PolicyInvalid, match="records_days"):
        policies.read(short, 1)
    assert "sexual_minors" in policy.retention.grave
    assert replace(policy.retention, by_category={"spam": "allowed"}).grave == {}, "no floor, nothing to keep"


# ---- the console ----------------------------------------------------------------------------------------------


def test_the_pages(
    client: TestClient,
    settings: Settings,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
) -> None:
    with people.logged_in(settings, databases, vault, Role.PRIVACY_OFFICER) as officer:
        for path, said in {
            "retention": "Nothing is kept that has a date.",
            "erasures": "Nobody was erased yet.",
        }.items():
            empty = officer.get(f"/console/governance/{path}")
            assert (empty.status_code, said in empty.text) == (200, True), path
        item = client.post("/v1/items", json=post()).json()
        assert item["id"]
        form = {"client": "app", "author": "acct-1", "cause": "request", "sure": "true"}
        for bad in ({"sure": ""}, {"cause": "expiry"}, {"author": ""}, {"author": "nobody"}, {"client": "x"}):
            refused = officer.post("/console/governance/erasures", data=form | bad)
            assert refused.status_code in (404, 422), bad
            assert "Erasures" in refused.text
        made = officer.post("/console/governance/erasures", data=form)
        assert made.status_code == 303
        page = officer.get(made.headers["location"])
        assert "hidden, under way" in page.text
        assert client.get(item["status_url"]).status_code == 404
        address = made.headers["location"].split("?")[0]
        assert officer.get(f"{address}/receipt.json").status_code == 404
        erasure.run(databases, vault, blobs, datetime.now(UTC), 60.0)
        assert "Download the receipt" in officer.get(address).text
        receipt = officer.get(f"{address}/receipt.json")
        assert "attachment" in receipt.headers["content-disposition"]
        checks = erasure.verify_receipt(databases, vault, receipt.text)
        assert all(check.holds for check in checks)
        assert officer.get(f"/console/governance/erasures/{uuid4()}").status_code == 404
        assert officer.get("/console/governance/erasures?before=x").status_code == 422
    for role in (Role.MODERATOR, Role.TRAINER):
        with people.logged_in(settings, databases, vault, role) as member:
            assert member.get("/console/governance/retention").status_code == 403
            assert member.post("/console/governance/erasures", data=form).status_code == 403


def test_other_clients_items_are_not_there(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    item = client.post("/v1/items", json=post()).json()
    with calling(settings, new_key(databases, vault, "else")) as other:
        assert other.get(item["status_url"]).status_code == 404
    with transaction(databases.content) as session:
        assert queue.of_client(session, "else", UUID(item["id"])) is None
