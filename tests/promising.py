"""Promises for pages to show: a policy that makes some, and a certification as the service would write it down."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import yaml
from sqlalchemy.orm import Session

from moderation.domain.certificates import Checks, grid, prove
from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Occasion, Side
from moderation.governance import certification, issuing, lineups, policies
from moderation.governance.issuing import Certified
from moderation.governance.proving import Attempt

ALLOWED = {
    ("harassment", Side.ALLOW): 0.02,
    ("harassment", Side.REMOVE): 0.1,
    ("spam", Side.REMOVE): 0.05,
    ("threat", Side.ALLOW): 0.005,
}
"""What `promising` promises: of these the first two can be proved from what `certify` finds."""
KEYS = {Side.ALLOW: ("allow", "missed_at_most"), Side.REMOVE: ("remove", "wrong_at_most")}
LEVEL = 0.05 / 16 / len(ALLOWED)


def silent(document: str) -> str:
    """A policy's document that promises nothing."""
    data: dict[str, Any] = yaml.safe_load(document)
    for rule in data["categories"].values():
        for key, _ in KEYS.values():
            rule.pop(key, None)
    return yaml.safe_dump(data, sort_keys=False)


def promising(document: str) -> str:
    """A policy's document with these promises and no others."""
    data: dict[str, Any] = yaml.safe_load(silent(document))
    for (category, side), allowed in ALLOWED.items():
        rule, number = KEYS[side]
        data["categories"][category][rule] = {number: allowed}
    return yaml.safe_dump(data, sort_keys=False)


def publish(session: Session, now: datetime) -> Policy:
    """Publish what is in force with promises."""
    _, document = policies.newest_document(session)
    return policies.publish(session, promising(document), "operator", now)


def certify(session: Session, policy: Policy, now: datetime) -> Certified:
    """Write down a certification in which the promises on harassment are proved, and the others are not."""
    known = lineups.known(session)
    name, version = next(iter(sorted(lineups.with_alias(session, "champion") & _text(known))))
    found = [
        _attempt(category, side, allowed, f"{name} {version}")
        for (category, side), allowed in ALLOWED.items()
    ]
    made = Certified(
        id=None, term="", number=1, renewals=policy.certificates.renewals, at=now,
        since=now - timedelta(days=63), until=now - timedelta(days=3), level=0.05 / 16, occasion=Occasion.ASKED,
        policy_version=policy.version, attempts=tuple(found),
    )  # fmt: skip
    return issuing.write(session, policy, known, made, certification.term_of(session, now), "operator")


def _text(known: lineups.Known) -> set[tuple[str, str]]:
    return {one for one, about in known.items() if "harassment" in about.categories}


def _attempt(category: str, side: Side, allowed: float, lineup: str) -> Attempt:
    """The same traffic each time, of which much or little was checked."""
    chance = np.random.default_rng(7)
    bad = chance.random(30_000) < 0.12
    mixed = np.where(bad, chance.beta(6, 1.2, len(bad)), chance.beta(0.4, 9, len(bad)))
    scores = np.round(mixed, 4).astype(np.float64)
    propensities = np.full(len(scores), 0.2 if category == "harassment" else 0.004)
    drawn = chance.random(len(scores)) < propensities
    wrong = bad if side is Side.ALLOW else ~bad
    checks = Checks(scores[drawn], propensities[drawn], wrong[drawn].astype(np.float64))
    steps = grid(scores, propensities, side, allowed, LEVEL)
    proof = prove(checks, steps, side, allowed, LEVEL, float(propensities[0]))
    last = next((point for point in reversed(proof.curve) if point.proved), None)
    return Attempt(
        category=category, side=side, slice=EVERYTHING, lineup=lineup, allowed=allowed, level=LEVEL,
        tried=category == "harassment", threshold=proof.threshold, bound=proof.bound,
        share=last.coverage if last else None, decisions=len(scores), drawn=int(drawn.sum()), overdue=2,
        withdrawn=1, checks=proof.checks, mistakes=proof.mistakes, needed=proof.needed,
        curve=[asdict(point) for point in proof.curve], data="0" * 64,
    )  # fmt: skip
