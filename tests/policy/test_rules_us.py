"""The American pack: each rule refuses what it is about, and permits with its condition met.

Beside the platform's pack it judges alone here: every other jurisdiction has an empty pack.
"""

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
    party,
    planned_crossings,
    question,
)

from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, Jurisdiction, LineageId
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.bulk import bulk_line
from ringfence.policy.facts import (
    Compute,
    Counters,
    ExtractionTest,
    Market,
    Party,
    Percent,
    Question,
)
from ringfence.policy.judge import Judge, enforce
from ringfence.policy.packs import SHIPPED_PACKS_DIR, load_packs, parse_pack
from ringfence.policy.words import (
    GROUPS_OF,
    Action,
    ApprovalType,
    Chip,
    DataClass,
    ItemGroup,
    ItemKind,
    Purpose,
    Trait,
)

PERMIT = (
    '@id("PLAT-DENY") @effect("DENY") @cite("a test") @confidence("H") @remedy("none")\n'
    "permit (principal, action, resource);\n"
)
ELSEWHERE = ("AE", "CN", "CU", "EU", "HK", "IN", "IR", "JP", "KP", "KR", "MO", "RU", "UK", "VE")
CONCERN = [Jurisdiction(code) for code in ("CN", "CU", "HK", "IR", "KP", "MO", "RU", "VE")]
ADVERSARIES = [Jurisdiction(code) for code in ("CN", "HK", "MO", "RU")]
JAPAN = party("jp", Jurisdiction("JP"))

PLAN = dict(planned_crossings())
DERIVED, TECHNOLOGY = (
    [
        kind
        for kind in ItemKind
        if group in GROUPS_OF[kind] and ItemGroup.PER_SAMPLE not in GROUPS_OF[kind]
    ]
    for group in (ItemGroup.DERIVED, ItemGroup.TECHNOLOGY)
)
WITHOUT_PAPERS = [ItemKind.MECHANISM, ItemKind.CHECKPOINT, ItemKind.APPROVAL]
SCREENED = [*DERIVED, *TECHNOLOGY, ItemKind.METRICS, ItemKind.EVIDENCE]
DIGEST = Digest("sha256:" + "e5" * 32)


@pytest.fixture(scope="module")
def judge() -> Judge:
    shipped = load_packs(SHIPPED_PACKS_DIR)
    vocabulary = shipped[0].vocabulary
    return Judge(
        packs=(
            *(pack for pack in shipped if pack.name in ("platform", "us")),
            *(parse_pack(code.lower(), PERMIT, vocabulary=vocabulary) for code in ELSEWHERE),
        )
    )


def rules(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).rules]


def flags(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).flags]


def crossing(
    kind: ItemKind,
    recipient: Party,
    *,
    sender: Party = AMERICA,
    lineage: LineageId = WORLD,
    contributors: frozenset[Party] = frozenset({AMERICA}),
    action: Action = Action.EXPORT,
) -> Question:
    """What the American node sends, or a hub forwards for it, without any paper."""
    asked = question(
        action,
        kind,
        lineage=lineage,
        contributors=frozenset(),
        sender=sender,
        recipient=recipient,
    )
    return replace(asked, contributors=contributors, classes=frozenset({DataClass.PERSONAL}))


def training(region: Party, lineage: LineageId = WORLD) -> Question:
    """What a region asks before it trains, for a lineage in which it is alone."""
    return crossing(
        ItemKind.UPDATE,
        region,
        sender=region,
        lineage=lineage,
        contributors=frozenset({region}),
        action=Action.TRAIN,
    )


def paper(
    type_: ApprovalType,
    asked: Question,
    *,
    holder: Party = AMERICA,
    to: Jurisdiction | None = None,
    clears: frozenset[str] = frozenset(),
) -> Approval:
    """One approval for exactly this question; `to` is the recipient's place unless it is said."""
    destination = to or asked.recipient.jurisdiction
    given = approval(
        type_,
        holder,
        destination,
        (asked.recipient,),
        {asked.kind},
        lineage=asked.lineage,
        clears=clears,
    )
    return replace(given, id=ApprovalId(f"{given.id}/{len(clears)}"))


def holding(asked: Question, *papers: Approval) -> Question:
    return replace(asked, approvals=(*asked.approvals, *papers))


def classified(asked: Question) -> Question:
    """With what every way out of the United States needs; no clause opens China."""
    clause = paper(ApprovalType.DOJ_ONWARD_CLAUSE, asked)
    return holding(holding(asked, paper(ApprovalType.BIS_CLASSIFICATION, asked)), clause)


def reviewed(asked: Question, *flagged: str, holder: Party = AMERICA) -> Question:
    review = paper(ApprovalType.PLAT_FLAG_REVIEW, asked, holder=holder, clears=frozenset(flagged))
    return holding(asked, review)


def on(asked: Question, chip: Chip) -> Question:
    return replace(asked, compute=Compute(chip=chip, training_ops=1e15))


def with_trait(member: Party, trait: Trait) -> Party:
    return replace(member, traits=frozenset({trait}))


def screened(member: Party, **changes: object) -> Party:
    assert member.screening is not None
    return replace(member, screening=replace(member.screening, **changes))


def counted(asked: Question, people: int, devices: int, *classes: DataClass) -> Question:
    counters = Counters(
        cn_people=0,
        cn_sensitive_people=0,
        us_people=people,
        us_devices=devices,
        us_line=bulk_line(classes),
    )
    return replace(asked, counters=counters, classes=frozenset(classes))


