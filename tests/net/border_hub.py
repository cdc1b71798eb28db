"""A hub that keeps real files and remembers who asked for what, behind a real border server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from tests.trust.trust_world import EU, Credential, World

from ringfence.core.chunks import CHUNK_BYTES, ChunkedDigest, ChunkHasher
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.crossing.spool import OpenPayload
from ringfence.net.border_client import BorderClient
from ringfence.net.border_server import BorderServer
from ringfence.net.border_service import OwnLeaf
from ringfence.net.http_limits import ClientTimeouts, ServerLimits
from ringfence.trust.peers import Peer, require_peer
from ringfence.trust.tls import verify_peer

WORLD = LineageId("world")


def digest_of(data: bytes) -> ChunkedDigest:
    hasher = ChunkHasher()
    hasher.update(data)
    return hasher.finish()


@dataclass
class FileUpload:
    """One payload on its way into a file of the hub."""

    hub: FileHub
    expected: ChunkedDigest
    path: Path
    size_bytes: int

    def write_chunk(self, index: int, chunk: memoryview) -> None:
        self.hub.gate.wait(10)
        if self.hub.storage_error is not None:
            raise self.hub.storage_error
        self.expected.verify(index, chunk)
        with self.path.open("r+b") as file:
            file.seek(index * CHUNK_BYTES)
            file.write(chunk)
        self.hub.chunks_written.append(index)

    def finish(self) -> bytes:
        self.hub.ended.append("finish")
        return b"receipt of " + self.expected.digest.encode()

    def abort(self) -> None:
        self.hub.ended.append("abort")
        self.hub.aborted.set()


@dataclass
class FileHub:
    """Answers each request from what a test gave it; every call is remembered in `calls`."""

    directory: Path
    calls: list[tuple[object, ...]] = field(default_factory=list)
    error: Exception | None = None
    storage_error: Exception | None = None
    announced: dict[Digest, ChunkedDigest] = field(default_factory=dict)
    chunks_written: list[int] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    aborted: threading.Event = field(default_factory=threading.Event)
    refused: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    version: int = 1
    seen: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    callback: Callable[[LineageId], None] = lambda lineage: None

    def __post_init__(self) -> None:
        self.gate.set()

    # What tests do to the hub.

    def announce(self, data: bytes) -> Digest:
        """Expect `data` as a payload."""
        expected = digest_of(data)
        self.announced[expected.digest] = expected
        self.path(expected.digest).touch()
        return expected.digest

    def store(self, data: bytes) -> Digest:
        """Hold `data` as a payload for others."""
        digest = self.announce(data)
        self.path(digest).write_bytes(data)
        return digest

    def path(self, digest: Digest) -> Path:
        return self.directory / digest.replace(":", "-")

    def change(self, lineage: LineageId) -> None:
        self.version += 1
        self.callback(lineage)

    # What the border server asks.

    def _called(self, name: str, *words: object) -> None:
        self.calls.append((name, *words))
        if self.error is not None:
            raise self.error

    def agreement_view(self, region: RegionId) -> AgreementView:
        self._called("agreement_view", region)
        return AgreementView(agreement="terms", signatures={"cn": "signed"})

    def accept_signature(self, region: RegionId, envelope: bytes) -> AgreementView:
        self._called("accept_signature", region, envelope)
        return AgreementView(agreement="terms", signatures={"cn": envelope.decode()})

    def view(self, region: RegionId, lineage: LineageId) -> LineageView:
        self._called("view", region, lineage)
        view = LineageView(
            version=self.version,
            lineage=lineage,
            round=3,
            state="collecting",
            parent="sha256:" + "0" * 64,
            deadline="2026-11-20T09:47:00Z",
            submitted=False,
            candidate=None,
            release=None,
            checkpoint="",
        )
        self.seen.release()
        return view

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        self.callback = callback

    def snapshot(self, region: RegionId, lineage: LineageId) -> bytes:
        self._called("snapshot", region, lineage)
        return b"snapshot"

    def offer(self, region: RegionId, envelope: bytes) -> OfferReply:
        self._called("offer", region, envelope)
        return OfferReply(next_chunk=0, receipt=None)

    def begin_upload(self, region: RegionId, digest: Digest, chunk: int) -> FileUpload:
        self._called("begin_upload", region, digest, chunk)
        expected = self.announced.get(digest)
        if expected is None:
            raise FormatError(f"{digest}: was never offered")
        left = expected.size_bytes - chunk * CHUNK_BYTES
        return FileUpload(hub=self, expected=expected, path=self.path(digest), size_bytes=left)

    def statement(self, region: RegionId, digest: Digest) -> bytes:
        self._called("statement", region, digest)
        return b"statement"

    def open_payload(self, region: RegionId, digest: Digest) -> OpenPayload:
        self._called("open_payload", region, digest)
        return OpenPayload(
            fd=os.open(self.path(digest), os.O_RDONLY), size_bytes=self.announced[digest].size_bytes
        )

    def accept_receipt(self, region: RegionId, envelope: bytes) -> None:
        self._called("accept_receipt", region, envelope)

    def checkpoint(self, region: RegionId) -> str:
        self._called("checkpoint", region)
        return "hub log\n5\nroot — é\n"

    def disclosure(self, region: RegionId, digest: Digest) -> bytes:
        self._called("disclosure", region, digest)
        return b"disclosure"

    def refuse_request(self, region: RegionId, detail: str) -> None:
        pass

    def refuse_connection(self, region: RegionId, detail: str) -> None:
        self._called("refuse_connection", region)
        self.refused.set()

    def consistency(self, region: RegionId, *, old: int, new: int) -> LogProof:
        self._called("consistency", region, old, new)
        return LogProof(hashes=("bb", "cc"))

    def cosign(self, region: RegionId, line: str) -> None:
        self._called("cosign", region, line)


@dataclass
class Border:
    """A running border server and the means to reach it."""

    world: World
    hub: FileHub
    server: BorderServer
    loop: asyncio.AbstractEventLoop
    port: int

    def client(
        self,
        *,
        port: int | None = None,
        leaf_source: Callable[[], OwnLeaf] | None = None,
        credential: Credential | None = None,
        verify: Callable[[ssl.SSLSocket | ssl.SSLObject], Peer] | None = None,
        timeouts: ClientTimeouts | None = None,
        clock: Callable[[], float] = time.time,
    ) -> BorderClient:
        leaf = own_leaf(self.world.gateway(credential))
        return BorderClient(
            "127.0.0.1",
            port or self.port,
            leaf_source=leaf_source or (lambda: leaf),
            verify=verify or expect_hub(self.world),
            timeouts=timeouts or ClientTimeouts(io_s=10, chunk_s=10),
            clock=clock,
        )

    def connect(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A bare TLS connection, for what a client of ours would never send."""
        tcp = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        try:
            return (context or self.world.gateway()).wrap_socket(tcp)
        except OSError:
            tcp.close()
            raise

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(20)


