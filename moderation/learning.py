"""One round of the loop, from reviewed labels to a proposal.

Labels are exported, a head is fitted, judged by its gates, registered, tried in the shadow, back-tested, certified
and proposed. A round is gone on with wherever it was left; `governance.learning` keeps how far it came. What can't
be fitted, does not pass its gates or may not be proposed ends the round with the reason. Nothing that a round does
changes a decision: two people have to want what it proposes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from models import gates, registry
from models.registry import MANIFEST, ArtifactError, Kind
from models.text_heads import clients_of
from moderation import backtesting
from moderation.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Refusal
from moderation.domain.promises import Occasion
from moderation.governance import certification, learning, lineage, models, promotions, proving, trials
from moderation.governance.learning import ARTIFACT, BUNDLE, State
from moderation.governance.policies import PolicyCache
from moderation.review import labels
from moderation.settings import Settings
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.ids import new_id
from moderation.storage.tables import Bundle, LearningRound
from moderation.storage.vault import Vault

BUNDLE_DAYS = 30
"""How long a round's bundle lasts: long enough to fit it anew or elsewhere, and it is written again meanwhile."""
FIT_SECONDS = 3600.0
FIT = "text-head"
_LOCK = 7_203_016
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be learned, and who asks for it.

    `client`: a head for what this content service posts, from labels of its posts; None: one for all. `days`: from
    labels of so many days; None: of all that are retained. `elsewhere`: stop once the bundle is written; `artifact`
    goes on with what was made of it. `by`: in whose name it is proposed; without, somebody proposes it later.
    `anew`: give up the round that is not over, and begin another.
    """

    client: str | None = None
    categories: tuple[str, ...] = ()
    days: float | None = None
    by: str | None = None
    artifact: Path | None = None
    elsewhere: bool = False
    anew: bool = False


class Nothing(Exception):
    """The round comes to nothing; the message says why."""


class _Waits(Exception):
    """Somebody else has to do something first."""


@dataclass(slots=True)
class _Turn:
    """What the steps of a round share."""

    settings: Settings
    databases: Databases
    vault: Vault
    wanted: Wanted
    actor: str
    tell: Tell

    @property
    def engine(self) -> Engine:
        return self.databases.content

    def folder(self, row: LearningRound) -> Path:
        # Whole: what fits a head works in this folder.
        return learning.folder_of(self.settings.learning, row.id).absolute()

    def moved(self, row: LearningRound, to: State, **found: Any) -> LearningRound:
        with transaction(self.engine) as session:
            return learning.move(session, row.id, to, self.actor, _now(), **found)


def _now() -> datetime:
    return datetime.now(UTC)


def run(settings: Settings, wanted: Wanted, actor: str, tell: Tell) -> LearningRound:
    """Take a round as far as it goes: the one that is not over, or a new one. `tell` hears of each step.

    Raises:
        Conflict: another round is under way at this moment.
        InvalidInput: an artifact is given and no round waits for one.
    """
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        turn = _Turn(settings, databases, Vault(databases.keystore, settings.kek), wanted, actor, tell)
        with _alone(databases.content):
            return _run(turn)
    finally:
        databases.dispose()


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
            raise Conflict("Another round of learning is under way at this moment; wait until it is done.")
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})


def _run(turn: _Turn) -> LearningRound:
    with transaction(turn.engine) as session:
        row = learning.unfinished(session, turn.wanted.client)
        learning.tidy(session, turn.settings.learning, _now())
        if row is not None and turn.wanted.anew:
            learning.end(session, row.id, "It was given up for another one.", turn.actor, _now())
            learning.drop_artifact(turn.settings.learning, row.id)
            row = None
    if row is None:
        if turn.wanted.artifact is not None:
            raise InvalidInput(
                "No round waits for an artifact; `moderation learn --elsewhere` begins one and writes its bundle."
            )
        row = _export(turn)
    else:
        turn.tell(f"Gone on with the round of {row.started_at:%Y-%m-%d %H:%M}, which is {row.state}.")
    try:
        while row.state in _STEPS:
            row = _STEPS[State(row.state)](turn, row)
    except _Waits as waits:
        turn.tell(str(waits))
        with transaction(turn.engine) as session:
            learning.waits(session, row.id, _now())
    except (Nothing, ArtifactError) as error:
        with transaction(turn.engine) as session:
            row = learning.end(session, row.id, str(error), turn.actor, _now())
            learning.drop_artifact(turn.settings.learning, row.id)
    except Exception:
        # The schedule goes on with it in an hour, and not at every look.
        with transaction(turn.engine) as session:
            learning.waits(session, row.id, _now())
        raise
    if row.trouble:
        turn.tell(f"Nothing came of it: {row.trouble}")
    return row


def _export(turn: _Turn) -> LearningRound:
    """Seal what people found into a bundle of the round's own. Half of the audit draws stay, to prove by."""
    wanted, now, identifier = turn.wanted, _now(), new_id(_now())
    folder = learning.folder_of(turn.settings.learning, identifier)
    folder.mkdir(parents=True, mode=0o700)
    since = datetime(1970, 1, 1, tzinfo=UTC) if wanted.days is None else now - timedelta(days=wanted.days)
    asked = labels.Wanted(since, now, days=BUNDLE_DAYS, client=wanted.client, for_proof=True)
    bundle = folder / BUNDLE
    try:
        with transaction(turn.engine) as session:
            made = labels.export(session, turn.vault, bundle, _key(bundle), asked, turn.actor, now)
            found = {
                "categories": list(wanted.categories), "elsewhere": wanted.elsewhere, "rows": made.rows,
                "held_back": asdict(made.held), "for_proof": made.for_proof,
                "agreement": {name: one.alpha for name, one in made.agreement.items()},
            }  # fmt: skip
            row = learning.begin(session, identifier, wanted.client, made.id, turn.actor, now, found)
    except InvalidInput as error:
        with transaction(turn.engine) as session:
            return learning.without_labels(session, identifier, wanted.client, turn.actor, str(error), now)
    turn.tell(f"{made.rows} labels sealed; {made.for_proof} audited ones stay, to prove by.")
    if made.held.look_again or made.held.contested:
        turn.tell(
            f"Held back: {made.held.look_again} that are being looked at again, {made.held.contested} contested."
        )
    return row


