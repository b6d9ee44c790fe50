"""The storm: seeded posts, seeded strikes, and the accounting afterwards, as Jepsen does it.

Every post is attempted under one external id until it is acknowledged. Afterwards the database is asked what
became of it: lost, duplicated and unexpected must be nothing, and dead exactly the poisoned ones.
"""

from __future__ import annotations

import base64
import io
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from PIL import Image
from redis import Redis, RedisError
from sqlalchemy import make_url

from moderation.embedded.process import wait_until
from moderation.storage.database import connect
from moderation.storage.vault import Vault
from tests.chaos.harness import Client, Stack, free_port

CLIENT = "first"  # whom the key of a first run belongs to
ENVIRONMENT = {"LEASE_SECONDS": "3", "BATCH_ITEMS": "16", "RETRY_SECONDS": "0.2", "MAX_ATTEMPTS": "4"}
MARK = "heron"  # in every text and author, so that a scan of the broker's files would find any of them
SENDERS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is posted in one storm and how often each thing is struck."""

    seed: int
    items: int
    batch: int = 20
    poison: int = 3
    kills: int = 16
    flushes: int = 4
    restarts: int = 1
    crashes: int = 2
    others: int = 3
    drain_seconds: float = 120.0
    at_work_seconds: float = 1.0


@dataclass(slots=True)
class Account:
    """What came of a storm; the first group are the names Jepsen gives them."""

    attempted: int = 0
    acknowledged: int = 0
    decided: int = 0
    lost: int = 0
    duplicated: int = 0
    unexpected: int = 0
    poison: int = 0
    dead: int = 0
    dead_not_poison: int = 0
    poison_not_dead: int = 0
    webhooks_missing: int = 0
    webhooks_twice: int = 0
    audit_wrong: int = 0
    dead_without_case: int = 0
    leaked: int = 0
    internal_errors: int = 0
    retried: int = 0
    in_flight_when_struck: int = 0
    sent_again: int = 0
    seconds: float = 0.0
    strikes: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> dict[str, int]:
        """Whatever should be nothing and is not."""
        names = (
            "lost", "duplicated", "unexpected", "dead_not_poison", "poison_not_dead", "webhooks_missing",
            "webhooks_twice", "audit_wrong", "dead_without_case", "leaked", "internal_errors",
        )  # fmt: skip
        return {name: value for name in names if (value := getattr(self, name))}


@dataclass(slots=True)
class _Storm:
    stack: Stack
    plan: Plan
    chance: random.Random
    account: Account = field(default_factory=Account)
    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    poisoned: set[str] = field(default_factory=set)
    deadline: float = 0.0


def run(stack: Stack, plan: Plan) -> Account:
    """Post, strike, wait until everything is settled or the time is over, and account for it."""
    storm = _Storm(stack, plan, random.Random(plan.seed))
    began = time.monotonic()
    strikes = _schedule(storm)
    storm.deadline = began + 4.0 * len(strikes) + plan.drain_seconds
    _register_endpoint(storm)
    posts = [_post(storm.chance, f"{plan.seed}-{index}") for index in range(plan.items)]
    batches = [posts[start : start + plan.batch] for start in range(0, len(posts), plan.batch)]
    storm.account.attempted = len(posts)
    poison_at = set(storm.chance.sample(range(len(strikes)), plan.poison))
    waiting: list[Future[None]] = []
    with ThreadPoolExecutor(SENDERS) as senders:
        for index, (name, strike) in enumerate(strikes):
            # A burst before each strike, so that it meets processes at work.
            share = range(index * len(batches) // len(strikes), (index + 1) * len(batches) // len(strikes))
            waiting += [senders.submit(_submit, storm, batches[number]) for number in share]
            if index in poison_at:
                _plant_poison(storm)
            storm.account.in_flight_when_struck += _at_work(storm)
            time.sleep(storm.chance.uniform(0.0, 0.1))
            strike()
            storm.account.strikes[name] += 1
            time.sleep(storm.chance.uniform(0.1, 1.0))
        for future in waiting:
            future.result()
    _drain(storm)
    storm.account.seconds = time.monotonic() - began
    _settle(storm)
    return storm.account


def _schedule(storm: _Storm) -> list[tuple[str, Callable[[], object]]]:
    stack, plan, chance = storm.stack, storm.plan, storm.chance
    workers = chance.choices(stack.workers, k=plan.kills)
    others = [("kill relay", "relay"), ("kill API", "api")]
    strikes: list[tuple[str, Callable[[], object]]] = [
        *(("kill worker", lambda name=name: stack.strike(name)) for name in workers),
        *(("flush broker", lambda: _flush(stack)) for _ in range(plan.flushes)),
        *(("stop PostgreSQL", lambda: stack.restart_postgres(0.5)) for _ in range(plan.restarts)),
        *(("crash PostgreSQL", stack.crash_postgres) for _ in range(plan.crashes)),
        *((title, lambda name=name: stack.strike(name)) for title, name in others[: plan.others]),
        *(("crash broker", lambda: _crash_broker(stack)) for _ in range(max(0, plan.others - len(others)))),
    ]
    chance.shuffle(strikes)
    return strikes


def _flush(stack: Stack) -> None:
    with closing(Redis.from_url(stack.broker.url)) as connection, suppress(RedisError):
        connection.flushall()


def _crash_broker(stack: Stack) -> None:
    stack.broker.kill()
    stack.broker.start()


WORDS = {
    "who": ("My neighbour", "The baker", "Our teacher", "A friend", "The gardener", "My sister"),
    "did": ("painted", "found", "repaired", "watered", "described", "photographed", "carried home"),
    "what": ("a blue chair", "the old bicycle", "three tomato plants", "a stone bridge", "a paper lamp"),
    "where": ("by the river", "in the market", "behind the library", "near the harbour", "in Lisbon"),
}


def sentence(chance: random.Random) -> str:
    """A mild sentence; with its number, no two are alike."""
    words = [chance.choice(WORDS[slot]) for slot in ("who", "did", "what", "where")]
    return f"{' '.join(words)}, and a {MARK} looked on ({chance.randrange(10**6)})."


def picture(chance: random.Random, side: int = 48) -> bytes:
    """A small PNG of a few coloured squares."""
    image = Image.new("RGB", (side, side), tuple(chance.randrange(256) for _ in range(3)))
    for _ in range(4):
        x, y, size = chance.randrange(side), chance.randrange(side), chance.randrange(4, side // 2)
        image.paste(tuple(chance.randrange(256) for _ in range(3)), (x, y, x + size, y + size))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _post(chance: random.Random, name: str) -> dict[str, Any]:
    parts: list[dict[str, str]] = [{"type": "text", "name": "body", "text": sentence(chance)}]
    if chance.random() < 0.08:
        data = base64.b64encode(picture(chance)).decode()
        parts.append({"type": "image", "name": "photo", "data": data})
    author = f"{MARK}-{chance.randrange(200)}"
    return {"external_id": name, "author": author, "kind": "comment", "parts": parts}


def _submit(storm: _Storm, posts: Sequence[dict[str, Any]], path: str = "/v1/items/batch") -> None:
    client = Client(storm.stack.port, storm.stack.api_key)
    try:
        body = json.dumps({"items": list(posts)}).encode()
        status, answer = client.send("POST", path, body, storm.deadline)
        assert status == 202, (status, answer)
        # A careful client sometimes asks twice, not having seen the first answer.
        if random.Random(posts[0]["external_id"]).random() < 0.2:
            _, again = client.send("POST", path, body, storm.deadline)
            _note(storm, posts, again)
        _note(storm, posts, answer)
    finally:
        client.close()
        with storm.lock:
            storm.account.sent_again += client.unanswered + sum(client.refused.values())
            storm.account.internal_errors += client.refused.get(500, 0)


def _note(storm: _Storm, posts: Sequence[dict[str, Any]], answer: dict[str, Any]) -> None:
    with storm.lock:
        for post, result in zip(posts, answer["results"], strict=True):
            assert "item" in result, result
            storm.acknowledged.setdefault(post["external_id"], set()).add(result["item"]["id"])


def _register_endpoint(storm: _Storm) -> None:
    url = f"http://127.0.0.1:{free_port()}/"  # nobody is there: it is the outbox that is looked at
    body = json.dumps({"name": "here", "url": url, "events": ["item.decided", "item.in_review"]}).encode()
    with closing(Client(storm.stack.port, storm.stack.api_key)) as client:
        status, answer = client.send("POST", "/v1/webhook-endpoints", body, storm.deadline)
    assert status == 201, answer


def _plant_poison(storm: _Storm) -> None:
    """A post whose ciphertext is damaged before anybody screens it: the relay is held still meanwhile."""
    name = f"{storm.plan.seed}-poison-{len(storm.poisoned)}"
    # One that was struck a moment ago is not yet up again, and would come up in the middle of this.
    if not wait_until(lambda: storm.stack.hold("relay"), 60.0):
        raise RuntimeError("There is no relay to be held still.")
    try:
        _submit(storm, [_post(storm.chance, name)])
        (identifier,) = storm.acknowledged[name]
        with _connected(storm) as connection:
            damaged = connection.execute(
                "UPDATE parts SET content = overlay(content placing '\\x00000000'::bytea from 20) "
                "WHERE item_id = %s AND position = 0 "
                "AND EXISTS (SELECT FROM items WHERE id = item_id AND state = 'received')",
                [identifier],
            ).rowcount
        assert damaged == 1, "the poison came too late; is the relay still running?"
    finally:
        storm.stack.strike("relay", signal.SIGCONT)
    storm.poisoned.add(identifier)
    storm.account.attempted += 1
    storm.account.poison += 1


def _connected(storm: _Storm) -> psycopg.Connection[tuple[Any, ...]]:
    dsn = make_url(storm.stack.postgres.url("moderation")).set(drivername="postgresql")
    return psycopg.connect(dsn.render_as_string(hide_password=False))


def _at_work(storm: _Storm) -> int:
    """Wait a moment until somebody holds items, and say how many: a strike at nobody would prove nothing."""
    deadline = time.monotonic() + storm.plan.at_work_seconds
    with _connected(storm) as connection:
        connection.autocommit = True
        while time.monotonic() < deadline:
            row = connection.execute("SELECT count(*) FROM items WHERE state = 'leased'").fetchone()
            if row and row[0]:
                return int(row[0])
            time.sleep(0.005)
    return 0


def _drain(storm: _Storm) -> None:
    """Wait until no item is left to be screened, or patience ends: then the accounting says what is lost."""
    deadline = time.monotonic() + storm.plan.drain_seconds
    while time.monotonic() < deadline:
        with _connected(storm) as connection:
            row = connection.execute("SELECT 1 FROM items WHERE state IN ('received','leased') LIMIT 1")
            if row.fetchone() is None:
                return
        time.sleep(0.2)


_FATE = """
SELECT item.id::text, item.state, item.external_digest, item.attempts,
       (SELECT count(*) FROM decisions d WHERE d.item_id = item.id AND d.superseded_at IS NULL),
       (SELECT count(*) FROM cases c WHERE c.item_id = item.id AND c.reason = 'dead_letter'),
       (SELECT count(*) FROM outbox o WHERE o.item_id = item.id),
       (SELECT count(*) FROM audit_events a WHERE a.subject_id = item.id::text AND action = 'item.received'),
       (SELECT count(*) FROM audit_events a WHERE a.subject_id = item.id::text AND action = 'item.decided')
