"""The transparency report (Articles 15 and 24 of the Digital Services Act): numbers of a period, of nobody by name.

What it says of restrictions is the sum of the statements of reasons that took effect in the period; the database
counts, and one statement of each kind says where its number belongs.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.orm import Session

from moderation.domain import statements
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, DecidedBy, Restriction
from moderation.domain.errors import InvalidInput
from moderation.domain.estimates import Estimate, share_wrong
from moderation.domain.statements import Act, Facts, Source
from moderation.governance import prevalence
from moderation.governance.policies import PolicyCache
from moderation.governance.prevalence import Prevalence
from moderation.storage.ids import lower_bound

MOST_DAYS = 5 * 366
# No decision waits longer than this for its undo window to end.
LATE = timedelta(days=1)

# By the fields of a statement: what the report counts them by.
BY: Mapping[str, str] = {
    "category": "category",
    "source": "source_type",
    "detection": "automated_detection",
    "automation": "automated_decision",
    "visibility": "decision_visibility",
    "account": "decision_account",
    "ground": "decision_ground",
    "content_type": "content_type",
    "language": "content_language",
}


@dataclass(frozen=True, slots=True)
class Report:
    """The numbers of a period, as one document: sections of measures of keys, all of them counts or shares."""

    since: datetime
    until: datetime
    made_at: datetime
    sections: Mapping[str, Mapping[str, Any]]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        period = {
            "since": _moment(self.since),
            "until": _moment(self.until),
            "made_at": _moment(self.made_at),
        }
        return {"report": "transparency", **period, **self.sections}


def report(
    session: Session, policies: PolicyCache, since: datetime, until: datetime, now: datetime
) -> Report:
    """Count a period, from `since` up to `until`.

    Raises:
        InvalidInput: it ends before it begins, or is too long.
    """
    if not since < until <= since + timedelta(days=MOST_DAYS):
        raise InvalidInput("A report needs a period of at most five years, which begins before it ends.")
    values = {
        "since": since,
        "until": until,
        "now": now,
        "first": lower_bound(since),
        "last": lower_bound(until),
        "early": lower_bound(since - LATE),
    }
    sections = {
        "statements": _statements(session, policies, values),
        "decisions": _decisions(session, values),
        "automation_error": _errors(session, values),
        "prevalence": _prevalence(session, since, until),
        "reports": _reports(session, values),
        "appeals": _appeals(session, values),
        "measures": _counted(session, _MEASURES, values),
        "authorities": _authorities(session, values),
        "subjects": _subjects(session, values),
        "minors": _counted(session, _MINORS, values),
        "people": _people(session, values),
    }
    return Report(since, until, now, sections)


_STATED = """
    d.route IN ('limit', 'remove') AND d.undone_at IS NULL AND d.effective_at <= :now
    AND (d.superseded_at IS NULL OR d.superseded_at > d.effective_at)
    AND d.id >= :early AND d.id < :last
    AND greatest(d.effective_at, d.decided_at) >= :since AND greatest(d.effective_at, d.decided_at) < :until
