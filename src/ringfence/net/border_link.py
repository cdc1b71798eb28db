"""One connection to the hub: dialled, its peer verified, then strictly request and response.

Every length is bounded before memory is taken, and every wait by the time-out and by the earlier
notAfter of the two certificates.  Any trouble is a `BorderDownError` and ends the connection.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from ringfence.core.clock import Clock
from ringfence.core.errors import BorderDownError
from ringfence.net.border_errors import printable
from ringfence.net.border_service import OwnLeaf, VerifyPeer
from ringfence.net.http_limits import HEAD_LIMIT_BYTES, ClientTimeouts

_HEAD_END = b"\r\n\r\n"

_RECEIVE_BYTES = 256 * 1024
"""Received from the kernel at once, sixteen records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """Status, length of the body that follows, and whether the connection lives on."""

    status: int
    size_bytes: int
    keep_alive: bool


@dataclass(slots=True)
class Traffic:
    """Bytes that crossed the border on one client's connections, as they were on the wire."""

    sent_bytes: int = 0
    received_bytes: int = 0


class BorderLink:
    """Opened by `dial`, closed by `close`; used by one thread.

    TLS runs in memory and the socket is read and written in large pieces: with `SSLSocket` each
    16 KiB record costs two system calls, a quarter of what receiving costs altogether.
    """

    def __init__(
        self,
        tcp: socket.socket,
        *,
        leaf: OwnLeaf,
        timeouts: ClientTimeouts,
        clock: Clock,
        traffic: Traffic,
    ) -> None:
        self._tcp = tcp
        self._traffic = traffic
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = leaf.context.wrap_bio(self._incoming, self._outgoing)
        self._encrypted = memoryview(bytearray(_RECEIVE_BYTES))
        self._until_s = leaf.not_after_s
        self._timeouts = timeouts
        self._clock = clock
        self._early = memoryview(b"")
        self._owed_bytes = 0
        self._keep_alive = False
        self._used_s = clock()
        self._readable = select.poll()
        self._readable.register(tcp, select.POLLIN)

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
        self._tcp.close()

    def handshake(self, verify: VerifyPeer) -> None:
        """Shake hands and verify the hub; nothing may be sent before.

        Raises: BorderDownError; TrustError from `verify`.
        """
        end_s = self._clock() + self._timeouts.connect_s
        try:
            while not self._shake():
                self._flush(end_s)
                self._receive(end_s)
            self._flush(end_s)
        except OSError as error:
            raise BorderDownError(f"TLS handshake failed: {error}") from error
        self._until_s = min(self._until_s, verify(self._tls).not_after_s)

    def send(self, data: bytes | memoryview) -> None:
        """Hand all of `data` to the network; from here on an answer is owed."""
        self._keep_alive = False
        try:
            # INVARIANT: a memory BIO takes everything, so this writes all of `data`.
            self._tls.write(data)
            self._flush(self._clock() + self._timeouts.io_s)
        except OSError as error:
            raise BorderDownError(f"sending: {error}") from error

    def has_news(self) -> bool:
        """The hub has answered or hung up, though it was not its turn."""
        return bool(self._incoming.pending or self._tls.pending() or self._readable.poll(0))

    def read_head(self) -> ResponseHead:
        """Read one response up to its body."""
        received = bytearray(HEAD_LIMIT_BYTES)
        head = memoryview(received)
        end_s = self._clock() + self._timeouts.io_s
        filled = 0
        while (end := received.find(_HEAD_END, 0, filled)) < 0:
            if filled == len(head):
                raise BorderDownError(f"the hub's answer has a head above {len(head)} bytes")
            filled += self._read(head[filled:], end_s)
        self._early = head[end + len(_HEAD_END) : filled]
        response = _parse_head(bytes(head[:end]))
        if len(self._early) > response.size_bytes:
            raise BorderDownError("the hub's answer is longer than it said")
        self._owed_bytes = response.size_bytes
        self._keep_alive = response.keep_alive
        return response

    def read_into(self, body: memoryview) -> None:
        """Fill all of `body`, at most what the response still owes, with its next bytes."""
        filled = min(len(self._early), len(body))
        body[:filled] = self._early[:filled]
        self._early = self._early[filled:]
        end_s = self._clock() + self._timeouts.chunk_s
        while filled < len(body):
            filled += self._read(body[filled:], end_s)
        self._owed_bytes -= len(body)
        self._used_s = self._clock()

    def _read(self, buffer: memoryview, end_s: float) -> int:
        """Decrypt the next bytes into `buffer`, at least one before `end_s`."""
        try:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    count = cast(int, self._tls.read(len(buffer), buffer))  # one record at most
                    break
                self._receive(end_s)
        except OSError as error:
            raise BorderDownError(f"reading: {error}") from error
        if not count:
            raise BorderDownError("the hub closed the connection")
        return count

    def _shake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _flush(self, end_s: float) -> None:
        self._arm(end_s)
        data = self._outgoing.read()
        self._tcp.sendall(data)
        self._traffic.sent_bytes += len(data)

    def _receive(self, end_s: float) -> None:
        self._arm(end_s)
        count = self._tcp.recv_into(self._encrypted)
        if not count:
            raise ConnectionResetError("the hub closed the connection")
        self._incoming.write(self._encrypted[:count])
        self._traffic.received_bytes += count

    def _arm(self, end_s: float) -> None:
        """Let the next operation block until `end_s` or the first notAfter."""
        now_s = self._clock()
        if now_s >= self._until_s:
            raise BorderDownError("a certificate of this connection expired; connect again")
        if now_s >= end_s:
            raise BorderDownError("the hub is too slow; try again later")
        self._tcp.settimeout(min(end_s, self._until_s) - now_s)


def dial(
    host: str,
    port: int,
    *,
    leaf: OwnLeaf,
    verify: VerifyPeer,
    timeouts: ClientTimeouts,
    clock: Clock,
    traffic: Traffic,
) -> BorderLink:
    """Connect to the hub and verify it before a byte is sent.

    Raises: BorderDownError; TrustError from `verify`.
    """
    try:
        tcp = socket.create_connection((host, port), timeout=timeouts.connect_s)
    except OSError as error:
        raise BorderDownError(f"{host}:{port}: cannot connect: {error}") from error
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link = BorderLink(tcp, leaf=leaf, timeouts=timeouts, clock=clock, traffic=traffic)
    try:
        link.handshake(verify)
    except BaseException:
        link.close()
        raise
    return link


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
