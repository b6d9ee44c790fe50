"""What a process looks for on behalf of the banks that a digest can't serve: compiled, and as new as the banks.

Each batch asks for the banks' versions, one small query, and compiles those anew that have changed. So a change
is heard by every worker with its next batch, without a restart. Only entries that are new are opened; a bank that
takes long to compile all the same is compiled less often, with `PAUSE_SECONDS` in between at most.
"""

from __future__ import annotations

import re
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models.runtime import Embedder
from moderation.domain.errors import Unavailable
from moderation.domain.signals import BankAction, BankKind, How, Match
from moderation.features import near_texts
from moderation.features.addresses import Address, Addresses, Form
from moderation.features.claims import USUAL, Claims, Sentence, Vectors, sentences
from moderation.features.folding import Folded, fold
from moderation.features.links import Link, links
from moderation.features.near_texts import NearTexts
from moderation.features.terms import FINDS, Patterns, Term, Terms, Unusable, pattern, term
from moderation.features.views import View, views
from moderation.governance import bank_entries
from moderation.governance.bank_entries import PATTERN, Loaded
from moderation.storage.tables import Bank
from moderation.storage.vault import Vault

PAUSE_SECONDS = 1.0
SLOW_SECONDS = 0.2
EMBEDDED_AT_ONCE = 256
"""Claims embedded anew in one batch; the others follow with the next ones."""
MOST_MATCHES = 32
"""Matches of one part that are told, the gravest and surest first."""

log = structlog.get_logger()
_WORDS = (How.TERM, How.PATTERN)
_AUTHORITY = re.compile(r"(?:[a-z*]+:[/\\]{2})?([^/?#\\]*)", re.IGNORECASE)
_GRAVITY = {BankAction.REMOVE: 0, BankAction.LIMIT: 1, BankAction.REVIEW: 2, BankAction.LABEL: 3}


Row = Any  # of the table of banks
Viewing = Callable[[str], Sequence[View]]


class Unembedded(Exception):
    """Claims can't be looked for: no embedding model serves, or it failed."""


@dataclass(frozen=True, slots=True)
class Found:
    """The `index`-th entry of a bank, found in a text."""

    index: int
    how: How
    score: float = 1.0
    start: int | None = None
    end: int | None = None
    view: str = ""


class Reading:
    """A text as matchers read it; what none of them asks for is never made."""

    def __init__(self, text: str, viewing: Viewing = views) -> None:
        self.text = text
        self._viewing = viewing

    @cached_property
    def readings(self) -> tuple[tuple[str, str], ...]:
        """The text itself under no name, then its views, each under the name of its trick."""
        return (("", self.text), *((view.name, view.text) for view in self._viewing(self.text)))

    @cached_property
    def folded(self) -> tuple[tuple[str, Folded], ...]:
        return tuple((view, fold(text)) for view, text in self.readings)

    @cached_property
    def links(self) -> tuple[tuple[str, str, tuple[Link, ...]], ...]:
        # A number without a country's code could be anybody's.
        return tuple((view, text, links(text, None)) for view, text in self.readings)

    @cached_property
    def features(self) -> bytes | None:
        return near_texts.features(self.text)

    @cached_property
    def sentences(self) -> list[Sentence]:
        return sentences(self.text)


class _TermMatcher:
    def __init__(self, entries: Sequence[Loaded], before: Mapping[UUID, Term] | None = None) -> None:
        """`before` are terms that were read already, by their entries."""
        before = before or {}
        literal: dict[int, Term] = {}
        fitting: dict[int, str] = {}
        for index, entry in enumerate(entries):
            try:
                if entry.form == PATTERN:
                    pattern(entry.value)
                    fitting[index] = entry.value
                else:
                    literal[index] = before.get(entry.id) or term(entry.value)
            except Unusable as error:
                # All that are stored could be looked for, by the release that stored them. One entry must not end
                # the screening of everything.
                log.error("bank_entry_unusable", entry=str(entry.id), reason=str(error))  # noqa: TRY400
        self.read = {entries[index].id: one for index, one in literal.items()}
        self._literal, self._terms = list(literal), Terms(list(literal.values()))
        self._patterns, self._fitting = list(fitting), Patterns(list(fitting.values()))

    def find(self, reading: Reading) -> Iterator[Found]:
        if self._literal:
            for view, text in reading.folded:
                for one in self._terms.find(text):
                    yield Found(self._literal[one.index], How.TERM, 1.0, one.start, one.end, view)
        if self._patterns:
            for view, plain in reading.readings:
                for one in self._fitting.find(plain):
                    yield Found(self._patterns[one.index], How.PATTERN, 1.0, one.start, one.end, view)


