"""Which version serves is decided by two people: one proposes it, another promotes it. One alone may go back.

The gates are checked from the manifest and the files each time, never taken from a row. At the command line nobody
logs in: whoever types there is one person, whatever names they give, so of the two steps at most one is done there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import gates
from models.serving import verified
from moderation.domain.access import Permission, granted
from moderation.domain.errors import Conflict, Forbidden, NotFound
from moderation.governance import audit, models, people
from moderation.governance.models import CHAMPION, OPERATOR, PREVIOUS
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.ids import new_id
from moderation.storage.tables import ModelAlias, ModelProposal
from moderation.storage.vault import Vault

OPEN, PROMOTED, REFUSED = "open", "promoted", "refused"


@dataclass(frozen=True, slots=True)
class By:
    """Who acts: somebody logged in, or somebody whom the operator names at the command line."""

    person_id: UUID
    permissions: frozenset[Permission]
    operator: bool = False

    @property
    def actor(self) -> str:
        """How the audit log names who acts: what the operator does is never said to be somebody else's doing."""
        return OPERATOR if self.operator else f"person:{self.person_id}"

    @property
    def details(self) -> dict[str, str]:
        """Whom the operator named."""
        return {"by": str(self.person_id)} if self.operator else {}


def logged_in(person: PersonPrincipal) -> By:
    """Somebody in the console or with a session of the API."""
    return By(person.person_id, person.permissions)


def named(session: Session, vault: Vault, email: str) -> By:
    """Somebody whom the operator names.

    Raises:
        NotFound: nobody who works here has this address.
    """
    found = people.find(session, vault, email)
    if found is None or found.disabled_at is not None:
        raise NotFound(
            "Nobody who works here has this e-mail address; `moderation people list` shows who does."
        )
    return By(found.id, granted(found.roles), operator=True)


def propose(session: Session, root: Path, by: By, name: str, version: str, now: datetime) -> UUID:
    """Propose that a version serves.

    Raises:
        NotFound: there is no such version.
        Forbidden: they may not propose.
        Conflict: it serves already, is proposed already, does not pass its gates, or is a head whose backbone
            does not serve.
        models.registry.ArtifactError: its files are not what was added.
    """
    _require(by, Permission.MODEL_PROPOSE)
    found = _gated(session, root, name, version)
    if models.alias_of(session, name, CHAMPION) == version:
        raise Conflict(f"{name} {version} serves already.", code="serves_already")
    if _open(session, name, version) is not None:
        raise Conflict(
            f"{name} {version} is proposed already; somebody else has to promote it.", code="proposed"
        )
    identifier = new_id(now)
    session.add(
        ModelProposal(
            id=identifier,
            name=name,
            version=version,
            alias=CHAMPION,
            gates=[gate.document() for gate in found],
            proposed_by=by.person_id,
            proposed_at=now,
            by_operator=by.operator,
            state=OPEN,
        )
    )
    session.flush()
    _record(session, by, "model.proposed", name, now, version=version, proposal=str(identifier))
    return identifier


def promote(session: Session, root: Path, by: By, name: str, version: str, now: datetime) -> str | None:
    """Have a version serve that somebody else proposed; which one served before.

    Raises:
        NotFound: there is no such version.
        Forbidden: they may not promote, or proposed it themselves.
        Conflict: nobody proposed it, it serves already, or it does not pass its gates.
        models.registry.ArtifactError: its files are not what was added.
    """
    _require(by, Permission.MODEL_PROMOTE)
    models.find(session, name, version, hold=True)
    _lock(session, name)
    proposal = _open(session, name, version)
    if proposal is None:
        raise Conflict(
            f"Nobody has proposed {name} {version}; two people have to want it: "
            f"moderation models propose {name} {version} --by EMAIL",
            code="not_proposed",
        )
    if proposal.proposed_by == by.person_id:
        raise Forbidden(f"You proposed {name} {version}; somebody else has to promote it.", code="four_eyes")
    if proposal.by_operator and by.operator:
        raise Forbidden(
            f"{name} {version} was proposed at the command line, where anybody can be named; somebody else "
            "promotes it in the console, under Models.",
            code="four_eyes",
        )
    before = models.alias_of(session, name, CHAMPION)
    if before == version:
        raise Conflict(f"{name} {version} serves already; refuse the proposal.", code="serves_already")
    _gated(session, root, name, version)
    models.point(session, name, PREVIOUS, before, now)
    models.point(session, name, CHAMPION, version, now)
    proposal.state, proposal.decided_by, proposal.decided_at = PROMOTED, by.person_id, now
    session.flush()
    _record(
        session, by, "model.promoted", name, now, version=version, before=before, proposal=str(proposal.id)
    )
    return before


