"""What a region's compliance registered: screenings with owners, data sets, counters and tests.

`facts.toml` in the region's home is read anew for every decision, so that a new screening counts at
once.  It is the region's own word to its own gateway; nothing in it comes from a counterparty.
"""

from __future__ import annotations

import functools
from decimal import Decimal
from pathlib import Path

import msgspec

from ringfence.core import ids
from ringfence.core.catalogue import Subjects
from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest, digest, jurisdiction
from ringfence.crossing.data_sets import Overlap, larger
from ringfence.crossing.windows import american_window_start, chinese_year_start
from ringfence.policy.bulk import IDENTIFIERS_LINE, LEAST_LINE
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
    """The opening balance: what was exported before this program counted.

    `until` is when that was, after which nothing of it is left out; without it the balance stands
    for good.  `us_line` is the lowest line among the American categories in it.
    """

    cn_people: int
    cn_sensitive_people: int
    us_people: int
    us_devices: int
    us_line: int = LEAST_LINE
    until: str = ""


class _DataSet(_Table, frozen=True, kw_only=True):
    """A catalogue of some region, by its digest, and how many subjects it has."""

    region: str
    catalogue: str
    people: int
    sensitive_people: int
    devices: int


class _Overlap(_Table, frozen=True, kw_only=True):
    """Two catalogues have at least so many subjects in common, as `evidence` shows."""

    catalogues: tuple[str, str]
    people: int
    sensitive_people: int
    devices: int
    evidence: str


class _Extraction(_Table, frozen=True, kw_only=True):
    lineage: str
    passed: bool
    tested_at: str
    evidence: str


class _File(_Table, frozen=True, kw_only=True):
    screenings: tuple[_Screening, ...] = ()
    counters: _Counters | None = None
    data_sets: tuple[_DataSet, ...] = ()
    overlaps: tuple[_Overlap, ...] = ()
    extractions: tuple[_Extraction, ...] = ()
    training_ops: float | None = None
    revoked: tuple[str, ...] = ()


class Registry:
    """The registered facts as they stand now."""

    def __init__(self, file: _File) -> None:
        """Raises: FormatError or ValueError when a time, a digest, a seat or a share is none."""
        self._file = file
        self._owners = register(map(_screened, file.screenings))
        searches = (party.at for party in self._owners.parties.values())
        self._last_search_s = max(searches, default=0.0)
        self._parents: dict[str, Parent] = {}
        self._extractions = {
            row.lineage: _extraction(row) for row in sorted(file.extractions, key=_tested_at)
        }
        self._data_sets: dict[str, dict[Digest, Subjects]] = {}
        for row in file.data_sets:
            known = self._data_sets.setdefault(ids.region_id(row.region), {})
            counted = _subjects(row)
            name = digest(row.catalogue)
            known[name] = larger(known.get(name, counted), counted)
        self._overlaps = tuple(_overlap(row) for row in file.overlaps)
        if file.counters is not None:
            _balance(file.counters, chinese=True, american=True)
            _counted_until(file.counters)
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

    @property
    def last_search_s(self) -> float:
        """When the last search was made that is registered; screenings are the same ever after."""
        return self._last_search_s

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

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """Proven overlaps between data sets."""
        return self._overlaps

    def data_sets(self, region: str) -> dict[Digest, Subjects]:
        """The registered data sets of `region`, by the digest of their catalogue."""
        return dict(self._data_sets.get(region, {}))

    def opening(self, now_s: float) -> Counters | None:
        """What was exported before this program counted, or None when nobody has said.

        A balance with a date counts as long as that date lies within the window.
        """
        counters = self._file.counters
        if counters is None:
            return None
        until_s = _counted_until(counters)
        return _balance(
            counters,
            chinese=until_s is None or until_s > chinese_year_start(now_s),
            american=until_s is None or until_s > american_window_start(now_s),
        )

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


def _counted_until(row: _Counters) -> float | None:
    return from_rfc3339(row.until) if row.until else None


def _balance(row: _Counters, *, chinese: bool, american: bool) -> Counters:
    counted = american and row.us_people + row.us_devices > 0
    return Counters(
        cn_people=row.cn_people if chinese else 0,
        cn_sensitive_people=row.cn_sensitive_people if chinese else 0,
        us_people=row.us_people if american else 0,
        us_devices=row.us_devices if american else 0,
        us_line=row.us_line if counted else IDENTIFIERS_LINE,
    )


def _subjects(row: _DataSet | _Overlap) -> Subjects:
    return Subjects(people=row.people, sensitive_people=row.sensitive_people, devices=row.devices)


def _overlap(row: _Overlap) -> Overlap:
    one, other = row.catalogues
    return Overlap(
        one=digest(one),
        other=digest(other),
        shared=_subjects(row),
        evidence=digest(row.evidence),
    )


def _tested_at(row: _Extraction) -> float:
    return from_rfc3339(row.tested_at)


def _extraction(row: _Extraction) -> ExtractionTest:
    return ExtractionTest(
        passed=row.passed,
        tested_at=from_rfc3339(row.tested_at),
        evidence=digest(row.evidence),
    )
