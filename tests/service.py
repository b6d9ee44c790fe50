"""The real `moderation up` as a child process: for tests and benchmarks that look at a whole installation."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

START_SECONDS = 300
STOP_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is up: its data directory, its address and its first API key."""

    directory: Path
    url: str
    api_key: str

    def client(self) -> httpx.Client:
        """A caller with every scope."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    @property
    def broker_socket(self) -> Path:
        return self.directory / "broker" / "broker.sock"

    def database(self, name: str = "moderation") -> psycopg.Connection:
        """A connection to one of the two databases, as their owner."""
        run = str(self.directory / "postgres" / "run")
        return psycopg.connect(host=run, dbname=name, user="moderation", autocommit=True)

    def processes(self) -> dict[int, str]:
        """Our processes by id: `serve`, `relay`, `work --queue screening`, `work --queue delivery`."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_text().split("\0")
                ours = f"{self.directory}/".encode() in (folder / "environ").read_bytes()
            except OSError:
                continue
            if ours and "moderation" in words and "up" not in words:
                found[int(folder.name)] = " ".join(words[words.index("moderation") + 1 :]).strip()
        return found

    def memory(self) -> dict[str, int]:
        """Resident bytes by what a process does."""
        sizes: dict[str, int] = {}
        for pid, name in self.processes().items():
            status = Path(f"/proc/{pid}/status").read_text()
            kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
            role = "api" if name.startswith("serve") else name.split()[-1]
            sizes[role] = max(sizes.get(role, 0), int(kilobytes) * 1024)
        return sizes


@contextmanager
def running(directory: Path, **environment: str) -> Iterator[Service]:
    """Everything, up on a free port with one worker; `environment` sets `MODERATION_*` variables.

    Raises:
        RuntimeError: it does not come up.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODERATION_")}
    ours = {f"MODERATION_{name}": value for name, value in environment.items()}
    arguments = ("up", "--data-dir", str(directory), "--port", "0", "--workers", "1", "--insecure-dev")
    output = directory.with_name(f"{directory.name}.out")
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moderation", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=kept | ours,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Ready at" not in output.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The service does not come up:\n{output.read_text()}")
            time.sleep(0.05)
        written = directory / "first-run.json"
        # One that was restored never had a first run: it says where it is, and its keys are those of before.
        first = json.loads(written.read_text()) if written.exists() else {}
        url = re.search(r"Ready at (http\S+)", output.read_text())
        yield Service(directory, first.get("url") or (url[1] if url else ""), first.get("api_key", ""))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()
