"""Single rules, each shown to refuse what it is about and nothing beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import (
    AMERICA,
    CHINA,
    DE,
    US_MARKET,
    WORLD,
    approval,
    planned_crossings,
    question,
)

from ringfence.core.ids import Jurisdiction, LineageId
from ringfence.policy.facts import (
    Cohort,
    Party,
    Question,
)
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, DataClass, ItemKind, Purpose

PLAN = dict(planned_crossings())
CN_UPDATE = PLAN["phase 2: world export update cn > hub"]
RELEASE_TO_US = PLAN["phase 2: world export release hub > us"]
RELEASE_TO_CN = PLAN["phase 2: world export release hub > cn"]
US_UPDATE = PLAN["phase 2: us-market export update us > hub"]


def rules(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).rules]


def rescreened(party: Party, **changes: object) -> Party:
    assert party.screening is not None
    return replace(party, screening=replace(party.screening, **changes))


@pytest.mark.parametrize("own_class", [DataClass.RAW, DataClass.PER_SAMPLE])
@pytest.mark.parametrize("region", ["cn", "de", "us"])
def test_raw_pictures_offered_as_an_update_are_refused(
    judge: Judge, region: str, own_class: DataClass
) -> None:
    # given
    honest = PLAN[f"phase 2: world export update {region} > hub"]
    # when
    found = rules(judge, replace(honest, classes=honest.classes | {own_class}))
    # then
    assert found[0] == "PLAT-RAW"


def test_state_that_trained_with_china_is_refused_for_the_us_market(judge: Judge) -> None:
    # when an American update declares the Chinese ancestor of its regional state
    found = rules(judge, replace(US_UPDATE, contributors=US_UPDATE.contributors | {CHINA}))
    # then
    assert "US-ICTS-791.303" in found


def test_a_recipient_owned_from_a_country_of_concern_counts_as_one(judge: Judge) -> None:
    # given
    owned = replace(DE, parent=Jurisdiction("RU"))
    release = replace(PLAN["phase 1: world export release hub > de"], extraction=None)
    # when
    found = rules(judge, replace(release, recipient=owned))
    # then what is handed to the operator is judged as an export to the seat of its parent, too,
    # whose direction has no column and whose law has no pack
    assert found == [
        "US-DOJ-202.301",
        "PLAT-DIRECTION",
        "PLAT-DIRECTION",
        "EU-GDPR-44",
        "EU-GDPR-46",
        "EU-DUAL",
        "US-EAR-4E001",
        "PLAT-EXTRACT",
        "EU-DATA-32",
        "EU-EDPB-2024-28",
        "EU-EDPB-2024-28",
        "US-EAR-FDPR",
    ]


@pytest.mark.parametrize(
    ("cohort", "permitted"),
    [
        (None, False),
        (Cohort(smallest=9, floor=10), False),
        (Cohort(smallest=10, floor=10), True),
    ],
)
def test_metrics_need_the_least_cohort_in_every_cell(
    judge: Judge, cohort: Cohort | None, permitted: bool
) -> None:
    # when
    found = rules(judge, replace(PLAN["phase 2: world export metrics cn > hub"], cohort=cohort))
    # then
    assert found == ([] if permitted else ["PLAT-COHORT"])


def test_a_seed_never_crosses(judge: Judge) -> None:
    assert rules(judge, replace(CN_UPDATE, carries_seed=True)) == ["PLAT-SEED"]


def test_military_use_is_refused(judge: Judge) -> None:
    # when
    found = rules(judge, replace(RELEASE_TO_CN, purpose=Purpose.MILITARY))
    # then
    assert {"US-EAR-TRAIN", "EU-DUAL"} <= set(found)


@pytest.mark.parametrize(
    ("region", "type_", "rule"),
    [
        (CHINA, ApprovalType.CN_OTA_FILING, "CN-OTA"),
    ],
)
def test_deployment_needs_the_paper_of_its_market(
    judge: Judge, region: Party, type_: ApprovalType, rule: str
) -> None:
    # given
    asked = deployment(WORLD, region)
    paper = approval(type_, region, region.jurisdiction, (region,), {ItemKind.RELEASE})
    # when
    without, with_it = (rules(judge, replace(asked, approvals=held)) for held in ((), (paper,)))
    # then
    assert without == [rule]
    assert with_it == []


def deployment(lineage: LineageId, region: Party) -> Question:
    return question(
        Action.DEPLOY,
        ItemKind.RELEASE,
        lineage=lineage,
        contributors=frozenset({DE, AMERICA}),
        sender=region,
        recipient=region,
    )


@pytest.mark.parametrize("affected", [True, None], ids=["affected", "nobody looked"])
def test_a_release_that_a_revoked_paper_has_reached_is_not_deployed(
    judge: Judge, affected: bool | None
) -> None:
    # given
    asked = replace(deployment(US_MARKET, AMERICA), affected=affected)
    # when
    found = rules(judge, asked)
    # then
    assert found == ["PLAT-DERIVED"]


def test_no_release_is_deployed_outside_its_market(judge: Judge) -> None:
    # given
    asked = deployment(WORLD, AMERICA)
    # when
    found = rules(judge, asked)
    # then
    assert found == ["PLAT-DENY"]


@pytest.mark.parametrize("kind", [ItemKind.RAW, ItemKind.EMBEDDINGS, ItemKind.EXAMPLE_GRADIENTS])
def test_a_per_sample_kind_is_refused_whatever_its_classes_say(
    judge: Judge, kind: ItemKind
) -> None:
    # given nothing but the kind out of order
    asked = replace(PLAN["phase 1: world export update de > hub"], kind=kind)
    # when
    found = rules(judge, asked)
    # then
    assert found[0] == "PLAT-RAW"
