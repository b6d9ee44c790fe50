"""Scores while a caller waits: the champions' models in the API process, and how many may ask at once.

Scoring has threads of its own: what everybody else's requests run in must not fill up with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, TypeVar

import structlog

from models import plugins
from models.registry import ArtifactError, Kind
from models.runtime import Classifier
from models.serving import Served
from models.text_heads import speaking
from moderation.domain.content import Part, TextPart
from moderation.domain.errors import Unavailable
from moderation.domain.policy import Policy
from moderation.features import fingerprints
from moderation.features.decode import Decoder, Picture, UndecodableImage
from moderation.features.fingerprints import Asked
from moderation.features.hashes import sha256
from moderation.features.ocr import Reader
from moderation.pipeline import scoring
from moderation.pipeline.scoring import Scored
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.database import Databases

log = structlog.get_logger()
T = TypeVar("T")
AT_ONCE = 2
MOST_WAITING = 64
RETRY_SECONDS = 2.0
_JUDGES: Mapping[Kind, str] = {"head": "image", "text-head": "text"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores of each post that was sent, the versions that gave them, and the languages these were measured in."""

    model: str
    languages: frozenset[str]
    scored: Sequence[Scored]


class Scoring:
    """Scores posts that nothing is kept of. The models are loaded when somebody first asks."""

    def __init__(self, settings: Settings, databases: Databases) -> None:
        threads = settings.work.model_threads
        kinds: tuple[Kind, ...] = ("text", "image", "backbone", "head", "text-head")
        self._following = Following(databases.content, settings.models, kinds, threads)
        self._plugins = plugins.load(settings.image_plugins)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scoring")
        self._decoder, self._decoding = Decoder(), Lock()
        self._reads, self._model_threads = settings.work.ocr, threads
        self._loaded: Reader | None = None
        self._waiting = 0

    async def score(
        self, posts: Sequence[Sequence[Part]], policy: Policy, now: datetime, client: str = ""
    ) -> Answer:
        """Score `posts` as if `client` posted them, in turn with whoever else asks.

        Raises:
            Unavailable: too many ask, or no model can judge.
            UndecodableImage: a picture can't be read.
        """
        return await self._in_turn(lambda: self._score(posts, policy, now, client))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= MOST_WAITING:
            raise Unavailable(
                "Too much waits to be scored here; send this again later.",
                retry_after=RETRY_SECONDS,
                code="backlog_full",
            )
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    async def hashed(self, data: bytes) -> Asked:
        """What banks are asked for a picture by, in turn with whoever wants scores.

        Raises:
            Unavailable: too many ask.
            UndecodableImage: the picture can't be read.
        """
        return await self._in_turn(lambda: self._hashed(data))

    def _hashed(self, data: bytes) -> Asked:
        (picture,) = self._decode([data])
        if isinstance(picture, UndecodableImage):
            raise picture
        return fingerprints.asked(picture, sha256(data))

    def current(self) -> Served:
        """The models that score here now. The first call loads them.

        Raises:
            Unavailable: they can't be loaded.
        """
        return self._following.current()

    def _score(self, posts: Sequence[Sequence[Part]], policy: Policy, now: datetime, client: str) -> Answer:
        served = self._following.current()
        image = (*served.image, *self._plugins)
        scored = scoring.score(
            posts,
            served.text,
            image,
            self._decode,
            policy,
            now,
            served.backbone,
            served.head,
            self._reader(posts),
            served.text_head,
            client,
        )
        kinds = {"text" if isinstance(part, TextPart) else "image" for parts in posts for part in parts}
        mine = [head for head, _ in speaking(served.text_head, client)]
        classifiers: list[Classifier[Any]] = [*served.text, *mine, *image, *served.head]
        asked = [one.manifest for one in classifiers]
        used = [one for one in asked if _JUDGES.get(one.kind, one.kind) in kinds]
        spoken = frozenset(language for one in used for language in one.document.get("language", ()))
        return Answer("+".join(f"{one.name}-{one.version}" for one in used), spoken, scored)

    def _reader(self, posts: Sequence[Sequence[Part]]) -> Reader | None:
        """What reads the text in pictures; loaded with the first one.

        Raises:
            Unavailable: it can't be loaded.
        """
        if not self._reads or all(isinstance(part, TextPart) for parts in posts for part in parts):
            return None
        with self._decoding:
            if self._loaded is None:
                try:
                    self._loaded = Reader(self._model_threads)
                except ArtifactError as error:
                    log.error("reader_not_loaded", reason=str(error))  # noqa: TRY400 - the reason says it all
                    raise Unavailable(
                        "The text in pictures can't be read here; an operator finds the reason in the log.",
                        retry_after=60.0,
                    ) from error
            return self._loaded

    def _decode(self, pictures: Sequence[bytes]) -> Sequence[Picture | UndecodableImage]:
        with self._decoding:  # a decoder is for one thread at a time
            return self._decoder.decode_many(pictures)

    def close(self) -> None:
        """Finish what was begun, and let go of models and decoder."""
        self._threads.shutdown()
        self._following.close()
        self._decoder.close()
