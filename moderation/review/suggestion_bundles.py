"""Suggested labels for training: sealed as a bundle of their own, marked as what they are, for 30 days at most.

No person here judged them. They come apart from labels, so that nobody takes them for labels without saying so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation import bundles
from moderation.domain.errors import InvalidInput
from moderation.governance import audit
from moderation.governance.erasing.trained import reference
from moderation.governance.restriction import set_apart
from moderation.review.suggestions import KEPT, place
from moderation.storage.database import insert_many
from moderation.storage.ids import new_id
from moderation.storage.tables import Bundle, BundleItem, Suggestion
from moderation.storage.vault import Vault

SOURCE = "suggestion"
YES = 0.5  # from here on a suggested score says that the text is one of the category
_AT_ONCE = 500


def export(session: Session, vault: Vault, path: Path, key_path: Path, actor: str, now: datetime) -> Bundle:
    """Seal every suggestion that is kept into `path` and its key into `key_path`, and register the bundle.

    Raises:
        InvalidInput: there is none, or one of the files exists.
    """
    for file in (path, key_path):
        if file.exists():
            raise InvalidInput(f"{file} exists already; choose another name.")
    # Shared until we commit: whoever erases one waits, and then finds it in the bundle.
    kept = session.scalars(
        select(Suggestion)
        .where(Suggestion.expires_at > now, ~set_apart(Suggestion.author_id))
        .order_by(Suggestion.id)
        .with_for_update(read=True)
    ).all()
    identifier, key, members = new_id(now), bundles.new_key(), dict[UUID, UUID]()
    rows = _rows(vault, kept, identifier, members)
    expires = now + KEPT
    sealed = bundles.seal(path, rows, key, identifier=identifier, created_at=now, expires_at=expires)
    try:
        if not members:
            raise InvalidInput("There is no suggestion; nothing was written.")
        bundles.write_key(key_path, identifier, key)
        bundle = Bundle(
            id=identifier,
            created_at=now,
            created_by=actor,
            rows=sealed.rows,
            sha256=sealed.manifest_sha256,
            key=vault.account_key().encrypt(key, "bundles", "key", str(identifier)),
            expires_at=expires,
            path=str(path.absolute()),
            key_path=str(key_path.absolute()),
        )
        session.add(bundle)
        session.flush()
        listed = [
            {"bundle_id": identifier, "item_id": one, "author_id": author} for one, author in members.items()
        ]
        insert_many(session, BundleItem, listed)
        details = {"rows": sealed.rows, "source": SOURCE, "sha256": sealed.manifest_sha256}
        audit.record(
            session, [audit.Event(actor, "labels.exported", "bundle", str(identifier), details)], now
        )
    except BaseException:
        path.unlink(missing_ok=True)
        key_path.unlink(missing_ok=True)
        raise
    return bundle


def _rows(
    vault: Vault, kept: Sequence[Suggestion], bundle: UUID, members: dict[UUID, UUID]
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(kept), _AT_ONCE):
        chunk = kept[start : start + _AT_ONCE]
        keys = vault.item_keys([one.id for one in chunk])
        for one in chunk:
            if one.id not in keys:
                continue  # it is just being erased
            members[one.id] = one.author_id
            yield {
                "ref": reference(vault, bundle, one.id),
                "text": keys[one.id].decrypt(one.text, *place(one.id)).decode(),
                "labels": {category: int(score >= YES) for category, score in one.scores.items()},
                "policy_version": 0,  # nobody judged it by a policy
                "propensity": 1.0,
                "score_shown": True,  # its client may have seen ours
                "reviewers": 1,
                "source": SOURCE,
            }
