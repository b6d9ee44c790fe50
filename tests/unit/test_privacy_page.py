"""docs/privacy.md: a row for each commitment, and for each row tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = 22
RESULTS = ("holds", "in part: ")
_FILE = re.compile(r"`(test_\w+\.py)`")
_LINK = re.compile(r"\]\(([\w./-]+\.md)\)")


def rows(page: str) -> dict[int, list[str]]:
    """The table of commitments: the cells of each row by its number."""
    found: dict[int, list[str]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0].isdecimal():
            assert int(cells[0]) not in found, f"row {cells[0]} stands twice"
            found[int(cells[0])] = cells[1:]
    return found


def test_each_commitment_has_its_tests_and_each_test_its_row(repository: Path) -> None:
    table = rows((repository / "docs" / "privacy.md").read_text())
    assert sorted(table) == list(range(1, ROWS + 1))
    named: set[str] = set()
    for number, (promise, feature, invariant, tests, result) in table.items():
        assert all((promise, feature, invariant)), number
        files = set(_FILE.findall(tests))
        assert any(file.startswith(f"test_row_{number:02}_") for file in files), f"row {number} has no test"
        assert result.startswith(RESULTS), f"row {number}: {result}"
        named |= files
    assert named == {path.name for path in (repository / "tests" / "privacy").glob("test_*.py")}


def test_every_page_it_leads_to_is_there(repository: Path) -> None:
    for page in (repository / "docs").glob("*.md"):
        for link in _LINK.findall(page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} leads to {link}"
