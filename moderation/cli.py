"""The command `moderation`. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.commands import audit as audit_commands
from moderation.commands import backup as backup_commands
from moderation.commands import banks as banks_commands
from moderation.commands import erasure as erasure_commands
from moderation.commands import holds as holds_commands
from moderation.commands import incidents as incident_commands
from moderation.commands import kek as kek_commands
from moderation.commands import labels as labels_commands
from moderation.commands import learn as learn_commands
from moderation.commands import models as models_commands
from moderation.commands import partners as partners_commands
from moderation.commands import people as people_commands
from moderation.commands import policy as policy_commands
from moderation.commands import reports as reports_commands
from moderation.commands import rescan as rescan_commands
from moderation.commands import suggestions as suggestions_commands
from moderation.commands import transparency as transparency_commands

if TYPE_CHECKING:
    from moderation.settings import Settings

DEFAULT_DIRECTORY = Path("var")
REFUSED = 2


class Usage(Exception):
    """A command can't do what it was asked; the message is for the person who asked."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 done and something is wrong, 2 refused with a sentence on stderr."""
    options = parser().parse_args(arguments)
    # onnxruntime reports its use to its maker unless this is set before it is loaded.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        sentence = refusal(error)
        if sentence is None:
            raise
        sys.stderr.write(f"moderation: {sentence}\n")
        return REFUSED


def refusal(error: Exception) -> str | None:
    """The sentence for an error that a person can do something about; None for our own faults."""
    from models.registry import ArtifactError
    from moderation.domain.errors import Refusal
    from moderation.embedded import EmbeddedError
    from moderation.settings import SettingsError

    if isinstance(error, (Usage, Refusal, EmbeddedError, SettingsError, ArtifactError)):
        return str(error)
    # Named rather than imported: most commands never load these.
    origin = f"{type(error).__module__.split('.')[0]}.{type(error).__name__}"
    if origin in ("sqlalchemy.OperationalError", "psycopg.OperationalError"):
        from moderation.doctor import cause

        return f"The database can't be reached: {cause(error)}. Check with: moderation doctor"
    if origin in ("redis.ConnectionError", "redis.TimeoutError"):
        return f"The broker can't be reached: {error} Check with: moderation doctor"
    if origin in ("httpx.ConnectError", "httpx.ConnectTimeout"):
        return (
            f"The service can't be reached: {error}. Is `moderation up` running? Give its address by --url."
        )
    return None


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    root = argparse.ArgumentParser(
        prog="moderation",
        description="Self-hosted content moderation.",
        epilog="The parts (serve, relay, work, migrate, doctor, webhooks) read MODERATION_* variables "
        "(docs/configuration.md), or take the ones of a running `moderation up` by --data-dir.",
    )
    root.add_argument("--version", action="version", version=f"moderation {version('moderation')}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_up(commands)
    _add_parts(commands)
    _add_clients(commands)
    _add_webhooks(commands)
    policy_commands.add(commands, _part, _settings)
    erasure_commands.add(commands, _part, _settings)
    reports_commands.add(commands, _part, _settings)
    banks_commands.add(commands, _part, _settings)
    rescan_commands.add(commands, _part, _settings)
    models_commands.add(commands, _part, _settings)
    people_commands.add_people(commands, _part, _settings)
    people_commands.add_keys(commands, _part, _settings)
    kek_commands.add(commands, _part, _settings)
    backup_commands.add(commands, _part, _settings)
    audit_commands.add(commands, _part, _settings)
    holds_commands.add(commands, _part, _settings)
    incident_commands.add(commands, _part, _settings)
    partners_commands.add(commands, _part, _settings)
    transparency_commands.add(commands, _part, _settings)
    labels_commands.add(commands, _part, _settings)
    learn_commands.add(commands, _part, _settings)
    suggestions_commands.add(commands, _part, _settings)
    return root


def _add_up(commands: Any) -> None:
    up = commands.add_parser(
        "up",
        help="start everything on this machine",
        description="Start PostgreSQL, Valkey, the API, the relay and the workers, keep them alive, and stop "
        "them on Ctrl-C. Everything lives in the data directory; deleting it deletes the instance.",
    )
    up.add_argument(
        "--data-dir", type=Path, default=DEFAULT_DIRECTORY, metavar="DIR", help="default: %(default)s"
    )
    _add_address(up)
    up.add_argument(
        "--workers", type=_positive, metavar="N", help="screening processes; default: cores less one"
    )
    up.add_argument(
        "--insecure-dev", action="store_true", help="allow plain HTTP to loopback: never with real content"
    )
    up.set_defaults(run=_up)


def _add_parts(commands: Any) -> None:
    serve = _part(commands, "serve", "the API", _serve)
    _add_address(serve)
    relay = _part(commands, "relay", "hand due items and webhooks to the workers", _relay)
    work = _part(commands, "work", "screen items, or deliver webhooks", _work)
    work.add_argument(
        "--queue", choices=("screening", "delivery"), default="screening", help="default: %(default)s"
    )
    for process in (relay, work):
        process.add_argument(
            "--metrics-port", type=_port, metavar="N", help="serve this process's /metrics here"
        )
    migrate = _part(
        commands, "migrate", "bring both databases up to date; create the first key and admin", _migrate
    )
    migrate.add_argument(
        "--first-run", type=Path, metavar="FILE", help="write what is created here, not to stdout"
    )
    _part(commands, "doctor", "check every dependency and say what to do", _doctor)


def _add_clients(commands: Any) -> None:
    demo = commands.add_parser("demo", help="send mild texts and pictures through the API, show the verdicts")
    demo.add_argument(
        "--review", action="store_true",
        help="fill the database of --data-dir with a made-up day of review, for the console; once",
    )  # fmt: skip
    demo.set_defaults(run=_demo)
    submit = commands.add_parser("submit", help="send your own texts and pictures, show the verdicts")
    submit.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="UTF-8 text, JPEG, PNG, WebP or GIF"
    )
    submit.set_defaults(run=_submit)
    for client in (demo, submit):
        client.add_argument("--url", help="of the service; default: MODERATION_URL, else first-run.json")
        client.add_argument("--api-key", help="default: MODERATION_API_KEY, else first-run.json")
        client.add_argument(
            "--data-dir", type=Path, default=DEFAULT_DIRECTORY, metavar="DIR",
            help="of the `moderation up` whose first-run.json is read; default: %(default)s",
        )  # fmt: skip


