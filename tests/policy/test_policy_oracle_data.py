"""The oracle, the copy of the reference's rules and the document of the law agree with one another.

Whether the packs agree with the oracle is asked elsewhere; here nothing looks at a pack.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.policy.oracle import (
    CLASSES,
    KINDS,
    ORACLE_PATH,
    PAPERS,
    Cell,
    Condition,
    Oracle,
    load_oracle,
)
from tests.policy.reference_rules import REFERENCE_RULES

ORACLE = load_oracle()
OPEN = [cell for cell in ORACLE.cells if cell.permitted]
SHUT = [cell for cell in ORACLE.cells if not cell.permitted]
CONDITIONS = [
    (cell, condition) for cell in OPEN for route in cell.routes for condition in route.conditions
]
RULES: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("reference_ids.toml").read_text()
)["rule"]
LAW = (Path(__file__).parents[2] / "docs" / "law.md").read_text()

# Section 7 of the reference, copied a second time and column by column, so that a slip of one copy
# shows.  Rows 1 to 12, 13 digest, 13 content, 14.
COLUMNS = {
    "CN>US": "X A† X X A† A† A† A† A† A† C L L A A†",
    "US>CN": "X A X X A A A A C C C L L A C",
    "CN>EU": "X A X X A A A A A A C L L A A",
    "EU>CN": "X A X X A A A A C C C L L C C",
    "EU>US": "X* C X* X* C C C C L L L L L C C",
    "US>EU": "X* C X* X* C C C C C C L L L C C",
    "JP>US": "X* C X* X* C C C C C C L L L C C",
    "US>JP": "X* C X* X* C C C C C C L L L C C",
}
# Papers that a government or a formal determination stands behind: what code A asks for.
OFFICIAL = {
    "cac.assessment",
    "cn.derived_determination",
    "cn.tech_export",
    "bis.classification",
    "edpb.anonymity",
    "scc_id",
    "bcr_id",
}


def name(cell: Cell) -> str:
    return f"{cell.row} {cell.direction}"


def law_rows() -> list[list[str]]:
    """Rows of the document's rule tables, as cells."""
    lines = re.findall(r"^\| `[A-Z].*\|$", LAW, flags=re.MULTILINE)
    return [[cell.strip(" `") for cell in line.strip("|").split(" | ", 4)] for line in lines]


def treated(text: str) -> str:
    """Which of the three treatments a row's last cell begins with, followed by something to say."""
    match = re.fullmatch(
        r"\*\*(?:(enforced|flagged)\*\*:|(not decidable by machine), because\*\*) .{20,}", text
    )
    assert match, text
    return match[1] or match[2]


TREATMENT = {rule_id: treated(text) for rule_id, *_, text in law_rows()}


# -- the matrix ------------------------------------------------------------------------------------


def test_there_are_112_cells_and_row_13_is_asked_twice() -> None:
    # given every question of the oracle
    asked = Counter((cell.row.split()[0], cell.direction) for cell in ORACLE.cells)
    # then section 7 is complete: 14 rows and 8 directions
    assert len(asked) == 112
    assert {row for row, _ in asked} == {str(number) for number in range(1, 15)}
    assert {count for (row, _), count in asked.items() if row != "13"} == {1}
    assert {count for (row, _), count in asked.items() if row == "13"} == {2}


@pytest.mark.parametrize("direction", COLUMNS)
def test_the_codes_are_those_of_section_7(direction: str) -> None:
    assert [cell.code for cell in ORACLE.cells if cell.direction == direction] == COLUMNS[
        direction
    ].split()


def test_every_kind_of_item_stands_in_one_row() -> None:
    rows = {(kind, cell.row) for cell in ORACLE.cells for kind in cell.kinds}
    assert sorted(kind for kind, _ in rows) == sorted(KINDS)


