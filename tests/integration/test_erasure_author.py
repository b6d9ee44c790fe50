"""Everything of an author ends: hidden in the request, gone after the run, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update

from moderation.domain.content import Context, ItemState, Lane, Submission, TextPart
from moderation.domain.erasing import NOBODY, Cause
from moderation.domain.errors import NotFound
from moderation.domain.policy import Policy
from moderation.features.hashes import text_digest
from moderation.governance import erasure
from moderation.governance.erasing import carrying, counting, ending, trained
from moderation.pipeline import intake
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.keystore import Erased
from moderation.storage.tables import (
    Appeal,
    AuditEvent,
    Author,
    Case,
    Decision,
    Erasure,
    Item,
    Outbox,
    Part,
    Report,
    Reporter,
    Tombstone,
)
from moderation.storage.vault import Vault
from tests.caseload import Caseload
from tests.support import MILD, bank_of, calling, count, drain, image_part, new_key, post, text_part

DAY = timedelta(days=1)
LONG = 60.0


def author_id(databases: Databases, vault: Vault, reference: str = "acct-1", client: str = "app") -> UUID:
    with transaction(databases.content) as session:
        return erasure.author_of(session, vault, client, reference)


def ask(
    databases: Databases,
    vault: Vault,
    author: UUID,
    *,
    cause: Cause = Cause.REQUEST,
    at: datetime | None = None,
) -> UUID:
    """An erasure, asked for by the content service."""
    with transaction(databases.content) as session:
        return erasure.request(
            session,
            vault,
            client="app",
            author_id=author,
            cause=cause,
            requested_by="client:app",
            now=at or datetime.now(UTC),
        )


@pytest.fixture
def carry(databases: Databases, vault: Vault, blobs: FolderBlobs) -> Callable[..., int]:
    """A turn of the upkeep, as long as it takes."""

    def run(at: datetime | None = None, seconds: float = LONG) -> int:
        return erasure.run(databases, vault, blobs, at or datetime.now(UTC), seconds)

    return run


def row(databases: Databases, identifier: UUID) -> Erasure:
    with transaction(databases.content) as session:
        return session.get_one(Erasure, identifier)


@pytest.fixture
def written(
    client: TestClient, settings: Settings, databases: Databases, now: datetime
) -> list[dict[str, Any]]:
    """Two posts of the author, one of them removed, and one of somebody else."""
    bank_of(databases, text_digest(MILD), "remove", now)
    posts = [post("post-1", text_part(), image_part()), post("post-2", text_part("Another mild text."))]
    posts.append(post("post-3", text_part("Somebody else writes."), author="acct-2"))
    made = [client.post("/v1/items", json=one).json() for one in posts]
    drain(settings)
    return made


def test_in_the_request_everything_is_hidden_and_after_the_run_it_is_gone(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    settings: Settings,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    mine, (theirs,) = written[:2], written[2:]
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    for item in mine:
        assert client.get(item["status_url"]).status_code == 404
    assert client.get(theirs["status_url"]).status_code == 200
    assert carry() == 1
    with databases.keystore.connect() as keystore:
        assert set(counting.of_keys(keystore, author).values()) == {0}
    with transaction(databases.content) as session:
        assert set(counting.of_content(session, author).values()) == {0}
        assert session.get(Author, author) is None
        assert session.scalars(select(Item.id)).all() == [UUID(theirs["id"])]
        assert session.scalars(select(Part.item_id)).all() == [UUID(theirs["id"])]
        records = session.scalars(select(Decision.author_id).order_by(Decision.id)).all()
        assert records.count(NOBODY) == 2, "the records stay and are nobody's"
    assert not any(path.is_file() for path in settings.blob_dir.rglob("*"))
    done = row(databases, identifier)
    assert (done.state, done.kept) == ("done", [])
    assert done.before["items"] == 2
    assert done.before["item_keys"] == 2
    assert carry() == 0, "a second time there is nothing to do"
    assert client.get(theirs["status_url"]).json()["verdict"] == "allow"


def test_asked_for_twice_it_is_one_erasure(
    databases: Databases, vault: Vault, written: list[dict[str, Any]], carry: Callable[..., int]
) -> None:
    author = author_id(databases, vault)
    first = ask(databases, vault, author)
    assert ask(databases, vault, author) == first
    carry()
    with pytest.raises(NotFound, match="no such author"):
        ask(databases, vault, author)
    with transaction(databases.content) as session, pytest.raises(NotFound):
        erasure.request(
            session, vault, client="other", author_id=author_id(databases, vault, "acct-2"),
            cause=Cause.REQUEST, requested_by="client:other", now=datetime.now(UTC),
        )  # fmt: skip


def test_a_late_retry_gets_410_even_from_somebody_who_was_banned(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    load: Caseload,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    author = author_id(databases, vault)
    with transaction(databases.content) as session:
        decision = session.scalars(select(Decision).where(Decision.author_id == author)).first()
        assert decision
        session.execute(
            text(
                "INSERT INTO account_actions (id, author_id, client, decision_id, kind, effective_at) "
                "VALUES (:id, :author, 'app', :decision, 'ban', now())"
            ),
            {"id": uuid4(), "author": author, "decision": decision.id},
        )
    ask(databases, vault, author)
    refused = client.post("/v1/items", json=post("post-9"))
    assert (refused.status_code, refused.json()["code"]) == (410, "author_erased"), "while it is under way"
    carry()
    for retry in (post("post-1", text_part(), image_part()), post("post-9")):
        refused = client.post("/v1/items", json=retry)
        assert (refused.status_code, refused.json()["code"]) == (410, "author_erased")
    other = client.post("/v1/items", json=post("post-1", author="acct-7"))
    assert (other.status_code, other.json()["code"]) == (410, "deleted"), "the post is gone, whoever sends it"
    later = datetime.now(UTC) + 31 * DAY
    with transaction(databases.content) as session:
        erasure.sweep_records(session, later, later)
        assert not session.scalars(select(Tombstone)).all()
    assert client.post("/v1/items", json=post("post-9")).status_code == 202, "somebody new, after a month"


def test_another_client_has_authors_of_the_same_name(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, carry: Callable[..., int]
) -> None:
    with calling(settings, new_key(databases, vault, "else")) as other:
        client.post("/v1/items", json=post("post-1"))
        theirs = other.post("/v1/items", json=post("post-1")).json()
        ask(databases, vault, author_id(databases, vault))
        carry()
        assert other.get(theirs["status_url"]).status_code == 200
        assert other.post("/v1/items", json=post("post-2")).status_code == 202


class Crash(BaseException):
    """The process ends here."""


STEPS = [
    (carrying, "_remember"),
    (carrying, "doom"),
    (carrying, "_end_keys"),
    (carrying, "finish"),
    (carrying, "_unlink"),
    (carrying.trained, "clean"),
    (carrying.receipts, "written"),
]


@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_crash_at_any_point_is_gone_on_from(
    databases: Databases,
    vault: Vault,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    before: bool,
) -> None:
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    step = getattr(module, name)

    def crashing(*arguments: Any, **named: Any) -> Any:
        if not before:
            step(*arguments, **named)
        raise Crash

    monkeypatch.setattr(module, name, crashing)
    with pytest.raises(Crash):
        carry()
    monkeypatch.undo()
    assert row(databases, identifier).state == "hidden"
    assert carry() == 1
    done = row(databases, identifier)
    assert (done.state, done.before["items"], done.before["item_keys"]) == ("done", 2, 2)
    with transaction(databases.content) as session:
        assert set(counting.of_content(session, author).values()) == {0}
        events = session.scalars(
            select(AuditEvent.action).where(AuditEvent.subject_id == str(identifier))
        ).all()
        assert sorted(events) == ["erasure.completed", "erasure.requested"]


def test_a_crash_between_the_doom_and_the_rows_leaves_nothing_readable(
    databases: Databases, vault: Vault, blobs: FolderBlobs, written: list[dict[str, Any]]
) -> None:
    ids = [UUID(item["id"]) for item in written]
    later = datetime.now(UTC) + 400 * DAY
    with transaction(databases.content) as session:
        session.execute(update(Item).values(expires_at=datetime.now(UTC)))
    with transaction(databases.content) as session:
        assert len(ending.doom(session, Item.id.in_(ids), later, 10)) == 3
    vault.destroy_item_keys(ids)
    assert erasure.sweep(databases, vault, blobs, later) == 0
    assert erasure.sweep(databases, vault, blobs, later + ending.LEFT_BEHIND) == 3
    assert count(databases.content, "parts") == 0


def test_a_turn_is_short_and_the_next_one_goes_on(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    carry: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carrying, "FINISH_AT_ONCE", 2)
    client.post("/v1/items/batch", json={"items": [post(f"post-{number}") for number in range(7)]})
    identifier = ask(databases, vault, author_id(databases, vault))
    turns = 0
    while row(databases, identifier).state != "done":
        turns += 1
        carry(seconds=0.0)
        assert turns < 20
    assert turns > 3


def test_a_job_under_way_commits_nothing(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, carry: Callable[..., int]
) -> None:
    from tests.integration.test_erasure import under_way

    client.post("/v1/items", json=post("post-1"))
    with under_way(settings):
        ask(databases, vault, author_id(databases, vault))
        carry()
    for table in ("items", "parts", "signals", "decisions", "sketches"):
        assert count(databases.content, table) == 0, table


def test_nobody_is_erased_between_the_look_at_the_tombstones_and_their_first_item(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    policy: Policy,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Somebody unknown posts twice at once; one of the two is erased before the other is stored."""

    def accepted(name: str) -> None:
        submission = Submission(
            name, "acct-1", "comment", (TextPart("body", MILD),), Context(), lane=Lane.LIVE
        )
        with transaction(databases.content) as session:
            intake.accept(session, vault, blobs, policy, "app", [intake.Request(submission, name)], now)

    def there_and_erased() -> None:
        accepted("post-2")
        ask(databases, vault, author_id(databases, vault))

    def waits() -> bool:
        with databases.content.connect() as connection:
            return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    looked: list[Future[None]] = []
    looking = intake._refuse_gone

    def look(*args: Any) -> Any:
        found = looking(*args)
        if not looked:
            looked.append(pool.submit(there_and_erased))
            deadline = time.monotonic() + LONG
            while not looked[0].done() and not waits():
                assert time.monotonic() < deadline
        return found

    monkeypatch.setattr(intake, "_refuse_gone", look)
    with ThreadPoolExecutor(1) as pool:
        accepted("post-1")
        looked[0].result()
    with transaction(databases.content) as session:
        live = session.scalars(select(Item).where(Item.state != ItemState.DELETED)).all()
    assert not live, "erased means everything, what came at the same moment too"


