"""A federation in one process: real keys, packs, papers, logs, SQLite and files, no child process.

    cn = world.place("cn")                   # a region's gateway, its site and its line to the hub
    world.run_to(WORLD, 1, "evaluating")     # everybody does what is due, until it is so

A region's site is a script in a thread at the other end of a real site socket.  `place.line` calls
the hub's service directly; `tests.border` puts the real TLS border in between.  Only the clock and
the gateways' randomness are stood in for.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from tests.places.founding import Founded, SettableClock, Template, found, swift_directory
from tests.places.line import Line
from tests.places.script import Script

from ringfence.cli.federation import (
    Federation,
)
from ringfence.config import Home, open_home
from ringfence.coordinator.engine import adopt_model
from ringfence.coordinator.hub import Changes, Hub
from ringfence.coordinator.inbox import Inbox
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.coordinator.outbox import Outbox
from ringfence.coordinator.publication import Publication
from ringfence.coordinator.rounds import advance, start_lineage
from ringfence.coordinator.service import HubService
from ringfence.coordinator.signatures import Signatures
from ringfence.core.agreement import Agreement
from ringfence.core.clock import Clock
from ringfence.core.errors import Refused
from ringfence.core.ids import LineageId, RegionId
from ringfence.core.wire import LineageView
from ringfence.crossing import docket
from ringfence.crossing.counters import CounterLedger
from ringfence.crossing.docket import Docket
from ringfence.crossing.entries import Entry
from ringfence.crossing.exports import Catalogued
from ringfence.crossing.kept_time import Clocks
from ringfence.crossing.law import Law
from ringfence.crossing.papers import Papers
from ringfence.crossing.region import Region
from ringfence.crossing.registry import read_registry
from ringfence.crossing.revoking import keep_in, recorded
from ringfence.crossing.signatures import read_signatures
from ringfence.crossing.spool import Spool
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.journal import Journal
from ringfence.gateway.models import Models
from ringfence.gateway.site_desk import SiteDesk
from ringfence.gateway.witnessing import watch
from ringfence.gateway.worker import take_turn
from ringfence.ledger.log import Log
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.witness import Witness
from ringfence.opening import read_agreement, read_catalogue
from ringfence.store.sql import open_engine
from ringfence.trust.keys import Ed25519Signer

WORLD, US_MARKET = LineageId("world"), LineageId("us-market")


@dataclass(kw_only=True)
class Place:
    """One region as its gateway sees it."""

    home: Home
    region: Region
    gateway: Gateway
    script: Script
    line: Line

    def view(self, lineage: LineageId = WORLD) -> LineageView:
        return self.line.lineage(lineage, seen=0, wait_s=0)

    def turn(self, lineage: LineageId = WORLD, border: Border | None = None) -> bool:
        """Look at the hub once and do what is due, as the gateway's loop does."""
        border = border or self.line
        asked_s = self.region.timekeeper.steady_s()
        view = border.lineage(lineage, seen=0, wait_s=0)
        watch(self.gateway, view, border, asked_s=asked_s)
        return take_turn(self.gateway, lineage, view, border)

    def grants(self) -> list[str]:
        """State of every grant, in the order in which they were reserved."""
        return [row["state"] for row in rows(self.home, "gateway_grants")]


class Homes(dict[str, Home]):
    """Homes of a copied federation, each copied when it is first asked for, unless it was before.

    Packs and keys stay where they were made: they are read once and change in no test.
    """

    def __init__(self, template: Federation, directory: Path) -> None:
        super().__init__()
        self.template = template
        self._directory = directory

    def __missing__(self, name: str) -> Home:
        path = self._directory / "regions" / name
        if not path.exists():
            left_out = shutil.ignore_patterns("keys", "trust", "packs")
            shutil.copytree(self.template.homes[name].path, path, ignore=left_out)
        self[name] = open_home(path)
        return self[name]


def _catalogued(home: Home) -> Catalogued:
    catalogue, digest = read_catalogue(home)
    return Catalogued(catalogue=catalogue, digest=digest)


