"""Shapes of what content services read of incidents."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class IncidentAuthorsOut(BaseModel):
    """The authors of the calling content service that an incident touches, by its own references."""

    incident_id: str
    kind: str = Field(examples=["access"])
    severity: int = Field(description="1 (nuisance) to 5 (gravest).", examples=[3])
    detected_at: datetime
    authors: list[str] = Field(
        description="The references that posts named, in no order that means anything."
    )
    next: str | None = Field(default=None, description="Give it back as `after` for the rest.")