def _add_webhooks(commands: Any) -> None:
    webhooks = commands.add_parser("webhooks", help="webhooks that could not be delivered")
    actions = webhooks.add_subparsers(title="actions", metavar="ACTION", required=True)
    _part(actions, "dead", "list webhooks given up after their last attempt", _dead)
    replay = _part(actions, "replay", "send given-up webhooks again, with their old ids", _replay)
    replay.add_argument("ids", nargs="*", metavar="ID")
    replay.add_argument("--all", action="store_true", help="all that were given up")


def _part(commands: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    part: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    part.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="use the settings of the `moderation up` there"
    )
    part.set_defaults(run=run)
    return part


def _add_address(part: argparse.ArgumentParser) -> None:
    part.add_argument("--host", default="127.0.0.1", metavar="H", help="default: %(default)s")
    part.add_argument(
        "--port", type=_port, default=8000, metavar="N", help="default: %(default)s; 0 for a free one"
    )


def _up(options: argparse.Namespace) -> int:
    from moderation.embedded import up

    def prepare(settings: Settings) -> Mapping[str, Any] | None:
        from moderation import setup

        created = setup.prepare(settings)
        return None if created is None else _document(created)

    workers = options.workers or up.default_workers()
    wanted = up.Options(options.data_dir, options.host, options.port, workers, options.insecure_dev)
    return up.run(wanted, prepare)


def _serve(options: argparse.Namespace) -> int:
    _process(options)  # refuses in a sentence what would be a traceback of the server's

    import uvicorn

    os.environ.update(_environment(options))
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    return 0


def _relay(options: argparse.Namespace) -> int:
    settings = _process(options)
    os.environ.update(_environment(options))  # what the relay starts reads the same

    from moderation import relay
    from moderation.embedded.supervisor import stop_event

    relay.run(settings, stop_event())
    return 0


def _work(options: argparse.Namespace) -> int:
    settings = _process(options)

    from moderation import worker

    worker.run(settings, options.queue)
    return 0


