"""Three authors whose every field is a word of its own go through the whole product; two of them end.

One by a request, one with the account, and one item of the third by time. Afterwards no key that is left opens a
word of theirs: not in the databases, the pictures, a bundle, a page of the console, or a backup from before, once
restored. Of the third author every word is found. `python -m benchmarks.canary` does the same with more of all.
"""

from __future__ import annotations

from pathlib import Path

from tests import canary_whole


def test_nothing_is_left_of_those_who_ended_and_everything_of_the_other(tmp_path: Path) -> None:
    outcome = canary_whole.run(tmp_path)
    assert outcome.wrong == []
    assert outcome.words > 90
    assert min(outcome.read.values()) > 0, outcome.read
