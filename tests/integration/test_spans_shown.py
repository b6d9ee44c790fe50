"""Marked words on the page of a case and in its file: what they are, who sees them, and what is kept of them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import text as sql
from sqlalchemy import update

from api import marks as api_marks
from api.marks import Marks
from models.registry import ArtifactError
from models.serving import Served
from models.text import TextClassifier
from moderation.domain.cases import CaseReason
from moderation.domain.decisions import CaseDraft
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import BankAction, How, Match
from moderation.governance.sessions import PersonPrincipal
from moderation.review import casefile, golden, marks
from moderation.review.views import CaseFile, TextView
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Decision, SignalRow
from moderation.storage.vault import Vault
from tests import artifacts, people, support
from tests.caseload import Caseload
from tests.judging import Floor, at_once

TEXT = "Bring the papers to the library at ten. You are a worthless idiot and nobody wants you here."
HARSH = "You are a worthless idiot and nobody wants you here."
MODEL = artifacts.champion().name
PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page waits as long as this machine needs; one test is about those that don't."""
    monkeypatch.setattr(api_marks, "WAIT_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def ada(settings: Settings, databases: Databases, vault: Vault) -> Iterator[people.Member]:
    with people.logged_in(settings, databases, vault, "moderator") as client:
        yield client


@pytest.fixture(scope="module")
def served() -> Served:
    return Served(text=(TextClassifier(artifacts.champion()),))


def scored(
    load: Caseload, case: UUID, probability: float = 0.6, category: str = "harassment", **evidence: object
) -> None:
    """The signals and the finding that screening leaves where the model gives this score."""
    row = load.case(case)
    finding = {
        "category": category,
        "probability": probability,
        "part": "body",
        "detector": MODEL,
        "version": "1",
    }
    with transaction(load.engine) as session:
        session.add(
            SignalRow(
                item_id=row.item_id,
                part="body",
                detector=MODEL,
                version="1",
                status="ok",
                scores={category: probability},
                evidence=evidence,
            )
        )
        session.execute(update(Decision).where(Decision.item_id == row.item_id).values(findings=[finding]))


def file_of(load: Caseload, person: PersonPrincipal, case: UUID) -> CaseFile:
    with transaction(load.engine) as session:
        return casefile.load(session, load.vault, load.policy, person, case, load.now)


def page_of(client: TestClient, case: UUID) -> str:
    answer: Response = client.get(f"/console/cases/{case}")
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def marked_in(page: str) -> list[str]:
    """The marked words of a page, without those of the legend."""
    return re.findall(r'<mark class="[a-z ]+" data-label[^>]*>([^<]+)<', page)


def body(file: CaseFile) -> TextView:
    (part,) = file.parts
    assert isinstance(part, TextView)
    return part


def test_the_words_that_moved_a_score_are_marked(ada: people.Member, load: Caseload) -> None:
    (case,) = load.waiting(text=TEXT)
    scored(load, case)
    page = page_of(ada, case)
    assert "idiot" in " ".join(marked_in(page))
    assert not {"papers", "library"} & set(" ".join(marked_in(page)).split())
    assert 'data-label="harassment"' in page
    assert re.search(r'title="harassment, \w+', page)
    assert f"Without the marked words {MODEL}" in page
    (part,) = ada.get(f"/v1/review/cases/{case}").json()["parts"]
    assert part["marked_by"].startswith(MODEL)
    for span in part["spans"]:
        assert span["label"] == "harassment"
        assert span["weight"] > 0
    assert any("idiot" in TEXT[span["start"] : span["end"]] for span in part["spans"])


@pytest.mark.parametrize(
    ("probability", "category"), [(0.01, "harassment"), (0.6, "toxicity"), (0.6, "misinformation")]
)
def test_nothing_is_marked_for_a_score_that_brought_nothing(
    ada: people.Member, load: Caseload, probability: float, category: str
) -> None:
    """Below what the policy allows, of no category of the policy, or of one that the model doesn't know."""
    (case,) = load.waiting(text=TEXT)
    scored(load, case, probability, category)
    assert marked_in(page_of(ada, case)) == []


@pytest.mark.parametrize("reason", [CaseReason.AUDIT, CaseReason.SECOND_OPINION])
def test_a_blind_case_has_no_marks(ada: people.Member, load: Caseload, reason: CaseReason) -> None:
    draft = CaseDraft(reason, "harassment", 2, 0.9, 0.05)
    match = Match(
        "body", "known", str(new_id(load.now)), "harassment", BankAction.REVIEW, True, start=0, end=5
    )
    (case,) = load.routed(load.items(text=TEXT), Route.ALLOW, draft, matches=(match,))
    scored(load, case, 0.9)
    with transaction(load.engine) as session:
        session.add(_age(load.case(case).item_id, 0, 5))
    page = page_of(ada, case)
    assert "Judge for yourself" in page
    assert TEXT in page
    assert "<mark" not in page
    (part,) = ada.get(f"/v1/review/cases/{case}").json()["parts"]
    assert (part["spans"], part["seen"], part["marked_by"]) == ([], None, "")


def test_a_golden_case_has_no_marks(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, served: Served
) -> None:
    floor = Floor(client, databases, vault, at_once(policy))
    lead, moderator = floor.person("lead"), floor.person()
    known = floor.decided("known", Route.REMOVE, "hate", scores={"hate": 0.99})
    with transaction(databases.content) as session:
        session.add(_age(known, 0, 5))
        golden.add(session, lead, known, floor.now)
    floor.case_of(floor.audited("audited"))
    asked = floor.next(moderator, golden_dice=0.0)
    assert asked is not None
    with transaction(databases.content) as session:
        file = casefile.load(session, vault, floor.policy, moderator, asked, floor.now)
    assert marks.sought(file) == ()
    assert Marks(lambda: served).of(file) is file
    assert all(not part.spans for part in file.parts if isinstance(part, TextView))


def test_what_is_grave_is_marked_only_once_it_is_revealed(ada: people.Member, load: Caseload) -> None:
    (case,) = load.waiting(category="threat", text=TEXT)
    scored(load, case)
    assert "<mark" not in page_of(ada, case)
    (part,) = ada.get(f"/v1/review/cases/{case}").json()["parts"]
    assert (part["text"], part["spans"], part["marked_by"]) == ("", [], "")
    ada.post(f"/console/cases/{case}/reveal")
    assert "idiot" in " ".join(marked_in(page_of(ada, case)))


def test_without_a_model_the_page_has_no_marks_and_no_error(
    ada: people.Member, load: Caseload, databases: Databases, settings: Settings
) -> None:
    (case,) = load.waiting(text=TEXT)
    scored(load, case)
    with artifacts.put_back(databases, settings):
        with support.as_owner(databases.content) as connection:
            connection.execute(sql("DELETE FROM model_aliases WHERE name = :name"), {"name": MODEL})
        page = page_of(ada, case)
    assert TEXT in page
    assert marked_in(page) == []


def test_whatever_fails_the_case_is_shown_without_marks(
    load: Caseload, ann: PersonPrincipal, served: Served
) -> None:
    (case,) = load.waiting(text=TEXT)
    scored(load, case)
    file, asked = file_of(load, ann, case), []

    def broken() -> Served:
        asked.append(1)
        raise ArtifactError("It does not load.")

    failing = Marks(broken)
    assert failing.of(file) is file
    assert failing.of(file) is file
    assert len(asked) == 1, "it is not tried at each page"
    failing.close()
    closed = Marks(lambda: served)
    closed.close()
    assert closed.of(file) is file


class Slow:
    """A classifier that takes its time at will, and counts."""

    def __init__(self, inner: TextClassifier) -> None:
        self.manifest, self._inner, self.calls = inner.manifest, inner, 0

    def score(self, batch: list[str]) -> object:
        self.calls += 1
        time.sleep(0.05)
        return self._inner.score(batch)


def test_a_page_does_not_wait_for_marks_that_take_long_and_has_them_later(
    load: Caseload, ann: PersonPrincipal, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = load.waiting(text=TEXT)
    scored(load, case)
    file, slow = file_of(load, ann, case), Slow(served.text[0])
    kept = Marks(lambda: Served(text=(slow,)))  # type: ignore[arg-type]
    monkeypatch.setattr(api_marks, "WAIT_SECONDS", 0.0)
    assert kept.of(file) is file
    monkeypatch.setattr(api_marks, "WAIT_SECONDS", PATIENCE_SECONDS)
    found = kept.of(file)
    assert any("idiot" in TEXT[span.start : span.end] for span in body(found).spans)
    calls = slow.calls
    assert kept.of(file) == found
    assert slow.calls == calls, "found once for the claim"
    assert "idiot" not in repr(kept._kept), "places and numbers, and nothing of the text"
    kept.close()
    assert not kept._kept


def test_what_is_kept_is_bounded_and_ends(
    load: Caseload, ann: PersonPrincipal, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case, other) = load.waiting(2, text=HARSH)
    for one in (case, other):
        scored(load, one)
    kept = Marks(lambda: served)
    monkeypatch.setattr(api_marks, "MOST_KEPT", 1)
    for one in (case, other):
        kept.of(file_of(load, ann, one))
    assert len(kept._kept) == 1
    assert {key[0] for key in kept._kept} == {load.case(other).item_id}
    monkeypatch.setattr(api_marks, "KEPT_SECONDS", 0.0)
    kept.of(file_of(load, ann, case))
    assert not kept._kept
    kept.close()


def test_a_disguise_is_said_and_marked_where_it_stands(
    ada: people.Member, load: Caseload, served: Served, ann: PersonPrincipal
) -> None:
    disguised = "Nobody here likes you at all, you stupid i.d.i.o.t, so please go home now."
    (case,) = load.waiting(text=disguised)
    scored(load, case, view="words")
    file = file_of(load, ann, case)
    assert marks.sought(file)[0].disguised
    found = marks.Found("text-minilm 1", ((33, 45, 4.0),), "words")
    part = body(marks.shown(file, {marks.sought(file)[0]: found}))
    assert part.seen is not None
    assert "idiot" in part.seen.text
    assert part.seen.spans[0].start == 33
    (span,) = part.spans
    assert 30 <= span.start < span.end <= 52
    page = page_of(ada, case)
    assert "Words were disguised" in page
    assert marked_in(page), "by its own letters, or by those of the view"


def _age(item: UUID, start: int, end: int) -> SignalRow:
    return SignalRow(
        item_id=item,
        part="body",
        detector="age",
        version="1",
        status="ok",
        scores={"underage": 0.6},
        evidence={"start": start, "end": end, "age": 14},
    )


def test_finds_of_rules_are_marked_under_their_own_names(ada: people.Member, load: Caseload) -> None:
    text = "I'm 14 and you are an idiot, see free-prizes.example for more."
    at = text.index("free-prizes.example")
    end = at + len("free-prizes.example")
    bank, entry = "bad_hosts", str(new_id(load.now))
    match = Match("body", bank, entry, "fraud", BankAction.REVIEW, True, how=How.HOST, start=at, end=end)
    elsewhere = Match("body", "other", entry, "fraud", BankAction.REVIEW, True, start=0, end=4, view="words")
    draft = CaseDraft(CaseReason.BANK, "harassment", 2, 0.6)
    (case,) = load.routed(load.items(text=text), Route.REVIEW, draft, matches=(match, elsewhere))
    scored(load, case)
    with transaction(load.engine) as session:
        session.add(_age(load.case(case).item_id, 0, 6))
    (part,) = ada.get(f"/v1/review/cases/{case}").json()["parts"]
    found = {
        (span["label"], text[span["start"] : span["end"]]) for span in part["spans"] if span["weight"] is None
    }
    # What was found in a view that the text doesn't have any more has no place in it.
    assert found == {(bank, "free-prizes.example"), ("stated age", "I'm 14")}
    assert any(span["weight"] and "idiot" in text[span["start"] : span["end"]] for span in part["spans"])
    page = page_of(ada, case)
    assert 'class="found" data-label="bad hosts"' in page
    assert 'class="found" data-label="stated age"' in page
