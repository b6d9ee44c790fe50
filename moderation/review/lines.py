"""Where the lines of a text stand in the picture in which it was read, as people are shown that picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from moderation.review.views import LineView
from moderation.storage.tables import Part
from moderation.storage.vault import Key, VaultError


def of_part(part: Part, key: Key | None) -> tuple[LineView, ...]:
    """The lines of a text that was read in a picture; none of one that was posted, or that does not open."""
    if key is None or part.layout is None:
        return ()
    try:
        known = json.loads(key.decrypt(part.layout, "parts", "layout", str(part.item_id), str(part.position)))
    except VaultError:
        return ()
    return tuple(LineView(one["start"], one["end"], _shown(one)) for one in known)


def _shown(line: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """The corners on the sheet that shows an animation: its moments one after the other, in two columns."""
    looks, look = line.get("looks", 1), line.get("look", 0)
    columns, rows = (2, (looks + 1) // 2) if looks > 1 else (1, 1)
    row, column = divmod(look, columns)
    return tuple((round((column + x) / columns, 4), round((row + y) / rows, 4)) for x, y in line["box"])
