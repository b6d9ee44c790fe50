"""Plots drawn by the server as SVG. They hold marks only: words and numbers stand beside them as text.

A plot stretches with the page (`preserveAspectRatio="none"`), which letters would not survive; and under the
console's content security policy nothing may carry a style of its own, so that a mark's colour is a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from markupsafe import Markup

WIDTH, HEIGHT = 480.0, 100.0
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one name, drawn in the colour of `kind`: a class of the style sheet."""

    name: str
    kind: str
    values: Sequence[float]


def columns(title: str, description: str, labels: Sequence[str], series: Sequence[Series]) -> Markup:
    """Columns over time, one stack for each label, with the number of each in a tooltip."""
    highest = top(series)
    step = WIDTH / max(1, len(labels))
    marks = [Markup('<path class="grid" d="M0 .5H480M0 50H480M0 99.5H480"/>')]
    for index, label in enumerate(labels):
        y = HEIGHT
        for one in series:
            height = one.values[index] / highest * HEIGHT
            y -= height
            if height:
                marks.append(
                    Markup(
                        '<rect class="{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}">'
                        "<title>{}: {:,.0f} {}</title></rect>"
                    ).format(
                        one.kind, index * step + step * 0.1, y, step * 0.8, height, label,
                        one.values[index], one.name,
                    )
                )  # fmt: skip
    return _svg(title, description, Markup().join(marks), "columns")


def top(series: Sequence[Series]) -> int:
    """The upper end of the scale for `columns`: a round number that no stack passes, 4 at least."""
    stacks = [sum(values) for values in zip(*(one.values for one in series), strict=True)]
    highest = max([*stacks, 1])
    power = 1
    while power * 10 < highest:
        power *= 10
    return next(int(power * step) for step in (1, 2, 4, 6, 8, 10) if power * step >= max(highest, 4))


def stack(title: str, description: str, parts: Sequence[tuple[str, str, float]]) -> Markup:
    """One bar made of (name, kind, value) parts, as wide as the page lets it be."""
    total = sum(value for _, _, value in parts) or 1
    x, marks = 0.0, []
    for name, kind, value in parts:
        width = value / total * WIDTH
        if width:
            marks.append(
                Markup(
                    '<rect class="{}" x="{:.2f}" y="0" width="{:.2f}" height="100">'
                    "<title>{}: {:,.0f}</title></rect>"
                ).format(kind, x, max(width - 1, 0.5), name, value)
            )
        x += width
    return _svg(title, description, Markup().join(marks), "stack")


def meter(share: float, kind: str) -> Markup:
    """A small bar that fills to `share`, for a cell whose number stands beside it."""
    width = max(0.0, min(1.0, share)) * 100
    return Markup(
        '<svg class="plot meter" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" width="100" height="8" rx="2"/>'
        '<rect class="{}" width="{:.1f}" height="8" rx="2"/></svg>'
    ).format(kind, width)


def interval(value: float, low: float, high: float, least: float = 0.0, most: float = 1.0) -> Markup:
    """A value with its interval on a scale from `least` to `most`; its numbers stand beside it."""

    def place(number: float) -> float:
        return (max(least, min(most, number)) - least) / (most - least) * 100

    left, right, middle = place(low), place(high), place(value)
    return Markup(
        '<svg class="plot interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="grid" d="M0 6H100M25 1V11M50 1V11M75 1V11"/>'
        '<rect class="span" x="{:.1f}" y="4" width="{:.1f}" height="4"/>'
        '<rect class="point" x="{:.1f}" y="0" width="1.4" height="12"/></svg>'
    ).format(left, max(right - left, 0.5), max(0.0, min(98.6, middle - 0.7)))


def bands(allow_below: float, limit_from: float | None, remove_from: float) -> Markup:
    """The scale of a probability cut into what happens: allow, ask people, limit, remove."""
    asked_until = remove_from if limit_from is None else limit_from
    spans = [
        ("let", 0.0, allow_below),
        ("ask", allow_below, asked_until),
        ("lim", asked_until, remove_from),
        ("rem", remove_from, 1.0),
    ]
    marks = [
        Markup('<rect class="{}" x="{:.1f}" width="{:.1f}" height="10"/>').format(
            kind, start * 100, (end - start) * 100
        )
        for kind, start, end in spans
        if end > start
    ]
    return Markup(
        '<svg class="plot bands" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(Markup().join(marks))


def _svg(title: str, description: str, marks: Markup, kind: str) -> Markup:
    number = next(_ids)
    return Markup(
        '<svg class="plot {kind}" viewBox="0 0 480 100" preserveAspectRatio="none" role="img" '
        'aria-labelledby="plot-{number}-title plot-{number}-text"><title id="plot-{number}-title">{title}</title>'
        '<desc id="plot-{number}-text">{description}</desc>{marks}</svg>'
    ).format(kind=kind, number=number, title=title, description=description, marks=marks)
