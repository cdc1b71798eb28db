"""What a gateway must remember across a crash: grants, its one payload a round, regional states.

Tables are small: payloads are files, the journal holds their digests; the models that came in stand
in `models`.  Every method is one transaction, durable when it returns.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from ringfence.core.artifacts import EncodedUpdate, Grant, Input, Payload, PayloadCodec
from ringfence.core.errors import Refused, StateError

GrantState = Literal["reserved", "handed", "debited", "returned", "spent"]
"""`handed`: a site may have trained for it, so that a crash spends it."""

OutboundState = Literal["encoded", "recorded", "received", "refused", "forfeited"]

_OPEN: tuple[GrantState, ...] = ("reserved", "handed")

_METADATA = MetaData()
_GRANTS = Table(
    "gateway_grants",
    _METADATA,
    Column("id", String, primary_key=True),
    Column("lineage", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("parent", String, nullable=False),
    Column("state", String, nullable=False),
)
_OUTBOUND = Table(
    "gateway_outbound",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("state", String, nullable=False),
    Column("grant_id", String, nullable=False),
    Column("parent", String, nullable=False),
    Column("encoded", LargeBinary),
    Column("envelope", LargeBinary),
    Column("log_index", Integer),
    Column("receipt", LargeBinary),
)
_STATES = Table(
    "gateway_states",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("jurisdictions", String, nullable=False),
)


class StoredEncoding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the journal keeps of an `EncodedUpdate`; its bytes are a file named by the digest."""

    codec: PayloadCodec
    payload: Payload
    examples: int
    metrics: dict[str, float]
    inputs: tuple[Input, ...]
    jurisdictions: tuple[str, ...]
    state_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """One round's update as far as it has come; no `encoding` when it was refused before."""

    state: OutboundState
    grant: Grant
    encoding: StoredEncoding | None
    envelope: bytes | None
    log_index: int | None
    receipt: bytes | None


