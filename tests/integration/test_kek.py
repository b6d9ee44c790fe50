"""Epochs of the key-encryption key: a rotation while the service works, and what an old key is good for."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from moderation import cli, keks
from moderation.domain.errors import Conflict
from moderation.governance import rotation
from moderation.keks import KekError
from moderation.settings import Settings
from moderation.storage import rotation as rewrapping
from moderation.storage.database import Databases
from moderation.storage.ids import new_id
from moderation.storage.keystore import AuthorKey, ItemKey, KekEpoch, PackageKey, ServiceKey
from moderation.storage.tables import AuditEvent
from moderation.storage.vault import EpochUnknown, Vault, VaultError
from tests import support

SECRET = b"Lovely weather in Lisbon today."


@pytest.fixture
def file(settings: Settings, databases: Databases, tmp_path: Path) -> Iterator[Path]:
    """A KEK file with the installation's key in the old form; service keys are put back afterwards."""
    with databases.keystore.connect() as connection:
        kept = [dict(row) for row in connection.execute(select(ServiceKey.__table__)).mappings()]
        epochs = [dict(row) for row in connection.execute(select(KekEpoch.__table__)).mappings()]
    path = tmp_path / "kek"
    path.write_text(base64.b64encode(settings.kek.keys[1]).decode() + "\n")
    yield path
    with support.as_owner(databases.keystore) as connection:
        connection.execute(text("TRUNCATE service_keys, kek_epochs, author_keys, package_keys CASCADE"))
        connection.execute(KekEpoch.__table__.insert(), epochs)
        connection.execute(ServiceKey.__table__.insert(), kept)


@pytest.fixture
def rotating(databases: Databases, file: Path) -> Vault:
    """A process that reads the KEK file."""
    return Vault(databases.keystore, keks.read(file))


def wrote(vault: Vault, authors: int, now: datetime) -> dict[UUID, UUID]:
    """Items of so many authors, two each."""
    items = {new_id(now): author for author in [new_id(now) for _ in range(authors)] for _ in range(2)}
    vault.create_item_keys(items, now)
    return items


def epochs_of(databases: Databases) -> dict[str, set[int]]:
    with databases.keystore.connect() as connection:
        return {
            table.__tablename__: set(connection.scalars(select(table.epoch)))
            for table in (ServiceKey, AuthorKey, PackageKey)
        }


def opens(vault: Vault, items: dict[UUID, UUID]) -> bool:
    return set(vault.item_keys(list(items))) == set(items)


def test_a_file_of_one_word_is_the_first_epoch(tmp_path: Path) -> None:
    word = base64.b64encode(bytes(range(32))).decode()
    assert keks.parse(f"{word}\n").keys == {1: bytes(range(32))}
    assert keks.parse(f"# ours\n3 {word}\n\n7 {base64.b64encode(bytes(32)).decode()}\n").newest == 7
    assert "range" not in repr(keks.parse(word))
    assert word not in repr(keks.parse(word))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("1 !!!", "not base64"),
        ("AAAA", "holds 3 bytes"),
        ("1 {key}\n1 {key}", "epoch 1 twice"),
        ("{key}\n{key}", "not EPOCH BASE64"),
        ("0 {key}", "not EPOCH BASE64"),
        ("-1 {key}", "not EPOCH BASE64"),
        ("one {key}", "not EPOCH BASE64"),
        ("1 {key} more", "not EPOCH BASE64"),
    ],
)
def test_a_malformed_file_is_refused_in_a_sentence_without_its_keys(content: str, said: str) -> None:
    word = base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(KekError, match=said) as caught:
        keks.parse(content.format(key=word))
    assert word not in str(caught.value)


def test_the_file_is_replaced_as_a_whole_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "kek"
    path.write_text(base64.b64encode(bytes(32)).decode())
    path.chmod(0o644)
    assert keks.append(path) == 2
    assert path.stat().st_mode & 0o077 == 0o040, "nobody's but whose it was"
    path.chmod(0o600)
    assert keks.read(path).keys[1] == bytes(32)
    with pytest.raises(KekError, match="no newer key"):
        keks.remove(path, 2)
    keks.remove(path, 1)
    keks.remove(path, 1)
    assert set(keks.read(path).keys) == {2}
    assert [p.name for p in tmp_path.iterdir()] == ["kek"]


