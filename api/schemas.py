"""Shapes of the API. Unknown fields are refused: a typo must not silently lose what it meant to say."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", examples=["body"])]
Reference = Annotated[str, Field(min_length=1, max_length=256)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPartIn(Strict):
    """A named text."""

    type: Literal["text"]
    name: Name
    text: str = Field(description="At most 50,000 code points.", examples=["Lovely weather in Lisbon today."])


class ImagePartIn(Strict):
    """A named picture: bytes in base64, or the name of a file of the same multipart request."""

    type: Literal["image"]
    name: Name
    data: Base64Bytes | None = Field(default=None, description="JPEG, PNG, WebP, GIF or AVIF, at most 10 MB.")
    upload: str | None = Field(default=None, max_length=64, description="The multipart field with the bytes.")


class ContextIn(Strict):
    """What surrounds the post."""

    thread: Reference | None = None
    parent: Reference | None = None
    reach: Annotated[int, Field(ge=0, le=10_000_000_000)] | None = Field(
        default=None, description="How many people are expected to see it.", examples=[1200]
    )
    language: str | None = Field(default=None, max_length=35, description="BCP 47.", examples=["en"])


class ItemIn(Strict):
    """One post."""

    external_id: Reference = Field(description="The content service's own id.", examples=["post-1029"])
    author: Reference = Field(
        description="An opaque reference of the account; no name, no e-mail.", examples=["acct-77"]
    )
    kind: Name = Field(examples=["comment"])
    parts: list[Annotated[TextPartIn | ImagePartIn, Field(discriminator="type")]]
    context: ContextIn = Field(default_factory=ContextIn)
    posted_at: AwareDatetime | None = Field(default=None, examples=["2026-11-22T09:30:00Z"])
    callback: Name | None = Field(default=None, description="The name of a registered webhook endpoint.")


class BatchIn(Strict):
    """Up to 100 posts, each accepted or refused on its own."""

    items: list[Any] = Field(min_length=1)


Certificates = Annotated[
    list[str] | None,
    Field(
        description="The certificates that a machine's decision stands on; empty if it stands on none, absent "
        "where a person decided or nobody has yet. `GET /v1/certificates/{certificate_id}` shows one."
    ),
]
Promised = Annotated[
    str | None,
    Field(
        description="What is promised of such decisions, in one sentence, or that nothing is.",
        examples=["Removed under a certificate: at most 2 % of such removals are wrong."],
    ),
]


class CategoryOut(BaseModel):
    """The highest score of one category."""

    category: str
    probability: float = Field(description="Calibrated, between 0 and 1.")
    part: str
    detector: str
    version: str


class DetectorOut(BaseModel):
    """A detector and whether it could speak."""

    name: str
    version: str
    status: Literal["ok", "failed", "skipped"]


Status = Literal["received", "processing", "in_review", "decided", "deleted"]


class AcceptedOut(BaseModel):
    """An accepted item."""

    id: str
    status: Status
    status_url: str


class ItemOut(AcceptedOut):
    """An item; the fields after `expires_at` are there once there is an outcome."""

    received_at: datetime
    expires_at: datetime = Field(description="When its content ends, as things stand.")
    decision_id: str | None = None
    verdict: Literal["allow", "limit", "remove", "review"] | None = None
    restrictions: list[Literal["age_gate", "demote", "label", "no_interaction"]] | None = Field(
        default=None, description="How it is limited, where a person said so."
    )
    categories: list[CategoryOut] | None = None
    reasons: list[str] | None = None
    policy_version: int | None = None
    detectors: list[DetectorOut] | None = None
    decided_by: Literal["machine", "person"] | None = None
    decided_at: datetime | None = None
    certificates: Certificates = None
    promise: Promised = None


class ProblemOut(BaseModel):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class BatchResultOut(BaseModel):
    """One item's answer: the item, or the problem it was refused for."""

    item: AcceptedOut | None = None
    problem: ProblemOut | None = None


class BatchOut(BaseModel):
    """The answers, in the order of the items sent."""

    results: list[BatchResultOut]


class ItemsOut(BaseModel):
    """A page of items, newest first. Pass `next` as `cursor` for the following page."""

    items: list[ItemOut]
    next: str | None = None


CategoryName = Annotated[str, Field(min_length=1, max_length=32, examples=["harassment"])]