class _LinkMatcher:
    def __init__(self, entries: Sequence[Loaded], *, likeness: bool) -> None:
        known = [Address(Form(one.form or Form.HOST), one.value) for one in entries]
        self._addresses = Addresses(known, likeness=likeness)

    def find(self, reading: Reading) -> Iterator[Found]:
        for view, text, found in reading.links:
            for one in self._addresses.find(text, found) if found else ():
                yield Found(one.index, one.how, 1.0, one.start, one.end, view)


class _NearMatcher:
    def __init__(self, entries: Sequence[Loaded], least: float) -> None:
        own = [i for i, one in enumerate(entries) if one.features_by == near_texts.MAKER]
        self._own, self._least = own, least
        self._near = NearTexts([entries[index].features for index in own])

    def find(self, reading: Reading) -> Iterator[Found]:
        if self._own and reading.features is not None:
            for index, score in self._near.find(reading.features, self._least):
                yield Found(self._own[index], How.NEAR, score)


class _ClaimMatcher:
    def __init__(self, entries: Sequence[Loaded], least: float) -> None:
        self._own = [index for index, one in enumerate(entries) if one.features]
        vectors = [np.frombuffer(entries[index].features, "<f4") for index in self._own]
        self._claims = Claims(np.stack(vectors) if vectors else np.zeros((0, 1), np.float32))
        self._least = least

    def find(self, reading: Reading, vectors: Vectors) -> Iterator[Found]:
        for one, cosine in self._claims.find(reading.sentences, vectors, self._least):
            yield Found(self._own[one.index], How.CLAIM, cosine, one.start, one.end)


