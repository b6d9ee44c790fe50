"""How often machines are wrong, from the few decisions that people checked: each counts for those it stands for.

A check was drawn with a known probability, and stands for 1 / probability decisions (Horvitz and Thompson, 1952);
the share is their weighted mean (Hájek, 1971). The interval is Wilson's (1927) at an effective sample size, the
smaller of Kish's, (sum w)^2 / sum w^2, and the one that the weighted variance comes to: unequal weights make a
sample say less than its size does. It never says that nothing is ever wrong: with no error among n checks its upper
end is about 3.8 / (n + 3.8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt

Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95 % interval; None where nothing was checked."""

    checked: int
    wrong: int
    share: float | None = None
    low: float | None = None
    high: float | None = None


def share_wrong(checks: Sequence[tuple[float, bool]]) -> Estimate:
    """The share of wrong decisions, from checks as (probability of having been drawn, whether it was wrong).

    Of items and whether they break a rule in place of that it is the prevalence.
    """
    drawn = [(1 / propensity, wrong) for propensity, wrong in checks if propensity > 0]
    if not drawn:
        return Estimate(0, 0)
    total = sum(weight for weight, _ in drawn)
    share = sum(weight for weight, wrong in drawn if wrong) / total
    low, high = _wilson(share, _effective(drawn, total, share))
    return Estimate(len(drawn), sum(wrong for _, wrong in drawn), share, low, high)


def auc(judged: Iterable[tuple[float, float, bool]]) -> float | None:
    """How well scores tell what breaks a rule from what doesn't: (score, probability of being drawn, breaks it).

    The share of pairs, one of each, in which the one that breaks it has the higher score; a tie counts half. Every
    item counts for those it stands for. None if one of the two is missing.
    """
    drawn = sorted((score, 1 / propensity, bad) for score, propensity, bad in judged if propensity > 0)
    harmless, broken, pairs = 0.0, 0.0, 0.0
    for _, tied in groupby(drawn, key=lambda one: one[0]):
        weights = [(weight, bad) for _, weight, bad in tied]
        good_here = sum(weight for weight, bad in weights if not bad)
        bad_here = sum(weight for weight, bad in weights if bad)
        pairs += bad_here * (harmless + good_here / 2)
        harmless, broken = harmless + good_here, broken + bad_here
    return pairs / (harmless * broken) if harmless and broken else None


def _effective(drawn: Sequence[tuple[float, bool]], total: float, share: float) -> float:
    kish = total**2 / sum(weight**2 for weight, _ in drawn)
    variance = sum((weight * (wrong - share)) ** 2 for weight, wrong in drawn) / total**2
    return min(kish, share * (1 - share) / variance) if variance > 0 else kish


def _wilson(share: float, size: float) -> tuple[float, float]:
    middle = share + Z**2 / (2 * size)
    reach = Z * sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    scale = 1 + Z**2 / size
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)
