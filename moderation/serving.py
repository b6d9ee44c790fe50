"""Have a process serve what the alias `champion` says, and follow it while the process lives.

A worker follows the aliases `shadow` and `canary` too: what is tried beside the champions. Whoever answers a caller
who waits follows champions alone. A thread looks once a second, loads what is new beside what serves, checks it by
its golden inputs and exchanges it between two batches. Nothing waits for it, and what can't be loaded is refused
while the old one serves on.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from models.registry import ArtifactError, Kind
from models.serving import CANARY, CHAMPION, HEADS, SHADOW, Change, Line, Served, Serving, Wanted
from moderation import metrics
from moderation.domain.errors import Unavailable
from moderation.governance import models
from moderation.storage.database import transaction

LOOK_SECONDS = 1.0
log = structlog.get_logger()


class _Wants(NamedTuple):
    """What `Serving.follow` is told."""

    champions: Sequence[Wanted]
    shadows: Sequence[Wanted] = ()
    canaries: Sequence[Wanted] = ()
    shares: Mapping[str, float] | None = None


class Following:
    """The champions of some kinds, in one process. Loaded when they are first asked for, or by `start`.

    With `trials` what is tried beside them is loaded too. Safe for threads: `current` and `line` answer what serves
    now, which never changes under whoever holds it.
    """

    def __init__(
        self, engine: Engine, root: Path, kinds: Collection[Kind], threads: int = 1, *, trials: bool = False
    ) -> None:
        self._trials, self._told = trials, set[tuple[str, str, str]]()
        self._engine, self._root, self._kinds = engine, root, tuple(kinds)
        self._threads = threads
        self._serving = Serving(threads)
        self._started = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Load the champions and begin to follow. Where one does not load, the version before it serves.

        A head without its backbone is refused, and nothing waits for it: a release that brings another backbone
        must not stop every worker until somebody has fitted the heads again.

        Raises:
            models.registry.ArtifactError: neither loads.
        """
        with self._started:
            if self._thread is not None:
                return
            # Anew each time: what was refused at an earlier attempt may have been mended.
            self._serving = Serving(self._threads)
            wanted = self._wanted()
            changes = self._serving.follow(*wanted)
            self._tell(changes)
            refused = {
                one.wanted.name: one.refused for one in changes if one.refused and one.alias == CHAMPION
            }
            if refused:
                self._go_back(wanted, refused)
            self._thread = threading.Thread(target=self._follow, name="models", daemon=True)
            self._thread.start()

    def _go_back(self, wanted: _Wants, refused: Mapping[str, str]) -> None:
        with transaction(self._engine, durable=False) as session:
            previous = models.wanted(session, self._root, self._kinds, models.PREVIOUS)
        before = {one.name: one for one in previous}
        again = [before.get(one.name, one) if one.name in refused else one for one in wanted.champions]
        self._tell(self._serving.follow(*wanted._replace(champions=again)))
        serving = {manifest.name for manifest in self._serving.current().manifests}
        heads = {one.name for one in wanted.champions if one.kind in HEADS}
        for name, reason in refused.items():
            if name not in serving and name not in heads:
                raise ArtifactError(reason)

    def current(self) -> Served:
        """What serves now: take it once for a batch or a request. The first call loads it.

        Raises:
            Unavailable: it can't be loaded.
        """
        if self._thread is None:
            try:
                self.start()
            except ArtifactError as error:
                log.error("model_not_loaded", reason=str(error))  # noqa: TRY400 - the reason says it all
                raise Unavailable(
                    "No model can be loaded; `moderation doctor` says what is wrong.", retry_after=60.0
                ) from error
        return self._serving.current()

    def line(self) -> Line:
        """What serves now and what is tried beside it: take it once for a batch.

        Raises:
            Unavailable: it can't be loaded.
        """
        self.current()
        return self._serving.line()

    def shadow(self) -> Served:
        """What scores now and decides nothing."""
        return self.line().trials.shadow

    def canary(self) -> tuple[Served, Mapping[str, float]]:
        """What judges a share of the items in its champion's place, and the shares by name."""
        return (trials := self.line().trials).canary, trials.shares

    def close(self) -> None:
        """Follow no longer. What serves stays loaded for whoever holds it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Look once, now, and load what is new. The thread does this; a test may."""
        self._tell(self._serving.follow(*self._wanted()))

    def _follow(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except SQLAlchemyError:
                pass  # while the database is away, what serves goes on
            except Exception:
                # Whatever it is, whoever asks for a verdict has what serves.
                log.exception("model_look_failed")

    def _wanted(self) -> _Wants:
        """What is to serve and to be tried, as of one moment."""
        with transaction(self._engine, durable=False) as session:
            champions = models.wanted(session, self._root, self._kinds)
            if not self._trials:
                return _Wants(champions)
            shadows, canaries = (
                models.wanted(session, self._root, self._kinds, alias) for alias in (SHADOW, CANARY)
            )
            return _Wants(champions, shadows, canaries, models.shares(session))

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            name, version = change.wanted.name, change.wanted.version
            metrics.MODEL_CHANGES.labels(name, "refused" if change.refused else "loaded").inc()
            if change.refused:
                log.error(
                    "model_refused", model=name, version=version, alias=change.alias, serving=change.before,
                    reason=change.refused,
                )  # fmt: skip
                with transaction(self._engine) as session:
                    models.note_trouble(
                        session, change.wanted, change.refused, datetime.now(UTC), change.alias
                    )
                continue
            if change.alias == CHAMPION:
                if change.before is not None:
                    metrics.MODEL_INFO.labels(name, change.before).set(0)
                metrics.MODEL_INFO.labels(name, version).set(1)
            log.info("model_serves", model=name, version=version, alias=change.alias, before=change.before)
        self._tell_trials()

    def _tell_trials(self) -> None:
        """What is tried by this process, and what is no longer."""
        trials = self._serving.line().trials
        now = {
            (one.name, one.version, alias)
            for alias, served in ((SHADOW, trials.shadow), (CANARY, trials.canary))
            for one in served.manifests
        }
        for labels in now ^ self._told:
            metrics.MODEL_TRIALS.labels(*labels).set(labels in now)
        self._told = now
