"""An installation with work in it: a policy for the test at hand, and posts that go before people for certain."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from moderation import administration
from moderation import settings as settings_module
from moderation.embedded.instance import read_environment
from moderation.governance import policies
from moderation.settings import Settings
from moderation.storage.database import Databases, connect
from moderation.storage.vault import Vault
from tests import hostile
from tests.service import Service

# Mild categories: what is grave is dealt out with breaks between, which is tested elsewhere.
CATEGORIES = ("fraud", "harassment", "spam")
ALONE = {"golden_share": 0, "second_opinion_share": 0, "oldest_share": 0}
_WORDS = (
    "river market library harbour garden bicycle chair tomato bridge lamp kitchen window teacher baker "
    "neighbour sister violin blanket pencil mountain morning evening winter summer bread coffee letter "
    "picture corner station ticket basket feather candle mirror carpet pepper onion cherry walnut paper "
    "copper silver wooden yellow purple quiet gentle early narrow round steady simple bright distant"
)
_BATCH = 100
_PATIENCE_SECONDS = 300


def settings_of(service: Service) -> Settings:
    """The settings of a running installation, as its own processes read them."""
    return settings_module.from_environment(read_environment(service.directory))


@contextmanager
def opened(service: Service) -> Iterator[tuple[Databases, Vault]]:
    """The databases of a running installation and its vault, as one of its processes has them."""
    settings = settings_of(service)
    databases = connect(settings.database_url, settings.keystore_url, 1)
    try:
        yield databases, Vault(databases.keystore, settings.kek)
    finally:
        databases.dispose()


def publish(service: Service, **review: Any) -> None:
    """Publish the default policy with nothing left to chance in the queue, and with `review` changed."""
    document = yaml.safe_load(policies.default_document())
    document["review"] |= (
        ALONE | {"audit": {"share": 0, "near_share": 0, "uncertain_share": 0, "margin": 0}} | review
    )
    administration.publish_policy(settings_of(service), yaml.safe_dump(document))


def sentence(chance: random.Random) -> str:
    """A mild sentence of which no two are nearly alike."""
    return " ".join(chance.sample(_WORDS.split(), 12)).capitalize() + "."


def post(name: str, text: str, picture: bytes | None = None, **changes: Any) -> dict[str, Any]:
    """A post of one text, and of one picture if there is one."""
    parts: list[dict[str, str]] = [{"type": "text", "name": "body", "text": text}]
    if picture is not None:
        parts.append({"type": "image", "name": "photo", "data": base64.b64encode(picture).decode()})
    return {"external_id": name, "author": f"author-{name}", "kind": "comment", "parts": parts} | changes


def picture(shade: int) -> bytes:
    """A small PNG; another one for every shade."""
    return hostile.saved(hostile.gradient().rotate(shade), "PNG")


def cases(service: Service, count: int, seed: int, *, pictures: int = 0) -> list[str]:
    """`count` posts that a bank sends before people, `pictures` of them with a picture; their item ids."""
    chance = random.Random(seed)
    texts = [sentence(chance) for _ in range(count)]
    settings = settings_of(service)
    for index, category in enumerate(CATEGORIES):
        name = f"known_{category}_{seed}"
        administration.create_bank(settings, name, "text", category, "review", allow=False)
        contents = [text.encode() for text in texts[index :: len(CATEGORIES)]]
        administration.fill_bank(settings, name, contents, "", verified=True)
    posts = [
        post(f"{seed}-{index}", text, picture(index) if index < pictures else None)
        for index, text in enumerate(texts)
    ]
    return submit(service, posts)


def alike(service: Service, texts: Sequence[str]) -> list[str]:
    """Posts with these texts, which a bank sends before people; for near-duplicates."""
    settings = settings_of(service)
    name = f"alike_{len(texts)}"
    administration.create_bank(settings, name, "text", "spam", "review", allow=False)
    administration.fill_bank(settings, name, [text.encode() for text in texts], "Seen before.", verified=True)
    return submit(service, [post(f"{name}-{index}", text) for index, text in enumerate(texts)])


def submit(service: Service, posts: Sequence[dict[str, Any]]) -> list[str]:
    """Send posts and wait until all of them are screened; their item ids."""
    identifiers: list[str] = []
    with service.client() as client:
        for start in range(0, len(posts), _BATCH):
            answer = client.post("/v1/items/batch", json={"items": list(posts[start : start + _BATCH])})
            answer.raise_for_status()
            identifiers += [result["item"]["id"] for result in answer.json()["results"]]
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with service.database() as database:
        while True:
            row = database.execute(
                "SELECT count(*) FROM items WHERE id = any(%s::uuid[]) AND state NOT IN ('done', 'dead')",
                [identifiers],
            ).fetchone()
            if row is not None and row[0] == 0:
                return identifiers
            if time.monotonic() > deadline:
                raise TimeoutError(f"{row} posts are still waiting to be screened.")
            time.sleep(0.05)
