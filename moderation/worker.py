"""A worker process: one RQ queue, models that follow their champions, registered jobs only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from random import SystemRandom
from typing import ClassVar

import structlog
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.timeouts import UnixSignalDeathPenalty

from models import plugins
from models.plugins import Plugin
from models.registry import Kind
from models.serving import Line
from moderation import jobs
from moderation.features.decode import Decoder
from moderation.features.ocr import Reader
from moderation.governance.policies import PolicyCache
from moderation.jobs import Handler
from moderation.pipeline.matchers import Matchers
from moderation.pipeline.pictures import PictureBanks
from moderation.pipeline.run import Tools
from moderation.review.bursts import BurstRule
from moderation.serving import Following
from moderation.settings import Settings
from moderation.storage.blobs import FolderBlobs
from moderation.storage.database import Databases, connect, transaction
from moderation.storage.vault import Vault

SCREENING_KINDS: tuple[Kind, ...] = ("text", "image", "backbone", "head", "text-head")
log = structlog.get_logger()

# The operating system's, so that nobody who posts can know which decisions people will look at.
DICE = SystemRandom().random


class RegisteredJob(Job):
    """A job whose function is looked up in a register and never imported by name."""

    handlers: ClassVar[Mapping[str, Handler]] = {}

    @property
    def func(self) -> Handler:
        """The registered handler; `RegisteredWorker` refused everything else before."""
        return self.handlers[self.func_name or ""]


class OutOfTime(BaseException):
    """A job took longer than it may. Not an `Exception`: no stage may take it for one text's failure."""


class TimeLimit(UnixSignalDeathPenalty):
    """Ends a job by `OutOfTime`; its items' lease then runs out, and each is tried alone."""

    def handle_death_penalty(self, signum: int, frame: object) -> None:  # noqa: ARG002 - a signal handler
        raise OutOfTime


class RegisteredWorker(SimpleWorker):
    """Runs jobs in its own process and throws away whatever is not registered.

    Whoever can write to the broker could otherwise have any importable function called.
    """

    job_class = RegisteredJob
    death_penalty_class = TimeLimit

    def execute_job(self, job: Job, queue: Queue) -> None:
        if self._foreign(job):
            log.error("job_refused", queue=queue.name)
            job.delete()
            return
        super().execute_job(job, queue)

    @staticmethod
    def _foreign(job: Job) -> bool:
        # Read straight from the stored fields: the properties of these names import what they name.
        callbacks = (job._success_callback_name, job._failure_callback_name, job._stopped_callback_name)  # noqa: SLF001
        return job.func_name not in RegisteredJob.handlers or any(callbacks) or bool(job.instance)


def run(settings: Settings, queue: str) -> None:
    """Work on `queue` until told to stop by SIGTERM or SIGINT; a batch in hand is finished first."""
    with opened(settings, queue) as worker:
        worker.work(logging_level="WARNING")


