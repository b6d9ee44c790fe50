"""The canary of the design, whole: what can be read of whom, before authors end, afterwards, and once restored."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import httpx
from redis import Redis

from moderation.governance.erasing import receipts
from moderation.storage import archive
from moderation.storage.database import transaction
from tests import canary_flow, pages, seeding
from tests.canary import hits, hits_in
from tests.canary_flow import Author, Flow
from tests.service import Service, running

# Of these only a keyed digest is kept, which says nothing: nobody can read them, of anybody.
DIGESTS = ("idempotency_key", "reporter")
# Of these a copy for the author is silent: they are of whoever reported.
OF_OTHERS = ("comment", *DIGESTS)
BUNDLE = "labels.bundle"
CONTENT, KEYSTORE = "content.backup", "keystore.backup"
WORDS = canary_flow.SAID_BY_ALL
LEAST_BYTES = 30_000_000  # fewer, and something was not looked at


@dataclass(slots=True)
class Outcome:
    """What was found where; whatever `wrong` names should not have been, or should have been and was not."""

    authors: int = 0
    items: int = 0
    words: int = 0
    looked_at: dict[str, int] = field(default_factory=dict)  # bytes, by what was scanned
    read: dict[str, int] = field(default_factory=dict)  # words of the living, by where they were read
    pages: int = 0
    wrong: list[str] = field(default_factory=list)

    def hits(self, where: str) -> int:
        """How much was wrong there."""
        return sum(line.startswith(f"{where}: ") for line in self.wrong)

    def silent(self, where: str, text: str, gone: Iterable[Author]) -> None:
        """Nobody who is gone may be found there."""
        self.wrong += [f"{where}: {who.name} {what}" for who in gone for what in sorted(who.found_in(text))]

    def speaking(
        self, where: str, text: str, living: Iterable[Author], wanted: Callable[[str], bool]
    ) -> None:
        """Of everybody who lives every wanted word must be found there."""
        for who in living:
            there = {what for what in who.words if wanted(what)}
            self.wrong += [f"{where}: no {who.name} {what}" for what in sorted(there - who.found_in(text))]
            self.read[where] = self.read.get(where, 0) + len(there & who.found_in(text))

    def scanned(self, where: str, directory: Path) -> None:
        """No word of anybody may stand in a file there as it is, or in any encoding that is looked for."""
        found, looked_at = hits_in(directory, WORDS)
        self.wrong += [f"{where}: {name} ({', '.join(sorted(how))})" for name, how in found.items()]
        self.looked_at[where] = self.looked_at.get(where, 0) + looked_at


def run(folder: Path, each: int = 1) -> Outcome:
    """`each` authors of every kind, from their first post to a backup that is restored after their end."""
    outcome = Outcome()
    living, asked, cancelled = (
        [Author(f"{kind} {number}") for number in range(each)] for kind in ("live", "asked", "cancelled")
    )
    files = folder / "files"
    files.mkdir()
    with running(folder / "var", RETRY_SECONDS="0.1") as service, canary_flow.at_work(service, files) as flow:
        everybody = [*living, *asked, *cancelled]
        for author in everybody:
            flow.through(author)
        flow.labels(BUNDLE)
        outcome.authors, outcome.items = len(everybody), sum(len(one.items) for one in everybody)
        outcome.words = sum(len(one.words) for one in everybody)
        before(flow, outcome, everybody)
        command("backup", files / CONTENT, service.directory)
        receipts_of = [flow.ask_to_end(author, "erase") for author in asked]
        receipts_of += [flow.ask_to_end(author, "cancel") for author in cancelled]
        for author in living:
            flow.expire(author, "plain")
        gone = [*asked, *cancelled]
        after(flow, outcome, living, gone, receipts_of)
        command("backup", files / KEYSTORE, service.directory, "--keystore")
    shutil.copytree(service.directory / "secrets", folder / "again" / "secrets")
    for name in (KEYSTORE, CONTENT):
        command("restore", files / name, folder / "again")
    with running(folder / "again") as restored:
        again(replace(restored, api_key=service.api_key), outcome, living, gone)
    outcome.scanned("files, after", files)
    for name in (KEYSTORE, CONTENT):
        unpacked(files / name, outcome)
    return outcome


def command(verb: str, file: Path, directory: Path, *options: str) -> None:
    """Run `moderation backup` or `moderation restore` as an operator does."""
    words = [sys.executable, "-m", "moderation", verb, str(file), "--data-dir", str(directory), *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MODERATION_")}
    ran = subprocess.run(words, capture_output=True, text=True, env=kept, timeout=600)
    assert ran.returncode == 0, (words, ran.stdout, ran.stderr)


def kept(what: str) -> bool:
    """Whether a word of the living is to be readable at the end."""
    return not what.startswith("plain.") and readable(what)


def readable(what: str) -> bool:
    """Whether anybody can read it at all."""
    return what.rpartition(".")[2] not in DIGESTS


def copied(what: str) -> bool:
    """Whether it is in the copy that its author gets."""
    return what.rpartition(".")[2] not in OF_OTHERS


def before(flow: Flow, outcome: Outcome, everybody: Sequence[Author]) -> None:
    """While all live, everything is readable with the keys, and nothing without."""
    outcome.speaking("with keys, before", opened(flow.service), everybody, readable)
    for author in everybody:
        outcome.speaking("copies, before", flow.copy_of(author), [author], copied)
    labelled = flow.labelled(BUNDLE)
    outcome.speaking("bundle, before", labelled, everybody, lambda what: what == "judged text.text")
    flush(flow.service)
    outcome.scanned("disk, before", flow.service.directory)
    outcome.scanned("files, before", flow.folder)


def after(
    flow: Flow, outcome: Outcome, living: Sequence[Author], gone: Sequence[Author], erasures: Sequence[str]
) -> None:
    """Of those who ended nothing is readable by anybody; of the others all of it."""
    everything = opened(flow.service)
    outcome.silent("with keys, after", everything, gone)
    outcome.speaking("with keys, after", everything, living, kept)
    ended = [Author("", {k: v for k, v in one.words.items() if k.startswith("plain.")}) for one in living]
    outcome.silent("expired item", everything, ended)
    for author in living:
        outcome.speaking(
            "copies, after", flow.copy_of(author), [author], lambda what: kept(what) and copied(what)
        )
    labelled = flow.labelled(BUNDLE)
    outcome.silent("bundle, after", labelled, gone)
    outcome.speaking("bundle, after", labelled, living, lambda what: what == "judged text.text")
    listed = {
        one["item_id"] for one in canary_flow.sure(flow.partner.get("/v1/partner/deletions"))["deletions"]
    }
    told = {one.items["plain"] for one in (*living, *gone)}
    outcome.wrong += [f"partner: not told of {item}" for item in sorted(told - listed)]
    looked_at(flow, outcome, gone)
    verified(flow.service, outcome, erasures)
    flush(flow.service)
    outcome.scanned("disk, after", flow.service.directory)


def again(service: Service, outcome: Outcome, living: Sequence[Author], gone: Sequence[Author]) -> None:
    """The content of before and the keys of after: the erasures are replayed before anything is served."""
    everything = opened(service)
    outcome.silent("with keys, restored", everything, gone)
    outcome.speaking("with keys, restored", everything, living, kept)
    with service.client() as client:
        for author in (*living, *gone):
            asked = {"kind": "export", "identity_verified": True}
            answer = canary_flow.sure(client.post(canary_flow.subject(author), json=asked))
            if author in gone:
                outcome.wrong += (
                    [] if answer["outcome"] == "not_found" else [f"restored: {author.name} is known"]
                )
            else:
                text = canary_flow.everything_in(client.get(answer["export_url"]).content)
                outcome.speaking("copies, restored", text, [author], lambda what: kept(what) and copied(what))
    flush(service)
    outcome.scanned("disk, restored", service.directory)


def unpacked(path: Path, outcome: Outcome) -> None:
    """A backup is packed: look at what is in it, too."""
    for member, file in archive.members(path):
        data = file.read()
        data = gzip.decompress(data) if member.endswith(".gz") else data
        outcome.looked_at["backups"] = outcome.looked_at.get("backups", 0) + len(data)
        found = hits(data, WORDS)
        outcome.wrong += [f"{path.name}, {member}: {', '.join(sorted(found))}"] if found else []


def opened(service: Service) -> str:
    """Everything that the keys of an installation open."""
    with seeding.opened(service) as (databases, vault):
        return canary_flow.readable(databases, vault, service.directory / "blobs")


def looked_at(flow: Flow, outcome: Outcome, gone: Sequence[Author]) -> None:
    """No page of the console and no answer of the API has a word of theirs, nor have the metrics."""
    addresses = list(pages.addresses(flow.service).values())
    for author in gone:
        addresses += [f"/console/authors/{author.id}", f"/v1/subjects/{author.id}/requests"]
        for item in author.items.values():
            addresses += [f"/console/items/{item}", f"/console/items/{item}/content", f"/v1/items/{item}"]
    for address in [*addresses, "/metrics", "/console/audit?subject=erasure"]:
        caller = flow.client if address.startswith("/v1/") else flow.judge
        try:
            answer = caller.get(address)
        except httpx.TransportError:  # an answer of 500 ends the connection under the one that follows
            answer = caller.get(address)
        outcome.wrong += [f"{address}: it failed"] if answer.status_code >= 500 else []
        outcome.pages += 1
        found = hits(answer.content, [word for one in gone for word in one.words.values()])
        outcome.wrong += [f"{address}: {', '.join(sorted(found))}"] if found else []


def verified(service: Service, outcome: Outcome, erasures: Sequence[str]) -> None:
    """Every receipt holds when it is looked at again."""
    with seeding.opened(service) as (databases, vault):
        for erasure in erasures:
            with transaction(databases.content) as session:
                text = receipts.receipt(session, UUID(erasure))
            for check in receipts.verify(databases, vault, text):
                outcome.wrong += [] if check.holds else [f"receipt: {check.said}"]


def flush(service: Service) -> None:
    """Have databases and broker write down what they hold."""
    for name in ("moderation", "keystore"):
        with service.database(name) as database:
            database.execute("VACUUM")
            database.execute("CHECKPOINT")
    broker = Redis(unix_socket_path=str(service.broker_socket))
    try:
        broker.save()
    finally:
        broker.close()
