"""A content service's end of webhooks: keeps whatever arrives, for tests that look at what was sent outside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Receiver:
    """Where it listens, and every event it was sent, in order."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)

    def about(self, item: str) -> list[dict[str, Any]]:
        """The events that name `item`, in order."""
        return [event for event in list(self.events) if item in json.dumps(event)]

    def wait(self, item: str, count: int, seconds: float = 90) -> list[dict[str, Any]]:
        """Wait until `count` events name `item`, or patience ends."""
        deadline = time.monotonic() + seconds
        while len(self.about(item)) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.about(item)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of loopback that answers 204."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.events.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
