"""Every refusal the service can give, as one tree.

    Refusal
    ├── InvalidInput         the request is understood and can't be accepted as it is
    │   ├── TooLarge         a limit on size or number was passed
    │   ├── UnsupportedMedia the bytes are of a kind that is not accepted
    │   └── PolicyInvalid    a policy document with its faults, by line
    ├── Unauthenticated      no key, or not one of ours
    ├── Forbidden            a key without the scope, a person without the permission
    │   └── StepUpRequired   allowed, once a second factor is given again
    ├── NotFound             nothing there, or nothing that may be shown
    ├── Gone                 it was here; it is deleted and must not come back
    ├── Conflict             it clashes with what is recorded
    └── Busy                 later, please
        ├── TooManyRequests  this caller sends too fast
        └── Unavailable      the service itself is behind

A refusal's text is a sentence for the caller that says what to do; it never holds content. What HTTP
status it becomes is the API's business (`api/problems.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class Refusal(Exception):
    """Root of the tree. `code` is a stable word for programs, `detail` a sentence for people."""

    code = "refused"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code


class InvalidInput(Refusal):
    code = "invalid_input"


class TooLarge(InvalidInput):
    code = "too_large"


class UnsupportedMedia(InvalidInput):
    code = "unsupported_media"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a document: where (a path of keys, and the line if known) and what."""

    path: tuple[str, ...]
    message: str
    line: int | None = None

    def __str__(self) -> str:
        place = ".".join(self.path) or "document"
        return f"line {self.line}: {place}: {self.message}" if self.line else f"{place}: {self.message}"


class PolicyInvalid(InvalidInput):
    code = "policy_invalid"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class Unauthenticated(Refusal):
    code = "unauthenticated"


class Forbidden(Refusal):
    code = "forbidden"


class StepUpRequired(Forbidden):
    code = "step_up_required"


class NotFound(Refusal):
    code = "not_found"


class Gone(Refusal):
    code = "gone"


class Conflict(Refusal):
    code = "conflict"


class Busy(Refusal):
    code = "busy"

    def __init__(self, detail: str, *, retry_after: float, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.retry_after = retry_after


class TooManyRequests(Busy):
    code = "too_many_requests"


class Unavailable(Busy):
    code = "unavailable"
