"""Row 1: content is used for what is registered, and whoever sees it says what for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select, update

from moderation.domain.cases import Verdict
from moderation.domain.decisions import Judgement
from moderation.domain.purposes import BASIS, READS, Purpose, UnregisteredPurpose, purpose_of
from moderation.governance.audit import Event
from moderation.settings import Settings
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import AuditEvent, Decision, Item
from moderation.storage.vault import Key, Vault
from tests import people
from tests.caseload import Caseload
from tests.integration.test_role_matrix import checks
from tests.unit.test_architecture import ROOT, walk

NOTHING = "019ab000-0000-7000-8000-000000000000"

# Every function that decrypts, and why it may: the read that is recorded before, the stage of a machine that
# the policy knows, the content service that gets back what it gave, or no content at all (accounts, secrets).
# A new one fails the test until somebody has thought about it.
MACHINE, ITS_OWN, SECRET = "a machine's stage", "the content service's own", "an account's or a secret"
DECRYPTS = {
    "api/console/routes/media.py:_opened": "case.viewed",
    "api/routes/decisions.py:_author": ITS_OWN,
    "moderation/bundles.py:_read_chunk": "labels.exported",
    "moderation/delivery.py:_signer": SECRET,
    "moderation/demo_governance.py:_reference": MACHINE,
    "moderation/demo_review.py:_of_plain_demo": MACHINE,
    "moderation/governance/bank_export.py:_features": "bank.exported",
    "moderation/governance/bank_staging.py:_complete": MACHINE,  # to encrypt it for the row it belongs to
    "moderation/governance/bank_entries.py:_opened": MACHINE,  # what a matcher looks for
    "moderation/governance/bank_entries.py:values": SECRET,  # lists of our own
    "moderation/governance/bank_parts.py:add_part": MACHINE,  # to a digest; nobody is shown anything
    "moderation/governance/corrections.py:correct": MACHINE,  # to put the correction beside it
    "moderation/governance/erasing/receipts.py:_opens": MACHINE,  # to show that it opens no more
    "moderation/governance/erasing/trained.py:key_of": SECRET,
    "moderation/governance/evidence.py:_opened": "preservation.opened",
    "moderation/governance/evidence.py:_piece": "preservation.opened",
    "moderation/governance/exports.py:_Opener._open": "subject_request.exported",
    "moderation/governance/exports.py:_own": "subject_request.exported",
    "moderation/governance/exports.py:archive": "subject_request.exported",
    "moderation/governance/incidents.py:authors_of": "incident.viewed",
    "moderation/governance/invitations.py:_email": SECRET,
    "moderation/governance/minors.py:reference_of": "minor.viewed",
    "moderation/governance/oidc.py:opened": SECRET,
    "moderation/governance/papers.py:opened": SECRET,  # file numbers and descriptions of our own
    "moderation/governance/partners.py:_details": "partner.item_read",
    "moderation/governance/partners.py:_part": "partner.item_read",
    "moderation/governance/people.py:email_of": SECRET,
    "moderation/governance/people.py:name_of": SECRET,
    "moderation/governance/preservation.py:Package.file": "preservation.opened",
    "moderation/governance/preservation.py:open_package": "preservation.opened",
    "moderation/governance/secondfactor.py:_opened": SECRET,
    "moderation/governance/secondfactor.py:_take_challenge": SECRET,
    "moderation/governance/secondfactor.py:check_totp": SECRET,
    "moderation/governance/subjects.py:_standing": MACHINE,  # to see whether two requests ask for the same
    "moderation/governance/subjects.py:view": "subject_request.viewed",
    "moderation/pipeline/hash_files.py:_opened": MACHINE,  # hashes of banks' pictures
    "moderation/pipeline/normalise.py:_open": MACHINE,
    "moderation/pipeline/rescan.py:_kept": MACHINE,  # the machine's stage of before, for a new entry
    "moderation/pipeline/rescan.py:_decode": MACHINE,
    "moderation/pipeline/rescan.py:_texts": MACHINE,
    "moderation/review/appeals.py:statement_of": "case.viewed",
    "moderation/review/casefile.py:_details": "case.viewed",
    "moderation/review/casefile.py:_opened": "case.viewed",
    "moderation/review/golden.py:_opened": "golden.contests_viewed",
    "moderation/review/history.py:_named_by_client": "item.history_viewed",
    "moderation/review/history.py:_opened": "item.viewed",
    "moderation/review/history.py:_reference": "author.viewed",
    "moderation/review/labels.py:_texts": "labels.exported",
    "moderation/review/labels.py:_vectors": "labels.exported",
    "moderation/review/lines.py:of_part": "case.viewed",
    "moderation/review/suggestion_bundles.py:_rows": "labels.exported",
}
VAULT = "moderation/storage/"  # keys that open keys
CONTENT = {"parts", "items", "authors", "case_notes", "reports", "appeals", "subject_requests", "suggestions"}


def test_an_unregistered_purpose_raises() -> None:
    for action in ("marketing.sent", "profile.built", "nothing"):
        with pytest.raises(UnregisteredPurpose):
            Event("machine", action, "item", "1")


def test_every_purpose_has_its_legal_basis() -> None:
    assert set(BASIS) == set(Purpose)
    assert all("GDPR" in basis for basis in BASIS.values())


def test_a_read_carries_a_purpose_and_may_carry_another_one() -> None:
    for action in READS:
        assert Event("person:1", action, "item", "1").details["purpose"] == purpose_of(action)
    viewed = Event("person:1", "item.viewed", "item", "1", {"why": "request"}, purpose=Purpose.RIGHTS)
    assert viewed.details == {"why": "request", "purpose": "rights"}
    assert "purpose" not in Event("person:1", "decision.made", "item", "1").details
    with pytest.raises(UnregisteredPurpose):
        Event("person:1", "decision.made", "item", "1", purpose=Purpose.RIGHTS)


def actions_in(source: str) -> Iterator[str]:
    """The actions that calls of `Event` name in so many words; of a formatted one its family."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or len(node.args) < 4:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        action = node.args[1]
        if name != "Event":
            continue
        if isinstance(action, ast.Constant):
            yield str(action.value)
        elif isinstance(action, ast.JoinedStr) and isinstance(action.values[0], ast.Constant):
            yield f"{action.values[0].value}*"


