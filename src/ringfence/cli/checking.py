"""`ringfence check`: the matrix of every planned crossing, judged by each region that will ask."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ringfence.config import SETTINGS_NAME, Home, open_home
from ringfence.core.clock import system_clock
from ringfence.core.errors import ConfigError, Refused
from ringfence.core.ids import RegionId
from ringfence.crossing.hardware import chip_findings
from ringfence.crossing.law import Law
from ringfence.crossing.ownership import owners_of
from ringfence.crossing.planning import Planned, plan, planned_questions
from ringfence.crossing.registry import read_registry
from ringfence.opening import open_law, read_agreement
from ringfence.policy.coverage import drift
from ringfence.policy.cures import Cures
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge, destinations
from ringfence.policy.matrix import Row, matrix
from ringfence.policy.packs import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCrossing:
    """One planned step with its verdict, ready to be printed.

    `conflicts` name both laws where obeying one may breach the other: a person decides.
    """

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
    conflicts: tuple[str, ...]
    drifted: tuple[str, ...]

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
    agreement = agreements[homes[0].region]
    laws = {home.region: open_law(home, agreement) for home in homes}
    steps = [step for step in plan(agreement) if step.judged_by in laws]
    answers: dict[int, CheckedCrossing] = {}
    # Regions that hold the same packs are asked together, so that equal questions are judged once.
    places: dict[tuple[Pack, ...], dict[int, Question]] = {}
    for place, asked in _asked(laws, steps).items():
        if isinstance(asked, Refused):
            answers[place] = _unasked(steps[place], asked)
        else:
            places.setdefault(laws[steps[place].judged_by].judge.packs, {})[place] = asked
    for packs, mine in places.items():
        rows = matrix(Judge(packs=packs), [("", asked) for asked in mine.values()])
        for (i, asked), row in zip(mine.items(), rows, strict=True):
            answers[i] = _checked(steps[i], row, _drifts(asked, row.cures))
    return [answers[i] for i in sorted(answers)]


def hardware_of(homes: list[Home]) -> list[str]:
    """What each attested chip of each region amounts to, in a line; none where a word is given."""
    return [
        f"{party.id}: {finding.text}"
        for party in read_agreement(homes[0]).terms.regions
        for finding in chip_findings(party, at=system_clock())
    ]


def ownership_of(homes: list[Home]) -> list[str]:
    """What there is to say of the owners of each region's operator, in lines; mostly nothing.

    What only some of the homes have registered names them.
    """
    found: dict[str, list[str]] = {}
    for home in homes:
        registry = read_registry(home.facts)
        for party in read_agreement(home).terms.regions:
            for line in owners_of(party, registry):
                found.setdefault(f"{party.id}: {line}", []).append(home.region)
    return [
        line if len(by) == len(homes) else f"{line} [facts of {', '.join(by)}]"
        for line, by in found.items()
    ]


def _asked(laws: dict[RegionId, Law], steps: list[Planned]) -> dict[int, Question | Refused]:
    """What each region asks about the steps that it judges, by the place of the step."""
    asked: dict[int, Question | Refused] = {}
    for name, law in laws.items():
        mine = [place for place, step in enumerate(steps) if step.judged_by == name]
        found = planned_questions(law, [steps[place] for place in mine])
        asked.update(zip(mine, (question for _, question in found), strict=True))
    return asked


def _drifts(question: Question, cures: Cures) -> tuple[str, ...]:
    """Papers of a type that would cure the step, but for another flow than the agreement's."""
    curing = {
        (step.paper, step.origin, step.destination) for route in cures.routes for step in route
    }
    found = {
        f"{approval.id}: {words}": None
        for asked in destinations(question)
        for approval in asked.approvals
        if (approval.type, approval.origin, approval.destination) in curing
        for words in drift(approval, asked)
    }
    return tuple(found)


def _unasked(step: Planned, refused: Refused) -> CheckedCrossing:
    """A step that is refused before any pack is asked; no paper cures it."""
    return CheckedCrossing(
        lineage=step.draft.lineage,
        action=step.action,
        kind=step.draft.kind,
        sender=step.sender,
        recipient=step.recipient,
        judged_by=step.judged_by,
        permitted=False,
        rules=(),
        citation="",
        flags=(),
        cures=(),
        bars=(f"{refused.reason}: {refused.detail}",),
        conflicts=(),
        drifted=(),
    )


def _checked(step: Planned, row: Row, drifted: tuple[str, ...]) -> CheckedCrossing:
    verdict = row.verdict
    return CheckedCrossing(
        lineage=step.draft.lineage,
        action=step.action,
        kind=step.draft.kind,
        sender=step.sender,
        recipient=step.recipient,
        judged_by=step.judged_by,
        permitted=verdict.permitted,
        rules=tuple(dict.fromkeys(note.id for note in verdict.rules)),
        citation=row.citation,
        flags=tuple(dict.fromkeys(note.id for note in verdict.flags)),
        cures=tuple(tuple(map(str, route)) for route in row.cures.routes),
        bars=tuple(dict.fromkeys(map(str, row.cures.bars))),
        conflicts=tuple(
            dict.fromkeys(str(each) for each in (*verdict.rules, *verdict.flags) if each.conflict)
        ),
        drifted=drifted,
    )
