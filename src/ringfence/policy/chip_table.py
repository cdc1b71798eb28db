"""The chips of the reference's section 6, from `chips.toml`, with what the law computes from them.

chip = chip_table().find("NVIDIA H200")
chip.tpp, chip.performance_density        # 15824.0, 19.4...
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ringfence.core.errors import ConfigError

Figure = Literal["tops", "area_mm2", "bandwidth_gb_s"]
Seat = Literal["US", "CN"]

_SHIPPED = Path(__file__).parent / "chips.toml"
_NOT_COUNTED = re.compile(r"[\s_-]+")

_Positive = Annotated[float, Meta(gt=0)]
_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every table: immutable, unknown keys refused."""


class Rate(_Row, frozen=True, kw_only=True):
    """Dense operations of one die in one number format, in units of 1e12 a second.

    A multiplication with its addition counts as two operations.  `least` and `most` are set where
    claims differ; `tops` is the reference's own figure.
    """

    format: _Text
    bits: Literal[4, 8, 16, 32, 64]
    tops: _Positive
    least: _Positive | None = None
    most: _Positive | None = None


class ChipModel(_Row, frozen=True, kw_only=True):
    """One row of the table; `chips.toml` says what each key means.

    Rates and `area_mm2` (mm²) are of one die, `bandwidth_gb_s` (GB/s) of the package.
    """

    names: Annotated[tuple[_Text, ...], Meta(min_length=1)]
    seat: Seat
    datacentre: bool
    dies: Annotated[int, Meta(ge=1, le=1000)]
    rates: Annotated[tuple[Rate, ...], Meta(min_length=1)]
    area_mm2: _Positive | None = None
    bandwidth_gb_s: _Positive | None = None
    informed: bool = False
    controlled_since: str = ""
    sold_in_us: bool = False
    approximate: tuple[Figure, ...] = ()
    unknown: tuple[Figure, ...] = ()
    note: str = ""

    @property
    def name(self) -> str:
        """The reference's name for it."""
        return self.names[0]

    @property
    def controlled_from(self) -> date | None:
        """First day, in New York, on which the chip counts as controlled; None: always."""
        return iso_date(self.controlled_since) if self.controlled_since else None

    @property
    def tpp(self) -> float:
        """Total processing performance: dense TOPS x bit length, of the best format and all dies.

        Source: 3A090, technical notes; the factor 2 of "2 x MacTOPS" is in TOPS already.
        """
        return self.dies * max(rate.tops * rate.bits for rate in self.rates)

    @property
    def tpp_most(self) -> float:
        """The same by the highest claim; a chip is judged by it, so that no doubt frees a chip."""
        return self.dies * max((rate.most or rate.tops) * rate.bits for rate in self.rates)

    @property
    def performance_density(self) -> float | None:
        """TPP per mm² of applicable die area; None where the area is unknown."""
        return None if self.area_mm2 is None else self.tpp / (self.dies * self.area_mm2)

    @property
    def performance_density_most(self) -> float | None:
        """The same by the highest claim."""
        return None if self.area_mm2 is None else self.tpp_most / (self.dies * self.area_mm2)


class _File(_Row, frozen=True, kw_only=True):
    chips: Annotated[tuple[ChipModel, ...], Meta(min_length=1)]


class ChipTable:
    """Every known chip, found by any of its names; immutable by use."""

    def __init__(self, chips: Iterable[ChipModel]) -> None:
        """Raises: ConfigError when a row contradicts itself, or two share a name."""
        self.chips = tuple(chips)
        self._by_name: dict[str, ChipModel] = {}
        for chip in self.chips:
            for problem in _problems(chip):
                raise ConfigError(f"chip table: {chip.name!r}: expected {problem}; mend the row")
            for name in chip.names:
                if (known := self._by_name.get(_key(name))) is not None:
                    raise ConfigError(
                        f"chip table: {name!r} names {chip.name!r} and {known.name!r}; a name "
                        "stands once"
                    )
                self._by_name[_key(name)] = chip

    def find(self, name: str) -> ChipModel | None:
        """The chip that is called `name`, or None: a name that is nearly one is another chip's."""
        return self._by_name.get(_key(name))


@functools.cache
def chip_table() -> ChipTable:
    """The table that comes with the program, read and checked once."""
    try:
        data = _SHIPPED.read_bytes()
    except OSError as error:
        raise ConfigError(f"{_SHIPPED}: {error.strerror}; install Ringfence again") from error
    return parse_chip_table(data)


def parse_chip_table(data: bytes) -> ChipTable:
    """Parse and check a table; raises `ConfigError` that names the row and what it should be."""
    try:
        file = msgspec.toml.decode(data, type=_File, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"chip table: {error}; mend the row") from error
    return ChipTable(file.chips)


def iso_date(text: str) -> date:
    """Parse `2023-11-01`, and no other way to write a date; raises `ValueError`."""
    parsed = date.fromisoformat(text)
    if parsed.isoformat() != text:
        raise ValueError(f"expected a date such as '2023-11-01', got {text[:40]!r}")
    return parsed


def _problems(chip: ChipModel) -> Iterator[str]:
    """What a row should be and is not; types and signs are checked where it is parsed."""
    if not all(map(math.isfinite, _figures(chip))):
        yield "finite figures"
    for rate in chip.rates:
        least, most = rate.least or rate.tops, rate.most or rate.tops
        if not least <= rate.tops <= most:
            yield f"tops from least to most ({least:g} to {most:g}), got {rate.tops:g}"
    # A figure that is left out by mistake must not read as one that nobody knows.
    left_out = {name for name in ("area_mm2", "bandwidth_gb_s") if getattr(chip, name) is None}
    if left_out != set(chip.unknown):
        yield f"unknown = {sorted(left_out)}, which are left out, got {sorted(chip.unknown)}"
    if both := left_out & set(chip.approximate):
        yield f"{sorted(both)} either approximate or unknown"
    if chip.controlled_since:
        try:
            iso_date(chip.controlled_since)
        except ValueError:
            yield f"controlled_since such as '2023-11-01', got {chip.controlled_since[:40]!r}"
    elif chip.informed:
        yield "controlled_since, the day of the letter by which the chip is informed, got none"
    if not all(_key(name) for name in chip.names):
        yield "names with letters in them"


def _figures(chip: ChipModel) -> Iterator[float]:
    for rate in chip.rates:
        yield from (rate.tops, rate.least or rate.tops, rate.most or rate.tops)
    yield from (figure for figure in (chip.area_mm2, chip.bandwidth_gb_s) if figure is not None)


def _key(name: str) -> str:
    return _NOT_COUNTED.sub("", name).casefold()
