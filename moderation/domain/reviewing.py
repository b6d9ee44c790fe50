"""What a policy says of the people who judge: clauses to cite, claims, audit draws, strikes, exposure.

Every key has a default, so that a policy that says nothing of them is complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from moderation.domain.documents import Reader

T = TypeVar("T")
_CLAUSE = re.compile(r"[A-Za-z0-9.-]{1,32}")


@dataclass(frozen=True, slots=True)
class Clause:
    """A rule that a decision cites: `rule` as moderators read it, `reason` as the author is told.

    With `law`, what breaks the rule is illegal, and by that law; without, it only breaks the rule.
    """

    id: str
    category: str
    rule: str
    reason: str = ""
    law: str = ""


@dataclass(frozen=True, slots=True)
class AuditShare:
    """Which share is checked blind: of automatic decisions, of those near a threshold (`margin`), of people's work.

    `uncertain_share` is of items that people decide anyway: whoever gets one drawn is shown no score. With `a_day`
    no more checks than so many are drawn in a day: all shares are then made smaller alike.
    """

    share: float = 0.005
    near_share: float = 0.05
    uncertain_share: float = 0.1
    margin: float = 0.1
    a_day: float | None = None


@dataclass(frozen=True, slots=True)
class Strikes:
    """A strike counts for `window_days`; from so many on the policy advises a suspension or a ban."""

    window_days: float = 90
    suspend_at: float = 3
    suspend_days: float = 7
    ban_at: float = 5


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much of what is grave (`from_severity` and above) one person is shown.

    `reveals_a_day` caps pictures shown unblurred; after `in_a_row` grave cases another queue comes first.
    """

    from_severity: float = 4
    reveals_a_day: float = 60
    in_a_row: float = 8


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """How people's work is dealt out and checked."""

    undo_seconds: float = 10
    claim_minutes: float = 10
    oldest_share: float = 0.1
    golden_share: float = 0.01
    second_opinion_share: float = 0.02
    appeal_days: float = 183
    appeal_deadline_hours: float = 168
    audit: AuditShare = field(default_factory=AuditShare)
    strikes: Strikes = field(default_factory=Strikes)
    exposure: Exposure = field(default_factory=Exposure)


# Between what each number must lie; a share is a probability.
_SHARE = (0.0, 1.0)
_LIMITS: Mapping[str, tuple[float, float]] = {
    "undo_seconds": (0, 600),
    "claim_minutes": (0.1, 240),
    "oldest_share": _SHARE,
    "golden_share": (0, 0.5),
    "second_opinion_share": _SHARE,
    # The EU's Digital Services Act, Article 20, asks for six months at least; a forum elsewhere may choose.
    "appeal_days": (1, 3650),
    "appeal_deadline_hours": (1, 8760),
    "share": _SHARE,
    "near_share": _SHARE,
    "uncertain_share": _SHARE,
    "a_day": (1, 1_000_000),
    "margin": (0, 0.5),
    "window_days": (1, 3650),
    "suspend_at": (1, 100),
    "suspend_days": (0.04, 3650),
    "ban_at": (1, 100),
    "from_severity": (1, 5),
    "reveals_a_day": (0, 10_000),
    "in_a_row": (1, 1000),
}
_WHOLE = {"suspend_at", "ban_at", "from_severity", "reveals_a_day", "in_a_row"}


def read_review(reader: Reader, data: object) -> ReviewRules:
    """The `review` section; what it leaves out has its default."""
    nested = {"audit": AuditShare, "strikes": Strikes, "exposure": Exposure}
    root = reader.mapping(data, ("review",), {one.name for one in fields(ReviewRules)})
    numbers = {name: value for name, value in root.items() if name not in nested}
    inner: dict[str, Any] = {
        name: _numbers(reader, ("review", name), root[name], kind)
        for name, kind in nested.items()
        if name in root
    }
    return _numbers(reader, ("review",), numbers, ReviewRules, **inner)


def _numbers(reader: Reader, path: tuple[str, ...], data: object, kind: type[T], **inner: Any) -> T:
    names = {one.name for one in fields(kind) if one.name in _LIMITS}  # type: ignore[arg-type]
    root = reader.mapping(data, path, names)
    values = {}
    for name in names & set(root):
        read = reader.whole if name in _WHOLE else reader.number
        low, high = _LIMITS[name]
        values[name] = read(root, path, name, low, high)  # type: ignore[arg-type]
    return kind(**values, **inner)


def read_clauses(reader: Reader, data: object, categories: set[str]) -> dict[str, Clause]:
    """The `clauses` section: id -> category, rule and the sentence for the author."""
    clauses = {}
    for identifier, value in reader.mapping(data, ("clauses",), None).items():
        path = ("clauses", identifier)
        if not _CLAUSE.fullmatch(identifier) or identifier in categories:
            reader.fault(
                path, "a clause's id is 1 to 32 letters, digits, dots or hyphens, and no category's name"
            )
        root = reader.mapping(value, path, {"category", "rule", "reason", "law"})
        category = reader.choice(root, path, "category", categories)
        rule = reader.value(root, path, "rule", str)
        reason = reader.value(root, path, "reason", str) if "reason" in root else ""
        law = reader.value(root, path, "law", str) if "law" in root else ""
        clauses[identifier] = Clause(identifier, category, rule, reason, law)
    return clauses
