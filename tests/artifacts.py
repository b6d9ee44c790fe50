"""Artifacts for tests: copies of a shipped one under other versions, with the gate results that a test needs."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models import gates
from models.registry import MANIFEST, Manifest, file_sha256, load, newest, shipped, write_manifest
from models.text import TextClassifier
from models.text_heads import VECTOR, WEIGHTS
from moderation.settings import Settings
from moderation.storage.database import Databases
from moderation.storage.tables import Base
from tests import support


def champion(kind: str = "text") -> Manifest:
    """The newest artifact of this kind that ships."""
    found = {manifest.version: manifest for manifest in shipped() if manifest.kind == kind}
    return found[newest(list(found))]


def another(folder: Path, version: str, *, of: Manifest | None = None, **changes: Any) -> Path:
    """A copy of a shipped artifact under another version, without gate results; `changes` replace its keys."""
    source = of or champion()
    target = folder / source.name / version
    target.mkdir(parents=True)
    for file in source.files:
        try:
            os.link(source.folder / file, target / file)
        except OSError:
            shutil.copyfile(source.folder / file, target / file)
    shown = {key: value for key, value in source.document.items() if key not in ("gates", "waived")}
    document = {**shown, "version": version, **changes}
    (target / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return load(target).folder


def passing(folder: Path, version: str, **changes: Any) -> Path:
    """A version that passes every gate, by numbers as training writes them, unless `changes` say others."""
    made = another(folder, version, **changes)
    if "gates" not in changes:
        results = [{"name": name, "value": good(name)} for name in gates.required(load(made))]
        document = json.loads((made / MANIFEST).read_text()) | {"gates": results}
        (made / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return made


def shifted(folder: Path, version: str, by: float) -> Path:
    """A text model whose every log-odds is higher by so much: another one, whose scores are known beforehand."""
    source = champion()
    outputs = [output | {"shift": output["shift"] + by} for output in source.document["outputs"]]
    golden = [
        {**entry, "scores": {name: moved(score, by) for name, score in entry["scores"].items()}}
        for entry in source.golden
    ]
    return passing(folder, version, outputs=outputs, golden=golden)


def moved(score: float, by: float) -> float:
    """A probability whose log-odds are higher by so much."""
    return 1 / (1 + math.exp(-math.log(score / (1 - score)) - by))


def text_head(
    folder: Path,
    name: str,
    version: str,
    *,
    base: Path | None = None,
    category: str = "harassment",
    by: float = 0.0,
    clients: Sequence[str] = (),
    gated: bool = True,
) -> Path:
    """A head that says of one category what its base says, its log-odds higher by so much."""
    classifier = TextClassifier(load(base or champion().folder))
    known = list(classifier.manifest.categories)
    target = folder / name / version
    target.mkdir(parents=True)
    weights = np.zeros((1, len(known)))
    weights[0, known.index(category)] = 1.0
    vector = np.zeros((1, classifier.dimensions))
    np.savez(target / WEIGHTS, vector=vector, scores=weights, bias=np.array([by]))
    golden = []
    for sentence in (
        "A lovely day in the park.",
        "You are a fool and nobody likes you.",
        "See you on Tuesday.",
    ):
        (seen,) = classifier.seen([sentence])
        score = 1 / (1 + math.exp(-float(seen.logodds[known.index(category)]) - by))
        told = {"logodds": seen.logodds.tolist(), "vector": seen.windows[0].tolist()}
        golden.append({"text": sentence, "input": told, "scores": {category: score}})
    document: dict[str, Any] = {
        "name": name,
        "version": version,
        "kind": "text-head",
        "outputs": [{"category": category, "head": category, "scale": 1.0, "shift": 0.0}],
        "input": {
            "base": {
                "name": classifier.manifest.name,
                "version": classifier.manifest.version,
                "sha256": classifier.manifest.sha256,
            },
            "tensor": VECTOR,
            "dimensions": classifier.dimensions,
            "heads": [category],
            "scores": known,
            "clients": list(clients),
        },
        "golden": golden,
    }
    made = write_manifest(target, document, (WEIGHTS,))
    if gated:
        results = [{"name": name, "value": good(name)} for name in gates.required(made)]
        made = write_manifest(target, document | {"gates": results}, (WEIGHTS,))
    return made.folder


def good(name: str) -> float:
    """A number by which a gate is just passed."""
    limit = gates.LIMITS[name.partition(":")[0]]
    return limit.least if limit.least is not None else limit.most or 0.0


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Another file in the place of one that other folders may share."""
    (folder / name).unlink()
    (folder / name).write_bytes(data)


def signed_again(folder: Path) -> Path:
    """A manifest that fits its files again, after a test has changed them."""
    document = json.loads((folder / MANIFEST).read_text())
    document["files"] = {name: file_sha256(folder / name) for name in document["files"]}
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    return folder


@contextmanager
def put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    """What is known of models as it was before: the set-up that other tests share."""
    tables = [Base.metadata.tables[name] for name in ("models", "model_aliases")]
    with support.as_owner(databases.content) as connection:
        kept = {table.name: list(connection.execute(table.select()).mappings()) for table in tables}
    try:
        yield
    finally:
        with support.as_owner(databases.content) as connection:
            for table in tables:
                connection.execute(table.delete())
                for row in kept[table.name]:
                    connection.execute(table.insert().values(dict(row)))
        shutil.rmtree(settings.models, ignore_errors=True)
