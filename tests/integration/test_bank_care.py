"""How banks are kept right: samples, floods, "not the same", histories, searches, and how long entries stay."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import func, select, text, update

from api import bodies
from moderation import upkeep
from moderation.domain.errors import Conflict, InvalidInput
from moderation.domain.signals import BankAction, Match
from moderation.features import fingerprints
from moderation.features.decode import Decoder
from moderation.features.hashes import sha256
from moderation.governance import (
    audit,
    bank_guard,
    bank_history,
    bank_judging,
    bank_lists,
    bank_retention,
    bank_rules,
    banks,
    policies,
)
from moderation.governance.bank_judging import Lowered
from moderation.governance.bank_lists import Show
from moderation.pipeline.matchers import Matchers
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Bank, BankEntry, BankHit, BankRemoval, Decision, SignalRow
from moderation.storage.vault import Vault
from tests import hostile, scenes
from tests.people import logged_in
from tests.support import MILD, drain, image_part, post, text_part

NOON = datetime(2026, 11, 23, 12, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Make = Callable[..., UUID]


@pytest.fixture
def entry(databases: Databases, vault: Vault) -> Make:
    """Make a bank with one entry; its id."""

    def made(name: str = "words", kind: str = "term", value: str = "Lisbon", **options: Any) -> UUID:
        now = options.pop("now", NOON)
        mine = [key for key in ("verified", "note", "source") if key in options]
        about = {"verified": True, "note": ""} | {key: options.pop(key) for key in mine}
        bank = {"category": "spam", "action": "remove", "allow": False} | options
        with transaction(databases.content) as session:
            banks.create(session, name=name, kind=kind, actor="operator", now=now, **bank)
            return banks.add_content(
                session, vault, bank=name, content=value.encode(), actor="operator", now=now, **about
            ).id

    return made


def matched(databases: Databases, entry: UUID, items: int, at: datetime, authors: int = 10) -> None:
    """Count matches of an entry with items of so many authors, in one batch."""
    match = Match("body", "words", str(entry), "spam", BankAction.REMOVE, verified=True)
    people = [uuid4() for _ in range(authors)]
    with transaction(databases.content) as session:
        bank_guard.count(session, [(people[one % authors], [match]) for one in range(items)], at)


def floods(databases: Databases, now: datetime) -> list[tuple[int, int]]:
    with transaction(databases.content) as session:
        return [(one.hits, one.usual) for one in bank_guard.watch(session, now)]


def events(databases: Databases, entry: UUID) -> list[str]:
    with transaction(databases.content) as session:
        wanted = select(AuditEvent.action).where(AuditEvent.subject_id == str(entry)).order_by(AuditEvent.id)
        return list(session.scalars(wanted))


# ---- the sample ---------------------------------------------------------------------------------------------


def test_a_sample_is_of_items_always_the_same_ones_and_others_for_another_bank() -> None:
    items = [new_id(NOON + timedelta(seconds=one)) for one in range(20_000)]
    drawn = [bank_rules.drawn(item, "words", 0.05) for item in items]
    assert drawn == [bank_rules.drawn(item, "words", 0.05) for item in items]
    # 0.05 +- 5 standard errors of 20,000 draws.
    assert 0.042 < sum(drawn) / len(items) < 0.058
    others = [bank_rules.drawn(item, "hosts", 0.05) for item in items]
    both = sum(a and b for a, b in zip(drawn, others, strict=True))
    assert both / len(items) < 0.01
    wider = [bank_rules.drawn(item, "words", 0.5) for item in items]
    assert all(b for a, b in zip(drawn, wider, strict=True) if a), "who widens a sample keeps those in it"
    assert all(bank_rules.drawn(item, "words", 1.0) for item in items)


def test_outside_of_its_sample_a_bank_only_labels(
    client: TestClient, settings: Settings, databases: Databases, entry: Make
) -> None:
    known = entry(sample_share=0.5, now=datetime.now(UTC))
    sent = [
        UUID(client.post("/v1/items", json=post(f"post-{one}", text_part(MILD))).json()["id"])
        for one in range(12)
    ]
    drain(settings)
    with transaction(databases.content) as session:
        routes = dict(session.execute(select(Decision.item_id, Decision.route)).all())
        said = dict(
            session.execute(
                select(SignalRow.item_id, SignalRow.evidence).where(SignalRow.detector == "banks")
            ).all()
        )
        hits = session.scalars(select(BankHit.hits).where(BankHit.entry_id == known)).all()
    inside = {item for item in sent if bank_rules.drawn(item, "words", 0.5)}
    assert {item for item, route in routes.items() if route == "remove"} == inside
    assert set(said) == set(sent) - inside
    assert {one["would"] for evidence in said.values() for one in evidence["labels"]} <= {"remove"}
    assert sum(hits) == len(sent), "what would have matched is history too"


@pytest.mark.parametrize(
    ("share", "options"), [(0.0, {}), (1.5, {}), (0.5, {"allow": True}), (0.5, {"action": "label"})]
)
def test_samples_that_make_no_sense_are_refused(entry: Make, share: float, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        entry(sample_share=share, **options)


# ---- floods -------------------------------------------------------------------------------------------------


def test_a_flood_is_held_back_until_a_person_looks(databases: Databases, vault: Vault, entry: Make) -> None:
    known = entry(now=NOON - 2 * DAY)
    matched(databases, known, 6, NOON - DAY)
    matched(databases, known, 60, NOON)
    assert floods(databases, NOON) == [], "sixty are no more than ten times six"
    matched(databases, known, 1, NOON)
    assert floods(databases, NOON) == [(61, 6)]
    assert floods(databases, NOON) == []
    with transaction(databases.content) as session:
        snapshot = Matchers().current(session, vault, NOON)
        assert bank_guard.quarantined(session, NOON) == 1
        assert [one.id for one in bank_lists.entries(session, "words", NOON, show=Show.QUARANTINED)] == [
            known
        ]
    (match,) = snapshot.find([MILD], NOON)[0]
    assert (match.verified, match.quarantined) == (True, True)
    later = NOON + timedelta(minutes=5)
    with transaction(databases.content) as session:
        bank_judging.release(session, "words", known, actor="person:1", now=later)
    with transaction(databases.content) as session:
        (match,) = Matchers().current(session, vault, later).find([MILD], later)[0]
        assert not match.quarantined
        with pytest.raises(Conflict):
            bank_judging.release(session, "words", known, actor="person:1", now=later)
    # The same flood goes on: within the hour nobody asks again, and after it that hour is history.
    matched(databases, known, 300, later)
    assert floods(databases, later) == []
    matched(databases, known, 400, NOON + 2 * HOUR)
    assert floods(databases, NOON + 2 * HOUR) == []
    matched(databases, known, 4_001, NOON + 3 * HOUR)
    assert floods(databases, NOON + 3 * HOUR) == [(4_001, 400)], "ten times that is another flood"
    assert events(databases, known) == [
        "bank.entry_added", "bank.entry_quarantined", "bank.entry_released", "bank.entry_quarantined"
    ]  # fmt: skip
    with transaction(databases.content) as session:
        off = NOON + 4 * HOUR
        bank_judging.switch_entry(session, "words", known, on=False, actor="person:1", now=off)
        assert bank_guard.quarantined(session, off) == 0, "who turned it off has looked: the alarm ends"


@pytest.mark.parametrize(
    ("options", "authors", "held"),
    [
        ({}, 20, True),
        ({}, 4, False),
        ({"verified": False}, 20, False),
        ({"action": "label"}, 20, False),
        ({"kind": "text", "value": MILD, "allow": True}, 20, True),
    ],
    ids=["many authors", "few authors", "unverified", "label", "allow"],
)
def test_what_a_flood_is(
    databases: Databases, entry: Make, options: dict[str, Any], authors: int, held: bool
) -> None:
    known = entry(**options)
    matched(databases, known, 200, NOON, authors)
    assert bool(floods(databases, NOON)) is held


def test_history_is_of_fourteen_days(databases: Databases, entry: Make) -> None:
    known = entry()
    matched(databases, known, 100, NOON - 15 * DAY)
    matched(databases, known, 200, NOON)
    assert floods(databases, NOON) == [(200, 0)]


def test_an_allow_entry_in_quarantine_clears_nothing(
    client: TestClient, settings: Settings, databases: Databases, entry: Make
) -> None:
    now = datetime.now(UTC)
    known = entry("fine", "text", MILD, allow=True, now=now)
    entry("bad", "text", MILD, now=now)
    assert client.post("/v1/items", json=post("post-1", text_part(MILD))).status_code == 202
    drain(settings)
    with transaction(databases.content) as session:
        assert session.scalars(select(Decision.route)).one() == "allow"
    matched(databases, known, 200, now)
    assert len(floods(databases, now)) == 1
    client.post("/v1/items", json=post("post-2", text_part(MILD)))
    drain(settings)
    with transaction(databases.content) as session:
        assert session.scalars(select(Decision.route).order_by(Decision.id.desc()).limit(1)).one() == "remove"


def test_a_flood_through_the_path_is_held_back_by_the_upkeep(
    client: TestClient, settings: Settings, databases: Databases, entry: Make
) -> None:
    now = datetime.now(UTC)
    known = entry(now=now)
    matched(databases, known, 60, now)
    client.post("/v1/items", json=post("post-1", text_part(MILD)))
    drain(settings)
    with upkeep.opened(settings) as held:
        upkeep._banks(held)
    client.post("/v1/items", json=post("post-2", text_part(MILD)))
    drain(settings)
    with transaction(databases.content) as session:
        before, after = session.scalars(select(Decision).order_by(Decision.id))
    assert (before.route, after.route) == ("remove", "review")
    assert "suddenly matches far more than ever" in after.reasons[0]
    assert after.matches[0]["quarantined"] is True


def test_batches_count_beside_each_other_and_an_item_counts_once(databases: Databases) -> None:
    entries = [uuid4() for _ in range(30)]

    def batch(order: Sequence[UUID]) -> None:
        matches = [
            Match("body", "words", str(one), "spam", BankAction.REMOVE, verified=True) for one in order
        ]
        for _ in range(20):
            with transaction(databases.content) as session:
                bank_guard.count(session, [(uuid4(), [*matches, *matches])], NOON)

    threads = [
        threading.Thread(target=batch, args=(order,))
        for order in (entries, entries[::-1], entries[10:] + entries[:10])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with transaction(databases.content) as session:
        hits, authors = zip(*session.execute(select(BankHit.hits, BankHit.authors)).all(), strict=True)
    assert hits == (60,) * 30
    assert all(20 < one.bit_count() <= 60 for one in authors), "one bit an author, some of them shared"


# ---- "not the same" -----------------------------------------------------------------------------------------


def test_not_the_same_lowers_an_entry_step_by_step(databases: Databases, entry: Make) -> None:
    known = entry(now=NOON - HOUR)
    said = {"actor": "person:1"}

    def say(item: UUID, at: datetime) -> Lowered:
        with transaction(databases.content) as session:
            return bank_judging.not_the_same(session, "words", known, item, now=at, **said)

    first = uuid4()
    assert say(first, NOON) is Lowered.DOUBTED
    assert say(first, NOON) is Lowered.NOTHING, "once for each item"
    with transaction(databases.content) as session:
        bank_judging.verify(session, "words", known, now=NOON + HOUR, **said)
    assert say(uuid4(), NOON + DAY) is Lowered.DOUBTED
    assert say(uuid4(), NOON + 40 * DAY) is Lowered.NOTHING, (
        "the first is too long ago, and it asks people anyway"
    )
    assert say(uuid4(), NOON + 40 * DAY) is Lowered.NOTHING, "the second is too: two within 30 days"
    assert say(uuid4(), NOON + 41 * DAY) is Lowered.OFF
    assert say(uuid4(), NOON + 41 * DAY + HOUR) is Lowered.NOTHING, "it is off"
    with transaction(databases.content) as session:
        row = session.get_one(BankEntry, known)
        assert (row.verified, row.expires_at) == (False, NOON + 41 * DAY)
        bank_judging.switch_entry(session, "words", known, on=True, now=NOON + 42 * DAY, **said)
        assert not row.verified, "turned on it asks people until it is verified"
    assert events(databases, known) == [
        "bank.entry_added", "bank.not_the_same", "bank.entry_doubted", "bank.entry_verified", "bank.not_the_same",
        "bank.entry_doubted", "bank.not_the_same", "bank.not_the_same", "bank.not_the_same", "bank.entry_disabled",
        "bank.not_the_same", "bank.entry_enabled",
    ]  # fmt: skip


# ---- versions -----------------------------------------------------------------------------------------------


def test_whatever_changes_carries_the_banks_version(databases: Databases, vault: Vault, entry: Make) -> None:
    known = entry(verified=False)
    versions = []

    def now_at() -> tuple[int, int | None]:
        with transaction(databases.content) as session:
            bank = session.scalars(select(Bank)).one()
            row = session.get(BankEntry, known)
            return bank.version, row.version if row else None

    changes: list[Callable[..., Any]] = [
        bank_judging.verify,
        lambda session, name, one, **by: bank_judging.switch_entry(session, name, one, on=False, **by),
        lambda session, name, one, **by: bank_judging.switch_entry(session, name, one, on=True, **by),
        lambda session, name, one, **by: bank_judging.not_the_same(session, name, one, uuid4(), **by),
    ]
    for change in changes:
        with transaction(databases.content) as session:
            change(session, "words", known, actor="operator", now=NOON)
        versions.append(now_at())
    assert versions == [(3, 3), (4, 4), (5, 5), (6, 6)]
    with transaction(databases.content) as session:
        banks.tune(session, "words", actor="operator", now=NOON, sample_share=0.5)
        banks.tune(session, "words", actor="operator", now=NOON, sample_share=0.5)
    assert now_at() == (7, 6), "what was so before is no change"
    with transaction(databases.content) as session:
        banks.remove_entry(session, "words", known, actor="operator", now=NOON)
    with transaction(databases.content) as session:
        assert session.execute(select(BankRemoval.version, BankRemoval.entry_id)).all() == [(8, known)]


# ---- histories ----------------------------------------------------------------------------------------------


def test_an_entry_tells_its_history(client: TestClient, databases: Databases, entry: Make) -> None:
    now = datetime.now(UTC)
    known = entry(now=now - 3 * DAY, note="reported", source="A list of May")
    matched(databases, known, 3, now - 2 * DAY)
    matched(databases, known, 60, now)
    assert len(floods(databases, now)) == 1
    answer = client.get(f"/v1/banks/words/entries/{known}").json()
    assert (answer["value"], answer["quarantined"], answer["source"]) == ("lisbon", True, "A list of May")
    assert [one["action"] for one in answer["history"]] == ["bank.entry_quarantined", "bank.entry_added"]
    assert answer["history"][0]["details"] == {"bank": "words", "hits": 60, "usual": 3}
    counted = {one["day"]: one["matches"] for one in answer["days"]}
    assert (len(counted), sum(counted.values())) == (14, 63)
    assert counted[str((now - 2 * DAY).date())] == 3
    assert answer["last_matched"] == str(now.date())
    assert client.get(f"/v1/banks/words/entries/{uuid4()}").status_code == 404


def test_who_came_with_a_list_has_a_first_word_too(databases: Databases, entry: Make) -> None:
    known = entry()
    with transaction(databases.content) as session:
        other = new_id(NOON)
        row = session.get_one(BankEntry, known)
        session.add(
            BankEntry(
                id=other, bank_id=row.bank_id, digest=b"other", verified=True, note="", added_by="client:feed",
                added_at=NOON,
            )
        )  # fmt: skip
        session.flush()
        (told,) = bank_history.of_entry(session, other, NOON).happenings
    assert (told.actor, told.action, told.at) == ("client:feed", "bank.entry_added", NOON)


# ---- searches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("CASINO", {"free casino", "casino*"}),
        ("of may", {"free casino"}),
        ("stop_it", {"lisbon"}),
        ("100%", {"lisbon"}),
        ("operator", {"free casino", "casino*", "lisbon"}),
        ("nothing like it", set()),
        ("%", {"lisbon"}),
    ],
)
def test_entries_are_found_by_what_somebody_has_of_them(
    client: TestClient, databases: Databases, vault: Vault, entry: Make, search: str, found: set[str]
) -> None:
    entry(note="100% sure", source="Stop_It")
    with transaction(databases.content) as session:
        for value, note in (("Free casino", "List of May"), ("casino*", "")):
            banks.add_content(
                session, vault, bank="words", content=value.encode(), note=note, verified=False, actor="operator",
                now=NOON,
            )  # fmt: skip
    answer = client.get("/v1/banks/words/entries", params={"search": search}).json()
    assert {one["value"] for one in answer["entries"]} == found


def test_a_whole_text_an_id_and_a_digest_find_their_entry(
    client: TestClient, databases: Databases, entry: Make
) -> None:
    known = entry(kind="text", value="Lovely weather in Lisbon, isn't it?")
    with transaction(databases.content) as session:
        digest = session.get_one(BankEntry, known).digest.hex()
    for search in ("lovely  WEATHER in Lisbon, isn't it?", str(known), digest[:12], digest.upper()):
        answer = client.get("/v1/banks/words/entries", params={"search": search}).json()
        assert [one["id"] for one in answer["entries"]] == [str(known)], search
    assert client.get("/v1/banks/words/entries", params={"search": "x" * 501}).status_code == 422
    # Without the key to read the list, what it says is not told by being found either.
    with transaction(databases.content) as session:
        assert bank_lists.entries(session, "words", NOON, search="lovely weather in lisbon, isn't it?") == []


# ---- how long entries stay ----------------------------------------------------------------------------------


def test_entries_end_some_time_after_their_last_match(databases: Databases, entry: Make) -> None:
    long_ago, lately = NOON - 800 * DAY, NOON - 100 * DAY
    gone = entry("gone", "text", "one", now=long_ago)
    used = entry("used", "text", "two", now=long_ago)
    fresh = entry("fresh", "text", "three", now=lately)
    word = entry("words", "term", "four", now=long_ago)
    link = entry("links", "link", "prizes.com", now=long_ago)
    genuine = entry("genuine", "link", "paypal.com", allow=True, now=long_ago)
    matched(databases, used, 2, lately)
    with transaction(databases.content) as session:
        assert bank_guard.sweep(session, NOON) == 1
        assert session.get_one(BankEntry, used).last_matched_at == lately.replace(hour=0, minute=0)
        assert session.scalar(select(func.count()).select_from(BankHit)) == 0
    with transaction(databases.content) as session:
        assert bank_retention.sweep(session, NOON, 730) == 2
        left = set(session.scalars(select(BankEntry.id)))
        assert left == {used, fresh, word, genuine}
        assert set(session.scalars(select(BankRemoval.entry_id))) == {gone, link}
        wanted = select(AuditEvent.details).where(AuditEvent.action == "bank.entries_expired")
        assert sorted(one["name"] for one in session.scalars(wanted)) == ["gone", "links"]
        assert bank_retention.sweep(session, NOON, 730) == 0
    # A match that is not noted down at the entry yet counts as well.
    matched(databases, used, 1, NOON)
    with transaction(databases.content) as session:
        assert bank_retention.sweep(session, NOON + 700 * DAY, 750) == 1
        assert set(session.scalars(select(BankEntry.id))) == {used, word, genuine}


def test_counts_of_entries_that_are_gone_end_too(databases: Databases, entry: Make) -> None:
    known = entry()
    matched(databases, known, 1, NOON - 20 * DAY)
    matched(databases, known, 1, NOON)
    matched(databases, uuid4(), 1, NOON - 20 * DAY)
    with transaction(databases.content) as session:
        assert bank_guard.sweep(session, NOON) == 2
        assert session.scalars(select(BankHit.hour)).all() == [bank_guard.hour_of(NOON)]


def test_the_policy_says_how_long(settings: Settings, databases: Databases, entry: Make) -> None:
    now = datetime.now(UTC)
    known = entry("gone", "text", "one", now=now - 40 * DAY)
    document = policies.default_document()
    assert policies.read(document, 1).retention.bank_entries_days == 730
    older = document.replace("  bank_entries_days: 730", "  # nothing is said of it")
    assert policies.read(older, 1).retention.bank_entries_days == 730
    with transaction(databases.content) as session:
        shorter = document.replace("bank_entries_days: 730", "bank_entries_days: 30")
        policies.publish(session, shorter, "operator", now - HOUR)
    with upkeep.opened(settings) as held:
        upkeep._records(held)
    with transaction(databases.content) as session:
        assert session.get(BankEntry, known) is None


def test_who_changes_an_entry_and_the_upkeep_do_not_wait_for_each_other(
    settings: Settings, databases: Databases, entry: Make
) -> None:
    """Banks are locked before their entries: the upkeep notes matches at entries, and ends others of the bank."""
    now = datetime.now(UTC)
    known = entry("texts", "text", "one", now=now - 800 * DAY)
    with transaction(databases.content) as session:
        banks.add_entry(
            session, bank="texts", digest=b"gone", note="", verified=True, actor="anna", now=now - 800 * DAY
        )
    matched(databases, known, 1, now - 20 * DAY)
    failed: list[BaseException] = []

    def tended() -> None:
        try:
            with upkeep.opened(settings) as held:
                upkeep._records(held)
        except BaseException as error:
            failed.append(error)

    with transaction(databases.content) as session:
        banks.named(session, "texts", lock=True)
        thread = threading.Thread(target=tended)
        thread.start()
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        for _ in range(600):
            with transaction(databases.content) as other:
                if other.scalar(waits):
                    break
            time.sleep(0.05)
        bank_judging.switch_entry(session, "texts", known, on=False, actor="person:1", now=now)
    thread.join(60)
    assert not failed
    with transaction(databases.content) as session:
        (left,) = session.scalars(select(BankEntry)).all()
    assert (left.id, left.expires_at, left.last_matched_at is None) == (known, now, False)


# ---- through the API ----------------------------------------------------------------------------------------


def test_a_bank_is_changed_by_the_api(client: TestClient, databases: Databases) -> None:
    made = {"name": "photos", "kind": "image", "category": "spam", "action": "remove", "source": " A\nlist "}
    created = client.post("/v1/banks", json=made | {"distance": 20, "sample_share": 0.1})
    assert created.status_code == 201, created.text
    said = {key: created.json().get(key) for key in ("distance", "sample_share", "source", "enabled")}
    assert said == {"distance": 20, "sample_share": 0.1, "source": "A list", "enabled": True}
    changed = client.patch("/v1/banks/photos", json={"sample_share": 0.5}).json()
    assert (changed["sample_share"], changed["distance"], changed["source"]) == (0.5, 20, "A list")
    changed = client.patch(
        "/v1/banks/photos", json={"distance": None, "source": None, "enabled": False}
    ).json()
    assert ("distance" in changed, "source" in changed, changed["enabled"]) == (False, False, False)
    for wrong in ({"distance": 49}, {"distance": 0.5}, {"sample_share": 0}, {"name": "other"}):
        assert client.patch("/v1/banks/photos", json=wrong).status_code == 422, wrong
    with transaction(databases.content) as session:
        wanted = select(AuditEvent.action, AuditEvent.details).where(AuditEvent.subject == "bank")
        told = [(action, details) for action, details in session.execute(wanted)]
    name = {"name": "photos"}
    assert sorted(told, key=lambda one: (one[0], len(one[1]))) == [
        ("bank.created", name), ("bank.disabled", name),
        ("bank.tuned", name | {"sample_share": 0.5}), ("bank.tuned", name | {"distance": None, "source": None}),
    ]  # fmt: skip


def test_minus_zero_is_zero(client: TestClient) -> None:
    client.post("/v1/banks", json=PHOTOS)
    changed = client.patch("/v1/banks/photos", json={"distance": -0.0})
    assert (changed.status_code, str(changed.json()["distance"])) == (200, "0.0")


def test_entries_that_were_there_before_are_as_they_were(databases: Databases, entry: Make) -> None:
    """An installation that is upgraded has entries without version, source or last match."""
    known = entry()
    with transaction(databases.content) as session:
        session.execute(update(BankEntry).values(version=0))
        view = bank_lists.entries(session, "words", NOON)[0]
        assert (view.source, view.quarantined_at, view.live) == (None, None, True)
        assert audit.page(session, audit.Query(subject_id=str(known))).events
        assert bank_history.of_entry(session, known, NOON).last_matched is None
        assert bank_history.of_entry(session, known, NOON).days[-1] == (date(2026, 11, 23), 0)


# ---- pictures, by the API and in the console ----------------------------------------------------------------

PHOTOS = {"name": "photos", "kind": "image", "category": "spam", "action": "remove"}


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_picture_is_known_by_what_it_shows_or_by_its_bytes_alone(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    client.post("/v1/banks", json=PHOTOS)
    here = "/v1/banks/photos/entries"
    scene = scenes.scene(1)
    added = client.post(here, json={"image": encoded(scenes.saved(scene)), "verified": True})
    assert (added.status_code, added.json()["matches_near"]) == (201, True)
    plain = Image.new("RGB", (300, 200), (200, 30, 30))
    flat = client.post(here, json={"image": encoded(hostile.saved(plain, "PNG")), "verified": True})
    assert (flat.status_code, flat.json()["matches_near"]) == (201, False)
    copy, again = scenes.saved(scenes.recoded(scene)), hostile.saved(plain, "PNG")
    other = hostile.saved(Image.new("RGB", (300, 200), (200, 30, 31)), "PNG")
    sent = [
        client.post("/v1/items", json=post(f"post-{one}", image_part(data))).json()["id"]
        for one, data in enumerate((copy, again, other))
    ]
    drain(settings)
    with transaction(databases.content) as session:
        routes = dict(session.execute(select(Decision.item_id, Decision.route)).all())
    assert [routes[UUID(item)] for item in sent[:2]] == ["remove", "remove"]
    with transaction(databases.content) as session:
        assert session.scalars(select(Decision.matches).where(Decision.item_id == UUID(sent[2]))).one() == []


def test_what_was_known_by_its_bytes_gets_its_hashes_when_it_comes_again(
    client: TestClient, databases: Databases
) -> None:
    client.post("/v1/banks", json=PHOTOS)
    picture = scenes.saved(scenes.scene(2))
    here = "/v1/banks/photos/entries"
    first = client.post(here, json={"value": sha256(picture).hex().upper(), "form": "sha256"})
    assert (first.status_code, first.json()["matches_near"], first.json()["form"]) == (201, False, "sha256")
    again = client.post(here, json={"image": encoded(picture)})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.json()["matches_near"] is True
    assert client.post(here, json={"image": encoded(picture)}).status_code == 200
    assert events(databases, UUID(first.json()["id"])) == ["bank.entry_added", "bank.entry_completed"]


def test_a_hash_from_elsewhere_finds_and_is_found(client: TestClient) -> None:
    client.post("/v1/banks", json=PHOTOS)
    here = "/v1/banks/photos/entries"
    scene = scenes.scene(3)
    with Decoder() as decoder:
        kept = fingerprints.kept(decoder.decode(scenes.saved(scene)))
    written = bytes(kept.pdq[0]).hex()
    added = client.post(here, json={"value": written, "form": "pdq", "source": "StopNCII", "verified": True})
    assert (added.status_code, added.json()["matches_near"]) == (201, True)
    assert client.post(here, json={"value": written.upper(), "form": "pdq"}).status_code == 200
    nearly = f"{int(written, 16) ^ 0b111:064x}"
    found = client.get(here, params={"search": nearly}).json()["entries"]
    assert [one["id"] for one in found] == [added.json()["id"]]
    far = f"{int(written, 16) ^ (1 << 120) - 1:064x}"
    assert client.get(here, params={"search": far}).json()["entries"] == []


@pytest.mark.parametrize(
    ("entry_of_it", "said"),
    [
        ({"value": "ab" * 31, "form": "pdq"}, "64 hexadecimal digits"),
        ({"value": "0" * 64, "form": "pdq"}, "without features"),
        ({"value": "xy" * 32, "form": "sha256"}, "64 hexadecimal digits"),
        ({"value": "ab" * 32}, "form pdq or sha256"),
        ({"value": "ab" * 32, "form": "host"}, "form pdq or sha256"),
        ({"image": encoded(b"no picture"), "form": "pdq"}, "has no form"),
        ({"image": encoded(b"no picture")}, "JPEG"),
    ],
)
def test_pictures_that_can_not_be_known_are_refused(
    client: TestClient, entry_of_it: dict[str, Any], said: str
) -> None:
    client.post("/v1/banks", json=PHOTOS)
    answer = client.post("/v1/banks/photos/entries", json=entry_of_it)
    assert answer.status_code in (415, 422), answer.text
    assert said in answer.json()["detail"]


def test_a_bank_of_pictures_in_the_console(settings: Settings, databases: Databases, vault: Vault) -> None:
    scene = scenes.scene(4)
    with logged_in(settings, databases, vault, "lead") as lead:
        made = lead.post("/console/banks", data=PHOTOS | {"distance": "20", "share": "5", "source": "A list"})
        assert made.status_code == 303, made.text
        page = lead.get("/console/banks/photos").text
        assert "up to 20 of 256 bits" in page
        assert "5 % of the items" in page
        here = "/console/banks/photos/entries"
        file = {"file": ("a.jpg", scenes.saved(scene), "image/jpeg")}
        added = lead.post(
            here, data={"note": "seen", "verified": "true", "form": "pdq", "text": ""}, files=file
        )
        assert added.headers["location"].endswith("said=added")
        plain = hostile.saved(Image.new("RGB", (300, 200), (9, 9, 9)), "PNG")
        flat = lead.post(here, data={"form": "pdq"}, files={"file": ("b.png", plain, "image/png")})
        assert "too little in the picture" in lead.get(flat.headers["location"]).text
        assert lead.post(here, data={"form": "sha256", "text": "ab" * 32}).status_code == 303
        assert lead.post(here, files={"file": ("c.png", b"no picture", "image/png")}).status_code == 415
        large = scenes.saved(scenes.recoded(scene)) + bytes(2 * bodies.FORM_BYTES)
        copy = {"file": ("d.jpg", large, "image/jpeg")}
        found = lead.post("/console/banks/photos/look", files=copy).text
        with transaction(databases.content) as session:
            known = session.scalars(select(BankEntry.id).where(BankEntry.note == "seen")).one()
        assert f"{here}/{known}" in re.findall(r"Shows the picture.*", found)[0]
        none = {"file": ("e.jpg", scenes.saved(scenes.scene(5)), "image/jpeg")}
        assert "It finds nothing" in lead.post("/console/banks/photos/look", files=none).text
        assert "Equals an entry" in lead.post("/console/banks/photos/look", data={"hash": "AB" * 32}).text
        assert lead.post("/console/banks/photos/look", data={"hash": "ab"}).status_code == 422
        changed = lead.post(
            "/console/banks/photos/tune", data={"distance": "", "share": "50 %", "source": ""}
        )
        assert changed.status_code == 303
        assert lead.post("/console/banks/photos/tune", data={"share": "half"}).status_code == 422
        with transaction(databases.content) as session:
            bank = session.scalars(select(Bank)).one()
            assert (bank.distance, bank.sample_share, bank.source) == (None, 0.5, None)


def test_a_flood_in_the_console(settings: Settings, databases: Databases, vault: Vault, entry: Make) -> None:
    now = datetime.now(UTC)
    known = entry(now=now - DAY)
    matched(databases, known, 200, now)
    assert len(floods(databases, now)) == 1
    with logged_in(settings, databases, vault, "lead") as lead:
        assert "words (1)" in lead.get("/console/banks").text
        assert "1 entry</a> matched far more than ever" in lead.get("/console/banks/words").text
        assert "lisbon" in lead.get("/console/banks/words?show=quarantined").text
        here = f"/console/banks/words/entries/{known}"
        page = lead.get(here).text
        assert "200 items in an hour, 0 at most before" in page
        released = lead.post(here, data={"do": "release", "alone": "true"})
        assert released.headers["location"].startswith(here)
        assert "Released" in lead.get(released.headers["location"]).text
        assert lead.post(here, data={"do": "release"}).status_code == 409
        assert "No entry is in quarantine" in lead.get("/console/banks/words?show=quarantined").text
        assert lead.get(f"/console/banks/words/entries/{uuid4()}").status_code == 404
        assert "Nothing like that" in lead.get("/console/banks/words?search=elephant").text
    with logged_in(settings, databases, vault, "auditor") as auditor:
        page = auditor.get(here)
        assert (page.status_code, "lisbon" in page.text) == (200, False)
        assert "Nothing like that" in auditor.get("/console/banks/words?search=lisbon").text
        assert auditor.post("/console/banks/words/look", data={"hash": "ab" * 32}).status_code == 403
