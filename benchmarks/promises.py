"""Are promises kept? Simulated communities of which all is known: `python -m benchmarks.promises [--draws N]`.

Prints, as the tables of docs/promises.md: how many faultless checks a promise takes; how often certificates are
broken, beside thresholds picked by the eye; a quarter of weekly certifications; labels that are wrong; traffic that
changes; MAPIE's word on the same checks; and what AUC and prevalence come to from which labels.

`--only` names one of them. All take about five minutes of one processor.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import mean, median, stdev

import numpy as np
from numpy.typing import NDArray

from moderation.domain.certificates import Checks, Grid, Proof, enough, grid, prove
from moderation.domain.drift import MeanWatch, RiskWatch, ShareWatch, reference
from moderation.domain.estimates import auc, share_wrong
from moderation.domain.promises import Side
from tests import mapie_oracle, promised
from tests.promised import Draw, Shares, Truth, World

LEVEL = 0.05
EVEN, UNEVEN = Shares(0.2, 0.2, 0.2), Shares(0.15, 0.3, 0.5)
ALLOWED = {Side.REMOVE: 0.05, Side.ALLOW: 0.01}
RENEWALS, WEEKS, WINDOW = 16, 13, 9
TOLERANCE = 0.5


def main() -> int:
    """Run all of it, or one."""
    parts: dict[str, Callable[[int], None]] = {
        "audits": lambda _: audits(),
        "draws": draws,
        "quarter": lambda count: quarter(count // 2),
        "labels": lambda count: labels(count // 2),
        "drift": changes,
        "mapie": lambda _: oracle(),
        "estimates": lambda _: estimates(),
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--only", choices=parts)
    options = parser.parse_args()
    for name, part in parts.items():
        if options.only in (None, name):
            part(options.draws)
            sys.stdout.flush()
    return 0


def table(title: str, *columns: str) -> None:
    """The head of a table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def row(*cells: object) -> None:
    """One line of it."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def percent(part: float, digits: int = 1) -> str:
    """A share as people read it."""
    return f"{100 * part:.{digits}f} %"


def certify(
    made: Draw, checks: Checks, side: Side, allowed: float, level: float, steps: int = 40
) -> tuple[Grid, Proof]:
    """As the service does it: thresholds from all decisions, the proof from the checks."""
    tried = grid(made.scores, made.propensity, side, allowed, level, steps)
    return tried, prove(checks, tried, side, allowed, level, float(made.propensity.min()))


def audits() -> None:
    """How many checks prove a promise if every single one is right."""
    promises = (0.05, 0.02, 0.01, 0.005, 0.001)
    table("Faultless checks that prove a promise", "of which confidence", *(percent(one) for one in promises))
    row("95 %, once", *(f"{enough(one, LEVEL):,}" for one in promises))
    for many in (1, 4, 12):
        level = LEVEL / RENEWALS / many
        named = f"95 % a quarter, {many} promise{'s' * (many > 1)}"
        row(named, *(f"{enough(one, level):,}" for one in promises))


@dataclass(slots=True)
class Tally:
    """What became of many draws."""

    draws: int = 0
    certified: int = 0
    broken: int = 0
    covered: float = 0.0

    def add(self, threshold: float | None, truth: Truth, allowed: float) -> None:
        """One more."""
        self.draws += 1
        if threshold is not None:
            self.certified += 1
            self.broken += truth.risk(threshold) > allowed
            self.covered += truth.coverage(threshold)

    def cells(self) -> tuple[str, str, str]:
        """Certified, automated on average, broken."""
        shares = (self.certified, self.covered, self.broken)
        certified, covered, broken = (percent(one / self.draws) for one in shares)
        return certified, covered, broken


def draws(count: int) -> None:
    """The share of broken promises, ours and those by the eye."""
    error = 1.96 * sqrt(LEVEL * (1 - LEVEL) / count)
    table(
        f"{count} draws of 20,000 decisions; at most {percent(LEVEL)} ± {percent(error)} may be broken",
        "world", "promise", "drawn", "certified", "automated", "of at most", "broken", "by the eye: broken",
    )  # fmt: skip
    for world in promised.WORLDS:
        for side in Side:
            truth, allowed = Truth.of(world, side), ALLOWED[side]
            for name, shares in (("evenly", EVEN), ("by stratum", UNEVEN)):
                ours, by_eye = Tally(), Tally()
                for seed in range(count):
                    made = promised.draw(world, 20_000, shares, np.random.default_rng(seed))
                    checks = made.checks(side)
                    steps, proof = certify(made, checks, side, allowed, LEVEL)
                    ours.add(proof.threshold, truth, allowed)
                    by_eye.add(promised.empirical(checks, steps, side, allowed), truth, allowed)
                certified, covered, broken = ours.cells()
                row(
                    world.name, f"{side} {percent(allowed, 0)}", name, certified, covered,
                    percent(truth.best(allowed)), broken, by_eye.cells()[2],
                )  # fmt: skip


def quarter(count: int) -> None:
    """Weekly certifications: the share of quarters in which a promise in force was broken at any time."""
    side, allowed, world = Side.ALLOW, 0.01, promised.CALIBRATED
    truth = Truth.of(world, side)
    ways = ("ours: confidence divided, the newest holds", "undivided, the newest holds",
            "undivided, the loosest ever holds", "by the eye, the loosest ever holds")  # fmt: skip
    broken = dict.fromkeys(ways, 0)
    covered = {way: [0.0] * WEEKS for way in ways}
    for seed in range(count):
        dice = np.random.default_rng(seed)
        weeks: list[Draw] = []
        held: dict[str, float | None] = dict.fromkeys(ways)
        failed = dict.fromkeys(ways, False)
        for week in range(WEEKS):
            weeks.append(promised.draw(world, 4_000, EVEN, dice))
            found = _weekly(joined(weeks[-WINDOW:]), side, allowed)
            for way, threshold in zip(ways, found, strict=True):
                if threshold is not None:
                    loosest = "loosest" in way and held[way] is not None
                    held[way] = max(threshold, held[way] or 0.0) if loosest else threshold
                now = held[way]
                if now is not None:
                    failed[way] |= truth.risk(now) > allowed
                    covered[way][week] += truth.coverage(now) / count
        for way in ways:
            broken[way] += failed[way]
    table(
        f"{count} quarters of {WEEKS} weekly certifications, 4,000 decisions and 800 checks a week, allow 1 %",
        "way", "quarters with a broken promise", *(f"automated, week {week}" for week in (1, 4, 8, 13)),
    )  # fmt: skip
    for way in ways:
        row(way, percent(broken[way] / count), *(percent(covered[way][week - 1]) for week in (1, 4, 8, 13)))


def _weekly(made: Draw, side: Side, allowed: float) -> Sequence[float | None]:
    checks = made.checks(side)
    _, divided = certify(made, checks, side, allowed, LEVEL / RENEWALS, 20)
    steps, whole = certify(made, checks, side, allowed, LEVEL, 20)
    eye = promised.empirical(checks, steps, side, allowed)
    return divided.threshold, whole.threshold, whole.threshold, eye


def joined(parts: Sequence[Draw]) -> Draw:
    """Several periods as one."""
    together: list[NDArray[np.float64]] = [
        np.concatenate([getattr(one, name) for one in parts]) for name in Draw.__slots__
    ]
    scores, propensity, breaks, drawn = together
    return Draw(scores, propensity, breaks.astype(bool), drawn.astype(bool))


def labels(count: int) -> None:
    """Labels that are wrong: flipped ones, and misses that people overlook."""
    allowed, side, world = 0.005, Side.ALLOW, promised.CALIBRATED
    truth = Truth.of(world, side)
    cases: list[tuple[str, float, float, bool, float]] = [
        # What people do, flipped harmless, overlooked misses, looked at twice, counted as overlooked.
        ("nobody errs", 0.0, 0.0, False, 0.0),
        ("1 % flipped, taken as they are", 0.01, 0.01, False, 0.0),
        ("1 % flipped, every miss looked at twice", 0.01, 0.01, True, 0.05),
        ("5 % flipped, every miss looked at twice", 0.05, 0.05, True, 0.1),
        ("30 % of misses overlooked, taken as they are", 0.0, 0.3, False, 0.0),
        ("30 % of misses overlooked, `overlooked: 0.3`", 0.0, 0.3, False, 0.3),
    ]
    table(
        f"{count} draws of 60,000 decisions, a fifth of them checked, allow 0.5 %",
        "checks", "certified", "automated", "broken",
    )  # fmt: skip
    for name, flipped, overlooked, twice, margin in cases:
        tally = Tally()
        for seed in range(count):
            dice = np.random.default_rng(seed)
            made = promised.draw(world, 60_000, EVEN, dice)
            found = _found(made.breaks, flipped, overlooked, twice, dice)
            _, proof = certify(made, made.checks(side, found), side, allowed * (1 - margin), LEVEL)
            tally.add(proof.threshold, truth, allowed)
        row(name, *tally.cells())


def _found(
    breaks: NDArray[np.bool_], flipped: float, overlooked: float, twice: bool, dice: np.random.Generator
) -> NDArray[np.bool_]:
    """What people say. A miss that is looked at twice counts if the second says so too, or if not, a third."""

    def look() -> NDArray[np.bool_]:
        said = dice.random(len(breaks))
        return np.where(breaks, said >= overlooked, said < flipped)

    first = look()
    return first & (look() | look()) if twice else first


def changed(world: World, odds: float) -> World:
    """The same kinds of items, but those that break the rule by so much more frequent (of odds)."""

    def scores(dice: np.random.Generator, items: int) -> NDArray[np.float64]:
        found = world.scores(dice, int(items * (odds + 2)))
        bad = dice.random(len(found)) < world.chance(found)
        keep = dice.random(len(found)) < np.where(bad, min(1.0, odds), min(1.0, 1 / odds))
        return found[keep][:items]

    def chance(found: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = np.clip(world.chance(found), 0, 1)
        return inside * odds / (inside * odds + 1 - inside)

    return World(f"{world.name}, odds times {odds}", scores, chance)


def unnoticed(world: World, share: float) -> World:
    """Scores stay as they are, but so much of what looks harmless breaks the rule: a new word nobody taught it."""
    return World(
        "a new word", world.scores, lambda scores: np.where(scores < 0.1, share, 0) + world.chance(scores)
    )


def changes(count: int) -> None:
    """Traffic that changes after certification: whether the promise breaks, and when the watches end it."""
    side, allowed, world, runs = Side.ALLOW, 0.01, promised.CALIBRATED, max(10, count // 8)
    cases = [("nothing changes", world)]
    cases += [(f"prevalence times {odds:g}", changed(world, odds)) for odds in (1.25, 2.0, 4.0)]
    cases += [("prevalence a third", changed(world, 1 / 3))]
    cases += [(f"{percent(one, 0)} more misses, same scores", unnoticed(world, one)) for one in (0.01, 0.05)]
    table(
        f"Certified on 20,000 decisions for 1 %, then 50,000 of other traffic; {runs} runs",
        "change", "broken without a watch", "true misses then", "ended by the watch", "by what",
        "decisions until then (median)",
    )  # fmt: skip
    for name, after in cases:
        truth = Truth.of(after, side, 500_000)
        risks, ends, why = [], [], []
        for seed in range(runs):
            dice = np.random.default_rng(seed)
            made = promised.draw(world, 20_000, EVEN, dice)
            _, proof = certify(made, made.checks(side), side, allowed, LEVEL)
            if proof.threshold is None:
                continue
            risks.append(truth.risk(proof.threshold))
            end = _watched(made, promised.draw(after, 50_000, EVEN, dice), proof.threshold, allowed)
            if end is not None:
                ends.append(end[0])
                why.append(end[1])
        reasons = ", ".join(f"{one} {why.count(one)}" for one in sorted(set(why)))
        row(
            name, percent(mean(one > allowed for one in risks)), percent(mean(risks), 2),
            percent(len(ends) / len(risks)), reasons, f"{median(ends):,.0f}" if ends else "",
        )  # fmt: skip


def _watched(before: Draw, after: Draw, threshold: float, allowed: float) -> tuple[int, str] | None:
    """After how many decisions which watch ends a certificate, looking after each hundred."""
    known = reference(before.scores)
    shares, rise = ShareWatch(known.shares, TOLERANCE), MeanWatch(known.mean, TOLERANCE)
    risk = RiskWatch(allowed, float(before.propensity.min()))
    states = [shares.begin(), rise.begin(), risk.begin()]
    for start in range(0, len(after.scores), 100):
        batch = slice(start, start + 100)
        scores = after.scores[batch]
        checked = after.drawn[batch] & (scores < threshold)
        states[0] = shares.update(states[0], known.counts(scores))
        states[1] = rise.update(states[1], scores)
        wrong = after.breaks[batch][checked].astype(float)
        states[2] = risk.update(states[2], wrong, after.propensity[batch][checked])
        alarms = (shares.alarm(states[0]), rise.alarm(states[1]), risk.alarm(states[2]))
        for alarm, name in zip(alarms, ("scores", "prevalence", "risk"), strict=True):
            if alarm:
                return start + 100, name
    return None


def oracle(count: int = 40) -> None:
    """MAPIE's thresholds on the same checks and the same steps."""
    table("MAPIE's Learn-then-Test on the same checks", "world", "promise", "draws", "same thresholds proved")
    for world in promised.WORLDS:
        for side in Side:
            same = 0
            for seed in range(count):
                made = promised.draw(world, 15_000, EVEN, np.random.default_rng(seed))
                checks = made.checks(side)
                steps = grid(made.scores, made.propensity, side, ALLOWED[side], LEVEL)
                said = [
                    way(checks, steps, side, ALLOWED[side], LEVEL).proved
                    for way in (mapie_oracle.ours, mapie_oracle.theirs)
                ]
                same += said[0] == said[1]
            row(world.name, f"{side} {percent(ALLOWED[side], 0)}", count, same)