# ---- the cells of section 7 ----------------------------------------------------------------------


@pytest.mark.parametrize("recipient", [HUB, JAPAN, CHINA], ids=["EU", "JP", "CN"])
@pytest.mark.parametrize("kind", [*DERIVED, ItemKind.EVIDENCE])
def test_what_is_made_of_data_leaves_with_a_classification(
    judge: Judge, kind: ItemKind, recipient: Party
) -> None:
    # given
    asked = crossing(kind, recipient)
    asked = holding(asked, paper(ApprovalType.DOJ_ONWARD_CLAUSE, asked))
    # when
    without, with_it = rules(judge, asked), rules(judge, classified(asked))
    # then
    assert without == ["US-EAR-4E001"]
    assert with_it == []


@pytest.mark.parametrize("recipient", [HUB, JAPAN, CHINA], ids=["EU", "JP", "CN"])
@pytest.mark.parametrize("kind", TECHNOLOGY)
def test_technology_leaves_classified_or_published(
    judge: Judge, kind: ItemKind, recipient: Party
) -> None:
    # given
    asked = crossing(kind, recipient)
    published = holding(asked, paper(ApprovalType.BIS_PUBLICATION, asked))
    # when
    without, with_either = rules(judge, asked), [rules(judge, classified(asked))]
    with_either.append(rules(judge, published))
    # then each rule that refuses names one way out
    assert without == ["US-EAR-4E001", "US-EAR-734.7"]
    assert with_either == [[], []]


@pytest.mark.parametrize(
    ("recipient", "expected"), [(HUB, []), (JAPAN, []), (CHINA, ["US-EAR-4E001"])]
)
def test_metrics_need_a_classification_for_a_country_of_concern_only(
    judge: Judge, recipient: Party, expected: list[str]
) -> None:
    # given
    asked = crossing(ItemKind.METRICS, recipient)
    # then
    assert rules(judge, asked) == expected
    assert rules(judge, classified(asked)) == []


@pytest.mark.parametrize("recipient", [HUB, JAPAN, CHINA], ids=["EU", "JP", "CN"])
@pytest.mark.parametrize("kind", WITHOUT_PAPERS)
def test_digests_and_parameters_need_no_papers(
    judge: Judge, kind: ItemKind, recipient: Party
) -> None:
    assert rules(judge, crossing(kind, recipient)) == []


@pytest.mark.parametrize("sender", [DE, JAPAN], ids=["EU", "JP"])
@pytest.mark.parametrize("kind", [*SCREENED, *WITHOUT_PAPERS])
def test_what_comes_to_the_united_states_needs_no_american_paper(
    judge: Judge, kind: ItemKind, sender: Party
) -> None:
    # given the lineage of the American market, in which nobody is Chinese
    asked = crossing(
        kind, AMERICA, sender=sender, lineage=US_MARKET, contributors=frozenset({sender})
    )
    # then
    assert rules(judge, asked) == []


# ---- chips ---------------------------------------------------------------------------------------

CONTROLLED = [chip for chip in Chip if chip is not Chip.UNCONTROLLED]


@pytest.mark.parametrize("chip", CONTROLLED)
def test_a_controlled_chip_in_china_needs_a_licence_though_no_american_is_near(
    judge: Judge, chip: Chip
) -> None:
    # given
    asked = on(training(CHINA), chip)
    licensed = holding(asked, paper(ApprovalType.BIS_LICENSE, asked, holder=CHINA))
    # then
    band = ["US-EAR-H200"] if chip is Chip.H200_3A090 else []
    assert rules(judge, asked) == ["US-EAR-3A090", *band]
    assert rules(judge, licensed) == []
    assert rules(judge, on(asked, Chip.UNCONTROLLED)) == []


@pytest.mark.parametrize("seat", CONCERN)
def test_an_owner_of_concern_needs_a_licence_wherever_it_trains(
    judge: Judge, seat: Jurisdiction
) -> None:
    # given
    owned = replace(DE, parent=seat)
    asked = on(training(owned), Chip.UNKNOWN)
    # then
    assert rules(judge, asked) == ["US-EAR-HQ"]
    licensed = holding(asked, paper(ApprovalType.BIS_LICENSE, asked, holder=owned))
    assert rules(judge, licensed) == []
    assert rules(judge, on(asked, Chip.UNCONTROLLED)) == []
    assert rules(judge, on(training(DE), Chip.UNKNOWN)) == []


@pytest.mark.parametrize("seat", [seat for seat in CONCERN if seat != CN])
def test_a_place_of_concern_needs_a_licence_whoever_owns_it(
    judge: Judge, seat: Jurisdiction
) -> None:
    # given
    asked = on(training(replace(DE, jurisdiction=seat)), Chip.CONTROLLED_3A090)
    # then
    assert rules(judge, asked) == ["US-EAR-HQ"]


CHINESE = crossing(ItemKind.UPDATE, HUB, sender=CHINA, contributors=frozenset({CHINA}))
"""A Chinese update for Europe, with which no American has to do."""

NEXUS = {
    "origin": replace(CHINESE, contributors=frozenset({CHINA, AMERICA})),
    "recipient": replace(CHINESE, recipient=AMERICA),
    "market": replace(
        CHINESE, market=Market(countries=frozenset({US}), sae_level=2, model_year=2026)
    ),
    "sender's owner": replace(CHINESE, sender=replace(CHINA, parent=US)),
    "contributor's owner": replace(CHINESE, contributors=frozenset({replace(CHINA, parent=US)})),
    "recipient's owner": replace(CHINESE, recipient=replace(HUB, parent=US)),
    "sender is a US person": replace(CHINESE, sender=with_trait(CHINA, Trait.US_PERSON)),
    "recipient is a US person": replace(CHINESE, recipient=with_trait(HUB, Trait.US_PERSON)),
}


