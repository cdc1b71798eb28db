"""Nothing that is taken away, weakened or made worse ever turns a refusal into a permit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.demo_world import DAY_S, planned_crossings
from tests.policy.oracle import load_oracle
from tests.policy.oracle_questions import asked, refused_whatever_is_held

from ringfence.policy.approvals import Approval
from ringfence.policy.facts import Compute, Party, Percent, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, Chip, DataClass, ItemKind, Purpose, Trait

Change = Callable[[Question], Question]

ORACLE = load_oracle()
QUESTIONS = [
    *(question for _, question in planned_crossings()),
    *(
        asked(ORACLE, cell, route, kind, action=action)
        for cell in ORACLE.cells
        for route in cell.routes
        for kind in cell.kinds
        for action in (Action.EXPORT, Action.IMPORT)
    ),
    *(
        refused_whatever_is_held(ORACLE, cell, kind, bare=False)
        for cell in ORACLE.cells
        if not cell.permitted
        for kind in cell.kinds
    ),
]
CHIPS = tuple(Chip)
"""From the least to the most restricted."""


# ---- papers --------------------------------------------------------------------------------------


def of_a_paper(change: Callable[[Approval], Approval | None], place: int) -> Change:
    """The same question with one of its papers changed, or without it."""

    def changed(question: Question) -> Question:
        if not question.approvals:
            return question
        at = place % len(question.approvals)
        paper = change(question.approvals[at])
        papers = (*question.approvals[:at], *([paper] if paper else []))
        return replace(question, approvals=(*papers, *question.approvals[at + 1 :]))

    return changed


def revoked(place: int) -> Change:
    def changed(question: Question) -> Question:
        papers = question.approvals
        ids = {papers[place % len(papers)].id} if papers else set()
        return replace(question, revoked=question.revoked | ids)

    return changed


def clearing_less(paper: Approval) -> Approval | None:
    """A review of one rule less; of none, it is no review."""
    left = frozenset(sorted(paper.clears)[1:])
    if paper.clears and not left:
        return None
    return replace(paper, clears=left)


PAPER_CHANGES: tuple[Callable[[Approval], Approval | None], ...] = (
    lambda paper: None,
    lambda paper: replace(paper, issued=paper.issued - 2, expires=paper.issued - 1),
    lambda paper: replace(paper, scope=paper.scope[:-2] + "ff"),
    lambda paper: replace(paper, kinds=frozenset({ItemKind.CHECKPOINT})),
    lambda paper: replace(paper, counterparties=frozenset({paper.holder})),
    lambda paper: replace(paper, lowers=frozenset(sorted(paper.lowers)[1:])),
    clearing_less,
)


# ---- measures and facts --------------------------------------------------------------------------


def screened(change: Callable[[Party], Party], *, sender: bool) -> Change:
    def changed(question: Question) -> Question:
        if question.sender == question.recipient:
            party = change(question.sender)
            return replace(question, sender=party, recipient=party)
        if sender:
            return replace(question, sender=change(question.sender))
        return replace(question, recipient=change(question.recipient))

    return changed


def without_screening(party: Party) -> Party:
    return replace(party, screening=None)


def listed(*, us: bool) -> Callable[[Party], Party]:
    def change(party: Party) -> Party:
        if party.screening is None:
            return party
        found = {"us_listed": True} if us else {"cn_listed": True}
        return replace(party, screening=replace(party.screening, **found))

    return change


def owned(**shares: int) -> Callable[[Party], Party]:
    def change(party: Party) -> Party:
        if party.screening is None:
            return party
        more = {
            name: Percent(max(percent, getattr(party.screening, name)))
            for name, percent in shares.items()
        }
        return replace(party, screening=replace(party.screening, **more))

    return change


def older(party: Party) -> Party:
    if party.screening is None:
        return party
    return replace(party, screening=replace(party.screening, at=party.screening.at - 2 * DAY_S))


def worse_chip(steps: int) -> Change:
    def changed(question: Question) -> Question:
        if question.compute is None:
            return question
        chip = CHIPS[min(CHIPS.index(question.compute.chip) + steps, len(CHIPS) - 1)]
        return replace(question, compute=replace(question.compute, chip=chip))

    return changed


def more_operations(question: Question) -> Question:
    if question.compute is None:
        return question
    return replace(question, compute=Compute(chip=question.compute.chip, training_ops=2e26))


def counted_more(factor: int) -> Change:
    def changed(question: Question) -> Question:
        counters = question.counters
        if counters is None:
            return question
        return replace(
            question,
            counters=replace(
                counters,
                cn_people=counters.cn_people + factor,
                us_people=counters.us_people + factor,
                us_devices=counters.us_devices + factor,
            ),
        )

    return changed


def smaller_cohort(question: Question) -> Question:
    if question.cohort is None:
        return question
    return replace(question, cohort=replace(question.cohort, smallest=0))


def extracted(*, passed: bool) -> Change:
    def changed(question: Question) -> Question:
        if question.extraction is None:
            return question
        test = question.extraction
        at = test.tested_at if not passed else test.tested_at - 40 * DAY_S
        return replace(
            question, extraction=replace(test, passed=passed and test.passed, tested_at=at)
        )

    return changed


def of_more_classes(data_class: DataClass) -> Change:
    return lambda question: replace(question, classes=question.classes | {data_class})


def for_another(purpose: Purpose) -> Change:
    """For it instead of driving; other purposes are not compared with one another."""

    def changed(question: Question) -> Question:
        civil = question.purpose is Purpose.CIVIL_DRIVING
        return replace(question, purpose=purpose) if civil else question

    return changed


FACT_CHANGES: tuple[Change, ...] = (
    *(screened(without_screening, sender=end) for end in (True, False)),
    *(screened(listed(us=us), sender=end) for us in (True, False) for end in (True, False)),
    *(screened(older, sender=end) for end in (True, False)),
    *(
        screened(owned(**{name: percent}), sender=end)
        for name in ("listed_owners_percent", "adversary_owners_percent")
        for percent in (25, 50)
        for end in (True, False)
    ),
    *(worse_chip(steps) for steps in range(1, len(CHIPS))),
    lambda question: replace(question, compute=None),
    more_operations,
    *(counted_more(people) for people in (1, 1_000, 100_000, 1_000_000)),
    lambda question: replace(question, counters=None),
    smaller_cohort,
    *(extracted(passed=passed) for passed in (True, False)),
    lambda question: replace(question, extraction=None),
    *(of_more_classes(data_class) for data_class in DataClass),
    lambda question: replace(question, carries_seed=True),
    lambda question: replace(question, carries_crypto=True),
    *(for_another(purpose) for purpose in (Purpose.MILITARY, Purpose.FOREIGN_AUTHORITY)),
    lambda question: replace(question, market=None),
    lambda question: replace(question, affected=True),
    *(
        screened(
            lambda party, trait=trait: replace(party, traits=party.traits | {trait}), sender=end
        )
        for trait in (Trait.CIIO, Trait.PUBLIC_BODY, Trait.US_PERSON, Trait.COVERED_PERSON)
        for end in (True, False)
    ),
    screened(lambda party: replace(party, traits=party.traits - {Trait.FTZ}), sender=True),
)

CHANGES = st.one_of(
    st.sampled_from(FACT_CHANGES),
    st.builds(of_a_paper, st.sampled_from(PAPER_CHANGES), st.integers(0, 30)),
    st.builds(revoked, st.integers(0, 30)),
)


@settings(max_examples=1000, deadline=None)
@given(
    place=st.integers(0, len(QUESTIONS) - 1),
    before=st.lists(CHANGES, max_size=2),
    worse=CHANGES,
)
def test_a_weaker_position_never_turns_a_refusal_into_a_permit(
    judge: Judge, place: int, before: list[Change], worse: Change
) -> None:
    # given a question that something may be missing from already
    question = QUESTIONS[place]
    for change in before:
        question = change(question)
    # when one more thing is taken away, weakened or made worse
    weaker = worse(question)
    # then what was refused is refused
    assert judge.judge(question).permitted or not judge.judge(weaker).permitted
