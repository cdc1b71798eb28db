"""The issuer's Unix socket: a process of this region asks for its leaf, one request a connection.

    with IssuerSocket(run / "issuer.sock", issue=issue, allowed_uids=frozenset({uid})) as issuer:
        issuer.serve(stop)

    chain_pem = ask_issuer(run / "issuer.sock", request_pem, issuer_uid=uid)

A frame is a length (4 bytes, big-endian) and a body.  The answer's body begins with one byte: 0
and the chain, or 1 and the reason why there is none.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ringfence.core.errors import BorderDownError, Error, FormatError, TrustError
from ringfence.site import unix_socket

_log = logging.getLogger(__name__)

REQUEST_LIMIT_BYTES = 16 * 1024
ANSWER_LIMIT_BYTES = 64 * 1024
TIMEOUT_S = 5.0
"""For one connection as a whole, so that a client that dribbles bytes gains nothing."""

_WORKERS = 8
_PAUSE_S = 1.0
_GRANTED, _REFUSED = b"\x00", b"\x01"
_LENGTH = struct.Struct(">I")
_CREDENTIALS = struct.Struct("3i")


class IssuerSocket:
    """Listens while it is open as a context manager; `serve` answers until told to stop.

    `issue` takes a request and returns the chain; it is called from several threads.
    """

    def __init__(
        self,
        path: Path,
        *,
        issue: Callable[[bytes], bytes],
        allowed_uids: frozenset[int],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._path = path
        self._issue = issue
        self._allowed_uids = allowed_uids
        self._timeout_s = timeout_s

    def __enter__(self) -> IssuerSocket:
        """Bind; raises `ConfigError` when the path cannot be ours (`unix_socket.listen`)."""
        self._listener = unix_socket.listen(self._path, kind=socket.SOCK_STREAM)
        return self

    def __exit__(self, *_: object) -> None:
        unix_socket.stop_listening(self._listener, self._path)

    def serve(self, stop: threading.Event) -> None:
        """Answer requests until `stop` is set, then close to new ones; no client can end it."""
        workers = [
            threading.Thread(target=self._work, args=(stop,), name=f"issuer-{n}")
            for n in range(_WORKERS)
        ]
        try:
            for worker in workers:
                worker.start()
            stop.wait()
        finally:
            stop.set()
            # Linux wakes every blocked accept when a listening socket is shut down (unix(7)).
            self._listener.shutdown(socket.SHUT_RDWR)
            for worker in workers:
                worker.join()

    def _work(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not stop.is_set():
                    _log.warning("issuer: accept failed: %s", error)
                    stop.wait(_PAUSE_S)
                continue
            try:
                self._answer(connection)
            except (Error, OSError) as error:
                _log.warning("issuer: request dropped: %s", error)

    def _answer(self, connection: socket.socket) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        with connection:
            _require_uid(connection, self._allowed_uids, who="client")
            request = _receive(connection, limit=REQUEST_LIMIT_BYTES, deadline_s=deadline_s)
            _send(connection, self._decide(request), deadline_s=deadline_s)

    def _decide(self, request: bytes) -> bytes:
        try:
            return _GRANTED + self._issue(request)
        except Error as error:
            _log.warning("issuer: request refused: %s", error)
            return _REFUSED + str(error).encode()[:1024]
        except Exception:  # noqa: BLE001
            # The outermost loop of this request: the client learns nothing, the log everything.
            _log.exception("issuer: request failed")
            return _REFUSED + b"internal error; see the issuer's log"


def ask_issuer(
    path: Path, request: bytes, *, issuer_uid: int, timeout_s: float = TIMEOUT_S
) -> bytes:
    """Send one request and return the chain, PEM.

    Raises: BorderDownError when nobody listens or answers in time; TrustError when the listener
    runs as another user than `issuer_uid`, or refuses; FormatError when the answer is malformed.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
            unix_socket.address(path) as address,
        ):
            connection.settimeout(timeout_s)
            connection.connect(address)
            _require_uid(connection, frozenset({issuer_uid}), who="issuer")
            _send(connection, request, deadline_s=deadline_s)
            answer = _receive(connection, limit=ANSWER_LIMIT_BYTES, deadline_s=deadline_s)
    except OSError as error:
        raise BorderDownError(
            f"issuer at {path}: no answer ({error}); start it with `ringfence issuer`"
        ) from error
    status, body = answer[:1], answer[1:]
    if status == _REFUSED:
        raise TrustError(f"issuer at {path} refused: {body.decode(errors='replace')}")
    if status != _GRANTED:
        raise FormatError(f"issuer at {path}: expected an answer that begins with 0 or 1")
    return body


def _require_uid(connection: socket.socket, allowed: frozenset[int], *, who: str) -> None:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    if uid not in allowed:
        raise TrustError(
            f"issuer socket: expected the {who} to be of uid {sorted(allowed)}, got {uid}"
        )


def _send(connection: socket.socket, body: bytes, *, deadline_s: float) -> None:
    connection.settimeout(_left(deadline_s))
    connection.sendall(_LENGTH.pack(len(body)) + body)


def _receive(connection: socket.socket, *, limit: int, deadline_s: float) -> bytes:
    (size,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size, deadline_s=deadline_s))
    if size > limit:
        raise FormatError(f"issuer socket: expected at most {limit} bytes, got {size} announced")
    return _receive_exactly(connection, size, deadline_s=deadline_s)


def _receive_exactly(connection: socket.socket, size: int, *, deadline_s: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        connection.settimeout(_left(deadline_s))
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def _left(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time for one request is over")
    return left_s
