"""One `ringfence` command as a process of its own, forked from a server that has it imported.

Importing takes 0.7 s of a core, and these tests start more than a hundred processes.  What runs is
the program's own `main`, with its arguments in `sys.argv`.
"""

import ctypes
import os
import signal
import sys

PRELOADED = (
    "ringfence.cli.main",
    "ringfence.wiring",
    "ringfence.coordinator.model_signing",
    "ringfence.site.launch",
    "sqlalchemy.dialects.sqlite",
)
"""What the server imports once: all that the commands import when they run."""

_PR_SET_PDEATHSIG = 1


def run(arguments: list[str], output: str) -> None:
    """Become `ringfence ARGUMENTS`, head of a process group, speaking into the file `output`."""
    os.setsid()
    # A test run that is killed itself leaves nobody behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for standard in (1, 2):
        os.dup2(file, standard)
    os.close(file)
    sys.argv = ["ringfence", *arguments]

    from ringfence.cli.main import main

    main()
