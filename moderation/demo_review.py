"""A day of review to look at: `moderation demo --review` fills a local installation as if people had worked in it.

Unlike the plain demonstration it works from inside, on the database: a day can't be lived through in a minute, and
only the services take the time as an argument. Everything is made by them: intake, screening by the installed
models, reports, claims, opinions, appeals. What is said is mild or masked; the people are made up and have no
password. It runs once, and only where no other content service has posted anything but the plain demonstration.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from moderation import demo, demo_governance, demo_texts, worker
from moderation.demo_texts import Line
from moderation.domain.access import Role, granted
from moderation.domain.cases import CaseKind, CaseState, Stage, Verdict
from moderation.domain.content import Context, ImagePart, ItemState, Submission, TextPart
from moderation.domain.decisions import AccountMeasure, Judgement, Restriction
from moderation.domain.errors import Refusal
from moderation.domain.policy import Policy
from moderation.features.hashes import text_digest
from moderation.governance import banks, people
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import intake, run
from moderation.pipeline.run import Tools
from moderation.review import appeals, cases, decisions, golden, opinions, reports
from moderation.review.appealed import By
from moderation.review.listing import Filter
from moderation.review.views import Claim
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Appeal, Case, Decision, Item
from moderation.storage.vault import Vault

CLIENT = "demo"
BANK = "demo_campaigns"
SEED = 20
DAY = timedelta(hours=24)
STEP = timedelta(minutes=15)
ITEMS = 420
LOOKED_AT = 200
STAFF: Mapping[str, tuple[Role, ...]] = {
    "demo.ada": (Role.MODERATOR,),
    "demo.ben": (Role.MODERATOR,),
    "demo.chi": (Role.MODERATOR,),
    "demo.dan": (Role.MODERATOR,),
    "demo.lea": (Role.LEAD, Role.MODERATOR),
}
# Nobody on duty reads Finnish: what is posted in it is left to become overdue.
LANGUAGES = ["en", "de", "es", "fr"]
WORKED_OFF = 0.4  # cases that are judged, in relation to items: fewer than are opened


@dataclass(slots=True)
class _Day:
    """What the day's makers share, and what they count."""

    tools: Tools
    policy: Policy
    chance: random.Random
    staff: list[PersonPrincipal]
    truth: dict[UUID, Line] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)

    @property
    def databases(self) -> Databases:
        return self.tools.databases

    @property
    def vault(self) -> Vault:
        return self.tools.vault


def run_day(settings: Settings, now: datetime | None = None, items: int = ITEMS) -> int:
    """Fill the installation and print what was made. 0 if there is a day to look at, made now or before."""
    until = now or datetime.now(UTC)
    with worker.tools(settings, random.Random(SEED).random) as tools:  # noqa: S311 - which to check, in a demonstration
        refusal = _refusal(tools)
        if refusal is not None:
            Console(stderr=True, soft_wrap=True).print(refusal[1], highlight=False)
            return refusal[0]
        with transaction(tools.databases.content) as session:
            policy = tools.policies.current(session)
        day = _Day(tools, policy, random.Random(SEED), _staff(tools, until - DAY))  # noqa: S311 - as above
        _live(day, until, items)
        _leave_some_in_hand(day, until)
        place = demo_governance.Place(tools.databases, tools.vault, tools.blobs, policy, CLIENT)
        day.made += demo_governance.fill(place, until)
        _print(day)
    return 0


def _refusal(tools: Tools) -> tuple[int, str] | None:
    """Why there is nothing to do here, and the exit status; None if the day can be made."""
    with transaction(tools.databases.content) as session:
        if session.scalar(select(Item.id).where(Item.client == CLIENT).limit(1)) is not None:
            return 0, "The day of review was made before; look at /console/ or start with another --data-dir."
        others = session.scalars(select(Item).where(Item.client != CLIENT).limit(LOOKED_AT + 1)).all()
        ours = len(others) <= LOOKED_AT and all(_of_plain_demo(tools.vault, item) for item in others)
    if ours:
        return None
    return 1, (
        "This installation holds posts of a content service, and made-up ones must not be mixed with them. "
        "Use another one: moderation up --data-dir DIR, then moderation demo --review --data-dir DIR."
    )


