"""A whole installation as real processes in our hands: servers, API, relay, workers, and a client that retries.

The chaos tests hurt it; the benchmarks only measure it. All traffic stays on loopback and Unix sockets.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moderation import settings as settings_module
from moderation import setup
from moderation.embedded import Broker, Postgres
from moderation.embedded.process import end, spawn, wait_until
from moderation.settings import Settings

US = (sys.executable, "-m", "moderation")
RESTART_SECONDS = 0.2
BUSY = (429, 500, 502, 503, 504)


@dataclass(slots=True)
class Process:
    """One of our processes: how to start it, and how often it died."""

    name: str
    command: Sequence[str]
    handle: subprocess.Popen[bytes] | None = None
    deaths: list[int] = field(default_factory=list)
    due: float = 0.0

    @property
    def pid(self) -> int | None:
        return self.handle.pid if self.handle is not None and self.handle.poll() is None else None


class Stack:
    """PostgreSQL, Valkey, API, relay and workers under `directory`; whatever of ours dies is started again."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 2,
        delivery: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        self.directory = directory
        self.postgres = Postgres(directory / "postgres")
        self.broker = Broker(directory / "broker")
        self.port = free_port()
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        work = (*US, "work", "--queue")
        commands = {
            "api": (*US, "serve", "--port", str(self.port)),
            "relay": (*US, "relay"),
            **dict.fromkeys(self.workers, (*work, "screening")),
        }
        if delivery:
            commands["delivery"] = (*work, "delivery")
        self.processes = {name: Process(name, command) for name, command in commands.items()}
        self._given = dict(environment or {})
        self._environment: dict[str, str] = {}
        self._stopping = threading.Event()
        self._lock = threading.RLock()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self.settings: Settings
        self.api_key = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self.postgres.start()
        self.broker.start()
        for name in ("moderation", "keystore"):
            self.postgres.create_database(name)
        self._environment = self._build_environment()
        self.settings = settings_module.from_environment(self._environment)
        created = setup.prepare(self.settings)
        assert created is not None
        self.api_key = created.api_key
        self.tend()
        self._keeper.start()
        if not wait_until(self.answers, 300.0, 0.05):
            raise RuntimeError(f"the API does not answer: {self.log_of('api')[-2000:]}")

    def close(self) -> None:
        """End everything, the servers last; nothing is left behind."""
        self._stopping.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for process in self.processes.values():
            if process.handle is not None:
                process.handle.send_signal(signal.SIGCONT)
                end(process.handle, (signal.SIGTERM,), 5.0)
        self.broker.stop()
        self.postgres.stop()

    def answers(self) -> bool:
        """Whether the API says that it lives."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def tend(self) -> None:
        """Start whatever does not run, as a supervisor would."""
        with self._lock:
            for process in self.processes.values():
                status = process.handle.poll() if process.handle is not None else None
                if status is not None:
                    process.deaths.append(status)
                    process.handle, process.due = None, time.monotonic() + RESTART_SECONDS
                if process.handle is None and time.monotonic() >= process.due:
                    process.handle = spawn(
                        process.command,
                        death_signal=signal.SIGKILL,
                        output=self.directory / f"{process.name}.log",
                        environment=self._environment,
                    )

    def strike(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Signal one process, not its group; False when it is down already."""
        with self._lock:
            handle = self.processes[name].handle
            if handle is None or handle.poll() is not None:
                return False
            handle.send_signal(number)
            if number is signal.SIGKILL:
                handle.wait()
            return True

    def hold(self, name: str) -> bool:
        """Stop one process in its tracks until it is sent SIGCONT; False when it does not run."""
        with self._lock:
            handle = self.processes[name].handle
            return self.strike(name, signal.SIGSTOP) and wait_until(
                lambda: handle is not None and state_of(handle.pid) in "TtZX", 60.0
            )

    def crash_postgres(self) -> None:
        """Stop PostgreSQL in immediate mode, which is a crash for every session, and start it again."""
        self._bounce(signal.SIGQUIT)

    def restart_postgres(self, down_seconds: float) -> None:
        """Stop PostgreSQL in fast mode, leave it down for a while, and start it again."""
        self._bounce(signal.SIGINT, down_seconds)

    def _bounce(self, number: signal.Signals, down_seconds: float = 0.0) -> None:
        assert self.postgres.process is not None
        self.postgres.process.send_signal(number)
        self.postgres.process.wait()
        time.sleep(down_seconds)
        self.postgres.start()

    def log_of(self, name: str) -> str:
        """What a process has printed so far."""
        path = self.directory / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time used so far, by process, PostgreSQL and its sessions together."""
        used = {}
        for name, process in self.processes.items():
            if process.pid is not None:
                used[name] = cpu_of(process.pid)
        for server in (self.postgres, self.broker):
            if server.process is not None:
                used[server.title] = cpu_of_group(server.process.pid)
        return used

    def _keep(self) -> None:
        while not self._stopping.wait(0.05):
            self.tend()

    def _build_environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "MODERATION_"))
        }
        ours = {
            "DATABASE_URL": self.postgres.url("moderation"),
            "KEYSTORE_URL": self.postgres.url("keystore"),
            "REDIS_URL": self.broker.url,
            "KEK": base64.b64encode(os.urandom(32)).decode(),
            "BLOB_DIR": str(self.directory / "blobs"),
            "WORKERS": str(len(self.workers)),
            "INSECURE_DEV": "1",
            "REQUESTS_PER_MINUTE": "1000000",
            **self._given,
        }
        # As `moderation up` sets them: a worker a core, no threads that fight for it.
        quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        return {**kept, **quiet, **{f"MODERATION_{name}": value for name, value in ours.items()}}


@dataclass(slots=True)
class Client:
    """One persistent connection of a content service that sends a request again until it is answered.

    A batch's keys are its external ids, so sending it again is the same request. `unanswered` counts
    connection errors, `refused` the answers by status that asked to come back.
    """

    port: int
    api_key: str
    unanswered: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    _connection: http.client.HTTPConnection | None = None

    def send(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[int, Any]:
        """The first answer that is not a plea to come back later, as status and parsed JSON.

        Raises:
            TimeoutError: there was none before `deadline`, in seconds of the monotonic clock.
        """
        while time.monotonic() < deadline:
            try:
                status, answer = self.once(method, path, body)
            except (OSError, http.client.HTTPException):
                self.close()
                self.unanswered += 1
            else:
                if status not in BUSY:
                    return status, json.loads(answer) if answer else None
                self.refused[status] = self.refused.get(status, 0) + 1
            time.sleep(0.1)
        raise TimeoutError(f"{method} {path} was not answered in time")

    def once(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request, whatever comes of it."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        return response.status, response.read()

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def free_port() -> int:
    """A loopback port nobody has right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def state_of(pid: int) -> str:
    """A process's state as the kernel has it: R, S, T; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def cpu_of(pid: int) -> float:
    """User and system time of one process and of its ended children, in seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(value) for value in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def cpu_of_group(parent: int) -> float:
    """The same of a process and its living children."""
    total = cpu_of(parent)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            total += cpu_of(int(entry.parent.name))
    return total
