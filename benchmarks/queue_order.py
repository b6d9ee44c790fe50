"""In which order a queue that can't keep up is best worked off: `python -m benchmarks.queue_order [--seeds N]`.

A simulation of two weeks (or of `--hours`) in which a fifth more cases arrive than people can decide. The order is
the service's own: `domain.cases.priority`, `is_urgent` and `turns`. What is assumed:

- cases arrive as a Poisson process; people decide `PER_HOUR` of them, each in exponentially distributed time;
- categories as `MIX` says, severities and promised deadlines from the default policy; the calibrated probability of
  a case is drawn from Beta(2, 3), as those between two thresholds lie, and its reach from a log-normal distribution
  with a median of 100 readers and a standard deviation of one order of magnitude;
- of its readers, half have read a post within `HALF_LIFE` hours, half of the others within as many again.

*Harm-views left* is the share of what would be read, weighted by probability and severity, that was read before
the decision. The wait counts every case, those that still wait at the end with their wait so far.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from math import log, log10

from moderation.domain import cases
from moderation.domain.cases import CaseReason, Turn
from moderation.domain.policy import Policy
from moderation.governance import policies

PER_HOUR = 60.0
OVERLOAD = 1.2
HOURS = 336.0
HALF_LIFE = 12.0
MIX: Mapping[str, float] = {
    "spam": 0.25, "harassment": 0.25, "sexual": 0.12, "hate": 0.10, "fraud": 0.10, "violence": 0.07,
    "threat": 0.03, "self_harm": 0.03, "misinformation": 0.03, "illegal_goods": 0.02,
}  # fmt: skip
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A case: when it came (hours), what it may do, and by when it is promised (None if it is not)."""

    at: float
    probability: float
    severity: int
    reach: int
    deadline: float | None

    @property
    def harm(self) -> float:
        """Expected harmful readings over its whole life."""
        return self.probability * self.severity * self.reach


@dataclass(frozen=True, slots=True)
class Order:
    """How the next case is chosen: the key of the harm index (smallest first), the share for the oldest."""

    name: str
    key: Callable[[Arrival], float]
    oldest_share: float = 0.0
    urgent: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """Share of harm-views that happened, p99 wait and median wait in hours, share of deadlines missed."""

    left: float
    p99: float
    median: float
    missed: float


def _as_built(one: Arrival) -> float:
    return -cases.priority(one.probability, one.severity, one.reach)


ORDERS = (
    Order("first in, first out", lambda one: one.at, urgent=False),
    Order("by expected harm", _as_built),
    Order("with the floor, 0.05", _as_built, 0.05),
    Order("with the floor, 0.1", _as_built, 0.1),
    Order("with the floor, 0.2", _as_built, 0.2),
)
# What else could be an index: none of them needs a key that changes while a case waits.
ALTERNATIVES = (
    Order("reach itself, floor 0.1", lambda one: -one.harm, 0.1),
    Order(
        "remaining reach, floor 0.1", lambda one: -log(max(one.harm, 1e-9)) - one.at * log(2) / HALF_LIFE, 0.1
    ),
    Order("no floor, a point of priority for 24 h", lambda one: _as_built(one) + one.at / 24),
    Order("no floor, a point of priority for 96 h", lambda one: _as_built(one) + one.at / 96),
)


