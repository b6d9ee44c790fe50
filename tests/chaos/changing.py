"""What serves is changed while posts come in without a pause: shadow, canary, promotion, rollback, real processes.

Posts are sent so that there is always something waiting. Each change is made as people make it, and waited for
until its effect is seen in what is decided. Afterwards the database is asked what became of every post.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from models.serving import in_share
from moderation.domain.access import Role
from moderation.governance import models, promotions
from moderation.governance.promotions import By
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.ids import moment_of
from moderation.storage.vault import Vault
from tests import artifacts, people
from tests.chaos.harness import Client, Stack, free_port
from tests.chaos.storm import sentence

NAME = "text-minilm"
VERSIONS = ("7.1", "7.2")
SHARE = 0.3
BATCH = 20
WAITING = 160  # posts that wait for a worker, at least, until the last change is seen
PATIENCE = 180.0
SAMPLE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Pause:
    """After how many seconds a change was seen, and how long nothing was decided meanwhile and just after."""

    seen: float
    median: float
    longest: float


@dataclass(slots=True)
class Account:
    """What came of it. The first group should be nothing."""

    without_verdict: int = 0
    with_two: int = 0
    by_two_versions: int = 0
    by_the_wrong_version: int = 0  # of the canary's items, or of the others
    shadow_in_verdict: int = 0
    webhooks_missing: int = 0
    webhooks_twice: int = 0
    refused: int = 0
    items: int = 0
    by_version: Counter[str] = field(default_factory=Counter)
    shadowed: int = 0
    pauses: dict[str, Pause] = field(default_factory=dict)  # around each change
    seconds: float = 0.0

    @property
    def faults(self) -> dict[str, int]:
        """Whatever should be nothing and is not."""
        names = ("without_verdict", "with_two", "by_two_versions", "by_the_wrong_version",
                 "shadow_in_verdict", "webhooks_missing", "webhooks_twice", "refused")  # fmt: skip
        return {name: value for name in names if (value := getattr(self, name))}


@dataclass(slots=True)
class _Load:
    stack: Stack
    databases: Databases
    vault: Vault
    root: Path
    proposer: By
    promoter: By
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: set[str] = field(default_factory=set)
    commits: list[float] = field(default_factory=list)
    marks: list[tuple[str, float, float]] = field(default_factory=list)  # a change, when made, when seen


def run(stack: Stack, folder: Path, steady_seconds: float = 2.0) -> Account:
    """Make every change under load, wait until each is seen, and account for it. `folder` is for new versions."""
    databases = connect(stack.settings.database_url, stack.settings.keystore_url, 3)
    began = time.monotonic()
    try:
        load = _prepared(stack, databases, folder)
        with closing(Client(stack.port, stack.api_key)) as client:
            _register_endpoint(client)
        with ThreadPoolExecutor(2) as threads:
            running = [threads.submit(_post, load), threads.submit(_sample, load)]
            try:
                _change(load, steady_seconds)
            finally:
                load.stop.set()
            for one in running:
                one.result()
        _until(lambda: _waiting(load) == 0, "everything to be screened")
        account = _settled(load)
    finally:
        databases.dispose()
    account.seconds = time.monotonic() - began
    return account


def _prepared(stack: Stack, databases: Databases, folder: Path) -> _Load:
    vault = Vault(databases.keystore, stack.settings.kek)
    proposer, promoter = (
        promotions.logged_in(people.principal(databases, vault, role)) for role in (Role.TRAINER, Role.ADMIN)
    )
    for version in VERSIONS:
        made = artifacts.passing(folder, version)
        with transaction(databases.content) as session:
            models.add(session, made, stack.settings.models, "operator", datetime.now(UTC))
    return _Load(stack, databases, vault, stack.settings.models, proposer, promoter)


def _register_endpoint(client: Client) -> None:
    url = f"http://127.0.0.1:{free_port()}/"  # nobody is there: it is the outbox that is looked at
    body = json.dumps({"name": "here", "url": url, "events": ["item.decided", "item.in_review"]}).encode()
    status, answer = client.send("POST", "/v1/webhook-endpoints", body, time.monotonic() + PATIENCE)
    assert status == 201, answer


# --- the load ---


def _post(load: _Load) -> None:
    """Keep items waiting, so that no worker is ever idle."""
    chance, number = random.Random(1), 0
    with closing(Client(load.stack.port, load.stack.api_key)) as client:
        while not load.stop.is_set():
            if _waiting(load) >= WAITING:
                time.sleep(0.02)
                continue
            posts = [
                {"external_id": f"post-{number + at}", "author": f"author-{chance.randrange(500)}",
                 "kind": "comment", "parts": [{"type": "text", "name": "body", "text": sentence(chance)}]}
                for at in range(BATCH)
            ]  # fmt: skip
            body = json.dumps({"items": posts}).encode()
            status, answer = client.send("POST", "/v1/items/batch", body, time.monotonic() + PATIENCE)
            assert status == 202, answer
            load.acknowledged.update(result["item"]["id"] for result in answer["results"])
            number += BATCH


def _sample(load: _Load) -> None:
    """Note when decisions were committed: the clock, whenever there are newer ones than before."""
    with _connected(load) as connection:
        newest = ""
        while not load.stop.is_set():
            row = connection.execute("SELECT id::text FROM decisions ORDER BY id DESC LIMIT 1").fetchone()
            if row is not None and row[0] != newest:
                newest = row[0]
                load.commits.append(time.monotonic())
            time.sleep(SAMPLE_SECONDS)


@contextmanager
def _connected(load: _Load) -> Iterator[psycopg.Connection[Any]]:
    dsn = make_url(load.stack.postgres.url("moderation")).set(drivername="postgresql")
    with psycopg.connect(dsn.render_as_string(hide_password=False), autocommit=True) as connection:
        yield connection


def _number(load: _Load, query: str, *values: Any) -> int:
    with _connected(load) as connection:
        row = connection.execute(query, values).fetchone()
    return int(row[0]) if row else 0


def _waiting(load: _Load) -> int:
    return _number(load, "SELECT count(*) FROM items WHERE state IN ('received','leased')")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It took too long for {what}.")
        time.sleep(0.05)


# --- the changes ---


def _change(load: _Load, steady_seconds: float) -> None:
    first, second = VERSIONS
    _until(lambda: len(load.commits) > 5, "the first decisions")
    began = time.monotonic()
    time.sleep(steady_seconds)
    load.marks.append(("nothing changes", began, time.monotonic()))
    champion = _latest(load, 1)[0]

    def make(name: str, seen: Callable[[], bool], *steps: Callable[[Session], object]) -> None:
        began = time.monotonic()
        for step in steps:
            with transaction(load.databases.content) as session:
                step(session)
        _until(seen, f"{name} to be seen")
        load.marks.append((name, began, time.monotonic()))

    def now() -> datetime:
        return datetime.now(UTC)

    def shadow(session: Session) -> None:
        promotions.shadow(session, load.root, load.proposer, NAME, first, now())

    def no_more(alias: str) -> Callable[[Session], object]:
        return lambda session: promotions.end_trial(session, load.proposer, NAME, alias, now())

    def served(version: str, **tried: Any) -> tuple[Callable[[Session], object], Callable[[Session], object]]:
        return (
            lambda session: promotions.propose(
                session, load.root, load.proposer, NAME, version, now(), **tried
            ),
            lambda session: promotions.promote(session, load.root, load.promoter, NAME, version, now()),
        )

    shadowed = "SELECT count(*) FROM (SELECT FROM signals WHERE shadow LIMIT 100) AS these"
    make("shadow begins", lambda: _number(load, shadowed) == 100, shadow)
    make("shadow ends", lambda: True, no_more("shadow"))
    canary = served(first, alias="canary", share=SHARE)
    make("canary begins", lambda: first in _latest(load, 1), *canary)
    _until(lambda: _latest(load, 200).count(first) > 40, "the canary to judge its share")
    make("canary is promoted", lambda: set(_latest(load, 100)) == {first}, *served(first))
    again = served(second, alias="canary", share=SHARE)
    make("another canary begins", lambda: second in _latest(load, 40), *again)
    make("canary ends", lambda: set(_latest(load, 100)) == {first}, no_more("canary"))
    make(
        "rollback", lambda: set(_latest(load, 100)) == {champion},
        lambda session: promotions.rollback(session, load.root, load.promoter, NAME, now()),
    )  # fmt: skip


_VERSION = (
    "(SELECT d ->> 'version' FROM jsonb_array_elements(detectors) AS d WHERE d ->> 'name' = %s LIMIT 1)"
)


def _latest(load: _Load, count: int) -> list[str]:
    """By which version the latest items were judged."""
    query = f"SELECT {_VERSION} FROM decisions ORDER BY id DESC LIMIT %s"
    with _connected(load) as connection:
        return [row[0] for row in connection.execute(query, [NAME, count])]


# --- the accounting ---

_FATE = f"""
SELECT item.id, item.state,
       (SELECT count(*) FROM decisions d WHERE d.item_id = item.id),
       (SELECT count(*) FROM outbox o WHERE o.item_id = item.id),
       (SELECT count(*) FROM signals s WHERE s.item_id = item.id AND s.shadow),
       decision.id, {_VERSION},
       (SELECT count(*) FROM jsonb_array_elements(detectors) AS d WHERE d ->> 'name' LIKE %s)
