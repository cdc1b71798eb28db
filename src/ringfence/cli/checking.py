"""`ringfence check`: the matrix of every planned crossing, judged by each region that will ask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from ringfence.config import SETTINGS_NAME, Home, open_home
from ringfence.core.artifacts import Declaration
from ringfence.core.errors import ConfigError
from ringfence.crossing.counters import PlannedCounts
from ringfence.crossing.decide import declare
from ringfence.crossing.law import Law, export, question
from ringfence.crossing.planning import Planned, plan
from ringfence.policy.matrix import Row, matrix
from ringfence.policy.words import CROSSINGS, Action
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
    cure: tuple[str, ...]

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
        declared = [_declare(law, steps[i]) for i in mine]
        asked = list(zip((steps[i].action for i in mine), declared, strict=True))
        counts = _planned_counts(law, asked)
        questions = [question(law, each, action=action, counts=counts) for action, each in asked]
        rows = matrix(law.judge, [("", each) for each in questions])
        answers.update(zip(mine, rows, strict=True))
    return [_checked(step, answers[i]) for i, step in enumerate(steps) if i in answers]


def render_rows(rows: list[CheckedCrossing]) -> Table:
    """The matrix as a table: refused steps name rule, citation and cure."""
    table = Table(title="planned crossings", show_lines=False)
    for column in ("lineage", "step", "from", "to", "verdict", "rule, citation, cure"):
        table.add_column(column, overflow="fold")
    for row in rows:
        why = "" if row.permitted else f"{', '.join(row.rules)} ({row.citation}): {row.cure[0]}"
        verdict = "[green]permit[/green]" if row.permitted else "[red]refuse[/red]"
        table.add_row(
            row.lineage, f"{row.action} {row.kind}", row.sender, row.recipient, verdict, why
        )
    return table


def _declare(law: Law, step: Planned) -> Declaration:
    return declare(law, step.draft, sender=step.sender, recipient=step.recipient)


def _planned_counts(law: Law, asked: list[tuple[Action, Declaration]]) -> PlannedCounts:
    """What the region's ledger counts already, with every crossing of the plan on top."""
    counted = law.ledger.all(now_s=law.clock()) if law.ledger is not None else []
    return PlannedCounts(
        counted, [export(law, each) for action, each in asked if action in CROSSINGS]
    )


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
        cure=row.cure,
    )
