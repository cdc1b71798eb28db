"""Start a training script with no network but the socket of its gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ringfence.core.errors import ConfigError
from ringfence.site import isolation
from ringfence.site.connect import CODE_VARIABLE, HOME_VARIABLE, SOCKET_VARIABLE, code_digest

_KEPT = ("PATH", "HOME", "LANG")
_THREAD_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def launch(
    script: Path,
    arguments: Sequence[str],
    *,
    socket_path: Path,
    home: Path,
    allow_network: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run `script` to its end and return its exit status (128 + n when signal n ended it).

    It gets an empty network namespace (unless `allow_network`), no capability, no descriptor but
    the terminal's, and a small environment: where the gateway and the home are, PATH, HOME, LANG,
    one thread per pool unless the caller's environment says otherwise, and `variables`.  A script
    whose launcher dies is ended.

    What this does not wall off: files and Unix sockets that the user may open.

    Raises: ConfigError when there is no such script or the system forbids the namespace.
    """
    if not script.is_file():
        raise ConfigError(f"{script}: expected a training script, got no such file")
    report, report_end = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 — running the user's own script is the purpose
            _command(script, arguments, report_end, allow_network=allow_network),
            env=_environment(script, socket_path=socket_path, home=home) | dict(variables),
            stdin=subprocess.DEVNULL,
            pass_fds=(report_end,),
        )
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(report_end)
    with process, os.fdopen(report) as trouble:
        if said := trouble.read():
            process.wait()
            raise ConfigError(_explain(script, said, allow_network=allow_network))
        status = process.wait()
    return status if status >= 0 else 128 - status


def _command(
    script: Path, arguments: Sequence[str], report_end: int, *, allow_network: bool
) -> list[str]:
    wall = isolation.OPEN_NETWORK if allow_network else isolation.EMPTY_NETWORK
    before = [sys.executable, "-I", "-S", isolation.__file__, str(report_end), str(os.getpid())]
    return [*before, wall, sys.executable, str(script.resolve()), *arguments]


def _environment(script: Path, *, socket_path: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    pools = {name: os.environ.get(name, "1") for name in _THREAD_POOLS}
    return {
        "LANG": "C.UTF-8",
        **kept,
        **pools,
        SOCKET_VARIABLE: str(socket_path.resolve()),
        HOME_VARIABLE: str(home.resolve()),
        CODE_VARIABLE: code_digest(script),
    }


def _explain(script: Path, said: str, *, allow_network: bool) -> str:
    if allow_network:
        return f"{script}: expected to start it, got: {said}"
    return (
        f"{script}: expected to start it in an empty network namespace, got: {said}; allow user "
        "namespaces on this system (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone), or accept with --allow-network that the script can "
        "reach the network"
    )