@contextmanager
def opened(settings: Settings, queue: str, dice: Callable[[], float] = DICE) -> Iterator[RegisteredWorker]:
    """A worker on `queue` with everything it needs, which is let go of at the end."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    vault = Vault(databases.keystore, settings.kek)
    with ExitStack() as stack:
        stack.callback(databases.dispose)
        if queue == jobs.SCREENING:
            following = stack.enter_context(_following(settings, databases))
            matchers = stack.enter_context(_matchers(settings, databases))
            tools = _tools(
                settings, databases, vault, stack.enter_context(Decoder()), following, matchers, dice
            )
            stack.callback(tools.pictures.close)
            with transaction(databases.content) as session:
                # Millions of hashes without a segment take minutes, and the time of a job is limited.
                tools.pictures.current(session, vault, jobs.utc_now())
            RegisteredJob.handlers = {jobs.SCREEN_JOB: _contained(_screening(settings, tools, following))}
        else:
            deliver = jobs.deliver_handler(settings, databases.content, vault)
            RegisteredJob.handlers = {jobs.DELIVER_JOB: _contained(deliver)}
        connection = Redis.from_url(settings.redis_url, socket_connect_timeout=5, health_check_interval=30)
        stack.callback(connection.close)
        yield RegisteredWorker(
            [Queue(queue, connection=connection, serializer="json", job_class=RegisteredJob)],
            connection=connection,
            serializer="json",
            job_class=RegisteredJob,
            log_job_description=False,
            default_result_ttl=0,
        )


@contextmanager
def tools(settings: Settings, dice: Callable[[], float] = DICE) -> Iterator[Tools]:
    """What screening needs, for whoever screens without a queue."""
    databases = connect(settings.database_url, settings.keystore_url, pool_size=2)
    try:
        with (
            Decoder() as decoder,
            _following(settings, databases) as following,
            _matchers(settings, databases) as matchers,
        ):
            vault = Vault(databases.keystore, settings.kek)
            made = _tools(settings, databases, vault, decoder, following, matchers, dice)
            try:
                yield made
            finally:
                made.pictures.close()
    finally:
        databases.dispose()


def _following(settings: Settings, databases: Databases) -> Following:
    """The classifiers of texts and pictures, loaded before the first item is taken in hand.

    Raises:
        models.registry.ArtifactError: a runtime or processor that computes something else must not judge anybody's
            post, and neither the champion nor the one before it does.
    """
    threads = settings.work.model_threads
    following = Following(databases.content, settings.models, SCREENING_KINDS, threads, trials=True)
    following.start()
    return following


@contextmanager
def _matchers(settings: Settings, databases: Databases) -> Iterator[Matchers]:
    """What looks for banks' entries. The embedding model is loaded when there is a claim to look for."""
    kinds: tuple[Kind, ...] = ("embedding",)
    with Following(databases.content, settings.models, kinds, settings.work.model_threads) as following:
        yield Matchers(lambda: next(iter(following.current().embedding), None))


def _screening(settings: Settings, tools: Tools, following: Following) -> Handler:
    """The job `screen` with the champions of the moment: a batch keeps those it began with."""
    others = [one for one in tools.image if isinstance(one, Plugin)]

    def screen(token: str, ids: list[str]) -> None:
        jobs.screen_handler(settings, _with(tools, following.line(), others))(token, ids)

    return screen


def _with(tools: Tools, line: Line, others: Sequence[Plugin]) -> Tools:
    """The tools with what serves at this moment, and what is tried beside it."""
    served = line.champions
    return replace(
        tools,
        text=served.text,
        image=(*served.image, *others),
        backbone=served.backbone,
        heads=served.head,
        text_heads=served.text_head,
        trials=line.trials,
    )


def _plugins(settings: Settings) -> Sequence[Plugin]:
    """The classifiers of others that a setting names; one that can't be loaded is said, and fails when asked."""
    loaded = plugins.load(settings.image_plugins)
    for one in loaded:
        if one.trouble:
            log.error("plugin_not_loaded", detector=one.manifest.name, reason=one.trouble)
    return loaded


def _contained(handler: Handler) -> Handler:
    """The handler, never raising: RQ would keep the exception's text in the broker.

    Nothing is lost by that. The lease of what was in hand runs out and it is tried again.
    """

    def run_contained(token: str, ids: list[str]) -> None:
        try:
            handler(token, ids)
        except Exception:
            log.exception("job_failed", items=len(ids))

    return run_contained


def _tools(
    settings: Settings,
    databases: Databases,
    vault: Vault,
    decoder: Decoder,
    following: Following,
    matchers: Matchers,
    dice: Callable[[], float],
) -> Tools:
    made = Tools(
        databases=databases,
        vault=vault,
        blobs=FolderBlobs(settings.blob_dir),
        policies=PolicyCache(),
        decoder=decoder,
        text=(),
        image=(),
        dice=dice,
        banks=matchers,
        pictures=PictureBanks(settings.index, databases.content),
        reader=Reader(settings.work.model_threads) if settings.work.ocr else None,
        bursts=BurstRule(settings.work.burst_authors, min(settings.work.burst_minutes, 30.0)),
    )
    return _with(made, following.line(), _plugins(settings))
