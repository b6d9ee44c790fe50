"""What the author of a post is told of a decision on it: what was done, why, by whom, and what they can do now.

Derived anew each time, from the decision and the policy it cites; it never repeats the post.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain import notices, statements
from moderation.domain.cases import Verdict
from moderation.domain.decisions import Restriction
from moderation.domain.errors import Conflict
from moderation.domain.notices import Phrases
from moderation.domain.routing import Route
from moderation.domain.statements import Automation, Facts, Source
from moderation.governance import statements as derived
from moderation.governance.policies import PolicyCache
from moderation.storage.tables import Appeal, Decision


class Redress(StrEnum):
    """Whether the author can still object here, and if not, why."""

    OPEN = "open"
    OVER = "over"  # the time has passed
    FINAL = "final"  # it answered their appeal
    REPLACED = "replaced"  # it is not in force any more


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to be shown or sent: subject and paragraphs, and the redress in a form that programs read."""

    language: str
    subject: str
    paragraphs: tuple[str, ...]
    redress: Redress | None = None
    appeal_until: datetime | None = None

    @property
    def text(self) -> str:
        """All of it as one text."""
        return "\n\n".join(self.paragraphs)


def of_decision(
    session: Session,
    policies: PolicyCache,
    row: Decision,
    language: str | None,
    told_until: datetime | None,
    now: datetime,
) -> Notice:
    """The notice of one decision, in `language` or in that of the post.

    `told_until` is until when it can be appealed; None while nobody was told of it yet.

    Raises:
        InvalidInput: there are no notices in that language.
        Conflict: the decision neither restricts anything nor lifts a restriction.
    """
    chosen = language or notices.spoken(row.language)
    phrases = notices.phrases(chosen)
    if row.route == Route.ALLOW and row.reverses is not None and row.undone_at is None:
        said = [_opening(phrases, row.content_at, row.decided_at), phrases.lifted]
        return Notice(chosen, phrases.subject_lifted, (*said, phrases.reference.format(decision=row.id)))
    if row.route == Route.ALLOW:
        raise Conflict(
            "This decision allows the post, so there is nothing to tell its author.", code="no_restriction"
        )
    facts = derived.facts_of(session, policies, row, now)
    redress = _redress(session, row, told_until, now)
    days = policies.current(session, now).review.appeal_days
    said = [*_what(phrases, facts), *_why(phrases, facts, row.policy_version), _how(phrases, facts)]
    said.append(_rights(phrases, redress, told_until, days))
    subject = phrases.subject_removed if row.route == Route.REMOVE else phrases.subject_limited
    return Notice(
        language=chosen,
        subject=subject,
        paragraphs=(*said, phrases.reference.format(decision=row.id)),
        redress=redress,
        appeal_until=told_until if redress is Redress.OPEN else None,
    )


def _redress(session: Session, row: Decision, told_until: datetime | None, now: datetime) -> Redress:
    if row.superseded_at is not None and row.superseded_at <= now:
        return Redress.REPLACED
    answered = select(Appeal.id).where(
        Appeal.item_id == row.item_id, Appeal.outcome_id == row.id, Appeal.by == "author"
    )
    if session.scalar(answered.limit(1)) is not None:
        return Redress.FINAL
    return Redress.OVER if told_until is not None and told_until < now else Redress.OPEN


def _opening(phrases: Phrases, posted: datetime | None, decided: datetime) -> str:
    if posted is None:
        return phrases.opening_decided.format(date=_day(decided))
    return phrases.opening.format(date=_day(posted))


def _what(phrases: Phrases, facts: Facts) -> list[str]:
    """What was done to the post and to the account, and from when until when."""
    if facts.verdict is Verdict.REMOVE:
        done = phrases.removed
    else:
        restrictions: Sequence[Restriction] = facts.restrictions or (Restriction.DEMOTE,)
        done = phrases.limited.format(limits=", ".join(phrases.limits[one] for one in restrictions))
    post = [done, phrases.applies.format(date=_day(facts.effective_at)), phrases.endless]
    said = [_opening(phrases, facts.content_at, facts.decided_at), " ".join(post)]
    if facts.measure:
        until = [phrases.until.format(date=_day(facts.until))] if facts.until else []
        said.append(" ".join([phrases.measures[facts.measure], *until]))
    return said


def _why(phrases: Phrases, facts: Facts, version: int) -> list[str]:
    """The rule, and the law if the policy names one."""
    clause = facts.clause
    if clause and clause.id != facts.category:
        said = [phrases.clause.format(clause=clause.id, version=version, rule=clause.rule), clause.reason]
    elif facts.category is not None and facts.category in phrases.categories:
        said = [phrases.category.format(version=version, category=phrases.categories[facts.category])]
    else:
        said = [phrases.unscreened.format(version=version)]
    if clause and clause.law:
        said.append(phrases.law.format(law=clause.law))
    return [" ".join(one for one in said if one)]


def _how(phrases: Phrases, facts: Facts) -> str:
    """How it was found, and who decided."""
    said = [phrases.source_report if facts.source is Source.REPORT else phrases.source_own]
    if statements.detected(facts):
        said.append(phrases.detected)
    decided = {
        Automation.FULLY: phrases.fully,
        Automation.PARTIALLY: phrases.partially,
        Automation.NOT: phrases.not_automated,
    }
    return " ".join([*said, decided[statements.automation(facts)]])


def _rights(phrases: Phrases, redress: Redress, until: datetime | None, days: float) -> str:
    """What the author can do: object here, a settlement body, a court."""
    if redress is Redress.OPEN and until is not None:
        here = phrases.appeal.format(date=_day(until))
    else:
        here = {
            Redress.OPEN: phrases.appeal_days.format(days=f"{days:g}"),
            Redress.OVER: phrases.over,
            Redress.FINAL: phrases.final,
            Redress.REPLACED: phrases.replaced,
        }[redress]
    return f"{here} {phrases.settlement} {phrases.court}"


def _day(at: datetime) -> str:
    """A day as everybody everywhere reads it."""
    return at.astimezone(UTC).date().isoformat()
