"""Chips: every row of the reference, every limit from both sides, and what nobody knows."""

from __future__ import annotations

import dataclasses
import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.demo_world import CN, DE, EU, planned_crossings

from ringfence.core.clock import from_rfc3339
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import Approval
from ringfence.policy.chip_table import ChipModel, ChipTable, chip_table, parse_chip_table
from ringfence.policy.chips import (
    Attestation,
    Finding,
    american_day,
    classify,
    explain,
    in_h200_limits,
    most_restricted,
    paragraph_3a090,
)
from ringfence.policy.facts import Compute, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import ApprovalType, Chip

TODAY = date(2026, 11, 20)
EVIDENCE = Digest("sha256:" + "e5" * 32)
ORDER = list(Chip)
HARDWARE_MD = Path(__file__).parents[2] / "docs" / "hardware.md"

# Section 6 of the reference, copied by hand: name, best rate of the package, bits, TPP, die area,
# PD, GB/s, what its column 3A090 says, and the class that the note asks for.  The rounding is the
# reference's: a figure is right when it is within half of the last digit that stands here, or
# within 2 % where the reference says "about".
REFERENCE = (
    ("A100 80 GB", 312, 16, 4992, 826, 6.0, 2039, "3A090.a", "3a090"),
    ("A800", 312, 16, 4992, 826, 6.0, 2039, "3A090.a", "3a090"),
    ("H100 SXM", 989, 16, 15824, 814, 19.4, 3350, "3A090.a", "3a090"),
    ("H800", 989, 16, "15800", 814, 19.4, 3350, "3A090.a", "3a090"),
    ("H200", 989, 16, 15824, 814, 19.4, 4800, "3A090.a", "3a090_h200"),
    ("H20", 148, 16, 2368, 814, 2.9, "4000", "", "3a090"),
    ("B200", 2250, 16, "36000", "1600", "22", "8000", "3A090.a", "3a090"),
    ("L40S", 733, 8, "5860", 609, 9.6, 864, "3A090.a", "3a090"),
    ("RTX 4090", 661, 8, "5285", 609, 8.7, 1008, "3A090.a", "3a090_notified"),
    ("RTX 5090", 838, 8, "6700", "750", 8.9, 1792, "3A090.a", "3a090_notified"),
    ("Ascend 910B", 320, 16, "5100", "665", "7.7", "1600", "3A090.a", "prc_3a090"),
    ("Ascend 910C", 780, 16, "12500", "1330", "9", "3200", "3A090.a", "prc_3a090"),
    ("Biren BR100", 1024, 16, 16384, "1074", "15", "2300", "3A090.a", "prc_3a090"),
    ("Cambricon MLU590", 330, 16, "5250", None, None, None, "3A090.a", "prc_3a090"),
    ("Tesla D1", 362, 16, 5792, 645, 9.0, None, "3A090.a", "3a090"),
    ("Hygon DCU K100-AI", 196, 16, "3100", None, None, "900", "3A090.a", "prc_3a090"),
)


def attested(model: str, **changes: object) -> Attestation:
    held = Attestation(
        model=model, count=8, bought=date(2026, 3, 1), licence="D1234567", evidence=EVIDENCE
    )
    return dataclasses.replace(held, **changes)


def finding(held: Attestation, *, at: date = TODAY, table: ChipTable | None = None) -> Finding:
    (found,) = explain([held], at=at, table=table)
    return found


def model(name: str) -> ChipModel:
    chip = chip_table().find(name)
    assert chip is not None
    return chip


def close(got: float | None, want: float | str | None) -> bool:
    """Equal within the reference's rounding; text stands for "about"."""
    if got is None or want is None:
        return got is want
    if isinstance(want, str):
        return abs(got - float(want)) <= max(0.02 * float(want), 0.5)
    return abs(got - want) <= (0.05 if isinstance(want, float) else 0.5)


# ── the table ──


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: str(row[0]))
def test_every_row_of_the_reference_gives_its_numbers_and_its_class(
    row: tuple[str, int, int, object, object, object, object, str, str],
) -> None:
    # given a row of section 6
    name, rate, bits, tpp, area, density, bandwidth, paragraph, word = row
    chip = model(name)
    # when it is attested today
    found = finding(attested(name))
    # then what is computed is what stands there
    assert max(r.tops for r in chip.rates) * chip.dies == rate
    assert {r.bits for r in chip.rates} == {bits}
    assert close(found.tpp, tpp)
    assert close(chip.area_mm2 and chip.area_mm2 * chip.dies, area)
    assert close(found.performance_density, density)
    assert close(chip.bandwidth_gb_s, bandwidth)
    assert found.paragraph == paragraph
    assert found.chip == word
    assert classify([attested(name)], at=TODAY) == word


