"""Malformed requests and pictures in any number, the same ones for the same seed: for a test and a benchmark."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema

from tests import hostile, mutations

JSON = "application/json"
ODD_TYPES = (
    JSON,
    JSON,
    JSON,
    "text/plain",
    "multipart/form-data",
    "multipart/form-data; boundary=b",
    "",
    "a/b;c",
)


Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
Request: TypeAlias = Case[Any]


@dataclass(frozen=True, slots=True)
class Raw:
    """A request by its bytes."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def operations(schema: BaseSchema) -> list[Operation]:
    """Every operation of the document."""
    return [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]


def by_document(schema: BaseSchema, call: Callable[[Request], object], each: int, start: int) -> None:
    """Have `call` send about `each` requests to each operation that fit the document, and as many that do not."""
    for operation in operations(schema):
        for mode in GenerationMode:
            # What takes no parameter and no body can't be asked for wrongly.
            with suppress(Unsatisfiable):
                _run(operation, mode, call, each, start)


def _run(
    operation: Operation,
    mode: GenerationMode,
    call: Callable[[Request], object],
    each: int,
    start: int,
) -> None:
    @seed(start)
    @settings(
        max_examples=each,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Request) -> None:
        call(impatient(case))

    send()


def impatient(case: Request) -> Request:
    """The same request, except that it does not wait for a verdict."""
    try:
        if 0 < float(case.query["wait"]) <= 30:
            case.query["wait"] = 0
    except (KeyError, TypeError, ValueError):
        pass
    return case


def post(number: int, *parts: dict[str, Any]) -> dict[str, Any]:
    """A post as good as any."""
    return {
        "external_id": f"fuzz-{number}",
        "author": f"acct-{number % 17}",
        "kind": "comment",
        "parts": list(parts),
        "context": {"reach": number, "language": "en"},
    }


def mangled(count: int, start: int) -> Iterator[Raw]:
    """Good requests after accidents to their bytes, type, headers, path and query."""
    dice = random.Random(start)
    for number in range(count):
        document = post(number, {"type": "text", "name": "body", "text": "Lovely weather in Lisbon today."})
        batch = dice.random() < 0.3
        body = json.dumps({"items": [document] * dice.randint(1, 3)} if batch else document).encode()
        for _ in range(dice.randint(0, 3)):
            body = _accident(body, dice)
        path = "/v1/items/batch" if batch else "/v1/items"
        if dice.random() < 0.1:
            path += "?" + dice.choice(
                ("lane=%00", "wait=1e999", "lane=bulk&lane=live", "x=%ff", "wait=-0", "lane")
            )
        if dice.random() < 0.05:
            path = "/v1/items/" + dice.choice(("%00", "%ff%fe", "../etc", "-", "9" * 300, "%2e%2e"))
        headers = [(b"content-type", dice.choice(ODD_TYPES).encode())]
        if dice.random() < 0.1:
            headers.append(
                (
                    b"idempotency-key",
                    dice.randbytes(dice.randint(0, 300)).translate(None, b"\r\n\0\v\f").strip(),
                )
            )
        yield Raw(dice.choice(("POST",) * 8 + ("GET", "PUT")), path, tuple(headers), body)


def _accident(body: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(body) + 1)
    to = min(len(body), at + dice.randint(0, 20))
    insertions = (
        b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"NaN", b"1e999", b"[" * 2000, b'{"a":' * 300, b"null",
        b'"', b"\\", b"9" * 5000, "\u202e".encode(), b'"author": "x", ', dice.randbytes(8),
    )  # fmt: skip
    return body[:at] + dice.choice(insertions) + body[dice.choice((at, to)) :]


def pictures(count: int, start: int) -> Iterator[tuple[str, bytes]]:
    """Every hostile picture by name, then small ones of every format after some accidents."""
    made = [(case.name, case.make()) for case in hostile.CASES]
    yield from made[:count]
    for number, data in enumerate(mutations.pictures(count - len(made), start)):
        yield f"mutated-{number}", data


def with_picture(number: int, data: bytes) -> dict[str, Any]:
    """A post with one picture."""
    part = {"type": "image", "name": "photo", "data": base64.b64encode(data).decode()}
    return post(1_000_000 + number, part)
