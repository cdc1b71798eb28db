"""Recorded questions: exact there and back, strict, and answered alike with their papers alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.policy.demo_world import planned_crossings
from tests.policy.oracle import load_oracle
from tests.policy.oracle_questions import asked

from ringfence.core.canonical import to_bytes
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest
from ringfence.policy.approvals import ApprovalId, OperatorId
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Percent,
    Question,
    Screening,
)
from ringfence.policy.judge import Judge
from ringfence.policy.record import RECORD_LIMIT_BYTES, PaperName, Record, relied_on
from ringfence.policy.words import Action, ApprovalType, Chip, Trait

ORACLE = load_oracle()
PLANNED = tuple(question for _, question in planned_crossings())
QUESTIONS = (
    *PLANNED,
    *(
        asked(ORACLE, cell, route, kind, action=action)
        for cell in ORACLE.cells
        for route in cell.routes
        for kind in cell.kinds
        for action in (Action.EXPORT, Action.IMPORT)
    ),
)
SALT = "5a" * 16
DIGEST = Digest("sha256:" + "0c" * 32)

times = st.floats(0, 253_402_300_799)
percents = st.integers(0, 100).map(Percent)
counts = st.integers(0, (1 << 53) - 1)
screenings = st.none() | st.builds(
    Screening,
    at=times,
    us_listed=st.booleans(),
    cn_listed=st.booleans(),
    listed_owners_percent=percents,
    adversary_owners_percent=percents,
)
papers = st.lists(
    st.builds(
        PaperName,
        id=st.text(max_size=30).map(ApprovalId),
        holder=st.text(max_size=30).map(OperatorId),
        envelope=st.just(DIGEST),
    ),
    max_size=3,
).map(tuple)


@st.composite
def questions(draw: Callable[[Any], Any]) -> Question:
    """Any planned question, with any fact that a region may know or not know."""
    question: Question = replace(draw(st.sampled_from(QUESTIONS)), approvals=())
    changes: dict[str, Any] = {
        "contributors": frozenset(
            replace(
                party,
                screening=draw(screenings),
                traits=draw(st.frozensets(st.sampled_from(Trait))),
            )
            for party in question.contributors
        ),
        "compute": draw(
            st.none()
            | st.builds(
                Compute, chip=st.sampled_from(Chip), training_ops=st.floats(0, 1e35) | counts
            )
        ),
        "counters": draw(
            st.none()
            | st.builds(
                Counters,
                cn_people=counts,
                cn_sensitive_people=counts,
                us_people=counts,
                us_devices=counts,
                us_line=counts,
            )
        ),
        "cohort": draw(
            st.none() | st.builds(Cohort, smallest=counts, floor=st.integers(1, 1 << 40))
        ),
        "extraction": draw(
            st.none()
            | st.builds(
                ExtractionTest, passed=st.booleans(), tested_at=times, evidence=st.just(DIGEST)
            )
        ),
        "market": draw(st.sampled_from((None, question.market))),
        "revoked": draw(st.frozensets(st.text(max_size=30).map(ApprovalId), max_size=3)),
        "now": draw(times | st.integers(0, 1 << 37)),
        "carries_seed": draw(st.booleans()),
        "affected": draw(st.none() | st.booleans()),
        "holding": draw(st.frozensets(st.sampled_from(Action))),
    }
    return replace(question, **changes)


@given(question=questions(), named=papers)
@settings(max_examples=200, deadline=None)
def test_a_question_comes_back_as_it_was(question: Question, named: tuple[PaperName, ...]) -> None:
    # given any question
    record = Record(question=question, papers=named, salt=SALT)
    # when it is written and read
    read = Record.from_bytes(record.to_bytes())
    # then every fact is the same, to the last bit of a float, and so are its bytes
    assert read == record
    assert read.question.origins == question.origins
    assert read.to_bytes() == record.to_bytes()


def test_the_papers_that_matter_give_the_same_verdict(judge: Judge) -> None:
    # given questions over a region's whole folder of papers
    folder = tuple(
        {paper.id: paper for question in PLANNED for paper in question.approvals}.values()
    )
    left_out = 0
    for question in PLANNED:
        full = replace(question, approvals=folder)
        relied = relied_on(full)
        left_out += len(folder) - len(relied)
        record = Record(question=replace(full, approvals=()), papers=(), salt=SALT)
        # when each is judged from its record
        again = judge.judge(Record.from_bytes(record.to_bytes()).asked(relied))
        # then the packs say the same of it, and fewer papers were needed
        assert again == judge.judge(full)
    assert left_out > 0


def test_a_declaration_that_the_flow_drifted_from_matters(judge: Judge) -> None:
    # given a question whose assessment is for another scope
    question = next(
        each
        for each in PLANNED
        if each.action is Action.EXPORT
        and any(paper.type is ApprovalType.CAC_ASSESSMENT for paper in relied_on(each))
    )
    approvals = tuple(
        replace(paper, scope=DIGEST) if paper.type is ApprovalType.CAC_ASSESSMENT else paper
        for paper in question.approvals
    )
    drifted = replace(question, approvals=approvals)
    # when the papers are chosen that the answer rests on
    relied = relied_on(drifted)
    # then it is among them, and the packs refuse as they did
    assert any(paper.type is ApprovalType.CAC_ASSESSMENT for paper in relied)
    verdict = judge.judge(drifted)
    assert not verdict.permitted
    assert judge.judge(replace(drifted, approvals=relied)) == verdict


# ── strict ──

FULL = max(PLANNED, key=lambda each: (len(each.contributors), len(each.classes)))
RECORD = Record(question=replace(FULL, approvals=()), papers=(), salt=SALT)


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    parsed = json.loads(RECORD.to_bytes())
    change(parsed)
    return to_bytes(parsed)


LIES: dict[str, Callable[[], bytes]] = {
    "an unknown field": lambda: edited(lambda r: r.update(more=1)),
    "an unknown fact": lambda: edited(lambda r: r["question"].update(weather="fine")),
    "an unknown word": lambda: edited(lambda r: r["question"].update(purpose="war")),
    "a missing fact": lambda: edited(lambda r: r["question"].pop("counters")),
    "a text for a number": lambda: edited(lambda r: r["question"].update(now="1")),
    "no digest": lambda: edited(lambda r: r["question"].update(scope="sha256:1")),
    "a time without a calendar": lambda: edited(lambda r: r["question"].update(now=1e300)),
    "no salt": lambda: edited(lambda r: r.update(salt="")),
    "classes out of order": lambda: edited(lambda r: r["question"]["classes"].reverse()),
    "a party twice": lambda: edited(
        lambda r: r["question"]["contributors"].append(r["question"]["contributors"][0])
    ),
    "another form": lambda: json.dumps(json.loads(RECORD.to_bytes())).encode(),
    "too long": lambda: RECORD.to_bytes() + b" " * RECORD_LIMIT_BYTES,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_anything_else_is_no_record(lie: Callable[[], bytes]) -> None:
    with pytest.raises(FormatError):
        Record.from_bytes(lie())


def test_a_record_names_its_papers_and_holds_none() -> None:
    with pytest.raises(FormatError, match="by name"):
        Record(question=FULL, papers=(), salt=SALT)
