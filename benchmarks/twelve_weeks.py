"""The loop on real text for a quarter: `python -m benchmarks.twelve_weeks --data FILE --base DIR [--weeks 12]`.

A community of its own (`benchmarks.community`) begins without a certificate: people judge everything, and err now
and then. Each week comments arrive that no model was trained on, the real pipeline screens them, people judge what
is routed or drawn, certificates are renewed; every other week a head is learned from the labels, judged by its
gates, certified in the shadow and promoted by two. Everything is the service's own code on a real database; only
the clock, the comments and the people are ours. Printed per week: hours, the share decided under certificates, and
the true error, which only the benchmark knows.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import structlog
from sqlalchemy import select

from benchmarks.community import CLIENT, RULE, Comment, Community, comments, policy_document
from benchmarks.review import Place, installation
from moderation import jobs, learning, worker
from moderation.domain.access import Role
from moderation.domain.policy import Policy
from moderation.domain.promises import Occasion, Side
from moderation.governance import certification, ledger, models, policies, promotions, watching
from moderation.governance.models import OPERATOR
from moderation.storage import partitions
from moderation.storage.database import among, transaction
from moderation.storage.tables import Decision
from tests import people

SOURCES = ("jigsaw_ml", "jigsaw_bin")
SECONDS_AN_OPINION = 45.0
LOGGED = 5000  # events numbered at once
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Week:
    """One week as it went. Shares are of the week's comments; errors are the truth, per side of the rule."""

    number: int
    comments: int
    opinions: int
    automated: float
    removed: int
    wrongly: int
    allowed: int
    missed: int
    remove_from: float | None
    allow_below: float | None
    model: str

    @property
    def hours(self) -> float:
        """What people spent."""
        return self.opinions * SECONDS_AN_OPINION / 3600


@dataclass(slots=True)
class Quarter:
    """What the weeks share."""

    place: Place
    policy: Policy
    options: argparse.Namespace
    community: Community | None = None
    learned: int = 0
    heads: str = "base"
    version: str = ""  # of the head that serves, or of the base


def main() -> int:
    """Live through the weeks, print a table, and keep the numbers for the plot."""
    options = _options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    arriving = comments(options.data, SOURCES, options.seed)
    if len(arriving) < options.weeks * options.a_week:
        raise SystemExit(f"There are {len(arriving):,} comments, too few for so many weeks; ask for fewer.")
    # Ahead of the real clock: whatever expires by it is still there in the weeks to come.
    started = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="weeks-") as folder, installation(Path(folder)) as place:
        quarter = Quarter(place, _prepared(place, options, started), options)
        weeks = []
        for number in range(options.weeks):
            some = arriving[number * options.a_week : (number + 1) * options.a_week]
            began = time.monotonic()
            week = _week(quarter, number + 1, some, started + timedelta(days=7 * number))
            weeks.append(week)
            print(f"{_line(week)}  ({time.monotonic() - began:.0f} s)", flush=True)
    document = {
        "options": {k: str(v) for k, v in vars(options).items()},
        "weeks": [asdict(one) for one in weeks],
    }
    options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    _summary(weeks, options)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="labelled.parquet, as training reads it")
    parser.add_argument(
        "--base", type=Path, required=True, help="a text artifact that never saw the comments"
    )
    parser.add_argument("--weeks", type=int, default=12)
    parser.add_argument("--a-week", type=int, default=1900, help="comments in a week")
    parser.add_argument(
        "--errs", type=float, default=0.05, help="how often a person's verdict is the other one"
    )
    parser.add_argument(
        "--wrong", type=float, default=0.1, help="promise: of removals, so many wrong at most"
    )
    parser.add_argument(
        "--missed", type=float, default=0.03, help="promise: of what passes, so many insults at most"
    )
    parser.add_argument(
        "--learn-every", type=int, default=3, help="weeks between two rounds of learning; 0: never"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("twelve-weeks.json"))
    return parser.parse_args()


