"""Artifacts for tests: copies of a shipped one under other versions, with the gate results that a test needs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text

from models import gates
from models.registry import MANIFEST, Manifest, file_sha256, load, newest, shipped
from moderation.settings import Settings
from moderation.storage.database import Databases
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
    tables = ("models", "model_aliases")
    with support.as_owner(databases.content) as connection:
        kept = {
            table: list(connection.execute(text(f"SELECT * FROM {table}")).mappings()) for table in tables
        }
    try:
        yield
    finally:
        with support.as_owner(databases.content) as connection:
            for table in tables:
                connection.execute(text(f"DELETE FROM {table}"))
                for row in kept[table]:
                    names = ", ".join(map(str, row))
                    values = ", ".join(f":{name}" for name in row)
                    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), dict(row))
        shutil.rmtree(settings.models, ignore_errors=True)
