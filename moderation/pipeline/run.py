"""Screen a batch: the only place that knows the order of the stages.

Read under the lease, think without a transaction, then write everything in one, only for the rows that
still carry the token. Whatever happened in between, a stale worker commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.backbone import ImageEmbedder
from models.heads import ImageHead
from models.registry import Manifest
from models.runtime import Classifier
from models.serving import Trials
from models.text import TextClassifier
from models.text_heads import TextHead
from moderation import metrics
from moderation.domain.content import ItemState
from moderation.domain.decisions import Outcome
from moderation.domain.policy import Policy
from moderation.domain.promises import InForce
from moderation.domain.routing import Route
from moderation.domain.signals import DetectorStatus
from moderation.features import ocr, sketch
from moderation.features.decode import FINE_PIXELS, MAX_FRAMES, SIDE, Decoder
from moderation.features.ocr import Reader
from moderation.features.sketch import Sketch
from moderation.governance import bank_guard, certification, restriction, shadows
from moderation.governance.policies import PolicyCache
from moderation.pipeline.audit_draws import Budget
from moderation.pipeline.batch import Batch, part_name
from moderation.pipeline.classify_image import Rgb, classify_image, shadow_image
from moderation.pipeline.classify_text import classify_text, shadow_text
from moderation.pipeline.embed_image import embed_image
from moderation.pipeline.match import fingerprint, match, match_pictures, match_texts
from moderation.pipeline.matchers import Matchers
from moderation.pipeline.normalise import normalise
from moderation.pipeline.notice import notice
from moderation.pipeline.pictures import PictureBanks
from moderation.pipeline.read import read
from moderation.pipeline.route import NONE_IN_FORCE, route, unjudged
from moderation.review import bursts, clusters, decisions, likeness, reports, suspicion
from moderation.review.bursts import BurstRule, Said
from moderation.review.decisions import Recorded
from moderation.storage import items as queue
from moderation.storage import written
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.tables import Item, Part, SignalRow
from moderation.storage.vault import Key, Vault

# What a picture takes once it is decoded, at most, and what all those of a batch may.
PICTURE_BYTES = (MAX_FRAMES * SIDE * SIDE + FINE_PIXELS) * 3
BATCH_BYTES = 900_000_000
BATCH_CODE_POINTS = 400_000


@dataclass(frozen=True, slots=True)
class Tools:
    """What a screening process holds for its whole life."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    policies: PolicyCache
    decoder: Decoder
    text: Sequence[TextClassifier]
    image: Sequence[Classifier[Rgb]]
    dice: Callable[[], float]  # uniform in [0, 1): which automatic decisions people check
    banks: Matchers = field(default_factory=Matchers)
    pictures: PictureBanks = field(default_factory=PictureBanks)
    bursts: BurstRule = field(default_factory=BurstRule)
    backbone: Sequence[ImageEmbedder] = ()
    heads: Sequence[ImageHead] = ()  # over the vectors of `backbone`
    text_heads: Sequence[TextHead] = ()  # over what `text` reads
    trials: Trials = field(default_factory=Trials)  # shadows and canaries
    reader: Reader | None = None  # of the text in pictures; None: it is not read
    budget: Budget = field(default_factory=Budget)  # of blind checks

    @property
    def detectors(self) -> list[Manifest]:
        """The manifests of every classifier in use."""
        classifiers: list[Classifier[Any]] = [*self.text, *self.image, *self.heads]
        return [one.manifest for one in classifiers]


@dataclass(frozen=True, slots=True)
class Screened:
    """What examining a batch came to, before any of it is written.

    `in_force` are the certificates that it was routed by, and `again` routes it anew by others.
    """

    batch: Batch
    outcomes: Mapping[UUID, Outcome]
    policy: Policy
    in_force: InForce
    again: Callable[[InForce], Mapping[UUID, Outcome]]
    sketches: Sequence[Mapping[str, Any]] = ()
    features: Sequence[Mapping[str, Any]] = ()
    written: Sequence[Mapping[str, Any]] = ()


