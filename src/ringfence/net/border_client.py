"""The gateway's line to the hub: one blocking method for each request of the border.

    client = BorderClient("hub.example", 8443, leaf_source=keeper.leaf, verify=verify_hub)
    view = client.lineage(LineageId("world"), seen=0, wait_s=25)

`Refused`, `FormatError` and `TrustError` are the hub's answers; `BorderDownError` means that
nothing is known and the caller should try again, later each time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

from ringfence.core import canonical
from ringfence.core.chunks import CHUNK_BYTES, chunk_count
from ringfence.core.clock import Clock, system_clock
from ringfence.core.errors import BorderDownError, FormatError, StateError
from ringfence.core.ids import Digest, LineageId
from ringfence.core.wire import (
    CONTROL_LIMIT_BYTES,
    STATEMENT_LIMIT_BYTES,
    AgreementView,
    LineageView,
    LogProof,
    Message,
    OfferReply,
)
from ringfence.net.border_errors import NO_CONTENT, OK, TransferCutError, from_status
from ringfence.net.border_link import BorderLink, ResponseHead, Traffic, dial
from ringfence.net.border_service import LeafSource, OwnLeaf, VerifyPeer
from ringfence.net.http_limits import ClientTimeouts

M = TypeVar("M", bound=Message)

Sink = Callable[[int, memoryview], None]
"""Takes chunk `index` of a download, verifies and stores it; the memory is used again."""

_SEND_BYTES = 256 * 1024
"""Between two of these the client looks whether the hub has refused already."""


class BorderClient:
    """Keeps one connection to the hub and dials again when it is gone, old or rotated away.

    Not for use from two threads at once: make one for each.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        leaf_source: LeafSource,
        verify: VerifyPeer,
        timeouts: ClientTimeouts | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._host = host
        self._port = port
        self._leaf_source = leaf_source
        self._verify = verify
        self._timeouts = timeouts or ClientTimeouts()
        self._clock = clock
        self.traffic = Traffic()
        self._link: BorderLink | None = None
        self._leaf: OwnLeaf | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next call dials again."""
        if self._link is not None:
            self._link.close()
        self._link = None

    # ── Agreement and lineages ──

    def agreement(self) -> AgreementView:
        """The agreement in force at the hub and the signatures on it."""
        return self._message("GET", "/v1/agreement", AgreementView)

    def sign_agreement(self, envelope: bytes) -> AgreementView:
        """Hand over this region's signature (DSSE envelope) on the agreement."""
        return self._message("POST", "/v1/agreement/signature", AgreementView, body=envelope)

    def lineage(self, lineage: LineageId, *, seen: int, wait_s: int) -> LineageView:
        """View of `lineage` at once if its version is not `seen`, else after at most `wait_s`."""
        target = f"/v1/lineages/{lineage}?seen={seen}&wait_s={wait_s}"
        return self._message("GET", target, LineageView)

    def snapshot(self, lineage: LineageId) -> bytes:
        """Statement envelope of a snapshot for this region."""
        return self._ask("GET", f"/v1/lineages/{lineage}/snapshot", STATEMENT_LIMIT_BYTES)

    # ── Statements and payloads ──

    def offer(self, envelope: bytes) -> OfferReply:
        """Offer a statement; the reply says from which chunk to upload, or is the receipt."""
        return self._message("POST", "/v1/offers", OfferReply, body=envelope)

    def statement(self, digest: Digest) -> bytes:
        """A statement envelope addressed to this region."""
        return self._ask("GET", f"/v1/statements/{digest}", STATEMENT_LIMIT_BYTES)

    def accept(self, envelope: bytes) -> None:
        """Hand over this region's receipt (DSSE envelope)."""
        self._ask("POST", "/v1/receipts", 0, body=envelope)

    def upload(self, statement: Digest, path: Path, *, chunk: int) -> bytes:
        """Send the payload of `statement`, which lies in `path`, from chunk `chunk` on.

        Returns the receipt's envelope.

        Raises: TransferCutError when the connection broke, else what the hub answered.
        """
        sent = 0
        try:
            with path.open("rb") as payload, self._exchange() as link:
                size_bytes = _left(os.fstat(payload.fileno()).st_size, chunk=chunk)
                link.send(self._head("PUT", _payload_target(statement, chunk), size_bytes))
                for piece in _pieces(payload, start=chunk * CHUNK_BYTES, size_bytes=size_bytes):
                    if link.has_news():
                        break  # an answer before the end can only be a refusal
                    link.send(piece)
                    sent += len(piece)
                status, receipt = _read_answer(link, limit_bytes=STATEMENT_LIMIT_BYTES)
                if sent < size_bytes:
                    link.close()  # the hub may still take what comes next for this body
        except BorderDownError as error:
            raise _cut(error, f"upload of {statement}", chunks=sent // CHUNK_BYTES) from error
        return _checked(status, receipt, request=f"PUT {statement}")

    def download(self, digest: Digest, *, chunk: int, size_bytes: int, sink: Sink) -> None:
        """Pass the chunks of a payload of `size_bytes` to `sink`, from chunk `chunk` on.

        Raises: TransferCutError when the connection broke, FormatError when the hub holds another
        size, else what the hub answered or `sink` raised.
        """
        left = _left(size_bytes, chunk=chunk)
        index = chunk
        refusal = b""
        try:
            with self._exchange() as link:
                link.send(self._head("GET", _payload_target(digest, chunk)))
                head = link.read_head()
                if head.status != OK:
                    refusal = _read_body(link, head, limit_bytes=CONTROL_LIMIT_BYTES)
                elif head.size_bytes != left:
                    raise FormatError(
                        f"{digest}: expected {left} bytes from chunk {chunk} on as its statement "
                        f"says, the hub has {head.size_bytes}"
                    )
                else:
                    for piece in _chunks(link, size_bytes=left):
                        sink(index, piece)
                        index += 1
        except BorderDownError as error:
            raise _cut(error, f"download of {digest}", chunks=index - chunk) from error
        _checked(head.status, refusal, request=f"GET {digest}")

    # ── Log ──

    def checkpoint(self) -> str:
        """The hub log's signed note with the cosignatures collected so far."""
        note = self._ask("GET", "/v1/log/checkpoint", CONTROL_LIMIT_BYTES)
        try:
            return note.decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError("checkpoint: expected UTF-8 text") from error

    def disclosure(self, digest: Digest) -> bytes:
        """Proof that the hub's log holds its statement `digest` to this region."""
        return self._ask("GET", f"/v1/log/disclosures/{digest}", 2 * STATEMENT_LIMIT_BYTES)

    def consistency(self, *, old: int, new: int) -> LogProof:
        """Proof that the hub's tree of `new` entries extends that of `old`."""
        return self._message("GET", f"/v1/log/consistency?old={old}&new={new}", LogProof)

    def cosign(self, line: str) -> None:
        """Hand over this region's cosignature line on a checkpoint."""
        self._ask("POST", "/v1/log/cosignatures", 0, body=line.encode())

    # ── One exchange ──

    def _message(self, method: str, target: str, type_: type[M], body: bytes | None = None) -> M:
        answer = self._ask(method, target, CONTROL_LIMIT_BYTES, body=body)
        return canonical.from_bytes(
            answer, type_, what=f"answer to {method} {target}", limit_bytes=CONTROL_LIMIT_BYTES
        )

    def _ask(self, method: str, target: str, limit_bytes: int, body: bytes | None = None) -> bytes:
        head = self._head(method, target, None if body is None else len(body))
        with self._exchange() as link:
            link.send(head + (body or b""))
            status, answer = _read_answer(link, limit_bytes=limit_bytes)
        return _checked(status, answer, request=f"{method} {target}")

    def _head(self, method: str, target: str, size_bytes: int | None = None) -> bytes:
        length = "" if size_bytes is None else f"Content-Length: {size_bytes}\r\n"
        return f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{length}\r\n".encode("ascii")

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[BorderLink]:
        """Lend the connection for one request; it is kept only when its answer was read whole."""
        link, self._link = self._link, None
        leaf = self._leaf_source()
        if link is not None and (leaf != self._leaf or not link.is_fresh or link.has_news()):
            link.close()
            link = None
        if link is None:
            self._leaf = leaf
            link = dial(
                self._host,
                self._port,
                leaf=leaf,
                verify=self._verify,
                timeouts=self._timeouts,
                clock=self._clock,
                traffic=self.traffic,
            )
        try:
            yield link
        finally:
            if link.is_reusable:
                self._link = link
            else:
                link.close()


def _payload_target(digest: Digest, chunk: int) -> str:
    return f"/v1/payloads/{digest}?chunk={chunk}"


def _left(size_bytes: int, *, chunk: int) -> int:
    """Bytes from `chunk` to the end; none when every chunk is there already."""
    chunks = chunk_count(size_bytes)
    if not 0 <= chunk <= chunks:
        raise FormatError(f"a payload of {size_bytes} bytes has {chunks} chunks, none from {chunk}")
    return max(0, size_bytes - chunk * CHUNK_BYTES)


def _pieces(payload: BinaryIO, *, start: int, size_bytes: int) -> Iterator[memoryview]:
    """The file from `start` on in pieces, each valid until the next is asked for."""
    buffer = memoryview(bytearray(_SEND_BYTES))
    read = 0
    while read < size_bytes:
        count = os.preadv(payload.fileno(), [buffer], start + read)
        if not count:
            raise StateError(f"{payload.name}: became shorter while it was sent")
        yield buffer[: min(count, size_bytes - read)]
        read += count


def _chunks(link: BorderLink, *, size_bytes: int) -> Iterator[memoryview]:
    """The body in chunks of 4 MiB, each valid until the next is asked for."""
    buffer = memoryview(bytearray(min(CHUNK_BYTES, size_bytes)))
    for start in range(0, size_bytes, CHUNK_BYTES):
        piece = buffer[: min(CHUNK_BYTES, size_bytes - start)]
        link.read_into(piece)
        yield piece


def _read_answer(link: BorderLink, *, limit_bytes: int) -> tuple[int, bytes]:
    head = link.read_head()
    limit_bytes = limit_bytes if head.status in (OK, NO_CONTENT) else CONTROL_LIMIT_BYTES
    return head.status, _read_body(link, head, limit_bytes=limit_bytes)


def _read_body(link: BorderLink, head: ResponseHead, *, limit_bytes: int) -> bytes:
    if head.size_bytes > limit_bytes:
        raise FormatError(
            f"expected an answer of at most {limit_bytes} bytes, the hub sends {head.size_bytes}"
        )
    body = bytearray(head.size_bytes)
    link.read_into(memoryview(body))
    return bytes(body)


def _checked(status: int, body: bytes, *, request: str) -> bytes:
    if status not in (OK, NO_CONTENT):
        raise from_status(status, body, request=request)
    return body


def _cut(error: BorderDownError, what: str, *, chunks: int) -> TransferCutError:
    return TransferCutError(f"{what} was cut behind {chunks} whole chunks: {error}", chunks=chunks)
