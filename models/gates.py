"""What a version has to show before it may serve: the limits, and a check of a manifest's numbers against them.

Training measures (`training/gating.py`) and writes the numbers into the manifest's `gates`; a plain install judges
them again when a version is added, proposed and promoted, from the numbers and the table here alone. A "passed"
that stands in a manifest counts for nothing, and a gate that is left out has failed. A failed gate may be let be
only by name and with a reason (`waived`), which is shown wherever the gates are: whoever promotes answers for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import isfinite
from typing import Any

from models.registry import ArtifactError, Manifest

RUN = "run `python -m training evaluate` and then `export`, which writes them"
RUN_HEAD = "run `python -m training image-head`, which writes them"
RUN_TEXT_HEAD = "run `python -m training text-head`, which writes them"
ENOUGH = 200
"""Held-out positives from which a category's ranking and calibration are judged; of fewer they are noise."""
FEW = 10
"""Held-out positives from which what int8 costs a category is judged."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How a number is judged: by its value, or by the better end of its interval where `kindly`.

    A comparison is judged kindly: it fails only if it is surely worse. What rests on few rows is judged strictly,
    by the worse end: it passes only if it is surely good enough. With neither `least` nor `most` a number is
    recorded and never fails.
    """

    what: str
    least: float | None = None
    most: float | None = None
    kindly: bool = False
    strictly: bool = False


# The first word of a gate's name, up to a colon, finds its limit; after it stands what was measured.
LIMITS: Mapping[str, Limit] = {
    "golden_inputs": Limit("number of golden inputs", least=3),
    "functional": Limit("share of the functional suite that is right", least=0.85),
    "functional_harmless": Limit("share of its non-hateful functions that is right", least=0.80),
    "auc": Limit("ranking of held-out rows (AUC)", least=0.75),
    "ap": Limit("average precision on held-out rows"),
    "ece": Limit("calibration error on held-out rows (ECE)", most=0.03),
    "brier": Limit("Brier score on held-out rows"),
    "int8": Limit("AUC lost to int8", most=0.005),
    "subgroup_auc": Limit(
        "ranking of identity templates within a group (generalized mean of AUC)", least=0.80
    ),
    "bpsn_auc": Limit("ranking of a group's harmless templates below harmful others (BPSN AUC)", least=0.80),
    "bpsn_auc_hate": Limit(
        "ranking of a group's harmless templates below harmful others, by the score for hate", least=0.70
    ),
    "bnsp_auc": Limit("ranking of a group's harmful templates above harmless others (BNSP AUC)", least=0.80),
    "evasion": Limit("part of the recall lost to tricks that stays lost with the views", most=1 / 3),
    "evasion_clean": Limit("number of clean sentences flagged by a view alone", most=0.0),
    "champion_auc": Limit("AUC less the champion's on the same rows", least=-0.01, kindly=True),
    "champion_ap": Limit("average precision less the champion's on the same rows", least=-0.02, kindly=True),
    "latency_ms": Limit("time of one short text alone, in milliseconds"),
    "throughput": Limit("speed in batches of 32 texts of 32 tokens, in texts a second"),
    "language": Limit("ranking in a language that is not claimed (AUC)"),
    # Heads over a backbone's vectors, fitted on hundreds of pictures and not on tens of thousands.
    "head_positives": Limit("number of distinct pictures that are a yes", least=50),
    "head_negatives": Limit("number of distinct pictures that are a no", least=50),
    "head_held_out": Limit("number of held-out pictures that are a yes", least=10),
    "head_auc": Limit("ranking of held-out pictures (AUC)", least=0.70, strictly=True),
    "head_ap": Limit("average precision on held-out pictures"),
    "head_ece": Limit("calibration error on held-out pictures (ECE)", most=0.10),
    "head_brier": Limit("Brier score on held-out pictures"),
    "head_copies": Limit("number of pictures left out as near-duplicates by meaning"),
    # Heads over a text model's vectors: held to what their base says, so few labels do little harm and little good.
    "text_head_positives": Limit("number of distinct texts that are a yes", least=30),
    "text_head_negatives": Limit("number of distinct texts that are a no", least=30),
    "text_head_held_out": Limit("number of distinct held-out texts that are a yes", least=10),
    "text_head_auc": Limit("ranking of held-out texts (AUC)", least=0.70, strictly=True),
    "text_head_ap": Limit("average precision on held-out texts"),
    "text_head_ece": Limit("calibration error on held-out texts (ECE)", most=0.10, kindly=True),
    "text_head_brier": Limit("Brier score on held-out texts"),
    "text_head_base_auc": Limit("AUC less the base's on the same rows", least=-0.01, kindly=True),
    "text_head_base_brier": Limit("Brier score less the base's on the same rows", most=0.0, kindly=True),
}

