"""Puts everything together: the one place where rooms, places and adapters meet.

with open_region(home) as opened: ...        # keys, agreement, law, log of one region
run_issuer(home, stop); run_gateway(home, stop); run_coordinator(home, initial)
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ringfence.config import Home
from ringfence.coordinator.engine import Engine, adopt_model
from ringfence.coordinator.hub import Changes, Hub
from ringfence.coordinator.inbox import Inbox
from ringfence.coordinator.journal import Journal as HubJournal
from ringfence.coordinator.outbox import Outbox
from ringfence.coordinator.publication import Publication
from ringfence.coordinator.service import HubService
from ringfence.coordinator.signatures import Signatures
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.catalogue import Catalogue, parse_catalogue
from ringfence.core.clock import system_clock, system_steady
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.ids import Digest, LineageId, RegionId
from ringfence.core.terms import Hub as HubTerms
from ringfence.crossing import docket
from ringfence.crossing.counters import CounterLedger
from ringfence.crossing.docket import Docket
from ringfence.crossing.exports import Catalogued
from ringfence.crossing.kept_time import Clocks
from ringfence.crossing.law import Law
from ringfence.crossing.papers import Papers
from ringfence.crossing.region import Region
from ringfence.crossing.registry import read_registry
from ringfence.crossing.revoking import keep_in, recorded
from ringfence.crossing.signatures import keep_signatures
from ringfence.crossing.spool import Spool
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.gateway import worker
from ringfence.gateway.gateway import Gateway
from ringfence.gateway.journal import Journal as GatewayJournal
from ringfence.gateway.models import Models
from ringfence.gateway.site_desk import SiteDesk
from ringfence.ledger.log import Log
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.reader import LogReader
from ringfence.ledger.witness import Witness
from ringfence.net.border_client import BorderClient
from ringfence.net.border_link import Traffic
from ringfence.net.border_server import BorderServer, serve
from ringfence.net.border_service import OwnLeaf
from ringfence.net.issuer_socket import IssuerSocket, ask_issuer
from ringfence.net.site_socket import SiteListener
from ringfence.policy.approvals import ApprovalId
from ringfence.policy.judge import Judge
from ringfence.policy.packs import load_packs, require_rules
from ringfence.store.sql import open_engine
from ringfence.trust.encoding import from_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import load_ed25519, load_p256, read_passphrase
from ringfence.trust.leaf import LeafKeeper
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor
from ringfence.trust.tls import peer_verifier

_log = logging.getLogger(__name__)

AGREEMENT_NAME = "federation.toml"
GATEWAY = "gateway"
COORDINATOR = "coordinator"

_BOOT = Path("/proc/sys/kernel/random/boot_id")

_LOOK_S = 0.5
"""How often the main thread looks whether the gateway is to stop."""


def read_agreement(home: Home) -> Agreement:
    """The agreement that this region holds; raises `ConfigError` when it holds none."""
    path = home.agreement / AGREEMENT_NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); sign one with 'ringfence agree'"
        ) from error
    return parse_agreement_of(path, data)


def parse_agreement_of(path: Path, data: bytes) -> Agreement:
    """Parse what `path` holds; raises `ConfigError`, which names it, when it is no agreement."""
    try:
        return parse_agreement(data)
    except (ConfigError, FormatError) as error:
        raise ConfigError(f"{path}: {error}; correct the agreement") from error


def open_papers(home: Home, agreement: Agreement, log: Log | None = None) -> Papers:
    """The papers that lie here, without what the region's log says was revoked.

    With `log`, whose writer we are, a revocation that is new is recorded there.
    """
    if log is None:
        reader = LogReader(home.log)
        known = reader.openings(0, reader.durable_size) if home.log.exists() else ()
        return Papers(home.approvals, agreement, recorded=recorded(known))
    return Papers(
        home.approvals,
        agreement,
        recorded=recorded(log.openings(0, log.size)),
        keep=keep_in(log, home.region, system_clock),
    )


def revoked_papers(home: Home, agreement: Agreement) -> frozenset[ApprovalId]:
    """Ids of all papers that were revoked: by a signature, or in the region's own list.

    Raises: ConfigError when a file that says so does not hold.
    """
    listed = map(ApprovalId, read_registry(home.facts).revoked)
    return open_papers(home, agreement).revoked().union(listed)


def open_law(
    home: Home, agreement: Agreement, papers: Papers | None = None, *, process: str = ""
) -> Law:
    """This region's packs, which hold at least what the agreement pins, its papers and registry.

    `process` names who counts exports; without one the ledger is only read, if there is any.
    Raises: ConfigError when a pack is missing, does not validate, or lacks a pinned rule.
    """
    judge = Judge(packs=load_packs(home.packs))
    packs = {pack.name: pack for pack in judge.packs}
    for least in agreement.terms.packs:
        if least.name not in packs:
            raise ConfigError(f"{home.packs}: the agreement asks for a pack {least.name!r}")
        require_rules(packs[least.name], least.rules)
    return Law(
        region=home.region,
        agreement=agreement,
        judge=judge,
        approvals=(papers or open_papers(home, agreement)).read,
        registry=lambda: read_registry(home.facts),
        clock=system_clock,
        ledger=_ledger(home, process),
        catalogue=_catalogued(home, agreement),
    )


def machine_clocks() -> Clocks:
    """This machine's clocks; if it does not say which start it runs since, one of our own."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = os.urandom(16).hex()
    return Clocks(wall=system_clock, steady=system_steady, boot=boot)


