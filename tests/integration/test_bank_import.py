"""Lists into banks and out of them: what comes in, what goes with its source, and what a round trip keeps."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from moderation import cli
from moderation.domain.errors import InvalidInput, TooLarge
from moderation.domain.signals import BankKind
from moderation.features.fingerprints import Kept
from moderation.governance import bank_export, bank_feeds, bank_loading, banks
from moderation.governance.accounts import Scope
from moderation.governance.bank_formats import Format, Record, read_list
from moderation.governance.bank_loading import About
from moderation.governance.bank_staging import Filled
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Bank, BankEntry, BankReference, BankRemoval
from moderation.storage.vault import Vault
from tests import hostile
from tests.support import calling, new_key

BRIDGE = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
OTHER = "e64cc9d91c623882f8d1f1d9a398e78c9f199b3bd83924f2b7e11e0bf861b064"
THIRD = "c186f9619659658c4b6916daf934496985f4259c72c39676ab9edb631c3c349c"
SHA = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

WHY = "This is no hash of 64 hexadecimal digits."

Fill = Callable[..., Filled]
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def make(databases: Databases) -> Callable[..., None]:
    """Make an empty bank."""

    def made(name: str = "known", kind: str = "image", **options: Any) -> None:
        settled = {"category": "spam", "action": "review", "allow": False} | options
        with transaction(databases.content) as session:
            banks.create(session, name=name, kind=kind, actor="operator", now=datetime.now(UTC), **settled)

    return made


@pytest.fixture
def fill(databases: Databases, vault: Vault) -> Fill:
    """Import records in a transaction of their own."""

    def filled(records: Iterable[Any], name: str = "known", dry: bool = False, **about: Any) -> Filled:
        with transaction(databases.content) as session:
            return bank_loading.fill(
                session,
                vault,
                name,
                records,
                About(**about),
                actor="operator",
                now=datetime.now(UTC),
                dry=dry,
            )

    return filled


@pytest.fixture
def say(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run one command; its status and what it wrote."""
    monkeypatch.setattr(cli, "_settings", lambda _: settings)

    def run(*words: object) -> tuple[int, str]:
        status = cli.main(["banks", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def rows(databases: Databases) -> list[BankEntry]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(BankEntry).order_by(BankEntry.note, BankEntry.form)))


def exported(databases: Databases, vault: Vault, name: str, shape: Format) -> str:
    with transaction(databases.content) as session:
        return "".join(bank_export.lines(session, vault, name, shape, datetime.now(UTC)))


def read(text: str, shape: Format, kind: BankKind) -> Iterable[Any]:
    return bank_feeds.read(io.BufferedReader(io.BytesIO(text.encode())), shape, kind)


# ---- what comes in ----------------------------------------------------------------------------------------


