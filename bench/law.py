"""What the law costs: one decision, and the check of a plan of 50 regions and 5 lineages.

    python bench/law.py        writes build/bench-law.json

A decision is about a flow that was asked about before, at another second: as one crossing follows
another.  The first one about a flow, and one repeated within its second, stand beside it.

The plan is checked with all its papers, and bare of them, so that cures of most of its steps are
looked for.

Beside decisions stands the floor of the same run: Cedar alone on the same requests, given every
fact and all policies each time; without facts, papers or notes of ours.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import typer
from cedarpy import PolicySet, is_authorized
from rich.console import Console
from rich.table import Table

from law_federation import HUB, plan_federation
from ringfence.cli.checking import CheckedCrossing, check_homes
from ringfence.config import Home
from ringfence.crossing.planning import plan, planned_questions
from ringfence.opening import open_law
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Question
from ringfence.policy.packs import Pack
from ringfence.policy.request import cedar_request

T = TypeVar("T")

_REPEATS = 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    regions: Annotated[int, typer.Option(min=3, help="Regions of the plan.")] = 50,
    lineages: Annotated[int, typer.Option(min=1, help="Lineages of the plan.")] = 5,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("build/bench-law.json"),
) -> None:
    """Measure decisions and a plan's check; prints a table and writes the figures as JSON."""
    scratch = Path(tempfile.mkdtemp(prefix="ringfence-bench-law-"))
    try:
        figures = _measure(scratch, regions=regions, lineages=lineages)
    finally:
        shutil.rmtree(scratch)
    table = Table(title=f"{regions} regions, {lineages} lineages: {figures['crossings']} steps")
    for column in ("", "ours", "floor"):
        table.add_column(column, justify="right")
    for name in ("first_ms", "decision_ms", "repeated_ms", "check_s", "check_bare_s"):
        floor = figures["floor_ms"] if name in ("first_ms", "decision_ms") else None
        table.add_row(
            name.replace("_", ", "),
            f"{figures[name]:.3f}",
            "" if floor is None else f"{floor:.3f}",
        )
    Console().print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(scratch: Path, *, regions: int, lineages: int) -> dict[str, float]:
    federation, agreement = plan_federation(scratch, regions=regions, lineages=lineages)
    homes = list(federation.homes.values())
    rows, check_s = _checked(homes)
    law = open_law(federation.homes[HUB], agreement)
    mine = (step for step in plan(agreement) if step.judged_by == HUB)
    asked = [each for _, each in planned_questions(law, mine) if isinstance(each, Question)]
    distinct = list({cedar_request(each, coverage(each)): each for each in asked}.values())
    for home in homes:
        for paper in home.approvals.iterdir():
            paper.unlink()
    bare, check_bare_s = _checked(homes)
    return {
        "crossings": len(rows),
        "refused": sum(not row.permitted for row in rows),
        "refused_bare": sum(not row.permitted for row in bare),
        "distinct": len(distinct),
        "first_ms": _ms(law.judge.judge, _of_other_flows(distinct)),
        "repeated_ms": _ms(law.judge.judge, distinct * _REPEATS),
        "decision_ms": _ms(law.judge.judge, _seconds_apart(distinct)),
        "floor_ms": _cedar_ms(law.judge.packs, distinct),
        "check_s": check_s,
        "check_bare_s": check_bare_s,
    }


def _checked(homes: list[Home]) -> tuple[list[CheckedCrossing], float]:
    """The plan's check, and how many seconds it took."""
    start = time.perf_counter()
    rows = check_homes(homes)
    return rows, time.perf_counter() - start


def _of_other_flows(questions: Sequence[Question]) -> list[Question]:
    """The same questions after more training, so that no flow has been asked about before."""
    return [
        replace(question, compute=replace(question.compute, training_ops=exaops * 1e18))
        for exaops in range(2, _REPEATS + 2)
        for question in questions
        if question.compute is not None
    ]


def _seconds_apart(questions: Sequence[Question]) -> list[Question]:
    """The same questions at other seconds, so that none has been answered before."""
    return [
        replace(question, now=question.now + seconds)
        for seconds in range(1, _REPEATS + 1)
        for question in questions
    ]


def _cedar_ms(packs: Sequence[Pack], questions: Sequence[Question]) -> float:
    """Cedar alone: every fact, and all policies of the packs that each question concerns."""
    vocabulary = packs[0].vocabulary
    policies: dict[frozenset[str | None], PolicySet] = {}

    def panel(question: Question) -> PolicySet:
        places: frozenset[str | None] = frozenset({None, *question.jurisdictions})
        if places not in policies:
            texts = [pack.text for pack in packs if pack.jurisdiction in places]
            policies[places] = PolicySet.from_str("\n".join(texts))
        return policies[places]

    requests = [cedar_request(question, coverage(question)) for question in questions]
    ready = [
        (request.to_cedar(request.context), panel(question))
        for request, question in zip(requests, questions, strict=True)
    ]
    return _ms(
        lambda each: is_authorized(each[0], each[1], vocabulary.items, vocabulary.schema),
        ready * _REPEATS,
    )


def _ms(work: Callable[[T], object], items: Sequence[T]) -> float:
    """Median milliseconds of one piece of work."""
    taken_s = []
    for item in items:
        start = time.perf_counter()
        work(item)
        taken_s.append(time.perf_counter() - start)
    return 1000 * median(taken_s)


if __name__ == "__main__":
    app()