def estimates(count: int = 50) -> None:
    """AUC and prevalence from review labels alone, with machine labels, and with the audit slice."""
    world = replace(promised.CALIBRATED, chance=promised.shifted(-0.5, 0.8))
    shares = Shares(0.01, 0.05, 1.0)  # people see all that is uncertain
    found: dict[str, list[tuple[float, float]]] = {}
    truths = []
    for seed in range(count):
        made = promised.draw(world, 50_000, shares, np.random.default_rng(seed))
        score, q, bad, drawn = (getattr(made, name).tolist() for name in Draw.__slots__)
        items = list(zip(score, q, bad, drawn, strict=True))
        reviewed = [(s, 1.0, b) for s, one, b, _ in items if one == 1.0]
        machine = [(s, 1.0, s >= 0.9) for s, one, _, _ in items if one < 1.0]
        audited = [(s, one, b) for s, one, b, taken in items if taken]
        sources = {
            "reviewed items alone": reviewed,
            "with machines' decisions as labels": reviewed + machine,
            "with the blind checks, each for those it stands for": audited,
        }
        truths.append((auc((s, 1.0, b) for s, _, b, _ in items) or 0.0, mean(bad)))
        for name, judged in sources.items():
            share = share_wrong([(one, b) for _, one, b in judged]).share or 0.0
            found.setdefault(name, []).append((auc(judged) or 0.0, share))
    table(
        f"Estimates from 50,000 items, mean of {count} draws ± their standard deviation",
        "from", "AUC", "prevalence",
    )  # fmt: skip
    for name, pairs in {"the truth": truths, **found}.items():
        by_auc, by_share = [one for one, _ in pairs], [one for _, one in pairs]
        row(
            name, f"{mean(by_auc):.3f} ± {stdev(by_auc):.3f}",
            f"{percent(mean(by_share), 2)} ± {100 * stdev(by_share):.2f}",
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
