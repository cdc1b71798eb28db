"""What the hub hands to regions: candidates, releases and snapshots, each a crossing of its own.

A statement is decided, signed and recorded before its recipient can fetch it, and judged again each
time that it, or its payload, is asked for.  When its verdict or its agreement is no longer the one
in force, another takes its place.  An acknowledged one stays as it is, until it is asked for again.
"""

from __future__ import annotations

import logging

from ringfence.coordinator.hub import Hub
from ringfence.coordinator.journal import Candidate, Release, Round
from ringfence.coordinator.outbox import Outgoing
from ringfence.core.artifacts import Declaration, Input, Payload, payload_of, statement_digest
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Refused, StateError
from ringfence.core.ids import LineageId, RegionId
from ringfence.crossing.decide import Draft, decide, verdict_stands
from ringfence.crossing.entries import Entry
from ringfence.crossing.spool import hash_file
from ringfence.crossing.statements import open_own, record_intent, sign

_log = logging.getLogger(__name__)


def deliver_candidate(hub: Hub, round_: Round, candidate: Candidate) -> None:
    """Address the merged update to every region of the lineage that the law lets have it."""
    _deliver(hub, _candidate_draft(hub, round_, candidate))


def record_release(hub: Hub, round_: Round, candidate: Candidate) -> int:
    """Write the round's one release record into the log, before any region hears of the release.

    Every region is shown this entry, so that all are told of one model, made of the same updates
    and measured alike.  Returns its index; after a crash that of the record written before.
    """
    known = _recorded_release(hub, round_, candidate)
    if known is not None:
        return known
    gate = hub.region.agreement.lineage(round_.lineage).gate
    evaluations = hub.inbox.evaluations(round_.lineage, round_.round)
    return hub.region.record(
        Entry(
            kind="release",
            at=to_rfc3339(hub.region.clock()),
            counterparty=hub.region.id,
            lineage=round_.lineage,
            round=round_.round,
            subject=candidate.model,
            inputs=(
                round_.parent,
                candidate.payload.digest,
                *(
                    submission.statement
                    for submission in hub.inbox.submissions(round_.lineage, round_.round)
                    if submission.region in round_.contributors
                ),
            ),
            measurements=tuple(
                sorted(
                    f"{region}={evaluation.metrics[gate.metric]}"
                    for region, evaluation in evaluations.items()
                    if gate is not None
                )
            ),
        )
    )


def deliver_release(hub: Hub, round_: Round, candidate: Candidate) -> None:
    """Promote the candidate: a statement that names its model and resends nothing."""
    _deliver(hub, _release_draft(hub, round_, candidate))


def standing_candidate(hub: Hub, recipient: RegionId, round_: Round) -> Outgoing | None:
    """The newest candidate as `recipient` may have it now; None when the law does not let it.

    Before the round has one, it is that of the newest release: who did not look while it was
    evaluated (a lineage without a gate does not wait) still fetches an update, no whole model.
    """
    if round_.candidate is not None and round_.state == "evaluating":
        return _offered(hub, _candidate_draft(hub, round_, round_.candidate), recipient)
    release = hub.journal.release(round_.lineage)
    made = 0 if release is None else release.round
    return hub.outbox.addressed_of(
        recipient=recipient,
        kind="candidate",
        lineage=round_.lineage,
        round_=made if round_.candidate is None else round_.round,
    )


def standing_release(hub: Hub, recipient: RegionId, lineage: LineageId) -> Outgoing | None:
    """The newest release's statement as `recipient` may have it now; None when there is none.

    A region that was not there when it was released gets a statement of its own.
    """
    release = hub.journal.release(lineage)
    if release is None or release.round == 0:
        return None
    round_ = hub.journal.round(lineage, release.round)
    if round_ is None or round_.candidate is None:
        raise StateError(f"{lineage}: release {release.round} without the round that made it")
    return _offered(hub, _release_draft(hub, round_, round_.candidate), recipient)


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
    draft = Draft(
        kind="snapshot",
        lineage=lineage,
        round=release.round,
        parent=release.model,
        model=release.model,
        layout=hub.region.agreement.model_layout.digest,
        codec="float32",
        payload=_snapshot_payload(hub, recipient, release),
        inputs=(),
        jurisdictions=release.jurisdictions,
    )
    return _address(hub, draft, recipient)


