"""The picture of `benchmarks.twelve_weeks`: `python -m benchmarks.weeks_plot RESULTS.json PICTURE.svg`.

Above what people and certificates do, below the true error of what is decided under certificates, with its promise.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PEOPLE, CERTIFIED, MISSED, WRONG = "#b45309", "#1d4ed8", "#0f766e", "#9d174d"


def main() -> int:
    """Draw, from the numbers that a run kept."""
    numbers, picture = Path(sys.argv[1]), Path(sys.argv[2])
    document = json.loads(numbers.read_text(encoding="utf-8"))
    draw(document["weeks"], document["options"], picture)
    return 0


def draw(weeks: list[dict[str, Any]], options: dict[str, str], picture: Path) -> None:
    """Two panels over the weeks, as SVG."""
    import matplotlib as mpl  # of the training extra

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "weeks", "font.size": 10, "axes.spines.top": False}
    from matplotlib import pyplot as plt

    number = [week["number"] for week in weeks]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
    above.bar(number, [week["opinions"] / week["comments"] for week in weeks], color=PEOPLE, alpha=0.35,
              label="opinions of people a comment")  # fmt: skip
    above.plot(number, [week["automated"] for week in weeks], "o-", color=CERTIFIED,
               label="share decided under certificates")  # fmt: skip
    for week, before in zip(weeks[1:], weeks, strict=False):
        if week["model"] != before["model"]:
            above.axvline(week["number"] - 0.5, color="#9ca3af", linestyle=":", linewidth=1)
    above.set_ylim(0, 1.25)
    above.legend(loc="upper right", frameon=False)
    above.set_title(
        "A quarter on real comments (dotted: a head learned from the labels begins to serve)", fontsize=10
    )
    for wrong, acted, colour, name, promise in (
        ("missed", "allowed", MISSED, "insults among what passed", float(options["missed"])),
        ("wrongly", "removed", WRONG, "wrong ones among removals", float(options["wrong"])),
    ):
        shown = [week for week in weeks if week[acted] >= 20]
        below.plot([week["number"] for week in shown], [week[wrong] / week[acted] for week in shown], "o-",
                   color=colour, label=name)  # fmt: skip
        below.axhline(promise, color=colour, linestyle="--", linewidth=1)
        said = f"promised: {promise:.0%} at most"
        below.text(0.5, promise, said, color=colour, va="bottom", fontsize=9)
    below.set_ylim(bottom=0)
    below.set_xlim(0.4, number[-1] + 0.6)
    below.set_xticks(number)
    below.set_xlabel("week")
    below.legend(loc="center left", bbox_to_anchor=(0, 0.5), frameon=False)
    below.set_title("True error of what machines decided by themselves", fontsize=10)
    figure.savefig(picture, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    sys.exit(main())