def examine(tools: Tools, token: UUID, ids: Sequence[UUID], now: datetime, lease: timedelta) -> Screened:
    """Take the batch in hand under its lease and run every stage over it; only the attempt is written.

    Raises:
        VaultError: a part does not open.
        Exception: whatever else breaks the batch as a whole; its items are then tried one by one.
    """
    with transaction(tools.databases.content, durable=False) as session:
        policy = tools.policies.current(session)
        in_force, scale = _in_force(session, policy, now), tools.budget.scale(session, policy, now)
        found = queue.parts_of(session, ids, posted=True)
        fitting = _fitting(ids, found)
        # Whoever keeps the lease alive does so every third of it.
        batch = Batch(queue.begin(session, token, fitting, now + lease * 2 / 3), now)
        held = [item.id for item in batch.items]
        for part in found:
            batch.kinds.setdefault(part.item_id, set()).add(part.kind)
        authors = restriction.restricted(session, {item.author_id for item in batch.items})
        batch.restricted = {item.id for item in batch.items if item.author_id in authors}
        # What no machine may judge is not even opened.
        shown = set(held) - batch.restricted
        parts = [part for part in found if part.item_id in shown]
        if len(fitting) < len(ids):
            queue.release(session, token, [one for one in ids if one not in set(fitting)], now)
    with _timed("normalise"):
        keys = tools.vault.item_keys(sorted(shown))
        normalise(batch, parts, keys, tools.blobs, tools.decoder)
    with _timed("read"):
        read(batch, tools.reader)
    with _timed("hash"):
        fingerprint(batch)
    _look(tools, batch)
    with _timed("route"):
        again = partial(route, batch, policy, tools.detectors, tools.dice, scale=scale)
        outcomes = again(in_force)
    with _timed("shadow"):
        # The verdict is made: what is only watched comes after it, and can't undo it.
        shadow_text(batch, tools.trials)
        shadow_image(batch, tools.trials)
    # Only what people decide is compared with its like: the rest does not pay for it.
    before_people = [
        item
        for item, outcome in outcomes.items()
        if outcome.routing.route is Route.REVIEW and item not in batch.restricted
    ]
    sketches = _sketches(tools.vault, batch, before_people)
    return Screened(
        batch,
        outcomes,
        policy,
        in_force,
        again,
        sketches,
        _features(batch, parts, keys),
        _written(batch, parts, keys),
    )


def _look(tools: Tools, batch: Batch) -> None:
    """Everything that finds something in the items of a batch: banks, models, rules."""
    with _timed("match"):
        _match(tools, batch)
    with _timed("classify_text"):
        classify_text(batch, tools.text, tools.text_heads, tools.trials)
    with _timed("classify_image"):
        classify_image(batch, tools.image, tools.trials)
    with _timed("embed_image"):
        embed_image(batch, tools.backbone, tools.heads, tools.trials)
    with _timed("notice"):
        notice(batch, _bursts(tools, batch), tools.bursts.minutes)


def _in_force(session: Session, policy: Policy, now: datetime) -> InForce:
    """What is certified at this moment; nobody is asked where the policy promises nothing."""
    promises = (rule.promise for rule in policy.categories.values())
    if all(one.wrong_at_most is None and one.missed_at_most is None for one in promises):
        return NONE_IN_FORCE
    return certification.in_force(session, policy, now)


def _match(tools: Tools, batch: Batch) -> None:
    """Look everything up in the banks; the search itself is done outside of any transaction."""
    with transaction(tools.databases.content) as session:
        banks = match(session, batch, tools.vault, tools.banks)
        known = tools.pictures.current(session, tools.vault, batch.now) if batch.asked else None
    proposed = known.propose(list(batch.asked.values())) if known is not None else []
    if any(proposed):
        with transaction(tools.databases.content) as session:
            match_pictures(session, batch, proposed)
    match_texts(batch, banks)


