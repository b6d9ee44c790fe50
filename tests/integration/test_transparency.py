"""Statements, notices and the transparency report, each recomputed from the others over made-up days."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from moderation import cli, doctor
from moderation.domain import dsa, notices
from moderation.domain.cases import Verdict
from moderation.domain.decisions import AccountMeasure, Judgement, Outcome, Restriction
from moderation.domain.errors import Conflict, InvalidInput
from moderation.domain.policy import Policy
from moderation.domain.routing import Route, Routing
from moderation.governance import notices as told
from moderation.governance import statements, transparency
from moderation.governance.policies import PolicyCache
from moderation.review import decisions
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import (
    AccountAction,
    Appeal,
    AuditEvent,
    Decision,
    Item,
    Opinion,
    Report,
    StatementDelivery,
)
from moderation.storage.vault import Vault
from tests import people, reviewing, stating, support

DAY = timedelta(days=1)
POSTS = 180


@dataclass(frozen=True, slots=True)
class Lived:
    """Made-up days, and every statement that came of them."""

    world: stating.World
    records: dict[UUID, dict[str, Any]]
    report: transparency.Report
    since: datetime
    now: datetime


@pytest.fixture
def lived(databases: Databases, vault: Vault, blobs: FolderBlobs, now: datetime) -> Lived:
    world = stating.world(databases, vault, blobs, now - 3 * DAY, 7, POSTS)
    end, cache = stating.at_end(world), PolicyCache()
    with transaction(databases.content) as session:
        rows = session.scalars(select(Decision).where(*statements.stated(end))).all()
        records = {row.id: statements.of_decision(session, cache, row, end) for row in rows}
        report = transparency.report(session, cache, now - 4 * DAY, end + DAY, end)
    return Lived(world, records, report, now - 4 * DAY, end)


def counted(records: Sequence[dict[str, Any]], field: str) -> dict[str, int]:
    """How many records name what in a field; one that lists several counts under each."""
    found: Counter[str] = Counter()
    for record in records:
        value = record.get(field, "none")
        found.update([value] if isinstance(value, str) else value)
    return dict(found)


def check_statements_report_and_notices(lived: Lived) -> None:
    records = list(lived.records.values())
    assert len(records) > POSTS // 2
    assert {puid: faults for puid, one in lived.records.items() if (faults := dsa.faults(one))} == {}
    assert len({record["puid"] for record in records}) == len(records)
    said = lived.report.sections["statements"]
    assert said["total"] == len(records)
    for name, field in transparency.BY.items():
        assert said[f"by_{name}"] == counted(records, field), name
    assert said["by_month"] == dict(Counter(record["application_date"][:7] for record in records))
    # The generator must not have become dull: everything that can be said was said.
    assert set(said["by_automation"]) == set(dsa.enumerations().enums["AUTOMATED_DECISIONS"])
    assert set(said["by_source"]) == {"SOURCE_VOLUNTARY", "SOURCE_ARTICLE_16"}
    assert len(said["by_category"]) >= 9
    assert {"DECISION_GROUND_ILLEGAL_CONTENT", "DECISION_GROUND_INCOMPATIBLE_CONTENT"} == set(
        said["by_ground"]
    )
    with transaction(lived.world.databases.content) as session:
        cache = PolicyCache()
        for puid, record in lived.records.items():
            row = session.get_one(Decision, puid)
            for language in notices.LANGUAGES:
                notice = told.of_decision(session, cache, row, language, None, lived.now)
                agree(notices.phrases(language), notice, record)


def agree(phrases: notices.Phrases, notice: told.Notice, record: dict[str, Any]) -> None:
    """The notice says what the statement says: what was done, how it was found, who decided."""
    text_ = notice.text
    removed = "DECISION_VISIBILITY_CONTENT_REMOVED" in record["decision_visibility"]
    assert (phrases.removed in text_) == removed
    assert (phrases.detected in text_) == (record["automated_detection"] == "Yes")
    assert (phrases.source_report in text_) == (record["source_type"] == "SOURCE_ARTICLE_16")
    assert (phrases.fully in text_) == (record["automated_decision"] == "AUTOMATED_DECISION_FULLY")
    assert (phrases.measures["ban"] in text_) == (
        record.get("decision_account") == "DECISION_ACCOUNT_TERMINATED"
    )
    assert phrases.settlement in text_
    assert phrases.court in text_
    assert record["puid"] in text_
    assert "{" not in text_


def check_that_nothing_written_is_in_any_text(lived: Lived) -> None:
    written, texts = lived.world.written, []
    with transaction(lived.world.databases.content) as session:
        cache = PolicyCache()
        for puid, record in lived.records.items():
            texts.append(json.dumps(record, ensure_ascii=False))
            row = session.get_one(Decision, puid)
            texts += [
                told.of_decision(session, cache, row, language, None, lived.now).text
                for language in notices.LANGUAGES
            ]
    texts += [transparency.as_json(lived.report), transparency.as_csv(lived.report)]
    assert len(written) > POSTS
    everything = "\n".join(texts)
    assert stating.leaks(written, everything) == set()
    assert stating.leaks(written, everything + written[0][3:20])  # it would be seen


def check_other_numbers(lived: Lived) -> None:
    sections = lived.report.sections
    engine = lived.world.databases.content
    with transaction(engine) as session:
        made = session.scalars(select(Decision).where(Decision.undone_at.is_(None))).all()
        opinions = session.scalars(select(Opinion)).all()
        appeals = session.scalars(select(Appeal)).all()
        reported = session.scalars(select(AuditEvent).where(AuditEvent.action == "item.reported")).all()
        reports = session.scalars(select(Report)).all()
        actions = session.scalars(select(AccountAction)).all()
    for by in ("machine", "person"):
        of_them = Counter(row.route for row in made if row.decided_by == by)
        assert {k: v for k, v in sections["decisions"][f"by_{by}"].items() if v} == dict(of_them)
    assert sections["decisions"]["items_received"] == POSTS
    assert sections["decisions"]["reversals"] == sum(row.reverses is not None for row in made)
    assert sections["people"] == {
        "moderators": len({one.person_id for one in opinions}),
        "by_language": {"any": len({one.person_id for one in opinions})},
    }
    of_authors = sections["appeals"]["author"]
    assert of_authors["lodged"] == len(appeals) > 0
    states = Counter(one.state for one in appeals)
    assert {name: of_authors[name] for name in ("upheld", "reversed", "still_open")} == {
        "upheld": states["upheld"], "reversed": states["reversed"], "still_open": states["open"],
    }  # fmt: skip
    hours = sorted((one.closed_at - one.lodged_at).total_seconds() for one in appeals if one.closed_at)
    assert hours[0] / 3600 <= of_authors["median_hours"] <= hours[-1] / 3600
    assert sections["reports"]["received"] == len(reported) == len(reports)
    assert sections["measures"]["by_kind"] == dict(Counter(one.kind for one in actions))
    errors = sections["automation_error"]
    assert errors["allowed"]["judged"] > 0
    assert errors["restricted"]["low"] <= errors["restricted"]["share"] <= errors["restricted"]["high"]


def check_json_and_csv(lived: Lived) -> None:
    document = json.loads(transparency.as_json(lived.report))
    rows = list(csv.reader(io.StringIO(transparency.as_csv(lived.report))))
    assert rows[0] == ["section", "measure", "key", "value"]
    found: dict[str, Any] = {}
    for section, measure, key, value in rows[1:]:
        found[section, measure, key] = value
    for section, measures in document.items():
        if not isinstance(measures, dict):
            assert found[section, "", ""] == measures
            continue
        for measure, keys in measures.items():
            for key, value in keys.items() if isinstance(keys, dict) else [("", keys)]:
                assert found[section, measure, key] == ("" if value is None else str(value))


def check_periods(lived: Lived) -> None:
    engine, cache = lived.world.databases.content, PolicyCache()
    last = max(record["application_date"] for record in lived.records.values())
    middle = datetime.fromisoformat(f"{last}T00:00:00+00:00")
    with transaction(engine) as session:
        before = transparency.report(session, cache, lived.since, middle, lived.now)
        after = transparency.report(session, cache, middle, lived.now + DAY, lived.now)
        for wrong in ((middle, middle), (middle, middle + timedelta(days=2_000))):
            with pytest.raises(InvalidInput):
                transparency.report(session, cache, *wrong, lived.now)
    parts = [one.sections["statements"]["total"] for one in (before, after)]
    assert sum(parts) == len(lived.records)
    assert all(parts)


def test_statements_notices_and_report_are_recomputed_from_each_other(lived: Lived) -> None:
    check_statements_report_and_notices(lived)
    check_that_nothing_written_is_in_any_text(lived)
    check_other_numbers(lived)
    check_json_and_csv(lived)
    check_periods(lived)


def test_an_empty_period_is_a_report_of_noughts(databases: Databases, now: datetime) -> None:
    with transaction(databases.content) as session:
        made = transparency.report(session, PolicyCache(), now - DAY, now, now)
    assert made.sections["statements"]["total"] == 0
    assert made.sections["automation_error"]["allowed"]["share"] is None
    assert "appeals,author.median_hours" not in transparency.as_csv(made)
    assert "appeals,author,median_hours,\n" in transparency.as_csv(made)


# --- one decision at a time ---


@pytest.fixture
def now_() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def person_decides(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    policy: Policy,
    at: datetime,
    judgement: Judgement,
    **post: Any,
) -> UUID:
    item = reviewing.submitted(client, f"post-{new_id(at)}", **post)
    reviewing.decide(databases, policy, item, at)
    person = people.principal(databases, vault, "moderator", "lead")
    with transaction(databases.content) as session:
        row = session.get_one(Item, item)
        return decisions.by_person(
            session, policy, row, judgement,
            person_id=person.person_id, case_id=None, undo_id=new_id(at), now=at,
        )  # fmt: skip


def test_the_api_gives_statement_and_notice_of_what_restricts(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now_: datetime, settings: Settings
) -> None:
    until = now_ + timedelta(days=7)
    judgement = Judgement(
        Verdict.LIMIT, "harassment", "H1", (Restriction.AGE_GATE,), AccountMeasure.SUSPEND, until
    )
    made = person_decides(
        client, databases, vault, policy, now_, judgement, context={"language": "de-AT"},
        parts=[support.text_part(), support.image_part()],
    )  # fmt: skip
    answer = client.get(f"/v1/decisions/{made}/statement")
    assert answer.status_code == 200, answer.text
    record = answer.json()
    assert dsa.faults(record) == []
    assert record["puid"] == str(made)
    assert record["content_type"] == ["CONTENT_TYPE_IMAGE", "CONTENT_TYPE_TEXT"]
    assert record["content_language"] == "DE"
    assert record["end_date_account_restriction"] == until.astimezone(UTC).date().isoformat()
    assert record["automated_decision"] == "AUTOMATED_DECISION_NOT_AUTOMATED"
    notice = client.get(f"/v1/decisions/{made}/notice").json()
    assert notice["language"] == "de"
    assert "183 Tagen" in notice["text"]
    assert notice["redress"] == "open"
    client.post(f"/v1/decisions/{made}/informed", json={})
    english = client.get(f"/v1/decisions/{made}/notice", params={"language": "en"}).json()
    assert english["appeal_until"][:10] in english["text"]
    assert "clause H1" in english["text"]
    assert "\n\n".join(english["paragraphs"]) == english["text"]
    refused = client.get(f"/v1/decisions/{made}/notice", params={"language": "tlh"})
    assert refused.status_code == 422
    assert "en, de" in refused.json()["detail"]
    key = support.new_key(databases, vault, "other")
    with support.calling(settings, key) as other:
        assert other.get(f"/v1/decisions/{made}/statement").status_code == 404
        assert other.get(f"/v1/decisions/{made}/notice").status_code == 404


def test_what_restricts_nothing_has_no_statement_and_a_reversal_has_a_notice(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now_: datetime
) -> None:
    allowed = person_decides(client, databases, vault, policy, now_, Judgement(Verdict.ALLOW))
    for what in ("statement", "notice"):
        answer = client.get(f"/v1/decisions/{allowed}/{what}")
        assert (answer.status_code, answer.json()["code"]) == (409, "no_restriction")
    removed = person_decides(client, databases, vault, policy, now_, Judgement(Verdict.REMOVE, "spam"))
    lead = people.principal(databases, vault, "lead")
    with transaction(databases.content) as session:
        at = now_ + timedelta(minutes=1)
        lifted = decisions.reverse(session, vault, policy, lead, removed, at, None)
    assert client.get(f"/v1/decisions/{lifted}/statement").status_code == 409
    assert "reversed" in client.get(f"/v1/decisions/{lifted}/notice").json()["text"]
    former = client.get(f"/v1/decisions/{removed}/notice").json()
    assert former["redress"] == "replaced"
    assert "appeal_until" not in former


def total(session: Session, at: datetime) -> int:
    """What the report counts when it is made at a moment."""
    made = transparency.report(session, PolicyCache(), at - 30 * DAY, at + DAY, at)
    return int(made.sections["statements"]["total"])


def test_what_was_undone_or_never_took_effect_has_none(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now: datetime
) -> None:
    made = person_decides(client, databases, vault, policy, now, Judgement(Verdict.REMOVE, "spam"))
    cache = PolicyCache()
    with transaction(databases.content) as session:
        row = session.get_one(Decision, made)
        with pytest.raises(Conflict):  # it can still be undone
            statements.of_decision(session, cache, row, now)
        later = now + timedelta(minutes=1)
        assert (total(session, now), total(session, later)) == (0, 1)
        assert statements.of_decision(session, cache, row, later)["puid"] == str(made)
        # Another decision came within the undo window, so that this one was never in force.
        session.execute(
            update(Decision).where(Decision.id == made).values(superseded_at=Decision.effective_at)
        )
        session.refresh(row)
        with pytest.raises(Conflict):
            statements.of_decision(session, cache, row, later)
        assert total(session, later) == 0
        assert session.scalars(select(Decision.id).where(*statements.stated(later))).all() == []


def test_a_statement_outlives_the_content_and_an_older_release(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, now_: datetime
) -> None:
    made = person_decides(client, databases, vault, policy, now_, Judgement(Verdict.REMOVE, "spam"))
    full = client.get(f"/v1/decisions/{made}/statement").json()
    with databases.content.begin() as connection:
        connection.execute(
            text(
                "UPDATE decisions SET content_types = '{}', content_at = NULL, language = NULL, source = NULL"
            )
        )
    assert client.get(f"/v1/decisions/{made}/statement").json() == full  # the parts are still there
    with databases.content.begin() as connection:
        connection.execute(text("DELETE FROM parts"))
        connection.execute(text("DELETE FROM items"))
    old = client.get(f"/v1/decisions/{made}/statement").json()
    assert dsa.faults(old) == []
    assert old["content_type"] == ["CONTENT_TYPE_OTHER"]


def test_machines_keep_the_kinds_of_parts_that_a_batch_knows(
    client: TestClient, databases: Databases, settings: Settings
) -> None:
    body = support.post("post-9", support.text_part(), support.image_part(), context={"language": "fr"})
    client.post("/v1/items", json=body)
    support.drain(settings)
    with transaction(databases.content) as session:
        row = session.scalars(select(Decision)).one()
        item = session.scalars(select(Item)).one()
    assert (row.content_types, row.language, row.source) == (["image", "text"], "fr", "own")
    assert row.content_at == item.posted_at


def test_a_report_is_named_as_the_source_also_after_an_appeal(
    client: TestClient, databases: Databases, vault: Vault, policy: Policy, blobs: FolderBlobs, now: datetime
) -> None:
    world = stating.world(databases, vault, blobs, now, 3, 0)
    [item] = world.posted(1)
    with transaction(databases.content) as session:
        row = session.get_one(Item, item)
        outcome = Outcome(Routing(Route.ALLOW, None, 0.0, ("Harmless.",), ()), (), (), None)
        decisions.record(session, world.policy, [(row, outcome)], world.tick())
    world.report(item)
    [case] = world.open_cases(item)
    world.give(world.judges[0], case, Judgement(Verdict.REMOVE, "threat"))
    assert world.lodged(item)
    [appeal] = world.open_cases(item)
    world.give(world.judges[1], appeal, Judgement(Verdict.LIMIT, "threat", None, (Restriction.LABEL,)))
    with transaction(databases.content) as session:
        made = session.scalars(select(Decision).order_by(Decision.decided_at)).all()
    assert [(one.route, one.source) for one in made] == [
        ("allow", "own"), ("remove", "report"), ("limit", "report"),
    ]  # fmt: skip


def test_the_command_line_writes_the_same_report(
    client: TestClient,
    databases: Databases,
    vault: Vault,
    policy: Policy,
    settings: Settings,
    now_: datetime,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = person_decides(client, databases, vault, policy, now_, Judgement(Verdict.REMOVE, "spam"))
    keks = ",".join(f"{epoch} {base64.b64encode(key).decode()}" for epoch, key in settings.kek.keys.items())
    named = {
        "DATABASE_URL": settings.database_url, "KEYSTORE_URL": settings.keystore_url,
        "REDIS_URL": settings.redis_url, "BLOB_DIR": str(settings.blob_dir), "KEK": keks, "INSECURE_DEV": "1",
    }  # fmt: skip
    for name, value in named.items():
        monkeypatch.setenv(f"MODERATION_{name}", value)
    since = f"{now_ - 2 * DAY:%Y-%m-%d}"
    assert cli.main(["transparency", "report", "--since", since]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["statements"]["total"] == 1
    target = tmp_path / "report.csv"
    assert (
        cli.main(["transparency", "report", "--since", since, "--format", "csv", "--out", str(target)]) == 0
    )
    assert "statements,total,,1" in target.read_text()
    assert cli.main(["transparency", "report", "--since", "2001-01-01"]) == 2
    assert "five years" in capsys.readouterr().err
    with transaction(databases.content) as session:
        row = session.get_one(Decision, made)
        session.add(
            StatementDelivery(
                decision_id=made, author_id=row.author_id, puid=str(made), state="refused", attempts=1,
                not_before=now_, last_error="refused: category",
            )
        )  # fmt: skip
    assert cli.main(["transparency", "refused"]) == 0
    assert f"{made}  1 attempt  refused: category" in capsys.readouterr().out
    monkeypatch.setenv("MODERATION_STATEMENTS_URL", "https://example.org/api/statements")
    monkeypatch.setenv("MODERATION_STATEMENTS_TOKEN", "2|x")
    [finding] = [one for one in doctor.examine(dict(os.environ)) if one.name == "Statements"]
    assert (finding.state, finding.found) == (doctor.State.WARNING, "1 refused, 0 waiting")
    assert cli.main(["transparency", "retry"]) == 0
    assert "1 statements will be sent again." in capsys.readouterr().out
