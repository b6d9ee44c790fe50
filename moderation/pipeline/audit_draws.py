"""The day's budget of blind checks: how much rarer than the policy's shares items are drawn, to keep to it.

Looked up once a minute from what was decided before, so that every probability is known before its item is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from moderation.domain.policy import Policy
from moderation.domain.promises import Stratum
from moderation.domain.routing import Route, Routing, audit_propensity
from moderation.storage.ids import lower_bound

EVERY = timedelta(minutes=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BURST = timedelta(minutes=5)


@dataclass(slots=True)
class Budget:
    """By how much every share is scaled, for as long as the last look is good."""

    _scale: float = 1.0
    _version: int = 0
    _until: datetime | None = None

    def scale(self, session: Session, policy: Policy, now: datetime) -> float:
        """A number from 0 to 1 to multiply every audit share with; 1 where the policy sets no budget."""
        a_day = policy.review.audit.a_day
        if a_day is None:
            return 1.0
        fresh = self._until is not None and self._until - EVERY <= now < self._until
        if not fresh or self._version != policy.version:
            self._scale = within(session, policy, a_day, now)
            self._version, self._until = policy.version, now + EVERY
        return self._scale


def within(session: Session, policy: Policy, a_day: float, now: datetime) -> float:
    """What a_day comes to as a factor of the policy's shares.

    From what the last hour's decisions would draw in a day at these shares, or the last five minutes' if that is
    more: a wave must not have used up the day before the hour has noticed. Chance draws more on some days.
    That is let be: what could not have been drawn counts as wrong in every proof (`domain.certificates`), and a few
    percent of it would end them all. Nothing once twice the day's checks are drawn.
    """
    if (session.scalar(_DRAWN, {"first": lower_bound(now - DAY)}) or 0) >= 2 * a_day:
        return 0.0
    values = {"hour": lower_bound(now - HOUR), "burst": lower_bound(now - BURST)}
    hour, burst = 0.0, 0.0
    for stratum, route, in_hour, in_burst in session.execute(_DECIDED, values):
        share = audit_propensity(policy, Routing(Route(route), None, 0.0, (), (), stratum=Stratum(stratum)))
        hour += share * in_hour
        burst += share * in_burst
    expected = max(hour * (DAY / HOUR), burst * (DAY / BURST))
    return min(1.0, a_day / expected) if expected else 1.0


_DECIDED = text("""
    SELECT stratum, route, count(*), count(*) FILTER (WHERE id >= :burst) FROM decisions
    WHERE id >= :hour AND stratum IS NOT NULL GROUP BY 1, 2
""")
_DRAWN = text("""
    SELECT count(*) FROM cases WHERE id >= :first AND (reason = 'audit' OR (kind = 'review' AND blind))
""")
