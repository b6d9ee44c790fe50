"""Why personal data is touched: the registry of purposes, each with its legal basis, and what every action serves.

An action of the audit log that is not listed here can't be recorded: whoever writes a new one has to say what
it is for. Actions that show content to somebody (`READS`) carry their purpose in the event itself.

Source: GDPR articles 5(1)(b), 6 and 30(1)(b).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache


class Purpose(StrEnum):
    """What personal data may be used for here, and for nothing else."""

    REVIEW = "review"  # whether posted content breaks a rule
    REDRESS = "redress"  # reports, appeals, what people are told
    QUALITY = "quality"  # how well people and machines judge, labels, training
    RIGHTS = "rights"  # what data subjects ask for, and how content ends
    LEGAL = "legal"  # holds, preservation, disclosure
    MINORS = "minors"  # protection of minors
    SECURITY = "security"  # who may come in, and what went wrong
    GOVERNANCE = "governance"  # the rules themselves, and showing that they are kept


BASIS: Mapping[Purpose, str] = {
    Purpose.REVIEW: "legitimate interest in a safe service, GDPR 6(1)(f); DSA 16",
    Purpose.REDRESS: "legal obligation, GDPR 6(1)(c); DSA 16, 17 and 20",
    Purpose.QUALITY: "legitimate interest in judging rightly, GDPR 6(1)(f); DSA 20(6)",
    Purpose.RIGHTS: "legal obligation, GDPR 6(1)(c), 12 to 22",
    Purpose.LEGAL: "legal obligation, GDPR 6(1)(c); DSA 9 and 10",
    Purpose.MINORS: "legal obligation, GDPR 6(1)(c) and 8; DSA 28",
    Purpose.SECURITY: "legal obligation, GDPR 32 to 34",
    Purpose.GOVERNANCE: "legal obligation, GDPR 5(2) and 24; DSA 15 and 24",
}

# By the first word of an action; one that serves something else stands in full.
_FAMILIES: Mapping[str, Purpose] = {
    "item": Purpose.REVIEW,
    "case": Purpose.REVIEW,
    "filter": Purpose.REVIEW,
    "opinion": Purpose.REVIEW,
    "decision": Purpose.REVIEW,
    "media": Purpose.REVIEW,
    "author": Purpose.REVIEW,
    "bank": Purpose.REVIEW,
    "appeal": Purpose.REDRESS,
    "statement": Purpose.REDRESS,
    "golden": Purpose.QUALITY,
    "quality": Purpose.QUALITY,
    "labels": Purpose.QUALITY,
    "bundle": Purpose.QUALITY,
    "certificate": Purpose.QUALITY,
    "certification": Purpose.QUALITY,
    "model": Purpose.QUALITY,
    "learning": Purpose.QUALITY,
    "erasure": Purpose.RIGHTS,
    "subject_request": Purpose.RIGHTS,
    "retention": Purpose.RIGHTS,
    "restriction": Purpose.RIGHTS,
    "key": Purpose.RIGHTS,
    "hold": Purpose.LEGAL,
    "preservation": Purpose.LEGAL,
    "disclosure": Purpose.LEGAL,
    "partner": Purpose.LEGAL,
    "minor": Purpose.MINORS,
    "api_key": Purpose.SECURITY,
    "login": Purpose.SECURITY,
    "person": Purpose.SECURITY,
    "webhook_endpoint": Purpose.SECURITY,
    "invitation": Purpose.SECURITY,
    "session": Purpose.SECURITY,
    "sessions": Purpose.SECURITY,
    "incident": Purpose.SECURITY,
    "backup": Purpose.SECURITY,
    "audit": Purpose.GOVERNANCE,
    "policy": Purpose.GOVERNANCE,
    "report": Purpose.GOVERNANCE,
    "transparency": Purpose.GOVERNANCE,
}
# What stands in full serves something else than its family.
_ACTIONS: Mapping[str, Purpose] = {
    "item.reported": Purpose.REDRESS,
    "item.corrected": Purpose.RIGHTS,
    "decision.informed": Purpose.REDRESS,
    "bundle.erased_from": Purpose.RIGHTS,
    "model.erased_from": Purpose.RIGHTS,
    "model.retired": Purpose.RIGHTS,
    "author.erased": Purpose.RIGHTS,
    "author.restricted": Purpose.RIGHTS,
}

READS: frozenset[str] = frozenset(
    {
        "item.viewed",  # its texts, on its page
        "item.history_viewed",  # what its content service calls it, and what became of it
        "case.viewed",
        "media.revealed",
        "media.viewed",  # each picture as it is
        "author.viewed",  # what their content service calls them
        "bank.exported",  # hashes, terms, links and claims, as a list
        "golden.contests_viewed",
        "audit.viewed",
        "audit.exported",
        "audit.proof_made",
        "labels.exported",
        "preservation.opened",
        "disclosure.viewed",  # the authority's file number
        "disclosure.exported",
        "subject_request.viewed",
        "subject_request.exported",
        "partner.item_read",
        "minor.viewed",
        "incident.viewed",
        "hold.viewed",
    }
)
"""Actions by which somebody sees content or what identifies a person. Their events carry a purpose each."""


class UnregisteredPurpose(ValueError):
    """Nobody said what an action is for, so it must not happen."""


@cache
def purpose_of(action: str) -> Purpose:
    """What an action serves.

    Raises:
        UnregisteredPurpose: it is not in the registry.
    """
    found = _ACTIONS.get(action) or _FAMILIES.get(action.partition(".")[0])
    if found is None or "." not in action:
        raise UnregisteredPurpose(
            f"{action!r} serves no registered purpose; say in moderation.domain.purposes what it is for"
        )
    return found


def details_of(action: str, details: Mapping[str, object], purpose: Purpose | None) -> Mapping[str, object]:
    """The details of an event: those of a read say what it serves, its own purpose or the one that is given.

    Raises:
        UnregisteredPurpose: the action has none, or another one is claimed for what is no read.
    """
    registered = purpose_of(action)
    if action in READS:
        return {**details, "purpose": str(purpose or registered)}
    if purpose is not None:
        raise UnregisteredPurpose(f"{action} shows nothing to anybody; its purpose is the registered one")
    return details
