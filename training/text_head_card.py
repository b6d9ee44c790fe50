"""The card of a text head, written from its manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEMPLATE = """\
# {name} {version}

**What it is.** A small linear correction of the text model `{base}` {base_version}, fitted on what the people of
this installation decided. It adds to what the base says: a weighted sum of the base's own log-odds, and of the
base's vector of each stretch of text the one that says most. It serves only beside that version of the base, in
the base's own pass.

**For whom.** {clients} There it takes the base's place in {categories}.

**What it was fitted on.** {rows} judged texts: {sources}; {agreement}; judged under policy {policies}. In {shown}
of them somebody saw a score before judging. {bundles} Texts that nearly equal each other are on one side of
the split together. A row counts for as many items as its propensity says, {heaviest:g} at most, and for less
where one person alone judged. Three quarters fitted and calibrated it, by cross-validation; the last quarter
measured it.

{labels}

**Measured** on the last quarter, by weight, with 95 % bootstrap intervals. "Less the base" is on the same rows:
an AUC above nought ranks better, a Brier score below nought means smaller errors.

{measured}
{champion}
**How far the labels moved it.** {freedom}

**What it does not say.** Anything of languages and kinds of text that were not judged, and more than its base of
languages that the base does not know. Labels from review are the uncertain cases: only blind checks, by their
propensities, speak for what is posted. A certificate is proved on such checks and not on these numbers.

**Golden sentences** are those of the base.

**Licence.** See `LICENSE.txt`.
"""


def card(manifest: Mapping[str, Any]) -> str:
    """MODEL_CARD.md of a manifest's document."""
    training, metrics, given = manifest["training"], manifest["metrics"], manifest["input"]
    labels, categories = training["labels"], list(given["heads"])
    return TEMPLATE.format(
        name=manifest["name"],
        version=manifest["version"],
        base=given["base"]["name"],
        base_version=given["base"]["version"],
        clients=f"What {_listed(given['clients'])} posts." if given["clients"] else "Everybody's posts.",
        categories=_listed(categories),
        rows=labels["rows"],
        sources=_counted(labels["by_source"], "from"),
        agreement=_counted(labels["by_agreement"], ""),
        policies=_listed([f"{version} ({n})" for version, n in labels["by_policy_version"].items()]),
        shown=labels["score_shown"],
        bundles=_bundles(training["bundles"]),
        heaviest=training["heaviest"],
        labels=_labels(categories, metrics),
        measured=_measured(categories, metrics),
        champion=_champion(metrics.get("champion")),
        freedom=" ".join(_freedom(category, training["freedom"][category]) for category in categories),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _counted(counts: Mapping[str, int], word: str) -> str:
    return ", ".join(f"{n} {word} {name}".replace("  ", " ") for name, n in counts.items())


def _bundles(read: Sequence[Mapping[str, str]]) -> str:
    named = _listed([f"`{one['id']}`" for one in read])
    return f"They came in the sealed bundles {named}." if read else "They came in no sealed bundle."


def _labels(categories: Sequence[str], metrics: Mapping[str, Any]) -> str:
    lines = [
        "| category | fitted on, yes | no | measured on, yes | no | worth as much as |",
        "|---|---|---|---|---|---|",
    ]
    for category in categories:
        fit, measure = metrics["parts"][category]["fit"], metrics["parts"][category]["measure"]
        worth = metrics["held_out"][category]["effective"]
        cells = (category, fit["yes"], fit["no"], measure["yes"], measure["no"], f"{worth:.0f} rows")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _measured(categories: Sequence[str], metrics: Mapping[str, Any]) -> str:
    lines = ["| category | | AUC | AP | ECE | Brier |", "|---|---|---|---|---|---|"]
    for category in categories:
        for name, part in (("head", "held_out"), ("base", "base"), ("head less the base", "less_base")):
            if (found := metrics[part].get(category)) is not None:
                cells = [_interval(found.get(one)) for one in ("auc", "ap", "ece", "brier")]
                lines.append(f"| {category} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _champion(found: Mapping[str, Any] | None) -> str:
    if found is None or not found["less"]:
        return ""
    said = "; ".join(
        f"{category}: " + ", ".join(f"{name.upper()} {_interval(values[name])}" for name in ("auc", "ap"))
        for category, values in found["less"].items()
    )
    return (
        f"\nLess those of {found['name']} {found['version']} on the same rows: {said}. "
        "Rows that measure never fit, in no round of this seed, so it has not seen them either.\n"
    )


def _freedom(category: str, taken: Mapping[str, float]) -> str:
    if not taken["vector"] and not taken["scores"]:
        return f"In {category} only its calibration: on held-out folds nothing more was worth its risk."
    fell = f"the loss on held-out folds fell from {taken['prior']:.3f} to {taken['taken']:.3f}"
    return f"In {category}, as variances, {taken['vector']:g} by vectors and {taken['scores']:g} by scores: {fell}."


def _interval(values: Sequence[float] | None) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})" if values else ""
