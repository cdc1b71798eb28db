"""The models that a gateway's region holds, and what it reported of each.

Models are files, the tables hold their digests.  Every method is one transaction, durable when it
returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    func,
    insert,
    select,
    tuple_,
    update,
)

from ringfence.core.errors import StateError

_METADATA = MetaData()
_MODELS = Table(
    "gateway_models",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("jurisdictions", String, nullable=False),
    Column("statement", String, nullable=False),
    Column("state", String, nullable=False),
)
_REPORTED = Table(
    "gateway_reported",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("candidate", String, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("receipt", LargeBinary),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldModel:
    """A model that this region holds: a candidate, or a release it has admitted."""

    lineage: str
    round: int
    model: str
    jurisdictions: tuple[str, ...]
    statement: str
    admitted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A round's measurement; `closed` once the hub has answered it, one way or the other.

    `envelope` is empty when nothing was signed.
    """

    envelope: bytes
    closed: bool


class Models:
    """Candidates and admitted releases, with their measurements, over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    # ── models ──

    def hold(self, held: HeldModel) -> None:
        """Keep a candidate, or admit a release (which may be the candidate held before).

        INVARIANT: what was admitted stays admitted; only the statement that says so may change.
        Raises: StateError when the round has another admitted model, or this would be no admission.
        """
        values = {
            "model": held.model,
            "jurisdictions": " ".join(held.jurisdictions),
            "statement": held.statement,
            "state": "admitted" if held.admitted else "candidate",
        }
        where = (_MODELS.c.lineage == held.lineage, _MODELS.c.round == held.round)
        with self._engine.begin() as db:
            row = db.execute(select(_MODELS.c.model, _MODELS.c.state).where(*where)).first()
            if row is None:
                db.execute(insert(_MODELS).values(lineage=held.lineage, round=held.round, **values))
                return
            if row.state == "admitted" and (row.model, True) != (held.model, held.admitted):
                raise StateError(
                    f"{held.lineage} round {held.round}: {row.model} was admitted and stays so, "
                    f"came {held.model}"
                )
            db.execute(update(_MODELS).where(*where).values(**values))

    def admitted(self, lineage: str) -> HeldModel | None:
        """The newest release of `lineage` that this region has admitted."""
        return self._model(
            select(_MODELS)
            .where(_MODELS.c.lineage == lineage, _MODELS.c.state == "admitted")
            .order_by(_MODELS.c.round.desc())
            .limit(1)
        )

    def superseded(self, lineage: str) -> str:
        """The release of `lineage` that was admitted before its base, or ''.

        Nothing is built on it any more: it is no lineage's base and nobody's candidate.
        """
        admitted = _MODELS.c.state == "admitted"
        newest = select(_MODELS.c.lineage, func.max(_MODELS.c.round)).where(admitted)
        bases = tuple_(_MODELS.c.lineage, _MODELS.c.round).in_(newest.group_by(_MODELS.c.lineage))
        with self._reads.connect() as db:
            former = db.execute(
                select(_MODELS.c.model)
                .where(_MODELS.c.lineage == lineage, admitted)
                .order_by(_MODELS.c.round.desc())
                .limit(1)
                .offset(1)
            ).scalar()
            wanted = db.execute(
                select(_MODELS.c.model).where(_MODELS.c.model == former, bases | ~admitted).limit(1)
            ).first()
        return "" if former is None or wanted is not None else str(former)

    def of_round(self, lineage: str, round_: int) -> HeldModel | None:
        return self._model(
            select(_MODELS).where(_MODELS.c.lineage == lineage, _MODELS.c.round == round_)
        )

    def admitted_in(self, lineage: str, model: str) -> HeldModel | None:
        """A round of `lineage` in which this region admitted exactly this model, or None."""
        return self._model(
            select(_MODELS)
            .where(
                _MODELS.c.lineage == lineage,
                _MODELS.c.model == model,
                _MODELS.c.state == "admitted",
            )
            .limit(1)
        )

    def _model(self, query: Select[Any]) -> HeldModel | None:
        with self._reads.connect() as db:
            row = db.execute(query).first()
        if row is None:
            return None
        return HeldModel(
            lineage=row.lineage,
            round=row.round,
            model=row.model,
            jurisdictions=tuple(row.jurisdictions.split()),
            statement=row.statement,
            admitted=row.state == "admitted",
        )

    # ── evaluations ──

    def reported(self, lineage: str, round_: int) -> Report | None:
        """The measurement signed for a round's candidate, if any."""
        with self._reads.connect() as db:
            row = db.execute(
                select(_REPORTED).where(_REPORTED.c.lineage == lineage, _REPORTED.c.round == round_)
            ).first()
        if row is None:
            return None
        return Report(envelope=row.envelope, closed=row.receipt is not None)

    def store_report(self, candidate: HeldModel, envelope: bytes) -> None:
        """Keep the signed measurement; one whose verdict was renewed takes its place."""
        self._update_report(candidate, envelope=envelope)

    def close_report(self, candidate: HeldModel, receipt: bytes) -> None:
        """Keep the hub's receipt, or nothing where the measurement was refused."""
        self._update_report(candidate, receipt=receipt)

    def _update_report(self, candidate: HeldModel, **values: bytes) -> None:
        where = (_REPORTED.c.lineage == candidate.lineage, _REPORTED.c.round == candidate.round)
        row = {
            "lineage": candidate.lineage,
            "round": candidate.round,
            "candidate": candidate.model,
            "envelope": b"",
        }
        with self._engine.begin() as db:
            if db.execute(update(_REPORTED).where(*where).values(**values)).rowcount == 0:
                db.execute(insert(_REPORTED).values(**(row | values)))
