"""What the border's transport costs beside a bare TLS socket, in the same run: `transport.py [MB]`.

Every server and client is a process; nothing is hashed, written or checked.  CPU is in seconds for
each connection, memory what the server's peak grew by since before its first connection.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.clock import system_clock
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.crossing.spool import OpenPayload
from ringfence.net.border_client import BorderClient
from ringfence.net.border_server import BorderServer, serve
from ringfence.net.border_service import HubService, OwnLeaf
from ringfence.trust.certificates import create_issuer, create_root, issue_leaf
from ringfence.trust.encoding import to_der, to_pem
from ringfence.trust.keys import P256Signer
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor
from ringfence.trust.tls import client_context, load_leaf, peer_verifier, server_context

HUB = RegionId("eu")
DIGEST = Digest("sha256:" + "0" * 64)
PIECE_BYTES = 1024 * 1024
TICKS = os.sysconf("SC_CLK_TCK")

Client = Callable[[int, str], None]
"""Moves the payload once, `up` or `down`, through the server at a port."""


class Discard:
    """An upload that goes nowhere."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def write_chunk(self, index: int, chunk: memoryview) -> None:
        pass

    def finish(self) -> bytes:
        return b""

    def abort(self) -> None:
        pass


class Hub:
    """The two questions of `HubService` that are measured, and the subscription."""

    def __init__(self, payload: Path) -> None:
        self._payload = payload
        self._size_bytes = payload.stat().st_size

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        pass

    def begin_upload(self, region: RegionId, digest: Digest, chunk: int) -> Discard:
        return Discard(self._size_bytes - chunk * CHUNK_BYTES)

    def open_payload(self, region: RegionId, digest: Digest) -> OpenPayload:
        return OpenPayload(fd=os.open(self._payload, os.O_RDONLY), size_bytes=self._size_bytes)


def main() -> None:
    """Print one line for each transport, direction and number of connections."""
    size_bytes = int(sys.argv[1] if len(sys.argv) > 1 else 500) * 1_000_000
    server_leaf, client_leaf, anchors = _identities()
    with tempfile.TemporaryDirectory() as directory:
        payload = Path(directory) / "payload"
        payload.write_bytes(os.urandom(PIECE_BYTES) * (size_bytes // PIECE_BYTES))
        size_bytes = payload.stat().st_size

        def border_server(ready: Callable[[int], None]) -> None:
            hub: HubService = Hub(payload)  # type: ignore[assignment]  # only what is measured
            verify = peer_verifier(anchors=anchors, role="gateway", region=None, clock=system_clock)
            server = BorderServer(hub, leaf_source=lambda: server_leaf, verify=verify)
            serve(server, host="127.0.0.1", port=0, on_ready=ready)

        def border_client(port: int, direction: str) -> None:
            verify = peer_verifier(
                anchors=anchors, role="coordinator", region=HUB, clock=system_clock
            )
            with BorderClient(
                "127.0.0.1", port, leaf_source=lambda: client_leaf, verify=verify
            ) as client:
                if direction == "up":
                    client.upload(DIGEST, payload, chunk=0)
                else:
                    client.download(
                        DIGEST, chunk=0, size_bytes=size_bytes, sink=lambda index, chunk: None
                    )

        def bare_server(ready: Callable[[int], None]) -> None:
            _serve_bare(server_leaf.context, size_bytes, ready)

        def bare_client(port: int, direction: str) -> None:
            raw = socket.create_connection(("127.0.0.1", port))
            with client_leaf.context.wrap_socket(raw) as connection:
                connection.sendall(direction[:1].encode())
                (_send if direction == "up" else _receive)(connection, size_bytes)

        for connections in (1, 4):
            for name, server, client in (
                ("bare TLS", bare_server, bare_client),
                ("border", border_server, border_client),
            ):
                _measure(name, server, client, connections)


def _identities() -> tuple[OwnLeaf, OwnLeaf, dict[RegionId, Anchor]]:
    """A leaf of the hub and one of another region's gateway, and the agreement's anchors."""
    now_s = system_clock()
    anchors: dict[RegionId, Anchor] = {}
    issuers = {}
    for region in (HUB, RegionId("cn")):
        domain = f"{region}.example"
        root_key, issuer_key = (P256Signer(key=_key()) for _ in range(2))
        root = create_root(root_key, trust_domain=domain, now_s=now_s)
        issuer = create_issuer(
            root_key,
            root,
            public_key=issuer_key.public_key,
            trust_domain=domain,
            now_s=now_s,
        )
        anchors[region] = Anchor(trust_domain=domain, root_der=to_der(root))
        issuers[region] = (issuer_key, issuer)

    def leaf(context: ssl.SSLContext, region: RegionId, role: str) -> OwnLeaf:
        key = _key()
        signer, issuer = issuers[region]
        identity = SpiffeId(trust_domain=anchors[region].trust_domain, role=role)
        public_key = P256Signer(key=key).public_key
        own = issue_leaf(signer, issuer, public_key=public_key, identity=identity, now_s=now_s)
        load_leaf(context, chain_pem=to_pem(own, issuer), key=key)
        return OwnLeaf(context=context, not_after_s=own.not_valid_after_utc.timestamp())

    server = leaf(server_context(anchors=anchors), HUB, "coordinator")
    client = leaf(client_context(hub=anchors[HUB]), RegionId("cn"), "gateway")
    return server, client, anchors


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _serve_bare(context: ssl.SSLContext, size_bytes: int, ready: Callable[[int], None]) -> None:
    def one(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection:
            upload = connection.recv(1) == b"u"
            (_receive if upload else _send)(connection, size_bytes)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ready(listener.getsockname()[1])
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


def _send(connection: ssl.SSLSocket, size_bytes: int) -> None:
    piece = bytes(PIECE_BYTES)
    for _ in range(size_bytes // PIECE_BYTES):
        connection.sendall(piece)


def _receive(connection: ssl.SSLSocket, size_bytes: int) -> None:
    buffer = memoryview(bytearray(PIECE_BYTES))
    left = size_bytes
    while left:
        left -= connection.recv_into(buffer[: min(left, PIECE_BYTES)])


def _measure(
    name: str, server: Callable[[Callable[[int], None]], None], client: Client, connections: int
) -> None:
    reading, writing = os.pipe()
    pid = _fork(lambda: server(lambda port: _say(writing, port)))
    port = int(os.read(reading, 16))
    base_kb = _peak_kb(pid)
    for direction in ("up", "down"):
        client(port, direction)  # warm: page cache, lazy imports
        cpu_s, clients_s, begun = _cpu_s(pid), _children_s(), time.monotonic()
        work = partial(client, port, direction)
        for child in [_fork(work) for _ in range(connections)]:
            if os.waitpid(child, 0)[1]:
                raise SystemExit(f"{name}: a client failed")
        wall_s = time.monotonic() - begun
        server_s = (_cpu_s(pid) - cpu_s) / connections
        client_s = (_children_s() - clients_s) / connections
        print(
            f"{name:9} {connections} x {direction:4}  "
            f"server {server_s:.2f} cpu-s  client {client_s:.2f} cpu-s  wall {wall_s:.2f} s  "
            f"server memory +{(_peak_kb(pid) - base_kb) // 1024} MB",
            flush=True,
        )
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def _say(fd: int, port: int) -> None:
    os.write(fd, str(port).encode())


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
