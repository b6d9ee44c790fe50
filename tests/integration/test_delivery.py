"""Webhooks from the outbox to a real receiver, on a real database.

A post has `PATIENCE` seconds unless its test is about running out of them: then nothing else is sent with it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, select, update
from standardwebhooks import Webhook, WebhookVerificationError

from moderation import delivery, logs
from moderation.domain.errors import Conflict, InvalidInput, NotFound
from moderation.governance import outbox, webhooks
from moderation.governance.outbox import Notice
from moderation.metrics import WEBHOOKS
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import AuditEvent, Outbox, WebhookEndpoint
from moderation.storage.vault import Vault

NOW = datetime.now(UTC)
CLIENT = "forum"
PATIENCE = 60.0
BRIEFLY = 0.4


# --- the receiver ---


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A content service. What a path answers is its first word: `/200`, `/429/7`, `/hang`, `/drip`, `/gate`."""

    port: int = 0
    requests: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == f"/{path}"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        state = self.server.state
        body = self.rfile.read(int(self.headers["Content-Length"]))
        first = not state.at(self.path[1:])
        state.requests.append(Received(self.path, dict(self.headers.items()), body))
        word, _, argument = self.path[1:].partition("/")
        if word == "hang":
            state.released.wait(4 * PATIENCE)
            self.close_connection = True
        elif word == "drip":
            self.drip()
        elif word == "gate" and first:
            state.gate.wait(4 * PATIENCE)
            self.answer(500)
        else:
            self.answer(int(word) if word.isdecimal() else 200, argument)

    def drip(self) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        end = time.monotonic() + 4 * PATIENCE
        while not self.server.state.released.wait(0.05) and time.monotonic() < end:
            self.wfile.write(b"a")

    def answer(self, status: int, argument: str = "") -> None:
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.state.url("200/elsewhere"))
        if argument.isdecimal():
            self.send_header("Retry-After", argument)
        self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"secret word")

    def log_message(self, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = False

    def __init__(self, state: Receiver) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # a client that hangs up is what some of these tests are about


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch may take as long as a machine stalls."""
    monkeypatch.setattr(delivery, "BUDGET_SECONDS", 10 * PATIENCE)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    state = Receiver()
    server = Server(state)
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    state.released.set()
    state.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


# --- shorthand ---


@dataclass
class Service:
    """The service under test with a clock of its own."""

    databases: Databases
    vault: Vault
    receiver: Receiver
    now: datetime = NOW

    def endpoint(self, path: str, client: str = CLIENT, name: str = "", events: Any = outbox.EVENTS) -> str:
        """Register an endpoint; returns its secret."""
        with transaction(self.databases.content) as session:
            _, secret = webhooks.register(
                session,
                self.vault,
                client,
                name or "e_" + path.replace("/", "_"),
                self.receiver.url(path),
                events,
                insecure_dev=True,
                now=self.now,
            )
        return secret

    def notify(self, count: int = 1, client: str = CLIENT, **changes: Any) -> list[UUID]:
        """Put `count` notices into the outbox; returns the items they tell of."""
        notices = [
            Notice(
                **{
                    "client": client,
                    "item_id": new_id(self.now),
                    "event": "item.decided",
                    "payload": {"decision_id": str(new_id(self.now)), "verdict": "allow"},
                }
                | changes
            )
            for _ in range(count)
        ]
        with transaction(self.databases.content) as session:
            outbox.enqueue(session, notices, self.now)
        return [notice.item_id for notice in notices]

    def claim(self, limit: int = 64, lease: float = 60) -> tuple[UUID, tuple[UUID, ...]] | None:
        with transaction(self.databases.content) as session:
            return outbox.claim(session, self.now, limit, lease)

    def deliver(
        self, token: UUID, ids: tuple[UUID, ...], timeout: float = PATIENCE, jitter: float = 0.0
    ) -> int:
        return delivery.deliver(
            self.databases.content,
            self.vault,
            True,
            token,
            ids,
            lambda: self.now,
            timeout=timeout,
            jitter=lambda: jitter,
        )

    def run(self, **options: Any) -> int:
        """One turn of relay and worker."""
        claimed = self.claim()
        return self.deliver(*claimed, **options) if claimed else 0

    def rows(self) -> list[Outbox]:
        with transaction(self.databases.content) as session:
            return list(session.scalars(select(Outbox).order_by(Outbox.id)))

    def row(self) -> Outbox:
        (row,) = self.rows()
        return row

    def waits(self) -> float:
        return (self.row().not_before - self.now).total_seconds()

    def audited(self, action: str) -> list[AuditEvent]:
        with transaction(self.databases.content) as session:
            return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action)))


@pytest.fixture
def service(databases: Databases, vault: Vault, receiver: Receiver) -> Service:
    return Service(databases, vault, receiver)


def outcomes(outcome: str) -> float:
    return WEBHOOKS.labels(outcome)._value.get()  # type: ignore[attr-defined, no-any-return]


# --- endpoints ---


def test_register_returns_the_secret_once_and_keeps_it_encrypted(service: Service) -> None:
    secret = service.endpoint("200", name="main", events=["item.deleted", "item.decided"])
    assert secret.startswith("whsec_")
    with transaction(service.databases.content) as session:
        row = session.scalars(select(WebhookEndpoint)).one()
        (listed,) = webhooks.list_endpoints(session, CLIENT)
        assert webhooks.list_endpoints(session, "other") == []
    assert secret.encode() not in row.secret
    assert secret not in repr(listed)
    place = ("webhook_endpoints", "secret", str(row.id))
    assert service.vault.account_key().decrypt(row.secret, *place) == secret.encode()
    assert (listed.name, listed.events, listed.disabled_at) == (
        "main",
        ("item.decided", "item.deleted"),
        None,
    )
    (audited,) = service.audited("webhook_endpoint.created")
    assert (audited.actor, audited.subject_id) == (f"client:{CLIENT}", str(row.id))
    assert secret not in json.dumps(audited.details)


def test_register_refuses_what_it_can_not_serve(service: Service) -> None:
    service.endpoint("200", name="main")
    with pytest.raises(Conflict, match="main"):
        service.endpoint("201", name="main")
    service.endpoint("200", name="main", client="other")
    with pytest.raises(InvalidInput, match=r"item\.decided, item\.in_review"):
        service.endpoint("200", name="more", events=["item.exploded"])
    with pytest.raises(InvalidInput, match="at least one"):
        service.endpoint("200", name="more", events=[])
    with pytest.raises(InvalidInput, match="name"):
        service.endpoint("200", name="Not A Name")
    assert len(service.audited("webhook_endpoint.created")) == 2


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/", "https://127.0.0.1/", "https://10.0.0.1/", "http://example.com/"]
)
def test_register_checks_the_address(service: Service, url: str) -> None:
    with transaction(service.databases.content) as session, pytest.raises(InvalidInput):
        webhooks.register(session, service.vault, CLIENT, "main", url, outbox.EVENTS, False, NOW)


def test_number_of_endpoints_is_limited(service: Service) -> None:
    for number in range(webhooks.ENDPOINTS):
        service.endpoint(f"200/{number}")
    with pytest.raises(Conflict, match="remove one"):
        service.endpoint("200/more")


def test_remove_takes_along_what_was_on_its_way(service: Service) -> None:
    service.endpoint("200", name="main")
    service.notify(2)
    claimed = service.claim(limit=1)
    assert claimed
    with transaction(service.databases.content) as session:
        webhooks.remove(session, CLIENT, "main", NOW)
    assert service.rows() == []
    assert service.deliver(*claimed) == 0
    assert service.receiver.requests == []
    assert len(service.audited("webhook_endpoint.removed")) == 1
    service.endpoint("200", name="main")
    with transaction(service.databases.content) as session, pytest.raises(NotFound):
        webhooks.remove(session, "other", "main", NOW)


# --- enqueue ---


def test_enqueue_fans_out_to_subscribers_or_to_the_callback_alone(service: Service) -> None:
    service.endpoint("200/all", name="all")
    service.endpoint("200/deleted", name="deleted", events=["item.deleted"])
    service.endpoint("200/other", name="other", client="other")
    service.endpoint("200/off", name="off")
    with transaction(service.databases.content) as session:
        session.execute(update(WebhookEndpoint).where(WebhookEndpoint.name == "off").values(disabled_at=NOW))
        names: dict[str, UUID] = dict(session.execute(select(WebhookEndpoint.name, WebhookEndpoint.id)).all())  # type: ignore[arg-type]
        items = {
            word: uuid4() for word in ("plain", "deleted", "callback", "foreign", "gone", "off", "theirs")
        }
        written = outbox.enqueue(
            session,
            [
                Notice(CLIENT, items["plain"], "item.decided", {}),
                Notice(CLIENT, items["deleted"], "item.deleted", {}),
                Notice(CLIENT, items["callback"], "item.decided", {}, names["deleted"]),
                Notice(CLIENT, items["foreign"], "item.decided", {}, names["other"]),
                Notice(CLIENT, items["gone"], "item.decided", {}, uuid4()),
                Notice(CLIENT, items["off"], "item.decided", {}, names["off"]),
                Notice("other", items["theirs"], "item.decided", {}),
            ],
            NOW,
        )
    sent = {(row.item_id, row.endpoint_id) for row in service.rows()}
    assert written == 5
    assert sent == {
        (items["plain"], names["all"]),
        (items["deleted"], names["all"]),
        (items["deleted"], names["deleted"]),
        (items["callback"], names["deleted"]),
        (items["theirs"], names["other"]),
    }


@pytest.mark.parametrize("endpoints", [0, 2])
def test_enqueue_costs_one_query_and_one_copy(service: Service, endpoints: int) -> None:
    for number in range(endpoints):
        service.endpoint(f"200/{number}")
    seen: list[str] = []

    def note(conn: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement.split(maxsplit=1)[0])

    event.listen(service.databases.content, "before_cursor_execute", note)
    service.notify(1)
    seen.clear()
    with transaction(service.databases.content) as session:
        outbox.enqueue(session, [Notice(CLIENT, uuid4(), "item.decided", {}) for _ in range(64)], NOW)
    assert seen == ["SELECT"]
    assert len(service.rows()) == 65 * endpoints


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": {"text": "what somebody wrote"}},
        {"payload": {"nested": {"text": "a"}}},
        {"payload": {"long": "a" * 65}},
        {"event": "item.exploded"},
    ],
)
def test_notice_holds_ids_only(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="item"):
        Notice(**{"client": CLIENT, "item_id": uuid4(), "event": "item.decided", "payload": {}} | changes)


# --- delivering ---


def test_message_is_thin_and_its_signature_verifies(service: Service) -> None:
    # The receiver compares with its own clock, and a long run of tests began more than five minutes ago.
    now = service.now = datetime.now(UTC)
    secret = service.endpoint("200")
    before = outcomes("delivered")
    (item,) = service.notify(payload={"decision_id": "d1", "verdict": "remove"})
    assert service.run() == 1
    (request,) = service.receiver.requests
    row = service.row()
    assert Webhook(secret).verify(request.body, request.headers) == {
        "type": "item.decided",
        "timestamp": now.isoformat().replace("+00:00", "Z"),
        "data": {"item_id": str(item), "decision_id": "d1", "verdict": "remove"},
    }
    assert request.headers["webhook-id"] == f"msg_{row.id.hex}"
    assert request.headers["Content-Type"] == "application/json"
    assert (row.state, row.attempts, row.last_status, row.last_error) == ("delivered", 1, 200, None)
    assert (row.delivered_at, row.lease_token, row.lease_until) == (now, None, None)
    assert outcomes("delivered") == before + 1
    assert service.claim() is None
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body + b" ", request.headers)


def test_retries_follow_the_schedule_under_one_id_and_then_end(service: Service) -> None:
    service.endpoint("500")
    service.notify()
    waits = []
    for _ in range(9):
        assert service.run() == 0
        waits.append(service.waits())
        service.now = service.row().not_before - timedelta(milliseconds=1)
        assert service.claim() is None
        service.now += timedelta(milliseconds=1)
    hours = [2, 5, 10, 14, 20, 24]
    assert waits == [5, 300, 1_800, *[3_600 * number for number in hours]]
    dead, retried = outcomes("dead"), outcomes("retry")
    assert service.run() == 0
    row = service.row()
    assert (row.state, row.attempts, row.last_status, row.last_error) == ("dead", 10, 500, "refused")
    assert (outcomes("dead"), outcomes("retry")) == (dead + 1, retried)
    service.now += timedelta(days=30)
    assert service.claim() is None
    requests = service.receiver.requests
    assert len(requests) == 10
    assert len({request.headers["webhook-id"] for request in requests}) == 1
    assert len({request.body for request in requests}) == 1
    assert len({request.headers["webhook-timestamp"] for request in requests}) == 10


@pytest.mark.parametrize(
    ("attempts", "retry_after", "jitter", "wait"),
    [
        (1, None, 0.0, 5),
        (1, None, 1.0, 5.5),
        (1, 2.0, 0.0, 5),
        (1, 900.0, 0.0, 900),
        (1, 900.0, 1.0, 990),
        (1, 1e9, 0.0, 86_400),
        (9, 10.0, 0.0, 86_400),
        (10, None, 0.0, None),
        (10, 900.0, 0.0, None),
    ],
)
def test_retry_wait(attempts: int, retry_after: float | None, jitter: float, wait: float | None) -> None:
    assert delivery.retry_wait(attempts, retry_after, jitter) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("path", "status", "error", "waits"),
    [
        ("429/900", 429, "refused", 900),
        ("503/60", 503, "refused", 60),
        ("429/1", 429, "refused", 5),
        ("500/900", 500, "refused", 5),
        ("404", 404, "refused", 5),
        ("302", 302, "refused", 5),
        ("hang", None, "timeout", 5),
        ("drip", None, "timeout", 5),
    ],
)
def test_failure_is_noted_in_a_word(
    service: Service, path: str, status: int | None, error: str, waits: float
) -> None:
    service.endpoint(path)
    service.notify()
    assert service.run(timeout=BRIEFLY if error == "timeout" else PATIENCE) == 0
    row = service.row()
    assert (row.state, row.attempts, row.last_status, row.last_error) == ("pending", 1, status, error)
    assert (row.lease_token, row.lease_until, row.delivered_at) == (None, None, None)
    assert service.waits() == waits
    assert len(service.receiver.requests) == 1  # a redirect was not followed


def test_address_is_checked_again_at_sending(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    with transaction(service.databases.content) as session:
        session.execute(update(WebhookEndpoint).values(url="https://169.254.169.254/latest"))
    assert service.run() == 0
    assert service.row().last_error == "refused address"


def test_gone_disables_the_endpoint_and_all_that_waits_for_it(service: Service) -> None:
    service.endpoint("410", name="main")
    service.notify(5)
    first = service.claim(limit=3)
    assert first
    assert service.deliver(*first) == 0
    assert sorted((row.state, row.last_status or 0, row.last_error or "") for row in service.rows()) == [
        ("dead", 0, "endpoint disabled"),
        ("dead", 0, "endpoint disabled"),
        ("dead", 410, "gone"),
        ("pending", 0, ""),
        ("pending", 0, ""),
    ]
    assert service.run() == 0
    assert {row.state for row in service.rows()} == {"dead"}
    assert len(service.receiver.requests) == 1
    with transaction(service.databases.content) as session:
        (endpoint,) = webhooks.list_endpoints(session, CLIENT)
    assert (endpoint.disabled_at, endpoint.disabled_because) == (NOW, "it answered 410 Gone")
    (audited,) = service.audited("webhook_endpoint.disabled")
    assert (audited.actor, audited.subject_id) == ("machine", str(endpoint.id))
    service.notify()
    assert len(service.rows()) == 5


def test_hanging_endpoint_costs_itself_one_time_out(service: Service) -> None:
    service.endpoint("hang")
    service.notify(20)
    assert service.run(timeout=BRIEFLY) == 0
    assert len(service.receiver.requests) == 1
    rows = service.rows()
    assert {(row.state, row.attempts, row.last_error) for row in rows} == {("pending", 1, "timeout")}


@pytest.mark.parametrize("hanging", [1, 3])
def test_hanging_endpoints_cost_others_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, hanging: int
) -> None:
    """Each holds one thread only; whoever answers is served by the rest, all of it while they hang."""
    monkeypatch.setattr(delivery, "THREADS", 4)
    for number in range(hanging):
        service.endpoint(f"hang/{number}", events=["item.decided"])
    service.endpoint("200", events=["item.decided"])
    service.notify(20)
    claimed = service.claim(limit=200)
    assert claimed
    worker = threading.Thread(target=service.deliver, args=claimed)
    worker.start()
    try:
        wait_for(lambda: len(service.receiver.at("200")) == 20)
    finally:
        service.receiver.released.set()
        worker.join()
    assert len(service.receiver.requests) == 20 + hanging
    states = sorted((row.state, row.attempts) for row in service.rows())
    assert states == [("delivered", 1)] * 20 + [("pending", 1)] * 20 * hanging


def test_answering_endpoint_is_sent_to_in_parallel(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.endpoint("200")
    service.notify(30)
    under_way: list[int] = []
    post = delivery.outbound.Client.post
    lock, flying, crowded = threading.Lock(), 0, threading.Event()

    def counted(*args: Any) -> Any:
        nonlocal flying
        with lock:
            flying += 1
            under_way.append(flying)
            first = len(under_way) == 1
            if flying == delivery.THREADS_AN_ENDPOINT:
                crowded.set()
        if not first:
            crowded.wait(PATIENCE)
            time.sleep(0.02)  # time for one more than there may be
        try:
            return post(*args)
        finally:
            with lock:
                flying -= 1

    monkeypatch.setattr(delivery.outbound.Client, "post", counted)
    assert service.run() == 30
    assert under_way[:2] == [1, 1]  # the first alone, until the endpoint has answered
    assert max(under_way) == delivery.THREADS_AN_ENDPOINT


def test_slower_please_spares_the_rest_without_counting_an_attempt(service: Service) -> None:
    service.endpoint("429/120")
    service.notify(4)
    assert service.run() == 0
    assert len(service.receiver.requests) == 1
    rows = sorted(service.rows(), key=lambda row: row.attempts)
    assert [row.attempts for row in rows] == [0, 0, 0, 1]
    assert {row.not_before for row in rows} == {NOW + timedelta(seconds=120)}


def test_batch_that_takes_too_long_gives_the_rest_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.endpoint("hang")
    service.endpoint("200", client="other")
    service.notify()
    service.notify(client="other")
    monkeypatch.setattr(delivery, "BUDGET_SECONDS", PATIENCE - 1)
    assert service.run() == 0
    assert service.receiver.requests == []
    assert {(row.state, row.attempts, row.not_before) for row in service.rows()} == {("pending", 0, NOW)}


# --- leases ---


def test_claim_is_fair_between_endpoints(service: Service) -> None:
    service.endpoint("200/a", client="a")
    service.notify(30, client="a")
    service.now += timedelta(seconds=1)
    for client, count in (("b", 3), ("c", 1)):
        service.endpoint(f"200/{client}", client=client)
        service.notify(count, client=client)
    claimed = service.claim(limit=8)
    assert claimed
    clients = [row.client for row in service.rows() if row.id in claimed[1]]
    assert (len(clients), clients.count("b"), clients.count("c")) == (8, 3, 1)


def test_endpoint_in_flight_holds_one_batch_at_most(service: Service) -> None:
    service.endpoint("200/a", client="a")
    service.notify(30, client="a")
    assert len((service.claim(limit=8) or (None, ()))[1]) == 8
    assert service.claim(limit=8) is None
    service.endpoint("200/b", client="b")
    service.notify(2, client="b")
    claimed = service.claim(limit=8)
    assert claimed
    assert {row.client for row in service.rows() if row.id in claimed[1]} == {"b"}


def test_relays_beside_each_other_claim_each_row_once(service: Service) -> None:
    service.endpoint("200")
    service.notify(40)
    with transaction(service.databases.content) as first, transaction(service.databases.content) as second:
        one = outbox.claim(first, NOW, 10, 60)
        two = outbox.claim(second, NOW, 40, 60)
    assert one
    assert two
    assert not set(one[1]) & set(two[1])
    assert one[0] != two[0]
    assert len(one[1]) + len(two[1]) == 40


def test_row_taken_between_looking_and_leasing_is_left_alone(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    claimed = service.claim()
    assert claimed
    late = {"ids": list(claimed[1]), "token": uuid4(), "until": NOW + timedelta(hours=1), "now": NOW}
    with transaction(service.databases.content) as session:
        assert session.execute(outbox._LEASE, late).all() == []
    assert service.row().lease_token == claimed[0]


def test_lost_wake_up_costs_no_attempt(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    assert service.claim(lease=60)
    service.now += timedelta(seconds=59)
    assert service.claim() is None
    service.now += timedelta(seconds=1)
    assert service.run() == 1
    assert service.row().attempts == 1


def test_wake_up_that_comes_twice_sends_once(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    claimed = service.claim()
    assert claimed
    assert service.deliver(*claimed) == 1
    assert service.deliver(*claimed) == 0
    assert len(service.receiver.requests) == 1


def test_stale_token_sends_nothing_and_changes_nothing(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    stale = service.claim()
    assert stale
    service.now += timedelta(seconds=60)
    fresh = service.claim()
    assert fresh
    assert service.deliver(*stale) == 0
    assert service.receiver.requests == []
    assert (service.row().state, service.row().lease_token) == ("leased", fresh[0])
    assert service.deliver(*fresh) == 1


def test_worker_that_comes_too_late_changes_nothing(service: Service) -> None:
    """It hangs in its post until another worker has taken the row over and delivered it."""
    service.endpoint("gate")
    service.notify()
    claimed = service.claim()
    assert claimed
    zombie = threading.Thread(target=service.deliver, args=claimed)
    zombie.start()
    try:
        wait_for(lambda: bool(service.receiver.requests))
        service.now += timedelta(hours=1)
        assert service.run() == 1
    finally:
        service.receiver.gate.set()  # it is answered 500 now, which would mean: again in five seconds
        zombie.join()
    row = service.row()
    assert (row.state, row.attempts, row.last_status) == ("delivered", 2, 200)


KILLED = """
import sys
from datetime import UTC, datetime
from uuid import UUID
from moderation import delivery
from moderation.storage.database import connect
from moderation.storage.vault import Vault
content, keystore, kek, token, *ids = sys.argv[1:]
databases = connect(content, keystore)
vault = Vault(databases.keystore, bytes.fromhex(kek))
now = lambda: datetime.now(UTC)
delivery.BUDGET_SECONDS = 600
delivery.deliver(databases.content, vault, True, UUID(token), [UUID(i) for i in ids], now, timeout=300)
"""


def test_worker_killed_between_post_and_commit_sends_again_under_the_same_id(
    service: Service, settings: Settings
) -> None:
    service.endpoint("gate")
    service.notify()
    claimed = service.claim()
    assert claimed
    token, ids = claimed
    urls = settings.database_url, settings.keystore_url
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, *urls, settings.kek.keys[1].hex(), str(token), *map(str, ids)]
    ) as worker:
        try:
            wait_for(lambda: bool(service.receiver.requests))
        finally:
            worker.kill()
    service.receiver.gate.set()
    until = service.row().lease_until
    assert until
    assert until > service.now + timedelta(seconds=60)  # the worker's lease is longer than the relay's
    service.now = until - timedelta(milliseconds=1)
    assert service.claim() is None
    service.now = until
    assert service.run() == 1
    first, second = service.receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert (service.row().state, service.row().attempts) == ("delivered", 2)


def test_worker_that_dies_at_every_attempt_comes_to_an_end(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    with transaction(service.databases.content) as session:
        session.execute(update(Outbox).values(attempts=delivery.ATTEMPTS))
    assert service.run() == 0
    assert (service.row().state, service.row().attempts) == ("dead", delivery.ATTEMPTS)
    assert service.row().last_error == "given up"
    assert service.receiver.requests == []


# --- dead letters ---


def make_dead(service: Service) -> None:
    with transaction(service.databases.content) as session:
        session.execute(
            update(Outbox).values(state="dead", attempts=10, last_status=500, last_error="refused")
        )


def test_dead_letters_and_replay(service: Service) -> None:
    service.endpoint("200", name="main")
    service.endpoint("200/other", name="main", client="other")
    items = service.notify(3)
    service.notify(client="other")
    make_dead(service)
    with transaction(service.databases.content) as session:
        assert len(outbox.dead_letters(session)) == 4
        assert len(outbox.dead_letters(session, limit=1)) == 1
        letters = outbox.dead_letters(session, CLIENT)
        assert {letter.item_id for letter in letters} == set(items)
        one = letters[0]
        assert (one.endpoint, one.event, one.attempts, one.last_status, one.last_error) == (
            "main",
            "item.decided",
            10,
            500,
            "refused",
        )
        chosen = outbox.outbox_id(one.webhook_id)
        assert outbox.replay(session, [chosen], NOW, client="other") == 0
        assert outbox.replay(session, [chosen], NOW) == 1
        assert outbox.replay(session, [chosen], NOW) == 0
    assert service.run() == 1
    assert service.receiver.requests[0].headers["webhook-id"] == one.webhook_id
    assert [row.attempts for row in service.rows() if row.id == chosen] == [1]
    with transaction(service.databases.content) as session:
        assert outbox.replay(session, None, NOW, client=CLIENT) == 2
        assert outbox.replay(session, None, NOW) == 1


def test_replay_waits_until_the_endpoint_is_enabled(service: Service) -> None:
    service.endpoint("410", name="main")
    service.notify()
    service.run()
    with transaction(service.databases.content) as session:
        assert outbox.replay(session, None, NOW) == 0
        webhooks.enable(session, CLIENT, "main", NOW)
        webhooks.enable(session, CLIENT, "main", NOW)
        assert outbox.replay(session, None, NOW) == 1
    assert len(service.audited("webhook_endpoint.enabled")) == 1


def test_commands(service: Service, settings: Settings) -> None:
    service.endpoint("200")
    service.notify(3)
    make_dead(service)
    letters = delivery.list_dead(settings)
    assert len(letters) == 3
    assert delivery.replay_dead(settings, [letters[0].webhook_id]) == 1
    assert delivery.replay_dead(settings, None) == 2
    assert delivery.list_dead(settings) == []
    with pytest.raises(InvalidInput, match="msg_"):
        delivery.replay_dead(settings, ["msg_1"])


# --- what else may go wrong ---


def test_secret_that_does_not_open_fails_its_own_messages_only(service: Service) -> None:
    service.endpoint("200/a", client="a", name="a")
    service.endpoint("200/b", client="b", name="b")
    service.notify(client="a")
    service.notify(client="b")
    with transaction(service.databases.content) as session:
        one = select(WebhookEndpoint.secret).where(WebhookEndpoint.name == "b").scalar_subquery()
        session.execute(update(WebhookEndpoint).where(WebhookEndpoint.name == "a").values(secret=one))
    assert service.run() == 1
    failed = next(row for row in service.rows() if row.client == "a")
    assert (failed.state, failed.attempts, failed.last_error) == ("pending", 1, "secret does not open")
    assert service.receiver.at("200/a") == []


def test_unforeseen_error_keeps_the_outcomes_of_the_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.endpoint("200/a", client="a")
    service.endpoint("200/b", client="b")
    service.notify(client="a")
    service.notify(client="b")
    post = delivery.outbound.Client.post

    def broken(client: Any, url: str, *rest: Any) -> Any:
        if url.endswith("/a"):
            raise RuntimeError("unforeseen")
        return post(client, url, *rest)

    monkeypatch.setattr(delivery.outbound.Client, "post", broken)
    assert service.run() == 1
    assert sorted(row.last_error or "" for row in service.rows()) == ["", "internal error"]


def test_nothing_sent_or_secret_is_logged(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug")
    caplog.set_level(logging.DEBUG)
    paths = ("200/token-7", "500/token-7", "410/token-7", "302/token-7")
    secrets = [service.endpoint(path, name="e_" + path[:3], events=["item.decided"]) for path in paths]
    items = service.notify(payload={"decision_id": "canary-decision", "verdict": "remove"})
    stale = service.claim()
    assert stale
    service.now += timedelta(seconds=60)
    assert service.run() == 1
    service.deliver(*stale)
    secrets.append(service.endpoint("hang/token-7", name="e_hang", events=["item.deleted"]))
    items += service.notify(event="item.deleted", payload={"decision_id": "canary-decision"})
    assert service.run(timeout=BRIEFLY) == 0
    output = caplog.text + "".join(capfd.readouterr())
    assert "webhook_endpoint_disabled" in output
    assert "webhook_lease_lost" in output
    for canary in (*secrets, *(str(item) for item in items), "canary-decision", "token-7", "secret word"):
        assert canary not in output
    assert "v1," not in output


def test_rows_fill_every_column(service: Service) -> None:
    service.endpoint("200")
    service.notify()
    with transaction(service.databases.content) as session:
        assert session.scalar(select(func.count()).select_from(Outbox).where(Outbox.state == "pending")) == 1
    row = service.row()
    empty = {column.name for column in Outbox.__table__.columns if getattr(row, column.name) is None}
    assert empty == {"undo_id", "lease_token", "lease_until", "last_status", "last_error", "delivered_at"}


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
