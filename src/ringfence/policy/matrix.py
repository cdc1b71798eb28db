"""The matrix of every crossing that a plan will make, judged before anything runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One planned crossing and its verdict; the last three are empty when it is permitted.

    `rule` and `citation` are those of the first rule that refused; `cure` lists what every
    refusing rule asks for, in the verdict's order.
    """

    label: str
    verdict: Verdict
    rule: str
    citation: str
    cure: tuple[str, ...]


def matrix(judge: Judge, plan: Iterable[tuple[str, Question]]) -> tuple[Row, ...]:
    """Judge each labelled question of `plan`, equal ones once, and keep the plan's order."""
    verdicts: dict[Question, Verdict] = {}
    rows = []
    for label, question in plan:
        verdict = verdicts.get(question)
        if verdict is None:
            verdict = verdicts[question] = judge.judge(question)
        rows.append(_row(label, verdict))
    return tuple(rows)


def _row(label: str, verdict: Verdict) -> Row:
    first = verdict.rules[0] if verdict.rules else None
    return Row(
        label=label,
        verdict=verdict,
        rule=first.id if first else "",
        citation=first.cite if first else "",
        cure=tuple(dict.fromkeys(note.remedy for note in verdict.rules)),
    )
