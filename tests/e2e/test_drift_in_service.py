"""A running service ends a certificate by itself once traffic drifts, and decides nothing under it afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import drifting, seeding
from tests.drifting import certify, citing, ended, mild, rude
from tests.service import Service, running

ONE_MINUTE = 60.0  # by then a certificate must be void, from the first post that does not fit


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("drift") / "var") as service:
        drifting.publish(service)
        yield service


@contextmanager
def traffic_of_mild_posts(service: Service) -> Iterator[list[str]]:
    """Mild posts without a pause; those that were screened so far."""
    stop, screened = threading.Event(), list[str]()

    def send() -> None:
        for seed in range(1_000, 2_000):
            if stop.is_set():
                return
            screened.extend(seeding.submit(service, mild(20, seed)))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield screened
    finally:
        stop.set()
        thread.join()


def test_a_drift_voids_a_certificate_and_nothing_is_decided_under_it_afterwards(service: Service) -> None:
    certificate = certify(service, seeding.submit(service, mild(300, 1)))
    fitting = seeding.submit(service, mild(200, 2))
    assert citing(service, certificate) & set(fitting), "what is let pass stands on it"
    assert ended(service, certificate) is None

    with traffic_of_mild_posts(service) as screened:
        began = time.monotonic()
        seeding.submit(service, rude(60))
        while ended(service, certificate) is None:
            assert time.monotonic() - began < ONE_MINUTE, "a certificate must end within a minute of a drift"
            time.sleep(0.1)
        under_it, before = citing(service, certificate), len(screened)
        while len(screened) < before + 100:
            time.sleep(0.1)
    assert ended(service, certificate) in ("scores", "prevalence")
    assert under_it & set(screened), "it held while posts came in"
    assert citing(service, certificate) == under_it

    afterwards = seeding.submit(service, mild(100, 3))
    assert not citing(service, certificate) & set(afterwards)
    with service.database() as database:
        reasons = database.execute(
            "SELECT reasons::text FROM decisions WHERE item_id = any(%s::uuid[])", [afterwards]
        ).fetchall()
    assert all("no certificate" in row[0] for row in reasons), reasons[0]