def denials(judge: Judge, asked: Question) -> list[str]:
    return [note.id for note in judge.judge(asked).rules if note.effect == "DENY"]


@pytest.mark.parametrize("nexus", NEXUS)
def test_a_chinese_controlled_chip_is_denied_where_americans_have_to_do_with_it(
    judge: Judge, nexus: str
) -> None:
    # given
    asked = on(NEXUS[nexus], Chip.PRC_3A090)
    # then
    assert denials(judge, asked) == ["US-EAR-GP10"]
    assert denials(judge, on(asked, Chip.UNCONTROLLED)) == []


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        (Action.TRAIN, ItemKind.UPDATE),
        (Action.MERGE, ItemKind.UPDATE),
        (Action.DEPLOY, ItemKind.RELEASE),
        *((Action.IMPORT, kind) for kind in (*DERIVED, *TECHNOLOGY, ItemKind.METRICS)),
    ],
)
def test_the_run_on_such_a_chip_is_denied_and_all_that_comes_of_it(
    judge: Judge, action: Action, kind: ItemKind
) -> None:
    # given
    asked = crossing(kind, AMERICA, lineage=US_MARKET, action=action)
    # then
    assert denials(judge, on(asked, Chip.PRC_3A090)) == ["US-EAR-GP10"]


@pytest.mark.parametrize("kind", [*WITHOUT_PAPERS, ItemKind.EVIDENCE])
def test_what_is_no_output_of_a_run_is_not_denied_for_its_chip(
    judge: Judge, kind: ItemKind
) -> None:
    assert denials(judge, on(crossing(kind, HUB), Chip.PRC_3A090)) == []


def test_without_a_nexus_such_a_chip_is_a_flag_for_the_run(judge: Judge) -> None:
    # given a run in China for Europe
    run = holding(
        on(training(CHINA), Chip.PRC_3A090),
        paper(ApprovalType.BIS_LICENSE, training(CHINA), holder=CHINA),
    )
    update = holding(
        on(CHINESE, Chip.PRC_3A090),
        paper(ApprovalType.CN_DERIVED_DETERMINATION, CHINESE, holder=CHINA),
    )
    # then nothing denies the run; its update waits for a review, which is neither from nor to the
    # United States, as nobody there has to do with it
    assert judge.judge(run).permitted
    assert flags(judge, run) == ["US-EAR-GP10"]
    assert rules(judge, update) == ["US-EAR-GP10"]
    assert rules(judge, reviewed(update, "US-EAR-GP10", holder=CHINA)) == []


def test_the_conflict_of_laws_is_named_and_not_resolved(judge: Judge) -> None:
    # given
    asked = on(PLAN["phase 2: world export update cn > hub"], Chip.PRC_3A090)
    asked = reviewed(asked, "US-EAR-GP10")
    # when
    verdict = judge.judge(asked)
    with pytest.raises(Refused, match="Chinese counter-sanctions law") as refusal:
        enforce(verdict, stage="law")
    # then no review lifts the denial, and refusal and flag name both laws
    assert refusal.value.rules == ("US-EAR-GP10",)
    assert [note.effect for note in verdict.rules + verdict.flags] == ["DENY", "FLAG"]
    for note in verdict.rules + verdict.flags:
        assert "736.2(b)(10)" in note.cite
        assert note.conflict == "Chinese counter-sanctions law"


# ---- models and technology -----------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.TRAIN, Action.MERGE, Action.EXPORT])
def test_a_military_purpose_is_denied_and_flagged(judge: Judge, action: Action) -> None:
    # given
    ends = AMERICA if action is not Action.EXPORT else HUB
    asked = replace(crossing(ItemKind.UPDATE, ends, action=action), purpose=Purpose.MILITARY)
    # then
    assert denials(judge, asked) == ["US-EAR-TRAIN"]
    assert flags(judge, asked) == ["US-EAR-TRAIN"]


def test_a_us_person_supports_no_military_training_abroad(judge: Judge) -> None:
    # given a run in which nothing else is American
    run = replace(training(CHINA), purpose=Purpose.MILITARY)
    theirs = replace(training(with_trait(CHINA, Trait.US_PERSON)), purpose=Purpose.MILITARY)
    # then
    assert rules(judge, run) == []
    assert rules(judge, theirs) == ["US-EAR-TRAIN"]


@pytest.mark.parametrize("kind", DERIVED)
@pytest.mark.parametrize(("training_ops", "expected"), [(1e26, []), (1.00001e26, ["US-EAR-4E091"])])
def test_closed_weights_of_great_training_stay(
    judge: Judge, kind: ItemKind, training_ops: float, expected: list[str]
) -> None:
    # given
    asked = crossing(kind, HUB)
    asked = replace(asked, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=training_ops))
    # then
    assert rules(judge, classified(asked)) == expected
    clause = paper(ApprovalType.DOJ_ONWARD_CLAUSE, asked)
    published = holding(asked, paper(ApprovalType.BIS_PUBLICATION, asked))
    assert rules(judge, holding(published, clause)) == []


