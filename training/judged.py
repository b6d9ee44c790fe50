"""Labels of people out of sealed bundles, with what a manifest says of where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from moderation import bundles
from training.common import TrainingError


@dataclass(frozen=True, slots=True)
class Judged:
    """What people found of one item: per category 1 or 0, absent where nobody judged.

    `propensity` is the probability with which it came before people, by way of `source`; `text` is empty where only
    its vector left.
    """

    text: str
    labels: Mapping[str, int]
    propensity: float = 1.0
    agreement: str = "single"
    source: str = "review"
    policy_version: int = 0
    score_shown: bool = False
    client: str | None = None


def of_row(row: Mapping[str, Any]) -> Judged:
    """A row of a bundle whose shape is known to be right."""
    return Judged(
        row.get("text") or "",
        row["labels"],
        float(row["propensity"]),
        str(row.get("agreement", "single")),
        str(row.get("source", "unknown")),
        int(row["policy_version"]),
        bool(row["score_shown"]),
        row.get("client"),
    )


def read(path: Path, key_path: Path | None, now: datetime) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """How a manifest names a bundle, by id and SHA-256, and its rows; its key lies beside it unless it is given.

    Raises:
        TrainingError: it does not open, or has ended.
    """
    try:
        header = bundles.header_of(path)
        secret = bundles.read_key(key_path or path.with_name(f"{path.name}.key"), header.id)
        rows = list(bundles.read(path, secret, now))
    except bundles.BundleError as error:
        raise TrainingError(error.detail) from error
    return {"id": str(header.id), "sha256": header.manifest_sha256}, rows


def lineage(rows: Sequence[Judged], categories: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of the labels: how many, by source, agreement and policy version, and per category."""
    by = {
        "by_source": Counter(row.source for row in rows),
        "by_agreement": Counter(row.agreement for row in rows),
        "by_policy_version": Counter(str(row.policy_version) for row in rows),
    }
    return {
        "rows": len(rows),
        "score_shown": sum(row.score_shown for row in rows),
        **{name: dict(sorted(found.items())) for name, found in by.items()},
        "by_category": {
            category: {
                "yes": sum(row.labels.get(category) == 1 for row in rows),
                "no": sum(row.labels.get(category) == 0 for row in rows),
            }
            for category in categories
        },
    }


def learned_from(dataset: Mapping[str, Any], train: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Every bundle that is in the weights: of this run, and of those it began with."""
    found, began = list(dataset.get("bundles", [])), train.get("began_with")
    while began:
        found += [one for one in began.get("bundles", []) if one not in found]
        began = began.get("began_with")
    return found