def _ledger(home: Home, process: str) -> CounterLedger | None:
    """Whoever only looks makes no database where there is none."""
    if not process and not home.settings.database and not home.state_file.exists():
        return None
    return CounterLedger(open_engine(home.database_url()), process=process)


def _catalogued(home: Home, agreement: Agreement) -> Catalogued | None:
    """The region's own data, or None where nothing trains."""
    if not home.catalogue.exists():
        return None
    catalogue, digest = _agreed_catalogue(home, agreement)
    return Catalogued(catalogue=catalogue, digest=digest)


@contextlib.contextmanager
def open_region(
    home: Home, passphrase: bytes, agreement: Agreement | None = None, *, process: str = ""
) -> Iterator[Region]:
    """What this region brings to every crossing; holds the log's writer lock while it is open.

    `agreement` is the one in force unless another is given.  What `process` had reserved in the
    counters when it last died is given back: nothing of it has left.
    Raises: ConfigError when the agreement does not name this region's own keys.
    """
    agreement = agreement or read_agreement(home)
    terms = agreement.region(home.region)
    statement_signer = load_ed25519(home.keys / "statement.key", passphrase)
    log_signer = load_ed25519(home.keys / "log.key", passphrase)
    log_key = NoteKey.from_text(terms.log_key)
    for what, agreed, own in (
        ("statement", terms.statement_public_key(), statement_signer.public_key),
        ("log", log_key.public_key, log_signer.public_key),
    ):
        if agreed != own:
            raise ConfigError(
                f"{home.path}: the agreement names another {what} key for {home.region}; "
                "restore the key, or have the regions sign an agreement with the new one"
            )
    with Log(home.log, origin=log_key.name, signer=log_signer) as log:
        papers = open_papers(home, agreement, log)
        law = open_law(home, agreement, papers, process=process)
        # Behind the lock: nobody else counts under this name.
        if law.ledger is not None and process:
            law.ledger.release_all()
        timekeeper = Timekeeper(
            machine_clocks(),
            path=home.clock,
            log=log,
            region=home.region,
            witnesses={
                NoteKey.from_text(agreement.region(name).witness_key).name: name
                for name in agreement.regions()
                if name not in (home.region, agreement.hub)
            },
        )
        try:
            yield Region(
                law=replace(law, require_time=timekeeper.require),
                statement_signer=statement_signer,
                log=log,
                timekeeper=timekeeper,
                docket=Docket(
                    log,
                    home.region,
                    system_clock,
                    papers.envelope_of,
                    recorded=docket.recorded(log.openings(0, log.size)),
                ),
            )
        finally:
            # What was recorded since the last checkpoint can be proved from now on.
            log.checkpoint()


# ── issuer ──


def run_issuer(home: Home, stop: threading.Event) -> None:
    """Hand out leaf certificates over the region's Unix socket until `stop` is set."""
    passphrase = read_passphrase(home.passphrase_source())
    authority = Authority(
        signer=load_p256(home.keys / "issuer.key", passphrase),
        certificate=from_pem((home.trust / "issuer.pem").read_bytes(), what="issuer certificate"),
        roles=frozenset({GATEWAY, COORDINATOR}),
        lifetime_s=home.settings.leaf_s,
    )

    def answer(request: bytes) -> bytes:
        return issue(request, authority=authority, now_s=system_clock())

    uid = frozenset({os.geteuid()})
    with IssuerSocket(home.issuer_socket, issue=answer, allowed_uids=uid) as issuer:
        issuer.serve(stop)


def anchors_of(agreement: Agreement) -> dict[RegionId, Anchor]:
    """The roots that the agreement names, by region."""
    return {
        region: Anchor(
            trust_domain=agreement.region(region).trust_domain,
            root_der=agreement.region(region).root_der(),
        )
        for region in agreement.regions()
    }


