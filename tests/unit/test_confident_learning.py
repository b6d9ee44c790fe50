"""Confident learning on labels of which some were flipped: those are what it finds."""

from __future__ import annotations

from random import Random
from uuid import UUID

from moderation.review.looking_again import FEWEST, hits


def labelled(count: int, flipped: int, seed: int = 7) -> tuple[dict[UUID, tuple[int, float]], set[UUID]]:
    """Labels that follow a score that tells them apart well, but for some that are the other way round."""
    dice = Random(seed)
    found: dict[UUID, tuple[int, float]] = {}
    for number in range(count):
        truth = int(dice.random() < 0.4)
        score = dice.betavariate(8, 2) if truth else dice.betavariate(2, 8)
        found[UUID(int=number)] = (truth, score)
    wrong = set(dice.sample(sorted(found), flipped))
    return {
        item: (1 - label if item in wrong else label, score) for item, (label, score) in found.items()
    }, wrong


def test_flipped_labels_are_found_the_widest_margin_first() -> None:
    given, wrong = labelled(600, 24)
    found = hits(given, "hate")
    assert found is not None
    named = [one.item_id for one in found]
    assert len(set(named[:20]) & wrong) >= 15, "most of the first ones, where one label in 25 is flipped"
    assert len(set(named) & wrong) >= 16, "and two thirds of all that were flipped"
    assert [one.margin for one in found] == sorted((one.margin for one in found), reverse=True)
    assert all(one.probability < 0.5 for one in found if one.margin > 0)


def test_where_nothing_is_flipped_little_is_asked() -> None:
    given, _ = labelled(600, 0)
    assert len(hits(given, "hate") or ()) <= 12


def test_the_thresholds_are_those_of_the_paper_worked_by_hand() -> None:
    """The mean confidence of each class in itself is 0.825 for yes and 0.8625 for no."""
    assert FEWEST == 20
    yes = [0.9] * 18 + [0.1, 0.2]
    no = [0.1] * 19 + [0.85]
    given = {UUID(int=n): (1, score) for n, score in enumerate(yes)}
    given |= {UUID(int=100 + n): (0, score) for n, score in enumerate(no)}
    found = hits(given, "hate")
    # A yes of 0.2 is improbable, yet less so than what people called a no usually is.
    assert [(one.item_id.int, round(one.margin, 6)) for one in found or ()] == [(18, 0.8), (119, 0.7)]


def test_too_few_of_a_class_say_nothing() -> None:
    given = {UUID(int=n): (0, 0.1) for n in range(500)}
    given |= {UUID(int=1000 + n): (1, 0.9) for n in range(FEWEST - 1)}
    assert hits(given, "hate") is None
