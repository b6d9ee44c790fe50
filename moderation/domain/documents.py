"""Read typed values out of plain data, as a YAML reader gives it, and collect every fault with its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from moderation.domain.errors import Fault

T = TypeVar("T")


class Reader:
    """Reads typed values out of plain data and collects faults instead of stopping at the first."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, path: tuple[str, ...], message: str) -> None:
        self.faults.append(Fault(path, message))

    def mapping(self, data: object, path: tuple[str, ...], known: set[str] | None) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fault(path, "must be a mapping of keys to values")
            return {}
        for key in data:
            if known is not None and key not in known:
                self.fault(
                    (*path, str(key)), f"is not known here; expected one of {', '.join(sorted(known))}"
                )
        return {str(key): value for key, value in data.items()}

    def value(self, data: Mapping[str, Any], path: tuple[str, ...], key: str, kind: type[T]) -> T:
        found = data.get(key)
        if isinstance(found, kind) and not (kind is int and isinstance(found, bool)):
            return found
        said = "is missing" if found is None else f"must be a {kind.__name__}"
        self.fault((*path, key) if found is not None else path or (key,), f"{key} {said}")
        return kind()

    def number(
        self, data: Mapping[str, Any], path: tuple[str, ...], key: str, low: float, high: float
    ) -> float:
        found = data.get(key)
        if found is None:
            self.fault(path or (key,), f"{key} is missing")
        elif isinstance(found, bool) or not isinstance(found, int | float):
            self.fault((*path, key), f"{key} must be a number")
        elif not low <= found <= high:
            self.fault((*path, key), f"{key} must lie between {low:g} and {high:g}, not {found}")
        else:
            return float(found)
        return low

    def whole(self, data: Mapping[str, Any], path: tuple[str, ...], key: str, low: int, high: int) -> int:
        found = self.number(data, path, key, low, high)
        if found != int(found):
            self.fault((*path, key), f"{key} must be a whole number from {low} to {high}, not {found}")
        return int(found)

    def optional(self, data: Mapping[str, Any], key: str, read: Callable[[], T]) -> T | None:
        return read() if data.get(key) is not None else None

    def choice(self, data: Mapping[str, Any], path: tuple[str, ...], key: str, allowed: set[str]) -> str:
        found = data.get(key)
        if isinstance(found, str) and found in allowed:
            return found
        where = (*path, key) if key in data else path
        self.fault(where, f"{key} must be one of {', '.join(sorted(allowed))}, not {found!r}")
        return ""
