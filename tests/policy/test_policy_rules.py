"""Single rules, each shown to refuse what it is about and nothing beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import (
    AMERICA,
    CHINA,
    CN,
    DAY_S,
    DE,
    EU,
    EVERYONE,
    HUB,
    NOW,
    US,
    US_MARKET,
    WORLD,
    approval,
    demo_approvals,
    planned_crossings,
    question,
)

from ringfence.core.ids import Jurisdiction, LineageId
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Market,
    Party,
    Percent,
    Question,
)
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, Chip, DataClass, ItemKind, Purpose

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


@pytest.mark.parametrize(
    ("action", "sender", "recipient"),
    [
        (Action.TRAIN, CHINA, CHINA),
        (Action.EXPORT, CHINA, HUB),
        (Action.IMPORT, CHINA, HUB),
        (Action.MERGE, HUB, HUB),
        (Action.EXPORT, HUB, AMERICA),
        (Action.IMPORT, HUB, AMERICA),
    ],
)
def test_a_chinese_contribution_is_kept_out_of_the_us_market(
    judge: Judge, action: Action, sender: Party, recipient: Party
) -> None:
    # given every paper of the demo, for this lineage as well
    tainted = question(
        action,
        ItemKind.UPDATE,
        lineage=US_MARKET,
        contributors=EVERYONE,
        sender=sender,
        recipient=recipient,
    )
    papers = tuple(
        replace(held, lineage=US_MARKET, scope=tainted.scope, kinds=held.kinds | {ItemKind.UPDATE})
        for held in demo_approvals()
        if held.lineage == WORLD
    )
    # when
    found = rules(judge, replace(tainted, approvals=papers))
    # then
    assert found == ["US-ICTS-791.303"]


def test_the_first_chinese_update_is_refused_before_any_other_region_is_in_the_lineage(
    judge: Judge,
) -> None:
    # given an ancestry of China alone: only the market brings the American pack in
    first = question(
        Action.EXPORT,
        ItemKind.UPDATE,
        lineage=US_MARKET,
        contributors=frozenset({CHINA}),
        sender=CHINA,
        recipient=HUB,
    )
    # when
    found = rules(judge, first)
    # then
    assert found[0] == "US-ICTS-791.303"


def test_state_that_trained_with_china_is_refused_for_the_us_market(judge: Judge) -> None:
    # when an American update declares the Chinese ancestor of its regional state
    found = rules(judge, replace(US_UPDATE, contributors=US_UPDATE.contributors | {CHINA}))
    # then
    assert "US-ICTS-791.303" in found


def test_a_contributor_controlled_from_china_taints_the_us_market(judge: Judge) -> None:
    # given
    owned = replace(DE, parent=CN)
    # when
    found = rules(judge, replace(US_UPDATE, contributors=frozenset({owned, AMERICA})))
    # then
    assert found == ["US-ICTS-791.303"]


def test_an_authorisation_held_by_the_american_maker_cures_the_us_market(judge: Judge) -> None:
    # given
    merge = replace(
        PLAN["phase 2: us-market merge update hub"],
        contributors=frozenset({CHINA, AMERICA}),
    )
    authorisation = replace(
        approval(
            ApprovalType.BIS_ICTS_AUTH, CHINA, US, (CHINA,), {ItemKind.UPDATE}, lineage=US_MARKET
        ),
        holder=AMERICA.operator,
    )
    # when
    without, with_it = (
        rules(judge, replace(merge, approvals=held)) for held in ((), (authorisation,))
    )
    # then
    assert without == ["US-ICTS-791.303"]
    assert with_it == []


@pytest.mark.parametrize(
    "market",
    [
        Market(countries=frozenset({US}), sae_level=2, model_year=2027),
        Market(countries=frozenset({US}), sae_level=3, model_year=2026),
        Market(countries=frozenset({EU, CN}), sae_level=4, model_year=2028),
    ],
)
def test_the_connected_vehicle_rule_stops_at_its_own_limits(judge: Judge, market: Market) -> None:
    # when
    found = rules(judge, replace(RELEASE_TO_US, market=market))
    # then
    assert found == []


@pytest.mark.parametrize(
    ("hub", "rule"),
    [
        (replace(HUB, screening=None), "US-EAR-744"),
        (rescreened(HUB, at=NOW - DAY_S), "US-EAR-744"),
        (rescreened(HUB, at=NOW + 60), "US-EAR-744"),
        (rescreened(HUB, us_listed=True), "US-EAR-744"),
        (rescreened(HUB, listed_owners_percent=Percent(50)), "US-EAR-50PCT"),
    ],
)
def test_parties_to_an_american_export_are_screened(judge: Judge, hub: Party, rule: str) -> None:
    # given the hub at the end of one way out of the United States, and in the middle of another
    to_hub = replace(PLAN["phase 1: world export update us > hub"], recipient=hub)
    through_hub = replace(PLAN["phase 1: world export release hub > de"], sender=hub)
    # when
    found = [rules(judge, asked) for asked in (to_hub, through_hub)]
    # then
    assert found == [[rule], [rule]]


def test_a_screening_is_good_until_just_before_a_day_has_passed(judge: Judge) -> None:
    # when
    fresh = replace(CN_UPDATE, recipient=rescreened(HUB, at=NOW - DAY_S + 1))
    # then
    assert rules(judge, fresh) == []


def test_a_recipient_on_the_chinese_list_gets_nothing(judge: Judge) -> None:
    # when
    found = rules(judge, replace(CN_UPDATE, recipient=rescreened(HUB, cn_listed=True)))
    # then
    assert found == ["CN-PIPL-42"]


@pytest.mark.parametrize(
    "extraction",
    [
        None,
        ExtractionTest(passed=False, tested_at=NOW - 1, evidence=CN_UPDATE.scope),
        ExtractionTest(passed=True, tested_at=NOW - 30 * DAY_S, evidence=CN_UPDATE.scope),
        ExtractionTest(passed=True, tested_at=NOW + 60, evidence=CN_UPDATE.scope),
    ],
)
def test_a_model_goes_to_china_only_with_a_fresh_extraction_test(
    judge: Judge, extraction: ExtractionTest | None
) -> None:
    # when
    found = rules(judge, replace(RELEASE_TO_CN, extraction=extraction))
    # then
    assert found == ["US-DOJ-202.301"]


def test_bulk_data_bar_a_model_from_china_though_the_test_passed(judge: Judge) -> None:
    # given geographic data, whose line is 1,000 devices
    counters = Counters(cn_people=0, cn_sensitive_people=0, us_people=960, us_devices=41)
    # when
    found = rules(judge, replace(RELEASE_TO_CN, counters=counters))
    # then
    assert found == ["US-DOJ-202.301", "US-DOJ-202.302"]


def test_a_recipient_owned_from_a_country_of_concern_counts_as_one(judge: Judge) -> None:
    # given
    owned = replace(DE, parent=Jurisdiction("RU"))
    release = replace(PLAN["phase 1: world export release hub > de"], extraction=None)
    # when
    found = rules(judge, replace(release, recipient=owned))
    # then
    assert found == ["US-DOJ-202.301"]


def test_bulk_data_go_elsewhere_under_an_onward_clause(judge: Judge) -> None:
    # given
    counters = Counters(cn_people=0, cn_sensitive_people=0, us_people=0, us_devices=100_001)
    bulk = replace(PLAN["phase 1: world export update us > hub"], counters=counters)
    clause = approval(ApprovalType.DOJ_ONWARD_CLAUSE, AMERICA, EU, (HUB,), {ItemKind.UPDATE})
    # when
    without = rules(judge, bulk)
    with_it = rules(judge, replace(bulk, approvals=(*bulk.approvals, clause)))
    # then
    assert without == ["US-DOJ-202.302"]
    assert with_it == []


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


@pytest.mark.parametrize("ground", [ApprovalType.DPF_CERT, ApprovalType.BCR_ID])
def test_europe_knows_other_grounds_than_the_contract(judge: Judge, ground: ApprovalType) -> None:
    # given
    rest = tuple(held for held in RELEASE_TO_US.approvals if held.type != ApprovalType.SCC_ID)
    paper = approval(ground, HUB, US, (AMERICA,), {ItemKind.RELEASE})
    if ground is ApprovalType.DPF_CERT:
        paper = replace(paper, holder=AMERICA.operator, counterparties=frozenset({HUB.operator}))
        rest = tuple(held for held in rest if held.type != ApprovalType.TIA_ID)
    # when
    without = rules(judge, replace(RELEASE_TO_US, approvals=rest))
    with_it = rules(judge, replace(RELEASE_TO_US, approvals=(*rest, paper)))
    # then
    assert without == ["EU-GDPR-44", "EU-GDPR-45", "EU-GDPR-46", "EU-EDPB-2024-28"]
    assert with_it == []


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


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (replace(CN_UPDATE, carries_seed=True), ["PLAT-SEED"]),
        (
            replace(CN_UPDATE, compute=Compute(chip=Chip.PRC_3A090, training_ops=1.0)),
            ["US-EAR-GP10"],
        ),
        (
            replace(RELEASE_TO_CN, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=1.1e26)),
            ["US-EAR-4E091"],
        ),
        (
            replace(
                PLAN["phase 2: world train cn"],
                compute=Compute(chip=Chip.UNKNOWN, training_ops=1.0),
            ),
            ["US-EAR-3A090"],
        ),
    ],
)
def test_refuses_a_seed_forbidden_hardware_and_great_training(
    judge: Judge, asked: Question, expected: list[str]
) -> None:
    assert rules(judge, asked) == expected


def test_a_foreign_authority_gets_neither_contents_nor_digests(judge: Judge) -> None:
    # given
    checkpoint = PLAN["opening: disclose checkpoint cn > hub"]
    # when
    found = rules(judge, replace(checkpoint, purpose=Purpose.FOREIGN_AUTHORITY))
    # then
    assert found == ["CN-DSL-36"]


def test_a_foreign_order_is_no_ground_to_leave_europe(judge: Judge) -> None:
    # given
    checkpoint = PLAN["opening: disclose checkpoint hub > us"]
    # when
    found = rules(judge, replace(checkpoint, purpose=Purpose.FOREIGN_AUTHORITY))
    # then
    assert found == ["EU-GDPR-48"]


def test_military_use_is_refused(judge: Judge) -> None:
    # when
    found = rules(judge, replace(RELEASE_TO_CN, purpose=Purpose.MILITARY))
    # then
    assert {"US-EAR-TRAIN", "EU-DUAL"} <= set(found)


@pytest.mark.parametrize(
    ("region", "type_", "rule"),
    [
        (CHINA, ApprovalType.CN_OTA_FILING, "CN-OTA"),
        (DE, ApprovalType.TYPE_APPROVAL_ID, "EU-TA-R155"),
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


def test_a_release_without_china_is_deployed_in_the_united_states(judge: Judge) -> None:
    assert rules(judge, deployment(US_MARKET, AMERICA)) == []


def deployment(lineage: LineageId, region: Party) -> Question:
    asked = question(
        Action.DEPLOY,
        ItemKind.RELEASE,
        lineage=lineage,
        contributors=frozenset({DE, AMERICA}),
        sender=region,
        recipient=region,
    )
    return replace(asked, affected=False)


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


def test_an_operator_controlled_from_china_deploys_nothing_in_the_united_states(
    judge: Judge,
) -> None:
    # given
    owned = replace(AMERICA, parent=CN)
    asked = deployment(US_MARKET, owned)
    # when
    found = rules(judge, asked)
    # then
    assert found == ["US-ICTS-791.303", "US-ICTS-791.304"]


@pytest.mark.parametrize("kind", [ItemKind.LOGITS, ItemKind.EVIDENCE])
def test_a_kind_that_no_pack_permits_is_refused_by_default(judge: Judge, kind: ItemKind) -> None:
    # given nothing but the kind out of order
    asked = replace(PLAN["phase 1: world export update de > hub"], kind=kind)
    # when
    found = rules(judge, asked)
    # then
    assert found == ["PLAT-DENY"]
