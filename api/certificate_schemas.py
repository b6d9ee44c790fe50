"""Shapes of promises and certificates."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

Bound = Annotated[
    float | None,
    Field(description="What was proved: the share of mistakes is at most this.", examples=[0.0164]),
]
Slice = Annotated[
    str, Field(description="A language, or `*` for every one the policy does not name.", examples=["*"])
]
Lineup = Annotated[
    str, Field(description="The versions that score the category.", examples=["text-minilm 2"])
]


class PromiseOut(BaseModel):
    """One promise of the policy in force, and how it stands."""

    category: str
    side: Literal["remove", "allow"] = Field(description="Whether it is of removing or of letting pass.")
    slice: Slice
    lineup: Lineup
    promise: str = Field(description="In one sentence.")
    allowed: float = Field(description="The share of mistakes that the policy accepts.", examples=[0.02])
    certified: bool
    certificate: UUID | None = Field(
        description="The certificate that keeps it; without one nothing is promised."
    )
    why: str = Field(description="Why there is none.")
    threshold: float | None
    bound: Bound
    automated: float | None = Field(description="The share of decisions that the rule makes by itself.")
    checks: int = Field(description="Blind checks that count.")
    mistakes: int
    needed: int = Field(description="Right checks that are still needed for a first certificate.")
    expires_at: datetime | None


class CurvePointOut(BaseModel):
    """A threshold that was looked at; `bound` holds at the certificate's level."""

    threshold: float
    coverage: float
    checks: int
    mistakes: int
    risk: float | None
    bound: float
    proved: bool


class ModelNamedOut(BaseModel):
    """A version that a certificate is for."""

    name: str
    version: str
    manifest_sha256: str | None
    calibration_sha256: str | None


class CertificateOut(BaseModel):
    """A certificate, whatever became of it."""

    id: UUID
    state: Literal["in_force", "unwatched", "expired", "voided", "other_policy"]
    promise: str
    category: str
    side: Literal["remove", "allow"]
    slice: Slice
    lineup: Lineup
    models: list[ModelNamedOut]
    policy_version: int
    allowed: float
    bound: float
    threshold: float
    automated: float
    checks: int
    mistakes: int
    confidence: float = Field(description="That none of the promises proved within a quarter is broken.")
    level: float = Field(description="The chance that this proof is wrong, after every division.")
    since: datetime
    until: datetime
    issued_at: datetime
    expires_at: datetime
    watched_at: datetime
    voided_at: datetime | None
    void_reason: str | None
    data_sha256: str | None = Field(description="SHA-256 of the manifest of the data it was proved from.")
    curve: list[CurvePointOut]


CERTIFICATE: dict[str, Any] = {
    "id": "0192f0a4-3c11-7d20-8e4f-6a7b8c9d0e1f",
    "state": "in_force",
    "promise": "Of the items a machine removes for hate by itself, at most 2 % are wrong.",
    "category": "hate",
    "side": "remove",
    "slice": "*",
    "lineup": "text-minilm 2",
    "models": [
        {
            "name": "text-minilm",
            "version": "2",
            "manifest_sha256": "fbe5c182483773e9b5fa25d3a3202b2ec0c54de7134cbb91a95a586c1c9023d8",
            "calibration_sha256": "02123dded678030f490147206942abf8e3583f1645f7efe1d68e2330186d140f",
        }
    ],
    "policy_version": 3,
    "allowed": 0.02,
    "bound": 0.0164,
    "threshold": 0.93005,
    "automated": 0.041,
    "checks": 512,
    "mistakes": 2,
    "confidence": 0.95,
    "level": 0.00078125,
    "since": "2026-09-20T09:00:00Z",
    "until": "2026-11-19T09:00:00Z",
    "issued_at": "2026-11-22T09:00:00Z",
    "expires_at": "2026-12-27T09:00:00Z",
    "watched_at": "2026-11-22T09:30:00Z",
    "voided_at": None,
    "void_reason": None,
    "data_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "curve": [
        {
            "threshold": 0.93005,
            "coverage": 0.041,
            "checks": 512,
            "mistakes": 2,
            "risk": 0.0039,
            "bound": 0.0164,
            "proved": True,
        }
    ],
}
"""An example."""