@dataclass(frozen=True, slots=True)
class Compiled:
    """One bank, ready to be looked for. `maker` is the model of its vectors, if it has any.

    `due` is when it may be compiled again, `whole` if it has all entries.
    """

    id: UUID
    name: str
    kind: str
    category: str
    action: BankAction
    allow: bool
    version: int
    share: float
    source: str | None
    entries: tuple[Loaded, ...]
    matcher: _TermMatcher | _LinkMatcher | _NearMatcher | _ClaimMatcher
    maker: str | None = None
    due: float = 0.0
    whole: bool = True

    def match(self, found: Found) -> Match:
        """A find as a match; `Match.part` is left empty for the caller to fill."""
        entry = self.entries[found.index]
        return Match(
            part="",
            bank=self.name,
            entry=str(entry.id),
            category=entry.category or self.category,
            action=self.action,
            verified=entry.verified,
            allow=self.allow,
            how=found.how,
            score=found.score,
            start=found.start,
            end=found.end,
            view=found.view,
            source=entry.source or self.source,
            quarantined=entry.quarantined,
            share=self.share,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The banks at one moment; it never changes, so any thread may look things up in it."""

    banks: tuple[Compiled, ...] = ()
    embedder: Embedder | None = None

    @property
    def claims(self) -> bool:
        """Whether there is a claim to look for."""
        return any(bank.kind == BankKind.CLAIM for bank in self.banks)

    def find(self, texts: Sequence[str], now: datetime, viewing: Viewing = views) -> list[list[Match]]:
        """The matches of each text with the banks that need no model.

        What lies within a find of a verified entry of an allow bank is left out; allow banks themselves are not
        told. An entry is told once for a text, where it stands first, the text itself before its views, which
        are those that `viewing` answers.
        """
        asked = [bank for bank in self.banks if bank.kind != BankKind.CLAIM]
        return (
            [_settled(asked, Reading(text, viewing), now) for text in texts] if asked else [[] for _ in texts]
        )

    def find_claims(self, texts: Sequence[str], now: datetime) -> list[list[Match]]:
        """The claims that sentences of each text come near to.

        Raises:
            Unembedded: no embedding model serves, or it failed.
        """
        if not self.claims:
            return [[] for _ in texts]
        readings = [Reading(text) for text in texts]
        said = list(dict.fromkeys(one.text for reading in readings for one in reading.sentences))
        known = dict(zip(said, _embed(self.embedder, said), strict=True))
        found = []
        for reading in readings:
            own = [known[one.text] for one in reading.sentences]
            matches = [
                bank.match(one)
                for bank in self.banks
                if isinstance(bank.matcher, _ClaimMatcher) and own
                for one in bank.matcher.find(reading, np.stack(own))
                if _lives(bank.entries[one.index], now)
            ]
            found.append(ranked(matches))
        return found


def _embed(embedder: Embedder | None, texts: Sequence[str]) -> Vectors:
    if embedder is None:
        raise Unembedded("No embedding model serves.")
    try:
        return np.asarray(embedder.embed(texts), np.float32) if texts else np.zeros((0, 1), np.float32)
    except Exception as error:
        raise Unembedded("The embedding model failed.") from error


def _settled(banks: Sequence[Compiled], reading: Reading, now: datetime) -> list[Match]:
    """What matches count of one text, once allow banks have had their word."""
    matches: list[Match] = []
    cleared: list[Match] = []
    finds: Counter[tuple[UUID, str]] = Counter()
    for bank in banks:
        for found in _finds(bank, reading):
            finds[bank.id, found.view] += 1
            if not _lives(bank.entries[found.index], now):
                continue
            match = bank.match(found)
            if not match.allow:
                matches.append(match)
            elif match.verified and not match.quarantined:
                cleared.append(match)
    if max(finds.values(), default=0) >= FINDS:
        # A search may have ended before the text did: what is allowed in its beginning says nothing of the rest.
        cleared = []
    return ranked(_not_within(matches, cleared, dict(reading.readings)) if cleared else matches)


def _finds(bank: Compiled, reading: Reading) -> Iterator[Found]:
    if not isinstance(bank.matcher, _ClaimMatcher):
        yield from bank.matcher.find(reading)


def _lives(entry: Loaded, now: datetime) -> bool:
    return entry.expires_at is None or entry.expires_at > now


def _not_within(
    matches: Sequence[Match], allowed: Sequence[Match], readings: Mapping[str, str]
) -> list[Match]:
    """The matches that lie within no allowed find of the same reading of the text."""
    spans: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    for one in allowed:
        if one.start is not None and one.end is not None:
            whole = (one.start, one.end)
            linked = one.how not in _WORDS
            spans.setdefault((one.view, False), []).append(whole)
            spans.setdefault((one.view, True), []).append(
                _host_within(readings[one.view], *whole) if linked else whole
            )
    starts, reach = {}, {}
    for key, those in spans.items():
        those.sort()
        starts[key] = [start for start, _ in those]
        reach[key] = list(accumulate((end for _, end in those), max))

    def free(match: Match) -> bool:
        key = (match.view, match.how in _WORDS)
        if match.start is None or match.end is None or key not in spans:
            return True
        before = bisect_right(starts[key], match.start)
        return before == 0 or reach[key][before - 1] < match.end

    return [match for match in matches if free(match)]


def _host_within(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the host stands in a link: what a writer puts before and behind it is the writer's own words."""
    authority = _AUTHORITY.match(text, start, end)
    if authority is None:
        return start, end
    return max(authority.start(1), text.rfind("@", *authority.span(1)) + 1), authority.end(1)


def ranked(matches: Sequence[Match]) -> list[Match]:
    """Each entry once, in its first find; the gravest and surest first, `MOST_MATCHES` of them."""
    first: dict[str, Match] = {}
    for match in matches:
        first.setdefault(match.entry, match)
    ranked = sorted(
        first.values(), key=lambda m: (not m.verified, _GRAVITY[m.action], -m.score, m.start or 0)
    )
    return ranked[:MOST_MATCHES]


class Matchers:
    """The compiled banks of a process, for its whole life. Safe for threads."""

    def __init__(self, embedder: Callable[[], Embedder | None] = lambda: None) -> None:
        """`embedder` answers what serves now; it is not asked before there is a claim to look for."""
        self._embedder = embedder
        self._held: dict[UUID, Compiled] = {}
        self._lock = threading.Lock()

    def current(self, session: Session, vault: Vault, now: datetime, only: str | None = None) -> Snapshot:
        """The banks as they are now; with `only` that one alone, be it on or off.

        Vectors of claims that no process has made yet are made and stored.
        """
        wanted = select(
            Bank.id,
            Bank.name,
            Bank.kind,
            Bank.category,
            Bank.action,
            Bank.allow,
            Bank.distance,
            Bank.version,
            Bank.sample_share,
            Bank.source,
        ).where(
            or_(
                Bank.kind.in_((BankKind.TERM, BankKind.LINK, BankKind.CLAIM)),
                (Bank.kind == BankKind.TEXT) & Bank.distance.is_not(None),
            )
        )
        wanted = wanted.where(Bank.enabled if only is None else Bank.name == only).order_by(Bank.name)
        rows = session.execute(wanted).all()
        with self._lock:
            embedder = self._embedding(rows)
            held = {row.id: self._compiled(session, vault, now, row, embedder) for row in rows}
            if only is None:
                self._held = held
            return Snapshot(tuple(bank for bank in held.values() if bank.entries), embedder)

    def _embedding(self, rows: Sequence[Row]) -> Embedder | None:
        """The embedding model, if some bank of claims is not known to be empty."""
        for row in rows:
            known = self._held.get(row.id)
            if row.kind == BankKind.CLAIM and (
                known is None or known.version != row.version or known.entries
            ):
                try:
                    return self._embedder()
                except Unavailable:
                    return None  # then claims can't be looked for, which is told of each text
        return None

    def _compiled(
        self, session: Session, vault: Vault, now: datetime, row: Row, embedder: Embedder | None
    ) -> Compiled:
        known = self._held.get(row.id)
        if known is not None:
            same = known.version == row.version and known.whole
            same = same and (row.kind != BankKind.CLAIM or known.maker == _maker(embedder))
            if same or (known.version != row.version and time.monotonic() < known.due):
                return known
        began = time.monotonic()
        made = _compile(session, vault, now, row, embedder, known)
        took = time.monotonic() - began
        pause = min(PAUSE_SECONDS, took) if took > SLOW_SECONDS else 0.0
        return replace(made, due=began + took + pause)


def _maker(embedder: Embedder | None) -> str | None:
    return f"{embedder.manifest.name}/{embedder.manifest.version}" if embedder else None


def _compile(
    session: Session,
    vault: Vault,
    now: datetime,
    row: Row,
    embedder: Embedder | None,
    known: Compiled | None,
) -> Compiled:
    held = {one.id: one for one in known.entries} if known else {}
    entries = tuple(bank_entries.load(session, vault, row.id, now, held))
    whole = True
    matcher: _TermMatcher | _LinkMatcher | _NearMatcher | _ClaimMatcher
    if row.kind == BankKind.TERM:
        before = known.matcher.read if known and isinstance(known.matcher, _TermMatcher) else None
        matcher = _TermMatcher(entries, before)
    elif row.kind == BankKind.LINK:
        matcher = _LinkMatcher(entries, likeness=row.distance is not None)
    elif row.kind == BankKind.TEXT:
        matcher = _NearMatcher(entries, row.distance)
    else:
        entries = _with_vectors(session, vault, entries, embedder)
        whole = embedder is None or all(one.features for one in entries)
        matcher = _ClaimMatcher(entries, USUAL if row.distance is None else row.distance)
    return Compiled(
        id=row.id,
        name=row.name,
        kind=row.kind,
        category=row.category,
        action=BankAction(row.action),
        allow=row.allow,
        version=row.version,
        share=row.sample_share,
        source=row.source,
        entries=entries,
        matcher=matcher,
        maker=_maker(embedder) if row.kind == BankKind.CLAIM else None,
        whole=whole,
    )


def _with_vectors(
    session: Session, vault: Vault, entries: tuple[Loaded, ...], embedder: Embedder | None
) -> tuple[Loaded, ...]:
    """The claims with the vectors of this model, as many as are made at once; those of another one are dropped."""
    maker = _maker(embedder)
    missing = [one for one in entries if one.features_by != maker or not one.features][:EMBEDDED_AT_ONCE]
    made: Mapping[UUID, bytes] = {}
    if embedder is not None and missing:
        try:
            vectors = _embed(embedder, [one.value for one in missing])
        except Unembedded:
            vectors = np.zeros((0, 1), np.float32)  # told where texts are embedded, which fails as well
        if len(vectors):
            made = {one.id: row.astype("<f4").tobytes() for one, row in zip(missing, vectors, strict=True)}
            bank_entries.keep_features(session, vault, dict(made), maker or "")
    return tuple(
        replace(one, features=made[one.id], features_by=maker)
        if one.id in made
        else one
        if one.features_by == maker
        else replace(one, features=b"", features_by=None)
        for one in entries
    )
