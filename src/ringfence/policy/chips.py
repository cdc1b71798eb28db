"""What the chips that a region attests amount to under US export law, and why.

    h200 = Attestation(model="NVIDIA H200", count=8, bought=date(2026, 3, 1),
                       licence="D1234567", evidence=digest("sha256:..."))
    today = american_day(clock())
    classify([h200], at=today)                         # Chip.H200_3A090
    for finding in explain([h200], at=today):
        print(finding.text)

Rules US-EAR-3A090, US-EAR-H200 and US-EAR-GP10 with the readings of the reference's section 8.
Engineering input, not legal advice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest
from ringfence.policy.chip_table import ChipModel, ChipTable, chip_table
from ringfence.policy.words import Chip

Paragraph = Literal["3A090.a", "3A090.b", ""]
"""Which limits a chip meets; empty: none."""

H200_LEAST_TPP = 21_000.0
H200_LEAST_BANDWIDTH_GB_S = 6_500.0
H200_SINCE = date(2026, 1, 15)
"""91 FR 1684: below both limits, and from this day on."""

_TEXT_LIMIT = 200
_ORDER = tuple(Chip)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """Chips of one model that a region states it trains on, all bought on one day.

    `bought` None means that there is no proof of the day, `licence` is the number of the licence or
    notification under which they are held (empty: none), `evidence` the digest of the document that
    shows all this; without it nothing is attested.
    """

    model: str
    count: int
    bought: date | None
    licence: str
    evidence: Digest | None

    def __post_init__(self) -> None:
        self._expect(0 < len(self.model) <= _TEXT_LIMIT, "a model of 1 to 200 letters")
        self._expect(self.count >= 1, f"a count of at least 1, got {self.count}")
        self._expect(len(self.licence) <= _TEXT_LIMIT, "a licence of at most 200 letters")

    def _expect(self, holds: bool, expected: str) -> None:
        if not holds:
            raise FormatError(
                f"attestation of {self.model[:80]!r}: expected {expected}; correct the entry"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one attestation amounts to on one day, for people.

    `tpp` and `performance_density` are by the reference's own figures, None where they are unknown.
    `rules` are the ids that apply to the chip's use in China, `may_hold` says that it was bought
    before it was controlled, with proof of the day; `missing` names what the record of a controlled
    chip in China lacks.
    """

    attestation: Attestation
    chip: Chip
    tpp: float | None
    performance_density: float | None
    paragraph: Paragraph
    rules: tuple[str, ...]
    may_hold: bool
    missing: tuple[str, ...]
    why: str

    @property
    def text(self) -> str:
        """One line: how many of what, its figures, class and reason."""
        held = self.attestation
        known = [] if self.tpp is None else [f"TPP {self.tpp:,.0f}"]
        if self.performance_density is not None:
            known.append(f"PD {self.performance_density:.1f}")
        figures = f" ({', '.join(known)})" if known else ""
        lacks = f"; in China record {' and '.join(self.missing)}" if self.missing else ""
        return f"{held.count} x {held.model}{figures}: {self.chip}, {self.why}{lacks}"


def paragraph_3a090(*, tpp: float, density: float | None, datacentre: bool) -> Paragraph:
    """The paragraph of 3A090 whose limits a chip meets.

    `tpp` is the total processing performance, `density` TPP per mm² of applicable die area; None,
    where the area is unknown, counts as high as it can be.  Source: US-EAR-3A090.
    """
    if tpp >= 4800:
        return "3A090.a"
    if tpp < 1600 or not datacentre:
        return ""
    if density is None or density >= 5.92:
        return "3A090.a"
    if density >= 3.2 or (tpp >= 2400 and density >= 1.6):
        return "3A090.b"
    return ""


def in_h200_limits(*, tpp: float, bandwidth_gb_s: float | None) -> bool:
    """Whether both numbers of US-EAR-H200 hold; an unknown bandwidth (GB/s) does not."""
    return (
        tpp < H200_LEAST_TPP
        and bandwidth_gb_s is not None
        and bandwidth_gb_s < H200_LEAST_BANDWIDTH_GB_S
    )


def most_restricted(chips: Iterable[Chip], *, otherwise: Chip) -> Chip:
    """The class that decides for all of `chips`; `otherwise` where there are none."""
    return max(chips, key=_ORDER.index, default=otherwise)


def classify(
    attestations: Iterable[Attestation], *, at: date, table: ChipTable | None = None
) -> Chip:
    """The most restricted class of all chips that took part, on the American day `at`.

    No attestation at all attests nothing: unknown.
    """
    findings = explain(attestations, at=at, table=table)
    return most_restricted((finding.chip for finding in findings), otherwise=Chip.UNKNOWN)


