"""What becomes of an item that was decided before its bank knew it: decided anew, or brought before people.

What a machine decided alone is decided anew by the policy, with what was found now. What a person decided is never
overturned: it goes before people again, who see what was found. So does what waits for people already, or what
somebody has appealed. What the same entry matched before, or what was decided at least as gravely, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseReason
from moderation.domain.content import ItemState
from moderation.domain.decisions import UNKNOWN_SEVERITY, CaseDraft, DecidedBy, Outcome, drafted
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing, audit_propensity
from moderation.domain.routing import route as decide
from moderation.domain.signals import BankAction, DetectorStatus, Match
from moderation.governance import erasure, restriction
from moderation.review import decisions, force, sources, suspicion
from moderation.review.decisions import Recorded
from moderation.review.opening import open_case
from moderation.storage import items as queue
from moderation.storage.database import among
from moderation.storage.tables import Case, Decision, Item, SignalRow

LABELS, LABELS_VERSION = "banks", "1"
_GRAVITY = {route: rank for rank, route in enumerate(Route)}


class Became(StrEnum):
    """What became of an item in which something was found."""

    DECIDED = "decided"  # by the policy, anew
    BEFORE_PEOPLE = "before_people"  # a case was opened, or the open one was raised
    LABELLED = "labelled"
    LEFT = "left"  # known already, allowed by a bank, or decided as gravely
    OUT_OF_REACH = "out_of_reach"  # gone meanwhile, or its author allows no machine to judge


@dataclass(frozen=True, slots=True)
class Reconsidered:
    """What became of each item, and the new decisions: all that webhooks need."""

    became: Mapping[UUID, Became]
    recorded: Sequence[Recorded] = ()


def reconsider(
    session: Session,
    policy: Policy,
    found: Mapping[UUID, Sequence[Match]],
    now: datetime,
    dice: Callable[[], float],
    *,
    dry: bool = False,
) -> Reconsidered:
    """Decide items anew by what was `found` in each of them, matches that clear a part included.

    `dice` gives a number in [0, 1) for each that a machine decides, by which some are drawn for people to check.
    With `dry` nothing is written.
    """
    if not found:
        return Reconsidered({})
    # Authors before items, as everywhere; nobody restricts one of them until this is committed.
    authors = set(session.scalars(select(Item.author_id).where(among(Item.id, list(found)))))
    restricted = restriction.restricted(session, authors, lock=not dry)
    held = force.lock_items(session, list(found)) if not dry else _read(session, list(found))
    became: dict[UUID, Became] = {}
    recorded: list[Recorded] = []
    for identifier, matches in found.items():
        item = held.get(identifier)
        reachable = (
            item is not None
            and item.state in (ItemState.DONE, ItemState.DEAD)
            and item.author_id not in restricted
            and not erasure.hidden(session, item, now)
        )
        if item is None or not reachable:
            became[identifier] = Became.OUT_OF_REACH
            continue
        became[identifier], decision = _one(session, policy, item, matches, now, dice, dry=dry)
        recorded += [decision] if decision else []
    queue.notify_decided(session, [one.item for one in recorded])
    return Reconsidered(became, recorded)


def _read(session: Session, ids: Sequence[UUID]) -> Mapping[UUID, Item]:
    return {row.id: row for row in session.scalars(select(Item).where(among(Item.id, ids)))}


def _one(
    session: Session,
    policy: Policy,
    item: Item,
    matches: Sequence[Match],
    now: datetime,
    dice: Callable[[], float],
    *,
    dry: bool,
) -> tuple[Became, Recorded | None]:
    standing = force.standing(session, item.id)
    known = _known(session, item.id)
    fresh = [match for match in matches if match.allow or match.entry not in known]
    routing = decide(policy, (), fresh)
    if standing is None:
        return Became.OUT_OF_REACH, None
    labels = [one for one in fresh if one.action is BankAction.LABEL and not one.allow]
    if labels and not dry:
        _label(session, item.id, labels)
    left = Became.LABELLED if labels else Became.LEFT
    if not routing.matches:
        return left, None
    asked = standing.route == Route.REVIEW
    alone = standing.decided_by == DecidedBy.MACHINE and standing.reverses is None
    if alone and not asked and not sources.is_appealed(session, item.id):
        if _GRAVITY[routing.route] <= _GRAVITY[Route(standing.route)]:
            return left, None
        return Became.DECIDED, None if dry else _anew(session, policy, item, standing, routing, now, dice())
    if standing.route == Route.REMOVE:
        return left, None
    if not dry:
        _before_people(session, policy, item, standing, routing, now)
    return Became.BEFORE_PEOPLE, None


def _known(session: Session, item_id: UUID) -> set[str]:
    """The entries that are known to match an item, whatever came of it."""
    rows: list[Mapping[str, Any]] = []
    for found in session.scalars(
        select(Decision.matches).where(Decision.item_id == item_id, force.ANY_TIME)
    ).all():
        rows += found
    for found in session.scalars(select(Case.matches).where(Case.item_id == item_id)).all():
        rows += found
    labels = select(SignalRow.evidence).where(SignalRow.item_id == item_id, SignalRow.detector == LABELS)
    for evidence in session.scalars(labels).all():
        rows += evidence.get("labels", ())
    return {str(row["entry"]) for row in rows}


def _anew(
    session: Session,
    policy: Policy,
    item: Item,
    former: Decision,
    routing: Routing,
    now: datetime,
    dice: float,
) -> Recorded:
    """A new decision in place of the machine's former one, with what detectors said then and what is known now."""
    draft = drafted(routing, policy, dice)
    # Its case is opened below: there may be one of that kind already. A bank decides here and no score does: the
    # decision stands on no certificate.
    outcome = Outcome(
        routing,
        tuple(former.findings),
        tuple(former.detectors),
        None,
        former.slice,
        routing.stratum,
        audit_propensity(policy, routing),
    )
    kinds = {item.id: sources.kept_kinds(session, former, item.id)}
    state = ItemState(item.state)
    (recorded,) = decisions.record(
        session, policy, [(item, outcome)], now, state, kinds, {item.id: former.id}
    )
    session.refresh(item)
    if draft is not None:
        open_case(session, policy, item, recorded.decision_id, draft, now)
    suspicion.of_signals(session, policy, [(item, outcome)], now)
    return recorded


def _before_people(
    session: Session, policy: Policy, item: Item, standing: Decision, routing: Routing, now: datetime
) -> None:
    """Open the item's case, or raise the one there is, with what was found."""
    rule = policy.categories.get(routing.category) if routing.category else None
    severity = rule.severity if rule else UNKNOWN_SEVERITY
    draft = CaseDraft(CaseReason.BANK, routing.category, severity, routing.probability)
    shown = [decisions.named(match) for match in routing.matches]
    open_case(session, policy, item, standing.id, draft, now, matches=shown)


def _label(session: Session, item_id: UUID, labels: Sequence[Match]) -> None:
    """Add to the signals what only labels, as screening would have done."""
    by_part: dict[str, list[dict[str, Any]]] = {}
    for one in labels:
        by_part.setdefault(one.part, []).append(one.labelled())
    for part, those in by_part.items():
        row = session.get(SignalRow, (item_id, part, LABELS))
        if row is not None:
            row.evidence = {**row.evidence, "labels": [*row.evidence.get("labels", ()), *those]}
            continue
        session.add(
            SignalRow(
                item_id=item_id, part=part, detector=LABELS, version=LABELS_VERSION, status=DetectorStatus.OK,
                scores={}, evidence={"labels": those},
            )
        )  # fmt: skip
    session.flush()