def _of_plain_demo(vault: Vault, item: Item) -> bool:
    key = vault.item_keys([item.id]).get(item.id)
    if key is None or item.details is None:
        return True  # gone: there is nothing left to be mixed
    details = json.loads(key.decrypt(item.details, "items", "details", str(item.id)))
    return str(details["external_id"]).startswith("demo-")


def _staff(tools: Tools, at: datetime) -> list[PersonPrincipal]:
    """People with obvious names. None has a password or a second factor, so none of them can log in."""
    made = []
    with transaction(tools.databases.content) as session:
        for name, roles in STAFF.items():
            person = people.add(session, tools.vault, f"{name}@example.org", roles, "", at)
            person.languages = LANGUAGES
            session.flush()
            made.append(
                PersonPrincipal(
                    person.id, uuid4(), frozenset(map(str, roles)), granted(roles), confirmed_at=at
                )
            )
    return made


# --- the day, a quarter of an hour at a time ---


def _live(day: _Day, until: datetime, items: int) -> None:
    lines = demo_texts.lines(day.chance, items)
    with transaction(day.databases.content) as session:
        banks.create(
            session, name=BANK, kind="text", category="spam", action="review", allow=False, actor="operator",
            now=until - DAY,
        )  # fmt: skip
        for digest in sorted({text_digest(line.text) for line in lines if line.known}):
            banks.add_entry(
                session, bank=BANK, digest=digest, note="A campaign of this demonstration.", verified=True,
                actor="operator", now=until - DAY,
            )  # fmt: skip
    steps = int(DAY / STEP) - 1
    share = len(lines) / steps
    # Two people at a time, two cases at a time.
    busy = WORKED_OFF * len(lines) / (steps * 4)
    for number in range(steps):
        at = until - DAY + STEP * number
        _post(day, lines[round(number * share) : round((number + 1) * share)], at)
        if number % 32 == 20:
            _bury_one(day, at)
        for person in day.staff:
            if day.chance.random() < busy and _on_duty(day, person, number):
                _work(day, person, at + timedelta(minutes=day.chance.uniform(5, 12)))
        if number % 8 == 5:
            _appeal(day, at + timedelta(minutes=13))
        if number == steps // 2:
            _make_golden(day, at + timedelta(minutes=14))


def _on_duty(day: _Day, person: PersonPrincipal, step: int) -> bool:
    if Role.LEAD in person.roles:
        return 20 <= step < 64  # what comes up later waits for tomorrow
    return (step - 19 * day.staff.index(person)) % 96 < 44


def _post(day: _Day, lines: Sequence[Line], at: datetime) -> None:
    """Intake, screening and reports, as of `at`."""
    if not lines:
        return
    moments = [at + timedelta(seconds=n) for n in range(len(lines))]
    requests = [
        intake.Request(
            _submission(line, f"demo-review-{len(day.truth) + n}", moments[n]),
            f"demo-review-{len(day.truth) + n}",
        )
        for n, line in enumerate(lines)
    ]
    ids, token = _accept(day, requests, at)
    day.truth.update(zip(ids, lines, strict=True))
    screened = run.examine(
        day.tools, token, ids, at + timedelta(seconds=len(lines) + 2), timedelta(minutes=5)
    )
    with transaction(day.databases.content) as session:
        run.commit(session, token, screened)
    day.made["items, screened by the installed models"] += len(ids)
    for item, line in zip(ids, lines, strict=True):
        for number in range(line.reports):
            who = f"reader-{day.chance.randrange(60)}"
            with transaction(day.databases.content) as session:
                moment = at + timedelta(minutes=3 + number)
                reports.report(
                    session,
                    day.vault,
                    day.policy,
                    CLIENT,
                    item,
                    who,
                    line.category or "spam",
                    line.comment,
                    moment,
                )
            day.made["reports by readers"] += 1


