"""What a decision promises, in one sentence: the same in every answer of the API and on every page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.decisions import DecidedBy
from moderation.domain.promises import EVERYTHING, Occasion, Side
from moderation.domain.routing import Route
from moderation.storage.database import among
from moderation.storage.tables import CertificateRow, Decision

NONE = "No certificate: this carries no promise."
NAMED = 3  # categories in one sentence; of more it says how many

OCCASIONS: Mapping[str, str] = {
    Occasion.ASKED: "somebody asked for it",
    Occasion.SCHEDULE: "the schedule",
    Occasion.PROMOTION: "another model began to serve",
    Occasion.POLICY: "another policy took effect",
    Occasion.LEARNING: "a candidate was tried before it is proposed",
}
"""What a certification was made for."""


def cited(session: Session, decisions: Iterable[Decision]) -> dict[UUID, CertificateRow]:
    """The certificates that these decisions stand on, by id; those that ended since too."""
    wanted = {identifier for row in decisions for identifier in row.certificates}
    if not wanted:
        return {}
    found = session.scalars(select(CertificateRow).where(among(CertificateRow.id, sorted(wanted))))
    return {row.id: row for row in found}


def sentence(decision: Decision, certificates: Mapping[UUID, CertificateRow]) -> str | None:
    """What is promised of a decision such as this; None where a person decided or nobody has yet.

    It is said as it was when the machine decided: a certificate that ended since held then.
    """
    if decision.decided_by != DecidedBy.MACHINE or decision.route == Route.REVIEW:
        return None
    held = [certificates[one] for one in decision.certificates if one in certificates]
    removing = [one for one in held if one.side == Side.REMOVE]
    if decision.route == Route.REMOVE and removing:
        # The loosest of them, if there are several: none of them promises more.
        return (
            f"Removed under a certificate: at most {share(max(one.allowed for one in removing))} of such removals "
            "are wrong."
        )
    allowing = [one for one in held if one.side == Side.ALLOW]
    if decision.route == Route.ALLOW and allowing:
        return _allowed(allowing, {str(finding["category"]) for finding in decision.findings})
    return NONE


def _allowed(held: Sequence[CertificateRow], scored: Collection[str]) -> str:
    """Of an allowed item each category has a promise of its own, or none."""
    limits: dict[float, list[str]] = {}
    for one in sorted(held, key=lambda one: (one.allowed, one.category)):
        limits.setdefault(one.allowed, []).append(one.category)
    parts = "; ".join(
        f"at most {share(allowed)} break the rule on {listed(names)}" for allowed, names in limits.items()
    )
    said = f"Allowed under {'a certificate' if len(held) == 1 else 'certificates'}: of such items {parts}."
    bare = sorted(set(scored) - {one.category for one in held})
    return said if not bare else f"{said} No promise on {listed(bare)}."


def in_words(category: str, side: str, allowed: float) -> str:
    """A promise as a sentence."""
    about = category.replace("_", " ")
    if side == Side.REMOVE:
        return f"Of the items a machine removes for {about} by itself, at most {share(allowed)} are wrong."
    return f"Of the items a machine lets pass by itself, at most {share(allowed)} break the rule on {about}."


def slice_in_words(slice_: str, languages: Sequence[str]) -> str:
    """Which items a promise is about, by their language."""
    if slice_ != EVERYTHING:
        return f"in the language {slice_}"
    return "in every other language" if languages else "in every language"


def listed(names: Sequence[str]) -> str:
    """Categories as people write them; of many the first and how many more."""
    said = [name.replace("_", " ") for name in names]
    if len(said) > NAMED + 1:
        said = [*said[:NAMED], f"{len(said) - NAMED} more"]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def share(value: float) -> str:
    """A small share as a percentage, with no digit more than it needs: 0.005 is "0.5 %"."""
    return f"{value * 100:.4g} %"
