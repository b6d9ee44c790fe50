"""Shapes of banks of what is known, and of their entries."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, Field, model_validator

from api.schemas import Name, Strict
from moderation.domain.signals import BankAction, BankKind, Category

Text = Annotated[str, Field(min_length=1, max_length=50_000, examples=["prizes.example"])]
EntryForm = Literal["literal", "pattern", "host", "url", "email", "phone", "pdq", "sha256"]
Distance = Annotated[float, Field(ge=0, le=48)]
Share = Annotated[float, Field(gt=0, le=1)]
NEAR = (
    "How near is near enough: of texts the least similarity, 0.3 to 1; of claims the least cosine, 0.5 to 1; of "
    "links 1, for hosts that look like an entry's; of pictures the most bits of 256, 0 to 48. Without it only what "
    "is equal counts, but of claims 0.75 and of pictures 31."
)
SHARE = "Of the items that match, the share that is acted on; the others only get a label."


class BankIn(Strict):
    """A bank to be made."""

    name: Name = Field(examples=["known_swindles"])
    kind: BankKind = Field(description="What it holds.", examples=["link"])
    category: Category = Field(description="What a match is a case of.", examples=["fraud"])
    action: BankAction = Field(
        description="What a match with a verified entry means. `label` only adds a signal; claims can only "
        "review or label. An entry that nobody has verified only asks people.",
        examples=["remove"],
    )
    allow: bool = Field(default=False, description="What it holds is harmless, and wins over other banks.")
    distance: Distance | None = Field(default=None, description=NEAR)
    sample_share: Share = Field(default=1.0, description=SHARE)
    source: str | None = Field(
        default=None,
        max_length=100,
        description="Whose list it is, where it is not your own.",
        examples=[None],
    )


class BankChangeIn(Strict):
    """What to change of a bank; what is not named stays as it is."""

    distance: Distance | None = Field(default=None, description=NEAR)
    sample_share: Share | None = Field(default=None, description=SHARE)
    source: str | None = Field(default=None, max_length=100, description="Whose list it is.", examples=[None])
    enabled: bool | None = Field(default=None, description="Whether anything in it matches.")


class BankOut(BaseModel):
    """A bank, how many entries it has, and how many items matched in the last 7 days."""

    name: str
    kind: BankKind
    category: str
    action: BankAction
    allow: bool
    enabled: bool
    created_at: datetime
    distance: float | None = None
    sample_share: float
    source: str | None = None
    entries: int
    unverified: int
    quarantined: int = Field(
        description="Entries that matched far more than ever; until a person looks they only ask."
    )
    matches: int


class BanksOut(BaseModel):
    """Every bank by name."""

    banks: list[BankOut]


class EntryIn(Strict):
    """What a bank should know: `image` or the hash of one for a bank of pictures, `value` for every other."""

    value: Text | None = Field(
        default=None,
        description="A text, term, link or claim; with `form` `pdq` or `sha256` the hash of a picture.",
    )
    image: Base64Bytes | None = Field(
        default=None, description="A picture's bytes; only digests and hashes of it are kept."
    )
    note: str = Field(
        default="", max_length=300, description="Where it comes from, or why. No content.", examples=[""]
    )
    verified: bool = Field(
        default=False, description="That somebody made sure; else a match only asks people."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="When it ends; never, without it.")
    form: EntryForm | None = Field(
        default=None,
        description="Of terms `literal`, the default, or `pattern`; of links `host`, `url`, `email` or `phone`, "
        "else told by its looks; `pdq` or `sha256` for 64 hexadecimal digits that stand for a picture.",
    )
    source: str | None = Field(
        default=None,
        max_length=100,
        description="Whose entry it is, where it is not the bank's.",
        examples=[None],
    )
    category: Category | None = Field(default=None, description="Another category than the bank's.")

    @model_validator(mode="after")
    def _one_of_two(self) -> EntryIn:
        if (self.value is None) == (self.image is None):
            raise ValueError("send either value or image")
        return self


class EntryOut(BaseModel):
    """An entry. `value` is not there for texts and pictures: of them nothing is kept but a digest."""

    id: str
    value: str | None = None
    form: str | None = None
    category: str | None = None
    note: str
    verified: bool
    live: bool = Field(description="Whether it matches: it has not ended and was not turned off.")
    added_by: str
    added_at: datetime
    expires_at: datetime | None = None
    matches: int = Field(description="Items matched in the last 7 days.")
    not_same: int = Field(description="How often people said that it did not mean the item.")
    source: str | None = Field(default=None, description="Whose it is: the bank's source, or its own.")
    quarantined: bool = Field(
        description="Whether it suddenly matched far more than ever: it only asks people until one has looked."
    )
    matches_near: bool | None = Field(
        default=None,
        description="Of a picture: whether near copies are found too, or nothing but the same bytes.",
    )


class HappeningOut(BaseModel):
    """Something that was done to an entry."""

    at: datetime
    actor: str
    action: str = Field(examples=["bank.entry_verified"])
    details: dict[str, Any]


class DayOut(BaseModel):
    """Items that an entry matched on a day (UTC)."""

    day: date
    matches: int


class EntryWithHistoryOut(EntryOut):
    """An entry with what was done to it, newest first, and its matches of the last 14 days."""

    history: list[HappeningOut]
    days: list[DayOut]
    last_matched: date | None = None


class EntriesOut(BaseModel):
    """A page of entries, newest first; `next` is where to go on, if there are more."""

    entries: list[EntryOut]
    next: str | None = None
