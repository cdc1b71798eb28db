"""The Korean pack: personal data abroad, and maps."""

from __future__ import annotations

import pytest
from tests.policy.pack_world import (
    EU,
    INHERITING,
    KR,
    PERSONAL,
    PLAIN,
    TECHNOLOGY,
    US,
    at,
    crossing,
    objections,
    paper,
)

from ringfence.policy.facts import Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import ApprovalType, DataClass, ItemKind

KOREA, AMERICA, EUROPE = at(KR), at(US), at(EU)
DIRECTION = paper(ApprovalType.PLAT_DIRECTION, KOREA, AMERICA)
BASIS = paper(ApprovalType.KR_BASIS_ID, KOREA, AMERICA)


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "platform", "kr")


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
def test_personal_data_leave_korea_on_a_basis_and_in_an_approved_direction(
    judge: Judge, kind: ItemKind
) -> None:
    assert rules(judge, crossing(KOREA, AMERICA, kind, DIRECTION)) == ["KR-PIPA-28-8"]
    assert rules(judge, crossing(KOREA, AMERICA, kind, BASIS)) == ["PLAT-DIRECTION"]
    assert rules(judge, crossing(KOREA, AMERICA, kind, DIRECTION, BASIS)) == []


def test_the_european_union_is_recognised(judge: Judge) -> None:
    # given
    direction = paper(ApprovalType.PLAT_DIRECTION, KOREA, EUROPE)
    # then
    assert rules(judge, crossing(KOREA, EUROPE, ItemKind.UPDATE, direction)) == []


@pytest.mark.parametrize("kind", [*PLAIN, *TECHNOLOGY])
def test_what_is_no_data_needs_the_direction_alone(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(KOREA, AMERICA, kind, DIRECTION)) == []


@pytest.mark.parametrize("recipient", [AMERICA, EUROPE])
@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
def test_places_never_leave_korea(judge: Judge, kind: ItemKind, recipient: Party) -> None:
    # given every paper
    papers = (
        paper(ApprovalType.PLAT_DIRECTION, KOREA, recipient),
        paper(ApprovalType.KR_BASIS_ID, KOREA, recipient),
    )
    asked = crossing(KOREA, recipient, kind, *papers, classes=PERSONAL | {DataClass.GEOGRAPHIC})
    # then
    assert rules(judge, asked) == ["KR-MAP-16"]
