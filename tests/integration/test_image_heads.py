"""A head's whole way: pictures are judged, their vectors leave, a head is fitted, promoted, and speaks."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw
from sqlalchemy import select

from models import backbone
from models.registry import Manifest, load
from moderation import bundles
from moderation.domain.access import Role
from moderation.domain.errors import Conflict
from moderation.domain.policy import Policy
from moderation.domain.signals import DetectorStatus
from moderation.governance import models, promotions
from moderation.review import labels, likeness
from moderation.review.labels import Exported, Wanted
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Decision, Item, ModelAlias, PartFeature, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, support
from tests.judging import Floor, at_once
from training import image_head
from training.__main__ import main as training

DAY = timedelta(days=1)
CATEGORY = "spam"  # of a proxy: pictures with bars of text-like strokes across them, as advertising has


def picture(seed: int, *, striped: bool) -> bytes:
    """A small picture of coloured blobs; `striped` ones have dark bars with light strokes across them."""
    dice = np.random.default_rng(seed)
    image = Image.new("RGB", (160, 120), tuple(int(x) for x in dice.integers(60, 200, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(dice.integers(3, 7))):
        x, y, r = (int(v) for v in dice.integers((0, 0, 8), (160, 120, 40)))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(c) for c in dice.integers(0, 255, 3)))
    if striped:
        for top in range(int(dice.integers(4, 14)), 120, 28):
            draw.rectangle((0, top, 160, top + 14), fill=(15, 15, 15))
            for x in range(4, 156, 7):
                draw.line((x, top + 3, x + int(dice.integers(0, 5)), top + 11), fill=(240, 240, 240), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _put_back(databases: Databases, settings: Settings) -> Iterator[None]:
    with artifacts.put_back(databases, settings):
        yield


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in one subfolder per class, some of them twice."""
    root = tmp_path_factory.mktemp("classes")
    for name in ("striped", "plain"):
        (root / name).mkdir()
        for seed in range(70):
            data = picture(seed + 1000 * (name == "striped"), striped=name == "striped")
            (root / name / f"{seed}.png").write_bytes(data)
            if seed < 4:
                # Another file, the same picture: near by meaning and not by its bytes.
                Image.open(io.BytesIO(data)).save(root / name / f"again-{seed}.png", compress_level=0)
    return root


def made(folder: Path, out: Path, version: str = "own-1", **options: str) -> int:
    given = {"positive": "striped", "category": CATEGORY, "version": version, "out": str(out), **options}
    given |= {"copies-from": "0.995"}  # shapes that one function draws lie closer than photographs do
    return training(
        ["image-head", "--data", str(folder), *(x for k, v in given.items() for x in (f"--{k}", v))]
    )


