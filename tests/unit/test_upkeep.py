"""The upkeep goes on whatever happens to it: without it nothing ends, and nobody would notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from moderation import upkeep

PATIENCE = 60.0


def test_upkeep_that_can_not_begin_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done, stop = threading.Event(), threading.Event()
    attempts: list[None] = []

    @contextmanager
    def opened(_settings: Any) -> Iterator[Any]:
        attempts.append(None)
        if len(attempts) == 1:
            raise PermissionError("the folder of blobs is not mounted yet")
        yield SimpleNamespace()

    monkeypatch.setattr(upkeep, "opened", opened)
    monkeypatch.setattr(upkeep, "tasks", lambda _: [upkeep.Every(0.0, done.set)])
    monkeypatch.setattr(upkeep, "AGAIN_AFTER_SECONDS", 0.01, raising=False)
    with upkeep.running(SimpleNamespace(), stop):  # type: ignore[arg-type]
        assert done.wait(PATIENCE)
    assert len(attempts) == 2
