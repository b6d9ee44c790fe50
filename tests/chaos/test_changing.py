"""Shadow, canary, promotion and rollback while posts come in: each item has one verdict, of one version."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import changing
from tests.chaos.harness import Stack


def test_no_item_is_without_a_verdict_and_none_has_two_whatever_is_changed(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", environment={"BATCH_ITEMS": "16"}) as stack:
        account = changing.run(stack, tmp_path / "versions", steady_seconds=0.5)
    assert account.faults == {}, account
    assert set(account.by_version) > set(changing.VERSIONS), "every version judged something"
    assert account.shadowed >= 100