class ReportIn(Strict):
    """What a user of the content service says of an item."""

    reporter: Reference = Field(
        description="An opaque reference of the account that reports, as in `author`.", examples=["acct-81"]
    )
    category: CategoryName = Field(description="One of the policy's categories.")
    comment: str | None = Field(
        default=None, max_length=1000, description="In the reporter's words.", examples=["This is about me."]
    )


class ReportOut(BaseModel):
    """A report as it was taken."""

    id: str
    item_id: str
    category: str
    reported_at: datetime
    outcome: Literal["upheld", "rejected"] | None = Field(
        default=None, description="Once a person has decided."
    )


class MeasureOut(BaseModel):
    """What a decision did to the account."""

    measure: Literal["warn", "strike", "suspend", "ban"]
    effective_at: datetime
    until: datetime | None = Field(default=None, description="Its end; without one it lasts.")
    reversed_at: datetime | None = None


class DecisionOut(BaseModel):
    """A decision in full: what a webhook only names."""

    id: str
    item_id: str
    author: str | None = Field(default=None, description="The account's reference, as long as it is known.")
    verdict: Literal["allow", "limit", "remove", "review"]
    category: str | None = None
    clause: str | None = Field(default=None, description="The clause of the policy that it cites.")
    reason: str | None = Field(default=None, description="A sentence for the author.")
    restrictions: list[Literal["age_gate", "demote", "label", "no_interaction"]]
    measures: list[MeasureOut]
    decided_by: Literal["machine", "person"]
    decided_at: datetime
    effective_at: datetime
    superseded_at: datetime | None = Field(default=None, description="When another decision replaced it.")
    reverses: str | None = Field(default=None, description="The decision that this one reversed.")
    policy_version: int
    certificates: Certificates = None
    promise: Promised = None
    informed_at: datetime | None = None
    appeal_until: datetime | None = Field(
        default=None, description="Until when it can be appealed; absent while nobody was told of it."
    )


class InformedIn(Strict):
    """When whoever is affected was told."""

    at: AwareDatetime | None = Field(
        default=None, description="Now, unless you say otherwise.", examples=["2026-11-22T09:31:00Z"]
    )


class AppealIn(Strict):
    """An author asks that a restriction be looked at again, or a reporter that an allowed item be."""

    by: Literal["author", "reporter"]
    reporter: Reference | None = Field(
        default=None, description="Who reported the item; only for an appeal by a reporter."
    )
    statement: str | None = Field(
        default=None, max_length=4000, description="In their own words.", examples=["It was a quotation."]
    )


class AppealOut(BaseModel):
    """An appeal; the fields after `deadline` are there once a person has answered it."""

    id: str
    decision_id: str
    item_id: str
    by: Literal["author", "reporter"]
    state: Literal["open", "upheld", "reversed", "withdrawn"]
    lodged_at: datetime
    deadline: datetime = Field(description="By when a person should have answered it.")
    outcome_id: str | None = Field(default=None, description="The decision that answered it.")
    verdict: Literal["allow", "limit", "remove"] | None = None
    closed_at: datetime | None = None


class EndpointIn(Strict):
    """Where to send webhooks."""

    name: Name = Field(examples=["production"])
    url: Annotated[str, Field(max_length=2048)] = Field(examples=["https://app.example.com/hooks/moderation"])
    events: list[str] = Field(min_length=1, max_length=20, examples=[["item.decided", "item.in_review"]])


class EndpointOut(BaseModel):
    """A registered endpoint."""

    id: str
    name: str
    url: str
    events: list[str]
    created_at: datetime
    disabled_because: str | None = None


class EndpointCreatedOut(EndpointOut):
    """A new endpoint with its signing secret, which is shown this once."""

    secret: str


class DeadLetterOut(BaseModel):
    """A webhook that was given up."""

    id: str
    endpoint: str
    event: str
    item_id: str
    attempts: int
    last_status: int | None
    last_error: str | None
    created_at: datetime


class SessionIn(Strict):
    """What a person logs in with: a code of the authenticator app, or a recovery code."""

    email: Annotated[str, Field(max_length=254)] = Field(examples=["lead@example.org"])
    password: Annotated[str, Field(max_length=1000)]
    code: Annotated[str, Field(max_length=40)] = Field(examples=["123456"])


class SessionOut(BaseModel):
    """A session's token, shown this once; send it as `Authorization: Bearer ms_...`."""

    token: str
    expires_at: datetime


class WhoOut(BaseModel):
    """The person whose session it is."""

    person_id: str
    roles: list[str]
    permissions: list[str]
    confirmed_at: datetime | None
