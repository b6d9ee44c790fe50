"""People's pages on a full database: `python -m benchmarks.review [--items N] [--cases N]`.

Fills an installation of its own by COPY (`review_data`), then times what moderators wait for: the case page, the
dashboard, the queue's list and the next case. *Server time* is the whole request in this process, from the HTTP
client's call to its answer; services alone are timed inside one transaction each. The next case's query is shown
with its plan.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from benchmarks.review_data import Size, fill
from moderation import keks, setup
from moderation.domain.access import Role
from moderation.domain.cases import CaseState
from moderation.domain.policy import Policy
from moderation.embedded import Broker, Postgres
from moderation.governance import policies, sessions
from moderation.governance.sessions import PersonPrincipal
from moderation.review import casefile, cases, clusters
from moderation.review.listing import Filter
from moderation.settings import Settings
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.tables import Case, Opinion
from moderation.storage.vault import Vault
from tests import people

PEOPLE = 50
GOALS = {"GET /console/cases/{id}": 100.0, "GET /console/ (nothing kept)": 300.0}
Series = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Place:
    """An installation in the hands of this process."""

    settings: Settings
    databases: Databases
    vault: Vault
    policy: Policy


def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--keep", type=Path, help="a directory to fill once and measure in again and again")
    options = parser.parse_args()
    size = Size(options.items, options.cases)
    with filled(options.keep, size) as place:
        print(f"load {os.getloadavg()[0]:.1f}\n", flush=True)
        series = _services(place, options.requests) | _pages(place, options.requests)
        somebody = _old_hand(place, "plans")
        shown = {"reserved, then urgent": plans(place.databases, place.policy, somebody, Filter(), 0.99)}
        with _nothing_urgent(place):
            series |= _next(place, options.requests, "next_case and skip, nothing urgent")
            for name, wanted, dice in (
                ("by harm", Filter(), 0.99),
                ("the oldest", Filter(), 0.0),
                ("one queue", Filter(queue="spam"), 0.99),
            ):
                shown[name] = plans(place.databases, place.policy, somebody, wanted, dice)[-1:]
        _print(series)
        for name, found in shown.items():
            print(f"\nThe next case, {name}:\n\n```\n" + "\n\n".join(found) + "\n```")
        print(f"\nload {os.getloadavg()[0]:.1f}")
    return 0


@contextmanager
def filled(kept: Path | None, size: Size) -> Iterator[Place]:
    """A full installation: in a directory that goes, or in one that stays and is filled but once."""
    with tempfile.TemporaryDirectory(prefix="review-") as passing:
        directory = kept or Path(passing)
        directory.mkdir(exist_ok=True)
        done = directory / "filled"
        with installation(directory) as place:
            if not done.exists():
                began = time.monotonic()
                staff = [
                    people.new_person(place.databases, place.vault, Role.MODERATOR) for _ in range(PEOPLE)
                ]
                fill(place.databases, place.vault, place.policy, staff, datetime.now(UTC), size)
                done.touch()
                print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
            yield place


@contextmanager
def installation(directory: Path) -> Iterator[Place]:
    """An installation with servers, keys and the default policy: a new, empty one, unless one was kept there."""
    directory.chmod(0o755)
    kek = directory / "kek"
    if not kek.exists():
        kek.write_bytes(os.urandom(32))
    with Postgres(directory / "postgres") as postgres, Broker(directory / "broker") as broker:
        for name in ("moderation", "keystore"):
            postgres.create_database(name)
        settings = Settings(
            database_url=postgres.url("moderation"),
            keystore_url=postgres.url("keystore"),
            redis_url=broker.url,
            kek=keks.single(kek.read_bytes()),
            blob_dir=directory / "blobs",
            insecure_dev=True,
        )
        settings.blob_dir.mkdir(exist_ok=True)
        setup.prepare(settings)
        databases = connect(settings.database_url, settings.keystore_url)
        try:
            policy = policies.read(policies.default_document(), 1)
            yield Place(settings, databases, Vault(databases.keystore, settings.kek), policy)
        finally:
            databases.dispose()


def _services(place: Place, count: int) -> Series:
    """The services alone, without HTTP and templates."""
    lead = people.principal(place.databases, place.vault, Role.LEAD)
    ids = _some_cases(place, count)

    def load(session: Session) -> None:
        casefile.load(session, place.vault, place.policy, lead, next(ids), datetime.now(UTC))

    def near(session: Session) -> None:
        case = session.get_one(Case, next(ids))
        clusters.near(session, case.item_id)

    return {
        "casefile.load": _times(place, count, load),
        "clusters.near": _times(place, count, near),
        **_next(place, count, "next_case and skip"),
        **_next(place, count, "next_case and skip, one queue", Filter(queue="spam")),
        **_next(place, count, "next_case and skip, one language", Filter(language="de")),
        "cases.listing, 50 rows": _times(
            place, count, lambda session: cases.listing(session, Filter(), datetime.now(UTC))
        ),
    }


def _next(place: Place, count: int, name: str, wanted: Filter | None = None) -> Series:
    """Somebody takes a case and passes it on, again and again, so that what they passed on piles up."""
    somebody = _old_hand(place, name)
    chance = random.Random(1)

    def take(session: Session) -> None:
        now = datetime.now(UTC)
        found = cases.next_case(
            session, place.policy, somebody, wanted or Filter(), 1.0, chance.random(), now
        )
        assert found is not None
        cases.skip(session, somebody, found.case_id, found.number, None, now)

    return {name: _times(place, count, take)}


def _old_hand(place: Place, name: str) -> PersonPrincipal:
    """Somebody who has judged many cases; another one for every series."""
    with transaction(place.databases.content) as session:
        staff = session.scalars(select(Opinion.person_id).distinct().order_by(Opinion.person_id)).all()
        chosen = staff[len(name) % len(staff)]
        token = sessions.start(session, chosen, "benchmark", datetime.now(UTC), confirmed=True)
    with transaction(place.databases.content) as session:
        return sessions.authenticate(session, place.vault, token, datetime.now(UTC))


@contextmanager
def _nothing_urgent(place: Place) -> Iterator[None]:
    """Urgent cases are closed meanwhile, and open again after it."""
    closed = datetime.now(UTC)
    with transaction(place.databases.content) as session:
        session.execute(
            update(Case)
            .where(Case.urgent, Case.state == CaseState.OPEN)
            .values(state=CaseState.CLOSED, closed_at=closed)
        )
    try:
        yield
    finally:
        with transaction(place.databases.content) as session:
            session.execute(
                update(Case).where(Case.closed_at == closed).values(state=CaseState.OPEN, closed_at=None)
            )


def _pages(place: Place, count: int) -> Series:
    """Whole requests, as a lead sends them."""
    ids = _some_cases(place, count)
    with people.logged_in(place.settings, place.databases, place.vault, Role.LEAD, Role.ADMIN) as client:
        app: Any = client.app

        def get(path: str) -> None:
            answer = client.get(path)
            assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])

        def dashboard_anew() -> None:
            del app.state.board
            get("/console/")

        get("/console/")
        return {
            "GET /console/cases/{id}": _timed(count, lambda: get(f"/console/cases/{next(ids)}")),
            "GET /console/queue": _timed(count, lambda: get("/console/queue")),
            "GET /console/ (nothing kept)": _timed(max(20, count // 10), dashboard_anew),
            "GET /console/ (kept for 15 s)": _timed(count, lambda: get("/console/")),
        }


def _some_cases(place: Place, count: int) -> cycle[UUID]:
    with transaction(place.databases.content) as session:
        ids = session.scalars(select(Case.id).where(Case.state == CaseState.OPEN)).all()
    return cycle(random.Random(2).sample(list(ids), min(count, len(ids))))


def plans(
    databases: Databases,
    policy: Policy,
    somebody: PersonPrincipal,
    wanted: Filter,
    turn_dice: float,
    *,
    analyze: bool = True,
) -> list[str]:
    """The plan of each query by which `next_case` looks for a case: of those that it really ran, in their order."""
    ran: list[tuple[str, Any]] = []

    def note(*given: Any) -> None:
        statement, parameters = given[2], given[3]
        if statement.startswith("SELECT c.id FROM cases"):
            ran.append((statement, parameters))

    event.listen(databases.content, "before_cursor_execute", note)
    try:
        with Session(databases.content) as session:  # ends without a commit: nothing is claimed
            cases.next_case(session, policy, somebody, wanted, 1.0, turn_dice, datetime.now(UTC))
    finally:
        event.remove(databases.content, "before_cursor_execute", note)
    options = "ANALYZE, COSTS OFF, BUFFERS OFF" if analyze else "COSTS OFF"
    with databases.content.connect() as connection:
        explained = [connection.exec_driver_sql(f"EXPLAIN ({options}) {one}", values) for one, values in ran]
        return ["\n".join(str(row[0]) for row in rows) for rows in explained]


def _times(place: Place, count: int, call: Callable[[Session], object]) -> list[float]:
    def once() -> None:
        with transaction(place.databases.content) as session:
            call(session)

    return _timed(count, once)


def _timed(count: int, call: Callable[[], object]) -> list[float]:
    call()
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _print(series: Series) -> None:
    print("| milliseconds | p50 | p95 | goal p95 |\n|---|---|---|---|")
    for name, taken in series.items():
        goal = f"{GOALS[name]:.0f}" if name in GOALS else ""
        print(f"| {name} | {statistics.median(taken):.1f} | {_p95(taken):.1f} | {goal} |")


def _p95(taken: Sequence[float]) -> float:
    return statistics.quantiles(taken, n=20, method="inclusive")[18]


if __name__ == "__main__":
    sys.exit(main())
