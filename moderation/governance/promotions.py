"""Which version serves is decided by two people: one proposes it, another promotes it. One alone may go back.

So it is with a canary, which serves a share. A shadow decides nothing: one person begins it and ends it (`trials`).

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
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from moderation.governance import audit, models, people, trials
from moderation.governance.models import CANARY, CHAMPION, OPERATOR, PREVIOUS
from moderation.governance.sessions import PersonPrincipal
from moderation.storage.ids import new_id
from moderation.storage.tables import ModelProposal
from moderation.storage.vault import Vault

LEAST_SHARE = 0.001
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


def propose(
    session: Session,
    root: Path,
    by: By,
    name: str,
    version: str,
    now: datetime,
    *,
    alias: str = CHAMPION,
    share: float | None = None,
) -> UUID:
    """Propose that a version serves: as the champion, or as a canary for this `share` of the items.

    Raises:
        NotFound: there is no such version.
        Forbidden: they may not propose.
        InvalidInput: a canary's share is none.
        Conflict: it serves already, is proposed already, does not pass its gates, gives no scores to compare, or is
            a head whose base does not serve.
        models.registry.ArtifactError: its files are not what was added.
    """
    _require(by, Permission.MODEL_PROPOSE)
    share = _checked(alias, share)
    found = _gated(session, root, name, version, alias)
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
            alias=alias,
            share=share,
            gates=[gate.document() for gate in found],
            proposed_by=by.person_id,
            proposed_at=now,
            by_operator=by.operator,
            state=OPEN,
        )
    )
    session.flush()
    _record(
        session,
        by,
        "model.proposed",
        name,
        now,
        version=version,
        proposal=str(identifier),
        **_as(alias, share),
    )
    return identifier


def _checked(alias: str, share: float | None) -> float | None:
    """The share of a canary; a champion has none."""
    if alias not in (CHAMPION, CANARY):
        raise InvalidInput("A version is proposed as champion or as canary; a shadow needs no second person.")
    if alias == CHAMPION:
        return None
    if share is None or not LEAST_SHARE <= share < 1:
        raise InvalidInput(
            f"A canary judges a share of the items; say one from {LEAST_SHARE} to below 1, such as 0.05."
        )
    return share


def _as(alias: str, share: float | None) -> dict[str, object]:
    """What the audit log says of the alias where it is not the usual one."""
    return {} if alias == CHAMPION else {"alias": alias, "share": share}


def promote(
    session: Session,
    root: Path,
    by: By,
    name: str,
    version: str,
    now: datetime,
    *,
    alias: str | None = None,
    share: float | None = None,
) -> str | None:
    """Have a version serve that somebody else proposed, as it was proposed; which one was there before.

    `alias` and `share` are what they believe it to be proposed for. Whatever is tried under the name ends when
    another champion serves.

    Raises:
        NotFound: there is no such version.
        Forbidden: they may not promote, or proposed it themselves.
        Conflict: nobody proposed it, or it is proposed for something else than they believe; it serves already, or
            it does not pass its gates.
        models.registry.ArtifactError: its files are not what was added.
    """
    _require(by, Permission.MODEL_PROMOTE)
    models.find(session, name, version, hold=True)
    trials.lock(session, name)
    proposal = _open(session, name, version)
    if proposal is None or (alias, share) != _believed(proposal, alias, share):
        raise _not_proposed(name, version, proposal)
    if proposal.proposed_by == by.person_id:
        raise Forbidden(f"You proposed {name} {version}; somebody else has to promote it.", code="four_eyes")
    if proposal.by_operator and by.operator:
        raise Forbidden(
            f"{name} {version} was proposed at the command line, where anybody can be named; somebody else "
            "promotes it in the console, under Models.",
            code="four_eyes",
        )
    if models.alias_of(session, name, CHAMPION) == version:
        raise Conflict(f"{name} {version} serves already; refuse the proposal.", code="serves_already")
    _gated(session, root, name, version, proposal.alias)
    before = models.alias_of(session, name, proposal.alias)
    proposal.state, proposal.decided_by, proposal.decided_at = PROMOTED, by.person_id, now
    if proposal.alias == CANARY:
        models.point(session, name, CANARY, version, now, proposal.share)
    else:
        trials.end_with(session, name, by.actor, now, version, **by.details)
        models.point(session, name, PREVIOUS, before, now)
        models.point(session, name, CHAMPION, version, now)
    session.flush()
    details: dict[str, object] = {"version": version, "before": before, "proposal": str(proposal.id)}
    _record(session, by, "model.promoted", name, now, **details, **_as(proposal.alias, proposal.share))
    return before


def _believed(
    proposal: ModelProposal, alias: str | None, share: float | None
) -> tuple[str | None, float | None]:
    """What a proposal is for, of what somebody has said they believe."""
    return None if alias is None else proposal.alias, None if share is None else proposal.share


def _not_proposed(name: str, version: str, proposal: ModelProposal | None) -> Conflict:
    if proposal is None:
        return Conflict(
            f"Nobody has proposed {name} {version}; two people have to want it: "
            f"moderation models propose {name} {version} --by EMAIL",
            code="not_proposed",
        )
    told = f"canary for a share of {proposal.share:g}" if proposal.share else str(proposal.alias)
    return Conflict(
        f"{name} {version} is proposed as {told} by now; look at the proposal again.",
        code="proposed_otherwise",
    )


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
    A canary ends with it; where nothing served before the champion, it is the canary that is gone back from.
    `champion` is the version that they believe to serve.

    Raises:
        NotFound: there is no such model.
        Forbidden: they may not promote.
        Conflict: nothing served before it, or another version serves than they believe.
        models.registry.ArtifactError: the files of the version before are not what was added.
    """
    _require(by, Permission.MODEL_PROMOTE)
    trials.lock(session, name)
    serving, previous = (models.alias_of(session, name, alias) for alias in (CHAMPION, PREVIOUS))
    if serving is None:
        raise NotFound(f"No model {name} serves here; `moderation models list` shows which do.")
    if champion not in (None, serving):
        raise Conflict(f"{name} {champion} does not serve any more: {serving} does.", code="not_champion")
    if previous is None:
        if champion is None and (ended := trials.end_with(session, name, by.actor, now, **by.details)):
            return ended[0], serving
        raise Conflict(
            f"There is nothing to go back to: no version of {name} served before {serving}. Propose another one.",
            code="no_previous",
        )
    verified(models.wanted_of(models.find(session, name, previous), root))
    trials.end_with(session, name, by.actor, now, previous, **by.details)
    models.point(session, name, CHAMPION, previous, now)
    models.point(session, name, PREVIOUS, None, now)
    _record(session, by, "model.rolled_back", name, now, **{"from": serving, "to": previous})
    return serving, previous


