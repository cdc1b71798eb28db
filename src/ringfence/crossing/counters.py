"""The durable count of whose data were exported: China by calendar year, US by twelve months.

    1 reserve    before the law is asked: every later crossing counts this one
    2 count      what the law is told: this crossing, all reserved before it, all exported
    3 settle     with its intent in the log, before a byte leaves: exported
      release    or the law, or a later check, said no: it never was

INVARIANT: two crossings that pass a line together are not both judged below it.  Each reserves,
durably, before it counts, and turns are given out one at a time: the later one counts the earlier.

If a process dies between 1 and 3, nothing has left: its next start gives back what it held, and a
crossing that goes on reserves anew before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    and_,
    cast,
    delete,
    func,
    insert,
    null,
    select,
    union_all,
    update,
)

from ringfence.core.catalogue import Subjects
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.crossing.data_sets import DataSet, Overlap, distinct, larger
from ringfence.crossing.exports import CN, US, Export, Scope
from ringfence.crossing.windows import american_window_start, chinese_year_start, same_day
from ringfence.policy.approvals import OperatorId
from ringfence.policy.bulk import bulk_line

_METADATA = MetaData()


def _subject_columns() -> tuple[Column[Any], ...]:
    return (
        Column("operator", String, nullable=False),
        Column("jurisdiction", String, nullable=False),
        Column("classes", String, nullable=False),
        Column("people", BigInteger, nullable=False),
        Column("sensitive_people", BigInteger, nullable=False),
        Column("devices", BigInteger, nullable=False),
    )


_RESERVED = Table(
    "counted_reserved",
    _METADATA,
    Column("process", String, primary_key=True),
    Column("crossing", String, primary_key=True),
    Column("data_set", String, primary_key=True),
    Column("turn", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("lineage", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("sender", String, nullable=False),
    Column("recipient_region", String, nullable=False),
    Column("group_name", String, nullable=False),
    Column("model", String, nullable=False),
    Column("recipient", String, nullable=False),
    Column("purpose", String, nullable=False),
    *_subject_columns(),
)
# Its one row is written with every change: that puts reservations in one order on every database,
# and tells who has read everything whether it has changed since.
_TURN = Table(
    "counted_turn",
    _METADATA,
    Column("id", Integer, primary_key=True),
    Column("last", Integer, nullable=False),
)
# Windows end now, so that of many exports of one data set in one scope only the last one decides
# whether it counts: a row each, however many rounds there are.  Single crossings are in the log.
_EXPORTED = Table(
    "counted_exported",
    _METADATA,
    Column("group_name", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("recipient", String, primary_key=True),
    Column("purpose", String, primary_key=True),
    Column("lineage", String, primary_key=True),
    Column("data_set", String, primary_key=True),
    *_subject_columns(),
    Column("last_s", Float, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A data set that was exported, or is about to be, within a scope."""

    scope: Scope
    data_set: DataSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Distinct subjects of one crossing and of all that was counted before it.

    `cn` are those whose data left China since 1 January; `us` those whose data went to this
    recipient within twelve months, `us_line` the lowest line among their categories.
    """

    cn: Subjects
    us: Subjects
    us_line: int


class Counts(Protocol):
    """Tells how many subjects a crossing adds up to; the crossing itself is always among them."""

    def figures(self, export: Export, *, overlaps: Sequence[Overlap], now_s: float) -> Figures: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One row: `last_s` is None of what is reserved, the other three of what was exported."""

    lineage: str
    process: str | None
    crossing: str | None
    turn: int | None
    last_s: float | None
    counted: Counted


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """All rows as of one turn, and what was worked out from them."""

    turn: int
    entries: tuple[_Entry, ...]
    known: dict[tuple[object, ...], Figures] = field(default_factory=dict)


