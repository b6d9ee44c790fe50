"""Languages are told offline, and nothing is said of what is too short."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path

import pytest

from moderation.features.language import UNDETERMINED, identify

CLEAN = Path(__file__).parents[2] / "training" / "suites" / "clean.jsonl"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The weather is lovely today and we walk to the park."),
        ("de", "Das Wetter ist heute schön und wir gehen in den Park."),
        ("fr", "Il fait beau aujourd'hui et nous allons au parc."),
        ("es", "Hoy hace buen tiempo y vamos a ir al parque con los niños."),
        ("pt", "Hoje o tempo está bom e nós vamos ao parque com as crianças."),
        ("tr", "Bugün hava çok güzel ve çocuklarla parka gidiyoruz."),
        ("ru", "Сегодня хорошая погода, и мы идём гулять в парк."),
        ("uk", "Сьогодні гарна погода, і ми йдемо гуляти до парку з дітьми."),
        ("ar", "الطقس جميل اليوم وسنذهب إلى الحديقة مع الأطفال"),
        ("hi", "आज मौसम अच्छा है और हम बच्चों के साथ पार्क जा रहे हैं।"),
        ("zh", "今天天气很好"),
        ("ja", "今日は天気がいいです"),
        ("ko", "오늘 날씨가 좋네요"),
        ("th", "วันนี้อากาศดี"),
        ("el", "Καλημέρα"),
        ("he", "שלום"),
    ],
)
def test_a_sentence_is_told(code: str, text: str) -> None:
    assert identify(text).code == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "lol",
        "12345 678",
        "😀😀😀",
        "https://example.com/the/weather/is/lovely",
        "@somebody #anything",
    ],
)
def test_nothing_is_said_of_what_tells_nothing(text: str) -> None:
    assert identify(text).code == UNDETERMINED


def test_links_and_names_do_not_count() -> None:
    text = "Das Wetter ist heute wirklich schön https://example.com/the/weather/is/lovely/today @the_weather"
    assert identify(text).code == "de"


def test_of_a_thousand_sentences_one_in_a_hundred_is_mistaken_at_most() -> None:
    rows = [json.loads(line) for line in CLEAN.read_text().splitlines()]
    said = [(row["language"].partition("-")[0], identify(row["text"]).code) for row in rows]
    told = [(code, found) for code, found in said if found != UNDETERMINED]
    wrong = Counter(pair for pair in told if pair[0] != pair[1])
    assert len(told) >= 0.9 * len(said)
    assert wrong.total() <= 0.01 * len(told), wrong


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    assert identify("The weather is lovely today, is it not?").code == "en"
