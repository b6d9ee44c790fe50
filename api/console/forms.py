"""What comes in by forms and addresses, checked and turned into what services take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Form

from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Restriction
from moderation.domain.errors import InvalidInput
from moderation.review import filters
from moderation.review.cases import Filter
from moderation.review.opinions import Given

LONGEST = 64


def filter_of(query: Mapping[str, str]) -> Filter:
    """The filter that an address carries; what it doesn't know is left out."""
    return filters.from_query(urlencode({name: value[:LONGEST] for name, value in query.items()}))


@dataclass(frozen=True, slots=True)
class DecisionForm:
    """The form of a decision as it was sent; `number` is the claim it belongs to."""

    number: int
    form_key: UUID
    verdict: str
    category: str
    clause: str
    restrictions: tuple[str, ...]
    measure: str
    until: str
    note: str

    def given(self, *, score_shown: bool) -> Given:
        """What services take.

        Raises:
            InvalidInput: a value that the form does not offer.
        """
        try:
            verdict = Verdict(self.verdict)
            # The pills say "if limited": with another verdict they mean nothing.
            limits = self.restrictions if verdict is Verdict.LIMIT else ()
            judgement = Judgement(
                verdict=verdict,
                category=self.category or None,
                clause=self.clause or None,
                restrictions=tuple(Restriction(one) for one in limits),
                measure=AccountMeasure(self.measure) if self.measure else None,
                until=_end_of(self.until) if self.until and self.measure == AccountMeasure.SUSPEND else None,
            )
        except (ValueError, OverflowError):
            raise InvalidInput("The form holds a value that it doesn't offer; load the page again.") from None
        if verdict is Verdict.ALLOW:
            # The rule is chosen beforehand; whoever allows need not take it back.
            judgement = Judgement(verdict, measure=judgement.measure)
        return Given(self.form_key, judgement, self.note.strip() or None, score_shown=score_shown)

    def kept(self) -> dict[str, object]:
        """What the page shows again when the form could not be taken."""
        return {
            "category": self.category or None,
            "clause": self.clause,
            "restrictions": list(self.restrictions),
            "measure": self.measure,
            "until": self.until,
            "note": self.note,
        }


def decision(
    number: Annotated[int, Form(ge=0)],
    form_key: Annotated[UUID, Form()],
    verdict: Annotated[str, Form(max_length=LONGEST)],
    category: Annotated[str, Form(max_length=LONGEST)] = "",
    clause: Annotated[str, Form(max_length=LONGEST)] = "",
    restriction: Annotated[list[str] | None, Form(max_length=8)] = None,
    measure: Annotated[str, Form(max_length=LONGEST)] = "",
    until: Annotated[str, Form(max_length=LONGEST)] = "",
    note: Annotated[str, Form(max_length=10_000)] = "",
) -> DecisionForm:
    """A dependency that reads the form of a decision."""
    return DecisionForm(
        number, form_key, verdict, category, clause, tuple(restriction or ()), measure, until, note
    )


def _end_of(day: str) -> datetime:
    """The end of a day, UTC, as a date field sends it."""
    return datetime.combine(date.fromisoformat(day), time(), UTC) + timedelta(days=1)
