"""What regions bring to the hub: statements, payloads, measurements and receipts.

    1 verify    the signature, under the key that the agreement names for whom TLS proved
    2 member    of a lineage that there is; others learn nothing of it
    3 judge     the packs of sender, hub and lineage: may this be imported, may it be merged
    4 round     the one that runs; what arrived before gets its receipt again
    5 check     tags, facts, metrics, examples, parent, layout, codec and size as agreed; a verdict
                that holds; clocks that agree: before any payload
    6 enter     one payload a region and round; another one is equivocation
    7 spool     the law is asked again; then chunk by chunk, each verified as it arrives
    8 content   the agreed tensors, finite, within the clip bound
    9 receipt   recorded in the hub's log, then signed
Every refusal names its step, is recorded, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from ringfence.codec.format import PayloadFormat
from ringfence.coordinator.content import check_update
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.inbox import Evaluation, Submission
from ringfence.coordinator.journal import Round
from ringfence.core.artifacts import Declaration, Payload, statement_digest
from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import FormatError, LayoutError, NotFiniteError, Refused, TrustError
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.metrics import check_metrics
from ringfence.core.terms import Lineage
from ringfence.core.wire import OfferReply
from ringfence.crossing.ancestry import least_tags, unfounded_tags
from ringfence.crossing.decide import (
    check_clock,
    check_facts,
    check_verdict_time,
    give_back,
    judge_reserved,
)
from ringfence.crossing.law import Ruling, judge
from ringfence.crossing.spool import Arriving
from ringfence.crossing.statements import (
    issue_receipt,
    open_receipt,
    open_statement,
    record_receipt,
)
from ringfence.policy.words import Action

_RENEWAL_S = 60.0
"""A newer statement of what arrived before replaces one that is older than this by so much."""


def offer(hub: Hub, sender: RegionId, envelope: bytes) -> OfferReply:
    """Take a statement; the reply says from which chunk on its payload should come.

    Raises: Refused (recorded) when any of the steps above says no.
    """
    with recording(hub, sender, envelope):
        declaration = open_statement(hub.region, envelope, sender=sender)
        match declaration.kind:
            case "update":
                return _offer_update(hub, declaration, envelope)
            case "metrics":
                return _offer_metrics(hub, declaration, envelope)
            case _:
                raise _refuse("kind", f"a region sends updates and metrics, not {declaration.kind}")


@contextmanager
def recording(
    hub: Hub, sender: RegionId, envelope: bytes = b"", *, stage: str = "intake"
) -> Iterator[None]:
    """Write whatever is refused inside into the log, and let it travel up.

    What the sender could not have meant is a refusal too, at `stage`.
    """
    try:
        yield
    except (Refused, FormatError, TrustError, LayoutError) as error:
        refused = (
            error
            if isinstance(error, Refused)
            else Refused(stage=stage, reason="malformed", detail=str(error))
        )
        hub.refusals.record(hub.region, refused, counterparty=sender, envelope=envelope)
        if refused is error:
            raise
        raise refused from error


class Upload:
    """One payload on its way in, for the border server."""

    def __init__(self, hub: Hub, submission: Submission, declaration: Declaration) -> None:
        self._hub = hub
        self._submission = submission
        self._declaration = declaration
        self._payload = _payload(declaration)
        self._arriving: Arriving = hub.spool_of(submission.region).arriving(self._payload)
        self.next_chunk = self._arriving.next_chunk

    @property
    def size_bytes(self) -> int:
        """Bytes still to come from `next_chunk` to the payload's end."""
        chunked = self._payload.chunked()
        return sum(chunked.chunk_size(i) for i in range(self.next_chunk, len(chunked.chunks)))

    def write_chunk(self, index: int, chunk: memoryview) -> None:
        """Verify and store one chunk.

        Raises: Refused (recorded) when its bytes are not the ones that the statement signed.
        """
        with self._recording():
            try:
                self._arriving.write(index, chunk)
            except FormatError as error:
                self._arriving.close()
                raise _refuse("payload", str(error)) from error

    def finish(self) -> bytes:
        """Every chunk is here: look inside, record the arrival, sign the receipt, count it.

        Whom it carries is reserved before the law is asked a last time: updates of several
        companies may pass a line together, and only their recipient sees them all (section 8).
        Raises: Refused (recorded) when the file is not the agreed tensors, not finite, or too long.
        """
        law = self._hub.region.law
        with self._recording():
            self._check_content(self._arriving.finish())
            ruling, _ = judge_reserved(law, self._declaration, Action.IMPORT, Action.MERGE)
            try:
                return _receive(self._hub, self._submission, self._declaration, ruling)
            finally:
                give_back(law, self._declaration)  # nothing, once the receipt has settled it

    def _check_content(self, path: Path) -> None:
        try:
            check_update(self._hub.region.agreement, path)
        except (FormatError, LayoutError, NotFiniteError) as error:
            # Its bytes are the signed ones, so no other attempt would bring better ones.
            path.unlink(missing_ok=True)
            raise _refuse("content", str(error)) from error
        except Refused:
            path.unlink(missing_ok=True)
            raise

    def _recording(self) -> AbstractContextManager[None]:
        return recording(self._hub, RegionId(self._submission.region), self._submission.envelope)

    def abort(self) -> None:
        """The connection was cut; the chunks that were written stay."""
        self._arriving.close()


