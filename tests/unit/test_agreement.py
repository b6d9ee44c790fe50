"""Krippendorff's alpha against the published examples, against hand-made tables, and by its symmetries."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain.agreement import agreement, alpha

UNITS = st.lists(st.lists(st.sampled_from("abc"), max_size=5), max_size=12)


def by_unit(*observers: str) -> list[str]:
    """Columns of the published tables, each row an observer and a dot a missing value."""
    return ["".join(value for value in unit if value != ".") for unit in zip(*observers, strict=True)]


# Krippendorff 2011, sections A, B and C.
TWO_OBSERVERS_BINARY = by_unit("0100000010", "1110010000")
TWO_OBSERVERS_FIVE_VALUES = by_unit("aabbdcccedda", "babbbccceddd")
FOUR_OBSERVERS_WITH_GAPS = by_unit("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


@pytest.mark.parametrize(
    ("units", "published"),
    [
        (TWO_OBSERVERS_BINARY, 0.095),
        (TWO_OBSERVERS_FIVE_VALUES, 0.692),
        (FOUR_OBSERVERS_WITH_GAPS, 0.743),
    ],
)
def test_published_examples(units: list[str], published: float) -> None:
    found = alpha(units)
    assert found is not None
    assert round(found, 3) == published


@pytest.mark.parametrize(
    ("units", "by_hand"),
    [
        # Four values, two each: observed 2 + 2 mixed pairs of 4, expected 2 * 2 * 2 of 4 * 3: 1 - (4/4) / (8/12).
        (["ab", "ab"], -0.5),
        # One of two units mixed: observed 2/4, expected (16 - 9 - 1) / 12 = 1/2.
        (["aa", "ab"], 0.0),
        # Three people, one apart: observed 4/2 = 2 of 5 values, expected (25 - 16 - 1) / 20: 1 - (2/5) / (2/5).
        (["aab", "aa"], 0.0),
        # Observed none, whatever is expected.
        (["aa", "bbb", "c"], 1.0),
    ],
)
def test_small_tables_by_hand(units: list[str], by_hand: float) -> None:
    assert alpha(units) == pytest.approx(by_hand)


@pytest.mark.parametrize("units", [[], ["a", "b"], ["aa", "aaa"]])
def test_where_nobody_could_disagree_alpha_is_undefined(units: list[str]) -> None:
    found = agreement(units, Random(1))
    assert (found.alpha, found.low, found.high) == (None, None, None)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(2, 5)), min_size=2))
def test_perfect_agreement_is_one(units: list[tuple[str, int]]) -> None:
    found = alpha([value * people for value, people in units])
    assert found == (1.0 if len({value for value, _ in units}) > 1 else None)


@given(UNITS, st.randoms(use_true_random=False))
def test_the_order_of_units_and_of_people_says_nothing(units: list[list[str]], shuffle: Random) -> None:
    shuffled = [shuffle.sample(unit, len(unit)) for unit in shuffle.sample(units, len(units))]
    assert alpha(shuffled) == pytest.approx(alpha(units))


@given(UNITS, st.permutations("abc"))
def test_the_names_of_values_say_nothing(units: list[list[str]], names: list[str]) -> None:
    renamed = [[names["abc".index(value)] for value in unit] for unit in units]
    assert alpha(renamed) == pytest.approx(alpha(units))


@given(UNITS)
def test_alpha_is_at_most_one_and_counts_what_was_judged_twice(units: list[list[str]]) -> None:
    found = agreement(units, Random(1), resamples=20)
    assert found.alpha is None or found.alpha <= 1
    twice = [unit for unit in units if len(unit) > 1]
    assert (found.cases, found.opinions) == (len(twice), sum(map(len, twice)))


def test_the_interval_encloses_alpha_narrows_with_more_units_and_repeats_by_its_seed() -> None:
    units = [*["aa"] * 12, *["bb"] * 6, *["ab"] * 4]
    few, many = agreement(units, Random(7)), agreement(units * 16, Random(7))
    for found in (few, many):
        assert found.low is not None
        assert found.high is not None
        assert found.alpha is not None
        assert found.low < found.alpha < found.high
    assert (many.high or 0) - (many.low or 0) < ((few.high or 0) - (few.low or 0)) / 2
    assert agreement(units, Random(7)) == few