REQUIRED = (
    "functional", "functional_harmless", "subgroup_auc", "bpsn_auc", "bnsp_auc", "evasion", "evasion_clean",
)  # fmt: skip
"""What every text model shows; `required` adds what it shows by category."""
REQUIRED_OF_HEADS = ("head_positives", "head_negatives", "head_held_out", "head_auc", "head_ece")
"""What every head shows, by category."""
REQUIRED_OF_TEXT_HEADS = (
    "text_head_positives", "text_head_negatives", "text_head_held_out", "text_head_auc", "text_head_ece",
)  # fmt: skip
BESIDE_THE_BASE = ("text_head_base_auc", "text_head_base_brier")
"""What a text head shows in the categories that its base knows too."""
MEASURED: Mapping[str, str] = {"text": RUN, "head": RUN_HEAD, "text-head": RUN_TEXT_HEAD}
"""Kinds that show more than their golden inputs, and how that is measured."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing a version must show: the number it showed, its limit, and a sentence for people.

    `value` is None where nothing was measured, `limit` where nothing is asked; `low` and `high` are the ends of a
    95 % interval. `waived` is the reason for which a failed gate is let be.
    """

    name: str
    value: float | None
    limit: float | None
    passed: bool
    sentence: str
    low: float | None = None
    high: float | None = None
    waived: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


RESULTS = "results"
"""Stands for every gate where none was measured. One waiver is for one gate: this one can't be waived."""


def check(manifest: Manifest, waived: Mapping[str, str] | None = None) -> list[Gate]:
    """Every gate of the manifest, judged again, with those it lacks as failed.

    `waived` adds to what the manifest itself says is waived: gates by name, each with a reason.

    Raises:
        ArtifactError: the gates are malformed, or a waiver is.
    """
    gates = [judge("golden_inputs", len(manifest.golden))]
    if manifest.kind in MEASURED and not measured(manifest):
        sentence = f"{_called(manifest)} holds no gate results; {MEASURED[manifest.kind]}."
        gates.append(Gate(RESULTS, None, None, passed=False, sentence=sentence))
    else:
        gates += _judged(manifest)
        known = {gate.name for gate in gates}
        gates += [judge(name, None) for name in required(manifest) if name not in known]
    reasons = manifest.document.get("waived", {})
    if not isinstance(reasons, Mapping):
        raise ArtifactError(f"What {_called(manifest)} waives is malformed: name gates, each with a reason.")
    return _with_waivers(gates, {**reasons, **(waived or {})})


def measured(manifest: Manifest) -> bool:
    """Whether the manifest holds gate results at all."""
    return bool(manifest.document.get("gates"))


def failures(gates: Iterable[Gate]) -> list[Gate]:
    """Those for which the version may not serve: neither passed nor waived."""
    return [gate for gate in gates if not gate.passed and gate.waived is None]


def required(manifest: Manifest) -> list[str]:
    """The names of the gates that the manifest must have beside its golden inputs; texts and heads have some.

    Raises:
        ArtifactError: the held-out metrics, which say where there is enough to judge, are malformed.
    """
    if manifest.kind == "head":
        return [f"{name}:{category}" for name in REQUIRED_OF_HEADS for category in manifest.categories]
    if manifest.kind == "text-head":
        known = {c: c in manifest.input.get("scores", ()) for c in manifest.categories}
        names = [f"{name}:{c}" for name in REQUIRED_OF_TEXT_HEADS for c in known]
        return names + [f"{name}:{c}" for name in BESIDE_THE_BASE for c, said in known.items() if said]
    if manifest.kind != "text":
        return []
    names = list(REQUIRED)
    try:
        names += ["bpsn_auc_hate"] if "hate" in manifest.categories else []
        metrics = manifest.document.get("metrics", {})
        int8 = metrics.get("precision", "int8") == "int8"
        for category in manifest.categories:
            positives = int(metrics.get("held_out", {}).get(category, {}).get("positives", ENOUGH))
            names += [f"auc:{category}", f"ece:{category}"] if positives >= ENOUGH else []
            names += [f"int8:{category}"] if int8 and positives >= FEW else []
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"The metrics of {_called(manifest)} are malformed: {error!r}.") from error
    return names


