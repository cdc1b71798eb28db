"""The Indian pack: transfers that a notice may restrict, and maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.pack_world import (
    IN,
    INHERITING,
    PERSONAL,
    PLAIN,
    TECHNOLOGY,
    US,
    at,
    at_home,
    crossing,
    objections,
    paper,
    review,
)

from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, DataClass, ItemKind

INDIA, AMERICA = at(IN), at(US)
DIRECTION = paper(ApprovalType.PLAT_DIRECTION, INDIA, AMERICA)
REVIEWED = review(INDIA, AMERICA, "IN-DPDP-16")
PLACES = frozenset({DataClass.GEOGRAPHIC})


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "platform", "in")


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
def test_personal_data_leave_india_once_somebody_has_looked_for_notices(
    judge: Judge, kind: ItemKind
) -> None:
    # given
    asked = crossing(INDIA, AMERICA, kind, DIRECTION)
    # then it is held, and recorded where the agreement holds nothing
    assert rules(judge, asked) == ["IN-DPDP-16"]
    assert rules(judge, replace(asked, approvals=(DIRECTION, REVIEWED))) == []
    recorded = judge.judge(replace(asked, holding=frozenset()))
    assert [note.id for note in recorded.flags if note.pack == "in"] == ["IN-DPDP-16"]


@pytest.mark.parametrize("kind", [*PLAIN, *TECHNOLOGY])
def test_what_is_no_data_needs_the_direction_alone(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(INDIA, AMERICA, kind)) == ["PLAT-DIRECTION"]
    assert rules(judge, crossing(INDIA, AMERICA, kind, DIRECTION)) == []


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
def test_places_never_leave_india(judge: Judge, kind: ItemKind) -> None:
    # given every paper
    asked = crossing(INDIA, AMERICA, kind, DIRECTION, REVIEWED, classes=PERSONAL | PLACES)
    # then
    assert rules(judge, asked) == ["IN-GEO-2021"]


def test_a_foreign_company_trains_on_no_places_in_india(judge: Judge) -> None:
    # given
    indian = at_home(Action.TRAIN, INDIA, ItemKind.UPDATE, classes=PLACES)
    owned = replace(INDIA, parent=US)
    foreign = at_home(Action.TRAIN, owned, ItemKind.UPDATE, classes=PLACES)
    # then
    assert rules(judge, indian) == []
    assert rules(judge, foreign) == ["IN-GEO-2021"]
    assert rules(judge, replace(foreign, classes=PERSONAL)) == []
