"""Approvals: scoped, expiring, revocable permissions, parsed from canonical JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

import msgspec

from ringfence.core.canonical import from_bytes, to_bytes
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, Jurisdiction, LineageId, digest, jurisdiction, lineage_id
from ringfence.policy.words import ApprovalType, DataClass, ItemKind, Purpose

ApprovalId = NewType("ApprovalId", str)
OperatorId = NewType("OperatorId", str)

APPROVAL_LIMIT_BYTES = 16 * 1024
"""Longest approval; one that names fifty counterparties fits in a quarter of it."""

_TEXT_LIMIT = 200
_DAY_S = 86_400

# Longest life by type: reference, section 5 (leap days included).
_LONGEST_DAYS: dict[ApprovalType, int] = {
    ApprovalType.CAC_ASSESSMENT: 1096,
    ApprovalType.CAC_CERT: 1096,
    ApprovalType.CN_DERIVED_DETERMINATION: 366,
    ApprovalType.BIS_CLASSIFICATION: 366,
    ApprovalType.DOJ_ONWARD_CLAUSE: 366,
    ApprovalType.DPF_CERT: 366,
    ApprovalType.EU_DUAL_USE_CLASS: 366,
    ApprovalType.TIA_ID: 366,
    ApprovalType.DOJ_DSP_PROGRAM: 366,
    ApprovalType.JP_BASIS_ID: 366,
    ApprovalType.JP_CLASS: 366,
    ApprovalType.UK_IDTA: 366,
    # Ours: whoever looked into a flag looks again after a year.
    ApprovalType.PLAT_FLAG_REVIEW: 366,
}

MAY_LOWER: dict[ApprovalType, tuple[str, frozenset[DataClass]]] = {
    ApprovalType.CN_DERIVED_DETERMINATION: (
        "CN",
        frozenset(
            {
                DataClass.PERSONAL,
                DataClass.SENSITIVE,
                DataClass.IMPORTANT,
                DataClass.GEOGRAPHIC,
            }
        ),
    ),
    ApprovalType.EDPB_ANONYMITY: ("EU", frozenset({DataClass.PERSONAL, DataClass.SENSITIVE})),
}
"""Which record may lower which classes, and for data of which seat (PLAT-DERIVED)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One permission, for exactly what it names (reference, section 5).

    `holder` is the operator to whom it was given, `counterparties` the operators at the other end.
    `scope` is the digest of the flow that was approved, `document` that of the paper itself; of a
    `bis.legacy`, which is a dated hash, that of the item.
    `lowers` lists the inherited classes that a determination or an anonymity record ends for this
    flow, `clears` the rules whose flags a review has looked into; both are empty for every other
    type.  Valid from `issued` to just before `expires`, seconds
    since the epoch.
    """

    id: ApprovalId
    type: ApprovalType
    issuer: str
    holder: OperatorId
    counterparties: frozenset[OperatorId]
    kinds: frozenset[ItemKind]
    origin: Jurisdiction
    destination: Jurisdiction
    lineage: LineageId
    purpose: Purpose
    scope: Digest
    lowers: frozenset[DataClass]
    issued: float
    expires: float
    revocation_source: str
    document: Digest
    clears: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("id", "issuer", "holder", "revocation_source"):
            self._expect(0 < len(getattr(self, name)) <= _TEXT_LIMIT, f"1 to 200 letters in {name}")
        # A missing name must never read as "anyone" or "anything".
        self._expect(bool(self.counterparties), "at least one counterparty")
        self._expect(bool(self.kinds), "at least one item kind")
        self._expect(self.issued < self.expires, "an expiry after the issue")
        longest_days = _LONGEST_DAYS.get(self.type)
        if longest_days is not None:
            self._expect(
                self.expires - self.issued <= longest_days * _DAY_S,
                f"a life of at most {longest_days} days",
            )
        seat, lowerable = MAY_LOWER.get(self.type, (self.origin, frozenset()))
        self._expect(self.origin == seat, f"origin {seat}")
        self._expect(
            self.lowers <= lowerable, f"lowers within {[str(c) for c in sorted(lowerable)]}"
        )
        reviews = self.type is ApprovalType.PLAT_FLAG_REVIEW
        self._expect(
            bool(self.clears) == reviews, "rules to clear in a review, and in nothing else"
        )

    def to_bytes(self) -> bytes:
        """Canonical JSON; counsel signs exactly these bytes."""
        return to_bytes(
            _Wire(
                id=self.id,
                type=self.type,
                issuer=self.issuer,
                holder=self.holder,
                counterparties=tuple(sorted(self.counterparties)),
                kinds=tuple(sorted(self.kinds)),
                origin=self.origin,
                destination=self.destination,
                lineage=self.lineage,
                purpose=self.purpose,
                scope=self.scope,
                lowers=tuple(sorted(self.lowers)),
                clears=tuple(sorted(self.clears)),
                issued=to_rfc3339(self.issued),
                expires=to_rfc3339(self.expires),
                revocation_source=self.revocation_source,
                document=self.document,
            )
        )

    def _expect(self, holds: bool, expected: str) -> None:
        if not holds:
            raise FormatError(
                f"approval {self.id[:80]!r} ({self.type}): expected {expected}; "
                "ask counsel for a corrected approval"
            )


class _Wire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An approval as JSON; `Approval` documents the fields, lists are sorted."""

    id: str
    type: ApprovalType
    issuer: str
    holder: str
    counterparties: tuple[str, ...]
    kinds: tuple[ItemKind, ...]
    origin: str
    destination: str
    lineage: str
    purpose: Purpose
    scope: str
    lowers: tuple[DataClass, ...]
    clears: tuple[str, ...]
    issued: str
    expires: str
    revocation_source: str
    document: str


def approval_from_bytes(data: bytes) -> Approval:
    """Parse one approval; the caller has verified counsel's signature over `data`.

    Raises `FormatError` for an unknown or missing field, an unknown word, or bytes that are not the
    canonical form of what they say.
    """
    wire = from_bytes(data, _Wire, what="approval", limit_bytes=APPROVAL_LIMIT_BYTES)
    approval = Approval(
        id=ApprovalId(wire.id),
        type=wire.type,
        issuer=wire.issuer,
        holder=OperatorId(wire.holder),
        counterparties=frozenset(OperatorId(name) for name in wire.counterparties),
        kinds=frozenset(wire.kinds),
        origin=jurisdiction(wire.origin),
        destination=jurisdiction(wire.destination),
        lineage=lineage_id(wire.lineage),
        purpose=wire.purpose,
        scope=digest(wire.scope),
        lowers=frozenset(wire.lowers),
        clears=frozenset(wire.clears),
        issued=from_rfc3339(wire.issued),
        expires=from_rfc3339(wire.expires),
        revocation_source=wire.revocation_source,
        document=digest(wire.document),
    )
    if approval.to_bytes() != data:
        raise FormatError(
            f"approval {wire.id[:80]!r}: expected canonical JSON (sorted keys and lists, no spaces "
            "or repeats); write it with `Approval.to_bytes` and sign again"
        )
    return approval
