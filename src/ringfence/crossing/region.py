"""What one region brings to every crossing: its name, terms, law, signing key and log."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import statement_digest
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import RegionId
from ringfence.core.wire import Refusal
from ringfence.crossing.docket import Docket
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Law
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.ledger.log import Log
from ringfence.trust.keys import Signer

REFUSED_LIMIT_BYTES = 64 * 1024
"""Of longer bytes that were refused only the digest is written: a refusal costs nobody his disk."""

_DETAIL_LIMIT_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One region, put together by `wiring`: its law, signing key and log, the guard of its clock.

    The law asks the same guard.  `docket` records in the log what the law was asked.
    """

    law: Law
    statement_signer: Signer
    log: Log
    timekeeper: Timekeeper
    docket: Docket

    @property
    def id(self) -> RegionId:
        return self.law.region

    @property
    def agreement(self) -> Agreement:
        return self.law.agreement

    @property
    def clock(self) -> Clock:
        return self.law.clock

    def record(self, entry: Entry) -> int:
        """Append to the log; durable when this returns.  Returns the entry's index.

        Raises: FormatError when the entry is longer than one may be; StateError from the disk.
        """
        return self.log.append(entry.to_bytes()).index

    def record_refusal(
        self,
        refused: Refused,
        *,
        counterparty: str,
        lineage: str = "",
        round_: int = 0,
        envelope: bytes = b"",
    ) -> int:
        """Write a refusal into the log like a crossing; nothing else changes.

        `envelope` is what was refused, as it came: bytes of any kind and length.
        """
        return self.record(
            Entry(
                kind="refusal",
                at=to_rfc3339(self.clock()),
                counterparty=counterparty,
                lineage=lineage,
                round=round_,
                subject=statement_digest(envelope) if envelope else "",
                envelope=_as_text(envelope),
                refusal=Refusal(
                    stage=refused.stage,
                    reason=refused.reason,
                    detail=refused.detail[:_DETAIL_LIMIT_CHARS],
                    rules=refused.rules,
                ),
            )
        )


def _as_text(envelope: bytes) -> str:
    """The refused bytes as text, or nothing: what is no text grows sixfold inside JSON."""
    if len(envelope) > REFUSED_LIMIT_BYTES:
        return ""
    try:
        text = envelope.decode()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""