class CounterLedger:
    """The count of one region over one database; every change is one durable transaction.

    `process` names who reserves: of two processes of one region, each gives back only its own.
    """

    def __init__(self, engine: Engine, *, process: str) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        self._process = process
        self._seen = _Seen(turn=-1, entries=())
        _METADATA.create_all(engine)
        with engine.begin() as db:
            if db.execute(select(_TURN)).first() is None:
                db.execute(insert(_TURN).values(id=1, last=0))

    def reserve(self, export: Export) -> None:
        """1: let every crossing that is reserved from now on count this one.

        Called again for the same data, it keeps its turn.  What the flow's former rounds still hold
        is given back: their time is over.  Nothing is reserved for what carries nobody's data.
        """
        if not export.data_sets:
            return
        flow = export.flow
        former = and_(
            _RESERVED.c.process == self._process,
            _RESERVED.c.kind == flow.kind,
            _RESERVED.c.lineage == flow.lineage,
            _RESERVED.c.sender == flow.sender,
            _RESERVED.c.recipient_region == flow.recipient,
            _RESERVED.c.round <= export.round,
        )
        with self._engine.begin() as db:
            turn = _next_turn(db)
            held = db.execute(
                select(_RESERVED.c.turn, *_columns(_RESERVED)).where(*self._held_by(export.id))
            ).all()
            if {_counted(row) for row in held} == {
                Counted(scope=export.scope, data_set=each) for each in export.data_sets
            }:
                turn = held[0].turn
            db.execute(delete(_RESERVED).where(former))
            db.execute(
                insert(_RESERVED),
                [
                    {
                        "process": self._process,
                        "crossing": export.id,
                        "turn": turn,
                        "kind": flow.kind,
                        "round": export.round,
                        "sender": flow.sender,
                        "recipient_region": flow.recipient,
                        **_key(export, each),
                        **_subjects(each),
                    }
                    for each in export.data_sets
                ],
            )

    def settle(self, export: Export, *, now_s: float) -> None:
        """3: the intent is in the log and bytes may leave: what was reserved counts as exported.

        Called again, for a crossing that goes on later, it counts as exported then as well.
        Nothing is written where that changes nothing: windows begin with a day.
        """
        if not export.data_sets or self._settled(export, now_s=now_s):
            return
        with self._engine.begin() as db:
            _next_turn(db)
            for each in export.data_sets:
                _count(db, _key(export, each), each, now_s=now_s)
            db.execute(delete(_RESERVED).where(*self._held_by(export.id)))

    def release(self, crossing: str) -> None:
        """Give back what this crossing reserved; what was settled stays counted."""
        if not any(map(self._holds(crossing), self._look().entries)):
            return
        with self._engine.begin() as db:
            _next_turn(db)
            db.execute(delete(_RESERVED).where(*self._held_by(crossing)))

    def release_all(self) -> int:
        """After a start: give back what this process held when it died; returns how many crossings.

        Nothing of them has left: a crossing is settled before its first byte.
        """
        mine = _RESERVED.c.process == self._process
        with self._engine.begin() as db:
            _next_turn(db)
            crossings = select(func.count(_RESERVED.c.crossing.distinct())).where(mine)
            held = int(db.execute(crossings).scalar_one())
            db.execute(delete(_RESERVED).where(mine))
        return held

    def counts(self, export: Export, *, now_s: float) -> bool:
        """Whether everybody counts all of this crossing already, in the windows of now."""
        starts = _window_starts(now_s)
        known = {
            entry.counted.data_set.digest: entry.counted.data_set
            for entry in self._look().entries
            if entry.lineage == export.flow.lineage
            and entry.counted.scope == export.scope
            and _in_window(entry, starts)
        }
        return all(_within(known.get(each.digest), each) for each in export.data_sets)

    def figures(self, export: Export, *, overlaps: Sequence[Overlap], now_s: float) -> Figures:
        """2: what the law is told of `export`: itself, all reserved before it, and all exported.

        A reservation counts in every window: it may be used at any time from now on.  What is not
        reserved itself, such as a question ahead of time, is told of every reservation.
        """
        if not export.data_sets:
            return figures((), export, overlaps)
        seen, starts = self._look(), _window_starts(now_s)
        mine = self._holds(export.id)
        turns = [e.turn for e in seen.entries if e.turn is not None]
        last = min((e.turn for e in filter(mine, seen.entries) if e.turn is not None), default=None)
        before = max(turns, default=0) if last is None else last
        key = export.scope, export.data_sets, tuple(overlaps), tuple(starts.values()), before
        if key not in seen.known:
            counted = (
                entry.counted
                for entry in seen.entries
                if (entry.turn is not None and entry.turn <= before) or _in_window(entry, starts)
            )
            seen.known[key] = figures(counted, export, overlaps)
        return seen.known[key]

    def all(self, *, now_s: float) -> list[Counted]:
        """Everything that is reserved, or was exported within the windows of now."""
        starts = _window_starts(now_s)
        return [
            entry.counted
            for entry in self._look().entries
            if entry.turn is not None or _in_window(entry, starts)
        ]

    def _look(self) -> _Seen:
        """All rows, read anew when any process has changed one."""
        with self._reads.connect() as db:
            # The turn first: rows that are newer than it are read again the next time.
            turn = int(db.execute(_LAST_TURN).scalar_one())
            if turn != self._seen.turn:
                entries = tuple(_entry(row) for row in db.execute(_EVERYTHING))
                self._seen = _Seen(turn=turn, entries=entries)
            return self._seen

    def _settled(self, export: Export, *, now_s: float) -> bool:
        """Whether nothing of it is reserved, and all of it was exported today."""
        entries = self._look().entries
        today = {
            entry.counted
            for entry in entries
            if entry.lineage == export.flow.lineage
            and entry.last_s is not None
            and same_day(entry.last_s, now_s)
        }
        wanted = {Counted(scope=export.scope, data_set=each) for each in export.data_sets}
        return wanted <= today and not any(map(self._holds(export.id), entries))

    def _holds(self, crossing: str) -> Callable[[_Entry], bool]:
        return lambda entry: (entry.process, entry.crossing) == (self._process, crossing)

    def _held_by(self, crossing: str) -> tuple[ColumnElement[bool], ...]:
        return _RESERVED.c.process == self._process, _RESERVED.c.crossing == crossing


