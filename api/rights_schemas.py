"""Shapes of what concerns people's rights: requests, restrictions, notices of minors; and of what partners read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from api.schemas import Strict
from moderation.domain.subjects import MinorState, RequestState, Right

Details = Annotated[str, Field(max_length=4000, examples=["The language of post-1029 is Portuguese."])]


class RequestIn(Strict):
    """What somebody asks for, and whether you know that it is them."""

    kind: Right = Field(description="Which right is used.", examples=["access"])
    identity_verified: bool = Field(
        default=False,
        description="That you have verified who asks. Without it nothing is handed out and nothing erased "
        "before an officer has looked.",
    )
    details: Details | None = Field(default=None, description="In their own words; encrypted, for officers.")


class RequestOut(BaseModel):
    """A request; `outcome` and `closed_at` are there once it is answered."""

    id: str
    kind: str
    state: RequestState
    identity_verified: bool
    received_at: datetime
    due_at: datetime = Field(description="By when it is answered.")
    outcome: str | None = Field(
        default=None,
        description="How it ended: ready, corrected, erased, erased_but_held, restricted, not_found, "
        "or why it was refused.",
    )
    closed_at: datetime | None = None
    erasure_id: str | None = Field(default=None, description="The erasure that carries it out.")
    export_url: str | None = Field(default=None, description="Where the copy is, for as long as it is fresh.")


class RequestsOut(BaseModel):
    """Every request of an author, newest first."""

    requests: list[RequestOut]


class MinorCheckOut(BaseModel):
    """Whether somebody is a minor: suspected, until a person has confirmed or cleared it."""

    id: str
    author: str | None = Field(default=None, description="The account's reference, as long as it is known.")
    state: MinorState
    opened_at: datetime
    deadline: datetime = Field(description="By when a person has looked.")
    item_id: str | None = Field(default=None, description="The item that brought the suspicion.")
    decided_at: datetime | None = None
    erasure_id: str | None = None


class AssignedOut(BaseModel):
    """An item that you may read."""

    id: str
    assigned_at: datetime


class AssignedItemsOut(BaseModel):
    """Items that you may read, newest first, at most 100."""

    purpose: str
    fields: list[str]
    items: list[AssignedOut]


class PartnerPartOut(BaseModel):
    """A text, or a picture in base64."""

    type: Literal["text", "image"]
    name: str
    text: str | None = None
    media_type: str | None = None
    data: str | None = Field(default=None, description="Base64.")
    machine_read: bool | None = Field(
        default=None, description="True for a text that nobody posted: a machine read it in a picture."
    )


class PartnerItemOut(BaseModel):
    """An item in the fields that your key was made for; the others are absent."""

    id: str
    kind: str
    category: str | None = None
    language: str | None = None
    posted_at: datetime | None = None
    thread: str | None = None
    parts: list[PartnerPartOut] | None = None


class DeletionOut(BaseModel):
    """An item that has to be deleted with you."""

    item_id: str
    deleted_at: datetime
    acknowledged_at: datetime | None = None


class DeletionsOut(BaseModel):
    """What you have to delete and have not acknowledged, oldest first, at most 100: the same until you do."""

    deletions: list[DeletionOut]
