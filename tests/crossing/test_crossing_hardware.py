"""The class of a region's chips follows from the agreement, on both ends alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.places.forging import update, write_payload
from tests.places.world import World

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.terms import ChipLot, Party
from ringfence.crossing.decide import check_facts
from ringfence.crossing.hardware import chip_class, chip_findings
from ringfence.crossing.law import Law, judge, question
from ringfence.policy.words import Action, Chip

NOW = from_rfc3339("2026-11-20T09:00:00Z")
EVIDENCE = "sha256:" + "e5" * 32
H100 = ChipLot(model="H100", count=8, bought="2024-02-19", evidence=EVIDENCE)
H200 = ChipLot(model="H200", count=8, bought="2026-02-19", evidence=EVIDENCE)
ASCEND = ChipLot(model="Ascend 910B", count=8, bought="2024-02-19", evidence=EVIDENCE)
A800 = ChipLot(model="A800", count=8, bought="2022-02-19", evidence=EVIDENCE)


@pytest.fixture
def declared(world: World, tmp_path: Path) -> Declaration:
    """China's update, as it should be declared when its hardware is uncontrolled."""
    return update(world, "cn", write_payload(world, tmp_path / "payload"))


def listing(law: Law, **chips: tuple[ChipLot, ...]) -> Law:
    """The same law under an agreement that lists these chips of the regions named."""
    terms = law.agreement.terms
    regions = tuple(
        replace(party, hardware="attested", chips=chips[party.id]) if party.id in chips else party
        for party in terms.regions
    )
    agreement = Agreement(terms=replace(terms, regions=regions), digest=law.agreement.digest)
    return dataclasses.replace(law, agreement=agreement)


def cn_of(world: World, **changes: Any) -> Party:
    return replace(world.agreement.region("cn"), **changes)


def asked(law: Law, declaration: Declaration, action: Action) -> Chip:
    compute = question(law, declaration, action=action).compute
    assert compute is not None
    return compute.chip


@pytest.mark.parametrize("word", ["uncontrolled", "3a090", "prc_3a090", "unknown"])
def test_a_plain_word_is_the_class(world: World, word: str) -> None:
    party = cn_of(world, hardware=word)
    assert chip_class(party, at=NOW) == word
    assert chip_findings(party, at=NOW) == ()


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        ((H100,), Chip.CONTROLLED_3A090),
        ((H200,), Chip.H200_3A090),
        ((H200, H100), Chip.CONTROLLED_3A090),
        ((replace(H200, evidence=""), H100), Chip.UNKNOWN),
        ((replace(H100, model="Foo 1"), ASCEND), Chip.PRC_3A090),
        ((replace(ASCEND, evidence="", bought=""),), Chip.PRC_3A090),
    ],
)
def test_the_class_follows_from_the_chips_that_are_listed(
    world: World, chips: tuple[ChipLot, ...], expected: Chip
) -> None:
    party = cn_of(world, hardware="attested", chips=chips)
    assert chip_class(party, at=NOW) is expected
    assert [found.attestation.model for found in chip_findings(party, at=NOW)] == [
        lot.model for lot in chips
    ]


def test_the_class_changes_with_the_day(world: World) -> None:
    # given chips that were bought before they were controlled
    party = cn_of(world, hardware="attested", chips=(A800,))
    # then midnight in New York decides
    assert chip_class(party, at=from_rfc3339("2023-11-01T03:59:59Z")) is Chip.UNCONTROLLED
    assert chip_class(party, at=from_rfc3339("2023-11-01T04:00:00Z")) is Chip.CONTROLLED_3A090


def test_an_item_has_the_most_restricted_chip_of_its_lineage(
    world: World, declared: Declaration
) -> None:
    # given an American region on controlled chips, and a Chinese one on Chinese
    law = listing(world.hub.region.law, us=(H100,), cn=(ASCEND,))
    # when items of different lineages are asked about
    western = replace(declared, jurisdictions=("EU", "US"))
    both = replace(declared, jurisdictions=("CN", "EU", "US"))
    # then each has the worst of its own contributors
    assert asked(law, both, Action.IMPORT) is Chip.PRC_3A090
    assert asked(law, western, Action.IMPORT) is Chip.CONTROLLED_3A090


def test_leave_to_train_is_about_the_chips_of_the_place(
    world: World, declared: Declaration
) -> None:
    # given controlled chips in America, and none in China
    cn = listing(world.place("cn").region.law, us=(H100,))
    lineage = replace(declared, jurisdictions=("CN", "EU", "US"))
    # when China asks leave to train in their common lineage, then it is about China's own
    assert asked(cn, lineage, Action.TRAIN) is Chip.UNCONTROLLED
    assert asked(cn, lineage, Action.EXPORT) is Chip.CONTROLLED_3A090


def test_what_denies_the_outputs_denies_training_on_them(
    world: World, declared: Declaration
) -> None:
    # given Chinese chips in the lineage
    us = listing(world.place("us").region.law, cn=(ASCEND,))
    lineage = replace(declared, jurisdictions=("CN", "EU", "US"), sender="us")
    # when America asks leave to train in it
    with pytest.raises(Refused) as caught:
        judge(us, lineage, action=Action.TRAIN)
    # then it is refused as the outputs are
    assert "US-EAR-GP10" in caught.value.rules


def test_china_may_not_train_on_controlled_chips(world: World, declared: Declaration) -> None:
    # given chips that China lists, and an agreement in which America has a part
    lineage = replace(declared, jurisdictions=("CN", "EU", "US"))
    law = world.place("cn").region.law
    judge(law, lineage, action=Action.TRAIN)
    # when it asks leave to train on them
    with pytest.raises(Refused) as caught:
        judge(listing(law, cn=(H200,)), lineage, action=Action.TRAIN)
    # then the rules are named
    assert set(caught.value.rules) == {"US-EAR-3A090", "US-EAR-H200"}


def test_a_declaration_names_the_class_and_not_another(world: World, declared: Declaration) -> None:
    # given a hub whose agreement lists China's chips
    law = listing(world.hub.region.law, cn=(H100,))
    # when China declares their class, then it is taken
    check_facts(law, replace(declared, hardware="3a090"), stage="intake")
    # and when it declares less, then it is refused
    with pytest.raises(Refused) as caught:
        check_facts(law, declared, stage="intake")
    assert caught.value.reason == "wrong-hardware"


def test_a_declaration_stays_right_when_the_law_changes_after_it(
    world: World, declared: Declaration
) -> None:
    # given a declaration of the last minute before chips are controlled
    start = from_rfc3339("2023-11-01T04:00:00Z")
    law = listing(world.hub.region.law, cn=(A800,))
    before = replace(declared, issued=to_rfc3339(start - 60))
    # when it is checked just after
    late = dataclasses.replace(law, clock=lambda: start + 60)
    # then it is held to the day on which it was declared, and the law is asked about today's
    check_facts(late, before, stage="intake")
    assert asked(late, before, Action.IMPORT) is Chip.CONTROLLED_3A090