def test_hashes_of_pictures(databases: Databases, vault: Vault, make: Any, fill: Fill) -> None:
    make()
    end = datetime.now(UTC) + timedelta(days=9)
    records = [
        Record(
            1, BRIDGE, "pdq", note="one", category="fraud", source="others", verified=True, expires_at=end
        ),
        Record(2, SHA, "sha256", verified=False),
        Record(3, BRIDGE, "pdq", note="twice"),
        Record(4, "a" * 32),
        Record(5, BRIDGE[:-1], "pdq"),
        Record(6, OTHER, "pdq", category="nonsense"),
        Record(7, OTHER, "pdq", expires_at=end - timedelta(days=30)),
        Record(8, OTHER, "pdq", note="x" * 301),
        Record(9, SHA, "pdq"),
    ]
    dry = fill(records, dry=True, note="of May")
    assert (dry.added, dry.known, dry.repeated, dry.bad, dict(dry.foreign)) == (3, 0, 1, 4, {"md5": 1})
    assert [line for line, _ in dry.faults] == [5, 6, 7, 8]
    assert rows(databases) == []
    real = fill(records, note="of May", source="mine", verified=True)
    assert (real.added, real.faults) == (3, dry.faults)
    again = fill(records, note="of May", source="mine", verified=True)
    assert (again.added, again.known) == (0, 3)
    pdq, plain, listed = sorted(rows(databases), key=lambda row: (row.note != "one", row.form != "pdq"))[:3]
    assert (pdq.note, pdq.category, pdq.source, pdq.verified, pdq.expires_at) == (
        "one",
        "fraud",
        "others",
        True,
        end,
    )
    assert (plain.source, plain.verified, plain.note) == ("mine", True, "of May")
    assert (listed.form, listed.digest, listed.verified) == ("sha256", bytes.fromhex(SHA), False)
    assert pdq.features is not None
    key = vault.account_key()
    kept = Kept.unpack(key.decrypt(pdq.features, "bank_entries", "features", str(pdq.id)))
    assert kept.pdq.tobytes().hex() == BRIDGE
    with transaction(databases.content) as session:
        version = session.scalars(select(Bank.version)).one()
        events = session.execute(select(AuditEvent.action, AuditEvent.details).order_by(AuditEvent.id)).all()
    assert {row.version for row in rows(databases)} == {version}, "one version for all of a list"
    assert [details for action, details in events if action == "bank.entries_added"] == [
        {"bank": "known", "verified": True, "source": "mine", "entries": 3}
    ]


def test_no_list_verifies_itself(databases: Databases, make: Any, fill: Fill) -> None:
    make()
    fill([Record(1, BRIDGE, "pdq", verified=True), Record(2, SHA, "sha256")])
    assert [row.verified for row in rows(databases)] == [False, False]


def test_the_form_of_all_lines(databases: Databases, make: Any, fill: Fill) -> None:
    make()
    assert fill([Record(1, BRIDGE), Record(2, SHA)]).bad == 2
    assert fill([Record(1, BRIDGE), Record(2, SHA)], form="pdq").added == 2
    assert {row.form for row in rows(databases)} == {"pdq"}


def test_many_lines_and_the_first_faults(make: Any, fill: Fill) -> None:
    make(kind="term")
    lines = [f"term {number}" if number % 50 else "x" for number in range(5_000)]
    filled = fill(read_list(io.BytesIO("\n".join(lines).encode())))
    assert (filled.added, filled.bad, len(filled.faults)) == (4_900, 100, 20)
    assert filled.faults[1][0] == 51


def test_a_list_that_breaks_leaves_nothing(databases: Databases, make: Any, fill: Fill) -> None:
    make()
    records = read(f'{{"hashRecords": [{json.dumps(case(BRIDGE))},', Format.STOPNCII, BankKind.IMAGE)
    with pytest.raises(InvalidInput, match="no JSON"):
        fill(records)
    assert rows(databases) == []


def test_a_bank_is_usable_while_a_list_is_read(
    databases: Databases, vault: Vault, make: Any, fill: Fill
) -> None:
    make(kind="term")
    read_so_far, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterable[Record]:
        for number in range(1_500):
            yield Record(number, f"term {number}")
        read_so_far.set()
        assert go_on.wait(60)
        yield Record(9_999, "added meanwhile")

    done: list[Filled] = []
    thread = threading.Thread(target=lambda: done.append(fill(slowly())))
    thread.start()
    assert read_so_far.wait(60)
    with transaction(databases.content) as session:
        banks.add_content(
            session, vault, bank="known", content=b"added meanwhile", note="", verified=True, actor="anna",
            now=datetime.now(UTC),
        )  # fmt: skip
    go_on.set()
    thread.join(60)
    assert (done[0].added, done[0].known) == (1_500, 1)
    with transaction(databases.content) as session:
        assert session.scalar(select(func.count()).where(BankEntry.added_by == "anna")) == 1


