"""One TLS connection at the hub: verified before its first byte, gone when a certificate expires.

Steps, in this order and before any application byte is parsed:

    1 OpenSSL has verified the chain in the handshake (`OwnLeaf.context`)
    2 `verify` checks the peer against the agreement and names its region
    3 the region has no more connections than it may
    4 the connection will be cut at the earlier notAfter of the two certificates
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from ringfence.core.clock import Clock
from ringfence.core.errors import TrustError
from ringfence.core.ids import RegionId
from ringfence.net.border_errors import BAD_REQUEST
from ringfence.net.border_service import OwnLeaf, VerifyPeer
from ringfence.net.http_limits import HEADER_COUNT_LIMIT, LINE_LIMIT_BYTES, ServerLimits
from ringfence.trust.peers import UntrustedPeerError

_log = logging.getLogger(__name__)

_EXPIRY_STEP_S = 60.0
"""The wall clock may be set while we wait, so look at it at least this often."""


class Admission:
    """Decides who may stay connected; counts the connections of each region."""

    def __init__(
        self,
        *,
        verify: VerifyPeer,
        clock: Clock,
        limits: ServerLimits,
        refused: Callable[[RegionId, str], None],
        unreadable: Callable[[RegionId, str], None],
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.refused = refused
        self.unreadable = unreadable
        self._verify = verify
        self._open: Counter[RegionId] = Counter()

    def admit(self, transport: asyncio.BaseTransport, leaf: OwnLeaf) -> tuple[RegionId, float]:
        """Region of the peer, and the second at which the connection must end.

        Raises: TrustError.
        """
        peer = self._verify(transport.get_extra_info("ssl_object"))
        region, until_s = peer.region, min(peer.not_after_s, leaf.not_after_s)
        if until_s <= self.clock():
            raise TrustError(f"{region}: its certificate or the hub's own has expired")
        if self._open[region] >= self.limits.connections_per_region:
            said = f"{region}: has {self._open[region]} connections, the most it may"
            self.refused(region, said)
            raise TrustError(said)
        self._open[region] += 1
        return region, until_s

    def leave(self, region: RegionId) -> None:
        """A connection that `admit` let in has ended."""
        self._open[region] -= 1


class BorderConnection(RequestHandler):
    """A connection whose peer is known; requests reach it only after `connection_made`."""

    region: RegionId
    transferring: bool
    """A payload is on its way, which the other side can resume after a cut."""

    def __init__(self, http: web.Server, *, admission: Admission, leaf: OwnLeaf) -> None:
        limits = admission.limits
        loop = asyncio.get_running_loop()
        super().__init__(
            http,
            loop=loop,
            keepalive_timeout=limits.header_timeout_s,
            access_log=None,  # type: ignore[arg-type]  # aiohttp tests it for truth
            logger=_log,
            max_line_size=LINE_LIMIT_BYTES,
            max_field_size=LINE_LIMIT_BYTES,
            max_headers=HEADER_COUNT_LIMIT,
            lingering_time=limits.linger_s,
            auto_decompress=False,
        )
        self.lost: asyncio.Future[None] = loop.create_future()
        self.transferring = False
        self._admission = admission
        self._leaf = leaf
        self._admitted = False
        self._until_s = 0.0
        self._old_at = loop.time() + limits.age_s
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def is_old(self) -> bool:
        """It has served long enough; the next request should come on a new connection."""
        return self._loop.time() >= self._old_at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop right after the handshake."""
        transport = cast(asyncio.Transport, transport)  # uvloop's only looks like one
        try:
            self.region, self._until_s = self._admission.admit(transport, self._leaf)
            self._admitted = True
        except TrustError as error:
            _log.warning("refused a connection: %s", error)
            if isinstance(error, UntrustedPeerError):
                self._admission.refused(error.region, str(error))
        finally:
            # INVARIANT: any other exception leaves the connection aborted too.
            if not self._admitted:
                transport.abort()
        if self._admitted:
            super().connection_made(transport)
            self._watch_expiry()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the event loop once, whoever ended the connection."""
        if self._expiry is not None:
            self._expiry.cancel()
        if self._admitted:
            self._admission.leave(self.region)
        if not self.lost.done():
            self.lost.set_result(None)
        super().connection_lost(exc)

    def cut_if_expired(self) -> None:
        """Cut the connection if a certificate has expired, running transfer and all.

        Raises: ConnectionResetError when it has.
        """
        if self._admission.clock() >= self._until_s:
            _log.info("%s: a certificate expired, connection closed", self.region)
            self.abort()
            raise ConnectionResetError("a certificate expired")

    def _watch_expiry(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            self.cut_if_expired()
            left_s = self._until_s - self._admission.clock()
            self._expiry = self._loop.call_later(min(left_s, _EXPIRY_STEP_S), self._watch_expiry)

    def abort(self) -> None:
        """End the connection now, without a TLS goodbye."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = BAD_REQUEST,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are no HTTP; what the parser saw stays here."""
        said = f"not a request: {type(exc).__name__}"
        _log.info("%s: %s", self.region, said)
        self._admission.unreadable(self.region, said)
        response = web.Response(status=status, body=b"not a request that this server knows")
        response.force_close()
        return response


class BorderRequest(web.BaseRequest):
    """A request whose answer does not name the software that made it."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        del response.headers["Server"]


def make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> BorderRequest:
    """Called by aiohttp for each request it has parsed."""
    loop = asyncio.get_running_loop()
    return BorderRequest(message, payload, protocol, writer, task, loop)


def connection_of(request: web.BaseRequest) -> BorderConnection:
    """The connection that `request` came on."""
    connection = request.protocol
    assert isinstance(connection, BorderConnection)
    return connection