def begin_upload(hub: Hub, sender: RegionId, statement: Digest, chunk: int) -> Upload:
    """Start to take the payload of the statement that `sender` offered, at the chunk it was told.

    The statement names it, since two rounds may have equal payloads.  The law is asked again: it
    may have changed since the offer.
    Raises: Refused, or FormatError when the chunk is not the one that is due; both are recorded.
    """
    submission = hub.inbox.submission_of(region=sender, statement=statement)
    envelope = submission.envelope if submission is not None else b""
    with recording(hub, sender, envelope):
        if submission is None:
            raise _refuse("not-offered", f"{sender} has no standing offer {statement}; offer it")
        declaration = open_statement(hub.region, submission.envelope, sender=sender)
        _require_taking(_current_round(hub, declaration))
        check_verdict_time(hub.region.law, declaration, stage="intake")
        _ask_law(hub, declaration)
        upload = Upload(hub, submission, declaration)
    if chunk != upload.next_chunk:
        upload.abort()
        said = (
            f"payload of {statement}: expected the transfer to start at chunk {upload.next_chunk}, "
            f"got {chunk}; offer the statement again to learn where to go on"
        )
        hub.refusals.record(
            hub.region, _refuse("wrong-chunk", said), counterparty=sender, envelope=envelope
        )
        # Not an outcome but a line that lost count: the sender offers again and goes on.
        raise FormatError(said)
    return upload


def take_receipt(hub: Hub, sender: RegionId, receipt: bytes) -> None:
    """Keep a region's receipt for a statement of ours; the first one counts.

    INVARIANT: it is recorded only once it is known to be for what we sent.
    Raises: Refused (recorded).
    """
    with recording(hub, sender, receipt):
        note = open_receipt(hub.region, receipt, counterparty=sender)
        with hub.lock:
            outgoing = hub.outbox.addressed(recipient=sender, digest=note.statement)
            if outgoing.receipt is not None:
                return
            record_receipt(
                hub.region, note, receipt, statement=outgoing.digest, payload=outgoing.payload
            )
            hub.outbox.acknowledge(digest=note.statement, receipt=receipt)


def recheck_spool(hub: Hub, round_: Round) -> None:
    """After a start: payloads of an unfinished round that no longer verify are asked for again.

    Payload bytes are not forced to disk before their receipt is signed; a machine that lost power
    may have kept the receipt and lost the bytes.
    """
    for submission in hub.inbox.submissions(round_.lineage, round_.round):
        if submission.receipt is None:
            continue
        declaration = open_statement(
            hub.region, submission.envelope, sender=RegionId(submission.region)
        )
        spool = hub.spool_of(submission.region)
        path = spool.payload(submission.payload)
        if not spool.holds(_payload(declaration)):
            path.unlink(missing_ok=True)
            hub.inbox.lose_payload(submission)


# ── updates ──


def _offer_update(hub: Hub, declaration: Declaration, envelope: bytes) -> OfferReply:
    with hub.lock:
        lineage = _require_lineage(hub, declaration)
        _check_metrics(hub, declaration)
        # The law first: its verdict names the rule, where the agreement would only say no.
        ruling = _ask_law(hub, declaration)
        if declaration.sender not in lineage.contributors:
            raise _refuse(
                "not-a-contributor",
                f"{declaration.sender} is no contributor of lineage {lineage.id}",
            )
        round_ = _current_round(hub, declaration)
        before = hub.inbox.submission(round_.lineage, round_.round, declaration.sender)
        digest = statement_digest(envelope)
        if before is None or before.receipt is None:
            _require_taking(round_)
        elif before.statement == digest:
            return OfferReply(next_chunk=None, receipt=before.receipt.decode())
        parent = hub.journal.release(declaration.lineage)
        _check_declared(hub, declaration, inherited=parent.jurisdictions if parent else ())
        _check_update(hub, declaration, round_)
        standing = hub.inbox.offer(
            Submission(
                lineage=declaration.lineage,
                round=declaration.round,
                region=declaration.sender,
                statement=digest,
                envelope=envelope,
                payload=_payload_digest(declaration),
                receipt=None,
            )
        )
        if standing.receipt is not None:
            receipt = _renew(hub, round_, standing, declaration, envelope, ruling)
            return OfferReply(next_chunk=None, receipt=receipt.decode())
    # Without the lock: to count what is here of a payload may mean to read all of it.
    arriving = hub.spool_of(standing.region).arriving(_payload(declaration))
    try:
        return OfferReply(next_chunk=arriving.next_chunk, receipt=None)
    finally:
        arriving.close()