def _migrate(options: argparse.Namespace) -> int:
    settings = _settings(options)

    from moderation import setup
    from moderation.embedded.instance import write_private

    created = setup.prepare(settings)
    _say("Both databases are up to date.")
    if created is None:
        return 0
    document = json.dumps(_document(created), indent=2)
    if options.first_run is None:
        _say(f"Created on this first run, and shown this once:\n{document}")
    else:
        write_private(options.first_run, document + "\n")
        _say(f"The first API key and admin are in {options.first_run}.")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from moderation import doctor
    from moderation.embedded.instance import is_running

    directory = options.data_dir
    if directory is not None and not is_running(directory):
        _say(f"{directory} is not running, so its servers can't answer.")
        _say(f"Start it: moderation up --data-dir {directory}\n")
    return doctor.run(_environment(options))


def _demo(options: argparse.Namespace) -> int:
    if options.review:
        return _demo_review(options)
    from moderation import demo

    return demo.run(*_service(options))


def _demo_review(options: argparse.Namespace) -> int:
    from moderation.embedded.instance import is_running

    if options.url or options.api_key:
        raise Usage(
            "A day of review is made on the database itself: give --data-dir, not --url or --api-key."
        )
    if not is_running(options.data_dir):
        raise Usage(
            f"Nothing runs in {options.data_dir}; start it: moderation up --data-dir {options.data_dir}."
        )
    settings = _settings(options)

    from moderation import demo_review

    return demo_review.run_day(settings)


def _submit(options: argparse.Namespace) -> int:
    from moderation import demo

    return demo.submit(*_service(options), options.files)


def _dead(options: argparse.Namespace) -> int:
    settings = _settings(options)

    from rich.console import Console
    from rich.table import Table

    from moderation import delivery

    letters = delivery.list_dead(settings)
    if not letters:
        _say("No webhook was given up.")
        return 0
    table = Table("id", "endpoint", "event", "since", "attempts", "last answer", box=None, pad_edge=False)
    for letter in letters:
        answer = str(letter.last_status or letter.last_error or "")
        since = f"{letter.created_at:%Y-%m-%d %H:%M}"
        table.add_row(letter.webhook_id, letter.endpoint, letter.event, since, str(letter.attempts), answer)
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    return 0


def _replay(options: argparse.Namespace) -> int:
    if bool(options.ids) == options.all:
        raise Usage("Name the ids to send again, or say --all; `moderation webhooks dead` lists them.")
    settings = _settings(options)

    from moderation import delivery

    count = delivery.replay_dead(settings, None if options.all else options.ids)
    _say(f"{count} will be sent again.")
    if count < len(options.ids):
        _say("The others were not given up, or their endpoint is disabled.")
    return 0


def _environment(options: argparse.Namespace) -> dict[str, str]:
    if options.data_dir is None:
        return dict(os.environ)
    from moderation.embedded.instance import read_environment

    return {**os.environ, **read_environment(options.data_dir)}


def _settings(options: argparse.Namespace) -> Settings:
    from moderation import settings

    return settings.from_environment(_environment(options))


def _service(options: argparse.Namespace) -> tuple[str, str]:
    """The address and key of the service to talk to: options, then variables, then what `up` wrote."""
    from moderation.embedded.instance import read_first_run

    url = options.url or os.environ.get("MODERATION_URL")
    key = options.api_key or os.environ.get("MODERATION_API_KEY")
    if url and key:
        return url, key
    written = read_first_run(options.data_dir)
    if written is None:
        raise Usage(
            f"No service is known: there is no {options.data_dir / 'first-run.json'}. Start `moderation up`, "
            "or give --url and --api-key (or MODERATION_URL and MODERATION_API_KEY)."
        )
    return url or str(written["url"]), key or str(written["api_key"])


def _process(options: argparse.Namespace) -> Settings:
    """What every long-running process begins with: settings, logs, metrics."""
    from moderation import logs

    settings = _settings(options)
    logs.configure(settings.log_level)
    if getattr(options, "metrics_port", None) is not None:
        from prometheus_client import start_http_server

        start_http_server(options.metrics_port)
    return settings


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _document(created: Any) -> dict[str, Any]:
    admin = {"email": created.email, "password": created.password, "totp_secret": created.totp_secret}
    return {"api_key": created.api_key, "admin": admin}


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("must be a port number")
    return int(text)
