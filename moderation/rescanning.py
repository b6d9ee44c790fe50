"""Search everything that is retained for a bank's entries: a page of items after the other, each a transaction.

It takes nothing of the queue: what waits to be screened is screened with the bank as it is. What a page came to and
how far the search came are committed together, so that one which is killed goes on where it was.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import SystemRandom
from uuid import UUID

from sqlalchemy import Engine, select, text

from models.registry import Kind
from moderation import jobs
from moderation.domain.content import ItemState
from moderation.domain.errors import Conflict
from moderation.features.decode import Decoder
from moderation.governance import rescans
from moderation.governance.policies import PolicyCache
from moderation.pipeline import rescan
from moderation.pipeline.matchers import Matchers
from moderation.pipeline.pictures import PictureBanks
from moderation.pipeline.rescan import Tools
from moderation.review import reconsidering
from moderation.review.reconsidering import Became
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.ids import lower_bound
from moderation.storage.tables import Item, Rescan
from moderation.storage.vault import Vault

PAGE = 100
SETTLE_SECONDS = 0.2
_LOCK = 7_203_006
DICE = SystemRandom().random
CHANGED = (Became.DECIDED, Became.BEFORE_PEOPLE, Became.LABELLED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to search for, and how: see `governance.rescans.begin`."""

    bank: str
    dry: bool
    since_entry: UUID | None = None
    confirmed: bool = False
    anew: bool = False


@dataclass(slots=True)
class Came:
    """What a search came to: over all its runs by its row, and what became of the items of this run."""

    row: Rescan
    resumed: bool
    became: Counter[Became] = field(default_factory=Counter)


Progress = Callable[[int, int], None]
"""Called with how many items were looked at, and how many there are."""


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def run(
    settings: Settings,
    wanted: Wanted,
    actor: str,
    progress: Progress = _silent,
    page: int = PAGE,
) -> Came:
    """Begin the search, or go on with the one that was begun, and finish it.

    Raises:
        NotFound, InvalidInput, Conflict: as `governance.rescans.begin`; Conflict also if it is running already.
        Unavailable: claims are looked for, and no model can embed sentences.
    """
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        with _alone(databases.content), _tools(settings, databases) as tools:
            return _run(settings, tools, wanted, actor, progress, page)
    finally:
        databases.dispose()


def _run(settings: Settings, tools: Tools, wanted: Wanted, actor: str, progress: Progress, page: int) -> Came:
    engine, policies = tools.databases.content, PolicyCache()
    with transaction(engine) as session:
        row = rescans.begin(
            session, wanted.bank, dry=wanted.dry, since_entry=wanted.since_entry, confirmed=wanted.confirmed,
            anew=wanted.anew, actor=actor, now=jobs.utc_now(),
        )  # fmt: skip
    came = Came(row, resumed=row.seen > 0 or row.cursor is not None)
    _let_finish(engine, settings.work.lease_seconds)
    with transaction(engine) as session:
        search = rescan.opened(session, tools, row, wanted.bank, jobs.utc_now())
        total = rescans.remaining(session, row.cursor, lower_bound(row.started_at), jobs.utc_now())
    done = 0
    progress(done, total)
    while True:
        now = jobs.utc_now()
        with transaction(engine) as session:
            ids = rescans.page(session, row, page, now)
        if not ids:
            break
        found = rescan.find(tools, search, ids, now, keep=not wanted.dry)
        with transaction(engine) as session:
            policy = policies.current(session)
            became = reconsidering.reconsider(session, policy, found, now, DICE, dry=wanted.dry)
            jobs.notify(session, became.recorded, now)
            counted = Counter(became.became.values())
            changed = sum(counted[one] for one in CHANGED)
            rescans.advance(session, row, ids[-1], seen=len(ids), matched=len(found), changed=changed)
        row.cursor = ids[-1]
        came.became += counted
        done += len(ids)
        progress(done, max(total, done))
    with transaction(engine) as session:
        came.row = rescans.finish(session, row.id, actor, jobs.utc_now())
    return came


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """No two searches at a time: they would do everything twice, and count it twice."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
            raise Conflict(
                "A search through everything that is retained runs already; wait until it is done."
            )
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


@contextmanager
def _tools(settings: Settings, databases: Databases) -> Iterator[Tools]:
    kinds: tuple[Kind, ...] = ("embedding",)
    with (
        Decoder() as decoder,
        Following(databases.content, settings.models, kinds, settings.work.model_threads) as following,
    ):
        yield Tools(
            databases=databases,
            vault=Vault(databases.keystore, settings.kek),
            blobs=FolderBlobs(settings.blob_dir),
            decoder=decoder,
            banks=Matchers(lambda: next(iter(following.current().embedding), None)),
            # Workers write segments; this process only reads them.
            pictures=PictureBanks(settings.index),
        )


def _let_finish(engine: Engine, lease_seconds: float) -> None:
    """Wait for the batches in hand: one that was begun before the bank changed may have been looked up before."""
    deadline = time.monotonic() + 2 * lease_seconds
    left = _leased(engine)
    while left and time.monotonic() < deadline:
        time.sleep(SETTLE_SECONDS)
        left &= _leased(engine)


def _leased(engine: Engine) -> set[tuple[UUID, UUID | None]]:
    """What is in hand, each with its token: under another it was begun anew."""
    with transaction(engine) as session:
        rows = session.execute(select(Item.id, Item.lease_token).where(Item.state == ItemState.LEASED))
        return {(row.id, row.lease_token) for row in rows}
