"""What a candidate has to show before it is registered: suites, groups, speed and the champion, as gates.

Everything here looks at the artifact as it ships, through `models.text.TextClassifier`. The limits stand in
`models/gates.py`, where a plain install judges the same numbers again. Stage `export` writes them; for any artifact
`python -m training.gating ARTIFACT --data DATA` prints them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.gates import ENOUGH, FEW, Gate, check, failures, judge
from models.registry import CARD, ArtifactError, Manifest, load, write_manifest
from models.text import TextClassifier
from moderation.features.views import views
from training.card import card
from training.common import Matrix, Run, TrainingError, digest, progress, read_lines, write_json
from training.dataset import HEADS, Row, held_out_labels, read
from training.evaluate import TEMPLATES, identity_report, read_templates, rounded
from training.metrics import Vector, auc, average_precision, paired, wilson
from training.suites import evasion, functional

MULTILINGUAL = "multilingual.parquet"
CLEAN = functional.PATH.with_name("clean.jsonl")
PER_LANGUAGE = 600
SHORT = "Could somebody explain how to prune an apple tree?"
CHUNK = 256
TRICKED = 200
"""Harmful cases of the functional suite to which every trick is applied."""

Score = Callable[[Sequence[str]], Matrix]
"""Texts to probabilities (n, heads), one column for each of `HEADS`, NaN for a head the model has not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a candidate is to be measured: `data` may lack a file, and then what needs it is not measured."""

    data: Path
    champion: Path | None = None
    resamples: int = 500
    seed: int = 20260


def scorer(classifier: TextClassifier, title: str = "") -> Score:
    """The classifier with its categories in the order of `HEADS`, and a progress bar if there is a title."""
    named = {category: i for i, category in enumerate(classifier.manifest.categories)}

    def score(texts: Sequence[str]) -> Matrix:
        result = np.full((len(texts), len(HEADS)), np.nan)
        bar = progress(title, len(texts)) if title else nullcontext(_unseen)
        with bar as advance:
            for start in range(0, len(texts), CHUNK):
                part = texts[start : start + CHUNK]
                found = classifier.score(part)
                for column, head in enumerate(HEADS):
                    if head in named:
                        result[start : start + len(part), column] = found[:, named[head]]
                advance(len(part))
        return result

    return score


def _unseen(_: int) -> None:
    """No bar: whoever calls shows one of its own."""


def languages(score: Score, path: Path, per_language: int = PER_LANGUAGE) -> dict[str, Any]:
    """AUC of toxicity and hate per language, over a sample by hash; none of them is claimed."""
    from pyarrow import parquet  # only training has it

    by_language: dict[str, list[dict[str, Any]]] = {}
    for record in parquet.read_table(path).to_pylist():
        by_language.setdefault(record["lang"], []).append(record)
    result: dict[str, Any] = {}
    for language, records in sorted(by_language.items()):
        sample = sorted(records, key=lambda record: digest(record["text"]))[:per_language]
        found = score([record["text"] for record in sample])
        result[language] = {"rows": len(sample), "sources": sorted({r["source"] for r in sample})}
        for label, head in (("toxic", "toxicity"), ("hate", "hate")):
            truth = np.array([np.nan if r[label] is None else float(r[label]) for r in sample])
            known = ~np.isnan(truth)
            if known.any():
                value = auc(truth[known], found[known, HEADS.index(head)])
                result[language][head] = {"positives": int(truth[known].sum()), "auc": rounded(value)}
    return result


def speed(classifier: TextClassifier, repeats: int = 200) -> dict[str, float]:
    """Milliseconds of one short text alone, and texts of 32 tokens a second in batches of 32, on this machine."""
    batch = [f"{SHORT} {SHORT} Number {i}: it is nine years old now." for i in range(32)]
    classifier.score([SHORT])
    alone, together = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        classifier.score([SHORT])
        alone.append((time.perf_counter() - started) * 1000)
    for _ in range(5):
        started = time.perf_counter()
        classifier.score(batch)
        together.append(len(batch) / (time.perf_counter() - started))
    p50, p99 = np.quantile(alone, (0.5, 0.99))
    return {
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "texts_a_second": round(max(together), 1),
    }


def against_champion(
    candidate: Matrix, champion: Matrix, truth: Matrix, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Per head the differences in AUC and AP on the same rows, with their intervals; all of shape (n, heads)."""
    result: dict[str, dict[str, Any]] = {}
    for column, head in enumerate(HEADS):
        ours, theirs = candidate[:, column], champion[:, column]
        known = ~np.isnan(truth[:, column]) & ~np.isnan(ours) & ~np.isnan(theirs)
        y = truth[known, column]
        if min(y.sum(), len(y) - y.sum()) < FEW:
            continue
        result[head] = {"labelled": len(y), "positives": int(y.sum())}
        for name, metric in (("auc", auc), ("ap", average_precision)):
            found = paired(metric, y, ours[known], theirs[known], resamples, seed)
            result[head][name] = [rounded(value) for value in (found.value, found.low, found.high)]
    return result


