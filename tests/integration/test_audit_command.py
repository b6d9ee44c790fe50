"""The log from the command line, in the relay, and on the console."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from moderation import backup, cli, setup, upkeep
from moderation.embedded import Postgres, instance
from moderation.embedded.instance import Instance
from moderation.embedded.process import wait_until
from moderation.governance import audit, checkpoint_files, ledger
from moderation.settings import Settings, from_environment
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.tables import AuditCheckpoint, AuditEvent
from moderation.storage.vault import Vault
from tests import support
from tests.audited import Log
from tests.people import Member, logged_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture
def log(databases: Databases, vault: Vault) -> Log:
    return Log(databases, vault, datetime.now(UTC))


@pytest.fixture
def command(
    settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    told = replace(settings, checkpoint_dir=folder)
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: told)
    return Command(capsys)


class Command:
    """`moderation audit ...`: its status, what it printed, and what it said besides."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object) -> tuple[int, str]:
        self._capsys.readouterr()
        status = cli.main(["audit", *map(str, words)])
        said = self._capsys.readouterr()
        return status, said.out + said.err


class TestVerify:
    def test_an_intact_log_and_one_that_is_not(self, log: Log, command: Command) -> None:
        log.write(5)
        assert command("checkpoint")[0] == 0
        status, said = command("verify")
        assert status == 0, said
        assert "The log is intact: 5 events, 1 checkpoints, 1 more that were kept elsewhere." in said
        support.unprotected(
            log.databases.content, "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 2"
        )
        status, said = command("verify")
        assert status == 1
        assert "NOT intact. The first 5 events are not those that were signed" in said

    def test_what_is_not_covered_yet_is_said(self, log: Log, command: Command) -> None:
        log.write(1)
        command("checkpoint")
        log.write(1)
        log.number()
        log.write(1)
        status, said = command("verify")
        assert status == 0
        assert "1 of them came after the last checkpoint" in said
        assert "1 more events wait for their number" in said

    def test_files_that_were_kept_and_a_key_that_was_written_down(
        self, log: Log, command: Command, tmp_path: Path
    ) -> None:
        log.write(3)
        note = command("checkpoint")[1]
        kept = tmp_path / "kept"
        kept.write_text(note, encoding="utf-8")
        key = command("key")[1].splitlines()[0]
        assert key == str(ledger.key(log.vault))
        status, said = command("verify", "--key", key, "--checkpoints", kept)
        assert (status, "2 more that were kept elsewhere" in said) == (0, True)
        kept.write_text(note.replace("\n3\n", "\n4\n"), encoding="utf-8")
        status, said = command("verify", "--checkpoints", kept)
        assert (status, "kept holds a checkpoint that can't be trusted" in said) == (1, True)
        assert command("verify", "--key", "nonsense")[0] == 1
        assert command("verify", "--checkpoints", tmp_path / "nowhere")[0] == cli.REFUSED

    def test_an_export_and_its_verification(self, log: Log, command: Command, tmp_path: Path) -> None:
        log.write(5)
        command("checkpoint")
        file = tmp_path / "log.jsonl"
        status, said = command("export", file)
        assert status == 0, said
        assert file.stat().st_mode & 0o777 == 0o600
        status, said = command("verify", file, "--key", ledger.key(log.vault))
        assert status == 0, said
        assert "5 events" in said
        whole = file.read_text(encoding="utf-8")
        file.write_text(whole.replace("item.decided", "item.deleted", 1), encoding="utf-8")
        assert command("verify", file)[0] == 1
        file.write_text("nonsense", encoding="utf-8")
        assert "no exported audit log" in command("verify", file)[1]
        assert command("verify", tmp_path / "nowhere")[0] == cli.REFUSED
        with transaction(log.databases.content) as session:
            assert session.scalars(select(AuditEvent).where(AuditEvent.action == "audit.exported")).one()

    def test_the_log_in_a_backup(
        self, log: Log, command: Command, settings: Settings, tmp_path: Path
    ) -> None:
        log.grow(3, 2)
        log.write(2)
        kept = tmp_path / "kept"
        kept.write_text(log.checkpoints[-1].note, encoding="utf-8")
        file, key = tmp_path / "content.backup", ledger.key(log.vault)
        backup.make(settings, file, backup.CONTENT, log.now, lambda _: None)
        assert command("verify", file)[0] == cli.REFUSED
        status, said = command("verify", file, "--key", key, "--checkpoints", kept)
        assert (status, "5 events, 2 checkpoints, 1 more" in said) == (0, True), said
        support.unprotected(
            log.databases.content, "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 4"
        )
        backup.make(settings, tmp_path / "second.backup", backup.CONTENT, log.now, lambda _: None)
        assert command("verify", tmp_path / "second.backup", "--key", key)[0] == 1


