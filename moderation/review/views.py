"""What people are shown of cases, as plain values: no rows, no session, and nothing that is still encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from moderation.domain.decisions import Standing, Undo
from moderation.domain.reviewing import Clause


@dataclass(frozen=True, slots=True)
class Claim:
    """A case in somebody's hands: `number` is the fencing token, `until` the end without a sign of life."""

    case_id: UUID
    number: int
    until: datetime


@dataclass(frozen=True, slots=True)
class CaseRow:
    """A case as a list shows it. `claimed_by` is None once a claim ran out, whatever the row still says."""

    id: UUID
    item_id: UUID
    author_id: UUID
    client: str
    decision_id: UUID
    kind: str
    reason: str
    queue: str
    category: str | None
    language: str | None
    severity: int
    priority: float
    deadline: datetime
    urgent: bool
    blind: bool
    state: str
    stage: str
    opened_at: datetime
    closed_at: datetime | None = None
    claimed_by: UUID | None = None
    claim_until: datetime | None = None
    reserved_for: UUID | None = None
    appeal_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    """One queue: how much waits, how much is in hands, how old it is, and what its deadlines say."""

    name: str
    open: int
    claimed: int
    oldest: datetime
    overdue: int
    next_deadline: datetime

    def age(self, now: datetime) -> float:
        """Seconds that its oldest case has waited."""
        return (now - self.oldest).total_seconds()


@dataclass(frozen=True, slots=True)
class Forewarning:
    """What awaits whoever opens the case, said before any of it is shown."""

    category: str | None
    severity: int
    grave: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Code points [start, end) of a text, and what was found there.

    `weight` where the words moved a score: by how much the log-odds of the category fall without them.
    """

    start: int
    end: int
    label: str
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The view of a text by which it was scored higher than by its own letters, and what was found in it."""

    view: str
    text: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class LineView:
    """Code points [start, end) of a text that was read in a picture, and its four corners there, each in 0..1."""

    start: int
    end: int
    corners: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class TextView:
    """A text part. `normalised` is what banks compared, where that differs; `gone` if it can't be read any more.

    `kept_back` if it is grave and the person has not revealed it. `seen` is the text as the model read it, where a
    disguise was undone to score it; `marked_by` the model whose score the weighed spans moved. `language` is the
    code of what screening took it for, if that is not English. `read_in` is the position of the picture in which a
    machine read it, and `lines` say where.
    """

    name: str
    text: str
    position: int = 0
    spans: tuple[Span, ...] = ()
    normalised: str | None = None
    gone: bool = False
    kept_back: bool = False
    seen: Seen | None = None
    marked_by: str = ""
    language: str | None = None
    read_in: int | None = None
    lines: tuple[LineView, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageView:
    """A picture part, fetched by its position; `gone` if it can't be read any more."""

    name: str
    position: int
    media_type: str
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ScoreBar:
    """The highest score of a category, with the thresholds of the policy it was judged by.

    `version` is the detector's, as long as its signal is kept; `view` the view of the text that raised a score.
    """

    category: str
    probability: float
    allow_below: float
    limit_from: float | None
    remove_from: float
    part: str
    detector: str
    version: str = ""
    view: str = ""


@dataclass(frozen=True, slots=True)
class MatchView:
    """An entry of a bank that a part matches: `how`, how nearly, and with which view of its text, if with one.

    `distance` is that of two pictures in bits of 256, `source` whose list the entry is from if not our own.
    `verified`, `quarantined` and `action` are as they were when it matched; `withdrawn` if the entry was taken out
    since.
    """

    part: str
    bank: str
    entry: str
    note: str
    verified: bool
    action: str
    withdrawn: bool = False
    how: str = "equal"
    score: float = 1.0
    view: str = ""
    start: int | None = None
    end: int | None = None
    distance: int | None = None
    source: str | None = None
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class AuthorView:
    """The account behind an item: how it stands, and the outcomes of its items of the last 90 days by verdict."""

    id: UUID
    reference: str | None
    standing: Standing
    outcomes: Mapping[str, int]
    items: int


@dataclass(frozen=True, slots=True)
class DecisionView:
    """One record in an item's history, newest first in lists."""

    id: UUID
    route: str
    category: str | None
    clause: str | None
    restrictions: tuple[str, ...]
    reasons: tuple[str, ...]
    decided_by: str
    person_id: UUID | None
    policy_version: int
    decided_at: datetime
    effective_at: datetime
    superseded_at: datetime | None
    undone_at: datetime | None
    reverses: UUID | None
    measure: str | None = None
    in_force: bool = False
    certificates: tuple[UUID, ...] = ()  # what a machine's decision stands on


@dataclass(frozen=True, slots=True)
class OpinionView:
    """What somebody thought of a case, for whoever settles it."""

    id: UUID
    person_id: UUID
    stage: str
    verdict: str
    category: str | None
    clause: str | None
    restrictions: tuple[str, ...]
    account_action: str | None
    late: bool
    given_at: datetime


@dataclass(frozen=True, slots=True)
class NoteView:
    """Something written down of a case. An unreadable text is empty."""

    id: UUID
    kind: str
    person_id: UUID
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ReportView:
    """What a user of the content service said of the item, and how much their word weighs."""

    category: str
    weight: float
    comment: str | None
    reported_at: datetime
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class AppealView:
    """The appeal a case is about: by whom, of which decision, and what they say."""

    id: UUID
    decision_id: UUID
    by: str
    statement: str | None
    lodged_at: datetime
    deadline: datetime
    state: str


@dataclass(frozen=True, slots=True)
class CaseFile:
    """Everything the page of one case shows. What a blind case hides is empty here, not hidden by a template."""

    case: CaseRow
    claim: Claim | None
    blind: bool
    forewarning: Forewarning
    parts: tuple[TextView | ImageView, ...]
    external_id: str | None
    kind: str
    language: str | None
    reach: int | None
    posted_at: datetime
    thread: str | None
    parent: str | None
    why: tuple[str, ...]
    scores: tuple[ScoreBar, ...]
    matches: tuple[MatchView, ...]
    author: AuthorView
    history: tuple[DecisionView, ...]
    opinions: tuple[OpinionView, ...]
    notes: tuple[NoteView, ...]
    reports: tuple[ReportView, ...]
    appeal: AppealView | None
    cluster: tuple[CaseRow, ...]
    clauses: tuple[Clause, ...]
    categories: tuple[str, ...]
    undo: Undo | None
    gone: bool = False  # the content has ended
    deleted_because: str | None = None
    failed: tuple[str, ...] = field(default=())  # detectors that could not speak

    def written_in(self, position: int) -> TextView | None:
        """What a machine read in the picture at this position."""
        texts = (part for part in self.parts if isinstance(part, TextView))
        return next((part for part in texts if part.read_in == position), None)
