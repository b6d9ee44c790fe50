"""A bank's entries looked for in everything that is retained: what is found, what is left alone, and resuming."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from moderation import cli, rescanning
from moderation.domain.cases import Verdict
from moderation.domain.decisions import Judgement
from moderation.domain.errors import Conflict, InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.subjects import Right
from moderation.features import fingerprints
from moderation.features.decode import Decoder, Picture
from moderation.features.fingerprints import Asked
from moderation.features.hashes import sha256
from moderation.governance import bank_judging, banks, restriction
from moderation.governance.sessions import PersonPrincipal
from moderation.pipeline import rescan
from moderation.rescanning import Came, Wanted
from moderation.review import casefile, decisions
from moderation.review.reconsidering import Became
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import (
    AuditEvent,
    Author,
    Case,
    Decision,
    Item,
    Outbox,
    PartFeature,
    Rescan,
    SignalRow,
)
from moderation.storage.vault import Vault
from tests import captions, hostile, scenes
from tests.reviewing import decide, endpoint, submitted
from tests.support import count, drain, image_part, text_part

BALLOON = "See the weather balloon over Lisbon."
LINKED = "See https://prizes.com/x and the weather balloon over Lisbon today."
Make = Callable[..., UUID]
Posted = Callable[..., UUID]


@pytest.fixture
def make(databases: Databases, vault: Vault) -> Make:
    """Make a bank, or add to the one there is; the entry of its last value."""

    def made(
        name: str, *values: bytes | str, kind: str = "term", verified: bool = True, **options: Any
    ) -> UUID:
        now = datetime.now(UTC)
        settled = {"action": "remove", "category": "spam", "allow": False} | options
        with transaction(databases.content) as session:
            if session.scalar(text("SELECT 1 FROM banks WHERE name = :name"), {"name": name}) is None:
                banks.create(session, name=name, kind=kind, actor="operator", now=now, **settled)
        entry = UUID(int=0)
        for value in values:
            data, kept = value.encode() if isinstance(value, str) else value, None
            if kind == "image":
                with Decoder() as decoder:
                    kept = fingerprints.kept(decoder.decode(data))
            with transaction(databases.content) as session:
                entry = banks.add_content(
                    session, vault, bank=name, content=data, note="", verified=verified, actor="operator", now=now,
                    kept=kept,
                ).id  # fmt: skip
        return entry

    return made


@pytest.fixture
def posted(client: TestClient, databases: Databases, policy: Policy) -> Posted:
    """A post of these parts that a machine decided."""

    def made(name: str, *parts: dict[str, Any], route: Route = Route.ALLOW, author: str = "acct-1") -> UUID:
        item = submitted(client, name, parts=list(parts) or [text_part(BALLOON)], author=author)
        decide(databases, policy, item, datetime.now(UTC), route, None if route is Route.ALLOW else "spam")
        return item

    return made


def search(settings: Settings, bank: str, *, dry: bool = False, **options: Any) -> Came:
    page = options.pop("page", 100)
    wanted = Wanted(bank, dry=dry, **({"confirmed": True} | options))
    return rescanning.run(settings, wanted, "operator", page=page)


def standing(databases: Databases, item: UUID) -> Decision:
    with transaction(databases.content) as session:
        query = select(Decision).where(Decision.item_id == item, Decision.superseded_at.is_(None))
        return session.scalars(query).one()


def cases_of(databases: Databases, item: UUID) -> list[Case]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Case).where(Case.item_id == item).order_by(Case.id)))


# ---- what is found ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "distance"),
    [("term", "weather balloon", None), ("link", "prizes.com", None),
     ("text", "See the weather balloon over LISBON", 0.5),
     ("text", "See https://prizes.com/x and the weather balloon over  Lisbon today.", None)],
)  # fmt: skip
def test_what_a_machine_allowed_is_decided_anew(
    client: TestClient, settings: Settings, databases: Databases, make: Make, posted: Posted,
    kind: str, value: str, distance: float | None,
) -> None:  # fmt: skip
    endpoint(client, "item.decided")
    said = LINKED if "prizes" in value else BALLOON
    item = posted("post-1", text_part("Something else."), text_part(said, "title"))
    other = posted("post-2", text_part("Lovely weather in Porto."))
    entry = make("known", value, kind=kind, distance=distance)
    came = search(settings, "known", dry=True)
    assert (came.row.seen, came.row.matched, came.became) == (2, 1, {Became.DECIDED: 1})
    assert standing(databases, item).route == Route.ALLOW, "a dry run changes nothing"
    came = search(settings, "known", confirmed=False)
    assert (came.row.seen, came.row.matched, came.row.changed) == (2, 1, 1)
    made = standing(databases, item)
    assert (made.route, made.category, made.decided_by) == ("remove", "spam", "machine")
    assert made.supersedes is not None
    assert (made.certificates, made.stratum, made.propensity) == ([], "other", pytest.approx(0.005))
    (match,) = made.matches
    assert (match["entry"], match["part"]) == (str(entry), "title")
    assert standing(databases, other).route == Route.ALLOW
    answer = client.get(f"/v1/items/{item}").json()
    assert (answer["verdict"], answer["decision_id"]) == ("remove", str(made.id))
    with transaction(databases.content) as session:
        notices = session.scalars(select(Outbox).where(Outbox.item_id == item)).all()
        actions = set(session.scalars(select(AuditEvent.action).where(AuditEvent.subject_id == str(item))))
        assert session.get_one(Item, item).retention_class != session.get_one(Item, other).retention_class
    assert [one.payload["verdict"] for one in notices] == ["remove"]
    assert "item.decided" in actions


def test_pictures_are_found_by_the_hashes_that_were_kept(
    client: TestClient, settings: Settings, databases: Databases, make: Make, blobs: FolderBlobs
) -> None:
    copies = [scenes.mirrored(scenes.scene(3)), scenes.scene(3).rotate(2), scenes.scene(4)]
    items = [
        submitted(client, f"post-{number}", parts=[image_part(scenes.saved(copy))])
        for number, copy in enumerate(copies)
    ]
    drain(settings)
    with databases.content.begin() as connection:  # whatever the models say of shapes
        connection.execute(update(Decision).values(route="allow", category=None))
        connection.execute(update(Case).values(state="closed"))
        for reference in connection.scalars(text("SELECT blob FROM parts")).all():
            blobs.destroy(reference)
    make("known", scenes.saved(scenes.scene(3)), kind="image")
    came = search(settings, "known")
    assert came.became == {Became.DECIDED: 2}
    assert [standing(databases, item).route for item in items] == ["remove", "review", "allow"]
    (case,) = [one for one in cases_of(databases, items[1]) if one.state == "open"]
    assert case.reason == "bank"


def test_pictures_without_hashes_are_decoded_once(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    item = posted("post-1", image_part(scenes.saved(scenes.recoded(scenes.scene(5)))))
    broken = posted("post-2", image_part(hostile.png_bad_checksum()))
    make("known", scenes.saved(scenes.scene(5)), kind="image")
    search(settings, "known", dry=True)
    assert not count(databases.content, "part_features"), "a dry run writes nothing"
    search(settings, "known")
    assert standing(databases, item).route == "remove"
    assert standing(databases, broken).route == "allow"
    with transaction(databases.content) as session:
        assert session.scalars(select(PartFeature.item_id)).all() == [item]


def test_a_picture_that_breaks_hashing_is_known_by_its_bytes_and_ends_no_search(
    settings: Settings, databases: Databases, make: Make, posted: Posted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "DECODED_AT_ONCE", 2)
    pictures = [scenes.saved(scenes.scene(number)) for number in (5, 6, 7)]
    items = [posted(f"post-{number}", image_part(data)) for number, data in enumerate(pictures)]
    for data in pictures:
        make("known", data, kind="image")

    def broken(picture: Picture, digest: bytes) -> Asked:
        if digest == sha256(pictures[0]):
            raise RuntimeError("no hash today")
        return Asked(digest, fingerprints.kept(picture).pdq, (), 100)

    monkeypatch.setattr(fingerprints, "asked", broken)
    assert search(settings, "known").row.matched == 3
    assert {standing(databases, item).route for item in items} == {"remove"}
    with transaction(databases.content) as session:
        assert set(session.scalars(select(PartFeature.item_id))) == set(items[1:])


def test_nothing_is_kept_of_whoever_restricted_it_meanwhile(
    settings: Settings, databases: Databases, make: Make, posted: Posted, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted("post-1", image_part(scenes.saved(scenes.scene(5))))
    make("known", scenes.saved(scenes.scene(5)), kind="image")
    hashed = fingerprints.asked

    def meanwhile(picture: Picture, digest: bytes) -> Asked:
        with transaction(databases.content) as session:
            author = session.scalars(select(Author)).one()
            restriction.restrict(session, author, Right.RESTRICT, "operator", datetime.now(UTC))
        return hashed(picture, digest)

    monkeypatch.setattr(fingerprints, "asked", meanwhile)
    assert search(settings, "known").became == {Became.OUT_OF_REACH: 1}
    assert not count(databases.content, "part_features")


def test_what_only_labels_is_a_signal(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    item = posted("post-1")
    make("places", "Lisbon", action="label")
    assert search(settings, "places").became == {Became.LABELLED: 1}
    assert search(settings, "places").became == {Became.LEFT: 1}
    with transaction(databases.content) as session:
        (row,) = session.scalars(
            select(SignalRow).where(SignalRow.item_id == item, SignalRow.detector == "banks")
        )
    assert [one["bank"] for one in row.evidence["labels"]] == ["places"]
    assert standing(databases, item).route == "allow"


# ---- what is left alone -------------------------------------------------------------------------------------


def judged(
    databases: Databases, policy: Policy, person: PersonPrincipal, item: UUID, verdict: Verdict
) -> None:
    now = datetime.now(UTC)
    clause = policy.clauses_of("spam")[0].id
    judgement = Judgement(verdict) if verdict is Verdict.ALLOW else Judgement(verdict, "spam", clause)
    with transaction(databases.content) as session:
        row = decisions.lock_items(session, [item])[item]
        decisions.by_person(
            session, policy, row, judgement, person_id=person.person_id, case_id=None, undo_id=None, now=now
        )


def test_what_a_person_decided_is_never_overturned(
    settings: Settings, databases: Databases, vault: Vault, policy: Policy, make: Make, posted: Posted,
    ann: PersonPrincipal,
) -> None:  # fmt: skip
    allowed, removed = posted("post-1"), posted("post-2")
    judged(databases, policy, ann, allowed, Verdict.ALLOW)
    judged(databases, policy, ann, removed, Verdict.REMOVE)
    entry = make("known", "weather balloon")
    assert search(settings, "known").became == {Became.BEFORE_PEOPLE: 1, Became.LEFT: 1}
    assert (standing(databases, allowed).route, standing(databases, allowed).decided_by) == (
        "allow",
        "person",
    )
    assert not cases_of(databases, removed)
    (case,) = cases_of(databases, allowed)
    assert (case.reason, case.state, case.category) == ("bank", "open", "spam")
    with transaction(databases.content) as session:
        file = casefile.load(session, vault, policy, ann, case.id, datetime.now(UTC))
    assert [(one.bank, one.entry) for one in file.matches] == [("known", str(entry))]
    assert "by the bank known" in file.why[0]
    assert search(settings, "known").became == {Became.LEFT: 2}, "it is known by now"


def test_what_waits_for_people_is_raised(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    item = posted("post-1", route=Route.REVIEW)
    make("known", "weather balloon", category="threat")
    assert search(settings, "known").became == {Became.BEFORE_PEOPLE: 1}
    assert standing(databases, item).route == "review"
    (case,) = cases_of(databases, item)
    assert case.category == "threat"


def test_what_is_decided_as_gravely_or_was_matched_is_left(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    removed, item = posted("post-1", route=Route.REMOVE), posted("post-2")
    make("known", "weather balloon", action="limit")
    assert search(settings, "known").became == {Became.LEFT: 1, Became.DECIDED: 1}
    before = standing(databases, item).id
    assert search(settings, "known").became == {Became.LEFT: 2}
    assert standing(databases, item).id == before
    assert standing(databases, removed).route == "remove"


def test_allow_banks_win_here_too(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    item = posted("post-1", text_part("Scunthorpe is a town."))
    whole = posted("post-2", text_part("Thorpe is a word."))
    make("known", "*thorpe*")
    make("towns", "Scunthorpe", allow=True)
    make("texts", "Thorpe is a word.", kind="text", allow=True)
    assert search(settings, "known").became == {Became.LEFT: 1}
    assert {standing(databases, one).route for one in (item, whole)} == {"allow"}
    with pytest.raises(InvalidInput, match="takes nothing away"):
        search(settings, "towns")


def test_a_picture_that_is_allowed_is_so_with_what_stands_in_it(
    client: TestClient, settings: Settings, databases: Databases, make: Make
) -> None:
    allowed, other = (captions.saved(f"A train to {town}", "and its coast") for town in ("Lisbon", "Porto"))
    make("harmless", allowed, kind="image", allow=True)
    items = [
        submitted(client, f"post-{number}", parts=[image_part(one)])
        for number, one in enumerate((allowed, other))
    ]
    drain(settings)
    with databases.content.begin() as connection:  # whatever the models say of captions
        connection.execute(update(Decision).values(route="allow", category=None))
        connection.execute(update(Case).values(state="closed"))
    make("known", "train to")
    assert search(settings, "known").became == {Became.LEFT: 1, Became.DECIDED: 1}
    assert [standing(databases, one).route for one in items] == ["allow", "remove"]


def test_whoever_restricted_or_deleted_is_not_looked_at(
    client: TestClient, settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    posted("post-1", author="restricted")
    gone = posted("post-2", author="deleted")
    waiting = submitted(client, "post-3", parts=[text_part(BALLOON)])
    with transaction(databases.content) as session:
        author = session.scalars(
            select(Author).join(Item, Item.author_id == Author.id).where(Item.id != gone, Item.id != waiting)
        ).one()
        restriction.restrict(session, author, Right.RESTRICT, "operator", datetime.now(UTC))
    client.delete(f"/v1/items/{gone}")
    make("known", "weather balloon")
    came = search(settings, "known")
    assert (came.row.seen, came.row.matched) == (0, 0)


def test_an_unverified_entry_asks_people(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    item = posted("post-1")
    make("known", "weather balloon", verified=False)
    search(settings, "known")
    assert standing(databases, item).route == "review"
    (case,) = cases_of(databases, item)
    assert (case.reason, case.state) == ("bank", "open")


# ---- how it goes --------------------------------------------------------------------------------------------


def test_only_what_was_added_since(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    first, second = posted("post-1"), posted("post-2", text_part("Come to the harbour."))
    old = make("known", "weather balloon")
    new = make("known", "harbour")
    assert search(settings, "known", since_entry=new).became == {Became.DECIDED: 1}
    assert (standing(databases, first).route, standing(databases, second).route) == ("allow", "remove")
    with transaction(databases.content) as session:
        bank_judging.switch_entry(session, "known", old, on=False, actor="operator", now=datetime.now(UTC))
        bank_judging.switch_entry(session, "known", old, on=True, actor="operator", now=datetime.now(UTC))
    assert search(settings, "known", since_entry=old).became == {Became.DECIDED: 1}, "changed since"


def test_a_search_asks_for_a_dry_run_of_what_is_there(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    posted("post-1")
    make("known", "weather balloon")
    with pytest.raises(Conflict, match=r"look at 1 items.*--dry-run"):
        search(settings, "known", confirmed=False)
    search(settings, "known", dry=True)
    make("known", "harbour")
    with pytest.raises(Conflict, match="--dry-run"):
        search(settings, "known", confirmed=False)
    search(settings, "known", dry=True)
    with transaction(databases.content) as session:
        banks.switch(session, "known", on=False, actor="operator", now=datetime.now(UTC))
    with pytest.raises(Conflict, match="is off"):
        search(settings, "known", confirmed=False)
    assert search(settings, "known", dry=True).row.matched == 1, "what an off bank would find can be seen"


def _killed_in_the_middle(settings: Settings, told: Any) -> None:
    """A search in a process of its own that stops for ever once two pages are done."""

    def progress(done: int, total: int) -> None:
        told.send((done, total))
        if done == 4:
            signal.pause()

    rescanning.run(settings, Wanted("known", dry=False, confirmed=True), "operator", progress, page=2)


def test_a_search_that_was_killed_goes_on_where_it_was(
    settings: Settings, databases: Databases, make: Make, posted: Posted
) -> None:
    items = [posted(f"post-{number}") for number in range(7)]
    make("known", "weather balloon")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_killed_in_the_middle, args=(settings, theirs))
    process.start()
    seen: list[tuple[int, int]] = []
    while not seen or seen[-1][0] < 4:
        assert ours.poll(60), "no progress"
        seen.append(ours.recv())
    assert process.pid is not None
    with pytest.raises(Conflict, match="runs already"):
        search(settings, "known")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert seen == [(0, 7), (2, 7), (4, 7)]
    with transaction(databases.content) as session:
        (row,) = session.scalars(select(Rescan))
    assert (row.seen, row.matched, row.cursor, row.finished_at) == (4, 4, items[3], None)
    made = [standing(databases, item).id for item in items[:4]]
    with pytest.raises(Conflict, match="was not finished"):
        search(settings, "known", since_entry=make("known", "harbour"))
    came = search(settings, "known", confirmed=False, page=2)
    assert came.resumed
    assert (came.row.seen, came.row.matched, came.row.changed) == (7, 7, 7)
    assert came.became == {Became.DECIDED: 3}
    assert [standing(databases, item).id for item in items[:4]] == made, "nothing is decided twice"
    assert {standing(databases, item).route for item in items} == {"remove"}
    with transaction(databases.content) as session:
        said = session.scalars(
            select(AuditEvent.action).where(AuditEvent.action.like("bank.rescan%")).order_by(AuditEvent.id)
        ).all()
    assert said == ["bank.rescan_started", "bank.rescan_finished"]


def test_the_command_says_what_it_found(
    settings: Settings, databases: Databases, make: Make, posted: Posted, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(cli, "_settings", lambda _: settings)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    posted("post-1")
    make("known", "weather balloon")
    assert cli.main(["rescan", "--bank", "known"]) == cli.REFUSED
    assert "--dry-run" in capsys.readouterr().err
    assert cli.main(["rescan", "--bank", "known", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "1 items looked at, 1 match.\n  1 would be decided anew\n" in said
    assert cli.main(["rescan", "--bank", "known"]) == 0
    assert "1 decided anew" in capsys.readouterr().out
    assert cli.main(["rescan", "--bank", "nothing"]) == cli.REFUSED
    assert "no bank named" in capsys.readouterr().err
