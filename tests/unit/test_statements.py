"""Statements of reasons: what is said of a decision, and the rules by which the EU's database takes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.domain import dsa, notices, statements
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Restriction
from moderation.domain.reviewing import Clause
from moderation.domain.signals import Category
from moderation.domain.statements import Act, Automation, Facts, Source
from moderation.governance import policies

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
REMOVED = Facts(
    decision_id="0192f0c1-8101-7a55-8f0e-2b6c4d5e6f70",
    verdict=Verdict.REMOVE,
    category="harassment",
    clause=Clause("H1", "harassment", "Insults a person.", "It insults a person."),
    policy="policy 'default', version 1",
    eu_category="STATEMENT_CATEGORY_CYBER_VIOLENCE",
    restrictions=(),
    measure=None,
    until=None,
    person=True,
    before=(Act(person=False, found=True),),
    matched=False,
    source=Source.OWN,
    content_types=("text",),
    content_at=NOW,
    language="en",
    decided_at=NOW,
    effective_at=NOW,
)


def stated(**changes: Any) -> dict[str, Any]:
    made = statements.statement(replace(REMOVED, **changes))
    assert dsa.faults(made) == []
    return made


def wrong(record: dict[str, Any]) -> set[str]:
    return {fault.field for fault in dsa.faults(record)}


# Hypothesis wants bounds without a time zone.
moments = st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
decided = st.datetimes(datetime(2020, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
words = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=900
)
clauses = st.builds(
    Clause, id=st.from_regex(r"[A-Za-z0-9.-]{1,32}", fullmatch=True), category=st.just("hate"),
    rule=words.filter(str.strip), reason=words | st.just(""), law=words.filter(str.strip) | st.just(""),
)  # fmt: skip


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """What any decision that restricts may come with."""
    verdict = draw(st.sampled_from([Verdict.LIMIT, Verdict.REMOVE]))
    at = draw(decided)
    limited = st.lists(st.sampled_from(list(Restriction)), unique=True)
    acts = st.lists(st.builds(Act, person=st.booleans(), found=st.booleans()), max_size=4)
    return Facts(
        decision_id=str(draw(st.uuids())),
        verdict=verdict,
        category=draw(st.none() | st.sampled_from([str(one) for one in Category])),
        clause=draw(st.none() | clauses),
        policy="policy 'default', version 1",
        eu_category=draw(
            st.none() | st.sampled_from(sorted(dsa.enumerations().enums["STATEMENT_CATEGORIES"]))
        ),
        restrictions=tuple(draw(limited)) if verdict is Verdict.LIMIT else (),
        measure=draw(st.none() | st.sampled_from(list(AccountMeasure))),
        until=draw(st.none() | moments.filter(lambda until: until > at)),
        person=draw(st.booleans()),
        before=tuple(draw(acts)),
        matched=draw(st.booleans()),
        source=draw(st.sampled_from(list(Source))),
        content_types=tuple(draw(st.lists(st.sampled_from(["text", "image", "hologram"]), unique=True))),
        content_at=draw(st.none() | moments),
        language=draw(st.none() | st.from_regex(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}", fullmatch=True)),
        decided_at=at,
        effective_at=at + timedelta(seconds=draw(st.integers(0, 600))),
    )


@settings(max_examples=500)
@given(facts())
def test_every_statement_is_one_that_the_database_takes(one: Facts) -> None:
    made = statements.statement(one)
    assert dsa.faults(made) == []
    assert set(made) <= dsa.FIELDS
    json.dumps(made)


@settings(max_examples=300)
@given(facts())
def test_a_decision_is_fully_automated_if_and_only_if_no_person_came_before_it(one: Facts) -> None:
    people = one.person or any(act.person for act in one.before)
    assert (statements.automation(one) is Automation.FULLY) == (not people)


def test_a_record_that_breaks_any_rule_is_refused() -> None:
    good = stated(measure=AccountMeasure.SUSPEND, until=NOW + timedelta(days=7))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"url": "https://example.org"}, "url"),  # of v1
        ({"decision_visibility": "DECISION_VISIBILITY_CONTENT_REMOVED"}, "decision_visibility"),
        ({"decision_visibility": []}, "decision_visibility"),
        ({"decision_visibility": ["DECISION_VISIBILITY_OTHER"]}, "decision_visibility_other"),
        ({"decision_visibility_other": "Hidden"}, "decision_visibility_other"),
        ({"decision_account": None}, "decision_account"),
        ({"end_date_account_restriction": "2026-11-21"}, "end_date_account_restriction"),
        ({"end_date_account_restriction": "2038-01-02"}, "end_date_account_restriction"),
        ({"end_date_monetary_restriction": "2027-01-01"}, "end_date_monetary_restriction"),
        ({"illegal_content_explanation": "It is."}, "illegal_content_explanation"),
        ({"decision_ground": "DECISION_GROUND_ILLEGAL_CONTENT"}, "illegal_content_legal_ground"),
        ({"incompatible_content_ground": "x" * 501}, "incompatible_content_ground"),
        ({"incompatible_content_explanation": " "}, "incompatible_content_explanation"),
        ({"incompatible_content_illegal": "Maybe"}, "incompatible_content_illegal"),
        ({"content_type": ["CONTENT_TYPE_OTHER"]}, "content_type_other"),
        ({"category": "STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE"}, "category"),  # of v1
        ({"category": "STATEMENT_CATEGORY_PORNOGRAPHY_OR_SEXUALIZED_CONTENT"}, "category"),  # of v1
        ({"category_addition": ["STATEMENT_CATEGORY_UNSAFE_AND_ILLEGAL_PRODUCTS"]}, "category_addition"),
        ({"category_specification": ["KEYWORD_ONLINE_BULLYING_INTIMIDATION"]}, "category_specification"),
        ({"category_specification": ["KEYWORD_OTHER"]}, "category_specification_other"),
        ({"territorial_scope": ["GB"]}, "territorial_scope"),
        ({"territorial_scope": ["DE", "DE"]}, "territorial_scope"),
        ({"content_language": "en"}, "content_language"),
        ({"content_language": "XX"}, "content_language"),
        ({"content_date": "1999-12-31"}, "content_date"),
        ({"content_date": "2026-11-31"}, "content_date"),
        ({"application_date": "2026-11-22-12"}, "application_date"),  # of v1
        ({"decision_facts": "x" * 5001}, "decision_facts"),
        ({"source_type": "SOURCE_TYPE_VOLUNTARY"}, "source_type"),
        ({"source_identity": "Somebody"}, "source_identity"),
        ({"automated_detection": True}, "automated_detection"),
        ({"automated_decision": "Yes"}, "automated_decision"),  # of v1
        ({"puid": "with space"}, "puid"),
        ({"puid": "x" * 501}, "puid"),
        ({"puid": "line\n"}, "puid"),
        ({"decision_ground_reference_url": "our rules"}, "decision_ground_reference_url"),
        ({"content_id": {"EAN-13": "123"}}, "content_id"),
    ]
    for change, field in cases:
        assert field in wrong(good | change), (change, wrong(good | change))
    assert wrong(good | {"content_id": {"EAN-13": "4006381333931"}}) == set()
    for field in ("puid", "category", "decision_facts", "territorial_scope", "content_date", "source_type"):
        assert field in wrong({name: value for name, value in good.items() if name != field})
    nothing = {
        name: value for name, value in good.items() if not name.startswith(("decision_v", "decision_a"))
    }
    assert "decision_visibility" in wrong(nothing)


def test_between_one_and_a_hundred_are_sent_at_once() -> None:
    good = stated()
    assert dsa.bulk_faults([good] * 100) == {}
    assert list(dsa.bulk_faults([good, good | {"puid": ""}])) == [1]
    for wrong_number in (0, 101):
        with pytest.raises(ValueError, match="between 1 and 100"):
            dsa.bulk_faults([good] * wrong_number)


def test_what_was_done_stands_in_the_records_own_words() -> None:
    assert stated()["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_REMOVED"]
    limited = stated(verdict=Verdict.LIMIT, restrictions=(Restriction.LABEL, Restriction.AGE_GATE))
    assert limited["decision_visibility"] == [
        "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED", "DECISION_VISIBILITY_CONTENT_LABELLED",
    ]  # fmt: skip
    by_machine = stated(verdict=Verdict.LIMIT, person=False, before=())
    assert by_machine["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_DEMOTED"]
    until = NOW + timedelta(days=7)
    suspended = stated(measure=AccountMeasure.SUSPEND, until=until)
    assert suspended["decision_account"] == "DECISION_ACCOUNT_SUSPENDED"
    assert suspended["end_date_account_restriction"] == "2026-11-29"
    banned = stated(measure=AccountMeasure.BAN)
    assert banned["decision_account"] == "DECISION_ACCOUNT_TERMINATED"
    assert "end_date_account_restriction" not in banned
    warned = stated(measure=AccountMeasure.WARN)
    assert "decision_account" not in warned
    assert "warned" in warned["decision_facts"]
    far = stated(measure=AccountMeasure.SUSPEND, until=datetime(2050, 1, 1, tzinfo=UTC))
    assert "end_date_account_restriction" not in far
    assert "2050-01-01" in far["decision_facts"]


def test_a_clause_with_a_law_makes_it_illegal_and_one_without_does_not() -> None:
    law = Clause("D2", "hate", "Praises hate.", "It spreads hate.", "Section 130 of a criminal code")
    made = stated(clause=law, category="hate", eu_category=None)
    assert made["decision_ground"] == "DECISION_GROUND_ILLEGAL_CONTENT"
    assert made["illegal_content_legal_ground"] == law.law
    assert "It spreads hate." in made["illegal_content_explanation"]
    assert not any(name.startswith("incompatible") for name in made)
    assert made["category"] == "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
    assert stated()["incompatible_content_ground"] == (
        "Clause H1 of the policy 'default', version 1: Insults a person."
    )


def test_how_it_was_found_and_who_decided() -> None:
    def said(**changes: Any) -> tuple[str, str, str]:
        made = stated(**changes)
        return made["source_type"], made["automated_detection"], made["automated_decision"]

    machine, person = Act(person=False, found=True), Act(person=True, found=False)
    own, notice = "SOURCE_VOLUNTARY", "SOURCE_ARTICLE_16"
    fully, partially, not_at_all = Automation.FULLY, Automation.PARTIALLY, Automation.NOT
    assert said(person=False, before=()) == (own, "Yes", fully)
    assert said(person=False, before=(machine,)) == (own, "Yes", fully)
    assert said(person=False, before=(machine, person)) == (own, "Yes", partially)
    assert said(person=True, before=(machine,)) == (own, "Yes", partially)
    assert said(person=True, before=(Act(person=False, found=False),)) == (own, "No", not_at_all)
    assert said(person=True, before=(machine,), source=Source.REPORT) == (notice, "No", not_at_all)


def test_what_was_not_recorded_is_said_to_be_unknown() -> None:
    made = stated(content_types=(), content_at=None, language=None)
    assert made["content_type"] == ["CONTENT_TYPE_OTHER"]
    assert made["content_date"] == "2026-11-22"
    assert "not recorded" in made["content_type_other"]
    assert "date given is that of the decision" in made["decision_facts"]
    assert "content_language" not in made


def test_languages_are_two_letters_that_there_are() -> None:
    expected = {"en": "EN", "pt-BR": "PT", "iw": "HE", "fil": None, "xx": None, None: None, "ZH-hant": "ZH"}
    assert {tag: statements.content_language(tag) for tag in expected} == expected


def test_dates_lie_where_the_database_takes_them() -> None:
    assert stated(content_at=datetime(1970, 1, 1, tzinfo=UTC))["content_date"] == "2000-01-01"
    assert stated(content_at=NOW + timedelta(days=30))["content_date"] == "2026-11-22"


def test_the_policys_category_counts_and_keywords_only_where_they_belong() -> None:
    elsewhere = stated(eu_category="STATEMENT_CATEGORY_CYBER_VIOLENCE_AGAINST_WOMEN")
    assert elsewhere["category"] == "STATEMENT_CATEGORY_CYBER_VIOLENCE_AGAINST_WOMEN"
    assert "category_specification" not in elsewhere
    assert stated()["category_specification"] == ["KEYWORD_CYBER_HARASSMENT"]
    of_v1 = stated(eu_category="STATEMENT_CATEGORY_SCOPE_OF_PLATFORM_SERVICE")
    assert of_v1["category"] == "STATEMENT_CATEGORY_CYBER_VIOLENCE"


def test_notices_say_the_same_in_every_language() -> None:
    english = notices.phrases("en")
    assert len(notices.LANGUAGES) >= 5
    assert set(english.categories) == {str(one) for one in Category}
    assert set(english.limits) == {str(one) for one in Restriction}
    assert set(english.measures) == {str(one) for one in AccountMeasure}
    for language in notices.LANGUAGES:
        phrases = notices.phrases(language)
        for name in english.__slots__:
            ours, theirs = getattr(english, name), getattr(phrases, name)
            if isinstance(ours, str):
                assert slots(ours) == slots(theirs), (language, name)
                assert theirs.strip()
                assert language == "en" or ours != theirs, (language, name)
            else:
                assert set(ours) == set(theirs), (language, name)
    assert notices.spoken("de-AT") == "de"
    assert notices.spoken("ja") == notices.spoken(None) == "en"


def slots(text: str) -> set[str]:
    return {piece.partition("}")[0] for piece in text.split("{")[1:]}


def test_the_default_policy_uses_names_of_this_version_and_others_are_refused() -> None:
    document = policies.default_document()
    known = dsa.enumerations().enums["STATEMENT_CATEGORIES"]
    assert {rule.eu_category for rule in policies.read(document, 1).categories.values()} <= set(known)
    old = document.replace(
        "STATEMENT_CATEGORY_UNSAFE_AND_PROHIBITED_PRODUCTS", "STATEMENT_CATEGORY_UNSAFE_AND_ILLEGAL_PRODUCTS"
    )
    with pytest.raises(Exception, match="eu_category"):
        policies.read(old, 1)


def test_the_enumerations_are_those_that_were_published() -> None:
    found = dsa.enumerations()
    assert "69e80a0bc8" in found.source
    assert found.schema == "v2"
    digest = hashlib.sha256(
        json.dumps(found.enums, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert digest.hexdigest() == "27235f48d023cdfe14ecfb5ab059686c09e624552c8f10b1d6db33c8ecd048f6"
