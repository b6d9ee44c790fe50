"""Labels for training: derived each time from the log of opinions and decisions, and sealed when they leave.

An item has a label once people have settled what it is: the decision in force is backed by at least one opinion
that was not undone, and nothing about it is open. What a label leaves unsaid is unknown: somebody who found that
an item breaks one rule has not judged the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, exists, or_, select
from sqlalchemy.orm import Session

from models.backbone import unpacked
from moderation import bundles
from moderation.domain.cases import MINORS, CaseKind, CaseReason, CaseState, Stage, Verdict
from moderation.domain.content import ItemState
from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.routing import Route
from moderation.domain.signals import Category
from moderation.governance import audit
from moderation.governance.erasing.trained import key_of, reference
from moderation.governance.restriction import restricted, set_apart
from moderation.review import likeness
from moderation.review.appealed import AppealState
from moderation.storage import items as queue
from moderation.storage.database import among, insert_many
from moderation.storage.ids import lower_bound, new_id
from moderation.storage.tables import (
    Appeal,
    Bundle,
    BundleItem,
    Case,
    Decision,
    Item,
    Opinion,
    Part,
    PartFeature,
    Report,
)
from moderation.storage.vault import Vault

__all__ = ["CATEGORIES", "DEFAULT_DAYS", "MOST_DAYS", "Exported", "Label", "Settled", "Source", "Wanted", "end",
           "end_expired", "export", "key_of", "labels", "listing", "reference"]  # fmt: skip

CATEGORIES = tuple(category for category in Category if category not in MINORS)
DEFAULT_DAYS = 90
MOST_DAYS = 365
_AT_ONCE = 500


class Source(StrEnum):
    """How an item came before people; the most telling one first where there are several."""

    REVIEW = "review"  # routed to people
    AUDIT = "audit"
    SAMPLE = "sample"
    SECOND_OPINION = "second_opinion"
    REQUESTED = "requested"  # somebody chose it for a check
    REPORT = "report"
    APPEAL = "appeal"


class Settled(StrEnum):
    """How far people agreed."""

    SINGLE = "single"  # one person judged
    AGREED = "agreed"  # several, all of one verdict
    ADJUDICATED = "adjudicated"  # they differed, or somebody escalated, and a lead settled it
    OVERRULED = "overruled"  # they differed, and more opinions or an appeal decided


@dataclass(frozen=True, slots=True)
class Label:
    """What people found of one item: per category whether it breaks that rule, absent where nobody judged.

    `propensity` is the probability with which the item came before people by way of `source`; of what nobody
    drew (requests, reports, appeals) it is not known and stands as 1. `score_shown` if anybody who backs the
    label saw a score before.
    """

    item_id: UUID
    author_id: UUID
    labels: Mapping[str, int]
    policy_version: int
    propensity: float
    score_shown: bool
    reviewers: int
    agreement: Settled
    source: Source


def labels(
    session: Session, now: datetime, *, since: datetime, until: datetime, category: str | None = None
) -> Iterator[Label]:
    """Every label settled in the period, the oldest first; with `category` those in which that one is known.

    Left out: minors and whatever a case, report, opinion or decision ever connected with them; authors who are
    suspected to be one, or who restricted what is done with what they posted; items whose
    content is gone; items with an appeal, a dispute or an undo window open; opinions that were undone, came late,
    or answered a golden case.
    """
    settled = session.execute(_settled(now, since, until)).all()
    for start in range(0, len(settled), _AT_ONCE):
        chunk = settled[start : start + _AT_ONCE]
        given = _opinions(session, [row.id for row in chunk])
        for item, author, verdict in chunk:
            label = _label(item, author, verdict, given[item])
            if label is not None and (category is None or category in label.labels):
                yield label


def _settled(now: datetime, since: datetime, until: datetime) -> Select[UUID, UUID, str]:
    """Items with a decision in force that nothing calls into question, and that have nothing to do with minors."""
    open_case = exists().where(
        Case.item_id == Item.id,
        Case.state == CaseState.OPEN,
        Case.kind != CaseKind.GOLDEN,
        # A check that nobody has begun to answer leaves the label as it is.
        or_(Case.kind != CaseKind.QUALITY, Case.stage != Stage.REVIEW),
    )
    judged = exists().where(
        Opinion.item_id == Item.id,
        Opinion.undone_at.is_(None),
        Opinion.late.is_(False),
        Opinion.id >= lower_bound(since),
        Opinion.id < lower_bound(until),
    )
    appealed = exists().where(Appeal.item_id == Item.id, Appeal.state == AppealState.OPEN)
    return (
        select(Item.id, Item.author_id, Decision.route)
        .join(Decision, Decision.item_id == Item.id)
        .where(
            Item.state.in_([ItemState.DONE, ItemState.DEAD]),
            Item.destroyed_at.is_(None),
            Item.expires_at > now,
            Decision.superseded_at.is_(None),
            Decision.effective_at <= now,
            Decision.route.in_(list(Verdict)),
            judged,
            ~open_case,
            ~appealed,
            *_far_from_minors(),
            ~set_apart(Item.author_id),
        )
        .order_by(Item.id)
    )


def _far_from_minors() -> list[ColumnElement[bool]]:
    minors = list(MINORS)
    case = exists().where(
        Case.item_id == Item.id, or_(Case.category.in_(minors), Case.reason == CaseReason.MINOR)
    )
    opinion = exists().where(Opinion.item_id == Item.id, Opinion.category.in_(minors))
    report = exists().where(Report.item_id == Item.id, Report.category.in_(minors))
    return [~case, ~opinion, ~report, or_(Decision.category.is_(None), Decision.category.not_in(minors))]


@dataclass(frozen=True, slots=True)
class _Given:
    """One opinion that counts, with the case it was given in."""

    person: UUID
    stage: str
    verdict: str
    category: str | None
    score_shown: bool
    policy_version: int
    propensity: float
    source: Source


def _opinions(session: Session, ids: Sequence[UUID]) -> dict[UUID, list[_Given]]:
    """The opinions on `ids` that count, in the order they were given."""
    rows = session.execute(
        select(Opinion, Case.kind, Case.reason, Decision.route)
        .join(Case, Case.id == Opinion.case_id)
        .join(Decision, Decision.id == Case.decision_id)
        .where(
            among(Opinion.item_id, ids),
            Opinion.undone_at.is_(None),
            Opinion.late.is_(False),
            Case.kind != CaseKind.GOLDEN,
        )
        .order_by(Opinion.id)
    )
    given: dict[UUID, list[_Given]] = defaultdict(list)
    for opinion, kind, reason, asked_about in rows:
        given[opinion.item_id].append(
            _Given(
                opinion.person_id,
                opinion.stage,
                opinion.verdict,
                opinion.category,
                opinion.score_shown,
                opinion.policy_version,
                opinion.propensity,
                _source(kind, reason, asked_about),
            )
        )
    return given


def _source(kind: str, reason: str, asked_about: str) -> Source:
    """How an item came before people. `asked_about` is the route of the decision that its case was opened with."""
    if kind == CaseKind.QUALITY:
        return Source(reason) if reason in set(Source) else Source.SECOND_OPINION
    if kind == CaseKind.APPEAL:
        return Source.APPEAL
    return Source.REVIEW if asked_about == Route.REVIEW else Source.REPORT


_RANK = {source: rank for rank, source in enumerate(Source)}
_DRAWN = {Source.AUDIT, Source.SAMPLE, Source.SECOND_OPINION}


def _label(item: UUID, author: UUID, verdict: str, given: Sequence[_Given]) -> Label | None:
    backing = [one for one in given if one.verdict == verdict]
    known = _known(verdict, backing)
    if not known:
        return None
    first = min(given, key=lambda one: _RANK[one.source])
    return Label(
        item_id=item,
        author_id=author,
        labels=known,
        policy_version=backing[-1].policy_version,
        propensity=first.propensity if first.source in _DRAWN else 1.0,
        score_shown=any(one.score_shown for one in backing),
        reviewers=len({one.person for one in given}),
        agreement=_agreement(given, backing),
        source=first.source,
    )


def _known(verdict: str, backing: Sequence[_Given]) -> dict[str, int]:
    """What those who back the verdict said of each category: allow means that no rule is broken."""
    if verdict == Verdict.ALLOW:
        return dict.fromkeys(CATEGORIES, 0) if backing else {}
    return {one.category: 1 for one in backing if one.category in set(CATEGORIES)}


def _agreement(given: Sequence[_Given], backing: Sequence[_Given]) -> Settled:
    if any(one.stage == Stage.ADJUDICATION for one in backing):
        return Settled.ADJUDICATED
    if len({one.person for one in given}) == 1:
        return Settled.SINGLE
    return Settled.AGREED if len(backing) == len(given) else Settled.OVERRULED


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which labels are to leave, and for how many days: those of texts, or of `pictures` as their vectors."""

    since: datetime
    until: datetime
    category: str | None = None
    days: int = DEFAULT_DAYS
    pictures: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle as it was registered. `left_out`: labelled items that are not of the kind that was wanted."""

    id: UUID
    rows: int
    left_out: int
    expires_at: datetime


@dataclass(slots=True)
class _Members:
    """Who is in a bundle (item -> author), and how many labelled items are not."""

    authors: dict[UUID, UUID] = field(default_factory=dict)
    left_out: int = 0


def export(
    session: Session, vault: Vault, path: Path, key_path: Path, wanted: Wanted, actor: str, now: datetime
) -> Exported:
    """Seal the labels wanted into `path` and its key into `key_path`, and register the bundle.

    Items with pictures stay: people judged the whole, and the text alone may be harmless. With `wanted.pictures` it
    is the other way round: only items of one picture and nothing else leave, as the vector that a backbone made of
    it. The picture itself never does.

    Raises:
        InvalidInput: the category, the period or the number of days can't be; nothing is there to be exported;
            or one of the files exists.
    """
    _check(wanted, path, key_path)
    identifier, key, members = new_id(now), bundles.new_key(), _Members()
    expires = now + timedelta(days=wanted.days)
    rows = _rows(session, vault, wanted, identifier, members, now)
    sealed = bundles.seal(path, rows, key, identifier=identifier, created_at=now, expires_at=expires)
    try:
        if not members.authors:
            raise InvalidInput("There is no label of this kind in this period; nothing was written.")
        sealed, key = _without_ended(session, vault, path, sealed, key, members, now)
        bundles.write_key(key_path, identifier, key)
        _register(session, vault, sealed, key, members, wanted, actor, expires, now)
        session.get_one(Bundle, identifier).path = str(path.absolute())
        session.get_one(Bundle, identifier).key_path = str(key_path.absolute())
    except BaseException:
        path.unlink(missing_ok=True)
        key_path.unlink(missing_ok=True)
        raise
    return Exported(identifier, sealed.rows, members.left_out, expires)


def _check(wanted: Wanted, path: Path, key_path: Path) -> None:
    if wanted.category is not None and wanted.category not in set(CATEGORIES):
        raise InvalidInput(f"The category must be one of {', '.join(CATEGORIES)}.")
    if wanted.since >= wanted.until:
        raise InvalidInput("The period must begin before it ends.")
    if not 1 <= wanted.days <= MOST_DAYS:
        raise InvalidInput(f"A bundle lasts 1 to {MOST_DAYS} days.")
    for file in (path, key_path):
        if file.exists():
            raise InvalidInput(f"{file} exists already; choose another name.")


def _rows(
    session: Session, vault: Vault, wanted: Wanted, bundle: UUID, members: _Members, now: datetime
) -> Iterator[dict[str, Any]]:
    found = list(labels(session, now, since=wanted.since, until=wanted.until, category=wanted.category))
    for start in range(0, len(found), _AT_ONCE):
        chunk = found[start : start + _AT_ONCE]
        ids = [label.item_id for label in chunk]
        said: Mapping[UUID, Mapping[str, Any]] = (
            _vectors(session, vault, ids) if wanted.pictures else _texts(session, vault, ids)
        )
        for label in chunk:
            content = said.get(label.item_id)
            if not content:
                members.left_out += 1
                continue
            members.authors[label.item_id] = label.author_id
            yield {
                "ref": reference(vault, bundle, label.item_id),
                **content,
                "labels": dict(label.labels),
                "policy_version": label.policy_version,
                "propensity": label.propensity,
                "score_shown": label.score_shown,
                "reviewers": label.reviewers,
                "agreement": label.agreement,
                "source": label.source,
            }


def _texts(session: Session, vault: Vault, ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """The text of those of `ids` that are nothing but text and can be read, several parts line by line."""
    keys = vault.item_keys(ids)
    parts: dict[UUID, list[Part]] = defaultdict(list)
    for part in queue.parts_of(session, ids):
        parts[part.item_id].append(part)
    texts = {}
    for item, mine in parts.items():
        if item in keys and all(part.kind == "text" and part.content is not None for part in mine):
            opened = [
                keys[item].decrypt(part.content or b"", "parts", "content", str(item), str(part.position))
                for part in mine
            ]
            if text := "\n".join(one.decode() for one in opened):
                texts[item] = {"text": text}
    return texts


def _vectors(session: Session, vault: Vault, ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """The vector of those of `ids` that are one picture and nothing else, and by which backbone it was made."""
    counted: dict[UUID, list[str]] = defaultdict(list)
    for part in queue.parts_of(session, ids, posted=True):
        counted[part.item_id].append(part.kind)
    alone = [item for item, kinds in counted.items() if kinds == ["image"]]
    keys = vault.item_keys(alone)
    rows = session.scalars(
        select(PartFeature).where(among(PartFeature.item_id, alone), PartFeature.name == likeness.EMBEDDING)
    )
    vectors: dict[UUID, dict[str, Any]] = {}
    for row in rows:
        if row.item_id not in keys:
            continue
        place = likeness.place(row.name, row.item_id, row.position)
        vector = unpacked(keys[row.item_id].decrypt(row.value, *place))
        # Four digits: what is stored has no more.
        shown = [round(float(number), 5) for number in vector]
        vectors[row.item_id] = {"embedding": shown, "maker": row.maker}
    return vectors


def _without_ended(
    session: Session,
    vault: Vault,
    path: Path,
    sealed: bundles.Sealed,
    key: bytes,
    members: _Members,
    now: datetime,
) -> tuple[bundles.Sealed, bytes]:
    """The bundle without what was deleted while it was being written; the rest can't end before it is registered.

    Whoever deletes an item waits for this lock, and then finds the item in the bundle.
    """
    # Whoever restricts an author waits for this one, and then finds the bundle.
    restricted(session, set(members.authors.values()), lock=True)
    living = set(
        session.scalars(
            select(Item.id)
            .where(among(Item.id, list(members.authors)), Item.state.in_([ItemState.DONE, ItemState.DEAD]))
            .where(~set_apart(Item.author_id))
            .order_by(Item.id)
            .with_for_update(read=True)
        )
    )
    ended = [item for item in members.authors if item not in living]
    if not ended:
        return sealed, key
    for item in ended:
        del members.authors[item]
    fresh = bundles.new_key()
    refs = {reference(vault, sealed.id, item) for item in ended}
    return bundles.rewrite(path, key, fresh, refs, now), fresh


def _register(
    session: Session,
    vault: Vault,
    sealed: bundles.Sealed,
    key: bytes,
    members: _Members,
    wanted: Wanted,
    actor: str,
    expires: datetime,
    now: datetime,
) -> None:
    bundle = Bundle(
        id=sealed.id,
        created_at=now,
        created_by=actor,
        rows=sealed.rows,
        sha256=sealed.manifest_sha256,
        key=vault.account_key().encrypt(key, "bundles", "key", str(sealed.id)),
        expires_at=expires,
    )
    session.add(bundle)
    session.flush()
    rows = [
        {"bundle_id": sealed.id, "item_id": item, "author_id": author}
        for item, author in members.authors.items()
    ]
    insert_many(session, BundleItem, rows)
    details = {
        "rows": sealed.rows,
        "category": wanted.category,
        "holds": "pictures" if wanted.pictures else "texts",
        "since": wanted.since.isoformat(),
        "until": wanted.until.isoformat(),
        "expires": expires.isoformat(),
        "sha256": sealed.manifest_sha256,
    }
    audit.record(session, [audit.Event(actor, "labels.exported", "bundle", str(sealed.id), details)], now)


def listing(session: Session) -> Sequence[Bundle]:
    """Every bundle that ever left, the newest first."""
    return session.scalars(select(Bundle).order_by(Bundle.id.desc())).all()


def end(session: Session, bundle_id: UUID, actor: str, now: datetime) -> None:
    """End a bundle: forget its key and what it holds. Copies of the files are for whoever has them to delete.

    Raises:
        NotFound: there is no such bundle, or it has ended.
    """
    bundle = session.get(Bundle, bundle_id, with_for_update=True)
    if bundle is None or bundle.ended_at is not None:
        raise NotFound("There is no such bundle, or it has ended; `moderation labels list` shows them.")
    bundle.ended_at, bundle.key = now, None
    session.execute(delete(BundleItem).where(BundleItem.bundle_id == bundle_id))
    audit.record(session, [audit.Event(actor, "bundle.ended", "bundle", str(bundle_id))], now)


def end_expired(session: Session, now: datetime) -> int:
    """End every bundle whose time has come; how many."""
    due = session.scalars(
        select(Bundle.id)
        .where(Bundle.ended_at.is_(None), Bundle.expires_at <= now)
        .order_by(Bundle.id)
        .with_for_update(skip_locked=True)
    ).all()
    for identifier in due:
        end(session, identifier, audit.MACHINE, now)
    return len(due)
