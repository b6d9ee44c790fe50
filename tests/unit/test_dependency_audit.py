"""`make audit` never calls what it could not look up harmless."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tool(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependency_audit", repository / ".ci" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_known_of_anything_is_clean(tool: ModuleType) -> None:
    status, lines = tool.judge({"dependencies": [{"name": "a", "version": "1", "vulns": []}]})
    assert (status, lines) == (0, ["1 packages, and no known vulnerability in any of them."])


def test_a_known_vulnerability_is_named_with_its_way_out(tool: ModuleType) -> None:
    fault = {"id": "PYSEC-1", "fix_versions": ["2"]}
    status, lines = tool.judge({"dependencies": [{"name": "a", "version": "1", "vulns": [fault]}]})
    assert (status, lines) == (1, ["a 1: PYSEC-1, fixed in 2"])


def test_what_could_not_be_looked_up_is_no_success(tool: ModuleType) -> None:
    looked_up = {"name": "a", "version": "1", "vulns": []}
    status, (line,) = tool.judge({"dependencies": [looked_up, {"name": "b", "skip_reason": "not found"}]})
    assert status == 2
    assert line.startswith("1 of 2 packages could not be looked up (b")
    assert tool.judge({"dependencies": []})[0] == 2
