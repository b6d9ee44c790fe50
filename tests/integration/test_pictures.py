"""Pictures through the front door: each hostile one is refused in a sentence, judged, or given to people."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from sqlalchemy import select

from api.console.routes.media import Renditions
from moderation.domain.errors import Unavailable
from moderation.features import decode, header
from moderation.features.decode import Decoder
from moderation.features.header import UndecodableImage
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Part, SignalRow
from moderation.storage.vault import Vault
from tests import hostile, people, support
from tests.hostile import gradient, saved
from tests.support import drain, image_part, post, text_part

STATUS = {"unsupported_format": 415, "too_large": 413}
# Whole enough for intake, and damaged all the same: what the child finds out.
DAMAGED = ("png-bad-checksum", "png-text-bomb", "jpeg-truncated", "webp-truncated", "gif-beyond-its-screen")
SOUND = (
    "jpeg-and-zip",
    "jpeg-ycck",
    "jpeg-oriented",
    "png-hidden",
    "png-white-on-nothing",
    "png-16-bit-rgba",
)


def made(name: str) -> bytes:
    return next(case for case in hostile.CASES if case.name == name).make()


def refused_at_the_door(data: bytes) -> str | None:
    try:
        header.inspect(data)
    except UndecodableImage as refusal:
        return refusal.code
    return None


def by_json(client: TestClient, key: str, data: bytes) -> tuple[int, Any]:
    answer = client.post("/v1/items", json=post(f"json-{key}", image_part(data)))
    return answer.status_code, answer.json()


def by_form(client: TestClient, key: str, data: bytes) -> tuple[int, Any]:
    # Neither the name of the file nor its type says what it is.
    item = post(f"form-{key}", {"type": "image", "name": "photo", "upload": "file1"})
    answer: Response = client.post(
        "/v1/items", data={"item": json.dumps(item)}, files={"file1": ("note.txt", data, "image/tiff")}
    )
    return answer.status_code, answer.json()


def in_a_batch(client: TestClient, key: str, data: bytes) -> tuple[int, Any]:
    posts = [post(f"first-{key}"), post(f"batch-{key}", image_part(data)), post(f"last-{key}")]
    answer = client.post("/v1/items/batch", json={"items": posts})
    assert answer.status_code == 202, answer.text
    first, between, last = answer.json()["results"]
    assert "item" in first, "one picture costs nobody else"
    assert "item" in last
    if "item" in between:
        return 202, between["item"]
    return between["problem"]["status"], between["problem"]


@pytest.mark.parametrize("ask", [by_json, by_form, in_a_batch])
def test_every_hostile_picture_is_taken_or_refused_in_a_sentence(client: TestClient, ask: Any) -> None:
    seen = set()
    for case in hostile.CASES:
        data = case.make()
        status, answer = ask(client, case.name, data)
        code = refused_at_the_door(data)
        if code is None:
            assert status == 202, (case.name, answer)
        else:
            seen.add(code)
            assert status == STATUS.get(code, 422), (case.name, answer)
            assert answer["code"] == code
            assert answer["detail"] == header.SENTENCES[code]
    assert seen == {
        "too_many_pixels", "too_many_scans", "too_large", "unsupported_format", "truncated", "undecodable",
    }  # fmt: skip


def test_a_data_url_is_refused_alike(client: TestClient) -> None:
    for name, status in (("png-bomb", 422), ("svg", 415), ("empty", 422), ("png-bad-checksum", 422)):
        url = f"data:image/png;base64,{base64.b64encode(made(name)).decode()}"
        part = {"type": "image_url", "image_url": {"url": url}}
        answer = client.post("/v1/moderations", json={"input": [part]})
        assert answer.status_code == status, (name, answer.text)


def test_what_only_decoding_finds_out_goes_to_people_and_says_so(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    posts = [post(name, text_part(), image_part(made(name))) for name in (*DAMAGED, *SOUND)]
    answers = client.post("/v1/items/batch", json={"items": posts}).json()["results"]
    drain(settings)
    for name, answer in zip((*DAMAGED, *SOUND), answers, strict=True):
        shown = client.get(answer["item"]["status_url"]).json()
        failed = [one["name"] for one in shown["detectors"] if one["status"] == "failed"]
        if name in DAMAGED:
            assert shown["status"] == "in_review", name
            assert failed == ["decoder"], name
            assert any("photo (undecodable" in reason for reason in shown["reasons"]), shown["reasons"]
        else:
            assert failed == [], name
    with transaction(databases.content) as session:
        assert session.scalars(select(Case.reason)).all().count("detector_failed") == len(DAMAGED)
        said = session.scalars(select(SignalRow.evidence).where(SignalRow.detector == "decoder")).all()
        assert {"undecodable", "undecodable: truncated"} <= {one["cause"] for one in said}


def test_a_picture_that_costs_the_child_costs_nobody_else(
    client: TestClient, settings: Settings, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(decode.Decoder.__init__.__kwdefaults__, "memory_bytes", 100_000_000)
    greedy = image_part(hostile.png_just_allowed())
    posts = [post("before", image_part()), post("greedy", greedy), post("after", image_part())]
    answers = client.post("/v1/items/batch", json={"items": posts}).json()["results"]
    drain(settings)
    shown = [client.get(answer["item"]["status_url"]).json() for answer in answers]
    assert [one["status"] for one in shown] == ["decided", "in_review", "decided"]
    with transaction(databases.content) as session:
        (said,) = session.scalars(select(SignalRow.evidence).where(SignalRow.detector == "decoder"))
        assert said["cause"].startswith("undecodable")
    assert {(item.state, item.attempts) for item in support.items(databases)} == {("done", 1)}


def test_intake_reads_a_header_and_decodes_nothing(
    client: TestClient, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [saved(gradient(), kind) for kind in header.FORMATS]

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture was decoded")

    for name in ("open", "frombytes", "frombuffer", "fromarray"):
        monkeypatch.setattr(Image, name, forbidden)
    monkeypatch.setattr(Image.Image, "load", forbidden)
    monkeypatch.setattr(Decoder, "decode_many", forbidden)
    for number, data in enumerate(pictures):
        for ask in (by_json, by_form, in_a_batch):
            status, answer = ask(client, str(number), data)
            assert status == 202, answer
    with transaction(databases.content) as session:
        stored = session.scalars(select(Part.media_type).where(Part.kind == "image")).all()
    assert sorted(set(stored)) == sorted(header.MEDIA_TYPES.values())
    assert "image/tiff" not in stored, "what the sender called it is not believed"


def test_the_page_of_a_case_lives_with_a_picture_that_can_not_be_shown(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    client.post("/v1/items", json=post("post-1", text_part(), image_part(made("png-bad-checksum"))))
    drain(settings)
    with transaction(databases.content) as session:
        case = session.scalars(select(Case.id)).one()
    with people.logged_in(settings, databases, vault, "moderator") as ada:
        assert ada.get(f"/console/cases/{case}").status_code == 200
        answer = ada.get(f"/console/media/{case}/1")
        assert answer.status_code == 422
        assert answer.headers["content-type"] != "image/webp"


def test_the_child_outlives_the_thread_that_first_asked() -> None:
    # The kernel ends it with the thread that started it, and those that answer requests come and go.
    renditions, data = Renditions(), saved(gradient(), "PNG")
    try:
        first = Thread(target=renditions.picture, args=(data,))
        first.start()
        first.join()
        pid = renditions._decoder.pid
        assert pid is not None
        assert not ended(pid, 0.3)
        assert renditions.picture(data).width == 96
        assert renditions._decoder.pid == pid
    finally:
        renditions.close()
    assert ended(pid, 30)


def ended(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


def test_without_a_decoder_a_page_asks_to_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "child.py"
    broken.write_text("raise SystemExit(1)", encoding="utf-8")
    monkeypatch.setattr(decode, "_CHILD", broken)
    renditions = Renditions()
    with pytest.raises(Unavailable):
        renditions.picture(saved(gradient(), "PNG"))
    renditions.close()
