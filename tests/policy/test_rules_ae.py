"""The Emirati pack: personal data abroad."""

from __future__ import annotations

import pytest
from tests.policy.pack_world import (
    AE,
    EU,
    INHERITING,
    PLAIN,
    TECHNOLOGY,
    UK,
    US,
    at,
    crossing,
    objections,
    paper,
)

from ringfence.core.ids import Jurisdiction
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import ApprovalType, ItemKind

EMIRATES = at(AE)


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "platform", "ae")


@pytest.mark.parametrize("place", [EU, UK, US])
@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
def test_personal_data_leave_the_emirates_on_a_basis_wherever_they_go(
    judge: Judge, kind: ItemKind, place: Jurisdiction
) -> None:
    # given
    recipient = at(place)
    direction = paper(ApprovalType.PLAT_DIRECTION, EMIRATES, recipient)
    basis = paper(ApprovalType.AE_BASIS_ID, EMIRATES, recipient)
    # then
    assert rules(judge, crossing(EMIRATES, recipient, kind, direction)) == ["AE-PDPL-22"]
    assert rules(judge, crossing(EMIRATES, recipient, kind, basis)) == ["PLAT-DIRECTION"]
    assert rules(judge, crossing(EMIRATES, recipient, kind, direction, basis)) == []


@pytest.mark.parametrize("kind", [*PLAIN, *TECHNOLOGY])
def test_what_is_no_data_needs_the_direction_alone(judge: Judge, kind: ItemKind) -> None:
    # given
    america = at(US)
    direction = paper(ApprovalType.PLAT_DIRECTION, EMIRATES, america)
    # then
    assert rules(judge, crossing(EMIRATES, america, kind)) == ["PLAT-DIRECTION"]
    assert rules(judge, crossing(EMIRATES, america, kind, direction)) == []
