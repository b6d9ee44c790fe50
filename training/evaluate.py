"""Stage 4: what the fine-tuned model is worth, per category and source, on texts it never saw."""

from __future__ import annotations

import csv
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.text import Logits
from training.calibrate import combined, ngram_logits, probabilities, torch_logits
from training.common import Matrix, Run, progress, write_json
from training.dataset import HEADS, Row, held_out_labels, labels, read
from training.metrics import (
    Metric,
    Platt,
    Vector,
    auc,
    average_precision,
    brier,
    ece,
    group_aucs,
    interval,
    power_mean,
)
from training.plots import plot_precision_recall, plot_reliability
from training.readers import CASES
from training.weighted import curves

TEMPLATES = "bias_templates_en.csv"
Score = Callable[[str, list[Row]], Logits]
"""A part's name and rows to logits (n, heads)."""

METRICS: Mapping[str, Metric] = {"auc": auc, "ap": average_precision, "ece": ece, "brier": brier}
FEWEST = 10
"""A source with fewer positives or negatives for a head gets counts and no rate of its own."""
PER_TERM = 60
"""Templates scored per identity term and side."""


def measured(metric: Metric, truth: Vector, score: Vector, resamples: int, seed: int) -> list[float | None]:
    """Value and the two ends of its 95 % interval, rounded to what they can bear."""
    low, high = interval(metric, truth, score, resamples, seed)
    return [rounded(value) for value in (metric(truth, score), low, high)]


def rounded(value: float) -> float | None:
    """Four digits, which is more than these intervals bear; None for what can't be computed."""
    return round(value, 4) if np.isfinite(value) else None