FROM items item
"""


def _settle(storm: _Storm) -> None:
    account = storm.account
    account.acknowledged = len(storm.acknowledged)
    digests = _digests(storm)
    with _connected(storm) as connection:
        fates = connection.execute(_FATE).fetchall()
    by_id = {fate[0]: fate for fate in fates}
    revisions = Counter(bytes(fate[2]) for fate in fates)
    account.unexpected = sum(digest not in digests for digest in revisions)
    account.duplicated = sum(count - 1 for count in revisions.values())
    account.duplicated += sum(len(ids) - 1 for ids in storm.acknowledged.values())
    for ids in storm.acknowledged.values():
        account.lost += not any(i in by_id and by_id[i][1] in ("done", "dead") for i in ids)
    for identifier, state, _, attempts, decisions, cases, webhooks, received, decided in fates:
        ended = state in ("done", "dead")
        account.decided += ended
        account.lost += ended and decisions == 0
        account.duplicated += decisions > 1
        account.dead += state == "dead"
        account.dead_not_poison += state == "dead" and identifier not in storm.poisoned
        account.poison_not_dead += state != "dead" and identifier in storm.poisoned
        account.dead_without_case += (cases == 1) != (state == "dead")
        account.webhooks_missing += ended and webhooks == 0
        account.webhooks_twice += webhooks > 1
        account.audit_wrong += (received, decided) != (1, int(ended))
        account.retried += attempts > 1
    account.leaked = sum(MARK.encode() in path.read_bytes() for path in _broker_files(storm))


def _digests(storm: _Storm) -> set[bytes]:
    """The digests under which the posts that were attempted must be found."""
    databases = connect(storm.stack.settings.database_url, storm.stack.settings.keystore_url, 1)
    vault = Vault(databases.keystore, storm.stack.settings.kek)
    names = [f"{storm.plan.seed}-{index}" for index in range(storm.plan.items)]
    names += [f"{storm.plan.seed}-poison-{index}" for index in range(storm.plan.poison)]
    try:
        return {vault.digest("external", CLIENT, name) for name in names}
    finally:
        databases.dispose()


def _broker_files(storm: _Storm) -> Iterator[Any]:
    return (path for path in storm.stack.broker.directory.rglob("*") if path.is_file())
