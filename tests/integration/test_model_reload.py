"""A worker takes a new champion between two batches: nobody waits, nothing is mixed, the broken is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from sqlalchemy import select

from models.registry import ArtifactError
from models.serving import Served
from moderation import jobs, relay, serving, worker
from moderation.domain.access import Role
from moderation.domain.content import ItemState
from moderation.domain.errors import Unavailable
from moderation.governance import models, promotions
from moderation.governance.models import CHAMPION, PREVIOUS
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Decision, Item, ModelAlias, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people
from tests.support import post, text_part

NAME = "text-minilm"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.1)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def version_of(served: Served) -> str:
    (classifier,) = served.text
    return classifier.manifest.version


def add(databases: Databases, settings: Settings, folder: Path) -> Path:
    with transaction(databases.content) as session:
        return models.add(session, folder, settings.models, "operator", datetime.now(UTC)).manifest.folder


def promote(databases: Databases, settings: Settings, vault: Vault, version: str) -> None:
    """By two people."""
    one, other = (
        promotions.logged_in(people.principal(databases, vault, role)) for role in (Role.TRAINER, Role.LEAD)
    )
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, one, NAME, version, now)
        promotions.promote(session, settings.models, other, NAME, version, now)


def point(databases: Databases, version: str) -> None:
    with transaction(databases.content) as session:
        before = models.alias_of(session, NAME, CHAMPION)
        models.point(session, NAME, PREVIOUS, before, datetime.now(UTC))
        models.point(session, NAME, CHAMPION, version, datetime.now(UTC))


def following(databases: Databases, settings: Settings) -> Following:
    return Following(databases.content, settings.models, ("text",))


def gauge(version: str) -> float | None:
    return REGISTRY.get_sample_value("moderation_model_info", {"name": NAME, "version": version})


def test_a_new_champion_is_taken_and_the_old_one_is_back_at_once(
    databases: Databases, settings: Settings, vault: Vault, tmp_path: Path
) -> None:
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    shipped = artifacts.champion().version
    with following(databases, settings) as followed:
        held = followed.current()
        assert version_of(held) == shipped
        promote(databases, settings, vault, "7.0")
        until(lambda: version_of(followed.current()) == "7.0")
        # Whoever began with the old one ends with it.
        assert version_of(held) == shipped
        assert len(held.text[0].score(["Lovely weather."])) == 1
        assert (gauge("7.0"), gauge(shipped)) == (1.0, 0.0)
        lead = promotions.logged_in(people.principal(databases, vault, Role.LEAD))
        with transaction(databases.content) as session:
            promotions.rollback(session, settings.models, lead, NAME, datetime.now(UTC))
        until(lambda: version_of(followed.current()) == shipped)
        # It was kept: nothing was loaded again.
        assert followed.current().text[0] is held.text[0]


def test_a_champion_that_does_not_load_is_refused_and_the_old_one_serves(
    databases: Databases, settings: Settings, client: TestClient, tmp_path: Path
) -> None:
    folder = add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    shipped = artifacts.champion().version
    with following(databases, settings) as followed:
        held = followed.current()
        data = (folder / "model.onnx").read_bytes()
        artifacts.replace_file(folder, "model.onnx", data[:-1000])
        point(databases, "7.0")

        def trouble() -> str | None:
            with transaction(databases.content) as session:
                return session.scalar(
                    select(ModelAlias.trouble).where(ModelAlias.name == NAME, ModelAlias.alias == CHAMPION)
                )

        until(lambda: trouble() is not None)
        assert "SHA-256" in str(trouble())
        assert followed.current() is held
        assert version_of(followed.current()) == shipped
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["models"]) == (200, "refused")
        refused = {"name": NAME, "outcome": "refused"}
        assert (REGISTRY.get_sample_value("moderation_model_changes_total", refused) or 0) >= 1
    # A worker that starts anew serves the version before; without one it does not start.
    with following(databases, settings) as followed:
        assert version_of(followed.current()) == shipped
    with transaction(databases.content) as session:
        models.point(session, NAME, PREVIOUS, None, datetime.now(UTC))
    with following(databases, settings) as followed:
        with pytest.raises(ArtifactError, match="SHA-256"):
            followed.start()
        with pytest.raises(Unavailable):
            followed.current()


def test_an_outage_of_the_database_leaves_what_serves(
    databases: Databases, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following(databases, settings) as followed:
        held, failed = followed.current(), threading.Event()

        def away(*_: object) -> None:
            failed.set()
            raise RuntimeError("away")

        with monkeypatch.context() as patched:
            patched.setattr(models, "wanted", away)
            assert failed.wait(PATIENCE)
        add(databases, settings, artifacts.passing(tmp_path, "7.0"))
        point(databases, "7.0")
        until(lambda: version_of(followed.current()) == "7.0")
        assert version_of(held) == artifacts.champion().version


def screen_for_ever(settings: Settings, done: threading.Event, failed: list[BaseException]) -> None:
    """What relay and worker do, in the thread that calls, until `done`."""
    try:
        with (
            relay.opened(settings) as relaying,
            worker.opened(settings, jobs.SCREENING, lambda: 1.0) as screening,
        ):
            while relay.tick(relaying, datetime.now(UTC)) or not done.is_set():
                screening.work(burst=True, logging_level="WARNING")
    except BaseException as error:
        failed.append(error)


def test_under_load_every_item_has_a_verdict_and_each_batch_one_version(
    databases: Databases, settings: Settings, vault: Vault, client: TestClient, tmp_path: Path
) -> None:
    """Items come in all the while a version is promoted, taken back and promoted again."""
    add(databases, settings, artifacts.passing(tmp_path, "7.0"))
    shipped = artifacts.champion().version
    done, failed, sent = threading.Event(), list[BaseException](), [0]

    def seen() -> set[str]:
        with transaction(databases.content) as session:
            return set(
                session.scalars(select(SignalRow.version).where(SignalRow.detector == NAME).distinct())
            )

    def feed() -> None:
        try:
            while not done.is_set():
                batch = [
                    post(f"post-{sent[0] + number}", text_part(f"Number {sent[0] + number} of many."))
                    for number in range(20)
                ]
                client.post("/v1/items/batch", json={"items": batch}).raise_for_status()
                sent[0] += 20
                time.sleep(0.05)
        except BaseException as error:
            failed.append(error)
            done.set()

    def steer() -> None:
        try:
            until(lambda: shipped in seen())
            promote(databases, settings, vault, "7.0")
            until(lambda: "7.0" in seen())
            lead = promotions.logged_in(people.principal(databases, vault, Role.LEAD))
            with transaction(databases.content) as session:
                promotions.rollback(session, settings.models, lead, NAME, datetime.now(UTC))
            reached = sent[0]
            until(lambda: last_version(databases) == shipped and sent[0] > reached)
        except BaseException as error:
            failed.append(error)
        done.set()

    threads = [threading.Thread(target=feed), threading.Thread(target=steer)]
    for thread in threads:
        thread.start()
    screen_for_ever(settings, done, failed)  # in the main thread, which has the signals
    for thread in threads:
        thread.join(PATIENCE)
    assert not failed
    with transaction(databases.content) as session:
        items = session.scalars(select(Item)).all()
        assert len(items) == sent[0]
        assert {item.state for item in items} == {ItemState.DONE}
        signals = session.scalars(select(SignalRow).where(SignalRow.detector == NAME)).all()
        assert {signal.status for signal in signals} == {"ok"}
        of_item = {signal.item_id: signal.version for signal in signals}
        # What one batch came to is decided at one moment.
        batches: dict[datetime, set[str]] = {}
        for item_id, at in session.execute(select(Decision.item_id, Decision.decided_at)):
            batches.setdefault(at, set()).add(of_item.pop(item_id))
    assert len(signals) == sent[0]
    assert not of_item
    assert {version for versions in batches.values() for version in versions} == {shipped, "7.0"}
    assert [len(versions) for versions in batches.values()] == [1] * len(batches)


def last_version(databases: Databases) -> str | None:
    """The version of the newest signal."""
    with transaction(databases.content) as session:
        return session.scalar(
            select(SignalRow.version)
            .where(SignalRow.detector == NAME)
            .order_by(SignalRow.item_id.desc())
            .limit(1)
        )
