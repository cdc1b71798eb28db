"""Revocations in a region's log: written when first seen, read back before the first decision.

A file can be removed; an entry cannot, or the log does not verify any more.  So what a process of
the region has seen once is revoked for every later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringfence.core.artifacts import statement_digest
from ringfence.core.clock import Clock, from_rfc3339, to_rfc3339
from ringfence.core.errors import Error, LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.entries import Entry
from ringfence.crossing.papers import ENVELOPE_LIMIT_BYTES, REVOCATION_PAYLOAD_TYPE, Keep
from ringfence.ledger.contents import Opening
from ringfence.ledger.log import Log
from ringfence.policy.approvals import ApprovalId, OperatorId
from ringfence.policy.revocations import Revocation, revocation_from_bytes
from ringfence.trust.dsse import open_signed

_MARK = b'"kind":"revocation"'


def keep_in(log: Log, region: RegionId, clock: Clock) -> Keep:
    """Record every new revocation in `log`, durably, with the signature on it."""

    def keep(revocation: Revocation, envelope: bytes) -> None:
        entry = Entry(
            kind="revocation",
            at=to_rfc3339(clock()),
            counterparty=region,
            subject=statement_digest(envelope),
            envelope=envelope.decode(),
            inputs=_named(revocation),
        )
        log.append(entry.to_bytes())

    return keep


def recorded(openings: Iterable[Opening]) -> Iterator[Revocation]:
    """Every revocation that this region's own log holds.

    Whoever wrote the entry had verified the signature; `Audit` verifies it again.  Raises: LogError
    naming the entry when it is not one.
    """
    for opening in openings:
        # Canonical JSON writes the kind in this one way; most entries are parsed no further.
        entry = Entry.from_bytes(opening.content) if _MARK in opening.content else None
        if entry is None or entry.kind != "revocation":
            continue
        try:
            approval, holder, reason = entry.inputs
            revocation = Revocation(
                approval=ApprovalId(approval),
                holder=OperatorId(holder),
                reason=reason,
                at=from_rfc3339(entry.at),
            )
        except (Error, ValueError) as error:
            raise LogError(f"log entry {opening.index}: not a revocation: {error}") from error
        yield revocation


def check_recorded(entry: Entry, keys: Iterable[bytes]) -> None:
    """Verify the signature in an entry, by one of `keys`, and that it says what the entry says.

    Raises: FormatError, TrustError or LogError.
    """
    envelope = entry.envelope.encode()
    opened = open_signed(
        envelope,
        public_keys=tuple(keys),
        payload_types=(REVOCATION_PAYLOAD_TYPE,),
        limit_bytes=ENVELOPE_LIMIT_BYTES,
        what="recorded revocation",
    )
    said = (_named(revocation_from_bytes(opened.payload)), statement_digest(envelope))
    if said != (entry.inputs, entry.subject):
        raise LogError("a revocation of something else than its entry says")


def _named(revocation: Revocation) -> tuple[str, str, str]:
    return revocation.approval, revocation.holder, revocation.reason
