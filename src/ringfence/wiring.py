"""Puts everything together: the one place where rooms, places and adapters meet.

run_issuer(home, stop); run_gateway(home, stop); run_coordinator(home, initial)
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import threading
from collections.abc import Callable
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
from ringfence.core.agreement import Agreement
from ringfence.core.clock import system_clock
from ringfence.core.errors import ConfigError
from ringfence.core.ids import LineageId, RegionId
from ringfence.core.terms import Hub as HubTerms
from ringfence.crossing.region import Region
from ringfence.crossing.signatures import keep_signatures
from ringfence.crossing.spool import Spool
from ringfence.gateway import worker
from ringfence.gateway.gateway import Gateway
from ringfence.gateway.journal import Journal as GatewayJournal
from ringfence.gateway.models import Models
from ringfence.gateway.site_desk import SiteDesk
from ringfence.ledger.notes import NoteKey
from ringfence.ledger.witness import Witness
from ringfence.net.border_client import BorderClient
from ringfence.net.border_link import Traffic
from ringfence.net.border_server import BorderServer, serve
from ringfence.net.border_service import OwnLeaf
from ringfence.net.issuer_socket import IssuerSocket, ask_issuer
from ringfence.net.site_socket import SiteListener
from ringfence.opening import agreed_catalogue, open_region
from ringfence.store.sql import open_engine
from ringfence.trust.encoding import from_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import load_ed25519, load_p256, read_passphrase
from ringfence.trust.leaf import LeafKeeper
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor
from ringfence.trust.tls import peer_verifier

_log = logging.getLogger(__name__)

GATEWAY = "gateway"
COORDINATOR = "coordinator"

_LOOK_S = 0.5
"""How often the main thread looks whether the gateway is to stop."""


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


def run_gateway(home: Home, stop: threading.Event) -> Traffic:
    """Follow every lineage of this region until its last round has ended, or `stop` is set.

    Returns what crossed the border meanwhile.
    """
    passphrase = read_passphrase(home.passphrase_source())
    with contextlib.ExitStack() as opened:
        region = opened.enter_context(open_region(home, passphrase, process=GATEWAY))
        agreement = region.agreement
        catalogue, catalogue_digest = agreed_catalogue(home, agreement)
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
