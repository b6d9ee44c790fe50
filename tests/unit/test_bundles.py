"""Sealed bundles: what goes in comes out, and whatever is altered, moved, cut off or over does not open."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import bundles
from moderation.bundles import BundleError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
END = NOW + timedelta(days=90)
ID = UUID("01936000-0000-7000-8000-000000000001")
KEY = bytes(range(32))

ROWS = st.lists(
    st.fixed_dictionaries(
        {"ref": st.text(max_size=8), "text": st.text(), "labels": st.dictionaries(st.text(), st.booleans())}
    ),
    max_size=8,
)


def sealed(path: Path, rows: list[dict[str, Any]], identifier: UUID = ID) -> bundles.Sealed:
    return bundles.seal(path, rows, KEY, identifier=identifier, created_at=NOW, expires_at=END)


def opened(path: Path, key: bytes = KEY, now: datetime = NOW) -> list[dict[str, Any]]:
    return list(bundles.read(path, key, now))


def pieces(path: Path) -> list[bytes]:
    """Magic, header, manifest and chunks, each with its length in front."""
    data, found = path.read_bytes(), [path.read_bytes()[: len(bundles.MAGIC)]]
    at = len(bundles.MAGIC)
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        found.append(data[at:end])
        at = end
    return found


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of several chunks."""
    monkeypatch.setattr(bundles, "CHUNK", 200)
    path = tmp_path / "labels.bundle"
    sealed(path, [{"ref": f"r{number}", "text": "x" * 60} for number in range(20)])
    assert len(pieces(path)) > 6
    return path


@given(ROWS)
def test_rows_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    path = tmp_path_factory.mktemp("bundle") / "labels.bundle"
    written = sealed(path, rows)
    assert opened(path) == rows
    header = bundles.header_of(path)
    assert (header.id, header.created_at, header.expires_at) == (ID, NOW, END)
    assert (written.rows, written.manifest_sha256) == (len(rows), header.manifest_sha256)


def test_nothing_of_a_text_stands_in_the_file_and_nobody_else_may_read_it(many: Path) -> None:
    assert b"xxxx" not in many.read_bytes()
    assert stat.S_IMODE(many.stat().st_mode) == 0o600
    assert [path.name for path in many.parent.iterdir()] == [many.name], "no neighbour is left behind"
    assert [row["ref"] for row in opened(many)] == [f"r{number}" for number in range(20)]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def without_expiry(header: bytes) -> bytes:
    clear = header[4:].replace(END.isoformat().encode(), (END + timedelta(days=900)).isoformat().encode())
    assert clear != header[4:]
    return len(clear).to_bytes(4, "big") + clear


