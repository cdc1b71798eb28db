"""What a test sees of a federation from outside: journals and logs, read beside their writers."""

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ringfence.config import Home
from ringfence.core.artifacts import Declaration, declaration_from_bytes
from ringfence.crossing.entries import Entry
from ringfence.ledger.contents import Opening
from ringfence.ledger.reader import LogReader


def round_of(hub: Home, lineage: str = "world") -> tuple[int, str]:
    """Number and state of a lineage's newest round; (0, "") before the first."""
    return ((0, ""), *rounds(hub, lineage))[-1]


def rounds(hub: Home, lineage: str = "world") -> list[tuple[int, str]]:
    """Number and state of every round of a lineage, oldest first."""
    return query(
        hub, "SELECT round, state FROM hub_rounds WHERE lineage = ? ORDER BY round", lineage
    )


def releases(hub: Home, lineage: str = "world") -> list[tuple[int, str]]:
    """Round and model of every release, oldest first; round 0 is the lineage's start."""
    return query(
        hub, "SELECT round, model FROM hub_releases WHERE lineage = ? ORDER BY round", lineage
    )


def outbound(home: Home, round_: int, lineage: str = "world") -> str:
    """How far a region's update of a round has come; "" before it is encoded."""
    rows = query(
        home,
        "SELECT state FROM gateway_outbound WHERE lineage = ? AND round = ?",
        lineage,
        round_,
    )
    return rows[0][0] if rows else ""


def admitted(home: Home, lineage: str = "world") -> dict[int, str]:
    """The models that a region has admitted, by round."""
    return dict(
        query(
            home,
            "SELECT round, model FROM gateway_models WHERE lineage = ? AND state = 'admitted'",
            lineage,
        )
    )


def held_model(home: Home, round_: int, lineage: str = "world") -> str:
    """The model that a region holds of a round, admitted or not; "" before it is made."""
    rows = query(
        home, "SELECT model FROM gateway_models WHERE lineage = ? AND round = ?", lineage, round_
    )
    return rows[0][0] if rows else ""


def measured(hub: Home, round_: int, lineage: str = "world") -> set[str]:
    """The regions whose measurement of a round's candidate the hub has."""
    rows = query(
        hub, "SELECT region FROM hub_evaluations WHERE lineage = ? AND round = ?", lineage, round_
    )
    return {region for (region,) in rows}


def received(hub: Home, round_: int, lineage: str = "world") -> set[str]:
    """The regions whose update of a round the hub has given a receipt for."""
    rows = query(
        hub,
        "SELECT region FROM hub_submissions"
        " WHERE lineage = ? AND round = ? AND receipt IS NOT NULL",
        lineage,
        round_,
    )
    return {region for (region,) in rows}


def openings(home: Home) -> list[Opening]:
    """Every durable entry of a region's log, whether a checkpoint covers it yet or not."""
    reader = LogReader(home.log)
    return list(reader.openings(0, reader.durable_size))


def entries(home: Home, kind: str = "") -> list[Entry]:
    """The same as entries, those of one `kind` if it is given."""
    found = [Entry.from_bytes(opening.content) for opening in openings(home)]
    return [entry for entry in found if not kind or entry.kind == kind]


def statements(home: Home, entry_kind: str, kind: str) -> list[Declaration]:
    """What the statements of one kind say that a region's log holds as intents or arrivals."""
    said = [
        declaration_from_bytes(base64.b64decode(json.loads(entry.envelope)["payload"]))
        for entry in entries(home, entry_kind)
    ]
    return [declaration for declaration in said if declaration.kind == kind]


def refusals(home: Home) -> list[tuple[str, str]]:
    """Counterparty and reason of every refusal that a region has recorded."""
    return [
        (entry.counterparty, entry.refusal.reason)
        for entry in entries(home, "refusal")
        if entry.refusal is not None
    ]


def part_bytes(folder: Path) -> int:
    """Bytes of the payload that is arriving in a spool."""
    return sum(path.stat().st_size for path in (folder / "incoming").glob("*.part"))


def is_whole(folder: Path) -> bool:
    """Whether a spool has given a payload its name."""
    return any((folder / "payloads").glob("*"))


def query(home: Home, sql: str, *values: object) -> list[tuple]:
    """Rows of a process's journal; none while its tables do not exist yet."""
    with _journal(home) as db:
        try:
            return db.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the journal's write lock: its process stands still at its next look into it."""
    with _journal(home, mode="rw") as db:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("ROLLBACK")


@contextlib.contextmanager
def _journal(home: Home, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    path = home.state / "state.db"
    if not path.exists():
        db = sqlite3.connect(":memory:")
    else:
        db = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, isolation_level=None)
    try:
        yield db
    finally:
        db.close()
