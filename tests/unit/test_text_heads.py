"""Heads over the text model: what they add to it, in the same pass, for whom, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from models import gates
from models.registry import ArtifactError, Manifest, load, write_manifest
from models.runtime import check_golden, open_session
from models.serving import Serving, Wanted
from models.text import Headed, TextClassifier, columns
from models.text_heads import VECTOR, WEIGHTS, TextHead, silenced, speaking
from moderation.domain.signals import DetectorStatus, Signal
from moderation.features.hashes import text_digest
from moderation.pipeline.batch import Batch, Text
from moderation.pipeline.classify_text import classify_text
from moderation.storage.tables import Item
from tests import artifacts

CALM = "The library opens at nine and the reading room is on the second floor. "
RUDE = "You are a complete idiot and everybody laughs at you."
TEXTS = [CALM, RUDE, "", CALM * 40 + RUDE]


@pytest.fixture(scope="module")
def base() -> TextClassifier:
    return TextClassifier(artifacts.champion())


def head(folder: Path, name: str = "head-forum", **options: Any) -> TextHead:
    return TextHead(load(artifacts.text_head(folder, name, "1", **options)))


def pointing(
    folder: Path, base: TextClassifier, name: str, direction: np.ndarray, clients: list[str]
) -> TextHead:
    """A head that says how far a window lies along a direction, and asks nothing of the base's scores."""
    made = load(artifacts.text_head(folder, name, "1", clients=clients))
    arrays = {
        "vector": direction[None],
        "scores": np.zeros((1, len(base.manifest.categories))),
        "bias": np.zeros(1),
    }
    artifacts.replace_file(made.folder, WEIGHTS, b"")
    np.savez(made.folder / WEIGHTS, **arrays)
    return TextHead(load(artifacts.signed_again(made.folder)))


def rudeness(base: TextClassifier) -> np.ndarray:
    calm, rude = (one.windows[0].astype(np.float64) for one in base.seen([CALM, RUDE]))
    return (rude - calm) / np.linalg.norm(rude - calm)


def test_an_inner_tensor_as_output_changes_no_other_output(base: TextClassifier) -> None:
    path = base.manifest.path("model.onnx")
    ids = np.random.default_rng(0).integers(1000, 30_000, (4, 16))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    (plain,) = open_session(path, 1).run(["logits"], feeds)
    logits, pooled = open_session(path, 1, also=VECTOR).run(["logits", VECTOR], feeds)
    assert np.array_equal(plain, logits)
    assert pooled.shape == (4, base.dimensions)
    assert np.linalg.matrix_rank(pooled) == 4


def test_a_model_without_that_tensor_opens_as_it_is(base: TextClassifier) -> None:
    session = open_session(base.manifest.path("model.onnx"), 1, also="/no/such/tensor")
    assert [output.name for output in session.get_outputs()] == ["logits"]


def test_without_labels_a_head_says_what_its_base_says(base: TextClassifier, tmp_path: Path) -> None:
    made = head(tmp_path)
    check_golden(made)
    base.bears(made)
    column = base.manifest.categories.index("harassment")
    assert Headed(base, made).score(TEXTS)[:, 0] == pytest.approx(base.score(TEXTS)[:, column], abs=1e-5)


def test_one_pass_says_what_each_says_alone(base: TextClassifier, tmp_path: Path) -> None:
    heads = [
        head(tmp_path, "head-a", by=2.0),
        pointing(tmp_path, base, "head-b", rudeness(base), []),
        head(tmp_path, "head-c", by=-1.0, category="spam"),
    ]
    together, places = base.read(TEXTS, heads), columns(base, heads)
    assert together.shape == (len(TEXTS), len(base.manifest.outputs) + 3)
    assert np.array_equal(together[:, places[0]], base.score(TEXTS))
    seen = base.seen(TEXTS)
    for made, place in zip(heads, places[1:], strict=True):
        assert together[:, place] == pytest.approx(made.score(seen), abs=1e-5)
    assert base.read([], heads).shape == (0, together.shape[1])
    assert base.read(TEXTS, []).shape == base.score(TEXTS).shape


