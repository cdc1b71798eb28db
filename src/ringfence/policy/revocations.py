"""Revocations: the signed end of one approval, parsed from canonical JSON."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ringfence.core.canonical import from_bytes, to_bytes
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import FormatError
from ringfence.policy.approvals import ApprovalId, OperatorId

REVOCATION_LIMIT_BYTES = 8 * 1024
_TEXT_LIMIT = 1000
_NAME_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """The end of the approval `approval` that `holder` held, for `reason`, said at `at`.

    It counts from when it is read, whatever `at` says: a revocation that was dated ahead would let
    something cross that its signer had stopped.  It has no end; a new approval has a new id.
    """

    approval: ApprovalId
    holder: OperatorId
    reason: str
    at: float

    def __post_init__(self) -> None:
        for name, limit in (
            ("approval", _NAME_LIMIT),
            ("holder", _NAME_LIMIT),
            ("reason", _TEXT_LIMIT),
        ):
            if not 0 < len(getattr(self, name)) <= limit:
                raise FormatError(
                    f"revocation of {self.approval[:80]!r}: expected 1 to {limit} letters in {name}"
                )

    def to_bytes(self) -> bytes:
        """Canonical JSON; an approver of the holder signs exactly these bytes."""
        return to_bytes(
            _Wire(
                approval=self.approval,
                holder=self.holder,
                reason=self.reason,
                at=to_rfc3339(self.at),
            )
        )


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A revocation as JSON; `Revocation` documents the fields."""

    approval: str
    holder: str
    reason: str
    at: str


def revocation_from_bytes(data: bytes) -> Revocation:
    """Parse one revocation; raises `FormatError` for anything but its canonical form."""
    wire = from_bytes(data, _Wire, what="revocation", limit_bytes=REVOCATION_LIMIT_BYTES)
    revocation = Revocation(
        approval=ApprovalId(wire.approval),
        holder=OperatorId(wire.holder),
        reason=wire.reason,
        at=from_rfc3339(wire.at),
    )
    if revocation.to_bytes() != data:
        raise FormatError(
            f"revocation of {wire.approval[:80]!r}: expected canonical JSON (sorted keys, no "
            "spaces or repeats); write it with `Revocation.to_bytes` and sign again"
        )
    return revocation