def explain(
    attestations: Iterable[Attestation], *, at: date, table: ChipTable | None = None
) -> tuple[Finding, ...]:
    """What each attestation amounts to on the American day `at`, in their order."""
    known = chip_table() if table is None else table
    return tuple(_find(held, known.find(held.model), on=at) for held in attestations)


def american_day(time_s: float) -> date:
    """The day in New York, by which American rules begin (reference, section 8, time zones).

    `time_s` is in seconds since the epoch.

    Raises: ConfigError where the machine has no time zone data; FormatError for a time that no
    calendar holds.
    """
    try:
        zone = ZoneInfo("America/New_York")
    except ZoneInfoNotFoundError as error:
        raise ConfigError(f"{error}; install the system's time zone data (tzdata)") from error
    try:
        return datetime.fromtimestamp(time_s, UTC).astimezone(zone).date()
    except (OverflowError, OSError, ValueError) as error:
        raise FormatError(f"expected a time of this era; got {time_s!r} seconds") from error


def _find(held: Attestation, model: ChipModel | None, *, on: date) -> Finding:
    """A chip is judged by its model first; a doubt about the attestation only adds to that."""
    if model is None:
        chip, paragraph, why = (
            Chip.UNKNOWN,
            _paragraph(None),
            "not in the chip table, treated as 3A090.a",
        )
    else:
        paragraph = _paragraph(model)
        chip, why = _judge(model, paragraph, on=on)
    doubt = _doubt(held, on=on)
    if doubt and _ORDER.index(chip) < _ORDER.index(Chip.UNKNOWN):
        chip, why = Chip.UNKNOWN, f"{doubt}, treated as 3A090.a"
    since = model.controlled_from if model else None
    controlled = chip is not Chip.UNCONTROLLED
    may_hold = bool(controlled and not doubt and held.bought and since and held.bought < since)
    if may_hold:
        why += (
            f"; bought before {since}: lawful to hold with this proof, but moving it or serving "
            "it in China needs bis.license"
        )
    return Finding(
        attestation=held,
        chip=chip,
        tpp=model.tpp if model else None,
        performance_density=model.performance_density if model else None,
        paragraph=paragraph,
        rules=_rules(chip),
        may_hold=may_hold,
        missing=tuple(_missing(held, may_hold=may_hold)) if controlled else (),
        why=why,
    )


def _paragraph(model: ChipModel | None) -> Paragraph:
    # Section 6, check logic: an unknown chip is treated as .a.
    if model is None:
        return "3A090.a"
    return paragraph_3a090(
        tpp=model.tpp_most,
        density=model.performance_density_most,
        datacentre=model.datacentre,
    )


def _judge(model: ChipModel, paragraph: Paragraph, *, on: date) -> tuple[Chip, str]:
    """Class and reason of an attested chip of the table."""
    since = model.controlled_from
    if not paragraph and not model.informed:
        return Chip.UNCONTROLLED, "below the numbers of 3A090"
    if since is not None and on < since:
        return Chip.UNCONTROLLED, f"controlled from {since} on"
    if not paragraph:
        return Chip.CONTROLLED_3A090, f"below the numbers, but is-informed since {since}"
    unknown = ", die area unknown" if model.area_mm2 is None else ""
    if model.seat == "CN":
        return Chip.PRC_3A090, f"designed in China and meets {paragraph}{unknown}"
    if not model.datacentre:
        return Chip.NOTIFIED_3A090, f"meets {paragraph}, not for datacentres: notify or licence"
    band = in_h200_limits(tpp=model.tpp_most, bandwidth_gb_s=model.bandwidth_gb_s)
    if band and model.sold_in_us and on >= H200_SINCE:
        return Chip.H200_3A090, f"meets {paragraph} and the limits of 91 FR 1684: case by case"
    return Chip.CONTROLLED_3A090, f"meets {paragraph}{unknown}"


def _doubt(held: Attestation, *, on: date) -> str:
    """Why an entry attests nothing; empty where it does."""
    if held.evidence is None:
        return "not attested: no evidence"
    if held.bought is not None and held.bought > on:
        return f"not attested: bought on {held.bought}, which is still to come"
    return ""


def _missing(held: Attestation, *, may_hold: bool) -> Iterable[str]:
    """Section 6: record the provenance of every controlled chip in China."""
    if held.evidence is None:
        yield "evidence"
    if held.bought is None:
        yield "the day of purchase"
    if not held.licence and not may_hold:
        yield "the licence or notification number"


def _rules(chip: Chip) -> tuple[str, ...]:
    if chip is Chip.UNCONTROLLED:
        return ()
    if chip is Chip.PRC_3A090:
        return ("US-EAR-3A090", "US-EAR-GP10")
    if chip is Chip.H200_3A090:
        return ("US-EAR-3A090", "US-EAR-H200")
    return ("US-EAR-3A090",)