@pytest.mark.parametrize(
    "change",
    [
        lambda p: [*p[:4], flipped(p[4]), *p[5:]],
        lambda p: [*p[:2], flipped(p[2]), *p[3:]],
        lambda p: [*p[:3], p[4], p[3], *p[5:]],
        lambda p: [*p[:4], *p[5:]],
        lambda p: [*p[:4], p[3], *p[4:]],
        lambda p: p[:-1],
        lambda p: [*p[:-2], p[-1]],
        lambda p: [*p[:-1], p[-1][:-5]],
        lambda p: [*p, p[-1]],
        lambda p: [*p, b"\0"],
        lambda p: p[:2],
        lambda p: [p[0], without_expiry(p[1]), *p[2:]],
        lambda p: [p[0], p[1].replace(str(ID).encode(), str(UUID(int=7)).encode()), *p[2:]],
        lambda p: [b"MODBUND9", *p[1:]],
        lambda p: [*p[:3], b"\xff\xff\xff\xff" + p[3][4:], *p[4:]],
    ],
    ids=[
        "a chunk altered", "the manifest altered", "two chunks swapped", "a chunk left out", "a chunk doubled",
        "the last chunk missing", "one before the last missing", "cut off", "the last one doubled",
        "something appended", "nothing but a header", "a later end", "another id", "another format",
        "a monstrous length",
    ],
)  # fmt: skip
def test_whatever_was_done_to_it_is_refused(many: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    many.write_bytes(b"".join(change(pieces(many))))
    with pytest.raises(BundleError):
        opened(many)


def test_a_chunk_of_another_bundle_under_the_same_key_is_refused(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "CHUNK", 200)
    other = many.with_name("other.bundle")
    sealed(other, [{"ref": f"r{number}", "text": "y" * 60} for number in range(20)], UUID(int=7))
    mixed = pieces(many)
    mixed[3] = pieces(other)[3]
    many.write_bytes(b"".join(mixed))
    with pytest.raises(BundleError):
        opened(many)


def test_another_key_or_the_end_is_refused(many: Path) -> None:
    with pytest.raises(BundleError, match="does not open"):
        opened(many, bytes(32))
    opened(many, now=END - timedelta(seconds=1))
    with pytest.raises(BundleError, match="2027-02-20"):
        opened(many, now=END)


def test_rewriting_leaves_out_what_was_named_under_a_fresh_key(many: Path) -> None:
    fresh = bytes(31) + b"\1"
    before = bundles.header_of(many)
    written = bundles.rewrite(many, KEY, fresh, {"r3", "r19", "unknown"}, NOW)
    kept = [f"r{number}" for number in range(20) if number not in (3, 19)]
    assert [row["ref"] for row in opened(many, fresh)] == kept
    assert written.rows == 18
    after = bundles.header_of(many)
    assert (after.id, after.expires_at) == (before.id, before.expires_at)
    with pytest.raises(BundleError):
        opened(many)


def test_rewriting_a_damaged_bundle_leaves_it_as_it_was(many: Path) -> None:
    damaged = b"".join(pieces(many)[:-1])
    many.write_bytes(damaged)
    with pytest.raises(BundleError):
        bundles.rewrite(many, KEY, bytes(32), {"r3"}, NOW)
    assert many.read_bytes() == damaged
    assert [path.name for path in many.parent.iterdir()] == [many.name]


def test_a_failing_source_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Any:
        yield {"ref": "r0"}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        sealed(tmp_path / "labels.bundle", rows())
    assert not list(tmp_path.iterdir())


def test_keys_have_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "labels.key"
    key = bundles.new_key()
    bundles.write_key(path, ID, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert bundles.read_key(path, ID) == key
    with pytest.raises(BundleError, match="is the key of bundle"):
        bundles.read_key(path, UUID(int=7))
    with pytest.raises(FileExistsError):
        bundles.write_key(path, ID, key)
    assert bundles.read_key(path, ID) == key


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"moderation-bundle-key", f"moderation-bundle-key {ID} QUI=".encode()]
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.key"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        bundles.read_key(path, ID)


@pytest.mark.parametrize("content", [b"", b"MODBUND1", b"PK\x03\x04", json.dumps({"id": str(ID)}).encode()])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.bundle"
    path.write_bytes(content)
    with pytest.raises(BundleError):
        bundles.header_of(path)
    with pytest.raises(BundleError, match="can't be read"):
        bundles.header_of(tmp_path / "nowhere")


FULL = {"ref": "r1", "text": "You fool.", "labels": {"harassment": 1}, "policy_version": 3, "propensity": 0.2,
        "score_shown": False, "reviewers": 2}  # fmt: skip


@pytest.mark.parametrize("kept", ["text", "embedding", "both"])
def test_a_row_holds_a_text_an_embedding_or_both(kept: str) -> None:
    row: dict[str, Any] = {**FULL, "embedding": [0.5, -1], "agreement": "single"}
    if kept != "both":
        del row["embedding" if kept == "text" else "text"]
    assert bundles.flaw(row) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ref", ""),
        ("text", 3),
        ("embedding", []),
        ("embedding", [float("nan")]),
        ("embedding", [True]),
        ("labels", ["hate"]),
        ("labels", {"hate": 0.5}),
        ("labels", {"hate": True}),
        ("policy_version", None),
        ("policy_version", 1.0),
        ("propensity", 0),
        ("propensity", 1.01),
        ("score_shown", 1),
        ("reviewers", 0),
    ],
)
def test_a_row_of_another_shape_has_a_flaw_that_is_named_without_its_content(
    field: str, value: object
) -> None:
    found = bundles.flaw({**FULL, field: value})
    assert found is not None
    assert found.field == field
    assert bundles.flaw({name: one for name, one in FULL.items() if name != "ref"}) is not None
    assert bundles.flaw({"text": "a", "labels": {}}, needed=("labels",)) is None
    assert bundles.flaw([]) is not None
