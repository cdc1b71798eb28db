"""What the coordinator must remember across a crash: rounds, and the releases they led to.

Payloads and models are files, the tables hold their digests; what came in and what went out stand
in `inbox` and `outbox`.  Every method is one transaction, durable when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from ringfence.core.artifacts import Payload
from ringfence.core.wire import RoundState

_METADATA = MetaData()
_ROUNDS = Table(
    "hub_rounds",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("agreement", String, nullable=False),
    Column("state", String, nullable=False),
    Column("parent", String, nullable=False),
    Column("opened_s", Float, nullable=False),
    Column("contributors", String, nullable=False, default=""),
    Column("candidate", LargeBinary),
    Column("evaluating_s", Float),
    Column("reason", String, nullable=False, default=""),
)
_RELEASES = Table(
    "hub_releases",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("jurisdictions", String, nullable=False),
    Column("log_index", Integer),
)


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outcome of a merge: the payload of the merged update and the model that it yields."""

    payload: Payload
    model: str
    jurisdictions: tuple[str, ...]
    updates: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of one lineage, as it stands."""

    lineage: str
    round: int
    agreement: str
    state: RoundState
    parent: str
    opened_s: float
    contributors: tuple[str, ...]
    candidate: Candidate | None
    evaluating_s: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A model that a lineage stands on; round 0 is its start, which no log entry released.

    `log_index` is the place of its release record in the hub's log.
    """

    lineage: str
    round: int
    model: str
    jurisdictions: tuple[str, ...]
    log_index: int | None = None


class Journal:
    """The coordinator's durable memory of its lineages over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    # ── rounds ──

    def open_round(
        self, *, lineage: str, round_: int, agreement: str, parent: str, now_s: float
    ) -> None:
        with self._engine.begin() as db:
            db.execute(
                insert(_ROUNDS).values(
                    lineage=lineage,
                    round=round_,
                    agreement=agreement,
                    state="open",
                    parent=parent,
                    opened_s=now_s,
                )
            )

    def current_round(self, lineage: str) -> Round | None:
        """The newest round of `lineage`, whatever its state."""
        return self._round(
            select(_ROUNDS)
            .where(_ROUNDS.c.lineage == lineage)
            .order_by(_ROUNDS.c.round.desc())
            .limit(1)
        )

    def round(self, lineage: str, round_: int) -> Round | None:
        return self._round(
            select(_ROUNDS).where(_ROUNDS.c.lineage == lineage, _ROUNDS.c.round == round_)
        )

    def start_collecting(self, *, lineage: str, round_: int) -> None:
        """Take updates, or take them again when a merge may not be."""
        self._set_round(lineage, round_, state="collecting", contributors="")

    def start_merging(self, *, lineage: str, round_: int, contributors: tuple[str, ...]) -> None:
        """Close the round to updates; a restart merges exactly these contributors."""
        self._set_round(lineage, round_, state="merging", contributors=" ".join(contributors))

    def start_evaluating(
        self, *, lineage: str, round_: int, candidate: Candidate, now_s: float
    ) -> None:
        self._set_round(
            lineage,
            round_,
            state="evaluating",
            candidate=msgspec.json.encode(candidate),
            evaluating_s=now_s,
        )

    def hold_round(self, *, lineage: str, round_: int, reason: str) -> None:
        self._set_round(lineage, round_, state="held", reason=reason)

    def release_round(self, release: Release) -> None:
        """Mark the round released and its model the lineage's newest release, in one step."""
        with self._engine.begin() as db:
            db.execute(
                update(_ROUNDS)
                .where(_ROUNDS.c.lineage == release.lineage, _ROUNDS.c.round == release.round)
                .values(state="released")
            )
            db.execute(insert(_RELEASES).values(_release_values(release)))

    def _set_round(self, lineage: str, round_: int, **values: object) -> None:
        with self._engine.begin() as db:
            db.execute(
                update(_ROUNDS)
                .where(_ROUNDS.c.lineage == lineage, _ROUNDS.c.round == round_)
                .values(**values)
            )

    def _round(self, query: Select[Any]) -> Round | None:
        with self._reads.connect() as db:
            row = db.execute(query).first()
        if row is None:
            return None
        candidate = None
        if row.candidate is not None:
            candidate = msgspec.json.decode(row.candidate, type=Candidate)
        return Round(
            lineage=row.lineage,
            round=row.round,
            agreement=row.agreement,
            state=row.state,
            parent=row.parent,
            opened_s=row.opened_s,
            contributors=tuple(row.contributors.split()),
            candidate=candidate,
            evaluating_s=row.evaluating_s,
            reason=row.reason,
        )

    # ── releases ──

    def start_lineage(self, release: Release) -> None:
        """Enter the model that a lineage starts from as its round 0 (or branching round)."""
        with self._engine.begin() as db:
            db.execute(insert(_RELEASES).values(_release_values(release)))

    def release(self, lineage: str) -> Release | None:
        """The newest release of `lineage`."""
        with self._reads.connect() as db:
            row = db.execute(
                select(_RELEASES)
                .where(_RELEASES.c.lineage == lineage)
                .order_by(_RELEASES.c.round.desc())
                .limit(1)
            ).first()
        return None if row is None else _release(row)

    def release_of_round(self, lineage: str, round_: int) -> Release | None:
        """What `lineage` released in a round, if it did."""
        with self._reads.connect() as db:
            row = db.execute(
                select(_RELEASES).where(_RELEASES.c.lineage == lineage, _RELEASES.c.round == round_)
            ).first()
        return None if row is None else _release(row)

    def newest_record(self) -> int | None:
        """Place of the newest release record in the log; None before the first."""
        with self._reads.connect() as db:
            return db.execute(select(func.max(_RELEASES.c.log_index))).scalar()

    def releases(self, lineage: str) -> tuple[Release, ...]:
        """Every release of `lineage`, oldest first."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_RELEASES).where(_RELEASES.c.lineage == lineage).order_by(_RELEASES.c.round)
            ).all()
        return tuple(_release(row) for row in rows)


def _release(row: Row[Any]) -> Release:
    return Release(
        lineage=row.lineage,
        round=row.round,
        model=row.model,
        jurisdictions=tuple(row.jurisdictions.split()),
        log_index=row.log_index,
    )


def _release_values(release: Release) -> dict[str, object]:
    return {
        "lineage": release.lineage,
        "round": release.round,
        "model": release.model,
        "jurisdictions": " ".join(release.jurisdictions),
        "log_index": release.log_index,
    }