def python_files() -> Iterator[Path]:
    for folder in ("moderation", "api"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_every_action_in_the_code_serves_a_registered_purpose() -> None:
    found = {action for path in python_files() for action in actions_in(path.read_text())}
    assert len(found) > 60
    for action in found:
        purpose_of(action)


def decrypting(path: Path) -> Iterator[str]:
    """The functions of a file that call `decrypt`."""

    def look(node: ast.AST, names: tuple[str, ...]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from look(child, (*names, child.name))
                continue
            if isinstance(child, ast.Call) and getattr(child.func, "attr", "") == "decrypt":
                yield ".".join(names)
            yield from look(child, names)

    yield from look(ast.parse(path.read_text()), ())


def test_whatever_decrypts_is_reached_by_a_recorded_read_or_a_declared_stage() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}:{name}" for path in python_files() for name in decrypting(path)
    }
    content = {name for name in found if not name.startswith(VAULT)}
    assert content - set(DECRYPTS) == set(), (
        "say here by which recorded read, or which stage, these are reached"
    )
    assert set(DECRYPTS) - content == set(), "these decrypt nothing any more"
    named = {why for why in DECRYPTS.values() if why not in (MACHINE, ITS_OWN, SECRET)}
    assert named <= READS


@pytest.fixture
def known(load: Caseload, databases: Databases, vault: Vault) -> dict[str, str]:
    """An id for every parameter of a page: of an item that was reported, judged and noted."""
    load.now = datetime.now(UTC)
    (case,) = load.waiting()
    (other,) = load.waiting()
    item_id = load.case(case).item_id
    judge = people.principal(databases, vault, "moderator", "lead")
    load.give(judge, case, Judgement(Verdict.REMOVE, "harassment", "H1"), note="Seen twice this week.")
    with transaction(databases.content) as session:
        decision = session.scalars(select(Decision.id).where(Decision.person_id.is_not(None))).one()
        # In force at once, and the machine's no more: its reversal is a page too.
        then, by_person = load.now - timedelta(seconds=1), Decision.person_id.is_not(None)
        session.execute(update(Decision).where(by_person).values(effective_at=then))
        session.execute(
            update(Decision).where(~by_person, Decision.item_id == item_id).values(superseded_at=then)
        )
        author = session.scalars(select(Item.author_id).where(Item.id == item_id)).one()
    return {
        "case_id": str(other),
        "item_id": str(item_id),
        "author_id": str(author),
        "decision_id": str(decision),
        "position": "0",
    }


def pages(app: Any, known: dict[str, str]) -> Iterator[str]:
    """The address of every page and answer for people that is only looked at."""
    for route in walk(app.routes):
        if isinstance(route, APIRoute) and "GET" in route.methods and list(checks(route.dependant)):
            address = route.path
            for name in route.param_convertors:
                address = address.replace(f"{{{name}}}", known.get(name, NOTHING))
            yield address


def test_no_page_opens_content_without_a_read_on_record(
    settings: Settings,
    databases: Databases,
    vault: Vault,
    known: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    decrypt = Key.decrypt

    def seen(key: Key, ciphertext: bytes, *place: str) -> bytes:
        if place[0] in CONTENT:
            opened.append(".".join(place[:2]))
        return decrypt(key, ciphertext, *place)

    monkeypatch.setattr(Key, "decrypt", seen)
    everything = ("moderator", "lead", "trainer", "privacy_officer", "legal", "auditor", "admin")
    wrong, showing = {}, {}
    with people.logged_in(settings, databases, vault, *everything) as somebody:
        for address in pages(somebody.app, known):
            opened.clear()
            before = reads(databases, somebody.person_id)
            answer = somebody.get(address)
            assert answer.status_code < 500, address
            after = reads(databases, somebody.person_id)
            # What is refused shows nothing, whatever was opened to find that out.
            if opened and answer.status_code == 200:
                showing[address] = set(opened)
                if len(after) == len(before):
                    wrong[address] = set(opened)
    shown = {"/content", "/reverse"} | {f"/cases/{known['case_id']}", f"/authors/{known['author_id']}"}
    assert all(any(address.endswith(one) for address in showing) for one in shown), showing
    assert not wrong
    with transaction(databases.content) as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action.in_(sorted(READS)))).all()
    assert {row.action for row in rows} >= {"case.viewed", "item.viewed", "author.viewed", "audit.viewed"}
    assert all(row.details["purpose"] in set(Purpose) for row in rows)


def reads(databases: Databases, person_id: UUID) -> list[UUID]:
    with transaction(databases.content) as session:
        mine = select(AuditEvent.id).where(AuditEvent.actor == f"person:{person_id}")
        return list(session.scalars(mine.where(AuditEvent.action.in_(sorted(READS)))))
