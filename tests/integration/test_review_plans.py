"""The next case is found by an index however much waits: what PostgreSQL plans on 20,000 open cases."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import update

from benchmarks.review import plans
from benchmarks.review_data import Size, fill
from moderation.domain.access import Role
from moderation.domain.cases import CaseState
from moderation.domain.policy import Policy
from moderation.review.cases import Filter
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case
from moderation.storage.vault import Vault
from tests import people

OPEN = 20_000


def test_the_next_case_is_found_by_an_index(
    databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    staff = [people.new_person(databases, vault, Role.MODERATOR) for _ in range(5)]
    fill(databases, vault, policy, staff, now, Size(OPEN, OPEN, closed=1000, sketches=False))
    somebody = people.principal(databases, vault, Role.MODERATOR)

    def found(wanted: Filter, dice: float) -> list[str]:
        return plans(databases, policy, somebody, wanted, dice, analyze=False)

    urgent = found(Filter(), 0.99)
    assert [_index(plan) for plan in urgent] == ["ix_cases_reserved", "ix_cases_urgent"]
    with transaction(databases.content) as session:
        session.execute(update(Case).where(Case.urgent).values(state=CaseState.CLOSED, closed_at=now))
    by_harm, oldest = found(Filter(), 0.99), found(Filter(), 0.0)
    one_queue, one_language = found(Filter(queue="spam"), 0.99), found(Filter(language="de"), 0.99)
    assert _index(by_harm[-1]) == "ix_cases_harm"
    assert _index(oldest[-1]) == "ix_cases_oldest"
    assert _index(one_queue[-1]) in ("ix_cases_queue", "ix_cases_harm")
    assert _index(one_language[-1]) == "ix_cases_harm"
    for plan in [*urgent, *by_harm, *oldest, *one_queue, *one_language]:
        assert "Seq Scan on cases" not in plan
        assert "Seq Scan on items" not in plan
        assert "hashed SubPlan" not in plan, "reads everything the person ever judged"
    for plan in (urgent[-1], by_harm[-1], oldest[-1]):
        assert "Sort" not in plan


def _index(plan: str) -> str | None:
    """The index by which a plan finds cases."""
    for line in plan.splitlines():
        if line.strip().endswith(" on cases c") and " using " in line:
            return line.split(" using ")[1].split(" on ")[0]
    return None
