"""Single rules, each shown to refuse what it is about and nothing beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import (
    AMERICA,
    CHINA,
    DE,
    EU,
    HUB,
    US,
    WORLD,
    approval,
    planned_crossings,
    question,
)

from ringfence.core.ids import Jurisdiction, LineageId
from ringfence.policy.facts import (
    Cohort,
    Counters,
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


def test_raw_chinese_geographic_data_are_refused_by_the_mapping_rule_too(judge: Judge) -> None:
    # when
    found = rules(judge, replace(CN_UPDATE, classes=CN_UPDATE.classes | {DataClass.RAW}))
    # then
    assert found == ["PLAT-RAW", "CN-MAP-2024"]


def test_state_that_trained_with_china_is_refused_for_the_us_market(judge: Judge) -> None:
    # when an American update declares the Chinese ancestor of its regional state
    found = rules(judge, replace(US_UPDATE, contributors=US_UPDATE.contributors | {CHINA}))
    # then
    assert "US-ICTS-791.303" in found


def test_a_recipient_on_the_chinese_list_gets_nothing(judge: Judge) -> None:
    # when
    found = rules(judge, replace(CN_UPDATE, recipient=rescreened(HUB, cn_listed=True)))
    # then
    assert found == ["CN-PIPL-42"]


def test_a_recipient_owned_from_a_country_of_concern_counts_as_one(judge: Judge) -> None:
    # given
    owned = replace(DE, parent=Jurisdiction("RU"))
    release = replace(PLAN["phase 1: world export release hub > de"], extraction=None)
    # when
    found = rules(judge, replace(release, recipient=owned))
    # then
    assert "US-DOJ-202.301" in found
    # and what is handed to the operator is judged as an export to the seat of its parent, too
    assert {"PLAT-DIRECTION", "EU-DUAL", "US-EAR-4E001"} <= set(found)


@pytest.mark.parametrize(
    ("cn_people", "cn_sensitive_people", "expected"),
    [
        (100_000, 9_999, ["CN-AUTO-2026"]),
        (100_001, 0, ["CN-FLOW-7", "CN-AUTO-2026"]),
        (0, 10_000, ["CN-FLOW-7", "CN-AUTO-2026"]),
        # The article itself, and the reading for fleet data.
        (1_000_000, 0, ["CN-FLOW-7", "CN-FLOW-7", "CN-AUTO-2026"]),
    ],
)
def test_many_chinese_people_need_the_assessment_though_every_class_is_lowered(
    judge: Judge, cn_people: int, cn_sensitive_people: int, expected: list[str]
) -> None:
    # given
    counters = Counters(
        cn_people=cn_people, cn_sensitive_people=cn_sensitive_people, us_people=0, us_devices=0
    )
    approvals = tuple(
        replace(held, lowers=CN_UPDATE.classes) if held.type == "cn.derived_determination" else held
        for held in CN_UPDATE.approvals
        if held.type != ApprovalType.CAC_ASSESSMENT
    )
    # when
    found = rules(judge, replace(CN_UPDATE, counters=counters, approvals=approvals))
    # then
    assert found == expected


@pytest.mark.parametrize(
    "route", [ApprovalType.CAC_ASSESSMENT, ApprovalType.CAC_SCC, ApprovalType.CAC_CERT]
)
def test_personal_data_leave_china_on_any_of_three_routes(
    judge: Judge, route: ApprovalType
) -> None:
    # given a determination that lowers nothing, and no assessment
    rest = tuple(
        replace(held, lowers=frozenset()) if held.type == "cn.derived_determination" else held
        for held in CN_UPDATE.approvals
        if held.type != ApprovalType.CAC_ASSESSMENT
    )
    on_route = approval(route, CHINA, EU, (HUB,), {ItemKind.UPDATE})
    # when
    without = rules(judge, replace(CN_UPDATE, approvals=rest))
    with_it = rules(judge, replace(CN_UPDATE, approvals=(*rest, on_route)))
    # then
    assert "CN-PIPL-38" in without
    assert "CN-PIPL-38" not in with_it


def test_geographic_class_is_cured_by_outbound_approval_and_assessment(judge: Judge) -> None:
    # given
    rest = tuple(
        replace(held, lowers=frozenset({DataClass.PERSONAL}))
        if held.type == "cn.derived_determination"
        else held
        for held in CN_UPDATE.approvals
    )
    outbound = approval(ApprovalType.MNR_OUTBOUND, CHINA, EU, (HUB,), {ItemKind.UPDATE})
    # when
    without = rules(judge, replace(CN_UPDATE, approvals=rest))
    with_it = rules(judge, replace(CN_UPDATE, approvals=(*rest, outbound)))
    # then
    assert without == ["CN-MAP-2022", "CN-MAP-2024"]
    assert with_it == []


def test_each_contributor_of_a_jurisdiction_needs_its_own_paper(judge: Judge) -> None:
    # given a second Chinese region in the ancestry, without papers
    second = replace(CHINA, region="cn2", operator="cn2-operator")
    # when
    found = rules(judge, replace(RELEASE_TO_US, contributors=RELEASE_TO_US.contributors | {second}))
    # then
    assert {"PLAT-DERIVED", "CN-TECH-EXP", "CN-AUTO-2026"} <= set(found)


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


def test_a_foreign_authority_gets_neither_contents_nor_digests(judge: Judge) -> None:
    # given
    checkpoint = PLAN["opening: disclose checkpoint cn > hub"]
    # when
    found = rules(judge, replace(checkpoint, purpose=Purpose.FOREIGN_AUTHORITY))
    # then
    assert found == ["CN-DSL-36"]


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
