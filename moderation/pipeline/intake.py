"""Accept items once: the same key and body get the same answer, however often and however concurrently.

Works on a whole request at a time, because a round trip to each of two databases per item would cost more
than the screening itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from moderation.domain import retention
from moderation.domain.content import ImagePart, ItemState, Submission, TextPart
from moderation.domain.errors import Conflict, Gone, InvalidInput, Refusal
from moderation.domain.policy import Policy
from moderation.governance import audit, holds
from moderation.governance.erasing import tombstones
from moderation.storage import items as queue
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import among, insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Author, IdempotencyKey, Item, Part, WebhookEndpoint
from moderation.storage.vault import Key, Vault

IDEMPOTENCY_DAYS = 30


@dataclass(frozen=True, slots=True)
class Request:
    """One submission as it arrived: `key` is the Idempotency-Key, or else the external id."""

    submission: Submission
    key: str


_Authors = tuple[dict[bytes, UUID], set[UUID]]
"""The ids of authors by digest, and who of them is under a hold."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An item's id. `fresh` is False where the same request had been accepted before."""

    id: UUID
    fresh: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A request with its digests and the id it will have if nobody was here before."""

    index: int
    submission: Submission
    id: UUID
    key_digest: bytes
    body_digest: bytes
    external_digest: bytes
    author_digest: bytes
    callback_id: UUID | None


def accept(
    session: Session,
    vault: Vault,
    blobs: FolderBlobs,
    policy: Policy,
    client: str,
    requests: Sequence[Request],
    now: datetime,
) -> list[Accepted | Refusal]:
    """Store each request or refuse it on its own; the answers are in the order of `requests`.

    Nothing is readable until the caller commits. Keys are created in the keystore before that: a key
    without an item is harmless.
    """
    answers: dict[int, Accepted | Refusal] = {}
    candidates = _candidates(session, vault, client, requests, answers, now)
    queue.lock_posts(session, {candidate.external_digest for candidate in candidates})
    # Their rows are locked before the tombstones are read: an erasure that was not seen here waits for us.
    seen = _seen_authors(session, client, {candidate.author_digest for candidate in candidates})
    candidates = _refuse_gone(session, client, candidates, answers, now)
    fresh = _claim_keys(session, client, candidates, answers, now)
    if fresh:
        _store(session, vault, blobs, policy, client, fresh, seen, now)
        answers.update({candidate.index: Accepted(candidate.id, fresh=True) for candidate in fresh})
    return [answers[index] for index in range(len(requests))]


def _candidates(
    session: Session,
    vault: Vault,
    client: str,
    requests: Sequence[Request],
    answers: dict[int, Accepted | Refusal],
    now: datetime,
) -> list[_Candidate]:
    endpoints = _callbacks(
        session, client, {r.submission.callback for r in requests if r.submission.callback}
    )
    candidates = []
    for index, request in enumerate(requests):
        post = request.submission
        if post.callback is not None and post.callback not in endpoints:
            answers[index] = InvalidInput(
                "callback names no webhook endpoint of yours; register it at /v1/webhook-endpoints.",
                code="unknown_callback",
            )
            continue
        candidates.append(
            _Candidate(
                index=index,
                submission=post,
                id=new_id(now),
                key_digest=vault.digest("idempotency", client, request.key),
                body_digest=vault.digest("body", client, _fingerprint(post)),
                external_digest=external_digest(vault, client, post.external_id),
                author_digest=vault.digest("author", client, post.author),
                callback_id=endpoints.get(post.callback) if post.callback else None,
            )
        )
    return candidates


def external_digest(vault: Vault, client: str, external_id: str) -> bytes:
    """The digest under which a client's own id of a post can be found again."""
    return vault.digest("external", client, external_id)


def _callbacks(session: Session, client: str, names: set[str]) -> dict[str, UUID]:
    if not names:
        return {}
    rows = session.execute(
        select(WebhookEndpoint.name, WebhookEndpoint.id).where(
            WebhookEndpoint.client == client, WebhookEndpoint.name.in_(names)
        )
    )
    return dict(rows.all())


