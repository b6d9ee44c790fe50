"""Banks of every kind through the path an item takes, and through the API that fills them."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation import worker
from moderation.domain.errors import NotFound
from moderation.domain.signals import How, Match
from moderation.features.hashes import text_digest
from moderation.governance import bank_judging, bank_loading, banks
from moderation.governance.accounts import Scope
from moderation.governance.bank_formats import Read, read_list
from moderation.governance.bank_loading import About
from moderation.pipeline.matchers import Matchers
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Bank, BankEntry, Decision, SignalRow
from moderation.storage.vault import Vault
from tests import hostile
from tests.support import MILD, calling, drain, new_key, post, text_part

Make = Callable[..., None]


@pytest.fixture
def make(databases: Databases, vault: Vault) -> Make:
    """Make a bank with verified entries."""

    def made(name: str, kind: str, *values: str, action: str = "review", **options: Any) -> None:
        now = datetime.now(UTC)
        entry = {key: options.pop(key) for key in ("form", "expires_at", "category") if key in options}
        verified = options.pop("verified", True)
        settled = {"category": "spam", "allow": False, "distance": None} | options
        with transaction(databases.content) as session:
            banks.create(session, name=name, kind=kind, action=action, actor="operator", now=now, **settled)
            for value in values:
                banks.add_content(
                    session, vault, bank=name, content=value.encode(), note="", verified=verified,
                    actor="operator", now=now, **entry,
                )  # fmt: skip

    return made


@pytest.fixture
def look(databases: Databases, vault: Vault) -> Callable[[str], list[Match]]:
    """What the banks, as a process that begins now sees them, find in a text."""

    def found(text: str) -> list[Match]:
        now = datetime.now(UTC)
        with transaction(databases.content) as session:
            return Matchers().current(session, vault, now).find([text], now)[0]

    return found


def seen(matches: list[Match]) -> list[tuple[str, str]]:
    return [(one.bank, str(one.how)) for one in matches]


def shown(client: TestClient, settings: Settings, text: str, name: str = "post-1") -> dict[str, Any]:
    """A post after it was screened."""
    item = client.post("/v1/items", json=post(name, text_part(text))).json()
    drain(settings)
    found: dict[str, Any] = client.get(item["status_url"]).json()
    return found


# ---- through the path -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "text", "words", "stored"),
    [
        ("term", "weather balloon", "See the Weather  Balloon over Lisbon.", "contains the term of",
         {"how": "term", "score": 1.0, "start": 8, "end": 24}),
        ("link", "prizes.com", "Lovely weather: https://www.prizes.com/x today", "links to the host of",
         {"how": "host", "score": 1.0, "start": 16, "end": 40}),
        ("text", "Lovely weather in Lisbon today, so come and see us.",
         "Lovely weather in Lisbon today, so come and meet us.", "resembles", {"how": "near"}),
    ],
)  # fmt: skip
def test_what_a_bank_knows_is_found_and_said(
    client: TestClient, settings: Settings, databases: Databases, make: Make,
    kind: str, value: str, text: str, words: str, stored: dict[str, Any],
) -> None:  # fmt: skip
    make("known", kind, value, action="remove", distance=0.5 if kind == "text" else None)
    answer = shown(client, settings, text)
    assert answer["verdict"] == "remove", answer
    assert f"body {words} entry " in answer["reasons"][0]
    assert "of bank known" in answer["reasons"][0]
    with transaction(databases.content) as session:
        (match,) = session.scalars(select(Decision.matches)).one()
    assert stored.items() <= match.items()
    assert value not in str(match), "a decision keeps no content"


def test_a_claim_goes_before_people(client: TestClient, settings: Settings, make: Make) -> None:
    make("myths", "claim", "The Eiffel Tower was moved to Lisbon last week.", category="misinformation")
    told = "Have you heard? Last week the Eiffel Tower was moved to Lisbon. Lovely weather too."
    answer = shown(client, settings, told)
    assert answer["status"] == "in_review", answer
    assert "means nearly the same as entry" in answer["reasons"][0]
    other = shown(client, settings, "I had soup for lunch and it was good.", "post-2")
    assert "bank" not in str(other["reasons"])


def test_claims_without_a_model_are_not_silently_passed(
    databases: Databases, settings: Settings, vault: Vault, make: Make, client: TestClient
) -> None:
    make("myths", "claim", "The Eiffel Tower was moved to Lisbon last week.")
    item = client.post("/v1/items", json=post()).json()
    with worker.tools(settings) as tools, transaction(databases.content) as session:
        from moderation.pipeline import match as stage
        from moderation.pipeline.batch import Batch, Text
        from moderation.storage.tables import Item

        row = session.scalars(select(Item)).one()
        batch = Batch([row], datetime.now(UTC), texts=[Text(row.id, "body", MILD, text_digest(MILD))])
        snapshot = stage.match(session, batch, tools.vault, Matchers())
        stage.match_texts(batch, snapshot)
    (signal,) = batch.signals[row.id]
    assert (signal.detector, signal.status) == ("claims", "failed")
    assert item["status"] == "received"


def test_what_only_labels_is_a_signal_and_no_verdict(
    client: TestClient, settings: Settings, databases: Databases, make: Make
) -> None:
    make("places", "term", "Lisbon", action="label")
    answer = shown(client, settings, MILD)
    assert answer["verdict"] == "allow"
    with transaction(databases.content) as session:
        evidence = session.scalars(select(SignalRow.evidence).where(SignalRow.detector == "banks")).one()
        assert [(one["bank"], one["how"]) for one in evidence["labels"]] == [("places", "term")]
        assert session.scalars(select(Decision.matches)).one() == []


def test_an_unverified_term_only_asks_people(client: TestClient, settings: Settings, make: Make) -> None:
    make("words", "term", "Lisbon", action="remove", verified=False)
    answer = shown(client, settings, MILD)
    assert answer["verdict"] == "review"
    assert "which nobody has verified" in answer["reasons"][0]


# ---- what is found ----------------------------------------------------------------------------------------


def test_a_trick_is_seen_through_and_named(make: Make, look: Callable[[str], list[Match]]) -> None:
    make("words", "term", "casino")
    (match,) = look("Visit our c\u0430sin\u043e tonight")
    assert match.view
    assert (match.how, match.bank) == (How.TERM, "words")
    (plain,) = look("Visit our casino tonight")
    assert (plain.view, plain.start, plain.end) == ("", 10, 16)


def test_patterns_and_their_places(make: Make, look: Callable[[str], list[Match]]) -> None:
    make("numbers", "term", r"acc(oun)?t\.? ?\d{6,}", form="pattern")
    (match,) = look("Pay to Account 123456789 now")
    assert (match.how, match.start, match.end) == (How.PATTERN, 7, 24)


def test_an_allowed_term_or_host_clears_what_lies_within_it_and_no_more(
    make: Make, look: Callable[[str], list[Match]]
) -> None:
    make("towns", "term", "Penistone", "shop.paypal.com", allow=True)
    make("words", "term", "*penis*")
    make("genuine", "link", "paypal.com", allow=True)
    make("posing", "link", "paypal.com", distance=1.0)
    assert look("Penistone is a town") == []
    assert seen(look("Penistone, penis")) == [("words", "term")]
    assert look("pay at https://www.paypal.com/de") == []
    assert seen(look("pay at https://www.paypa1.com/de")) == [("posing", "lookalike")]


def test_an_unverified_allow_entry_clears_nothing(make: Make, look: Callable[[str], list[Match]]) -> None:
    make("towns", "term", "Penistone", allow=True, verified=False)
    make("words", "term", "*penis*")
    assert seen(look("Penistone is a town")) == [("words", "term")]


@pytest.mark.parametrize("times", [1, 2_500])
def test_what_is_allowed_hides_nothing_behind_it(
    make: Make, look: Callable[[str], list[Match]], times: int
) -> None:
    make("bad", "term", "*lisbon*", action="remove")
    make("fine", "term", "lisbonne", allow=True)
    assert look("Lisbonne " * times) == [] or times > 1
    assert seen(look("Lisbonne " * times + "Lisbon")) == [("bad", "term")]


def test_a_link_hides_behind_no_number_of_others(make: Make, look: Callable[[str], list[Match]]) -> None:
    make("swindles", "link", "prizes.com", action="remove")
    make("fine", "link", "a.de", allow=True)
    assert seen(look("a.de " * 1_000 + "prizes.com")) == [("swindles", "host")]


def test_an_allowed_link_clears_no_words_beside_its_host(
    make: Make, look: Callable[[str], list[Match]]
) -> None:
    make("bad", "term", "*casino*", action="remove")
    make("swindles", "link", "swindle.org", action="remove")
    make("fine", "link", "casinorama.com", "docs.com/forms", allow=True)
    assert look("https://www.casinorama.com/news?u=http://swindle.org and casinorama.com/news") == []
    for text in (
        "http://casinorama.com/casino",
        "http://casino@casinorama.com/",
        "http://docs.com/forms?casino",
    ):
        assert seen(look(text)) == [("bad", "term")], text


def test_an_allow_term_clears_no_score(client: TestClient, settings: Settings, make: Make) -> None:
    make("fine", "term", "Lisbon", allow=True)
    make("bad", "text", MILD, action="remove")
    assert shown(client, settings, MILD)["verdict"] == "remove", "a whole text is more than a word in it"


def test_an_entry_ends_without_anybody_doing_anything(databases: Databases, vault: Vault, make: Make) -> None:
    now = datetime.now(UTC)
    make("words", "term", "Lisbon", expires_at=now + timedelta(hours=1))
    with transaction(databases.content) as session:
        snapshot = Matchers().current(session, vault, now)
    assert seen(snapshot.find([MILD], now)[0]) == [("words", "term")]
    assert snapshot.find([MILD], now + timedelta(hours=2))[0] == []


def test_an_entrys_own_category_wins(make: Make, look: Callable[[str], list[Match]]) -> None:
    make("words", "term", "Lisbon", category="hate")
    assert [one.category for one in look(MILD)] == ["hate"]


def test_a_text_that_was_there_before_sketches_is_matched_as_it_was(
    client: TestClient, settings: Settings, databases: Databases, make: Make
) -> None:
    make("old", "text", distance=0.5, action="remove")
    with transaction(databases.content) as session:
        banks.add_entry(
            session, bank="old", digest=text_digest(MILD), note="", verified=True, actor="operator",
            now=datetime.now(UTC),
        )  # fmt: skip
    assert "equals entry" in shown(client, settings, MILD)["reasons"][0]


def test_an_entry_that_can_not_be_read_any_more_ends_nothing_but_itself(
    databases: Databases, vault: Vault, make: Make, look: Callable[[str], list[Match]]
) -> None:
    make("words", "term", "Lisbon")
    make("more", "term", "weather")
    with transaction(databases.content) as session:
        # As if an earlier release had taken for a pattern what this one does not.
        row = session.scalars(select(BankEntry).join(Bank).where(Bank.name == "more")).one()
        broken = vault.account_key().encrypt(b"(a", "bank_entries", "value", str(row.id))
        row.value, row.form = broken, "pattern"
    assert seen(look(MILD)) == [("words", "term")]


# ---- every worker sees a change ---------------------------------------------------------------------------


def test_another_process_sees_every_change_with_its_next_batch(
    databases: Databases, vault: Vault, make: Make
) -> None:
    theirs, answers, asked = Matchers(), [], threading.Barrier(2, timeout=60)

    def other() -> None:
        for _ in range(6):
            asked.wait()
            now = datetime.now(UTC)
            with transaction(databases.content) as session:
                answers.append(seen(theirs.current(session, vault, now).find([MILD], now)[0]))
            asked.wait()

    thread = threading.Thread(target=other)
    thread.start()

    def turn() -> list[tuple[str, str]]:
        asked.wait()
        asked.wait()
        return answers[-1]

    now = datetime.now(UTC)
    assert turn() == []
    make("words", "term", "Lisbon")
    assert turn() == [("words", "term")]
    with transaction(databases.content) as session:
        entry = session.scalars(select(BankEntry.id)).one()
        bank_judging.switch_entry(session, "words", entry, on=False, actor="operator", now=now)
    assert turn() == []
    with transaction(databases.content) as session:
        bank_judging.switch_entry(session, "words", entry, on=True, actor="operator", now=now)
        banks.switch(session, "words", on=False, actor="operator", now=now)
    assert turn() == []
    with transaction(databases.content) as session:
        banks.switch(session, "words", on=True, actor="operator", now=now)
    assert turn() == [("words", "term")]
    with transaction(databases.content) as session:
        banks.remove(session, "words", actor="operator", now=now)
    assert turn() == []
    thread.join(timeout=60)


def test_what_has_not_changed_is_not_compiled_again(databases: Databases, vault: Vault, make: Make) -> None:
    make("words", "term", "Lisbon")
    make("hosts", "link", "prizes.com")
    matchers, now = Matchers(), datetime.now(UTC)
    with transaction(databases.content) as session:
        first = {one.name: one for one in matchers.current(session, vault, now).banks}
        banks.add_content(
            session,
            vault,
            bank="hosts",
            content=b"other.com",
            note="",
            verified=True,
            actor="operator",
            now=now,
        )
        second = {one.name: one for one in matchers.current(session, vault, now).banks}
    assert second["words"] is first["words"]
    assert len(second["hosts"].entries) == 2


def test_what_is_known_is_not_opened_again(databases: Databases, vault: Vault, make: Make) -> None:
    make("words", "term", "Lisbon")
    matchers, now = Matchers(), datetime.now(UTC)

    def told() -> list[tuple[str, bool, str | None]]:
        with transaction(databases.content) as session:
            (bank,) = matchers.current(session, vault, now).banks
        return sorted((one.value, one.verified, one.source) for one in bank.entries)

    assert told() == [("lisbon", True, None)]
    with transaction(databases.content) as session:
        known = session.scalars(select(BankEntry)).one()
        known.value, known.verified, known.source = b"can't be opened", False, "another list"
        banks.add_content(
            session, vault, bank="words", content=b"Porto", note="", verified=True, actor="operator", now=now
        )
        first = known.id
    assert told() == [("lisbon", False, "another list"), ("porto", True, None)]
    with transaction(databases.content) as session:
        banks.remove_entry(session, "words", first, actor="operator", now=now)
    assert told() == [("porto", True, None)]


def test_two_people_at_one_entry_follow_each_other(databases: Databases, make: Make) -> None:
    make("words", "term", "Lisbon", verified=False)
    now, refused, begun = datetime.now(UTC), [], threading.Event()

    def verify() -> None:
        with transaction(databases.content) as session:
            session.execute(select(1))
            begun.set()
            try:
                bank_judging.verify(session, "words", entry, actor="operator", now=now)
            except NotFound as error:
                refused.append(error.detail)

    with transaction(databases.content) as session:
        entry = session.scalars(select(BankEntry.id)).one()
        banks.remove_entry(session, "words", entry, actor="operator", now=now)
        session.flush()
        other = threading.Thread(target=verify)
        other.start()
        assert begun.wait(60)
        other.join(0.3)
    other.join(60)
    assert not other.is_alive()
    assert len(refused) == 1, "who came second was told that it is gone"


# ---- lists ------------------------------------------------------------------------------------------------


def listed(lines: list[str]) -> Iterator[Read]:
    """What is read of a list of these lines."""
    return read_list(io.BytesIO("\n".join(lines).encode()))


def test_a_list_is_loaded_with_its_faults_told(databases: Databases, vault: Vault, make: Make) -> None:
    make("words", "term", "known one")
    lines = [
        "\ufeff# of May",
        "first term",
        "",
        "Known One",
        "x",
        "FIRST  term",
        *(f"term {n}" for n in range(2_500)),
    ]
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        about, seen_records = About("of May", verified=True), []
        dry = bank_loading.fill(
            session,
            vault,
            "words",
            listed(lines),
            about,
            actor="operator",
            now=now,
            dry=True,
            progress=seen_records.append,
        )
        assert (dry.added, dry.known, dry.repeated, dry.bad) == (2_501, 1, 1, 1)
        assert sum(seen_records) == len(lines) - 2, "but for the comment and the empty line"
        assert banks.count(session, banks.named(session, "words").id) == 1
        real = bank_loading.fill(session, vault, "words", listed(lines), about, actor="operator", now=now)
        again = bank_loading.fill(session, vault, "words", listed(lines), about, actor="operator", now=now)
    assert (real.added, again.added, again.known) == (2_501, 0, 2_502)
    assert [number for number, _ in real.faults] == [5]
    with transaction(databases.content) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "bank.entries_added")).all()
        assert [event.details["entries"] for event in events] == [2_501]
        assert len(Matchers().current(session, vault, now).banks[0].entries) == 2_502


def test_a_full_bank_takes_nothing_of_a_list(
    databases: Databases, vault: Vault, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moderation.governance.bank_entries.MOST_PATTERNS", 3)
    make("words", "term", "a+b")
    with (
        pytest.raises(banks.TooLarge, match="3 patterns"),
        transaction(databases.content) as session,
    ):
        bank_loading.fill(
            session, vault, "words", listed(["a{2}", "b{2}", "c{2}", "d{2}"]), About(form="pattern"),
            actor="operator", now=datetime.now(UTC),
        )  # fmt: skip
    with transaction(databases.content) as session:
        assert banks.count(session, banks.named(session, "words").id) == 1


# ---- the API ----------------------------------------------------------------------------------------------

LINKS = {"name": "swindles", "kind": "link", "category": "fraud", "action": "remove"}


def test_a_bank_from_its_making_to_its_end(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    made = client.post("/v1/banks", json=LINKS)
    assert made.status_code == 201, made.text
    assert client.post("/v1/banks", json=LINKS).status_code == 409
    entry = {"value": "https://Prizes.com/", "verified": True, "note": "reported"}
    added = client.post("/v1/banks/swindles/entries", json=entry)
    assert (added.status_code, added.json()["value"], added.json()["form"]) == (201, "prizes.com", "host")
    again = client.post("/v1/banks/swindles/entries", json={"value": "prizes.COM"})
    assert (again.status_code, again.json()["id"]) == (200, added.json()["id"])
    assert shown(client, settings, "See prizes.com today")["verdict"] == "remove"
    assert client.get("/v1/banks").json()["banks"][0]["matches"] == 1
    assert client.get("/v1/banks/swindles").json()["entries"] == 1
    assert client.get("/v1/banks/swindles/entries").json()["entries"][0]["matches"] == 1
    address = f"/v1/banks/swindles/entries/{added.json()['id']}"
    assert client.delete(address).status_code == 204
    assert client.delete(address).status_code == 404
    assert client.delete("/v1/banks/swindles").status_code == 204
    assert client.get("/v1/banks/swindles").status_code == 404
    assert shown(client, settings, "See prizes.com today", "post-2")["verdict"] == "allow"
    assert shown(client, settings, "See prizes.com today")["verdict"] == "remove", "what it decided stays"
    with transaction(databases.content) as session:
        actions = session.scalars(
            select(AuditEvent.action).where(AuditEvent.action.startswith("bank."))
        ).all()
        assert actions == ["bank.created", "bank.entry_added", "bank.entry_removed", "bank.removed"]


def test_entries_in_pages(client: TestClient) -> None:
    client.post("/v1/banks", json=LINKS | {"kind": "term"})
    for number in range(53):
        client.post("/v1/banks/swindles/entries", json={"value": f"term {number}"})
    first = client.get("/v1/banks/swindles/entries").json()
    second = client.get("/v1/banks/swindles/entries", params={"before": first["next"]}).json()
    assert (len(first["entries"]), len(second["entries"]), "next" in second) == (50, 3, False)
    assert {one["value"] for page in (first, second) for one in page["entries"]} == {
        f"term {number}" for number in range(53)
    }


def test_a_picture_by_its_bytes(client: TestClient) -> None:
    client.post("/v1/banks", json=LINKS | {"kind": "image"})
    picture = base64.b64encode(hostile.saved(hostile.gradient(), "PNG")).decode()
    added = client.post("/v1/banks/swindles/entries", json={"image": picture})
    assert (added.status_code, "value" in added.json()) == (201, False)
    assert client.post("/v1/banks/swindles/entries", json={"value": "a"}).status_code == 422


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "claim"}, "A person has to read them"),
        ({"kind": "claim", "action": "limit"}, "A person has to read them"),
        ({"kind": "claim", "action": "label", "allow": True}, "can't clear"),
        ({"distance": 0.5}, "look-alikes"),
        ({"kind": "term", "distance": 0.5}, "leave the distance out"),
        ({"kind": "text", "distance": 0.1}, "between 0.3 and 1"),
        ({"kind": "text", "distance": 0.6, "allow": True}, "clears only what equals"),
    ],
)
def test_banks_that_make_no_sense_are_refused(client: TestClient, change: dict[str, Any], said: str) -> None:
    answer = client.post("/v1/banks", json=LINKS | change)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("kind", "entry", "said"),
    [
        ("link", {"value": "co.uk"}, "suffix"),
        ("link", {"value": "prizes.com", "form": "pattern"}, "form must be one of"),
        ("term", {"value": "(a", "form": "pattern"}, "RE2"),
        ("term", {"value": "a*", "form": "pattern"}, "nothing"),
        ("term", {"value": "a"}, "two characters"),
        ("term", {"value": "  "}, "nothing to add"),
        ("term", {"image": "aGVsbG8="}, "holds no pictures"),
        ("text", {"value": "a text", "form": "literal"}, "Only entries of term and link banks"),
        ("text", {"value": "a text", "expires_at": "2020-01-01T00:00:00Z"}, "end in the future"),
        ("text", {"value": "a text", "expires_at": "9999-12-31T23:59:59Z"}, "before the year 9999"),
        ("claim", {"value": "no"}, "whole sentence"),
    ],
)  # fmt: skip
def test_entries_that_can_not_be_looked_for_are_refused(
    client: TestClient, kind: str, entry: dict[str, Any], said: str
) -> None:
    client.post("/v1/banks", json=LINKS | {"kind": kind, "action": "review"})
    answer = client.post("/v1/banks/swindles/entries", json=entry)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


def test_other_keys_may_not(settings: Settings, databases: Databases, vault: Vault) -> None:
    key = new_key(databases, vault, "other", Scope.ITEMS_WRITE)
    with calling(settings, key) as client:
        assert client.get("/v1/banks").status_code == 403
        assert client.post("/v1/banks", json=LINKS).status_code == 403


def test_nothing_of_an_entry_stands_in_the_clear(client: TestClient, databases: Databases) -> None:
    client.post("/v1/banks", json=LINKS | {"kind": "text", "distance": 0.6})
    client.post("/v1/banks/swindles/entries", json={"value": "zq7kanarienvogel sings every morning at six"})
    client.post("/v1/banks", json=LINKS | {"name": "words", "kind": "term"})
    client.post("/v1/banks/words/entries", json={"value": "zq7kanarienvogel"})
    with transaction(databases.content) as session:
        rows = session.scalars(select(BankEntry)).all()
        kept = [value for row in rows for value in (row.value, row.features, row.digest) if value]
        assert len(kept) == 4
        assert not any(b"zq7" in value for value in kept)
        assert session.scalars(select(Bank.version).order_by(Bank.name)).all() == [2, 2]
