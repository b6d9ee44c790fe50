"""What MAPIE says of the same checks: Learn-then-Test by other hands, for tests and `benchmarks/promises.py`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from moderation.domain import certificates
from moderation.domain.certificates import Checks, Floats, Grid
from moderation.domain.promises import Side


@dataclass(frozen=True, slots=True)
class Said:
    """Of each threshold, strictest first: is it proved, and how unlikely were it otherwise."""

    proved: tuple[bool, ...]
    chances: tuple[float, ...]


def ours(checks: Checks, grid: Grid, side: Side, allowed: float, level: float) -> Said:
    """Our word, with all of the level on the strictest threshold as MAPIE has it; one propensity for all."""
    share = np.zeros(len(grid.thresholds))
    share[0] = 1.0
    proof = certificates.prove(
        checks, replace(grid, share=share), side, allowed, level, float(checks.propensity.min())
    )
    chances = [exp(certificates._binomial_tail(one.checks, one.mistakes, allowed)) for one in proof.curve]
    return Said(tuple(one.proved for one in proof.curve), tuple(chances))


def theirs(checks: Checks, grid: Grid, side: Side, allowed: float, level: float) -> Said:
    """MAPIE's word. What lies below a threshold is for it what lies above on the turned scale."""
    from mapie.risk_control import BinaryClassificationController, BinaryRisk

    scores, thresholds = checks.score, grid.thresholds
    if side is Side.ALLOW:
        scores, thresholds = 1 - scores, 1 - thresholds
    mistakes = BinaryRisk(
        risk_occurrence=lambda right, acted: right != acted,
        risk_condition=lambda _, acted: acted == 1,
        higher_is_better=False,
    )
    acts: Callable[[Floats], Floats] = lambda found: np.column_stack([1 - found, found])  # noqa: E731
    controller = BinaryClassificationController(
        acts,
        mistakes,
        allowed,
        confidence_level=1 - level,
        best_predict_param_choice=mistakes,
        list_predict_params=thresholds[::-1],  # it wants them rising, which is the loosest first
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that nothing is proved, or that mistakes do not only rise
        controller.calibrate(scores, (1 - checks.wrong).astype(int))
    valid = {float(one) for one in np.asarray(controller.valid_predict_params)}
    chances = [float(one) for one in controller.p_values[:, 0]][::-1]
    return Said(tuple(float(one) in valid for one in thresholds), tuple(chances))
