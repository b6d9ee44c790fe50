"""Curves drawn by the server: risk over coverage, reliability, precision over recall.

As in `charts`, a plot holds marks only and stretches with the page; a table of the same numbers stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup

WIDTH, HEIGHT = 480.0, 240.0
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) of one name, joined by a line in the colour of `kind`, or with `dots` each by itself.

    `said` is one tooltip a point.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    said: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Scale:
    """How far a plot reaches to the right and up, both from 0."""

    right: float
    up: float

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point stands; what lies beyond the plot is cut off with it."""
        return x / self.right * WIDTH, (1 - y / self.up) * HEIGHT


UNIT = Scale(1.0, 1.0)


def reach(highest: float) -> float:
    """The upper end of a scale of shares: a round number that is not below `highest`, and 1 at most."""
    for digit in (0.001, 0.01, 0.1):
        for step in (1, 2, 4, 5, 6, 8, 10):
            if digit * step >= highest - 1e-12:
                return round(digit * step, 4)
    return 1.0


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage, as the pages write it."""
    return f"{value * 100:.{digits}f} %"


def plot(
    title: str,
    description: str,
    curves: Sequence[Curve],
    scale: Scale = UNIT,
    *,
    level: float | None = None,
    at: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Markup:
    """Curves over one scale; `level` draws a line across, `at` marks one point with a line down to its foot."""
    marks = [Markup('<path class="grid" d="M0 .5H480M0 60H480M0 120H480M0 180H480M0 239.5H480"/>')]
    if diagonal:
        marks.append(Markup('<path class="ideal" d="M0 240L480 0"/>'))
    if level is not None:
        _, y = scale.place(0, level)
        marks.append(Markup('<path class="promise" d="M0 {0:.1f}H480"/>').format(y))
    marks += [_drawn(one, scale) for one in curves]
    if at is not None:
        x, y = scale.place(*at)
        marks.append(Markup('<path class="foot" d="M{0:.1f} {1:.1f}V240"/>').format(x, y))
        marks.append(Markup('<path class="here" d="M{0:.1f} {1:.1f}h.01"/>').format(x, y))
    number = next(_ids)
    return Markup(
        '<svg class="plot curve" viewBox="0 0 480 240" preserveAspectRatio="none" role="img" '
        'aria-labelledby="curve-{0}-title curve-{0}-text"><title id="curve-{0}-title">{1}</title>'
        '<desc id="curve-{0}-text">{2}</desc>{3}</svg>'
    ).format(number, title, description, Markup().join(marks))


def _drawn(curve: Curve, scale: Scale) -> Markup:
    placed = [scale.place(x, y) for x, y in curve.points]
    if not placed:
        return Markup()
    line = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(placed))
    drawn = Markup() if curve.dots else Markup('<path class="line {0}" d="{1}"/>').format(curve.kind, line)
    if not (curve.dots or curve.said):
        return drawn
    # A line of no length with round ends is a dot that does not stretch with the plot.
    dot = Markup('<path class="dot {0}" d="M{1:.1f} {2:.1f}h.01"><title>{3}</title></path>')
    said = curve.said or [curve.name] * len(placed)
    return drawn + Markup().join(
        dot.format(curve.kind, x, y, words) for (x, y), words in zip(placed, said, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with the upper ends of its scales."""

    plot: Markup
    right: float = 1.0
    up: float = 1.0


def reliability(category: str, bins: Sequence[tuple[float, float, float]]) -> Figure:
    """Share of positives over mean probability, of (probability, share, rows); on the diagonal it is calibrated."""
    said = [
        f"{percent(share)} of {rows:,.0f} rows at a probability of {percent(mean)}"
        for mean, share, rows in bins
    ]
    points = [(mean, share) for mean, share, _ in bins]
    return Figure(
        plot(
            f"Reliability of {category}",
            f"{len(bins)} groups of rows; on the diagonal what it says is found. The numbers are in the table.",
            [Curve("found", "found", points, said=said)],
            diagonal=True,
        )
    )


def precision_recall(category: str, cuts: Sequence[tuple[float, float, float]]) -> Figure:
    """Precision over recall, of (threshold, precision, recall)."""
    ordered = sorted(cuts, key=lambda cut: cut[2])
    return Figure(
        plot(
            f"Precision over recall of {category}",
            f"{len(cuts)} thresholds on held-out rows. The numbers are in the table.",
            [Curve("precision", "bound", [(recall, precision) for _, precision, recall in ordered])],
        )
    )