def test_the_file_stays_whose_it_was(tmp_path: Path) -> None:
    """An operator rotates as root, the service reads it as its own user's, or by its group."""
    path = tmp_path / "kek"
    path.write_text(base64.b64encode(bytes(32)).decode())
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 4711, 4712)
    before = path.stat()
    keks.append(path)
    keks.remove(path, 1)
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_a_file_of_other_keys_is_not_taken_up_by_who_is_running(tmp_path: Path) -> None:
    """What is wrapped under a key that came by mistake would be lost with the mistake."""
    path = tmp_path / "kek"
    ours = base64.b64encode(bytes(32)).decode()
    path.write_text(f"1 {ours}\n2 {ours}\n")
    ring = keks.Ring(keks.read(path))
    stranger = base64.b64encode(bytes(range(32))).decode()
    for wrong in (f"1 {ours}\n2 {stranger}\n", f"1 {ours}\n", f"{stranger}\n"):
        path.write_text(wrong)
        assert ring.current().keys == {1: bytes(32), 2: bytes(32)}
    path.write_text(f"2 {ours}\n3 {stranger}\n")
    assert ring.current().newest == 3
    assert set(ring.current().keys) == {2, 3}


def test_a_rotation_from_begin_to_end(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    items = wrote(rotating, 5, now)
    package = rotating.create_package_key(new_id(now), now)
    sealed = package.encrypt(SECRET, "preservations", "blob")
    digest = rotating.digest("author", "acct-1")
    assert rotation.begin(databases, rotating, now, "operator") == 2
    assert rotation.status(databases, rotating, 24).behind == 5 + 1 + 3
    while rotation.run(databases, rotating, now, 5.0):
        pass
    found = rotation.status(databases, rotating, 24)
    assert (found.behind, found.retire_at) == (0, now + timedelta(hours=24))
    assert epochs_of(databases) == {"service_keys": {2}, "author_keys": {2}, "package_keys": {2}}
    assert rotation.retire(databases, rotating, now, "operator") == [1]
    assert set(keks.read(file).keys) == {2}
    for vault in (rotating, Vault(databases.keystore, keks.read(file))):
        assert opens(vault, items)
        assert vault.package_key(package.owner).decrypt(sealed, "preservations", "blob") == SECRET  # type: ignore[arg-type]
        assert vault.digest("author", "acct-1") == digest, "a new KEK leaves digests valid"
    with databases.content.connect() as connection:
        rows = connection.execute(select(AuditEvent.action, AuditEvent.subject_id)).all()
        assert sorted(rows) == [("key.retired", "1"), ("key.rotated", "2")]
    with pytest.raises(Conflict, match="one epoch"):
        rotation.retire(databases, rotating, now, "operator")


def test_an_old_copy_of_the_keystore_opens_nothing_once_its_epoch_has_ended(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    """The copy is put back into the keystore, as a thief or a careless restore would."""
    erased, living = wrote(rotating, 2, now), wrote(rotating, 2, now)
    with databases.keystore.connect() as connection:
        copies = {
            table: [dict(row) for row in connection.execute(select(table.__table__)).mappings()]
            for table in (AuthorKey, ItemKey)
        }
    rotating.destroy_author_keys(list(erased.values()))
    rotation.begin(databases, rotating, now, "operator")
    assert rotation.run(databases, rotating, now, 60.0) == 2 + 3
    with support.as_owner(databases.keystore) as connection:
        connection.execute(text("TRUNCATE author_keys CASCADE"))
        for table, rows in copies.items():
            connection.execute(table.__table__.insert(), rows)
    assert opens(rotating, erased), "while the epoch lasts the copy is worth something: that is the bound"
    with support.as_owner(databases.keystore) as connection:
        connection.execute(text("DELETE FROM author_keys"))
    keks.remove(file, 1)
    with support.as_owner(databases.keystore) as connection:
        for table, rows in copies.items():
            connection.execute(table.__table__.insert(), rows)
    for vault in (rotating, Vault(databases.keystore, keks.read(file))):
        for items in (erased, living):
            with pytest.raises(EpochUnknown, match="was retired"):
                vault.item_keys(list(items))


def test_a_crash_in_the_middle_goes_on_where_it_was(
    databases: Databases, rotating: Vault, file: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = wrote(rotating, 7, now)
    monkeypatch.setattr(rewrapping, "BATCH", 2)
    assert rotation.begin(databases, rotating, now, "operator") == 2

    def crash(_place: str, calls: list[int] = [0]) -> None:  # noqa: B006
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt

    whole = rewrapping._batch
    monkeypatch.setattr(rewrapping, "_batch", lambda c, one, w: (crash(one.name), whole(c, one, w))[1])
    with pytest.raises(KeyboardInterrupt):
        rotation.run(databases, rotating, now, 60.0)
    monkeypatch.setattr(rewrapping, "_batch", whole)
    assert rotation.status(databases, rotating, 24).behind > 0
    assert epochs_of(databases)["author_keys"] == {1} or epochs_of(databases)["author_keys"] == {1, 2}
    assert opens(rotating, items), "half of them under each key: all open"
    again = Vault(databases.keystore, keks.read(file))
    assert rotation.begin(databases, again, now, "operator") == 2, "no third epoch before the second is done"
    rotation.run(databases, again, now, 60.0)
    assert rotation.status(databases, again, 24).behind == 0
    assert opens(again, items)


def test_a_crash_between_the_file_and_the_keystore_begins_no_second_epoch(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    keks.append(file)
    assert rotation.begin(databases, rotating, now, "operator") == 2
    assert keks.read(file).newest == 2


def test_a_process_with_the_old_key_in_memory_meets_new_rows(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    other = Vault(databases.keystore, keks.read(file))
    assert other.epoch == 1
    rotation.begin(databases, rotating, now, "operator")
    items = wrote(rotating, 2, now)
    assert opens(other, items), "it looks at the file again"
    assert other.epoch == 2
    rotation.run(databases, rotating, now, 60.0)
    rotation.retire(databases, rotating, now, "operator")
    assert opens(other, items)
    assert set(other.wrapper.keks.keys) == {2}, "and forgets what was retired"


def test_a_process_that_can_not_learn_of_it_fails_rather_than_lose_an_author(
    databases: Databases, rotating: Vault, settings: Settings, now: datetime
) -> None:
    """Its key came from the environment. Until the epoch ends what it writes is re-wrapped; then it is refused."""
    stale = Vault(databases.keystore, settings.kek)
    rotation.begin(databases, rotating, now, "operator")
    rotation.run(databases, rotating, now, 60.0)
    late = wrote(stale, 3, now)
    assert epochs_of(databases)["author_keys"] == {1}
    assert rewrapping.end(databases.keystore, rotating.wrapper, now) == [1]
    assert epochs_of(databases)["author_keys"] == {2}
    rotation.retire(databases, rotating, now, "operator")
    assert opens(rotating, late), "the last pass caught them"
    with pytest.raises(EpochUnknown):
        stale.item_keys(list(late))
    with pytest.raises(DBAPIError, match="epoch 1 was retired"):
        wrote(stale, 1, now)


def test_the_end_of_an_epoch_passes_over_no_author_whose_item_is_being_accepted(
    databases: Databases, rotating: Vault, now: datetime
) -> None:
    """An item's key refers to its author's, whose row is locked a little until the item's is committed."""
    items = wrote(rotating, 1, now)
    (author,) = set(items.values())
    rotation.begin(databases, rotating, now, "operator")
    with databases.keystore.begin() as accepting:
        accepting.execute(
            ItemKey.__table__.insert(), {"item_id": new_id(now), "author_id": author, "wrapped": b""}
        )
        assert rewrapping.end(databases.keystore, rotating.wrapper, now) == [1]
    assert epochs_of(databases)["author_keys"] == {2}
    rotation.retire(databases, rotating, now, "operator")
    assert opens(Vault(databases.keystore, rotating.wrapper.keks), items)


def test_no_epoch_ends_while_a_key_waits_under_it(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    items = wrote(rotating, 1, now)
    rotation.begin(databases, rotating, now, "operator")
    with databases.keystore.begin() as busy:
        busy.execute(select(AuthorKey.author_id).with_for_update())
        with pytest.raises(DBAPIError, match="lock timeout"):
            rewrapping.end(databases.keystore, rotating.wrapper, now, patience="100ms")
    assert set(keks.read(file).keys) == {1, 2}
    assert opens(rotating, items)


def test_authors_come_in_while_the_keys_are_re_wrapped(
    databases: Databases, rotating: Vault, file: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrapping, "BATCH", 3)
    before = wrote(rotating, 20, now)
    made: list[dict[UUID, UUID]] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def intake() -> None:
        vault = Vault(databases.keystore, keks.read(file))
        try:
            while not stop.is_set():
                made.append(wrote(vault, 2, now))
                assert opens(vault, made[-1])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=intake) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for epoch in (2, 3, 4):
            assert rotation.begin(databases, rotating, now, "operator") == epoch
            while rotation.run(databases, rotating, now, 5.0):
                pass
            rotation.retire(databases, rotating, now, "operator")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert made
    assert set(keks.read(file).keys) == {4}
    fresh = Vault(databases.keystore, keks.read(file))
    for items in (before, *made):
        assert opens(fresh, items)
    assert epochs_of(databases)["author_keys"] == {4}


def test_upkeep_begins_rewraps_and_retires_by_itself(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    def tended(after: timedelta) -> rotation.Status:
        return rotation.tend(databases, rotating, since + after, 30.0, 24.0, 60.0)

    since = rotation.status(databases, rotating, 24).epochs[0].since
    items = wrote(rotating, 2, now)
    assert len(tended(timedelta(days=29)).epochs) == 1
    found = tended(timedelta(days=31))
    assert [epoch.number for epoch in found.epochs] == [1, 2]
    assert found.behind == 0
    assert set(keks.read(file).keys) == {1, 2}, "the grace is not over"
    assert tended(timedelta(days=31, hours=23)).epochs[0].retired_at is None
    assert tended(timedelta(days=32, hours=1)).epochs[0].retired_at is not None
    assert set(keks.read(file).keys) == {2}
    assert opens(rotating, items)


def test_a_line_that_an_operator_added_is_taken_up(
    databases: Databases, rotating: Vault, file: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the service may not write: the secret store adds the line, the relay does the rest."""
    wrote(rotating, 2, now)
    keks.append(file)
    monkeypatch.setattr(keks, "writable", lambda _: False)  # as root, no mode of a file forbids anything
    found = rotation.tend(databases, rotating, now + timedelta(days=99), 30.0, 0.0, 60.0)
    assert found.behind == 0
    assert [epoch.retired_at for epoch in found.epochs] == [None, None]
    assert set(keks.read(file).keys) == {1, 2}


def test_without_a_file_the_command_explains_itself(
    databases: Databases, vault: Vault, now: datetime, settings: Settings
) -> None:
    with pytest.raises(Conflict, match="MODERATION_KEK_FILE") as caught:
        rotation.begin(databases, vault, now, "operator")
    assert "2 BASE64" in str(caught.value)
    assert base64.b64encode(settings.kek.keys[1]).decode() not in str(caught.value)


def test_the_command_line_rotates(
    databases: Databases,
    rotating: Vault,
    file: Path,
    settings: Settings,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    items = wrote(rotating, 2, now)
    for name, value in {
        "DATABASE_URL": settings.database_url.replace("+psycopg", ""),
        "KEYSTORE_URL": settings.keystore_url.replace("+psycopg", ""),
        "REDIS_URL": settings.redis_url,
        "KEK_FILE": str(file),
        "BLOB_DIR": str(settings.blob_dir),
    }.items():
        monkeypatch.setenv(f"MODERATION_{name}", value)
    monkeypatch.delenv("MODERATION_KEK", raising=False)

    def said(*words: str, status: int = 0) -> str:
        assert cli.main(["kek", *words]) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    assert "epoch 1  since" in said("status")
    assert "one epoch" in said("retire", status=2)
    assert "Epoch 2 wraps from now on." in said("rotate", "--grace-hours", "48")
    shown = said("status")
    assert "retired from" in shown
    assert shown.count("its key is here") == 2
    assert "Retired: epoch 1." in said("retire")
    assert "its key is not here" in said("status")
    assert opens(rotating, items)


def test_a_file_that_is_away_for_a_moment_stops_nobody(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    items = wrote(rotating, 1, now)
    aside = file.rename(file.with_name("aside"))
    assert opens(rotating, items)
    file.write_text("not a key")
    assert opens(rotating, items)
    aside.replace(file)
    assert opens(rotating, items)


def test_a_key_that_does_not_open_is_said_and_nothing_is_retired(
    databases: Databases, rotating: Vault, file: Path, now: datetime
) -> None:
    items = wrote(rotating, 2, now)
    with databases.keystore.begin() as connection:
        connection.execute(
            text("UPDATE author_keys SET wrapped = '\\x00' WHERE author_id = :a"),
            {"a": next(iter(items.values()))},
        )
    rotation.begin(databases, rotating, now, "operator")
    with pytest.raises(VaultError, match="author_keys"):
        rotation.run(databases, rotating, now, 60.0)
    with pytest.raises(VaultError):
        rotation.retire(databases, rotating, now, "operator")
    assert set(keks.read(file).keys) == {1, 2}
