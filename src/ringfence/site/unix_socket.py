"""Unix sockets on paths of any length, in directories of ours alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from ringfence.core.errors import ConfigError
from ringfence.core.site_wire import SITE_LIMIT_BYTES

_WAITING = 64
"""Connections that the kernel holds before it refuses more."""

_PROBE_S = 5.0


def open_socket() -> socket.socket:
    """A socket that keeps packets apart and takes the longest message as one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    widen(connection)
    return connection


def widen(connection: socket.socket) -> None:
    """Make room for the longest message; Linux's default of 208 KiB is a little short."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SITE_LIMIT_BYTES)


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """An address for `path` that fits into the 107 bytes of `sun_path`, however deep it lies."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listen(path: Path, *, kind: socket.SocketKind) -> socket.socket:
    """Listen at `path`, mode 0600, in a directory of mode 0700 (made when missing).

    A socket that a killed process left behind is replaced.  Raises: ConfigError when the directory
    is open to others, somebody listens already, or `path` is no socket.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.parent.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(
            f"{path.parent}: expected a directory of ours with mode 0700, got mode "
            f"{stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}; chmod 700 it"
        )
    listener = socket.socket(socket.AF_UNIX, kind)
    try:
        with _locked(path.parent), address(path) as place:
            if not _remove_stale(path, kind):
                raise ConfigError(f"{path}: expected no listener, got one; stop that process first")
            listener.bind(place)
            # Nobody connects before `listen`, and nobody else enters the directory.
            path.chmod(0o600)
            listener.listen(_WAITING)
    except BaseException:
        listener.close()
        raise
    return listener


def stop_listening(listener: socket.socket, path: Path) -> None:
    """Close `listener` and remove its socket at `path`, unless a successor has its own there."""
    listener.close()
    with _locked(path.parent):
        _remove_stale(path, listener.type)


def is_open(connection: socket.socket | None) -> bool:
    """Whether both ends of `connection` are still there; reads nothing."""
    if connection is None or connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection, 0)
    return not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def hang_up(connection: socket.socket) -> None:
    """Close `connection` and wake whoever waits on it in another thread."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _remove_stale(path: Path, kind: socket.SocketKind) -> bool:
    """Remove a socket at which nobody listens; false when somebody does."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: expected a socket or nothing, got a file; move it away")
    with socket.socket(socket.AF_UNIX, kind) as probe, address(path) as place:
        # A full backlog is somebody, too.
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(place)
        except ConnectionRefusedError:
            path.unlink()
            return True
        except OSError:
            return False
    return False


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time looks at a path in `directory` and binds it or lets it go."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
