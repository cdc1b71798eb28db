"""The judge fails closed, and its verdicts run out with what they rest on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.policy.demo_world import (
    DAY_S,
    DE,
    EU,
    HUB,
    NOW,
    approval,
    demo_approvals,
    planned_crossings,
)

from ringfence.core.errors import ConfigError, FormatError, Refused
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import Approval
from ringfence.policy.cures import NO_CURES
from ringfence.policy.judge import VERDICT_LIFE_S, Judge, enforce
from ringfence.policy.matrix import matrix
from ringfence.policy.packs import SHIPPED_PACKS_DIR, Pack, parse_pack, parse_vocabulary
from ringfence.policy.words import Action, ApprovalType, ItemKind

PLAN = dict(planned_crossings())
CN_UPDATE = PLAN["phase 2: world export update cn > hub"]
DE_UPDATE = PLAN["phase 1: world export update de > hub"]
RUSSIA = Jurisdiction("RU")
BRAZIL = Jurisdiction("BR")


@pytest.mark.parametrize("fact", ["market", "compute", "counters"])
def test_an_unknown_fact_refuses_and_is_named(judge: Judge, fact: str) -> None:
    # when
    verdict = judge.judge(replace(DE_UPDATE, **{fact: None}))
    # then
    assert [note.id for note in verdict.rules] == ["PLAT-DENY"]
    assert f"`{fact}`" in verdict.rules[0].detail
    assert not verdict.permitted


@pytest.mark.parametrize("end", ["sender", "recipient"])
@pytest.mark.parametrize("place", [RUSSIA, BRAZIL])
def test_a_jurisdiction_without_a_pack_is_refused_and_not_skipped(
    judge: Judge, end: str, place: Jurisdiction
) -> None:
    # given
    stranger = replace(DE, jurisdiction=place)
    # when
    verdict = judge.judge(replace(DE_UPDATE, **{end: stranger}))
    # then
    assert not verdict.permitted
    assert "PLAT-DIRECTION" in [note.id for note in verdict.rules]
    assert f"no law pack for {place}" in [note.detail for note in verdict.rules]


@pytest.mark.parametrize("place", [RUSSIA, BRAZIL])
def test_an_ancestor_without_a_pack_is_refused(judge: Judge, place: Jurisdiction) -> None:
    # given
    stranger = replace(DE, jurisdiction=place)
    # when
    verdict = judge.judge(replace(DE_UPDATE, contributors=DE_UPDATE.contributors | {stranger}))
    # then
    assert "PLAT-DIRECTION" in [note.id for note in verdict.rules]


def test_an_owner_from_a_place_that_the_schema_does_not_know_is_refused(judge: Judge) -> None:
    # when
    verdict = judge.judge(replace(DE_UPDATE, sender=replace(DE, parent=BRAZIL)))
    # then
    assert [note.id for note in verdict.rules] == ["PLAT-DENY"]
    assert "BR" in verdict.rules[0].detail


def test_a_missing_pack_of_a_lineage_refuses_what_it_would_have_judged(judge: Judge) -> None:
    # given a region that has lost its Chinese pack
    poorer = Judge(packs=tuple(pack for pack in judge.packs if pack.name != "cn"))
    # when
    verdict = poorer.judge(CN_UPDATE)
    # then
    assert [note.id for note in verdict.rules] == ["PLAT-DIRECTION"]


def test_a_rule_that_fails_to_evaluate_refuses_though_cedar_allows(judge: Judge) -> None:
    # given a European pack with a forbid that overflows, which Cedar skips
    faulty = added(
        judge,
        "eu",
        """
        @id("EU-TEST-1") @effect("DENY") @cite("none") @confidence("L") @remedy("none")
        forbid (principal, action, resource)
        when { context.counters.us_devices * 4611686018427387904 > 0 };
        """,
    )
    # when
    verdict = faulty.judge(DE_UPDATE)
    # then
    assert [note.id for note in verdict.rules] == ["PLAT-DENY"]
    assert "EU-TEST-1 of pack eu" in verdict.rules[0].detail


def test_every_pack_must_permit_and_not_only_one(judge: Judge) -> None:
    # given a European pack whose permit is for deployment only
    eu = pack(judge, "eu")
    narrow = eu.text.replace(
        "permit (principal, action, resource)",
        'permit (principal, action == Action::"deploy", resource)',
    )
    assert narrow != eu.text
    stricter = with_pack(judge, parse_pack("eu", narrow, vocabulary=eu.vocabulary))
    # when
    verdict = stricter.judge(DE_UPDATE)
    # then
    assert [(note.id, note.pack) for note in verdict.rules] == [("PLAT-DENY", "eu")]


def test_a_region_may_tighten_its_own_pack(judge: Judge) -> None:
    # given
    tighter = added(
        judge,
        "eu",
        """
        @id("EU-OWN-1") @effect("DENY") @cite("house rule") @confidence("H") @remedy("wait")
        forbid (principal, action == Action::"export", resource);
        """,
    )
    # when
    verdict = tighter.judge(DE_UPDATE)
    # then
    assert [note.id for note in verdict.rules] == ["EU-OWN-1"]


def test_the_packs_of_sender_receiver_lineage_and_market_are_consulted(judge: Judge) -> None:
    # when
    verdict = judge.judge(PLAN["phase 2: us-market export update de > hub"])
    # then
    assert [use.name for use in verdict.packs] == ["schema", "platform", "eu", "us"]
    assert {use.digest for use in verdict.packs} == {
        judge.platform.vocabulary.digest,
        *(pack.digest for pack in judge.packs if pack.name in ("platform", "eu", "us")),
    }


def test_a_verdict_names_its_bytes_and_approvals_and_lasts_an_hour(judge: Judge) -> None:
    # given
    content = Digest("blake3:" + "7" * 64)
    # when
    verdict = judge.judge(replace(CN_UPDATE, content=content))
    # then
    assert verdict.content == content
    assert verdict.valid_until == NOW + VERDICT_LIFE_S
    assert {str(name) for name in verdict.approvals} == {
        "bis.classification/world/US-EU",
        "cac.assessment/world/CN-EU",
        "cn.derived_determination/world/CN-EU",
        "cn.export_log/world/CN-EU",
        "cn.important_duties/world/CN-EU",
        "cn.tech_export/world/CN-EU",
        "doj.onward_clause/world/US-EU",
        "mnr.entrustment/world/CN-EU",
        "plat.flag_review/world/CN-EU",
    }


def test_a_verdict_ends_with_the_first_approval_that_does(judge: Judge) -> None:
    # given
    approvals = tuple(
        replace(held, expires=NOW + 60.0) if held.type == ApprovalType.CN_TECH_EXPORT else held
        for held in demo_approvals()
    )
    # when
    verdict = judge.judge(replace(CN_UPDATE, approvals=approvals))
    # then
    assert verdict.valid_until == NOW + 60.0


def test_a_verdict_ends_exactly_when_its_screening_does(judge: Judge) -> None:
    # given a screening that runs out within the hour, between two whole seconds
    assert HUB.screening is not None
    ageing = replace(HUB, screening=replace(HUB.screening, at=NOW - DAY_S + 100.7))
    asked = replace(CN_UPDATE, recipient=ageing)
    # when
    verdict = judge.judge(asked)
    # then
    assert verdict.valid_until == NOW + 100
    assert judge.judge(replace(asked, now=verdict.valid_until - 0.01)).permitted
    assert not judge.judge(replace(asked, now=verdict.valid_until)).permitted


def test_a_refusal_is_never_valid_later(judge: Judge) -> None:
    # when
    verdict = judge.judge(replace(CN_UPDATE, approvals=()))
    # then
    assert verdict.valid_until == NOW


def test_bars_come_before_missing_papers(judge: Judge) -> None:
    # when
    verdict = judge.judge(replace(CN_UPDATE, approvals=(), carries_seed=True))
    # then
    effects = [note.effect for note in verdict.rules]
    assert effects == sorted(effects, key=["DENY", "APPR", "MEAS", "FLAG"].index)
    assert effects[0] != effects[-1]


def test_enforce_raises_a_refusal_that_names_every_rule(judge: Judge) -> None:
    # given
    verdict = judge.judge(replace(DE_UPDATE, carries_seed=True))
    # when
    with pytest.raises(Refused) as refusal:
        enforce(verdict, stage="decide")
    # then
    assert refusal.value.stage == "decide"
    assert refusal.value.rules == ("PLAT-SEED",)
    assert "Remove the seed" in refusal.value.detail
    enforce(judge.judge(DE_UPDATE), stage="decide")


def test_a_judge_needs_the_platform_pack_first_and_each_pack_once(judge: Judge) -> None:
    for packs in ((), judge.packs[1:], (*judge.packs, judge.packs[1])):
        with pytest.raises(ConfigError, match="platform"):
            Judge(packs=packs)


def test_a_judge_takes_no_packs_of_two_schemas(judge: Judge) -> None:
    # given a European pack that was validated against another edition of the words
    schema = (SHIPPED_PACKS_DIR / "schema.cedarschema").read_text()
    other = parse_vocabulary(schema + "// another edition\n")
    # then
    with pytest.raises(ConfigError, match="one schema"):
        with_pack(judge, parse_pack("eu", pack(judge, "eu").text, vocabulary=other))


def test_only_a_crossing_has_two_parties() -> None:
    with pytest.raises(FormatError, match="one party"):
        replace(CN_UPDATE, action=Action.MERGE)


def test_the_matrix_keeps_the_plans_order_and_gives_rule_citation_and_cures(judge: Judge) -> None:
    # given
    plan = [
        ("lawful", DE_UPDATE),
        ("unlawful", replace(DE_UPDATE, carries_seed=True)),
        ("lawful again", DE_UPDATE),
    ]
    # when
    lawful, unlawful, again = matrix(judge, plan)
    # then
    assert (lawful.label, lawful.rule, lawful.citation, lawful.cures) == (
        "lawful",
        "",
        "",
        NO_CURES,
    )
    assert (unlawful.rule, unlawful.citation) == (
        "PLAT-SEED",
        "Reading, section 8: seeds and noise draws never cross; section 7, row 12",
    )
    assert [[step.what for step in route] for route in unlawful.cures.routes] == [
        ["leave the seed out"]
    ]
    assert again == replace(lawful, label="lawful again")


def pack(judge: Judge, name: str) -> Pack:
    return next(pack for pack in judge.packs if pack.name == name)


def with_pack(judge: Judge, changed: Pack) -> Judge:
    return Judge(packs=tuple(changed if p.name == changed.name else p for p in judge.packs))


def added(judge: Judge, name: str, policies: str) -> Judge:
    old = pack(judge, name)
    return with_pack(judge, parse_pack(name, old.text + policies, vocabulary=old.vocabulary))


# ---- flags --------------------------------------------------------------------------------------

FLAGGED = """
@id("EU-X-1")
@effect("FLAG")
@cite("a test")
@confidence("H")
@remedy("Have somebody look at it.")
forbid (principal, action, resource) when { context.to == Jurisdiction::"EU" };
"""


def flagging(judge: Judge, text: str = FLAGGED) -> Judge:
    """The same packs, the European one with something to add."""
    packs = {pack.name: pack for pack in judge.packs}
    eu = packs["eu"]
    packs["eu"] = parse_pack("eu", eu.text + text, vocabulary=eu.vocabulary)
    return Judge(packs=tuple(packs.values()))


def review(*rules: str) -> Approval:
    paper = approval(ApprovalType.SCC_ID, DE, EU, (HUB,), {ItemKind.UPDATE})
    return replace(paper, type=ApprovalType.PLAT_FLAG_REVIEW, clears=frozenset(rules))


def test_a_flag_holds_an_export_until_somebody_has_looked_at_it(judge: Judge) -> None:
    # given a lawful export that a rule flags
    flagged = flagging(judge)
    held = flagged.judge(DE_UPDATE)
    # when counsel has looked into exactly this rule
    papers = (*DE_UPDATE.approvals, review("EU-X-1"))
    cleared = flagged.judge(replace(DE_UPDATE, approvals=papers))
    # then it was held before and goes on now, and both say that it was flagged
    assert [note.id for note in held.rules] == ["EU-X-1"]
    assert not held.permitted
    assert cleared.permitted
    assert [note.id for note in held.flags + cleared.flags] == ["EU-X-1", "EU-X-1"]


def test_a_review_of_another_rule_clears_nothing(judge: Judge) -> None:
    papers = (*DE_UPDATE.approvals, review("EU-X-2"))
    assert not flagging(judge).judge(replace(DE_UPDATE, approvals=papers)).permitted


def test_a_flag_holds_only_what_the_agreement_says(judge: Judge) -> None:
    # given an agreement that has nothing held
    verdict = flagging(judge).judge(replace(DE_UPDATE, holding=frozenset()))
    # then the flag is recorded, and no more
    assert verdict.permitted
    assert [note.id for note in verdict.flags] == ["EU-X-1"]


def test_a_flag_never_permits(judge: Judge) -> None:
    # given an item kind that nothing permits, and a flag on it that counsel has cleared
    asked = replace(
        DE_UPDATE,
        kind=ItemKind.RAW,
        approvals=(review("EU-X-1"),),
        holding=frozenset(),
    )
    # then it is refused all the same
    assert not flagging(judge).judge(asked).permitted