def _features(batch: Batch, parts: Sequence[Part], keys: Mapping[UUID, Key]) -> list[Mapping[str, Any]]:
    """What is kept of pictures to find their like again, as stored: under the item's key."""
    places = {(part.item_id, part.name): part.position for part in parts}
    return [
        likeness.row(keys[item], item, places[item, part], name, maker, value)
        for (item, part), made in batch.features.items()
        for name, (maker, value) in made.items()
    ]


def _written(batch: Batch, parts: Sequence[Part], keys: Mapping[UUID, Key]) -> list[Mapping[str, Any]]:
    """What stands in pictures, as stored: a part of its own, with the place of each line."""
    places = {(part.item_id, part.name): part.position for part in parts}
    return [
        written.row(keys[item], item, places[item, part], part_name(part), reading.text, ocr.layout(reading))
        for (item, part), reading in batch.written.items()
    ]


def _bursts(tools: Tools, batch: Batch) -> dict[tuple[UUID, str], int]:
    """The authors of each part that is in a burst, by item and part."""
    posted = {item.id: item for item in batch.items}
    said = [
        Said(posted[text.item].client, posted[text.item].author_id, posted[text.item].received_at, text.text,
             text.digest)
        for text in batch.texts
    ]  # fmt: skip
    if not any(len(one.text) >= tools.bursts.shortest for one in said):
        return {}
    with transaction(tools.databases.content, durable=False) as session:
        counted = bursts.count(session, tools.vault, said, tools.bursts)
    return {
        (text.item, text.part): authors
        for text, authors in zip(batch.texts, counted, strict=True)
        if authors >= tools.bursts.authors
    }


def _sketches(vault: Vault, batch: Batch, ids: Sequence[UUID]) -> list[Mapping[str, Any]]:
    """The sketches of `ids` as stored; none of an item with a part that could not be read."""
    made: dict[UUID, list[tuple[str, Sketch]]] = {item: [] for item in ids}
    for text in batch.texts:
        if text.item in made:
            made[text.item].append((text.part, sketch.of_text(text.text)))
    for image in batch.images:
        if image.picture is None:
            made.pop(image.item, None)
        elif image.item in made:
            made[image.item].append((image.part, sketch.of_picture(image.picture)))
    return [row for item, sketches in made.items() for row in clusters.rows(vault, item, sketches)]


def _fitting(ids: Sequence[UUID], parts: Sequence[Part]) -> list[UUID]:
    """Those of `ids` that can be examined together, at least one; the others wait for their turn.

    One item may bring a hundred animations, or a hundred long texts. Sixty-four such items at once would fill
    any machine's memory, or keep a worker from everybody else for an hour.
    """
    share = dict.fromkeys(ids, 0.0)
    for part in parts:
        share[part.item_id] += (
            (part.size + PICTURE_BYTES) / BATCH_BYTES
            if part.kind == "image"
            else part.size / BATCH_CODE_POINTS
        )
    total = list(accumulate(share.values()))
    return [one for index, one in enumerate(share) if index == 0 or total[index] <= 1.0]


def _still_certified(session: Session, screened: Screened, now: datetime) -> Mapping[UUID, Outcome]:
    """The outcomes; routed anew if a certificate that was in force when they were routed is not any more.

    Whoever voids one waits until this transaction is over, and this one for whoever is voiding: so nothing is ever
    decided under a certificate that was void before. What no certificate was there for waits for nobody.
    """
    if not screened.in_force.certificates:
        return screened.outcomes
    session.execute(select(func.pg_advisory_xact_lock_shared(certification.LOCK)))
    in_force = _in_force(session, screened.policy, now)
    gone = set(screened.in_force.certificates.values()) - set(in_force.certificates.values())
    return screened.again(in_force) if gone else screened.outcomes


