"""Run by `launch` as a program of its own: leave the network, give up every privilege, exec.

Stands alone on the standard library and has one thread, which `unshare(CLONE_NEWUSER)` requires.

    python -I -S isolation.py REPORT_FD PARENT_PID WALL PROGRAM ARGUMENT...

`WALL` is `empty-network` or `open-network`.  Whatever goes wrong before the program starts is
written to `REPORT_FD`, which closes empty when it has started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

EMPTY_NETWORK = "empty-network"
OPEN_NETWORK = "open-network"

# linux/sched.h and linux/prctl.h
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_MOST_CAPABILITIES = 64

_LIBC = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Build the walls in order and become the program; returns only by exiting."""
    report, parent, wall, *program = arguments
    report_fd = int(report)
    try:
        os.set_inheritable(report_fd, False)
        # 1. The network goes first: the user namespace gives the right to the network namespace.
        if wall == EMPTY_NETWORK:
            _leave_network()
            # 2. Then the rights that the namespaces brought; from here on none come back.
            _drop_capabilities()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        # 3. Changing credentials forgets this signal, so it is asked for last.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            raise OSError("the launcher has ended")
        os.execv(program[0], program)  # noqa: S606 — becoming the script is the purpose
    except OSError as error:
        os.write(report_fd, str(error).encode())
        sys.exit(1)


def _leave_network() -> None:
    """Enter a network namespace without any interface that is up, not even the loopback.

    A user namespace around it makes this possible for every user, and impossible to undo: to go
    back, `setns` wants a capability in the namespace that was left (user_namespaces(7)).  The user
    keeps its own id, so that files keep their owner.
    """
    uid, gid = os.geteuid(), os.getegid()
    if _LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _drop_capabilities() -> None:
    """Empty the bounding set, so that exec keeps no capability, not even for user 0."""
    for capability in range(_MOST_CAPABILITIES):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            if capability == 0:
                raise
            return  # past the kernel's last capability


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl {option}: {os.strerror(code)}")


if __name__ == "__main__":
    main(sys.argv[1:])
