"""Cures are found by asking the packs: each route suffices, and nothing in it is too much."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.demo_world import NOW, US, planned_crossings

from ringfence.core.ids import Digest
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.bulk import LEAST_LINE
from ringfence.policy.coverage import Held, partners_of
from ringfence.policy.cures import CureFinder, find_cures
from ringfence.policy.facts import Compute, Counters, ExtractionTest, Percent, Question, Screening
from ringfence.policy.judge import Judge, destinations
from ringfence.policy.measures import Step
from ringfence.policy.packs import SHIPPED_PACKS_DIR, load_packs
from ringfence.policy.stand_in import stand_in
from ringfence.policy.words import ApprovalType, Chip, DataClass, Purpose

PLAN = dict(planned_crossings())
CN_UPDATE = PLAN["phase 2: world export update cn > hub"]
RELEASE_TO_US = PLAN["phase 1: world export release hub > us"]
RELEASE_TO_CN = PLAN["phase 2: world export release hub > cn"]
PACKS = load_packs(SHIPPED_PACKS_DIR)


def taken(question: Question, route: tuple[Step, ...]) -> Question:
    """The question after every step of `route`, done independently of how it was found."""
    for step in route:
        if step.paper is not None:
            question = replace(question, approvals=(*question.approvals, *obtained(question, step)))
        elif step.what.startswith("screen the "):
            question = screened(question, step.what.split()[2], CLEAN)
        elif step.what == "pass the extraction test on these bytes":
            question = replace(question, extraction=PASSED)
        elif "fewer people" in step.what or step.what.startswith("count the people"):
            question = replace(
                question, counters=Counters(**dict.fromkeys(COUNTED, 0), us_line=LEAST_LINE)
            )
        elif "uncontrolled chips" in step.what:
            question = replace(question, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=1e15))
        elif step.what == "leave the seed out":
            question = replace(question, carries_seed=False)
        else:
            raise AssertionError(step.what)
    return question


def screened(question: Question, end: str, found: Screening | None) -> Question:
    """The question with a party screened anew; both where sender and recipient are one."""
    sender, recipient = question.sender, question.recipient
    one = sender == recipient
    if end == "recipient" or one:
        recipient = replace(recipient, screening=found)
    if end == "sender" or one:
        sender = replace(sender, screening=found)
    return replace(question, sender=sender, recipient=recipient)


CLEAN = Screening(
    at=NOW,
    us_listed=False,
    cn_listed=False,
    listed_owners_percent=Percent(0),
    adversary_owners_percent=Percent(0),
)
PASSED = ExtractionTest(passed=True, tested_at=NOW, evidence=Digest("sha256:" + "e5" * 32))
COUNTED = ("cn_people", "cn_sensitive_people", "us_people", "us_devices")


def obtained(question: Question, step: Step) -> list[Approval]:
    assert None not in (step.paper, step.origin, step.destination)
    held = Held(type=step.paper, origin=step.origin, destination=step.destination)
    seats = {asked.recipient.jurisdiction: asked for asked in destinations(question)}
    partners = partners_of(held, seats.get(step.destination, question))
    return [
        Approval(
            id=ApprovalId(f"new/{step.paper}/{step.origin}-{step.destination}/{holder}"),
            type=step.paper,
            issuer="counsel",
            holder=holder,
            counterparties=partners,
            kinds=frozenset({question.kind}),
            origin=step.origin,
            destination=step.destination,
            lineage=question.lineage,
            purpose=question.purpose,
            scope=question.scope,
            lowers=frozenset(step.lowers),
            clears=frozenset(step.clears),
            issued=NOW,
            expires=NOW + 1000,
            revocation_source="a list",
            document=Digest("sha256:" + "d0" * 32),
        )
        for holder in step.holders
    ]


def assert_cured(judge: Judge, question: Question) -> None:
    """Each route permits, no route without one of its steps does, and no two are the same."""
    cures = find_cures(judge, question)
    assert cures.routes or cures.bars
    assert len(set(cures.routes)) == len(cures.routes)
    for route in cures.routes:
        assert judge.judge(taken(question, route)).permitted
        for n in range(len(route)):
            assert not judge.judge(taken(question, route[:n] + route[n + 1 :])).permitted


@given(
    st.sampled_from(sorted(PLAN)),
    st.sets(st.sampled_from(range(40)), max_size=12),
    st.sets(st.sampled_from(["screening", "extraction", "seed", "chip", "counters"]), max_size=2),
)
def test_every_route_suffices_and_has_nothing_to_spare(
    label: str, missing: set[int], wrong: set[str]
) -> None:
    # given a crossing of the demo with some papers and facts out of order
    judge = Judge(packs=PACKS)
    question = PLAN[label]
    papers = tuple(paper for n, paper in enumerate(question.approvals) if n not in missing)
    question = replace(question, approvals=papers)
    if "screening" in wrong:
        question = screened(question, "recipient", None)
    if "extraction" in wrong:
        question = replace(question, extraction=None)
    if "seed" in wrong:
        question = replace(question, carries_seed=True)
    if "chip" in wrong:
        question = replace(question, compute=Compute(chip=Chip.PRC_3A090, training_ops=1e15))
    if "counters" in wrong:
        question = replace(question, counters=None)
    # when it is refused, then what is proposed cures it
    if not judge.judge(question).permitted:
        assert_cured(judge, question)


def test_the_law_gives_several_routes(judge: Judge) -> None:
    # given a European release for the United States without any ground of transfer
    bare = tuple(p for p in RELEASE_TO_US.approvals if p.type is ApprovalType.EU_DUAL_USE_CLASS)
    # when
    cures = find_cures(judge, replace(RELEASE_TO_US, approvals=bare))
    # then anonymity, clauses, binding rules and certification are alternatives, private ones first
    papers = [[step.paper for step in route] for route in cures.routes]
    assert papers == [
        [ApprovalType.EDPB_ANONYMITY],
        [ApprovalType.TIA_ID, ApprovalType.SCC_ID],
        [ApprovalType.TIA_ID, ApprovalType.BCR_ID],
        [ApprovalType.DPF_CERT],
    ]
    assert [any(step.needs_government for step in route) for route in cures.routes] == [
        False,
        False,
        True,
        True,
    ]


def test_a_route_ends_no_more_classes_than_it_must(judge: Judge) -> None:
    cures = find_cures(judge, replace(RELEASE_TO_CN, approvals=()))
    anonymity = [s for s in cures.routes[0] if s.paper is ApprovalType.EDPB_ANONYMITY]
    assert [step.lowers for step in anonymity] == [(DataClass.PERSONAL,)]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"classes": frozenset({DataClass.RAW})}, "PLAT-RAW"),
        ({"purpose": Purpose.MILITARY}, "US-EAR-TRAIN"),
    ],
)
def test_what_nothing_cures_is_said(judge: Judge, change: dict[str, object], rule: str) -> None:
    # when the plan itself is what the law forbids
    cures = find_cures(judge, replace(RELEASE_TO_CN, **change))
    # then there is no route, and the bar is named
    assert cures.routes == ()
    assert rule in [bar.id for bar in cures.bars]


def test_no_way_out_of_a_conflict_of_laws_is_proposed(judge: Judge) -> None:
    # given Chinese chips behind a lineage with American members: other chips would be permitted
    chips = Compute(chip=Chip.PRC_3A090, training_ops=1e15)
    asked = replace(CN_UPDATE, compute=chips)
    assert judge.judge(CN_UPDATE).permitted
    # when
    cures = find_cures(judge, asked)
    # then none is chosen for anybody: the bar names both laws
    assert cures.routes == ()
    assert [(bar.id, bar.conflict) for bar in cures.bars] == [
        ("US-EAR-GP10", "Chinese counter-sanctions law")
    ]


def test_screening_is_no_cure_for_owners_that_are_known(judge: Judge) -> None:
    # given a hub that listed parties own by half, and whose search is old
    assert RELEASE_TO_US.sender.screening is not None
    owned = replace(RELEASE_TO_US.sender.screening, at=0.0, listed_owners_percent=Percent(50))
    # when cures are looked for, then a new search changes nothing about the owners
    cures = find_cures(judge, screened(RELEASE_TO_US, "sender", owned))
    assert cures.routes == ()
    assert [bar.id for bar in cures.bars] == ["US-EAR-50PCT"]


def test_a_contributor_that_was_never_screened_can_be(judge: Judge) -> None:
    # given an American update for the American market, beside a contributor that nobody screened
    asked = PLAN["phase 2: us-market export update us > hub"]
    strangers = frozenset(
        replace(each, screening=None) if each.jurisdiction != US else each
        for each in asked.contributors
    )
    # when cures are looked for, then it must be screened, and that is all
    cures = find_cures(judge, replace(asked, contributors=strangers))
    assert [[str(step) for step in route] for route in cures.routes] == [
        ["screen the contributors within a day, and find nothing"]
    ]


def test_routes_that_were_found_for_one_step_of_a_plan_hold_for_the_next(judge: Judge) -> None:
    # given a finder that tries what it has found before, and a whole plan without papers
    finder = CureFinder(judge)
    bare = [replace(asked, approvals=()) for asked in PLAN.values()]
    # when every refused step is asked about in turn
    refused = [asked for asked in bare if not judge.judge(asked).permitted]
    found = [(asked, finder.find(asked).routes) for asked in refused]
    # then each route permits its step, and without any one of its steps does not
    assert len(found) > 50
    for asked, routes in found:
        assert routes
        for route in routes:
            assert judge.judge(taken(asked, route)).permitted
            for place in range(len(route)):
                left = (*route[:place], *route[place + 1 :])
                assert not judge.judge(taken(asked, left)).permitted


def test_a_stand_in_is_the_same_question_to_the_packs(judge: Judge) -> None:
    # given a release of forty American operators' updates, who hold their papers but one of them
    asked = PLAN["phase 1: world export release hub > us"]
    twins = {
        party: [
            replace(party, region=f"{party.region}-{n}", operator=f"{party.operator} {n}")
            for n in range(20)
        ]
        for party in asked.contributors
    }
    papers = tuple(
        replace(paper, id=f"{paper.id}/{n}", holder=f"{paper.holder} {n}")
        for paper in asked.approvals
        for n in range(20)
        if paper.holder in {party.operator for party in asked.contributors}
    )
    many = replace(
        asked,
        contributors=frozenset(twin for each in twins.values() for twin in each),
        approvals=(*asked.approvals, *papers[1:]),
    )
    # when it is stood in for
    few = stand_in(many)
    # then far fewer take part, and the same rules refuse
    assert len(few.contributors) == len({(p.jurisdiction, p.parent) for p in asked.contributors})
    assert len(few.approvals) < len(many.approvals) / 4
    assert judge.judge(few).rules == judge.judge(many).rules
    assert judge.judge(few).flags == judge.judge(many).flags


def test_questions_that_differ_in_names_share_their_routes(judge: Judge) -> None:
    # given an American update, and the same of another operator
    asked = replace(PLAN["phase 2: us-market export update us > hub"], approvals=())
    other = replace(asked.sender, operator=OperatorId("another operator"))
    members = frozenset(other if p.jurisdiction == US else p for p in asked.contributors)
    renamed = replace(asked, sender=other, contributors=members)
    # when cures are found for both
    finder = CureFinder(judge)
    first, second = finder.find(asked), finder.find(renamed)
    # then the routes are the same, and each is its own operator's
    assert [s.paper for s in first.routes[0]] == [s.paper for s in second.routes[0]]
    assert second.routes[0][0].holders == ("another operator",)
    assert second == find_cures(judge, renamed)