class World:
    """A copy of a federation with its hub open; regions open when they are first asked for.

    `clock` is the true time and everybody's steady clock; a region's own clock is off by as many
    seconds as `off_s` says, and `boots` names the start of its machine.
    """

    def __init__(self, template: Template, directory: Path) -> None:
        self.founded = template.founded
        self.homes = Homes(template.federation, directory)
        self.path = directory
        self.agreement: Agreement = read_agreement(self.homes["hub"])
        self.clock = SettableClock(self.founded.now_s + 60)
        self.off_s: dict[str, float] = {}
        self.boots: dict[str, str] = {}
        self.signed_models: list[Path] = []
        self._stack = contextlib.ExitStack()
        self._places: dict[str, Place] = {}

    def __enter__(self) -> World:
        self.start_hub()
        signatures = read_signatures(self.homes["hub"].agreement, self.agreement)
        for region, envelope in signatures.items():
            self.hub.signatures.keep(
                agreement=self.agreement.digest, region=region, envelope=envelope
            )
        adopt_model(self.hub, self.homes.template.path / "initial.safetensors")
        for terms in self.agreement.terms.lineages:
            start_lineage(self.hub, terms)
            if self.hub.journal.current_round(terms.id) is None:
                advance(self.hub, LineageId(terms.id))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_hub(self) -> None:
        """Open the hub; called again, it is a restarted process over the same files."""
        region = self.open_region("hub")
        database = self._engine("hub")
        self.hub = Hub(
            region=region,
            journal=HubJournal(database),
            inbox=Inbox(database),
            outbox=Outbox(database),
            signatures=Signatures(database),
            files=self.homes["hub"].state,
            spool=Spool(self.homes["hub"].state),
            sign_model=self._sign_model,
            publication=Publication(region.log, self.witness_keys(), timekeeper=region.timekeeper),
            changes=Changes(start=1000),
        )
        self.service = HubService(self.hub)

    def restart_hub(self) -> None:
        self.hub.region.log.close()
        self.start_hub()
        for place in self._places.values():
            place.line.service = self.service

    def open_region(self, name: str) -> Region:
        home = self.homes[name]
        origin = NoteKey.from_text(self.agreement.region(name).log_key).name
        log = Log(home.log, origin=origin, signer=self.signer(name, "log"))
        self._stack.enter_context(log)
        papers = Papers(
            home.approvals,
            self.agreement,
            recorded=recorded(log.openings(0, log.size)),
            keep=keep_in(log, RegionId(name), self.clock),
        )
        ledger = CounterLedger(self._engine(name), process=name)
        ledger.release_all()
        law = Law(
            region=RegionId(name),
            agreement=self.agreement,
            judge=self.founded.judge,
            approvals=papers.read,
            registry=lambda: read_registry(home.facts),
            clock=self.clock_of(name),
            ledger=ledger,
            catalogue=_catalogued(home),
        )
        timekeeper = Timekeeper(
            Clocks(wall=self.clock_of(name), steady=self.clock, boot=self.boots.get(name, "first")),
            path=home.clock,
            log=log,
            region=RegionId(name),
            witnesses={
                NoteKey.from_text(self.agreement.region(other).witness_key).name: other
                for other in self.agreement.regions()
                if other not in (name, "hub")
            },
        )
        return Region(
            law=replace(law, require_time=timekeeper.require),
            statement_signer=self.signer(name),
            log=log,
            timekeeper=timekeeper,
            docket=Docket(
                log,
                RegionId(name),
                self.clock_of(name),
                papers.envelope_of,
                recorded=docket.recorded(log.openings(0, log.size)),
            ),
        )

    def clock_of(self, name: str) -> Clock:
        """The clock of a region, which a test may set wrong."""
        return lambda: self.clock() + self.off_s.get(name, 0.0)

    def signer(self, region: str, key: str = "statement") -> Ed25519Signer:
        return self.founded.signers[region, key]

    def place(self, name: str) -> Place:
        """A region with its gateway, site and line."""
        if name not in self._places:
            self._places[name] = self._open_place(name)
        return self._places[name]

    def restart_place(self, name: str) -> Place:
        """The gateway's process dies and starts again over the same files."""
        before = self._places.pop(name)
        before.region.log.close()
        place = self.place(name)
        place.script = before.script
        place.gateway.journal.spend_orphans()
        return place

    def turn_all(self) -> bool:
        """Every region and the hub once; returns whether the hub moved."""
        for terms in self.agreement.terms.lineages:
            for name in terms.recipients:
                with contextlib.suppress(Refused):
                    self.place(name).turn(LineageId(terms.id))
        moved = [advance(self.hub, LineageId(t.id)) for t in self.agreement.terms.lineages]
        return any(moved)

    def run_to(self, lineage: LineageId, round_: int, *states: str) -> None:
        """Let regions and hub do what is due until `lineage` has come to a state of a round."""
        terms = self.agreement.lineage(lineage)
        for _ in range(40):
            now = self.hub.journal.current_round(lineage)
            assert now is not None
            if (now.round, now.state) >= (round_, "") and now.state in states:
                return
            for name in terms.recipients:
                self.place(name).turn(lineage)
            advance(self.hub, lineage)
        raise AssertionError(f"{lineage} round {round_} did not come to {states}: {now}")

    def witness_keys(self) -> tuple[NoteKey, ...]:
        regions = self.agreement.regions()
        keys = [self.agreement.region(name).witness_key for name in regions if name != "hub"]
        return tuple(NoteKey.from_text(key) for key in keys)

    def remembered(self, name: str = "hub") -> dict[str, object]:
        """All that a place remembers besides its log: rows of its journal by table, its files.

        Files that are not finished yet have no name that anybody looks for.
        """
        home = self.homes[name]
        files = {
            str(path.relative_to(home.state)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(home.state.rglob("*"))
            if path.is_file()
            and not path.name.startswith(("state.db", "clock.json"))
            and path.suffix != ".tmp"
        }
        # The order of reservations moves on with every one of them, given back or not.
        kept = [table for table in tables(home) if table != "counted_turn"]
        return {table: rows(home, table) for table in kept} | {"files": files}

    def entries(self, name: str = "hub") -> list[Entry]:
        """Everything in a region's log."""
        region = self.hub.region if name == "hub" else self.place(name).region
        return [Entry.from_bytes(opening.content) for opening in region.log.openings()]

    def _open_place(self, name: str) -> Place:
        home = self.homes[name]
        region = self.open_region(name)
        catalogue, catalogue_digest = read_catalogue(home)
        witness_key = NoteKey.from_text(self.agreement.region(name).witness_key)
        layout = self.agreement.update_layout
        seed = sum(name.encode())
        values = np.random.default_rng(seed).normal(size=layout.elements).astype("<f4")
        script = Script(name=name, update=values)
        stop = threading.Event()
        place = Place(
            home=home,
            region=region,
            gateway=None,  # type: ignore[arg-type]  # a line below
            script=script,
            line=Line(self.service, name),
        )
        desk = SiteDesk(
            agreement=self.agreement,
            region=RegionId(name),
            catalogue=catalogue_digest,
            accept=lambda timeout_s: place.script.connect(),
            stop=stop,
        )
        self._stack.callback(desk.dismiss)
        drawn = np.random.default_rng(seed)
        database = self._engine(name)
        place.gateway = Gateway(
            region=region,
            journal=Journal(database),
            models=Models(database),
            spool=Spool(home.state),
            catalogue=catalogue,
            catalogue_digest=catalogue_digest,
            witness=Witness(
                directory=home.state / "witness",
                log_key=NoteKey.from_text(self.agreement.region("hub").log_key),
                name=witness_key.name,
                signer=self.signer(name, "witness"),
                clock=self.clock_of(name),
            ),
            borrow_site=desk.borrow,
            random_bytes=drawn.bytes,
            stop=stop,
        )
        return place

    def _engine(self, name: str) -> Any:
        engine = open_engine(self.homes[name].database_url())
        self._stack.callback(engine.dispose)
        return engine

    def _sign_model(self, model: Path) -> Path:
        """OpenSSF signing takes a second to import; it has a test of its own."""
        self.signed_models.append(model)
        signature = model.with_name(model.name + ".sig")
        signature.write_bytes(b"signed")
        return signature


@contextlib.contextmanager
def opened(template: Template, directory: Path) -> Iterator[World]:
    """A copy of a concluded federation with its hub open and the first rounds open."""
    with World(template, directory) as world:
        yield world


def staged(template: Template, directory: Path, bring: Callable[[World], None]) -> Template:
    """A federation in which something has happened, for tests that begin there."""
    with opened(template, directory) as world:
        bring(world)
        for name in world.agreement.regions():
            assert world.homes[name].path.exists()
        federation = Federation(
            path=template.federation.path,
            homes=dict(world.homes),
            parties=template.federation.parties,
        )
    return Template(founded=template.founded, federation=federation)


def to_evaluating(world: World) -> None:
    """Everybody has sent and the hub has merged; nobody has looked at the candidate yet."""
    for name in world.agreement.lineage(WORLD).contributors:
        world.place(name).turn(WORLD)
    while not (now := world.hub.journal.current_round(WORLD)) or now.state != "evaluating":
        assert advance(world.hub, WORLD)


# ── what tests look at ──


def tables(home: Home) -> list[str]:
    return [row["name"] for row in _select(home, "select name from sqlite_master order by name")]


def rows(home: Home, table: str) -> list[dict[str, Any]]:
    if not table.isidentifier():
        return []
    kind = _select(home, f"select type from sqlite_master where name = '{table}'")
    return _select(home, f"select * from {table}") if kind == [{"type": "table"}] else []


def _select(home: Home, query: str) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(home.state / "state.db")) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(query)]