def leaf_keeper(home: Home, agreement: Agreement, role: str) -> LeafKeeper:
    """The short-lived certificate of one process of this region."""
    identity = SpiffeId(trust_domain=agreement.region(home.region).trust_domain, role=role)
    return LeafKeeper(
        identity=identity,
        anchors=anchors_of(agreement),
        hub=agreement.hub,
        ask_issuer=lambda request: ask_issuer(home.issuer_socket, request, issuer_uid=os.geteuid()),
        clock=system_clock,
    )


# ── gateway ──


def border_client(agreement: Agreement, keeper: LeafKeeper) -> BorderClient:
    """A line to the hub; each thread needs its own."""
    host, port = agreement.terms.hub.host_and_port()
    verify = peer_verifier(
        anchors=anchors_of(agreement), role=COORDINATOR, region=agreement.hub, clock=system_clock
    )

    def leaf() -> OwnLeaf:
        return OwnLeaf(context=keeper.client_context(), not_after_s=keeper.not_after_s)

    return BorderClient(host, port, leaf_source=leaf, verify=verify)


def read_catalogue(home: Home) -> tuple[Catalogue, Digest]:
    """The catalogue of this region's data; raises `ConfigError` when it is another region's."""
    try:
        catalogue, digest = parse_catalogue(home.catalogue.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{home.catalogue}: cannot be read ({error.strerror}); write the region's catalogue"
        ) from error
    except FormatError as error:
        raise ConfigError(f"{home.catalogue}: {error}; correct the catalogue") from error
    if catalogue.region != home.region:
        raise ConfigError(f"{home.catalogue}: is of region {catalogue.region}, not {home.region}")
    return catalogue, digest


def _agreed_catalogue(home: Home, agreement: Agreement) -> tuple[Catalogue, Digest]:
    """As `read_catalogue`, of data that the law is asked about: by the agreement's classes.

    Raises: ConfigError when the catalogue has data of a class, or of a place, that was not agreed.
    """
    catalogue, digest = read_catalogue(home)
    party = agreement.region(home.region)
    if catalogue.jurisdiction != party.jurisdiction:
        raise ConfigError(
            f"{home.catalogue}: expected data of {party.jurisdiction}, as the agreement says of "
            f"{party.id}, got {catalogue.jurisdiction}; correct it, or sign another agreement"
        )
    if more := sorted(set(catalogue.data_classes) - set(party.data_classes)):
        raise ConfigError(
            f"{home.catalogue}: expected data of the classes {sorted(party.data_classes)}, as the "
            f"agreement says of {party.id}, got {more} as well; the law would not be asked about "
            "them: leave those data out, or sign an agreement that names their class"
        )
    return catalogue, digest


def run_gateway(home: Home, stop: threading.Event) -> Traffic:
    """Follow every lineage of this region until its last round has ended, or `stop` is set.

    Returns what crossed the border meanwhile.
    """
    passphrase = read_passphrase(home.passphrase_source())
    with contextlib.ExitStack() as opened:
        region = opened.enter_context(open_region(home, passphrase, process=GATEWAY))
        agreement = region.agreement
        catalogue, catalogue_digest = _agreed_catalogue(home, agreement)
        database = open_engine(home.database_url())
        journal = GatewayJournal(database)
        journal.spend_orphans()
        keeper = opened.enter_context(leaf_keeper(home, agreement, GATEWAY))
        listener = opened.enter_context(
            SiteListener(home.site_socket, site_uid=home.settings.site_uid)
        )
        desk = SiteDesk(
            agreement=agreement,
            region=region.id,
            catalogue=catalogue_digest,
            accept=lambda timeout_s: listener.accept(timeout_s=timeout_s),
            stop=stop,
        )
        gateway = Gateway(
            region=region,
            journal=journal,
            models=Models(database),
            spool=Spool(home.state),
            catalogue=catalogue,
            catalogue_digest=catalogue_digest,
            witness=_witness(home, agreement, passphrase),
            borrow_site=desk.borrow,
            random_bytes=os.urandom,
            stop=stop,
        )
        lines: list[BorderClient] = []

        def line() -> BorderClient:
            lines.append(border_client(agreement, keeper))
            return lines[-1]

        with line() as border:
            signatures = worker.join(gateway, border, pause=_pause(stop))
        keep_signatures(home.agreement, agreement, signatures)
        _keep_what_is_loaded()
        _follow_all(gateway, line, _pause(stop), hang_up=desk.hang_up)
        if not stop.is_set():
            desk.dismiss()
        return Traffic(
            sent_bytes=sum(each.traffic.sent_bytes for each in lines),
            received_bytes=sum(each.traffic.received_bytes for each in lines),
        )