def _accept(day: _Day, requests: Sequence[intake.Request], at: datetime) -> tuple[list[UUID], UUID]:
    """Items in our hands, and the token of the lease."""
    token = uuid4()
    with transaction(day.databases.content) as session:
        answers = intake.accept(session, day.vault, day.tools.blobs, day.policy, CLIENT, requests, at)
        ids = [answer.id for answer in answers if isinstance(answer, intake.Accepted)]
        assert len(ids) == len(requests)
        # Before anybody can see them: a running worker would screen them too, and as of now.
        lease = datetime.now(UTC) + timedelta(minutes=10)
        held = {"state": ItemState.LEASED, "lease_token": token, "lease_until": lease}
        session.execute(update(Item).where(Item.id.in_(ids)).values(held))
    return ids, token


def _submission(line: Line, name: str, at: datetime) -> Submission:
    parts: tuple[TextPart | ImagePart, ...] = (TextPart("body", line.text),)
    if line.picture is not None:
        _, data = list(demo.pictures(line.picture))[line.picture % 2]
        parts += (ImagePart("photo", data, "image/jpeg" if line.picture % 2 == 0 else "image/png"),)
    context = Context(thread=line.thread, reach=line.reach, language=line.language)
    return Submission(name, line.author, "comment", parts, context, posted_at=at)


def _bury_one(day: _Day, at: datetime) -> None:
    """An item that could not be screened at all, as if it had broken every attempt."""
    name = f"demo-review-broken-{day.made['dead letters']}"
    line = demo_texts.plain(day.chance)
    (item,), token = _accept(day, [intake.Request(_submission(line, name, at), name)], at)
    day.truth[item] = line
    with transaction(day.databases.content) as session:
        run.give_back(session, day.policy, token, [item], at, 0, timedelta(seconds=1))
    day.made["dead letters"] += 1


# --- what people do ---


def _work(day: _Day, person: PersonPrincipal, at: datetime) -> None:
    """Take the next case and judge it, mostly rightly; now and then skip it, escalate it or take it back."""
    for _ in range(2):
        claim = _claim(day, person, at)
        if claim is None:
            return
        kind = day.chance.random()
        at += timedelta(seconds=day.chance.uniform(20, 90))
        with transaction(day.databases.content) as session:
            if kind < 0.04:
                cases.skip(session, person, claim.case_id, claim.number, "unsure", at)
                day.made["cases passed on"] += 1
            elif kind < 0.07 and Role.LEAD not in person.roles:
                note = "I can't tell whether this is meant as a joke; please have a look."
                cases.escalate(session, day.vault, person, claim.case_id, claim.number, note, at)
                day.made["cases escalated"] += 1
            else:
                _judge(day, session, person, claim, at)


def _claim(day: _Day, person: PersonPrincipal, at: datetime) -> Claim | None:
    with transaction(day.databases.content) as session:
        dice = (day.chance.random() / 4, day.chance.random())
        return cases.next_case(session, day.policy, person, Filter(), *dice, at)


def _judge(day: _Day, session: Session, person: PersonPrincipal, claim: Claim, at: datetime) -> None:
    case = session.get_one(Case, claim.case_id)
    judgement = _judgement(day, case)
    given = opinions.Given(uuid4(), judgement, note=_note(day))
    dice = day.chance.random() / 4  # more is checked than in a real day, so that there is something to see
    with suppress(Refusal):  # an appeal whose answer would be graver than what was appealed, for one
        answer = opinions.give(session, day.vault, day.policy, person, case.id, claim.number, given, at, dice)
        day.made["opinions"] += 1
        day.made["account measures"] += judgement.measure is not None and answer.decision_id is not None
        if answer.undo is not None and day.chance.random() < 0.02:
            decisions.undo(session, day.policy, person, UUID(answer.undo.id), at + timedelta(seconds=4))
            cases.release(session, person, case.id, case.claim_number, at + timedelta(seconds=5))
            day.made["decisions taken back"] += 1


