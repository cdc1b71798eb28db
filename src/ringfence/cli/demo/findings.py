"""What a demo found: the table a person reads and the file a machine reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from ringfence.cli.auditing import best_note
from ringfence.cli.demo.attacks import Attack
from ringfence.cli.demo.examples import Measurement
from ringfence.config import Home
from ringfence.core.agreement import parse_agreement
from ringfence.core.errors import StateError
from ringfence.crossing.audit import Audit
from ringfence.crossing.descent import descent
from ringfence.crossing.entries import Entry
from ringfence.ledger.checkpoints import majority
from ringfence.ledger.disclosure import check_proof, prove
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.reader import LogReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossings:
    """How many crossings all logs record; `rules` counts the refusals by what decided."""

    permitted: int
    refused: int
    rules: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that the demo shows."""

    seed: int
    pilot: int | None
    regions: Mapping[str, Measurement]
    border: Mapping[str, Mapping[str, int]]
    crossings: Crossings
    attacks: tuple[Attack, ...]
    logs_verified: bool
    verdicts_judged_again: int
    proof: str
    us_market_touched_by_cn: bool
    seconds: Mapping[str, float]

    @property
    def sound(self) -> bool:
        """Every attack refused and recorded, every log verified, us-market untouched by China."""
        attacks = all(attack.refused and attack.recorded for attack in self.attacks)
        return attacks and self.logs_verified and not self.us_market_touched_by_cn

    def to_json(self) -> dict[str, object]:
        return {
            "seed": self.seed,
            "pilot": self.pilot,
            "regions": {name: asdict(measured) for name, measured in self.regions.items()},
            "border": {name: dict(bytes_) for name, bytes_ in self.border.items()},
            "crossings": asdict(self.crossings),
            "attacks": [attack.to_json() for attack in self.attacks],
            "logs_verified": self.logs_verified,
            "verdicts_judged_again": self.verdicts_judged_again,
            "proof": self.proof,
            "us_market_touched_by_cn": self.us_market_touched_by_cn,
            "seconds": dict(self.seconds),
        }


def write_findings(findings: Findings, path: Path) -> None:
    """Write `demo.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(findings.to_json(), indent=2) + "\n")


def render_findings(findings: Findings) -> RenderableType:
    """The tables at the end of the demo."""
    return Group(_accuracy(findings), _border(findings), _attacks(findings), _crossings(findings))


def traffic_of(log: Path, *, so_far: Mapping[str, int] | None) -> dict[str, int]:
    """What a gateway said at its end that it sent and received, added to what it did before."""
    last = json.loads(log.read_text().rstrip().rsplit("\n", 1)[-1])
    before = so_far or {"bytes_out": 0, "bytes_in": 0}
    return {
        "bytes_out": before["bytes_out"] + int(last["sent_bytes"]),
        "bytes_in": before["bytes_in"] + int(last["received_bytes"]),
    }


def count_crossings(homes: Iterable[Home]) -> Crossings:
    """Count intents and refusals over every region's log."""
    permitted = refused = 0
    rules: dict[str, int] = {}
    for home in homes:
        for opening in LogReader(home.log).openings():
            entry = Entry.from_bytes(opening.content)
            permitted += entry.kind == "intent"
            if entry.refusal is not None:
                refused += 1
                for rule in entry.refusal.rules or (entry.refusal.reason,):
                    rules[rule] = rules.get(rule, 0) + 1
    return Crossings(permitted=permitted, refused=refused, rules=dict(sorted(rules.items())))


def touched_by(audit: Audit, *, lineage: str, region: str) -> bool:
    """Whether any update of `region` is in the ancestry of a release of `lineage`.

    Walks the graph of the hub's log from every release of the lineage to what it comes of, through
    whatever lineage that belongs to.
    """
    graph = descent(audit)
    if not any(update.region == region for update in graph.updates):
        raise StateError(f"the log holds no update of {region}; there is nothing to look for")
    return any(region in graph.contributors(model.id) for model in graph.releases(lineage))


def prove_a_crossing(hub: Home, agreement_path: Path) -> str:
    """Prove the newest cosigned release in the hub's log and check it with public keys alone."""
    agreement = parse_agreement(agreement_path.read_bytes())
    reader = LogReader(hub.log)
    index = _newest_release(reader)
    proof = prove(reader, index, best_note(reader, index))
    witnesses = [
        NoteKey.from_text(agreement.region(name).witness_key)
        for name in agreement.regions()
        if name != hub.region
    ]
    proven = check_proof(
        proof,
        log_key=NoteKey.from_text(agreement.region(hub.region).log_key),
        witnesses=witnesses,
        cosignatures=majority(len(witnesses)),
    )
    entry = Entry.from_bytes(proven.content)
    return (
        f"entry {proven.index} ({entry.kind}, {entry.lineage} round {entry.round}, for "
        f"{entry.counterparty}) under {proven.checkpoint}, cosigned by "
        f"{', '.join(sorted(proven.cosigned_by))}"
    )


def _newest_release(reader: LogReader) -> int:
    """Index of the newest release statement under a checkpoint that witnesses cosigned."""
    cosigned = max(
        (note for note in reader.checkpoints() if note.count("\N{EM DASH}") > 1),
        key=lambda note: int(note.split("\n", 2)[1]),
        default="",
    )
    size = int(cosigned.split("\n", 2)[1]) if cosigned else 0
    for opening in reversed(list(reader.openings(0, size))):
        entry = Entry.from_bytes(opening.content)
        if entry.kind == "intent" and entry.lineage:
            return opening.index
    raise StateError("no crossing in the hub's log is cosigned")


def _accuracy(findings: Findings) -> Table:
    table = Table(title="accuracy on each region's own test pictures, per cent")
    for column in ("region", "before", "after, regional", "after, global", "alone"):
        table.add_column(column, justify="right")
    for name, measured in findings.regions.items():
        alone = "" if measured.local_only is None else f"{measured.local_only:.1f}"
        table.add_row(
            name,
            f"{measured.before:.1f}",
            f"{measured.after_regional:.1f}",
            f"{measured.after_global:.1f}",
            alone,
        )
    return table


def _border(findings: Findings) -> Table:
    table = Table(title="what crossed each border, on the wire")
    for column in ("region", "out", "in"):
        table.add_column(column, justify="right")
    for name, traffic in sorted(findings.border.items()):
        table.add_row(name, _megabytes(traffic["bytes_out"]), _megabytes(traffic["bytes_in"]))
    return table


def _attacks(findings: Findings) -> Table:
    table = Table(title="attacks")
    for column in ("attack", "refused", "by", "recorded in the log of"):
        table.add_column(column, overflow="fold")
    for attack in findings.attacks:
        table.add_row(attack.name, "yes" if attack.refused else "NO", attack.rule, attack.recorded)
    return table


def _crossings(findings: Findings) -> Table:
    crossings = findings.crossings
    rules = ", ".join(f"{rule} {count}" for rule, count in crossings.rules.items())
    table = Table(title="what the logs say", show_header=False)
    table.add_row("crossings permitted", str(crossings.permitted))
    table.add_row("crossings refused", f"{crossings.refused} ({rules})")
    table.add_row("logs verified, merges replayed", "yes" if findings.logs_verified else "NO")
    table.add_row("verdicts judged again", str(findings.verdicts_judged_again))
    touched = "YES" if findings.us_market_touched_by_cn else "no"
    table.add_row("us-market holds a Chinese update", touched)
    table.add_row("one crossing proved", findings.proof)
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in findings.seconds.items())
    table.add_row("seconds", seconds)
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
