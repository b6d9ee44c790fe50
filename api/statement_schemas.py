"""What the API answers of a decision's statement of reasons and of the notice to its author."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class StatementOut(BaseModel):
    """A record of the EU's transparency database, schema v2. What does not apply is absent."""

    puid: str = Field(description="The decision's id; never used for another statement.")
    decision_visibility: list[str]
    decision_account: str | None = None
    end_date_account_restriction: str | None = Field(
        default=None, description="The day on which it ends; absent where it lasts."
    )
    decision_ground: str
    incompatible_content_ground: str | None = None
    incompatible_content_explanation: str | None = None
    illegal_content_legal_ground: str | None = None
    illegal_content_explanation: str | None = None
    content_type: list[str]
    content_type_other: str | None = None
    category: str
    category_specification: list[str] | None = None
    category_specification_other: str | None = None
    territorial_scope: list[str]
    content_language: str | None = None
    content_date: str
    application_date: str
    decision_facts: str
    source_type: str
    automated_detection: Literal["Yes", "No"]
    automated_decision: str


class NoticeOut(BaseModel):
    """What the author of a post is told of a decision on it; `text` is the paragraphs with empty lines between."""

    decision_id: str
    language: str
    subject: str
    text: str
    paragraphs: list[str]
    redress: Literal["open", "over", "final", "replaced"] | None = Field(
        default=None, description="Whether the author can appeal it here; absent where nothing is restricted."
    )
    appeal_until: datetime | None = Field(
        default=None, description="Until when; absent while nobody was told of the decision."
    )
