"""What regions bring to the hub: statements, payloads, measurements and receipts.

    1 verify    the signature, under the key that the agreement names for whom TLS proved
    2 judge     the packs of sender, hub and lineage: may this be imported, may it be merged
    3 check     agreement, kind, lineage, round, parent, layout, codec, size: before any payload
    4 enter     one payload a region and round; another one is equivocation
    5 spool     chunk by chunk, each verified as it arrives
    6 receipt   recorded in the hub's log, then signed
Every refusal is recorded, names its step, and changes nothing else.
"""

from __future__ import annotations

from pathlib import Path

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.coordinator.hub import Hub
from ringfence.coordinator.journal import Evaluation, Round, Submission
from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.errors import (
    Error,
    FormatError,
    LayoutError,
    NotFiniteError,
    Refused,
    TrustError,
)
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.metrics import check_metrics
from ringfence.core.wire import OfferReply
from ringfence.crossing.law import judge
from ringfence.crossing.spool import Arriving
from ringfence.crossing.statements import accept_receipt, issue_receipt, open_statement
from ringfence.policy.words import Action


def offer(hub: Hub, sender: RegionId, envelope: bytes) -> OfferReply:
    """Take a statement; the reply says from which chunk on its payload should come.

    Raises: Refused (recorded) when any of the steps above says no.
    """
    try:
        declaration = open_statement(hub.region, envelope, sender=sender)
        match declaration.kind:
            case "update":
                return _offer_update(hub, declaration, envelope)
            case "metrics":
                return _offer_metrics(hub, declaration, envelope)
            case _:
                raise _refuse("kind", f"a region sends updates and metrics, not {declaration.kind}")
    except (Refused, FormatError, TrustError, LayoutError) as error:
        raise _recorded(hub, error, sender=sender, envelope=envelope) from error


class Upload:
    """One payload on its way in, for the border server."""

    def __init__(self, hub: Hub, submission: Submission, declaration: Declaration) -> None:
        self._hub = hub
        self._submission = submission
        self._declaration = declaration
        assert declaration.payload is not None  # `_check_update` refused any other
        self._payload = declaration.payload
        self._arriving: Arriving = hub.spool_of(submission.region).arriving(declaration.payload)
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
        try:
            self._arriving.write(index, chunk)
        except FormatError as error:
            self._arriving.close()
            raise _recorded(
                self._hub,
                _refuse("payload", str(error)),
                sender=RegionId(self._submission.region),
                envelope=self._submission.envelope,
            ) from error

    def finish(self) -> bytes:
        """Every chunk is here: look inside, record the arrival, sign the receipt, count it.

        Raises: Refused (recorded) when the file is not the agreed tensors, or not finite.
        """
        path = self._arriving.finish()
        try:
            _check_content(self._hub, path)
        except (FormatError, LayoutError, NotFiniteError) as error:
            raise _recorded(
                self._hub,
                _refuse("content", str(error)),
                sender=RegionId(self._submission.region),
                envelope=self._submission.envelope,
            ) from error
        return _receive(self._hub, self._submission, self._declaration)

    def abort(self) -> None:
        """The connection was cut; the chunks that were written stay."""
        self._arriving.close()


def begin_upload(hub: Hub, sender: RegionId, statement: Digest, chunk: int) -> Upload:
    """Start to take the payload of the statement that `sender` offered, at the chunk it was told.

    The statement names it, since two rounds may have equal payloads.
    """
    submission = hub.journal.submission_of(region=sender, statement=statement)
    if submission is None:
        raise _recorded(
            hub,
            _refuse("not-offered", f"{sender} has no standing offer {statement}; offer it first"),
            sender=sender,
        )
    declaration = open_statement(hub.region, submission.envelope, sender=sender)
    _current_round(hub, declaration)
    upload = Upload(hub, submission, declaration)
    if chunk != upload.next_chunk:
        upload.abort()
        raise FormatError(
            f"payload of {statement}: expected the transfer to start at chunk {upload.next_chunk}, "
            f"got {chunk}; offer the statement again to learn where to go on"
        )
    return upload