def _key(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}.key")


def _fit(turn: _Turn, row: LearningRound) -> LearningRound:
    """Fit a head in a process of its own, or take the artifact that was made elsewhere."""
    with transaction(turn.engine) as session:
        bundle = session.get(Bundle, row.bundle_id)
    if turn.wanted.artifact is None:
        if bundle is None or bundle.ended_at is not None or bundle.expires_at <= _now():
            raise Nothing("Its bundle ended before anything was made of it.")
        if turn.wanted.elsewhere or row.document.get("elsewhere"):
            raise _Waits(_elsewhere(turn, row))
        artifact = turn.folder(row) / ARTIFACT
        if not (artifact / MANIFEST).exists():
            _train(turn, row, artifact)
    else:
        artifact = turn.wanted.artifact.absolute()
    try:
        manifest = registry.load(artifact)
    except ArtifactError as error:
        raise _refused(turn, str(error)) from error
    if row.bundle_id not in {one.id for one in lineage.bundles_of(manifest)}:
        raise _refused(turn, f"{artifact} was not made of the bundle of this round, {row.bundle_id}.")
    if manifest.kind != FIT or clients_of(manifest) != frozenset([row.client] if row.client else []):
        raise _refused(turn, f"{artifact} is no text head for {row.client or 'all clients'}.")
    turn.tell(f"{manifest.name} {manifest.version} is fitted.")
    return turn.moved(row, State.FITTED, name=manifest.name, version=manifest.version, artifact=str(artifact))


def _refused(turn: _Turn, sentence: str) -> Exception:
    """What somebody gave is refused and the round waits on; what we made ourselves ends it."""
    return InvalidInput(sentence) if turn.wanted.artifact is not None else Nothing(sentence)


def _elsewhere(turn: _Turn, row: LearningRound) -> str:
    bundle = turn.folder(row) / BUNDLE
    return (
        f"Copy {bundle} to the other machine, and {_key(bundle)} by another way. There:\n"
        f"  {' '.join(_command(turn, row, Path(BUNDLE), Path(ARTIFACT), 'python'))}\n"
        f"Copy the folder {ARTIFACT} back, delete the bundle there, and go on:\n"
        f"  moderation learn{f' --client {row.client}' if row.client else ''} --artifact {ARTIFACT}"
    )


