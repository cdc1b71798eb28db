"""`ringfence status`: what a region has done and where it stands, read from its own files."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from rich.table import Table

from ringfence.cli.auditing import read_audit
from ringfence.config import Home
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.core.agreement import Agreement
from ringfence.core.clock import system_clock, to_rfc3339
from ringfence.crossing.affected import Affected
from ringfence.crossing.descent import descent
from ringfence.crossing.entries import Entry
from ringfence.crossing.kept_time import accept, own_problem, read_kept
from ringfence.crossing.registry import read_registry
from ringfence.crossing.standing import ending
from ringfence.gateway.journal import Journal as GatewayJournal
from ringfence.gateway.models import Models
from ringfence.ledger.reader import LogReader
from ringfence.opening import machine_clocks, open_papers, read_agreement, revoked_papers
from ringfence.store.sql import open_engine


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageStatus:
    """One lineage as this region knows it; `model` is the newest release, empty before the first.

    `detail` is the reason why the last round was held, or empty.
    """

    lineage: str
    round: int
    until_round: int
    state: str
    model: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One region; `entries` counts its log by kind, `updates_used` the budget reserved or spent.

    `clock` is "right", or why it is refused (PLAT-CLOCK); `clock_acted` is the latest time at which
    this region is known to have acted, empty before the first.
    `warnings` counts the papers that end within their warning time and that nothing follows.
    `affected` counts the releases in its log that a paper revoked since has reached.
    """

    region: str
    agreement: str
    lineages: tuple[LineageStatus, ...]
    updates_used: int
    updates_budget: int
    entries: dict[str, int]
    clock: str
    clock_acted: str
    warnings: int
    affected: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def read_status(home: Home) -> Status:
    """Read a region's status; its processes may be running.

    Raises: ConfigError when a paper or the registry does not hold.
    """
    agreement = read_agreement(home)
    engine = open_engine(home.database_url())
    if agreement.hub == home.region:
        lineages = _hub_lineages(agreement, HubJournal(engine))
        used = 0
    else:
        lineages = _region_lineages(agreement, Models(engine), home)
        used = GatewayJournal(engine).used()
    clock = read_clock(home)
    return Status(
        region=home.region,
        agreement=agreement.digest,
        lineages=tuple(lineages),
        updates_used=used,
        updates_budget=agreement.terms.budget.updates,
        entries=dict(count_entries(home)),
        clock=clock.state,
        clock_acted=clock.acted,
        warnings=_count_warnings(home, agreement),
        affected=_count_affected(home, agreement),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStatus:
    """What the guard of a region's clock remembers, held against this machine's clocks now.

    `state` is "right" or a sentence; `acted` is empty before the region has acted.
    """

    state: str
    acted: str


def read_clock(home: Home) -> ClockStatus:
    """The guard's state: what the file and our own clocks say, or else what its process last said.

    Cosigned time is known to the running process alone; it leaves its last word in the file.
    """
    kept = read_kept(home.clock)
    problem = own_problem(kept, machine_clocks()) or ("" if kept is None else kept.problem)
    return ClockStatus(
        state=problem or "right",
        acted=to_rfc3339(kept.acted_s) if kept is not None and kept.acted_s else "",
    )


def accept_clock(home: Home) -> ClockStatus:
    """Take a person's word that this machine's clock is right now (`timekeeping.accept`)."""
    accept(home.clock, machine_clocks(), entries=LogReader(home.log).durable_size)
    return read_clock(home)


def count_entries(home: Home) -> Counter[str]:
    """How many entries of each kind the region's log holds, checkpointed or not."""
    reader = LogReader(home.log)
    openings = reader.openings(0, reader.durable_size)
    return Counter(Entry.from_bytes(opening.content).kind for opening in openings)


def _count_warnings(home: Home, agreement: Agreement) -> int:
    revoked = read_registry(home.facts).revoked
    held = (p for p in open_papers(home, agreement).read() if p.id not in revoked)
    return len(ending(agreement, held, now_s=system_clock()))


def _count_affected(home: Home, agreement: Agreement) -> int:
    """How many releases of the log a revoked paper has reached; reads it if any paper is."""
    revoked = revoked_papers(home, agreement)
    if not revoked:
        return 0
    return Affected(descent(read_audit(home)), revoked).count()


def render_status(status: Status) -> Table:
    """The status as a table."""
    entries = ", ".join(f"{count} {kind}" for kind, count in sorted(status.entries.items()))
    table = Table(
        title=f"{status.region}: {status.updates_used} of {status.updates_budget} updates used",
        caption=f"log: {entries or 'empty'}\npapers that end soon: {status.warnings} "
        f"(ringfence approvals list)\nagreement {status.agreement}\nclock: {status.clock}"
        f"{_affected(status)}",
    )
    for column in ("lineage", "round", "of", "state", "newest release", "detail"):
        table.add_column(column, overflow="fold")
    for line in status.lineages:
        table.add_row(
            line.lineage,
            str(line.round),
            str(line.until_round),
            line.state,
            line.model,
            line.detail,
        )
    return table


def _affected(status: Status) -> str:
    if not status.affected:
        return ""
    return (
        f"\n[red]{status.affected} releases are affected[/red] by revoked papers: see "
        "'ringfence lineage'"
    )


def _hub_lineages(agreement: Agreement, journal: HubJournal) -> list[LineageStatus]:
    found = []
    for terms in agreement.terms.lineages:
        round_ = journal.current_round(terms.id)
        release = journal.release(terms.id)
        found.append(
            LineageStatus(
                lineage=terms.id,
                round=round_.round if round_ else 0,
                until_round=terms.until_round,
                state=round_.state if round_ else "not started",
                model=release.model if release else "",
                detail=round_.reason if round_ else "",
            )
        )
    return found


def _region_lineages(agreement: Agreement, models: Models, home: Home) -> list[LineageStatus]:
    found = []
    for lineage in agreement.lineages_of(home.region):
        held = models.admitted(lineage)
        found.append(
            LineageStatus(
                lineage=lineage,
                round=held.round if held else 0,
                until_round=agreement.lineage(lineage).until_round,
                state="admitted" if held else "nothing admitted",
                model=held.model if held else "",
                detail="",
            )
        )
    return found
