"""Who runs PostgreSQL: ourselves, or an unprivileged user when we are root, which it refuses to be."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from moderation.embedded.process import EmbeddedError

CANDIDATES = ("postgres", "nobody")
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8  # to hold one of them across the change of user


@dataclass(frozen=True, slots=True)
class Identity:
    """The user a server runs as; `capability` lets it pass directories that only root may enter."""

    name: str
    uid: int
    gid: int
    capability: int | None = None

    def __str__(self) -> str:
        """As `launch.py` takes it."""
        numbers = (self.uid, self.gid) if self.capability is None else (self.uid, self.gid, self.capability)
        return ":".join(map(str, numbers))


def choose(data: Path, programs: Path, sockets: Path) -> Identity | None:
    """The user to become to serve `data` by `programs`, socket under `sockets`; None to stay who we are.

    A checkout in a home directory of mode 0700 is a common place for root to start from. Opening it to
    everybody, or copying programs and data elsewhere, would surprise more than letting this one process
    read past the directory: it keeps `CAP_DAC_READ_SEARCH` (or `CAP_DAC_OVERRIDE`, which containers grant),
    and only where the plain user can't reach the files.

    Raises:
        EmbeddedError: there is no such user, or the files are out of its reach and can't be brought into it.
    """
    if os.geteuid() != 0:
        return None
    entry = _entry(data)
    needed = (programs / "bin" / "postgres", programs / "share" / "postgres.bki", data.parent, sockets)
    blocked = next((path for place in needed if (path := _unreachable(place, entry)) is not None), None)
    if blocked is None:
        return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, _capability(blocked, entry.pw_name))


def _entry(data: Path) -> pwd.struct_passwd:
    """The owner of existing data, else the first candidate this machine knows."""
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError as error:
            raise EmbeddedError(f"{data} belongs to user {owner}, whom this machine doesn't know.") from error
    for name in CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedError("PostgreSQL doesn't run as root; start as another user, or add one named postgres.")


def _unreachable(place: Path, entry: pwd.struct_passwd) -> Path | None:
    """The first directory or file on the way to `place` that the user may not pass or read."""
    place = place.resolve()
    for path in (*reversed(place.parents), place):
        status = path.stat()
        wanted = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
        if status.st_uid == entry.pw_uid:
            wanted <<= 6
        elif status.st_gid == entry.pw_gid:
            wanted <<= 3
        if not status.st_mode & wanted:
            return path
    return None


def _capability(blocked: Path, name: str) -> int:
    # Reading past directories is enough unless the program itself is closed to others.
    wanted = (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if blocked.is_dir() else (CAP_DAC_OVERRIDE,)
    for capability in wanted:
        if _permitted() >> capability & _permitted() >> CAP_SETPCAP & 1:
            return capability
    raise EmbeddedError(
        f"PostgreSQL doesn't run as root, and user {name} may not enter {blocked}. Start as an ordinary "
        f"user, or put program and --data-dir where {name} may read, or allow it with: chmod o+x {blocked}"
    )


def _permitted() -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapPrm:")), 0)