def shadow(session: Session, root: Path, by: By, name: str, version: str, now: datetime) -> str | None:
    """Have a version score whatever comes in and decide nothing; which one did before it.

    Raises:
        Forbidden: they may neither propose nor promote.
        NotFound, Conflict, models.registry.ArtifactError: as `trials.begin_shadow`.
    """
    _require_either(by)
    return trials.begin_shadow(session, root, name, version, by.actor, now, **by.details)


def end_trial(session: Session, by: By, name: str, alias: str, now: datetime) -> str:
    """End the shadow or the canary of a name; which version it was.

    Raises:
        Forbidden: they may neither propose nor promote.
        NotFound: there is none.
    """
    _require_either(by)
    return trials.end(session, name, alias, by.actor, now, **by.details)


def _gated(session: Session, root: Path, name: str, version: str, alias: str) -> list[gates.Gate]:
    """The gates of a version, all passed, from the files as they are now."""
    row = models.find(session, name, version, hold=True)
    models.require_not_retired(row)
    manifest = verified(models.wanted_of(row, root))
    if alias == CANARY:
        trials.require_scores(manifest)
    models.require_base(session, manifest, *({alias} - {CHAMPION}))
    found = gates.check(manifest)
    refusal = models.failing(name, version, found)
    if refusal is not None:
        raise Conflict(refusal, code="gates_failed")
    return found


def _open(session: Session, name: str, version: str) -> ModelProposal | None:
    """What a version is proposed for; never for two things at once."""
    return session.scalar(
        select(ModelProposal)
        .where(
            ModelProposal.name == name,
            ModelProposal.version == version,
            ModelProposal.state == OPEN,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def _require_either(by: By) -> None:
    _require(
        by,
        Permission.MODEL_PROMOTE if Permission.MODEL_PROMOTE in by.permissions else Permission.MODEL_PROPOSE,
    )


def _require(by: By, permission: Permission) -> None:
    if permission not in by.permissions:
        whose, then = ("their", "docs/people.md says which do") if by.operator else (
            "your", "ask an administrator if you need it")  # fmt: skip
        raise Forbidden(f"None of {whose} roles carries {permission}; {then}.")


def _record(session: Session, by: By, action: str, name: str, now: datetime, **details: object) -> None:
    event = audit.Event(by.actor, action, "model", name, {**details, **by.details})
    audit.record(session, [event], now)
