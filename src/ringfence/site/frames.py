"""One message with its file descriptors over a Unix socket that keeps packets apart.

`SOCK_SEQPACKET` gives message boundaries and hands over descriptors with the packet that speaks of
them (unix(7)), so that there is no length prefix to lie about.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from ringfence.core import canonical
from ringfence.core.errors import FormatError
from ringfence.core.site_wire import SITE_LIMIT_BYTES, FromGateway, FromSite, files_with

M = TypeVar("M", FromSite, FromGateway)

_DESCRIPTOR = struct.Struct("i")
_RIGHTS_BYTES = socket.CMSG_SPACE(253 * _DESCRIPTOR.size)
"""Room for SCM_MAX_FD of Linux, all that one packet can hold, so that none hides from us."""


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
    rights = b"".join(map(_DESCRIPTOR.pack, descriptors))
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
    try:
        connection.sendmsg([data], ancillary)
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
        data, rights, flags, _ = connection.recvmsg(
            SITE_LIMIT_BYTES, _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return None
    except OSError:
        if connection.fileno() < 0:
            return None
        raise
    descriptors = _descriptors(rights)
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
    """Close every descriptor that `receive` returned."""
    for descriptor in descriptors:
        os.close(descriptor)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    # Not `socket.recv_fds`: it drops the flags, so that descriptors would pass on to children.
    return [
        descriptor
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (descriptor,) in _DESCRIPTOR.iter_unpack(
            data[: len(data) - len(data) % _DESCRIPTOR.size]
        )
    ]
