"""A federation in one process: real keys, packs, papers, logs, SQLite and files, no child process.

    cn = world.place("cn")                   # a region's gateway, its site and its line to the hub
    world.run_to(WORLD, 1, "evaluating")     # everybody does what is due, until it is so

A region's site is a script in a thread at the other end of a real site socket.  `place.line` calls
the hub's service directly; `tests.border` puts the real TLS border in between.  Only the clock and
the gateways' randomness are stood in for.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import numpy as np
import pytest

from ringfence.cli.federation import (
    Federation,
    conclude,
    found_federation,
    least_packs,
    write_model,
)
from ringfence.cli.founding import Founding
from ringfence.config import Home, open_home
from ringfence.coordinator.engine import adopt_model
from ringfence.coordinator.hub import Changes, Hub
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.coordinator.publication import Publication
from ringfence.coordinator.rounds import advance, start_lineage
from ringfence.coordinator.service import HubService
from ringfence.core import canonical
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import Catalogue
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.clock import system_clock
from ringfence.core.errors import Refused
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.site_wire import (
    Evaluate,
    Evaluated,
    FromGateway,
    FromSite,
    Hello,
    Rejected,
    Submit,
    Submitted,
    Train,
    from_gateway,
)
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import (
    Budget,
    Gate,
    Lineage,
    Metric,
    Start,
    Target,
    Tensor,
    Terms,
    Training,
)
from ringfence.core.terms import Hub as HubTerms
from ringfence.core.wire import AgreementView, LineageView, LogProof, OfferReply
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Law
from ringfence.crossing.papers import Papers
from ringfence.crossing.region import Region
from ringfence.crossing.registry import read_registry
from ringfence.crossing.spool import Spool
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.journal import Journal
from ringfence.gateway.site_desk import SiteDesk
from ringfence.gateway.witnessing import watch
from ringfence.gateway.worker import take_turn
from ringfence.ledger.log import Log
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.witness import Witness
from ringfence.net.border_errors import INTERNAL, from_status, to_status
from ringfence.net.site_socket import SiteLink
from ringfence.policy.judge import Judge
from ringfence.policy.packs import load_packs
from ringfence.site import frames
from ringfence.site.handover import SEALS
from ringfence.store.sql import open_engine
from ringfence.trust.keys import Ed25519Signer, load_ed25519, read_passphrase
from ringfence.wiring import read_agreement, read_catalogue

WORLD, US_MARKET = LineageId("world"), LineageId("us-market")
MEMBERS = ("cn", "de", "us")
EXAMPLES = 300

FOUNDINGS = tuple(
    Founding(
        id=name,
        jurisdiction=jurisdiction,
        operator=f"{name} operator",
        parent=jurisdiction,
        trust_domain=f"{name}.example",
        hardware="uncontrolled",
        data_classes=classes,
    )
    for name, jurisdiction, classes in (
        ("hub", "EU", ()),
        ("cn", "CN", ("personal", "important", "geographic")),
        ("de", "EU", ("personal",)),
        ("us", "US", ("personal",)),
    )
)
TENSORS = (
    Tensor(name="stem.weight", shape=(5,), dtype="F32", module="stem"),
    Tensor(name="head.weight", shape=(3, 8), dtype="F32", module="head"),
    Tensor(name="head.bias", shape=(3,), dtype="F32", module="head"),
    Tensor(name="norm.shift", shape=(8,), dtype="F32", module="norm"),
)
MODULES = {"stem": "frozen", "head": "federated", "norm": "regional"}


class SettableClock:
    """Stands still unless a test moves it."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


# ── founding: once a session ──


def initial_model(directory: Path, tensors: tuple[Tensor, ...] = TENSORS) -> Digest:
    """Write the initial model of a federation into its directory: small, different numbers."""
    layout = Layout(
        specs=tuple(
            TensorSpec(name=t.name, shape=t.shape, dtype=t.dtype, module=t.module)
            for t in tensors
            if MODULES[t.module] != "regional"
        )
    )
    drawn = np.random.default_rng(7)
    values = {spec.name: drawn.normal(size=spec.shape) for spec in layout.specs}
    return write_model(
        directory / "initial.safetensors",
        layout,
        {name: value.astype(np.float32) for name, value in values.items()},
    )


