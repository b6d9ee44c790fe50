"""Labels that leave: what people settled (`settled`), sealed as a bundle and registered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from models.backbone import unpacked
from moderation import bundles
from moderation.domain.agreement import Agreement
from moderation.domain.content import ItemState
from moderation.domain.errors import InvalidInput, NotFound
from moderation.governance import audit, lineage
from moderation.governance.erasing.trained import key_of, reference
from moderation.governance.restriction import restricted, set_apart
from moderation.review import held_back, likeness, quality
from moderation.review.held_back import HeldBack
from moderation.review.settled import CATEGORIES, Label, Settled, Source, labels
from moderation.storage import items as queue
from moderation.storage.database import among, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Bundle, BundleItem, Item, Part, PartFeature
from moderation.storage.vault import Vault

__all__ = ["CATEGORIES", "DEFAULT_DAYS", "MOST_DAYS", "Exported", "Label", "Settled", "Source", "Wanted", "end",
           "end_expired", "export", "key_of", "labels", "listing", "reference"]  # fmt: skip

DEFAULT_DAYS = 90
MOST_DAYS = 365
RESAMPLES = 100
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which labels are to leave, and for how many days: those of texts, or of `pictures` as their vectors.

    With `client` only of what that content service posted. With `for_proof` half of what the audit drew stays,
    always the same half: what a model has learned from proves nothing of it.
    """

    since: datetime
    until: datetime
    category: str | None = None
    days: int = DEFAULT_DAYS
    pictures: bool = False
    client: str | None = None
    for_proof: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle as it was registered. `left_out`: labelled items that are not of the kind that was wanted.

    `held`: judged items that stayed because they are in doubt. `for_proof`: audited ones that stayed to prove by.
    `agreement` of people in the period, by category.
    """

    id: UUID
    rows: int
    left_out: int
    expires_at: datetime
    held: HeldBack
    agreement: Mapping[str, Agreement]
    for_proof: int = 0


@dataclass(slots=True)
class _Members:
    """Who is in a bundle (item -> author), and how many labelled items are not."""

    authors: dict[UUID, UUID] = field(default_factory=dict)
    left_out: int = 0
    for_proof: int = 0


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
    held = held_back.counted(session, wanted.since, wanted.until)
    agreed = quality.agreement(session, wanted.since, wanted.until, resamples=RESAMPLES).categories
    rows = _rows(session, vault, wanted, identifier, members, now)
    sealed = bundles.seal(path, rows, key, identifier=identifier, created_at=now, expires_at=expires)
    try:
        if not members.authors:
            raise InvalidInput("There is no label of this kind in this period; nothing was written.")
        sealed, key = _without_ended(session, vault, path, sealed, key, members, now)
        bundles.write_key(key_path, identifier, key)
        _register(session, vault, sealed, key, members, wanted, actor, expires, now, held, agreed)
        session.get_one(Bundle, identifier).path = str(path.absolute())
        session.get_one(Bundle, identifier).key_path = str(key_path.absolute())
    except BaseException:
        path.unlink(missing_ok=True)
        key_path.unlink(missing_ok=True)
        raise
    return Exported(identifier, sealed.rows, members.left_out, expires, held, agreed, members.for_proof)


def stays_for_proof(label: Label) -> bool:
    """Whether a label of the audit is of the half that no round of learning learns from."""
    return label.source is Source.AUDIT and lineage.stays_for_proof(label.item_id)


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
    period = {"since": wanted.since, "until": wanted.until}
    found = list(labels(session, now, **period, category=wanted.category, client=wanted.client))
    if wanted.for_proof:
        kept = [one for one in found if stays_for_proof(one)]
        members.for_proof = len(kept)
        found = [one for one in found if not stays_for_proof(one)]
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
                # Drawn, and then not of the half that stays.
                "propensity": label.propensity
                / (2 if wanted.for_proof and label.source is Source.AUDIT else 1),
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
    held: HeldBack,
    agreed: Mapping[str, Agreement],
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
        "client": wanted.client,
        "held_back": {"look_again": held.look_again, "contested": held.contested},
        "agreement": {name: one.alpha for name, one in agreed.items() if one.alpha is not None},
    }
    audit.record(session, [audit.Event(actor, "labels.exported", "bundle", str(sealed.id), details)], now)


def listing(session: Session) -> Sequence[Bundle]:
    """Every bundle that ever left, the newest first."""
    return session.scalars(select(Bundle).order_by(Bundle.id.desc())).all()


def end(session: Session, bundle_id: UUID, actor: str, now: datetime) -> None:
    """End a bundle: forget its key and what it holds. Copies of the files are for whoever has them to delete.

    What it held is remembered as long as a model serves that learned from it: an erasure must mark that model.

    Raises:
        NotFound: there is no such bundle, or it has ended.
    """
    bundle = session.get(Bundle, bundle_id, with_for_update=True)
    if bundle is None or bundle.ended_at is not None:
        raise NotFound("There is no such bundle, or it has ended; `moderation labels list` shows them.")
    bundle.ended_at, bundle.key = now, None
    if not lineage.still_used(session, bundle_id):
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