def _fingerprint(post: Submission) -> bytes:
    """Two requests have one fingerprint if and only if they say the same; pictures enter by SHA-256."""
    said = [
        post.external_id,
        post.author,
        post.kind,
        post.callback,
        post.lane,
        post.posted_at.isoformat() if post.posted_at else None,
        [post.context.thread, post.context.parent, post.context.reach, post.context.language],
        [
            ["text", part.name, part.text]
            if isinstance(part, TextPart)
            else ["image", part.name, sha256(part.data).hexdigest()]
            for part in post.parts
        ],
    ]
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse_gone(
    session: Session,
    client: str,
    candidates: Sequence[_Candidate],
    answers: dict[int, Accepted | Refusal],
    now: datetime,
) -> list[_Candidate]:
    """A post that its content service deleted, or of an author who was erased, does not come back by a late retry.

    One whose retention period ended may: a later revision of it is a new item like any other.
    """
    posts = [candidate.external_digest for candidate in candidates]
    authors = [candidate.author_digest for candidate in candidates]
    gone = tombstones.buried(session, client, posts, authors, now)
    for candidate in candidates:
        if candidate.author_digest in gone.authors:
            answers[candidate.index] = Gone(
                "The author of this post was erased; nothing of theirs is accepted for a while.",
                code="author_erased",
            )
        elif candidate.external_digest in gone.posts:
            answers[candidate.index] = Gone(
                "This post was deleted; submit a new one under another external_id.", code="deleted"
            )
    return [candidate for candidate in candidates if candidate.index not in answers]


def _claim_keys(
    session: Session,
    client: str,
    candidates: Sequence[_Candidate],
    answers: dict[int, Accepted | Refusal],
    now: datetime,
) -> list[_Candidate]:
    """Insert the idempotency keys; who comes second waits for the first and then gets its answer."""
    first: dict[bytes, _Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.key_digest, candidate)
    inserted: set[bytes] = set()
    if first:
        # One order for everybody, so that two batches never wait for each other.
        ordered = [first[digest] for digest in sorted(first)]
        values = {
            "client": client,
            "keys": [candidate.key_digest for candidate in ordered],
            "bodies": [candidate.body_digest for candidate in ordered],
            "items": [candidate.id for candidate in ordered],
            "expires": now + timedelta(days=IDEMPOTENCY_DAYS),
        }
        inserted = set(session.execute(_CLAIM_KEYS, values).scalars())
    known = _known_keys(session, client, [c.key_digest for c in candidates if c.key_digest not in inserted])
    known.update({digest: (first[digest].body_digest, first[digest].id) for digest in inserted})
    gone = _gone(session, {item for _, item in known.values()} - {c.id for c in candidates}, now)
    fresh = []
    for candidate in candidates:
        body_digest, item_id = known[candidate.key_digest]
        if item_id == candidate.id:
            fresh.append(candidate)
        elif item_id in gone:
            answers[candidate.index] = Gone(
                "This request was accepted before and its item is gone; send a new Idempotency-Key.",
                code="deleted",
            )
        elif body_digest == candidate.body_digest:
            answers[candidate.index] = Accepted(item_id, fresh=False)
        else:
            answers[candidate.index] = Conflict(
                "This key was used for another body; send an Idempotency-Key of its own for a new revision.",
                code="idempotency_conflict",
            )
    return fresh


_CLAIM_KEYS = text("""
    INSERT INTO idempotency_keys (client, key_digest, body_digest, item_id, expires_at)
    SELECT :client, new.key, new.body, new.item, :expires
    FROM unnest(CAST(:keys AS bytea[]), CAST(:bodies AS bytea[]), CAST(:items AS uuid[])) AS new(key, body, item)
    ON CONFLICT DO NOTHING RETURNING key_digest
""")


def _known_keys(session: Session, client: str, digests: Sequence[bytes]) -> dict[bytes, tuple[bytes, UUID]]:
    if not digests:
        return {}
    rows = session.execute(
        select(IdempotencyKey.key_digest, IdempotencyKey.body_digest, IdempotencyKey.item_id).where(
            IdempotencyKey.client == client, among(IdempotencyKey.key_digest, digests)
        )
    )
    return {key: (body, item) for key, body, item in rows}


def _gone(session: Session, ids: Collection[UUID], now: datetime) -> set[UUID]:
    """Those of `ids` that are deleted or expired, or of which not even a row is left."""
    if not ids:
        return set()
    live = select(Item.id).where(among(Item.id, ids), Item.state != ItemState.DELETED, Item.expires_at > now)
    return set(ids) - set(session.scalars(live))


