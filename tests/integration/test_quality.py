"""Checks of judgement: audit draws, blind second opinions, golden items, samples, and the numbers made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from moderation.domain.cases import CaseReason
from moderation.domain.decisions import blind_draft
from moderation.domain.errors import Conflict, Gone, InvalidInput, NotFound
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import BankAction, Match
from moderation.governance import audit, bank_lists
from moderation.governance.bank_lists import By, Use
from moderation.governance.banks import NOT_THE_SAME
from moderation.governance.sessions import PersonPrincipal
from moderation.review import casefile, golden, labels, listing, quality
from moderation.review.opening import open_case
from moderation.review.opinions import Result
from moderation.review.quality import Rate, Sampling
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import moment_of
from moderation.storage.tables import Appeal, AuditEvent, Case, Decision, Item, Opinion, Person
from moderation.storage.vault import Vault
from tests import support
from tests.judging import Floor, at_once

DAY = timedelta(days=1)


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


@pytest.fixture
def lead(floor: Floor) -> PersonPrincipal:
    return floor.person("lead")


@pytest.fixture
def moderator(floor: Floor) -> PersonPrincipal:
    return floor.person()


def made_golden(floor: Floor, lead: PersonPrincipal, item: UUID) -> UUID:
    with transaction(floor.databases.content) as session:
        golden.add(session, lead, item, floor.now)
    return item


def test_a_drawn_item_stays_decided_and_is_checked_blind(
    client: TestClient, settings: Settings, databases: Databases
) -> None:
    item = client.post("/v1/items", json=support.post()).json()
    support.drain(settings, dice=0.0)
    shown = client.get(item["status_url"]).json()
    assert (shown["status"], shown["verdict"], shown["decided_by"]) == ("decided", "allow", "machine")
    with transaction(databases.content) as session:
        (case,) = session.scalars(select(Case)).all()
        assert (case.kind, case.reason, case.blind, case.state) == ("quality", "audit", True, "open")
        assert case.propensity in (0.005, 0.05)
        assert case.decision_id == session.scalars(select(Decision.id)).one()
        assert not case.urgent


def test_a_share_of_zero_draws_nothing(client: TestClient, settings: Settings, databases: Databases) -> None:
    client.post("/v1/items", json=support.post())
    support.drain(settings, dice=0.05)
    assert support.count(databases.content, "cases") == 0


def test_a_second_opinion_is_asked_of_somebody_else_who_sees_nothing(
    floor: Floor, moderator: PersonPrincipal
) -> None:
    item = floor.decided("post", Route.REVIEW, "hate")
    answer = floor.give(moderator, floor.case_of(item), "remove", "hate", dice=0.0)
    assert answer.result is Result.DECIDED
    check = floor.case_of(item, "quality")
    with transaction(floor.databases.content) as session:
        case = session.get_one(Case, check)
        assert (case.reason, case.blind) == ("second_opinion", True)
        assert case.propensity == floor.policy.review.second_opinion_share
        assert case.decision_id == answer.decision_id
    with pytest.raises(Conflict, match="part in"):
        floor.give(moderator, check)
    assert floor.next(moderator) is None
    other = floor.person()
    assert floor.next(other) == check
    with transaction(floor.databases.content) as session:
        file = casefile.load(session, floor.vault, floor.policy, other, check, floor.now)
    assert file.blind
    assert (file.why, file.scores, file.matches, file.opinions, file.history) == ((),) * 5
    assert floor.give(other, check, "remove", "hate").result is Result.CONFIRMED


def test_nothing_tells_a_golden_case_from_an_audit_draw(
    floor: Floor, lead: PersonPrincipal, moderator: PersonPrincipal
) -> None:
    made_golden(floor, lead, floor.decided("known", Route.REMOVE, "hate", scores={"hate": 0.99}))
    audited = floor.audited("audited")
    real, other = floor.case_of(audited), floor.person()
    assert floor.next(other) == real
    asked = floor.next(moderator, golden_dice=0.0)
    assert asked is not None
    assert asked != real
    shown = []
    for person, case_id in ((moderator, asked), (other, real)):
        with transaction(floor.databases.content) as session:
            case = session.get_one(Case, case_id)
            assert abs(moment_of(case.id) - case.opened_at) < timedelta(milliseconds=2), (
                "the id tells the time"
            )
            assert case.opened_at <= floor.now
            file = casefile.load(session, floor.vault, floor.policy, person, case_id, floor.now)
            assert "golden" not in repr(file)
            row = listing.view(case, floor.now)
            shown.append((row.kind, row.reason, row.queue, row.category, row.severity, row.priority,
                          row.urgent, row.blind, row.stage, row.reserved_for, file.forewarning))  # fmt: skip
    assert shown[0] == shown[1]
    # Found wrong, a golden answer and a decision under audit are answered alike.
    assert floor.give(moderator, asked, "allow", number=1).result is Result.CONFIRMED
    assert floor.give(other, real, "remove", "hate").result is Result.CONFIRMED
    with transaction(floor.databases.content) as session:
        assert session.get_one(Case, asked).state == "closed"
        made = session.scalars(
            select(Decision).where(Decision.item_id == session.get_one(Case, asked).item_id)
        )
        assert [row.route for row in made] == ["remove"], "a golden answer changes nothing"


def test_a_golden_case_waits_as_long_as_other_checks_did(
    floor: Floor, lead: PersonPrincipal, moderator: PersonPrincipal
) -> None:
    item = made_golden(floor, lead, floor.decided("golden"))
    other = floor.audited("audited")
    floor.now += 5 * timedelta(hours=1)
    floor.give(floor.person(), floor.case_of(other))
    asked = floor.next(moderator, golden_dice=0.0)
    with transaction(floor.databases.content) as session:
        case = session.get_one(Case, asked)
        assert case.item_id == item
        assert floor.now - case.opened_at == timedelta(hours=5)


def test_nobody_is_asked_twice_or_about_what_they_know(floor: Floor, lead: PersonPrincipal) -> None:
    decider, skipper, opted_out, elsewhere = (floor.person() for _ in range(4))
    item = floor.decided("post", Route.REVIEW, "hate")
    floor.give(decider, floor.case_of(item), "remove", "hate")
    made_golden(floor, lead, item)
    with transaction(floor.databases.content) as session:
        for person, change in ((opted_out, {"opt_outs": ["hate"]}), (elsewhere, {"queues": ["spam"]})):
            session.execute(update(Person).where(Person.id == person.person_id).values(**change))
    for person in (lead, decider, opted_out, elsewhere):
        assert floor.next(person, golden_dice=0.0) is None
    asked = floor.next(skipper, golden_dice=0.0)
    assert asked is not None
    assert floor.next(skipper, golden_dice=0.0) == asked, "it is in hand"
    floor.give(skipper, asked, "remove", "hate", number=1)
    assert floor.next(skipper, golden_dice=0.0) is None
    fresh = floor.person()
    assert floor.next(fresh, 0.0, queue="spam") is None, "who asks for spam would notice"
    assert floor.next(fresh, 0.0, reason="report") is None
    assert floor.next(fresh, 0.0, queue="hate") is not None


def test_a_golden_case_lies_in_the_list_of_whom_it_is_for_and_in_no_other(
    floor: Floor, lead: PersonPrincipal, moderator: PersonPrincipal
) -> None:
    made_golden(floor, lead, floor.decided("known"))
    asked = floor.next(moderator, golden_dice=0.0)
    with transaction(floor.databases.content) as session:
        for person_id, mine, expected in (
            (moderator.person_id, True, [asked]), (moderator.person_id, False, [asked]),
            (lead.person_id, False, []), (None, False, []),
        ):  # fmt: skip
            for reason in (None, "audit", "golden"):
                wanted = listing.Filter(mine=mine, reason=reason)
                rows = listing.listing(session, wanted, floor.now, person_id=person_id)
                assert [row.id for row in rows] == (expected if reason != "golden" else [])
        assert listing.queues(session, floor.now) == []


def test_who_left_a_golden_case_unanswered_is_given_it_again_and_never_anew(
    floor: Floor, lead: PersonPrincipal, moderator: PersonPrincipal
) -> None:
    item = made_golden(floor, lead, floor.decided("known"))
    asked = floor.next(moderator, golden_dice=0.0)
    floor.now += DAY
    assert floor.next(moderator, reason="golden") is None
    assert floor.next(moderator, reason="audit") == asked
    floor.now += DAY
    assert floor.next(moderator, golden_dice=0.0) == asked
    floor.now += DAY
    with transaction(floor.databases.content) as session:
        golden.retire(session, lead, item, floor.now)
        golden.add(session, lead, item, floor.now)
    assert floor.next(moderator, golden_dice=0.0) is None
    assert floor.next(floor.person(), golden_dice=0.0) is not None


def test_what_ended_or_was_decided_anew_is_golden_no_more(floor: Floor, lead: PersonPrincipal) -> None:
    ended, changed, retired = (made_golden(floor, lead, floor.decided(name)) for name in ("a", "b", "c"))
    assert floor.next(floor.person(), golden_dice=0.0) is not None
    with transaction(floor.databases.content) as session:
        session.execute(update(Item).where(Item.id == ended).values(destroyed_at=floor.now))
        session.execute(update(Decision).where(Decision.item_id == changed).values(route="remove"))
        golden.retire(session, lead, retired, floor.now)
        with pytest.raises(NotFound):
            golden.retire(session, lead, retired, floor.now)
    assert floor.next(floor.person(), golden_dice=0.0) is None
    with transaction(floor.databases.content) as session:
        golden.add(session, lead, retired, floor.now)
    assert floor.next(floor.person(), golden_dice=0.0) is not None, "added again"


def test_only_what_is_settled_and_bearable_becomes_golden(floor: Floor, lead: PersonPrincipal) -> None:
    in_review = floor.decided("review", Route.REVIEW, "hate")
    minors = floor.decided("minors", Route.LIMIT, "underage")
    deleted, appealed = floor.decided("deleted"), floor.decided("appealed", Route.REMOVE, "hate")
    assert floor.client.request("DELETE", f"/v1/items/{deleted}").status_code in (200, 202, 204)
    with transaction(floor.databases.content) as session:
        decision = session.scalars(select(Decision).where(Decision.item_id == appealed)).one()
        session.add(Appeal(
            id=UUID(int=1), decision_id=decision.id, item_id=appealed, author_id=decision.author_id,
            client="app", by="author", lodged_at=floor.now, deadline=floor.now, state="open",
        ))  # fmt: skip
    for item, refusal in (
        (UUID(int=5), NotFound), (in_review, Conflict), (minors, InvalidInput), (deleted, Gone),
        (appealed, Conflict),
    ):  # fmt: skip
        with pytest.raises(refusal), transaction(floor.databases.content) as session:
            golden.add(session, lead, item, floor.now)


def test_a_golden_answer_can_be_contested_once_by_whoever_gave_it(
    floor: Floor, lead: PersonPrincipal, moderator: PersonPrincipal
) -> None:
    item = made_golden(floor, lead, floor.decided("golden", Route.REMOVE, "hate"))
    asked, right = floor.next(moderator, golden_dice=0.0), floor.person()
    assert asked is not None
    opinion = floor.give(moderator, asked, "allow", number=1).opinion_id
    same = floor.next(right, golden_dice=0.0)
    assert same is not None
    floor.give(right, same, "remove", "hate", number=1)
    with transaction(floor.databases.content) as session:
        with pytest.raises(NotFound):
            golden.contest(session, floor.vault, right, opinion, "Not mine", floor.now)
        with pytest.raises(InvalidInput):
            golden.contest(session, floor.vault, moderator, opinion, "  ", floor.now)
        golden.contest(session, floor.vault, moderator, opinion, "It quotes a song.", floor.now)
        with pytest.raises(Conflict):
            golden.contest(session, floor.vault, moderator, opinion, "Again", floor.now)
        (contest,) = golden.contests(session, floor.vault, lead, floor.now)
        assert (contest.item_id, contest.why) == (item, "It quotes a song.")
        assert (contest.right_verdict, contest.given_verdict) == ("remove", "allow")
        with pytest.raises(Conflict):
            golden.settle(session, moderator, opinion, floor.now, upheld=False)
        (view,) = golden.listing(session)
        assert (view.answered, view.agreed, view.contested) == (2, 1, 1)
        golden.settle(session, lead, opinion, floor.now, upheld=False)
        with pytest.raises(NotFound):
            golden.settle(session, lead, opinion, floor.now, upheld=True)
        assert golden.listing(session)[0].retired_at == floor.now
        assert not golden.contests(session, floor.vault, lead, floor.now)
        # Withdrawn, it counts for and against nobody; who contested it sees what became of that.
        mine = quality.own_results(session, moderator, floor.now - DAY)
        assert [(answer.contested, answer.right) for answer in mine.golden] == [("withdrawn", False)]
        assert not quality.own_results(session, right, floor.now - DAY).golden


def test_own_results_are_of_whoever_asks(floor: Floor, moderator: PersonPrincipal) -> None:
    other, third = floor.person(), floor.person()
    for number in range(3):
        item = floor.decided(f"post {number}", Route.REVIEW, "hate")
        floor.give(moderator, floor.case_of(item), "remove", "hate", dice=0.0)
        if number:
            floor.give(
                other,
                floor.case_of(item, "quality"),
                "remove" if number == 1 else "allow",
                "hate" if number == 1 else None,
            )
    floor.give(third, floor.case_of(item, "quality"), "allow")
    with transaction(floor.databases.content) as session:
        mine = quality.own_results(session, moderator, floor.now - DAY)
        assert (mine.opinions, mine.decisions, mine.checked, mine.overturned) == (3, 3, 2, 1)
        seconded = quality.own_results(session, other, floor.now - DAY)
        assert (seconded.opinions, seconded.decisions) == (2, 0), (
            "the decision is of whoever gave the last word"
        )
        assert quality.own_results(session, third, floor.now - DAY).decisions == 1


def test_agreement_counts_what_was_judged_independently(floor: Floor, lead: PersonPrincipal) -> None:
    first, second = floor.person(), floor.person()
    # Two agree on removing, two on allowing, and on one item they differ.
    for name, one, two in (("a", "remove", "remove"), ("b", "allow", "allow"), ("c", "remove", "allow")):
        item = floor.decided(name, Route.REVIEW, "hate")
        floor.give(first, floor.case_of(item), one, "hate" if one == "remove" else None, dice=0.0)
        floor.give(second, floor.case_of(item, "quality"), two, "hate" if two == "remove" else None)
    # None of these is independent, or of somebody else: a lead's own word, and a single opinion.
    floor.give(floor.person(), floor.case_of(item, "quality"), "remove", "hate")
    floor.give(lead, floor.case_of(item, "quality"), "remove", "hate")
    floor.give(first, floor.case_of(floor.decided("d", Route.REVIEW, "hate")), "allow")
    with transaction(floor.databases.content) as session:
        report = quality.agreement(session, floor.now - DAY, floor.now + DAY, seed=1)
        again = quality.agreement(session, floor.now - DAY, floor.now + DAY, seed=1)
        before = quality.agreement(session, floor.now - 2 * DAY, floor.now - DAY)
    # Units rr, aa, rar: observed 2 * 1 * 2 / 2 = 2 mixed of 7; removals 4, allowed 3: expected 24 of 42.
    assert report.overall.alpha == pytest.approx(1 - (2 / 7) / (24 / 42))
    assert (report.overall.cases, report.overall.opinions) == (3, 7)
    assert report.categories["hate"].alpha == report.overall.alpha
    assert again == report
    assert (before.overall.alpha, before.overall.cases) == (None, 0)


def test_overturned_decisions_by_what_led_to_them(floor: Floor) -> None:
    known = Match("body", "known_spam", "1", "spam", BankAction.REMOVE, verified=True)
    wrong = floor.decided("a", Route.REMOVE, "hate", scores={"hate": 0.98, "spam": 0.4})
    checked = floor.audited("b")
    floor.decided("c", scores={"spam": 0.2, "hate": 0.1})
    banked = floor.decided("d", Route.REMOVE, "spam", matches=(known,))
    floor.decided(
        "e", Route.LIMIT, None, reason="model-hate could not judge body; the policy then says limit."
    )
    people = [floor.person() for _ in range(2)]
    floor.give(people[0], floor.case_of(checked), "allow")
    for item in (wrong, banked):
        with transaction(floor.databases.content) as session:
            quality_case(floor, item)
        for person in people:
            floor.give(person, floor.case_of(item, "quality"), "allow")
    cited = floor.decided("f", Route.REVIEW, "hate")
    floor.give(people[0], floor.case_of(cited), "remove", "hate")
    with transaction(floor.databases.content) as session:
        found = quality.overturns(session, floor.now - DAY)
        assert quality.overturns(session, floor.now + DAY).detectors == ()
    assert found.detectors == (Rate("model-hate", 2, 2, 1), Rate("model-spam", 1, 0, 0))
    assert found.banks == (Rate("known_spam", 1, 1, 1),)
    assert found.clauses == (Rate("D1", 1, 0, 0),)
    assert [rate.share for rate in found.detectors] == [0.5, None]


def test_a_match_was_wrong_if_people_were_milder_or_said_it_is_not_the_same(floor: Floor) -> None:
    known = Match("body", "known", "e1", "spam", BankAction.REMOVE, verified=True)
    limits = replace(known, entry="e2", action=BankAction.LIMIT)
    asks = replace(known, entry="e3", verified=False)
    moderator = floor.person()

    def settled(name: str, matches: tuple[Match, ...], verdict: str) -> UUID:
        item = floor.decided(name, Route.REVIEW, "spam", matches=matches)
        floor.give(moderator, floor.case_of(item), verdict, None if verdict == "allow" else "spam")
        return item

    settled("milder", (known,), "limit")
    settled("as asked", (known, replace(known, part="title")), "remove")
    settled("graver", (limits,), "remove")
    settled("worth a look", (asks,), "limit")
    settled("fine", (asks, limits), "allow")
    other = settled("another", (replace(asks, bank="other", entry="e4"),), "remove")
    floor.decided("unseen", Route.REMOVE, "spam", matches=(known,))
    floor.give(moderator, floor.case_of(floor.audited("confirmed", matches=(limits,))), "allow")
    with transaction(floor.databases.content) as session:
        event = audit.Event("operator", NOT_THE_SAME, "bank_entry", "e4", {"item": str(other)})
        audit.record(session, [event, replace(event, subject_id="e1")], floor.now)
        since = floor.now - DAY
        assert bank_lists.uses(session, By.ENTRY, since) == {
            "e1": Use(matches=3, judged=2, wrong=1),
            "e2": Use(matches=3, judged=3, wrong=1),
            "e3": Use(matches=2, judged=2, wrong=1),
            "e4": Use(matches=1, judged=1, wrong=1),
        }
        banks = bank_lists.uses(session, By.BANK, since)
        assert banks == {"known": Use(matches=7, judged=6, wrong=2), "other": Use(1, 1, 1)}
        assert bank_lists.uses(session, By.BANK, since, bank="other") == {"other": Use(1, 1, 1)}
        assert not bank_lists.uses(session, By.BANK, floor.now + DAY)
        # Who gets it wrong is a bank or a detector, and the two pages speak of the same.
        found = quality.overturns(session, since)
        assert found.banks == (Rate("known", 7, 6, 2), Rate("other", 1, 1, 1))
        assert found.detectors == (Rate("model-hate", 1, 1, 0),), "the bank asked for less than was allowed"


def test_a_match_in_quarantine_only_asked_people(floor: Floor) -> None:
    held = Match("body", "known", "e1", "hate", BankAction.REMOVE, verified=True, quarantined=True)
    floor.decided("removed for its score", Route.REMOVE, "hate", matches=(held,))
    item = floor.decided("limited by a person", Route.REVIEW, "hate", matches=(held,))
    floor.give(floor.person(), floor.case_of(item), "limit", "hate")
    with transaction(floor.databases.content) as session:
        found = quality.overturns(session, floor.now - DAY)
    assert found.detectors == (Rate("model-hate", 1, 0, 0),), "the score led to it"
    assert found.banks == (Rate("known", 2, 1, 0),), "to limit is not milder than to look"


def test_what_somebody_chose_is_in_no_estimate(floor: Floor) -> None:
    item = floor.decided("post", Route.REMOVE, "hate")
    draft = blind_draft(CaseReason.REQUESTED, floor.policy, "hate")
    with transaction(floor.databases.content) as session:
        row = session.get_one(Item, item)
        decision = session.scalars(select(Decision.id).where(Decision.item_id == item)).one()
        open_case(session, floor.policy, row, decision, draft, floor.now)
    case = floor.case_of(item, "quality")
    for _ in range(2):
        floor.give(floor.person(), case, "allow")
    with transaction(floor.databases.content) as session:
        assert session.get_one(Case, case).state == "closed"
        assert quality.checks(session, floor.now - DAY) == []
        assert quality.agreement(session, floor.now - DAY, floor.now + DAY).overall.cases == 0
        (label,) = labels.labels(session, floor.now, since=floor.now - DAY, until=floor.now + DAY)
        assert (label.source, label.propensity, label.score_shown) == ("requested", 1.0, False)


def quality_case(floor: Floor, item: UUID) -> None:
    """Draw this item, and no other, into a sample."""
    with transaction(floor.databases.content) as session:
        (category,) = session.scalars(
            select(Decision.category).where(Decision.item_id == item, Decision.superseded_at.is_(None))
        )
        quality.sample(
            session,
            floor.policy,
            floor.person("lead"),
            Sampling(route="remove", category=category),
            1,
            "s",
            floor.now,
        )


def test_a_sample_is_drawn_by_chance_and_says_with_which(floor: Floor, lead: PersonPrincipal) -> None:
    removed = [floor.decided(f"r{number}", Route.REMOVE, "hate") for number in range(8)]
    floor.decided("allowed")
    floor.decided("review", Route.REVIEW, "hate")
    gone = floor.decided("gone", Route.REMOVE, "hate")
    assert floor.client.request("DELETE", f"/v1/items/{gone}").status_code in (200, 202, 204)
    wanted = Sampling(days=1, route="remove", category="hate")
    with transaction(floor.databases.content) as session:
        drawn = quality.sample(session, floor.policy, lead, wanted, 2, "seed", floor.now)
        again = quality.sample(session, floor.policy, lead, wanted, 100, "seed", floor.now)
        nothing = quality.sample(session, floor.policy, lead, Sampling(clause="H1"), 5, "seed", floor.now)
        rows = session.scalars(select(Case).where(Case.reason == "sample")).all()
        assert {row.item_id for row in rows} == set(removed)
        assert all(row.blind and row.kind == "quality" for row in rows)
        assert {row.propensity for row in rows if row.id in drawn.cases} == {0.25}
        assert "quality.sampled" in session.scalars(select(AuditEvent.action)).all()
    assert (drawn.population, drawn.propensity, len(drawn.cases)) == (8, 0.25, 2)
    assert (again.population, again.propensity, len(again.cases)) == (6, 1.0, 6), (
        "the first two are out already"
    )
    assert (nothing.population, nothing.cases) == (0, ())


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (Sampling(), 0),
        (Sampling(), 201),
        (Sampling(days=0), 5),
        (Sampling(days=91), 5),
        (Sampling(route="review"), 5),
    ],
)
def test_what_can_not_be_drawn_is_refused(
    floor: Floor, lead: PersonPrincipal, wanted: Sampling, count: int
) -> None:
    with pytest.raises(InvalidInput), transaction(floor.databases.content) as session:
        quality.sample(session, floor.policy, lead, wanted, count, "seed", floor.now)


def test_checks_weigh_each_by_what_it_stands_for(floor: Floor) -> None:
    first, second = floor.person(), floor.person()
    # Of a stratum drawn at 1 in 2 one of two is wrong; of one drawn at 1 in 10 none of two.
    items = [floor.audited(f"{share} {n}", share=share) for share in (0.5, 0.1) for n in range(2)]
    floor.audited("waiting", share=0.5)
    for index, item in enumerate(items):
        verdict, category = ("remove", "hate") if index == 0 else ("allow", None)
        floor.give(first, floor.case_of(item), verdict, category)
    floor.give(second, floor.case_of(items[0]), "remove", "hate")
    with transaction(floor.databases.content) as session:
        (check,) = quality.checks(session, floor.now - DAY)
    assert (check.reason, check.opened, check.judged, check.wrong) == ("audit", 5, 4, 1)
    assert check.estimate == pytest.approx(2 / (2 + 2 + 10 + 10))


def test_nobody_is_named_in_what_leaves(floor: Floor) -> None:
    person = floor.person()
    item = floor.decided("post", Route.REVIEW, "hate")
    floor.give(person, floor.case_of(item), "remove", "hate")
    with transaction(floor.databases.content) as session:
        assert session.scalars(select(Opinion.person_id)).one() == person.person_id
        numbers = (
            quality.agreement(session, floor.now - DAY, datetime.now(UTC) + DAY),
            quality.overturns(session, floor.now - DAY),
            quality.checks(session, floor.now - DAY),
            golden.listing(session),
            golden.contests(session, floor.vault, floor.person(), floor.now),
        )
    assert str(person.person_id) not in repr(numbers)
