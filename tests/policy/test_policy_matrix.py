"""The packs against the oracle: section 7's cells, each condition removed in turn.

The oracle (`oracle.toml`) was written from the reference alone; here the packs answer to it.
"""

from __future__ import annotations

import pytest
from tests.policy.oracle import Cell, Condition, Route, load_oracle
from tests.policy.oracle_questions import asked, refused_whatever_is_held

from ringfence.policy.judge import Judge
from ringfence.policy.words import Action

ORACLE = load_oracle()
PERMITTED = [
    (cell, route, kind) for cell in ORACLE.cells for route in cell.routes for kind in cell.kinds
]
REMOVED = [
    (cell, route, condition)
    for cell in ORACLE.cells
    for route in cell.routes
    for condition in route.conditions
]
BARRED = [(cell, kind) for cell in ORACLE.cells if not cell.permitted for kind in cell.kinds]


def name(cell: Cell, *more: object) -> str:
    return " ".join((f"row {cell.row}", cell.direction, *map(str, more)))


@pytest.mark.parametrize(
    ("cell", "route", "kind"), PERMITTED, ids=[name(c, k, r.name) for c, r, k in PERMITTED]
)
@pytest.mark.parametrize("action", [Action.EXPORT, Action.IMPORT])
def test_a_cell_is_permitted_with_all_its_conditions_met(
    judge: Judge, cell: Cell, route: Route, kind: str, action: Action
) -> None:
    # when everything that the route names is in order, and nothing else is held
    verdict = judge.judge(asked(ORACLE, cell, route, kind, action=action))
    # then it may cross, and the flags are raised
    assert [(note.id, note.detail) for note in verdict.rules] == []
    assert route.flags <= {note.id for note in verdict.flags}


@pytest.mark.parametrize(
    ("cell", "route", "condition"),
    REMOVED,
    ids=[name(c, r.name, "without", x.key, x.instead) for c, r, x in REMOVED],
)
def test_a_cell_is_refused_without_any_one_of_its_conditions(
    judge: Judge, cell: Cell, route: Route, condition: Condition
) -> None:
    # when one condition is not met, and everything else is
    verdict = judge.judge(asked(ORACLE, cell, route, cell.kinds[0], without=condition))
    # then the rule that the oracle names refuses it
    assert condition.rules <= {note.id for note in verdict.rules}


@pytest.mark.parametrize(("cell", "kind"), BARRED, ids=[name(c, k) for c, k in BARRED])
def test_what_never_crosses_is_refused_whatever_is_held(
    judge: Judge, cell: Cell, kind: str
) -> None:
    # when every paper there is is held, and when none is
    held = judge.judge(refused_whatever_is_held(ORACLE, cell, kind, bare=False))
    bare = judge.judge(refused_whatever_is_held(ORACLE, cell, kind, bare=True))
    # then the oracle's rules refuse
    assert cell.refused_by <= {note.id for note in held.rules}
    assert cell.refused_by | cell.refused_bare_by <= {note.id for note in bare.rules}
