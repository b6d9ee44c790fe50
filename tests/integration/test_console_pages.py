"""The pages beside the queue: empty, filled, asked for what makes no sense, and by whom they may be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from api.console import charts
from api.console.kept import Kept
from api.console.routes import dashboard as page
from api.console.routes.policy import difference
from moderation.domain.access import Role
from moderation.domain.cases import CaseReason, Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Restriction
from moderation.domain.policy import Policy
from moderation.domain.routing import Route
from moderation.domain.signals import BankAction, Match
from moderation.features.hashes import sha256, text_digest
from moderation.governance import audit, bank_lists, policies
from moderation.review import appeals, claims, dashboard, golden, opinions, quality, search
from moderation.review.opinions import Given
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, BankEntry, Case, Decision, Item, PersonSession
from moderation.storage.vault import Vault
from tests import hostile, people, support
from tests.judging import Floor, at_once
from tests.people import Member

PAGES = {
    "/console/": "Dashboard",
    "/console/items": "Search",
    "/console/appeals": "Appeals",
    "/console/banks": "Banks",
    "/console/policy": "version 1",
    "/console/policy/versions": "Versions",
    "/console/policy/edit": "Edit the policy",
    "/console/audit": "Audit log",
    "/console/quality": "Quality",
}
NOBODY = "019ab000-0000-7000-8000-000000000000"


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    """Somebody who may do everything on these pages."""
    with people.logged_in(settings, databases, vault, Role.LEAD, Role.AUDITOR) as member:
        yield member


@pytest.fixture
def moderator(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with people.logged_in(settings, databases, vault, Role.MODERATOR) as member:
        yield member


@pytest.fixture
def floor(client: TestClient, databases: Databases, vault: Vault, policy: Policy) -> Floor:
    return Floor(client, databases, vault, at_once(policy))


def judged(floor: Floor, name: str = "rude", measure: AccountMeasure | None = None) -> UUID:
    """An item that a person limited."""
    item = floor.decided(name, Route.REVIEW, "harassment")
    case, person = floor.case_of(item), floor.person()
    judgement = Judgement(Verdict.LIMIT, "harassment", "H1", (Restriction.LABEL,), measure)
    with transaction(floor.databases.content) as session:
        number = claims.claim(session, floor.policy, person, case, floor.now).number
        given = Given(uuid4(), judgement)
        opinions.give(session, floor.vault, floor.policy, person, case, number, given, floor.now, 1.0)
    return item


def events(databases: Databases, action: str) -> list[AuditEvent]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action)))


def stale(databases: Databases, person_id: UUID) -> None:
    """Have the person's second factor be of an hour ago."""
    with transaction(databases.content) as session:
        past = datetime.now(UTC) - timedelta(hours=1)
        session.execute(
            update(PersonSession).where(PersonSession.person_id == person_id).values(confirmed_at=past)
        )


# ---- every page -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_an_empty_service_says_so(lead: Member, path: str) -> None:
    answer = lead.get(path)
    assert answer.status_code == 200, answer.text
    assert PAGES[path] in answer.text
    assert "style=" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", PAGES)
def test_every_page_of_a_filled_service(lead: Member, floor: Floor, path: str) -> None:
    item = judged(floor, measure=AccountMeasure.STRIKE)
    floor.decided("fine")
    support.bank_of(floor.databases, text_digest("known"), "remove", floor.now)
    with transaction(floor.databases.content) as session:
        golden.add(session, floor.person("lead"), item, datetime.now(UTC))
    assert lead.get(path).status_code == 200


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/console/items?from=yesterday", "From must be a date"),
        ("/console/items?from=2026-11-22&amp;to=2026-11-01".replace("&amp;", "&"), "exchange the two dates"),
        ("/console/items?item=12", "32 hexadecimal digits"),
        ("/console/items?client=nobody", "The content service must be one of"),
        ("/console/items?verdict=maybe", "The verdict must be one of"),
        ("/console/items?before=zz", "The place to go on from"),
        ("/console/items?external_id=%00", "printable characters"),
        ("/console/items?to=1066-10-14", "To must lie between"),
        ("/console/appeals?show=all", "What to show must be one of"),
        ("/console/audit?action=DROP", "An action looks like"),
        ("/console/audit?subject_id=a%20b", "A subject is an id"),
        ("/console/audit?to=tomorrow", "To must be a date"),
        ("/console/items/12", "item_id"),
        ("/console/policy/versions/9", "There is no version 9"),
        ("/console/banks/nothing", "There is no bank named"),
        (f"/console/items/{NOBODY}", "There is no item with this id"),
        (f"/console/authors/{NOBODY}", "There is no author with this id"),
    ],
)
def test_what_makes_no_sense_is_answered_by_a_sentence(
    lead: Member, client: TestClient, path: str, sentence: str
) -> None:
    answer = lead.get(path)
    assert answer.status_code in (404, 422)
    assert sentence in answer.text
    assert "<h1>" in answer.text, "a page, and not a document for programs"


