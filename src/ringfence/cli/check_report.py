"""What `ringfence check` shows a person: the plan as a table, and the way to have it permitted."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import groupby, pairwise

from rich.markup import escape
from rich.table import Table

from ringfence.cli.checking import CheckedCrossing


def render_rows(rows: list[CheckedCrossing]) -> Table:
    """The matrix as a table: refused steps name rule, citation and cure.

    Neighbours of one direction that are told the same share a line.
    """
    table = Table(title="planned crossings", show_lines=False)
    for column in ("lineage", "step", "from", "to", "verdict", "rule, citation, cures"):
        table.add_column(column, overflow="fold")
    for told, group in groupby(rows, key=_shown):
        lineage, sender, recipient, permitted, why = told
        alike = list(group)
        actions, kinds = (
            ", ".join(dict.fromkeys(words))
            for words in ((row.action for row in alike), (row.kind for row in alike))
        )
        verdict = "[green]permit[/green]" if permitted else "[red]refuse[/red]"
        table.add_row(lineage, f"{actions} {kinds}", sender, recipient, verdict, why)
    return table


def conflicts_of(rows: list[CheckedCrossing]) -> list[str]:
    """Each conflict of laws that a plan meets, once."""
    return list(dict.fromkeys(conflict for row in rows for conflict in row.conflicts))


def steps_of(rows: list[CheckedCrossing]) -> list[str]:
    """What the whole plan lacks by the first route out of each refusal, first things first."""
    routes = [row.cures[0] for row in rows if row.cures]
    order: TopologicalSorter[str] = TopologicalSorter()
    for route in routes:
        for step in route:
            order.add(step)
        for before, after in pairwise(route):
            order.add(after, before)
    try:
        return list(order.static_order())
    except CycleError:
        # Two routes order two steps the other way round: then neither must come first.
        return list(dict.fromkeys(step for route in routes for step in route))


def lines_of(rows: list[CheckedCrossing]) -> Iterator[str]:
    """What follows the table: conflicts of laws, then the steps to take, numbered."""
    yield from conflicts_of(rows)
    if steps := steps_of(rows):
        yield "What the refused steps lack, by the first route out of each, in this order:"
        yield from (f"{number}. {step}" for number, step in enumerate(steps, 1))


def _shown(row: CheckedCrossing) -> tuple[str, str, str, bool, str]:
    return row.lineage, row.sender, row.recipient, row.permitted, _why(row)


def _why(row: CheckedCrossing) -> str:
    """Rules and citation, then each route out, or what bars them all."""
    if row.permitted:
        return f"flagged: {', '.join(row.flags)}" if row.flags else ""
    routes = [f"{'or' if n else 'cure'}: {'; '.join(route)}" for n, route in enumerate(row.cures)]
    bars = [f"no cure: {bar}" for bar in row.bars if bar not in row.conflicts]
    drifted = [f"drifted: {words}" for words in row.drifted]
    stops = ["no cure: a conflict of laws, see below"] if row.conflicts else []
    rules = [f"{', '.join(row.rules)} ({row.citation})"] if row.rules else []
    # What people wrote may hold brackets, which are no markup.
    return escape("\n".join((*rules, *drifted, *routes, *stops, *bars)))
