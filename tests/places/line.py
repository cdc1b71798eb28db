"""A region's border to the hub's service without the network between them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ringfence.coordinator.service import HubService
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.net.border_errors import INTERNAL, from_status, to_status


class Line:
    """A region's border to the hub's service in this process; a `gateway.Border`.

    Errors pass through the same mapping to HTTP and back as on the real border.
    """

    def __init__(self, service: HubService, region: str) -> None:
        self.service = service
        self.region = RegionId(region)
        self.uploads: list[Digest] = []
        self.downloads: list[Digest] = []

    def _ask(self, call: Callable[..., Any], *words: Any, **named: Any) -> Any:
        try:
            return call(self.region, *words, **named)
        except Exception as error:
            status, body = to_status(error)
            if status == INTERNAL:
                raise
            raise from_status(status, body, request="test") from error

    def agreement(self) -> AgreementView:
        return self._ask(self.service.agreement_view)

    def sign_agreement(self, envelope: bytes) -> AgreementView:
        return self._ask(self.service.accept_signature, envelope)

    def lineage(self, lineage: LineageId, *, seen: int, wait_s: int) -> LineageView:
        return self._ask(self.service.view, lineage)

    def snapshot(self, lineage: LineageId) -> bytes:
        return self._ask(self.service.snapshot, lineage)

    def offer(self, envelope: bytes) -> OfferReply:
        return self._ask(self.service.offer, envelope)

    def upload(self, statement: Digest, path: Path, *, chunk: int) -> bytes:
        self.uploads.append(statement)
        return self._ask(self._upload, statement, path.read_bytes(), chunk)

    def _upload(self, region: RegionId, statement: Digest, data: bytes, chunk: int) -> bytes:
        upload = self.service.begin_upload(region, statement, chunk)
        for index in range(chunk, -(-len(data) // CHUNK_BYTES)):
            piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            upload.write_chunk(index, memoryview(piece))
        return upload.finish()

    def download(
        self,
        digest: Digest,
        *,
        chunk: int,
        size_bytes: int,
        sink: Callable[[int, memoryview], None],
    ) -> None:
        self.downloads.append(digest)
        payload = self._ask(self.service.open_payload, digest)
        with os.fdopen(payload.fd, "rb") as file:
            file.seek(chunk * CHUNK_BYTES)
            while piece := file.read(CHUNK_BYTES):
                sink(chunk, memoryview(piece))
                chunk += 1

    def statement(self, digest: Digest) -> bytes:
        return self._ask(self.service.statement, digest)

    def accept(self, envelope: bytes) -> None:
        self._ask(self.service.accept_receipt, envelope)

    def disclosure(self, digest: Digest) -> bytes:
        return self._ask(self.service.disclosure, digest)

    def consistency(self, *, old: int, new: int) -> LogProof:
        return self._ask(self.service.consistency, old=old, new=new)

    def cosign(self, line: str) -> None:
        self._ask(self.service.cosign, line)