def require_permitted(hub: Hub, outgoing: Outgoing) -> None:
    """Ask the law again before a statement or its payload is sent.

    Raises: Refused when it says no now, or when the verdict that was signed no longer stands: the
    next look at the lineage then finds another statement.
    """
    if not verdict_stands(hub.region, open_own(hub.region, outgoing.envelope)):
        hub.outbox.forget_receipt(outgoing.digest)
        hub.changes.announce(LineageId(outgoing.lineage))
        raise Refused(
            stage="serve",
            reason="verdict-expired",
            detail=f"the verdict of {outgoing.kind} {outgoing.digest} no longer stands; ask for "
            "the lineage's view, or for a snapshot, and take the statement in its place",
        )


def _candidate_draft(hub: Hub, round_: Round, candidate: Candidate) -> Draft:
    return Draft(
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


def _release_draft(hub: Hub, round_: Round, candidate: Candidate) -> Draft:
    return Draft(
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


def _deliver(hub: Hub, draft: Draft) -> None:
    """Address `draft` to every recipient; one region's refusal does not stop the others."""
    for recipient in hub.region.agreement.lineage(draft.lineage).recipients:
        if recipient != hub.region.id:
            _offered(hub, draft, RegionId(recipient))


def _offered(hub: Hub, draft: Draft, recipient: RegionId) -> Outgoing | None:
    """The statement of `draft` for a region, or None, recorded, when the law says no."""
    try:
        return _address(hub, draft, recipient)
    except Refused as refused:
        new = hub.refusals.record(
            hub.region,
            refused,
            counterparty=recipient,
            lineage=draft.lineage,
            round_=draft.round,
        )
        if new:
            _log.warning("%s for %s: %s", draft.kind, recipient, refused)
        return None


def _address(hub: Hub, draft: Draft, recipient: RegionId) -> Outgoing:
    """Decide, sign, record, and only then let the recipient fetch it.

    A step that is repeated after a crash finds the statement that it made before.
    Raises: Refused when the law says no.
    """
    with hub.lock:
        standing = hub.outbox.addressed_of(
            recipient=recipient, kind=draft.kind, lineage=draft.lineage, round_=draft.round
        )
        if standing is not None and _serves(hub, standing, draft):
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
        hub.outbox.address(outgoing)
        return outgoing


def _serves(hub: Hub, standing: Outgoing, draft: Draft) -> bool:
    """Whether a statement that was made before still says what `draft` does, lawfully."""
    if standing.payload != _payload_name(draft.payload):
        return False
    if standing.receipt is not None and draft.kind != "snapshot":
        return True
    return verdict_stands(hub.region, open_own(hub.region, standing.envelope))


def _recorded_release(hub: Hub, round_: Round, candidate: Candidate) -> int | None:
    """The record that a former attempt wrote; it can only stand behind the candidate's intents."""
    intents = [
        outgoing.log_index
        for recipient in hub.region.agreement.lineage(round_.lineage).recipients
        if (
            outgoing := hub.outbox.addressed_of(
                recipient=recipient,
                kind="candidate",
                lineage=round_.lineage,
                round_=round_.round,
            )
        )
    ]
    for opening in hub.region.log.openings(min(intents, default=0)):
        entry = Entry.from_bytes(opening.content)
        if (entry.kind, entry.lineage, entry.round, entry.subject) == (
            "release",
            round_.lineage,
            round_.round,
            candidate.model,
        ):
            return opening.index
    return None


def _ancestry(round_: Round, candidate: Candidate) -> tuple[Input, ...]:
    """The base and every update that went in, by payload digest, in order of region id."""
    updates = tuple(Input(role="update", digest=digest) for digest in candidate.updates)
    return (Input(role="base", digest=round_.parent), *updates)


def _snapshot_payload(hub: Hub, recipient: RegionId, release: Release) -> Payload:
    """The model file itself is the payload: a model's digest is that of its file."""
    standing = hub.outbox.addressed_of(
        recipient=recipient, kind="snapshot", lineage=release.lineage, round_=release.round
    )
    if standing is not None and standing.payload == release.model:
        known = open_own(hub.region, standing.envelope).payload
        if known is not None:
            return known
    return payload_of(hash_file(hub.spool.model(release.model)))


def _payload_name(payload: Payload | None) -> str:
    return "" if payload is None else payload.digest