class PlannedCounts:
    """What is counted already, with a whole plan on top of it; nothing is written."""

    def __init__(self, counted: Iterable[Counted], plan: Iterable[Export]) -> None:
        self._counted = set(counted)
        for export in plan:
            self._counted.update(
                Counted(scope=export.scope, data_set=each) for each in export.data_sets
            )
        self._known: dict[tuple[Scope, tuple[DataSet, ...], tuple[Overlap, ...]], Figures] = {}

    def figures(self, export: Export, *, overlaps: Sequence[Overlap], now_s: float) -> Figures:
        """As of the time at which `counted` was read; a plan asks alike about many crossings."""
        key = export.scope, export.data_sets, tuple(overlaps)
        if key not in self._known:
            self._known[key] = figures(self._counted, export, overlaps)
        return self._known[key]


def figures(counted: Iterable[Counted], export: Export, overlaps: Sequence[Overlap]) -> Figures:
    """The distinct subjects of `export` and of everything in `counted` that adds up with it.

    China: what the same companies exported to anybody, and what anybody exported within the same
    scope.  United States: what the same companies exported to the same recipient.
    """
    chinese = [each for each in export.data_sets if each.jurisdiction == CN]
    american = [each for each in export.data_sets if each.jurisdiction == US]
    cn_exporters = {each.operator for each in chinese}
    us_exporters = {each.operator for each in american}
    for row in counted:
        data_set, scope = row.data_set, row.scope
        if data_set.jurisdiction == CN:
            if data_set.operator in cn_exporters or (chinese and scope == export.scope):
                chinese.append(data_set)
        elif data_set.operator in us_exporters and scope.recipient == export.scope.recipient:
            american.append(data_set)
    return Figures(
        cn=distinct(chinese, overlaps),
        us=distinct(american, overlaps),
        us_line=bulk_line(name for each in american for name in each.classes),
    )


def _next_turn(db: Connection) -> int:
    """Whoever writes this row holds it to the end of his transaction: turns come in order."""
    db.execute(update(_TURN).values(last=_TURN.c.last + 1))
    return int(db.execute(_LAST_TURN).scalar_one())


