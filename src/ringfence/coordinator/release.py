"""What the hub hands to regions: candidates, releases and snapshots, each a crossing of its own."""

from __future__ import annotations

import logging

from ringfence.coordinator.hub import Hub
from ringfence.coordinator.journal import Candidate, Outgoing, Release, Round
from ringfence.core.artifacts import Declaration, Input, Payload, payload_of, statement_digest
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.core.errors import Refused
from ringfence.core.ids import LineageId, RegionId
from ringfence.crossing.decide import Draft, decide
from ringfence.crossing.statements import record_intent, sign

_log = logging.getLogger(__name__)


def deliver_candidate(hub: Hub, round_: Round, candidate: Candidate) -> None:
    """Address the merged update to every region of the lineage that the law lets have it."""
    draft = Draft(
        kind="candidate",
        lineage=round_.lineage,
        round=round_.round,
        parent=round_.parent,
        model=candidate.model,
        layout=hub.region.agreement.update_layout.digest,
        codec=hub.region.agreement.terms.codecs.releases,
        payload=candidate.payload,
        inputs=_ancestry(round_, candidate),
        jurisdictions=candidate.jurisdictions,
    )
    _deliver(hub, draft)


def deliver_release(hub: Hub, round_: Round, candidate: Candidate) -> None:
    """Promote the candidate: a statement that names its model and resends nothing."""
    draft = Draft(
        kind="release",
        lineage=round_.lineage,
        round=round_.round,
        parent=round_.parent,
        model=candidate.model,
        layout=hub.region.agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=_ancestry(round_, candidate),
        jurisdictions=candidate.jurisdictions,
    )
    _deliver(hub, draft)


def deliver_snapshot(hub: Hub, recipient: RegionId, lineage: LineageId) -> Outgoing:
    """Address the whole model of the newest release to a region that joins or fell behind.

    Raises: Refused when the law, or the lineage's terms, do not let `recipient` have it.
    """
    terms = hub.region.agreement.lineage(lineage)
    release = hub.journal.release(lineage)
    if recipient not in terms.recipients or release is None:
        raise Refused(
            stage="snapshot",
            reason="not-a-recipient",
            detail=f"{recipient} receives no releases of lineage {lineage}",
        )
    standing = hub.journal.addressed_of(
        recipient=recipient, kind="snapshot", lineage=lineage, round_=release.round
    )
    if standing is not None:
        return standing
    draft = Draft(
        kind="snapshot",
        lineage=lineage,
        round=release.round,
        parent=release.model,
        model=release.model,
        layout=hub.region.agreement.model_layout.digest,
        codec="float32",
        payload=_snapshot_payload(hub, release),
        inputs=(),
        jurisdictions=release.jurisdictions,
    )
    with hub.lock:
        return _address(hub, draft, recipient)


def _deliver(hub: Hub, draft: Draft) -> None:
    """Address `draft` to every recipient; one region's refusal does not stop the others."""
    for recipient in hub.region.agreement.lineage(draft.lineage).recipients:
        if recipient == hub.region.id:
            continue
        try:
            _address(hub, draft, RegionId(recipient))
        except Refused as refused:
            _log.warning("%s for %s: %s", draft.kind, recipient, refused)


def _address(hub: Hub, draft: Draft, recipient: RegionId) -> Outgoing:
    """Decide, sign, record, and only then let the recipient fetch it.

    A step that is repeated after a crash finds the statement that it made before.
    """
    standing = hub.journal.addressed_of(
        recipient=recipient, kind=draft.kind, lineage=draft.lineage, round_=draft.round
    )
    if standing is not None and standing.payload == _payload_name(draft.payload):
        return standing
    declaration: Declaration = decide(hub.region, draft, recipient=recipient)
    envelope = sign(hub.region, declaration)
    outgoing = Outgoing(
        digest=statement_digest(envelope),
        recipient=recipient,
        kind=draft.kind,
        lineage=draft.lineage,
        round=draft.round,
        envelope=envelope,
        payload=_payload_name(draft.payload),
        log_index=record_intent(hub.region, declaration, envelope),
        receipt=None,
    )
    # If the process dies here, the log holds an intent that nobody could fetch; the step is
    # repeated under a statement of its own.
    hub.journal.address(outgoing)
    return outgoing


def _ancestry(round_: Round, candidate: Candidate) -> tuple[Input, ...]:
    """The base and every update that went in, by payload digest, in order of region id."""
    updates = tuple(Input(role="update", digest=digest) for digest in candidate.updates)
    return (Input(role="base", digest=round_.parent), *updates)


def _snapshot_payload(hub: Hub, release: Release) -> Payload:
    """The model file itself is the payload: a model's digest is that of its file."""
    hasher = ChunkHasher()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with hub.spool.model(release.model).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
    return payload_of(hasher.finish())


def _payload_name(payload: Payload | None) -> str:
    return "" if payload is None else payload.digest
