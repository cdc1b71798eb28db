"""What one region brings to every crossing: its name, terms, law, signing key and log."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.core.agreement import Agreement
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import RegionId
from ringfence.core.wire import STATEMENT_LIMIT_BYTES, Refusal
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Law
from ringfence.ledger.log import Log
from ringfence.trust.keys import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One region, put together by `wiring`: its law, its signing key, its log."""

    law: Law
    statement_signer: Signer
    log: Log

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
        """Append to the log; durable when this returns.  Returns the entry's index."""
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
        """Write a refusal into the log like a crossing; nothing else changes."""
        return self.record(
            Entry(
                kind="refusal",
                at=to_rfc3339(self.clock()),
                counterparty=counterparty,
                lineage=lineage,
                round=round_,
                envelope=envelope[:STATEMENT_LIMIT_BYTES].decode("utf-8", "replace"),
                refusal=Refusal(
                    stage=refused.stage,
                    reason=refused.reason,
                    detail=refused.detail,
                    rules=refused.rules,
                ),
            )
        )