def test_encryption_leaves_under_its_own_paper_even_when_published(judge: Judge) -> None:
    # given
    asked = replace(crossing(ItemKind.CODE, HUB), carries_crypto=True)
    published = holding(asked, paper(ApprovalType.BIS_PUBLICATION, asked))
    exempt = paper(ApprovalType.BIS_ENC, asked)
    # then
    for lawful_otherwise in (classified(asked), published):
        assert rules(judge, lawful_otherwise) == ["US-EAR-5D002"]
        assert rules(judge, holding(lawful_otherwise, exempt)) == []


@pytest.mark.parametrize(
    "type_",
    [ApprovalType.BIS_LICENSE, ApprovalType.BIS_CLASSIFICATION, ApprovalType.BIS_PUBLICATION],
)
@pytest.mark.parametrize("kind", TECHNOLOGY)
def test_technology_for_a_foreign_owner_in_the_united_states_is_an_export(
    judge: Judge, kind: ItemKind, type_: ApprovalType
) -> None:
    # given a region next door with a European parent, and the paper for the seat of the parent
    asked = crossing(kind, replace(party("us2", US), parent=EU))
    to_parent = holding(asked, paper(ApprovalType.BIS_CLASSIFICATION, asked, to=EU))
    # then the release at home needs one of its own
    assert rules(judge, asked) == ["US-EAR-734.13", "US-EAR-4E001", "US-EAR-734.7"]
    assert rules(judge, to_parent) == ["US-EAR-734.13"]
    assert rules(judge, holding(to_parent, paper(type_, asked))) == []
    assert rules(judge, crossing(kind, party("us2", US))) == []


def test_what_a_hub_makes_abroad_is_flagged_on_its_way_to_a_country_of_concern(
    judge: Judge,
) -> None:
    # given
    asked = classified(crossing(ItemKind.RELEASE, CHINA, sender=HUB))
    to_japan = classified(crossing(ItemKind.RELEASE, JAPAN, sender=HUB))
    # then
    assert rules(judge, asked) == ["US-EAR-FDPR"]
    assert rules(judge, reviewed(asked, "US-EAR-FDPR")) == []
    assert flags(judge, to_japan) == []


@pytest.mark.parametrize(
    ("chip", "expected"), [(Chip.UNCONTROLLED, []), (Chip.CONTROLLED_3A090, ["US-EAR-FDPR"])]
)
def test_a_product_of_controlled_chips_alone_is_flagged(
    judge: Judge, chip: Chip, expected: list[str]
) -> None:
    # given a European model for China, with nothing American in it but perhaps the chips
    asked = crossing(ItemKind.RELEASE, CHINA, sender=HUB, contributors=frozenset({DE}))
    # then
    assert flags(judge, on(asked, chip)) == expected


# ---- parties -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SCREENED)
@pytest.mark.parametrize(
    "hub",
    [
        replace(HUB, screening=None),
        screened(HUB, at=NOW - DAY_S),
        screened(HUB, at=NOW + 60),
    ],
    ids=["never", "a day ago", "in the future"],
)
def test_parties_to_an_american_export_are_screened_today(
    judge: Judge, kind: ItemKind, hub: Party
) -> None:
    # given the hub at the end of one way out of the United States, and in the middle of another
    to_hub = classified(crossing(kind, hub))
    through_hub = classified(crossing(kind, DE, sender=hub))
    # then
    for asked in (to_hub, through_hub):
        assert set(rules(judge, asked)) == {"US-EAR-744"}


@pytest.mark.parametrize("kind", WITHOUT_PAPERS)
def test_what_was_found_of_a_party_is_not_forgotten_by_dropping_the_search(
    judge: Judge, kind: ItemKind
) -> None:
    # given what goes to a listed party, which no other rule is about
    found = [screened(HUB, us_listed=True), replace(HUB, screening=None), screened(HUB, at=0)]
    # then an unknown party gets it no more than a listed one, and an old search is enough
    asked = [crossing(kind, hub) for hub in found]
    assert [rules(judge, each) for each in asked] == [["US-EAR-744"], ["US-EAR-744"], []]


def test_a_screening_is_good_until_just_before_a_day_has_passed(judge: Judge) -> None:
    fresh = screened(HUB, at=NOW - DAY_S + 1)
    assert rules(judge, classified(crossing(ItemKind.UPDATE, fresh))) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"us_listed": True}, ["US-EAR-744"]),
        ({"listed_owners_percent": Percent(50)}, ["US-EAR-50PCT"]),
        ({"listed_owners_percent": Percent(49)}, []),
        ({"cn_listed": True}, []),
    ],
)
def test_a_listed_party_takes_part_in_nothing(
    judge: Judge, found: dict[str, object], expected: list[str]
) -> None:
    # given it as recipient, as forwarder, as a trainer, and as one who is only told a digest
    bad = screened(HUB, **found)
    questions = [
        classified(crossing(ItemKind.UPDATE, bad)),
        classified(crossing(ItemKind.RELEASE, DE, sender=bad)),
        crossing(ItemKind.UPDATE, bad, sender=bad, action=Action.TRAIN),
        crossing(ItemKind.CHECKPOINT, bad),
    ]
    # and as one whose update the hub has merged, and sends on
    merge = crossing(ItemKind.UPDATE, HUB, sender=HUB, action=Action.MERGE)
    release = classified(crossing(ItemKind.RELEASE, DE, sender=HUB))
    member = replace(bad, region=DE.region, operator=DE.operator)
    questions += [
        replace(asked, contributors=asked.contributors | {member}) for asked in (merge, release)
    ]
    # then
    assert [rules(judge, asked) for asked in questions] == [expected] * len(questions)


