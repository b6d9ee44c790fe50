"""The EU's database of statements of reasons: its names, and the rules by which it takes a record (schema v2).

The names come from `moderation/data/dsa_enums.json`, which says at which commit they were taken. The rules are
those of the database's own documentation of its API; where it is silent, ours are stricter, never laxer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

MOST_AT_ONCE = 100
SHORT, MIDDLE, LONG = 500, 2000, 5000
PUID = re.compile(r"[A-Za-z0-9_-]{1,500}")
URL = re.compile(r"https?://[^\s/]+\S*")
EAN = re.compile(r"\d{13}")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
FIRST_POSTED, FIRST_APPLIED, LAST = date(2000, 1, 1), date(2020, 1, 1), date(2038, 1, 1)

# ISO 639-1: what `content_language` may be, in capitals.
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz
    ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik
    io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml
    mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd
    se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi
    vo wa wo xh yi yo za zh zu
"""
LANGUAGES = frozenset(_CODES.split())


@dataclass(frozen=True, slots=True)
class Enumerations:
    """The names a record may use, by enumeration, each with what it means; and where they were taken from."""

    name: str
    schema: str
    source: str
    enums: Mapping[str, Mapping[str, str]]


@cache
def enumerations() -> Enumerations:
    """The enumerations as they are committed."""
    document = json.loads(files("moderation").joinpath("data/dsa_enums.json").read_text(encoding="utf-8"))
    enums = {
        name: dict(values) if isinstance(values, dict) else {value: value for value in values}
        for name, values in document["enums"].items()
    }
    return Enumerations(document["name"], document["schema"], document["source"], enums)


