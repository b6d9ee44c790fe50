"""The pages where cases are decided, without a script: what they show, keep back, and do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from sqlalchemy import select

from api.console import security
from api.console.templating import marked, static
from moderation.domain.cases import CaseReason
from moderation.domain.routing import Route
from moderation.review.views import Span
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, CaseSkip, Opinion, Person, PersonSession
from moderation.storage.vault import Vault
from tests import hostile, people
from tests.caseload import Caseload
from tests.support import image_part, post, text_part

TEXT = "You again, you absolute muppet."
BLIND = "Judge for yourself: scores are hidden on this one."


@pytest.fixture
def ada(settings: Settings, databases: Databases, vault: Vault) -> Iterator[people.Member]:
    """A moderator at the console."""
    with people.logged_in(settings, databases, vault, "moderator") as client:
        yield client


def form(page: Response) -> dict[str, str]:
    """The hidden fields of the decision's form."""
    assert page.status_code == 200, page.text
    body = page.text[page.text.index('id="decide"') :]
    return dict(re.findall(r'<input type="hidden" name="(number|form_key)" value="([^"]+)">', body))


def opened(client: TestClient, case: UUID) -> Response:
    return client.get(f"/console/cases/{case}")


def decide(client: TestClient, case: UUID, verdict: str, **fields: Any) -> Response:
    """Open the case and press a button."""
    sent = form(opened(client, case)) | {"verdict": verdict} | fields
    return client.post(f"/console/cases/{case}/decide", data=sent)


def opinions(databases: Databases) -> list[Opinion]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(Opinion).order_by(Opinion.id)))


def events(databases: Databases, action: str) -> list[AuditEvent]:
    with transaction(databases.content) as session:
        return list(session.scalars(select(AuditEvent).where(AuditEvent.action == action)))