"""
# Always true of a row, and what lets PostgreSQL use the two partial indexes of decisions by item.
_ANY_TIME = "(e.superseded_at IS NULL OR e.superseded_at IS NOT NULL)"
_GROUPS = text(f"""
    SELECT d.policy_version, d.category, d.clause, d.route, d.restrictions, d.source, d.language,
        d.decided_by = 'person' AS person,
        CASE WHEN d.content_types <> '{{}}' THEN d.content_types ELSE ARRAY(
            SELECT DISTINCT p.kind FROM parts p WHERE p.item_id = d.item_id AND p.derived_from IS NULL
            ORDER BY p.kind
        ) END AS content_types,
        to_char(greatest(d.effective_at, d.decided_at) AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
        EXISTS (
            SELECT FROM opinions o
            WHERE o.item_id = d.item_id AND (o.given_at < d.decided_at OR o.decision_id = d.id)
        ) OR EXISTS (
            SELECT FROM decisions e WHERE e.item_id = d.item_id AND {_ANY_TIME}
                AND e.decided_by = 'person' AND e.decided_at < d.decided_at
        ) AS people_before,
        EXISTS (
            SELECT FROM decisions e WHERE e.item_id = d.item_id AND {_ANY_TIME}
                AND e.decided_by = 'machine' AND e.decided_at < d.decided_at
                AND (e.route IN ('limit', 'remove') OR (e.route = 'review' AND e.category IS NOT NULL))
        ) AS machine_before,
        (
            SELECT a.kind FROM account_actions a WHERE a.decision_id = d.id
            ORDER BY array_position(ARRAY['ban', 'suspend', 'strike', 'warn'], a.kind) LIMIT 1
        ) AS measure,
        count(*) AS number
    FROM decisions d WHERE {_STATED}
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
""")  # noqa: S608  our own words


def _statements(session: Session, policies: PolicyCache, values: Mapping[str, Any]) -> dict[str, Any]:
    """Statements by everything they name. A statement counts once under each name that it lists."""
    found: dict[str, Counter[str]] = {name: Counter() for name in (*BY, "month")}
    total = 0
    for row in session.execute(_GROUPS, values):
        record = statements.statement(_facts(session, policies, row, values["since"]))
        total += row.number
        found["month"][row.month] += row.number
        for name, field in BY.items():
            value = record.get(field, "none")
            for one in [value] if isinstance(value, str) else value:
                found[name][one] += row.number
    return {"total": total} | {f"by_{name}": _sorted(counts) for name, counts in found.items()}


def _facts(session: Session, policies: PolicyCache, row: Row[Any], at: datetime) -> Facts:
    """What all decisions of a group have in common; the moments are of no matter here."""
    policy = policies.version(session, row.policy_version)
    rule = policy.categories.get(row.category or "")
    acts = [Act(person=True, found=True)] if row.people_before else []
    acts += [Act(person=False, found=True)] if row.machine_before else []
    return Facts(
        decision_id="group",
        verdict=Verdict(row.route),
        category=row.category,
        clause=policy.clause(row.clause) if row.clause else None,
        policy=policy.name,
        eu_category=rule.eu_category if rule else None,
        restrictions=tuple(Restriction(one) for one in row.restrictions),
        measure=AccountMeasure(row.measure) if row.measure else None,
        until=None,
        person=row.person,
        before=tuple(acts),
        matched=False,
        source=Source(row.source) if row.source else Source.OWN,
        content_types=tuple(row.content_types),
        content_at=at,
        language=row.language,
        decided_at=at,
        effective_at=at,
    )


_DECISIONS = text("""
    SELECT d.decided_by, d.route, count(*) FROM decisions d
    WHERE d.id >= :first AND d.id < :last AND d.undone_at IS NULL GROUP BY 1, 2
""")
_RECEIVED = text("SELECT count(*) FROM items WHERE id >= :first AND id < :last")
_REVERSALS = text("""
    SELECT count(*) FROM decisions d WHERE d.id >= :first AND d.id < :last
        AND d.reverses IS NOT NULL AND d.undone_at IS NULL AND d.effective_at <= :now
""")


def _decisions(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """Who decided what. `review` is a machine that left it to people."""
    found = {str(by): dict.fromkeys(("allow", "limit", "remove", "review"), 0) for by in DecidedBy}
    for by, route, number in session.execute(_DECISIONS, values):
        found[by][route] = number
    del found[DecidedBy.PERSON]["review"]
    return {
        "items_received": session.scalar(_RECEIVED, values) or 0,
        "by_machine": found[DecidedBy.MACHINE],
        "by_person": found[DecidedBy.PERSON],
        "reversals": session.scalar(_REVERSALS, values) or 0,
    }


# The blind checks that were drawn of what machines decided alone: with which chance, and what came of them. What
# settles one is the last opinion that counts: a difference was looked at twice before its case was closed.
_CHECKS = text("""
    SELECT d.route = 'allow' AS allowed, c.propensity,
        c.state = 'closed' AND EXISTS (
            SELECT FROM opinions o WHERE o.case_id = c.id AND NOT o.late AND o.undone_at IS NULL
        ) AS judged,
        (
            SELECT o.verdict <> d.route FROM opinions o
            WHERE o.case_id = c.id AND NOT o.late AND o.undone_at IS NULL
            ORDER BY o.stage = 'adjudication' DESC, o.stage = 'second' DESC, o.id DESC LIMIT 1
        ) AS wrong
    FROM cases c JOIN decisions d ON d.id = c.decision_id
    WHERE c.kind = 'quality' AND c.reason = 'audit' AND c.propensity > 0
        AND d.id >= :first AND d.id < :last AND d.decided_by = 'machine' AND d.route <> 'review'
""")


def _errors(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """How often automated decisions are wrong, per side: of what was restricted, and of what was allowed."""
    rows = session.execute(_CHECKS, values).all()
    found = {}
    for side, allowed in (("restricted", False), ("allowed", True)):
        drawn = [row for row in rows if row.allowed == allowed]
        judged = [(float(row.propensity), bool(row.wrong)) for row in drawn if row.judged]
        found[side] = {"drawn": len(drawn), **_estimate(share_wrong(judged))}
    return found


def _estimate(one: Estimate) -> dict[str, Any]:
    return {"judged": one.checked, "wrong": one.wrong, **_interval(one)}


def _interval(one: Estimate | Prevalence) -> dict[str, float | None]:
    shares = {"share": one.share, "low": one.low, "high": one.high}
    return {name: None if value is None else round(value, 6) for name, value in shares.items()}


def _prevalence(session: Session, since: datetime, until: datetime) -> dict[str, Any]:
    """How much of what came in people restrict, of any category and of each that was found."""
    found = prevalence.prevalence(session, since, until)
    rows = {
        one.category: {"judged": one.judged, "found": one.found, **_interval(one)}
        for one in found.rows
        if one.found or one.category == prevalence.ANY
    }
    return {"items": found.items, "covered": round(found.covered, 6), **rows}


_REPORTED = text("""
    SELECT coalesce(details ->> 'category', 'unknown'), count(*) FROM audit_events
    WHERE id >= :first AND id < :last AND action = 'item.reported' GROUP BY 1
""")
_SETTLED = text("""
    SELECT coalesce(outcome, 'waiting'), count(*) FROM reports
    WHERE reported_at >= :since AND reported_at < :until GROUP BY 1
""")
_HANDLED = text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM d.decided_at - r.reported_at))
    FROM reports r JOIN decisions d ON d.id = r.settled_by
    WHERE r.reported_at >= :since AND r.reported_at < :until AND d.decided_at >= r.reported_at
""")


