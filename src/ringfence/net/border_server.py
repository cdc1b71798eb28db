"""The federation's one listener: the hub's border server, HTTP over mutual TLS 1.3."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
from collections.abc import Callable

import uvloop
from aiohttp import web

from ringfence.core.clock import Clock, system_clock
from ringfence.core.errors import ConfigError, Error
from ringfence.core.ids import RegionId
from ringfence.net.border_changes import Changes
from ringfence.net.border_connection import Admission, BorderConnection, make_request
from ringfence.net.border_routes import HubRoutes
from ringfence.net.border_service import HubService, LeafSource, VerifyPeer
from ringfence.net.http_limits import ServerLimits

_log = logging.getLogger(__name__)

_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.1


class BorderServer:
    """Opened with `start`, closed with `close`, both on one event loop.

    Each new connection uses the leaf that `leaf_source` gives at that moment, so a rotation drops
    no transfer.  `congestion` names a TCP congestion control; where the kernel forbids it, its
    default stays.
    """

    def __init__(
        self,
        service: HubService,
        *,
        leaf_source: LeafSource,
        verify: VerifyPeer,
        clock: Clock = system_clock,
        limits: ServerLimits | None = None,
        congestion: str | None = None,
    ) -> None:
        self._service = service
        self._leaf_source = leaf_source
        self._limits = limits or ServerLimits()
        self._admission = Admission(
            verify=verify,
            clock=clock,
            limits=self._limits,
            refused=self._record_refused,
            unreadable=self._record_unreadable,
        )
        self._congestion = congestion
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which the system chooses when `port` is 0.

        Raises: ConfigError when the address is another's.
        """
        self._loop = asyncio.get_running_loop()
        self._changes = Changes()
        self._routes = HubRoutes(self._service, limits=self._limits, changes=self._changes)
        self._http = web.Server(self._routes.handle, request_factory=make_request)
        self._service.subscribe(self._changes.tell)
        try:
            self._listener = socket.create_server((host, port), backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"{host}:{port}: cannot listen there ({error.strerror or error}); stop who does, "
                "or listen at another address"
            ) from error
        self._listener.setblocking(False)
        self._accepting = self._loop.create_task(self._accept())
        return int(self._listener.getsockname()[1])

    async def close(self) -> None:
        """Stop listening, cut transfers (they resume), let short requests finish."""
        self._accepting.cancel()
        for handshake in list(self._handshakes):
            handshake.cancel()
        await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)
        self._listener.close()
        self._changes.close()
        for connection in self._http.connections:
            if isinstance(connection, BorderConnection) and connection.transferring:
                connection.abort()
        self._http.pre_shutdown()
        await self._http.shutdown(self._limits.grace_s)
        await asyncio.to_thread(self._routes.close)

    def _record_refused(self, region: RegionId, detail: str) -> None:
        # In a thread: the record is made durable, and other connections need not wait for it.
        self._loop.run_in_executor(None, self._service.refuse_connection, region, detail)

    def _record_unreadable(self, region: RegionId, detail: str) -> None:
        self._loop.run_in_executor(None, self._service.refuse_request, region, detail)

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._listener)
            except OSError as error:
                # Out of descriptors, or the peer left in the queue: neither ends the listener.
                _log.warning("could not accept a connection: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            if len(self._handshakes) >= self._limits.handshakes:
                # The oldest has had the longest chance: honest handshakes take milliseconds.
                next(iter(self._handshakes)).cancel()
            task = self._loop.create_task(self._handshake(connection))
            self._handshakes[task] = None
            task.add_done_callback(self._handshake_done)

    def _handshake_done(self, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)

    async def _handshake(self, connection: socket.socket) -> None:
        if self._congestion is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._congestion.encode()
                )
        try:
            leaf = self._leaf_source()
            check_server_context(leaf.context)
            await self._loop.connect_accepted_socket(
                lambda: BorderConnection(self._http, admission=self._admission, leaf=leaf),
                connection,
                ssl=leaf.context,
                ssl_handshake_timeout=self._limits.handshake_timeout_s,
                ssl_shutdown_timeout=self._limits.linger_s,
            )
        except OSError as error:
            # ssl.SSLError and TimeoutError are OSErrors: no certificate, a stranger's, TLS 1.2.
            _log.info("handshake failed: %s", error)
        except Error as error:
            connection.close()
            _log.warning("no connection can be served: %s", error)


def serve(server: BorderServer, *, host: str, port: int, on_ready: Callable[[int], None]) -> None:
    """Run `server` in this thread until SIGTERM or SIGINT; `on_ready` gets the port.

    Call from the main thread: signals come only there.
    """

    async def run() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        on_ready(await server.start(host, port))
        await stop.wait()
        await server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def check_server_context(context: ssl.SSLContext) -> None:
    """Fail closed when a context would let in what the border must not."""
    if (
        context.minimum_version is not ssl.TLSVersion.TLSv1_3
        or context.verify_mode is not ssl.CERT_REQUIRED
        or context.num_tickets
    ):
        raise ConfigError(
            "the border's TLS context must speak TLS 1.3 only, require the peer's certificate "
            "and send no session tickets"
        )
