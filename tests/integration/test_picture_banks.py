"""Pictures that banks know: near copies through the path an item takes, and the index that follows the banks."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import select, text

from moderation import jobs, relay, worker
from moderation.domain.signals import How, Match
from moderation.embedded.process import wait_until
from moderation.features import fingerprints
from moderation.features.decode import Decoder
from moderation.features.fingerprints import MAKER, Asked, Kept
from moderation.features.hashes import sha256
from moderation.governance import bank_judging, banks
from moderation.pipeline import hash_files, pictures
from moderation.pipeline.pictures import PictureBanks
from moderation.review import likeness
from moderation.settings import Settings
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Bank, BankEntry, Decision, PartFeature, SignalRow
from moderation.storage.vault import Vault
from tests import hostile, scenes
from tests.support import count, image_part, post

WHO: dict[str, Any] = {"actor": "operator"}
Bank_ = Callable[..., UUID]
Shown = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def bank(databases: Databases, vault: Vault, decoder: Decoder) -> Bank_:
    """Make a bank of one picture, and answer its entry."""

    def made(name: str, data: bytes, action: str = "remove", *, near: bool = True, **options: Any) -> UUID:
        now = datetime.now(UTC)
        verified = options.pop("verified", True)
        settled = {"kind": "image", "category": "spam", "allow": False} | options
        kept = fingerprints.kept(decoder.decode(data)) if near else None
        with transaction(databases.content) as session:
            banks.create(session, name=name, action=action, now=now, **WHO, **settled)
            return banks.add_content(
                session, vault, bank=name, content=data, note="", verified=verified, now=now, kept=kept, **WHO
            ).id

    return made


@pytest.fixture
def shown(client: TestClient, settings: Settings) -> Iterator[Shown]:
    """Post pictures and answer the item after it was screened, by one worker that runs all the time."""
    with (
        relay.opened(settings) as relaying,
        worker.opened(settings, jobs.SCREENING, lambda: 1.0) as screening,
    ):

        def screened(*images: bytes) -> dict[str, Any]:
            parts = [image_part(data, f"photo{number}") for number, data in enumerate(images)]
            item = client.post("/v1/items", json=post(f"post-{new_id(datetime.now(UTC))}", *parts)).json()
            while relay.tick(relaying, datetime.now(UTC)):
                screening.work(burst=True, logging_level="WARNING")
            found: dict[str, Any] = client.get(item["status_url"]).json()
            return found

        yield screened


def decision(databases: Databases, item: str) -> Decision:
    with transaction(databases.content) as session:
        return session.scalars(
            select(Decision).where(Decision.item_id == UUID(item), Decision.superseded_at.is_(None))
        ).one()


# ---- through the path -------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [scenes.recoded, scenes.mirrored, scenes.turned, scenes.bordered])
def test_a_copy_is_the_picture(
    shown: Shown, databases: Databases, bank: Bank_,
    copy: Callable[[Image.Image], Image.Image],
) -> None:  # fmt: skip
    original = scenes.scene(3)
    entry = bank("known", scenes.saved(original), source="A list of others")
    answer = shown(scenes.saved(copy(original)))
    assert answer["verdict"] == "remove", answer
    assert f"photo0 shows the picture of entry {entry} of bank known (" in answer["reasons"][0]
    assert "of 256 bits differ): remove." in answer["reasons"][0]
    (match,) = decision(databases, answer["id"]).matches
    assert match["how"] == How.PICTURE
    assert 0 <= match["distance"] <= fingerprints.MATCH
    assert match["source"] == "A list of others"


def test_what_may_be_the_picture_only_comes_before_people(
    shown: Shown, databases: Databases, bank: Bank_
) -> None:
    bank("known", scenes.saved(scenes.scene(3)))
    for number, degrees in enumerate((2, 3)):  # in the band for people by PDQ, and by pHash alone
        answer = shown(scenes.saved(scenes.scene(3).rotate(degrees, Image.Resampling.BICUBIC)))
        assert answer["status"] == "in_review", answer
        assert "photo0 may show the picture of entry" in answer["reasons"][0]
        (match,) = decision(databases, answer["id"]).matches
        assert (match["how"], match["action"]) == (How.ALIKE, "review")
        assert ("distance" in match) == (number == 0)
    other = shown(scenes.saved(scenes.scene(4)))
    assert "bank" not in str(other["reasons"])


def test_a_bank_may_be_stricter_or_only_label(shown: Shown, databases: Databases, bank: Bank_) -> None:
    original = scenes.scene(1)
    bank("exact", scenes.saved(original), distance=0)
    bank("noted", scenes.saved(original), "label")
    answer = shown(scenes.saved(scenes.recoded(original)))
    assert answer["status"] == "in_review", "beyond the distance of that bank people compare"
    with transaction(databases.content) as session:
        (labels,) = session.scalars(select(SignalRow.evidence).where(SignalRow.detector == "banks"))
    (label,) = labels["labels"]
    assert (label["bank"], label["how"]) == ("noted", How.PICTURE)


def test_only_the_very_bytes_are_cleared(shown: Shown, bank: Bank_) -> None:
    original = scenes.saved(scenes.scene(5))
    bank("known", original)
    bank("harmless", original, allow=True)
    assert shown(original)["verdict"] == "allow"
    copy = scenes.saved(scenes.scene(5), quality=60)
    assert shown(copy)["verdict"] == "remove", "a near copy may differ where it counts"


def test_what_cannot_be_decoded_is_still_known_by_its_bytes(
    shown: Shown, databases: Databases, bank: Bank_
) -> None:
    broken = hostile.png_bad_checksum()
    bank("known", broken, near=False)
    assert shown(broken)["verdict"] == "remove"


def test_an_entry_nobody_verified_and_one_in_quarantine_ask_people(
    shown: Shown, databases: Databases, bank: Bank_
) -> None:
    entry = bank("known", scenes.saved(scenes.scene(6)), verified=False)
    copy = scenes.saved(scenes.recoded(scenes.scene(6)))
    assert shown(copy)["status"] == "in_review"
    with transaction(databases.content) as session:
        bank_judging.verify(session, "known", entry, now=datetime.now(UTC), **WHO)
    assert shown(copy)["verdict"] == "remove"
    with transaction(databases.content) as session:
        session.get_one(BankEntry, entry).quarantined_at = datetime.now(UTC)
    answer = shown(copy)
    assert answer["status"] == "in_review", answer
    with transaction(databases.content) as session:
        banks.switch(session, "known", on=False, now=datetime.now(UTC), **WHO)
    assert "bank" not in str(shown(copy)["reasons"])


# ---- what is kept of pictures -------------------------------------------------------------------------------


def test_hashes_are_kept_under_the_items_key_and_end_with_it(
    client: TestClient, shown: Shown, databases: Databases, vault: Vault
) -> None:
    data = scenes.saved(scenes.scene(7))
    answer = shown(data, hostile.png_bad_checksum())
    item = UUID(answer["id"])
    with transaction(databases.content) as session:
        rows = [row for row in session.scalars(select(PartFeature)) if row.name == likeness.HASHES]
    (row,) = rows
    assert (row.item_id, row.position, row.maker) == (item, 0, MAKER)
    key = vault.item_keys([item])[item]
    opened = Asked.unpack(key.decrypt(row.value, *likeness.place(row.name, item, row.position)))
    assert opened.sha256 == sha256(data)
    assert len(opened.pdq)
    assert client.delete(f"/v1/items/{item}").status_code == 204
    assert not count(databases.content, "part_features")


# ---- the index ----------------------------------------------------------------------------------------------


def hashed(number: int) -> Kept:
    """A hash of its own for each number, far from all others."""
    return Kept(np.random.default_rng(number).integers(0, 256, (1, 32), np.uint8), None)


def filled(databases: Databases, vault: Vault, name: str, numbers: Sequence[int]) -> list[UUID]:
    """Add entries by their hashes, all in one change; the bank is made if there is none."""
    now = datetime.now(UTC)
    key = vault.account_key()
    with transaction(databases.content) as session:
        if session.scalar(select(Bank.id).where(Bank.name == name)) is None:
            banks.create(
                session,
                name=name,
                kind="image",
                category="spam",
                action="remove",
                allow=False,
                now=now,
                **WHO,
            )
        row = banks.named(session, name, lock=True)
        version, made = banks.stamp(session, row), [new_id(now) for _ in numbers]
        insert_many(session, BankEntry, [
            {
                "id": one, "bank_id": row.id, "digest": sha256(str(number).encode()), "verified": True, "note": "",
                "added_by": "operator", "added_at": now, "version": version, "features_by": MAKER,
                "features": key.encrypt(hashed(number).pack(), "bank_entries", "features", str(one)),
            }
            for number, one in zip(numbers, made, strict=True)
        ])  # fmt: skip
    return made


def look(databases: Databases, vault: Vault, held: PictureBanks, *numbers: int) -> list[list[Match]]:
    """What a process finds for pictures with these hashes."""
    now = datetime.now(UTC)
    asked = [Asked(b"", hashed(number).pdq, (), 100) for number in numbers]
    with transaction(databases.content) as session:
        known = held.current(session, vault, now)
    proposed = known.propose(asked)
    with transaction(databases.content) as session:
        return pictures.matches(session, proposed, now)


def names(found: Sequence[Sequence[Match]]) -> list[list[str]]:
    return [[one.bank for one in matches] for matches in found]


def test_a_running_process_hears_of_every_change(databases: Databases, vault: Vault) -> None:
    held = PictureBanks()
    assert names(look(databases, vault, held, 1)) == [[]]
    first, second = filled(databases, vault, "one", [1, 2])
    assert names(look(databases, vault, held, 1, 2, 3)) == [["one"], ["one"], []]
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        banks.remove_entry(session, "one", first, now=now, **WHO)
    assert names(look(databases, vault, held, 1, 2)) == [[], ["one"]]
    with transaction(databases.content) as session:
        bank_judging.switch_entry(session, "one", second, on=False, now=now, **WHO)
    filled(databases, vault, "two", [2])
    assert names(look(databases, vault, held, 2)) == [["two"]]
    with transaction(databases.content) as session:
        banks.remove(session, "two", now=now, **WHO)
    assert names(look(databases, vault, held, 2)) == [[]]
    filled(databases, vault, "three", [9])
    assert names(look(databases, vault, held, 9)) == [["three"]]


def test_one_process_writes_a_segment_and_all_map_it(
    databases: Databases, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DELTA_LEAST", 50)
    folder = tmp_path / "index"
    writer, reader = PictureBanks(folder, databases.content), PictureBanks(folder)
    entries = filled(databases, vault, "many", range(40))
    assert names(look(databases, vault, writer, 7)) == [["many"]]
    assert not folder.exists(), "few entries need no segment"
    entries += filled(databases, vault, "many", range(40, 80))
    assert names(look(databases, vault, writer, 7, 60, 99)) == [["many"], ["many"], []]
    assert wait_until(lambda: hash_files.stamp(folder) is not None, 60)
    writer.close(30)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    for held in (writer, reader, PictureBanks(folder)):
        assert names(look(databases, vault, held, *range(0, 80, 9), 99)) == [["many"]] * 9 + [[]]
        assert held.current_size() == (80, 0)
    # What comes after it lies beside it, and what goes is gone at once.
    filled(databases, vault, "many", [99])
    with transaction(databases.content) as session:
        banks.remove_entry(session, "many", entries[9], now=datetime.now(UTC), **WHO)
    for held in (writer, reader):
        assert names(look(databases, vault, held, 99, 9, 18)) == [["many"], [], ["many"]]
        assert held.current_size() == (80, 1)


def test_what_left_a_bank_leaves_the_file_after_a_day(
    databases: Databases, vault: Vault, tmp_path: Path
) -> None:
    entries = filled(databases, vault, "many", range(20))
    assert hash_files.build(databases.content, vault, tmp_path)
    held = PictureBanks(tmp_path, databases.content)
    with transaction(databases.content) as session:
        banks.remove_entry(session, "many", entries[0], now=datetime.now(UTC), **WHO)
    look(databases, vault, held, 1)
    held.close(30)
    before = hash_files.opened(tmp_path)
    assert before is not None
    assert before.count == 20, "not at once"
    old = (tmp_path / hash_files.CURRENT).stat().st_mtime - timedelta(days=1.1).total_seconds()
    os.utime(tmp_path / hash_files.CURRENT, (old, old))
    look(databases, vault, held, 1)
    held.close(30)
    after = hash_files.opened(tmp_path)
    assert after is not None
    assert after.count == 19
    left = {path.name.split(".")[0] for path in tmp_path.glob("images-*")}
    assert left == {after.name}, "the old files are gone"


def test_what_nobody_can_use_does_not_stay(databases: Databases, vault: Vault, tmp_path: Path) -> None:
    filled(databases, vault, "many", range(5))
    assert hash_files.build(databases.content, vault, tmp_path)
    (tmp_path / ".images-0123.pdq.new").touch()  # of a writer that was killed
    current = tmp_path / hash_files.CURRENT
    current.write_text(current.read_text().replace(MAKER, "another"))
    old = current.stat().st_mtime - timedelta(days=1.1).total_seconds()
    os.utime(current, (old, old))
    held = PictureBanks(tmp_path, databases.content)
    assert names(look(databases, vault, held, 1)) == [["many"]]
    held.close(30)
    after = hash_files.opened(tmp_path)
    assert after is not None
    assert {path.name for path in tmp_path.iterdir()} == {
        hash_files.CURRENT, f"{after.name}.pdq", f"{after.name}.phash.npy",
    }  # fmt: skip


def test_a_search_goes_on_while_segments_are_written(
    databases: Databases, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DELTA_LEAST", 30)
    monkeypatch.setattr(pictures, "RETRY_SECONDS", 0.0)
    writer, reader = PictureBanks(tmp_path, databases.content), PictureBanks(tmp_path)
    filled(databases, vault, "many", range(50))
    stop, wrong, seen = threading.Event(), list[object](), set[str]()
    known = 50

    def searching(held: PictureBanks) -> None:
        while not stop.is_set():
            upto = known
            try:
                found = names(look(databases, vault, held, 0, upto - 1, 10_000))
            except Exception as error:
                wrong.append(error)
                return
            if found != [["many"], ["many"], []]:
                wrong.append((upto, found))

    threads = [threading.Thread(target=searching, args=(held,)) for held in (writer, reader)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            filled(databases, vault, "many", range(known, known + 40))
            known += 40
            assert wait_until(lambda: bool(wrong) or _newer(tmp_path, seen), 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        writer.close(30)
    assert not wrong
    assert len(seen) >= 8


def _newer(folder: Path, seen: set[str]) -> bool:
    found = hash_files.opened(folder)
    if found is None or found.name in seen:
        return False
    seen.add(found.name)
    return True


def test_only_one_process_writes(databases: Databases, vault: Vault, tmp_path: Path) -> None:
    filled(databases, vault, "many", range(5))
    with databases.content.connect() as other, other.begin():
        other.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": hash_files._LOCK})
        assert not hash_files.build(databases.content, vault, tmp_path)
    assert hash_files.stamp(tmp_path) is None
    assert hash_files.build(databases.content, vault, tmp_path)


def test_a_broken_segment_or_an_older_database_is_seen(
    databases: Databases, vault: Vault, tmp_path: Path
) -> None:
    filled(databases, vault, "many", range(5))
    assert hash_files.build(databases.content, vault, tmp_path)
    hashes = next(tmp_path.glob("*.npy"))
    whole = hashes.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[:70], whole.replace(b"'owner'", b"'other'")):
        hashes.write_bytes(damaged)
        assert names(look(databases, vault, PictureBanks(tmp_path), 1)) == [["many"]], damaged[:10]
    hashes.write_bytes(whole)
    (tmp_path / hash_files.CURRENT).write_text("{")
    assert names(look(databases, vault, PictureBanks(tmp_path), 1)) == [["many"]]
    held = PictureBanks()
    filled(databases, vault, "many", [6])
    assert names(look(databases, vault, held, 6)) == [["many"]]
    with databases.content.begin() as connection:  # as a backup that was restored has it
        connection.execute(text("DELETE FROM bank_entries"))
        connection.execute(text("UPDATE banks SET version = 1"))
    filled(databases, vault, "many", [7])
    assert names(look(databases, vault, held, 6, 7)) == [[], ["many"]]


def test_a_restored_installation_forgets_the_segments(
    databases: Databases, vault: Vault, tmp_path: Path
) -> None:
    filled(databases, vault, "many", range(5))
    assert hash_files.build(databases.content, vault, tmp_path)
    (tmp_path / "of others").touch()
    hash_files.forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["of others"]
    hash_files.forget(tmp_path / "nowhere")
    assert names(look(databases, vault, PictureBanks(tmp_path), 1)) == [["many"]]


def test_an_entry_that_does_not_open_harms_no_other(databases: Databases, vault: Vault) -> None:
    first, _ = filled(databases, vault, "many", [1, 2])
    with transaction(databases.content) as session:
        session.get_one(BankEntry, first).features = b"no ciphertext of ours"
    assert names(look(databases, vault, PictureBanks(), 1, 2)) == [[], ["many"]]


def test_a_picture_near_very_many_entries_is_told_of_some(databases: Databases, vault: Vault) -> None:
    filled(databases, vault, "many", [4] * 1 + list(range(100, 110)))
    with transaction(databases.content) as session:
        row = banks.named(session, "many", lock=True)
        version, key, now = banks.stamp(session, row), vault.account_key(), datetime.now(UTC)
        for number in range(60):
            one = new_id(now)
            session.add(BankEntry(
                id=one, bank_id=row.id, digest=sha256(b"same%d" % number), verified=True, note="",
                added_by="operator", added_at=now, version=version, features_by=MAKER,
                features=key.encrypt(hashed(4).pack(), "bank_entries", "features", str(one)),
            ))  # fmt: skip
    (found,) = look(databases, vault, PictureBanks(), 4)
    assert len(found) == 32
