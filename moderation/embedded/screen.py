"""What `moderation up` shows to a person."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

LABEL_WIDTH = 24


class Screen:
    """Plain lines, never wrapped: what is shown once must be copied in one piece."""

    def __init__(self, directory: Path, console: Console | None = None) -> None:
        self.directory = directory
        self.console = console or Console(highlight=False, soft_wrap=True)

    def opening(self) -> None:
        """The program, its version, and where its data is."""
        self._line(
            f"\n[bold]Moderation[/bold] {version('moderation')}  [dim]{escape(str(self.directory))}[/dim]\n"
        )

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A line with the time that something took."""
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._line(f"  {title:<{LABEL_WIDTH}} [red]failed[/red]")
            raise
        self._line(f"  {title:<{LABEL_WIDTH}} [dim]{time.monotonic() - started:5.1f} s[/dim]")

    def first_run(self, path: Path, url: str, created: Mapping[str, Any]) -> None:
        """What the first run created, shown this one time."""
        admin = created["admin"]
        rows = {
            "Address": url,
            "Console": f"{url}/console/",
            "API key": created["api_key"],
            "Admin": admin["email"],
            "Password": admin["password"],
            "TOTP secret": admin["totp_secret"],
        }
        kept = f"{escape(_short(path))} (mode 0600)"
        self._line(f"\n  [bold]Created on this first run.[/bold] Shown once; also in {kept}.\n")
        self._table(rows)

    def ready(self, url: str, seconds: float) -> None:
        """The address and what to do next."""
        here = "" if self.directory == Path("var") else f" --data-dir {self.directory}"
        self._line(f"\n  [bold green]Ready[/bold green] at [bold]{url}[/bold] after {seconds:.1f} s.\n")
        self._table(
            {
                f"moderation demo{here}": "send a set of mild texts and pictures, see the verdicts",
                f"moderation demo --review{here}": "fill the console with a day's work",
                f"moderation submit{here} FILE...": "send your own",
                f"moderation doctor --data-dir {self.directory}": "check every part",
                "Ctrl-C": f"stop everything; logs are in {self.directory / 'logs'}",
            }
        )
        self._line("")

    def not_ready(self, answer: str) -> None:
        """What keeps it from being ready; the processes are kept meanwhile."""
        self._line(f"\n  [bold yellow]Not ready yet.[/bold yellow] /readyz says: {escape(answer)}")
        self._line(f"  The logs are in {escape(str(self.directory / 'logs'))}.\n")

    def event(self, text: str) -> None:
        """One line on something that happened, with the time of day."""
        self._line(f"[dim]{time.strftime('%H:%M:%S')}[/dim]  {escape(text)}")

    def stopping(self) -> None:
        """Said when it begins to stop."""
        self.event("Stopping (Ctrl-C again to hurry).")

    def closed(self) -> None:
        """Said when nothing is left."""
        self.event("Stopped.")

    def _table(self, rows: Mapping[str, str]) -> None:
        width = max(map(len, rows))
        for label, value in rows.items():
            self._line(f"  [dim]{escape(label.ljust(width))}[/dim]   {escape(value)}")

    def _line(self, text: str) -> None:
        # The terminal or the reader of a pipe may be gone, for which rich ends the program: that must not
        # keep us from going on, nor from stopping in order.
        with contextlib.suppress(OSError, SystemExit):
            self.console.print(text)


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
