"""What is costly to know and may be some seconds old: kept for a while, made by one request at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that is made anew once it is older than `seconds`. Whoever comes meanwhile waits for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._made_at = float("-inf")

    def get(self, make: Callable[[], T]) -> T:
        """The value, from `make` if there is none that is recent enough."""
        with self._lock:
            if self._value is None or time.monotonic() - self._made_at > self._seconds:
                self._value = make()
                self._made_at = time.monotonic()
            return self._value
