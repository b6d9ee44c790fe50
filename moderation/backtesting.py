"""Back-test a version: score with it what is retained, a page after the other, each in a transaction of its own.

It takes nothing of the queue and changes no decision. What was scored is known from its signals, so that one which
is killed goes on where it was.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.backbone import ImageEmbedder, maker
from models.heads import ImageHead, backbone_of
from models.image import ImageClassifier
from models.registry import Manifest
from models.serving import opened, verified
from models.text import TextClassifier
from models.text_heads import TextHead, base_of
from moderation import jobs
from moderation.domain.errors import Conflict, InvalidInput
from moderation.features.decode import Decoder
from moderation.governance import audit, lineage, models, shadows
from moderation.pipeline import backtest
from moderation.pipeline.backtest import Asked, Tools
from moderation.review.settled import labels
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.tables import ModelRow
from moderation.storage.vault import Vault

PAGE = 100
DAYS = 60.0
OTHERS = 20_000
"""Items that nobody judged, at most: with fewer in the period all of them are scored."""
Progress = Callable[[int, int], None]
"""Called with how many items were looked at, and how many there are."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which version, over how many days, and how many of the items at most that nobody judged."""

    name: str
    version: str
    days: float = DAYS
    others: int = OTHERS


@dataclass(frozen=True, slots=True)
class Compared:
    """One category on labels that the version has not learned from: how well it ranks them, and what decided then.

    None where a class is missing.
    """

    yes: int
    no: int
    auc: float | None
    was: float | None


@dataclass(frozen=True, slots=True)
class Came:
    """What a back-test came to: items looked at in this run, those it could speak of, and labels by category.

    `learned`: labelled items that are left out of the comparison, because the version has learned from them.
    """

    looked_at: int
    scored: int
    learned: int = 0
    categories: Mapping[str, Compared] = field(default_factory=dict)


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def run(settings: Settings, wanted: Wanted, actor: str, progress: Progress = _silent) -> Came:
    """Score what is retained and was not scored by this version yet, then compare it on what people settled.

    Raises:
        NotFound: there is no such version.
        InvalidInput: it gives no scores.
        Conflict: it was retired, or the model that it belongs to is not here.
        models.registry.ArtifactError: its files are not what was added.
    """
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        with _tools(settings, databases) as tools:
            return _run(settings, tools, wanted, actor, progress)
    finally:
        databases.dispose()


def _run(settings: Settings, tools: Tools, wanted: Wanted, actor: str, progress: Progress) -> Came:
    engine, since = tools.databases.content, tools.now() - timedelta(days=wanted.days)
    with transaction(engine) as session:
        asked = loaded(session, settings, wanted.name, wanted.version)
        ids = backtest.waiting(session, asked, since, tools.now(), wanted.others)
    scored = 0
    progress(0, len(ids))
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        scored += backtest.score(tools, asked, page)
        progress(start + len(page), len(ids))
    with transaction(engine) as session:
        now = tools.now()
        learned, categories = compared(session, wanted, since, now)
        details = {"version": wanted.version, "items": scored, "days": wanted.days}
        audit.record(session, [audit.Event(actor, "model.backtested", "model", wanted.name, details)], now)
    return Came(len(ids), scored, learned, categories)


def loaded(session: Session, settings: Settings, name: str, version: str) -> Asked:
    """A version as it is asked, with the model it belongs to.

    Raises:
        NotFound, InvalidInput, Conflict, models.registry.ArtifactError: as `run`.
    """
    row = models.find(session, name, version)
    models.require_not_retired(row)
    manifest = verified(models.wanted_of(row, settings.models))
    threads = settings.work.model_threads
    model = opened(manifest, threads)
    if isinstance(model, TextHead):
        belongs = base_of(manifest)
        base = opened(_base(session, settings, manifest, belongs.name, belongs.version), threads)
        if not isinstance(base, TextClassifier):
            raise _baseless(manifest)
        base.bears(model)
        return Asked(model, base)
    if isinstance(model, ImageHead):
        for known in session.scalars(select(ModelRow).where(ModelRow.kind == "backbone")).all():
            if maker(known.name, known.version) == backbone_of(manifest):
                backbone = opened(_base(session, settings, manifest, known.name, known.version), threads)
                if isinstance(backbone, ImageEmbedder):
                    return Asked(model, backbone)
        raise _baseless(manifest)
    if isinstance(model, (TextClassifier, ImageClassifier)):
        return Asked(model)
    raise InvalidInput(f"{name} {version} says nothing of any category; there is nothing to test.")


def _base(session: Session, settings: Settings, head: Manifest, name: str, version: str) -> Manifest:
    row = session.get(ModelRow, (name, version))
    if row is None:
        raise _baseless(head)
    return verified(models.wanted_of(row, settings.models))


def _baseless(head: Manifest) -> Conflict:
    return Conflict(
        f"{head.name} {head.version} belongs to a model that is not here; fit it again on one that is."
    )


def compared(
    session: Session, wanted: Wanted, since: datetime, now: datetime
) -> tuple[int, dict[str, Compared]]:
    """How well a version ranks what people settled, beside what decided then; how many it has learned from."""
    given = {one.item_id: one for one in labels(session, now, since=since, until=now)}
    both = shadows.read(session, wanted.name, wanted.version, list(given))
    own = lineage.learned(session, [(wanted.name, wanted.version)], list(given))
    found: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for item, scores in both.items():
        for category, label in given[item].labels.items() if item not in own else ():
            if category in scores.shadow and category in scores.was:
                found[category].append((label, scores.would_be[category], scores.was[category]))
    return len(own), {
        category: Compared(
            sum(label for label, _, _ in rows),
            sum(1 - label for label, _, _ in rows),
            auc([(label, now_) for label, now_, _ in rows]),
            auc([(label, was) for label, _, was in rows]),
        )
        for category, rows in sorted(found.items())
    }


def auc(pairs: Sequence[tuple[int, float]]) -> float | None:
    """The share of pairs of a yes and a no in which the yes scores higher, ties counting half."""
    yes = [score for label, score in pairs if label]
    no = sorted(score for label, score in pairs if not label)
    if not yes or not no:
        return None
    total = sum(bisect_left(no, score) + bisect_right(no, score) for score in yes)
    return total / (2 * len(yes) * len(no))


@contextmanager
def _tools(settings: Settings, databases: Databases) -> Iterator[Tools]:
    with Decoder() as decoder:
        yield Tools(
            databases=databases,
            vault=Vault(databases.keystore, settings.kek),
            blobs=FolderBlobs(settings.blob_dir),
            decoder=decoder,
            now=jobs.utc_now,
        )
