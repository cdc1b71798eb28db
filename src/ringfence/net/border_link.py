"""One connection to the hub: dialled, its peer verified, then strictly request and response.

Every length is bounded before memory is taken, and every wait by the time-out and by the earlier
notAfter of the two certificates.  Any trouble is a `BorderDownError` and ends the connection.
"""

from __future__ import annotations

import http.client
import io
import math
import select
import socket
import ssl
from dataclasses import dataclass

from ringfence.core.clock import Clock
from ringfence.core.errors import BorderDownError
from ringfence.net.border_errors import printable
from ringfence.net.border_service import OwnLeaf, VerifyPeer
from ringfence.net.http_limits import HEAD_LIMIT_BYTES, ClientTimeouts

_HEAD_END = b"\r\n\r\n"

_REARM_S = 1.0
"""How late a slow read may notice that its time is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """Status, length of the body that follows, and whether the connection lives on."""

    status: int
    size_bytes: int
    keep_alive: bool


class BorderLink:
    """Opened by `dial`, closed by `close`; used by one thread."""

    def __init__(
        self, tls: ssl.SSLSocket, *, until_s: float, timeouts: ClientTimeouts, clock: Clock
    ) -> None:
        self._tls = tls
        self._until_s = until_s
        self._timeouts = timeouts
        self._clock = clock
        self._early = memoryview(b"")
        self._owed_bytes = 0
        self._keep_alive = True
        self._used_s = clock()
        self._readable = select.poll()
        self._readable.register(tls, select.POLLIN)

    @property
    def is_fresh(self) -> bool:
        """Both certificates hold, and the hub should not have hung up for idleness."""
        now_s = self._clock()
        idle_s = now_s - self._used_s
        return now_s < self._until_s and 0 <= idle_s < self._timeouts.idle_s

    @property
    def is_reusable(self) -> bool:
        """The last response was read whole, and the hub keeps the connection open."""
        return self._keep_alive and not self._owed_bytes

    def close(self) -> None:
        """Let the connection go; idempotent."""
        self._keep_alive = False
        self._tls.close()

    def send(self, data: bytes | memoryview) -> None:
        """Hand all of `data` to the network; from here on an answer is owed."""
        self._keep_alive = False
        try:
            self._arm(self._clock() + self._timeouts.io_s)
            self._tls.sendall(data)
        except OSError as error:
            raise BorderDownError(f"sending: {error}") from error

    def has_news(self) -> bool:
        """The hub has answered or hung up, though it was not its turn."""
        return bool(self._readable.poll(0)) or self._tls.pending() > 0

    def read_head(self) -> ResponseHead:
        """Read one response up to its body."""
        head = bytearray(HEAD_LIMIT_BYTES)
        end_s = self._clock() + self._timeouts.io_s
        filled = 0
        while (end := head.find(_HEAD_END, 0, filled)) < 0:
            if filled == len(head):
                raise BorderDownError(f"the hub's answer has a head above {len(head)} bytes")
            filled += self._receive(memoryview(head)[filled:], enough_bytes=1, end_s=end_s)
        self._early = memoryview(head)[end + len(_HEAD_END) : filled]
        response = _parse_head(bytes(head[:end]))
        if len(self._early) > response.size_bytes:
            raise BorderDownError("the hub's answer is longer than it said")
        self._owed_bytes = response.size_bytes
        self._keep_alive = response.keep_alive
        return response

    def read_into(self, body: memoryview) -> None:
        """Fill all of `body`, at most what the response still owes, with its next bytes."""
        early = min(len(self._early), len(body))
        body[:early] = self._early[:early]
        self._early = self._early[early:]
        end_s = self._clock() + self._timeouts.chunk_s
        self._receive(body[early:], enough_bytes=len(body) - early, end_s=end_s)
        self._owed_bytes -= len(body)
        self._used_s = self._clock()

    def _receive(self, buffer: memoryview, *, enough_bytes: int, end_s: float) -> int:
        """Receive at least `enough_bytes` into `buffer` before `end_s`; returns how many came."""
        filled = 0
        rearm_s = -math.inf
        try:
            while filled < enough_bytes:
                # TLS hands over 16 KiB at a time: setting the time-out for each would cost more
                # than the clock does.
                if self._clock() >= rearm_s:
                    rearm_s = self._arm(end_s) + _REARM_S
                count = self._tls.recv_into(buffer[filled:])
                if not count:
                    raise BorderDownError("the hub closed the connection")
                filled += count
        except OSError as error:
            raise BorderDownError(f"reading: {error}") from error
        return filled

    def _arm(self, end_s: float) -> float:
        """Let the next operation block until `end_s` or the first notAfter; returns the time."""
        now_s = self._clock()
        if now_s >= self._until_s:
            raise BorderDownError("a certificate of this connection expired; connect again")
        if now_s >= end_s:
            raise BorderDownError("the hub is too slow; try again later")
        self._tls.settimeout(min(end_s, self._until_s) - now_s)
        return now_s


def dial(
    host: str,
    port: int,
    *,
    leaf: OwnLeaf,
    verify: VerifyPeer,
    timeouts: ClientTimeouts,
    clock: Clock,
) -> BorderLink:
    """Connect to the hub and verify it before a byte is sent.

    Raises: BorderDownError; TrustError from `verify`.
    """
    try:
        tcp = socket.create_connection((host, port), timeout=timeouts.connect_s)
    except OSError as error:
        raise BorderDownError(f"{host}:{port}: cannot connect: {error}") from error
    try:
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = leaf.context.wrap_socket(tcp)
    except OSError as error:
        tcp.close()
        raise BorderDownError(f"{host}:{port}: TLS handshake failed: {error}") from error
    try:
        peer = verify(tls)
    except BaseException:
        tls.close()
        raise
    until_s = min(peer.not_after_s, leaf.not_after_s)
    return BorderLink(tls, until_s=until_s, timeouts=timeouts, clock=clock)


def _parse_head(head: bytes) -> ResponseHead:
    status_line, _, fields_text = head.partition(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    try:
        fields = http.client.parse_headers(io.BytesIO(fields_text + _HEAD_END))
    except http.client.HTTPException as error:
        raise BorderDownError("the hub's answer has a head that is no HTTP") from error
    length = fields.get("Content-Length", "0" if code == b"204" else "")
    if version not in (b"HTTP/1.0", b"HTTP/1.1") or not code.isdigit() or not _is_length(length):
        raise BorderDownError(
            f"expected an HTTP answer with a Content-Length, got {printable(status_line)!r}"
        )
    return ResponseHead(
        status=int(code),
        size_bytes=int(length),
        keep_alive=version == b"HTTP/1.1" and fields.get("Connection", "").lower() != "close",
    )


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
