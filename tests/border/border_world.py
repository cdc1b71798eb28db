"""The real hub behind the real border: mutual TLS 1.3 on loopback, certificates as issued.

The issuers' logic is called here directly; the socket in front of it has tests of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from tests.places.founding import Founded
from tests.places.world import World

from ringfence.cli.auditing import verify_home
from ringfence.core.clock import system_clock
from ringfence.core.ids import RegionId
from ringfence.net.border_client import BorderClient
from ringfence.net.border_server import BorderServer
from ringfence.net.border_service import OwnLeaf
from ringfence.net.http_limits import ClientTimeouts, ServerLimits
from ringfence.trust.certificates import LEAF_LIFETIME_S, create_request
from ringfence.trust.encoding import from_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import load_p256, read_passphrase
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor
from ringfence.trust.tls import client_context, load_leaf, peer_verifier, server_context


class Certificates:
    """What the regions' issuers hand out; one leaf for each name, shared by all tests."""

    def __init__(self, founded: Founded) -> None:
        self._federation = founded.federation
        self.leaf = cache(self._leaf)
        self.hub = cache(self._hub)

    @property
    def anchors(self) -> Mapping[RegionId, Anchor]:
        return {
            RegionId(name): Anchor(trust_domain=party.trust_domain, root_der=party.root_der())
            for name, party in self._federation.parties.items()
        }

    def authority(self, region: str, *roles: str) -> Authority:
        home = self._federation.homes[region]
        passphrase = read_passphrase(home.passphrase_source())
        return Authority(
            signer=load_p256(home.keys / "issuer.key", passphrase),
            certificate=from_pem((home.trust / "issuer.pem").read_bytes(), what="issuer"),
            roles=frozenset(roles),
        )

    def client(self) -> ssl.SSLContext:
        """A dialler's context without a certificate."""
        return client_context(hub=self.anchors[RegionId("hub")])

    def _leaf(self, region: str, role: str = "gateway", issued_ago_s: float = 0.0) -> OwnLeaf:
        return self._own(self.client(), region, role, issued_ago_s)

    def _hub(self) -> OwnLeaf:
        return self._own(server_context(anchors=self.anchors), "hub", "coordinator", 0.0)

    def _own(self, context: ssl.SSLContext, region: str, role: str, issued_ago_s: float) -> OwnLeaf:
        key = ec.generate_private_key(ec.SECP256R1())
        identity = SpiffeId(trust_domain=f"{region}.example", role=role)
        chain = issue(
            create_request(key, identity=identity),
            authority=self.authority(region, role),
            now_s=system_clock() - issued_ago_s,
        )
        load_leaf(context, chain_pem=chain, key=key)
        return OwnLeaf(context=context, not_after_s=system_clock() + LEAF_LIFETIME_S)


@dataclass(frozen=True, kw_only=True)
class BorderOf:
    """The border of `world`'s hub, listening."""

    world: World
    certificates: Certificates
    port: int

    @contextlib.contextmanager
    def line(self, region: str = "cn", *, leaf: OwnLeaf | None = None) -> Iterator[BorderClient]:
        """A region's line to the hub, under its gateway's certificate unless another is given."""
        own = leaf or self.certificates.leaf(region)
        verify = peer_verifier(
            anchors=self.certificates.anchors,
            role="coordinator",
            region=RegionId("hub"),
            clock=system_clock,
        )
        with BorderClient(
            "127.0.0.1",
            self.port,
            leaf_source=lambda: own,
            verify=verify,
            timeouts=ClientTimeouts(io_s=10, chunk_s=10),
        ) as client:
            yield client

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A bare TLS connection, for what a client of ours would never send."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        try:
            return context.wrap_socket(raw)
        except OSError:
            raw.close()
            raise


@contextlib.contextmanager
def listening(world: World, certificates: Certificates) -> Iterator[BorderOf]:
    """A border server over the hub; afterwards the hub's log must still verify as a whole."""
    server = BorderServer(
        world.service,
        leaf_source=certificates.hub,
        verify=peer_verifier(
            anchors=certificates.anchors, role="gateway", region=None, clock=system_clock
        ),
        limits=ServerLimits(linger_s=0.1, grace_s=2),
    )
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        starting = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop)
        yield BorderOf(world=world, certificates=certificates, port=starting.result(10))
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    world.hub.region.log.checkpoint()
    verify_home(world.homes["hub"].path, judged=True)


async def _close(server: BorderServer) -> None:
    """Close the server, and end what still waits for peers that hung up."""
    await server.close()
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