def _store(
    session: Session,
    vault: Vault,
    blobs: FolderBlobs,
    policy: Policy,
    client: str,
    fresh: Sequence[_Candidate],
    seen: _Authors,
    now: datetime,
) -> None:
    authors, on_hold = _authors(session, vault, client, fresh, seen, now)
    of = {c.id: authors[c.author_digest] for c in fresh}
    keys = vault.create_item_keys(of, now)
    clock = policy.retention.classes[policy.retention.received]
    # Their rows are locked: no hold on everything of an author begins or ends before we commit.
    held = holds.of_authors(session, on_hold) if on_hold else {}
    insert_many(
        session,
        Item,
        [_item_row(c, client, of[c.id], keys[c.id], clock, len(held.get(of[c.id], ())), now) for c in fresh],
    )
    if held:
        holds.note_new(session, of, held)
    written: list[str] = []
    try:
        rows = [row for c in fresh for row in _part_rows(c, keys[c.id], blobs, written)]
        insert_many(session, Part, rows)
        events = [audit.Event(f"client:{client}", "item.received", "item", str(c.id)) for c in fresh]
        audit.record(session, events, now)
        queue.notify(session, queue.ITEMS_CHANNEL)
    except BaseException:
        for reference in written:
            blobs.destroy(reference)
        raise


def _authors(
    session: Session, vault: Vault, client: str, fresh: Sequence[_Candidate], seen: _Authors, now: datetime
) -> _Authors:
    """The id of each author by digest, creating those seen for the first time; and who of them is under a hold."""
    references = {c.author_digest: c.submission.author for c in fresh}
    known, on_hold = seen
    missing = {digest: new_id(now) for digest in sorted(references) if digest not in known}
    if missing:
        keys = vault.author_keys(list(missing.values()), now)
        rows = [
            {
                "id": author,
                "client": client,
                "reference_digest": digest,
                "reference": keys[author].encrypt(
                    references[digest].encode(), "authors", "reference", str(author)
                ),
                "created_at": now,
            }
            for digest, author in missing.items()
        ]
        session.execute(upsert(Author).on_conflict_do_nothing(), rows)
        known, on_hold = _known_authors(session, client, references)
    return known, on_hold


def _seen_authors(session: Session, client: str, digests: Collection[bytes]) -> _Authors:
    """Those of the authors who are known already, their rows locked.

    Who is not known can't be locked by a row. Nobody else creates them until we commit, so that none is erased
    between the look at the tombstones and our first item of theirs.
    """
    known, on_hold = _known_authors(session, client, digests)
    unknown = set(digests) - known.keys()
    if not unknown:
        return known, on_hold
    queue.lock_posts(session, unknown)
    later, held_later = _known_authors(session, client, unknown)
    return known | later, on_hold | held_later


def _known_authors(session: Session, client: str, digests: Collection[bytes]) -> _Authors:
    rows = session.execute(
        select(Author.reference_digest, Author.id, Author.holds)
        .where(Author.client == client, among(Author.reference_digest, digests))
        # Shared until we commit: nobody forgets an author whose item is just being accepted.
        .with_for_update(read=True, key_share=True)
    ).all()
    return {digest: author for digest, author, _ in rows}, {author for _, author, count in rows if count}


def _item_row(
    candidate: _Candidate,
    client: str,
    author: UUID,
    key: Key,
    clock: retention.RetentionClass,
    held: int,
    now: datetime,
) -> dict[str, object]:
    post = candidate.submission
    details = {"external_id": post.external_id, "thread": post.context.thread, "parent": post.context.parent}
    return {
        "id": candidate.id,
        "client": client,
        "author_id": author,
        "external_digest": candidate.external_digest,
        "details": key.encrypt(json.dumps(details).encode(), "items", "details", str(candidate.id)),
        "kind": post.kind,
        "language": post.context.language,
        "reach": post.context.reach,
        "posted_at": post.posted_at or now,
        "received_at": now,
        "callback_id": candidate.callback_id,
        "lane": post.lane,
        "state": ItemState.RECEIVED,
        "attempts": 0,
        "not_before": now,
        "retention_class": clock.name,
        "expires_at": retention.due(clock, now, None),
        "holds": held,
    }


def _part_rows(
    candidate: _Candidate, key: Key, blobs: FolderBlobs, written: list[str]
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for position, part in enumerate(candidate.submission.parts):
        place = (str(candidate.id), str(position))
        row: dict[str, object] = {
            "item_id": candidate.id,
            "position": position,
            "name": part.name,
            "content": None,
            "blob": None,
        }
        if isinstance(part, ImagePart):
            reference = blobs.put(key.encrypt(part.data, "parts", "blob", *place))
            written.append(reference)
            row |= {"kind": "image", "media_type": part.media_type, "size": len(part.data), "blob": reference}
        else:
            content = key.encrypt(part.text.encode(), "parts", "content", *place)
            row |= {"kind": "text", "media_type": "text/plain", "size": len(part.text), "content": content}
        rows.append(row)
    return rows