# ---- bulk data -----------------------------------------------------------------------------------

PERSONAL, GEOGRAPHIC, BIOMETRIC, SENSITIVE = (
    DataClass.PERSONAL,
    DataClass.GEOGRAPHIC,
    DataClass.BIOMETRIC,
    DataClass.SENSITIVE,
)


@pytest.mark.parametrize("kind", DERIVED)
@pytest.mark.parametrize(
    ("people", "devices", "classes", "bulk"),
    [
        (100_000, 0, [PERSONAL], False),
        (100_001, 0, [PERSONAL], True),
        (60_000, 40_001, [PERSONAL], True),
        (1_000, 0, [BIOMETRIC], False),
        (1_001, 0, [BIOMETRIC], True),
        (0, 1_000, [GEOGRAPHIC], False),
        (0, 1_001, [GEOGRAPHIC], True),
        (1_000, 0, [SENSITIVE], False),
        (1_001, 0, [SENSITIVE], True),
        # The lowest line among all that is present, and people and devices add up.
        (960, 40, [PERSONAL, GEOGRAPHIC], False),
        (960, 41, [PERSONAL, GEOGRAPHIC], True),
    ],
)
def test_bulk_is_counted_against_the_lowest_line(
    judge: Judge, kind: ItemKind, people: int, devices: int, classes: list[DataClass], bulk: bool
) -> None:
    # given both ways out, with counsel's look at templates and bulk
    to_china, to_europe = (
        reviewed(
            classified(counted(crossing(kind, recipient), people, devices, *classes)),
            "US-DOJ-202.204",
            "US-DOJ-202.205",
        )
        for recipient in (CHINA, HUB)
    )
    # then the clause that both hold helps on one of them
    assert rules(judge, to_china) == (["US-DOJ-202.301"] if bulk else [])
    assert rules(judge, to_europe) == []
    assert ("US-DOJ-202.205" in flags(judge, to_china)) is bulk
    assert ("US-DOJ-202.204" in flags(judge, to_china)) is (BIOMETRIC in classes)


@pytest.mark.parametrize("devices", [0, 100_001])
def test_nothing_leaves_for_europe_without_the_onward_clause(judge: Judge, devices: int) -> None:
    # given an update below and above the bulk line, counsel having looked at the latter
    asked = reviewed(counted(crossing(ItemKind.UPDATE, HUB), 0, devices), "US-DOJ-202.205")
    asked = holding(asked, paper(ApprovalType.BIS_CLASSIFICATION, asked))
    # then it is the clause that is missing
    assert rules(judge, asked) == ["US-DOJ-202.302"]


def test_bulk_waits_for_a_person_though_the_clause_is_there(judge: Judge) -> None:
    # given
    asked = classified(counted(crossing(ItemKind.UPDATE, HUB), 0, 100_001))
    asked = holding(asked, paper(ApprovalType.DOJ_ONWARD_CLAUSE, asked))
    # then
    assert rules(judge, asked) == ["US-DOJ-202.205"]
    assert rules(judge, reviewed(asked, "US-DOJ-202.205")) == []


def test_an_onward_clause_does_not_open_the_way_to_china(judge: Judge) -> None:
    # given bulk data that went to the hub under a clause, on the way to China
    onward = reviewed(
        classified(counted(crossing(ItemKind.RELEASE, CHINA, sender=HUB), 0, 5_000, GEOGRAPHIC)),
        "US-DOJ-202.205",
        "US-EAR-FDPR",
    )
    clauses = [paper(ApprovalType.DOJ_ONWARD_CLAUSE, onward, to=to) for to in (EU, CN)]
    # then
    assert rules(judge, holding(onward, *clauses)) == ["US-DOJ-202.301"]


def test_templates_are_flagged_where_they_are_trained_on(judge: Judge) -> None:
    assert flags(judge, counted(training(AMERICA), 1, 0, BIOMETRIC)) == ["US-DOJ-202.204"]


def extraction(*, passed: bool = True, tested_at: float = NOW - DAY_S) -> ExtractionTest:
    return ExtractionTest(passed=passed, tested_at=tested_at, evidence=DIGEST)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (None, ["US-DOJ-202.301"]),
        (extraction(passed=False), ["US-DOJ-202.301"]),
        (extraction(tested_at=NOW - 30 * DAY_S), ["US-DOJ-202.301"]),
        (extraction(tested_at=NOW + 60), ["US-DOJ-202.301"]),
        (extraction(tested_at=NOW - 30 * DAY_S + 1), []),
    ],
)
@pytest.mark.parametrize(
    "recipient",
    [CHINA, replace(DE, parent=CN), with_trait(DE, Trait.COVERED_PERSON)],
    ids=["in China", "owned from China", "covered person"],
)
@pytest.mark.parametrize("kind", DERIVED)
def test_china_and_covered_persons_need_a_fresh_extraction_test(
    judge: Judge,
    kind: ItemKind,
    recipient: Party,
    test: ExtractionTest | None,
    expected: list[str],
) -> None:
    # given every paper for both seats
    asked = replace(crossing(kind, recipient), extraction=test)
    for seat in (recipient.jurisdiction, recipient.parent):
        for type_ in (ApprovalType.BIS_CLASSIFICATION, ApprovalType.DOJ_DSP_PROGRAM):
            asked = holding(asked, paper(type_, asked, to=seat))
    # then the American rule refuses, beside the one that holds for models in every direction
    beside = ["PLAT-EXTRACT"] if expected and kind is not ItemKind.LABELS else []
    assert rules(judge, asked) == expected + beside