class TestShow:
    def test_events_are_listed_and_looking_is_an_event(self, log: Log, command: Command) -> None:
        log.write(2, "item.received")
        log.write(1, "item.decided")
        log.sign()
        status, said = command("show", "--action", "item.received")
        assert (status, said.count("item.received")) == (0, 2)
        shown = [json.loads(line) for line in command("show", "--json", "--actor", "machine")[1].splitlines()]
        assert [one["number"] for one in shown] == [2, 1, 0]
        assert shown[0]["details"] == {"score": 0.25, "n": [1, None]}
        assert "No event fits." in command("show", "--since", "2099-01-01")[1]
        subject = shown[0]["subject_id"]
        assert command("show", "--subject", subject, "--json")[1].count(subject) == 1
        looked = [
            json.loads(line) for line in command("show", "--json", "--action", "audit.viewed")[1].splitlines()
        ]
        assert looked[0]["actor"] == "operator"
        assert subject in [one["details"].get("subject_id") for one in looked]

    def test_it_goes_on_page_by_page(
        self, log: Log, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(audit, "PAGE", 2)
        log.write(3)
        said = command("show", "--actor", "machine", "--json")[1].splitlines()
        assert len(said) == 3
        before = said[-1].removeprefix("More: --before ")
        assert len(command("show", "--actor", "machine", "--json", "--before", before)[1].splitlines()) == 1


class TestProve:
    def test_a_proof_for_a_third_party(
        self, log: Log, command: Command, tmp_path: Path, repository: Path
    ) -> None:
        log.write(4)
        old = tmp_path / "old"
        old.write_text(command("checkpoint")[1], encoding="utf-8")
        log.write(3)
        command("checkpoint")
        with transaction(log.databases.content) as session:
            event = session.scalars(select(AuditEvent.id).where(AuditEvent.leaf_index == 1)).one()
        proof, grown, key = tmp_path / "proof.json", tmp_path / "grown.json", ledger.key(log.vault)
        assert command("proof", event, "--out", proof)[0] == 0
        grown.write_text(command("consistency", old)[1], encoding="utf-8")
        for file, expected in (
            (proof, "Event 1 of 7 is in the log"),
            (grown, "begins with the log of 4 events"),
        ):
            script = [sys.executable, "-I", str(repository / "docs" / "verify_proof.py"), str(file), str(key)]
            done = subprocess.run(script, capture_output=True, text=True)
            assert expected in done.stdout, done.stderr
        assert command("proof", "00000000-0000-7000-8000-000000000000")[0] == cli.REFUSED
        old.write_text("nonsense", encoding="utf-8")
        assert command("consistency", old)[0] == cli.REFUSED


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopped") / "var"
    with instance.hold(place) as held:
        instance.ensure_kek(held)
        with Postgres(held.postgres, held.log("postgres")) as server:
            for name in (instance.DATABASE, instance.KEYSTORE):
                server.create_database(name)
            content, keystore = server.url(instance.DATABASE), server.url(instance.KEYSTORE)
            urls = {"DATABASE_URL": content, "KEYSTORE_URL": keystore, "REDIS_URL": "unix:///nowhere"}
            variables = instance.child_environment(held, {}, urls=urls, workers=1, insecure=True)
            instance.write_environment(held, variables)
            settings = from_environment(variables)
            setup.prepare(settings)
            signed(settings, held)
    return place


def signed(settings: Settings, held: Instance) -> None:
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        made = Log(databases, Vault(databases.keystore, settings.kek), datetime.now(UTC))
        made.grow(300, 5)
        with transaction(databases.content) as session:
            checkpoint_files.export(session, held.checkpoints, ledger.key(made.vault))
    finally:
        databases.dispose()


class TestStoppedInstance:
    """Verification of a data directory whose service does not run."""

    def test_it_is_verified_and_stopped_again(
        self, directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["audit", "verify", "--data-dir", str(directory)]) == 0
        assert "2 more that were kept elsewhere" in capsys.readouterr().out
        assert not instance.is_running(directory)
        assert not (directory / "postgres" / "data" / "postmaster.pid").exists()

    def test_a_checkpoint_that_the_database_does_not_fit_is_found(
        self, directory: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (file,) = checkpoint_files.files(directory / "checkpoints")
        whole = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\n\d+\n", "\n17\n", whole, count=1), encoding="utf-8")
        try:
            assert cli.main(["audit", "verify", "--data-dir", str(directory)]) == 1
            assert "NOT intact" in capsys.readouterr().out
        finally:
            file.write_text(whole, encoding="utf-8")

    def test_no_instance_is_a_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["audit", "verify", "--data-dir", str(tmp_path)]) == cli.REFUSED
        assert "There is no instance in" in capsys.readouterr().err


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


class TestUpkeep:
    def test_the_relay_numbers_signs_and_exports(self, log: Log, settings: Settings, folder: Path) -> None:
        log.now -= timedelta(minutes=1)
        log.write(3)
        with upkeep.opened(replace(settings, checkpoint_dir=folder)) as held:
            upkeep._gauges(held)
            assert gauge("moderation_audit_unsequenced_events") == 3
            assert gauge("moderation_audit_checkpoint_age_seconds") > 0
            upkeep._sequence(held)
            upkeep._checkpoint(held)
            upkeep._checkpoint(held)
            upkeep._gauges(held)
        assert gauge("moderation_audit_unsequenced_events") == 0
        assert gauge("moderation_audit_checkpoint_age_seconds") == 0
        assert gauge("moderation_audit_broken") == 0
        pins = list(checkpoint_files.pins(checkpoint_files.files(folder), ledger.key(log.vault)))
        assert [pin.size for pin in pins] == [3]

    def test_it_happens_by_itself(
        self, log: Log, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep, "CHECKPOINT_SECONDS", 0.5)
        log.write(2)
        with upkeep.running(replace(settings, checkpoint_dir=folder), threading.Event()):
            assert wait_until(lambda: bool(checkpoint_files.files(folder)), 60)

    def test_a_log_that_does_not_fit_raises_the_alarm(
        self, log: Log, settings: Settings, folder: Path
    ) -> None:
        log.grow(3)
        log.write(1)
        log.number()
        support.unprotected(
            log.databases.content, "UPDATE audit_events SET actor = 'operator' WHERE leaf_index = 1"
        )
        told = replace(settings, checkpoint_dir=folder)
        with upkeep.opened(told) as held, pytest.raises(ledger.LedgerBroken):
            upkeep._checkpoint(held)
        assert gauge("moderation_audit_broken") == 1


class TestConsole:
    @pytest.fixture
    def officer(self, settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
        with logged_in(settings, databases, vault, "privacy_officer") as client:
            yield client

    def test_the_state_of_the_log_is_shown(self, log: Log, officer: Member) -> None:
        page = officer.get("/console/audit").text
        assert "no checkpoint yet" in page
        assert officer.get("/console/audit/checkpoint").status_code == 404
        log.write(2)
        log.sign()
        page = officer.get("/console/audit").text
        assert "for their number" in page
        assert ledger.key(log.vault).fingerprint in page
        assert "/console/audit/checkpoint" in page

    def test_checkpoint_and_proof_are_files(self, log: Log, officer: Member) -> None:
        log.grow(2)
        answer = officer.get("/console/audit/checkpoint")
        with transaction(log.databases.content) as session:
            last = session.scalars(select(AuditCheckpoint)).one()
            event = session.scalars(select(AuditEvent).where(AuditEvent.leaf_index == 1)).one()
        assert answer.text == last.note
        assert answer.headers["content-disposition"] == f'attachment; filename="checkpoint-{last.size}.txt"'
        assert f"/console/audit/proof/{event.id}" in officer.get("/console/audit").text
        proof = officer.get(f"/console/audit/proof/{event.id}")
        assert proof.json()["event"]["id"] == str(event.id)
        with transaction(log.databases.content) as session:
            made = session.scalars(select(AuditEvent).where(AuditEvent.action == "audit.proof_made")).one()
        assert (made.actor, made.subject_id) == (f"person:{officer.person_id}", str(event.id))
        assert officer.get("/console/audit/proof/00000000-0000-7000-8000-000000000000").status_code == 404
        log.write(1)
        with transaction(log.databases.content) as session:
            late = session.scalars(select(AuditEvent.id).order_by(AuditEvent.id.desc()).limit(1)).one()
        assert officer.get(f"/console/audit/proof/{late}").status_code == 409
