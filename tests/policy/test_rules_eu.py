"""The European pack: training, transfers, technology and cars."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import DAY_S, NOW
from tests.policy.pack_world import (
    AE,
    CN,
    EU,
    IN,
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
    at_home,
    crossing,
    objections,
    paper,
    received,
    review,
)

from ringfence.core.clock import from_rfc3339
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Compute, ExtractionTest, Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, Chip, DataClass, ItemKind, Purpose

EUROPE, AMERICA, CHINA, JAPAN = at(EU), at(US), at(CN), at(JP)
TO_CHINA = ["EU-GDPR-44", "EU-GDPR-46"]
TO_AMERICA = ["EU-GDPR-44", "EU-GDPR-45", "EU-GDPR-46"]
OPINION = "EU-EDPB-2024-28"
GEOGRAPHIC = frozenset({DataClass.GEOGRAPHIC})
NO_CLASS = frozenset[DataClass]()


def rules(judge: Judge, asked: Question) -> list[str]:
    return objections(judge, asked, "eu")


def contract(recipient: Party) -> tuple[Approval, ...]:
    return (
        paper(ApprovalType.SCC_ID, EUROPE, recipient),
        paper(ApprovalType.TIA_ID, EUROPE, recipient),
    )


def anonymity(recipient: Party, *classes: DataClass) -> Approval:
    record = paper(ApprovalType.EDPB_ANONYMITY, EUROPE, recipient)
    return replace(record, lowers=frozenset(classes or PERSONAL))


def user_contract(recipient: Party) -> Approval:
    return paper(ApprovalType.USER_CONTRACT_ID, EUROPE, recipient)


def dual_use(recipient: Party) -> Approval:
    return paper(ApprovalType.EU_DUAL_USE_CLASS, EUROPE, recipient)


def extraction_test(*, passed: bool = True, age_s: float = DAY_S) -> ExtractionTest:
    return ExtractionTest(
        passed=passed, tested_at=NOW - age_s, evidence=Digest("sha256:" + "e5" * 32)
    )


# ---- training -----------------------------------------------------------------------------------

MEASURES = {
    ApprovalType.LEGAL_BASIS_ID: ["EU-GDPR-6"],
    ApprovalType.DPIA_ID: ["EU-GDPR-4", "EU-GDPR-25"],
    ApprovalType.USER_CONTRACT_ID: ["EU-DATA-32"],
}
MEASURED = tuple(paper(type_, EUROPE, EUROPE) for type_ in MEASURES)


@pytest.mark.parametrize(
    "own_class", [DataClass.PERSONAL, DataClass.SENSITIVE, DataClass.BIOMETRIC]
)
@pytest.mark.parametrize("missing", MEASURES)
def test_training_on_personal_data_needs_each_measure(
    judge: Judge, missing: ApprovalType, own_class: DataClass
) -> None:
    # given
    asked = at_home(
        Action.TRAIN, EUROPE, ItemKind.UPDATE, *MEASURED, classes=frozenset({own_class})
    )
    rest = tuple(held for held in MEASURED if held.type != missing)
    # then
    assert rules(judge, asked) == []
    assert rules(judge, replace(asked, approvals=rest)) == MEASURES[missing]


def test_training_on_places_alone_needs_the_users_contract(judge: Judge) -> None:
    # given
    asked = at_home(Action.TRAIN, EUROPE, ItemKind.UPDATE, classes=GEOGRAPHIC)
    # then
    assert rules(judge, asked) == ["EU-DATA-32"]
    assert rules(judge, replace(asked, approvals=(user_contract(EUROPE),))) == []


def test_training_on_data_of_no_class_needs_nothing(judge: Judge) -> None:
    assert rules(judge, at_home(Action.TRAIN, EUROPE, ItemKind.UPDATE, classes=NO_CLASS)) == []


def test_the_measures_are_for_one_purpose(judge: Judge) -> None:
    # given papers for driving, and training for something else
    asked = at_home(Action.TRAIN, EUROPE, ItemKind.UPDATE, *MEASURED)
    # when
    found = rules(judge, replace(asked, purpose=Purpose.PUBLIC_SERVICE))
    # then
    assert found == ["EU-GDPR-4", "EU-GDPR-6", "EU-GDPR-25", "EU-DATA-32"]


def test_each_region_that_trains_holds_its_own_measures(judge: Judge) -> None:
    # given the papers of one company, and training by another
    other = replace(EUROPE, operator="another-operator")
    # when
    found = rules(judge, at_home(Action.TRAIN, other, ItemKind.UPDATE, *MEASURED))
    # then
    assert found == ["EU-GDPR-4", "EU-GDPR-6", "EU-GDPR-25", "EU-DATA-32"]


def test_training_elsewhere_on_a_european_model_is_not_training_in_europe(judge: Judge) -> None:
    # given
    asked = at_home(Action.TRAIN, AMERICA, ItemKind.UPDATE)
    # then
    assert rules(judge, replace(asked, contributors=frozenset({EUROPE, AMERICA}))) == []


# ---- the columns of section 7 -------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.EXPORT, Action.IMPORT, Action.DISCLOSE])
@pytest.mark.parametrize("kind", [*PLAIN, *TECHNOLOGY])
def test_what_is_coded_l_goes_to_the_united_states_without_a_paper(
    judge: Judge, kind: ItemKind, action: Action
) -> None:
    assert rules(judge, replace(crossing(EUROPE, AMERICA, kind), action=action)) == []


@pytest.mark.parametrize("kind", PLAIN)
def test_statistics_and_digests_go_to_china_without_a_paper(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(EUROPE, CHINA, kind)) == []


@pytest.mark.parametrize("kind", TECHNOLOGY)
def test_technology_goes_to_china_with_a_class(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, crossing(EUROPE, CHINA, kind)) == ["EU-DUAL"]
    assert rules(judge, crossing(EUROPE, CHINA, kind, dual_use(CHINA))) == []


@pytest.mark.parametrize("kind", [*INHERITING, ItemKind.EVIDENCE])
@pytest.mark.parametrize("recipient", [AMERICA, CHINA])
def test_what_inherits_goes_under_contract(judge: Judge, recipient: Party, kind: ItemKind) -> None:
    # given nothing, and everything that this item needs
    grounds = TO_AMERICA if recipient == AMERICA else TO_CHINA
    technology = ["EU-DUAL"] if kind in MODELS else []
    opinion = [OPINION] if kind in (*MODELS, ItemKind.LOGITS) else []
    user = ["EU-DATA-32"] if recipient == CHINA and kind in INHERITING else []
    papers = (
        *contract(recipient),
        *([dual_use(recipient)] if technology else []),
        *([user_contract(recipient)] if user else []),
    )
    # when
    without = rules(judge, crossing(EUROPE, recipient, kind))
    with_it = rules(judge, crossing(EUROPE, recipient, kind, *papers))
    # then
    assert sorted(without) == sorted([*grounds, *opinion, *technology, *user])
    assert with_it == []


@pytest.mark.parametrize("kind", RAW)
def test_raw_and_per_sample_items_need_a_ground_besides(judge: Judge, kind: ItemKind) -> None:
    # when
    found = objections(judge, crossing(EUROPE, CHINA, kind), "platform", "eu")
    # then
    assert found == ["PLAT-RAW", *TO_CHINA, "EU-DATA-32"]


def test_what_is_not_personal_needs_no_ground(judge: Judge) -> None:
    assert rules(judge, crossing(EUROPE, AMERICA, ItemKind.LABELS, classes=NO_CLASS)) == []


def test_nothing_is_asked_within_the_union(judge: Judge) -> None:
    assert rules(judge, crossing(EUROPE, at(EU), ItemKind.UPDATE)) == []


# ---- grounds of transfer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("papers", "permitted"),
    [
        ((), False),
        (contract(AMERICA)[:1], False),
        (contract(AMERICA)[1:], False),
        (contract(AMERICA), True),
        ((paper(ApprovalType.BCR_ID, EUROPE, AMERICA),), False),
        ((paper(ApprovalType.BCR_ID, EUROPE, AMERICA), contract(AMERICA)[1]), True),
        ((received(ApprovalType.DPF_CERT, AMERICA, EUROPE),), True),
        ((anonymity(AMERICA),), True),
        ((anonymity(AMERICA, DataClass.SENSITIVE),), False),
        (contract(CHINA), False),
    ],
)
def test_the_way_to_the_united_states(
    judge: Judge, papers: tuple[Approval, ...], permitted: bool
) -> None:
    # when
    found = rules(judge, crossing(EUROPE, AMERICA, ItemKind.UPDATE, dual_use(AMERICA), *papers))
    # then
    assert found == ([] if permitted else [*TO_AMERICA, OPINION])


def test_a_certificate_is_no_way_to_china(judge: Judge) -> None:
    # given
    papers = (
        received(ApprovalType.DPF_CERT, CHINA, EUROPE),
        dual_use(CHINA),
        user_contract(CHINA),
    )
    # then
    assert rules(judge, crossing(EUROPE, CHINA, ItemKind.UPDATE, *papers)) == [*TO_CHINA, OPINION]


@pytest.mark.parametrize(
    ("classes", "lowered", "permitted"),
    [
        ({DataClass.PERSONAL, DataClass.SENSITIVE}, {DataClass.PERSONAL}, False),
        ({DataClass.PERSONAL, DataClass.SENSITIVE}, {DataClass.SENSITIVE}, False),
        (
            {DataClass.PERSONAL, DataClass.SENSITIVE},
            {DataClass.PERSONAL, DataClass.SENSITIVE},
            True,
        ),
        ({DataClass.BIOMETRIC}, {DataClass.PERSONAL}, False),
        ({DataClass.BIOMETRIC}, {DataClass.SENSITIVE}, True),
    ],
)
def test_a_record_of_anonymity_ends_the_classes_that_it_names(
    judge: Judge, classes: set[DataClass], lowered: set[DataClass], permitted: bool
) -> None:
    # given
    papers = (anonymity(AMERICA, *lowered), dual_use(AMERICA))
    asked = crossing(EUROPE, AMERICA, ItemKind.RELEASE, *papers, classes=frozenset(classes))
    # then
    assert rules(judge, asked) == ([] if permitted else [*TO_AMERICA, OPINION])


@pytest.mark.parametrize(
    ("extraction", "permitted"),
    [
        (None, False),
        (extraction_test(passed=False), False),
        (extraction_test(age_s=-60), False),
        (extraction_test(age_s=0), True),
        (extraction_test(age_s=30 * DAY_S - 1), True),
        (extraction_test(age_s=30 * DAY_S), False),
    ],
)
def test_a_record_of_anonymity_rests_on_a_fresh_test_and_logits_always_do(
    judge: Judge, extraction: ExtractionTest | None, permitted: bool
) -> None:
    # given
    anonymous = crossing(EUROPE, AMERICA, ItemKind.UPDATE, anonymity(AMERICA), dual_use(AMERICA))
    logits = crossing(EUROPE, AMERICA, ItemKind.LOGITS, *contract(AMERICA))
    under_contract = replace(logits, kind=ItemKind.UPDATE, approvals=(*logits.approvals,))
    # when
    found = [rules(judge, replace(asked, extraction=extraction)) for asked in (anonymous, logits)]
    personal = rules(judge, replace(under_contract, extraction=extraction))
    # then
    assert found == [[] if permitted else [OPINION]] * 2
    # and a model that is sent as personal data needs no proof that it is anonymous
    assert personal == ["EU-DUAL"]


@pytest.mark.parametrize(
    ("place", "adequate"), [(JP, True), (KR, True), (UK, True), (AE, False), (IN, False)]
)
def test_adequate_countries_need_no_other_ground(
    judge: Judge, place: Jurisdiction, adequate: bool
) -> None:
    # given
    recipient = at(place)
    papers = (dual_use(recipient), user_contract(recipient))
    # then
    found = rules(judge, crossing(EUROPE, recipient, ItemKind.UPDATE, *papers))
    assert found == ([] if adequate else [*TO_CHINA, OPINION])


def test_a_direction_without_a_column_needs_the_direction_approved_and_both_packs(
    judge: Judge,
) -> None:
    # given
    papers = (dual_use(JAPAN), user_contract(JAPAN))
    direction = paper(ApprovalType.PLAT_DIRECTION, EUROPE, JAPAN)
    # when
    without = judge.judge(crossing(EUROPE, JAPAN, ItemKind.UPDATE, *papers))
    with_it = judge.judge(crossing(EUROPE, JAPAN, ItemKind.UPDATE, *papers, direction))
    # then
    assert [note.id for note in without.rules] == ["PLAT-DIRECTION"]
    assert with_it.permitted
    assert {"eu", "jp"} <= {use.name for use in with_it.packs}


def test_an_american_hub_is_no_way_around_to_china(judge: Judge) -> None:
    # given a model of both, which the American region hands on
    both = frozenset({EUROPE, AMERICA})
    onward = crossing(AMERICA, CHINA, ItemKind.RELEASE, contributors=both)
    to_hub = (*contract(AMERICA), dual_use(AMERICA), user_contract(AMERICA))
    to_the_end = (*contract(CHINA), dual_use(CHINA), user_contract(CHINA))
    # when
    with_first_leg = rules(judge, replace(onward, approvals=to_hub))
    with_whole_path = rules(judge, replace(onward, approvals=to_the_end))
    # then
    assert sorted(with_first_leg) == sorted([*TO_CHINA, OPINION, "EU-DUAL", "EU-DATA-32"])
    assert with_whole_path == []


def test_a_recipient_owned_from_china_is_judged_there_too(judge: Judge) -> None:
    # given
    owned = replace(AMERICA, parent=CN)
    here = (*contract(owned), dual_use(owned))
    parent = replace(owned, jurisdiction=CN)
    there = (*contract(parent), dual_use(parent), user_contract(parent))
    # when
    half = rules(judge, crossing(EUROPE, owned, ItemKind.UPDATE, *here))
    whole = rules(judge, crossing(EUROPE, owned, ItemKind.UPDATE, *here, *there))
    # then
    assert sorted(half) == sorted([*TO_CHINA, OPINION, "EU-DUAL", "EU-DATA-32"])
    assert whole == []


# ---- foreign authorities and dual use -----------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ItemKind.CHECKPOINT, ["EU-GDPR-48"]),
        (ItemKind.ARCHITECTURE, ["EU-GDPR-48"]),
        (ItemKind.METRICS, ["EU-GDPR-48", "EU-DATA-32"]),
        (ItemKind.EVIDENCE, ["EU-GDPR-48", "EU-DATA-32"]),
    ],
)
def test_a_foreign_order_is_no_ground_to_leave_europe(
    judge: Judge, kind: ItemKind, expected: list[str]
) -> None:
    # given
    asked = replace(
        crossing(EUROPE, AMERICA, kind, classes=NO_CLASS), purpose=Purpose.FOREIGN_AUTHORITY
    )
    # then
    assert rules(judge, asked) == expected
    assert rules(judge, replace(asked, recipient=at(EU))) == []


def test_cryptography_needs_a_class_for_the_united_states_as_well(judge: Judge) -> None:
    # given
    asked = replace(crossing(EUROPE, AMERICA, ItemKind.CODE), carries_crypto=True)
    # then
    assert rules(judge, asked) == ["EU-DUAL"]
    assert rules(judge, replace(asked, approvals=(dual_use(AMERICA),))) == []


@pytest.mark.parametrize(
    ("place", "embargoed"),
    [
        *((place, True) for place in ("CN", "HK", "MO", "IR", "KP", "RU", "VE")),
        *((place, False) for place in ("US", "JP")),
    ],
)
def test_military_use_in_an_embargoed_state_has_no_class(
    judge: Judge, place: str, embargoed: bool
) -> None:
    # given the class of an architecture, for military use
    recipient = at(Jurisdiction(place))
    asked = crossing(
        EUROPE,
        recipient,
        ItemKind.ARCHITECTURE,
        replace(dual_use(recipient), purpose=Purpose.MILITARY),
    )
    # when
    found = rules(judge, replace(asked, purpose=Purpose.MILITARY))
    # then
    assert found == (["EU-DUAL"] if embargoed else [])


# ---- deployment ---------------------------------------------------------------------------------

TYPE_APPROVAL = paper(ApprovalType.TYPE_APPROVAL_ID, EUROPE, EUROPE)
REVIEWED = review(EUROPE, EUROPE, "EU-AIA-6", "EU-AIA-OMNI", "UN-ADS-2026")
DEPLOYMENT = at_home(Action.DEPLOY, EUROPE, ItemKind.RELEASE, TYPE_APPROVAL, REVIEWED)


def flags(judge: Judge, asked: Question) -> set[str]:
    return {note.id for note in judge.judge(asked).flags}


def test_deployment_needs_a_type_approval(judge: Judge) -> None:
    assert judge.judge(DEPLOYMENT).permitted
    assert rules(judge, replace(DEPLOYMENT, approvals=(REVIEWED,))) == ["EU-TA-R155"]


@pytest.mark.parametrize("rule", sorted(REVIEWED.clears))
def test_a_flag_holds_a_deployment_until_it_is_reviewed(judge: Judge, rule: str) -> None:
    # given a review that leaves one flag out
    partly = replace(REVIEWED, clears=REVIEWED.clears - {rule})
    # then
    assert rules(judge, replace(DEPLOYMENT, approvals=(TYPE_APPROVAL, partly))) == [rule]


def test_a_deployment_elsewhere_is_not_flagged_here(judge: Judge) -> None:
    # given
    american = at_home(Action.DEPLOY, AMERICA, ItemKind.RELEASE)
    # then
    assert rules(judge, replace(american, contributors=frozenset({EUROPE, AMERICA}))) == []


@pytest.mark.parametrize(
    ("moment", "flagged"),
    [("2026-08-01T21:59:59Z", False), ("2026-08-01T22:00:00Z", True)],
)
def test_the_first_date_of_the_omnibus_is_midnight_in_brussels(
    judge: Judge, moment: str, flagged: bool
) -> None:
    # when
    found = flags(judge, replace(DEPLOYMENT, now=from_rfc3339(moment)))
    # then
    assert ("EU-AIA-OMNI" in found) is flagged


@pytest.mark.parametrize(("training_ops", "flagged"), [(9.999999e24, False), (1e25, True)])
def test_great_training_is_flagged_as_general_purpose(
    judge: Judge, training_ops: float, flagged: bool
) -> None:
    # given
    compute = Compute(chip=Chip.UNCONTROLLED, training_ops=training_ops)
    # when
    found = flags(judge, replace(DEPLOYMENT, compute=compute))
    # then
    assert ("EU-AIA-53" in found) is flagged