def report(
    probability: Matrix, truth: Matrix, sources: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Per head the metrics over all labelled rows, and AUC and AP per source that has both classes.

    `probability` and `truth` have shape (n, heads); NaN in `truth` means that nobody labelled.
    """
    origin = np.array(sources)
    result: dict[str, dict[str, Any]] = {}
    with progress("metrics", len(HEADS)) as advance:
        for i, head in enumerate(HEADS):
            known = ~np.isnan(truth[:, i])
            y, p, where = truth[known, i], probability[known, i], origin[known]
            entry: dict[str, Any] = {"labelled": len(y), "positives": int(y.sum())}
            if 0 < y.sum() < len(y):
                entry |= {name: measured(metric, y, p, resamples, seed) for name, metric in METRICS.items()}
            entry["sources"] = {
                str(s): by_source(y[where == s], p[where == s], resamples, seed) for s in np.unique(where)
            }
            result[head] = entry
            advance(1, head)
    return result


def curves_by_head(probability: Matrix, truth: Matrix) -> dict[str, Any]:
    """What the manifest keeps of reliability and precision over recall, per head that has both classes."""
    found = {}
    for i, head in enumerate(HEADS):
        known = ~np.isnan(truth[:, i])
        y, p = truth[known, i], probability[known, i]
        if 0 < y.sum() < len(y):
            found[head] = curves(y, p, np.ones(len(y)))
    return found


def by_source(truth: Vector, probability: Vector, resamples: int, seed: int) -> dict[str, Any]:
    """Counts, and AUC, AP and ECE where there are enough of both classes."""
    positives = int(truth.sum())
    entry: dict[str, Any] = {"labelled": len(truth), "positives": positives}
    if min(positives, len(truth) - positives) >= FEWEST:
        for name in ("auc", "ap"):
            entry[name] = measured(METRICS[name], truth, probability, resamples, seed)
        # Far from the mix that calibration was fitted on: the price of a source is to be seen, not judged.
        entry["ece"] = rounded(ece(truth, probability))
    return entry


def identity_terms(records: Sequence[Mapping[str, str]]) -> dict[str, dict[str, list[str]]]:
    """Templates by the identity term they end with and by side: term -> nontoxic, toxic -> phrases.

    The terms are read off the "verb_adj" templates, which are a verb and a term (Dixon et al. 2018).
    """
    terms = {r["phrase"].split(" ", 1)[1] for r in records if r["template"] == "verb_adj"}
    result: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"nontoxic": [], "toxic": []})
    for record in records:
        words = record["phrase"].split(" ")
        for size in (3, 2, 1):
            if (term := " ".join(words[-size:])) in terms and len(words) > size:
                result[term][record["toxicity"]].append(record["phrase"])
                break
    return dict(result)


def read_templates(path: Path) -> list[Row]:
    """An even sample of the identity templates: `source` is the term, `toxicity` the label."""
    with path.open(encoding="utf-8", newline="") as file:
        grouped = identity_terms(list(csv.DictReader(file)))
    rows = []
    for term, sides in sorted(grouped.items()):
        for side, phrases in sides.items():
            step = max(1, len(phrases) // PER_TERM)
            label = {"toxicity": int(side == "toxic")}
            rows += [Row(phrase, term, "templates", label) for phrase in phrases[::step][:PER_TERM]]
    return rows


def identity_report(rows: Sequence[Row], probability: Matrix) -> dict[str, Any]:
    """False-positive rate of each identity term at probability 0.5, and the ranking within and across terms.

    A harmless template that scores 0.5 or more for toxicity, hate or harassment counts as one. The AUCs are
    Borkan's three of each term against all others, with their generalized mean; `worst` names the lowest.
    """
    columns = [HEADS.index(head) for head in ("toxicity", "hate", "harassment")]
    toxic = labels(rows)[:, HEADS.index("toxicity")]
    terms = np.array([row.source for row in rows])
    result: dict[str, Any] = {"threshold": 0.5, "harmless": int((toxic == 0).sum()), "heads": {}}
    for column in columns:
        p = probability[:, column]
        rates = {
            str(t): round(float((p[(terms == t) & (toxic == 0)] >= 0.5).mean()), 3) for t in np.unique(terms)
        }
        worst = dict(sorted(rates.items(), key=lambda item: -item[1])[:8])
        result["heads"][HEADS[column]] = {
            "false_positive_rate": round(float((p[toxic == 0] >= 0.5).mean()), 4),
            "terms_over_10_percent": sum(rate > 0.1 for rate in rates.values()),
            "terms": len(rates),
            "worst_terms": worst,
            "auc": round(auc(toxic, p), 4),
            **group_report(terms, toxic, p),
        }
    return result


def group_report(terms: NDArray[np.str_], truth: Vector, probability: Vector) -> dict[str, Any]:
    """Subgroup, BPSN and BNSP AUC (Borkan et al. 2019): generalized mean over terms, and the five lowest."""
    found = {str(term): group_aucs(truth, probability, terms == term) for term in np.unique(terms)}
    result: dict[str, Any] = {}
    for kind in ("subgroup", "bpsn", "bnsp"):
        values = {term: getattr(aucs, kind) for term, aucs in found.items()}
        known = {term: round(value, 4) for term, value in values.items() if np.isfinite(value)}
        worst = dict(sorted(known.items(), key=lambda item: item[1])[:5])
        result[f"{kind}_auc"] = {"mean": rounded(power_mean(np.array(list(values.values())))), "worst": worst}
    return result


def hatecheck_report(rows: Sequence[Row], probability: Matrix) -> dict[str, Any]:
    """How many of HateCheck's cases are on the right side of 0.5 for hate, per functionality and over all."""
    truth, hate = labels(rows)[:, HEADS.index("hate")], probability[:, HEADS.index("hate")]
    right, names = (hate >= 0.5) == (truth == 1), np.array([row.source for row in rows])
    return {
        "cases": len(rows),
        "right": round(float(right.mean()), 4),
        "auc": rounded(auc(truth, hate)),
        "functionalities": {
            str(name): {
                "cases": int((names == name).sum()),
                "right": round(float(right[names == name].mean()), 4),
            }
            for name in np.unique(names)
        },
    }


def evaluate_held_out(
    run: Run, name: str, logits: Logits, outputs: dict[str, Platt], arguments: Namespace
) -> dict[str, Any]:
    """The report on the held-out rows, from their logits (n, heads), with its two plots."""
    rows = read(run, "evaluate")
    truth, probability = held_out_labels(rows), probabilities(logits, outputs)
    plot_precision_recall(run.path(f"precision-recall-{name}.png"), probability, truth, HEADS)
    plot_reliability(run.path(f"reliability-{name}.png"), probability, truth, HEADS)
    return report(probability, truth, [row.source for row in rows], arguments.resamples, arguments.seed)


def evaluate_elsewhere(
    run: Run, score: Score, outputs: dict[str, Platt], arguments: Namespace
) -> dict[str, Any]:
    """What only the model that ships is measured on: sources never trained on, and identity templates."""
    rows = read(run, "unseen")
    result: dict[str, Any] = {}
    if rows:
        probability = probabilities(score("unseen", rows), outputs)
        sources = [row.source for row in rows]
        result["unseen"] = report(probability, labels(rows), sources, arguments.resamples, arguments.seed)
    if rows := read(run, CASES):
        result["hatecheck"] = hatecheck_report(rows, probabilities(score(CASES, rows), outputs))
    if (arguments.data / TEMPLATES).exists():
        rows = read_templates(arguments.data / TEMPLATES)
        result["identity_templates"] = identity_report(rows, probabilities(score("templates", rows), outputs))
    return result


def main(run: Run, arguments: Namespace) -> None:
    """Measure the fine-tuned model; write `metrics-torch.json`, two plots and the record."""
    started = time.monotonic()
    fitted, rows = run.record("calibrate"), read(run, "evaluate")
    outputs = {head: Platt(found["scale"], found["shift"]) for head, found in fitted["outputs"].items()}
    encoder, ngrams = torch_logits(run, "evaluate", rows, arguments), ngram_logits(run, rows)
    logits = combined(encoder, ngrams, fitted["ngram_weights"])
    metrics = evaluate_held_out(run, "torch", logits, outputs, arguments)
    write_json(run.path("metrics-torch.json"), metrics)
    run.finish("evaluate", arguments, started, auc={head: metrics[head].get("auc") for head in HEADS})
