"""Keep processes alive, and end them in order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from moderation.embedded.process import EmbeddedError, sweep

BACKOFF = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_SECONDS = 60.0
SECOND_SIGNAL_SECONDS = 0.5  # `timeout` and some terminals send the first one twice


@dataclass(slots=True)
class Child:
    """One process to keep: how to start it, how long it may take to stop, and how it has fared."""

    name: str
    launch: Callable[[], subprocess.Popen[bytes]] = field(repr=False)
    stop_seconds: float = 5.0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Children in the groups they are stopped in, first to last; `said` takes lines for a person.

    `watched` are servers that somebody else starts and stops: they are only started again when they die.
    `buried` is told the pid of every child that died.
    """

    groups: Sequence[Sequence[Child]]
    watched: Sequence[Child]
    said: Callable[[str], None]
    buried: Callable[[int], None] = lambda _: None

    def start(self) -> None:
        """Start every child that doesn't run, and start again every one that died and whose time has come."""
        now = time.monotonic()
        for child in (*self.watched, *(child for group in self.groups for child in group)):
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, child.process, now)
            if child.process is None and now >= child.due:
                self._launch(child, now)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """End all groups, each when the one before has ended; whoever outstays its time is killed."""
        for group in self.groups:
            running = [child.process for child in group if child.process is not None]
            for process in running:
                _signal(process, signal.SIGTERM)
            deadline = time.monotonic() + max((child.stop_seconds for child in group), default=0.0)
            while any(process.poll() is None for process in running):
                if hurry() or time.monotonic() > deadline:
                    for process in running:
                        _signal(process, signal.SIGKILL)
                time.sleep(0.02)
            for child in group:
                if child.process is not None:
                    sweep(child.process.pid)
                child.process = None

    def _launch(self, child: Child, now: float) -> None:
        try:
            child.process, child.started = child.launch(), now
        except (OSError, EmbeddedError) as error:
            child.failures += 1
            child.due = now + _delay(child.failures)
            self.said(f"{child.name} can't be started: {error}; next try {_in(child.due - now)}")

    def _bury(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        sweep(process.pid)
        self.buried(process.pid)
        child.process = None
        child.failures = 1 if now - child.started > STEADY_SECONDS else child.failures + 1
        child.due = now + _delay(child.failures)
        self.said(f"{child.name} {_how(process.returncode)}; it is started again {_in(child.due - now)}")


class Interrupts:
    """Counts the requests to stop. While `starting`, the second one interrupts what is being waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.starting = True
        self.last = 0.0

    @property
    def stopping(self) -> bool:
        """Somebody asked to stop."""
        return self.count > 0

    @property
    def hurried(self) -> bool:
        """Somebody asked again."""
        return self.count > 1

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch Ctrl-C, SIGTERM and a closing terminal (unless `nohup` took that) within a `with` block."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.count and now - self.last < SECOND_SIGNAL_SECONDS:
            return
        self.count, self.last = self.count + 1, now
        if self.starting and self.hurried:
            raise KeyboardInterrupt


def stop_event() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set, for a process that runs one loop."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _delay(failures: int) -> float:
    return BACKOFF[min(failures - 1, len(BACKOFF) - 1)]


def _in(seconds: float) -> str:
    return "now" if seconds <= 0 else f"in {seconds:g} s"


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
