"""`moderation up`: the servers, what has to be prepared, and the processes, from start to end."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moderation import settings
from moderation.embedded import instance as instances
from moderation.embedded.broker import Broker
from moderation.embedded.instance import Instance
from moderation.embedded.postgres import Postgres, addresses
from moderation.embedded.process import EmbeddedError, Server, spawn
from moderation.embedded.screen import Screen
from moderation.embedded.supervisor import Child, Interrupts, Supervisor

READY_SECONDS = 90.0
TICK_SECONDS = 0.1
HOUSEKEEPING_SECONDS = 30.0
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where to reach what listens everywhere

Prepare = Callable[[settings.Settings], Mapping[str, Any] | None]


def default_workers() -> int:
    """One a core that we may use, one core left for everything else."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores - 1)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for; port 0 takes any free one."""

    directory: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = field(default_factory=default_workers)
    insecure: bool = False


def run(options: Options, prepare: Prepare, programs: Mapping[str, Sequence[str]] | None = None) -> int:
    """Start everything, keep it alive until a signal, and stop it.

    `prepare` migrates and creates what a first run needs, and returns what it created, to be shown once.
    `programs` are run instead of our own processes, by tests.

    Raises:
        EmbeddedError: the directory is in use, the port is taken, or a server does not start.
    """
    started = time.monotonic()
    interrupts = Interrupts()
    screen = Screen(options.directory)
    with interrupts.caught(), instances.hold(options.directory) as instance:
        port = claim_port(options.host, options.port)
        instances.ensure_kek(instance)
        screen.opening()
        with _servers(instance, screen, interrupts) as (postgres, broker):
            if interrupts.stopping:
                return 0
            urls = addresses(postgres, instances.DATABASE, instances.KEYSTORE)
            urls["REDIS_URL"] = broker.url
            environment = instances.child_environment(
                instance, os.environ, urls=urls, workers=options.workers, insecure=options.insecure
            )
            url = _url(options.host, port)
            created = _prepare(instance, environment, url, prepare, screen)
            commands = programs or own_programs(options, port)
            running = instances.without_owner(environment)
            supervisor = _supervisor(instance, running, commands, (postgres, broker), screen)
            try:
                interrupts.starting = False
                ready, answer = _wait_ready(supervisor, interrupts, screen, url)
                if created is not None:
                    screen.first_run(instance.first_run, url, created)
                if ready:
                    screen.ready(url, time.monotonic() - started)
                elif not interrupts.stopping:
                    screen.not_ready(answer)
                _keep(supervisor, interrupts, instance)
            finally:
                _stop(supervisor, interrupts, screen)
        screen.closed()
    return 0


def own_programs(options: Options, port: int) -> dict[str, Sequence[str]]:
    """The processes in the order they are stopped in: a name, and the arguments of `moderation`."""
    us = (sys.executable, "-P", "-m", "moderation")  # -P: no folder of the caller's shadows our packages
    workers = {
        f"worker-{number}": (*us, "work", "--queue", "screening") for number in range(1, options.workers + 1)
    }
    return {
        "api": (*us, "serve", "--host", options.host, "--port", str(port)),
        "relay": (*us, "relay"),
        **workers,
        "delivery": (*us, "work", "--queue", "delivery"),
    }


def claim_port(host: str, port: int) -> int:
    """The port the API can have.

    Raises:
        EmbeddedError: it is taken, or the host isn't an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise EmbeddedError(
            f"Port {port} on {host} can't be used ({error.strerror}). Free it, or choose another: --port N"
        ) from error


def readiness(url: str) -> tuple[bool, str]:
    """Whether `/readyz` says yes, and what it said or why it could not be asked."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status == 200, response.read(2000).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()


@contextlib.contextmanager
def _servers(instance: Instance, screen: Screen, interrupts: Interrupts) -> Iterator[tuple[Postgres, Broker]]:
    """Both servers, up; stopped in the opposite order."""
    postgres = Postgres(instance.postgres, instance.log("postgres"))
    broker = Broker(instance.broker, instance.log("broker"))
    with contextlib.ExitStack() as stack:
        for server in (postgres, broker):
            if interrupts.stopping:
                break
            with screen.step(server.title):
                stack.enter_context(server)
        if broker.alive:
            for name in (instances.DATABASE, instances.KEYSTORE):
                postgres.create_database(name)
        yield postgres, broker


def _prepare(
    instance: Instance, environment: Mapping[str, str], url: str, prepare: Prepare, screen: Screen
) -> Mapping[str, Any] | None:
    with screen.step("Database and keys"):
        created = prepare(settings.from_environment(environment))
    instances.write_first_run(instance, url, created)
    instances.write_environment(instance, environment)
    return created


def _supervisor(
    instance: Instance,
    environment: Mapping[str, str],
    commands: Mapping[str, Sequence[str]],
    servers: Sequence[Server],
    screen: Screen,
) -> Supervisor:
    def launcher(name: str, command: Sequence[str]) -> Callable[[], subprocess.Popen[bytes]]:
        return lambda: spawn(
            command, death_signal=signal.SIGKILL, output=instance.log(name), environment=environment
        )

    children = {name: Child(name, launcher(name, command)) for name, command in commands.items()}
    first = [[children.pop(name)] for name in ("api", "relay") if name in children]
    watched = [Child(server.title, server.begin, process=server.process) for server in servers]

    def bury(pid: int) -> None:
        for gauge in instance.metrics.glob(f"gauge_live*_{pid}.db"):
            gauge.unlink(missing_ok=True)

    return Supervisor([*first, list(children.values())], watched, screen.event, bury)


def _wait_ready(supervisor: Supervisor, interrupts: Interrupts, screen: Screen, url: str) -> tuple[bool, str]:
    """Start the processes and ask until `/readyz` agrees, somebody wants to stop, or patience ends."""
    deadline = time.monotonic() + READY_SECONDS
    ready, answer = False, ""
    with screen.step("API, relay and workers"):
        while not ready and not interrupts.stopping and time.monotonic() < deadline:
            supervisor.start()
            time.sleep(TICK_SECONDS)
            ready, answer = readiness(url)
    return ready, answer


def _keep(supervisor: Supervisor, interrupts: Interrupts, instance: Instance) -> None:
    """Start again what dies, and keep logs small, until somebody wants to stop."""
    kept_house = time.monotonic()
    while not interrupts.stopping:
        supervisor.start()
        time.sleep(TICK_SECONDS)
        if time.monotonic() - kept_house > HOUSEKEEPING_SECONDS:
            kept_house = time.monotonic()
            for log in instance.logs.glob("*.log"):
                instances.cap_log(log)


def _stop(supervisor: Supervisor, interrupts: Interrupts, screen: Screen) -> None:
    screen.stopping()
    supervisor.stop(lambda: interrupts.hurried)


def _url(host: str, port: int) -> str:
    reachable = WILDCARDS.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
