"""The least that a round can take on these cores: its bytes through bare TLS, hashed and copied.

    up, down   every region's payload through one TLS 1.3 connection a region, all at once
    hash       BLAKE3 over every payload and model, once at each end that must believe it
    copy       every file of the round in memory, once

Encryption and hashing are all that is done: no files, no law, no arithmetic.
"""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PIECE_BYTES = 1024 * 1024
_WORKING_SET_BYTES = 256 * 1024 * 1024
"""Larger than any cache, as a model is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Sizes of one round: regions, one payload's bytes, one model's bytes."""

    regions: int
    payload_bytes: int
    model_bytes: int

    @property
    def hashed_bytes(self) -> int:
        """Gateway: own payload, the hub's payload, the model; hub: theirs, its own, its model."""
        gateway = 2 * self.payload_bytes + self.model_bytes
        hub = (self.regions + 1) * self.payload_bytes + self.model_bytes
        return self.regions * gateway + hub

    @property
    def copied_bytes(self) -> int:
        """Gateway: the update handed over, its payload, the model; hub: as hashed."""
        gateway = self.model_bytes + self.payload_bytes + self.model_bytes
        hub = (self.regions + 1) * self.payload_bytes + self.model_bytes
        return self.regions * gateway + hub


def measure_floor(traffic: Traffic) -> dict[str, float]:
    """Seconds of each part, measured now, and their sum as `floor`."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory:
        server, client = _contexts(Path(directory))
    parts = {
        "up": _transfers(server, client, b"u", traffic),
        "down": _transfers(server, client, b"d", traffic),
        "hash": _together([lambda: _hash(traffic.hashed_bytes // cores)] * cores),
        "copy": _together([lambda: _copy(traffic.copied_bytes // cores)] * cores),
    }
    return {**parts, "floor": sum(parts.values())}


def _transfers(
    server: ssl.SSLContext, client: ssl.SSLContext, direction: bytes, traffic: Traffic
) -> float:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = os.fork()
        if serving == 0:
            _and_exit(lambda: _serve(listener, server, traffic))

        def dial() -> None:
            raw = socket.create_connection(listener.getsockname())
            with client.wrap_socket(raw) as connection:
                connection.sendall(direction)
                move = _send if direction == b"u" else _receive
                move(connection, traffic.payload_bytes)
                connection.recv(1)  # the other side has everything

        took_s = _together([dial] * traffic.regions)
        os.waitpid(serving, 0)
    return took_s


def _serve(listener: socket.socket, context: ssl.SSLContext, traffic: Traffic) -> None:
    """One process, one thread a connection: OpenSSL works outside the interpreter's lock."""

    def one(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as connection:
            move = _receive if connection.recv(1) == b"u" else _send
            move(connection, traffic.payload_bytes)
            connection.sendall(b".")

    threads = []
    for _ in range(traffic.regions):
        threads.append(threading.Thread(target=one, args=(listener.accept()[0],)))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _send(connection: ssl.SSLSocket, size_bytes: int) -> None:
    piece = memoryview(bytes(_PIECE_BYTES))
    while size_bytes:
        connection.sendall(piece[:size_bytes])
        size_bytes -= min(size_bytes, _PIECE_BYTES)


def _receive(connection: ssl.SSLSocket, size_bytes: int) -> None:
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while size_bytes:
        count = connection.recv_into(buffer[:size_bytes])
        if not count:
            raise ConnectionResetError("the other side is gone")
        size_bytes -= count


def _hash(size_bytes: int) -> None:
    _in_pieces(size_bytes, lambda piece: blake3(piece).digest())


def _copy(size_bytes: int) -> None:
    target = memoryview(bytearray(_PIECE_BYTES * 4))

    def copy(piece: memoryview) -> None:
        target[: len(piece)] = piece

    _in_pieces(size_bytes, copy)


def _in_pieces(size_bytes: int, work: Callable[[memoryview], object]) -> None:
    source = memoryview(bytearray(min(_WORKING_SET_BYTES, max(size_bytes, 1))))
    chunk = 4 * _PIECE_BYTES
    while size_bytes > 0:
        for first in range(0, min(len(source), size_bytes), chunk):
            work(source[first : first + chunk])
        size_bytes -= len(source)


def _together(work: Sequence[Callable[[], object]]) -> float:
    """Seconds until every piece of work is done, each in a process of its own."""
    start = time.monotonic()
    children = []
    for each in work:
        child = os.fork()
        if child == 0:
            _and_exit(each)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    if failed:
        raise SystemExit("the floor could not be measured: a process failed")
    return time.monotonic() - start


def _and_exit(work: Callable[[], object]) -> None:
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def _contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server and a client of TLS 1.3 with one self-signed certificate, both sides shown."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "floor")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = directory / "floor.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(pem)
        context.load_verify_locations(pem)
        contexts.append(context)
    return contexts[0], contexts[1]
