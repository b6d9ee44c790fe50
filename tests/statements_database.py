"""A stand-in for the EU's database: its bulk endpoint with the rules it publishes, written down apart from ours.

What it refuses, and how it says so, follows the documentation of its API: up to 100 records in one request, all of
them or none, faults by the record's place, known identifiers by name, each with status 422.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moderation.domain import dsa

Check = Callable[[Any], bool]
TOKEN = "2|tests"
ENUMS = dsa.enumerations().enums


def one_of(name: str) -> Check:
    return lambda value: value in ENUMS[name]


def some_of(name: str) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(one in ENUMS[name] for one in value)


def text_of(most: int) -> Check:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def day_from(first: str) -> Check:
    def check(value: Any) -> bool:
        try:
            return date.fromisoformat(first) <= date.fromisoformat(value) <= date(2038, 1, 1)
        except (TypeError, ValueError):
            return False

    return check


REQUIRED: Mapping[str, Check] = {
    "decision_ground": one_of("DECISION_GROUNDS"),
    "content_type": some_of("CONTENT_TYPES"),
    "category": one_of("STATEMENT_CATEGORIES"),
    "territorial_scope": some_of("TERRITORIAL_SCOPE"),
    "content_date": day_from("2000-01-01"),
    "application_date": day_from("2020-01-01"),
    "decision_facts": text_of(5000),
    "source_type": one_of("SOURCE_TYPES"),
    "automated_detection": one_of("AUTOMATED_DETECTIONS"),
    "automated_decision": one_of("AUTOMATED_DECISIONS"),
    "puid": lambda value: isinstance(value, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,500}", value) is not None,
}
OPTIONAL: Mapping[str, Check] = {
    "decision_visibility": some_of("DECISION_VISIBILITIES"),
    "decision_account": one_of("DECISION_ACCOUNTS"),
    "end_date_account_restriction": day_from("2020-01-01"),
    "incompatible_content_ground": text_of(500),
    "incompatible_content_explanation": text_of(2000),
    "illegal_content_legal_ground": text_of(500),
    "illegal_content_explanation": text_of(2000),
    "content_type_other": text_of(500),
    "category_specification": some_of("KEYWORDS"),
    "category_specification_other": text_of(500),
    "content_language": lambda value: re.fullmatch(r"[A-Z]{2}", value) is not None,
}


def refused(record: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is wrong with a record, by field."""
    wrong = [name for name, check in REQUIRED.items() if not check(record.get(name))]
    wrong += [name for name, check in OPTIONAL.items() if name in record and not check(record[name])]
    wrong += sorted(set(record) - set(REQUIRED) - set(OPTIONAL))
    if "decision_visibility" not in record and "decision_account" not in record:
        wrong.append("decision_visibility")
    kind = "illegal" if record.get("decision_ground") == "DECISION_GROUND_ILLEGAL_CONTENT" else "incompatible"
    second = "illegal_content_legal_ground" if kind == "illegal" else "incompatible_content_ground"
    pair = {f"{kind}_content_explanation", second}
    wrong += sorted(pair ^ {name for name in record if name.startswith(("illegal_", "incompatible_"))})
    if ("CONTENT_TYPE_OTHER" in record.get("content_type", ())) != ("content_type_other" in record):
        wrong.append("content_type_other")
    if record.get("end_date_account_restriction", "9") < record.get("application_date", "0"):
        wrong.append("end_date_account_restriction")
    return {name: [f"The {name.replace('_', ' ')} field is not right."] for name in wrong}


@dataclass
class Database:
    """Where it listens, what it has taken, and how it is to behave."""

    url: str = ""
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    status: int = 0  # answer this and take nothing
    hang_up: bool = False
    silent: bool = False  # refuse without a reason
    unnamed: bool = False  # say that identifiers are known, and not which
    dislike: str = ""  # a puid it takes for wrong

    def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """What a request comes to."""
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"message": "Unauthenticated."}
        if self.status:
            return self.status, {"message": "Not now."}
        records = json.loads(body).get("statements")
        if not isinstance(records, list) or not 1 <= len(records) <= 100:
            return 422, {"message": "The statements field must have between 1 and 100 items."}
        self.sizes.append(len(records))
        errors: dict[str, Any] = {
            f"statement_{place}": wrong for place, one in enumerate(records) if (wrong := refused(one))
        }
        for place, one in enumerate(records):
            if one.get("puid") == self.dislike:
                errors[f"statement_{place}"] = {
                    "decision_facts": ["It will not do."],
                    "no_field": ["Nor this."],
                }
        if not errors:
            puids = Counter(one["puid"] for one in records)
            known = [puid for puid, times in puids.items() if times > 1 or puid in self.taken]
            if known:
                errors = {"puid": ["The identifiers are not all unique."]}
                errors |= {} if self.unnamed else {"existing_puids": known}
        if errors:
            return 422, {"message": "No."} if self.silent else {"errors": errors}
        self.taken |= {one["puid"]: one for one in records}
        return 201, {"statements": records}


@contextmanager
def listening() -> Iterator[Database]:
    """A database on a free port of loopback."""
    database = Database()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if database.hang_up:
                # It is taken, and nobody hears of it.
                database.answer(dict(self.headers), body)
                self.close_connection = True
                return
            status, document = database.answer(dict(self.headers), body)
            database.statuses.append(status)
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    database.url = f"http://127.0.0.1:{server.server_address[1]}/api/v1/statements"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield database
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
