"""What an appeal is: its sides, its states, and where its statement lives."""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID


class By(StrEnum):
    AUTHOR = "author"
    REPORTER = "reporter"


class AppealState(StrEnum):
    """open -> upheld | reversed by a person; withdrawn when there is nothing left to decide."""

    OPEN = "open"
    UPHELD = "upheld"
    REVERSED = "reversed"
    WITHDRAWN = "withdrawn"


def statement_place(appeal_id: UUID) -> tuple[str, str, str]:
    """Where a statement lives, for its encryption under the author's key."""
    return ("appeals", "statement", str(appeal_id))