def _prepared(place: Place, options: argparse.Namespace, started: datetime) -> Policy:
    """The community's policy in force, the base model serving, and months for everything that comes."""
    now = datetime.now(UTC)
    with place.databases.content.begin() as connection:
        partitions.ensure(connection, started, months_ahead=options.weeks // 4 + 2)
    with transaction(place.databases.content) as session:
        document = policy_document(options.wrong, options.missed, options.weeks)
        policy = policies.publish(session, document, OPERATOR, now)
        base = models.add(session, options.base, place.settings.models, OPERATOR, now).manifest
        # Nobody votes on what an installation begins with.
        models.point(session, base.name, models.CHAMPION, base.version, now)
    return policy


def _week(quarter: Quarter, number: int, arrived: Sequence[Comment], now: datetime) -> Week:
    place = quarter.place
    with worker.tools(place.settings) as tools:
        if quarter.community is None:
            quarter.community = Community(tools, quarter.policy, quarter.options.errs, random.Random(number))
            quarter.community.staff()
        community = quarter.community
        community.tools = tools
        _watch(place, now)
        ids = community.post(arrived, now)
        screen = jobs.screen_handler(place.settings, tools, lambda: now + MINUTE)
        while (claim := community.claim(now + MINUTE)) is not None:
            screen(str(claim.token), [str(one) for one in claim.ids])
        opinions = community.judge_all(now + 10 * MINUTE)
        week = _measured(quarter, number, ids, opinions, now + MINUTE)
    _certify(quarter, now + 30 * MINUTE)
    every = quarter.options.learn_every
    if every and number % every == 0 and number < quarter.options.weeks:
        _learn(quarter, now + 40 * MINUTE)
    return week


def _watch(place: Place, now: datetime) -> None:
    """What upkeep does every few seconds: no certificate holds that nobody watches."""
    with transaction(place.databases.content) as session:
        while ledger.sequence(session, LOGGED):
            pass
    watching.watch(place.databases.content, policies.PolicyCache(), now)


def _measured(quarter: Quarter, number: int, ids: Sequence[UUID], opinions: int, now: datetime) -> Week:
    """The week by what was decided first of each comment, against the truth."""
    assert quarter.community is not None
    truth = quarter.community.truth
    with transaction(quarter.place.databases.content) as session:
        rows = session.execute(
            select(Decision.item_id, Decision.route, Decision.certificates).where(
                among(Decision.item_id, ids), Decision.supersedes.is_(None)
            )
        ).all()
        held = certification.in_force(session, quarter.policy, now).certificates
    serving = {one.side: one.threshold for one in held.values() if one.category == RULE}
    certified = [(item, route) for item, route, certificates in rows if certificates]
    removed = [truth[item] for item, route in certified if route == Side.REMOVE]
    allowed = [truth[item] for item, route in certified if route == Side.ALLOW]
    return Week(
        number=number,
        comments=len(ids),
        opinions=opinions,
        automated=len(certified) / len(ids),
        removed=len(removed),
        wrongly=removed.count(False),
        allowed=len(allowed),
        missed=allowed.count(True),
        remove_from=serving.get(Side.REMOVE),
        allow_below=serving.get(Side.ALLOW),
        model=quarter.heads,
    )


def _certify(quarter: Quarter, now: datetime) -> None:
    with transaction(quarter.place.databases.content) as session:
        certification.certify(session, quarter.policy, OPERATOR, now, Occasion.SCHEDULE)


def _learn(quarter: Quarter, now: datetime) -> None:
    """`moderation learn` for the community, and a second person who promotes what it proposes."""
    place = quarter.place
    _watch(place, now)
    proposer = f"proposer-{now:%Y%m%d}@example.org"
    people.new_person(place.databases, place.vault, Role.TRAINER, email=proposer)
    wanted = learning.Wanted(client=CLIENT, categories=(RULE,), by=proposer)
    with patch.object(learning, "_now", lambda: now), patch.object(jobs, "utc_now", lambda: now):
        came = learning.run(place.settings, wanted, OPERATOR, lambda said: print(f"  {said}", flush=True))
    if came.trouble or came.name is None or came.version is None:
        return
    with transaction(place.databases.content) as session:
        held = certification.in_force(session, quarter.policy, now).certificates.values()
    # Of what served before, the head's or the base's: those of others are still there and say nothing.
    serving = [one for one in held if quarter.version in one.lineup and came.version not in one.lineup]
    if came.document["certified"].get("proved", 0) < len(serving):
        # What nobody proved yet would send back to people what needs nobody now: the second person says no.
        with transaction(place.databases.content) as session:
            lead = promotions.logged_in(people.principal(place.databases, place.vault, Role.LEAD))
            promotions.refuse(session, lead, came.name, came.version, now + MINUTE)
        return
    second = people.principal(place.databases, place.vault, Role.LEAD)
    with transaction(place.databases.content) as session:
        by = promotions.logged_in(second)
        promotions.promote(session, place.settings.models, by, came.name, came.version, now + MINUTE)
    quarter.learned += 1
    quarter.heads, quarter.version = f"head {quarter.learned}", came.version


def _line(week: Week) -> str:
    """A row of the table."""
    bounds = " / ".join(
        f"{one:.4f}" if one is not None else "-" for one in (week.allow_below, week.remove_from)
    )
    return (
        f"| {week.number} | {week.hours:.1f} | {week.automated:.1%} | {week.missed} of {week.allowed} | "
        f"{week.wrongly} of {week.removed} | {bounds} | {week.model} |"
    )


def _summary(weeks: Sequence[Week], options: argparse.Namespace) -> None:
    """Every week against the promises, and the quarter as a whole."""
    for side, wrong, acted, promise in (
        ("missed", [one.missed for one in weeks], [one.allowed for one in weeks], options.missed),
        ("wrong", [one.wrongly for one in weeks], [one.removed for one in weeks], options.wrong),
    ):
        broken = [n + 1 for n, (w, a) in enumerate(zip(wrong, acted, strict=True)) if a and w / a > promise]
        share = f"{sum(wrong) / sum(acted):.2%}" if sum(acted) else "nothing"
        print(
            f"{side}: {share} of {sum(acted):,} in all; promised {promise:.1%}; weeks above it: {broken or 'none'}"
        )


if __name__ == "__main__":
    sys.exit(main())