@pytest.mark.parametrize("seat", CONCERN)
def test_every_country_of_concern_needs_the_extraction_test(
    judge: Judge, seat: Jurisdiction
) -> None:
    # given
    asked = classified(crossing(ItemKind.RELEASE, party("there", seat)))
    asked = holding(asked, paper(ApprovalType.PLAT_DIRECTION, asked))
    # then
    assert rules(judge, asked) == []
    assert rules(judge, replace(asked, extraction=None)) == ["US-DOJ-202.301", "PLAT-EXTRACT"]


@pytest.mark.parametrize(
    "operator",
    [with_trait(AMERICA, Trait.COVERED_PERSON), replace(AMERICA, parent=CN)],
    ids=["covered person", "owned from China"],
)
def test_an_american_node_that_is_run_for_others_needs_the_programme(
    judge: Judge, operator: Party
) -> None:
    # given what the node does itself, with all other papers
    notice = paper(ApprovalType.US_STATE_NOTICE, training(operator))
    own = (
        holding(training(operator), notice),
        classified(crossing(ItemKind.UPDATE, HUB, sender=operator)),
    )
    for asked in own:
        # then
        programme = paper(ApprovalType.DOJ_DSP_PROGRAM, asked)
        assert rules(judge, asked) == ["US-DOJ-202.401"]
        assert rules(judge, holding(asked, programme)) == []


def test_a_covered_person_who_merges_for_an_american_node_needs_the_programme(
    judge: Judge,
) -> None:
    # given
    asked = classified(crossing(ItemKind.UPDATE, with_trait(HUB, Trait.COVERED_PERSON)))
    # then
    assert rules(judge, asked) == ["US-DOJ-202.401"]
    programme = paper(ApprovalType.DOJ_DSP_PROGRAM, asked)
    assert rules(judge, holding(asked, programme)) == []


@pytest.mark.parametrize("recipient", [CHINA, HUB, JAPAN], ids=["CN", "EU", "JP"])
def test_data_about_the_government_stay_however_few(judge: Judge, recipient: Party) -> None:
    # given
    asked = classified(counted(crossing(ItemKind.RELEASE, recipient), 0, 1, DataClass.GOVERNMENT))
    clause = paper(ApprovalType.DOJ_ONWARD_CLAUSE, asked)
    # then
    assert rules(judge, holding(asked, clause)) == ["US-DOJ-202.222"]


@pytest.mark.parametrize("data_class", [PERSONAL, SENSITIVE, GEOGRAPHIC, BIOMETRIC])
def test_residents_are_told_before_their_data_are_trained_on(
    judge: Judge, data_class: DataClass
) -> None:
    # given
    asked = replace(training(AMERICA), classes=frozenset({data_class}))
    notice = paper(ApprovalType.US_STATE_NOTICE, asked)
    # then
    assert rules(judge, asked) == ["US-STATE"]
    assert rules(judge, holding(asked, notice)) == []
    assert rules(judge, replace(asked, classes=frozenset())) == []


# ---- connected vehicles --------------------------------------------------------------------------


def tainted(
    kind: ItemKind, action: Action, *, sender: Party = HUB, recipient: Party = AMERICA
) -> Question:
    """An item of the American market that has a Chinese ancestor, with its other papers."""
    asked = crossing(
        kind,
        recipient,
        sender=sender,
        lineage=US_MARKET,
        contributors=EVERYONE,
        action=action,
    )
    determination = paper(ApprovalType.CN_DERIVED_DETERMINATION, asked, holder=CHINA)
    return reviewed(classified(holding(asked, determination)), "US-CVSA-BILL", "US-EAR-FDPR")


def authorised(asked: Question) -> Question:
    authorisation = paper(ApprovalType.BIS_ICTS_AUTH, asked, holder=CHINA, to=US)
    holder, chinese = AMERICA.operator, frozenset({CHINA.operator})
    return holding(asked, replace(authorisation, holder=holder, counterparties=chinese))


@pytest.mark.parametrize(
    ("action", "sender", "recipient"),
    [
        (Action.TRAIN, CHINA, CHINA),
        (Action.EXPORT, CHINA, HUB),
        (Action.IMPORT, CHINA, HUB),
        (Action.MERGE, HUB, HUB),
        (Action.EXPORT, HUB, AMERICA),
        (Action.IMPORT, HUB, AMERICA),
        (Action.DISCLOSE, HUB, AMERICA),
    ],
)
def test_a_chinese_contribution_is_kept_out_of_the_us_market(
    judge: Judge, action: Action, sender: Party, recipient: Party
) -> None:
    # given
    asked = tainted(ItemKind.UPDATE, action, sender=sender, recipient=recipient)
    # then
    assert rules(judge, asked) == ["US-ICTS-791.303"]
    assert rules(judge, authorised(asked)) == []


@pytest.mark.parametrize("kind", [*DERIVED, *TECHNOLOGY])
def test_every_item_with_a_dagger_is_kept_out_of_the_us_market(
    judge: Judge, kind: ItemKind
) -> None:
    # given
    asked = tainted(kind, Action.EXPORT)
    frozen = kind in FROZEN
    # then
    assert rules(judge, asked) == ["US-ICTS-791.303", *["US-ICTS-LEGACY"] * frozen]
    assert rules(judge, authorised(asked)) == []


