"""The matrix of every crossing that a plan will make, judged before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    """Judge each labelled question of `plan` and keep the plan's order.

    Questions that the packs cannot tell apart are asked once, by the judge and by the finder.
    """
    finder = CureFinder(judge)
    return tuple(_row(label, judge.judge(question), question, finder) for label, question in plan)


def _row(label: str, verdict: Verdict, question: Question, finder: CureFinder) -> Row:
    first = verdict.rules[0] if verdict.rules else None
    return Row(
        label=label,
        verdict=verdict,
        rule=first.id if first else "",
        citation=first.cite if first else "",
        cures=NO_CURES if verdict.permitted else finder.find(question),
    )