def _count(db: Connection, key: dict[str, object], data_set: DataSet, *, now_s: float) -> None:
    where = [_EXPORTED.c[name] == value for name, value in key.items()]
    row = db.execute(select(_EXPORTED).where(*where)).first()
    if row is None:
        db.execute(insert(_EXPORTED).values(**key, **_subjects(data_set), last_s=now_s))
        return
    # INVARIANT: what was counted once never shrinks, nor does an export grow older.
    known = _counted(row).data_set
    grown = DataSet(
        digest=data_set.digest,
        operator=data_set.operator,
        jurisdiction=data_set.jurisdiction,
        classes=tuple(sorted({*known.classes, *data_set.classes})),
        subjects=larger(known.subjects, data_set.subjects),
    )
    latest = max(now_s, row.last_s)
    db.execute(update(_EXPORTED).where(*where).values(**_subjects(grown), last_s=latest))


def _within(known: DataSet | None, data_set: DataSet) -> bool:
    """Whether `known` counts all of it, for its company: counted anew since, it may have more."""
    return (
        known is not None
        and known.operator == data_set.operator
        and set(data_set.classes) <= set(known.classes)
        and larger(known.subjects, data_set.subjects) == known.subjects
    )


def _key(export: Export, data_set: DataSet) -> dict[str, object]:
    scope = export.scope
    return {
        "group_name": scope.group,
        "model": scope.model,
        "recipient": scope.recipient,
        "purpose": scope.purpose,
        "lineage": export.flow.lineage,
        "data_set": data_set.digest,
    }


def _subjects(data_set: DataSet) -> dict[str, object]:
    return {
        "operator": data_set.operator,
        "jurisdiction": data_set.jurisdiction,
        "classes": " ".join(data_set.classes),
        "people": data_set.subjects.people,
        "sensitive_people": data_set.subjects.sensitive_people,
        "devices": data_set.subjects.devices,
    }


def _columns(table: Table) -> list[Column[Any]]:
    scope = ("group_name", "model", "recipient", "purpose", "data_set")
    return [*(table.c[name] for name in scope), *(table.c[c.name] for c in _subject_columns())]


_LAST_TURN = select(_TURN.c.last)
_EVERYTHING = union_all(
    select(
        _RESERVED.c.process,
        _RESERVED.c.crossing,
        _RESERVED.c.turn,
        _RESERVED.c.lineage,
        cast(null(), Float).label("last_s"),
        *_columns(_RESERVED),
    ),
    select(
        cast(null(), String).label("process"),
        cast(null(), String).label("crossing"),
        cast(null(), Integer).label("turn"),
        _EXPORTED.c.lineage,
        _EXPORTED.c.last_s,
        *_columns(_EXPORTED),
    ),
)
"""Both tables in one statement, so that nothing that moves from one to the other is missed."""


def _window_starts(now_s: float) -> Mapping[str, float]:
    return {CN: chinese_year_start(now_s), US: american_window_start(now_s)}


def _in_window(entry: _Entry, starts: Mapping[str, float]) -> bool:
    """Whether it was exported, for the last time, within the window of its subjects' law."""
    start_s = starts.get(entry.counted.data_set.jurisdiction)
    return entry.last_s is not None and start_s is not None and entry.last_s >= start_s


def _entry(row: Row[Any]) -> _Entry:
    return _Entry(
        process=row.process,
        crossing=row.crossing,
        turn=row.turn,
        lineage=row.lineage,
        last_s=row.last_s,
        counted=_counted(row),
    )


def _counted(row: Row[Any]) -> Counted:
    return Counted(
        scope=Scope(
            group=row.group_name,
            model=row.model,
            recipient=OperatorId(row.recipient),
            purpose=row.purpose,
        ),
        data_set=DataSet(
            digest=Digest(row.data_set),
            operator=OperatorId(row.operator),
            jurisdiction=Jurisdiction(row.jurisdiction),
            classes=tuple(row.classes.split()),
            subjects=Subjects(
                people=row.people,
                sensitive_people=row.sensitive_people,
                devices=row.devices,
            ),
        ),
    )
