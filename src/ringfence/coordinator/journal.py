"""What the coordinator must remember across a crash: rounds, submissions, releases, statements.

Payloads and models are files; the journal holds their digests.  Every method is one transaction,
durable when it returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import (
    Column,
    ColumnElement,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from ringfence.core.artifacts import Payload
from ringfence.core.errors import Refused, StateError
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
_RELEASES = Table(
    "hub_releases",
    _METADATA,
    Column("lineage", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("model", String, nullable=False),
    Column("jurisdictions", String, nullable=False),
    Column("log_index", Integer),
)
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
_SIGNATURES = Table(
    "hub_signatures",
    _METADATA,
    Column("agreement", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
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


class Journal:
    """The coordinator's durable memory over one database."""

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

    # ── statements addressed to regions ──

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

    # ── signatures of the agreement ──

    def keep_signature(self, *, agreement: str, region: str, envelope: bytes) -> None:
        with self._engine.begin() as db:
            db.execute(
                delete(_SIGNATURES).where(
                    _SIGNATURES.c.agreement == agreement, _SIGNATURES.c.region == region
                )
            )
            db.execute(
                insert(_SIGNATURES).values(agreement=agreement, region=region, envelope=envelope)
            )

    def signatures(self, agreement: str) -> dict[str, bytes]:
        with self._reads.connect() as db:
            rows = db.execute(select(_SIGNATURES).where(_SIGNATURES.c.agreement == agreement)).all()
        return {row.region: row.envelope for row in rows}


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
