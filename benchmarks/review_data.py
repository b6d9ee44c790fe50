"""A database as it looks after two months of work, filled by COPY: what `benchmarks.review` measures on.

Everything is as the service itself would have written it, keys and ciphertexts included, but pictures (a case page
only links to them) and appeals. Nothing here is random but by its seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from math import log10
from typing import Any
from uuid import UUID

from sqlalchemy import text

from benchmarks.queue_order import MIX
from moderation.domain.cases import CaseReason, CaseState
from moderation.domain.content import ItemState, Lane
from moderation.domain.decisions import CaseDraft, DecidedBy
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.features import sketch
from moderation.features.sketch import BANDS, ROWS, Sketch, SketchKind
from moderation.review import clusters
from moderation.review.opening import case_row
from moderation.storage import partitions
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Author, Case, Decision, Item, Opinion, Part, SignalRow
from moderation.storage.tables import Sketch as SketchRow
from moderation.storage.vault import Key, Vault
from tests.chaos.storm import sentence

DAYS = 60
OPEN_DAYS = 14
CHUNK = 20_000
AN_AUTHOR = 50  # items of each author, on average
CLIENT = "forum"
LANGUAGES = ("en", "en", "en", "de", "es", "fr", None)


@dataclass(frozen=True, slots=True)
class Size:
    """How many items, how many of them wait before people, and how many people have decided: as many, if unsaid."""

    items: int
    open_cases: int
    closed: int | None = None
    sketches: bool = True
    seed: int = 1


@dataclass(slots=True)
class _Filling:
    databases: Databases
    vault: Vault
    policy: Policy
    people: Sequence[UUID]
    now: datetime
    chance: random.Random
    sketches: bool


def fill(
    databases: Databases, vault: Vault, policy: Policy, people: Sequence[UUID], now: datetime, size: Size
) -> None:
    """Write items, decisions, cases and all that belongs to them, and let PostgreSQL take stock."""
    filling = _Filling(databases, vault, policy, people, now, random.Random(size.seed), size.sketches)
    with databases.content.begin() as connection:
        partitions.ensure(connection, now - timedelta(days=DAYS + 1), months_ahead=DAYS // 28 + 2)
    authors = _authors(filling, max(1, size.items // AN_AUTHOR))
    kinds = ["open"] * size.open_cases + ["closed"] * (
        size.open_cases if size.closed is None else size.closed
    )
    kinds += ["machine"] * max(0, size.items - len(kinds))
    filling.chance.shuffle(kinds)
    for start in range(0, len(kinds), CHUNK):
        _chunk(filling, authors, kinds[start : start + CHUNK])
    for engine in (databases.content, databases.keystore):
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _authors(filling: _Filling, count: int) -> list[UUID]:
    ids = [new_id(filling.now - timedelta(days=DAYS)) for _ in range(count)]
    for start in range(0, count, CHUNK):
        some = ids[start : start + CHUNK]
        keys = filling.vault.author_keys(some, filling.now)
        rows = [
            {
                "id": author,
                "client": CLIENT,
                "reference_digest": filling.vault.digest("author", CLIENT, f"acct-{start + number}"),
                "reference": keys[author].encrypt(
                    f"acct-{start + number}".encode(), "authors", "reference", str(author)
                ),
                "created_at": filling.now - timedelta(days=DAYS),
            }
            for number, author in enumerate(some)
        ]
        with transaction(filling.databases.content) as session:
            insert_many(session, Author, rows)
    return ids


def _chunk(filling: _Filling, authors: Sequence[UUID], kinds: Sequence[str]) -> None:
    chance = filling.chance
    made = []
    for kind in kinds:
        at = filling.now - timedelta(days=chance.uniform(0, OPEN_DAYS if kind == "open" else DAYS))
        made.append((kind, new_id(at), at, chance.choice(authors)))
    made.sort(key=lambda one: one[1])
    keys = filling.vault.create_item_keys({item: author for _, item, _, author in made}, filling.now)
    rows: dict[type[Any], list[dict[str, Any]]] = {
        table: [] for table in (Item, Part, SignalRow, Decision, Case, Opinion, SketchRow, AuditEvent)
    }
    for kind, item, at, author in made:
        for table, row in _rows(filling, kind, item, at, author, keys[item]):
            rows[table].append(row)
    with transaction(filling.databases.content, durable=False) as session:
        for table, some in rows.items():
            insert_many(session, table, some)


def _rows(
    filling: _Filling, kind: str, item: UUID, at: datetime, author: UUID, key: Key
) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    chance, policy = filling.chance, filling.policy
    (category,) = chance.choices(list(MIX), list(MIX.values()))
    probability = chance.betavariate(2, 3)
    said, known = _said(chance)
    row = _item(filling, kind, item, at, author, key)
    yield Item, row
    content = key.encrypt(said.encode(), "parts", "content", str(item), "0")
    yield (
        Part,
        {
            "item_id": item, "position": 0, "name": "body", "kind": "text", "media_type": "text/plain",
            "size": len(said), "content": content, "blob": None,
        },
    )  # fmt: skip
    scores = {name: round(chance.betavariate(1, 8), 5) for name in MIX} | {category: round(probability, 5)}
    yield (
        SignalRow,
        {
            "item_id": item, "part": "body", "detector": "text-minilm", "version": "1", "status": "ok",
            "scores": scores, "evidence": {},
        },
    )  # fmt: skip
    machine = _decision(filling, item, author, at, Route.ALLOW if kind == "machine" else Route.REVIEW)
    machine |= {"category": category, "findings": _findings(scores)}
    yield AuditEvent, _event(item, at, machine["id"])
    if kind != "machine":
        draft = CaseDraft(
            CaseReason.UNCERTAIN if chance.random() < 0.98 else CaseReason.AUDIT,
            category,
            policy.categories[category].severity,
            probability,
        )
        yield from _case(filling, kind, Item(**row), machine, draft, at)
        if not filling.sketches:
            yield Decision, machine
            return
        sketched = known or Sketch(SketchKind.TEXT, tuple(chance.randbytes(8 * ROWS) for _ in range(BANDS)))
        for band in clusters.rows(filling.vault, item, [("body", sketched)]):
            yield SketchRow, band
    yield Decision, machine


def _case(
    filling: _Filling, kind: str, item: Item, machine: dict[str, Any], draft: CaseDraft, at: datetime
) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    case = case_row(filling.policy, item, machine["id"], draft, at) | {"closed_at": None}
    if kind == "closed":
        judged = min(filling.now, at + timedelta(hours=filling.chance.expovariate(1 / 20)))
        route = filling.chance.choice((Route.ALLOW, Route.ALLOW, Route.LIMIT, Route.REMOVE))
        person = filling.chance.choice(filling.people)
        decision = _decision(filling, item.id, item.author_id, judged, route)
        decision |= {
            "category": None if route is Route.ALLOW else draft.category, "decided_by": DecidedBy.PERSON,
            "supersedes": machine["id"], "person_id": person, "case_id": case["id"],
        }  # fmt: skip
        machine["superseded_at"] = judged
        case |= {"state": CaseState.CLOSED, "closed_at": judged}
        yield Decision, decision
        yield (
            Opinion,
            {
                "id": new_id(judged), "case_id": case["id"], "item_id": item.id, "author_id": item.author_id,
                "person_id": person, "form_key": new_id(judged), "stage": "review", "verdict": str(route),
                "category": decision["category"], "score_shown": True, "late": False, "propensity": 1.0,
                "policy_version": filling.policy.version, "given_at": judged, "decision_id": decision["id"],
            },
        )  # fmt: skip
    yield Case, case


def _item(filling: _Filling, kind: str, item: UUID, at: datetime, author: UUID, key: Key) -> dict[str, Any]:
    chance = filling.chance
    external = f"post-{item.hex}"
    details = {"external_id": external, "thread": f"thread-{chance.randrange(10**5)}", "parent": None}
    return {
        "id": item, "client": CLIENT, "author_id": author,
        "external_digest": filling.vault.digest("external", CLIENT, external),
        "details": key.encrypt(json.dumps(details).encode(), "items", "details", str(item)),
        "kind": "comment", "language": chance.choice(LANGUAGES), "reach": round(10 ** chance.gauss(log10(100), 1)),
        "posted_at": at, "received_at": at, "callback_id": None, "lane": Lane.LIVE, "state": ItemState.DONE,
        "attempts": 1, "not_before": at, "retention_class": "waiting" if kind == "open" else "allowed",
        "decided_at": None if kind == "open" else at, "expires_at": filling.now + timedelta(days=40),
    }  # fmt: skip


def _decision(filling: _Filling, item: UUID, author: UUID, at: datetime, route: Route) -> dict[str, Any]:
    return {
        "id": new_id(at), "item_id": item, "author_id": author, "client": CLIENT, "route": str(route),
        "category": None, "reasons": ["harassment 0.41 lies between allow below 0.40 and limit from 0.90"],
        "findings": [], "detectors": [{"name": "text-minilm", "version": "1", "status": "ok"}],
        "decided_by": DecidedBy.MACHINE, "policy_version": filling.policy.version, "decided_at": at,
        "effective_at": at, "supersedes": None, "superseded_at": None, "person_id": None, "case_id": None,
    }  # fmt: skip


def _findings(scores: dict[str, float]) -> list[dict[str, Any]]:
    top = sorted(scores.items(), key=lambda one: -one[1])[:3]
    return [
        {
            "category": name,
            "probability": round(score, 4),
            "part": "body",
            "detector": "text-minilm",
            "version": "1",
        }
        for name, score in top
    ]


def _event(item: UUID, at: datetime, decision: UUID) -> dict[str, Any]:
    return {
        "id": new_id(at), "at": at, "actor": "machine", "action": "item.decided", "subject": "item",
        "subject_id": str(item), "details": {"decision": str(decision)},
    }  # fmt: skip


def _said(chance: random.Random) -> tuple[str, Sketch | None]:
    """A text, and its sketch if it is one of the campaigns that make up a tenth of everything."""
    if chance.random() < 0.1:
        campaign = min(int(chance.paretovariate(0.8)), 5000)
        return f"Campaign {campaign}: come and see what everybody else has seen before you.", _campaign(
            campaign
        )
    return " ".join(sentence(chance) for _ in range(chance.randint(1, 3))), None


@lru_cache(maxsize=5001)
def _campaign(number: int) -> Sketch:
    return sketch.of_text(f"Campaign {number}: come and see what everybody else has seen before you.")