def test_of_a_long_text_the_window_that_says_most_counts(base: TextClassifier, tmp_path: Path) -> None:
    made = pointing(tmp_path, base, "head-b", rudeness(base), [])
    calm, hidden = Headed(base, made).score([CALM * 40, CALM * 40 + RUDE])[:, 0]
    assert hidden > calm
    windows = base.seen([CALM * 40 + RUDE])[0].windows
    assert len(windows) > 3
    assert int((windows @ made.vector[0]).argmax()) == len(windows) - 1


def test_a_head_for_a_client_goes_before_one_for_everybody(tmp_path: Path) -> None:
    everybody, own = head(tmp_path, "head-all"), head(tmp_path, "head-forum", clients=["forum", "wiki"])
    other = head(tmp_path, "head-spam", category="spam")
    heads = [everybody, own, other]
    said = {
        client: {(h.manifest.name, c) for h, c in speaking(heads, client)} for client in ("forum", "shop")
    }
    assert said["forum"] == {("head-forum", ("harassment",)), ("head-spam", ("spam",))}
    assert said["shop"] == {("head-all", ("harassment",)), ("head-spam", ("spam",))}
    assert silenced(heads, "wiki") == {"harassment", "spam"}
    assert silenced([own], "shop") == frozenset()


def judged(
    base: TextClassifier, heads: list[TextHead], posts: list[tuple[str, str]]
) -> list[dict[str, Signal]]:
    """The signals of each (client, text), by detector."""
    batch = Batch([], datetime.now(UTC))
    batch.texts += [Text(uuid4(), "text", text, text_digest(text)) for _, text in posts]
    batch.items = [Item(id=t.item, client=client) for t, (client, _) in zip(batch.texts, posts, strict=True)]
    classify_text(batch, [base], heads)
    return [{signal.detector: signal for signal in batch.signals[text.item]} for text in batch.texts]


def test_a_head_takes_its_base_s_place_for_its_clients_alone(base: TextClassifier, tmp_path: Path) -> None:
    made = head(tmp_path, by=-4.0, clients=["forum"])
    forum, shop = judged(base, [made], [("forum", RUDE), ("shop", RUDE)])
    assert set(forum) == {"text-minilm", "head-forum"}
    assert "harassment" not in forum["text-minilm"].scores
    assert forum["text-minilm"].scores.keys() | {"harassment"} == shop["text-minilm"].scores.keys()
    assert set(shop) == {"text-minilm"}
    (known,) = base.score([RUDE])
    score = known[base.manifest.categories.index("harassment")]
    assert forum["head-forum"].scores["harassment"] == pytest.approx(artifacts.moved(score, -4.0), abs=1e-4)


def test_a_trick_is_seen_through_by_a_head_as_well(base: TextClassifier, tmp_path: Path) -> None:
    made = head(tmp_path, clients=["forum"])
    spelled = "You are a complete i d i o t and everybody laughs at you."
    plain, tricky = (one["head-forum"] for one in judged(base, [made], [("forum", RUDE), ("forum", spelled)]))
    assert Headed(base, made).score([spelled])[0, 0] < plain.scores["harassment"] - 0.05
    assert tricky.scores["harassment"] == pytest.approx(plain.scores["harassment"], abs=0.03)
    assert tricky.evidence["view"]


def test_what_is_too_long_for_the_base_is_for_its_head(tmp_path: Path) -> None:
    shipped = artifacts.champion()
    folder = artifacts.another(tmp_path, "9", input={**shipped.input, "windows": 3})
    made = head(tmp_path, base=folder, clients=["forum"])
    (said,) = judged(TextClassifier(load(folder)), [made], [("forum", "apple tree " * 300)])
    assert {one.status for one in said.values()} == {DetectorStatus.FAILED}
    assert "harassment" in said["head-forum"].scores


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"name": "text-minilm", "version": "2"}},
        {"clients": None},
        {"clients": "forum"},
        {"clients": [""]},
        {"dimensions": 3},
        {"dimensions": None},
        {"heads": ["other"]},
        {"scores": ["harassment"]},
    ],
    ids=str,
)
def test_a_malformed_head_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    manifest = load(artifacts.text_head(tmp_path, "head-forum", "1"))
    with pytest.raises(ArtifactError):
        TextHead(replace(manifest, input={**manifest.input, **change}))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(base: TextClassifier, tmp_path: Path, number: float) -> None:
    with pytest.raises(ArtifactError, match="no number"):
        pointing(tmp_path, base, "head-forum", np.full(base.dimensions, number), [])