@pytest.fixture(scope="module")
def head(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    out = tmp_path_factory.mktemp("head") / "artifact"
    assert made(folder, out) == 0
    return load(out)


def add(databases: Databases, settings: Settings, folder: Path) -> models.Added:
    with transaction(databases.content) as session:
        return models.add(session, folder, settings.models, "operator", datetime.now(UTC))


def promote(databases: Databases, settings: Settings, vault: Vault, manifest: Manifest) -> None:
    """By two people."""
    one, other = (
        promotions.logged_in(people.principal(databases, vault, role)) for role in (Role.TRAINER, Role.LEAD)
    )
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        promotions.propose(session, settings.models, one, manifest.name, manifest.version, now)
        promotions.promote(session, settings.models, other, manifest.name, manifest.version, now)


def post(client: TestClient, name: str, data: bytes) -> UUID:
    answer = client.post("/v1/items", json=support.post(name, support.image_part(data)))
    assert answer.status_code == 202, answer.text
    return UUID(answer.json()["id"])


def signals(databases: Databases, detector: str) -> dict[UUID, SignalRow]:
    with transaction(databases.content) as session:
        return {
            row.item_id: row
            for row in session.scalars(select(SignalRow).where(SignalRow.detector == detector))
        }


def test_a_head_is_fitted_measured_and_gated_in_seconds(head: Manifest) -> None:
    metrics = head.document["metrics"]
    assert metrics["copies"] >= 8, "the same picture twice counts once"
    assert sum(metrics["distinct"].values()) + metrics["copies"] == sum(metrics["labelled"].values())
    assert metrics["held_out"]["auc"][1] > 0.7
    names = [gate["name"] for gate in head.document["gates"]]
    assert f"head_auc:{CATEGORY}" in names
    card = (head.folder / "MODEL_CARD.md").read_text(encoding="utf-8").lower()
    assert "near-duplicates by meaning" in " ".join(card.split())


def test_it_goes_the_way_of_every_model_and_speaks_of_what_is_posted(
    head: Manifest, client: TestClient, databases: Databases, settings: Settings, vault: Vault
) -> None:
    assert add(databases, settings, head.folder).fresh
    promote(databases, settings, vault, head)
    striped, plain = (
        [post(client, f"{kind}-{seed}", picture(seed + 5000, striped=kind == "striped")) for seed in range(5)]
        for kind in ("striped", "plain")
    )
    support.drain(settings)
    said = signals(databases, head.name)
    assert {row.status for row in said.values()} == {DetectorStatus.OK}
    scores = [[said[item].scores[CATEGORY] for item in items] for items in (striped, plain)]
    assert min(scores[0]) > max(scores[1])
    with transaction(databases.content) as session:
        decision = session.scalars(select(Decision).where(Decision.item_id == striped[0])).one()
        assert {"name": head.name, "version": "own-1", "status": "ok"} in decision.detectors


def test_the_vector_of_a_picture_is_kept_sealed_and_is_the_backbones(
    client: TestClient, databases: Databases, settings: Settings, vault: Vault
) -> None:
    data = picture(7, striped=False)
    item = post(client, "one", data)
    support.drain(settings)
    with transaction(databases.content) as session:
        row = session.scalars(
            select(PartFeature).where(PartFeature.item_id == item, PartFeature.name == likeness.EMBEDDING)
        ).one()
        key = vault.item_keys([item])[item]
        kept = backbone.unpacked(key.decrypt(row.value, *likeness.place(row.name, item, row.position)))
        maker = row.maker
    embedder = image_head.backbone(None)
    assert maker == embedder.maker
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert float(kept @ embedder.embed([rgb])[0]) > 0.999


def test_a_head_without_its_backbone_is_not_promoted_and_serves_no_more(
    head: Manifest, client: TestClient, databases: Databases, settings: Settings, vault: Vault
) -> None:
    shipped = artifacts.champion("backbone")
    add(databases, settings, head.folder)
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        models.point(session, shipped.name, models.CHAMPION, None, now)
    with pytest.raises(Conflict, match="does not serve here"):
        promote(databases, settings, vault, head)
    # As after a release that brought another backbone: workers start, and say what is missing.
    with transaction(databases.content) as session:
        models.point(session, head.name, models.CHAMPION, head.version, now)
    post(client, "one", picture(1, striped=True))
    support.drain(settings)
    assert not signals(databases, head.name)
    with transaction(databases.content) as session:
        trouble = session.scalars(select(ModelAlias.trouble).where(ModelAlias.name == head.name)).one()
    assert "does not serve here" in str(trouble)


def exported(floor: Floor, folder: Path) -> Exported:
    wanted = Wanted(floor.now - DAY, floor.now + DAY, pictures=True)
    with transaction(floor.databases.content) as session:
        return labels.export(
            session,
            floor.vault,
            folder / "own.bundle",
            folder / "own.bundle.key",
            wanted,
            "operator",
            floor.now,
        )


def judged(floor: Floor, name: str, data: bytes, *parts: dict[str, Any]) -> UUID:
    """A picture that somebody found to break a rule."""
    from moderation.domain.routing import Route

    item = floor.decided(name, Route.REVIEW, CATEGORY, parts=(*parts, support.image_part(data)))
    floor.give(floor.person(), floor.case_of(item), "remove", CATEGORY)
    return item


def embedded(floor: Floor, item: UUID, data: bytes) -> None:
    """The vector that screening would have kept of an item's one picture."""
    embedder = image_head.backbone(None)
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    value = backbone.packed(embedder.embed([rgb])[0])
    key = floor.vault.item_keys([item])[item]
    with transaction(floor.databases.content) as session:
        likeness.store(session, [likeness.row(key, item, 0, likeness.EMBEDDING, embedder.maker, value)])


def test_judged_pictures_leave_as_vectors_and_never_as_pictures(floor: Floor, tmp_path: Path) -> None:
    data = picture(3, striped=True)
    alone = judged(floor, "alone", data)
    with_text = judged(floor, "with text", data, support.text_part("A caption"))
    without = judged(floor, "without a vector", data)
    for item in (alone, with_text):
        embedded(floor, item, data)
    made = exported(floor, tmp_path)
    key = bundles.read_key(tmp_path / "own.bundle.key", made.id)
    (row,) = bundles.read(tmp_path / "own.bundle", key, floor.now)
    assert (made.rows, made.left_out) == (1, 2), f"{without} has none, {with_text} was judged as a whole"
    assert row["ref"] == labels.reference(floor.vault, made.id, alone)
    assert bundles.flaw(row) is None
    assert "text" not in row
    assert (row["labels"], row["maker"]) == ({CATEGORY: 1}, image_head.backbone(None).maker)
    examples = image_head.of_bundle(tmp_path / "own.bundle", None, CATEGORY, row["maker"], floor.now)
    assert [one["id"] for one in examples.origin["bundles"]] == [str(made.id)]
    assert examples.origin["labels"]["by_source"] == {"review": 1}
    rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert float(examples.vectors[0] @ image_head.backbone(None).embed([rgb])[0]) > 0.999
    with pytest.raises(image_head.TrainingError, match="another backbone"):
        image_head.of_bundle(tmp_path / "own.bundle", None, CATEGORY, "other/1", floor.now)


def test_whoever_is_erased_or_restricts_is_in_no_bundle_of_pictures(floor: Floor, tmp_path: Path) -> None:
    data = picture(3, striped=True)
    item = judged(floor, "one", data)
    embedded(floor, item, data)
    with transaction(floor.databases.content) as session:
        from moderation.storage.tables import Author

        author = session.get_one(Author, session.get_one(Item, item).author_id)
        author.restricted_at, author.restricted_because = floor.now, "art. 18"
    with pytest.raises(labels.InvalidInput, match="no label of this kind"):
        exported(floor, tmp_path)
