"""What an operator does from the command line: policies, banks, API keys. Each call owns its transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from moderation.domain.errors import InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.signals import BankKind
from moderation.governance import accounts, banks, invitations, people, policies
from moderation.review import labels
from moderation.review.labels import Exported, Wanted
from moderation.settings import Settings
from moderation.storage.database import connect, transaction
from moderation.storage.tables import ApiKey, Bundle
from moderation.storage.vault import Vault

if TYPE_CHECKING:
    from moderation.features.fingerprints import Kept

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Opened:
    """One transaction of an operator's: on the content database, with the vault and the time it happens at."""

    session: Session
    vault: Vault
    now: datetime


@contextmanager
def opened(settings: Settings) -> Iterator[Opened]:
    """The transaction of one command; committed at the end, rolled back on any exception."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        with transaction(databases.content) as session:
            yield Opened(session, Vault(databases.keystore, settings.kek), datetime.now(UTC))
    finally:
        databases.dispose()


def publish_policy(settings: Settings, document: str) -> Policy:
    """Publish a YAML document as the next version.

    Raises:
        PolicyInvalid: with every fault and its line.
    """
    with opened(settings) as held:
        return policies.publish(held.session, document, OPERATOR, held.now)


def create_bank(
    settings: Settings,
    name: str,
    kind: str,
    category: str,
    action: str,
    *,
    allow: bool,
    distance: float | None = None,
    sample_share: float = 1.0,
    source: str | None = None,
) -> None:
    """A new bank of what is known.

    Raises:
        InvalidInput, Conflict: as `governance.banks.create`.
    """
    with opened(settings) as held:
        banks.create(
            held.session,
            name=name,
            kind=kind,
            category=category,
            action=action,
            allow=allow,
            actor=OPERATOR,
            now=held.now,
            distance=distance,
            sample_share=sample_share,
            source=source,
        )


def fill_bank(settings: Settings, name: str, contents: Sequence[bytes], note: str, *, verified: bool) -> int:
    """Add pictures or UTF-8 texts to a bank, whole files each. How many are new.

    Pictures are decoded in a child, so that near copies are found as well.

    Raises:
        NotFound: there is no such bank.
        InvalidInput: one of them can't be matched.
    """
    with opened(settings) as held:
        kept = (
            _hashes(contents)
            if banks.kind_of(held.session, name) == BankKind.IMAGE
            else [None] * len(contents)
        )
        added = [
            banks.add_content(
                held.session,
                held.vault,
                bank=name,
                content=content,
                note=note,
                verified=verified,
                actor=OPERATOR,
                now=held.now,
                kept=hashes,
            )
            for content, hashes in zip(contents, kept, strict=True)
        ]
        return sum(one.fresh for one in added)


def _hashes(pictures: Sequence[bytes]) -> list[Kept | None]:
    """What near copies of pictures are found by."""
    from moderation.features import fingerprints
    from moderation.features.decode import Decoder

    with Decoder() as decoder:
        return [fingerprints.kept(decoder.decode(picture)) for picture in pictures]


def create_key(settings: Settings, client: str, scopes: Sequence[str]) -> str:
    """A new API key for `client`, in the clear for the only time.

    Raises:
        InvalidInput: the name or a scope is unknown to us.
    """
    with opened(settings) as held:
        return accounts.create_api_key(
            held.session, held.vault, client, scopes or list(accounts.Scope), held.now, OPERATOR
        )


def keys(settings: Settings) -> Sequence[ApiKey]:
    """Every API key, newest first, revoked ones too; never its secret."""
    with opened(settings) as held:
        return accounts.api_keys(held.session)


def revoke_key(settings: Settings, key_id: str) -> None:
    """Revoke a key at once.

    Raises:
        NotFound: there is no such key, or it is revoked already.
    """
    with opened(settings) as held:
        accounts.revoke_api_key(held.session, key_id, held.now, OPERATOR)


def export_labels(
    settings: Settings,
    path: Path,
    key_path: Path,
    since: datetime | None,
    until: datetime | None,
    category: str | None,
    days: int,
    *,
    pictures: bool = False,
    client: str | None = None,
) -> Exported:
    """Seal labels into a bundle and register it; without a registered bundle there is no file.

    Raises:
        InvalidInput: as `review.labels.export`.
    """
    made: Exported | None = None
    try:
        with opened(settings) as held:
            begin = since or datetime(1970, 1, 1, tzinfo=UTC)
            wanted = Wanted(begin, until or held.now, category, days, pictures, client)
            made = labels.export(held.session, held.vault, path, key_path, wanted, OPERATOR, held.now)
    except DBAPIError:
        # Written, but the commit failed and with it the registration. What lay there before is left alone.
        if made is not None:
            path.unlink(missing_ok=True)
            key_path.unlink(missing_ok=True)
        raise
    return made


def bundles(settings: Settings) -> Sequence[Bundle]:
    """Every bundle that ever left, the newest first."""
    with opened(settings) as held:
        return labels.listing(held.session)


def end_bundle(settings: Settings, bundle: str) -> None:
    """End a bundle.

    Raises:
        InvalidInput: that is no id.
        NotFound: there is no such bundle, or it has ended.
    """
    try:
        identifier = UUID(bundle)
    except ValueError as error:
        raise InvalidInput("A bundle's id is a UUID; `moderation labels list` shows them.") from error
    with opened(settings) as held:
        labels.end(held.session, identifier, OPERATOR, held.now)


def invite_person(settings: Settings, email: str, roles: Sequence[str]) -> str:
    """The token of a link by which somebody may join.

    Raises:
        InvalidInput: no address, or an unknown role.
        Conflict: somebody has this address.
    """
    with opened(settings) as held:
        return invitations.invite(held.session, held.vault, email, roles, held.now, OPERATOR)


def reset_person(settings: Settings, email: str) -> str:
    """The token of a link by which somebody sets their log-in up anew; what they had works no more.

    Raises:
        NotFound: nobody has this address.
        Conflict: they are disabled.
    """
    with opened(settings) as held:
        person_id = _person(held, email)
        return invitations.reset(held.session, held.vault, person_id, held.now, OPERATOR)


def people_here(settings: Settings) -> Sequence[people.Profile]:
    """Everybody, those who still work here first."""
    with opened(settings) as held:
        return people.listing(held.session, held.vault)


def disable_person(settings: Settings, email: str) -> None:
    """Let somebody in no more.

    Raises:
        NotFound: nobody has this address, or they are disabled.
        Conflict: there would be no administrator left.
    """
    with opened(settings) as held:
        people.disable(held.session, _person(held, email), held.now, OPERATOR)


def enable_person(settings: Settings, email: str) -> None:
    """Let somebody in again.

    Raises:
        NotFound: nobody has this address, or they are not disabled.
    """
    with opened(settings) as held:
        people.enable(held.session, _person(held, email), held.now, OPERATOR)


def _person(held: Opened, email: str) -> UUID:
    found = people.find(held.session, held.vault, email)
    if found is None:
        raise NotFound("Nobody here has this e-mail address; `moderation people list` shows who is.")
    return found.id
