"""Shapes of the review API: what people send; what they get are the views of `moderation.review.views`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field

from api.schemas import CategoryName, Name, Strict
from moderation.domain.cases import CaseReason, Stage, Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Restriction
from moderation.review.listing import Filter
from moderation.review.opinions import Result

Queue = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$", examples=["harassment"])]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$", examples=["en"])]
Client = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", examples=["app"])]
Number = Annotated[
    int,
    Field(ge=0, le=2**31 - 1, description="The claim's number, as `next` or `claim` gave it.", examples=[1]),
]
Note = Annotated[str, Field(max_length=2000, examples=["Quoted from a song, I think."])]


class FilterIn(Strict):
    """Which cases you want; what is left out is any."""

    queue: Queue | None = None
    language: Language | None = None
    reason: CaseReason | None = None
    client: Client | None = None
    stage: Stage | None = None
    mine: bool = Field(default=False, description="Only what you have in hand or what is kept for you.")

    def wanted(self) -> Filter:
        """As the services take it."""
        return Filter(**self.model_dump(include=set(FilterIn.model_fields)))


class CasesIn(FilterIn):
    """A filter, and which page of the list."""

    after: UUID | None = Field(default=None, description="The last case of the page before.")
    limit: int = Field(default=50, ge=1, le=200)


class HeldIn(Strict):
    """The claim under which you hold the case."""

    number: Number


class SkipIn(HeldIn):
    """Why you pass the case on, if you want to say it; `distress` is stored nowhere."""

    reason: str | None = Field(default=None, pattern="^(unsure|language|conflict_of_interest|distress)$")


class EscalateIn(HeldIn):
    """What whoever settles the case should know."""

    note: Note


class HandOverIn(Strict):
    """Whom the case is for. Without a number it is taken out of whosever hands it is in; that takes a lead."""

    to: UUID
    number: Number | None = None
    note: Note | None = None


class NoteIn(Strict):
    """What you write down of a case."""

    text: Note


class BankIt(Strict):
    """A part of the case's item that its like should be known by from now on."""

    part: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}(\.text)?$")] = Field(
        description="Of the item; `photo.text` is what a machine read in `photo`.", examples=["photo"]
    )
    bank: Name = Field(
        description="A bank of texts for a text, of pictures for a picture.", examples=["known_spam"]
    )
    note: str = Field(default="", max_length=300, description="Why, for whoever verifies it. No content.")


class BankedOut(BaseModel):
    """The entry, and whether it is new in this bank."""

    entry: str
    fresh: bool


class ReasonIn(Strict):
    """Why."""

    note: Note


class JudgementIn(Strict):
    """What you find, and what follows for the account."""

    verdict: Verdict
    category: CategoryName | None = Field(default=None, description="Which rule it breaks; not for `allow`.")
    clause: str | None = Field(
        default=None, max_length=32, description="The clause it cites; the category's first by default."
    )
    restrictions: list[Restriction] = Field(
        default_factory=list, max_length=4, description="How it is limited; only for `limit`."
    )
    measure: AccountMeasure | None = None
    until: AwareDatetime | None = Field(default=None, description="The end of a suspension.")

    def judgement(self) -> Judgement:
        """As the services take it."""
        return Judgement(
            self.verdict,
            self.category,
            self.clause,
            tuple(dict.fromkeys(self.restrictions)),
            self.measure,
            self.until,
        )


class OpinionIn(JudgementIn, HeldIn):
    """Your opinion of a case you hold."""

    form_key: UUID = Field(
        description="A fresh UUID for each opinion: sent twice under the same one, it counts once."
    )
    note: Note | None = None
    score_shown: bool = Field(default=True, description="Whether you saw the scores when you judged.")


class ClusterDecisionIn(OpinionIn):
    """The same decision for a case and for near duplicates of it that you have seen."""

    members: list[UUID] = Field(min_length=1, max_length=50, description="Case ids.")


class SavedFilterIn(Strict):
    """A filter under a name."""

    name: str = Field(min_length=1, max_length=60, examples=["Spanish, urgent"])
    filter: FilterIn
    shared: bool = Field(default=False, description="For everybody; takes a lead.")


class ContestAnswerIn(Strict):
    """Whether the golden answer stands."""

    upheld: bool


class UntilOut(BaseModel):
    """Until when the case is kept for you."""

    until: datetime


class UndoOut(BaseModel):
    """By what, and until when, you can take back what you just did."""

    id: str
    until: datetime
    cases: list[str]


class AnswerOut(BaseModel):
    """What became of your opinion."""

    result: Result
    opinion_id: str
    decision_id: str | None = None
    undo: UndoOut | None = None


class ReopenedOut(BaseModel):
    """The cases that are open again, and in your hands."""

    cases: list[UUID]


class ReversalOut(BaseModel):
    """The decision that reversed another one."""

    decision_id: str


class SavedFilterOut(BaseModel):
    """A saved filter, with the query it is in a URL."""

    id: str
    name: str
    query: str
    shared: bool