@contextlib.contextmanager
def refused(
    world: World,
    reason: str,
    *,
    at: str,
    by: str = "hub",
    counterparty: str = "cn",
    rules: tuple[str, ...] = (),
    may_change: tuple[str, ...] = (),
) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """What is done inside is refused and recorded once, by `by`, and changes nothing else.

    `may_change` are tables of its journal that keep what became of the attempt.
    """
    before, recorded = world.remembered(by), world.entries(by)
    with pytest.raises(Refused) as caught:
        yield caught
    entries = world.entries(by)
    (entry,) = entries[len(recorded) :]
    assert (entry.kind, entry.counterparty) == ("refusal", counterparty), entry
    assert entry.refusal is not None
    for said in (caught.value, entry.refusal):
        assert (said.stage, said.reason) == (at, reason), said.detail
        assert set(rules) <= set(said.rules)
        assert said.detail
    after = world.remembered(by)
    changed = {table for table in after if after[table] != before[table]}
    assert changed == set(may_change), changed


# ── fixtures, which each folder's conftest names ──


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    """The four regions, before any agreement."""
    return found(tmp_path_factory.mktemp("founded") / "federation")


@pytest.fixture(scope="session")
def template(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The sample agreement, concluded; nothing has happened yet."""
    return founded.agree(tmp_path_factory.mktemp("template") / "federation")


@pytest.fixture(scope="session")
def evaluating_template(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """The first candidate of `world` waits to be measured."""
    with swift_directory(tmp_path_factory.mktemp("evaluating")) as directory:
        yield staged(template, directory / "federation", to_evaluating)


@pytest.fixture(scope="session")
def released_template(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Template]:
    """The first round of `world` is released; nobody has admitted it yet."""
    with swift_directory(tmp_path_factory.mktemp("released")) as directory:
        yield staged(
            template,
            directory / "federation",
            lambda world: world.run_to(WORLD, 1, "released"),
        )


@pytest.fixture
def evaluating(evaluating_template: Template, tmp_path: Path) -> Iterator[World]:
    """As `evaluating_template` says."""
    with (
        swift_directory(tmp_path) as directory,
        opened(evaluating_template, directory / "federation") as world,
    ):
        yield world


@pytest.fixture
def released(released_template: Template, tmp_path: Path) -> Iterator[World]:
    """As `released_template` says."""
    with (
        swift_directory(tmp_path) as directory,
        opened(released_template, directory / "federation") as world,
    ):
        yield world


@pytest.fixture
def world(template: Template, tmp_path: Path) -> Iterator[World]:
    """The first rounds of both lineages are open."""
    with (
        swift_directory(tmp_path) as directory,
        opened(template, directory / "federation") as world,
    ):
        yield world
