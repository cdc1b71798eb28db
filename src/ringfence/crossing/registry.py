"""What a region's compliance has registered: screenings with owners, counters and test records.

`facts.toml` in the region's home is read anew for every decision, so that a new screening counts at
once.  It is the region's own word to its own gateway; nothing in it comes from a counterparty.
"""

from __future__ import annotations

import functools
from decimal import Decimal
from pathlib import Path

import msgspec

from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import digest, jurisdiction
from ringfence.policy.facts import Compute, Counters, ExtractionTest, Screening
from ringfence.policy.ownership import (
    Kind,
    Owners,
    Parent,
    Screened,
    Share,
    register,
    screening,
    ultimate_parent,
)
from ringfence.policy.words import Chip

_LIMIT_BYTES = 1024 * 1024


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every table: immutable, unknown keys refused."""


class _Owner(_Table, frozen=True, kw_only=True):
    name: str
    percent: Decimal


class _Screening(_Table, frozen=True, kw_only=True):
    name: str
    seat: str
    at: str
    us_listed: bool
    cn_listed: bool
    kind: Kind = Kind.COMPANY
    owners: tuple[_Owner, ...] = ()
    dispersed: Decimal = Decimal(0)
    controlled_by: str = ""


class _Counters(_Table, frozen=True, kw_only=True):
    cn_people: int
    cn_sensitive_people: int
    us_people: int
    us_devices: int


class _Extraction(_Table, frozen=True, kw_only=True):
    lineage: str
    passed: bool
    tested_at: str
    evidence: str


class _File(_Table, frozen=True, kw_only=True):
    screenings: tuple[_Screening, ...] = ()
    counters: _Counters | None = None
    extractions: tuple[_Extraction, ...] = ()
    training_ops: float | None = None
    revoked: tuple[str, ...] = ()


class Registry:
    """The registered facts as they stand now."""

    def __init__(self, file: _File) -> None:
        """Raises: FormatError or ValueError when a time, a digest, a seat or a share is none."""
        self._file = file
        self._owners = register(map(_screened, file.screenings))
        self._parents: dict[str, Parent] = {}
        self._extractions = {
            row.lineage: _extraction(row) for row in sorted(file.extractions, key=_tested_at)
        }
        counters = file.counters
        self._counters = None if counters is None else Counters(**msgspec.structs.asdict(counters))
        if file.training_ops is not None:
            Compute(chip=Chip.UNKNOWN, training_ops=file.training_ops)

    @property
    def training_ops(self) -> float | None:
        """Operations of the whole training so far; None when nobody has registered them."""
        return self._file.training_ops

    @property
    def revoked(self) -> tuple[str, ...]:
        """Ids of approvals that were revoked."""
        return self._file.revoked

    @property
    def owners(self) -> Owners:
        """All parties that were screened, with their owners."""
        return self._owners

    def screening(self, operator: str, *, now_s: float) -> Screening | None:
        """The newest screening of `operator` and of all its owners, or None."""
        return screening(self._owners, operator, now_s=now_s)

    def ultimate_parent(self, operator: str) -> Parent | None:
        """Who stands above `operator` by its registered owners; None when it was never screened."""
        if operator not in self._owners.parties:
            return None
        if operator not in self._parents:
            self._parents[operator] = ultimate_parent(self._owners, operator)
        return self._parents[operator]

    def counters(self) -> Counters | None:
        """Distinct subjects counted so far, or None when nobody counts."""
        return self._counters

    def extraction(self, lineage: str) -> ExtractionTest | None:
        """The record of the newest extraction test of `lineage`, or None."""
        return self._extractions.get(lineage)


def read_registry(path: Path) -> Registry:
    """Read `facts.toml`; a missing file registers nothing.

    Raises: ConfigError when it is malformed, for instance half written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Registry(_File())
    if len(data) > _LIMIT_BYTES:
        raise ConfigError(f"{path}: expected at most {_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return parse_registry(data)
    except (msgspec.DecodeError, FormatError, ValueError) as error:
        # INVARIANT: our own malformed facts are our own fault, and never a counterparty's.
        raise ConfigError(f"{path}: {error}; mend the file") from error


@functools.lru_cache(maxsize=4)
def parse_registry(data: bytes) -> Registry:
    """Parse the text of `facts.toml`; raises `msgspec.DecodeError`, FormatError or ValueError.

    Kept by content: the file is read for every decision and changes once in a while.
    """
    return Registry(msgspec.toml.decode(data, type=_File, strict=True))


def _screened(row: _Screening) -> Screened:
    return Screened(
        name=row.name,
        kind=row.kind,
        seat=jurisdiction(row.seat),
        at=from_rfc3339(row.at),
        us_listed=row.us_listed,
        cn_listed=row.cn_listed,
        owners=tuple(Share(owner=owner.name, percent=owner.percent) for owner in row.owners),
        dispersed=row.dispersed,
        controlled_by=row.controlled_by,
    )


def _tested_at(row: _Extraction) -> float:
    return from_rfc3339(row.tested_at)


def _extraction(row: _Extraction) -> ExtractionTest:
    return ExtractionTest(
        passed=row.passed,
        tested_at=from_rfc3339(row.tested_at),
        evidence=digest(row.evidence),
    )
