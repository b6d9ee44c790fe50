"""Shapes of looking up pictures by their hashes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, Field

from api.schemas import Strict
from moderation.domain.signals import BankAction, BankKind, How

Digest = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-fA-F]{64}$",
        examples=["f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"],
    ),
]
Short = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{16}$", examples=["e5a1c3f09a7c3d21"])]


class PictureIn(Strict):
    """A picture that is looked up and not kept."""

    image: Base64Bytes = Field(description="JPEG, PNG, WebP, GIF or AVIF in base64, at most 10 MB.")


class HashMatchOut(BaseModel):
    """An entry of a bank that is on, and how a picture belongs to it."""

    bank: str
    kind: BankKind
    entry: str
    how: How = Field(
        description="`equal`: the same bytes. `picture`: within the bank's distance. `alike`: it may be the same, "
        "and people compare the two."
    )
    distance: int | None = Field(
        default=None,
        description="Bits of 256 in which the PDQ hashes differ; not there where only pHash is near.",
    )
    score: float = Field(description="How near it is, from 0 to 1.")
    category: str
    action: BankAction = Field(description="What the match asks for: people at most, if it is `alike`.")
    allow: bool = Field(description="Whether the entry clears the picture.")
    verified: bool = Field(description="Whether somebody verified the entry; until then it only asks people.")
    quarantined: bool = Field(
        description="Whether it matches far more than ever, and only asks people for that."
    )
    source: str | None = Field(default=None, description="Whose list it is from, where it is not your own.")


class HashOut(BaseModel):
    """One hash that was asked for, and what it matches, the gravest first."""

    by: Literal["sha256", "pdq", "phash"]
    hash: str
    matches: list[HashMatchOut]


class HashesOut(BaseModel):
    """The answers in the order of SHA-256, PDQ, pHash."""

    results: list[HashOut]


class PictureOut(BaseModel):
    """What a picture matches. Nothing of it is kept."""

    sha256: str
    pdq: str | None = Field(
        default=None, description="Its PDQ hash, upright, if it is good enough to have one."
    )
    quality: int = Field(description="PDQ's, 0 to 100; below 50 a picture has too little in it to be hashed.")
    matches: list[HashMatchOut]