def means(name: str) -> str:
    """What a name of any enumeration means, in the database's own words; the name itself if it is none."""
    return next((one[name] for one in enumerations().enums.values() if name in one), name)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing for which the database would refuse a record."""

    field: str
    message: str


_ONE: Mapping[str, str] = {
    "decision_monetary": "DECISION_MONETARIES",
    "decision_provision": "DECISION_PROVISIONS",
    "decision_account": "DECISION_ACCOUNTS",
    "account_type": "ACCOUNT_TYPES",
    "decision_ground": "DECISION_GROUNDS",
    "incompatible_content_illegal": "INCOMPATIBLE_CONTENT_ILLEGALS",
    "category": "STATEMENT_CATEGORIES",
    "source_type": "SOURCE_TYPES",
    "automated_detection": "AUTOMATED_DETECTIONS",
    "automated_decision": "AUTOMATED_DECISIONS",
}
_MANY: Mapping[str, str] = {
    "decision_visibility": "DECISION_VISIBILITIES",
    "content_type": "CONTENT_TYPES",
    "category_addition": "STATEMENT_CATEGORIES",
    "category_specification": "KEYWORDS",
    "territorial_scope": "TERRITORIAL_SCOPE",
}
_TEXTS: Mapping[str, int] = {
    "decision_visibility_other": SHORT,
    "decision_monetary_other": SHORT,
    "content_type_other": SHORT,
    "category_specification_other": SHORT,
    "illegal_content_legal_ground": SHORT,
    "illegal_content_explanation": MIDDLE,
    "incompatible_content_ground": SHORT,
    "incompatible_content_explanation": MIDDLE,
    "decision_facts": LONG,
    "source_identity": SHORT,
}
_DATES = ("content_date", "application_date")
_ENDS: Mapping[str, str] = {
    "end_date_visibility_restriction": "decision_visibility",
    "end_date_monetary_restriction": "decision_monetary",
    "end_date_service_restriction": "decision_provision",
    "end_date_account_restriction": "decision_account",
}
_REQUIRED = (
    "decision_ground", "content_type", "category", "territorial_scope", "content_date", "application_date",
    "decision_facts", "source_type", "automated_detection", "automated_decision", "puid",
)  # fmt: skip
_OTHERS: Mapping[str, tuple[str, str]] = {
    "decision_visibility_other": ("decision_visibility", "DECISION_VISIBILITY_OTHER"),
    "decision_monetary_other": ("decision_monetary", "DECISION_MONETARY_OTHER"),
    "content_type_other": ("content_type", "CONTENT_TYPE_OTHER"),
    "category_specification_other": ("category_specification", "KEYWORD_OTHER"),
}
_PAIRS: Mapping[str, tuple[str, ...]] = {
    "DECISION_GROUND_ILLEGAL_CONTENT": ("illegal_content_legal_ground", "illegal_content_explanation"),
    "DECISION_GROUND_INCOMPATIBLE_CONTENT": (
        "incompatible_content_ground",
        "incompatible_content_explanation",
    ),
}
RESTRICTIONS = ("decision_visibility", "decision_monetary", "decision_provision", "decision_account")
FIELDS = frozenset(
    {*_ONE, *_MANY, *_TEXTS, *_DATES, *_ENDS}
    | {"puid", "content_id", "content_language", "decision_ground_reference_url"}
)


def faults(record: Mapping[str, object]) -> list[Fault]:
    """Everything for which the database would refuse `record`; nothing for a valid one."""
    return [
        *(Fault(name, "is no field of schema v2") for name in sorted(set(record) - FIELDS)),
        *(Fault(name, "is required") for name in _REQUIRED if not record.get(name)),
        *_restricts(record),
        *_enumerated(record),
        *_texts(record),
        *_ground(record),
        *_others(record),
        *_moments(record),
        *_rest(record),
    ]


def _restricts(record: Mapping[str, object]) -> Iterator[Fault]:
    if not any(record.get(name) for name in RESTRICTIONS):
        yield Fault("decision_visibility", "is required where nothing else is restricted")


def _enumerated(record: Mapping[str, object]) -> Iterator[Fault]:
    enums = enumerations().enums
    for name, enum in _ONE.items():
        value = record.get(name)
        if name in record and not (isinstance(value, str) and value in enums[enum]):
            yield Fault(name, f"must be one of {enum}")
    for name, enum in _MANY.items():
        if name not in record:
            continue
        values = record[name]
        if not isinstance(values, list | tuple) or not values:
            yield Fault(name, "must be a list of at least one")
        elif not all(isinstance(one, str) and one in enums[enum] for one in values):
            yield Fault(name, f"must hold names of {enum} only")
        elif len(set(values)) < len(values):
            yield Fault(name, "names something twice")


def _texts(record: Mapping[str, object]) -> Iterator[Fault]:
    for name, most in _TEXTS.items():
        if name not in record:
            continue
        value = record[name]
        if not isinstance(value, str) or not value.strip():
            yield Fault(name, "must be a text")
        elif len(value) > most:
            yield Fault(name, f"has more than {most} characters")


def _ground(record: Mapping[str, object]) -> Iterator[Fault]:
    ground = record.get("decision_ground")
    for name, pair in _PAIRS.items():
        for text in pair:
            if name == ground and text not in record:
                yield Fault(text, f"is required for {name}")
            elif name != ground and text in record:
                yield Fault(text, "belongs to the other ground")
    if "incompatible_content_illegal" in record and ground != "DECISION_GROUND_INCOMPATIBLE_CONTENT":
        yield Fault("incompatible_content_illegal", "belongs to the other ground")


def _others(record: Mapping[str, object]) -> Iterator[Fault]:
    for text, (name, other) in _OTHERS.items():
        value = record.get(name)
        chosen = value == other or (isinstance(value, list | tuple) and other in value)
        if chosen and text not in record:
            yield Fault(text, f"is required with {other}")
        elif not chosen and text in record:
            yield Fault(text, f"is for {other} only")


def _moments(record: Mapping[str, object]) -> Iterator[Fault]:
    found = {name: _day(record[name]) for name in (*_DATES, *_ENDS) if name in record}
    for name, day in found.items():
        first = FIRST_POSTED if name == "content_date" else FIRST_APPLIED
        if day is None:
            yield Fault(name, "must be a date, YYYY-MM-DD")
        elif not first <= day <= LAST:
            yield Fault(name, f"must lie between {first} and {LAST}")
    applied = found.get("application_date")
    for name, restricted in _ENDS.items():
        end = found.get(name)
        if end and applied and end < applied:
            yield Fault(name, "lies before application_date")
        if name in record and not record.get(restricted):
            yield Fault(name, f"ends what {restricted} does not restrict")


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) and DAY.fullmatch(value) else None
    except ValueError:
        return None


def _rest(record: Mapping[str, object]) -> Iterator[Fault]:
    puid, language = record.get("puid"), record.get("content_language")
    if "puid" in record and not (isinstance(puid, str) and PUID.fullmatch(puid)):
        yield Fault("puid", "must be 1 to 500 letters, digits, hyphens and underscores")
    if "content_language" in record and not (
        isinstance(language, str) and language.isupper() and language.lower() in LANGUAGES
    ):
        yield Fault("content_language", "must be an ISO 639-1 code in capitals")
    if "source_identity" in record and record.get("source_type") == "SOURCE_VOLUNTARY":
        yield Fault("source_identity", "must be absent where nobody gave notice")
    known = record.get("content_id")
    if "content_id" in record and not (
        isinstance(known, Mapping) and set(known) == {"EAN-13"} and EAN.fullmatch(str(known["EAN-13"]))
    ):
        yield Fault("content_id", "must be an EAN-13 under that key")
    url = record.get("decision_ground_reference_url")
    if "decision_ground_reference_url" in record and not (
        isinstance(url, str) and len(url) <= SHORT and URL.fullmatch(url)
    ):
        yield Fault("decision_ground_reference_url", f"must be a URL of at most {SHORT} characters")


def bulk_faults(records: Sequence[Mapping[str, object]]) -> dict[int, list[Fault]]:
    """The faults of records that are to be sent together, by their place; all are refused for one.

    Raises:
        ValueError: none at all, or more than may be sent at once.
    """
    if not 1 <= len(records) <= MOST_AT_ONCE:
        raise ValueError(f"between 1 and {MOST_AT_ONCE} records are sent at once, not {len(records)}")
    found = {place: faults(record) for place, record in enumerate(records)}
    return {place: wrong for place, wrong in found.items() if wrong}
