"""Scores while a caller waits: the champions' models in the API process, and how many may ask at once.

Scoring has threads of its own: what everybody else's requests run in must not fill up with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from models.serving import Served
from moderation.domain.content import Part, TextPart
from moderation.domain.errors import Unavailable
from moderation.domain.policy import Policy
from moderation.features.decode import Decoder, Picture, UndecodableImage
from moderation.pipeline import scoring
from moderation.pipeline.scoring import Scored
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.database import Databases

AT_ONCE = 2
MOST_WAITING = 64
RETRY_SECONDS = 2.0


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
        self._following = Following(databases.content, settings.models, ("text", "image"), threads)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scoring")
        self._decoder, self._decoding = Decoder(), Lock()
        self._waiting = 0

    async def score(self, posts: Sequence[Sequence[Part]], policy: Policy, now: datetime) -> Answer:
        """Score `posts`, in turn with whoever else asks.

        Raises:
            Unavailable: too many ask, or no model can judge.
            UndecodableImage: a picture can't be read.
        """
        if self._waiting >= MOST_WAITING:
            raise Unavailable(
                "Too much waits to be scored here; send this again later.",
                retry_after=RETRY_SECONDS,
                code="backlog_full",
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._score, posts, policy, now)
        finally:
            self._waiting -= 1

    def current(self) -> Served:
        """The models that score here now. The first call loads them.

        Raises:
            Unavailable: they can't be loaded.
        """
        return self._following.current()

    def _score(self, posts: Sequence[Sequence[Part]], policy: Policy, now: datetime) -> Answer:
        served = self._following.current()
        scored = scoring.score(posts, served.text, served.image, self._decode, policy, now)
        kinds = {"text" if isinstance(part, TextPart) else "image" for parts in posts for part in parts}
        used = [manifest for manifest in served.manifests if manifest.kind in kinds]
        spoken = frozenset(language for one in used for language in one.document.get("language", ()))
        return Answer("+".join(f"{one.name}-{one.version}" for one in used), spoken, scored)

    def _decode(self, pictures: Sequence[bytes]) -> Sequence[Picture | UndecodableImage]:
        with self._decoding:  # a decoder is for one thread at a time
            return self._decoder.decode_many(pictures)

    def close(self) -> None:
        """Finish what was begun, and let go of models and decoder."""
        self._threads.shutdown()
        self._following.close()
        self._decoder.close()
