"""The directory that one `moderation up` owns: layout, lock, secrets, and the environment it hands out.

lock             held while it runs; names the pid
first-run.json   what the first run created (0600)
secrets/kek      the key-encryption key (0600): without it the content can't be read
postgres/        data, socket           broker/   append-only file, socket
blobs/           encrypted images       logs/     one file a process
models/          versions of classifiers that were added here
checkpoints/     what the audit log was at every minute, signed: copy it elsewhere (docs/audit.md)
run/environment  what `--data-dir` of the other commands reads (0600)
run/metrics/     counters of all processes, begun anew at every start
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderation.embedded.process import EmbeddedError

LOG_BYTES = 20_000_000
DATABASE = "moderation"
KEYSTORE = "keystore"
OWNERS = ("OWNER_DATABASE_URL", "OWNER_KEYSTORE_URL")
FOLDERS = ("BLOB_DIR", "MODEL_DIR", "INDEX_DIR")
OURS = ("DATABASE_URL", "KEYSTORE_URL", *OWNERS, "REDIS_URL", "KEK", "KEK_FILE", *FOLDERS)
KEK_DAYS = "30"  # how old an epoch of the key-encryption key gets, unless the environment says otherwise


@dataclass(frozen=True, slots=True)
class Instance:
    """Where everything of one `moderation up` is kept; the module says what is where."""

    directory: Path

    @property
    def postgres(self) -> Path:
        return self.directory / "postgres"

    @property
    def broker(self) -> Path:
        return self.directory / "broker"

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    @property
    def kek(self) -> Path:
        return self.directory / "secrets" / "kek"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    @property
    def metrics(self) -> Path:
        return self.directory / "run" / "metrics"

    @property
    def first_run(self) -> Path:
        return self.directory / "first-run.json"

    @property
    def environment(self) -> Path:
        return self.directory / "run" / "environment"

    def log(self, name: str) -> Path:
        return self.logs / f"{name.lower()}.log"


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[Instance]:
    """Own a data directory for the length of a `with` block.

    Raises:
        EmbeddedError: another process owns it, or it can't be written.
    """
    instance = Instance(directory.absolute())
    try:
        _make_directories(instance)
        descriptor = os.open(instance.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{directory} can't be used: {error.strerror} ({error.filename}).") from error
    try:
        _lock(descriptor, directory)
        shutil.rmtree(instance.metrics, ignore_errors=True)
        instance.metrics.mkdir()
        yield instance
    finally:
        os.close(descriptor)


def is_running(directory: Path) -> bool:
    """Whether somebody holds the directory."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def ensure_kek(instance: Instance) -> None:
    """Create the key-encryption key on the first run.

    Raises:
        EmbeddedError: the key is gone although there is content under it.
    """
    if instance.kek.exists():
        return
    if (instance.postgres / "data").exists():
        raise EmbeddedError(
            f"{instance.kek} is missing, and the content in {instance.postgres} can't be read without it. "
            f"Put it back from your backup, or move {instance.directory} away to begin anew."
        )
    write_private(instance.kek, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")


def child_environment(
    instance: Instance, base: Mapping[str, str], *, urls: Mapping[str, str], workers: int, insecure: bool
) -> dict[str, str]:
    """The environment of this instance; the API, the relay and the workers get it `without_owner`.

    It is `base`, our own, with `urls` (of the databases, the broker) and the places of this instance. Other
    `MODERATION_*` variables pass through; `PG*` ones would mislead the driver.
    """
    kept = {name: value for name, value in base.items() if not name.startswith("PG")}
    for name in OURS:
        kept.pop(f"MODERATION_{name}", None)
    ours = {**urls, "KEK_FILE": str(instance.kek), "BLOB_DIR": str(instance.blobs), "WORKERS": str(workers)}
    # A folder on another machine's disk is better than ours: whoever named one gets it.
    kept.setdefault("MODERATION_CHECKPOINT_DIR", str(instance.checkpoints))
    if insecure:
        ours["INSECURE_DEV"] = "1"
    return {
        # A worker a core: threads of their own below a worker would only fight for the cores.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_ARENA_MAX": "2",
        "MODERATION_KEK_DAYS": KEK_DAYS,
        **kept,
        **{f"MODERATION_{name}": value for name, value in ours.items()},
        "PROMETHEUS_MULTIPROC_DIR": str(instance.metrics),
        "ORT_DISABLE_TELEMETRY": "1",
    }


def without_owner(environment: Mapping[str, str]) -> dict[str, str]:
    """What a running process is told: nothing of the role that could alter tables."""
    ours = {f"MODERATION_{name}" for name in OWNERS}
    return {name: value for name, value in environment.items() if name not in ours}


def write_environment(instance: Instance, environment: Mapping[str, str]) -> None:
    """Leave our variables for `--data-dir` of the other commands, in a form a shell can read too."""
    ours = {name: value for name, value in environment.items() if name.startswith("MODERATION_")}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in sorted(ours.items())]
    write_private(instance.environment, "".join(lines))


def read_environment(directory: Path) -> dict[str, str]:
    """The variables of the instance in `directory`.

    Raises:
        EmbeddedError: `moderation up` never ran there, or it is another user's.
    """
    path = Instance(directory.absolute()).environment
    try:
        words = shlex.split(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EmbeddedError(
            f"There is no instance in {directory}; start one: moderation up --data-dir …"
        ) from error
    except OSError as error:
        raise EmbeddedError(f"{path} can't be read: {error.strerror}.") from error
    return dict(word.split("=", 1) for word in words)


def read_first_run(directory: Path) -> dict[str, Any] | None:
    """What the first run wrote; None when the file isn't there (its owner may have put it away).

    Raises:
        EmbeddedError: it can't be read.
    """
    path = Instance(directory.absolute()).first_run
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"{path} can't be read: {error}.") from error
    return dict(document)


def write_first_run(instance: Instance, url: str, created: Mapping[str, Any] | None) -> None:
    """Write what was created, or keep the address of an earlier file true."""
    document = read_first_run(instance.directory) if created is None else {"url": url, **created}
    if document is not None:
        write_private(instance.first_run, json.dumps(document | {"url": url}, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by its owner only from the first byte on."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(
        os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def cap_log(path: Path, limit: int = LOG_BYTES) -> None:
    """Keep a log and one predecessor below `limit` bytes each; writers append, so they go on undisturbed."""
    if path.exists() and path.stat().st_size > limit:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        path.with_suffix(".log.1").chmod(0o600)
        os.truncate(path, 0)


def _make_directories(instance: Instance) -> None:
    if not instance.directory.exists():
        instance.directory.mkdir(parents=True)
        # Root's PostgreSQL runs as another user, who has to pass here; what lies below is closed by itself.
        instance.directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    for name in ("secrets", "blobs", "logs", "run"):
        folder = instance.directory / name
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        raise EmbeddedError(
            f"Moderation already runs on {directory} (pid {pid}). Stop it, or choose another --data-dir."
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