def test_the_table_holds_the_rows_of_the_reference_and_no_others() -> None:
    assert [chip.name for chip in chip_table().chips] == [row[0] for row in REFERENCE]


def test_what_is_only_about_right_is_marked() -> None:
    # given the figures that the reference marks as estimates, by row
    for name, _, _, tpp, area, _, bandwidth, *_ in REFERENCE:
        chip = model(name)
        marks = {
            "tops": isinstance(tpp, str),
            "area_mm2": isinstance(area, str),
            "bandwidth_gb_s": isinstance(bandwidth, str),
        }
        # then the table marks the same
        assert set(chip.approximate) == {figure for figure, about in marks.items() if about}, name
        assert set(chip.unknown) == {
            figure
            for figure, value in (("area_mm2", area), ("bandwidth_gb_s", bandwidth))
            if value is None
        }, name


def test_the_document_shows_what_the_program_computes() -> None:
    # given the table of docs/hardware.md
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in HARDWARE_MD.read_text().splitlines()
        if line.startswith("| ") and " | " in line
    ]
    shown = {cells[0]: cells[1:] for cells in rows}
    # when each chip is looked up in it, then its numbers and its class stand there
    for chip in chip_table().chips:
        density = chip.performance_density
        assert shown[chip.name] == [
            f"{chip.tpp:,.0f}",
            "unknown" if density is None else f"{density:.1f}",
            "unknown" if chip.bandwidth_gb_s is None else f"{chip.bandwidth_gb_s:,.0f}",
            finding(attested(chip.name)).paragraph.removeprefix("3A090") or "below",
            f"`{finding(attested(chip.name)).chip}`",
            chip.note,
        ]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("nvidia-h100_80gb hbm3", "H100 SXM"),
        ("H20", "H20"),
        ("h 200", "H200"),
        ("Huawei Ascend 910B", "Ascend 910B"),
    ],
)
def test_a_chip_is_found_by_any_of_its_names(written: str, name: str) -> None:
    assert model(written).name == name


@pytest.mark.parametrize("written", ["H100 PCIe", "RTX 4090 D", "H20-3e", "910", "", "A100?"])
def test_a_name_that_is_nearly_one_is_not_in_the_table(written: str) -> None:
    assert chip_table().find(written) is None


def test_processing_performance_is_of_the_best_format_and_all_dies() -> None:
    # given a package of three dies that is fastest, by bits, in its shortest format
    table = parse_chip_table(
        b"""
        [[chips]]
        names = ["X"]
        seat = "US"
        datacentre = true
        dies = 3
        area_mm2 = 100.0
        bandwidth_gb_s = 1.0
        rates = [
            { format = "FP64", bits = 64, tops = 1.0 },
            { format = "FP16", bits = 16, tops = 10.0 },
            { format = "FP4", bits = 4, tops = 50.0, most = 60.0 },
        ]
        """
    )
    # when
    (chip,) = table.chips
    # then
    assert (chip.tpp, chip.tpp_most) == (600.0, 720.0)
    assert (chip.performance_density, chip.performance_density_most) == (2.0, 2.4)