def measure(candidate: TextClassifier, rows: Sequence[Row], asked: Asked) -> dict[str, Any]:
    """What `gates` needs beside the held-out report: suites, groups, languages, speed, and the champion on `rows`.

    Raises:
        ArtifactError: the champion's folder holds no text model.
    """
    result: dict[str, Any] = {
        "suites": suites(scorer(candidate), candidate.manifest.document.get("thresholds", {})),
        "speed": speed(candidate),
    }
    if (asked.data / TEMPLATES).exists():
        templates = read_templates(asked.data / TEMPLATES)
        found = scorer(candidate, "identity")([row.text for row in templates])
        result["identity_templates"] = identity_report(templates, found)
    if (asked.data / MULTILINGUAL).exists():
        result["languages"] = languages(scorer(candidate, "languages"), asked.data / MULTILINGUAL)
    if asked.champion is not None:
        other = TextClassifier(load(asked.champion), threads=2)
        texts = [row.text for row in rows]
        differences = against_champion(
            scorer(candidate, "candidate")(texts),
            scorer(other, "champion")(texts),
            held_out_labels(rows),
            asked.resamples,
            asked.seed,
        )
        named = {
            "name": other.manifest.name,
            "version": other.manifest.version,
            "sha256": other.manifest.sha256,
        }
        result["champion"] = {**named, "heads": differences}
    return result


def suites(score: Score, thresholds: Mapping[str, float]) -> dict[str, Any]:
    """The functional suite, and what tricks cost with and without the views that are scored beside a text.

    A head says yes from its threshold on, 0.5 where it has none.
    """
    cases = functional.load()
    found = score([case.text for case in cases])
    by_head = {head: found[:, i] for i, head in enumerate(HEADS)}
    least = np.array([thresholds.get(head, functional.THRESHOLD) for head in HEADS])
    harmful = [case for case in cases if case.label == 1 and case.head in HEADS]
    chosen = sorted(harmful, key=lambda case: digest(case.text))[:TRICKED]
    columns = [HEADS.index(case.head) for case in chosen]

    # Two sides, each plain and under every trick; 1 for a yes, since every head has its own threshold.
    with progress("tricks", 2 * (1 + len(evasion.TRICKS))) as advance:

        def answers(found: Matrix) -> Vector:
            advance(1)
            yes: Vector = said_yes(found, least)[range(len(chosen)), columns].astype(np.float64)
            return yes

        tricks = evasion.evasion_report(
            lambda texts: answers(score(texts)),
            lambda texts: answers(with_views(score, texts)),
            [case.text for case in chosen],
            [1] * len(chosen),
        )
    return {
        "thresholds": dict(zip(HEADS, map(float, least), strict=True)),
        "functional": functional.functional_report(cases, by_head, dict(thresholds)),
        "functional_at_half": functional.functional_report(cases, by_head),
        "evasion": tricks,
        "clean": clean_report(score, least),
    }


def said_yes(found: Matrix, least: Vector) -> NDArray[np.bool_]:
    """Which probabilities (n, heads) reach their head's threshold; a head that a model has not says no."""
    return np.nan_to_num(found, nan=-1.0) >= least


def with_views(score: Score, texts: Sequence[str]) -> Matrix:
    """Per text and head the highest probability of the text and of its views, as the service takes it."""
    seen = [(i, view.text) for i, text in enumerate(texts) for view in views(text)]
    result = score([*texts, *(text for _, text in seen)])
    highest = result[: len(texts)].copy()
    np.maximum.at(highest, [i for i, _ in seen], result[len(texts) :])
    return highest


def clean_report(score: Score, least: Vector) -> dict[str, Any]:
    """Clean sentences in several scripts that only a view would flag, for any head."""
    texts = [entry["text"] for entry in read_lines(CLEAN)]
    flagged = said_yes(with_views(score, texts), least) & ~said_yes(score(texts), least)
    by_head = {head: int(flagged[:, i].sum()) for i, head in enumerate(HEADS) if flagged[:, i].any()}
    return {"sentences": len(texts), "by_view_alone": int(flagged.any(axis=1).sum()), "heads": by_head}


