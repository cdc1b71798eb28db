"""The Chinese pack, rule by rule: what each refuses alone, and what it permits with its condition.

`OPEN` is an update of sensitive, important and geographic data whose determination ends no class,
so that every paper of the pack counts for it; the routes are shown on `PEOPLE`, where nothing but
personal data is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.demo_world import (
    AMERICA,
    CHINA,
    DAY_S,
    DE,
    HUB,
    NOW,
    US,
    WESTERN,
    WORLD,
    approval,
    planned_crossings,
    question,
)

from ringfence.policy.approvals import Approval
from ringfence.policy.facts import ExtractionTest, Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, DataClass, ItemKind, Purpose, Trait

PLAN = dict(planned_crossings())
CN_UPDATE = PLAN["phase 2: world export update cn > hub"]
RELEASE_TO_US = PLAN["phase 2: world export release hub > us"]
TRAINING = PLAN["phase 2: world train cn"]

PERSONAL, SENSITIVE = DataClass.PERSONAL, DataClass.SENSITIVE
IMPORTANT, GEOGRAPHIC = DataClass.IMPORTANT, DataClass.GEOGRAPHIC
ALL_CLASSES = frozenset({PERSONAL, SENSITIVE, IMPORTANT, GEOGRAPHIC})

ASSESSMENT, SCC, CERT = ApprovalType.CAC_ASSESSMENT, ApprovalType.CAC_SCC, ApprovalType.CAC_CERT
CLEARANCE = ApprovalType.FTZ_CLEARANCE
DETERMINATION = ApprovalType.CN_DERIVED_DETERMINATION

FLAGS = frozenset({"CN-CSL", "CN-PIPL-3", "CN-AUTO-3", "CN-AUTO-13", "CN-GENAI"})
ROUTES = frozenset(
    {
        "CN-PIPL-38",
        "CN-PIPL-40",
        "CN-FLOW-4",
        "CN-FLOW-5",
        "CN-FLOW-6",
        "CN-FLOW-7",
        "CN-FLOW-8",
        "CN-SCC-2023",
        "CN-CERT-2026",
    }
)


def rules(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).rules]


def flags(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).flags]


def without(asked: Question, *types: ApprovalType) -> Question:
    return replace(asked, approvals=tuple(a for a in asked.approvals if a.type not in types))


def holding(asked: Question, *types: ApprovalType, holder: Party = CHINA) -> Question:
    """The question with more papers of one Chinese operator, for exactly its flow."""
    papers = (
        approval(
            type_,
            holder,
            asked.recipient.jurisdiction,
            (asked.recipient,),
            {asked.kind},
            clears=FLAGS if type_ is ApprovalType.PLAT_FLAG_REVIEW else frozenset(),
        )
        for type_ in types
    )
    return replace(asked, approvals=(*asked.approvals, *papers))


def ending(asked: Question, classes: Iterable[DataClass]) -> Question:
    """The question under a determination that ends exactly these classes."""
    approvals = tuple(
        replace(a, lowers=frozenset(classes)) if a.type is DETERMINATION else a
        for a in asked.approvals
    )
    return replace(asked, approvals=approvals)


def counted(asked: Question, people: int, sensitive: int = 0) -> Question:
    assert asked.counters is not None
    counters = replace(asked.counters, cn_people=people, cn_sensitive_people=sensitive)
    return replace(asked, counters=counters)


def of_chinese(asked: Question, *traits: Trait) -> Question:
    """The same question, the Chinese operator having these traits."""
    china = replace(CHINA, traits=frozenset(traits))
    contributors = frozenset(china if p == CHINA else p for p in asked.contributors)
    sender, recipient = (china if p == CHINA else p for p in (asked.sender, asked.recipient))
    return replace(asked, contributors=contributors, sender=sender, recipient=recipient)


def rescoped(asked: Question, kind: ItemKind) -> Question:
    """The same question about another kind, which its papers name as well."""
    approvals = tuple(replace(a, kinds=a.kinds | {kind}) for a in asked.approvals)
    return replace(asked, kind=kind, approvals=approvals)


OPEN = ending(
    holding(
        replace(CN_UPDATE, classes=ALL_CLASSES),
        ApprovalType.MNR_OUTBOUND,
        ApprovalType.CN_NOTICE_CONSENT,
        ApprovalType.CN_PIPIA,
        ApprovalType.PLAT_FLAG_REVIEW,
    ),
    (),
)
PEOPLE = ending(replace(OPEN, classes=frozenset({PERSONAL, GEOGRAPHIC})), {GEOGRAPHIC})


# ---- papers, one by one -------------------------------------------------------------------------


def test_an_item_of_every_class_leaves_china_with_every_paper(judge: Judge) -> None:
    assert rules(judge, OPEN) == []
    assert rules(judge, PEOPLE) == []


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (
            ASSESSMENT,
            [
                "CN-DSL-31",
                "CN-PIPL-38",
                "CN-FLOW-7",
                "CN-FLOW-8",
                "CN-AUTO-11",
                "CN-AUTO-2026",
                "CN-MAP-2024",
                "CN-FLOW-4",
                "CN-FLOW-5",
            ],
        ),
        (DETERMINATION, ["PLAT-DERIVED"]),
        (ApprovalType.CN_IMPORTANT_DUTIES, ["CN-NDSR-2025"]),
        (ApprovalType.CN_NOTICE_CONSENT, ["CN-PIPL-39"]),
        (ApprovalType.CN_PIPIA, ["CN-PIPL-55"]),
        (ApprovalType.CN_EXPORT_LOG, ["CN-AUTO-2026"]),
        (ApprovalType.CN_TECH_EXPORT, ["CN-TECH-EXP"]),
        (ApprovalType.MNR_ENTRUSTMENT, ["CN-MAP-2022"]),
        (ApprovalType.MNR_OUTBOUND, ["CN-MAP-2022", "CN-MAP-2024"]),
        (ApprovalType.PLAT_FLAG_REVIEW, ["CN-AUTO-3", "CN-AUTO-13"]),
    ],
)
def test_an_export_lacks_one_paper(
    judge: Judge, missing: ApprovalType, expected: list[str]
) -> None:
    assert rules(judge, without(OPEN, missing)) == expected


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (ApprovalType.CN_MLPS, ["CN-CSL"]),
        (ApprovalType.CN_IMPORTANT_DUTIES, ["CN-DSL-21"]),
        (ApprovalType.CN_LEGAL_BASIS, ["CN-PIPL-13"]),
        (ApprovalType.CN_PIPIA, ["CN-PIPL-55"]),
        (ApprovalType.CN_ANONYMISER_REPORT, ["CN-AUTO-6", "CN-GBT-44464"]),
        (ApprovalType.MNR_ENTRUSTMENT, ["CN-MAP-2022", "CN-MAP-2024"]),
    ],
)
def test_training_in_china_lacks_one_measure(
    judge: Judge, missing: ApprovalType, expected: list[str]
) -> None:
    # given
    training = holding(replace(TRAINING, classes=ALL_CLASSES), ApprovalType.CN_PIPIA)
    # then
    assert rules(judge, training) == []
    assert rules(judge, without(training, missing)) == expected


def test_training_on_harmless_data_needs_what_every_node_and_camera_needs(judge: Judge) -> None:
    # given
    training = replace(TRAINING, classes=frozenset[DataClass](), approvals=())
    # when
    found = rules(judge, training)
    # then
    assert found == ["CN-CSL", "CN-AUTO-6", "CN-GBT-44464"]


def test_consent_takes_the_place_of_anonymity_but_not_of_the_standards_test(judge: Judge) -> None:
    # given
    training = without(TRAINING, ApprovalType.CN_ANONYMISER_REPORT)
    # when
    found = rules(judge, holding(training, ApprovalType.CN_NOTICE_CONSENT))
    # then
    assert found == ["CN-GBT-44464"]


def test_a_hub_in_china_is_a_node_and_computes_over_places_under_the_licensed_unit(
    judge: Judge,
) -> None:
    # given
    merging = question(
        Action.MERGE,
        ItemKind.UPDATE,
        lineage=WORLD,
        contributors=frozenset({CHINA}),
        sender=CHINA,
        recipient=CHINA,
    )
    papers = (ApprovalType.CN_MLPS, ApprovalType.MNR_ENTRUSTMENT)
    # then
    assert rules(judge, merging) == ["CN-MAP-2024", "CN-CSL"]
    assert rules(judge, holding(merging, *papers)) == []


def test_each_chinese_contributor_needs_its_own_papers(judge: Judge) -> None:
    # given a second Chinese region in the ancestry, without papers
    second = replace(CHINA, region="cn2", operator="cn2-operator")
    # when
    found = rules(judge, replace(RELEASE_TO_US, contributors=RELEASE_TO_US.contributors | {second}))
    # then
    assert {"PLAT-DERIVED", "CN-TECH-EXP", "CN-AUTO-2026"} <= set(found)


# ---- classes that a determination ends ----------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "no_longer"),
    [
        (IMPORTANT, {"CN-DSL-31", "CN-FLOW-7", "CN-AUTO-11", "CN-NDSR-2025"}),
        (GEOGRAPHIC, {"CN-MAP-2022", "CN-MAP-2024"}),
    ],
)
def test_rules_of_a_class_end_with_it(judge: Judge, ended: DataClass, no_longer: set[str]) -> None:
    # given nothing but what every item needs
    bare = without(OPEN, ASSESSMENT, ApprovalType.CN_IMPORTANT_DUTIES, ApprovalType.MNR_OUTBOUND)
    # when
    before, after = set(rules(judge, bare)), set(rules(judge, ending(bare, {ended})))
    # then
    assert before - after == no_longer


def test_anonymity_needs_both_classes_of_persons_ended_and_somebody_to_look_at_it(
    judge: Judge,
) -> None:
    # given
    bare = without(OPEN, ApprovalType.CN_NOTICE_CONSENT, ApprovalType.CN_PIPIA)
    one, both = ending(bare, {PERSONAL}), ending(bare, {PERSONAL, SENSITIVE})
    # then an item that is sensitive still is about persons
    assert rules(judge, one) == ["CN-PIPL-39", "CN-PIPL-55"]
    assert rules(judge, both) == []
    # and the flag goes up as soon as something is treated as no longer personal
    assert "CN-PIPL-3" not in flags(judge, bare)
    assert "CN-PIPL-3" in flags(judge, one)
    assert rules(judge, without(both, ApprovalType.PLAT_FLAG_REVIEW))[0] == "CN-PIPL-3"


def test_a_determination_does_not_end_the_duty_to_entrust_a_licensed_unit(judge: Judge) -> None:
    # given
    asked = ending(without(OPEN, ApprovalType.MNR_ENTRUSTMENT), {GEOGRAPHIC})
    # then
    assert rules(judge, asked) == ["CN-MAP-2022"]


def test_the_guide_asks_for_an_assessment_though_every_class_has_ended(judge: Judge) -> None:
    assert rules(judge, ending(without(OPEN, ASSESSMENT), ALL_CLASSES)) == ["CN-AUTO-2026"]


# ---- routes -------------------------------------------------------------------------------------


def on_routes(judge: Judge, asked: Question, *papers: ApprovalType) -> set[str]:
    """Rules about the route that refuse when exactly these papers stand for one."""
    return set(rules(judge, holding(without(asked, ASSESSMENT), *papers))) & ROUTES


@pytest.mark.parametrize(
    ("people", "sensitive", "papers", "expected"),
    [
        # Article 5: few people, proven by the counter.
        (0, 0, (), {"CN-PIPL-38", "CN-FLOW-5"}),
        (1, 0, (), set()),
        (99_999, 0, (), set()),
        # Article 8: the band of contract and certification.
        (100_000, 0, (), {"CN-PIPL-38", "CN-FLOW-4", "CN-FLOW-8"}),
        (100_000, 0, (SCC,), set()),
        (100_000, 0, (CERT,), set()),
        (50, 1, (), {"CN-PIPL-38", "CN-FLOW-8"}),
        (50, 9_999, (), {"CN-PIPL-38", "CN-FLOW-8"}),
        (50, 9_999, (SCC,), set()),
        # Fleet data of more than 100,000 people are important: the band does not help.
        (100_001, 0, (SCC,), {"CN-FLOW-7"}),
        (999_999, 0, (), {"CN-PIPL-38", "CN-FLOW-4", "CN-FLOW-7", "CN-FLOW-8"}),
        # Article 7: the assessment alone.
        (1_000_000, 0, (), {"CN-PIPL-38", "CN-PIPL-40", "CN-FLOW-4", "CN-FLOW-7"}),
        (1_000_000, 0, (SCC,), {"CN-PIPL-40", "CN-FLOW-7"}),
        (1_000_000, 0, (CERT,), {"CN-PIPL-40", "CN-FLOW-7", "CN-CERT-2026"}),
        (50, 10_000, (SCC,), {"CN-PIPL-40", "CN-FLOW-7"}),
        (50, 10_000, (CERT,), {"CN-PIPL-40", "CN-FLOW-7", "CN-CERT-2026"}),
    ],
)
def test_the_numbers_of_the_year_decide_the_route(
    judge: Judge,
    people: int,
    sensitive: int,
    papers: tuple[ApprovalType, ...],
    expected: set[str],
) -> None:
    # given
    asked = counted(PEOPLE, people, sensitive)
    # then, and the assessment opens every way
    assert on_routes(judge, asked, *papers) == expected
    assert rules(judge, holding(asked, *papers)) == []


@pytest.mark.parametrize(
    ("papers", "expected"),
    [
        ((), {"CN-PIPL-38", "CN-FLOW-4", "CN-FLOW-8"}),
        ((SCC,), set()),
        ((CERT,), set()),
    ],
)
def test_sensitive_data_are_never_exempt_and_need_a_route_for_one_person(
    judge: Judge, papers: tuple[ApprovalType, ...], expected: set[str]
) -> None:
    # given
    asked = counted(replace(PEOPLE, classes=PEOPLE.classes | {SENSITIVE}), 1)
    # then
    assert on_routes(judge, asked, *papers) == expected


def test_important_data_go_by_the_assessment_alone(judge: Judge) -> None:
    # given
    asked = counted(replace(PEOPLE, classes=PEOPLE.classes | {IMPORTANT}), 1)
    # then
    assert on_routes(judge, asked) == {"CN-FLOW-4", "CN-FLOW-7"}
    assert on_routes(judge, asked, SCC) == {"CN-FLOW-7"}
    assert on_routes(judge, asked, CERT) == {"CN-FLOW-7", "CN-CERT-2026"}
    assert on_routes(judge, asked, ASSESSMENT) == set()


@pytest.mark.parametrize(
    ("papers", "expected"),
    [
        ((), {"CN-PIPL-38", "CN-PIPL-40", "CN-FLOW-7"}),
        ((SCC,), {"CN-PIPL-40", "CN-FLOW-7"}),
        ((CERT,), {"CN-PIPL-40", "CN-FLOW-7", "CN-CERT-2026"}),
        ((ASSESSMENT,), set()),
    ],
)
def test_critical_infrastructure_goes_by_the_assessment_alone_and_is_flagged(
    judge: Judge, papers: tuple[ApprovalType, ...], expected: set[str]
) -> None:
    # given
    asked = of_chinese(counted(PEOPLE, 1), Trait.CIIO)
    # then
    assert on_routes(judge, asked, *papers) == expected
    assert "CN-CSL" in flags(judge, asked)
    assert "CN-CSL" not in flags(judge, counted(PEOPLE, 1))
    assert "CN-CSL" in flags(judge, of_chinese(TRAINING, Trait.CIIO))


@pytest.mark.parametrize(
    ("people", "sensitive", "papers", "expected"),
    [
        (99_999, 0, (), set()),
        (100_000, 0, (), {"CN-PIPL-38", "CN-FLOW-4", "CN-FLOW-6", "CN-FLOW-8"}),
        (100_000, 0, (SCC,), set()),
        (100_000, 0, (CLEARANCE,), set()),
        (0, 0, (CLEARANCE,), set()),
        (50, 10_000, (CLEARANCE,), set()),
        (50, 10_000, (CLEARANCE, CERT), set()),
        (100_001, 0, (CLEARANCE,), {"CN-FLOW-7"}),
    ],
)
def test_a_free_trade_zones_list_takes_the_place_of_a_route(
    judge: Judge,
    people: int,
    sensitive: int,
    papers: tuple[ApprovalType, ...],
    expected: set[str],
) -> None:
    assert (
        on_routes(judge, of_chinese(counted(PEOPLE, people, sensitive), Trait.FTZ), *papers)
        == expected
    )


def test_a_free_trade_zone_helps_nobody_who_is_not_registered_in_it(judge: Judge) -> None:
    # given a clearance, and an operator elsewhere; then one inside who runs critical infrastructure
    outside = counted(PEOPLE, 100_000)
    critical = of_chinese(counted(PEOPLE, 1), Trait.FTZ, Trait.CIIO)
    important = of_chinese(
        counted(replace(PEOPLE, classes=PEOPLE.classes | {IMPORTANT}), 1), Trait.FTZ
    )
    # then
    assert on_routes(judge, outside, CLEARANCE) == {"CN-PIPL-38", "CN-FLOW-8"}
    assert on_routes(judge, critical, CLEARANCE) == {"CN-PIPL-40", "CN-FLOW-7"}
    assert on_routes(judge, important, CLEARANCE) == {"CN-FLOW-7"}


def test_every_chinese_contributor_must_be_in_the_zone(judge: Judge) -> None:
    # given two of them on an onward path, each with a clearance
    second = replace(CHINA, region="cn2", operator="cn2-operator")
    asked = counted(replace(PEOPLE, contributors=frozenset({CHINA, second})), 100_000)
    onward = replace(asked, sender=HUB, recipient=AMERICA, kind=ItemKind.RELEASE)
    both_clear = holding(holding(onward, CLEARANCE), CLEARANCE, holder=second)
    one = of_chinese(both_clear, Trait.FTZ)
    both = replace(
        one,
        contributors=frozenset(replace(p, traits=frozenset({Trait.FTZ})) for p in one.contributors),
    )
    # then
    assert "CN-FLOW-8" in rules(judge, one)
    assert "CN-FLOW-8" not in rules(judge, both)


def test_a_contract_is_filed_with_its_impact_assessment(judge: Judge) -> None:
    # given
    asked = without(counted(PEOPLE, 100_000), ApprovalType.CN_PIPIA)
    # then
    assert on_routes(judge, asked, SCC) == {"CN-SCC-2023"}
    assert on_routes(judge, asked, SCC, ApprovalType.CN_PIPIA) == set()


def test_data_of_china_alone_have_no_foreign_exemption_to_lose(judge: Judge) -> None:
    # given
    alone = replace(counted(PEOPLE, 100_000), contributors=frozenset({CHINA}))
    # then
    assert on_routes(judge, alone) == {"CN-PIPL-38", "CN-FLOW-8"}


@pytest.mark.parametrize(
    ("people", "sensitive", "expected"),
    [
        (100_000, 9_999, ["CN-AUTO-2026"]),
        (100_001, 0, ["CN-FLOW-7", "CN-AUTO-2026"]),
        (0, 10_000, ["CN-FLOW-7", "CN-AUTO-2026"]),
        # The article itself, and the reading for fleet data.
        (1_000_000, 0, ["CN-FLOW-7", "CN-FLOW-7", "CN-AUTO-2026"]),
    ],
)
def test_many_people_need_the_assessment_though_every_class_has_ended(
    judge: Judge, people: int, sensitive: int, expected: list[str]
) -> None:
    # given
    asked = ending(counted(OPEN, people, sensitive), ALL_CLASSES)
    # then
    assert rules(judge, without(asked, ASSESSMENT)) == expected
    assert rules(judge, asked) == []


# ---- drift --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "drifted"),
    [
        ({"kinds": frozenset({ItemKind.SNAPSHOT})}, True),
        ({"purpose": Purpose.PUBLIC_SERVICE}, True),
        ({"scope": RELEASE_TO_US.scope[:-1] + "0"}, True),
        # A paper of others, or one that has run out, has not drifted: it is another paper.
        ({"expires": NOW}, False),
        ({"destination": US}, False),
        ({"counterparties": frozenset({AMERICA.operator})}, False),
    ],
)
def test_a_refusal_says_that_an_assessment_has_drifted(
    judge: Judge, changes: dict[str, object], drifted: bool
) -> None:
    # given
    approvals = tuple(replace(a, **changes) if a.type is ASSESSMENT else a for a in OPEN.approvals)
    # when
    found = rules(judge, replace(OPEN, approvals=approvals))
    # then
    assert ("CN-EXP-2022" in found) is drifted
    assert "CN-AUTO-11" in found


def test_a_second_assessment_that_covers_the_flow_leaves_no_drift(judge: Judge) -> None:
    # given
    other = replace(
        holding(without(OPEN, ASSESSMENT), ASSESSMENT).approvals[-1],
        kinds=frozenset({ItemKind.SNAPSHOT}),
    )
    # then
    assert rules(judge, replace(OPEN, approvals=(*OPEN.approvals, other))) == []


# ---- parties ------------------------------------------------------------------------------------


def test_what_a_public_body_holds_stays_in_china(judge: Judge) -> None:
    # given the body as the sender, and as an ancestor of what a European hub sends on
    sent = of_chinese(OPEN, Trait.PUBLIC_BODY)
    sent_on = of_chinese(RELEASE_TO_US, Trait.PUBLIC_BODY)
    harmless = replace(sent, classes=frozenset({GEOGRAPHIC}))
    # then
    assert rules(judge, sent) == ["CN-PIPL-36"]
    assert rules(judge, sent_on) == ["CN-PIPL-36"]
    assert rules(judge, harmless) == []


def test_a_public_body_elsewhere_is_none_of_chinas(judge: Judge) -> None:
    # given
    german = replace(DE, traits=frozenset({Trait.PUBLIC_BODY, Trait.CIIO}))
    contributors = (OPEN.contributors - {DE}) | {german}
    # then
    assert rules(judge, replace(OPEN, contributors=contributors)) == []


@pytest.mark.parametrize("kind", [ItemKind.UPDATE, ItemKind.METRICS, ItemKind.EVIDENCE])
@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"at": NOW - DAY_S + 1}, False),
        ({"at": NOW - DAY_S}, True),
        ({"at": NOW + 60}, True),
        ({"cn_listed": True}, True),
        (None, True),
    ],
)
def test_a_recipient_is_screened_within_a_day(
    judge: Judge, kind: ItemKind, changes: dict[str, object] | None, refused: bool
) -> None:
    # given
    assert HUB.screening is not None
    screening = None if changes is None else replace(HUB.screening, **changes)
    asked = replace(OPEN, kind=kind, recipient=replace(HUB, screening=screening))
    # then
    assert ("CN-PIPL-42" in rules(judge, asked)) is refused


# ---- section 7, row by row ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ItemKind.RAW, ItemKind.EMBEDDINGS, ItemKind.EXAMPLE_GRADIENTS])
def test_row_1_3_and_4_stay_in_china(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, replace(OPEN, kind=kind))[:2] == ["PLAT-RAW", "CN-MAP-2024"]
    assert "CN-AUTO-11" in rules(judge, without(replace(OPEN, kind=kind), ASSESSMENT))


def test_raw_data_offered_as_an_update_are_refused_by_the_mapping_rule_too(judge: Judge) -> None:
    # when
    found = rules(judge, replace(CN_UPDATE, classes=CN_UPDATE.classes | {DataClass.RAW}))
    # then
    assert found == ["PLAT-RAW", "CN-MAP-2024"]


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ({PERSONAL, SENSITIVE, GEOGRAPHIC}, []),
        ({GEOGRAPHIC}, ["PLAT-RAW"]),
        ({PERSONAL, GEOGRAPHIC}, ["PLAT-RAW"]),
        ({PERSONAL, SENSITIVE}, ["CN-MAP-2024"]),
    ],
)
def test_row_2_leaves_without_persons_and_places_only(
    judge: Judge, ended: set[DataClass], expected: list[str]
) -> None:
    # given labels, and every paper for them
    labels = rescoped(OPEN, ItemKind.LABELS)
    # then
    assert rules(judge, ending(labels, ended)) == expected


@pytest.mark.parametrize("kind", [ItemKind.UPDATE, ItemKind.LOGITS, ItemKind.INFERENCE_MODEL])
@pytest.mark.parametrize(
    ("test", "refused"),
    [
        ({"tested_at": NOW - 30 * DAY_S + 1}, False),
        ({"tested_at": NOW - 30 * DAY_S}, True),
        ({"tested_at": NOW + 60}, True),
        ({"passed": False}, True),
        (None, True),
    ],
)
def test_row_5_to_8_and_14_need_a_fresh_extraction_test(
    judge: Judge, kind: ItemKind, test: dict[str, object] | None, refused: bool
) -> None:
    # given
    passed = ExtractionTest(passed=True, tested_at=NOW - DAY_S, evidence=OPEN.scope)
    extraction = None if test is None else replace(passed, **test)
    # when
    found = rules(judge, replace(rescoped(OPEN, kind), extraction=extraction))
    # then
    assert found == (["PLAT-EXTRACT"] if refused else [])


@pytest.mark.parametrize("kind", [ItemKind.ARCHITECTURE, ItemKind.CODE])
def test_row_9_and_10_leave_with_their_technology_paper_alone(judge: Judge, kind: ItemKind) -> None:
    # given
    bare = replace(OPEN, kind=kind, contributors=frozenset({CHINA}), approvals=())
    # then
    assert rules(judge, bare) == ["CN-TECH-EXP"]
    assert rules(judge, holding(bare, ApprovalType.CN_TECH_EXPORT)) == []


@pytest.mark.parametrize(
    "kind", [ItemKind.METRICS, ItemKind.MECHANISM, ItemKind.CHECKPOINT, ItemKind.APPROVAL]
)
def test_row_11_to_13_leave_without_any_paper_or_flag(judge: Judge, kind: ItemKind) -> None:
    # given
    asked = replace(
        PLAN["phase 2: world export metrics cn > hub"],
        kind=kind,
        contributors=frozenset({CHINA}),
        classes=ALL_CLASSES,
        approvals=(),
    )
    # then
    assert rules(judge, asked) == []
    assert flags(judge, asked) == []


def test_row_13_contents_need_an_assessment_or_a_determination_of_what_is_in_them(
    judge: Judge,
) -> None:
    # given contents of no class
    bare = replace(
        OPEN,
        action=Action.DISCLOSE,
        kind=ItemKind.EVIDENCE,
        contributors=frozenset({CHINA}),
        classes=frozenset[DataClass](),
        approvals=(),
    )
    logged = holding(bare, ApprovalType.CN_EXPORT_LOG)
    # then
    assert rules(judge, bare) == ["CN-AUTO-2026", "CN-AUTO-2026"]
    assert rules(judge, logged) == ["CN-AUTO-2026"]
    assert rules(judge, holding(logged, ASSESSMENT)) == []
    assert rules(judge, holding(logged, DETERMINATION)) == []
    # and what they speak of has its class
    assert "CN-PIPL-38" in rules(judge, replace(logged, classes=frozenset({PERSONAL})))
    assert "CN-DSL-31" in rules(judge, replace(logged, classes=frozenset({IMPORTANT})))


@pytest.mark.parametrize("kind", [ItemKind.CHECKPOINT, ItemKind.EVIDENCE, ItemKind.METRICS])
def test_a_foreign_authority_gets_neither_contents_nor_digests(
    judge: Judge, kind: ItemKind
) -> None:
    # given
    asked = replace(OPEN, action=Action.DISCLOSE, kind=kind, purpose=Purpose.FOREIGN_AUTHORITY)
    permission = replace(
        holding(asked, ApprovalType.CN_FOREIGN_AUTHORITY_APPROVAL).approvals[-1],
        purpose=Purpose.FOREIGN_AUTHORITY,
    )
    # then
    assert rules(judge, asked)[0] == "CN-DSL-36"
    assert "CN-DSL-36" not in rules(judge, replace(asked, approvals=(permission,)))


def test_chinas_own_authority_sees_its_regions_log(judge: Judge) -> None:
    # given
    asked = question(
        Action.DISCLOSE,
        ItemKind.CHECKPOINT,
        lineage=WORLD,
        contributors=frozenset({CHINA}),
        sender=CHINA,
        recipient=CHINA,
    )
    # then
    assert rules(judge, replace(asked, purpose=Purpose.FOREIGN_AUTHORITY)) == []


# ---- what comes in, and what never was Chinese ---------------------------------------------------


@pytest.mark.parametrize("kind", [ItemKind.RELEASE, ItemKind.ARCHITECTURE, ItemKind.CODE])
def test_china_asks_for_nothing_where_no_chinese_data_are_in_the_lineage(
    judge: Judge, kind: ItemKind
) -> None:
    # given a western item on its way in, and on its way between others, for a market with China
    coming_in = replace(PLAN["phase 1: world export release hub > cn"], kind=kind, approvals=())
    elsewhere = replace(PLAN["phase 1: world export release hub > us"], kind=kind, approvals=())
    # then
    for asked in (coming_in, elsewhere):
        assert "cn" in {use.name for use in judge.judge(asked).packs}
        assert asked.contributors == WESTERN
        assert not [rule for rule in rules(judge, asked) if rule.startswith("CN-")]


def test_a_release_is_filed_before_it_goes_on_chinese_roads(judge: Judge) -> None:
    # given
    asked = question(
        Action.DEPLOY,
        ItemKind.RELEASE,
        lineage=WORLD,
        contributors=frozenset({CHINA}),
        sender=CHINA,
        recipient=CHINA,
    )
    # then
    assert rules(judge, asked) == ["CN-OTA"]
    assert rules(judge, holding(asked, ApprovalType.CN_OTA_FILING)) == []


# ---- flags --------------------------------------------------------------------------------------


def test_fleet_data_and_important_data_are_flagged_where_they_train_and_leave(
    judge: Judge,
) -> None:
    # given
    harmless = frozenset({PERSONAL})
    # then training goes on, an export is held
    assert flags(judge, TRAINING) == ["CN-AUTO-3", "CN-AUTO-13"]
    assert flags(judge, replace(TRAINING, classes=harmless)) == ["CN-AUTO-3"]
    assert rules(judge, TRAINING) == []
    assert flags(judge, OPEN) == ["CN-AUTO-3", "CN-AUTO-13"]
    assert flags(judge, replace(OPEN, classes=harmless)) == ["CN-AUTO-3"]


@pytest.mark.parametrize("purpose", [Purpose.CIVIL_DRIVING, Purpose.PUBLIC_SERVICE])
def test_a_service_to_the_public_is_flagged(judge: Judge, purpose: Purpose) -> None:
    # given
    deployed = question(
        Action.DEPLOY,
        ItemKind.RELEASE,
        lineage=WORLD,
        contributors=frozenset({CHINA}),
        sender=CHINA,
        recipient=CHINA,
    )
    # when
    found = flags(judge, replace(deployed, purpose=purpose))
    # then
    assert found == (["CN-GENAI"] if purpose is Purpose.PUBLIC_SERVICE else [])


# ---- more papers never hurt ---------------------------------------------------------------------

EVERY_PAPER = holding(OPEN, *sorted(set(ApprovalType) - {a.type for a in OPEN.approvals})).approvals
DRIFTED = tuple(
    replace(a, scope=OPEN.scope[:-1] + "0") for a in EVERY_PAPER if a.type is ASSESSMENT
)


@settings(max_examples=200, deadline=None)
@given(
    missing=st.sets(st.sampled_from((*EVERY_PAPER, *DRIFTED)), max_size=4),
    dropped=st.sampled_from((*EVERY_PAPER, *DRIFTED)),
    kind=st.sampled_from((ItemKind.UPDATE, ItemKind.LABELS, ItemKind.EVIDENCE)),
    ended=st.sets(st.sampled_from(sorted(ALL_CLASSES))),
    classes=st.sets(st.sampled_from(sorted(ALL_CLASSES))),
    people=st.sampled_from((0, 1, 100_000, 100_001, 1_000_000)),
    sensitive=st.sampled_from((0, 1, 10_000)),
    traits=st.sets(st.sampled_from((Trait.CIIO, Trait.FTZ))),
)
def test_taking_a_paper_away_never_turns_a_refusal_into_a_permit(
    judge: Judge,
    missing: set[Approval],
    dropped: Approval,
    kind: ItemKind,
    ended: set[DataClass],
    classes: set[DataClass],
    people: int,
    sensitive: int,
    traits: set[Trait],
) -> None:
    # given nearly every paper there is, and one less
    asked = of_chinese(counted(OPEN, people, sensitive), *traits)
    asked = replace(asked, classes=frozenset(classes))
    most = tuple(a for a in (*EVERY_PAPER, *DRIFTED) if a not in missing - {dropped})
    with_more = ending(rescoped(replace(asked, approvals=most), kind), ended)
    fewer = tuple(a for a in most if a != dropped)
    with_fewer = ending(rescoped(replace(asked, approvals=fewer), kind), ended)
    # when
    permitted_with_more = judge.judge(with_more).permitted
    permitted_with_fewer = judge.judge(with_fewer).permitted
    # then
    assert permitted_with_more or not permitted_with_fewer
