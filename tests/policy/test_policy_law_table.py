"""The table of `docs/law.md`, the packs and the reference's ids say the same of every rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.policy.reference_rules import REFERENCE_RULES

from ringfence.policy.judge import Judge

LAW = Path(__file__).parents[2] / "docs" / "law.md"
ROW = re.compile(r"\| `([A-Za-z0-9.\-]+)` \|.*\| \*\*(enforced|flagged|not decidable by machine)")
TABLE = dict(match.groups() for match in map(ROW.match, LAW.read_text().splitlines()) if match)
BY_THE_PROGRAM = {"PLAT-CLOCK", "PLAT-FLAG"}
"""Readings that no pack can hold: what the clock said before, and what a flag may hold."""


@pytest.fixture(scope="module")
def effects(judge: Judge) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for pack in judge.packs:
        for rule in pack.rules:
            found.setdefault(rule.id, set()).add(rule.effect)
    return found


@pytest.mark.parametrize("rule_id", sorted(TABLE))
def test_the_table_says_what_the_packs_do(effects: dict[str, set[str]], rule_id: str) -> None:
    # given what the packs do about a rule
    done = effects.get(rule_id, set())
    # then the table says so
    match TABLE[rule_id]:
        case "enforced":
            assert done - {"FLAG"} or rule_id in BY_THE_PROGRAM
        case "flagged":
            assert done == {"FLAG"}
        case _:
            assert not done


def test_every_rule_of_a_pack_is_in_the_table_and_the_reference(
    effects: dict[str, set[str]],
) -> None:
    assert set(effects) <= set(TABLE)
    assert set(effects) == set(REFERENCE_RULES)


def test_the_table_counts_itself() -> None:
    ways = list(TABLE.values())
    said = re.search(r"(\d+) rules: (\d+) enforced, (\d+) flagged, (\d+) not", LAW.read_text())
    assert said is not None
    assert [int(number) for number in said.groups()] == [
        len(ways),
        ways.count("enforced"),
        ways.count("flagged"),
        ways.count("not decidable by machine"),
    ]
