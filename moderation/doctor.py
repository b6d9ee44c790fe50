"""`moderation doctor`: look at every dependency, and say what to do about each that is not as it must be."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models import registry
from models.serving import verified
from moderation import settings as configuration
from moderation import statement_sender
from moderation.governance import model_ages, models
from moderation.governance.policies import PolicyCache
from moderation.settings import Settings, SettingsError
from moderation.storage import migrate, roles
from moderation.storage.vault import Vault, VaultError

OLDEST_PYTHON = (3, 11)
OLDEST_POSTGRES = 15
FREE_BYTES = 1_000_000_000


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "not checked"


COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "bold red", State.SKIPPED: "dim"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it where it isn't well."""

    name: str
    state: State
    found: str
    remedy: str = ""


class Trouble(Exception):
    """A check failed: what was found, and what to do."""

    def __init__(self, found: str, remedy: str, state: State = State.FAILED) -> None:
        super().__init__(found)
        self.found, self.remedy, self.state = found, remedy, state


def run(environment: Mapping[str, str], console: Console | None = None) -> int:
    """Check everything and print a table; 1 if anything failed."""
    findings = examine(environment)
    (console or Console(highlight=False)).print(_table(findings))
    return int(any(finding.state is State.FAILED for finding in findings))


def examine(environment: Mapping[str, str]) -> list[Finding]:
    """One finding a check, in the order in which things depend on each other."""
    findings = [_look("Python", _python)]
    try:
        settings = configuration.from_environment(environment)
    except SettingsError as error:
        remedy = "Then run this again; or look at an instance of `moderation up` with --data-dir DIR."
        failed = Finding("Settings", State.FAILED, str(error), remedy)
        return [
            *findings,
            failed,
            *(Finding(name, State.SKIPPED, "") for name in CHECKS),
            _look("Models", _models),
        ]
    findings.append(Finding("Settings", State.OK, "complete"))
    for name, check in CHECKS.items():
        findings.append(_look(name, partial(check, settings, environment)))
    return [*findings, _look("Models", _models)]


def _look(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, State.OK, check())
    except Trouble as trouble:
        return Finding(name, trouble.state, trouble.found, trouble.remedy)


def _python() -> str:
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise Trouble(platform.python_version(), "Install Python 3.11 or newer, remove .venv, run `make up`.")
    return platform.python_version()


def _transport(settings: Settings, _: Mapping[str, str]) -> str:
    if settings.insecure_dev:
        raise Trouble(
            "--insecure-dev: plaintext addresses are allowed",
            "Unset MODERATION_INSECURE_DEV before any real content comes in.",
            State.WARNING,
        )
    return "TLS, Unix sockets or loopback only"


def _kek(_: Settings, environment: Mapping[str, str]) -> str:
    path = environment.get("MODERATION_KEK_FILE")
    if environment.get("MODERATION_KEK") or path is None:
        raise Trouble(
            "32 bytes, from the environment",
            "Child processes and crash reports can show an environment: prefer MODERATION_KEK_FILE.",
            State.WARNING,
        )
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & 0o077:
        raise Trouble(f"32 bytes, {path} has mode {mode:04o}", f"Others can read it: chmod 600 {path}")
    return f"32 bytes, mode {mode:04o}"


def _content(settings: Settings, _: Mapping[str, str]) -> str:
    return _database("content", settings.database_url)


def _keystore(settings: Settings, _: Mapping[str, str]) -> str:
    if settings.keystore_url == settings.database_url:
        raise Trouble(
            "the same database as the content",
            "Content backups would hold the keys too: give MODERATION_KEYSTORE_URL its own database.",
        )
    return _database("keystore", settings.keystore_url)