def _reports(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """Notices by users. They end with the posts they are about, so that outcomes are of those still kept."""
    received = _counts(session, _REPORTED, values)
    settled = dict.fromkeys(("upheld", "rejected", "waiting"), 0) | _counts(session, _SETTLED, values)
    return {
        "received": sum(received.values()),
        "by_category": received,
        "outcome_of_those_kept": settled,
        "median_hours": _hours(session.scalar(_HANDLED, values)),
    }


_LODGED = text("""
    SELECT by, count(*), count(*) FILTER (WHERE state = 'open') FROM appeals
    WHERE lodged_at >= :since AND lodged_at < :until GROUP BY 1
""")
_CLOSED = text("""
    SELECT by, count(*) FILTER (WHERE state = 'upheld'), count(*) FILTER (WHERE state = 'reversed'),
        count(*) FILTER (WHERE state = 'withdrawn'),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM closed_at - lodged_at))
            FILTER (WHERE state IN ('upheld', 'reversed'))
    FROM appeals WHERE closed_at >= :since AND closed_at < :until AND state <> 'open' GROUP BY 1
""")


def _appeals(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """Complaints by authors and by reporters: lodged in the period, and decided in the period."""
    lodged = {by: (number, still) for by, number, still in session.execute(_LODGED, values)}
    closed = {by: rest for by, *rest in session.execute(_CLOSED, values)}
    found = {}
    for by in ("author", "reporter"):
        number, still = lodged.get(by, (0, 0))
        upheld, reversed_, withdrawn, median = closed.get(by, (0, 0, 0, None))
        found[by] = {
            "lodged": number,
            "still_open": still,
            "upheld": upheld,
            "reversed": reversed_,
            "withdrawn": withdrawn,
            "median_hours": _hours(median),
        }
    return found


_MEASURES = {
    "by_kind": text("""
        SELECT a.kind, count(*) FROM account_actions a
        WHERE a.effective_at >= :since AND a.effective_at < :until AND a.effective_at <= :now GROUP BY 1
    """),
    "reversed": text("""
        SELECT a.kind, count(*) FROM account_actions a
        WHERE a.reversed_at >= :since AND a.reversed_at < :until AND a.reversed_at <= :now GROUP BY 1
    """),
}
_HOLDS = {
    "holds_requested": text(
        "SELECT scope, count(*) FROM holds WHERE requested_at >= :since AND requested_at < :until GROUP BY 1"
    ),
    "holds_decided": text("""
        SELECT CASE WHEN approved_by IS NOT NULL THEN 'approved' WHEN state = 'refused' THEN 'refused'
            ELSE 'taken_back' END, count(*) FROM holds
        WHERE decided_at >= :since AND decided_at < :until GROUP BY 1
    """),
    "disclosures": text("""
        SELECT state, count(*) FROM disclosures
        WHERE requested_at >= :since AND requested_at < :until GROUP BY 1
    """),
}
_EXPORTED = text("SELECT count(*) FROM disclosures WHERE exported_at >= :since AND exported_at < :until")
_SUBJECTS = {
    "received": text("""
        SELECT kind, count(*) FROM subject_requests
        WHERE received_at >= :since AND received_at < :until GROUP BY 1
    """),
    "closed": text("""
        SELECT state, count(*) FROM subject_requests
        WHERE closed_at >= :since AND closed_at < :until GROUP BY 1
    """),
}
_LATE = text("""
    SELECT count(*) FROM subject_requests
    WHERE due_at >= :since AND due_at < :until AND due_at < least(coalesce(closed_at, :now), :now)
""")
_MINORS = {
    "checks": text("""
        SELECT state, count(*) FROM minor_checks
        WHERE opened_at >= :since AND opened_at < :until GROUP BY 1
    """),
    "accounts_removed": text("""
        SELECT 'total', count(*) FROM minor_checks
        WHERE decided_at >= :since AND decided_at < :until AND state = 'confirmed' AND erasure_id IS NOT NULL
    """),
}


def _counted(
    session: Session, queries: Mapping[str, TextClause], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Each query's counts by its own words."""
    return {name: _counts(session, query, values) for name, query in queries.items()}


def _counts(session: Session, query: TextClause, values: Mapping[str, Any]) -> dict[str, int]:
    return _sorted({str(word): int(number) for word, number in session.execute(query, values)})


def _authorities(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """Orders and requests of authorities, and what was handed over to them."""
    return _counted(session, _HOLDS, values) | {"disclosed": session.scalar(_EXPORTED, values) or 0}


def _subjects(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """What people asked for of their own data, and how often we were late."""
    return _counted(session, _SUBJECTS, values) | {"late": session.scalar(_LATE, values) or 0}


_ACTIVE = text("""
    SELECT p.languages FROM people p WHERE EXISTS (
        SELECT FROM opinions o WHERE o.person_id = p.id AND o.given_at >= :since AND o.given_at < :until
    )
""")


def _people(session: Session, values: Mapping[str, Any]) -> dict[str, Any]:
    """How many people judged, and in which languages; who named none works in any."""
    active = session.scalars(_ACTIVE, values).all()
    spoken = Counter(language for languages in active for language in (languages or ["any"]))
    return {"moderators": len(active), "by_language": _sorted(spoken)}


def as_json(made: Report) -> str:
    """The report as a JSON document."""
    return json.dumps(made.document(), indent=2, ensure_ascii=False) + "\n"


def as_csv(made: Report) -> str:
    """The report as rows of section, measure, key and value; what is unknown is empty."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow(["section", "measure", "key", "value"])
    for name, value in list(made.document().items()):
        for measure, key, number in _rows(value):
            writer.writerow([name, measure, key, "" if number is None else number])
    return sheet.getvalue()


def _rows(value: Any) -> Iterator[tuple[str, str, Any]]:
    if not isinstance(value, Mapping):
        yield "", "", value
        return
    for measure, inner in value.items():
        if isinstance(inner, Mapping):
            yield from ((measure, key, number) for key, number in inner.items())
        else:
            yield measure, "", inner


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(float(seconds) / 3600, 2)


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
