"""What others wrote and every page loads: exactly the bytes that were looked at, with their licences."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from api.console import templating

VENDOR = templating.STATIC / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())["files"]


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_a_vendored_file_is_the_one_that_the_manifest_names(entry: dict[str, str]) -> None:
    content = (VENDOR / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert (VENDOR / entry["licence_file"]).read_text().strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"])


def test_nothing_is_vendored_that_the_manifest_does_not_name() -> None:
    named = {entry[key] for entry in MANIFEST for key in ("file", "licence_file")} | {"manifest.json"}
    assert {path.name for path in VENDOR.iterdir()} == named


def _own(*kinds: str) -> list[Path]:
    return [
        path
        for kind in kinds
        for folder in (templating.STATIC, templating.HERE / "templates")
        for path in folder.rglob(f"*.{kind}")
        if VENDOR not in path.parents
    ]


def test_no_page_holds_an_inline_script_or_style() -> None:
    forbidden = re.compile(
        r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|<script(?![^>]*\ssrc=)", re.IGNORECASE
    )
    for path in _own("html", "svg"):
        found = forbidden.findall(path.read_text())
        assert not found, f"{path.name}: {found}; the content security policy would refuse it"


def test_no_page_names_another_host() -> None:
    foreign = re.compile(r"""(?:src|href|url|import|fetch)\s*[=(]?\s*["'(]\s*(?:https?:)?//""")
    for path in _own("html", "css", "js", "mjs"):
        assert not foreign.search(path.read_text()), path.name


def test_an_inline_style_or_a_foreign_script_would_be_seen(tmp_path: Path) -> None:
    forbidden = re.compile(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", re.IGNORECASE)
    assert forbidden.search('<p style="color: red">')
    assert forbidden.search("<script>alert(1)</script>")
    assert not forbidden.search('<script type="module" src="/console.js"></script>')
