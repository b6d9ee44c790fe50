"""Perspective's `?key=`: on its two addresses, and nowhere else, an API key may stand in the address.

Addresses are written down by whatever they pass, and keys must not be. So the key is moved to the header before
anything of ours runs, in the scope that the server logs from: no access log, trace or error of this process has it.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

NAME = "key"


class QueryKeys:
    """Takes the key out of the query of `paths`. A header that is there already counts more."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in self._paths and scope["query_string"]:
            _move(scope)
        await self._app(scope, receive, send)


def _move(scope: Scope) -> None:
    # Bytes that are no text are no key either, and none of them may break this.
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    keys = [value for name, value in pairs if name == NAME]
    rest = [(name, value) for name, value in pairs if name != NAME]
    # In place: the server writes its access log from this very scope.
    scope["query_string"] = urlencode(rest).encode("ascii")
    named = {name.lower() for name, _ in scope["headers"]}
    if keys and b"authorization" not in named:
        value = keys[0].encode("utf-8", "replace")
        scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + value)]