def altered(manifest: Manifest, **changes: Any) -> TextHead:
    document = {**manifest.document, **changes}
    return TextHead(write_manifest(manifest.folder, document, (WEIGHTS,)))


@pytest.mark.parametrize("key", ["name", "version", "sha256"])
def test_a_head_is_refused_beside_any_other_base(base: TextClassifier, tmp_path: Path, key: str) -> None:
    manifest = load(artifacts.text_head(tmp_path, "head-forum", "1"))
    named = {**manifest.input["base"], key: "0" * 64}
    with pytest.raises(ArtifactError, match="does not serve here"):
        base.bears(altered(manifest, input={**manifest.input, "base": named}))


def test_a_head_that_computes_something_else_beside_its_base_is_refused(
    base: TextClassifier, tmp_path: Path
) -> None:
    manifest = load(artifacts.text_head(tmp_path, "head-forum", "1"))
    first, *others = manifest.golden
    wrong = altered(manifest, golden=[{**first, "text": RUDE}, *others])
    check_golden(wrong)
    with pytest.raises(ArtifactError, match="golden sentences"):
        base.bears(wrong)


def wanted(manifest: Manifest) -> Wanted:
    return Wanted(manifest.name, manifest.version, manifest.kind, manifest.folder, manifest.sha256)


def test_a_head_serves_beside_its_base_and_ends_with_it(tmp_path: Path) -> None:
    made, serving = load(artifacts.text_head(tmp_path, "a-head", "1")), Serving()
    (change,) = serving.follow([wanted(made)])
    assert "does not serve here" in change.refused
    champion = artifacts.champion()
    assert [one.refused for one in serving.follow([wanted(made), wanted(champion)])] == ["", ""]
    served = serving.current()
    assert [one.manifest.name for one in served.text_head] == ["a-head"]
    assert "a-head" in {manifest.name for manifest in served.manifests}
    other = load(artifacts.another(tmp_path / "other", "9"))
    changes = {one.wanted.name: one.refused for one in serving.follow([wanted(made), wanted(other)])}
    assert "does not serve here" in changes["a-head"]
    assert serving.current().text_head == ()


def test_a_head_shows_its_numbers_or_may_not_serve(tmp_path: Path) -> None:
    bare = load(artifacts.text_head(tmp_path, "bare", "1", gated=False))
    (failed,) = gates.failures(gates.check(bare))
    assert "text-head" in failed.sentence
    names = gates.required(bare)
    assert {"text_head_auc:harassment", "text_head_base_brier:harassment"} <= set(names)
    good = [{"name": name, "value": artifacts.good(name)} for name in names]
    assert not gates.failures(gates.check(replace(bare, document={**bare.document, "gates": good})))
    worse = [
        {**one, "value": 0.05, "low": 0.01, "high": 0.09} if "base_brier" in one["name"] else one
        for one in good
    ]
    (failed,) = gates.failures(gates.check(replace(bare, document={**bare.document, "gates": worse})))
    assert failed.name == "text_head_base_brier:harassment"
    # What the base says nothing of can't be compared with it.
    alone = replace(bare, input={**bare.input, "scores": ["spam"]})
    assert "text_head_base_auc:harassment" not in gates.required(alone)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    made = load(artifacts.text_head(tmp_path, "head-forum", "1"))
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy)
    artifacts.replace_file(copy, WEIGHTS, b"nothing")
    with pytest.raises(ArtifactError, match="can't be read"):
        TextHead(load(artifacts.signed_again(copy)))