def refuse(session: Session, by: By, name: str, version: str, now: datetime) -> None:
    """Refuse a proposal, or take one's own back.

    Raises:
        Forbidden: it is somebody else's, and they may not promote.
        Conflict: nobody proposed it.
    """
    proposal = _open(session, name, version)
    if proposal is None:
        raise Conflict(f"{name} {version} is not proposed.", code="not_proposed")
    if proposal.proposed_by != by.person_id:
        _require(by, Permission.MODEL_PROMOTE)
    proposal.state, proposal.decided_by, proposal.decided_at = REFUSED, by.person_id, now
    session.flush()
    _record(session, by, "model.refused", name, now, version=version, proposal=str(proposal.id))


def rollback(
    session: Session, root: Path, by: By, name: str, now: datetime, *, champion: str | None = None
) -> tuple[str, str]:
    """Have the version serve again that served before; from which one to which.

    One person is enough, at once: what is gone back to was promoted by two. To come forward again takes two.
    `champion` is the version that they believe to serve.

    Raises:
        NotFound: there is no such model.
        Forbidden: they may not promote.
        Conflict: nothing served before it, or another version serves than they believe.
        models.registry.ArtifactError: the files of the version before are not what was added.
    """
    _require(by, Permission.MODEL_PROMOTE)
    _lock(session, name)
    serving, previous = (models.alias_of(session, name, alias) for alias in (CHAMPION, PREVIOUS))
    if serving is None:
        raise NotFound(f"No model {name} serves here; `moderation models list` shows which do.")
    if champion not in (None, serving):
        raise Conflict(f"{name} {champion} does not serve any more: {serving} does.", code="not_champion")
    if previous is None:
        raise Conflict(
            f"There is nothing to go back to: no version of {name} served before {serving}. Propose another one.",
            code="no_previous",
        )
    verified(models.wanted_of(models.find(session, name, previous), root))
    models.point(session, name, CHAMPION, previous, now)
    models.point(session, name, PREVIOUS, None, now)
    _record(session, by, "model.rolled_back", name, now, **{"from": serving, "to": previous})
    return serving, previous


def _gated(session: Session, root: Path, name: str, version: str) -> list[gates.Gate]:
    """The gates of a version, all passed, from the files as they are now."""
    row = models.find(session, name, version, hold=True)
    manifest = verified(models.wanted_of(row, root))
    models.require_backbone(session, manifest)
    found = gates.check(manifest)
    refusal = models.failing(name, version, found)
    if refusal is not None:
        raise Conflict(refusal, code="gates_failed")
    return found


def _lock(session: Session, name: str) -> None:
    """Whoever changes what serves under a name waits for whoever does already."""
    session.execute(select(ModelAlias.version).where(ModelAlias.name == name).with_for_update()).all()


def _open(session: Session, name: str, version: str) -> ModelProposal | None:
    return session.scalar(
        select(ModelProposal)
        .where(
            ModelProposal.name == name,
            ModelProposal.version == version,
            ModelProposal.alias == CHAMPION,
            ModelProposal.state == OPEN,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def _require(by: By, permission: Permission) -> None:
    if permission not in by.permissions:
        whose, then = ("their", "docs/people.md says which do") if by.operator else (
            "your", "ask an administrator if you need it")  # fmt: skip
        raise Forbidden(f"None of {whose} roles carries {permission}; {then}.")


def _record(session: Session, by: By, action: str, name: str, now: datetime, **details: object) -> None:
    event = audit.Event(by.actor, action, "model", name, {**details, **by.details})
    audit.record(session, [event], now)
