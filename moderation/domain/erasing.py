"""Why content ends before or at its time, and what an erasure leaves of a person: nothing that leads there."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

# Whose records are nobody's any more: of everybody who was erased, this one id stands in what has to be kept.
NOBODY = UUID(int=0)
# A record of an erased person keeps no trait that fewer records than this share.
SHARED_BY = 10
TOMBSTONE_DAYS = 30


class Cause(StrEnum):
    """Why something was erased."""

    EXPIRY = "expiry"
    DELETION = "deletion"
    WITHDRAWAL = "withdrawal"
    CANCELLATION = "cancellation"
    REQUEST = "request"
    MINOR = "minor"
    OPERATOR = "operator"


BY_CLIENT = "deleted by the content service"
EXPIRED = "its retention period ended"
ERASED = "its author was erased"
RESTORED = "it had ended before this copy was restored"

BECAUSE: Mapping[Cause, str] = {
    Cause.EXPIRY: EXPIRED,
    Cause.DELETION: BY_CLIENT,
    Cause.WITHDRAWAL: "consent was withdrawn",
    Cause.CANCELLATION: ERASED,
    Cause.REQUEST: ERASED,
    Cause.MINOR: ERASED,
    Cause.OPERATOR: "erased by an operator",
}
