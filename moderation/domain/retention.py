"""How long things live: retention classes, their clocks, and when an item is due.

A class says from when it counts, for how long, and whether the content service's "this post is gone"
ends it at once (`floor_days` 0) or only after a floor, because an appeal may still need the evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

BANK_ENTRIES_DAYS = 730  # from the last match of a bank's entry, or from when it was added
MODELS_DAYS = 180  # how long a model may serve on, once somebody whose posts it learned from was erased
RECORDS_DAYS = 1826  # five years: decisions and what belongs to them, without content


class RecordClass(StrEnum):
    """What kind of record a database column belongs to; every column declares one."""

    ITEM = "item"  # lives and dies with its item's clock (`RetentionClass` below)
    AUTHOR = "author"  # until the author's last item is gone
    DECISION = "decision"  # five years, without content
    AUDIT = "audit"  # five years
    DELIVERY = "delivery"  # ids on their way out, 30 days after delivery
    IDEMPOTENCY = "idempotency"  # keyed digests, 30 days
    SUGGESTION = "suggestion"  # 30 days
    BURST = "burst"  # keyed digests of what was said lately, an hour
    REPORTER = "reporter"  # a keyed digest and two counts, a year after the last report
    BANK = (
        "bank"  # until the entry is withdrawn or expires, or nothing has matched it for `bank_entries_days`
    )
    ACCOUNT = "account"  # while the account exists
    GOVERNANCE = "governance"  # five years: what was owed to whom, without content
    CONFIGURATION = "configuration"  # kept: the service's own set-up


class Clock(StrEnum):
    """The moment from which a class counts."""

    RECEIVED = "received"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True)
class RetentionClass:
    """A named clock: `days` from `clock`; deletion on request waits until `floor_days` have passed."""

    name: str
    clock: Clock
    days: int
    floor_days: int = 0
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Retention:
    """The classes of a policy, and which one an item has at each stage of its life."""

    classes: Mapping[str, RetentionClass]
    received: str
    review: str
    allow: str
    limit: str
    remove: str
    # What a category asks to be kept as: category -> class. Its floor is the law's, and no request shortens it.
    by_category: Mapping[str, str] = field(default_factory=dict)
    records_days: int = RECORDS_DAYS
    bank_entries_days: int = BANK_ENTRIES_DAYS
    models_days: int = MODELS_DAYS

    @property
    def statutory(self) -> Mapping[str, RetentionClass]:
        """The classes whose floor is the law's: those that a category names."""
        named = {name: self.classes[name] for name in self.by_category.values() if name in self.classes}
        return {name: one for name, one in named.items() if one.floor_days}

    @property
    def grave(self) -> Mapping[str, RetentionClass]:
        """The categories whose evidence is kept for the law's floor, each with its class."""
        return {
            category: self.statutory[name]
            for category, name in self.by_category.items()
            if name in self.statutory
        }

    def for_verdict(self, verdict: str, category_class: str | None) -> RetentionClass:
        """The class after a verdict; a category may name a graver one for what is limited or removed."""
        if category_class is not None and verdict in ("limit", "remove"):
            return self.classes[category_class]
        return self.classes[
            {"allow": self.allow, "limit": self.limit, "remove": self.remove}.get(verdict, self.review)
        ]


def due(retention_class: RetentionClass, received_at: datetime, decided_at: datetime | None) -> datetime:
    """When an item of this class expires. A clock that has not started yet counts from receipt."""
    return _start(retention_class, received_at, decided_at) + timedelta(days=retention_class.days)


def deletable_at(
    retention_class: RetentionClass,
    received_at: datetime,
    decided_at: datetime | None,
    requested_at: datetime,
) -> datetime:
    """When content may be destroyed after a request at `requested_at`: at once, or at the floor's end."""
    floor = _start(retention_class, received_at, decided_at) + timedelta(days=retention_class.floor_days)
    return max(requested_at, floor) if retention_class.floor_days else requested_at


def _start(retention_class: RetentionClass, received_at: datetime, decided_at: datetime | None) -> datetime:
    if retention_class.clock is Clock.DECIDED and decided_at is not None:
        return decided_at
    return received_at