def sample_terms(federation: Federation, *, initial: Digest, **changes: Any) -> Terms:
    """Two lineages: `world` of everybody under a gate, and `us-market`, which bars China."""
    terms = Terms(
        version=1,
        name="places",
        hub=HubTerms(region="hub", address="127.0.0.1:8443"),
        regions=tuple(federation.parties.values()),
        tensors=TENSORS,
        modules=MODULES,
        training=Training(settings={"lr": 0.5}),
        clip_l2=100.0,
        budget=Budget(updates=4),
        metrics=(
            Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50),
            Metric(name="loss", minimum=0, maximum=10, resolution=0.01, least_cohort=50),
        ),
        lineages=(
            Lineage(
                id="world",
                contributors=MEMBERS,
                recipients=MEMBERS,
                until_round=3,
                quorum=2,
                deadline_s=600,
                start=Start(model=initial),
                gate=Gate(metric="accuracy", most_loss=10, worst_at_least=5),
            ),
            Lineage(
                id="us-market",
                contributors=("de", "us"),
                recipients=("de", "us"),
                until_round=3,
                quorum=2,
                deadline_s=600,
                start=Start(model=initial, branch_of="world"),
                bars=("CN",),
                target=Target(countries=("US",), sae_level=3, model_year=2027),
            ),
        ),
        packs=least_packs(federation.homes["hub"]),
    )
    return msgspec.structs.replace(terms, **changes)


@dataclass(frozen=True, kw_only=True)
class Founded:
    """Regions that have keys and packs, and what never changes however often they are copied."""

    federation: Federation
    now_s: float
    signers: Mapping[tuple[str, str], Ed25519Signer]
    judge: Judge

    def agree(
        self, directory: Path, change: Callable[[Terms], Terms] = lambda terms: terms
    ) -> Template:
        """A copy whose regions have signed an agreement, with sample papers for it."""
        federation = copied(self.federation, directory)
        terms = change(sample_terms(federation, initial=initial_model(directory)))
        initial_model(directory, terms.tensors)
        for founding in FOUNDINGS:
            catalogue = Catalogue(
                region=founding.id,
                jurisdiction=founding.jurisdiction,
                data_classes=founding.data_classes,
                counts={"train": EXAMPLES, "validation": EXAMPLES},
                digest="sha256:" + hashlib.sha256(founding.id.encode()).hexdigest(),
                data="pictures",
            )
            home = federation.homes[founding.id]
            home.catalogue.write_bytes(canonical.to_bytes(catalogue))
        conclude(federation, terms, clock=lambda: self.now_s)
        return Template(founded=self, federation=federation)


def found(directory: Path) -> Founded:
    """Found every region in `directory`."""
    # A little ago: certificates and papers hold from before the first question.
    now_s = float(int(system_clock()) - 60)
    federation = found_federation(directory, FOUNDINGS, clock=lambda: now_s)
    signers = {}
    for name, home in federation.homes.items():
        passphrase = read_passphrase(home.passphrase_source())
        for key in ("statement", "log", "witness", "counsel"):
            signers[name, key] = load_ed25519(home.keys / f"{key}.key", passphrase)
    judge = Judge(packs=load_packs(federation.homes["hub"].packs))
    return Founded(federation=federation, now_s=now_s, signers=signers, judge=judge)


