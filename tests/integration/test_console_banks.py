"""The pages of banks of terms, links and claims; and what a case says of a match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from moderation.governance import banks
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, BankEntry, Case
from moderation.storage.vault import Vault
from tests.people import Member, logged_in
from tests.support import drain, post, text_part

HERE = "/console/banks/words"


@pytest.fixture
def lead(settings: Settings, databases: Databases, vault: Vault) -> Iterator[Member]:
    with logged_in(settings, databases, vault, "lead") as member:
        yield member


def made(lead: Member, kind: str, **changes: str) -> None:
    form = {"name": "words", "kind": kind, "category": "spam", "action": "review"} | changes
    answer = lead.post("/console/banks", data=form)
    assert answer.status_code == 303, answer.text


def added(lead: Member, text: str, **changes: str) -> int:
    form = {"text": text, "verified": "true"} | changes
    return lead.post(f"{HERE}/entries", data=form).status_code


@pytest.mark.parametrize(
    ("kind", "options", "entry", "form", "text", "said"),
    [
        ("term", {}, "Free Casino", "literal", "Come to our FREE  CASINO tonight", "Contains a term"),
        ("term", {}, r"cas[il]no\d+", "pattern", "Come to CASLNO24 tonight", "Fits a pattern"),
        ("link", {}, "prizes.com", "", "See www.prizes.com/x tonight", "Links to a host"),
        ("link", {"distance": "1"}, "paypal.com", "", "See paypa1.com tonight", "looks like one"),
        ("text", {}, "Lovely weather tonight.", "", "lovely WEATHER tonight.", "Equals an entry"),
        (
            "claim",
            {},
            "The tower was moved to Lisbon.",
            "",
            "They moved the tower to Lisbon.",
            "Means nearly",
        ),
    ],
)
def test_a_text_is_tried_against_a_bank(
    lead: Member,
    databases: Databases,
    kind: str,
    options: dict[str, str],
    entry: str,
    form: str,
    text: str,
    said: str,
) -> None:
    made(lead, kind, **options)
    assert added(lead, entry, **({"form": form} if form else {})) == 303
    tried = lead.post(f"{HERE}/try", data={"text": text})
    assert tried.status_code == 200, tried.text
    assert said in tried.text
    assert "It finds nothing" in lead.post(f"{HERE}/try", data={"text": "Soup for lunch."}).text
    shown = lead.get(HERE).text
    assert (entry.lower() in shown.lower()) == (kind != "text"), "of a text nothing is kept"
    with transaction(databases.content) as session:
        assert (
            session.scalar(select(AuditEvent.id).where(AuditEvent.action == "bank.entry_added")) is not None
        )


def test_refusals_are_sentences(lead: Member) -> None:
    made(lead, "term")
    assert lead.post(f"{HERE}/try", data={"text": " "}).status_code == 422
    assert "RE2" in lead.post(f"{HERE}/entries", data={"text": "(a", "form": "pattern"}).text
    wrong = {"name": "other", "kind": "claim", "category": "spam", "action": "remove"}
    assert "A person has to read them" in lead.post("/console/banks", data=wrong).text
    assert (
        lead.post("/console/banks", data=wrong | {"action": "label", "distance": "near"}).status_code == 422
    )


def test_the_distance_can_be_changed(lead: Member, databases: Databases) -> None:
    made(lead, "text", distance="0.9")
    near = "Lovely weather in Lisbon today, so come and see us."
    assert added(lead, near) == 303
    changed = near.replace("see", "meet")
    assert "It finds nothing" in lead.post(f"{HERE}/try", data={"text": changed}).text
    assert lead.post(f"{HERE}/tune", data={"distance": "0.5"}).status_code == 303
    assert "Resembles an entry" in lead.post(f"{HERE}/try", data={"text": changed}).text
    assert lead.post(f"{HERE}/tune", data={"distance": "0.1"}).status_code == 422
    with transaction(databases.content) as session:
        assert session.scalars(select(AuditEvent.details).where(AuditEvent.action == "bank.tuned")).all() == [
            {"name": "words", "distance": 0.5}
        ]


def test_what_is_known_already_is_said(lead: Member, databases: Databases) -> None:
    made(lead, "term")
    assert added(lead, "casino") == 303
    again = lead.post(f"{HERE}/entries", data={"text": "CASINO"})
    assert again.headers["location"].endswith("said=known")
    with transaction(databases.content) as session:
        assert len(session.scalars(select(BankEntry)).all()) == 1


def test_a_case_marks_what_was_found(
    lead: Member, client: TestClient, settings: Settings, databases: Databases, vault: Vault
) -> None:
    now = datetime.now(UTC)
    with transaction(databases.content) as session:
        banks.create(
            session,
            name="words",
            kind="term",
            category="spam",
            action="review",
            allow=False,
            actor="operator",
            now=now,
        )
        banks.add_content(
            session, vault, bank="words", content=b"casino", note="", verified=True, actor="operator", now=now
        )
    client.post("/v1/items", json=post("post-1", text_part("Visit our Casino in Lisbon.")))
    drain(settings)
    with transaction(databases.content) as session:
        case = session.scalars(select(Case.id)).one()
    page = lead.get(f"/console/cases/{case}").text
    assert re.search(r'<mark[^>]* data-label="words"[^>]*>Casino<', page)
    assert "Contains a term" in page


def test_who_only_reads_numbers_does_not_read_the_list(
    lead: Member, settings: Settings, databases: Databases, vault: Vault
) -> None:
    made(lead, "term")
    assert added(lead, "zq7kanarienvogel") == 303
    assert "zq7kanarienvogel" in lead.get(HERE).text
    with logged_in(settings, databases, vault, "auditor") as auditor:
        page = auditor.get(HERE)
        assert page.status_code == 200
        assert "zq7kanarienvogel" not in page.text
        assert auditor.post(f"{HERE}/try", data={"text": "zq7kanarienvogel"}).status_code == 403