def _renew(
    hub: Hub,
    round_: Round,
    standing: Submission,
    declaration: Declaration,
    envelope: bytes,
    ruling: Ruling,
) -> bytes:
    """The receipt for another statement over a payload that arrived before.

    The sender lost the first receipt and signed anew.  Once merging has begun, or when it asks
    faster than an honest one would, it gets the receipt of the statement that stands.
    """
    assert standing.receipt is not None
    known = open_statement(hub.region, standing.envelope, sender=RegionId(standing.region))
    if round_.state not in ("open", "collecting") or not _is_renewal(known, declaration):
        return standing.receipt
    receipt = issue_receipt(hub.region, declaration, envelope, ruling)
    hub.inbox.renew_submission(
        replace(standing, statement=statement_digest(envelope), envelope=envelope, receipt=receipt)
    )
    return receipt


def _is_renewal(before: Declaration, after: Declaration) -> bool:
    """Whether `after` says the same as `before`, a while later."""
    later_s = from_rfc3339(after.issued) - from_rfc3339(before.issued)
    same = msgspec.structs.replace(after, issued=before.issued, verdict=before.verdict)
    return same == before and later_s >= _RENEWAL_S


def _check_metrics(hub: Hub, declaration: Declaration) -> None:
    """Before the law is asked, which knows the cohorts of agreed metrics only."""
    check_metrics(hub.region.agreement, declaration.metrics, examples=declaration.examples)


def _check_declared(hub: Hub, declaration: Declaration, *, inherited: tuple[str, ...]) -> None:
    """What must hold of every statement that a region offers; `inherited` are its base's tags."""
    law = hub.region.law
    _check_tags(hub, declaration, inherited)
    check_facts(law, declaration, stage="intake")
    check_verdict_time(law, declaration, stage="intake")
    check_clock(law, declaration, stage="intake")


def _ask_law(hub: Hub, declaration: Declaration) -> Ruling:
    """The permit of the import; raises `Refused` unless this may be imported and merged now."""
    ruling = judge(hub.region.law, declaration, action=Action.IMPORT)
    judge(hub.region.law, declaration, action=Action.MERGE)
    return ruling


def may_merge(hub: Hub, submission: Submission) -> bool:
    """Ask the law again about an update that arrived; a refusal is recorded."""
    sender = RegionId(submission.region)
    declaration = open_statement(hub.region, submission.envelope, sender=sender)
    try:
        # Both: what may no longer come in may not be worked into a release either.
        _ask_law(hub, declaration)
    except Refused as refused:
        hub.refusals.record(
            hub.region,
            refused,
            counterparty=sender,
            lineage=submission.lineage,
            round_=submission.round,
            envelope=submission.envelope,
        )
        return False
    return True


def _check_update(hub: Hub, declaration: Declaration, round_: Round) -> None:
    agreement = hub.region.agreement
    _equal("parent", round_.parent, declaration.parent)
    _equal("model", "", declaration.model)
    _equal("layout", agreement.update_layout.digest, declaration.layout)
    _equal("codec", agreement.terms.codecs.updates, declaration.codec)
    most = agreement.region(declaration.sender).examples
    if declaration.payload is None or declaration.examples < 1:
        raise _refuse("incomplete", "an update needs a payload and at least one example")
    if declaration.examples > most:
        raise _refuse(
            "examples",
            f"expected at most {most} examples of {declaration.sender}, as agreed, got "
            f"{declaration.examples}",
        )
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    _equal("size", str(form.size_bytes), str(declaration.payload.size_bytes))


def _check_tags(hub: Hub, declaration: Declaration, inherited: tuple[str, ...]) -> None:
    """Tags follow ancestry: nothing declares less than its sender and its base bring, or more."""
    agreement = hub.region.agreement
    lineage = agreement.lineage(declaration.lineage)
    least = least_tags(agreement, declaration.sender, inherited)
    declared = set(declaration.jurisdictions)
    if not least <= declared:
        raise _refuse(
            "tags-missing",
            f"expected at least the tags {sorted(least)}, got {sorted(declared)}",
        )
    if barred := declared.intersection(lineage.bars):
        raise _refuse(
            "barred-tag",
            f"lineage {lineage.id} bars {sorted(barred)}",
        )
    if more := unfounded_tags(agreement, declaration, inherited):
        raise _refuse(
            "tags-unfounded",
            f"expected the tags {sorted(least)}, as no regional state is declared that could bring "
            f"others; got {sorted(more)} besides",
        )


