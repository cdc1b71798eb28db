"""The hub's answers to every border request: who may know what, and when."""

from __future__ import annotations

import os
from collections.abc import Callable

from ringfence.coordinator import intake
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.journal import Round
from ringfence.coordinator.release import deliver_snapshot
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Error, Refused
from ringfence.core.ids import Digest, LineageId, RegionId
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
                for signer, envelope in self._hub.journal.signatures(agreement).items()
            },
        )

    def accept_signature(self, region: RegionId, envelope: bytes) -> AgreementView:
        """Take the caller's signature; raises `Refused` when it signs another agreement."""
        try:
            check_signature(self._hub.region.agreement, region, envelope)
        except Error as error:
            raise self._refused(error, region) from error
        agreement = self._hub.region.agreement.digest
        if self._hub.journal.signatures(agreement).get(region) != envelope:
            self._hub.journal.keep_signature(agreement=agreement, region=region, envelope=envelope)
            for line in self._hub.region.agreement.terms.lineages:
                self._hub.changes.announce(LineageId(line.id))
        return self.agreement_view(region)

    # ── lineages ──

    def view(self, region: RegionId, lineage: LineageId) -> LineageView:
        """What `region` may know of `lineage` now."""
        hub = self._hub
        version = hub.changes.version(lineage)  # read first: a change in between shows next time
        terms = hub.region.agreement.lineage(lineage)
        if region not in terms.recipients:
            raise self._refused(
                Refused(
                    stage="serve",
                    reason="not-a-recipient",
                    detail=f"{region} receives no releases of lineage {lineage}",
                ),
                region,
            )
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
            candidate=self._addressed(region, "candidate", round_),
            release=self._newest_release(region, round_),
            checkpoint=hub.publication.note(),
        )

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        """Call back after every change of a lineage."""
        self._hub.changes.subscribe(callback)

    def snapshot(self, region: RegionId, lineage: LineageId) -> bytes:
        """Statement of the newest release's whole model, addressed to the caller."""
        try:
            return deliver_snapshot(self._hub, region, lineage).envelope
        except Refused as refused:
            raise self._refused(refused, region) from refused

    # ── statements and payloads ──

    def offer(self, region: RegionId, envelope: bytes) -> OfferReply:
        return intake.offer(self._hub, region, envelope)

    def begin_upload(self, region: RegionId, statement: Digest, chunk: int) -> intake.Upload:
        return intake.begin_upload(self._hub, region, statement, chunk)

    def accept_receipt(self, region: RegionId, envelope: bytes) -> None:
        intake.take_receipt(self._hub, region, envelope)

    def statement(self, region: RegionId, digest: Digest) -> bytes:
        """A statement addressed to the caller."""
        return self._hub.journal.addressed(recipient=region, digest=digest).envelope

    def open_payload(self, region: RegionId, digest: Digest) -> OpenPayload:
        """A payload that a statement to the caller carries."""
        if not self._hub.journal.may_fetch(recipient=region, payload=digest):
            raise self._refused(
                Refused(
                    stage="serve",
                    reason="not-addressed-to-you",
                    detail=f"no statement to {region} carries payload {digest}",
                ),
                region,
            )
        for path in (self._hub.spool.payload(digest), self._hub.spool.model(digest)):
            if path.exists():
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                return OpenPayload(fd=fd, size_bytes=os.fstat(fd).st_size)
        raise Refused(stage="serve", reason="gone", detail=f"payload {digest} is no longer kept")

    # ── log ──

    def checkpoint(self, region: RegionId) -> str:
        return self._hub.publication.note()

    def disclosure(self, region: RegionId, digest: Digest) -> bytes:
        """Proof that the log holds our statement to the caller: its entry, salt and path."""
        outgoing = self._hub.journal.addressed(recipient=region, digest=digest)
        return prove(self._hub.region.log, outgoing.log_index, self._hub.publication.note())

    def consistency(self, region: RegionId, *, old: int, new: int) -> LogProof:
        hashes = self._hub.region.log.consistency(old, new)
        return LogProof(hashes=tuple(each.hex() for each in hashes))

    def cosign(self, region: RegionId, line: str) -> None:
        if self._hub.publication.cosign(line):
            for lineage in self._hub.region.agreement.terms.lineages:
                self._hub.changes.announce(LineageId(lineage.id))

    # ── refusals of strangers ──

    def refuse_connection(self, region: RegionId, detail: str) -> None:
        """Record that a connection was closed before its first byte was read."""
        self._refused(Refused(stage="connect", reason="untrusted-peer", detail=detail), region)

    # ── shared ──

    def _submitted(self, region: RegionId, round_: Round) -> bool:
        return any(
            submission.region == region and submission.receipt is not None
            for submission in self._hub.journal.submissions(round_.lineage, round_.round)
        )

    def _addressed(self, region: RegionId, kind: str, round_: Round) -> str | None:
        outgoing = self._hub.journal.addressed_of(
            recipient=region, kind=kind, lineage=round_.lineage, round_=round_.round
        )
        return None if outgoing is None else outgoing.digest

    def _newest_release(self, region: RegionId, round_: Round) -> str | None:
        release = self._hub.journal.release(round_.lineage)
        if release is None or release.round == 0:
            return None
        outgoing = self._hub.journal.addressed_of(
            recipient=region, kind="release", lineage=round_.lineage, round_=release.round
        )
        return None if outgoing is None else outgoing.digest

    def _refused(self, error: Error, region: RegionId) -> Refused:
        refused = (
            error
            if isinstance(error, Refused)
            else Refused(stage="serve", reason="malformed", detail=str(error))
        )
        self._hub.region.record_refusal(refused, counterparty=region)
        return refused