def gates(metrics: Mapping[str, Any], latency_ms: float | None = None) -> list[Gate]:
    """The metrics of a candidate as gates; what was not measured is left to `models.gates.check` to miss.

    `latency_ms` makes the p99 of one short text a gate with that limit; without it speed is only recorded.
    """
    result = []
    for head, entry in metrics.get("held_out", {}).items():
        if entry["positives"] >= ENOUGH:
            result += [judge(f"{name}:{head}", *entry[name]) for name in ("auc", "ap", "ece", "brier")]
    if metrics.get("precision") == "int8":
        lost = metrics.get("quantisation_gate", {}).get("heads", {})
        enough = [head for head in lost if metrics["held_out"][head]["positives"] >= FEW]
        result += [judge(f"int8:{head}", lost[head]["loss"]) for head in enough]
    groups = metrics.get("identity_templates", {}).get("heads", {})
    toxicity, hate = groups.get("toxicity", {}), groups.get("hate", {})
    result += [
        judge(name, toxicity[name]["mean"])
        for name in ("subgroup_auc", "bpsn_auc", "bnsp_auc")
        if name in toxicity
    ]
    if "bpsn_auc" in hate:
        result.append(judge("bpsn_auc_hate", hate["bpsn_auc"]["mean"]))
    for head, entry in metrics.get("champion", {}).get("heads", {}).items():
        result += [judge(f"champion_{name}:{head}", *entry[name]) for name in ("auc", "ap")]
    result += _suite_gates(metrics.get("suites", {}))
    if "speed" in metrics:
        found = metrics["speed"]
        result.append(judge("latency_ms:p50", found["p50_ms"]))
        result.append(judge("latency_ms:p99", found["p99_ms"], limit=latency_ms))
        result.append(judge("throughput", found["texts_a_second"]))
    for language, entry in metrics.get("languages", {}).items():
        result.append(judge(f"language:{language}", entry.get("toxicity", {}).get("auc")))
    return result


def _suite_gates(found: Mapping[str, Any]) -> list[Gate]:
    if not found:
        return []
    result = []
    for name, part in (("functional", "overall"), ("functional_harmless", "non_hateful")):
        share = found["functional"][part]
        result.append(judge(name, share["accuracy"], *wilson(share["right"], share["cases"])))
    # Where tricks cost nothing even without views, nothing is left to lose.
    ratio = found["evasion"]["ratio"]
    result.append(judge("evasion", 0.0 if ratio is None else ratio))
    result.append(judge("evasion_clean", found["clean"]["by_view_alone"]))
    return result


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m training.gating", description=(__doc__ or "").splitlines()[0]
    )
    result.add_argument("artifact", type=Path, help="folder of the artifact to be measured")
    result.add_argument(
        "--data", type=Path, required=True, help="folder with the templates and other languages"
    )
    result.add_argument(
        "--champion", type=Path, help="artifact to compare with on the held-out rows of --run"
    )
    result.add_argument("--run", type=Path, help="run folder whose held-out rows neither was trained on")
    result.add_argument(
        "--rows", type=int, default=4_000, help="held-out rows to compare on, at most, by hash"
    )
    result.add_argument("--latency-ms", type=float, help="make the p99 of one short text a gate")
    result.add_argument("--resamples", type=int, default=500)
    result.add_argument("--threads", type=int, default=2)
    result.add_argument("--out", type=Path, help="file for the numbers, as JSON")
    result.add_argument(
        "--write", action="store_true", help="write metrics, gates and card into the artifact"
    )
    result.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="GATE=REASON",
        help="with --write: let a failed gate be",
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Measure an artifact and print its gates; 1 if it fails any."""
    options = parser().parse_args(argv)
    asked = Asked(options.data, options.champion, options.resamples)
    try:
        if (options.champion is None) != (options.run is None):
            raise TrainingError(
                "--champion needs --run, whose held-out rows the two are compared on, and --run it."
            )
        manifest = load(options.artifact)
        rows = read(Run(options.run), "evaluate") if options.run is not None else []
        rows = sorted(rows, key=lambda row: digest(row.text))[: options.rows]
        found = measure(TextClassifier(manifest, options.threads), rows, asked)
        metrics = {**manifest.document.get("metrics", {}), **found}
        judged = gates(metrics, options.latency_ms)
        if options.out is not None:
            write_json(options.out, {"metrics": found, "gates": [gate.document() for gate in judged]})
        if options.write:
            waived = dict(given.split("=", 1) for given in options.waive if "=" in given)
            judged = check(stamped(manifest, metrics, judged, waived))
    except (TrainingError, ArtifactError) as error:
        print(f"gating: {error}", file=sys.stderr)
        return 1
    for gate in judged:
        print(f"{'ok  ' if gate.passed else 'FAIL'} {gate.name}: {gate.sentence}")
    return 1 if failures(judged) else 0


def stamped(
    manifest: Manifest, metrics: Mapping[str, Any], judged: Sequence[Gate], waived: Mapping[str, str]
) -> Manifest:
    """The artifact with these metrics, gates and waivers in its manifest and card; another one, by its hash.

    Raises:
        ArtifactError: a waiver names no gate or has no reason.
    """
    document = {key: value for key, value in manifest.document.items() if key != "files"}
    document |= {"metrics": metrics, "gates": [gate.document() for gate in judged]}
    if waived:
        document["waived"] = {**document.get("waived", {}), **waived}
    check(replace(manifest, document=document))
    (manifest.folder / CARD).write_text(card(document), encoding="utf-8")
    return write_manifest(manifest.folder, document, tuple(manifest.files))


if __name__ == "__main__":
    sys.exit(main())
