"""Row 2: only declared fields come in, a detector sees its own input alone, and a role what it needs."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from types import UnionType
from typing import Any

import numpy as np
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel

import api
from api.app import create_app
from models.text import TextClassifier
from moderation import jobs, relay, worker
from moderation.domain.access import GRANTS, Permission, Role
from moderation.pipeline import run
from moderation.settings import Settings
from moderation.storage.database import Databases
from moderation.storage.vault import Vault
from tests import people, support
from tests.integration.test_role_matrix import checks
from tests.privacy.test_row_01_purposes import pages
from tests.unit.test_architecture import walk

SECRET = "Quassilborth was seen near the old mill."
CLIENT_WORDS = ("canary-account-91", "canary-post-92", "canary-thread-93")


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model within an annotation, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_of(field.annotation)
    elif isinstance(annotation, UnionType) or typing.get_origin(annotation) is not None:
        for inner in typing.get_args(annotation):
            yield from models_of(inner)


def bodies(dependant: Any) -> Iterator[Any]:
    for parameter in dependant.body_params:
        yield parameter.field_info.annotation
    for inner in dependant.dependencies:
        yield from bodies(inner)


def test_no_request_model_takes_a_field_it_does_not_declare(settings: Settings) -> None:
    found: set[type[BaseModel]] = set()
    for route in walk(create_app(settings).routes):
        if isinstance(route, APIRoute):
            found |= {model for body in bodies(route.dependant) for model in models_of(body)}
    # Posts are read off the stream by hand, and what is told apart by hand has no route of its own.
    for module in pkgutil.iter_modules(api.__path__, "api."):
        declared = vars(importlib.import_module(module.name)).values() if "schemas" in module.name else ()
        found |= {
            inner
            for one in declared
            if isinstance(one, type) and issubclass(one, BaseModel) and one.__name__.endswith("In")
            for inner in models_of(one)
        }
    assert {"ItemIn", "TextPartIn", "ContextIn", "BatchIn"} <= {model.__name__ for model in found}
    loose = {model.__name__ for model in found if model.model_config.get("extra") != "forbid"}
    assert not loose


def test_an_unknown_field_is_refused_by_name(client: TestClient) -> None:
    wider = support.post() | {"birthday": "1999-01-01"}
    answer = client.post("/v1/items", json=wider)
    assert answer.status_code == 422
    assert "birthday" in answer.text
    deeper = support.post()
    deeper["parts"][0]["location"] = "52.5,13.4"
    assert client.post("/v1/items", json=deeper).status_code == 422
    assert client.post("/v1/items", json=support.post()).status_code == 202


class Recording:
    """A classifier that keeps what it is given, and says what the real one says."""

    def __init__(self, real: Any) -> None:
        self.real, self.given = real, []

    @property
    def manifest(self) -> Any:
        return self.real.manifest

    def score(self, batch: Sequence[Any]) -> Any:
        self.given.append(("score", batch))
        return self.real.score(batch)

    def reads_whole(self, text: str) -> bool:
        self.given.append(("reads_whole", text))
        return bool(self.real.reads_whole(text))


def test_a_detector_sees_its_declared_input_and_neither_author_client_nor_id(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, name, thread = CLIENT_WORDS
    parts = (support.text_part(SECRET), support.image_part())
    body = support.post(name, *parts, author=account, context={"thread": thread, "language": "en"})
    item = client.post("/v1/items", json=body).json()["id"]
    recorders: list[Recording] = []
    examine = run.examine

    def recorded(tools: run.Tools, *rest: Any) -> run.Screened:
        texts, images = [Recording(one) for one in tools.text], [Recording(one) for one in tools.image]
        recorders.extend((*texts, *images))
        return examine(_with(tools, texts, images), *rest)

    monkeypatch.setattr(run, "examine", recorded)
    with relay.opened(settings) as relaying, worker.opened(settings, jobs.SCREENING, lambda: 1.0) as working:
        while relay.tick(relaying, datetime.now(UTC)):
            working.work(burst=True, logging_level="WARNING")
    given = [(one.manifest.kind, call, batch) for one in recorders for call, batch in one.given]
    assert {kind for kind, _, _ in given} == {"text", "image"}
    for kind, call, batch in given:
        # Nothing but what the manifest's kind declares: texts, or the pixels of pictures.
        for value in [batch] if call == "reads_whole" else batch:
            if kind == "text":
                assert type(value) is str
                assert not any(word in value for word in (*CLIENT_WORDS, item, "app"))
            else:
                assert type(value) is np.ndarray
                assert (value.dtype, value.ndim, value.shape[2]) == (np.uint8, 3, 3)
    scored = [value for kind, call, batch in given if (kind, call) == ("text", "score") for value in batch]
    assert any("quassilborth" in text.casefold() for text in scored), "the part itself it does see"


def _with(tools: run.Tools, texts: Sequence[Any], images: Sequence[Any]) -> run.Tools:
    return run.Tools(
        tools.databases, tools.vault, tools.blobs, tools.policies, tools.decoder,
        typing.cast("Sequence[TextClassifier]", texts), images, tools.dice,
    )  # fmt: skip


SEEING = {Permission.CASE_READ, Permission.ITEM_READ, Permission.EVIDENCE_READ, Permission.AUTHOR_READ}
BLIND = [role for role in Role if not GRANTS[role] & SEEING]


def test_there_are_roles_that_need_no_content() -> None:
    assert set(BLIND) == {Role.TRAINER, Role.AUDITOR, Role.ADMIN}


@pytest.mark.parametrize("role", BLIND)
def test_a_role_that_needs_no_content_meets_none(
    client: TestClient, settings: Settings, databases: Databases, vault: Vault, role: Role
) -> None:
    account, name, _ = CLIENT_WORDS
    post = support.post(name, support.text_part(SECRET), author=account)
    item = client.post("/v1/items", json=post).json()["id"]
    support.drain(settings, dice=0.0)
    with people.logged_in(settings, databases, vault, role) as somebody:
        known = {"item_id": item}
        answers = {address: somebody.get(address) for address in pages(somebody.app, known)}
    assert len([one for one in answers.values() if one.status_code == 200]) > 5
    for address, answer in answers.items():
        for word in (*CLIENT_WORDS, "Quassilborth"):
            assert word not in answer.text, address


def test_every_page_is_behind_one_permission(settings: Settings) -> None:
    """The masks of the roles are made of these; the matrix of roles and routes tries each."""
    for route in walk(create_app(settings).routes):
        if isinstance(route, APIRoute):
            assert len({check.permission for check in checks(route.dependant)}) <= 1