def test_a_full_bank_takes_nothing(
    databases: Databases, make: Any, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(kind="term")
    monkeypatch.setitem(banks.bank_entries.MOST, BankKind.TERM, 3)
    for dry in (True, False):
        with pytest.raises(TooLarge):
            fill([Record(number, f"term {number}") for number in range(4)], dry=dry)
    assert rows(databases) == []
    monkeypatch.setattr("moderation.governance.bank_entries.MOST_PATTERNS", 1)
    fill([Record(1, "a+b", "pattern")])
    assert fill([Record(1, "a+b", "pattern"), Record(2, "term")], dry=True).added == 1
    for dry in (True, False):
        with pytest.raises(TooLarge):
            fill([Record(1, "a+b", "pattern"), Record(2, "b+c", "pattern")], dry=dry)


@pytest.mark.parametrize("end", ["9999-12-31", "9999-12-31T23:00:00-05:00", "0001-01-01T00:00:00+05:00"])
def test_an_end_beyond_all_time_is_a_bad_line(make: Any, fill: Fill, end: str) -> None:
    make(kind="term")
    line = json.dumps({"value": "one", "expires": end}).encode()
    assert fill(bank_feeds.read(io.BufferedReader(io.BytesIO(line)), Format.JSONL, BankKind.TERM)).bad == 1


def test_near_copies_are_not_looked_for_in_more_than_workers_hold(
    databases: Databases, make: Any, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(kind="text")
    monkeypatch.setitem(banks.bank_entries.MOST_NEAR, BankKind.TEXT, 3)
    assert fill([Record(number, f"A text with the number {number}.") for number in range(4)]).added == 4
    with pytest.raises(TooLarge), transaction(databases.content) as session:
        banks.tune(session, "known", actor="operator", now=datetime.now(UTC), distance=0.6)
    with transaction(databases.content) as session:
        banks.tune(session, "known", actor="operator", now=datetime.now(UTC), source="Anna")


def test_a_folder_of_pictures(say: Say, make: Any, tmp_path: Path, databases: Databases) -> None:
    make()
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.png").write_bytes(hostile.saved(hostile.gradient(), "PNG"))
    (folder / "deeper" / "b.png").write_bytes(hostile.saved(hostile.gradient(), "PNG"))
    (folder / "c.jpg").write_bytes(b"no picture")
    (folder / "d.png").write_bytes(b"\x89PNG" + bytes(10_000_001))
    status, said = say("import", "known", "--file", folder, "--dry-run")
    assert status == 0
    assert f"{folder / 'c.jpg'}: " in said
    assert "1 would be added, 0 known already, 1 twice in the list, 2 bad." in said
    assert rows(databases) == []
    assert "1 added" in say("import", "known", "--file", folder, "--note", "seen")[1]
    assert "0 added, 1 known already" in say("import", "known", "--file", folder)[1]
    assert [row.note for row in rows(databases)] == ["seen"]


def test_what_was_known_by_a_digest_alone_finds_near_copies_now(
    databases: Databases, vault: Vault, make: Any, fill: Fill
) -> None:
    make()
    make("texts", "text")
    fill([Record(1, SHA, "sha256")])
    more = Record(1, SHA, "sha256", pdq=(BRIDGE,))
    assert fill([more], dry=True).completed == 1
    assert (filled := fill([more])).completed == filled.known == 1
    assert fill([more]).completed == 0
    (row,) = rows(databases)
    kept = Kept.unpack(
        vault.account_key().decrypt(row.features or b"", "bank_entries", "features", str(row.id))
    )
    assert kept.pdq.tobytes().hex() == BRIDGE


def test_what_people_added_stays_theirs_though_a_list_completes_it(
    databases: Databases, vault: Vault, make: Any, fill: Fill
) -> None:
    make()
    with transaction(databases.content) as session:
        banks.add_content(
            session, vault, bank="known", content=SHA.encode(), form="sha256", note="by hand", verified=True,
            actor="anna", now=datetime.now(UTC),
        )  # fmt: skip
    assert fill([Record(1, SHA, "sha256", pdq=(BRIDGE,), reference="42/1")], source="ncmec").completed == 1
    taken = fill([Record(1, SHA, "sha256", reference="42/1", gone=True)], source="ncmec")
    assert (taken.removed, taken.absent) == (0, 1)
    assert [row.note for row in rows(databases)] == ["by hand"]


# ---- exchanges --------------------------------------------------------------------------------------------


def case(value: str, status: str = "Active", signal: str = "ImagePDQ") -> dict[str, Any]:
    return {
        "hashValue": value,
        "hashStatus": status,
        "caseNumbers": {"27664732": status},
        "signalType": signal,
    }


def entry(number: int, value: str | None, kind: str = "image") -> str:
    if value is None:
        return f'<deletedImage><member id="42"/><id>{number}</id></deletedImage>'
    prints = f"<fingerprints><pdq>{value}</pdq><md5>aa</md5></fingerprints>"
    return f'<{kind}><member id="42"/><id>{number}</id><classification>A1</classification>{prints}</{kind}>'


def ncmec(*entries: str) -> str:
    return f"<queryResult><images>{''.join(entries)}</images></queryResult>"


def test_what_an_exchange_takes_back_goes(
    databases: Databases, vault: Vault, make: Any, fill: Fill, say: Say, tmp_path: Path
) -> None:
    make()
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        banks.add_content(
            session, vault, bank="known", content=THIRD.encode(), form="pdq", note="by hand", verified=True,
            actor="anna", now=now,
        )  # fmt: skip
    feed = tmp_path / "feed.xml"
    feed.write_text(ncmec(entry(1, BRIDGE), entry(2, OTHER), entry(3, THIRD), entry(4, BRIDGE)))
    status, said = say("import", "known", "--file", feed)
    assert status == 0
    assert "Read as ncmec" in said
    assert "4 can't be looked for here, by kind: md5 4." in said
    assert "2 added, 1 known already, 1 twice in the list, 0 bad." in said
    assert [(row.source, row.note) for row in rows(databases)][:2] == [
        ("ncmec", "A1; entry 42/1"), ("ncmec", "A1; entry 42/2")
    ]  # fmt: skip
    # One of two names of the same picture, one that somebody added by hand as well, one that never was here.
    feed.write_text(ncmec(entry(1, None), entry(3, None), entry(9, None)))
    assert (
        "0 removed, as their source takes them back; 2 such were not here."
        in say("import", "known", "--file", feed)[1]
    )
    assert len(rows(databases)) == 3
    feed.write_text(ncmec(entry(4, None), entry(2, None), entry(2, OTHER)))
    dry = say("import", "known", "--file", feed, "--dry-run")[1]
    assert "0 would be added, 1 known already, 1 twice in the list" in dry
    assert "1 would be removed" in dry
    assert len(rows(databases)) == 3
    assert "1 removed" in say("import", "known", "--file", feed)[1]
    assert sorted(row.note for row in rows(databases)) == ["A1; entry 42/2", "by hand"]
    with transaction(databases.content) as session:
        removal = session.scalars(select(BankRemoval)).one()
        version = session.scalars(select(Bank.version)).one()
        actions = session.scalars(select(AuditEvent.action)).all()
    assert removal.version <= version
    assert "bank.entries_removed" in actions


def test_what_two_lists_hold_goes_with_the_second(databases: Databases, make: Any, fill: Fill) -> None:
    make()
    fill([Record(1, BRIDGE, "pdq", reference="42/1")], source="ncmec")
    fill([Record(1, BRIDGE, "pdq")], source="stopncii")
    gone = fill([Record(1, BRIDGE, "pdq", gone=True)], source="others")
    assert (gone.removed, gone.absent) == (0, 1)
    assert fill([Record(1, "", reference="42/1", gone=True)], source="ncmec").removed == 0
    (row,) = rows(databases)
    assert row.source == "stopncii", "whose list it is now"
    assert fill([Record(1, BRIDGE, "pdq", gone=True)], source="stopncii").removed == 1
    assert rows(databases) == []
    with transaction(databases.content) as session:
        assert session.scalars(select(BankReference)).all() == []


@pytest.mark.parametrize(
    ("order", "left"),
    [((False, True), 0), ((True, False), 1), ((False, True, False), 1)],
)
def test_what_a_list_says_last_holds(
    databases: Databases, make: Any, fill: Fill, order: Sequence[bool], left: int
) -> None:
    make()
    fill([Record(line, BRIDGE, "pdq", gone=gone) for line, gone in enumerate(order)], source="x")
    assert len(rows(databases)) == left


# ---- out and in again -------------------------------------------------------------------------------------

HELD: dict[str, list[Record]] = {
    "term": [
        Record(1, "Weather  Balloon", note="a, b", category="fraud"), Record(2, r"casin[o0]\s+now", "pattern"),
        Record(3, "*burg", source="others", reference="7"),
    ],
    "link": [
        Record(1, "https://www.prizes.com/x?y=1"), Record(2, "+49 30 901820", note="=HYPERLINK(1)"),
        Record(3, "Anna@prizes.com"), Record(4, "docs.com/forms/77", expires_at=datetime(2099, 1, 31, tzinfo=UTC)),
    ],
    "claim": [Record(1, "The moon is made\nof green cheese.")],
    "text": [Record(1, "A long text that people pass around, said one.\nAnd two."), Record(2, "short one")],
    "image": [
        Record(1, BRIDGE, "pdq"), Record(2, SHA, "sha256", verified=False),
        Record(3, "ab" * 32, "sha256", pdq=(OTHER, THIRD), phash="0123456789abcdef", note="seen"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("shape", [Format.CSV, Format.JSONL])
@pytest.mark.parametrize("kind", list(HELD))
def test_a_round_trip_keeps_everything(
    databases: Databases, vault: Vault, make: Any, fill: Fill, kind: str, shape: Format
) -> None:
    action = "review"
    make("one", kind, action=action)
    make("two", kind, action=action)
    first = fill(HELD[kind], "one", verified=True)
    assert (first.added, first.faults) == (len(HELD[kind]), [])
    text = exported(databases, vault, "one", shape)
    again = fill(read(text, shape, BankKind(kind)), "two", verified=True)
    assert (again.added, again.faults) == (len(HELD[kind]), [])
    assert sorted(exported(databases, vault, "two", shape).splitlines()) == sorted(text.splitlines())
    with transaction(databases.content) as session:
        bank_of = dict(session.execute(select(Bank.id, Bank.name)).all())
    columns = ("digest", "form", "category", "note", "source", "verified", "expires_at", "features_by")
    of = {name: [] for name in ("one", "two")}  # type: ignore[var-annotated]
    for row in rows(databases):
        of[bank_of[row.bank_id]].append(tuple(getattr(row, column) for column in columns))
    assert sorted(of["one"], key=repr) == sorted(of["two"], key=repr)
    if kind != "image":
        assert "moon" in text or kind != "claim"


def test_an_export_is_on_record_and_private(
    databases: Databases, make: Any, fill: Fill, say: Say, tmp_path: Path
) -> None:
    make(kind="term")
    fill([Record(1, "weather balloon")])
    file = tmp_path / "list.jsonl"
    status, said = say("export", "known", "--file", file)
    assert status == 0
    assert "They may lead to people" in said
    assert "weather balloon" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "choose another name" in say("export", "known", "--file", file)[1]
    assert say("export", "known", "--format", "csv")[1].splitlines()[0].startswith("value,form,")
    with transaction(databases.content) as session:
        events = session.scalars(select(AuditEvent).where(AuditEvent.action == "bank.exported")).all()
    assert [event.details["purpose"] for event in events] == ["review"] * 3
    assert [event.details["format"] for event in events] == ["jsonl", "jsonl", "csv"]


def test_a_list_from_the_input_and_an_entry_of_it(
    say: Say, make: Any, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(distance=20)

    class Input:
        buffer = io.BufferedReader(
            io.BytesIO(f"hash,type,note\n{BRIDGE},pdq,seen in May\n{SHA},sha256,\n".encode())
        )

    monkeypatch.setattr("sys.stdin", Input)
    assert "2 added" in say("import", "known", "--file", "-", "--verified")[1]
    (entry_id,) = [row.id for row in rows(databases) if row.form == "pdq"]
    near = f"{int(BRIDGE, 16) ^ 0b111:064x}"
    for words, expected in (
        (("--value", "seen in"), f"{entry_id}  "),
        (("--hash", near), "3 of 256 bits differ"),
        (("--hash", SHA), "; sha256"),
    ):
        said = say("search", "known", *words)[1]
        assert expected in said, said
        assert "1 entry." in said
    assert "0 entries." in say("search", "known", "--hash", "0" * 64)[1]
    status, said = say("entry", "known", entry_id)
    assert status == 0
    assert "bank.entry_added" in said
    assert say("tune", "known", "--distance", "none", "--sample-share", "0.5", "--source", "us")[0] == 0
    with transaction(databases.content) as session:
        bank = session.scalars(select(Bank)).one()
        assert (bank.distance, bank.sample_share, bank.source) == (None, 0.5, "us")
    assert say("tune", "known", "--distance", "49")[0] == cli.REFUSED


def test_a_banked_picture_is_found_by_its_file(say: Say, make: Any, tmp_path: Path) -> None:
    make()
    picture = tmp_path / "a.png"
    picture.write_bytes(hostile.saved(hostile.gradient(), "PNG"))
    assert "1 added" in say("add", "known", picture)[1]
    assert "1 entry." in say("search", "known", "--picture", picture)[1]


# ---- the API ----------------------------------------------------------------------------------------------


def test_a_list_by_the_api(client: TestClient, databases: Databases, settings: Settings, make: Any) -> None:
    make()
    address = "/v1/banks/known/import"
    text = f"hash,type\n{BRIDGE},pdq\n{OTHER},md5\nnothing,pdq\n"
    wanted = {
        "added": 1,
        "bad": 1,
        "foreign": {"md5": 1},
        "faults": [{"line": 4, "why": WHY}],
        "format": "csv",
    }
    for dry in (True, False):
        answer = client.post(
            address,
            params={"dry_run": dry},
            content=text,
            headers={"content-type": "text/csv; charset=utf-8"},
        )
        assert answer.status_code == 200, answer.text
        assert wanted.items() <= answer.json().items()
        assert answer.json()["dry_run"] is dry
        assert len(rows(databases)) == (0 if dry else 1)
    xml = {"content-type": "application/xml"}
    answer = client.post(address, content=ncmec(entry(1, OTHER), entry(7, None)), headers=xml)
    assert {"format": "ncmec", "added": 1, "absent": 1}.items() <= answer.json().items()
    assert {row.source for row in rows(databases)} == {None, "ncmec"}
    assert {row.added_by for row in rows(databases)} == {"client:app"}
    lines = {"content-type": "text/plain"}
    answer = client.post(address, params={"form": "sha256", "note": "a\x00b"}, content=SHA, headers=lines)
    assert answer.json()["added"] == 1
    assert "a b" in {row.note for row in rows(databases)}
    for content, headers, status in (
        (text, {"content-type": "image/png"}, 415),
        ("<!DOCTYPE a><queryResult/>", xml, 422),
        ("x" * (settings.limits.body_bytes + 1), lines, 413),
    ):
        assert client.post(address, content=content, headers=headers).status_code == status
    assert client.post("/v1/banks/other/import", content="x", headers=lines).status_code == 404


def test_who_may_import(settings: Settings, databases: Databases, vault: Vault, make: Any) -> None:
    make()
    key = new_key(databases, vault, "reader", Scope.ITEMS_READ)
    with calling(settings, key) as client:
        answer = client.post("/v1/banks/known/import", content="x", headers={"content-type": "text/plain"})
    assert answer.status_code == 403
