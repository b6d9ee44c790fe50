"""How much of what comes in breaks a rule, from the few items that people judged blind.

Items are drawn by stratum. How many there are of each is known, so that only the share within one has to be
estimated: from its blind checks, each counting for the items it stands for (`estimates.share_wrong`). The shares
are added up by the sizes of the strata. The interval is put together from theirs, the reach of each squared and
added (Zou, Huang and Zhang, "A note on confidence interval estimation for a linear function of binomial
proportions", 2009): unlike one made of a variance it stays honest where no check of a stratum found anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from moderation.domain.estimates import Estimate, share_wrong


@dataclass(frozen=True, slots=True)
class Stratum:
    """One stratum: its `items`, and of those that were judged (probability of being drawn, whether they break it).

    `everything`: people judge all of it, so that nothing is left to chance once they have.
    """

    items: int
    judged: Sequence[tuple[float, bool]]
    everything: bool = False


def prevalence(strata: Sequence[Stratum]) -> Estimate:
    """The share of all items that break a rule, with its 95 % interval.

    A stratum of which nobody has judged anything says nothing, and is left out; `covered` says of how much.
    """
    known = [(one, share_wrong(one.judged)) for one in strata if one.items and one.judged]
    total = sum(one.items for one, _ in known)
    if not total:
        return Estimate(0, 0)
    share, below, above = 0.0, 0.0, 0.0
    for one, found in known:
        part = one.items / total
        middle, low, high = found.share or 0.0, found.low or 0.0, found.high or 0.0
        # What is left to judge of a stratum of which people judge all: nothing, in the end.
        left = max(0.0, 1 - found.checked / one.items) if one.everything else 1.0
        share += part * middle
        below += left * (part * (middle - low)) ** 2
        above += left * (part * (high - middle)) ** 2
    checked, wrong = sum(found.checked for _, found in known), sum(found.wrong for _, found in known)
    return Estimate(checked, wrong, share, max(0.0, share - sqrt(below)), min(1.0, share + sqrt(above)))


def covered(strata: Sequence[Stratum]) -> float:
    """The share of all items whose stratum somebody has judged anything of."""
    total = sum(one.items for one in strata)
    return sum(one.items for one in strata if one.judged) / total if total else 0.0
