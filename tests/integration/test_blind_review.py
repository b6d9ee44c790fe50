"""Uncertain items drawn to be judged without a score: decided as any other, and part of the audit."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import CaseDraft, Judgement, Outcome, blind_draft
from moderation.domain.errors import Conflict
from moderation.domain.policy import Policy
from moderation.domain.promises import EVERYTHING, Stratum
from moderation.domain.routing import Route, Routing
from moderation.features import sketch
from moderation.governance import prevalence, transparency
from moderation.governance.policies import PolicyCache
from moderation.governance.prevalence import Prevalence
from moderation.governance.sessions import PersonPrincipal
from moderation.review import (
    casefile,
    claims,
    clusters,
    decisions,
    history,
    labels,
    opinions,
    quality,
    reports,
)
from moderation.review.labels import Source
from moderation.review.opinions import Result
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Case, Item, Opinion
from moderation.storage.vault import Vault
from tests import people
from tests.judging import Floor, at_once
from tests.reviewing import submitted

DAY = timedelta(days=1)
SHARE = 0.25


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def uncertain(floor: Floor, name: str = "post", *, blind: bool = True) -> UUID:
    """A post that people decide anyway, drawn to be judged without a score unless told otherwise."""
    draft = CaseDraft(CaseReason.UNCERTAIN, "hate", 4, 0.5, SHARE if blind else 1.0, blind=blind)
    return floor.decided(
        name, Route.REVIEW, "hate", reason="hate 0.50 in body.", scores={"hate": 0.5}, draft=draft
    )


def test_whoever_judges_it_sees_no_score_and_decides_it(floor: Floor) -> None:
    item, person = uncertain(floor), floor.person()
    assert floor.next(person) == floor.case_of(item), "it is given as any other"
    with transaction(floor.databases.content) as session:
        file = casefile.load(session, floor.vault, floor.policy, person, floor.case_of(item), floor.now)
        assert file.blind
        assert (file.why, file.scores, file.matches, file.history, file.cluster) == ((),) * 5
        assert history.judging_blind(session, item, person.person_id), "nor by other ways"
    answer = floor.give(person, floor.case_of(item), "remove", "hate", number=1)
    assert answer.result is Result.DECIDED, "one opinion decides, as it does of any other"
    with transaction(floor.databases.content) as session:
        opinion = session.scalars(select(Opinion)).one()
        assert (opinion.score_shown, opinion.propensity) == (False, SHARE)
        made = decisions.standing(session, item)
        assert made is not None
        assert (made.route, made.decided_by) == ("remove", "person")


def test_it_says_what_became_of_it_for_it_is_no_check(floor: Floor) -> None:
    category = replace(floor.policy.categories["hate"], opinions=2)
    floor.policy = replace(floor.policy, categories={**floor.policy.categories, "hate": category})
    item = uncertain(floor)
    assert floor.give(floor.person(), floor.case_of(item), "remove", "hate").result is Result.SECOND
    assert floor.give(floor.person(), floor.case_of(item), "allow").result is Result.ADJUDICATION
    lead = floor.person("lead")
    with transaction(floor.databases.content) as session:
        file = casefile.load(session, floor.vault, floor.policy, lead, floor.case_of(item), floor.now)
    assert not file.blind, "who settles it sees everything"
    assert floor.give(lead, floor.case_of(item), "remove", "hate").result is Result.DECIDED


def test_its_label_is_of_the_audit_and_would_have_been_there_anyway(floor: Floor) -> None:
    drawn, plain = uncertain(floor), uncertain(floor, "plain", blind=False)
    for item in (drawn, plain):
        floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    with transaction(floor.databases.content) as session:
        found = {
            one.item_id: one
            for one in labels.labels(session, floor.now, since=floor.now - DAY, until=floor.now + DAY)
        }
    assert (found[drawn].source, found[drawn].propensity) == (Source.AUDIT, 1.0)
    assert (found[plain].source, found[plain].propensity) == (Source.REVIEW, 1.0)
    assert not found[drawn].score_shown
    assert found[plain].score_shown


def test_it_is_no_check_of_what_a_machine_decided(floor: Floor) -> None:
    item = uncertain(floor)
    floor.give(floor.person(), floor.case_of(item), "remove", "hate")
    with transaction(floor.databases.content) as session:
        assert quality.checks(session, floor.now - DAY) == []


def test_it_is_judged_for_itself_and_not_by_its_company(floor: Floor) -> None:
    shown, drawn, other = (
        uncertain(floor, "a", blind=False),
        uncertain(floor, "b"),
        uncertain(floor, "c", blind=False),
    )
    same = sketch.of_text(
        "Looking for a flat near the station from March on, two rooms or three, with a balcony."
    )
    with transaction(floor.databases.content) as session:
        for item in (shown, drawn, other):
            clusters.store(session, clusters.rows(floor.vault, item, [("body", same)]))
    person = floor.person()
    ids = [floor.case_of(item) for item in (shown, drawn, other)]
    with transaction(floor.databases.content) as session:
        assert opinions.together(session, person, ids, floor.now) == {ids[0], ids[2]}
        assert casefile.load(session, floor.vault, floor.policy, person, ids[1], floor.now).cluster == ()
    with pytest.raises(Conflict, match="leave it out"):
        decided_together(floor, person, ids[0], [ids[1]])
    decided_together(floor, person, ids[0], [ids[2]])
    with transaction(floor.databases.content) as session:
        assert {row.id: row.state for row in session.scalars(select(Case))} == {
            ids[0]: "closed", ids[1]: "open", ids[2]: "closed",
        }  # fmt: skip


def decided_together(floor: Floor, person: PersonPrincipal, case_id: UUID, members: list[UUID]) -> None:
    given = opinions.Given(uuid4(), Judgement(Verdict.ALLOW))
    with transaction(floor.databases.content) as session:
        number = claims.claim(session, floor.policy, person, case_id, floor.now).number
        opinions.give_cluster(
            session, floor.vault, floor.policy, person, case_id, number, members, given, floor.now
        )


def test_a_report_raises_it_and_it_stays_blind(floor: Floor) -> None:
    item = uncertain(floor)
    case_id = floor.case_of(item)
    with transaction(floor.databases.content) as session:
        before = session.get_one(Case, case_id)
    with transaction(floor.databases.content) as session:
        reports.report(session, floor.vault, floor.policy, "app", item, "r-1", "threat", "Look.", floor.now)
    with transaction(floor.databases.content) as session:
        after = session.get_one(Case, case_id)
    assert (after.blind, after.propensity) == (True, SHARE)
    assert after.priority >= before.priority
    assert after.deadline <= before.deadline


# Prevalence.


def screened(
    floor: Floor, name: str, stratum: Stratum, share: float, route: Route = Route.ALLOW, *, drawn: bool = True
) -> UUID:
    """A post as a machine decided it, with what is kept of its draw."""
    item = submitted(floor.client, name, author=f"author of {name}")
    draft: CaseDraft | None = None
    if route is Route.REVIEW:
        draft = CaseDraft(CaseReason.UNCERTAIN, "hate", 4, 0.5, share if drawn else 1.0, blind=drawn)
    elif drawn:
        draft = blind_draft(CaseReason.AUDIT, floor.policy, "hate", share)
    routing = Routing(
        route, "hate" if route is not Route.ALLOW else None, 0.9, ("By a test.",), (), stratum=stratum
    )
    with transaction(floor.databases.content) as session:
        row = session.get_one(Item, item)
        outcome = Outcome(routing, (), (), draft, EVERYTHING, stratum, share)
        decisions.record(session, floor.policy, [(row, outcome)], floor.now)
    return item


def judged(
    floor: Floor, item: UUID, verdict: str = "allow", category: str | None = None, people_: int = 1
) -> None:
    for _ in range(people_):
        floor.give(floor.person(), floor.case_of(item), verdict, category)


def measured(floor: Floor) -> dict[str, Prevalence]:
    with transaction(floor.databases.content) as session:
        found = prevalence.prevalence(session, floor.now - DAY, floor.now + DAY)
    return {one.category: one for one in found.rows}


def test_prevalence_weighs_strata_by_what_came_in(floor: Floor) -> None:
    # 8 far items of which 2 were drawn, 2 uncertain ones of which 1 was; a removal, checked; one for people anyway.
    far = [screened(floor, f"far {n}", Stratum.FAR, 0.2, drawn=n < 2) for n in range(8)]
    unsure = [
        screened(floor, f"unsure {n}", Stratum.UNCERTAIN, 0.5, Route.REVIEW, drawn=n < 1) for n in range(2)
    ]
    removed = screened(floor, "removed", Stratum.NEAR, 0.5, Route.REMOVE)
    banked = screened(floor, "banked", Stratum.OTHER, 0.0, Route.REVIEW, drawn=False)
    judged(floor, far[0])
    judged(floor, far[1], "remove", "hate", people_=2)  # a miss is looked at twice before it counts
    judged(floor, unsure[0], "limit", "spam", people_=2)  # its score for spam is low: a second person looks
    judged(floor, unsure[1], "remove", "hate")  # was shown a score: no part of the sample
    judged(floor, removed, "remove", "hate")
    judged(floor, banked, "remove", "fraud")
    found = measured(floor)
    assert found["hate"].share == pytest.approx((8 * 0.5 + 1 * 1.0) / 12)
    assert found["spam"].share == pytest.approx(2 / 12)
    assert found["fraud"].share == pytest.approx(1 / 12)
    assert found["any"].share == pytest.approx((4 + 2 + 1 + 1) / 12)
    assert (found["any"].judged, found["any"].found) == (5, 4)
    assert found["threat"].share == 0.0
    assert found["threat"].high is not None
    assert found["threat"].high > 0.1, "nothing found is not nothing there"
    with transaction(floor.databases.content) as session:
        made = transparency.report(session, PolicyCache(), floor.now - DAY, floor.now + DAY, floor.now)
    section = made.sections["prevalence"]
    assert (section["items"], section["covered"]) == (12, 1.0)
    assert section["hate"]["share"] == pytest.approx(found["hate"].share, abs=1e-6)
    assert set(section) == {"items", "covered", "any", "hate", "spam", "fraud"}


def test_a_miss_counts_only_once_a_second_person_has_seen_it(floor: Floor) -> None:
    item = screened(floor, "post", Stratum.FAR, 0.2)
    assert measured(floor)["any"].share is None
    judged(floor, item, "remove", "hate")
    assert measured(floor)["any"].share is None, "one person said so"
    judged(floor, item, "allow")
    assert measured(floor)["any"].share is None, "another did not"
    floor.give(floor.person("lead"), floor.case_of(item), "allow")
    assert measured(floor)["any"].share == 0.0, "it was a slip"


def test_what_had_no_chance_of_being_drawn_is_said(floor: Floor) -> None:
    item = screened(floor, "drawn", Stratum.NEAR, 0.5)
    screened(floor, "budget spent", Stratum.FAR, 0.0, drawn=False)
    screened(floor, "nobody looked", Stratum.FAR, 0.2, drawn=False)
    floor.decided("from before")
    judged(floor, item)
    with transaction(floor.databases.content) as session:
        found = prevalence.prevalence(session, floor.now - DAY, floor.now + DAY)
    assert (found.items, found.covered) == (3, pytest.approx(1 / 3))
    assert found.rows[0].share == 0.0


def test_what_was_decided_after_the_check_counts(floor: Floor) -> None:
    """An answer to an appeal, say: people have come to another mind."""
    item = screened(floor, "post", Stratum.NEAR, 0.5, Route.REMOVE)
    judged(floor, item, "remove", "hate")
    floor.now += timedelta(minutes=1)
    with transaction(floor.databases.content) as session:
        standing = decisions.standing(session, item)
        assert standing is not None
        decisions.reverse(
            session,
            floor.vault,
            floor.policy,
            floor.person("lead"),
            standing.id,
            floor.now,
            "It quotes a song.",
        )
    assert measured(floor)["any"].share == 0.0


def test_the_error_of_machines_counts_a_miss_that_somebody_else_corrected_first(floor: Floor) -> None:
    """Reported and removed before its check was judged: the check agrees with people, and the machine was wrong."""
    item = screened(floor, "post", Stratum.FAR, 0.5)
    with transaction(floor.databases.content) as session:
        reports.report(session, floor.vault, floor.policy, "app", item, "r-1", "hate", "Look.", floor.now)
    floor.give(floor.person(), floor.case_of(item, "review"), "remove", "hate")
    floor.give(floor.person(), floor.case_of(item, "quality"), "remove", "hate")
    with transaction(floor.databases.content) as session:
        made = transparency.report(session, PolicyCache(), floor.now - DAY, floor.now + DAY, floor.now)
    assert made.sections["automation_error"]["allowed"] | {"low": 0} == {
        "drawn": 1, "judged": 1, "wrong": 1, "share": 1.0, "low": 0, "high": 1.0,
    }  # fmt: skip


def test_the_api_and_the_pages_show_it(floor: Floor, settings: Settings) -> None:
    with (
        people.logged_in(settings, floor.databases, floor.vault, "lead") as lead,
        people.browsing(settings) as browser,
    ):
        browser.enter(people.new_account(floor.databases, floor.vault, "lead"))
        shown = lead.get("/v1/review/prevalence").json()
        assert shown["rows"][0] | {"category": "any", "share": None} == shown["rows"][0]
        assert "No blind check was judged yet." in browser.look("/console/quality").text
        item = screened(floor, "post", Stratum.FAR, 0.5)
        judged(floor, item, "remove", "hate", people_=2)
        (row,) = [
            one for one in lead.get("/v1/review/prevalence").json()["rows"] if one["category"] == "hate"
        ]
        assert (row["judged"], row["found"], row["share"]) == (1, 1, 1.0)
        assert "100.00 %" in browser.look("/console/quality").text
        browser.enter(people.new_account(floor.databases, floor.vault, "legal", email="c@example.org"))
        assert "100.00 %" in browser.look("/console/governance/transparency").text


@pytest.mark.parametrize(
    ("score", "verdict", "category", "asked_again"),
    [
        (0.3, "remove", "hate", True),  # a miss of whatever lets pass below a threshold beyond 0.3
        (0.7, "remove", "hate", False),
        (0.7, "allow", None, True),  # a mistake of whatever removes from a threshold before 0.7
        (0.3, "allow", None, False),
        (0.7, "remove", "spam", True),  # nothing was found of spam
    ],
)
def test_a_find_that_scores_do_not_suggest_is_looked_at_twice(
    floor: Floor, score: float, verdict: str, category: str | None, asked_again: bool
) -> None:
    for blind in (True, False):
        draft = CaseDraft(CaseReason.UNCERTAIN, "hate", 4, 0.5, SHARE if blind else 1.0, blind=blind)
        item = floor.decided(
            f"post {blind}", Route.REVIEW, "hate", reason="hate.", scores={"hate": score}, draft=draft
        )
        answer = floor.give(floor.person(), floor.case_of(item), verdict, category)
        expected = Result.SECOND if blind and asked_again else Result.DECIDED
        assert answer.result is expected
    if asked_again:
        item = uncertain(floor, "another")
        first = floor.give(floor.person(), floor.case_of(item), "allow")
        second = floor.give(floor.person(), floor.case_of(item), "remove", "hate")
        assert (first.result, second.result) == (Result.SECOND, Result.ADJUDICATION), (
            "they differ: a lead settles"
        )
