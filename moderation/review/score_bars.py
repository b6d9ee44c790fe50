"""A machine's scores on their scale, with the thresholds that would apply to such an item now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING
from moderation.domain.routing import NOTHING_CERTIFIED, Thresholds, thresholds
from moderation.governance import holding, lineups
from moderation.review.views import ScoreBar
from moderation.storage.tables import Decision, SignalRow

Signals = Mapping[tuple[str, str], SignalRow]


def of(
    session: Session, policy: Policy, machine: Decision, signals: Signals, now: datetime
) -> tuple[ScoreBar, ...]:
    """The machine's scores against the thresholds in force now, certified ones included.

    Categories the policy has dropped are left out.
    """
    certified = _certified(session, policy, machine, now)
    bars = []
    for finding in machine.findings:
        rule = policy.categories.get(finding["category"])
        if rule is not None:
            bands = certified[rule.name].bands if rule.name in certified else rule.bands
            signal = signals.get((finding["part"], finding["detector"]))
            bars.append(
                ScoreBar(
                    rule.name,
                    finding["probability"],
                    bands.allow_below,
                    bands.limit_from,
                    bands.remove_from,
                    finding["part"],
                    finding["detector"],
                    signal.version if signal else "",
                    signal.evidence.get("view", "") if signal else "",
                )
            )
    return tuple(bars)


def _certified(
    session: Session, policy: Policy, machine: Decision, now: datetime
) -> Mapping[str, Thresholds]:
    """The certified thresholds that hold for items such as this one."""
    in_force = holding.in_force(session, policy, now)
    if not in_force.certificates:
        return NOTHING_CERTIFIED
    known = lineups.known(session)
    categories = [finding["category"] for finding in machine.findings]
    judged_by = {category: lineups.of(known, category, machine.detectors) for category in categories}
    return thresholds(policy, in_force, machine.slice or EVERYTHING, judged_by)
