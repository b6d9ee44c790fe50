"""A short storm over real processes; `python -m benchmarks.chaos` runs the long one."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import storm
from tests.chaos.harness import Stack
from tests.chaos.storm import Plan


def test_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    strikes = {"kills": 3, "flushes": 1, "restarts": 1, "crashes": 1, "others": 2}
    plan = Plan(seed=1, items=240, **strikes, drain_seconds=300, at_work_seconds=3)
    # A machine that stalls costs leases, and a lease lost is an attempt: only poison may use up all of them.
    patient = {"LEASE_SECONDS": "6", "MAX_ATTEMPTS": "6"}
    with Stack(tmp_path, environment=storm.ENVIRONMENT | patient) as stack:
        account = storm.run(stack, plan)
    assert account.faults == {}, account
    assert account.acknowledged == account.attempted == plan.items + plan.poison
    assert account.dead == plan.poison
    # A storm that met nobody at work would prove nothing.
    assert account.in_flight_when_struck > 0, account
