"""What data subjects may ask for, what the service does about it by itself, by when, and how it can end.

Source: GDPR articles 12 and 15 to 22. The content service says who somebody is; without its word nothing personal
is handed out and nothing is erased before an officer has looked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from moderation.domain.errors import Conflict


class Right(StrEnum):
    """What is asked for."""

    ACCESS = "access"  # article 15
    EXPORT = "export"  # article 20
    CORRECT = "correct"  # article 16
    ERASE = "erase"  # article 17
    RESTRICT = "restrict"  # article 18
    OBJECT = "object"  # article 21
    WITHDRAW = "withdraw"  # article 7(3)
    CANCEL = "cancel"  # the account is closed


class Doing(StrEnum):
    """What comes of a right."""

    DOCUMENT = "document"  # a copy of everything, for as long as it is fresh
    CORRECTION = "correction"  # a person changes what is wrong in our records
    ERASURE = "erasure"
    RESTRICTION = "restriction"  # stored and judged by people, and nothing else


DOINGS: Mapping[Right, Doing] = {
    Right.ACCESS: Doing.DOCUMENT,
    Right.EXPORT: Doing.DOCUMENT,
    Right.CORRECT: Doing.CORRECTION,
    Right.ERASE: Doing.ERASURE,
    Right.WITHDRAW: Doing.ERASURE,
    Right.CANCEL: Doing.ERASURE,
    Right.RESTRICT: Doing.RESTRICTION,
    Right.OBJECT: Doing.RESTRICTION,
}


class RequestState(StrEnum):
    """open -> done | refused, and nothing after that."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"


class Result(StrEnum):
    """How a request that was done ended."""

    READY = "ready"  # the copy can be fetched
    CORRECTED = "corrected"
    ERASED = "erased"
    ERASED_BUT_HELD = "erased_but_held"  # all but what a hold keeps, unseen
    RESTRICTED = "restricted"
    NOT_FOUND = "not_found"  # nothing is held of whoever asks


class Refused(StrEnum):
    """Why a request was refused: the grounds that the law knows."""

    NOT_IDENTIFIED = "not_identified"  # article 12(2)
    UNFOUNDED = "unfounded"  # article 12(5)
    EXCESSIVE = "excessive"  # article 12(5)
    NOTHING_WRONG = "nothing_wrong"  # what was to be corrected is right as it stands
    LEGAL_DUTY = "legal_duty"  # article 17(3)(b)
    LEGAL_CLAIMS = "legal_claims"  # articles 17(3)(e) and 21(1)


@dataclass(frozen=True, slots=True)
class RightsRules:
    """What a policy says of rights: days to answer a request, hours to check whether somebody is a minor."""

    days: int = 30
    minor_hours: float = 4.0


def due(rules: RightsRules, received_at: datetime) -> datetime:
    """By when a request must be answered."""
    return received_at + timedelta(days=rules.days)


def by_itself(right: Right, *, identity_verified: bool) -> bool:
    """Whether the service acts on a request at once and alone."""
    return identity_verified and DOINGS[right] is not Doing.CORRECTION


def closed(state: RequestState, outcome: Result | Refused) -> RequestState:
    """The state that follows from `outcome`.

    Raises:
        Conflict: the request was answered before.
    """
    if state is not RequestState.OPEN:
        raise Conflict("This request is closed; a new one has to be made.", code="closed")
    return RequestState.REFUSED if isinstance(outcome, Refused) else RequestState.DONE


class MinorState(StrEnum):
    """suspected -> confirmed | cleared, and nothing after that."""

    SUSPECTED = "suspected"  # suspended and out of every dataset, until a person has looked
    CONFIRMED = "confirmed"  # the account ends, and with it everything we hold
    CLEARED = "cleared"


class MinorSource(StrEnum):
    """What made somebody a suspected minor."""

    SIGNAL = "signal"
    REPORT = "report"
    NOTICE = "notice"
    PERSON = "person"


CLEARED_DAYS = 90


def suspected_again(source: MinorSource, cleared_at: datetime | None, now: datetime) -> bool:
    """Whether a new suspicion counts.

    After a person found an adult, neither machines nor reporters suspend them again for a while: a brigade must
    not be able to. The content service and people always can.
    """
    if source in (MinorSource.NOTICE, MinorSource.PERSON) or cleared_at is None:
        return True
    return now >= cleared_at + timedelta(days=CLEARED_DAYS)


def minor_deadline(rules: RightsRules, opened_at: datetime) -> datetime:
    """By when a person must have looked."""
    return opened_at + timedelta(hours=rules.minor_hours)
