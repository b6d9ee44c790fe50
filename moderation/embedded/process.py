"""Start a program so that it can't outlive us, as another user where it must be, and stop it again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108, one of them the closing NUL
LAUNCHER = Path(__file__).with_name("launch.py")

# Linux signals a child when the *thread* that started it ends. One thread that lives as long as the process
# starts every child, so that a test or a command may call `start()` from a short-lived thread.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class EmbeddedError(Exception):
    """An embedded server can't be started or stopped; the message says why and what to do."""


def spawn(
    arguments: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    output: Path | None = None,
    environment: Mapping[str, str] | None = None,
    identity: str = "-",
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own; the kernel sends it `death_signal` when we die.

    What it prints is appended to `output`, or dropped. `identity` is whom to run as, as `launch.py` takes it.

    Raises:
        OSError: the output file can't be opened.
    """
    launcher = [sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(death_signal), identity]

    def start() -> subprocess.Popen[bytes]:
        with open_log(output) as log:
            return subprocess.Popen(  # noqa: S603  our own programs, never words from outside
                [str(argument) for argument in (*launcher, *arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=cwd,
                start_new_session=True,
            )

    return _spawner.submit(start).result()


@contextlib.contextmanager
def open_log(path: Path | None) -> Iterator[int]:
    """A descriptor to append to, private to us; the null device without a path."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(os.devnull if path is None else path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def end(process: subprocess.Popen[bytes], polite: Sequence[signal.Signals], seconds: float) -> bool:
    """Ask a process to stop, ever less politely, then end it and its children; False when it was forced."""
    stopped = process.poll() is not None
    for number in polite:
        if stopped:
            break
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        stopped = wait_until(lambda: process.poll() is not None, seconds)
    if not stopped:
        process.kill()
        process.wait()
    sweep(process.pid)
    return stopped


def end_leftover(pid_file: Path, directory: Path, polite: Sequence[signal.Signals], seconds: float) -> None:
    """End a server that works in `directory` and that nobody holds any more, and drop a pid file that lies.

    In containers a dead server's pid is soon another program's; PostgreSQL would then refuse to start.
    """
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split(maxsplit=1)[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    for number in (*polite, signal.SIGKILL):
        if not _works_in(pid, directory):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        wait_until(lambda: not _works_in(pid, directory), seconds)
    if Path("/proc/self").exists():
        pid_file.unlink(missing_ok=True)


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == directory.resolve()
    except OSError:
        return False


def sweep(group: int) -> None:
    """End whatever a stopped child left in its process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def wait_until(condition: Callable[[], bool], seconds: float, interval: float = 0.01) -> bool:
    """Poll until the condition holds; False when the time is over first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def tail(path: Path | None, lines: int = 5) -> str:
    """The last lines of a log, for a message."""
    if path is None or not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def socket_directory(directory: Path, longest_name: str) -> Path:
    """A name for `directory` under which sockets can be bound: itself, or a short link to it.

    The kernel limits the length of the name that is passed, not of the place it leads to. libpq also takes
    a comma in a name for a list of hosts.

    Raises:
        EmbeddedError: the link's name is taken by something that isn't ours.
    """
    if _fits(directory / longest_name):
        return directory
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    folders = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  checked below to be ours
    names = [folder / f"moderation-{digest}" for folder in folders]
    link = next((name for name in names if _fits(name / longest_name)), names[-1])
    with contextlib.suppress(FileExistsError):
        link.symlink_to(directory)
    if link.lstat().st_uid != os.geteuid() or not link.is_symlink() or link.readlink() != directory:
        raise EmbeddedError(
            f"{link} is in the way; remove it, or choose a data directory with a shorter path."
        )
    return link


def _fits(socket: Path) -> bool:
    name = os.fsencode(socket)
    return len(name) <= SOCKET_PATH_BYTES and b"," not in name


def release_socket_directory(name: Path, directory: Path) -> None:
    """Remove the link that `socket_directory` may have made."""
    if name != directory:
        name.unlink(missing_ok=True)


class Server:
    """A server process that a `with` block holds; `kill` and `restart` are for tests that hurt it."""

    title = "server"
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    start_seconds = 60.0
    stop_seconds = 5.0

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        self.directory = directory.absolute()
        self.log = log or self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process we started still runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start and wait until it answers.

        Raises:
            EmbeddedError: it ended or did not answer in time; the message ends with its last log lines.
        """
        if self.alive:
            return
        # A server killed a moment ago may still be held open by its last children, which end by themselves:
        # one that refuses to start gets a second chance until then.
        patience = time.monotonic() + self.stop_seconds
        while not self._attempt():
            if time.monotonic() > patience:
                raise EmbeddedError(f"{self.title} did not start; {self.log} ends with:\n{tail(self.log)}")
            time.sleep(0.2)

    def _attempt(self) -> bool:
        process = self.begin()
        wait_until(lambda: process.poll() is not None or self.ready(), self.start_seconds)
        if process.poll() is None and self.ready():
            return True
        end(process, (), 0)
        return False

    def begin(self) -> subprocess.Popen[bytes]:
        """Start without waiting for an answer.

        Raises:
            EmbeddedError: it can't be started.
        """
        self.prepare()
        self.process = self.launch()
        return self.process

    def stop(self) -> bool:
        """Stop cleanly and wait; False when it had to be killed."""
        clean = True if self.process is None else end(self.process, self.stop_signals, self.stop_seconds)
        self.process = None
        return clean

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """Stop cleanly and start again."""
        self.stop()
        self.start()

    def prepare(self) -> None:
        """Make what the server needs on disk."""
        raise NotImplementedError

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