def take_receipt(hub: Hub, sender: RegionId, receipt: bytes) -> None:
    """Keep a region's receipt for a statement of ours."""
    try:
        note = accept_receipt(hub.region, receipt, counterparty=sender)
        hub.journal.addressed(recipient=sender, digest=note.statement)
    except (Refused, FormatError, TrustError) as error:
        raise _recorded(hub, error, sender=sender) from error
    hub.journal.acknowledge(digest=note.statement, receipt=receipt)


def recheck_spool(hub: Hub, round_: Round) -> None:
    """After a start: payloads of an unfinished round that no longer verify are asked for again.

    Payload bytes are not forced to disk before their receipt is signed; a machine that lost power
    may have kept the receipt and lost the bytes.
    """
    for submission in hub.journal.submissions(round_.lineage, round_.round):
        if submission.receipt is None:
            continue
        declaration = open_statement(
            hub.region, submission.envelope, sender=RegionId(submission.region)
        )
        assert declaration.payload is not None
        spool = hub.spool_of(submission.region)
        path = spool.payload(submission.payload)
        if not spool.holds(declaration.payload):
            path.unlink(missing_ok=True)
            hub.journal.lose_payload(submission)


# ── updates ──


def _offer_update(hub: Hub, declaration: Declaration, envelope: bytes) -> OfferReply:
    with hub.lock:
        round_ = _current_round(hub, declaration)
        # The law first: its verdict names the rule, where the agreement would only say no.
        judge(hub.region.law, declaration, action=Action.IMPORT)
        judge(hub.region.law, declaration, action=Action.MERGE)
        _check_update(hub, declaration, round_)
        standing = hub.journal.offer(
            Submission(
                lineage=declaration.lineage,
                round=declaration.round,
                region=declaration.sender,
                statement=statement_digest(envelope),
                envelope=envelope,
                payload=_payload_digest(declaration),
                receipt=None,
            )
        )
        if standing.receipt is not None:
            return OfferReply(next_chunk=None, receipt=standing.receipt.decode())
        if round_.state not in ("open", "collecting"):
            raise _refuse(
                "late",
                f"{round_.lineage} round {round_.round} is {round_.state}; wait for the next",
            )
        upload = Upload(hub, standing, declaration)
        upload.abort()
        return OfferReply(next_chunk=upload.next_chunk, receipt=None)


def _check_update(hub: Hub, declaration: Declaration, round_: Round) -> None:
    agreement = hub.region.agreement
    lineage = agreement.lineage(declaration.lineage)
    if declaration.sender not in lineage.contributors:
        raise _refuse(
            "not-a-contributor",
            f"{declaration.sender} is no contributor of lineage {lineage.id}",
        )
    _equal("parent", round_.parent, declaration.parent)
    _equal("layout", agreement.update_layout.digest, declaration.layout)
    _equal("codec", agreement.terms.codecs.updates, declaration.codec)
    if declaration.payload is None or declaration.examples < 1:
        raise _refuse("incomplete", "an update needs a payload and at least one example")
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    _equal("size", str(form.size_bytes), str(declaration.payload.size_bytes))
    _check_tags(hub, declaration)


def _check_tags(hub: Hub, declaration: Declaration) -> None:
    """Tags follow ancestry: nothing may declare less than its sender and its parent bring."""
    lineage = hub.region.agreement.lineage(declaration.lineage)
    parent = hub.journal.release(declaration.lineage)
    least: set[str] = {hub.region.agreement.jurisdiction(declaration.sender)}
    if parent is not None and parent.model == declaration.parent:
        least.update(parent.jurisdictions)
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


def _check_content(hub: Hub, path: Path) -> None:
    """Header, scales and values as agreed: a signature does not make a payload well-formed."""
    agreement = hub.region.agreement
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    with PayloadFile(form, path) as payload:
        payload.check_values()


