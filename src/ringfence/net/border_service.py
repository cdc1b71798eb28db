"""What the border server asks of the hub, and who it says is asking.

    region's gateway ── mutual TLS ──▶ BorderServer ── threads ──▶ HubService

The caller's region comes first in every call and only ever from the verified certificate.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.crossing.spool import OpenPayload
from ringfence.trust.peers import Peer

VerifyPeer = Callable[[ssl.SSLSocket | ssl.SSLObject], Peer]
"""Checks the peer of a finished handshake against the agreement; raises `TrustError` unless it
holds *and* has the role that may stand at that end (a gateway before the hub, the hub's
coordinator before a gateway).  Called before the first application byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLeaf:
    """An own certificate in a TLS context made for it alone, and the second it expires."""

    context: ssl.SSLContext
    not_after_s: float


LeafSource = Callable[[], OwnLeaf]
"""The leaf to use for the next connection.  Called often and from any thread."""


class Upload(Protocol):
    """One payload on its way in.

    Calls come one at a time, though from changing threads.  `finish` or `abort` is called exactly
    once and last; an upload whose `finish` raised has let go of everything itself.
    """

    @property
    def size_bytes(self) -> int:
        """Bytes still to come: from the chunk that the upload began at to the payload's end."""

    def write_chunk(self, index: int, chunk: memoryview) -> None:
        """Verify and store chunk `index`, full except the last.

        After it returns the chunk survives a crash, and the memory under `chunk` is used again.
        Raises: FormatError when its bytes are not the announced ones.
        """

    def finish(self) -> bytes:
        """Every chunk was written: returns the receipt's envelope."""

    def abort(self) -> None:
        """No more will come on this connection; keep the chunks that were written."""


class HubService(Protocol):
    """The hub's side of every border request.

    Calls come from many threads at once and may block.  Outcomes are raised as `Refused`; faults
    that the caller can mend as `FormatError`, `LayoutError` or `TrustError`, those that pass by
    themselves as `BorderDownError`.  Any other fault reaches the caller as 500 without a detail.
    """

    def agreement_view(self, region: RegionId) -> AgreementView:
        """The agreement in force and the signatures on it."""

    def accept_signature(self, region: RegionId, envelope: bytes) -> AgreementView:
        """Take the caller's signature (DSSE envelope) on the agreement."""

    def view(self, region: RegionId, lineage: LineageId) -> LineageView:
        """What the caller may know about `lineage` now."""

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        """Call back, from any thread, after each change of any region's view of a lineage.

        The callback returns at once and never raises.  It is called after the change can be seen
        by `view`.
        """

    def snapshot(self, region: RegionId, lineage: LineageId) -> bytes:
        """Statement envelope of a snapshot addressed to the caller."""

    def offer(self, region: RegionId, envelope: bytes) -> OfferReply:
        """Take a statement; says from which chunk its payload should come."""

    def begin_upload(self, region: RegionId, statement: Digest, chunk: int) -> Upload:
        """Start to take the payload of the `statement` that the caller offered, from `chunk` on."""

    def statement(self, region: RegionId, digest: Digest) -> bytes:
        """A statement envelope addressed to the caller."""

    def open_payload(self, region: RegionId, digest: Digest) -> OpenPayload:
        """A payload whose statement is addressed to the caller."""

    def accept_receipt(self, region: RegionId, envelope: bytes) -> None:
        """Take the caller's receipt (DSSE envelope)."""

    def checkpoint(self, region: RegionId) -> str:
        """The hub log's signed note with its cosignatures."""

    def disclosure(self, region: RegionId, digest: Digest) -> bytes:
        """Proof that the hub's log holds its statement `digest` to the caller."""

    def consistency(self, region: RegionId, *, old: int, new: int) -> LogProof:
        """Proof that the tree of `new` entries extends that of `old`."""

    def cosign(self, region: RegionId, line: str) -> None:
        """Take the caller's cosignature line on a checkpoint."""

    def refuse_request(self, region: RegionId, detail: str) -> None:
        """Record that a request of this region was refused before it reached the service."""

    def refuse_connection(self, region: RegionId, detail: str) -> None:
        """Record that a connection was closed before its first byte was read.

        `region` is the one whose root vouched for the chain, which did not hold otherwise.
        """
