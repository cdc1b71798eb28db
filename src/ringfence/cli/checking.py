"""`ringfence check`: the matrix of every planned crossing, judged by each region that will ask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from ringfence.config import SETTINGS_NAME, Home, open_home
from ringfence.core.errors import ConfigError
from ringfence.crossing.planning import Planned, plan, planned_question
from ringfence.policy.matrix import Row, matrix
from ringfence.wiring import open_law, read_agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCrossing:
    """One planned step with its verdict, ready to be printed."""

    lineage: str
    action: str
    kind: str
    sender: str
    recipient: str
    judged_by: str
    permitted: bool
    rules: tuple[str, ...]
    citation: str
    flags: tuple[str, ...]
    cures: tuple[tuple[str, ...], ...]
    bars: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def find_homes(path: Path) -> list[Home]:
    """The home at `path`, or every region's home under `path/regions`."""
    if (path / SETTINGS_NAME).exists():
        return [open_home(path)]
    homes = sorted((path / "regions").glob(f"*/{SETTINGS_NAME}"))
    if not homes:
        raise ConfigError(
            f"{path}: expected a region's home, or a directory with regions/*/{SETTINGS_NAME}"
        )
    return [open_home(home.parent) for home in homes]


def check_homes(homes: list[Home]) -> list[CheckedCrossing]:
    """Judge the plan, each step by the packs and papers of the region that will be asked.

    With one home only, these are the steps that this region will be asked about.
    Raises: ConfigError when the homes hold different agreements.
    """
    agreements = {home.region: read_agreement(home) for home in homes}
    if len({agreement.digest for agreement in agreements.values()}) != 1:
        raise ConfigError(
            "the regions hold different agreements: "
            + ", ".join(f"{name} {held.digest}" for name, held in sorted(agreements.items()))
        )
    laws = {home.region: open_law(home, agreements[home.region]) for home in homes}
    agreement = agreements[homes[0].region]
    steps = list(plan(agreement))
    answers: dict[int, Row] = {}
    for name, law in laws.items():
        mine = [i for i, step in enumerate(steps) if step.judged_by == name]
        rows = matrix(law.judge, [("", planned_question(law, steps[i])) for i in mine])
        answers.update(zip(mine, rows, strict=True))
    return [_checked(step, answers[i]) for i, step in enumerate(steps) if i in answers]


def render_rows(rows: list[CheckedCrossing]) -> Table:
    """The matrix as a table: refused steps name rule, citation and cure."""
    table = Table(title="planned crossings", show_lines=False)
    for column in ("lineage", "step", "from", "to", "verdict", "rule, citation, cures"):
        table.add_column(column, overflow="fold")
    for row in rows:
        verdict = "[green]permit[/green]" if row.permitted else "[red]refuse[/red]"
        table.add_row(
            row.lineage, f"{row.action} {row.kind}", row.sender, row.recipient, verdict, _why(row)
        )
    return table


def _why(row: CheckedCrossing) -> str:
    """Rules and citation, then each route out, or what bars them all."""
    if row.permitted:
        return f"flagged: {', '.join(row.flags)}" if row.flags else ""
    routes = [f"{'or' if n else 'cure'}: {'; '.join(route)}" for n, route in enumerate(row.cures)]
    bars = [f"no cure: {bar}" for bar in row.bars]
    return "\n".join((f"{', '.join(row.rules)} ({row.citation})", *routes, *bars))


def _checked(step: Planned, row: Row) -> CheckedCrossing:
    return CheckedCrossing(
        lineage=step.draft.lineage,
        action=step.action,
        kind=step.draft.kind,
        sender=step.sender,
        recipient=step.recipient,
        judged_by=step.judged_by,
        permitted=row.verdict.permitted,
        rules=tuple(dict.fromkeys(note.id for note in row.verdict.rules)),
        citation=row.citation,
        flags=tuple(dict.fromkeys(note.id for note in row.verdict.flags)),
        cures=tuple(tuple(map(str, route)) for route in row.cures.routes),
        bars=tuple(
            dict.fromkeys(f"{bar.id}: {bar.detail or bar.remedy}" for bar in row.cures.bars)
        ),
    )