def commit(session: Session, token: UUID, screened: Screened, now: datetime | None = None) -> list[Recorded]:
    """Write what a batch came to, for the items that still carry `token`; returns what was recorded.

    What was certified when it was examined must still be at `now`, by default when the batch was begun.
    """
    batch, policy = screened.batch, screened.policy
    # Before any row, as whoever voids a certificate does.
    certain = _still_certified(session, screened, now or batch.now)
    # Authors before items, as everywhere; whoever restricted one since this batch was begun is heard here.
    authors = restriction.restricted(session, {item.author_id for item in batch.items}, lock=True)
    late = {item.id for item in batch.items if item.author_id in authors} - batch.restricted
    outcomes = {**certain, **{item: unjudged() for item in late}}
    held = queue.lock_leased(session, token, [item.id for item in batch.items])
    kept = [item for item in batch.items if item.id in held]
    if not kept:
        return []
    decided = [(item, outcomes[item.id]) for item in kept]
    recorded = decisions.record(session, policy, decided, batch.now, kinds=batch.kinds)
    judged = [item for item in kept if item.id not in late]
    _store_signals(session, batch, judged)
    with_pictures = {item.id for item in judged if "image" in batch.kinds.get(item.id, ())}
    written.store(
        session, with_pictures, [row for row in screened.written if row["item_id"] in with_pictures]
    )
    queue.set_languages(session, {k: v for k, v in batch.languages.items() if k[0] in held - late})
    clusters.store(session, [row for row in screened.sketches if row["item_id"] in held - late])
    likeness.store(session, [row for row in screened.features if row["item_id"] in held - late])
    for item in judged:
        for signal in batch.signals.get(item.id, ()):
            if signal.status is DetectorStatus.FAILED:
                metrics.DETECTOR_FAILURES.labels(signal.detector).inc()
    suspicion.of_signals(session, policy, [(item, outcomes[item.id]) for item in kept], batch.now)
    reports.take_up(session, policy, kept, batch.now)
    queue.notify_decided(session, [one.item for one in recorded])
    bank_guard.count(
        session, [(item.author_id, batch.matches.get(item.id, ())) for item in judged], batch.now
    )
    return recorded


def give_back(
    session: Session,
    policy: Policy,
    token: UUID,
    ids: Sequence[UUID],
    now: datetime,
    max_attempts: int,
    retry: timedelta,
) -> list[Recorded]:
    """After a failure: items tried often enough go to people as dead letters, the others are tried again."""
    held = queue.lock_leased(session, token, ids)
    items = [item for item in queue.leased(session, token, ids) if item.id in held]
    spent = [item for item in items if item.attempts >= max_attempts]
    again = [item for item in items if item.attempts < max_attempts]
    for attempts in {item.attempts for item in again}:
        these = [item.id for item in again if item.attempts == attempts]
        # What nobody began is due at once.
        wait = retry * 2 ** (attempts - 1) if attempts else timedelta()
        queue.release(session, token, these, now + wait)
    return _bury(session, policy, spent, now)


def _bury(session: Session, policy: Policy, spent: Sequence[Item], now: datetime) -> list[Recorded]:
    if not spent:
        return []
    outcomes = [(item, decisions.unscreened(item.attempts)) for item in spent]
    recorded = decisions.record(session, policy, outcomes, now, ItemState.DEAD)
    reports.take_up(session, policy, spent, now)
    queue.notify_decided(session, [one.item for one in recorded])
    return recorded


def _store_signals(session: Session, batch: Batch, kept: Sequence[Item]) -> None:
    rows = [shadows.row(item.id, signal) for item in kept for signal in batch.signals.get(item.id, ())]
    # What decided nothing stands beside it under a name of its own.
    rows += [
        shadows.row(item.id, signal, shadow=True)
        for item in kept
        for signal in batch.shadow_signals.get(item.id, ())
    ]
    insert_many(session, SignalRow, rows)


@contextmanager
def _timed(stage: str) -> Iterator[None]:
    with metrics.STAGE_DURATION.labels(stage).time():
        yield
