"""Authors whose every field is a word of its own, taken through the whole product; and everything that can be read.

What stands on disk is ciphertext whether somebody was erased or not, so to look for words there shows the
encryption and not the end. `readable` therefore opens whatever the keys that are left open, in every row and file:
before an erasure it finds every word, afterwards none of those who are gone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import httpx
from sqlalchemy import Table, select, update

from moderation import administration, bundles
from moderation.domain.access import Role
from moderation.governance import partners
from moderation.settings import Settings
from moderation.storage.columns import Ciphertext
from moderation.storage.database import Databases, transaction
from moderation.storage.tables import Base, Bundle, Item
from moderation.storage.vault import Key, Vault, VaultError
from tests import hostile, people, seeding
from tests.service import Service

STEM = "zq7kanarienvogel"  # begins every word, so that one search finds any
ACCENTED = "zq8Kanárienvögel8x"  # in every text, for what escapes letters
SAID_BY_ALL = (STEM, ACCENTED)
PATIENCE = 180.0
CATEGORY = "harassment"


@dataclass(slots=True)
class Author:
    """Somebody whose every field is a word that stands nowhere else."""

    name: str
    words: dict[str, str] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)  # kind -> id
    id: str = ""

    def word(self, what: str) -> str:
        digest = hashlib.sha256(f"{self.name} {what}".encode()).hexdigest()[:10]
        return self.words.setdefault(what, STEM + digest)

    @property
    def reference(self) -> str:
        return f"account {self.word('author')}"

    def found_in(self, text: str) -> set[str]:
        """The fields whose words stand in `text`."""
        return {what for what, word in self.words.items() if word in text}


def picture(note: str, shade: int) -> bytes:
    """A PNG that carries a note in a chunk of its own."""
    data = seeding.picture(shade)
    return data[:33] + hostile.chunk(b"tEXt", b"Comment\0" + note.encode()) + data[33:]


@dataclass(slots=True)
class Flow:
    """One installation, the people who work there, and what they made of each author's items."""

    service: Service
    folder: Path  # bundles
    settings: Settings
    client: httpx.Client
    moderator: httpx.Client
    lead: httpx.Client
    judge: httpx.Client
    partner: httpx.Client

    # --- what authors, readers and their service do ---

    def post(self, author: Author, kind: str, *, pictured: bool = False) -> None:
        """One item with a word in every field."""

        def word(what: str) -> str:
            return author.word(f"{kind}.{what}")

        text = f"Lovely weather, says {word('text')} to {ACCENTED} in the {kind} post."
        parts = [{"type": "text", "name": "body", "text": text}]
        if pictured:
            data = picture(word("picture"), shade=len(author.name) * 7 + len(kind))
            parts.append({"type": "image", "name": "photo", "data": base64.b64encode(data).decode()})
        body = {
            "external_id": f"post {word('external_id')}",
            "author": author.reference,
            "kind": "comment",
            "parts": parts,
            "context": {"thread": f"t {word('thread')}", "parent": f"p {word('parent')}", "language": "en"},
        }
        headers = {"Idempotency-Key": f"k {word('idempotency_key')}"}
        if kind.startswith("judged"):
            bank = f"canary_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            administration.create_bank(self.settings, bank, "text", CATEGORY, "review", allow=False)
            administration.fill_bank(self.settings, bank, [text.encode()], "", verified=True)
        answer = self.client.post("/v1/items", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        author.items[kind] = answer.json()["id"]

    def screened(self, author: Author) -> None:
        """Wait until the machines have seen all of an author's items."""

        def seen() -> bool:
            found = [self.item(item)["status"] for item in author.items.values()]
            return set(found) <= {"decided", "in_review"}

        eventually(seen, "never screened")
        with self.service.database() as database:
            row = database.execute(
                "SELECT author_id::text FROM items WHERE id = %s", [next(iter(author.items.values()))]
            ).fetchone()
        assert row is not None
        author.id = row[0]

    def item(self, item: str) -> dict[str, Any]:
        return sure(self.client.get(f"/v1/items/{item}"))

    def report(self, author: Author, kind: str) -> None:
        """A reader reports it; who reads has words of their own, which belong to the item."""
        body = {
            "reporter": f"reader {author.word(f'{kind}.reporter')}",
            "category": CATEGORY,
            "comment": f"This is about me: {author.word(f'{kind}.comment')}.",
        }
        sure(self.client.post(f"/v1/items/{author.items[kind]}/reports", json=body))

    # --- what people do ---

    def case_of(self, author: Author, kind: str) -> str:
        statement = "SELECT id::text FROM cases WHERE item_id = %s AND state = 'open' ORDER BY id DESC"

        def found() -> str:
            with self.service.database() as database:
                row = database.execute(statement, [author.items[kind]]).fetchone()
            return row[0] if row else ""

        eventually(lambda: bool(found()), f"no open case of {kind}")
        return found()

    def decide(self, who: httpx.Client, case: str, verdict: str, note: str) -> None:
        number = sure(who.post(f"/v1/review/cases/{case}/claim"))["number"]
        body: dict[str, Any] = {"number": number, "form_key": str(uuid4()), "verdict": verdict, "note": note}
        if verdict != "allow":
            body["category"] = CATEGORY
        sure(who.post(f"/v1/review/cases/{case}/opinions", json=body))

    def judged(self, author: Author, kind: str) -> None:
        """Looked at, noted on, escalated, removed, told, appealed and answered by somebody else."""
        case = self.case_of(author, kind)
        shown = self.moderator.get(f"/v1/review/cases/{case}").text
        assert author.word(f"{kind}.text") in shown, "a person reads what they judge"
        note = {"text": f"Seen before: {author.word(f'{kind}.note')}."}
        sure(self.moderator.post(f"/v1/review/cases/{case}/notes", json=note))
        number = sure(self.moderator.post(f"/v1/review/cases/{case}/claim"))["number"]
        raised = {"number": number, "note": f"Please look: {author.word(f'{kind}.escalation')}."}
        sure(self.moderator.post(f"/v1/review/cases/{case}/escalate", json=raised))
        self.decide(self.lead, case, "remove", f"It insults: {author.word(f'{kind}.opinion')}.")
        decision = self.item(author.items[kind])["decision_id"]
        for paper in ("statement", "notice"):
            text = self.client.get(f"/v1/decisions/{decision}/{paper}").text
            assert not author.found_in(text), f"content in the {paper}"
        sure(self.client.post(f"/v1/decisions/{decision}/informed", json={}))
        appeal = {"by": "author", "statement": f"It was a joke: {author.word(f'{kind}.appeal')}."}
        sure(self.client.post(f"/v1/decisions/{decision}/appeals", json=appeal))
        answer = f"Heard: {author.word(f'{kind}.answer')}."
        self.decide(self.judge, self.case_of(author, kind), "remove", answer)

    def through(self, author: Author) -> None:
        """Everything that the product does with an author's items."""
        self.post(author, "judged", pictured=True)
        self.post(author, "judged text")
        self.post(author, "reported")
        self.post(author, "plain", pictured=True)
        self.screened(author)
        self.judged(author, "judged")
        self.judged(author, "judged text")
        self.report(author, "reported")
        note = f"Nothing wrong: {author.word('reported.opinion')}."
        self.decide(self.moderator, self.case_of(author, "reported"), "allow", note)
        details = {"kind": "correct", "details": f"My name is {author.word('request')}."}
        sure(self.client.post(subject(author), json=details))
        with seeding.opened(self.service) as (databases, _), transaction(databases.content) as session:
            partners.assign(
                session, "helper", "operator", datetime.now(UTC), items=[UUID(author.items["plain"])]
            )
        read = self.partner.get(f"/v1/partner/items/{author.items['plain']}")
        assert author.word("plain.text") in read.text, "the partner reads what it was given"

    # --- what leaves ---

    def copy_of(self, author: Author) -> str:
        """The copy that somebody gets of what is held of them, with the bytes of its pictures, as one text."""
        asked = sure(self.client.post(subject(author), json={"kind": "export", "identity_verified": True}))
        return everything_in(self.client.get(asked["export_url"]).content)

    def labels(self, name: str) -> None:
        """A bundle of labels, left on disk beside its key."""
        administration.export_labels(
            self.settings, self.folder / name, self.folder / f"{name}.key", None, None, None, 30
        )

    def labelled(self, name: str) -> str:
        """What a trainer reads in a bundle: with the key it has now."""
        with seeding.opened(self.service) as (databases, _), transaction(databases.content) as session:
            where = Bundle.path == str((self.folder / name).absolute())
            identifier = session.scalars(select(Bundle.id).where(where)).one()
        key = bundles.read_key(self.folder / f"{name}.key", identifier)
        return "\n".join(map(json.dumps, bundles.read(self.folder / name, key, datetime.now(UTC))))

    # --- the end ---

    def ask_to_end(self, author: Author, kind: str) -> str:
        """An erasure by a request or by the end of an account; its id, when it is carried out."""
        asked = sure(self.client.post(subject(author), json={"kind": kind, "identity_verified": True}))
        erasure = str(asked["erasure_id"])

        def state() -> str:
            with self.service.database() as database:
                row = database.execute("SELECT state FROM erasures WHERE id = %s", [erasure]).fetchone()
            return row[0] if row else ""

        eventually(lambda: state() == "done", f"the erasure stays {state()}")
        return erasure

    def expire(self, author: Author, kind: str) -> None:
        """What the clock does at the end of an item's time."""
        item = author.items[kind]
        with seeding.opened(self.service) as (databases, _), transaction(databases.content) as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            session.execute(update(Item).where(Item.id == UUID(item)).values(expires_at=past))

        def destroyed() -> bool:
            with self.service.database() as database:
                asked = "SELECT destroyed_at IS NOT NULL FROM items WHERE id = %s"
                row = database.execute(asked, [item]).fetchone()
            return row is None or row[0]

        eventually(destroyed, "the item is still there")


def subject(author: Author) -> str:
    return f"/v1/subjects/{author.reference}/requests"


def sure(answer: httpx.Response) -> dict[str, Any]:
    """What was answered, which is no refusal."""
    assert answer.is_success, (answer.request.url.path, answer.status_code, answer.text)
    return cast("dict[str, Any]", answer.json()) if answer.content else {}


def eventually(condition: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


# --- everything that can be read with the keys that are left ---


def everything_in(archive: bytes) -> str:
    """All files of a ZIP as one text, whatever they hold."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return "\n".join(opened.read(name).decode("latin-1") for name in opened.namelist())


def readable(databases: Databases, vault: Vault, folder: Path) -> str:
    """Every ciphertext of every table, and every picture in `folder`, that any key in the keystore opens."""
    found: list[str] = []
    with transaction(databases.content) as session:
        keys = vault.item_keys(session.scalars(select(Item.id)).all())
        for mapper in Base.registry.mappers:
            table = cast("Table", mapper.local_table)
            sealed = [column.name for column in table.columns if isinstance(column.type, Ciphertext)]
            if not sealed:
                continue
            for row in session.execute(select(table)).mappings():
                for column in sealed:
                    if row[column] is not None:
                        found += _opened(vault, keys, dict(row), table.name, column)
        found += _pictures(session, keys, folder)
    return "\n".join(found)


def _opened(
    vault: Vault, keys: dict[UUID, Key], row: dict[str, Any], table: str, column: str
) -> Iterator[str]:
    item = row["id"] if table == "items" else row.get("item_id")
    author = row["id"] if table == "authors" else row.get("author_id")
    of_author = vault.keys_of(UUID(int=0), author)[1] if author else None
    places: list[tuple[str, ...]] = [(table, column, str(row["id"]))] if "id" in row else []
    if table == "parts":
        places.append((table, column, str(row["item_id"]), str(row["position"])))
    for key in filter(None, (keys.get(item) if item else None, of_author, vault.account_key())):
        for place in places:
            try:
                yield key.decrypt(row[column], *place).decode("latin-1")
            except VaultError:
                continue


def _pictures(session: Any, keys: dict[UUID, Key], folder: Path) -> Iterator[str]:
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    parts = Base.metadata.tables["parts"]
    for row in session.execute(select(parts).where(parts.c.blob.is_not(None))).mappings():
        file, key = files.get(Path(row["blob"]).name), keys.get(row["item_id"])
        if file is None or key is None:
            continue
        try:
            place = ("parts", "blob", str(row["item_id"]), str(row["position"]))
            yield key.decrypt(file.read_bytes(), *place).decode("latin-1")
        except VaultError:
            continue


@contextmanager
def at_work(service: Service, folder: Path) -> Iterator[Flow]:
    """The content service, three people and a partner, each with a key of their own."""
    seeding.publish(service, undo_seconds=0)
    now = datetime.now(UTC)
    with seeding.opened(service) as (databases, vault):
        tokens = [
            people.new_session(databases, people.new_person(databases, vault, *roles))
            for roles in ((Role.MODERATOR,), (Role.LEAD, Role.MODERATOR), tuple(Role))
        ]
        with transaction(databases.content) as session:
            tokens.append(
                partners.create(
                    session,
                    vault,
                    name="helper",
                    purpose="review",
                    fields=["text", "image", "thread"],
                    expires_at=now + timedelta(days=30),
                    actor="operator",
                    now=now,
                )
            )
    with ExitStack() as stack:
        settings = seeding.settings_of(service)
        calls = [
            stack.enter_context(
                httpx.Client(
                    base_url=service.url,
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=120,
                    follow_redirects=False,
                )
            )
            for token in (service.api_key, *tokens)
        ]
        yield Flow(service, folder, settings, *calls)