def test_who_may_not_is_told_which_permission_it_takes(moderator: Member) -> None:
    for path in ("/console/audit", "/console/quality", "/console/policy/edit"):
        answer = moderator.get(path)
        assert answer.status_code == 403
        assert "None of your roles carries" in answer.text


# ---- dashboard --------------------------------------------------------------------------------------------


def test_the_dashboard_counts(floor: Floor, lead: Member) -> None:
    judged(floor)
    floor.decided("fine")
    floor.decided("unclear", Route.REVIEW, "hate")
    start = dashboard.start_of_hour(datetime.now(UTC))
    with transaction(floor.databases.content) as session:
        now = datetime.now(UTC)
        hours = dashboard.hours(session, start - timedelta(hours=1), start + timedelta(hours=1))
        assert sum(hour.received for hour in hours) == 3
        assert sum(hour.opened for hour in hours) == 2
        assert sum(hour.closed for hour in hours) == 1
        total = dashboard.decided_total(hours)
        assert total == {("machine", "allow"): 1, ("machine", "review"): 2, ("person", "limit"): 1}
        assert dashboard.automated_share(total) == 1 / 3
        assert dashboard.waiting(session).items == 0
        assert dashboard.appeals_due(session, now).open == 0
        assert dashboard.outgoing(session, now).due == 0
    text = lead.get("/console/").text
    assert "33.3 %" in text
    assert "No certificate" in text


def test_an_hour_that_is_over_is_counted_once(floor: Floor) -> None:
    past: dict[datetime, dashboard.Hour] = {}
    now = datetime.now(UTC).replace(hour=12)
    with transaction(floor.databases.content) as session:
        first = page._flow(session, past, now)
        known = min(past)
        past[known] = replace(past[known], received=7)
        again = page._flow(session, past, now + timedelta(hours=1))
    assert [hour.start for hour in first] == [hour.start for hour in again][:-1]
    assert again[0].received == 7
    assert max(past) < now - page.SETTLED


def test_what_is_kept_is_made_once_until_it_is_old() -> None:
    made = iter(range(9))
    kept: Kept[int] = Kept(60)
    assert [kept.get(lambda: next(made)) for _ in range(3)] == [0, 0, 0]
    old: Kept[int] = Kept(-1)
    assert [old.get(lambda: next(made)) for _ in range(2)] == [1, 2]


def test_plots_hold_their_marks_within_the_scale() -> None:
    series = (charts.Series("<b>", "c-in", (0, 3, 41)), charts.Series("y", "c-done", (0, 0, 9)))
    drawn = charts.columns("Title & all", "About it.", ("a", "b", "c"), series)
    assert charts.top(series) == 60
    assert drawn.count("<rect") == 3
    assert "<b>" not in drawn
    assert "Title &amp; all" in drawn
    assert 'y="-' not in drawn


# ---- items and authors ------------------------------------------------------------------------------------


def test_items_are_found_by_what_is_known_of_them(floor: Floor, vault: Vault, lead: Member) -> None:
    limited, fine = judged(floor), floor.decided("fine")
    now = datetime.now(UTC)

    def found(**wanted: object) -> list[UUID]:
        with transaction(floor.databases.content) as session:
            query = search.Query(**wanted)  # type: ignore[arg-type]
            return [one.id for one in search.items(session, vault, query, now).items]

    assert found() == [fine, limited]
    assert found(external_id="rude") == [limited]
    assert found(author="author of fine") == [fine]
    assert found(item=limited) == [limited]
    assert found(verdict="limit") == [limited]
    assert found(category="harassment", verdict="allow") == []
    assert found(state="done", client="app", before=fine) == [limited]
    assert found(since=now + timedelta(hours=1)) == []
    text = lead.get("/console/items?external_id=rude").text
    assert str(limited) in text
    assert str(fine) not in text


