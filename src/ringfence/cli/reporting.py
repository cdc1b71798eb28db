"""`ringfence status`: what a region has done and where it stands, read from its own files."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from rich.table import Table

from ringfence.cli.auditing import read_audit
from ringfence.config import Home
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.core.agreement import Agreement
from ringfence.crossing.affected import Affected
from ringfence.crossing.descent import descent
from ringfence.crossing.entries import Entry
from ringfence.crossing.registry import read_registry
from ringfence.gateway.journal import Journal as GatewayJournal
from ringfence.ledger.reader import LogReader
from ringfence.store.sql import open_engine
from ringfence.wiring import read_agreement


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

    `affected` counts the releases in its log that a paper revoked since has reached.
    """

    region: str
    agreement: str
    lineages: tuple[LineageStatus, ...]
    updates_used: int
    updates_budget: int
    entries: dict[str, int]
    affected: int

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def read_status(home: Home) -> Status:
    """Read a region's status; its processes may be running."""
    agreement = read_agreement(home)
    engine = open_engine(home.database_url())
    if agreement.hub == home.region:
        lineages = _hub_lineages(agreement, HubJournal(engine))
        used = 0
    else:
        journal = GatewayJournal(engine)
        lineages = _region_lineages(agreement, journal, home)
        used = journal.used()
    return Status(
        region=home.region,
        agreement=agreement.digest,
        lineages=tuple(lineages),
        updates_used=used,
        updates_budget=agreement.terms.budget.updates,
        entries=dict(count_entries(home)),
        affected=count_affected(home),
    )


def count_entries(home: Home) -> Counter[str]:
    """How many entries of each kind the region's log holds, checkpointed or not."""
    reader = LogReader(home.log)
    openings = reader.openings(0, reader.durable_size)
    return Counter(Entry.from_bytes(opening.content).kind for opening in openings)


def count_affected(home: Home) -> int:
    """How many releases of the log a revoked paper has reached; reads it if any paper is."""
    revoked = read_registry(home.facts).revoked
    if not revoked:
        return 0
    return Affected(descent(read_audit(home)), revoked).count()


def render_status(status: Status) -> Table:
    """The status as a table."""
    entries = ", ".join(f"{count} {kind}" for kind, count in sorted(status.entries.items()))
    table = Table(
        title=f"{status.region}: {status.updates_used} of {status.updates_budget} updates used",
        caption=f"log: {entries or 'empty'}\nagreement {status.agreement}{_affected(status)}",
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


def _region_lineages(
    agreement: Agreement, journal: GatewayJournal, home: Home
) -> list[LineageStatus]:
    found = []
    for lineage in agreement.lineages_of(home.region):
        held = journal.admitted(lineage)
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