@pytest.mark.parametrize("cell", SHUT, ids=name)
def test_a_shut_cell_names_known_rules_that_refuse_whatever_is_held(cell: Cell) -> None:
    assert cell.code in {"X", "X*"}
    assert cell.refused_by >= {"PLAT-RAW"}
    assert cell.refused_bare_by, "law refuses too when nothing is held"
    assert all(TREATMENT[rule] == "enforced" for rule in cell.refused_by | cell.refused_bare_by)


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_an_open_cell_asks_for_what_its_code_says(cell: Cell) -> None:
    for route in cell.routes:
        # given the papers of one way through the cell
        papers = {condition.paper for condition in route.conditions} - {None}
        # then L asks for none, and A for one that somebody official stands behind
        match cell.code[0]:
            case "A":
                assert papers & OFFICIAL
            case "C":
                assert papers or cell.row == "11"
            case "L":
                assert papers == set()


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_a_dagger_has_both_ways_into_the_american_market(cell: Cell) -> None:
    # given
    keys = [{condition.key for condition in route.conditions} for route in cell.routes]
    # then
    has_market = {"market:not_us_l3_2027" in way for way in keys}
    assert has_market == ({True, False} if "†" in cell.code else {False})
    for way, route in zip(keys, cell.routes, strict=True):
        authorised = "paper:bis.icts_auth@CN>US" in way
        assert authorised == ("market:not_us_l3_2027" in route.unmet)


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_every_open_cell_refuses_a_seed(cell: Cell) -> None:
    assert all(
        "seed:absent" in {condition.key for condition in route.conditions} for route in cell.routes
    )


# -- its words -------------------------------------------------------------------------------------


def test_every_condition_is_a_known_paper_class_or_fact() -> None:
    for cell, condition in CONDITIONS:
        head, _, rest = condition.key.partition(":")
        if head == "paper":
            assert condition.paper in PAPERS, condition
            assert rest.endswith("@" + cell.direction), condition
            assert not condition.instead, condition
        elif head == "class_lowered":
            data_class, place = rest.split("@")
            assert data_class in ORACLE.base.training_data[place] & CLASSES, condition
            assert place == cell.source, condition
            assert not condition.instead, condition
        else:
            assert condition.instead in ORACLE.facts[condition.key].unmet, condition


def test_every_fact_is_used_in_each_of_its_ways() -> None:
    used = {(condition.key, condition.instead) for _, condition in CONDITIONS}
    described = {(key, way) for key, fact in ORACLE.facts.items() for way in fact.unmet}
    assert {pair for pair in used if pair[0] in ORACLE.facts} == described
    assert not set(ORACLE.left_out) & set(ORACLE.facts)


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_no_condition_stands_twice_in_one_way(cell: Cell) -> None:
    for route in cell.routes:
        counted = Counter((condition.key, condition.instead) for condition in route.conditions)
        assert set(counted.values()) == {1}, counted


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_the_ways_of_a_cell_differ(cell: Cell) -> None:
    ways = [frozenset(condition.key for condition in route.conditions) for route in cell.routes]
    assert len(set(ways)) == len(ways)
    # No way asks for all that another asks for and more: it would be no alternative.
    assert not [(a, b) for a in ways for b in ways if a < b]


@pytest.mark.parametrize("cell", OPEN, ids=name)
def test_what_is_lowered_is_lowered_by_a_paper_of_the_same_way(cell: Cell) -> None:
    for route in cell.routes:
        # given
        papers = {condition.paper for condition in route.conditions}
        lowered = route.also_lowered | {
            condition.key.partition(":")[2]
            for condition in route.conditions
            if condition.key.startswith("class_lowered:")
        }
        # then
        for word in lowered:
            data_class, place = word.split("@")
            assert data_class in ORACLE.base.training_data[place]
            assert {"CN": "cn.derived_determination", "EU": "edpb.anonymity"}[place] in papers


def test_every_entry_says_what_it_stands_on() -> None:
    assert all(condition.because.strip() for _, condition in CONDITIONS)
    assert all(text.strip() for cell in ORACLE.cells for text in cell.because)
    assert all(text.strip() for text in ORACLE.left_out.values())


# -- the rules -------------------------------------------------------------------------------------


def test_every_refusing_rule_is_in_the_reference_and_enforced() -> None:
    cited = {rule for _, condition in CONDITIONS for rule in condition.rules}
    assert cited <= set(RULES)
    assert {TREATMENT[rule] for rule in cited} == {"enforced"}


def test_every_flag_is_in_the_reference_as_a_flag() -> None:
    raised = {rule for cell in OPEN for route in cell.routes for rule in route.flags}
    assert raised
    for rule in raised:
        assert "FLAG" in RULES[rule]["effect"]
        assert TREATMENT[rule] == "flagged"


def test_a_quoted_rule_id_exists() -> None:
    # given every id in full that the oracle's texts mention
    quoted = set(
        re.findall(
            r"\b(?:CN|US|EU|UN|JP|KR|UK|IN|AE|PLAT)-[A-Z0-9][A-Z0-9.-]*[A-Z0-9]",
            ORACLE_PATH.read_text(),
        )
    )
    # then it is a rule, but for the shorthands of section 7's own column
    assert quoted - set(RULES) == {"CN-AUTO", "CN-MAP", "US-DOJ-202"} & (quoted - set(RULES))


