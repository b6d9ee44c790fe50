"""Promises at the command line, and before a policy is published: certify, show, end, simulate."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from moderation import cli
from moderation.governance import simulation
from moderation.governance.certification import Candidate
from moderation.governance.policies import read
from moderation.settings import Settings
from moderation.storage.database import Databases, insert_many, transaction
from moderation.storage.tables import CertificateRow, Decision, ModelRow, SignalRow
from moderation.storage.vault import Vault
from tests import support
from tests.certifying import DAY, DRAWN, Traffic, document
from tests.traffic import CATEGORY


class Command:
    """`moderation policy ...`: its status, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str]:
        self._capsys.readouterr()
        status = cli.main(["policy", *words])
        said = self._capsys.readouterr()
        return status, said.out + said.err


@pytest.fixture
def command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.setattr("moderation.settings.from_environment", lambda _: settings)
    return Command(capsys)


@pytest.fixture
def made(databases: Databases, vault: Vault) -> Traffic:
    """Traffic up to now: a command has no clock of its own."""
    return Traffic(databases, vault, datetime.now(UTC) - timedelta(minutes=5))


def test_the_whole_way_of_a_certificate(made: Traffic, command: Command) -> None:
    status, said = command("certify")
    assert (status, "not tried: 0 checks; about 133 more" in said) == (0, True)
    assert "nothing of the quarter is spent" in said
    made.clear()
    lying = made.decided(made.now - 20 * DAY, [0.5] * 3, propensity=DRAWN)
    made.checked(lying, None)
    status, said = command("certify", "--dry-run")
    assert "To be certified: 2 of 2 promises." in said
    assert "3 checks were not answered within 72 hours" in said
    assert "certify by the calendar" in said
    status, said = command("certify")
    assert "Certification 1 of 16 in" in said
    assert "Certified: 2 of 2 promises." in said
    status, said = command("certificates")
    assert said.count("  in force ") == 2
    assert "no promise" not in said
    with transaction(made.databases.content) as session:
        identifier = str(
            session.scalars(select(CertificateRow.id).where(CertificateRow.side == "allow")).one()
        )
    status, said = command("certificates", identifier)
    assert status == 0
    assert "model text-minilm 2, manifest " in said
    assert "as recorded" in said
    support.unprotected(made.databases.content, "UPDATE decisions SET propensity = 0.9")
    assert command("certificates", identifier)[0] == 1
    status, said = command("void", identifier)
    assert "It is void: from now on" in said
    assert "It was void already." in command("void", identifier)[1]
    assert "somebody voided it" in command("certificates")[1]
    assert "voided (person)" in command("certificates", "--all")[1]


def test_the_same_for_programs_and_refusals_for_people(made: Traffic, command: Command) -> None:
    made.clear()
    found = json.loads(command("certify", "--json")[1])
    assert [one["certificate"] is not None for one in found["attempts"]] == [True, True]
    views = json.loads(command("certificates", "--json")[1])
    assert {one["certificate"] for one in views} == {one["certificate"] for one in found["attempts"]}
    status, said = command("certify", "--model", "text-minilm", "9")
    assert status == cli.REFUSED
    assert "moderation models list" in said
    status, said = command("void", "00000000-0000-0000-0000-000000000001")
    assert status == cli.REFUSED
    made.publish(document({}))
    status, said = command("certify")
    assert status == cli.REFUSED
    assert "wrong_at_most" in said
    assert "promises nothing yet" in command("certificates")[1]
    assert command("simulate")[0] == cli.REFUSED


def test_a_simulation_stands_on_certificates_and_says_how_promises_would_stand(
    made: Traffic, command: Command
) -> None:
    made.clear()
    # What lies between the bands, and people find harmless: half of it is drawn blind.
    between = made.decided(
        made.now - 20 * DAY, [0.6] * 400, propensity=0.5, stratum="uncertain", route="review"
    )
    made.checked(between[:200], "allow")
    made.certify()
    stricter = read(document({"allow": {"missed_at_most": 0.001}}), 99)
    with transaction(made.databases.content) as session:
        same = simulation.run(session, made.policy, made.policy, 30, made.now)
        found = simulation.run(session, made.policy, stricter, 30, made.now)
    assert same.routes["review"] == (0, 0), "certified, what lay between is let pass on both sides"
    assert same.automated == (1.0, 1.0)
    assert [(one.side, one.before is not None, one.after is not None) for one in same.promises] == [
        ("remove", True, True),
        ("allow", True, True),
    ]
    assert found.routes["review"][0] == 0
    assert found.routes["review"][1] >= 400, "so little can't be proved with so few checks"
    states = {one.side: one for one in found.promises}
    assert (states["allow"].allowed_before, states["allow"].allowed, states["allow"].after) == (
        0.02,
        0.001,
        None,
    )
    assert states["allow"].needed > 1_000
    assert (states["remove"].allowed, states["remove"].before is not None) == (None, True), (
        "not promised any more"
    )
    assert support.count(made.databases.content, "certifications") == 1, "nothing was written"
    assert json.loads(json.dumps(found.document()))["automated"]["after"] < 1


def test_a_candidate_is_simulated_by_what_it_said_in_the_shadow(made: Traffic, command: Command) -> None:
    rows = made.decided(made.now - DAY, [0.6] * 100, route="review", stratum="uncertain")
    with transaction(made.databases.content) as session:
        serving = session.get_one(ModelRow, ("text-minilm", "2"))
        session.add(
            ModelRow(name="text-minilm", version="7", kind="text", manifest_sha256="2" * 64, folder="nowhere",
                     added_at=made.now, origin="own", outputs=serving.outputs)
        )  # fmt: skip
        session.flush()
        said = [
            {"item_id": row["item_id"], "part": "body", "detector": "text-minilm:7", "version": "7",
             "status": "ok", "scores": {CATEGORY: 0.02 if at < 40 else 0.7}, "evidence": {}, "shadow": True}
            for at, row in enumerate(rows[:60])
        ]  # fmt: skip
        insert_many(session, SignalRow, said)
    try:
        with transaction(made.databases.content) as session:
            candidate = Candidate("text-minilm", "7")
            found = simulation.run(session, made.policy, made.policy, 7, made.now, candidate=candidate)
        assert (found.items, found.unheard, found.model) == (60, 40, ("text-minilm", "7"))
        assert [(one.before, one.after, one.items) for one in found.flips] == [("review", "allow", 40)]
        assert {one.lineup for one in found.promises} == {"text-minilm 7"}
        status, printed = command("simulate", "--model", "text-minilm", "7")
        assert status == 0
        assert "text-minilm 7 has said nothing of 40 items" in printed
        assert "review -> allow: 40 items" in printed
    finally:
        with transaction(made.databases.content) as session:
            session.execute(ModelRow.__table__.delete().where(ModelRow.manifest_sha256 == "2" * 64))
            assert session.scalar(select(Decision.id).limit(1))
