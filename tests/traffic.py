"""Decisions in bulk, as the pipeline leaves them behind, without an item behind any of them; and certificates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from moderation.domain import drift
from moderation.domain.decisions import DecidedBy
from moderation.domain.promises import EVERYTHING, Occasion, Side, Stratum
from moderation.governance import audit, ledger
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, CertificateRow, Certification, Decision, Opinion

MODEL = ("text-minilm", "2")
LINEUP = "text-minilm 2"
CATEGORY = "harassment"


def scores(chance: np.random.Generator, count: int, prevalence: float = 0.08) -> NDArray[np.float64]:
    """Calibrated probabilities as a model gives them: most near nothing, some near one."""
    bad = chance.random(count) < prevalence
    found = np.where(bad, chance.beta(4, 1.5, count), chance.beta(0.4, 8, count))
    return np.asarray(np.round(found, 4), dtype=np.float64)


def row(probability: float, now: datetime, policy: int = 1, **changes: Any) -> dict[str, Any]:
    """A first decision of a machine with one finding."""
    finding = {"category": CATEGORY, "probability": float(probability), "part": "body"}
    finding |= {"detector": MODEL[0], "version": MODEL[1]}
    return {
        "id": new_id(now),
        "item_id": new_id(now),
        "author_id": uuid4(),
        "client": "app",
        "route": "allow",
        "category": None,
        "reasons": [],
        "findings": [finding],
        "detectors": [{"name": MODEL[0], "version": MODEL[1], "status": "ok"}],
        "decided_by": DecidedBy.MACHINE,
        "policy_version": policy,
        "decided_at": now,
        "effective_at": now,
        "slice": EVERYTHING,
        "stratum": Stratum.FAR,
        "propensity": 0.01,
        "supersedes": None,
    } | changes


def write(session: Session, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Insert decisions with their events, as a batch of the pipeline does."""
    insert_many(session, Decision, rows)
    events = [
        audit.Event(audit.MACHINE, "item.decided", "item", str(one["item_id"]), {"decision": str(one["id"])})
        for one in rows
    ]
    audit.record(session, events, now)


def decide(databases: Databases, found: NDArray[np.float64], now: datetime, **changes: Any) -> None:
    """One decision a score, committed and numbered in the log."""
    with transaction(databases.content) as session:
        write(session, [row(one, now, **changes) for one in found], now)
    number(databases)


def number(databases: Databases) -> None:
    """Number what was committed, as the relay does every second."""
    with transaction(databases.content) as session:
        while ledger.sequence(session, 50_000):
            pass


def certificate(
    session: Session, reference: NDArray[np.float64], now: datetime, side: Side = Side.ALLOW, **changes: Any
) -> UUID:
    """A certificate as a certification leaves it, proved of traffic with the scores of `reference`; its id."""
    certification = Certification(
        id=new_id(now), term="2026-Q4", number=int(changes.pop("number", 1)), at=now, by="operator",
        cause=Occasion.ASKED, policy_version=1, level=0.05 / 16, since=now - timedelta(days=30), until=now,
        document={},
    )  # fmt: skip
    session.add(certification)
    session.flush()
    given: dict[str, Any] = {
        "id": new_id(now), "certification_id": certification.id, "policy_version": 1, "category": CATEGORY,
        "side": side, "slice": EVERYTHING, "lineup": LINEUP, "threshold": 0.30005, "allowed": 0.02, "bound": 0.019,
        "level": 0.001, "checks": 500, "mistakes": 2, "since": now - timedelta(days=30), "until": now,
        "issued_at": now, "expires_at": now + timedelta(days=35), "watched_at": now,
        "document": {"reference": drift.reference(reference).document()},
    }  # fmt: skip
    session.add(CertificateRow(**given | changes))
    session.flush()
    return UUID(str((given | changes)["id"]))


def check(
    databases: Databases,
    person: UUID,
    found: NDArray[np.float64],
    verdicts: Sequence[str],
    decided: datetime,
    closed: datetime,
    **changes: Any,
) -> None:
    """Decisions that were drawn, without events, and what a person found of each when its case was closed."""
    rows = [row(one, decided, **changes) for one in found]
    cases, opinions = [], []
    for one, verdict in zip(rows, verdicts, strict=True):
        whose = {"item_id": one["item_id"], "author_id": one["author_id"]}
        case = new_id(decided)
        cases.append(
            {"id": case, **whose, "client": "app", "decision_id": one["id"], "kind": "quality", "reason": "audit",
             "severity": 3, "priority": 1.0, "deadline": closed, "blind": True, "propensity": one["propensity"],
             "state": "closed", "opinions_wanted": 1, "opened_at": decided, "closed_at": closed}
        )  # fmt: skip
        opinions.append(
            {"id": new_id(closed), "case_id": case, **whose, "person_id": person, "form_key": uuid4(),
             "stage": "review", "verdict": verdict, "category": None if verdict == "allow" else CATEGORY,
             "score_shown": False, "late": False, "propensity": one["propensity"], "policy_version": 1,
             "given_at": closed}
        )  # fmt: skip
    with transaction(databases.content) as session:
        insert_many(session, Decision, rows)
        insert_many(session, Case, cases)
        insert_many(session, Opinion, opinions)
