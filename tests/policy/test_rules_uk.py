"""The British pack: restricted transfers."""

from __future__ import annotations

import pytest
from tests.policy.pack_world import (
    AE,
    EU,
    INHERITING,
    JP,
    PLAIN,
    TECHNOLOGY,
    UK,
    US,
    at,
    crossing,
    objections,
    paper,
    received,
)

from ringfence.core.ids import Jurisdiction
from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import ApprovalType, ItemKind

BRITAIN, AMERICA = at(UK), at(US)
DIRECTION = paper(ApprovalType.PLAT_DIRECTION, BRITAIN, AMERICA)


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "platform", "uk")


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
@pytest.mark.parametrize(
    "way",
    [
        paper(ApprovalType.UK_IDTA, BRITAIN, AMERICA),
        received(ApprovalType.DPF_CERT, AMERICA, BRITAIN),
    ],
    ids=lambda way: str(way.type),
)
def test_personal_data_go_to_the_united_states_by_agreement_or_bridge(
    judge: Judge, way: Approval, kind: ItemKind
) -> None:
    assert rules(judge, crossing(BRITAIN, AMERICA, kind, DIRECTION)) == ["UK-GDPR-46"]
    assert rules(judge, crossing(BRITAIN, AMERICA, kind, DIRECTION, way)) == []


@pytest.mark.parametrize("place", [EU, JP, AE])
def test_the_bridge_leads_to_the_united_states_alone(judge: Judge, place: Jurisdiction) -> None:
    # given
    recipient = at(place)
    direction = paper(ApprovalType.PLAT_DIRECTION, BRITAIN, recipient)
    bridge = received(ApprovalType.DPF_CERT, recipient, BRITAIN)
    agreement = paper(ApprovalType.UK_IDTA, BRITAIN, recipient)
    asked = [
        crossing(BRITAIN, recipient, ItemKind.UPDATE, direction, way) for way in (bridge, agreement)
    ]
    # then
    assert [rules(judge, question) for question in asked] == [["UK-GDPR-46"], []]


@pytest.mark.parametrize("kind", [*PLAIN, *TECHNOLOGY])
def test_what_is_no_data_needs_the_direction_alone(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(BRITAIN, AMERICA, kind)) == ["PLAT-DIRECTION"]
    assert rules(judge, crossing(BRITAIN, AMERICA, kind, DIRECTION)) == []