def _command(turn: _Turn, row: LearningRound, bundle: Path, artifact: Path, python: str) -> list[str]:
    """How a head is fitted of the round's bundle."""
    given = [
        python,
        "-m",
        "training",
        FIT,
        "--data",
        str(bundle),
        "--version",
        _version(row),
        "--out",
        str(artifact),
    ]
    if row.client:
        given += ["--client", row.client]
    for category in row.document.get("categories", ()):
        given += ["--category", category]
    if python != sys.executable:
        return given
    for option, folder in (("--base", _base(turn)), ("--champion", _champion(turn, row.client))):
        given += [option, str(folder.absolute())] if folder else []
    return given


def _version(row: LearningRound) -> str:
    return f"{row.started_at:%Y%m%d}-{row.id.hex[-6:]}"


def _base(turn: _Turn) -> Path | None:
    """The text model that serves, which a head belongs to."""
    kinds: tuple[Kind, ...] = ("text",)
    with transaction(turn.engine) as session:
        serving = models.wanted(session, turn.settings.models, kinds)
    return serving[0].folder if serving else None


def _champion(turn: _Turn, client: str | None) -> Path | None:
    """The head for the same clients that serves, which the new one is compared with."""
    kinds: tuple[Kind, ...] = ("text-head",)
    with transaction(turn.engine) as session:
        serving = models.wanted(session, turn.settings.models, kinds)
    mine = frozenset([client] if client else [])
    return next((one.folder for one in serving if clients_of(registry.read(one.folder)) == mine), None)


def _train(turn: _Turn, row: LearningRound, artifact: Path) -> None:
    registry.remove(artifact)  # what a broken-off attempt left
    bundle = turn.folder(row) / BUNDLE
    # -P: no folder of the caller's shadows our packages.
    command = _command(turn, row, bundle, artifact, sys.executable)
    command.insert(1, "-P")
    turn.tell("Fitting ...")
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, capture_output=True, text=True, timeout=FIT_SECONDS, check=False, env={**os.environ},
            cwd=turn.folder(row),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Nothing(f"Fitting took longer than {FIT_SECONDS / 60:.0f} minutes.") from error
    if done.returncode != 0:
        raise Nothing(_said(done.stderr, done.returncode))


def _said(stderr: str, status: int) -> str:
    """What training says of itself, and nothing of a traceback, which might hold content."""
    said = [line for line in stderr.splitlines() if line.startswith(f"{FIT}: ")]
    return said[-1].removeprefix(f"{FIT}: ")[:1000] if said else f"Fitting broke off with status {status}."


def _register(turn: _Turn, row: LearningRound) -> LearningRound:
    """Add the version, which checks files and golden inputs, and judge its gates."""
    artifact = Path(row.document[ARTIFACT])
    manifest = registry.load(artifact)
    found = gates.check(manifest)
    if (refusal := models.failing(manifest.name, manifest.version, found)) is not None:
        raise Nothing(refusal)
    try:
        with transaction(turn.engine) as session:
            models.add(session, artifact, turn.settings.models, turn.actor, _now())
            passed = [gate.document() for gate in found]
            row = learning.move(session, row.id, State.REGISTERED, turn.actor, _now(), gates=passed)
    except Conflict as error:
        raise Nothing(str(error)) from error
    turn.tell(f"{row.name} {row.version} passes its {len(found)} gates and is added.")
    return row


def _shadow(turn: _Turn, row: LearningRound) -> LearningRound:
    name, version = _named(row)
    learning.drop_artifact(turn.settings.learning, row.id)
    try:
        with transaction(turn.engine) as session:
            if not _tried(session, name, version):
                trials.begin_shadow(session, turn.settings.models, name, version, turn.actor, _now())
            row = learning.move(session, row.id, State.SHADOWED, turn.actor, _now())
    except (Conflict, NotFound) as error:
        raise Nothing(str(error)) from error
    turn.tell("It scores what comes in, in the shadow: it decides nothing.")
    return row


def _tried(session: Any, name: str, version: str) -> bool:
    """Whether it is the shadow already, or serves by now."""
    held = (models.SHADOW, models.CANARY, models.CHAMPION)
    return any(models.alias_of(session, name, alias) == version for alias in held)


