"""The hub's answers to every border request: who may know what, and when."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from ringfence.coordinator import intake
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.journal import Round
from ringfence.coordinator.outbox import Outgoing
from ringfence.coordinator.release import (
    deliver_snapshot,
    require_permitted,
    standing_candidate,
    standing_release,
)
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.terms import Lineage
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.crossing.signatures import check_signature
from ringfence.crossing.spool import OpenPayload
from ringfence.ledger.disclosure import prove


class HubService:
    """What `net.border_server` asks; every method names the caller that TLS proved."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    # ── agreement ──

    def agreement_view(self, region: RegionId) -> AgreementView:
        """The agreement in force and the signatures that the hub holds."""
        agreement = self._hub.region.agreement.digest
        return AgreementView(
            agreement=agreement,
            signatures={
                signer: envelope.decode()
                for signer, envelope in self._hub.signatures.of(agreement).items()
            },
        )

    def accept_signature(self, region: RegionId, envelope: bytes) -> AgreementView:
        """Take the caller's signature; raises `Refused` when it signs another agreement."""
        with self._recording(region, envelope):
            check_signature(self._hub.region.agreement, region, envelope)
        agreement = self._hub.region.agreement.digest
        if self._hub.signatures.of(agreement).get(region) != envelope:
            self._hub.signatures.keep(agreement=agreement, region=region, envelope=envelope)
            for line in self._hub.region.agreement.terms.lineages:
                self._hub.changes.announce(LineageId(line.id))
        return self.agreement_view(region)

    # ── lineages ──

    def view(self, region: RegionId, lineage: LineageId) -> LineageView:
        """What `region` may know of `lineage` now."""
        hub = self._hub
        version = hub.changes.version(lineage)  # read first: a change in between shows next time
        with self._recording(region):
            terms = _lineage(hub, region, lineage, stage="serve")
        release = hub.journal.release(lineage)
        round_ = hub.journal.current_round(lineage)
        if round_ is None:
            # Nothing has been asked of anybody yet: show the start as a finished round 0.
            return LineageView(
                version=version,
                lineage=lineage,
                round=0,
                state="released",
                parent=release.model if release else "",
                deadline="",
                submitted=False,
                candidate=None,
                release=None,
                checkpoint=hub.publication.note(),
            )
        return LineageView(
            version=version,
            lineage=lineage,
            round=round_.round,
            state=round_.state,
            parent=round_.parent,
            deadline=to_rfc3339(round_.opened_s + terms.deadline_s),
            submitted=self._submitted(region, round_),
            candidate=_digest(standing_candidate(hub, region, round_)),
            release=_digest(standing_release(hub, region, lineage)),
            checkpoint=hub.publication.note(),
        )

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        """Call back after every change of a lineage."""
        self._hub.changes.subscribe(callback)

    def snapshot(self, region: RegionId, lineage: LineageId) -> bytes:
        """Statement of the newest release's whole model, addressed to the caller."""
        with self._recording(region):
            _lineage(self._hub, region, lineage, stage="snapshot")
            return deliver_snapshot(self._hub, region, lineage).envelope

    # ── statements and payloads ──

    def offer(self, region: RegionId, envelope: bytes) -> OfferReply:
        return intake.offer(self._hub, region, envelope)

    def begin_upload(self, region: RegionId, statement: Digest, chunk: int) -> intake.Upload:
        return intake.begin_upload(self._hub, region, statement, chunk)

    def accept_receipt(self, region: RegionId, envelope: bytes) -> None:
        intake.take_receipt(self._hub, region, envelope)

    def statement(self, region: RegionId, digest: Digest) -> bytes:
        """A statement addressed to the caller, unless the law says no by now."""
        with self._recording(region):
            outgoing = self._hub.outbox.addressed(recipient=region, digest=digest)
            require_permitted(self._hub, outgoing)
            return outgoing.envelope

    def open_payload(self, region: RegionId, digest: Digest) -> OpenPayload:
        """A payload that a statement to the caller carries, unless the law says no by now."""
        with self._recording(region):
            outgoing = self._hub.outbox.addressed_with(recipient=region, payload=digest)
            if outgoing is None:
                raise _refuse(
                    "not-addressed-to-you", f"no statement to {region} carries payload {digest}"
                )
            require_permitted(self._hub, outgoing)
            for path in (self._hub.spool.payload(digest), self._hub.spool.model(digest)):
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    return OpenPayload(fd=fd, size_bytes=os.fstat(fd).st_size)
            raise _refuse("gone", f"payload {digest} is no longer kept")

    # ── log ──

    def checkpoint(self, region: RegionId) -> str:
        return self._hub.publication.note()

    def disclosure(self, region: RegionId, digest: Digest) -> bytes:
        """Proof of the release record behind a release or snapshot statement to the caller.

        It is the same record for every region, under the best checkpoint that covers it.
        """
        hub = self._hub
        with self._recording(region):
            outgoing = hub.outbox.addressed(recipient=region, digest=digest)
            release = hub.journal.release_of_round(outgoing.lineage, outgoing.round)
            if outgoing.kind not in ("release", "snapshot") or release is None:
                raise _refuse("no-release", f"{outgoing.kind} {digest} is of no release")
            if release.log_index is None:
                raise _refuse(
                    "no-release",
                    f"{outgoing.lineage} round {outgoing.round} is the lineage's start, which the "
                    "agreement names and no log entry released",
                )
        return prove(hub.region.log, release.log_index, hub.publication.best(release.log_index))

    def consistency(self, region: RegionId, *, old: int, new: int) -> LogProof:
        with self._recording(region):
            signed = self._hub.publication.newest_size()
            if not old <= new <= signed:
                raise _refuse(
                    "malformed",
                    f"expected sizes in order, of at most {signed} entries, got {old} and {new}",
                )
        hashes = self._hub.region.log.consistency(old, new)
        return LogProof(hashes=tuple(each.hex() for each in hashes))

    def cosign(self, region: RegionId, line: str) -> None:
        """Keep a witness's cosignature; when a majority has come, whoever waits for it looks again.

        Raises: Refused (recorded) when it does not hold.
        """
        with self._recording(region):
            majority = self._hub.publication.cosign(line)
        if majority:
            for lineage in self._hub.region.agreement.terms.lineages:
                self._hub.changes.announce(LineageId(lineage.id))

    # ── refusals before any of these ──

    def refuse_request(self, region: RegionId, detail: str) -> None:
        """Record a request that was no request of ours: an unknown one, too long, or cut short."""
        with contextlib.suppress(Refused), self._recording(region):
            raise _refuse("malformed", detail)

    def refuse_connection(self, region: RegionId, detail: str) -> None:
        """Record that a connection was closed before its first byte was read."""
        refused = Refused(stage="connect", reason="untrusted-peer", detail=detail)
        self._hub.refusals.record(self._hub.region, refused, counterparty=region)

    # ── shared ──

    def _submitted(self, region: RegionId, round_: Round) -> bool:
        return any(
            submission.region == region and submission.receipt is not None
            for submission in self._hub.inbox.submissions(round_.lineage, round_.round)
        )

    def _recording(self, region: RegionId, envelope: bytes = b"") -> AbstractContextManager[None]:
        return intake.recording(self._hub, region, envelope, stage="serve")


def _lineage(hub: Hub, region: RegionId, lineage: LineageId, *, stage: str) -> Lineage:
    """The terms of a lineage of the caller's; whether there are others is no caller's business."""
    for terms in hub.region.agreement.terms.lineages:
        if terms.id == lineage and region in terms.recipients:
            return terms
    raise Refused(
        stage=stage,
        reason="not-a-recipient",
        detail=f"{region} receives no releases of lineage {lineage}",
    )


def _digest(outgoing: Outgoing | None) -> str | None:
    return None if outgoing is None else outgoing.digest


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="serve", reason=reason, detail=detail)
