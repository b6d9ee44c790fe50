"""Artifacts on disk and in a process: names, whole copies, versions in their order, exchange and refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models import registry
from models.registry import MANIFEST, ArtifactError, load, newest
from models.serving import Serving, Wanted
from tests import artifacts


def wanted(folder: Path) -> Wanted:
    manifest = load(folder)
    return Wanted(manifest.name, manifest.version, manifest.kind, folder, manifest.sha256)


def rewritten(folder: Path, changes: Mapping[str, Any]) -> Path:
    document = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../text"},
        {"name": "Text"},
        {"version": "1/2"},
        {"version": ".."},
        {"kind": "sound"},
        {"files": {"../model.onnx": "0"}},
        {"files": {"/etc/hostname": "0"}},
        {"files": {MANIFEST: "0"}},
        {"outputs": "none"},
        {"version": 3},
    ],
    ids=str,
)
def test_a_manifest_that_leads_elsewhere_or_is_none_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = rewritten(artifacts.another(tmp_path, "7.0"), changes)
    with pytest.raises(ArtifactError, match="malformed"):
        load(folder)


def test_an_artifact_is_installed_whole_once_and_never_over_another(tmp_path: Path) -> None:
    manifest = load(artifacts.another(tmp_path / "made", "7.0"))
    root = tmp_path / "models"
    first = registry.install(manifest, root)
    assert first.folder == root / manifest.name / "7.0"
    assert first.sha256 == manifest.sha256
    assert registry.install(manifest, root) == first
    other = load(artifacts.another(tmp_path / "other", "7.0", note="another"))
    with pytest.raises(ArtifactError, match="version of its own"):
        registry.install(other, root)
    # What was half there is no artifact, and gives way.
    (first.folder / MANIFEST).unlink()
    assert registry.install(other, root).sha256 == other.sha256
    assert [path.name for path in (root / manifest.name).iterdir()] == ["7.0"]


def test_a_copy_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    manifest = load(artifacts.another(tmp_path / "made", "7.0"))
    (manifest.folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match="can't be written"):
        registry.install(manifest, tmp_path / "models")
    assert list((tmp_path / "models" / manifest.name).iterdir()) == []


def test_versions_are_ordered_by_their_numbers() -> None:
    assert newest(["1", "10", "9"]) == "10"
    assert newest(["1.2", "1.10", "1.9"]) == "1.10"
    assert newest(["2", "2.1"]) == "2.1"
    assert newest(["2026-11-22", "2026-02-30", "2026-11-3"]) == "2026-11-22"
    assert newest(["a", "1"]) == "1"


def test_the_version_before_is_kept_and_an_older_one_is_let_go(tmp_path: Path) -> None:
    first, second, third = (wanted(artifacts.another(tmp_path, version)) for version in ("7", "8", "9"))
    serving = Serving()
    assert serving.current().manifests == []
    assert [change.refused for change in serving.follow([first])] == [""]
    one = serving.current().text[0]
    serving.follow([second])
    (back,) = serving.follow([first])
    assert (back.before, back.wanted.version) == ("8", "7")
    assert serving.current().text[0] is one
    serving.follow([second])
    serving.follow([third])
    serving.follow([first])
    assert serving.current().text[0] is not one
    assert serving.follow([first]) == []
    serving.follow([])
    assert serving.current().manifests == []


def test_what_does_not_load_is_refused_once_and_the_old_one_serves(tmp_path: Path) -> None:
    good, bad = (wanted(artifacts.another(tmp_path, version)) for version in ("7", "8"))
    serving = Serving()
    serving.follow([good])
    held = serving.current()
    other = replace(bad, sha256="0" * 64)
    (change,) = serving.follow([other])
    assert "not the one that was added" in change.refused
    assert serving.follow([other]) == []
    assert serving.current() is held
    # Mended and asked for again, it is tried again.
    assert serving.follow([good]) == []
    assert [change.refused for change in serving.follow([bad])] == [""]


def test_an_embedding_is_checked_by_its_vectors(tmp_path: Path) -> None:
    shipped = artifacts.champion("embedding")
    serving = Serving()
    assert [change.refused for change in serving.follow([wanted(shipped.folder)])] == [""]
    assert serving.current().embedding[0].embed(["A sentence."]).shape == (1, shipped.input["dimensions"])
    turned = [entry | {"vector": [-x for x in entry["vector"]]} for entry in shipped.golden]
    (change,) = serving.follow([wanted(artifacts.another(tmp_path, "2", of=shipped, golden=turned))])
    assert "cosine" in change.refused
    lost = [{"input": entry["input"]} for entry in shipped.golden]
    (change,) = serving.follow([wanted(artifacts.another(tmp_path, "3", of=shipped, golden=lost))])
    assert "malformed" in change.refused
