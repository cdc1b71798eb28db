"""Leaves that are renewed at half of their life while connections go on."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.trust.trust_world import CN, EU, Region, World, meet, new_region

from ringfence.core.errors import BorderDownError
from ringfence.trust.certificates import create_request, issue_leaf
from ringfence.trust.encoding import from_der, to_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.leaf import RETRY_FIRST_S, RETRY_MAX_S, LeafKeeper
from ringfence.trust.names import SpiffeId
from ringfence.trust.tls import client_context, verify_peer

HOUR_S = 3600.0


class Hands:
    """A clock that stands still until a test moves it."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Switch:
    """A real issuer that a test may stop, and that counts how often it was asked."""

    def __init__(self, authority: Authority, clock: Callable[[], float]) -> None:
        self.up = True
        self.asked = 0
        self._authority = authority
        self._clock = clock

    def __call__(self, request_pem: bytes) -> bytes:
        self.asked += 1
        if not self.up:
            raise BorderDownError("issuer at run/issuer.sock: no answer")
        return issue(request_pem, authority=self._authority, now_s=self._clock())


def _keeper(
    world: World,
    region: Region,
    role: str,
    clock: Callable[[], float],
    ask: Callable[[bytes], bytes] | None = None,
) -> LeafKeeper:
    ask = ask or Switch(region.authority(role), clock)
    return LeafKeeper(
        identity=SpiffeId(trust_domain=region.domain, role=role),
        anchors=world.anchors,
        hub=EU,
        ask_issuer=ask,
        clock=clock,
    )


@pytest.fixture
def old_world() -> World:
    """Two regions made five hours ago, so that a clock may start in the past."""
    five_hours_ago_s = time.time() - 5 * HOUR_S
    return World(
        eu=new_region(EU, now_s=five_hours_ago_s), cn=new_region(CN, now_s=five_hours_ago_s)
    )


def test_leaf_is_renewed_at_half_of_its_life_and_not_before(world: World) -> None:
    # given a keeper that has just got a leaf, four hours from notBefore to notAfter
    clock = Hands(float(int(time.time())))
    ask = Switch(world.cn.authority("gateway"), clock)
    keeper = _keeper(world, world.cn, "gateway", clock, ask)
    keeper.renew_if_due()
    first, first_end_s = keeper.client_context(), keeper.not_after_s
    assert first_end_s == clock.now_s - 60 + 4 * HOUR_S
    # when the clock stands a second before half of that, and then at half
    clock.now_s += 2 * HOUR_S - 60 - 1
    pause_s = keeper.renew_if_due()
    early = keeper.client_context()
    clock.now_s += 1
    keeper.renew_if_due()
    # then only the second look brought a new leaf, and the listener's context stayed the same
    assert pause_s == 1
    assert early is first
    assert ask.asked == 2
    assert keeper.client_context() is not first
    assert keeper.not_after_s == first_end_s + 2 * HOUR_S - 60
    assert keeper.server_context() is keeper.server_context()


def test_keeper_never_sleeps_so_long_that_a_woken_machine_misses_its_leafs_end(
    world: World,
) -> None:
    # given a fresh leaf, due for renewal in two hours
    clock = Hands(time.time())
    keeper = _keeper(world, world.cn, "gateway", clock)
    # when the keeper says how long to sleep, with a new leaf and with the same
    # then it is a minute at most
    assert keeper.renew_if_due() == RETRY_MAX_S
    assert keeper.renew_if_due() == RETRY_MAX_S


def test_a_clock_that_was_set_back_brings_a_leaf_that_is_valid_now(world: World) -> None:
    # given a leaf
    clock = Hands(time.time() - 600)
    authority = new_region(CN, now_s=clock.now_s - HOUR_S)
    anchors = World(eu=world.eu, cn=authority)
    keeper = _keeper(anchors, authority, "gateway", clock)
    keeper.renew_if_due()
    # when the clock is set to before its notBefore
    clock.now_s -= 120
    with pytest.raises(BorderDownError):
        keeper.client_context()
    keeper.renew_if_due()
    # then a valid one takes its place
    assert keeper.not_after_s == int(clock.now_s) - 60 + 4 * HOUR_S


def test_transfer_goes_on_over_a_renewal_of_both_ends(old_world: World) -> None:
    # given keepers whose leaves are two hours old, and a transfer half way between them
    clock = Hands(time.time() - 2 * HOUR_S)
    hub = _keeper(old_world, old_world.eu, "coordinator", clock)
    gateway = _keeper(old_world, old_world.cn, "gateway", clock)
    hub.renew_if_due()
    gateway.renew_if_due()
    body = os.urandom(8 << 20)
    half, renewed = threading.Event(), threading.Event()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        received = pool.submit(_receive, listener, hub.server_context(), len(body))
        raw = socket.create_connection(listener.getsockname()[:2], timeout=10)
        sent = pool.submit(_send_halves, raw, gateway.client_context(), body, half, renewed)
        assert half.wait(10)
        old_end_s = gateway.not_after_s
        # when both ends renew, and a new connection is made meanwhile
        clock.now_s = time.time()
        hub.renew_if_due()
        gateway.renew_if_due()
        server, client = meet(
            hub.server_context(), gateway.client_context(), anchors=old_world.anchors
        )
        renewed.set()
        sent.result(timeout=10)
        data, peer_end_s = received.result(timeout=10)
    # then the transfer came through whole under the old leaf, and new connections show new ones
    assert data == body
    assert peer_end_s == old_end_s < gateway.not_after_s
    assert (server.error, client.error) == (None, None)
    assert server.peer.not_after_s == gateway.not_after_s
    assert client.peer.not_after_s == hub.not_after_s


