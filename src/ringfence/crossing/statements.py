"""Signing what we say of an artifact, and believing what a counterparty says of one."""

from __future__ import annotations

from ringfence.core.artifacts import (
    Declaration,
    ReceiptNote,
    declaration_from_bytes,
    declaration_to_bytes,
    receipt_from_bytes,
    receipt_to_bytes,
    statement_digest,
)
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, RegionId
from ringfence.core.wire import STATEMENT_LIMIT_BYTES
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Ruling, export
from ringfence.crossing.region import Region
from ringfence.trust.dsse import open_envelope, seal
from ringfence.trust.keys import Signer

STATEMENT_PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign(region: Region, declaration: Declaration) -> bytes:
    """Seal a permitted declaration with the region's statement key; returns the DSSE envelope."""
    return seal_declaration(declaration, region.statement_signer)


def seal_declaration(declaration: Declaration, signer: Signer) -> bytes:
    """The DSSE envelope over a declaration's in-toto statement."""
    return seal(
        declaration_to_bytes(declaration), payload_type=STATEMENT_PAYLOAD_TYPE, signer=signer
    )


def open_own(region: Region, envelope: bytes) -> Declaration:
    """Parse a statement that this region signed before."""
    return declaration_from_bytes(
        open_envelope(
            envelope,
            public_key=region.statement_signer.public_key,
            payload_type=STATEMENT_PAYLOAD_TYPE,
            limit_bytes=STATEMENT_LIMIT_BYTES,
            what="own statement",
        )
    )


def record_intent(region: Region, declaration: Declaration, envelope: bytes) -> int:
    """Write the signed statement into the log; durable when this returns.

    INVARIANT: no byte of an artifact leaves before its intent is in the log, and its subjects in
    the ledger.  If the process dies between the two, nothing has left, and the intent is recorded
    once more.
    """
    digest = statement_digest(envelope)
    region.timekeeper.made(digest)
    index = region.record(
        Entry(
            kind="intent",
            at=to_rfc3339(region.clock()),
            counterparty=declaration.recipient,
            lineage=declaration.lineage,
            round=declaration.round,
            subject=digest,
            envelope=envelope.decode(),
        )
    )
    _count(region, declaration)
    return index


def _count(region: Region, declaration: Declaration) -> None:
    """Whose data the artifact carries counts as exported, from now on and for good."""
    if region.law.ledger is not None:
        region.law.ledger.settle(export(region.law, declaration), now_s=region.clock())


def open_statement(region: Region, envelope: bytes, *, sender: RegionId) -> Declaration:
    """Verify a counterparty's statement and that it is meant for us under this agreement.

    `sender` is who the connection proved to be; the statement's own word is not asked first.
    Raises: FormatError or TrustError when the envelope does not hold; Refused when it holds but
    names another agreement, sender or recipient.
    """
    data = open_envelope(
        envelope,
        public_key=region.agreement.region(sender).statement_public_key(),
        payload_type=STATEMENT_PAYLOAD_TYPE,
        limit_bytes=STATEMENT_LIMIT_BYTES,
        what=f"statement from {sender}",
    )
    declaration = declaration_from_bytes(data)
    for field, want, got in (
        ("agreement", region.agreement.digest, declaration.agreement),
        ("sender", sender, declaration.sender),
        ("recipient", region.id, declaration.recipient),
    ):
        if want != got:
            raise Refused(
                stage="intake",
                reason=f"wrong-{field}",
                detail=f"statement from {sender}: expected {field} {want}, got {got}",
            )
    return declaration


def issue_receipt(
    region: Region, declaration: Declaration, envelope: bytes, ruling: Ruling
) -> bytes:
    """Record that a statement and its payload arrived whole, then sign a receipt that says so.

    `ruling` is our own law's permit of the import, which is recorded with the arrival.  Whom the
    payload carries is counted here as well: only the recipient sees what every company sends.
    """
    digest = statement_digest(envelope)

    def arrival(question: Digest) -> Entry:
        return Entry(
            kind="arrival",
            at=to_rfc3339(region.clock()),
            counterparty=declaration.sender,
            lineage=declaration.lineage,
            round=declaration.round,
            subject=digest,
            envelope=envelope.decode(),
            inputs=(question,),
        )

    index = region.docket.enter_with(ruling, region.law.judge.packs, declaration, then=arrival)
    _count(region, declaration)
    note = ReceiptNote(
        statement=digest,
        payload="" if declaration.payload is None else declaration.payload.digest,
        sender=declaration.sender,
        recipient=region.id,
        received=to_rfc3339(region.clock()),
        log_index=index,
    )
    return seal(
        receipt_to_bytes(note),
        payload_type=STATEMENT_PAYLOAD_TYPE,
        signer=region.statement_signer,
    )


def accept_receipt(
    region: Region, receipt: bytes, *, counterparty: RegionId, statement: str, payload: str
) -> ReceiptNote:
    """Verify a counterparty's receipt for exactly what we sent, and record it.

    `statement` and `payload` are the digests that left (no payload: empty).  Raises: FormatError or
    TrustError when the receipt does not hold; Refused when it is for something else.
    """
    note = open_receipt(region, receipt, counterparty=counterparty)
    record_receipt(region, note, receipt, statement=statement, payload=payload)
    return note


def open_receipt(region: Region, receipt: bytes, *, counterparty: RegionId) -> ReceiptNote:
    """Verify that a receipt is the counterparty's and names it and us; nothing is recorded yet.

    Raises: FormatError or TrustError when it does not hold; Refused when it is for somebody else.
    """
    note = receipt_from_bytes(
        open_envelope(
            receipt,
            public_key=region.agreement.region(counterparty).statement_public_key(),
            payload_type=STATEMENT_PAYLOAD_TYPE,
            limit_bytes=STATEMENT_LIMIT_BYTES,
            what=f"receipt from {counterparty}",
        )
    )
    if (note.sender, note.recipient) != (region.id, counterparty):
        raise Refused(
            stage="receipt",
            reason="wrong-recipient",
            detail=f"receipt names {note.sender} to {note.recipient}, "
            f"expected {region.id} to {counterparty}",
        )
    return note


def record_receipt(
    region: Region, note: ReceiptNote, receipt: bytes, *, statement: str, payload: str
) -> None:
    """Write an opened receipt into the log, if it is for what we sent.

    INVARIANT: a receipt in the log is for an intent that stands before it.  Raises: Refused;
    FormatError when it was received at no time.
    """
    for field, want, got in (
        ("statement", statement, note.statement),
        ("payload", payload, note.payload),
    ):
        if want != got:
            raise Refused(
                stage="receipt",
                reason=f"wrong-{field}",
                detail=f"receipt of {note.recipient}: expected {field} {want or 'none'}, "
                f"got {got[:80] or 'none'}",
            )
    region.timekeeper.hear_receipt(
        note.recipient, statement=note.statement, received=note.received, index=note.log_index
    )
    region.record(
        Entry(
            kind="receipt",
            at=to_rfc3339(region.clock()),
            counterparty=note.recipient,
            subject=note.statement,
            envelope=receipt.decode(),
        )
    )
