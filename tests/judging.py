"""Items that machines decided as a test wants it, and people who judge them through the services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import CaseDraft, Judgement, Outcome, Restriction, blind_draft
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.domain.signals import Match
from moderation.governance.sessions import PersonPrincipal
from moderation.review import cases, claims, decisions, opinions
from moderation.review.opinions import Answer, Given
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Item
from moderation.storage.vault import Vault
from tests import people, support
from tests.reviewing import submitted


def at_once(policy: Policy) -> Policy:
    """The policy without undo windows, so that what is decided is in force."""
    return replace(policy, review=replace(policy.review, undo_seconds=0))


@dataclass(slots=True)
class Floor:
    """A shift: posts come, machines decide, people judge. `now` is the moment at which all of it happens."""

    client: TestClient
    databases: Databases
    vault: Vault
    policy: Policy
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def person(self, *roles: str) -> PersonPrincipal:
        return people.principal(self.databases, self.vault, *(roles or ("moderator",)))

    def decided(
        self,
        name: str,
        route: Route = Route.ALLOW,
        category: str | None = None,
        *,
        reason: str = "Chosen by a test.",
        scores: Mapping[str, float] | None = None,
        draft: CaseDraft | None = None,
        parts: tuple[dict[str, str], ...] = (),
        matches: tuple[Match, ...] = (),
    ) -> UUID:
        """A post that a machine decided, with a case if there is a draft of one or people are to decide."""
        text = support.text_part(f"Text of {name}.")
        item = submitted(self.client, name, parts=list(parts) or [text], author=f"author of {name}")
        findings = tuple(
            {
                "category": one,
                "probability": score,
                "part": "body",
                "detector": f"model-{one}",
                "version": "1",
            }
            for one, score in sorted((scores or {"hate": 0.1}).items(), key=lambda pair: -pair[1])
        )
        if route is Route.REVIEW and draft is None:
            draft = CaseDraft(CaseReason.UNCERTAIN, category, 3, 0.5)
        routing = Routing(route, category, 0.9, (reason,), (), matches)
        with transaction(self.databases.content) as session:
            row = session.get_one(Item, item)
            decisions.record(session, self.policy, [(row, Outcome(routing, findings, (), draft))], self.now)
        return item

    def audited(
        self,
        name: str,
        route: Route = Route.ALLOW,
        category: str | None = None,
        share: float = 0.1,
        matches: tuple[Match, ...] = (),
    ) -> UUID:
        """A post that a machine decided and that was drawn for the audit."""
        draft = blind_draft(CaseReason.AUDIT, self.policy, "hate", share)
        return self.decided(name, route, category, draft=draft, matches=matches)

    def case_of(self, item: UUID, kind: str | None = None) -> UUID:
        """The newest case of an item, of that kind if one is named."""
        with transaction(self.databases.content) as session:
            found = select(Case.id).where(Case.item_id == item, Case.state == "open").order_by(Case.id.desc())
            return session.scalars(found if kind is None else found.where(Case.kind == kind)).first() or UUID(
                int=0
            )

    def give(
        self,
        person: PersonPrincipal,
        case_id: UUID,
        verdict: str = "allow",
        category: str | None = None,
        *,
        dice: float = 1.0,
        number: int | None = None,
    ) -> Answer:
        """Claim a case and judge it; with `number` under a claim made before."""
        restrictions = (Restriction.LABEL,) if verdict == Verdict.LIMIT else ()
        judgement = Judgement(Verdict(verdict), category, None, restrictions)
        with transaction(self.databases.content) as session:
            if number is None:
                number = claims.claim(session, self.policy, person, case_id, self.now).number
            given = Given(uuid4(), judgement)
            return opinions.give(
                session, self.vault, self.policy, person, case_id, number, given, self.now, dice
            )

    def next(self, person: PersonPrincipal, golden_dice: float = 1.0, **wanted: str) -> UUID | None:
        """What the person is given next."""
        with transaction(self.databases.content) as session:
            claim = cases.next_case(
                session,
                self.policy,
                person,
                cases.Filter(**wanted),
                golden_dice,
                1.0,
                self.now,  # type: ignore[arg-type]
            )
        return claim.case_id if claim else None