FROM items item LEFT JOIN decisions decision ON decision.item_id = item.id
"""


def _settled(load: _Load) -> Account:
    account, marks = Account(), {name: (made, seen) for name, made, seen in load.marks}
    with _connected(load) as connection:
        fates = connection.execute(_FATE, [NAME, f"{NAME}%"]).fetchall()
        refused = connection.execute("SELECT count(*) FROM model_aliases WHERE trouble IS NOT NULL")
        account.refused = refused.fetchone()[0]  # type: ignore[index]
    known = {str(fate[0]) for fate in fates}
    account.without_verdict = len(load.acknowledged - known)
    # The wall clock of what was measured by the other one.
    offset = time.time() - time.monotonic()
    canary, promoted = (marks[name][0] + offset for name in ("canary begins", "canary is promoted"))
    for item, state, decisions, webhooks, shadows, decision, version, judges in fates:
        account.items += 1
        account.without_verdict += state != "done" or decisions == 0
        account.with_two += decisions > 1
        account.webhooks_missing += webhooks == 0
        account.webhooks_twice += webhooks > 1
        account.by_two_versions += judges != 1
        account.by_version[version] += 1
        account.shadowed += shadows > 0
        at = moment_of(decision).timestamp() if decision else 0.0
        account.shadow_in_verdict += version == VERSIONS[0] and at < canary
        tried = version == VERSIONS[1] or (version == VERSIONS[0] and at < promoted)
        account.by_the_wrong_version += tried and not in_share(item, SHARE)
    for name, made, seen in load.marks:
        account.pauses[name] = _pause(load.commits, made, seen)
    return account


def _pause(commits: list[float], made: float, seen: float) -> Pause:
    inside = [at for at in commits if made - 1.0 < at < seen + 1.0]
    gaps = [after - before for before, after in pairwise(inside)] or [0.0]
    return Pause(seen - made, median(gaps), max(gaps))
