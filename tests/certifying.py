"""Weeks of decisions with blind checks of known truth, written as the pipeline and the queue leave them behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import yaml
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Occasion, Stratum
from moderation.governance import audit, certification, policies
from moderation.governance.certification import Certified
from moderation.governance.policies import default_document
from moderation.governance.proving import Attempt
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, Decision, Opinion
from moderation.storage.vault import Vault
from tests import people, traffic
from tests.traffic import CATEGORY

DAY = timedelta(days=1)
DRAWN = 0.25
PROMISED = {"remove": {"wrong_at_most": 0.05}, "allow": {"missed_at_most": 0.02}}


def document(promises: Mapping[str, Any] = PROMISED, **changes: Any) -> str:
    """The default policy with promises for harassment alone; `changes` replace whole sections."""
    data = yaml.safe_load(default_document())
    for rule in data["categories"].values():
        for side in ("remove", "allow"):
            rule.pop(side, None)
    data["categories"][CATEGORY] |= promises
    return yaml.safe_dump(data | changes, sort_keys=False)


class Traffic:
    """An installation whose decisions and checks a test makes up; `now` is moved by hand."""

    def __init__(self, databases: Databases, vault: Vault, now: datetime) -> None:
        self.databases, self.vault, self.now = databases, vault, now
        self.chance = np.random.default_rng(7)
        self.person = people.principal(databases, vault, "moderator").person_id
        self.policy = self.publish(document())

    def publish(self, text: str) -> Policy:
        """The next version of the policy, in force at once."""
        self.now += timedelta(minutes=1)  # one version after the other
        with transaction(self.databases.content) as session:
            return policies.publish(session, text, "operator", self.now)

    def decided(
        self, at: datetime, scores: Sequence[float] | NDArray[np.float64], **changes: Any
    ) -> list[dict[str, Any]]:
        """First decisions of machines with these scores, as rows that are stored."""
        rows = [traffic.row(score, at, self.policy.version, **changes) for score in scores]
        with transaction(self.databases.content) as session:
            insert_many(session, Decision, rows)
        return rows

    def checked(
        self, rows: Sequence[Mapping[str, Any]], verdict: str | None = "allow", category: str | None = None,
        **changes: Any,
    ) -> list[UUID]:  # fmt: skip
        """A blind check of each decision, closed a day later with this verdict, open with None; the cases' ids."""
        kind = {"kind": "review", "reason": "uncertain"}
        cases, opinions = [], []
        for row in rows:
            at = row["decided_at"]
            uncertain = row["stratum"] == Stratum.UNCERTAIN
            case: dict[str, Any] = {
                "id": new_id(at), "item_id": row["item_id"], "author_id": row["author_id"], "client": "app",
                "decision_id": row["id"], "kind": "quality", "reason": "audit", "severity": 2, "priority": 1.0,
                "deadline": at + DAY, "blind": True, "propensity": row["propensity"] or 0.0, "opened_at": at,
                "state": "open" if verdict is None else "closed",
                "closed_at": None if verdict is None else at + DAY,
            }  # fmt: skip
            cases.append(case | (kind if uncertain else {}) | changes)
            if verdict is not None:
                opinions.append(self.opinion(cases[-1], verdict, category))
        with transaction(self.databases.content) as session:
            insert_many(session, Case, cases)
            insert_many(session, Opinion, opinions)
        return [case["id"] for case in cases]

    def opinion(
        self, case: Mapping[str, Any], verdict: str, category: str | None = None, **changes: Any
    ) -> dict[str, Any]:
        """An opinion on a case as its row; what restricts names the category."""
        at = changes.get("given_at", case["opened_at"] + DAY)
        return {
            "id": new_id(at), "case_id": case["id"], "item_id": case["item_id"], "author_id": case["author_id"],
            "person_id": self.person, "form_key": uuid4(), "stage": "review", "verdict": verdict,
            "category": (category or CATEGORY) if verdict != "allow" else None, "score_shown": False,
            "late": False, "propensity": case["propensity"], "policy_version": self.policy.version,
            "given_at": at, "undone_at": None,
        } | changes  # fmt: skip

    def clear(self, right: int = 500, at: datetime | None = None, **changes: Any) -> list[UUID]:
        """A day on which the machine is right: each side as many checks, of four times as many decisions."""
        at = at or self.now - 20 * DAY
        cases = []
        for low, verdict in ((True, "allow"), (False, "remove")):
            near = self.chance.beta(0.3, 60, right * 4)
            found = near if low else 1 - near
            rows = self.decided(at, np.round(found, 4), **{"propensity": DRAWN} | changes)
            cases += self.checked(rows[:right], verdict)
        return cases

    def certify(self, **options: Any) -> Certified:
        """A certification, asked for by the operator."""
        with transaction(self.databases.content) as session:
            return certification.certify(
                session, self.policy, "operator", self.now, Occasion.ASKED, **options
            )

    def tend(self) -> Certified | None:
        """What the relay does every minute, and then the decisions stand still."""
        with transaction(self.databases.content) as session:
            certification.end_outdated(session, self.policy, self.now)
        with transaction(self.databases.content) as session:
            return certification.tend(session, self.policy, self.now)


def of(certified: Certified, side: str, slice_: str = EVERYTHING, lineup: str | None = None) -> Attempt:
    """What became of one promise."""
    (found,) = [
        one
        for one in certified.attempts
        if one.side == side and one.slice == slice_ and lineup in (None, one.lineup)
    ]
    return found


def events(session: Session, action: str) -> list[Mapping[str, Any]]:
    """The details of what the audit log says of an action."""
    page = audit.page(session, audit.Query(action=action))
    return [event.details for event in page.events]
