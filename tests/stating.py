"""Made-up days of moderation, drawn from a seed: posts, reports, machines, people, reversals, appeals.

Everything goes through the services, as it would; what is random is what everybody says. All that people write is
made of words that occur nowhere else, so that a single one of them in a text of ours would be found.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import select

from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.content import Context, ImagePart, Lane, Submission, TextPart
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement, Outcome, Restriction
from moderation.domain.errors import Refusal
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.domain.signals import BankAction, Category, Match
from moderation.governance import policies
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import intake
from moderation.pipeline.intake import Accepted, Request
from moderation.review import appeals, cases, decisions, opinions, reports
from moderation.review.appealed import By
from moderation.review.opinions import Given
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Item
from moderation.storage.vault import Vault
from tests import people

CLIENT = "app"
LANGUAGES = ("en", "de-AT", "pt-BR", "zh", "fil", "iw", "x-nn", None)
LETTERS = "bcdfghjkmpqrstvwxz"
BATCH = 50


def published(databases: Databases, now: datetime) -> Policy:
    """A policy with a law, a clause too long for the database, and no undo window, published as a version."""
    document = policies.default_document()
    document = document.replace("undo_seconds: 10 ", "undo_seconds: 0 ")
    for reason in ("It spreads an ideology of hate.", "It appears to be a scam.", "It threatens violence."):
        law = f'reason: "{reason}", law: "Section {len(reason)} of a criminal code"'
        document = document.replace(f'reason: "{reason}"', law)
    document = document.replace("Announces or wishes violence.", "Announces or wishes violence. " * 40)
    assert "undo_seconds: 0 " in document
    assert document.count("law:") == 3
    with transaction(databases.content) as session:
        return policies.publish(session, document, "operator", now)


@dataclass
class World:
    """What happens, and every word of it that nobody outside may read."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    policy: Policy
    now: datetime
    dice: random.Random
    written: list[str] = field(default_factory=list)
    judges: list[PersonPrincipal] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.judges = [people.principal(self.databases, self.vault, "moderator", "lead") for _ in range(4)]

    def live(self, items: int) -> None:
        """So many posts and what comes of them; the clock goes on by minutes."""
        for start in range(0, items, BATCH):
            posted = self.posted(min(BATCH, items - start))
            early = [item for item in posted if self.dice.random() < 0.1]
            for item in early:
                self.report(item)
            self.screened(posted)
            for item in posted:
                if self.dice.random() < 0.2:
                    self.report(item)
                self.judged(item)
                while self.dice.random() < 0.25:
                    self.reverse(item)
                if self.dice.random() < 0.15:
                    self.appealed(item)

    def tick(self) -> datetime:
        self.now += timedelta(seconds=self.dice.randint(1, 900))
        return self.now

    def words(self, count: int) -> str:
        """Words of nobody's language, kept so that they can be looked for."""
        text = " ".join("".join(self.dice.choices(LETTERS, k=self.dice.randint(4, 9))) for _ in range(count))
        self.written.append(text)
        return text

    def posted(self, count: int) -> list[UUID]:
        requests = [self._request() for _ in range(count)]
        with transaction(self.databases.content) as session:
            accepted = intake.accept(
                session, self.vault, self.blobs, self.policy, CLIENT, requests, self.tick()
            )
        assert all(isinstance(one, Accepted) for one in accepted), accepted
        return [one.id for one in accepted if isinstance(one, Accepted)]

    def _request(self) -> Request:
        parts: list[TextPart | ImagePart] = [TextPart("body", self.words(12))]
        if self.dice.random() < 0.1:
            parts.append(ImagePart("photo", b"not looked at here", "image/png"))
        if self.dice.random() < 0.02:
            parts = parts[1:] or parts
        posted = self.now + timedelta(days=self.dice.choice([0, 0, 0, -1, -40, -11_000, 2]))
        name = f"post-{uuid4()}"
        author = f"author {self.dice.randint(1, 40)}"
        context = Context(language=self.dice.choice(LANGUAGES))
        return Request(
            Submission(name, author, "comment", tuple(parts), context, posted, None, Lane.LIVE), name
        )

    def report(self, item: UUID) -> None:
        reporter, category = f"reader {self.dice.randint(1, 30)}", self.dice.choice(list(Category))
        with transaction(self.databases.content) as session:
            reports.report(
                session,
                self.vault,
                self.policy,
                CLIENT,
                item,
                reporter,
                category,
                self.words(8),
                self.tick(),
            )

    def screened(self, items: Sequence[UUID]) -> None:
        with transaction(self.databases.content) as session:
            rows = session.scalars(select(Item).where(Item.id.in_(items)).order_by(Item.id)).all()
            outcomes = [(row, self._outcome()) for row in rows]
            decisions.record(session, self.policy, outcomes, self.tick())
            reports.take_up(session, self.policy, rows, self.now)

    def _outcome(self) -> Outcome:
        route = self.dice.choice([*Route, Route.REVIEW])
        failed = route in (Route.LIMIT, Route.REVIEW) and self.dice.random() < 0.1
        category = None if route is Route.ALLOW or failed else self.dice.choice(list(Category))
        matches: tuple[Match, ...] = ()
        if category and route is not Route.REVIEW and self.dice.random() < 0.1:
            matches = (Match("body", "known", "entry", category, BankAction(route), verified=True),)
        draft = None
        if route is Route.REVIEW:
            draft = CaseDraft(
                CaseReason.UNCERTAIN if category else CaseReason.DETECTOR_FAILED, category, 3, 0.5
            )
        elif self.dice.random() < 0.2:
            draft = CaseDraft(CaseReason.AUDIT, category, 3, 0.5, 0.2)
        return Outcome(Routing(route, category, 0.7, ("As drawn.",), (), matches), (), (), draft)

    def judged(self, item: UUID) -> None:
        """Whoever may takes each open case of the item, until it is closed or everybody has had a turn."""
        for judge in self.dice.sample(self.judges, len(self.judges)):
            for case_id in self.open_cases(item):
                self.give(judge, case_id, self.judgement())

    def open_cases(self, item: UUID) -> list[UUID]:
        with transaction(self.databases.content) as session:
            query = select(Case.id).where(Case.item_id == item, Case.state == "open").order_by(Case.kind)
            return list(session.scalars(query))

    def give(self, judge: PersonPrincipal, case_id: UUID, judgement: Judgement) -> None:
        at = self.tick()
        try:
            with transaction(self.databases.content) as session:
                number = cases.claim(session, self.policy, judge, case_id, at).number
            with transaction(self.databases.content) as session:
                given = Given(uuid4(), judgement, self.words(5))
                opinions.give(session, self.vault, self.policy, judge, case_id, number, given, at, 0.99)
        except Refusal:
            return  # they had a part in it, or it would be worse after an appeal: somebody else, another time

    def judgement(self) -> Judgement:
        """What somebody might find."""
        verdict = self.dice.choice(list(Verdict))
        if verdict is Verdict.ALLOW:
            return Judgement(verdict)
        category = self.dice.choice(list(Category))
        clause = self.dice.choice([*self.policy.clauses_of(category)]).id
        limits: tuple[Restriction, ...] = ()
        if verdict is Verdict.LIMIT:
            limits = tuple(self.dice.sample(list(Restriction), self.dice.randint(1, 4)))
        measure = self.dice.choice([None, None, None, *AccountMeasure])
        until = None
        if measure is AccountMeasure.SUSPEND:
            until = self.now + timedelta(days=self.dice.choice([1, 30, 5_000]))
        return Judgement(verdict, category, clause, limits, measure, until)

    def reverse(self, item: UUID) -> None:
        with transaction(self.databases.content) as session:
            standing = decisions.standing(session, item)
        if standing is None:
            return
        lead = self.dice.choice([self.dice.choice(self.judges), None])
        try:
            with transaction(self.databases.content) as session:
                decisions.reverse(session, self.vault, self.policy, lead, standing.id, self.tick(), None)
        except Refusal:
            return

    def appealed(self, item: UUID) -> None:
        if self.lodged(item):
            self.judged(item)

    def lodged(self, item: UUID) -> bool:
        """The author appeals what stands, if anything does that can be appealed."""
        with transaction(self.databases.content) as session:
            standing = decisions.standing(session, item)
        if standing is None:
            return False
        words, at = self.words(10), self.tick()
        try:
            with transaction(self.databases.content) as session:
                appeals.lodge(
                    session, self.vault, self.policy, CLIENT, standing.id, By.AUTHOR, None, words, at
                )
        except Refusal:
            return False
        return True


def at_end(world: World) -> datetime:
    """A moment after everything took effect."""
    return world.now + timedelta(minutes=10)


def runs(texts: Sequence[str], length: int = 12) -> set[str]:
    """Every run of so many characters in any of these texts."""
    return {text[at : at + length] for text in texts for at in range(len(text) - length + 1)}


def three_words(texts: Sequence[str]) -> set[str]:
    """Every run of three words."""
    return {" ".join(run) for text in texts for run in _triples(text.split())}


def _triples(found: Sequence[str]) -> Iterator[Sequence[str]]:
    return (found[at : at + 3] for at in range(len(found) - 2))


def leaks(written: Sequence[str], text: str) -> set[str]:
    """What of `written` stands in `text`: runs of 12 characters, and of three words."""
    return (runs(written) & runs([text])) | (three_words(written) & three_words([text]))


def world(
    databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime, seed: int, items: int
) -> World:
    """A world that has lived for so many posts."""
    made = World(databases, vault, blobs, published(databases, now), now, random.Random(seed))
    made.policy = replace(made.policy)
    made.live(items)
    return made