@pytest.mark.parametrize("kind", [ItemKind.METRICS, *WITHOUT_PAPERS])
def test_what_is_no_part_of_a_model_goes_to_the_us_market(judge: Judge, kind: ItemKind) -> None:
    assert rules(judge, tainted(kind, Action.EXPORT)) == []


def test_the_first_chinese_update_is_refused_before_any_other_region_is_in_the_lineage(
    judge: Judge,
) -> None:
    # given an ancestry of China alone: only the market brings the American pack in
    first = tainted(ItemKind.UPDATE, Action.EXPORT, sender=CHINA, recipient=HUB)
    # then
    assert rules(judge, replace(first, contributors=frozenset({CHINA})))[0] == "US-ICTS-791.303"


@pytest.mark.parametrize("seat", ADVERSARIES)
def test_a_contributor_controlled_from_china_or_russia_taints_the_us_market(
    judge: Judge, seat: Jurisdiction
) -> None:
    # given
    owned = replace(DE, parent=seat)
    asked = replace(
        PLAN["phase 2: us-market import update us > hub"],
        contributors=frozenset({owned, AMERICA}),
    )
    # then
    assert rules(judge, asked) == ["US-ICTS-791.303"]


OWNED = {
    "49 per cent": (screened(DE, adversary_owners_percent=Percent(49)), False),
    "half": (screened(DE, adversary_owners_percent=Percent(50)), True),
    "never screened": (replace(DE, screening=None), True),
}


@pytest.mark.parametrize("action", [Action.TRAIN, Action.IMPORT, Action.MERGE])
@pytest.mark.parametrize(("owned", "barred"), OWNED.values(), ids=OWNED.keys())
def test_a_contributor_half_owned_from_china_or_russia_taints_the_us_market(
    judge: Judge, owned: Party, barred: bool, action: Action
) -> None:
    # given a European contributor with a European parent, and all papers that there are
    end = AMERICA if action is Action.TRAIN else HUB
    asked = classified(
        crossing(
            ItemKind.UPDATE,
            end,
            sender=AMERICA if action is not Action.MERGE else end,
            lineage=US_MARKET,
            contributors=frozenset({owned, AMERICA}),
            action=action,
        )
    )
    asked = holding(asked, paper(ApprovalType.US_STATE_NOTICE, asked))
    for place in (DE, CHINA):
        authorisation = paper(ApprovalType.BIS_ICTS_AUTH, asked, holder=place, to=US)
        asked = holding(asked, replace(authorisation, holder=AMERICA.operator))
    # then no paper names a seat from which it is owned; for another market nobody asks
    unknown = ["US-EAR-744"] if owned.screening is None else []
    assert rules(judge, asked) == unknown + ["US-ICTS-791.303"] * barred
    assert flags(judge, asked) == ["US-CVSA-BILL"]
    europe = Market(countries=frozenset({EU}), sae_level=4, model_year=2028)
    assert rules(judge, replace(asked, market=europe)) == unknown


@pytest.mark.parametrize(("owned", "barred"), OWNED.values(), ids=OWNED.keys())
def test_a_hub_half_owned_from_china_or_russia_taints_the_us_market(
    judge: Judge, owned: Party, barred: bool
) -> None:
    # given a release that the hub has made of American updates
    hub = replace(owned, region=HUB.region, operator=HUB.operator)
    asked = crossing(ItemKind.RELEASE, AMERICA, sender=hub, lineage=US_MARKET)
    # then
    unknown = ["US-EAR-744"] if owned.screening is None else []
    assert denials(judge, asked) == unknown + ["US-ICTS-791.303"] * barred


def test_owners_in_the_own_country_are_no_second_reason(judge: Judge) -> None:
    # given a Chinese operator all of whose owners are Chinese, and the authorisation
    chinese = screened(CHINA, adversary_owners_percent=Percent(100))
    asked = authorised(tainted(ItemKind.UPDATE, Action.EXPORT, sender=CHINA, recipient=HUB))
    contributors = asked.contributors - {CHINA} | {chinese}
    # then it is asked once, and the paper answers
    assert rules(judge, replace(asked, sender=chinese, contributors=contributors)) == []


def test_an_authorisation_for_china_does_not_cover_russia(judge: Judge) -> None:
    # given
    russian = party("ru", Jurisdiction("RU"))
    merge = authorised(tainted(ItemKind.UPDATE, Action.MERGE, sender=HUB, recipient=HUB))
    # then
    assert rules(judge, merge) == []
    with_russia = replace(merge, contributors=merge.contributors | {russian})
    assert "US-ICTS-791.303" in rules(judge, with_russia)


@pytest.mark.parametrize(
    ("market", "expected"),
    [
        (Market(countries=frozenset({US}), sae_level=3, model_year=2027), ["US-ICTS-791.303"]),
        (Market(countries=frozenset({US}), sae_level=2, model_year=2027), []),
        (Market(countries=frozenset({US}), sae_level=3, model_year=2026), []),
        (Market(countries=frozenset({EU, CN}), sae_level=4, model_year=2028), []),
    ],
)
def test_the_connected_vehicle_rule_stops_at_its_own_limits(
    judge: Judge, market: Market, expected: list[str]
) -> None:
    asked = tainted(ItemKind.UPDATE, Action.EXPORT)
    assert rules(judge, replace(asked, market=market)) == expected


FROZEN = [
    ItemKind.RELEASE,
    ItemKind.SNAPSHOT,
    ItemKind.INFERENCE_MODEL,
    ItemKind.ARCHITECTURE,
    ItemKind.CODE,
]
OLD, ALTERED = (Digest("chunked-blake3:" + digit * 64) for digit in "17")