ROW = """
[[chips]]
names = ["X"]
seat = "US"
datacentre = true
dies = 1
rates = [{ format = "FP16", bits = 16, tops = 100.0 }]
area_mm2 = 900.0
bandwidth_gb_s = 1000.0
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ('names = ["X"]', "names = []", "length"),
        ('names = ["X"]', 'names = [" - "]', "letters"),
        ('names = ["X"]', 'names = ["X", "x"]', "stands once"),
        ('seat = "US"', 'seat = "EU"', "Invalid enum"),
        ("dies = 1", "dies = 0", ">= 1"),
        ("bits = 16", "bits = 17", "Invalid enum"),
        ("tops = 100.0", "tops = 0.0", "> 0"),
        ("tops = 100.0", "tops = nan", "finite|> 0"),
        ("tops = 100.0", "tops = 100.0, most = inf", "finite"),
        ("tops = 100.0", "tops = 100.0, most = 90.0", "least to most"),
        ("tops = 100.0", "tops = 100.0, least = 110.0", "least to most"),
        ("tops = 100.0", 'tops = "100"', "Expected `float`"),
        ("area_mm2 = 900.0", "area_mm2 = -1.0", "> 0"),
        ("area_mm2 = 900.0", "", "left out"),
        ("area_mm2 = 900.0", 'area_mm2 = 900.0\nunknown = ["area_mm2"]', "left out"),
        (
            "area_mm2 = 900.0",
            'unknown = ["area_mm2"]\napproximate = ["area_mm2"]',
            "either approximate or unknown",
        ),
        ("dies = 1", 'dies = 1\napproximate = ["speed"]', "Invalid enum"),
        ("dies = 1", 'dies = 1\ncontrolled_since = "Nov 2023"', "controlled_since"),
        ("dies = 1", 'dies = 1\ncontrolled_since = "20231101"', "controlled_since"),
        ("dies = 1", "dies = 1\ninformed = true", "the day of the letter"),
        ("dies = 1", "dies = 1\ntpp = 1.0", "unknown field"),
        ("dies = 1", "", "missing required"),
        (ROW, ROW + ROW, "stands once"),
        (ROW, "chips = []", "length"),
        (ROW, "", "missing required"),
        (ROW, "[[chips", "chip table"),
    ],
)
def test_a_malformed_row_is_refused_with_what_was_expected(
    before: str, after: str, expected: str
) -> None:
    # given a good table, spoilt in one place
    assert before in ROW
    parse_chip_table(ROW.encode())
    # when it is read
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_chip_table(ROW.replace(before, after).encode())
    # then the table is named
    assert str(caught.value).startswith("chip table")


def test_a_table_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="chip table"):
        parse_chip_table(b"\xff\xfe")


# ── the limits of US-EAR-3A090 ──


@pytest.mark.parametrize(
    ("tpp", "density", "datacentre", "paragraph"),
    [
        # .a by performance alone, on both sides; then what a density under every limit leaves.
        (4800.0, 0.1, True, "3A090.a"),
        (4799.9, 0.1, True, ""),
        (4800.0, None, False, "3A090.a"),
        # .a by density
        (1600.0, 5.92, True, "3A090.a"),
        (1600.0, 5.9199, True, "3A090.b"),
        (1599.9, 5.92, True, ""),
        (4799.9, 5.92, True, "3A090.a"),
        (4799.9, 5.9199, True, "3A090.b"),
        # .b, first half: at least 2400 with at least 1.6
        (2400.0, 1.6, True, "3A090.b"),
        (2399.9, 1.6, True, ""),
        (2400.0, 1.5999, True, ""),
        (4799.9, 1.6, True, "3A090.b"),
        (4799.9, 1.5999, True, ""),
        # .b, second half: at least 1600 with at least 3.2
        (1600.0, 3.2, True, "3A090.b"),
        (1599.9, 3.2, True, ""),
        (1600.0, 3.1999, True, ""),
        (2399.9, 3.1999, True, ""),
        (2399.9, 3.2, True, "3A090.b"),
        # not for datacentres: out below 4800, whatever the density
        (4799.9, 100.0, False, ""),
        (4800.0, 0.1, False, "3A090.a"),
        # density unknown
        (1600.0, None, True, "3A090.a"),
        (1599.9, None, True, ""),
        (4799.9, None, False, ""),
    ],
)
def test_the_limits_of_3a090_from_both_sides(
    tpp: float, density: float | None, datacentre: bool, paragraph: str
) -> None:
    assert paragraph_3a090(tpp=tpp, density=density, datacentre=datacentre) == paragraph


RESTRICTED = ["", "3A090.b", "3A090.a"]
FIGURE = st.floats(min_value=0.01, max_value=1e5)


@given(tpp=FIGURE, more=FIGURE, area=FIGURE, less=st.floats(min_value=0.01, max_value=1.0))
def test_a_faster_or_a_denser_chip_is_never_less_restricted(
    tpp: float, more: float, area: float, less: float
) -> None:
    # given a chip
    before = paragraph_3a090(tpp=tpp, density=tpp / area, datacentre=True)
    # when it gets faster on the same area, or has the same speed on less of it, or nobody knows
    faster = paragraph_3a090(tpp=tpp + more, density=(tpp + more) / area, datacentre=True)
    denser = paragraph_3a090(tpp=tpp, density=tpp / (area * less), datacentre=True)
    doubtful = paragraph_3a090(tpp=tpp, density=None, datacentre=True)
    # then it stays at least as restricted
    for after in (faster, denser, doubtful):
        assert RESTRICTED.index(after) >= RESTRICTED.index(before)


@pytest.mark.parametrize(
    ("tpp", "bandwidth", "within"),
    [
        (20_999.9, 6_499.9, True),
        (21_000.0, 6_499.9, False),
        (20_999.9, 6_500.0, False),
        (1.0, None, False),
    ],
)
def test_the_limits_of_91_fr_1684_from_both_sides(
    tpp: float, bandwidth: float | None, within: bool
) -> None:
    assert in_h200_limits(tpp=tpp, bandwidth_gb_s=bandwidth) is within


def test_a_chip_is_judged_by_the_highest_claim() -> None:
    # given a chip that is free by its own figure and controlled by what others claim
    claimed = ROW.replace("tops = 100.0", "tops = 100.0, most = 300.0")
    # when both are attested
    by_figure = finding(attested("X"), table=parse_chip_table(ROW.encode()))
    by_claim = finding(attested("X"), table=parse_chip_table(claimed.encode()))
    # then the doubt frees nothing
    assert by_figure.chip is Chip.UNCONTROLLED
    assert (by_claim.chip, by_claim.tpp) == (Chip.CONTROLLED_3A090, 1600.0)


def test_a_chinese_chip_below_the_numbers_is_free() -> None:
    table = parse_chip_table(ROW.replace('"US"', '"CN"').encode())
    assert finding(attested("X"), table=table).chip is Chip.UNCONTROLLED


@pytest.mark.parametrize(
    ("bandwidth", "sold", "chip"),
    [
        ("4800.0", "true", Chip.H200_3A090),
        ("6500.0", "true", Chip.CONTROLLED_3A090),
        ("4800.0", "false", Chip.CONTROLLED_3A090),
    ],
)
def test_the_case_by_case_review_needs_both_numbers_and_american_sales(
    bandwidth: str, sold: str, chip: Chip
) -> None:
    # given
    text = ROW.replace("tops = 100.0", "tops = 989.0").replace("s = 1000.0", f"s = {bandwidth}")
    table = parse_chip_table((text + f"sold_in_us = {sold}\n").encode())
    # then
    assert finding(attested("X"), table=table).chip is chip


# ── attestations ──


def test_an_unknown_chip_is_treated_as_controlled() -> None:
    found = finding(attested("MI325X"))
    assert (found.chip, found.paragraph, found.tpp) == (Chip.UNKNOWN, "3A090.a", None)
    assert "not in the chip table" in found.why


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("RTX 4090", Chip.UNKNOWN),
        ("H200", Chip.UNKNOWN),
        ("A100", Chip.UNKNOWN),
        ("Ascend 910B", Chip.PRC_3A090),
        ("no such chip", Chip.UNKNOWN),
    ],
)
def test_without_evidence_nothing_is_attested(name: str, chip: Chip) -> None:
    # given an entry that names no document, and one about a purchase that is still to come
    for held in (attested(name, evidence=None), attested(name, bought=date(2026, 11, 21))):
        # then a doubt only adds to what the model is
        assert finding(held).chip is chip
        assert not finding(held).may_hold


def test_a_region_that_lists_no_chip_attests_none() -> None:
    assert classify([], at=TODAY) is Chip.UNKNOWN


@pytest.mark.parametrize(
    ("name", "since"),
    [("A800", date(2023, 11, 1)), ("H800", date(2023, 11, 1)), ("H20", date(2025, 4, 1))],
)
def test_a_chip_is_controlled_from_its_date_on(name: str, since: date) -> None:
    # given the day before, the day itself, and chips bought on each
    before = since - date.resolution
    early, late = attested(name, bought=before), attested(name, bought=since)
    # then the law of the day counts, and who bought early with proof may hold
    assert finding(early, at=before).chip is Chip.UNCONTROLLED
    assert finding(early, at=before).rules == ()
    assert finding(early, at=since).chip is Chip.CONTROLLED_3A090
    assert finding(early, at=since).may_hold
    assert "needs bis.license" in finding(early, at=since).why
    assert finding(late, at=since).chip is Chip.CONTROLLED_3A090
    assert not finding(late, at=since).may_hold


@pytest.mark.parametrize("changes", [{"bought": None}, {"evidence": None}])
def test_only_a_proof_of_the_date_lets_a_region_hold(changes: dict[str, object]) -> None:
    # given a chip that was bought early, and no proof of it
    held = attested("A800", **{"bought": date(2022, 5, 1), **changes})
    # then
    assert not finding(held).may_hold
    assert finding(held).missing


def test_a_chip_that_was_always_controlled_has_no_early_buyers() -> None:
    assert not finding(attested("A100", bought=date(2021, 1, 1))).may_hold


def test_the_h200_is_looked_at_case_by_case_from_its_rule_on() -> None:
    # given
    held = attested("H200", bought=date(2025, 1, 1))
    # then
    assert finding(held, at=date(2026, 1, 14)).chip is Chip.CONTROLLED_3A090
    assert finding(held, at=date(2026, 1, 15)).chip is Chip.H200_3A090
    assert finding(held, at=date(2026, 1, 15)).rules == ("US-EAR-3A090", "US-EAR-H200")


def test_american_days_begin_in_new_york() -> None:
    assert american_day(from_rfc3339("2026-01-15T04:59:59Z")) == date(2026, 1, 14)
    assert american_day(from_rfc3339("2026-01-15T05:00:00Z")) == date(2026, 1, 15)
    assert american_day(from_rfc3339("2026-07-15T03:59:59Z")) == date(2026, 7, 14)


@pytest.mark.parametrize("time_s", [-62135596800.0, 1e18, float("inf"), float("nan")])
def test_a_time_that_no_calendar_holds_is_refused(time_s: float) -> None:
    with pytest.raises(FormatError, match="this era"):
        american_day(time_s)


def test_a_finding_says_what_it_is_and_what_the_record_lacks() -> None:
    # when
    text = finding(attested("RTX 4090", bought=None, licence="")).text
    # then
    assert text == (
        "8 x RTX 4090 (TPP 5,288, PD 8.7): 3a090_notified, meets 3A090.a, not for datacentres: "
        "notify or licence; in China record the day of purchase and the licence or notification "
        "number"
    )
    assert finding(attested("MLU590")).text == (
        "8 x MLU590 (TPP 5,280): prc_3a090, designed in China and meets 3A090.a, die area unknown"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": ""}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"count": 0}, "count"),
        ({"licence": "x" * 201}, "licence"),
    ],
)
def test_a_malformed_attestation_is_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(FormatError, match=expected):
        attested(**{"model": "H100", **changes})


# ── all that took part ──

NAMES = st.sampled_from([name for chip in chip_table().chips for name in chip.names] + ["?", "MI9"])
DATES = st.dates(min_value=date(2020, 1, 1), max_value=date(2028, 1, 1))
ATTESTATIONS = st.builds(
    Attestation,
    model=NAMES,
    count=st.integers(1, 10_000),
    bought=st.none() | DATES,
    licence=st.sampled_from(["", "D1"]),
    evidence=st.sampled_from([None, EVIDENCE]),
)


@given(held=st.lists(ATTESTATIONS, min_size=1, max_size=6), more=ATTESTATIONS, at=DATES)
def test_adding_a_chip_never_makes_the_class_less_restricted(
    held: list[Attestation], more: Attestation, at: date
) -> None:
    # given chips of any kind, and one more
    before, after = classify(held, at=at), classify([*held, more], at=at)
    # then
    assert ORDER.index(after) >= ORDER.index(before)
    assert ORDER.index(after) >= ORDER.index(classify([more], at=at))


@given(held=ATTESTATIONS, at=DATES)
def test_losing_the_evidence_never_makes_a_chip_less_restricted(
    held: Attestation, at: date
) -> None:
    # given an attestation with evidence, and the same without
    shown = classify([dataclasses.replace(held, evidence=EVIDENCE)], at=at)
    bare = classify([dataclasses.replace(held, evidence=None)], at=at)
    # then
    assert ORDER.index(bare) >= ORDER.index(shown)
    assert bare is not Chip.UNCONTROLLED


def test_the_most_restricted_of_nothing_is_what_the_caller_says() -> None:
    assert most_restricted([], otherwise=Chip.UNCONTROLLED) is Chip.UNCONTROLLED
    assert most_restricted(ORDER, otherwise=Chip.UNCONTROLLED) is Chip.PRC_3A090


# ── the packs ──

PLAN = dict(planned_crossings())
TRAIN_CN = PLAN["phase 2: world train cn"]
TRAIN_DE = PLAN["phase 1: world train de"]


def on(asked: Question, chip: Chip, *, licence: Approval | None = None) -> Question:
    papers = asked.approvals if licence is None else (*asked.approvals, licence)
    return dataclasses.replace(
        asked, compute=Compute(chip=chip, training_ops=1.0), approvals=papers
    )


def rules(judge: Judge, asked: Question) -> set[str]:
    return {note.id for note in judge.judge(asked).rules}


def bis_license(asked: Question, at: Jurisdiction) -> Approval:
    """A licence for the use of chips where the asking operator trains."""
    like = next(held for held in asked.approvals)
    return dataclasses.replace(
        like,
        id="bis.license/1",
        type=ApprovalType.BIS_LICENSE,
        holder=asked.recipient.operator,
        counterparties=frozenset({asked.recipient.operator}),
        kinds=frozenset({asked.kind}),
        origin=at,
        destination=at,
        lineage=asked.lineage,
        purpose=asked.purpose,
        scope=asked.scope,
        lowers=frozenset(),
    )


@pytest.mark.parametrize("chip", ORDER)
def test_training_in_china_needs_a_licence_for_every_controlled_chip(
    judge: Judge, chip: Chip
) -> None:
    # given
    licence = bis_license(TRAIN_CN, CN)
    own = {
        Chip.UNCONTROLLED: set[str](),
        Chip.H200_3A090: {"US-EAR-3A090", "US-EAR-H200"},
        Chip.PRC_3A090: {"US-EAR-3A090", "US-EAR-GP10"},
    }.get(chip, {"US-EAR-3A090"})
    # when
    without, with_it = (
        rules(judge, on(TRAIN_CN, chip, licence=paper)) for paper in (None, licence)
    )
    # then the licence cures all but GP10
    assert without == own
    assert with_it == own & {"US-EAR-GP10"}


@pytest.mark.parametrize("chip", ORDER)
def test_a_chinese_parent_needs_a_licence_wherever_it_trains(judge: Judge, chip: Chip) -> None:
    # given a European region of a Chinese owner, and one of a European
    owned = dataclasses.replace(DE, parent=CN)
    theirs = dataclasses.replace(
        TRAIN_DE,
        sender=owned,
        recipient=owned,
        contributors=TRAIN_DE.contributors - {DE} | {owned},
        approvals=PLAN["phase 2: world train cn"].approvals,
    )
    licence = bis_license(theirs, EU)
    # when both would train on controlled chips
    free = chip in (Chip.UNCONTROLLED, Chip.PRC_3A090)
    # then only the Chinese owner's needs a licence, and holds it
    assert ("US-EAR-HQ" in rules(judge, on(theirs, chip))) == (chip is not Chip.UNCONTROLLED)
    assert "US-EAR-HQ" not in rules(judge, on(theirs, chip, licence=licence))
    assert "US-EAR-HQ" not in rules(judge, on(TRAIN_DE, chip))
    if not free:
        assert rules(judge, on(TRAIN_DE, chip)) == set()


@pytest.mark.parametrize(
    "asked", [TRAIN_CN, TRAIN_DE, PLAN["phase 2: world export update cn > hub"]]
)
def test_whatever_is_refused_for_one_class_is_refused_for_those_behind_it(
    judge: Judge, asked: Question
) -> None:
    # when each class is asked about in turn
    refused = [bool(rules(judge, on(asked, chip))) for chip in ORDER]
    # then no permit follows a refusal
    assert refused == sorted(refused)


def test_the_order_stands_in_the_schema_too(judge: Judge) -> None:
    # given
    text = (Path(__file__).parents[2] / "src/ringfence/policy/packs/schema.cedarschema").read_text()
    found = re.search(r"entity Chip enum \[([^\]]*)\]", text)
    assert found
    # then
    assert re.findall(r'"([^"]+)"', found[1]) == [word.value for word in ORDER]