def _witness(home: Home, agreement: Agreement, passphrase: bytes) -> Witness:
    signer = load_ed25519(home.keys / "witness.key", passphrase)
    name = NoteKey.from_text(agreement.region(home.region).witness_key).name
    return Witness(
        directory=home.state / "witness",
        log_key=NoteKey.from_text(agreement.region(agreement.hub).log_key),
        name=name,
        signer=signer,
        clock=system_clock,
    )


def _follow_all(
    gateway: Gateway,
    line: Callable[[], BorderClient],
    pause: Callable[[int], None],
    *,
    hang_up: Callable[[], None],
) -> None:
    """One thread and one connection a lineage; the first fault stops them all and travels up."""
    faults: list[BaseException] = []

    def follow(lineage: LineageId) -> None:
        try:
            with line() as border:
                worker.follow(gateway, lineage, border, pause=pause)
        except BaseException as fault:  # noqa: BLE001 (handed to the main thread below)
            faults.append(fault)
            gateway.stop.set()

    lineages = gateway.region.agreement.lineages_of(gateway.region.id)
    threads = [
        threading.Thread(target=follow, args=(lineage,), name=f"lineage-{lineage}")
        for lineage in lineages
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_S)
            if gateway.stop.is_set():
                hang_up()  # training takes hours; nobody waits for its end
    if faults:
        raise faults[0]


def _pause(stop: threading.Event) -> Callable[[int], None]:
    """Wait before attempt n: at most 0.25 s, then twice as long each time, never above 10 s."""
    draw = random.SystemRandom()

    def pause(failures: int) -> None:
        stop.wait(draw.random() * min(10.0, 0.25 * 2 ** min(failures - 1, 10)))

    return pause


# ── coordinator ──


def run_coordinator(
    home: Home,
    *,
    initial: tuple[Path, ...] = (),
    listen: str | None = None,
) -> None:
    """Serve the border and advance every lineage until SIGTERM.  Call from the main thread.

    `listen` is where to listen (`host:port`) when that is not the agreed address: behind another
    address of the same machine, a forwarded port or a proxy that passes TLS through.
    """
    passphrase = read_passphrase(home.passphrase_source())
    stop = threading.Event()
    with contextlib.ExitStack() as opened:
        region = opened.enter_context(open_region(home, passphrase, process=COORDINATOR))
        agreement = region.agreement
        if agreement.hub != region.id:
            raise ConfigError(
                f"{home.path}: the coordinator runs in region {agreement.hub}, not {region.id}"
            )
        address = agreement.terms.hub.address if listen is None else listen
        host, port = HubTerms(region=region.id, address=address).host_and_port()
        hub = _hub(home, region, passphrase)
        for path in initial:
            adopt_model(hub, path)
        keeper = opened.enter_context(leaf_keeper(home, agreement, COORDINATOR))
        engine = Engine(
            hub,
            stop,
            keep_signatures=lambda each: keep_signatures(home.agreement, agreement, each),
        )
        opened.callback(engine.join)
        opened.callback(stop.set)
        _keep_what_is_loaded()
        # The rounds start once SIGTERM ends the server in order: that is how their fault ends it.
        serve(
            _border_server(hub, keeper), host=host, port=port, on_ready=lambda _port: engine.start()
        )
        engine.raise_fault()


def _keep_what_is_loaded() -> None:
    """Modules and set-up stay to the end: the collector need not walk them again and again."""
    gc.collect()
    gc.freeze()


def _hub(home: Home, region: Region, passphrase: bytes) -> Hub:
    agreement = region.agreement
    witnesses = tuple(
        NoteKey.from_text(agreement.region(name).witness_key)
        for name in agreement.regions()
        if name != agreement.hub
    )
    database = open_engine(home.database_url())
    return Hub(
        region=region,
        journal=HubJournal(database),
        inbox=Inbox(database),
        outbox=Outbox(database),
        signatures=Signatures(database),
        files=home.state,
        spool=Spool(home.state),
        sign_model=_model_signer(home, passphrase),
        publication=Publication(region.log, witnesses, timekeeper=region.timekeeper),
        changes=Changes(start=int(system_clock() * 1000)),
    )


def _model_signer(home: Home, passphrase: bytes) -> Callable[[Path], Path]:
    from ringfence.coordinator.model_signing import sign_model  # the hub's extra, and only its

    key = home.keys / "release.key"
    return lambda model: sign_model(model, private_key=key, passphrase=passphrase)


def _border_server(hub: Hub, keeper: LeafKeeper) -> BorderServer:
    anchors = anchors_of(hub.region.agreement)
    verify = peer_verifier(anchors=anchors, role=GATEWAY, region=None, clock=system_clock)

    def leaf() -> OwnLeaf:
        return OwnLeaf(context=keeper.server_context(), not_after_s=keeper.not_after_s)

    return BorderServer(HubService(hub), leaf_source=leaf, verify=verify)
