"""A community to try the loop on: its policy, real comments that arrive week by week, people who err now and then.

The community is strict on insults and lax on profanity: a comment breaks its rule if annotators called it an
insult, whatever words it has. The comments are of the training data's columns `insult` and `obscene`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import yaml
from sqlalchemy import select

from moderation.domain.access import Role
from moderation.domain.cases import CaseState, Stage, Verdict
from moderation.domain.content import Context, Lane, Submission, TextPart
from moderation.domain.decisions import Judgement
from moderation.domain.errors import Conflict, Forbidden
from moderation.domain.policy import Policy
from moderation.governance import policies
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import intake
from moderation.pipeline.run import Tools
from moderation.review import claims, opinions
from moderation.review.opinions import Given
from moderation.storage import items as queue
from moderation.storage.database import transaction
from moderation.storage.tables import Case
from tests import people

CLIENT = "forum"
RULE = "harassment"
LONGEST = 1500  # characters of a comment
POSTED_AT_ONCE = 100
SCREENED_AT_ONCE = 64
LEASE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment with the truth: whether it insults somebody."""

    text: str
    insult: bool


def comments(data: Path, sources: Sequence[str], seed: int) -> list[Comment]:
    """Comments of `sources` of which annotators said whether they insult, in a random order, each text once."""
    from pyarrow import parquet  # of the training extra

    columns = ["text", "source", "insult", "obscene"]
    rows = parquet.read_table(data, columns=columns).to_pylist()
    found = {
        row["text"]: Comment(row["text"], row["insult"] == 1)
        for row in rows
        if row["source"] in sources
        and row["insult"] is not None
        and row["obscene"] is not None
        and 0 < len(row["text"]) <= LONGEST
    }
    shuffled = list(found.values())
    random.Random(seed).shuffle(shuffled)
    return shuffled


def policy_document(wrong: float, missed: float, weeks: int) -> str:
    """The community's policy: two promises about insults, and machines that do nothing before these are proved."""
    document = yaml.safe_load(policies.default_document())
    for rule in document["categories"].values():
        rule["until_certified"] = {
            "allow_below": 1.0,
            "remove_from": 1.0,
        }  # none of this community's business
    document["name"] = "strict on insults"
    document["categories"][RULE] |= {
        "until_certified": {"allow_below": 0.0, "remove_from": 1.0},  # everything goes to people
        "remove": {"wrong_at_most": wrong},
        "allow": {"missed_at_most": missed},
    }
    document["review"] |= {
        "undo_seconds": 0,
        "golden_share": 0.0,
        "second_opinion_share": 0.0,
        "audit": {"share": 0.3, "near_share": 0.3, "uncertain_share": 1.0},
    }
    # A small community: what a new head is proved by has to be there for longer than a month.
    document["retention"]["classes"]["allowed"]["days"] = 90
    document["certificates"] = {
        "confidence": 0.95,
        "renewals": weeks + 6,
        "period_days": 7 * weeks,
        "valid_days": 35,
        "settle_hours": 0,
        "overlooked": 0.05,
    }
    return yaml.safe_dump(document, sort_keys=False)


@dataclass(slots=True)
class Community:
    """Who posts and who judges. `errs` is how often a person's verdict is the other one."""

    tools: Tools
    policy: Policy
    errs: float
    chance: random.Random
    moderators: Sequence[PersonPrincipal] = ()
    leads: Sequence[PersonPrincipal] = ()
    truth: dict[UUID, bool] = field(default_factory=dict)
    judged: Counter[str] = field(default_factory=Counter)  # opinions by the reason of their case

    def staff(self) -> None:
        """Hire four moderators and two leads."""
        databases, vault = self.tools.databases, self.tools.vault
        self.moderators = [people.principal(databases, vault, Role.MODERATOR) for _ in range(4)]
        self.leads = [people.principal(databases, vault, Role.LEAD) for _ in range(2)]

    def post(self, arrived: Sequence[Comment], now: datetime) -> list[UUID]:
        """Accept comments, each by an author of its own; their ids."""
        ids: list[UUID] = []
        for start in range(0, len(arrived), POSTED_AT_ONCE):
            some = arrived[start : start + POSTED_AT_ONCE]
            requests = [self._request(one) for one in some]
            with transaction(self.tools.databases.content) as session:
                answers = intake.accept(
                    session, self.tools.vault, self.tools.blobs, self.policy, CLIENT, requests, now
                )
            for one, answer in zip(some, answers, strict=True):
                if not isinstance(answer, intake.Accepted):
                    raise answer
                self.truth[answer.id] = one.insult
                ids.append(answer.id)
        return ids

    @staticmethod
    def _request(comment: Comment) -> intake.Request:
        name = uuid4().hex
        parts = (TextPart("body", comment.text),)
        submission = Submission(name, f"author-{name}", "comment", parts, Context(), lane=Lane.LIVE)
        return intake.Request(submission, name)

    def claim(self, now: datetime) -> queue.Claim | None:
        """Lease a batch of what waits to be screened."""
        with transaction(self.tools.databases.content) as session:
            return queue.claim_due(session, Lane.LIVE, SCREENED_AT_ONCE, LEASE, now)

    def judge_all(self, now: datetime) -> int:
        """Have people judge every case that is open, second looks and adjudications included; how many opinions."""
        total = 0
        while True:
            with transaction(self.tools.databases.content) as session:
                open_cases = session.execute(
                    select(Case.id, Case.item_id, Case.stage, Case.reason).where(Case.state == CaseState.OPEN)
                ).all()
            if not open_cases:
                return total
            for case, item, stage, reason in open_cases:
                self._judge(case, item, stage, now)
                self.judged[reason] += 1
                total += 1

    def _judge(self, case: UUID, item: UUID, stage: str, now: datetime) -> None:
        """One opinion of somebody who may give it."""
        asked = list(self.leads if stage == Stage.ADJUDICATION else self.moderators)
        self.chance.shuffle(asked)
        for person in [*asked, *self.leads]:
            with transaction(self.tools.databases.content) as session:
                try:
                    claim = claims.claim(session, self.policy, person, case, now)
                except (Conflict, Forbidden):
                    continue
                opinions.give(
                    session, self.tools.vault, self.policy, person, case, claim.number,
                    Given(uuid4(), self._verdict(item), score_shown=False), now, dice=1.0,
                )  # fmt: skip
                return
        raise RuntimeError("Nobody may judge this case.")

    def _verdict(self, item: UUID) -> Judgement:
        wrong = self.chance.random() < self.errs
        if self.truth[item] != wrong:
            return Judgement(Verdict.REMOVE, RULE)
        return Judgement(Verdict.ALLOW)