def copied(federation: Federation, directory: Path) -> Federation:
    shutil.copytree(federation.path, directory)
    homes = {name: open_home(directory / "regions" / name) for name in federation.homes}
    return Federation(path=directory, homes=homes, parties=federation.parties)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A concluded federation in which nothing has happened yet; every test gets a copy."""

    founded: Founded
    federation: Federation

    @contextlib.contextmanager
    def opened(self, directory: Path) -> Iterator[World]:
        """A copy with its hub open, lineages started and the first rounds open."""
        federation = copied(self.federation, directory)
        with World(self.founded, federation) as world:
            yield world


# ── the site ──


@dataclass
class Script:
    """What a region's training script does; tests change it, honest unless they do.

    `orders` is what the gateway asked of it, `rejected` what the gateway refused.
    """

    name: str
    update: np.ndarray
    examples: int = 100
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated: dict[str, float] = field(default_factory=lambda: {"accuracy": 50.0})
    evaluated_examples: int = 100
    submit: Callable[[Submit], FromSite] = lambda message: message
    seals: int = SEALS
    orders: list[FromGateway] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    acknowledged: int = 0

    def connect(self) -> SiteLink:
        """A new line with the script at its other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threading.Thread(target=self._run, args=(theirs,), daemon=True).start()
        hello = Hello(code=digest_of("script"), script="train.py", evaluates=True)
        return SiteLink(ours, hello, lock=threading.Lock())

    def _run(self, connection: socket.socket) -> None:
        with connection:
            while (received := frames.receive(connection, from_gateway)) is not None:
                message, descriptors = received
                self.orders.append(message)
                if isinstance(message, Train):
                    self._train(connection, message)
                elif isinstance(message, Evaluate):
                    frames.send(connection, self._evaluate(message))
                elif isinstance(message, Submitted):
                    self.acknowledged += 1
                elif isinstance(message, Rejected):
                    self.rejected.append(message)
                frames.close_all(descriptors)

    def _train(self, connection: socket.socket, order: Train) -> None:
        message = Submit(
            lineage=order.lineage,
            round=order.round,
            base=order.parent,
            state_in=order.state_in,
            state_out=digest_of(f"state of {self.name}: {order.lineage} {order.round}"),
            examples=self.examples,
            metrics=self.metrics,
        )
        memory_fd = os.memfd_create("update", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(memory_fd, self.update.tobytes())
            fcntl.fcntl(memory_fd, fcntl.F_ADD_SEALS, self.seals)
            answer = self.submit(message)
            frames.send(connection, answer, [memory_fd] * isinstance(answer, Submit))
        finally:
            os.close(memory_fd)

    def _evaluate(self, order: Evaluate) -> Evaluated:
        return Evaluated(
            lineage=order.lineage,
            round=order.round,
            candidate=order.candidate,
            examples=self.evaluated_examples,
            metrics=self.evaluated,
        )


def digest_of(text: str) -> str:
    """Some digest, the same for the same text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


# ── the line ──


class Line:
    """A region's border to the hub's service in this process; a `gateway.Border`.

    Errors pass through the same mapping to HTTP and back as on the real border.
    """

    def __init__(self, service: HubService, region: str) -> None:
        self.service = service
        self.region = RegionId(region)
        self.uploads: list[Digest] = []
        self.downloads: list[Digest] = []

    def _ask(self, call: Callable[..., Any], *words: Any, **named: Any) -> Any:
        try:
            return call(self.region, *words, **named)
        except Exception as error:
            status, body = to_status(error)
            if status == INTERNAL:
                raise
            raise from_status(status, body, request="test") from error

    def agreement(self) -> AgreementView:
        return self._ask(self.service.agreement_view)

    def sign_agreement(self, envelope: bytes) -> AgreementView:
        return self._ask(self.service.accept_signature, envelope)

    def lineage(self, lineage: LineageId, *, seen: int, wait_s: int) -> LineageView:
        return self._ask(self.service.view, lineage)

    def snapshot(self, lineage: LineageId) -> bytes:
        return self._ask(self.service.snapshot, lineage)

    def offer(self, envelope: bytes) -> OfferReply:
        return self._ask(self.service.offer, envelope)

    def upload(self, statement: Digest, path: Path, *, chunk: int) -> bytes:
        self.uploads.append(statement)
        return self._ask(self._upload, statement, path.read_bytes(), chunk)

    def _upload(self, region: RegionId, statement: Digest, data: bytes, chunk: int) -> bytes:
        upload = self.service.begin_upload(region, statement, chunk)
        for index in range(chunk, -(-len(data) // CHUNK_BYTES)):
            piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            upload.write_chunk(index, memoryview(piece))
        return upload.finish()

    def download(
        self,
        digest: Digest,
        *,
        chunk: int,
        size_bytes: int,
        sink: Callable[[int, memoryview], None],
    ) -> None:
        self.downloads.append(digest)
        payload = self._ask(self.service.open_payload, digest)
        with os.fdopen(payload.fd, "rb") as file:
            file.seek(chunk * CHUNK_BYTES)
            while piece := file.read(CHUNK_BYTES):
                sink(chunk, memoryview(piece))
                chunk += 1

    def statement(self, digest: Digest) -> bytes:
        return self._ask(self.service.statement, digest)

    def accept(self, envelope: bytes) -> None:
        self._ask(self.service.accept_receipt, envelope)

    def disclosure(self, digest: Digest) -> bytes:
        return self._ask(self.service.disclosure, digest)

    def consistency(self, *, old: int, new: int) -> LogProof:
        return self._ask(self.service.consistency, old=old, new=new)

    def cosign(self, line: str) -> None:
        self._ask(self.service.cosign, line)


# ── the places ──


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
        view = border.lineage(lineage, seen=0, wait_s=0)
        watch(self.gateway, view, border)
        return take_turn(self.gateway, lineage, view, border)

    def grants(self) -> list[str]:
        """State of every grant, in the order in which they were reserved."""
        return [row["state"] for row in rows(self.home, "gateway_grants")]


class World:
    """A copy of a federation with its hub open; regions open when they are first asked for."""

    def __init__(self, founded: Founded, federation: Federation) -> None:
        self.founded = founded
        self.homes = federation.homes
        self.path = federation.path
        self.agreement: Agreement = read_agreement(self.homes["hub"])
        self.clock = SettableClock(founded.now_s + 60)
        self.signed_models: list[Path] = []
        self._stack = contextlib.ExitStack()
        self._places: dict[str, Place] = {}

    def __enter__(self) -> World:
        self.start_hub()
        adopt_model(self.hub, self.path / "initial.safetensors")
        for terms in self.agreement.terms.lineages:
            start_lineage(self.hub, terms)
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
        self.hub = Hub(
            region=region,
            journal=HubJournal(self._engine("hub")),
            files=self.homes["hub"].state,
            spool=Spool(self.homes["hub"].state),
            sign_model=self._sign_model,
            publication=Publication(region.log, self.witness_keys()),
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
        law = Law(
            region=RegionId(name),
            agreement=self.agreement,
            judge=self.founded.judge,
            approvals=Papers(home.approvals, self.agreement).read,
            registry=lambda: read_registry(home.facts),
            clock=self.clock,
        )
        origin = NoteKey.from_text(self.agreement.region(name).log_key).name
        log = Log(home.log, origin=origin, signer=self.signer(name, "log"))
        self._stack.enter_context(log)
        return Region(law=law, statement_signer=self.signer(name), log=log)

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

    def remembered(self, name: str = "hub") -> object:
        """All that a place remembers besides its log: rows of its journal, and its files."""
        home = self.homes[name]
        files = {
            str(path.relative_to(home.state)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(home.state.rglob("*"))
            if path.is_file() and not path.name.startswith("state.db")
        }
        return {table: rows(home, table) for table in tables(home)} | {"files": files}

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
        place.gateway = Gateway(
            region=region,
            journal=Journal(self._engine(name)),
            spool=Spool(home.state),
            catalogue=catalogue,
            catalogue_digest=catalogue_digest,
            witness=Witness(
                directory=home.state / "witness",
                log_key=NoteKey.from_text(self.agreement.region("hub").log_key),
                name=witness_key.name,
                signer=self.signer(name, "witness"),
                clock=self.clock,
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
) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """What is done inside is refused and recorded once, by `by`, and changes nothing else."""
    before, recorded = world.remembered(by), world.entries(by)
    with pytest.raises(Refused) as caught:
        yield caught
    entries = world.entries(by)
    (entry,) = entries[len(recorded) :]
    assert (entry.kind, entry.counterparty) == ("refusal", counterparty)
    assert entry.refusal is not None
    for said in (caught.value, entry.refusal):
        assert (said.stage, said.reason) == (at, reason), said.detail
        assert set(rules) <= set(said.rules)
        assert said.detail
    assert world.remembered(by) == before


# ── fixtures, which each folder's conftest names ──


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    """The four regions, before any agreement."""
    return found(tmp_path_factory.mktemp("founded") / "federation")


@pytest.fixture(scope="session")
def template(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The sample agreement, concluded; nothing has happened yet."""
    return founded.agree(tmp_path_factory.mktemp("template") / "federation")


@pytest.fixture
def world(template: Template, tmp_path: Path) -> Iterator[World]:
    """The first rounds of both lineages are open."""
    with template.opened(tmp_path / "federation") as world:
        yield world
