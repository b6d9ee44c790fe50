"""What screening tells of a text beside the model's word: tricks, language, age."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from models.registry import ARTIFACTS, load
from models.text import TextClassifier
from moderation.domain.cases import CaseReason
from moderation.features.hashes import text_digest
from moderation.pipeline.batch import Batch, Text
from moderation.pipeline.classify_text import classify_text
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Case, MinorCheck, Part, SignalRow
from tests.support import drain, post, text_part


def _screened(client: TestClient, settings: Settings, *parts: dict[str, Any]) -> dict[str, Any]:
    item = client.post("/v1/items", json=post("post-1", *parts)).json()
    drain(settings)
    shown: dict[str, Any] = client.get(item["status_url"]).json()
    return shown


def _signals(databases: Databases, detector: str) -> list[SignalRow]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(SignalRow).where(SignalRow.detector == detector)))


def _batch(*texts: str) -> Batch:
    now = datetime.now(UTC)
    batch = Batch((), now)
    batch.texts += [Text(new_id(now), "body", one, text_digest(one)) for one in texts]
    return batch


@pytest.fixture(scope="module")
def text_classifier() -> TextClassifier:
    return TextClassifier(load(ARTIFACTS / "text-minilm" / "2"))


class Counting:
    """A real classifier, and how many texts it was asked about."""

    def __init__(self, classifier: TextClassifier) -> None:
        self._classifier = classifier
        self.manifest = classifier.manifest
        self.reads_whole = classifier.reads_whole
        self.asked: list[str] = []

    def score(self, batch: list[str]) -> Any:
        self.asked += batch
        return self._classifier.score(batch)


def test_a_view_raises_and_never_lowers(text_classifier: TextClassifier) -> None:
    hidden, plain = "you are a s.t.u.p.i.d id*ot", "you are a stupid idiot"
    alone = dict(zip(text_classifier.manifest.categories, text_classifier.score([hidden])[0], strict=True))
    batch = _batch(hidden, plain)
    classify_text(batch, [text_classifier])
    (first,), (second,) = batch.signals.values()
    assert all(first.scores[name] >= float(score) for name, score in alone.items())
    assert first.scores["harassment"] == second.scores["harassment"] > 0.5
    assert first.evidence == {"view": "words"}
    assert second.evidence == {}


def test_each_reading_is_scored_once(text_classifier: TextClassifier) -> None:
    counting: Any = Counting(text_classifier)
    batch = _batch("a lovely day", "a l0vely day", "a l0vely day", "a lov\u200bely day")
    classify_text(batch, [counting])
    assert counting.asked == ["a lovely day", "a l0vely day", "a lov\u200bely day"]


def test_tricks_are_told_without_content(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    _screened(client, settings, text_part("what a lovely d\u200bay, s.u.n.n.y and w4rm"))
    (signal,) = _signals(databases, "evasion")
    assert signal.evidence == {"invisible": 1, "leet": 1, "separated": 1}
    assert signal.scores == {}


def test_a_clean_text_leaves_no_such_rows(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    _screened(client, settings)
    for detector in ("evasion", "language", "age", "burst"):
        assert not _signals(databases, detector)


def test_the_language_is_kept_with_the_part(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    parts = [
        text_part("The weather is lovely today and we walk to the park.", "title"),
        text_part("Das Wetter ist heute schön und wir gehen in den Park.", "body"),
        text_part("ok", "tag"),
    ]
    _screened(client, settings, *parts)
    with transaction(databases.content) as session:
        kept = dict(session.execute(select(Part.name, Part.language)).all())
    assert kept == {"title": "en", "body": "de", "tag": "und"}
    (signal,) = _signals(databases, "language")
    assert (signal.part, signal.evidence["language"], signal.scores) == ("body", "de", {})


def test_whoever_says_that_they_are_a_child_comes_before_a_person(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    said = "Hello! I'm 13 and I love this game."
    shown = _screened(client, settings, text_part(said))
    assert shown["status"] == "in_review", "a machine decides of nobody's age"
    (signal,) = _signals(databases, "age")
    assert signal.scores == {"underage": 0.6}
    assert signal.evidence == {"start": 7, "end": 13, "age": 13}
    assert said[7:13] == "I'm 13"
    with transaction(databases.content) as session:
        assert session.scalars(select(MinorCheck)).one().state == "suspected"
        assert session.scalars(select(Case.reason)).all() == [CaseReason.MINOR]


def test_a_masked_age_is_found_in_a_view(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    _screened(client, settings, text_part("hey there, I'm t.h.i.r.t.e.e.n and new here."))
    (signal,) = _signals(databases, "age")
    assert signal.evidence == {"view": "words", "age": 13}