def _judgement(day: _Day, case: Case) -> Judgement:
    line = day.truth[case.item_id]
    wrong = day.chance.random() < 0.12 and Stage(case.stage) is not Stage.ADJUDICATION
    if (line.category is None) is not wrong:
        return Judgement(Verdict.ALLOW)
    category = line.category or case.category or "harassment"
    if case.kind == CaseKind.APPEAL and day.chance.random() < 0.5:
        return Judgement(Verdict.ALLOW)
    rule = day.policy.categories[category]
    if rule.severity <= 2 and day.chance.random() < 0.5:
        return Judgement(Verdict.LIMIT, category, restrictions=(Restriction.DEMOTE,))
    if category == "self_harm":
        return Judgement(Verdict.LIMIT, category, restrictions=(Restriction.LABEL,))
    measure = None
    if case.kind == CaseKind.REVIEW and day.chance.random() < 0.25:
        weights = {AccountMeasure.WARN: 6, AccountMeasure.STRIKE: 3, AccountMeasure.SUSPEND: 1}
        (measure,) = day.chance.choices(list(weights), list(weights.values()))
    return Judgement(Verdict.REMOVE, category, measure=measure)


def _note(day: _Day) -> str | None:
    return day.chance.choice(demo_texts.NOTES) if day.chance.random() < 0.06 else None


def _appeal(day: _Day, at: datetime) -> None:
    """The author of something limited or removed asks for another look."""
    with transaction(day.databases.content) as session:
        candidates = session.scalars(
            select(Decision)
            .where(
                Decision.client == CLIENT,
                Decision.superseded_at.is_(None),
                Decision.route.in_(("limit", "remove")),
                Decision.effective_at < at,
                ~select(Appeal.id).where(Appeal.item_id == Decision.item_id).exists(),
            )
            .order_by(Decision.id)
        ).all()
        if not candidates:
            return
        decision = day.chance.choice(candidates)
        said = day.chance.choice(demo_texts.STATEMENTS)
        with suppress(Refusal):
            appeals.lodge(session, day.vault, day.policy, CLIENT, decision.id, By.AUTHOR, None, said, at)
            day.made["appeals"] += 1


def _make_golden(day: _Day, at: datetime) -> None:
    lead = day.staff[-1]
    with transaction(day.databases.content) as session:
        decided = session.scalars(
            select(Decision)
            .where(
                Decision.client == CLIENT,
                Decision.decided_by == "person",
                Decision.superseded_at.is_(None),
                Decision.effective_at < at,
            )
            .order_by(Decision.id)
        ).all()
        right = [
            one
            for one in decided
            if (one.route == Verdict.ALLOW) is (day.truth[one.item_id].category is None)
        ]
        for decision in right[:6]:
            with suppress(Refusal):
                golden.add(session, lead, decision.item_id, at)
                day.made["golden items"] += 1


def _leave_some_in_hand(day: _Day, until: datetime) -> None:
    """One case in somebody's hands right now, and one whose claim ran out without a sign of life."""
    # Both went home long ago and hold nothing else. The stale one comes second, or it would be taken by the first.
    for person, ago in ((day.staff[0], timedelta(minutes=2)), (day.staff[1], timedelta(minutes=42))):
        if _claim(day, person, until - ago) is not None:
            day.made["cases in somebody's hands, one of them a stale claim"] += 1


# --- what is said about it ---


def _print(day: _Day) -> None:
    with transaction(day.databases.content) as session:
        opened = session.scalars(
            select(Case).where(
                Case.client == CLIENT, Case.state == CaseState.OPEN, Case.kind != CaseKind.GOLDEN
            )
        ).all()
        now = datetime.now(UTC)
        day.made["cases open now"] = len(opened)
        day.made["of these before a lead, because opinions differ or somebody asked"] = sum(
            case.stage == Stage.ADJUDICATION for case in opened
        )
        day.made["of these overdue"] = sum(case.deadline < now for case in opened)
        states = Counter(session.scalars(select(Appeal.state).where(Appeal.client == CLIENT)))
    day.made["appeals still open"] = states["open"]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column()
    for name, count in day.made.items():
        table.add_row(str(count), name)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"\nOver the last 24 hours, by made-up people who can't log in: {', '.join(STAFF)}.")
    console.print(
        f"Holds and requests are answered by {' and '.join(demo_governance.OFFICERS)}: see /console/governance."
    )
    console.print(
        "Look at it under /console/, logged in as the admin of first-run.json, who is a lead as well."
    )