def test_a_search_goes_on_where_it_stopped(
    floor: Floor, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [floor.decided(f"post {number}") for number in range(5)]
    monkeypatch.setattr(search, "PAGE", 2)
    monkeypatch.setattr(search, "WINDOW", 3)
    with transaction(floor.databases.content) as session:
        first = search.items(session, vault, search.Query(), floor.now)
        second = search.items(session, vault, search.Query(before=first.next), floor.now)
        rare = search.items(session, vault, search.Query(verdict="remove"), floor.now)
    assert [one.id for one in (*first.items, *second.items)] == made[::-1][:4]
    assert (rare.items, rare.next) == ((), made[2])
    assert rare.looked_until is not None


def test_an_item_is_told_without_its_content_until_somebody_asks(
    floor: Floor, lead: Member, databases: Databases
) -> None:
    item = judged(floor, measure=AccountMeasure.STRIKE)
    text = lead.get(f"/console/items/{item}").text
    for said in ("Put before people for harassment by machine", "Limited for harassment by a person", "clause H1",
                 "Restricted: label", "Account: strike", "Case closed", "1 opinion", "in force"):  # fmt: skip
        assert said in text, said
    assert "Text of rude." not in text
    assert not events(databases, "item.viewed")
    assert "Text of rude." in lead.get(f"/console/items/{item}/content").text
    assert [(one.actor, one.subject_id) for one in events(databases, "item.viewed")] == [
        (f"person:{lead.person_id}", str(item))
    ]


def test_who_sees_no_cases_sees_no_content(
    settings: Settings, databases: Databases, vault: Vault, floor: Floor
) -> None:
    item = judged(floor)
    with people.logged_in(settings, databases, vault, Role.PRIVACY_OFFICER) as officer:
        assert officer.get(f"/console/items/{item}").status_code == 200
        assert officer.get(f"/console/items/{item}/content").status_code == 403
    assert not events(databases, "item.viewed")


def test_who_judges_an_item_blind_does_not_read_its_history(floor: Floor, moderator: Member) -> None:
    item = floor.audited("drawn")
    with transaction(floor.databases.content) as session:
        case = session.get_one(Case, floor.case_of(item))
        case.claimed_by = moderator.person_id
        case.claim_until = datetime.now(UTC) + timedelta(minutes=5)
    answer = moderator.get(f"/console/items/{item}")
    assert answer.status_code == 409
    assert "judging this item blind" in answer.text
    assert "machine" not in answer.text


def test_a_reversal_is_looked_at_first_and_then_done(floor: Floor, lead: Member, moderator: Member) -> None:
    item = judged(floor, measure=AccountMeasure.STRIKE)
    asked = lead.get(f"/console/items/{item}/reverse").text
    assert "freed of: label" in asked
    assert "strike" in asked
    with transaction(floor.databases.content) as session:
        standing = session.scalars(
            select(Decision).where(Decision.item_id == item, Decision.superseded_at.is_(None))
        ).one()
    form = {"decision": str(standing.id), "note": "Irony."}
    assert moderator.post(f"/console/items/{item}/reverse", data=form).status_code == 403
    other = floor.decided("another")
    assert lead.post(f"/console/items/{other}/reverse", data=form).status_code == 404
    answer = lead.post(f"/console/items/{item}/reverse", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/items/{item}?said=reversed")
    assert "Allowed by a person, reversing" in lead.get(f"/console/items/{item}").text
    assert "What it had reversed is in force again" in lead.get(f"/console/items/{item}/reverse").text
    assert lead.get(f"/console/items/{other}/reverse").status_code == 409, "what restricts nothing"


def test_a_lead_makes_an_item_golden_and_has_another_checked(floor: Floor, lead: Member) -> None:
    item = judged(floor)
    for what in ("case", "golden"):
        assert lead.post(f"/console/items/{item}/{what}").status_code == 303
    with transaction(floor.databases.content) as session:
        opened = session.scalars(select(Case).where(Case.item_id == item, Case.state == "open")).one()
        assert (opened.kind, opened.reason, opened.blind) == ("quality", "requested", True)
        assert not quality.checks(session, floor.now - timedelta(days=1)), "nobody drew it"
        assert [one.item_id for one in golden.listing(session)] == [item]
    assert lead.post(f"/console/quality/golden/{item}/retire").status_code == 303
    assert "retired" in lead.get("/console/quality").text


def test_a_golden_case_does_not_show_in_an_items_history(floor: Floor, moderator: Member) -> None:
    item = judged(floor)
    with transaction(floor.databases.content) as session:
        golden.add(session, floor.person("lead"), item, datetime.now(UTC))
        somebody = floor.person()
        assert golden.golden_case(session, floor.policy, somebody, datetime.now(UTC))
    text = moderator.get(f"/console/items/{item}").text
    assert "golden" not in text.lower()
    assert text.count("Case opened") == 1


def test_an_author_with_standing_outcomes_and_items(floor: Floor, moderator: Member) -> None:
    item = judged(floor, measure=AccountMeasure.STRIKE)
    with transaction(floor.databases.content) as session:
        author = session.scalars(select(Item.author_id).where(Item.id == item)).one()
    text = moderator.get(f"/console/authors/{author}").text
    assert "author of rude" in text
    assert "1 of 3 strikes" in text
    assert f"/console/items/{item}" in text


# ---- appeals ----------------------------------------------------------------------------------------------


def test_appeals_by_deadline_lead_to_their_case(floor: Floor, lead: Member) -> None:
    item = judged(floor)
    now = datetime.now(UTC)
    with transaction(floor.databases.content) as session:
        decision = session.scalars(
            select(Decision.id).where(Decision.item_id == item, Decision.superseded_at.is_(None))
        ).one()
        appeals.lodge(
            session, floor.vault, floor.policy, "app", decision, appeals.By.AUTHOR, None, "Irony.", now
        )
    case = floor.case_of(item, "appeal")
    text = lead.get("/console/appeals").text
    assert f"/console/cases/{case}" in text
    assert "Irony." not in text
    assert "No appeal was answered yet." in lead.get("/console/appeals?show=answered").text


# ---- banks ------------------------------------------------------------------------------------------------


def test_a_bank_from_its_making_to_its_end(lead: Member, databases: Databases) -> None:
    made = {"name": "known_spam", "kind": "text", "category": "spam", "action": "remove"}
    assert (
        lead.post("/console/banks", data=made).headers["location"] == "/console/banks/known_spam?said=created"
    )
    assert lead.post("/console/banks", data=made).status_code == 409
    assert lead.post("/console/banks/known_spam/entries", data={"text": "  "}).status_code == 422
    lead.post("/console/banks/known_spam/entries", data={"text": "Buy NOW", "note": "seen twice"})
    with transaction(databases.content) as session:
        entry = session.scalars(select(BankEntry)).one()
    assert (entry.digest, entry.verified) == (text_digest("buy now"), False)
    address = f"/console/banks/known_spam/entries/{entry.id}"
    assert "seen twice" in lead.get("/console/banks/known_spam?show=unverified").text
    for do, shown in (("verify", "verified"), ("off", "Turn on"), ("on", "Turn off"), ("remove", "empty")):
        assert lead.post(address, data={"do": do}).status_code == 303
        assert shown in lead.get("/console/banks/known_spam").text
    assert lead.post(address, data={"do": "verify"}).status_code == 404
    assert lead.post("/console/banks/known_spam/switch", data={"on": "false"}).status_code == 303
    assert [len(events(databases, f"bank.{one}")) for one in ("entry_verified", "entry_removed", "disabled")] == [
        1, 1, 1,
    ]  # fmt: skip


def test_a_picture_is_added_by_its_bytes_with_an_end(lead: Member, databases: Databases) -> None:
    made = {"name": "memes", "kind": "image", "category": "sexual", "action": "label", "allow": "true"}
    lead.post("/console/banks", data=made)
    picture = hostile.saved(hostile.gradient(), "PNG")
    form = {"verified": "true", "expires": "2100-01-01"}
    lead.post("/console/banks/memes/entries", data=form, files={"file": ("a.png", picture, "image/png")})
    with transaction(databases.content) as session:
        entry = session.scalars(select(BankEntry)).one()
    assert (entry.digest, entry.verified) == (sha256(picture), True)
    assert entry.expires_at == datetime(2100, 1, 2, tzinfo=UTC)


def test_banking_a_part_and_saying_that_it_is_not_the_same(
    floor: Floor, moderator: Member, lead: Member, databases: Databases, vault: Vault
) -> None:
    item = floor.decided("spam", Route.REVIEW, "spam")
    case = floor.case_of(item)
    lead.post(
        "/console/banks", data={"name": "found", "kind": "text", "category": "spam", "action": "remove"}
    )
    banked = moderator.post(f"/console/cases/{case}/bank", data={"bank": "found", "position": "0"})
    assert banked.headers["location"].startswith(f"/console/cases/{case}")
    assert "Added to the bank." in moderator.get(banked.headers["location"]).text
    with transaction(databases.content) as session:
        entry = session.scalars(select(BankEntry)).one()
    assert (entry.digest, entry.verified) == (text_digest("Text of spam."), False)
    assert (
        moderator.post(f"/console/cases/{case}/bank", data={"bank": "found", "position": "7"}).status_code
        == 404
    )

    match = Match("body", "found", str(entry.id), "spam", BankAction.REMOVE, verified=False)
    matched = floor.decided("like spam", Route.REVIEW, "spam", matches=(match,))
    form = {"case": str(floor.case_of(matched)), "disable": "true"}
    address = f"/console/banks/found/entries/{entry.id}/not-the-same"
    refused = moderator.post(address, data={"case": str(case)})
    assert refused.status_code == 422, "of an item that it never matched nobody can hold anything against it"
    for _ in range(2):
        said = moderator.post(address, data=form)
        assert said.status_code == 303
    assert "the entry does not mean this" in moderator.get(said.headers["location"]).text
    with transaction(databases.content) as session:
        bank = bank_lists.listing(session, datetime.now(UTC))[0]
        entry_view = bank_lists.entries(session, "found", datetime.now(UTC))[0]
        assert bank.use == entry_view.use == bank_lists.Use(matches=1, judged=1, wrong=1)
        assert entry_view.live, "a moderator turns nothing off"
        rates = quality.overturns(session, floor.now - timedelta(days=1)).banks
        assert rates == (quality.Rate("found", 1, 1, 1),), "the page of quality says the same"
    lead.post(address, data=form)
    with transaction(databases.content) as session:
        entry_view = bank_lists.entries(session, "found", datetime.now(UTC))[0]
    assert (entry_view.live, entry_view.not_same) == (False, 1)


def test_only_who_manages_banks_trusts_an_entry(
    lead: Member, moderator: Member, databases: Databases
) -> None:
    lead.post("/console/banks", data={"name": "b", "kind": "text", "category": "spam", "action": "remove"})
    moderator.post("/console/banks/b/entries", data={"text": "spam", "verified": "true"})
    with transaction(databases.content) as session:
        assert not session.scalars(select(BankEntry)).one().verified
    assert moderator.post("/console/banks/b/switch", data={"on": "false"}).status_code == 403


# ---- policy -----------------------------------------------------------------------------------------------


def changed() -> str:
    return policies.default_document().replace("undo_seconds: 10", "undo_seconds: 20")


def test_a_policy_is_checked_compared_and_published(lead: Member, databases: Databases) -> None:
    sent = {"base": "1", "document": changed().replace("\n", "\r\n")}
    shown = lead.post("/console/policy/edit", data=sent)
    assert shown.status_code == 200
    assert "+  undo_seconds: 20" in shown.text
    assert "Publish version 2" in shown.text
    assert (
        lead.post("/console/policy/publish", data=sent).headers["location"]
        == "/console/policy?said=published"
    )
    with transaction(databases.content) as session:
        assert policies.newest_document(session) == (2, changed())
    assert "-  undo_seconds: 10" in lead.get("/console/policy/versions/2").text
    assert "20 seconds" in lead.get("/console/policy").text


def test_every_fault_of_a_policy_is_shown_with_its_line(lead: Member) -> None:
    document = (
        changed().replace("undo_seconds: 20", "undo_seconds: -1").replace("severity: 1\n", "severity: 9\n")
    )
    line = next(n for n, text in enumerate(document.splitlines(), 1) if "undo_seconds" in text)
    for path in ("/console/policy/edit", "/console/policy/publish"):
        shown = lead.post(path, data={"base": "1", "document": document})
        assert shown.status_code == 422
        assert "2 things to correct" in shown.text
        assert f"line {line}" in shown.text
        assert "undo_seconds: -1" in shown.text, "what was written is not lost"


def test_nobody_overwrites_what_somebody_published_meanwhile(lead: Member, databases: Databases) -> None:
    with transaction(databases.content) as session:
        policies.publish(session, changed(), "operator", datetime.now(UTC))
    mine = policies.default_document().replace("claim_minutes: 10", "claim_minutes: 5")
    answer = lead.post("/console/policy/publish", data={"base": "1", "document": mine})
    assert answer.status_code == 409
    assert "Version 2 was published while you edited version 1" in answer.text
    assert "claim_minutes: 5" in answer.text
    with transaction(databases.content) as session:
        assert policies.newest_document(session)[0] == 2
    again = lead.post("/console/policy/edit/again", data={"base": "1", "document": mine})
    assert 'name="base" value="2"' in again.text


def test_publishing_asks_for_the_second_factor_and_keeps_what_was_written(
    lead: Member, databases: Databases
) -> None:
    stale(databases, lead.person_id)
    answer = lead.post("/console/policy/publish", data={"base": "1", "document": changed()})
    assert answer.status_code == 403
    assert "undo_seconds: 20" in answer.text
    assert "/console/second-factor" in answer.text
    with transaction(databases.content) as session:
        assert policies.newest_document(session)[0] == 1


def test_a_difference_names_each_line_by_what_became_of_it() -> None:
    lines = difference("a\nb\nc\n", "a\nx\nc\n")
    assert [(line.kind, line.text) for line in lines] == [
        ("at", "@@ -1,3 +1,3 @@"), ("same", " a"), ("del", "-b"), ("add", "+x"), ("same", " c"),
    ]  # fmt: skip
    assert difference("a", "a") == []


# ---- audit log and quality --------------------------------------------------------------------------------


def test_the_log_is_filtered_and_reading_it_is_an_event(
    floor: Floor, lead: Member, databases: Databases
) -> None:
    item = judged(floor)
    by_people = lead.get("/console/audit?actor=person&action=decision.").text
    assert "decision.made" in by_people
    assert "item.received" not in by_people
    assert "item.received" in lead.get(f"/console/audit?subject_id={item}").text
    assert "No event fits." in lead.get("/console/audit?to=2020-01-01").text
    looked = events(databases, "audit.viewed")
    assert looked[0].details == {"actor": "person", "action": "decision.", "purpose": "governance"}
    assert {one.actor for one in looked} == {f"person:{lead.person_id}"}
    lead.get("/console/audit?to=never")
    assert len(events(databases, "audit.viewed")) == len(looked), "what was refused was not read"


def test_the_log_goes_on_page_by_page(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    monkeypatch.setattr(audit, "WINDOW", 3)
    start = datetime.now(UTC)
    with transaction(databases.content) as session:
        for number in range(6):
            name = "quality.rare" if number == 0 else "item.received"
            event = audit.Event("machine", name, "item", str(number))
            audit.record(session, [event], start + timedelta(milliseconds=number))
        first = audit.page(session, audit.Query())
        second = audit.page(session, audit.Query(before=first.next))
        assert [one.subject_id for one in (*first.events, *second.events)] == ["5", "4", "3", "2"]
        rare = audit.page(session, audit.Query(action="quality.rare"))
        assert (rare.events, rare.looked_until is not None) == ((), True)
        found = audit.page(session, audit.Query(action="quality.", before=rare.next))
        assert [one.subject_id for one in found.events] == ["0"]


def test_a_lead_draws_a_sample(floor: Floor, lead: Member) -> None:
    items = {floor.decided(f"post {number}") for number in range(3)}
    assert lead.post("/console/quality/sample", data={"count": "900", "days": "7"}).status_code == 422
    drawn = lead.post("/console/quality/sample", data={"count": "2", "days": "7"})
    assert drawn.headers["location"] == "/console/quality?said=sampled"
    with transaction(floor.databases.content) as session:
        opened = session.scalars(select(Case).where(Case.reason == CaseReason.SAMPLE)).all()
    assert len(opened) == 2
    assert {case.item_id for case in opened} < items
    none = lead.post("/console/quality/sample", data={"count": "2", "days": "7", "route": "remove"})
    assert none.headers["location"] == "/console/quality?said=none"