def _database(branch: str, url: str) -> str:
    engine = create_engine(url, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            return _level(branch, connection)
    except SQLAlchemyError as error:
        raise Trouble(cause(error), "Start PostgreSQL, or correct the address, user and password.") from error
    finally:
        engine.dispose()


def cause(error: Exception) -> str:
    """The line of a database error that says what happened; the driver adds guesses and links."""
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    line = next((line for line in lines if "failed" in line), lines[0])
    return line.removeprefix("connection is bad: ").strip()


def _level(branch: str, connection: Connection) -> str:
    version = str(connection.scalar(text("SHOW server_version")))
    if int(version.split(".", maxsplit=1)[0]) < OLDEST_POSTGRES:
        raise Trouble(
            f"PostgreSQL {version}", f"Upgrade the server to PostgreSQL {OLDEST_POSTGRES} or newer."
        )
    pending = migrate.pending(branch, connection)
    if pending:
        behind = f"PostgreSQL {version}, {len(pending)} migration{'s' * (len(pending) > 1)} behind"
        raise Trouble(behind, "Run: moderation migrate")
    return f"PostgreSQL {version}, migrations up to date"


def _keys(settings: Settings, _: Mapping[str, str]) -> str:
    engine = create_engine(settings.keystore_url, connect_args={"connect_timeout": 5})
    try:
        Vault(engine, settings.kek).account_key()
    except VaultError as error:
        raise Trouble(
            "the keystore does not open with this KEK",
            "Set MODERATION_KEK_FILE to the key that this keystore was made with; there is no other way in.",
        ) from error
    except SQLAlchemyError as error:
        raise Trouble("the keystore could not be asked", "Mend the keystore first.") from error
    finally:
        engine.dispose()
    return "the keystore opens with this KEK"


def _role(settings: Settings, _: Mapping[str, str]) -> str:
    for name, url in (("content database", settings.database_url), ("keystore", settings.keystore_url)):
        engine = create_engine(url, connect_args={"connect_timeout": 5})
        try:
            with engine.connect() as connection:
                owner = roles.is_owner(connection)
        except SQLAlchemyError as error:
            raise Trouble(
                "the database could not be asked", "Mend the database first.", State.SKIPPED
            ) from error
        finally:
            engine.dispose()
        if owner:
            raise Trouble(
                f"the application owns the tables of the {name}, or is a superuser",
                "It could alter the audit log: give it a role of its own (docs/operations.md, Roles).",
                State.WARNING,
            )
    return "the application may not alter tables or change what is on record"


def _broker(settings: Settings, _: Mapping[str, str]) -> str:
    try:
        with Redis.from_url(settings.redis_url, socket_connect_timeout=5, socket_timeout=5) as client:
            facts = client.info()
    except (RedisError, OSError) as error:
        raise Trouble(str(error), "Start Valkey or Redis, or correct MODERATION_REDIS_URL.") from error
    name = (
        f"Valkey {facts['valkey_version']}"
        if "valkey_version" in facts
        else f"Redis {facts['redis_version']}"
    )
    policy = facts.get("maxmemory_policy")
    if policy != "noeviction":
        raise Trouble(
            f"{name}, maxmemory-policy {policy}", "Jobs would vanish: set maxmemory-policy noeviction."
        )
    if not facts.get("aof_enabled"):
        raise Trouble(
            f"{name}, without append-only file", "Set appendonly yes, so that a restart keeps the jobs."
        )
    return f"{name}, noeviction, append-only file"


def _blobs(settings: Settings, _: Mapping[str, str]) -> str:
    folder = settings.blob_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        remedy = f"Make {folder} a folder that user {os.geteuid()} may write."
        raise Trouble(f"{folder}: {error.strerror}", remedy) from error
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES:
        raise Trouble(f"{free / 1e9:.1f} GB free", f"Make room on the disk of {folder}.")
    return f"writable, {free / 1e9:,.0f} GB free"


def _statements(settings: Settings, _: Mapping[str, str]) -> str:
    if not settings.statements_url:
        return "not sent to the EU's database"
    engine = create_engine(settings.database_url, connect_args={"connect_timeout": 5})
    try:
        with Session(engine) as session:
            counts = statement_sender.counts(session)
    except SQLAlchemyError as error:
        raise Trouble("the database could not be asked", "Mend the database first.") from error
    finally:
        engine.dispose()
    if counts["refused"]:
        raise Trouble(
            f"{counts['refused']} refused, {counts['pending']} waiting",
            "See why: moderation transparency refused; send them again: moderation transparency retry",
            State.WARNING,
        )
    return f"{counts['pending']} waiting"


def _champions(settings: Settings, _: Mapping[str, str]) -> str:
    engine = create_engine(settings.database_url, connect_args={"connect_timeout": 5})
    try:
        with Session(engine) as session:
            wanted = models.wanted(session, settings.models)
            troubles = models.troubles(session)
    except SQLAlchemyError as error:
        raise Trouble("the database could not be asked", "Mend the database first.") from error
    finally:
        engine.dispose()
    for one in wanted:
        try:
            verified(one)
        except registry.ArtifactError as error:
            remedy = f"Put its files back, or go back: moderation models rollback {one.name} --by EMAIL"
            raise Trouble(str(error), remedy) from error
    if troubles:
        name, why = min(troubles.items())
        remedy = f"The version before serves. Go back: moderation models rollback {name} --by EMAIL"
        raise Trouble(f"{name} was refused by a worker: {why}", remedy, State.WARNING)
    return ", ".join(f"{one.name} {one.version}" for one in wanted) or "none yet; run: moderation migrate"


def _ages(settings: Settings, _: Mapping[str, str]) -> str:
    engine = create_engine(settings.database_url, connect_args={"connect_timeout": 5})
    try:
        with Session(engine) as session:
            ageing = model_ages.ageing(session, PolicyCache().current(session))
    except SQLAlchemyError as error:
        raise Trouble("the database could not be asked", "Mend the database first.") from error
    finally:
        engine.dispose()
    if not ageing:
        return "none learned from posts that were erased since"
    said = "; ".join(
        f"{one.name} {one.version} ({', '.join(one.aliases) or 'serves nobody'}) is retired on "
        f"{one.due_at:%Y-%m-%d}: {one.erased} of the posts it learned from were erased since"
        for one in ageing
    )
    raise Trouble(said, "Fit a new version on a fresh bundle before then: moderation learn", State.WARNING)


def _models() -> str:
    try:
        manifests = registry.shipped()
    except registry.ArtifactError as error:
        raise Trouble("damaged", str(error)) from error
    if not manifests:
        raise Trouble("none", "This copy came without models/artifacts: clone the repository again.")
    return ", ".join(f"{manifest.name} {manifest.version}" for manifest in manifests) + ": checksums match"


CHECKS: dict[str, Callable[[Settings, Mapping[str, str]], str]] = {
    "Transport": _transport,
    "KEK": _kek,
    "Database": _content,
    "Keystore": _keystore,
    "Keys": _keys,
    "Role": _role,
    "Broker": _broker,
    "Images": _blobs,
    "Champions": _champions,
    "Model ages": _ages,
    "Statements": _statements,
}


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        colour = COLOURS[finding.state]
        table.add_row(finding.name, f"[{colour}]{finding.state}[/{colour}]", escape(finding.found))
        if finding.remedy:
            table.add_row("", "", f"[bold]{escape(finding.remedy)}[/bold]")
    return table
