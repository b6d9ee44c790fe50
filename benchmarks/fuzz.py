"""Ten thousand malformed requests and pictures against a running service: what it answers, and what it costs.

    python -m benchmarks.fuzz [--requests 10000] [--seed 1] [--data-dir DIR]

Requests that fit the OpenAPI document and that do not (schemathesis), good requests after accidents to their
bytes, connections that break off, and damaged pictures of every kind. Fails on a 5xx, on a process that was
started again, on an item that could not be screened, or on memory that grows.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import requests
import schemathesis

from tests import fuzz
from tests.service import Service, running

SHARES = {"document": 0.55, "accidents": 0.23, "connections": 0.02, "pictures": 0.2}
ROUNDS = 8
MEGABYTE = 1 << 20
# Memory rises in steps, to what the largest batch so far needed, and stays there. A leak rises every time.
RISES = 3
RISE = 1.02

WIRES = (
    b"",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    b"POST /v1/items HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
)


@dataclass(slots=True)
class Report:
    """What was answered, by kind of request and status, and memory as time went by."""

    answers: dict[str, Counter[int]] = field(default_factory=dict)
    memory: list[dict[str, int]] = field(default_factory=list)

    def count(self, kind: str, status: int) -> None:
        self.answers.setdefault(kind, Counter())[status] += 1

    @property
    def failures(self) -> int:
        return sum(n for answers in self.answers.values() for status, n in answers.items() if status >= 500)

    @property
    def total(self) -> int:
        return sum(answers.total() for answers in self.answers.values())


def main() -> int:
    """Run it; 0 if nothing failed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--requests", type=int, default=10_000)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--data-dir", type=Path)
    chosen = options.parse_args()
    with ExitStack() as stack:
        directory = chosen.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "var"
        service = stack.enter_context(running(directory))
        report = Report()
        before = service.processes()
        for number in range(ROUNDS + 1):
            # The first round is shorter: it warms everything up, so that growth afterwards is a leak.
            share = chosen.requests // (20 if number == 0 else ROUNDS)
            one_round(service, report, share, chosen.seed + number, number)
            settle(service)
            report.memory.append(service.memory())
            print(f"round {number}: {report.total:,} requests so far", flush=True)
        return judge(service, report, before)


def one_round(service: Service, report: Report, count: int, seed: int, number: int) -> None:
    """A share of every kind of request."""
    started = time.monotonic()
    by_document(service, report, int(count * SHARES["document"]), seed)
    with service.client() as client:
        for raw in fuzz.mangled(int(count * SHARES["accidents"]), seed):
            answer = client.request(raw.method, raw.path, content=raw.body, headers=list(raw.headers))
            report.count("accidents", answer.status_code)
        for index, (_, data) in enumerate(fuzz.pictures(int(count * SHARES["pictures"]), seed)):
            body = fuzz.with_picture(number * 1_000_000 + index, data)
            report.count("pictures", client.post("/v1/items", json=body).status_code)
    dice = random.Random(seed)
    for _ in range(int(count * SHARES["connections"])):
        report.count("connections", on_the_wire(service, dice.choice(WIRES)))
    print(f"  {count:,} in {time.monotonic() - started:.0f} s", flush=True)


def by_document(service: Service, report: Report, count: int, seed: int) -> None:
    """Requests made from the document the service shows."""
    schema = schemathesis.openapi.from_dict(httpx.get(f"{service.url}/openapi.json").json())
    headers = {"Authorization": f"Bearer {service.api_key}"}
    # Operations without parameters take a single request of each kind.
    each = max(1, count // (2 * sum(1 for one in fuzz.operations(schema) if takes_something(one))))
    with requests.Session() as session:

        def call(case: fuzz.Request) -> None:
            answer = case.call(base_url=service.url, session=session, headers=headers)
            report.count("document", answer.status_code)

        fuzz.by_document(schema, call, each, seed)


def takes_something(operation: fuzz.Operation) -> bool:
    """Whether there is anything about an operation that can be varied."""
    raw = operation.definition.raw
    return bool(raw.get("parameters") or raw.get("requestBody"))


def on_the_wire(service: Service, data: bytes) -> int:
    """Send bytes and hang up; the status that came back, 0 if none did."""
    host, _, port = service.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(64)
        except OSError:
            return 0
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0


def settle(service: Service) -> None:
    """Wait until everything that was accepted has been screened.

    Raises:
        RuntimeError: it takes longer than ten minutes.
    """
    deadline = time.monotonic() + 600
    with service.database() as connection:
        query = "SELECT count(*) FROM items WHERE state IN ('received', 'leased')"
        while (connection.execute(query).fetchone() or (0,))[0]:
            if time.monotonic() > deadline:
                raise RuntimeError("Items are still waiting after ten minutes.")
            time.sleep(0.2)


def judge(service: Service, report: Report, before: dict[int, str]) -> int:
    """Print the report; 1 if anything failed."""
    for kind, answers in report.answers.items():
        said = "  ".join(f"{status or 'closed'}: {n:,}" for status, n in sorted(answers.items()))
        print(f"{kind:<12} {answers.total():>6,}   {said}")
    with service.database() as connection:
        states: dict[str, int] = dict(
            connection.execute("SELECT state, count(*) FROM items GROUP BY state").fetchall()
        )
    alive = service.processes()
    restarted = sorted(name for pid, name in before.items() if pid not in alive)
    print(f"items        {states}")
    grown = []
    for role in report.memory[0]:
        sizes = [memory.get(role, 0) // MEGABYTE for memory in report.memory]
        print(f"memory       {role:<10} MB after each round: {', '.join(map(str, sizes))}")
        last = sizes[-RISES - 1 :]
        if all(after > RISE * before for before, after in pairwise(last)):
            grown.append(role)
    print(f"requests {report.total:,}; 5xx {report.failures}; started again {restarted}; growing {grown}")
    return int(bool(report.failures or restarted or grown or states.get("dead")))


if __name__ == "__main__":
    sys.exit(main())
