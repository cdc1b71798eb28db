"""Reads the oracle of section 7 (`oracle.toml`): every cell with what opens it and what refuses it.

    oracle = load_oracle()
    cell = oracle.cell("5", "CN>US")
    cell.base.conditions        # all met, nothing else held: permitted
    for condition in cell.base.conditions:
        ...                     # this one not met: refused by `condition.rules`

The header of `oracle.toml` says how a question is built from a cell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ORACLE_PATH = Path(__file__).with_name("oracle.toml")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The vocabulary of the issue, written out by hand: the program's own words must not vouch for the
# oracle's.
KINDS = _words(
    "raw labels embeddings example_gradients update candidate release snapshot adapter "
    "inference_model architecture code metrics mechanism checkpoint approval evidence "
    "logits"
)
PAPERS = _words(
    "cac.assessment cac.scc cac.cert ftz.clearance mnr.entrustment mnr.outbound "
    "cn.derived_determination cn.tech_export cn.ota_filing cn.foreign_authority_approval cn.mlps "
    "cn.important_duties cn.legal_basis cn.notice_consent cn.pipia cn.anonymiser_report "
    "cn.export_log bis.classification bis.enc bis.license bis.icts_auth bis.doc bis.publication "
    "bis.legacy doj.dsp_program doj.onward_clause us.state_notice dpf_cert scc_id tia_id bcr_id "
    "edpb.anonymity eu.dual_use_class type_approval_id legal_basis_id dpia_id user_contract_id "
    "jp.basis_id jp.class kr.basis_id uk.idta ae.basis_id plat.flag_review plat.direction"
)
CLASSES = _words("personal sensitive important geographic biometric government raw per_sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that must hold, and the rules that must refuse when it alone does not.

    `key` is `paper:TYPE@FROM>TO`, `class_lowered:CLASS@PLACE` or a fact of `Oracle.facts`;
    `instead` says which of several ways not to meet the fact is meant (empty: there is one).
    """

    key: str
    rule: str
    also: tuple[str, ...]
    instead: str
    because: str

    @property
    def rules(self) -> frozenset[str]:
        """Every rule that must refuse when this condition is not met."""
        return frozenset({self.rule, *self.also})

    @property
    def paper(self) -> str | None:
        """The paper's type, or None when the condition is no paper."""
        head, _, rest = self.key.partition(":")
        return rest.partition("@")[0] if head == "paper" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One lawful way through a cell: `conditions` are all met, the facts `unmet` are not.

    `also_lowered` holds `CLASS@PLACE` that the route's paper lowers without a test of its own;
    `flags` are the FLAG rules that must be raised.
    """

    name: str
    conditions: tuple[Condition, ...]
    unmet: frozenset[str]
    also_lowered: frozenset[str]
    flags: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One question of section 7; row 13 is two of them, so 112 cells make 120 questions.

    A cell without routes is refused: by `refused_by` whatever is held, by `refused_bare_by` as well
    when nothing is.
    """

    row: str
    item: str
    kinds: tuple[str, ...]
    direction: str
    code: str
    refused_by: frozenset[str]
    refused_bare_by: frozenset[str]
    routes: tuple[Route, ...]
    because: tuple[str, ...]

    @property
    def permitted(self) -> bool:
        """Whether the cell is permitted with all conditions met."""
        return bool(self.routes)

    @property
    def base(self) -> Route:
        """The route inside which the removal of each condition is judged first."""
        return self.routes[0]

    @property
    def source(self) -> str:
        return self.direction.partition(">")[0]

    @property
    def destination(self) -> str:
        return self.direction.partition(">")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What every question has in common; the comments of `[base]` say why."""

    purpose: str
    lineage: str
    us_person: tuple[str, ...]
    market_sae_level: int
    market_model_year: int
    eccn: str
    hold_on_flag: bool
    training_data: Mapping[str, frozenset[str]]
    contents: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What it means to meet a fact, and each way of not meeting it (key "" when there is one)."""

    met: str
    unmet: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Every question of section 7, in the order of its rows and columns."""

    edition: str
    base: Scenario
    facts: Mapping[str, Fact]
    left_out: Mapping[str, str]
    cells: tuple[Cell, ...]

    def cell(self, row: str, direction: str) -> Cell:
        """Return the cell; row 13 is asked as "13 digest" or "13 content".

        Raises: KeyError when section 7 has no such cell.
        """
        for cell in self.cells:
            if (cell.row, cell.direction) == (row, direction):
                return cell
        raise KeyError(f"no cell for row {row}, direction {direction}")


def load_oracle(path: Path = ORACLE_PATH) -> Oracle:
    """Read the oracle.

    Raises: ValueError when a word is unknown, a selector matches nothing or a cell stays empty.
    """
    data = tomllib.loads(path.read_text())
    _only(
        data,
        "edition base facts left_out rows matrix refusal duty route choice flag",
        "the oracle",
    )
    _only(data["matrix"], "directions row", "[matrix]")
    reader = _Reader(
        directions=tuple(data["matrix"]["directions"]),
        matrix=data["matrix"]["row"],
        row_sets=data["rows"],
    )
    return Oracle(
        edition=data["edition"],
        base=_scenario(data["base"]),
        facts={name: _fact(name, table) for name, table in data["facts"].items()},
        left_out=data["left_out"],
        cells=reader.cells(data),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """The matrix and the names that selectors use."""

    directions: tuple[str, ...]
    matrix: Mapping[str, Mapping[str, Any]]
    row_sets: Mapping[str, list[str]]

    def cells(self, data: Mapping[str, Any]) -> tuple[Cell, ...]:
        """Put together every cell from the entries that name it."""
        for table in ("refusal", "duty", "choice", "flag"):
            for entry in data[table]:
                _only(entry, _FIELDS[table], f"[[{table}]]")
        ways = {route["name"]: route for route in data["route"]}
        for route in data["route"]:
            _only(route, "name flags also_lowered because condition", f"route {route['name']!r}")
        opened = {name for choice in data["choice"] for name in choice["routes"]}
        if len(ways) != len(data["route"]) or opened != set(ways):
            raise ValueError(f"routes not named once and used: {sorted(opened ^ set(ways))}")
        found = []
        for row, line in self.matrix.items():
            _only(line, "item kinds codes because", f"row {row}")
            for direction, code in zip(self.directions, line["codes"], strict=True):
                mine = {
                    table: [e for e in data[table] if self._selects(e, row, direction)]
                    for table in ("refusal", "duty", "choice", "flag")
                }
                found.append(_cell(row, line, direction, code, mine, ways))
        return tuple(found)

    def _selects(self, entry: Mapping[str, Any], row: str, direction: str) -> bool:
        rows = {number for name in entry["rows"] for number in self.row_sets.get(name, [name])}
        if unknown := rows - set(self.matrix):
            raise ValueError(f"rows that section 7 does not have: {sorted(unknown)}")
        return row in rows and any(self._matches(way, direction) for way in entry["directions"])

    def _matches(self, pattern: str, direction: str) -> bool:
        ends = pattern.split(">")
        if not any(_fits(ends, known) for known in self.directions):
            raise ValueError(f"direction {pattern!r} matches no column of section 7")
        return _fits(ends, direction)


_FIELDS = {
    "refusal": "rows directions refused_by refused_bare_by because",
    "duty": "key rule also instead rows directions because",
    "choice": "routes rows directions because",
    "flag": "rule rows directions because",
}


def _cell(
    row: str,
    line: Mapping[str, Any],
    direction: str,
    code: str,
    mine: Mapping[str, list[dict[str, Any]]],
    ways: Mapping[str, Mapping[str, Any]],
) -> Cell:
    refusals, duties, choices = mine["refusal"], mine["duty"], mine["choice"]
    where = f"row {row}, {direction}"
    if code.startswith("X") != bool(refusals) or bool(refusals) == bool(duties or choices):
        raise ValueError(
            f"{where}: code {code} against {len(refusals)} refusals, {len(duties)} duties"
        )
    common = [_condition(duty, direction) for duty in duties]
    flags = frozenset(flag["rule"] for flag in mine["flag"])
    combinations = _combinations([[ways[name] for name in c["routes"]] for c in choices])
    return Cell(
        row=row,
        item=line["item"],
        kinds=tuple(line["kinds"]),
        direction=direction,
        code=code,
        refused_by=_union(entry.get("refused_by", []) for entry in refusals),
        refused_bare_by=_union(entry.get("refused_bare_by", []) for entry in refusals),
        routes=()
        if refusals
        else tuple(
            _route(taken, refused, common, flags, direction) for taken, refused in combinations
        ),
        because=(line["because"], *(entry["because"] for entry in [*refusals, *choices])),
    )


def _combinations(
    choices: list[list[Mapping[str, Any]]],
) -> Iterable[tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]]:
    """Yield (ways taken, ways not taken): the base, then each other way with the rest at the base.

    All combinations would ask the same removals again: the choices are independent of one another.
    """
    base = [ways[0] for ways in choices]
    every = [way for ways in choices for way in ways]
    taken = [base]
    for place, ways in enumerate(choices):
        taken += [[*base[:place], way, *base[place + 1 :]] for way in ways[1:]]
    for combination in taken:
        yield combination, [way for way in every if way not in combination]


def _route(
    taken: list[Mapping[str, Any]],
    left: list[Mapping[str, Any]],
    common: list[Condition],
    flags: frozenset[str],
    direction: str,
) -> Route:
    conditions = [*common]
    for way in taken:
        conditions += [_condition(entry, direction) for entry in way["condition"]]
    keys = {condition.key for condition in conditions}
    others = {entry["key"] for way in left for entry in way["condition"]}
    return Route(
        name=", ".join(way["name"] for way in taken) or "the one way",
        conditions=tuple(conditions),
        unmet=frozenset(
            key
            for key in others - keys
            if not key.startswith(("paper:", "class_lowered:"))  # not held, not lowered: by default
        ),
        also_lowered=_union(way.get("also_lowered", []) for way in taken),
        flags=flags | _union(way.get("flags", []) for way in taken),
    )


def _condition(entry: Mapping[str, Any], direction: str) -> Condition:
    _only(entry, "key rule also instead rows directions because", f"condition {entry['key']}")
    key = entry["key"]
    return Condition(
        key=f"{key}@{direction}" if key.startswith("paper:") else key,
        rule=entry["rule"],
        also=tuple(entry.get("also", ())),
        instead=entry.get("instead", ""),
        because=entry["because"],
    )


def _scenario(table: Mapping[str, Any]) -> Scenario:
    _only(
        table,
        "purpose lineage us_person market_sae_level market_model_year eccn hold_on_flag "
        "training_data contents",
        "[base]",
    )
    _only(table["contents"], "classes", "[base.contents]")
    training = {place: frozenset(classes) for place, classes in table["training_data"].items()}
    given = {
        **table,
        "us_person": tuple(table["us_person"]),
        "training_data": training,
        "contents": frozenset(table["contents"]["classes"]),
    }
    return Scenario(**given)


def _fact(name: str, table: Mapping[str, Any]) -> Fact:
    _only(table, "met unmet instead", f"fact {name}")
    if ("unmet" in table) == ("instead" in table):
        raise ValueError(f"fact {name}: expected `unmet` or `instead`")
    return Fact(met=table["met"], unmet=table.get("instead") or {"": table["unmet"]})


def _fits(pattern: list[str], direction: str) -> bool:
    return all(
        end in ("*", place) for end, place in zip(pattern, direction.split(">"), strict=True)
    )


def _union(groups: Iterable[Iterable[str]]) -> frozenset[str]:
    return frozenset(word for group in groups for word in group)


def _only(table: Mapping[str, Any], fields: str, where: str) -> None:
    if unknown := set(table) - set(fields.split()):
        raise ValueError(f"{where}: unknown {sorted(unknown)}; known are {fields}")
