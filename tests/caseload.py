"""Items before people without the cost of screening: accepted and encrypted as ever, routed by the test's word."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select

from moderation import jobs
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.content import Context, Lane, Submission, TextPart
from moderation.domain.decisions import AccountMeasure, CaseDraft, Judgement, Outcome, Restriction
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.domain.signals import Match
from moderation.features import sketch
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import intake
from moderation.pipeline.intake import Accepted, Request
from moderation.review import cases, clusters, decisions, opinions
from moderation.review.opinions import Answer, Given
from moderation.review.views import Claim
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Item
from moderation.storage.vault import Vault
from tests.support import MILD

ALLOW = Judgement(Verdict.ALLOW)
REMOVE = Judgement(Verdict.REMOVE, "harassment", "H1")
LIMIT = Judgement(Verdict.LIMIT, "harassment", "H1", (Restriction.AGE_GATE,))


def strike(until: datetime | None = None) -> Judgement:
    """Removed, with a strike against the account."""
    return Judgement(Verdict.REMOVE, "harassment", "H1", (), AccountMeasure.STRIKE, until)


class Caseload:
    """What a test of people's work holds: the servers, the policy, and a clock it moves by hand."""

    def __init__(
        self, databases: Databases, vault: Vault, blobs: FolderBlobs, policy: Policy, now: datetime
    ) -> None:
        self.databases, self.vault, self.blobs = databases, vault, blobs
        self.policy, self.now = policy, now
        self.engine = databases.content

    def items(
        self, count: int = 1, *, author: str = "acct-1", text: str = MILD, **context: Any
    ) -> list[UUID]:
        """Items that were accepted and not screened."""
        requests = []
        for _ in range(count):
            name = f"post-{uuid4()}"
            parts = (TextPart("body", text),)
            post = Submission(name, author, "comment", parts, Context(**context), None, None, Lane.LIVE)
            requests.append(Request(post, name))
        with transaction(self.engine) as session:
            accepted = intake.accept(session, self.vault, self.blobs, self.policy, "app", requests, self.now)
        assert all(isinstance(one, Accepted) for one in accepted), accepted
        return [one.id for one in accepted if isinstance(one, Accepted)]

    def routed(
        self,
        ids: list[UUID],
        route: Route,
        draft: CaseDraft | None = None,
        category: str | None = None,
        matches: tuple[Match, ...] = (),
    ) -> list[UUID]:
        """Record the machine's outcome; the ids of the cases that were opened."""
        routing = Routing(route, category, 0.6, (f"The test says {route}.",), (), matches)
        finding = {
            "category": "harassment",
            "probability": 0.6,
            "part": "body",
            "detector": "d",
            "version": "1",
        }
        with transaction(self.engine) as session:
            rows = session.scalars(select(Item).where(Item.id.in_(ids)).order_by(Item.id)).all()
            outcome = Outcome(routing, (finding,), ({"name": "d", "version": "1", "status": "ok"},), draft)
            recorded = decisions.record(session, self.policy, [(row, outcome) for row in rows], self.now)
            jobs.notify(session, recorded, self.now)
        with transaction(self.engine) as session:
            return list(session.scalars(select(Case.id).where(Case.item_id.in_(ids)).order_by(Case.id)))

    def waiting(
        self,
        count: int = 1,
        *,
        category: str | None = "harassment",
        probability: float = 0.6,
        reason: CaseReason = CaseReason.UNCERTAIN,
        **post: Any,
    ) -> list[UUID]:
        """Open cases about items that a machine could not decide."""
        severity = self.policy.categories[category].severity if category else 3
        draft = CaseDraft(reason, category, severity, probability)
        return self.routed(self.items(count, **post), Route.REVIEW, draft, category)

    def alike(self, count: int) -> list[UUID]:
        """Open cases about near duplicates of one another."""
        text = "Looking for a flat near the station from March on, two rooms or three, quiet, with a balcony."
        ids = self.waiting(count, text=text)
        with transaction(self.engine) as session:
            for item in session.scalars(select(Case.item_id).where(Case.id.in_(ids))).all():
                clusters.store(session, clusters.rows(self.vault, item, [("body", sketch.of_text(text))]))
        return ids

    def checked(self, route: Route = Route.ALLOW, reason: CaseReason = CaseReason.AUDIT) -> UUID:
        """A blind check of what a machine decided alone."""
        draft = CaseDraft(reason, "harassment", 2, 0.5, 0.05)
        return self.routed(self.items(), route, draft, None if route is Route.ALLOW else "harassment")[0]

    def case(self, case_id: UUID) -> Case:
        """A case as it is stored now."""
        with transaction(self.engine) as session:
            return session.get_one(Case, case_id)

    def claim(self, person: PersonPrincipal, case_id: UUID) -> Claim:
        with transaction(self.engine) as session:
            return cases.claim(session, self.policy, person, case_id, self.now)

    def give(
        self,
        person: PersonPrincipal,
        case_id: UUID,
        judgement: Judgement = REMOVE,
        *,
        number: int | None = None,
        form_key: UUID | None = None,
        dice: float = 0.99,
        note: str | None = None,
    ) -> Answer:
        """An opinion, under a claim that is taken for it unless its number is given."""
        if number is None:
            number = self.claim(person, case_id).number
        given = Given(form_key or uuid4(), judgement, note)
        with transaction(self.engine) as session:
            return opinions.give(
                session, self.vault, self.policy, person, case_id, number, given, self.now, dice
            )