def test_the_reference_has_83_rules_and_nine_of_the_platform() -> None:
    counted = Counter(rule["section"] for rule in RULES.values())
    assert counted == {"0": 2, "1": 32, "2.1": 14, "2.2": 12, "3": 16, "4": 9, "8": 7}


@pytest.mark.parametrize("rule_id", RULES)
def test_a_rule_of_the_reference_is_well_formed(rule_id: str) -> None:
    rule = RULES[rule_id]
    assert set(rule) - {"reading"} == {"section", "effect", "cite", "confidence"}
    assert set(rule["effect"]) <= {"DENY", "APPR", "MEAS", "FLAG"}
    assert rule["effect"]
    assert set(rule["confidence"]) <= set("HML")
    assert rule["confidence"]
    assert rule["cite"].strip()


def test_the_shorter_list_of_rules_agrees() -> None:
    for rule_id, (head, confidences) in REFERENCE_RULES.items():
        rule = RULES[rule_id]
        # A policy may stand on the reading of section 8, which has confidence L.
        allowed = {*rule["confidence"], *("L" if rule.get("reading") else "")}
        assert head.startswith(rule["cite"]) or rule["cite"].startswith(head), rule_id
        assert confidences <= allowed, rule_id


# -- the document ----------------------------------------------------------------------------------


def test_every_rule_stands_exactly_once_in_the_document() -> None:
    assert Counter(row[0] for row in law_rows()) == Counter(list(RULES))


@pytest.mark.parametrize("row", law_rows(), ids=lambda row: row[0])
def test_the_document_agrees_with_the_reference(row: list[str]) -> None:
    rule_id, effect, citation, confidence, _ = row
    rule = RULES[rule_id]
    assert effect.split(" + ") == rule["effect"]
    assert citation.startswith(rule["cite"])
    assert confidence.split(" / ") == rule["confidence"]


def test_a_rule_that_only_flags_is_flagged_and_no_other_is() -> None:
    for rule_id, rule in RULES.items():
        only_flags = rule["effect"] == ["FLAG"] and rule_id != "PLAT-FLAG"
        assert (TREATMENT[rule_id] == "flagged") == only_flags, rule_id


def test_the_document_counts_right() -> None:
    counted = Counter(TREATMENT.values())
    assert (
        f"{len(RULES)} rules: {counted['enforced']} enforced, {counted['flagged']} flagged, "
        f"{counted['not decidable by machine']} not decidable by machine"
    ) in LAW.replace("\n", " ")


def test_every_paper_that_the_document_names_is_known() -> None:
    words = {
        word
        for row in law_rows()
        for word in re.findall(r"`([a-z0-9_.]+)`", row[4])
        if "." in word or word.endswith(("_id", "_cert"))
    }
    assert words
    assert words <= PAPERS


# -- the loader ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('rows = ["11"]', 'rows = ["15"]', "rows that section 7 does not have"),
        ('directions = ["US>CN"]', 'directions = ["KR>CN"]', "matches no column"),
        ('key = "seed:absent"\n', 'key = "seed:absent"\ncolour = "red"\n', "unknown"),
        ('routes = ["lowered labels"]', 'routes = ["assessment"]', "not named once and used"),
        ('codes = ["L", ', 'codes = ["X", ', "code X against"),
    ],
)
def test_a_slip_in_the_oracle_does_not_load(
    tmp_path: Path, before: str, after: str, complaint: str
) -> None:
    # given the oracle with one slip
    text = ORACLE_PATH.read_text()
    assert before in text
    slipped = tmp_path / "oracle.toml"
    slipped.write_text(text.replace(before, after, 1))
    # then it is not read
    with pytest.raises(ValueError, match=complaint):
        load_oracle(slipped)


def test_the_base_comes_first_and_each_other_way_changes_one_choice() -> None:
    # given the cell with the most ways
    oracle: Oracle = load_oracle()
    # when
    cell = oracle.cell("5", "CN>US")
    # then
    assert [route.name for route in cell.routes] == [
        "determination, other market",
        "assessment, other market",
        "determination, authorised",
    ]
    assert cell.base.unmet == frozenset()
    determination = next(c for c in cell.base.conditions if c.paper == "cn.derived_determination")
    assert isinstance(determination, Condition)
    assert determination.rule == "PLAT-DERIVED"