def _receive(hub: Hub, submission: Submission, declaration: Declaration, ruling: Ruling) -> bytes:
    with hub.lock:
        standing = hub.inbox.submission_of(region=submission.region, statement=submission.statement)
        if standing is None:
            raise _refuse("not-offered", "another statement has taken this one's place; offer it")
        if standing.receipt is not None:
            return standing.receipt
        _require_taking(_current_round(hub, declaration))
        receipt = issue_receipt(hub.region, declaration, submission.envelope, ruling)
        # If the process dies here, the log holds an arrival without a counted receipt; the region
        # offers the same statement again and gets a second, equally true one.
        hub.inbox.receive(submission, receipt)
    hub.changes.announce(LineageId(submission.lineage))
    return receipt


# ── measurements ──


def _offer_metrics(hub: Hub, declaration: Declaration, envelope: bytes) -> OfferReply:
    with hub.lock:
        lineage = _require_lineage(hub, declaration)
        if declaration.sender not in lineage.recipients:
            raise _refuse("not-a-recipient", f"{declaration.sender} is not of {lineage.id}")
        round_ = _current_round(hub, declaration)
        standing = hub.inbox.evaluations(round_.lineage, round_.round).get(declaration.sender)
        if standing is not None and standing.envelope == envelope:
            return OfferReply(next_chunk=None, receipt=standing.receipt.decode())
        if round_.state != "evaluating" or round_.candidate is None:
            raise _refuse("late", f"{round_.lineage} round {round_.round} is {round_.state}")
        _equal("model", round_.candidate.model, declaration.parent)
        _equal("layout", hub.region.agreement.update_layout.digest, declaration.layout)
        _equal("codec", "none", declaration.codec)
        _check_metrics(hub, declaration)
        _check_measured(lineage, declaration)
        ruling = judge(hub.region.law, declaration, action=Action.IMPORT)
        _check_declared(hub, declaration, inherited=round_.candidate.jurisdictions)
        if standing is not None:
            known = open_statement(hub.region, standing.envelope, sender=RegionId(standing.region))
            if not _is_renewal(known, declaration):
                raise _refuse(
                    "equivocation", f"{declaration.sender} has measured this candidate already"
                )
        receipt = issue_receipt(hub.region, declaration, envelope, ruling)
        evaluation = Evaluation(
            region=declaration.sender,
            envelope=envelope,
            metrics=declaration.metrics,
            receipt=receipt,
        )
        keep = hub.inbox.evaluate if standing is None else hub.inbox.renew_evaluation
        keep(lineage=round_.lineage, round_=round_.round, evaluation=evaluation)
    hub.changes.announce(LineageId(round_.lineage))
    return OfferReply(next_chunk=None, receipt=receipt.decode())


def _check_measured(lineage: Lineage, declaration: Declaration) -> None:
    """Exactly the number that the gate asks for: one less would stop it, one more says too much."""
    wanted = set() if lineage.gate is None else {lineage.gate.metric}
    if missing := wanted - set(declaration.metrics):
        raise _refuse("incomplete", f"a measurement needs the gate's metric {sorted(missing)}")
    if set(declaration.metrics) - wanted or not wanted:
        raise _refuse(
            "unasked-metric",
            f"expected the gate's metric {sorted(wanted)} and no other; nobody asked for more",
        )


# ── shared ──


def _require_lineage(hub: Hub, declaration: Declaration) -> Lineage:
    known = {line.id: line for line in hub.region.agreement.terms.lineages}
    if declaration.lineage not in known:
        raise _refuse("wrong-lineage", f"{declaration.lineage} is no lineage of the agreement")
    return known[declaration.lineage]


def _current_round(hub: Hub, declaration: Declaration) -> Round:
    round_ = hub.journal.current_round(declaration.lineage)
    if round_ is None or round_.round != declaration.round:
        want = "none" if round_ is None else str(round_.round)
        raise _refuse(
            "wrong-round",
            f"{declaration.lineage}: expected round {want}, got {declaration.round}",
        )
    return round_


def _require_taking(round_: Round) -> None:
    if round_.state not in ("open", "collecting"):
        raise _refuse(
            "late", f"{round_.lineage} round {round_.round} is {round_.state}; wait for the next"
        )


def _equal(field: str, want: str, got: str) -> None:
    if want != got:
        raise _refuse(f"wrong-{field}", f"expected {field} {want}, got {got[:200]}")


def _payload(declaration: Declaration) -> Payload:
    assert declaration.payload is not None  # `_check_update` refused any other
    return declaration.payload


def _payload_digest(declaration: Declaration) -> str:
    return _payload(declaration).digest


def _refuse(reason: str, detail: str, rules: tuple[str, ...] = ()) -> Refused:
    return Refused(stage="intake", reason=reason, detail=detail, rules=rules)
