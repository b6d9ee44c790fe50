"""Labels that are probably wrong go before somebody else, before anything learns from them.

Confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
2021), per category and its two classes: what was judged a yes has the mean probability t1, what was judged a no
the mean improbability t0. A no that is at least as probable as t1, or a yes as improbable as t0, contradicts what
people said of all the others; those that do so by the widest margin are asked about again, blind. The stored
probabilities are from before anybody judged the item, so no model has seen its label, as the method asks.

One person's slip is what is looked for: what two have agreed on, or a lead has settled, is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from moderation.domain.cases import CaseKind, CaseReason, CaseState
from moderation.domain.content import ItemState
from moderation.domain.decisions import blind_draft
from moderation.domain.policy import Policy
from moderation.governance import audit
from moderation.review.force import in_force, lock_items
from moderation.review.golden import top_category
from moderation.review.opening import open_case
from moderation.review.settled import Label, Settled, labels
from moderation.storage.database import among
from moderation.storage.tables import Case, SignalRow

MOST = 20
"""Cases in one run, unless told otherwise: it is people's work."""
DAYS = 90
FEWEST = 20
"""Labels of each class, below which a category's thresholds are nobody's."""
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Hit:
    """A label that contradicts the others: the probability of what was said, and by how much it is out-weighed."""

    item_id: UUID
    category: str
    label: int
    probability: float
    margin: float


@dataclass(frozen=True, slots=True)
class Looked:
    """What a run came to: labels with scores, hits of all, those that somebody was asked about.

    `thin` are categories with too few labels of a class to say anything.
    """

    labels: int
    hits: tuple[Hit, ...]
    asked: tuple[UUID, ...]
    thin: tuple[str, ...]


def hits(labelled: Mapping[UUID, tuple[int, float]], category: str) -> list[Hit] | None:
    """The off-diagonal of the confident joint, the widest margin first; None where a class is too small.

    `labelled` is a label (0 or 1) and the probability of a yes, by item.
    """
    of: dict[int, list[float]] = {0: [], 1: []}
    for label, probability in labelled.values():
        of[label].append(probability if label else 1 - probability)
    if min(map(len, of.values())) < FEWEST:
        return None
    # The expected confidence of each class in itself.
    least = {label: sum(those) / len(those) for label, those in of.items()}
    found = []
    for item, (label, probability) in labelled.items():
        other = 1 - label
        said, against = (probability, 1 - probability) if label else (1 - probability, probability)
        # Where both classes reach their threshold, the more probable one counts.
        if against >= least[other] and (said < least[label] or against > said):
            found.append(Hit(item, category, label, said, against - said))
    return sorted(found, key=lambda one: (-one.margin, one.item_id))


def look(
    session: Session,
    policy: Policy,
    actor: str,
    now: datetime,
    *,
    days: float = DAYS,
    most: int = MOST,
    dry: bool = False,
) -> Looked:
    """Ask again about the labels of the last `days` that are most at odds with their scores, at most `most`.

    No item twice, and none of which something is open. Nothing is opened in a `dry` run.
    """
    given = list(labels(session, now, since=now - timedelta(days=days), until=now))
    scores = _scores(session, [one.item_id for one in given])
    by_category: dict[str, dict[UUID, tuple[int, float]]] = defaultdict(dict)
    for label in given:
        for category, value in label.labels.items():
            if category in scores.get(label.item_id, {}):
                by_category[category][label.item_id] = (value, scores[label.item_id][category])
    found, thin = list[Hit](), list[str]()
    for category, labelled in sorted(by_category.items()):
        mine = hits(labelled, category)
        found += mine or []
        thin += [category] if mine is None else []
    chosen = _chosen(session, found, given, most)
    asked = [] if dry else _ask(session, policy, chosen, now)
    if asked:
        details = {"labels": len(scores), "hits": len(found), "asked": len(asked)}
        audit.record(
            session, [audit.Event(actor, "labels.doubted", "policy", str(policy.version), details)], now
        )
    looked_at = tuple(chosen) if dry else tuple(asked)
    return Looked(len(scores), tuple(found), looked_at, tuple(thin))


def _scores(session: Session, ids: Sequence[UUID]) -> dict[UUID, dict[str, float]]:
    """By item and category the highest probability that was stored with it, of what decided."""
    found: dict[UUID, dict[str, float]] = {}
    for start in range(0, len(ids), _AT_ONCE):
        chunk = ids[start : start + _AT_ONCE]
        rows = session.execute(
            select(SignalRow.item_id, SignalRow.scores).where(
                among(SignalRow.item_id, chunk), SignalRow.shadow.is_(False)
            )
        )
        for item, said in rows:
            mine = found.setdefault(item, {})
            for category, probability in said.items():
                mine[category] = max(probability, mine.get(category, 0.0))
    return {item: said for item, said in found.items() if said}


def _chosen(session: Session, found: Iterable[Hit], given: Iterable[Label], most: int) -> list[UUID]:
    """The items to ask about, the widest margin first."""
    alone = {one.item_id for one in given if one.agreement is Settled.SINGLE}
    ranked = [one.item_id for one in sorted(found, key=lambda one: (-one.margin, one.item_id))]
    candidates = [item for item in dict.fromkeys(ranked) if item in alone]
    before = set(
        session.scalars(
            select(Case.item_id).where(
                among(Case.item_id, candidates),
                (Case.reason == CaseReason.LOOK_AGAIN)
                | ((Case.state == CaseState.OPEN) & (Case.kind != CaseKind.GOLDEN)),
            )
        )
    )
    return [item for item in candidates if item not in before][:most]


def _ask(session: Session, policy: Policy, chosen: Sequence[UUID], now: datetime) -> list[UUID]:
    items = lock_items(session, chosen)
    standing = in_force(session, chosen, now)
    asked = []
    for item in chosen:
        # It may have been deleted since it was found.
        if item not in items or items[item].state == ItemState.DELETED or item not in standing:
            continue
        draft = blind_draft(CaseReason.LOOK_AGAIN, policy, top_category(session, item))
        open_case(session, policy, items[item], standing[item].id, draft, now)
        asked.append(item)
    return asked


def waiting(session: Session) -> int:
    """How many are being asked about again."""
    return len(
        session.scalars(
            select(Case.id).where(Case.state == CaseState.OPEN, Case.reason == CaseReason.LOOK_AGAIN)
        ).all()
    )
