"""What the hub addressed to regions: its signed statements, with the receipts that came back.

A region is served what is addressed to it, and nothing else.  Payloads are files, the table holds
their digests.  Every method is one transaction, durable when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    insert,
    select,
    update,
)

from ringfence.core.errors import Refused, StateError

_METADATA = MetaData()
_STATEMENTS = Table(
    "hub_statements",
    _METADATA,
    Column("digest", String, primary_key=True),
    Column("recipient", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("lineage", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("payload", String, nullable=False),
    Column("log_index", Integer, nullable=False),
    Column("receipt", LargeBinary),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A signed and recorded statement addressed to one region."""

    digest: str
    recipient: str
    kind: str
    lineage: str
    round: int
    envelope: bytes
    payload: str
    log_index: int
    receipt: bytes | None


class Outbox:
    """What is addressed to regions, over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    def address(self, outgoing: Outgoing) -> None:
        with self._engine.begin() as db:
            db.execute(
                insert(_STATEMENTS).values(
                    digest=outgoing.digest,
                    recipient=outgoing.recipient,
                    kind=outgoing.kind,
                    lineage=outgoing.lineage,
                    round=outgoing.round,
                    envelope=outgoing.envelope,
                    payload=outgoing.payload,
                    log_index=outgoing.log_index,
                )
            )

    def addressed(self, *, recipient: str, digest: str) -> Outgoing:
        """The statement `digest`, if it is addressed to `recipient`.

        Raises: Refused otherwise; a stranger learns nothing about which digests exist.
        """
        row = self._outgoing_row(
            _STATEMENTS.c.recipient == recipient, _STATEMENTS.c.digest == digest
        )
        if row is None:
            raise Refused(
                stage="serve",
                reason="not-addressed-to-you",
                detail=f"no statement {digest} is addressed to {recipient}",
            )
        return row

    def addressed_of(
        self, *, recipient: str, kind: str, lineage: str, round_: int
    ) -> Outgoing | None:
        return self._outgoing_row(
            _STATEMENTS.c.recipient == recipient,
            _STATEMENTS.c.kind == kind,
            _STATEMENTS.c.lineage == lineage,
            _STATEMENTS.c.round == round_,
        )

    def addressed_with(self, *, recipient: str, payload: str) -> Outgoing | None:
        """The newest statement addressed to `recipient` that carries `payload`."""
        return self._outgoing_row(
            _STATEMENTS.c.recipient == recipient, _STATEMENTS.c.payload == payload
        )

    def forget_receipt(self, digest: str) -> None:
        """The recipient asks again for what it had acknowledged; the log keeps its receipt."""
        with self._engine.begin() as db:
            db.execute(
                update(_STATEMENTS).where(_STATEMENTS.c.digest == digest).values(receipt=None)
            )

    def acknowledge(self, *, digest: str, receipt: bytes) -> None:
        """Keep the recipient's receipt of one of our statements."""
        with self._engine.begin() as db:
            changed = db.execute(
                update(_STATEMENTS).where(_STATEMENTS.c.digest == digest).values(receipt=receipt)
            ).rowcount
        if changed != 1:
            raise StateError(f"statement {digest} is not in the journal")

    def _outgoing_row(self, *where: ColumnElement[bool]) -> Outgoing | None:
        with self._reads.connect() as db:
            row = db.execute(
                select(_STATEMENTS).where(*where).order_by(_STATEMENTS.c.log_index.desc()).limit(1)
            ).first()
        if row is None:
            return None
        return Outgoing(
            digest=row.digest,
            recipient=row.recipient,
            kind=row.kind,
            lineage=row.lineage,
            round=row.round,
            envelope=row.envelope,
            payload=row.payload,
            log_index=row.log_index,
            receipt=row.receipt,
        )
