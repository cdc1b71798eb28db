"""The Japanese pack: third parties abroad, and technology."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.pack_world import (
    AE,
    CN,
    EU,
    INHERITING,
    JP,
    KR,
    MODELS,
    PERSONAL,
    PLAIN,
    RAW,
    TECHNOLOGY,
    UK,
    US,
    at,
    crossing,
    objections,
    paper,
    review,
)

from ringfence.core.ids import Jurisdiction
from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, DataClass, ItemKind, Purpose

JAPAN, AMERICA = at(JP), at(US)
NO_BASIS = ["JP-APPI-28", "JP-APPI-2026"]


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "platform", "jp")


def reviewed(recipient: Party) -> Approval:
    return review(JAPAN, recipient, "JP-APPI-2026")


def basis(recipient: Party) -> Approval:
    return paper(ApprovalType.JP_BASIS_ID, JAPAN, recipient)


def listing(recipient: Party) -> Approval:
    return paper(ApprovalType.JP_CLASS, JAPAN, recipient)


@pytest.mark.parametrize("kind", PLAIN)
def test_what_is_coded_l_goes_to_the_united_states_without_a_paper(
    judge: Judge, kind: ItemKind
) -> None:
    assert rules(judge, crossing(JAPAN, AMERICA, kind)) == []


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
@pytest.mark.parametrize("action", [Action.EXPORT, Action.DISCLOSE])
def test_personal_data_go_to_the_united_states_on_a_basis(
    judge: Judge, kind: ItemKind, action: Action
) -> None:
    # given everything but the basis, and a person who has seen that it is not the pending bill
    technology = [listing(AMERICA)] if kind in MODELS else []
    asked = replace(crossing(JAPAN, AMERICA, kind), action=action)
    papers = (*technology, basis(AMERICA), reviewed(AMERICA))
    # then
    assert rules(judge, replace(asked, approvals=(*technology, reviewed(AMERICA)))) == [
        "JP-APPI-28"
    ]
    assert rules(judge, replace(asked, approvals=papers)) == []


def test_a_basis_is_held_until_somebody_has_seen_that_it_is_not_the_bill(judge: Judge) -> None:
    # given
    asked = crossing(JAPAN, AMERICA, ItemKind.LABELS, basis(AMERICA))
    # then it is held, or recorded where the agreement holds nothing
    assert rules(judge, asked) == ["JP-APPI-2026"]
    recorded = replace(asked, holding=frozenset())
    assert rules(judge, recorded) == []
    assert "JP-APPI-2026" in {note.id for note in judge.judge(recorded).flags}


@pytest.mark.parametrize(
    "own_class", [DataClass.PERSONAL, DataClass.SENSITIVE, DataClass.BIOMETRIC]
)
def test_every_class_about_people_needs_the_basis(judge: Judge, own_class: DataClass) -> None:
    # given
    asked = crossing(JAPAN, AMERICA, ItemKind.LABELS, classes=frozenset({own_class}))
    # then
    assert rules(judge, asked) == NO_BASIS


def test_what_is_not_personal_needs_no_basis(judge: Judge) -> None:
    # given
    classes = frozenset({DataClass.GEOGRAPHIC})
    # then
    assert rules(judge, crossing(JAPAN, AMERICA, ItemKind.LABELS, classes=classes)) == []


@pytest.mark.parametrize("kind", [*MODELS, *TECHNOLOGY])
def test_technology_leaves_japan_with_a_class(judge: Judge, kind: ItemKind) -> None:
    # given
    ground = (basis(AMERICA), reviewed(AMERICA))
    # when
    without = rules(judge, crossing(JAPAN, AMERICA, kind, *ground))
    with_it = rules(judge, crossing(JAPAN, AMERICA, kind, *ground, listing(AMERICA)))
    # then
    assert without == ["JP-FEFA"]
    assert with_it == []


@pytest.mark.parametrize("kind", [*INHERITING, *TECHNOLOGY])
def test_a_class_is_no_licence_for_a_military_end_use(judge: Judge, kind: ItemKind) -> None:
    # given every paper, for this purpose
    papers = tuple(
        replace(held, purpose=Purpose.MILITARY)
        for held in (basis(AMERICA), listing(AMERICA), reviewed(AMERICA))
    )
    # when
    found = rules(judge, replace(crossing(JAPAN, AMERICA, kind, *papers), purpose=Purpose.MILITARY))
    # then
    assert found == ["JP-FEFA"]


@pytest.mark.parametrize("kind", RAW)
def test_raw_and_per_sample_items_need_a_basis_besides(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(JAPAN, AMERICA, kind)) == ["PLAT-RAW", *NO_BASIS]


@pytest.mark.parametrize(
    ("place", "named"), [(EU, True), (UK, True), (KR, False), (AE, False), (CN, False)]
)
def test_europe_and_britain_need_no_basis_but_the_direction_approved(
    judge: Judge, place: Jurisdiction, named: bool
) -> None:
    # given
    recipient = at(place)
    direction = paper(ApprovalType.PLAT_DIRECTION, JAPAN, recipient)
    # when
    without = rules(judge, crossing(JAPAN, recipient, ItemKind.LABELS))
    with_it = rules(judge, crossing(JAPAN, recipient, ItemKind.LABELS, direction))
    # then
    expected = [] if named else NO_BASIS
    assert sorted(without) == sorted([*expected, "PLAT-DIRECTION"])
    assert with_it == expected


def test_nothing_is_asked_of_what_comes_to_japan(judge: Judge) -> None:
    assert rules(judge, crossing(AMERICA, JAPAN, ItemKind.RELEASE)) == []


def test_a_path_through_the_united_states_is_judged_to_its_end(judge: Judge) -> None:
    # given
    china = at(CN)
    onward = crossing(
        AMERICA,
        china,
        ItemKind.LABELS,
        basis(AMERICA),
        classes=PERSONAL,
        contributors=frozenset({JAPAN, AMERICA}),
    )
    # then
    assert sorted(rules(judge, onward)) == sorted([*NO_BASIS, "PLAT-DIRECTION"])
