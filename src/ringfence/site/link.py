"""The site's end of the line to its gateway: dial, introduce the script, dial again."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.site_wire import (
    LAYOUT_LIMIT_BYTES,
    Hello,
    Rejected,
    Welcome,
    from_gateway,
    layout_from_bytes,
    refusal,
)
from ringfence.core.tensors import Layout
from ringfence.site import frames, unix_socket

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLink:
    """A line over which the gateway has said `Welcome`; whoever got it closes it."""

    connection: socket.socket
    welcome: Welcome
    layout: Layout

    def close(self) -> None:
        self.connection.close()


def dial(path: Path, hello: Hello, *, patience_s: float) -> GatewayLink:
    """Connect to the gateway at `path`, trying again with back-off while it is down.

    Raises: Refused when the gateway turns this site away; ConfigError when no gateway has answered
    for `patience_s` seconds, or the socket may not be opened.
    """
    give_up = time.monotonic() + patience_s
    delay_s = _FIRST_DELAY_S
    while True:
        link = _try(path, hello)
        if link is not None:
            return link
        if time.monotonic() + delay_s > give_up:
            raise ConfigError(
                f"expected a gateway at {path}, got no answer for {patience_s:g} s; "
                "start `ringfence gateway` of this region"
            )
        time.sleep(delay_s)
        delay_s = min(delay_s * 2, _LONGEST_DELAY_S)


def _try(path: Path, hello: Hello) -> GatewayLink | None:
    connection = unix_socket.open_socket()
    try:
        with unix_socket.address(path) as address:
            connection.connect(address)
        link = _introduce(connection, hello)
    except PermissionError as error:
        connection.close()
        raise ConfigError(
            f"expected to be allowed to open {path}, got {error.strerror}; run the script as the "
            "user that the gateway runs as"
        ) from error
    except OSError:
        # Not there yet, or nobody listens: the gateway is down.
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    if link is None:
        connection.close()
    return link


def _introduce(connection: socket.socket, hello: Hello) -> GatewayLink | None:
    # A gateway that turns us away may have closed before our word went out; its own is still there.
    frames.send(connection, hello)
    answer = frames.receive(connection, from_gateway)
    if answer is None:
        return None
    message, descriptors = answer
    try:
        if isinstance(message, Rejected):
            raise refusal(message)
        if not isinstance(message, Welcome):
            raise FormatError(f"gateway: expected Welcome, got {type(message).__name__}")
        data = os.pread(descriptors[0], LAYOUT_LIMIT_BYTES + 1, 0)
    finally:
        frames.close_all(descriptors)
    return GatewayLink(connection=connection, welcome=message, layout=layout_from_bytes(data))
