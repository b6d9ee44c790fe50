"""Between us and a program we start: die with the parent, change the user, become the program.

Run by path in an interpreter of its own and without our packages, because nothing but a system call may
happen between fork and exec in a process with threads.

    launch.py PARENT_PID DEATH_SIGNAL (- | UID:GID | UID:GID:CAPABILITY) PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def main(parent: str, death_signal: str, identity: str, *command: str) -> None:
    """Become `command`.

    Raises:
        OSError: the user can't be changed, or the program can't be run.
    """
    if identity != "-":
        _become(*map(int, identity.split(":")))
    if sys.platform == "linux":
        # After the change of user, which makes the kernel forget it.
        _check(_libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  the supervisor's own words


def _become(uid: int, gid: int, capability: int | None = None) -> None:
    """Turn from root into another user, keeping at most one capability (capabilities(7), "ambient")."""
    if capability is not None:
        # Without the "fixup" a change of user leaves capabilities alone, and access(2), by which PostgreSQL
        # looks at its own files, counts them. What is kept is set right below.
        _check(_libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "PR_SET_SECUREBITS")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        bit = 1 << capability
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(
            bit, bit, bit, 0, 0, 0
        )  # effective, permitted, inheritable; low words first
        _check(_libc.capset(header, sets), "capset")
        _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0), "PR_CAP_AMBIENT")


def _check(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
