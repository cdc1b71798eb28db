"""The matrix of every crossing that a plan will make, judged before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ringfence.policy.cures import NO_CURES, CureFinder, Cures
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One planned crossing and its verdict; the last three are empty when it is permitted.

    `rule` and `citation` are those of the first rule that refused; `cures` are the routes out.
    """

    label: str
    verdict: Verdict
    rule: str
    citation: str
    cures: Cures


def matrix(judge: Judge, plan: Iterable[tuple[str, Question]]) -> tuple[Row, ...]:
    """Judge each labelled question of `plan`, equal ones once, and keep the plan's order."""
    finder = CureFinder(judge)
    rows: dict[Question, Row] = {}
    ordered = []
    for label, question in plan:
        row = rows.get(question)
        if row is None:
            row = rows[question] = _row(judge.judge(question), question, finder)
        ordered.append(replace(row, label=label))
    return tuple(ordered)


def _row(verdict: Verdict, question: Question, finder: CureFinder) -> Row:
    first = verdict.rules[0] if verdict.rules else None
    return Row(
        label="",
        verdict=verdict,
        rule=first.id if first else "",
        citation=first.cite if first else "",
        cures=NO_CURES if verdict.permitted else finder.find(question),
    )