def _prove(turn: _Turn, row: LearningRound) -> LearningRound:
    """Score with it what is retained, compare, and try to prove the policy's promises for when it serves."""
    name, version = _named(row)
    with transaction(turn.engine) as session:
        policy = PolicyCache().current(session)
    days = policy.certificates.period_days + policy.certificates.settle_hours / 24
    try:
        came = backtesting.run(turn.settings, backtesting.Wanted(name, version, days), turn.actor)
    except (Conflict, InvalidInput, NotFound) as error:
        raise Nothing(str(error)) from error
    turn.tell(f"Back-tested: {came.scored} items of {days:.0f} days were scored.")
    found: dict[str, Any] = {
        "back_test": {
            "items": came.scored,
            "learned": came.learned,
            "categories": {name: asdict(one) for name, one in came.categories.items()},
        }
    }
    with transaction(turn.engine) as session:
        found["certified"] = _certified(turn, session, policy, name, version)
        row = learning.move(session, row.id, State.CERTIFIED, turn.actor, _now(), **found)
    turn.tell(found["certified"]["said"])
    return row


def _certified(turn: _Turn, session: Any, policy: Any, name: str, version: str) -> dict[str, Any]:
    """What could be proved for the candidate. Nothing is no reason not to propose it: people weigh that."""
    if not proving.promised(policy):
        return {"said": "The policy promises nothing, so there is nothing to certify."}
    candidate = certification.Candidate(name, version)
    try:
        with session.begin_nested():
            made = certification.certify(
                session, policy, turn.actor, _now(), Occasion.LEARNING, candidate=candidate
            )
    except Refusal as error:
        return {"said": f"Not certified: {error}"}
    proved = sum(one.proved for one in made.attempts)
    return {
        "id": str(made.id) if made.id else None,
        "proved": proved,
        "promises": len(made.attempts),
        "said": f"Certified for the time when it serves: {proved} of {len(made.attempts)} promises.",
    }


def _propose(turn: _Turn, row: LearningRound) -> LearningRound:
    name, version = _named(row)
    if not turn.wanted.by:
        raise _Waits(
            f"Nobody proposes it yet: moderation learn{f' --client {row.client}' if row.client else ''} --by EMAIL"
        )
    with transaction(turn.engine) as session:
        by = promotions.named(session, turn.vault, turn.wanted.by)
    try:
        with transaction(turn.engine) as session:
            promotions.propose(session, turn.settings.models, by, name, version, _now())
            row = learning.move(session, row.id, State.PROPOSED, turn.actor, _now())
    except Forbidden as error:
        raise _Waits(str(error)) from error
    except (Conflict, NotFound) as error:
        raise Nothing(str(error)) from error
    turn.tell(f"{name} {version} is proposed. Somebody else promotes it, in the console under Models.")
    return row


def _named(row: LearningRound) -> tuple[str, str]:
    if row.name is None or row.version is None:
        raise Nothing("It has no model.")
    return row.name, row.version


_STEPS: dict[str, Callable[[_Turn, LearningRound], LearningRound]] = {
    State.EXPORTED: _fit,
    State.FITTED: _register,
    State.REGISTERED: _shadow,
    State.SHADOWED: _prove,
    State.CERTIFIED: _propose,
}


def due(settings: Settings, engine: Engine, now: datetime) -> list[str | None]:
    """For whom the schedule asks for a round: clients, or None for all of them together."""
    if settings.learn_days <= 0:
        return []
    with transaction(engine) as session:
        return [
            client
            for client in settings.learn_clients or (None,)
            if learning.is_due(session, client, settings.learn_days, now, proposes=bool(settings.learn_by))
        ]


def scheduled(settings: Settings, actor: str, tell: Tell) -> list[LearningRound]:
    """The rounds that the schedule asks for, one after the other; one that breaks off keeps no other from its turn.

    Raises:
        Exception: what the first one broke off with, once all have had their turn.
    """
    databases = connect(settings.database_url, settings.keystore_url, pool_size=1)
    try:
        asked = due(settings, databases.content, _now())
    finally:
        databases.dispose()
    done, broken = list[LearningRound](), list[Exception]()
    for client in asked:
        try:
            done.append(run(settings, Wanted(client, by=settings.learn_by or None), actor, tell))
        except Exception as error:  # noqa: BLE001 - raised below
            broken.append(error)
    if broken:
        raise broken[0]
    return done