def test_one_erasure_that_fails_keeps_no_other_waiting(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    carry: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for author in ("acct-1", "acct-2"):
        assert client.post("/v1/items", json=post(f"post-of-{author}", author=author)).status_code == 202
    first, second = (ask(databases, vault, author_id(databases, vault, who)) for who in ("acct-1", "acct-2"))
    carrying_out = carrying._carry_out

    def broken(tools: Any, identifier: UUID) -> None:
        if identifier == first:
            raise OSError("the folder of blobs can't be written")
        carrying_out(tools, identifier)

    monkeypatch.setattr(carrying, "_carry_out", broken)
    assert carry() == 1
    with transaction(databases.content) as session:
        states = {row.id: row.state for row in session.scalars(select(Erasure))}
    assert states == {first: "hidden", second: "done"}


def test_what_they_said_of_others_goes_too(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    """As a reporter the author is found by the digest of the same account."""
    theirs = written[2]["id"]
    said = {"reporter": "acct-1", "category": "spam", "comment": "Look at this."}
    assert client.post(f"/v1/items/{theirs}/reports", json=said).status_code in (201, 202)
    with transaction(databases.content) as session:
        session.add(
            Reporter(
                client="app",
                digest=vault.digest("author", "app", "acct-1"),
                upheld=3,
                rejected=1,
                last_at=datetime.now(UTC),
            )
        )
    ask(databases, vault, author_id(databases, vault))
    carry()
    with transaction(databases.content) as session:
        assert not session.scalars(select(Report)).all()
        assert not session.scalars(select(Reporter)).all()


def test_an_open_appeal_ends_and_its_words_go(
    databases: Databases, vault: Vault, load: Caseload, carry: Callable[..., int], ann: Any
) -> None:
    from moderation.review import appeals

    (case_id,) = load.waiting()
    answer = load.give(ann, case_id)
    load.now += timedelta(hours=1)
    assert answer.decision_id
    with transaction(load.engine) as session:
        appeals.lodge(
            session, vault, load.policy, "app", answer.decision_id, appeals.By.AUTHOR, None, "Why?", load.now
        )
    author = load.case(case_id).author_id
    ask(databases, vault, author, at=load.now)
    with transaction(databases.content) as session:
        assert session.scalars(select(Appeal.state)).all() == ["withdrawn"]
        assert set(session.scalars(select(Case.state))) == {"closed"}
    assert carry(load.now) == 1
    with transaction(databases.content) as session:
        assert session.scalars(select(Appeal.statement)).all() == [None]
        assert set(session.scalars(select(Appeal.author_id))) == {NOBODY}


def test_the_client_is_told_once_it_is_done(
    client: TestClient, databases: Databases, vault: Vault, carry: Callable[..., int]
) -> None:
    hook = {"name": "hook", "url": "http://127.0.0.1:8999/hook", "events": ["author.erased", "item.decided"]}
    assert client.post("/v1/webhook-endpoints", json=hook).status_code == 201
    client.post("/v1/items", json=post())
    identifier = ask(databases, vault, author_id(databases, vault))
    carry()
    with transaction(databases.content) as session:
        (message,) = session.scalars(select(Outbox)).all()
        assert message.payload == {"erasure_id": str(identifier), "cause": "request", "state": "done"}


def test_one_item_alone(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    author = author_id(databases, vault)
    with transaction(databases.content) as session:
        identifier = erasure.request(
            session, vault, client="app", author_id=author, cause=Cause.WITHDRAWAL, requested_by="client:app",
            now=datetime.now(UTC), item_id=UUID(written[1]["id"]),
        )  # fmt: skip
    assert client.get(written[1]["status_url"]).status_code == 404
    assert carry() == 1
    assert client.get(written[0]["status_url"]).status_code == 200
    done = row(databases, identifier)
    assert done.state == "done"
    assert done.after is not None
    assert set(done.after.values()) == {0}
    assert author_id(databases, vault) == author


def test_the_ledger_has_a_second_copy_before_anything_goes(
    databases: Databases, vault: Vault, written: list[dict[str, Any]]
) -> None:
    identifier = ask(databases, vault, author_id(databases, vault))
    with databases.keystore.connect() as keystore:
        assert keystore.execute(select(Erased.erasure_id)).scalars().all() == [identifier]


def held(databases: Databases, item: str | None = None, author: UUID | None = None, by: int = 1) -> None:
    """What a hold does to the counters, and nothing else of it."""
    with transaction(databases.content) as session:
        if item is not None:
            session.execute(update(Item).where(Item.id == UUID(item)).values(holds=Item.holds + by))
        if author is not None:
            session.execute(update(Author).where(Author.id == author).values(holds=Author.holds + by))
            session.execute(update(Item).where(Item.author_id == author).values(holds=Item.holds + by))


def test_what_a_hold_keeps_outlives_the_authors_key_and_ends_with_the_hold(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    kept = written[0]
    held(databases, kept["id"])
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author)
    assert client.get(kept["status_url"]).status_code == 404, "it is hidden all the same"
    assert carry() == 1
    half = row(databases, identifier)
    assert half.state == "held"
    assert [(one["item"], one["because"]) for one in half.kept] == [(kept["id"], "hold")]
    assert set(vault.item_keys([UUID(kept["id"])])) == {UUID(kept["id"])}
    with databases.keystore.connect() as keystore:
        assert counting.of_keys(keystore, author) == {"author_keys": 0, "item_keys": 0, "held_keys": 1}
    with transaction(databases.content) as session:
        husk = session.get_one(Author, author)
        assert husk.reference == b""
        assert husk.reference_digest != vault.digest("author", "app", "acct-1")
    assert erasure.sweep(databases, vault, blobs, datetime.now(UTC) + 400 * DAY) == 1, "the other's, not this"
    assert carry() == 0, "nothing to do as long as it is held"
    held(databases, kept["id"], by=-1)
    assert erasure.sweep(databases, vault, blobs, datetime.now(UTC)) == 1
    assert carry() == 1
    done = row(databases, identifier)
    assert (done.state, done.kept) == ("done", [])
    with databases.keystore.connect() as keystore:
        assert set(counting.of_keys(keystore, author).values()) == {0}
        assert keystore.scalar(text("SELECT count(*) FROM package_keys")) == 0
    with transaction(databases.content) as session:
        assert session.get(Author, author) is None


def test_a_hold_on_everything_of_somebody_keeps_their_name_and_records(
    databases: Databases,
    vault: Vault,
    blobs: FolderBlobs,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    author = author_id(databases, vault)
    held(databases, author=author)
    identifier = ask(databases, vault, author)
    carry()
    assert row(databases, identifier).state == "held"
    with transaction(databases.content) as session:
        person = session.get_one(Author, author)
        key = vault.author_keys([author], datetime.now(UTC))[author]
        assert key.decrypt(person.reference, "authors", "reference", str(author)) == b"acct-1"
        assert session.scalar(select(func.count()).where(Decision.author_id == author)) == 2
    assert erasure.sweep_authors(databases, vault, datetime.now(UTC)) == 0
    held(databases, author=author, by=-1)
    erasure.sweep(databases, vault, blobs, datetime.now(UTC))
    assert carry() == 1
    assert row(databases, identifier).state == "done"
    with transaction(databases.content) as session:
        assert set(counting.of_content(session, author).values()) == {0}


def test_a_hold_on_everything_that_comes_in_the_middle_keeps_what_is_still_there(
    databases: Databases,
    vault: Vault,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    author = author_id(databases, vault)
    ask(databases, vault, author)
    dooming = carrying._doom_all

    def doomed(*args: Any) -> None:
        dooming(*args)
        with transaction(databases.content) as session:
            session.execute(update(Author).where(Author.id == author).values(holds=1))

    monkeypatch.setattr(carrying, "_doom_all", doomed)
    carry()
    with transaction(databases.content) as session:
        person = session.get_one(Author, author)
        key = vault.author_keys([author], datetime.now(UTC))[author]
        assert key.decrypt(person.reference, "authors", "reference", str(author)) == b"acct-1"
        assert session.scalar(select(func.count()).where(Decision.author_id == author)) == 2


def test_asked_for_again_what_somebody_under_a_hold_posted_since_is_hidden_too(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    written: list[dict[str, Any]],
    carry: Callable[..., int],
) -> None:
    author = author_id(databases, vault)
    held(databases, author=author)
    identifier = ask(databases, vault, author)
    carry()
    later = datetime.now(UTC) + 31 * DAY
    with transaction(databases.content) as session:
        erasure.sweep_records(session, later, later)
    since = client.post("/v1/items", json=post("post-9")).json()
    assert ask(databases, vault, author) == identifier
    assert client.get(since["status_url"]).status_code == 404
    assert row(databases, identifier).state == "hidden"


def test_a_bundle_here_is_written_again_and_one_elsewhere_is_marked(
    databases: Databases, vault: Vault, load: Caseload, ann: Any, tmp_path: Any, carry: Callable[..., int]
) -> None:
    from moderation import bundles
    from moderation.review import labels

    cases = [
        *load.waiting(author="acct-1", text="One mild text."),
        *load.waiting(author="acct-2", text="Another."),
    ]
    for case_id in cases:
        load.give(ann, case_id)
    load.now += DAY
    made = []
    for name in ("here", "moved"):
        with transaction(databases.content) as session:
            wanted = labels.Wanted(load.now - 30 * DAY, load.now + DAY)
            made.append(
                labels.export(
                    session, vault, tmp_path / name, tmp_path / f"{name}.key", wanted, "operator", load.now
                )
            )
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    author = author_id(databases, vault)
    identifier = ask(databases, vault, author, at=load.now)
    assert carry(load.now) == 1
    here, moved = (one.id for one in made)
    key = bundles.read_key(tmp_path / "here.key", here)
    assert [one["text"] for one in bundles.read(tmp_path / "here", key, load.now)] == ["Another."]
    with transaction(databases.content) as session:
        (marked,) = trained.tainted(session)
        assert (marked.id, marked.erased) == (moved, 1)
    assert count(databases.content, "bundle_items") == 2, "the other author's, in each"
    assert {path.name for path in tmp_path.iterdir()} == {"here", "here.key", "elsewhere", "moved.key"}
    told = row(databases, identifier).receipt
    assert told is not None
    assert str(moved) in told


def test_a_bundle_half_written_is_put_in_place_or_thrown_away(
    databases: Databases, vault: Vault, load: Caseload, ann: Any, tmp_path: Any, policy: Policy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from moderation import bundles
    from moderation.review import labels

    for case_id in [*load.waiting(author="a-1", text="One."), *load.waiting(author="a-2", text="Two.")]:
        load.give(ann, case_id)
    load.now += DAY
    path, key_path = tmp_path / "b", tmp_path / "b.key"
    with transaction(databases.content) as session:
        wanted = labels.Wanted(load.now - 30 * DAY, load.now + DAY)
        made = labels.export(session, vault, path, key_path, wanted, "operator", load.now)
    author = author_id(databases, vault, "a-1")

    def texts() -> list[str]:
        key = bundles.read_key(key_path, made.id)
        return sorted(one["text"] for one in bundles.read(path, key, load.now))

    with monkeypatch.context() as broken:
        broken.setattr(trained.audit, "record", lambda *_: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            trained.clean(databases, vault, load.now, author)
    assert texts() == ["One.", "Two."], "what was not registered is not in place"
    with monkeypatch.context() as broken:
        broken.setattr(trained, "_settle", lambda _: (_ for _ in ()).throw(Crash()))
        with pytest.raises(Crash):
            trained._clean(
                databases, vault, made.id, [load.case(c).item_id for c in _cases_of(load, author)], load.now
            )
    trained.clean(databases, vault, load.now)
    assert texts() == ["Two."], "what was registered is put in place at the next turn"
    assert {one.name for one in tmp_path.iterdir()} == {"b", "b.key"}


def _cases_of(load: Caseload, author: UUID) -> list[UUID]:
    with transaction(load.engine) as session:
        return list(session.scalars(select(Case.id).where(Case.author_id == author)))