class Journal:
    """The gateway's durable memory of its updates over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    # ── grants ──

    def reserve(self, *, lineage: str, round_: int, parent: str, budget: int) -> Grant:
        """Reserve one update of the budget, or return the grant already open for this round.

        Grants of former rounds that nothing has left under are given back first.
        Raises: Refused when `budget` updates are already reserved, debited or spent.
        """
        with self._engine.begin() as db:
            _return_unused(db, lineage, before_round=round_)
            row = db.execute(
                select(_GRANTS.c.id).where(
                    _GRANTS.c.lineage == lineage,
                    _GRANTS.c.round == round_,
                    _GRANTS.c.parent == parent,
                    _GRANTS.c.state.in_(_OPEN),
                )
            ).first()
            if row is not None:
                return Grant(id=row.id, lineage=lineage, round=round_, parent=parent)
            used = _used(db)
            if used >= budget:
                raise Refused(
                    stage="preflight",
                    reason="budget-exhausted",
                    detail=f"{used} of {budget} updates are reserved or spent; "
                    "a successor agreement can raise budget.updates",
                )
            grant = Grant(id=uuid.uuid4().hex, lineage=lineage, round=round_, parent=parent)
            db.execute(
                insert(_GRANTS).values(
                    id=grant.id, lineage=lineage, round=round_, parent=parent, state="reserved"
                )
            )
            return grant

    def used(self) -> int:
        """Updates of the budget that are reserved, debited or spent."""
        with self._reads.connect() as db:
            return _used(db)

    def settle(self, grant: Grant, state: GrantState) -> None:
        """Move an open grant on.  A grant that is already closed stays as it is."""
        with self._engine.begin() as db:
            db.execute(
                update(_GRANTS)
                .where(_GRANTS.c.id == grant.id, _GRANTS.c.state.in_(_OPEN))
                .values(state=state)
            )

    def spend_orphans(self) -> int:
        """After a start: close every grant that a crash left open before its payload was stored.

        One that a site had may have been trained for and is spent; one that no site ever had is
        returned.  Returns how many were spent.
        """
        orphans = _GRANTS.c.id.not_in(select(_OUTBOUND.c.grant_id))
        with self._engine.begin() as db:
            db.execute(
                update(_GRANTS)
                .where(_GRANTS.c.state == "reserved", orphans)
                .values(state="returned")
            )
            return db.execute(
                update(_GRANTS).where(_GRANTS.c.state == "handed", orphans).values(state="spent")
            ).rowcount

    # ── the one payload of a round ──

    def store_encoded(self, encoded: EncodedUpdate) -> None:
        """Keep the only encoding of this round.

        Raises: StateError when the round has one already: a second draw of noise or rounding
        would be a second release.
        """
        with self._engine.begin() as db:
            if self._outbound_row(db, encoded.grant.lineage, encoded.grant.round) is not None:
                raise StateError(
                    f"{encoded.grant.lineage} round {encoded.grant.round}: a payload is already "
                    "stored; it is sent again, never encoded again"
                )
            encoding = StoredEncoding(
                codec=encoded.codec,
                payload=encoded.payload,
                examples=encoded.examples,
                metrics=encoded.metrics,
                inputs=encoded.inputs,
                jurisdictions=encoded.jurisdictions,
                state_out=encoded.state_out,
            )
            db.execute(
                insert(_OUTBOUND).values(
                    lineage=encoded.grant.lineage,
                    round=encoded.grant.round,
                    state="encoded",
                    grant_id=encoded.grant.id,
                    parent=encoded.grant.parent,
                    encoded=msgspec.json.encode(encoding),
                )
            )
            if encoded.state_out:
                _hold_state(db, encoded)

    def store_recorded(self, grant: Grant, *, envelope: bytes, log_index: int) -> None:
        """Keep the signed statement and where the log holds its intent."""
        self._update_outbound(grant, state="recorded", envelope=envelope, log_index=log_index)

    def store_receipt(self, grant: Grant, receipt: bytes) -> None:
        self._update_outbound(grant, state="received", receipt=receipt)

    def close_outbound(self, grant: Grant, state: OutboundState) -> None:
        """Mark a round's update `refused` or `forfeited`; nothing of it is sent any more."""
        with self._engine.begin() as db:
            if self._outbound_row(db, grant.lineage, grant.round) is None:
                db.execute(
                    insert(_OUTBOUND).values(
                        lineage=grant.lineage,
                        round=grant.round,
                        state=state,
                        grant_id=grant.id,
                        parent=grant.parent,
                    )
                )
        self._update_outbound(grant, state=state)

    def outbound(self, lineage: str, round_: int) -> Outbound | None:
        with self._reads.connect() as db:
            row = self._outbound_row(db, lineage, round_)
        if row is None:
            return None
        return Outbound(
            state=row.state,
            grant=Grant(id=row.grant_id, lineage=lineage, round=round_, parent=row.parent),
            encoding=_encoding(row.encoded),
            envelope=row.envelope,
            log_index=row.log_index,
            receipt=row.receipt,
        )

    def unsent(self) -> frozenset[str]:
        """Digests of the payloads that may still have to be sent, of every lineage."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_OUTBOUND.c.encoded).where(_OUTBOUND.c.state.in_(("encoded", "recorded")))
            ).all()
        found = [_encoding(row.encoded) for row in rows]
        return frozenset(encoding.payload.digest for encoding in found if encoding is not None)

    def _update_outbound(self, grant: Grant, **values: object) -> None:
        with self._engine.begin() as db:
            db.execute(
                update(_OUTBOUND)
                .where(_OUTBOUND.c.lineage == grant.lineage, _OUTBOUND.c.round == grant.round)
                .values(**values)
            )

    @staticmethod
    def _outbound_row(db: Connection, lineage: str, round_: int) -> Row[Any] | None:
        return db.execute(
            select(_OUTBOUND).where(_OUTBOUND.c.lineage == lineage, _OUTBOUND.c.round == round_)
        ).first()

    # ── regional state: the site holds the bytes, the gateway their digests and closures ──

    def closure(self, digest: str) -> frozenset[str] | None:
        """Every jurisdiction that regional state `digest` has seen; None when it is unknown."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_STATES.c.jurisdictions).where(_STATES.c.digest == digest)
            ).all()
        if not rows:
            return None
        return frozenset(code for row in rows for code in row.jurisdictions.split())

    def newest_state(self, lineage: str, *, bars: frozenset[str]) -> str:
        """Digest of the newest state of `lineage` whose closure holds no barred tag, or ''."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_STATES.c.digest, _STATES.c.jurisdictions)
                .where(_STATES.c.lineage == lineage)
                .order_by(_STATES.c.round.desc())
            ).all()
        for row in rows:
            if bars.isdisjoint(row.jurisdictions.split()):
                return str(row.digest)
        return ""


def _used(db: Connection) -> int:
    used = select(func.count()).select_from(_GRANTS).where(_GRANTS.c.state != "returned")
    return db.execute(used).scalar_one()


def _return_unused(db: Connection, lineage: str, *, before_round: int) -> None:
    """Give back the grants of former rounds that no site had, or whose payload stayed here.

    A payload that was encoded but never permitted is closed with its grant: it is not sent later.
    """
    kept_here = select(_OUTBOUND.c.grant_id).where(_OUTBOUND.c.state == "encoded")
    former = (_GRANTS.c.lineage == lineage, _GRANTS.c.round < before_round)
    unused = (_GRANTS.c.state == "reserved") | (
        (_GRANTS.c.state == "handed") & _GRANTS.c.id.in_(kept_here)
    )
    returned = db.execute(select(_GRANTS.c.id).where(*former, unused)).scalars().all()
    db.execute(update(_GRANTS).where(_GRANTS.c.id.in_(returned)).values(state="returned"))
    db.execute(update(_OUTBOUND).where(_OUTBOUND.c.grant_id.in_(returned)).values(state="refused"))


def _hold_state(db: Connection, encoded: EncodedUpdate) -> None:
    """The regional state that came out of this training has seen all that its update has."""
    db.execute(
        insert(_STATES).values(
            lineage=encoded.grant.lineage,
            round=encoded.grant.round,
            digest=encoded.state_out,
            jurisdictions=" ".join(encoded.jurisdictions),
        )
    )


def _encoding(data: bytes | None) -> StoredEncoding | None:
    return None if data is None else msgspec.json.decode(data, type=StoredEncoding)
