"""The card of a head, written from its manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEMPLATE = """\
# {name} {version}

**What it is.** A linear (logistic) model over the vectors of the backbone `{backbone}` {backbone_version},
fitted on what people decided, with Platt's two numbers on top. It serves only beside that backbone.

**What it says.** One probability, for `{category}`.

**What it was fitted on.** {yes} pictures that are a yes and {no} that are a no, from a {data}. Near-duplicates
by meaning (cosine from {copy}) were left out before anything was split: {copies} pictures, and {torn} groups
that had been judged both ways. Half of the rest fitted the model, a quarter calibrated it, a quarter measured
it:
| part | yes | no |
|---|---|---|
{parts}

**Measured** on the last quarter, with 95 % bootstrap intervals:
| AUC | AP | ECE | Brier |
|---|---|---|---|
| {auc} | {ap} | {ece} | {brier} |
{champion}
**What it does not say.** What else is in a picture, and anything of pictures unlike those that were labelled.
Labels from review are the uncertain cases and no sample of what is posted: a probability is calibrated on such
rows. Look at audit draws before anything acts on a score alone.

**Golden vectors** are those of synthetic shapes.

**Licence.** See `LICENSE.txt`.
"""


def card(manifest: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a manifest's document."""
    metrics, backbone = manifest["metrics"], manifest["input"]["backbone"]
    return TEMPLATE.format(
        name=manifest["name"],
        version=manifest["version"],
        backbone=backbone["name"],
        backbone_version=backbone["version"],
        category=manifest["outputs"][0]["category"],
        yes=metrics["labelled"]["yes"],
        no=metrics["labelled"]["no"],
        data=metrics["data"],
        copy=metrics["least_cosine_of_copies"],
        copies=metrics["copies"],
        torn=metrics["torn"],
        parts="\n".join(f"| {part} | {of['yes']} | {of['no']} |" for part, of in metrics["parts"].items()),
        champion=_champion(metrics.get("champion")),
        **{name: _interval(values) for name, values in metrics["held_out"].items()},
    )


def _champion(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    said = ", ".join(f"{name.upper()} {_interval(found[name])}" for name in ("auc", "ap"))
    return f"\nLess those of {found['name']} {found['version']} on the same rows: {said}.\n"


def _interval(values: list[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
