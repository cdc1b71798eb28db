"""What regions sent to the hub: one update and one measurement a region and round.

A statement stands beside the receipt that the hub signed for it.  Payloads are files, the tables
hold their digests.  Every method is one transaction, durable when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    insert,
    select,
    update,
)

from ringfence.core.errors import Refused

_METADATA = MetaData()
_SUBMISSIONS = Table(
    "hub_submissions",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("region", String, primary_key=True),
    Column("statement", String, nullable=False, index=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("payload", String, nullable=False, index=True),
    Column("receipt", LargeBinary),
)
_EVALUATIONS = Table(
    "hub_evaluations",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("region", String, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("metrics", LargeBinary, nullable=False),
    Column("receipt", LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One region's update in one round; `receipt` is set once the payload is here whole."""

    lineage: str
    round: int
    region: str
    statement: str
    envelope: bytes
    payload: str
    receipt: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one region measured of one candidate."""

    region: str
    envelope: bytes
    metrics: dict[str, float]
    receipt: bytes


class Inbox:
    """What regions sent, over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    # ── submissions ──

    def submission(self, lineage: str, round_: int, region: str) -> Submission | None:
        """What `region` submitted in a round."""
        found = (s for s in self.submissions(lineage, round_) if s.region == region)
        return next(found, None)

    def offer(self, submission: Submission) -> Submission:
        """Take a region's statement for a round, or give back the one that already stands.

        A new statement over the same payload replaces one whose payload has not arrived whole
        (its verdict had expired and was asked again).
        Raises: Refused when another payload was offered for this round (equivocation).
        """
        key = (
            _SUBMISSIONS.c.lineage == submission.lineage,
            _SUBMISSIONS.c.round == submission.round,
            _SUBMISSIONS.c.region == submission.region,
        )
        values = {
            "statement": submission.statement,
            "envelope": submission.envelope,
            "payload": submission.payload,
        }
        with self._engine.begin() as db:
            row = db.execute(select(_SUBMISSIONS).where(*key)).first()
            if row is None:
                db.execute(
                    insert(_SUBMISSIONS).values(
                        lineage=submission.lineage,
                        round=submission.round,
                        region=submission.region,
                        **values,
                    )
                )
                return submission
            if row.payload != submission.payload:
                raise Refused(
                    stage="intake",
                    reason="equivocation",
                    detail=f"region {submission.region} offered {row.payload} for "
                    f"{submission.lineage} round {submission.round} before; a round takes one "
                    "payload, send that one",
                )
            if row.receipt is None and row.statement != submission.statement:
                db.execute(update(_SUBMISSIONS).where(*key).values(**values))
                return submission
            return _submission(row)

    def receive(self, submission: Submission, receipt: bytes) -> None:
        """The payload is here whole and its receipt is signed and logged."""
        self._set_receipt(submission, receipt)

    def renew_submission(self, submission: Submission) -> None:
        """Put a newer statement, with its receipt, in the place of one over the same payload."""
        with self._engine.begin() as db:
            db.execute(
                update(_SUBMISSIONS)
                .where(
                    _SUBMISSIONS.c.lineage == submission.lineage,
                    _SUBMISSIONS.c.round == submission.round,
                    _SUBMISSIONS.c.region == submission.region,
                    _SUBMISSIONS.c.payload == submission.payload,
                )
                .values(
                    statement=submission.statement,
                    envelope=submission.envelope,
                    receipt=submission.receipt,
                )
            )

    def lose_payload(self, submission: Submission) -> None:
        """The spooled bytes no longer match: the region is asked for the same payload again."""
        self._set_receipt(submission, None)

    def _set_receipt(self, submission: Submission, receipt: bytes | None) -> None:
        with self._engine.begin() as db:
            db.execute(
                update(_SUBMISSIONS)
                .where(
                    _SUBMISSIONS.c.lineage == submission.lineage,
                    _SUBMISSIONS.c.round == submission.round,
                    _SUBMISSIONS.c.region == submission.region,
                )
                .values(receipt=receipt)
            )

    def submissions(self, lineage: str, round_: int) -> tuple[Submission, ...]:
        """Submissions of a round in order of region id."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_SUBMISSIONS)
                .where(_SUBMISSIONS.c.lineage == lineage, _SUBMISSIONS.c.round == round_)
                .order_by(_SUBMISSIONS.c.region)
            ).all()
        return tuple(_submission(row) for row in rows)

    def submission_of(self, *, region: str, statement: str) -> Submission | None:
        """What `region` submitted by `statement`, unless another statement has replaced it."""
        with self._reads.connect() as db:
            row = db.execute(
                select(_SUBMISSIONS).where(
                    _SUBMISSIONS.c.region == region, _SUBMISSIONS.c.statement == statement
                )
            ).first()
        return None if row is None else _submission(row)

    # ── evaluations ──

    def evaluate(self, *, lineage: str, round_: int, evaluation: Evaluation) -> None:
        with self._engine.begin() as db:
            db.execute(
                insert(_EVALUATIONS).values(
                    lineage=lineage,
                    round=round_,
                    region=evaluation.region,
                    envelope=evaluation.envelope,
                    metrics=msgspec.json.encode(evaluation.metrics),
                    receipt=evaluation.receipt,
                )
            )

    def renew_evaluation(self, *, lineage: str, round_: int, evaluation: Evaluation) -> None:
        """Put a newer statement, with its receipt, in the place of one that says the same."""
        with self._engine.begin() as db:
            db.execute(
                update(_EVALUATIONS)
                .where(
                    _EVALUATIONS.c.lineage == lineage,
                    _EVALUATIONS.c.round == round_,
                    _EVALUATIONS.c.region == evaluation.region,
                )
                .values(envelope=evaluation.envelope, receipt=evaluation.receipt)
            )

    def evaluations(self, lineage: str, round_: int) -> dict[str, Evaluation]:
        """Evaluations of a round's candidate by region id."""
        with self._reads.connect() as db:
            rows = db.execute(
                select(_EVALUATIONS).where(
                    _EVALUATIONS.c.lineage == lineage, _EVALUATIONS.c.round == round_
                )
            ).all()
        return {
            row.region: Evaluation(
                region=row.region,
                envelope=row.envelope,
                metrics=msgspec.json.decode(row.metrics, type=dict[str, float]),
                receipt=row.receipt,
            )
            for row in rows
        }


def _submission(row: Row[Any]) -> Submission:
    return Submission(
        lineage=row.lineage,
        round=row.round,
        region=row.region,
        statement=row.statement,
        envelope=row.envelope,
        payload=row.payload,
        receipt=row.receipt,
    )