def _receive(hub: Hub, submission: Submission, declaration: Declaration) -> bytes:
    with hub.lock:
        standing = hub.journal.submission_of(
            region=submission.region, statement=submission.statement
        )
        if standing is not None and standing.receipt is not None:
            return standing.receipt
        round_ = _current_round(hub, declaration)
        if round_.state not in ("open", "collecting"):
            raise _recorded(
                hub,
                _refuse("late", f"{round_.lineage} round {round_.round} is {round_.state}"),
                sender=RegionId(submission.region),
                envelope=submission.envelope,
            )
        receipt = issue_receipt(hub.region, declaration, submission.envelope)
        # If the process dies here, the log holds an arrival without a counted receipt; the region
        # offers the same statement again and gets a second, equally true one.
        hub.journal.receive(submission, receipt)
    hub.changes.announce(LineageId(submission.lineage))
    return receipt


# ── measurements ──


def _offer_metrics(hub: Hub, declaration: Declaration, envelope: bytes) -> OfferReply:
    with hub.lock:
        round_ = _current_round(hub, declaration)
        evaluations = hub.journal.evaluations(round_.lineage, round_.round)
        standing = evaluations.get(declaration.sender)
        if standing is not None:
            if standing.envelope != envelope:
                raise _refuse(
                    "equivocation", f"{declaration.sender} has measured this candidate already"
                )
            return OfferReply(next_chunk=None, receipt=standing.receipt.decode())
        if round_.state != "evaluating" or round_.candidate is None:
            raise _refuse("late", f"{round_.lineage} round {round_.round} is {round_.state}")
        _equal("model", round_.candidate.model, declaration.parent)
        if declaration.sender not in hub.region.agreement.lineage(round_.lineage).recipients:
            raise _refuse("not-a-recipient", f"{declaration.sender} is not of {round_.lineage}")
        check_metrics(hub.region.agreement, declaration.metrics, examples=declaration.examples)
        judge(hub.region.law, declaration, action=Action.IMPORT)
        receipt = issue_receipt(hub.region, declaration, envelope)
        hub.journal.evaluate(
            lineage=round_.lineage,
            round_=round_.round,
            evaluation=Evaluation(
                region=declaration.sender,
                envelope=envelope,
                metrics=declaration.metrics,
                receipt=receipt,
            ),
        )
    hub.changes.announce(LineageId(round_.lineage))
    return OfferReply(next_chunk=None, receipt=receipt.decode())


# ── shared ──


def _current_round(hub: Hub, declaration: Declaration) -> Round:
    known = [line.id for line in hub.region.agreement.terms.lineages]
    if declaration.lineage not in known:
        raise _refuse("wrong-lineage", f"expected one of {known}, got {declaration.lineage}")
    round_ = hub.journal.current_round(declaration.lineage)
    if round_ is None or round_.round != declaration.round:
        want = "none" if round_ is None else str(round_.round)
        raise _refuse(
            "wrong-round",
            f"{declaration.lineage}: expected round {want}, got {declaration.round}",
        )
    return round_


def _equal(field: str, want: str, got: str) -> None:
    if want != got:
        raise _refuse(f"wrong-{field}", f"expected {field} {want}, got {got}")


def _payload_digest(declaration: Declaration) -> str:
    assert declaration.payload is not None
    return declaration.payload.digest


def _refuse(reason: str, detail: str, rules: tuple[str, ...] = ()) -> Refused:
    return Refused(stage="intake", reason=reason, detail=detail, rules=rules)


def _recorded(hub: Hub, error: Error, *, sender: RegionId, envelope: bytes = b"") -> Refused:
    """Write the refusal into the log; what the sender could not have meant is a refusal too."""
    refused = error if isinstance(error, Refused) else _refuse("malformed", str(error))
    hub.region.record_refusal(refused, counterparty=sender, envelope=envelope)
    return refused
