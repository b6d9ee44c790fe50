"""What governance looks like after a while: one of everything, made by the services for `moderation demo --review`.

A hold with its package and a disclosure that waits for a second person, requests of data subjects, a suspected
minor, a partner, an incident, an erasure with its receipt, a draft of a policy. All made up, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from moderation.domain.access import Role, granted
from moderation.domain.cases import CaseState
from moderation.domain.erasing import Cause
from moderation.domain.policy import Policy
from moderation.domain.subjects import MinorSource, Right
from moderation.governance import (
    disclosures,
    drafts,
    erasure,
    holds,
    incidents,
    partners,
    people,
    policies,
    preservation,
    subjects,
)
from moderation.governance.incident_scopes import Scope
from moderation.governance.sessions import PersonPrincipal
from moderation.review import suspicion
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Author, Case, Decision, Item
from moderation.storage.vault import Vault

OFFICERS: Mapping[str, Role] = {"demo.eva": Role.LEGAL, "demo.fay": Role.PRIVACY_OFFICER}
AUTHORITY, BASIS = "District court of Exampleville", "Order of the court (made up)"
PARTNER = "translation-desk"
ERASE_SECONDS = 20.0
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Place:
    """The installation that is filled, and whose posts there are."""

    databases: Databases
    vault: Vault
    blobs: FolderBlobs
    policy: Policy
    client: str


def fill(place: Place, until: datetime) -> Counter[str]:
    """One of everything, over the last hours before `until`; what was made, and how often."""
    legal, privacy = _officers(place, until - 8 * HOUR)
    held, erased, *others = _authors(place)
    made = Counter[str]()
    made["holds, with a package and a disclosure to be approved"] += _hold(place, legal, privacy, held, until)
    made["requests of data subjects"] += _requests(place, others, until)
    made["suspected minors"] += _minor(place, others[3], until)
    made["partners with items in their hands"] += _partner(place, until)
    made["incidents"] += _incident(place, until)
    made["erasures with a receipt"] += _erasure(place, erased, until)
    made["drafts of a policy"] += _draft(place, until)
    return made


def _officers(place: Place, at: datetime) -> list[PersonPrincipal]:
    """Somebody of the legal role and a privacy officer, who can't log in either."""
    made = []
    with transaction(place.databases.content) as session:
        for name, role in OFFICERS.items():
            person = people.add(session, place.vault, f"{name}@example.org", [role], "", at)
            session.flush()
            roles = frozenset([str(role)])
            made.append(PersonPrincipal(person.id, uuid4(), roles, granted([role]), confirmed_at=at))
    return made


def _authors(place: Place) -> Sequence[UUID]:
    """Whose posts there are and in nobody's hands, most of them first; the first has something that was removed."""
    claimed = select(Case.author_id).where(Case.state == CaseState.OPEN, Case.claimed_by.is_not(None))
    with transaction(place.databases.content) as session:
        ids = session.scalars(
            select(Item.author_id)
            .where(Item.client == place.client, Item.author_id.not_in(claimed))
            .group_by(Item.author_id)
            .order_by(func.count().desc(), Item.author_id)
        ).all()
        removed = session.scalars(
            select(Decision.author_id)
            .where(
                Decision.client == place.client, Decision.route == "remove", Decision.superseded_at.is_(None)
            )
            .order_by(Decision.id)
        ).first()
    first = removed or ids[0]
    return [first, *(one for one in ids if one != first)]


def _hold(
    place: Place, legal: PersonPrincipal, privacy: PersonPrincipal, author: UUID, until: datetime
) -> int:
    wanted = holds.Wanted(AUTHORITY, BASIS, "12 Ex 345/26", author_id=author)
    with transaction(place.databases.content) as session:
        asked = holds.request(session, place.vault, legal, wanted, until - 6 * HOUR)
    with transaction(place.databases.content) as session:
        holds.approve(session, privacy, asked.id, until - 5 * HOUR)
    package = preservation.seal_hold(
        place.databases, place.vault, place.blobs, legal, asked.id, until - 4 * HOUR
    )
    with transaction(place.databases.content) as session:
        disclosures.request(
            session, place.vault, legal, package, AUTHORITY, BASIS, "12 Ex 345/26", until - 3 * HOUR
        )
    return 1


def _requests(place: Place, authors: Sequence[UUID], until: datetime) -> int:
    said = "You call me by a name that I gave up; please correct it."
    wanted = (
        subjects.Asked(Right.CORRECT, details=said),
        subjects.Asked(Right.EXPORT, identity_verified=True),
        subjects.Asked(Right.OBJECT, identity_verified=True),
    )
    for number, (author, asked) in enumerate(zip(authors, wanted, strict=False)):
        with transaction(place.databases.content) as session:
            reference = _reference(place, session, author)
            at = until - (3 - number) * HOUR
            subjects.ask(session, place.vault, place.policy, place.client, reference, asked, at)
    return len(wanted)


def _reference(place: Place, session: Session, author: UUID) -> str:
    row, key = session.get_one(Author, author), place.vault.keys_of(UUID(int=0), author)[1]
    assert key is not None, "an author who is there has a key"
    return key.decrypt(row.reference, "authors", "reference", str(author)).decode()


def _minor(place: Place, author: UUID, until: datetime) -> int:
    with transaction(place.databases.content) as session:
        row = session.get_one(Author, author)
        actor = f"client:{place.client}"
        suspicion.of_author(session, place.policy, row, MinorSource.NOTICE, actor, until - 2 * HOUR)
    return 1


def _partner(place: Place, until: datetime) -> int:
    with transaction(place.databases.content) as session:
        partners.create(
            session,
            place.vault,
            name=PARTNER,
            purpose="review",
            fields=["text", "language"],
            expires_at=until + timedelta(days=90),
            actor="operator",
            now=until - 7 * HOUR,
        )
        foreign = session.scalars(
            select(Item.id)
            .where(Item.client == place.client, Item.destroyed_at.is_(None), Item.expires_at > until)
            .order_by(Item.id)
            .limit(3)
        ).all()
        partners.assign(session, PARTNER, "operator", until - 6 * HOUR, items=foreign)
    return 1


def _incident(place: Place, until: datetime) -> int:
    said = (
        "A laptop with an open session was left in a train and found an hour later (made up, as all of this)."
    )
    scope = Scope(since=until - 20 * HOUR, until=until - 19 * HOUR)
    with transaction(place.databases.content) as session:
        identifier = incidents.open_incident(
            session,
            place.vault,
            kind="access",
            severity=2,
            description=said,
            detected_at=until - 18 * HOUR,
            scope=scope,
            actor="operator",
            now=until - 17 * HOUR,
        )
        incidents.find_affected(session, identifier, "operator", until - 17 * HOUR)
    return 1


def _erasure(place: Place, author: UUID, until: datetime) -> int:
    with transaction(place.databases.content) as session:
        erasure.request(
            session, place.vault, client=place.client, author_id=author, cause=Cause.REQUEST,
            requested_by=f"client:{place.client}", now=until - HOUR,
        )  # fmt: skip
    erasure.run(place.databases, place.vault, place.blobs, until, ERASE_SECONDS)
    return 1


def _draft(place: Place, until: datetime) -> int:
    with transaction(place.databases.content) as session:
        version, document, *_ = policies.document_in_force(session, until)
        drafts.save(
            session,
            name="Longer to take a decision back",
            document=document.replace("undo_seconds: 10 ", "undo_seconds: 20 "),
            base=version,
            by="operator",
            now=until - HOUR,
        )
    return 1