def test_a_decision_leads_to_the_next_case_and_can_be_undone(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    first, second = load.waiting(2, text=TEXT)
    answer = decide(ada, first, "remove", category="harassment", clause="H1", note="seen before")
    assert answer.status_code == 303
    address = answer.headers["location"]
    assert address.startswith(f"/console/cases/{second}?undo=")
    page = ada.get(address)
    assert "Removed as harassment." in page.text
    (given,) = opinions(databases)
    assert (given.verdict, given.category, given.score_shown) == ("remove", "harassment", True)
    undo = re.search(r"/console/undo/[0-9a-f-]+", page.text)
    assert undo
    assert ada.post(undo[0]).headers["location"] == f"/console/cases/{first}?said=undone"
    assert "seen before" in opened(ada, first).text
    assert opinions(databases)[0].undone_at


def test_a_form_that_is_sent_twice_counts_once(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    first, _ = load.waiting(2)
    sent = form(opened(ada, first)) | {"verdict": "allow"}
    answers = [ada.post(f"/console/cases/{first}/decide", data=sent) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {303}
    assert len(opinions(databases)) == 1


def test_a_form_of_one_case_does_nothing_to_another(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    first, second = load.waiting(2)
    sent = form(opened(ada, first)) | {"verdict": "allow"}
    ada.post(f"/console/cases/{first}/decide", data=sent)
    refused = ada.post(f"/console/cases/{second}/decide", data=sent)
    assert refused.status_code == 409
    assert [one.case_id for one in opinions(databases)] == [first]


def test_what_is_missing_is_said_and_what_was_written_is_kept(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting()
    refused = decide(ada, case, "limit", category="harassment", note="my words")
    assert refused.status_code == 422
    assert "Say how it is limited" in refused.text
    assert "my words</textarea>" in refused.text
    refused = decide(ada, case, "purge")
    assert refused.status_code == 422
    assert opinions(databases) == []


def without_what_is_its_own(page: str) -> str:
    """A case's page less ids, times and numbers, and less the outcomes of the author's other posts."""
    text = re.sub(r'<svg class="outcomes-bar".*?</p>', "", page.split("<main", 1)[1], flags=re.DOTALL)
    return re.sub(r"[0-9a-f-]{8,36}|[0-9a-f]*\d[0-9a-f]*|post-\S*?<", "", text)


def test_a_blind_case_says_the_same_whatever_it_checks(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    audit = load.checked(Route.REMOVE, CaseReason.AUDIT)
    second = load.checked(Route.ALLOW, CaseReason.SECOND_OPINION)
    pages = [opened(ada, case).text for case in (audit, second)]
    for text in pages:
        assert BLIND in text
        assert "Why it is here" not in text
        assert 'class="score' not in text
        assert "checked>" not in text.split('id="categories"')[1].split("</div>")[0]
    first, other = (without_what_is_its_own(text) for text in pages)
    assert first == other
    assert BLIND not in opened(ada, load.waiting()[0]).text


def test_a_blind_opinion_is_stored_as_one(ada: people.Member, load: Caseload, databases: Databases) -> None:
    decide(ada, load.checked(), "allow")
    assert not opinions(databases)[0].score_shown


def test_what_is_grave_is_not_in_the_page_until_it_is_asked_for(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting(category="threat", text=TEXT)
    page = opened(ada, case).text
    assert TEXT not in page
    assert "Grave content" in page
    assert ada.post(f"/console/cases/{case}/reveal").headers["location"] == f"/console/cases/{case}"
    assert TEXT in opened(ada, case).text
    (event,) = events(databases, "media.revealed")
    assert event.subject_id == str(case)


def test_what_is_grave_asks_for_a_second_factor_given_lately(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting(category="threat", text=TEXT)
    with transaction(databases.content) as session:
        for row in session.scalars(select(PersonSession)):
            row.confirmed_at = datetime.now(UTC) - timedelta(hours=1)
    answer = ada.post(f"/console/cases/{case}/reveal")
    assert answer.headers["location"] == f"/console/second-factor?next=%2Fconsole%2Fcases%2F{case}"
    assert TEXT not in opened(ada, case).text
    assert ada.get(f"/console/cases/{case}/cluster").headers["location"].startswith("/console/second-factor?")


def test_a_picture_comes_blurred_and_as_it_is_only_after_a_reveal(
    ada: people.Member, load: Caseload, client: TestClient
) -> None:
    original = hostile.saved(hostile.gradient(), "PNG")
    answer = client.post("/v1/items", json=post("p-1", text_part(), image_part(original)))
    item = UUID(answer.json()["id"])
    draft = Route.REVIEW
    case = load.routed([item], draft, _draft())[0]
    assert f"/console/media/{case}/1?view=blurred" in opened(ada, case).text
    blurred = ada.get(f"/console/media/{case}/1")
    assert blurred.headers["cache-control"] == "no-store"
    assert blurred.headers["content-type"] == "image/webp"
    assert _detail(blurred) < 0.5
    assert ada.get(f"/console/media/{case}/1?view=full").status_code == 403
    ada.post(f"/console/cases/{case}/reveal")
    full = ada.get(f"/console/media/{case}/1?view=full")
    assert full.status_code == 200
    assert _detail(full) > 1
    assert full.content != original
    assert not Image.open(BytesIO(full.content)).getexif()
    assert ada.get(f"/console/media/{case}/0").status_code == 404


def _draft() -> Any:
    from moderation.domain.decisions import CaseDraft

    return CaseDraft(CaseReason.UNCERTAIN, "spam", 1, 0.6)


def _detail(answer: Response) -> float:
    """How much neighbouring pixels differ on average."""
    image = Image.open(BytesIO(answer.content)).convert("RGB")
    pixels = image.resize((128, 128))
    rows = [pixels.getpixel((x, 64)) for x in range(128)]
    return sum(abs(a[0] - b[0]) for a, b in pairwise(rows)) / 127  # type: ignore[index]


def test_a_skip_for_distress_leaves_no_trace_of_why(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    (case,) = load.waiting()
    number = form(opened(ada, case))["number"]
    answer = ada.post(f"/console/cases/{case}/skip", data={"number": number, "reason": "distress"})
    assert answer.headers["location"] == "/console/queue?empty=1&said=skipped"
    with transaction(databases.content) as session:
        assert session.scalars(select(CaseSkip)).one().reason is None
        assert not any("distress" in str(event.details) for event in session.scalars(select(AuditEvent)))


def test_a_case_in_other_hands_can_be_read_and_not_decided(
    ada: people.Member, load: Caseload, bob: Any
) -> None:
    load.now = datetime.now(UTC)
    (case,) = load.waiting(text=TEXT)
    load.claim(bob, case)
    page = opened(ada, case).text
    assert TEXT in page
    assert "Somebody else has this case in hand" in page
    assert 'id="decide"' not in page


def test_a_page_keeps_its_claim_alive_and_gives_it_back(ada: people.Member, load: Caseload) -> None:
    (case,) = load.waiting()
    number = form(opened(ada, case))["number"]
    assert "until" in ada.post(f"/console/cases/{case}/heartbeat", data={"number": number}).json()
    assert ada.post(f"/console/cases/{case}/release", data={"number": number}).status_code == 204
    assert ada.post(f"/console/cases/{case}/heartbeat", data={"number": number}).status_code == 409


def test_notes_escalations_and_what_is_left(ada: people.Member, load: Caseload) -> None:
    (case,) = load.waiting()
    noted = ada.post(f"/console/cases/{case}/notes", data={"note": "Ask the museum."})
    page = ada.get(noted.headers["location"])
    assert "Ask the museum." in page.text
    number = form(page)["number"]
    answer = ada.post(f"/console/cases/{case}/escalate", data={"number": number, "note": "Unsure."})
    assert answer.headers["location"] == "/console/queue?empty=1&said=escalated"
    assert load.case(case).stage == "adjudication"


def test_the_queue_shows_what_waits_and_keeps_filters(
    ada: people.Member, load: Caseload, databases: Databases
) -> None:
    load.waiting(2)
    (spam,) = load.waiting(category="spam")
    page = ada.get("/console/queue?queue=spam").text
    assert f"/console/cases/{spam}?queue=spam" in page
    assert page.count('class="cover') == 1
    saved = ada.post("/console/queue/filters", data={"name": "Only spam", "query": "queue=spam"})
    assert saved.headers["location"] == "/console/queue?queue=spam"
    assert "Only spam" in ada.get("/console/queue").text
    forget = re.search(r"/console/queue/filters/[0-9a-f-]+/remove", ada.get("/console/queue?queue=spam").text)
    assert forget
    ada.post(forget[0])
    assert "Only spam" not in ada.get("/console/queue").text
    assert ada.get("/console/next?queue=spam").headers["location"].startswith(f"/console/cases/{spam}")


CHOSEN = {"theme": "dark", "keys": "on", "hidden": "covered", "shown": "full", "languages": "en DE"}


def test_settings_are_kept_and_used(ada: people.Member, load: Caseload, databases: Databases) -> None:
    sent = CHOSEN | {"key-allow": "q", "opt_out": ["threat"], "queue": ["spam"]}
    assert ada.post("/console/settings", data=sent).headers["location"] == "/console/settings?saved=1"
    with transaction(databases.content) as session:
        row = session.get_one(Person, ada.person_id)
        assert (row.opt_outs, row.queues, row.languages) == (["threat"], ["spam"], ["de", "en"])
        assert row.preferences["keymap"] == {"allow": "q"}
    (case,) = load.waiting()
    page = opened(ada, case).text
    assert 'data-theme="dark"' in page
    assert '<kbd aria-hidden="true">Q</kbd>' in page
    (event,) = events(databases, "person.opt_outs_changed")
    assert event.details == {}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"key-allow": "r"}, "has a key that something else has already"),
        ({"key-allow": "1"}, "needs one key that is no digit"),
        ({"key-allow": "ab"}, "needs one key"),
        ({"languages": "english"}, "two or three letters"),
        ({"theme": "pink"}, "a value that it doesn&#39;t offer"),
        ({"opt_out": ["weather"]}, "no category of the policy"),
    ],
)
def test_settings_that_can_not_be_are_refused(
    ada: people.Member, changed: dict[str, Any], sentence: str
) -> None:
    answer = ada.post("/console/settings", data=CHOSEN | changed)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert 'data-theme="auto"' in ada.get("/console/settings").text


def test_keys_that_are_off_are_not_printed(ada: people.Member, load: Caseload) -> None:
    without = {name: value for name, value in CHOSEN.items() if name != "keys"}
    ada.post("/console/settings", data=without)
    page = opened(ada, load.waiting()[0]).text
    assert 'data-keys="{}"' in page
    assert "<kbd" not in page.split("<main", 1)[1].split("</main>")[0]


def test_every_answer_of_the_console_carries_its_headers(
    ada: people.Member, load: Caseload, client: TestClient
) -> None:
    (case,) = load.waiting()
    for address in (
        f"/console/cases/{case}",
        "/console/queue",
        static("console.css"),
        "/console/nothing-here",
    ):
        headers = ada.get(address).headers
        assert headers["content-security-policy"] == security.CONTENT_SECURITY_POLICY, address
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    assert "immutable" in ada.get(static("console.css")).headers["cache-control"]
    assert ada.get(f"/console/cases/{case}").headers["cache-control"] == "no-store"
    assert "content-security-policy" not in client.get("/v1/items").headers


def test_refusals_are_pages_here_and_documents_there(ada: people.Member, client: TestClient) -> None:
    refused = ada.get(f"/console/cases/{uuid4()}")
    assert refused.status_code == 404
    assert refused.headers["content-type"].startswith("text/html")
    assert "There is no such case." in refused.text
    elsewhere = client.get(f"/v1/items/{uuid4()}")
    assert elsewhere.headers["content-type"] == "application/problem+json"
    del client.headers["authorization"]
    sent = client.get("/console/queue?queue=spam", follow_redirects=False)
    assert sent.headers["location"] == "/console/login?next=%2Fconsole%2Fqueue%3Fqueue%3Dspam"


def test_a_report_of_a_violation_is_counted_and_not_kept(ada: people.Member) -> None:
    assert ada.post(security.REPORTS, content=b'{"csp-report": {}}').status_code == 204


def test_marks_escape_what_they_surround() -> None:
    text = "<b>you</b> muppet"
    assert marked(text, (Span(11, 17, "harassment"),)) == (
        '&lt;b&gt;you&lt;/b&gt; <mark class="found" data-label="harassment" title="harassment">muppet'
        '<span class="visually-hidden"> (harassment)</span></mark>'
    )
    weighed = marked(text, (Span(11, 17, "harassment", 2.34),))
    assert 'title="harassment, strongly: log-odds 2.3 lower without"' in weighed
    assert "<script>" not in marked("x", (Span(0, 1, "<script>"),))
    overlapping = (Span(3, 6, "a"), Span(4, 50, "b"))
    assert "".join(re.findall(r"<mark[^>]*>([^<]+)<", str(marked("0123456789", overlapping)))) == "3456789"