def legacy(asked: Question) -> Approval:
    """The dated hash of the old bytes, which the American maker holds."""
    dated = paper(ApprovalType.BIS_LEGACY, asked, holder=CHINA, to=US)
    return replace(
        dated,
        holder=AMERICA.operator,
        counterparties=frozenset({CHINA.operator}),
        document=OLD,
    )


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (OLD, []),
        (ALTERED, ["US-ICTS-791.303", "US-ICTS-LEGACY"]),
        (None, ["US-ICTS-791.303", "US-ICTS-LEGACY"]),
    ],
    ids=["the dated bytes", "altered since", "only planned"],
)
def test_what_is_older_than_the_rule_goes_on_as_long_as_nobody_alters_it(
    judge: Judge, kind: ItemKind, content: Digest | None, expected: list[str]
) -> None:
    # given
    asked = replace(tainted(kind, Action.EXPORT), content=content)
    # then
    assert rules(judge, holding(asked, legacy(asked))) == expected


def test_fine_tuning_ends_the_legacy_date(judge: Judge) -> None:
    # given an old update, held with its dated hash, that is merged now
    merge = tainted(ItemKind.UPDATE, Action.MERGE, sender=HUB, recipient=HUB)
    # then
    assert rules(judge, holding(merge, legacy(merge))) == ["US-ICTS-791.303"]


def deployment(region: Party = AMERICA, *contributors: Party) -> Question:
    return crossing(
        ItemKind.RELEASE,
        region,
        sender=region,
        lineage=US_MARKET,
        contributors=frozenset({DE, *contributors}),
        action=Action.DEPLOY,
    )


def test_a_release_without_china_is_deployed_in_the_united_states(judge: Judge) -> None:
    assert rules(judge, deployment()) == []


def test_deployment_under_an_authorisation_needs_the_declaration_too(judge: Judge) -> None:
    # given
    asked = reviewed(deployment(AMERICA, CHINA), "US-CVSA-BILL")
    declaration = paper(ApprovalType.BIS_DOC, asked)
    # then
    assert rules(judge, asked) == ["US-ICTS-791.303", "US-ICTS-791.307", "US-ICTS-LEGACY"]
    assert rules(judge, authorised(asked)) == ["US-ICTS-791.307"]
    assert rules(judge, holding(authorised(asked), declaration)) == []


def test_deployment_of_what_is_older_than_the_rule_needs_no_declaration(judge: Judge) -> None:
    # given
    asked = replace(reviewed(deployment(AMERICA, CHINA), "US-CVSA-BILL"), content=OLD)
    # then
    assert rules(judge, holding(asked, legacy(asked))) == []


@pytest.mark.parametrize("seat", ADVERSARIES)
def test_an_operator_controlled_from_china_or_russia_deploys_nothing_in_the_united_states(
    judge: Judge, seat: Jurisdiction
) -> None:
    # given the declaration and, for what it owns, no paper that could help
    asked = reviewed(deployment(replace(AMERICA, parent=seat)), "US-CVSA-BILL")
    asked = holding(asked, paper(ApprovalType.BIS_DOC, asked))
    # then
    assert rules(judge, asked) == ["US-ICTS-791.303", "US-ICTS-791.304", "US-ICTS-LEGACY"]


@pytest.mark.parametrize(("owned", "barred"), OWNED.values(), ids=OWNED.keys())
def test_an_operator_half_owned_from_china_or_russia_deploys_nothing_in_the_united_states(
    judge: Judge, owned: Party, barred: bool
) -> None:
    # given an American operator whose parent is American, for a market that no other rule is about
    operator = replace(AMERICA, screening=owned.screening)
    asked = replace(
        deployment(operator),
        market=Market(countries=frozenset({US}), sae_level=2, model_year=2027),
    )
    # then
    unknown = ["US-EAR-744"] if owned.screening is None else []
    assert rules(judge, asked) == unknown + ["US-ICTS-791.304"] * barred


def test_the_bills_are_a_flag_even_with_an_authorisation(judge: Judge) -> None:
    # given
    asked = authorised(tainted(ItemKind.RELEASE, Action.EXPORT))
    unseen = tuple(held for held in asked.approvals if "US-CVSA-BILL" not in held.clears)
    # then
    assert rules(judge, asked) == []
    assert flags(judge, asked) == ["US-CVSA-BILL"]
    assert rules(judge, replace(asked, approvals=unseen)) == ["US-CVSA-BILL"]


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (screened(AMERICA, listed_owners_percent=Percent(24)), []),
        (screened(AMERICA, listed_owners_percent=Percent(25)), ["US-CVSA-BILL"]),
        (screened(AMERICA, listed_owners_percent=Percent(49)), ["US-CVSA-BILL"]),
        (screened(AMERICA, adversary_owners_percent=Percent(24)), []),
        (screened(AMERICA, adversary_owners_percent=Percent(25)), ["US-CVSA-BILL"]),
        (screened(AMERICA, adversary_owners_percent=Percent(49)), ["US-CVSA-BILL"]),
        (with_trait(DE, Trait.COVERED_PERSON), ["US-CVSA-BILL"]),
    ],
)
def test_owners_of_a_quarter_raise_the_flag_of_the_bills(
    judge: Judge, sender: Party, expected: list[str]
) -> None:
    # given
    asked = crossing(ItemKind.UPDATE, HUB, sender=sender, lineage=US_MARKET)
    # then
    assert flags(judge, asked) == expected
