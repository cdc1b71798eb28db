"""How much, how many and how long: every bound that either end of the border keeps."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_LIMIT_BYTES = 8 * 1024
"""Longest head of a response: status line and all header fields."""

LINE_LIMIT_BYTES = 1024
"""Longest request line, and longest header field of a request."""

HEADER_COUNT_LIMIT = 24

WAIT_LIMIT_S = 25
"""Longest wait of a long poll."""

ERROR_LIMIT_CHARS = 1024
"""Longest message of an error on the wire."""

COSIGNATURE_LIMIT_BYTES = 1024
"""Longest cosignature line; C2SP's take about 120 bytes beside the witness's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Bounds that the hub keeps on those who dial it.

    `header_timeout_s` bounds both the wait for a request on an open connection and the time its
    header may take; `chunk_timeout_s` the time for each 4 MiB of a payload in either direction;
    `body_timeout_s` the time for a whole control message.  A connection older than `age_s` is
    closed after the request that it is serving.
    """

    connections_per_region: int = 16
    handshakes: int = 128
    threads: int = 32
    handshake_timeout_s: float = 10.0
    header_timeout_s: float = 60.0
    body_timeout_s: float = 30.0
    chunk_timeout_s: float = 120.0
    linger_s: float = 5.0
    age_s: float = 3600.0
    grace_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTimeouts:
    """How long a gateway waits: to connect and shake hands, for each write or answer, for 4 MiB.

    `io_s` must be longer than the longest long poll.  `idle_s` is how long an unused connection is
    trusted to be still open; it must stay below the server's `header_timeout_s`.
    """

    connect_s: float = 10.0
    io_s: float = 60.0
    chunk_s: float = 120.0
    idle_s: float = 45.0