def own_leaf(context: ssl.SSLContext, *, lifetime_s: float = 3600) -> OwnLeaf:
    return OwnLeaf(context=context, not_after_s=time.time() + lifetime_s)


def expect_hub(world: World) -> Callable[[ssl.SSLSocket | ssl.SSLObject], Peer]:
    """How a gateway verifies the hub."""

    def verify(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        peer = verify_peer(connection, anchors=world.anchors, now_s=time.time())
        require_peer(peer, region=EU, role="coordinator")
        return peer

    return verify


def expect_gateway(world: World) -> Callable[[ssl.SSLSocket | ssl.SSLObject], Peer]:
    """How the hub verifies a gateway."""

    def verify(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        peer = verify_peer(connection, anchors=world.anchors, now_s=time.time())
        require_peer(peer, region=peer.region, role="gateway")
        return peer

    return verify


@contextlib.contextmanager
def running(
    world: World,
    directory: Path,
    *,
    limits: ServerLimits | None = None,
    leaf_source: Callable[[], OwnLeaf] | None = None,
    verify: Callable[[ssl.SSLSocket | ssl.SSLObject], Peer] | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Border]:
    """A border server in a thread of its own, on a port that the system chooses."""
    hub = FileHub(directory)
    leaf = own_leaf(world.hub())
    server = BorderServer(
        hub,
        leaf_source=leaf_source or (lambda: leaf),
        verify=verify or expect_gateway(world),
        clock=clock,
        limits=limits or ServerLimits(linger_s=0.1, grace_s=2),
    )
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        starting = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop)
        border = Border(world=world, hub=hub, server=server, loop=loop, port=starting.result(10))
        try:
            yield border
        finally:
            hub.gate.set()
            border.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def ask(connection: ssl.SSLSocket, request: bytes) -> bytes:
    """Send bytes and read what comes until the hub hangs up or pauses for long."""
    connection.sendall(request)
    return read_all(connection)


def read_all(connection: ssl.SSLSocket) -> bytes:
    """Everything that the hub sends until it closes the connection."""
    answer = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


class CuttingProxy:
    """Passes bytes on in both directions, and cuts every connection after so many of them.

    `limit_bytes` counts both directions together and starts anew with each connection.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.limit_bytes: int | None = None
        self.connections = 0
        self.passed_bytes = 0
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _spawn(self, work: Callable[..., None], *words: object) -> None:
        thread = threading.Thread(target=work, args=words)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self.connections += 1
                self.passed_bytes = 0
                self._spawn(self._pass, near, far)
                self._spawn(self._pass, far, near)

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                self.passed_bytes += len(piece)
                if self.limit_bytes is not None and self.passed_bytes > self.limit_bytes:
                    break
                sink.sendall(piece)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
