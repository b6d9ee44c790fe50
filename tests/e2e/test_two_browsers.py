"""Two people on one queue, struck in the middle of cases; `python -m benchmarks.console` has 500 of them."""

from __future__ import annotations

from pathlib import Path

from tests import browser, moderators
from tests.moderators import Plan
from tests.service import running


def test_no_case_is_decided_twice_and_no_late_answer_lost(tmp_path: Path) -> None:
    browser.need_chromium()
    plan = Plan(seed=1, cases=36, closed=2, crashed=2, unanswered=2, away=2)
    with running(tmp_path / "var") as service:
        outcome = moderators.storm(service, plan)
    assert outcome.wrong == {}, outcome
    # A storm in which nobody was late, or cut off with an answer under way, would prove nothing.
    assert outcome.late >= 1, outcome
    assert outcome.strikes.total() == 8, outcome
    assert outcome.decided >= plan.cases, outcome