def judge(
    name: str, value: object, low: object = None, high: object = None, limit: float | None = None
) -> Gate:
    """A number by its limit in the table; where the table has none, `limit` is the most allowed.

    What is no finite number was not measured.

    Raises:
        ArtifactError: the table knows no such gate.
    """
    family, _, about = name.partition(":")
    if family not in LIMITS:
        raise ArtifactError(f"There is no gate {family!r}; known are {', '.join(LIMITS)}.")
    found = LIMITS[family]
    most = limit if found.least is None and found.most is None else found.most
    asked = found.least if found.least is not None else most
    title = f"The {found.what}" + (f" for {about}" if about else "")
    number, lowest, highest = _number(value), _number(low), _number(high)
    if number is None:
        sentence = f"{title} was not measured; {_measuring(family)}."
        return Gate(name, None, asked, passed=asked is None, sentence=sentence)
    passed, wanted = True, ""
    if found.least is not None:
        best = highest if found.kindly and highest is not None else number
        best = lowest if found.strictly and lowest is not None else best
        surely = " of its lower end" if found.strictly else ""
        passed, wanted = best >= found.least, f"; at least {found.least:.3g} is asked{surely}"
    elif most is not None:
        best = lowest if found.kindly and lowest is not None else number
        passed, wanted = best <= most, f"; at most {most:.3g} is asked"
    interval = "" if lowest is None or highest is None else f" ({lowest:.3g} to {highest:.3g})"
    end = "." if passed else ", so it may not serve."
    return Gate(
        name, number, asked, passed, f"{title} is {number:.3g}{interval}{wanted}{end}", lowest, highest
    )


def _judged(manifest: Manifest) -> list[Gate]:
    """The manifest's gates, from their numbers."""
    try:
        entries = [
            entry for entry in manifest.document.get("gates") or () if entry["name"] != "golden_inputs"
        ]
        gates = [
            judge(str(e["name"]), e.get("value"), e.get("low"), e.get("high"), _number(e.get("limit")))
            for e in entries
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"The gates of {_called(manifest)} are malformed: {error!r}.") from error
    if len({gate.name for gate in gates}) < len(gates):
        raise ArtifactError(f"The gates of {_called(manifest)} name one gate twice.")
    return gates


def _with_waivers(gates: list[Gate], waived: Mapping[str, str]) -> list[Gate]:
    """The reasons beside those that failed; one for a gate that passes is not needed and not shown."""
    if unknown := sorted(set(waived) - {gate.name for gate in gates if gate.name != RESULTS}):
        raise ArtifactError(
            f"There is no gate {', '.join(unknown)} to waive; waive one of those that failed."
        )
    if empty := sorted(
        name for name, reason in waived.items() if not isinstance(reason, str) or not reason.strip()
    ):
        raise ArtifactError(
            f"To waive {', '.join(empty)} takes a reason; it is shown wherever the gates are."
        )
    return [
        gate if gate.passed or gate.name not in waived else _waived(gate, waived[gate.name].strip())
        for gate in gates
    ]


def _waived(gate: Gate, reason: str) -> Gate:
    said = gate.sentence.replace(", so it may not serve.", ".")
    return replace(gate, sentence=f"{said} Waived: {reason}", waived=reason)


def _measuring(family: str) -> str:
    """What measures the gates of a family."""
    if family.startswith("text_head_"):
        return RUN_TEXT_HEAD
    return RUN_HEAD if family.startswith("head_") else RUN


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        return None
    return float(value)


def _called(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.version}"
