"""What a region's compliance has registered: screenings, counters and test records.

`facts.toml` in the region's home is read anew for every decision, so that a new screening counts at
once.  It is the region's own word to its own gateway; nothing in it comes from a counterparty.
"""

from __future__ import annotations

import functools
from pathlib import Path

import msgspec

from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import digest
from ringfence.policy.facts import Compute, Counters, ExtractionTest, Percent, Screening
from ringfence.policy.words import Chip

_LIMIT_BYTES = 1024 * 1024


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every table: immutable, unknown keys refused."""


class _Screening(_Table, frozen=True, kw_only=True):
    operator: str
    at: str
    us_listed: bool
    cn_listed: bool
    listed_owners_percent: int


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
        """Raises: FormatError or ValueError when a time, a digest or a share is none."""
        self._file = file
        self._screenings = {
            row.operator: _screening(row) for row in sorted(file.screenings, key=_screened_at)
        }
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

    def screening(self, operator: str) -> Screening | None:
        """The newest screening of `operator`, or None."""
        return self._screenings.get(operator)

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


def _screened_at(row: _Screening) -> float:
    return from_rfc3339(row.at)


def _screening(row: _Screening) -> Screening:
    return Screening(
        at=from_rfc3339(row.at),
        us_listed=row.us_listed,
        cn_listed=row.cn_listed,
        listed_owners_percent=Percent(row.listed_owners_percent),
    )


def _tested_at(row: _Extraction) -> float:
    return from_rfc3339(row.tested_at)


def _extraction(row: _Extraction) -> ExtractionTest:
    return ExtractionTest(
        passed=row.passed,
        tested_at=from_rfc3339(row.tested_at),
        evidence=digest(row.evidence),
    )
