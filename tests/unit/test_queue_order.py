"""Under overload the greatest harm goes first, and the floor keeps the rest from waiting for ever."""

from __future__ import annotations

import pytest

from benchmarks.queue_order import ORDERS, Result, simulate
from moderation.domain.policy import Policy

HOURS = 60.0


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    from moderation.governance import policies

    policy = policies.read(policies.default_document(), 1)
    return {order.name: simulate(policy, order, 1, HOURS) for order in ORDERS}


def test_harm_first_leaves_a_fraction_of_the_harm(results: dict[str, Result]) -> None:
    fifo, harm, floor = (
        results[name] for name in ("first in, first out", "by expected harm", "with the floor, 0.1")
    )
    assert harm.left < floor.left < fifo.left / 5


def test_a_larger_floor_shortens_the_longest_waits(results: dict[str, Result]) -> None:
    waits = [results[order.name].p99 for order in ORDERS]
    fifo, *by_floor = waits
    assert by_floor == sorted(by_floor, reverse=True)
    assert fifo < by_floor[-1] < by_floor[0] * 0.7


def test_promised_deadlines_are_kept_by_all_but_first_in_first_out(results: dict[str, Result]) -> None:
    missed = {name: result.missed for name, result in results.items()}
    assert missed.pop("first in, first out") > 0.2
    assert set(missed.values()) == {0.0}


def test_every_order_is_given_the_same_cases(policy: Policy) -> None:
    first = simulate(policy, ORDERS[1], 2, 10.0)
    assert first == simulate(policy, ORDERS[1], 2, 10.0)
    assert first != simulate(policy, ORDERS[1], 3, 10.0)