def _send_halves(
    raw: socket.socket,
    context: ssl.SSLContext,
    body: bytes,
    half: threading.Event,
    renewed: threading.Event,
) -> None:
    with context.wrap_socket(raw) as connection:
        connection.sendall(body[: len(body) // 2])
        half.set()
        assert renewed.wait(10)
        connection.sendall(body[len(body) // 2 :])


def _receive(
    listener: socket.socket, context: ssl.SSLContext, size_bytes: int
) -> tuple[bytes, float]:
    """That many bytes of one connection, and the end of the leaf that it shows after the last."""
    raw, _ = listener.accept()
    raw.settimeout(10)
    data = bytearray()
    with context.wrap_socket(raw, server_side=True) as connection:
        while len(data) < size_bytes:
            data += connection.recv(1 << 16)
        leaf = from_der(connection.getpeercert(binary_form=True), what="leaf")
        return bytes(data), leaf.not_valid_after_utc.timestamp()


def test_handshakes_never_fail_while_leaves_change_under_them(world: World) -> None:
    # given keepers whose leaves are due again as soon as they are there
    now = time.time
    authority = replace(world.eu.authority("coordinator"), lifetime_s=119)
    hub = _keeper(world, world.eu, "coordinator", now, Switch(authority, now))
    gateway = _keeper(world, world.cn, "gateway", now)
    hub.renew_if_due()
    gateway.renew_if_due()
    context, first_end_s = hub.server_context(), hub.not_after_s
    stop = threading.Event()
    renewals = threading.Thread(target=_renew_until, args=(hub, stop))
    renewals.start()
    # when gateways connect all the while
    try:
        meetings = [
            meet(context, gateway.client_context(), anchors=world.anchors) for _ in range(100)
        ]
    finally:
        stop.set()
        renewals.join()
    # then every handshake succeeds
    assert [end.error for ends in meetings for end in ends] == [None] * 200
    assert hub.not_after_s >= first_end_s


def _renew_until(keeper: LeafKeeper, stop: threading.Event) -> None:
    while not stop.is_set():
        keeper.renew_if_due()


def test_issuer_that_is_down_is_asked_with_growing_pauses(world: World) -> None:
    # given a keeper and an issuer that is down
    clock = Hands(time.time())
    ask = Switch(world.cn.authority("gateway"), clock)
    ask.up = False
    keeper = _keeper(world, world.cn, "gateway", clock, ask)
    # when it is asked again and again
    pauses_s = [keeper.renew_if_due() for _ in range(8)]
    # then the pauses double up to a minute, and begin anew once it has answered
    assert pauses_s == [1, 2, 4, 8, 16, 32, 60, 60]
    ask.up = True
    keeper.renew_if_due()
    ask.up = False
    clock.now_s += 3 * HOUR_S
    assert keeper.renew_if_due() == RETRY_FIRST_S


def test_leaf_stays_in_use_until_its_end_while_the_issuer_is_down(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    # given a leaf and an issuer that went down
    clock = Hands(time.time())
    ask = Switch(world.cn.authority("gateway"), clock)
    keeper = _keeper(world, world.cn, "gateway", clock, ask)
    keeper.renew_if_due()
    first = keeper.client_context()
    ask.up = False
    # when half of its life is over, and then all of it
    clock.now_s = keeper.not_after_s - 1
    with caplog.at_level(logging.WARNING):
        keeper.renew_if_due()
    still = keeper.client_context()
    clock.now_s += 1
    # then it served to its last second and not longer, and the error says why
    assert still is first
    assert "leaf not renewed" in caplog.text
    with pytest.raises(BorderDownError, match=r"issuer at run/issuer\.sock: no answer"):
        keeper.client_context()


def test_listener_without_a_leaf_refuses_every_handshake(world: World) -> None:
    # given a hub whose issuer was never there
    clock = Hands(time.time())
    ask = Switch(world.eu.authority("coordinator"), clock)
    ask.up = False
    hub = _keeper(world, world.eu, "coordinator", clock, ask)
    hub.renew_if_due()
    # when a gateway dials it, and again after the issuer has come up
    server, client = meet(hub.server_context(), world.gateway(), anchors=world.anchors)
    ask.up = True
    hub.renew_if_due()
    later_server, later_client = meet(hub.server_context(), world.gateway(), anchors=world.anchors)
    # then the first is refused, and the second goes through the same context
    assert isinstance(server.error, ssl.SSLError)
    assert "INTERNAL_ERROR" in str(client.error)
    assert (later_server.error, later_client.error) == (None, None)


def test_listener_demands_as_much_with_a_leaf_of_its_keeper(world: World) -> None:
    # given a hub that takes its leaf from a keeper
    hub = _keeper(world, world.eu, "coordinator", time.time)
    hub.renew_if_due()
    context = hub.server_context()
    # when somebody without a certificate and a stranger dial it, and then a gateway
    nobody, _ = meet(context, client_context(hub=world.eu.anchor), anchors=world.anchors)
    stranger = world.gateway(new_region(CN).leaf("gateway"))
    unknown, _ = meet(context, stranger, anchors=world.anchors)
    _, known = meet(context, world.gateway(), anchors=world.anchors)
    # then the first two are refused, and the third gets no ticket
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(nobody.error)
    assert "CERTIFICATE_VERIFY_FAILED" in str(unknown.error)
    assert known.read == b"welcome"
    assert known.ticket is False


def test_keeper_takes_no_leaf_that_peers_would_refuse(world: World) -> None:
    # given issuers that answer wrongly
    clock = Hands(time.time())
    other_key = create_request(
        ec.generate_private_key(ec.SECP256R1()),
        identity=SpiffeId(trust_domain="cn.example", role="gateway"),
    )
    stranger = new_region(CN)
    right = partial(issue, authority=world.cn.authority("gateway"), now_s=clock.now_s)

    def other_role(request_pem: bytes) -> bytes:
        key = x509.load_pem_x509_csr(request_pem).public_key()
        leaf = issue_leaf(
            world.cn.issuer_signer,
            world.cn.issuer,
            public_key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            identity=SpiffeId(trust_domain="cn.example", role="prober"),
            now_s=clock.now_s,
        )
        return to_pem(leaf, world.cn.issuer)

    for answer, reason in (
        (lambda _: right(other_key), "for another key"),
        (
            partial(issue, authority=stranger.authority("gateway"), now_s=clock.now_s),
            "does not chain to the root",
        ),
        (
            partial(issue, authority=world.cn.authority("gateway"), now_s=clock.now_s + 2 * HOUR_S),
            "set the clock",
        ),
        (lambda pem: right(pem)[:-40], "does not chain to the root"),
        (lambda pem: right(pem)[:40], "expected certificates in PEM"),
        (lambda _: b"", "expected certificates in PEM"),
        (other_role, "expected spiffe://cn.example/gateway, got prober"),
    ):
        keeper = _keeper(world, world.cn, "gateway", clock, answer)
        # when it asks
        keeper.renew_if_due()
        # then it has no leaf, and says why
        with pytest.raises(BorderDownError, match=reason):
            keeper.client_context()


def test_thread_brings_a_leaf_once_the_issuer_is_up_and_ends_when_told(world: World) -> None:
    # given an issuer that comes up after it was asked once
    asked, have = [], threading.Event()
    real = Switch(world.cn.authority("gateway"), time.time)

    def ask(request_pem: bytes) -> bytes:
        asked.append(request_pem)
        if len(asked) == 1:
            raise BorderDownError("issuer at run/issuer.sock: no answer")
        try:
            return real(request_pem)
        finally:
            have.set()

    # when the keeper is opened
    with _keeper(world, world.cn, "gateway", time.time, ask) as keeper:
        # then its thread asks again, and the leaf is there
        assert have.wait(10)
        assert keeper.renew_if_due() > 0
        keeper.client_context()
    # then closing it ended the thread, and each request was for a key of its own
    assert "leaf-keeper" not in {thread.name for thread in threading.enumerate()}
    assert len(set(asked)) == len(asked) == 2


def test_the_memory_that_held_the_key_is_given_back(world: World) -> None:
    # given the descriptors that are open
    before = set(Path("/proc/self/fd").iterdir())
    # when a keeper gets its leaf
    keeper = _keeper(world, world.cn, "gateway", time.time)
    keeper.renew_if_due()
    # then no descriptor of it stays open
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_front_context_serves_event_loops(world: World, run: Callable[..., None]) -> None:
    # given a keeper's listener context in an event loop
    hub = _keeper(world, world.eu, "coordinator", time.time)
    hub.renew_if_due()
    # when a gateway connects
    # then the loop's ssl object names it before the first byte
    run(_over_event_loop(world, hub.server_context()))


async def _over_event_loop(world: World, context: ssl.SSLContext) -> None:
    seen = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ssl_object = writer.get_extra_info("ssl_object")
        seen.append(verify_peer(ssl_object, anchors=world.anchors, now_s=time.time()))
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=world.gateway())
    hub = verify_peer(writer.get_extra_info("ssl_object"), anchors=world.anchors, now_s=time.time())
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    server.close()
    assert [(peer.region, peer.role) for peer in seen] == [(CN, "gateway")]
    assert (hub.region, hub.role) == (EU, "coordinator")
