"""Krippendorff's alpha: how far people who judge the same things agree beyond what chance would give.

Nominal values, any number of people, missing judgements. K. Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011), section C. 1 is perfect agreement, 0 what dice would give, below 0 is worse than dice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

Pattern = tuple[tuple[Hashable, int], ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Alpha with a 95 % interval; None where nothing varies, for then nobody could have disagreed.

    `cases` were judged by two people or more, who gave `opinions` between them.
    """

    alpha: float | None
    low: float | None
    high: float | None
    cases: int
    opinions: int


def alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Alpha over `units`, each the values that different people gave to one thing; None if it is undefined."""
    return _alpha(_patterns(units))


def agreement(units: Iterable[Sequence[Hashable]], generator: Random, resamples: int = 500) -> Agreement:
    """Alpha and its bootstrap interval: `resamples` draws of as many units, with replacement.

    The interval says how much alpha hangs on which units happened to be judged twice. It knows nothing of
    units that nobody judged twice.
    """
    patterns = _patterns(units)
    names, weights = list(patterns), list(patterns.values())
    drawn = (
        Counter(generator.choices(names, weights, k=sum(weights))) for _ in range(resamples if names else 0)
    )
    found = sorted(value for value in map(_alpha, drawn) if value is not None)
    opinions = sum(times * sum(count for _, count in pattern) for pattern, times in patterns.items())
    low, high = (_quantile(found, 0.025), _quantile(found, 0.975)) if found else (None, None)
    return Agreement(_alpha(patterns), low, high, sum(weights), opinions)


def _patterns(units: Iterable[Sequence[Hashable]]) -> Counter[Pattern]:
    """How often each combination of values occurs; what fewer than two people judged says nothing."""
    counted = (Counter(values) for values in units if len(values) > 1)
    return Counter(tuple(sorted(one.items(), key=repr)) for one in counted)


def _alpha(patterns: Mapping[Pattern, int]) -> float | None:
    values: Counter[Hashable] = Counter()
    observed = 0.0
    for pattern, times in patterns.items():
        people = sum(count for _, count in pattern)
        observed += times * sum(count * (people - count) for _, count in pattern) / (people - 1)
        for value, count in pattern:
            values[value] += times * count
    total = values.total()
    expected = total * total - sum(count * count for count in values.values())
    return 1 - (total - 1) * observed / expected if expected else None


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
