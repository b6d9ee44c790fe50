"""What a worker refuses to run, and how it ends what takes too long."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from models.runtime import Scores
from moderation.pipeline.batch import each_or_none
from moderation.worker import OutOfTime, TimeLimit


def slow(batch: Sequence[str]) -> Scores:
    time.sleep(60)
    return np.zeros((len(batch), 1))


def test_running_out_of_time_is_not_taken_for_a_texts_failure() -> None:
    with pytest.raises(OutOfTime), TimeLimit(1, Exception):
        each_or_none(slow, ["a", "b"])


def test_a_failure_is_one_texts_own() -> None:
    def fussy(batch: Sequence[str]) -> Scores:
        if "b" in batch:
            raise ValueError
        return np.ones((len(batch), 1))

    first, second, third = each_or_none(fussy, ["a", "b", "c"])
    assert first is not None
    assert second is None
    assert third is not None
