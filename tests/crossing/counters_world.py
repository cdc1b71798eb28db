"""Data sets, exports and ledgers over real SQLite files, for the tests of the counters."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from ringfence.core.catalogue import Subjects
from ringfence.core.ids import Digest, Jurisdiction, RegionId
from ringfence.crossing.counters import CounterLedger
from ringfence.crossing.data_sets import DataSet
from ringfence.crossing.exports import Export, Flow, Scope
from ringfence.policy.approvals import OperatorId
from ringfence.store.sql import open_engine

SHANGHAI, NEW_YORK = ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York")
NOON_S = datetime(2026, 11, 20, 12, tzinfo=SHANGHAI).timestamp()


def ledger(path: Path, process: str = "gateway") -> CounterLedger:
    """A ledger over the database in `path`, as a process opens it."""
    return CounterLedger(open_engine(f"sqlite:///{path / 'state.db'}"), process=process)


def at(zone: ZoneInfo, *parts: int) -> float:
    return datetime(*parts, tzinfo=zone).timestamp()  # type: ignore[arg-type]


def named(name: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


def data_set(
    name: str,
    people: int,
    *,
    sensitive: int = 0,
    devices: int = 0,
    operator: str = "Motors",
    jurisdiction: str = "CN",
    classes: tuple[str, ...] = ("personal",),
) -> DataSet:
    return DataSet(
        digest=named(name),
        operator=OperatorId(operator),
        jurisdiction=Jurisdiction(jurisdiction),
        classes=classes,
        subjects=Subjects(people=people, sensitive_people=sensitive, devices=devices),
    )


def export(
    *data_sets: DataSet,
    round_: int = 1,
    lineage: str = "world",
    sender: str = "cn",
    recipient: str = "Hub",
    model: str = "world",
    group: str = "federation",
    purpose: str = "civil_driving",
) -> Export:
    return Export(
        flow=Flow(
            kind="update",
            lineage=lineage,
            sender=RegionId(sender),
            recipient=RegionId(recipient.lower()),
        ),
        round=round_,
        scope=Scope(group=group, model=model, recipient=OperatorId(recipient), purpose=purpose),
        data_sets=data_sets,
        uncounted=(),
    )


def exported(counted: CounterLedger, each: Export, *, now_s: float = NOON_S) -> None:
    """Reserve and settle in one go."""
    counted.reserve(each)
    counted.settle(each, now_s=now_s)


def people(counted: CounterLedger, each: Export, *, now_s: float = NOON_S) -> tuple[int, int]:
    """What the law would be told: Chinese and American people."""
    found = counted.figures(each, overlaps=(), now_s=now_s)
    return found.cn.people, found.us.people
