"""The tree over the audit log: what is recorded, numbered, signed and proved."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from moderation.domain import merkle
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import audit, checkpoints, ledger
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditCheckpoint, AuditEvent, AuditTile, Decision
from moderation.storage.vault import Vault
from tests import support
from tests.audited import Log, small_tiles
from tests.caseload import Caseload


@pytest.fixture
def log(databases: Databases, vault: Vault, now: datetime) -> Log:
    return Log(databases, vault, now)


def rows(log: Log) -> list[AuditEvent]:
    with transaction(log.databases.content) as session:
        return list(session.scalars(select(AuditEvent).order_by(AuditEvent.leaf_index, AuditEvent.id)))


def expected_root(log: Log, size: int) -> bytes:
    """The root, from nothing but the events."""
    return merkle.root([ledger.leaf(ledger.header(row), row.commitment or b"") for row in rows(log)[:size]])


def many_writes(log: Log) -> None:
    for number in range(40):
        at = log.now + timedelta(milliseconds=number)
        with transaction(log.databases.content) as session:
            audit.record(session, [audit.Event(audit.MACHINE, "item.received", "item", "x")] * 6, at)


def until(stop: threading.Event, work: Callable[[], object]) -> None:
    while not stop.wait(0.01):
        work()


def signed(log: Log) -> None:
    with transaction(log.databases.content) as session:
        ledger.checkpoint(session, log.vault, log.now)


class TestRecording:
    def test_details_are_committed_to_with_a_salt_of_their_own(self, log: Log) -> None:
        log.write(2)
        first, second = rows(log)
        assert len(first.salt or b"") == audit.SALT_BYTES
        assert first.salt != second.salt
        assert first.commitment == audit.commitment(first.salt or b"", first.details)
        assert first.commitment != second.commitment, "the same details must not look the same"

    def test_events_of_one_act_keep_their_order(self, log: Log) -> None:
        log.write_at_once(300)
        log.sign()
        assert [row.subject_id for row in rows(log)] == [f"item-{n}" for n in range(300)]

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"), float("inf"), -0.0, 1e16, 1e300, "a\x00b", {1: "x"}, [1e22], {"a": {"b": -0.0}},
            {"c": {1, 2}},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_would_come_back_as_something_else_is_refused(self, log: Log, value: Any) -> None:
        event = audit.Event(audit.MACHINE, "item.decided", "item", "1", {"value": value})
        with (
            pytest.raises(ValueError, match="stored as something else"),
            transaction(log.databases.content) as session,
        ):
            audit.record(session, [event], log.now)
        assert not rows(log)

    @pytest.mark.parametrize(
        "value",
        [
            0.1, 1e-7, 5e-324, 123456789.125, 9007199254740993, -(2**70), '\u2028 \U0001f642 "\\', True, None,
            (1, "a"), {"z": 1, "a": [{}]},
        ],
        ids=str,
    )  # fmt: skip
    def test_what_comes_back_the_same_verifies(self, log: Log, value: Any) -> None:
        event = audit.Event(audit.MACHINE, "item.decided", "item", "1", {"value": value})
        with transaction(log.databases.content) as session:
            audit.record(session, [event], log.now)
        log.sign()
        assert log.verify().events == 1


class TestNumbering:
    def test_every_level_of_tiles_is_what_the_definition_says(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        small_tiles(monkeypatch)
        log.write_at_once(300)
        sizes = [1, 2, 1, 5, 16, 3, 64, 7, 100, 1, 100]
        for limit in sizes:
            assert log.number(limit) == limit
            size = log.head().size
            with transaction(log.databases.content) as session:
                assert ledger.Tree(session, size).root() == expected_root(log, size)
                stored = dict(
                    session.execute(select(AuditTile.level, func.count()).group_by(AuditTile.level)).all()
                )
            assert stored == {
                level: size // 4 ** (level + 1) for level in range(9) if size // 4 ** (level + 1)
            }
        assert log.number() == 0
        with transaction(log.databases.content) as session:
            for past in (1, 3, 4, 63, 64, 65, 255, 256, 299):
                assert ledger.Tree(session, past).root() == expected_root(log, past), "as it was then"

    def test_real_tiles_hold_256_hashes(self, log: Log) -> None:
        log.write_at_once(700)
        log.number(100)
        log.sign()
        with transaction(log.databases.content) as session:
            tiles = session.scalars(select(AuditTile).order_by(AuditTile.index)).all()
        assert [(tile.level, tile.index, len(tile.hashes)) for tile in tiles] == [(0, 0, 8192), (0, 1, 8192)]
        assert log.checkpoints[-1].root == expected_root(log, 700)

    def test_a_late_commit_gets_a_later_number_and_is_never_passed_over(self, log: Log) -> None:
        """An event with the smallest id of all, whose transaction ends last."""
        written, numbered = threading.Event(), threading.Event()
        late = log.now

        def slow() -> None:
            with transaction(log.databases.content) as session:
                audit.record(session, [audit.Event(audit.MACHINE, "item.received", "item", "late")], late)
                written.set()
                assert numbered.wait(60)

        thread = threading.Thread(target=slow)
        thread.start()
        assert written.wait(60)
        log.write(3)
        assert log.number() == 3
        numbered.set()
        thread.join(60)
        assert log.number() == 1
        assert [row.leaf_index for row in rows(log) if row.subject_id == "late"] == [3]
        log.sign()
        assert log.verify().waiting == 0

    def test_many_writers_and_sequencers_at_once_number_everything_exactly_once(self, log: Log) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(9) as pool:
            others = [pool.submit(until, stop, lambda: log.number(50)) for _ in range(2)]
            others.append(pool.submit(until, stop, lambda: signed(log)))
            writers = [pool.submit(many_writes, log) for _ in range(6)]
            try:
                for writer in writers:
                    writer.result(120)
            finally:
                stop.set()
            for other in others:
                other.result(60)
        while log.number():
            pass
        assert [row.leaf_index for row in rows(log)] == list(range(6 * 40 * 6))
        assert log.verify().events == 1440

    def test_what_was_written_before_commitments_gets_one_with_its_number(self, log: Log) -> None:
        old = {
            "id": new_id(log.now), "at": log.now, "actor": "machine", "action": "item.received", "subject": "item",
            "subject_id": "1", "details": {"score": 1e22, "b": 1},
        }  # fmt: skip
        with transaction(log.databases.content) as session:
            insert_many(session, AuditEvent, [old])
        log.write(1)
        log.sign()
        (first, _) = rows(log)
        assert (first.leaf_index, len(first.salt or b""), len(first.commitment or b"")) == (0, 16, 32)
        assert log.verify().events == 2

    def test_a_numbering_that_was_rolled_back_is_done_again(self, log: Log) -> None:
        log.write(5)
        with Session(log.databases.content) as session:
            assert ledger.sequence(session, 100) == 5
            session.rollback()
        assert log.head().size == 0
        log.sign()
        assert log.verify().events == 5


class TestSigning:
    def test_a_checkpoint_is_a_signed_note_of_size_and_root(self, log: Log) -> None:
        log.write(3)
        made = log.sign()
        key = ledger.key(log.vault)
        assert checkpoints.read(key, made.note) == made
        assert made.note.split("\n")[:2] == [key.name, "3"]
        assert (made.size, made.root) == (3, expected_root(log, 3))
        with transaction(log.databases.content) as session:
            assert ledger.last_checkpoint(session) == made

    def test_nothing_is_signed_twice_and_nothing_new_is_not_signed(self, log: Log) -> None:
        with transaction(log.databases.content) as session:
            assert ledger.checkpoint(session, log.vault, log.now) is None, "an empty log"
        log.grow(2)
        with transaction(log.databases.content) as session:
            assert ledger.checkpoint(session, log.vault, log.now) is None
        log.write(1)
        assert log.head().oldest_uncovered == log.now
        log.sign()
        assert (log.head().signed, log.head().waiting, log.head().oldest_uncovered) == (3, 0, None)

    def test_a_crash_between_numbering_and_signing_costs_nothing(self, log: Log) -> None:
        log.grow(4)
        log.write(4)
        log.number()
        assert (log.head().size, log.head().signed) == (8, 4)
        found = log.verify()
        assert (found.events, found.signed) == (8, 4)
        log.grow(2)
        assert log.verify().signed == 10

    def test_a_tree_that_does_not_fit_its_last_checkpoint_is_not_signed_again(self, log: Log) -> None:
        log.grow(5)
        log.write(1)
        log.number()
        support.unprotected(
            log.databases.content, "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 2"
        )
        with (
            pytest.raises(ledger.LedgerBroken, match="no longer fits"),
            transaction(log.databases.content) as session,
        ):
            ledger.checkpoint(session, log.vault, log.now)


class TestTheDatabaseRefuses:
    CHANGES = (
        "id = gen_random_uuid()", "at = now()", "actor = 'operator'", "action = 'x.y'", "subject = 'x'",
        "subject_id = 'x'", "details = '{\"score\": 1}'", "details = '{}'", "salt = NULL", "salt = 'x'",
        "commitment = NULL", "commitment = 'x'", "leaf_index = NULL", "leaf_index = -1",
        "details = '{}', salt = NULL, commitment = 'x'", "details = '{}', salt = NULL, leaf_index = NULL",
    )  # fmt: skip

    def test_every_change_of_an_event_but_numbering(self, log: Log) -> None:
        log.write(1)
        for changes in (self.CHANGES, (*self.CHANGES, "leaf_index = 99")):
            for change in changes:
                with (
                    pytest.raises(DBAPIError, match="never changed"),
                    support.as_owner(log.databases.content) as connection,
                ):
                    connection.execute(text(f"UPDATE audit_events SET {change}"))
            if log.head().waiting:
                log.sign()

    def test_the_application_can_not_even_try(self, log: Log) -> None:
        """Its role in the database numbers events and does nothing else to them."""
        log.grow(1)
        for statement in (
            "UPDATE audit_events SET actor = 'x'", "UPDATE audit_events SET details = '{}'",
            "DELETE FROM audit_events", "UPDATE audit_tiles SET hashes = 'x'",
            "DELETE FROM audit_checkpoints", "TRUNCATE audit_events",
        ):  # fmt: skip
            with (
                pytest.raises(DBAPIError, match="permission denied"),
                log.databases.content.begin() as connection,
            ):
                connection.execute(text(statement))

    def test_details_may_go_with_their_salt_once_they_are_numbered(self, log: Log) -> None:
        log.grow(3)
        with support.as_owner(log.databases.content) as connection:
            connection.execute(
                text("UPDATE audit_events SET details = '{}', salt = NULL WHERE leaf_index = 1")
            )
        found = log.verify()
        assert (found.events, found.bare) == (3, 1)

    @pytest.mark.parametrize("table", ["audit_events", "audit_tiles", "audit_checkpoints"])
    def test_nothing_is_deleted_or_truncated(self, log: Log, table: str) -> None:
        log.write_at_once(256)
        log.sign()
        for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with (
                pytest.raises(DBAPIError, match="never changed"),
                support.as_owner(log.databases.content) as connection,
            ):
                connection.execute(text(statement))

    @pytest.mark.parametrize("table", ["audit_tiles", "audit_checkpoints"])
    def test_the_tree_is_never_rewritten(self, log: Log, table: str) -> None:
        log.write_at_once(256)
        log.sign()
        column = "hashes" if table == "audit_tiles" else "root"
        with (
            pytest.raises(DBAPIError, match="never changed"),
            support.as_owner(log.databases.content) as connection,
        ):
            connection.execute(text(f"UPDATE {table} SET {column} = 'x'"))


class TestProofs:
    def check(self, repository: Path, folder: Path, document: Any, key: str) -> tuple[int, str]:
        """What the script for third parties says, run as they would."""
        file = folder / "proof.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        command = [sys.executable, "-I", str(repository / "docs" / "verify_proof.py"), str(file), key]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def made(self, log: Log, index: int) -> Any:
        with transaction(log.databases.content) as session:
            event = session.scalars(select(AuditEvent.id).where(AuditEvent.leaf_index == index)).one()
            return json.loads(ledger.proof(session, log.vault, event).text)

    def test_a_third_party_checks_a_proof_with_the_script_alone(
        self, log: Log, repository: Path, tmp_path: Path
    ) -> None:
        log.grow(300, 5)
        key = str(ledger.key(log.vault))
        for index in (0, 255, 256, 304):
            code, said = self.check(repository, tmp_path, self.made(log, index), key)
            assert code == 0, said
            assert f"Event {index} of 305 is in the log" in said
            assert '"score": 0.25' in said

    def test_no_altered_proof_passes(self, log: Log, repository: Path, tmp_path: Path) -> None:
        log.grow(37)
        proof, key = self.made(log, 20), str(ledger.key(log.vault))
        other = "0" * 64
        altered = [
            proof | {"index": 21}, proof | {"index": 36}, proof | {"proof": proof["proof"][:-1]},
            proof | {"proof": [*proof["proof"], other]}, proof | {"proof": [other, *proof["proof"][1:]]},
            proof | {"details": {"score": 0.26, "n": [1, None]}}, proof | {"salt": "00" * 16},
            proof | {"event": proof["event"] | {"actor": "operator"}},
            proof | {"event": proof["event"] | {"commitment": other}},
            proof | {"checkpoint": proof["checkpoint"].replace("\n37\n", "\n38\n")},
        ]  # fmt: skip
        for document in altered:
            code, said = self.check(repository, tmp_path, document, key)
            assert code != 0, document
            assert "NOT proved" in said
        assert self.check(repository, tmp_path, proof, key)[0] == 0
        stranger = key[:-4] + ("AAA=" if key[-4:] != "AAA=" else "BBB=")
        assert self.check(repository, tmp_path, proof, stranger)[0] != 0

    @pytest.mark.parametrize("old", [1, 2, 3, 4, 7, 8, 11])
    def test_the_log_is_shown_to_have_only_grown(
        self, log: Log, repository: Path, tmp_path: Path, old: int
    ) -> None:
        log.grow(old)
        log.write(11 - old)
        key = str(ledger.key(log.vault))
        if old < 11:
            log.sign()
        with transaction(log.databases.content) as session:
            proof = json.loads(ledger.consistency(session, log.vault, log.checkpoints[0].note).text)
        code, said = self.check(repository, tmp_path, proof, key)
        assert (code, said.strip()) == (0, f"The log of 11 events begins with the log of {old} events.")
        swapped = proof | {"old": proof["checkpoint"], "checkpoint": proof["old"]}
        damaged = proof | {"proof": [*proof["proof"], "0" * 64]}
        for document in (damaged, *([swapped] if old < 11 else [])):
            assert self.check(repository, tmp_path, document, key)[0] != 0

    def test_what_can_not_be_proved_is_refused_with_a_reason(self, log: Log) -> None:
        log.write(1)
        event = rows(log)[0].id
        with transaction(log.databases.content) as session:
            with pytest.raises(NotFound, match="no such event"):
                ledger.proof(session, log.vault, uuid4())
            with pytest.raises(NotFound, match="no decision"):
                ledger.event_of(session, uuid4())
            with pytest.raises(Conflict, match="No checkpoint covers"):
                ledger.proof(session, log.vault, event)
            with pytest.raises(InvalidInput, match="can't be used"):
                ledger.consistency(session, log.vault, "nonsense")
            assert ledger.event_of(session, event) == event

    def test_a_proof_survives_the_end_of_its_details(
        self, log: Log, repository: Path, tmp_path: Path
    ) -> None:
        log.grow(3)
        with support.as_owner(log.databases.content) as connection:
            connection.execute(
                text("UPDATE audit_events SET details = '{}', salt = NULL WHERE leaf_index = 1")
            )
        proof = self.made(log, 1)
        assert (proof["details"], proof["salt"]) == (None, None)
        assert self.check(repository, tmp_path, proof, str(ledger.key(log.vault)))[0] == 0

    def test_a_decision_leads_to_the_event_that_recorded_it(self, log: Log, load: Caseload) -> None:
        case = load.waiting()[0]
        with transaction(log.databases.content) as session:
            decision = session.scalars(select(Decision)).one()
            event = session.get(AuditEvent, ledger.event_of(session, decision.id))
        assert case
        assert event is not None
        assert (event.action, event.details["decision"]) == ("item.decided", str(decision.id))
        assert event.subject_id == str(decision.item_id)


def test_checkpoints_are_read_from_the_database_newest_first(log: Log) -> None:
    log.grow(1, 1, 1)
    with transaction(log.databases.content) as session:
        assert [
            row.size for row in session.scalars(select(AuditCheckpoint).order_by(AuditCheckpoint.size))
        ] == [1, 2, 3]
