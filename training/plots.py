"""Two pictures of a model on its held-out part: precision against recall, and promised against found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.common import Matrix
from training.metrics import reliability


def plot_precision_recall(path: Path, probability: Matrix, truth: Matrix, heads: Sequence[str]) -> None:
    """Precision over recall, one line a head; `probability` and `truth` of shape (n, heads), NaN unlabelled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    for i, head in enumerate(heads):
        known = ~np.isnan(truth[:, i])
        y = truth[known, i][np.argsort(-probability[known, i])]
        if y.sum():
            hits = np.cumsum(y)
            axes.plot(hits / y.sum(), hits / np.arange(1, len(y) + 1), label=f"{head} ({int(y.sum())})")
    axes.set(
        xlabel="recall", ylabel="precision", ylim=(0, 1.02), title="Held-out rows; positives in brackets"
    )
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def plot_reliability(path: Path, probability: Matrix, truth: Matrix, heads: Sequence[str]) -> None:
    """Share of positives over mean probability in equal-mass bins, one panel a head, with counts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    for i, (head, axes) in enumerate(zip(heads, figure.subplots(2, -(-len(heads) // 2)).flat, strict=False)):
        known = ~np.isnan(truth[:, i])
        groups = reliability(truth[known, i], probability[known, i])
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        axes.plot(
            [mean for mean, _, _ in groups], [share for _, share, _ in groups], marker="o", markersize=3
        )
        axes.set(title=f"{head}: {int(known.sum())} rows, {groups[0][2]} a point", xlim=(0, 1), ylim=(0, 1))
    figure.supxlabel("mean probability")
    figure.supylabel("share of positives")
    figure.savefig(path, dpi=120)
