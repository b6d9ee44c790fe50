"""Whatever is done to the log afterwards is found, and the first fault is named in a sentence."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from moderation.governance import audit_export, checkpoint_files, checkpoints, ledger, verification
from moderation.governance.checkpoint_files import Pin
from moderation.storage.database import Databases, transaction
from moderation.storage.vault import Vault
from tests import support
from tests.audited import Log, small_tiles


@pytest.fixture
def log(databases: Databases, vault: Vault, now: datetime, monkeypatch: pytest.MonkeyPatch) -> Log:
    """Thirty events in small tiles, signed three times."""
    small_tiles(monkeypatch)
    found = Log(databases, vault, now)
    found.grow(13, 9, 8)
    return found


def tamper(log: Log, *statements: str) -> None:
    support.unprotected(log.databases.content, *statements)


def without_unique_numbers(*statements: str) -> tuple[str, ...]:
    """Whoever owns the database can take the index away for a moment, too."""
    index = "uq_audit_events_leaf_index"
    return (
        f"DROP INDEX {index}",
        *statements,
        f"CREATE UNIQUE INDEX {index} ON audit_events (leaf_index) WHERE leaf_index IS NOT NULL",
    )


def test_an_intact_log_says_how_far_it_goes(log: Log) -> None:
    log.write(2)
    log.number()
    log.write(1)
    found = log.verify(log.pins())
    assert (found.events, found.signed, found.waiting) == (32, 30, 1)
    assert (found.checkpoints, found.exported, found.bare) == (3, 3, 0)


COLUMNS = {
    "id": "gen_random_uuid()", "at": "at + interval '1 microsecond'", "actor": "'operator'",
    "action": "'item.deleted'", "subject": "'author'", "subject_id": "subject_id || 'x'",
    "details": "details || '{\"score\": 0.26}'", "salt": "sha256(salt)",
    "commitment": "sha256(commitment)", "leaf_index": "NULL",
}  # fmt: skip


def test_every_column_of_an_event_is_covered() -> None:
    from moderation.storage.tables import AuditEvent

    assert {column.name for column in AuditEvent.__table__.columns} == set(COLUMNS)


@pytest.mark.parametrize("place", [0, 5, 29], ids=["first", "in a tile", "last"])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_column_of_an_event_is_found(log: Log, column: str, place: int) -> None:
    tamper(log, f"UPDATE audit_events SET {column} = {COLUMNS[column]} WHERE leaf_index = {place}")
    fault = log.fault()
    named = {"details": "details", "salt": "details", "leaf_index": "missing"}
    if column == "leaf_index" and place == 29:
        assert "30" in fault
    else:
        assert str(place) in fault, fault
        assert named.get(column, "") in fault or column == "commitment"


def test_details_that_were_blanked_without_their_salt_are_found(log: Log) -> None:
    tamper(log, "UPDATE audit_events SET details = '{}' WHERE leaf_index = 5")
    assert "Event 5" in log.fault()
    tamper(log, "UPDATE audit_events SET salt = NULL, details = '{\"a\": 1}' WHERE leaf_index = 5")
    assert "Event 5" in log.fault()


# An event copied over another.
COPIED = (
    "INSERT INTO audit_events SELECT 'ffffffff-ffff-4fff-8fff-ffffffffffff', at, actor, action, subject, "
    "subject_id, details, salt, commitment, 4 FROM audit_events WHERE leaf_index = 3"
)
REPLACED = (
    "DELETE FROM audit_events WHERE id = "
    "(SELECT id FROM audit_events WHERE leaf_index = 4 ORDER BY id LIMIT 1)"
)
EXCHANGED = "UPDATE audit_events SET leaf_index = {0} + {1} - leaf_index WHERE leaf_index IN ({0}, {1})"
OVERWRITTEN = (
    "UPDATE audit_tiles SET hashes = overlay(hashes PLACING sha256('x') FROM {}) "
    "WHERE level = {} AND index = {}"
)
WAYS: Mapping[str, tuple[Sequence[str], str]] = {
    "deleted in the middle": (["DELETE FROM audit_events WHERE leaf_index = 7"], "Event 7 is missing"),
    "the last deleted": (
        ["DELETE FROM audit_events WHERE leaf_index = 29"],
        "holds 29 numbered.*checkpoint of 30",
    ),
    "all deleted": (["DELETE FROM audit_events"], "holds 0 numbered events"),
    "closed up": (
        [
            "DELETE FROM audit_events WHERE leaf_index = 7",
            "UPDATE audit_events SET leaf_index = leaf_index - 1 WHERE leaf_index > 7",
        ],
        "holds 29 numbered events",
    ),
    "exchanged in a tile": ([EXCHANGED.format(5, 6)], "Event 5, "),
    "exchanged at the end": ([EXCHANGED.format(28, 29)], "first 30 events are not those that were signed"),
    "hidden below zero": (
        [
            "UPDATE audit_events SET leaf_index = -1 - leaf_index WHERE leaf_index = 29",
            "DELETE FROM audit_checkpoints WHERE size = 30",
        ],
        "number below 0",
    ),
    "copied": ([COPIED, REPLACED], "Event 4, "),
    "a tile's hash": ([OVERWRITTEN.format(33, 0, 2)], "Event 9, "),
    "a tile's hash above": ([OVERWRITTEN.format(1, 1, 0)], "Tile 0 of level 1 was altered"),
    "a tile gone": (
        ["DELETE FROM audit_tiles WHERE level = 0 AND index = 3"],
        "Tile 3 of level 0 is missing",
    ),
    "a tile more": (["INSERT INTO audit_tiles VALUES (0, 99, 'x')"], "8 tiles of level 0, and 7"),
    "a level more": (["INSERT INTO audit_tiles VALUES (6, 0, 'x')"], "1 tiles of level 6, and 0"),
    "a root": (
        ["UPDATE audit_checkpoints SET root = sha256('x') WHERE size = 22"],
        "of 22 events is not the one",
    ),
    "a time": (["UPDATE audit_checkpoints SET at = now() WHERE size = 22"], "of 22 events is not the one"),
    "a size": (["UPDATE audit_checkpoints SET size = 21 WHERE size = 22"], "of 21 events is not the one"),
    "a note": (
        ["UPDATE audit_checkpoints SET note = replace(note, E'\\n22\\n', E'\\n21\\n') WHERE size = 22"],
        "of 22 events can't be trusted. Its signature is wrong",
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_tamper_are_found(log: Log, way: str) -> None:
    statements, said = WAYS[way]
    tamper(log, *without_unique_numbers(*statements))
    fault = log.fault()
    assert re.search(said, fault), fault


def test_an_event_rewritten_with_its_tiles_is_found_by_the_signed_root(log: Log) -> None:
    """Whoever owns the database can compute the tree anew, but not sign it."""
    tamper(
        log,
        "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 15",
        "DELETE FROM audit_tiles",
        "UPDATE audit_events SET leaf_index = NULL",
    )
    while log.number():
        pass
    fault = log.fault()
    assert "first 22 events are not those that were signed" in fault, fault
    assert "one from 13 to 21" in fault


def test_a_checkpoint_of_another_key_is_not_ours(log: Log) -> None:
    stranger = Ed25519PrivateKey.generate()
    real = log.checkpoints[1]
    forged = checkpoints.sign(stranger, real.size, real.root, real.at)
    with support.as_owner(log.databases.content) as connection:
        connection.execute(text("ALTER TABLE audit_checkpoints DISABLE TRIGGER USER"))
        connection.execute(
            text("UPDATE audit_checkpoints SET note = :note WHERE size = 22"), {"note": forged.note}
        )
        connection.execute(text("ALTER TABLE audit_checkpoints ENABLE TRIGGER USER"))
    assert "22 events can't be trusted. It was not signed by moderation-log/" in log.fault()


SET_BACK = (
    "DELETE FROM audit_checkpoints WHERE size > 13",
    "DELETE FROM audit_events WHERE leaf_index >= 13",
    "DELETE FROM audit_tiles WHERE (index + 1) * 4 ^ (level + 1) > 13",
)


def test_a_database_set_back_is_found_by_a_checkpoint_kept_elsewhere(log: Log) -> None:
    """An older state of the whole database is in itself intact."""
    kept = log.pins()
    tamper(log, *SET_BACK)
    assert log.verify().events == 13
    assert "kept.checkpoints has a checkpoint of 30" in log.fault(kept)
    log.grow(40)
    assert log.verify().events == 53
    fault = log.fault(kept)
    assert "first 22 events are not those that were signed (checkpoint in kept.checkpoints)" in fault, fault


class TestFiles:
    def test_checkpoints_are_appended_once_and_read_again(self, log: Log, tmp_path: Path) -> None:
        key = ledger.key(log.vault)
        assert self.export(log, tmp_path) == 3
        assert self.export(log, tmp_path) == 0
        log.grow(1)
        assert self.export(log, tmp_path) == 1
        (file,) = checkpoint_files.files(tmp_path)
        assert file.name == "2026-11.checkpoints"
        pins = list(checkpoint_files.pins([file], key))
        assert [pin.size for pin in pins] == [13, 22, 30, 31]
        assert log.verify(pins).exported == 4
        assert checkpoints.read_key((tmp_path / "key").read_text(encoding="utf-8")) == key

    def test_single_notes_and_copies_of_files_are_read_too(self, log: Log, tmp_path: Path) -> None:
        notes = [one.note for one in log.checkpoints]
        (tmp_path / "one").write_text(notes[0], encoding="utf-8")
        (tmp_path / "all").write_text("".join(notes), encoding="utf-8")
        (tmp_path / "spaced").write_text("\n".join(notes), encoding="utf-8")
        for name, count in (("one", 1), ("all", 3), ("spaced", 3)):
            assert len(list(checkpoint_files.pins([tmp_path / name], ledger.key(log.vault)))) == count

    def test_a_file_that_was_altered_is_named(self, log: Log, tmp_path: Path) -> None:
        self.export(log, tmp_path)
        (file,) = checkpoint_files.files(tmp_path)
        whole = file.read_text(encoding="utf-8")
        for damaged in (whole.replace("\n22\n", "\n23\n"), whole[:-30], "nonsense\n"):
            file.write_text(damaged, encoding="utf-8")
            with pytest.raises(
                checkpoints.NoteInvalid, match=r"2026-11\.checkpoints holds a checkpoint that"
            ):
                list(checkpoint_files.pins([file], ledger.key(log.vault)))

    def test_what_a_full_disk_left_is_completed(self, log: Log, tmp_path: Path) -> None:
        self.export(log, tmp_path)
        (file,) = checkpoint_files.files(tmp_path)
        whole = file.read_bytes()
        for cut in (1, 2, 5, 100, 200, len(whole) - 10):
            os.truncate(file, len(whole) - cut)
            assert self.export(log, tmp_path) >= 1
            assert file.read_bytes() == whole

    def test_a_folder_that_knows_more_than_the_database_stops_the_export(
        self, log: Log, tmp_path: Path
    ) -> None:
        self.export(log, tmp_path)
        tamper(log, *SET_BACK)
        log.grow(40)
        with pytest.raises(ledger.LedgerBroken, match="set back"):
            self.export(log, tmp_path)

    def export(self, log: Log, folder: Path) -> int:
        with transaction(log.databases.content) as session:
            return checkpoint_files.export(session, folder, ledger.key(log.vault))


def exported(log: Log) -> str:
    file = io.StringIO()
    with transaction(log.databases.content) as session:
        audit_export.write(session, ledger.key(log.vault), file, log.now, lambda _: None)
    return file.getvalue()


def check(document: str, pins: list[Pin] | None = None) -> verification.Verified:
    lines = iter(io.StringIO(document))
    return audit_export.verify(lines, audit_export.key_in(lines), pins or [], lambda _: None)


class TestExport:
    def test_an_export_is_checked_with_no_database(self, log: Log) -> None:
        log.write(2)
        document = exported(log)
        found = check(document, log.pins())
        assert (found.events, found.signed, found.waiting) == (30, 30, 2)
        assert (found.checkpoints, found.exported) == (3, 3)
        assert found.key == ledger.key(log.vault)

    def test_an_altered_log_is_found_in_its_export(self, log: Log) -> None:
        tamper(log, "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 15")
        with pytest.raises(verification.Fault, match="first 22 events"):
            check(exported(log))
        tamper(log, "DELETE FROM audit_events WHERE leaf_index = 29")
        with pytest.raises(verification.Fault):
            check(exported(log))

    def test_an_export_of_a_log_that_was_set_back_is_found_by_what_was_kept(self, log: Log) -> None:
        pins = [*log.pins(), replace(log.pins()[-1], size=31)]
        with pytest.raises(verification.Fault, match="has a checkpoint of 31"):
            check(exported(log), pins)

    def test_whatever_passes_is_the_log_that_was_exported(self, log: Log) -> None:
        """Random damage to random lines: found, unless it says the same in other letters.

        Whoever kept the last checkpoint needs none of those in the file.
        """
        log.write(1)
        pins = log.pins()[-1:]
        lines = exported(log).splitlines(keepends=True)

        @given(st.data())
        def damaged(data: st.DataObject) -> None:
            other = damage(data, lines)
            try:
                check("".join(other), pins)
            except (verification.Fault, checkpoints.NoteInvalid):
                return
            assert meaning(other) == meaning(lines)

        damaged()


def damage(data: st.DataObject, lines: list[str]) -> list[str]:
    other = list(lines)
    at = data.draw(st.integers(0, len(lines) - 1), "line")
    match data.draw(st.sampled_from(["drop", "double", "swap", "letter", "letter", "cut"]), "how"):
        case "drop":
            del other[at]
        case "double":
            other.insert(at, other[at])
        case "swap":
            to = data.draw(st.integers(0, len(lines) - 1), "with")
            other[at], other[to] = other[to], other[at]
        case "letter":
            place = data.draw(st.integers(0, len(other[at]) - 2), "letter")
            letter = data.draw(st.sampled_from('0123456789abcdefxX{}[]",:-.é'), "by")
            other[at] = other[at][:place] + letter + other[at][place + 1 :]
        case "cut":
            other = other[:at]
    return other


def meaning(lines: list[str]) -> list[object]:
    """What is protected of an export: numbered events with their details."""
    documents = [json.loads(line) for line in lines]
    return [
        (one["index"], one["event"], one["details"], one["commitment"].lower())
        for one in documents
        if one.get("index") is not None
    ]
