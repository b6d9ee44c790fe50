"""Shapes of what came of a list that was imported into a bank."""

from __future__ import annotations

from pydantic import BaseModel, Field


class FaultOut(BaseModel):
    """A line that can't be used, and why; what it says is not repeated."""

    line: int = Field(examples=[5])
    why: str = Field(examples=["This line has no value."])


class ImportOut(BaseModel):
    """What came of a list, or with `dry_run` what would."""

    format: str = Field(description="What it was read as.", examples=["csv"])
    dry_run: bool
    added: int
    known: int = Field(description="Entries that were in the bank.")
    completed: int = Field(
        description="Those of them that were known by a digest alone and find near copies now."
    )
    repeated: int = Field(description="Entries that stood in the list before.")
    bad: int = Field(description="Lines that can't be used.")
    faults: list[FaultOut] = Field(description="The first 20 of them.")
    foreign: dict[str, int] = Field(
        description="What is in order and can't be looked for here, by kind.", examples=[{"md5": 2}]
    )
    removed: int = Field(description="Entries that their source takes back.")
    absent: int = Field(description="What its source takes back and was not here, or came from elsewhere.")
