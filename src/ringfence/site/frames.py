"""One message with its file descriptors over a Unix socket that keeps packets apart.

`SOCK_SEQPACKET` gives message boundaries and hands over descriptors with the packet that speaks of
them (unix(7)), so that there is no length prefix to lie about.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from ringfence.core import canonical
from ringfence.core.errors import FormatError
from ringfence.core.site_wire import SITE_LIMIT_BYTES, FromGateway, FromSite, files_with

M = TypeVar("M", FromSite, FromGateway)

_MOST_DESCRIPTORS = 253
"""SCM_MAX_FD of Linux: room for all that one packet can hold, so that none hides from us."""


def send(
    connection: socket.socket, message: FromSite | FromGateway, descriptors: Sequence[int] = ()
) -> bool:
    """Send `message`; true when it went out, false when the other side is gone.

    Raises: FormatError when the message is longer than `SITE_LIMIT_BYTES`.
    """
    data = canonical.to_bytes(message)
    if len(data) > SITE_LIMIT_BYTES:
        raise FormatError(
            f"{type(message).__name__}: expected at most {SITE_LIMIT_BYTES} bytes, "
            f"got {len(data)}; send fewer or shorter metrics and settings"
        )
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    try:
        connection.sendmsg([data], rights if descriptors else [])
    except (BrokenPipeError, ConnectionResetError):
        return False
    except OSError:
        # Closed by another thread of ours meanwhile.
        if connection.fileno() < 0:
            return False
        raise
    return True


def receive(connection: socket.socket, parse: Callable[[bytes], M]) -> tuple[M, list[int]] | None:
    """Wait for one message and its descriptors; `None` when the other side is gone.

    The caller closes the descriptors.  They are as many as `files_with` says: a packet with more
    or fewer is refused and all of its descriptors are closed.

    Raises: FormatError when the packet is too long, does not parse, or has the wrong descriptors.
    """
    try:
        data, descriptors, flags, _ = socket.recv_fds(
            connection, SITE_LIMIT_BYTES, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    except OSError:
        if connection.fileno() < 0:
            return None
        raise
    try:
        if not data:
            close_all(descriptors)
            return None
        if flags & socket.MSG_TRUNC:
            raise FormatError(f"packet: expected at most {SITE_LIMIT_BYTES} bytes, got more")
        message = parse(data)
        expected = files_with(message)
        if len(descriptors) != expected or flags & socket.MSG_CTRUNC:
            raise FormatError(
                f"{type(message).__name__}: expected {expected} file descriptors, "
                f"got {len(descriptors)}"
            )
    except FormatError:
        close_all(descriptors)
        raise
    return message, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
