"""Groups of the command `moderation`, one module each with an `add(commands, part, settings_of)` of its own.

What every group needs lies here: the two callbacks that `moderation.cli` hands in, and one way to print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moderation.settings import Settings

Part = Callable[[Any, str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]
"""Adds one action that reads the settings: to what, its name, what it does, what runs it."""
SettingsOf = Callable[[argparse.Namespace], "Settings"]


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")