def main() -> int:
    """Simulate and print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--hours", type=float, default=HOURS)
    options = parser.parse_args()
    policy = policies.read(policies.default_document(), 1)
    for orders in (ORDERS, ALTERNATIVES):
        print("\n| order | harm-views left | p99 wait, h | median wait, h | deadlines missed |")
        print("|---|---|---|---|---|")
        for order in orders:
            results = [simulate(policy, order, seed, options.hours) for seed in range(options.seeds)]
            print(
                f"| {order.name} | {_interval([100 * one.left for one in results])} % "
                f"| {_interval([one.p99 for one in results])} | {_interval([one.median for one in results])} "
                f"| {_interval([100 * one.missed for one in results])} % |"
            )
    return 0


def simulate(policy: Policy, order: Order, seed: int, hours: float = HOURS) -> Result:
    """One run. The same seed gives every order the same cases, the same speed of work and the same dice."""
    arrivals = list(arrive(policy, random.Random(seed), hours))
    decided = list(_worked_off(arrivals, order, random.Random(seed + 1_000_000), hours))
    waits = [end - one.at for one, end in zip(arrivals, decided, strict=True)]
    read = sum(one.harm * _read(wait) for one, wait in zip(arrivals, waits, strict=True))
    whole = sum(one.harm * _read(hours - one.at) for one in arrivals)
    promised = [(one, end) for one, end in zip(arrivals, decided, strict=True) if one.deadline is not None]
    missed = sum(end > (one.deadline or 0.0) for one, end in promised)
    ordered = sorted(waits)
    return Result(
        read / whole, ordered[int(0.99 * len(ordered))], statistics.median(ordered), missed / len(promised)
    )


def arrive(policy: Policy, chance: random.Random, hours: float) -> Iterator[Arrival]:
    """Cases as they come, for so many hours."""
    names, weights = list(MIX), list(MIX.values())
    at = chance.expovariate(PER_HOUR * OVERLOAD)
    while at < hours:
        (name,) = chance.choices(names, weights)
        opened = _EPOCH + timedelta(hours=at)
        urgent = cases.is_urgent(policy, name, CaseReason.UNCERTAIN)
        due = (cases.deadline(policy, name, CaseReason.UNCERTAIN, opened) - _EPOCH).total_seconds() / 3600
        reach = round(10 ** chance.gauss(log10(100), 1.0))
        severity = policy.categories[name].severity
        yield Arrival(at, chance.betavariate(2, 3), severity, reach, due if urgent else None)
        at += chance.expovariate(PER_HOUR * OVERLOAD)


def _worked_off(
    arrivals: Sequence[Arrival], order: Order, chance: random.Random, hours: float
) -> list[float]:
    """When each case is decided, or the end of the run."""
    decided = [hours] * len(arrivals)
    waiting: dict[Turn, list[tuple[float, int]]] = {turn: [] for turn in Turn}
    taken = [False] * len(arrivals)
    clock, come = 0.0, 0
    while clock < hours:
        while come < len(arrivals) and arrivals[come].at <= clock:
            _enqueue(waiting, order, arrivals[come], come)
            come += 1
        chosen = _next(waiting, taken, cases.turns(order.oldest_share, chance.random()))
        if chosen is None:
            if come == len(arrivals):
                break
            clock = arrivals[come].at
            continue
        taken[chosen] = True
        clock += chance.expovariate(PER_HOUR)
        decided[chosen] = min(clock, hours)
    return decided


def _enqueue(waiting: dict[Turn, list[tuple[float, int]]], order: Order, one: Arrival, number: int) -> None:
    if order.urgent and one.deadline is not None:
        heappush(waiting[Turn.URGENT], (one.deadline, number))
    else:
        heappush(waiting[Turn.HARM], (order.key(one), number))
        heappush(waiting[Turn.OLDEST], (one.at, number))


def _next(
    waiting: dict[Turn, list[tuple[float, int]]], taken: Sequence[bool], turns: Sequence[Turn]
) -> int | None:
    for turn in turns:
        heap = waiting[turn]
        while heap:
            _, number = heappop(heap)
            if not taken[number]:
                return number
    return None


def _read(age: float) -> float:
    """The share of a post's readers that have read it by that age."""
    return float(1 - 2 ** (-age / HALF_LIFE))


def _interval(values: Sequence[float]) -> str:
    """Mean and half the width of its 95 % interval (normal approximation over seeds)."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {half:.1f}"


if __name__ == "__main__":
    sys.exit(main())
