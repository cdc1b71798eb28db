"""Who may speak over the border, and for how long."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.net.border_hub import (
    Border,
    ask,
    expect_gateway,
    expect_hub,
    own_leaf,
    read_all,
    running,
)
from tests.trust.trust_world import (
    CN,
    Credential,
    Forgery,
    World,
    new_region,
    uri,
)

from ringfence.core.chunks import CHUNK_BYTES
from ringfence.core.errors import BorderDownError, TrustError
from ringfence.net.border_errors import TransferCutError
from ringfence.net.border_service import OwnLeaf
from ringfence.net.http_limits import ServerLimits
from ringfence.trust.peers import Peer
from ringfence.trust.tls import server_context

GET = b"GET /v1/agreement HTTP/1.1\r\nHost: h\r\n\r\n"


def _stranger(world: World) -> Credential:
    return new_region(CN).leaf("gateway")


def _name_of_another_region(world: World) -> Credential:
    forged = Forgery(names=(uri("spiffe://eu.example/gateway"),))
    return forged.mint(world.cn.issuer_signer, world.cn.issuer)


def _no_name(world: World) -> Credential:
    return Forgery(common_name="cn.example").mint(world.cn.issuer_signer, world.cn.issuer)


def _another_role(world: World) -> Credential:
    return world.cn.leaf("issuer")


def _expired(world: World) -> Credential:
    forged = Forgery(
        names=(uri("spiffe://cn.example/gateway"),), start_s=time.time() - 3600, lifetime_s=1800
    )
    return forged.mint(world.cn.issuer_signer, world.cn.issuer)


@pytest.mark.parametrize(
    "credential", [_stranger, _name_of_another_region, _no_name, _another_role, _expired]
)
def test_the_hub_reads_nothing_from_a_peer_that_it_does_not_trust(
    border: Border, credential: Callable[[World], Credential]
) -> None:
    # given a certificate that the agreement does not vouch for
    forged = credential(border.world)
    with border.client(credential=forged) as client, pytest.raises(BorderDownError):
        # when its holder asks
        client.agreement()
    # then it learns that the line is dead, and the hub was not asked
    assert {call[0] for call in border.hub.calls} <= {"refuse_connection"}


def test_an_expired_certificate_is_recorded_under_its_region(border: Border) -> None:
    # given a leaf of region cn that is over
    with border.client(credential=_expired(border.world)) as client:
        # when its holder asks
        with pytest.raises(BorderDownError):
            client.agreement()
        # then the hub's record names the region
        assert border.hub.refused.wait(5)
        assert border.hub.calls == [("refuse_connection", CN)]


def test_the_hub_reads_nothing_without_a_certificate(border: Border) -> None:
    # given a client without one, whose own handshake completes under TLS 1.3
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=border.world.eu.anchor.root_der)
    with border.connect(context) as connection:
        # when it asks
        answer = ask(connection, GET)
    # then it reads no answer, and the hub was not asked
    assert answer == b""
    assert border.hub.calls == []


def test_the_hub_speaks_no_tls_1_2(border: Border) -> None:
    # given a client that knows nothing newer
    context = border.world.gateway()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    # when it connects and reads
    # then the handshake itself fails
    with pytest.raises(ssl.SSLError), border.connect(context) as connection:
        ask(connection, GET)
    assert border.hub.calls == []


def test_an_unexpected_fault_in_verification_lets_nobody_in(world: World, tmp_path: Path) -> None:
    # given a verification that is broken
    def broken(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        raise KeyError("broken")

    with running(world, tmp_path, verify=broken) as border, border.client() as client:
        # when a gateway asks
        # then the hub reads nothing of it
        with pytest.raises(BorderDownError):
            client.agreement()
        assert {call[0] for call in border.hub.calls} <= {"refuse_connection"}


@pytest.mark.parametrize("weakness", ["tls 1.2", "no client certificate", "tickets"])
def test_a_weak_context_serves_nobody(world: World, tmp_path: Path, weakness: str) -> None:
    # given a hub whose context would let in what the border must not
    context = world.hub()
    if weakness == "tls 1.2":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    elif weakness == "tickets":
        context.num_tickets = 2
    else:
        context.verify_mode = ssl.CERT_OPTIONAL
    leaf = own_leaf(context)
    with (
        running(world, tmp_path, leaf_source=lambda: leaf) as border,
        border.client() as client,
        pytest.raises(BorderDownError),
    ):
        # when a good client comes
        # then nobody answers
        client.agreement()


def test_a_hub_without_a_leaf_comes_back_when_it_has_one(world: World, tmp_path: Path) -> None:
    # given a hub whose issuer is down
    leaves: list[OwnLeaf] = []

    def source() -> OwnLeaf:
        if not leaves:
            raise BorderDownError("no valid certificate; start the region's issuer")
        return leaves[0]

    with running(world, tmp_path, leaf_source=source) as border, border.client() as client:
        with pytest.raises(BorderDownError):
            client.agreement()
        # when the issuer is up again
        leaves.append(own_leaf(world.hub()))
        # then the hub answers
        assert client.agreement().agreement == "terms"


# ── The gateway's own verification ──


@contextlib.contextmanager
def _impostor(context: ssl.SSLContext) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server that keeps the first bytes that it is sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            raw.settimeout(5)
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    heard.append(connection.recv(100))
            except OSError:
                raw.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join()


@pytest.mark.parametrize(
    ("region", "role", "error"),
    [("cn", "coordinator", BorderDownError), ("eu", "gateway", TrustError)],
)
def test_a_gateway_says_nothing_to_another_than_the_hub(
    border: Border, region: str, role: str, error: type[Exception]
) -> None:
    # given an impostor: another region's coordinator, or another process of the hub's region
    world = border.world
    impostor = (world.cn if region == "cn" else world.eu).leaf(role)
    context = impostor.load_into(server_context(anchors=world.anchors))
    with (
        _impostor(context) as (port, heard),
        border.client(port=port) as client,
        pytest.raises(error),
    ):
        # when a gateway dials it
        client.offer(b"secret")
    # then the gateway hangs up and has not said a word
    assert b"".join(heard) == b""


def test_a_gateway_speaks_no_tls_1_2(border: Border) -> None:
    # given a hub that knows nothing newer
    context = border.world.hub()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        _impostor(context) as (port, heard),
        border.client(port=port) as client,
        pytest.raises(BorderDownError),
    ):
        # when a gateway dials it
        client.agreement()
    # then the gateway hangs up
    assert heard == []


# ── Rotation and expiry ──


def test_a_new_leaf_is_used_from_the_next_request_on(border: Border) -> None:
    # given a gateway whose leaf rotates
    leaves = [own_leaf(border.world.gateway()) for _ in range(2)]
    current = [leaves[0]]
    handshakes: list[object] = []
    verify = expect_hub(border.world)

    def counting(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        handshakes.append(connection.context)
        return verify(connection)

    with border.client(leaf_source=lambda: current[0], verify=counting) as client:
        client.agreement()
        client.agreement()
        # when it has rotated
        current[0] = leaves[1]
        client.agreement()
        client.agreement()
    # then the next request dials once with the new leaf
    assert handshakes == [leaf.context for leaf in leaves]


def test_a_rotation_does_not_cut_a_transfer(border: Border) -> None:
    # given a download of three chunks
    data = bytes(range(256)) * (3 * CHUNK_BYTES // 256)
    digest = border.hub.store(data)
    leaves = [own_leaf(border.world.gateway()) for _ in range(2)]
    current = [leaves[0]]
    received: list[bytes] = []

    def sink(index: int, chunk: memoryview) -> None:
        current[0] = leaves[1]
        received.append(bytes(chunk))

    with border.client(leaf_source=lambda: current[0]) as client:
        # when the leaf rotates at the first chunk
        client.download(digest, chunk=0, size_bytes=len(data), sink=sink)
    # then the whole payload came over the connection that it began on
    assert b"".join(received) == data


@pytest.mark.parametrize("whose", ["gateway's", "hub's"])
def test_the_hub_closes_a_connection_when_a_certificate_ends(
    world: World, tmp_path: Path, whose: str
) -> None:
    # given a certificate that ends in half a second
    def ending(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        peer = expect_gateway(world)(connection)
        if whose == "hub's":
            return peer
        return dataclasses.replace(peer, not_after_s=time.time() + 0.5)

    context = world.hub()
    lifetime_s = 0.5 if whose == "hub's" else 60.0
    with running(
        world,
        tmp_path,
        verify=ending,
        leaf_source=lambda: own_leaf(context, lifetime_s=lifetime_s),
    ) as border:
        begun = time.monotonic()
        with border.connect() as connection:
            # when its connection stays open
            answer = ask(connection, GET)
        # then it worked until then and was closed
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert 0.3 < time.monotonic() - begun < 5


def test_the_hub_asks_its_clock_before_each_request(world: World, tmp_path: Path) -> None:
    # given a connection, and a wall clock that is then set
    now_s = [time.time()]
    with (
        running(world, tmp_path, clock=lambda: now_s[0]) as border,
        border.connect() as connection,
    ):
        connection.sendall(GET)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        # when it says that the certificates are long over
        now_s[0] += 5 * 3600
        connection.sendall(GET)
        # then the next request on the connection is not answered
        assert b"HTTP/1.1 200" not in read_all(connection)
        assert len(border.hub.calls) == 1


def test_a_running_upload_is_cut_when_a_certificate_ends(world: World, tmp_path: Path) -> None:
    # given a peer whose certificate ends in half a second, and a hub whose disk is stuck
    def ending(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        return dataclasses.replace(expect_gateway(world)(connection), not_after_s=time.time() + 0.5)

    data = bytes(40 * CHUNK_BYTES)
    (payload := tmp_path / "sent").write_bytes(data)
    with running(world, tmp_path, verify=ending) as border, border.client() as client:
        digest = border.hub.announce(data)
        border.hub.gate.clear()
        # when an upload is under way at that moment
        with pytest.raises(TransferCutError):
            client.upload(digest, payload, chunk=0)
        border.hub.gate.set()
        # then it is cut, and the hub lets go of it
        assert border.hub.aborted.wait(5)
        assert border.hub.ended == ["abort"]


def test_a_gateway_cuts_its_transfer_when_a_certificate_ends(border: Border) -> None:
    # given a clock that reaches the end of the leaf during a download
    data = bytes(3 * CHUNK_BYTES)
    digest = border.hub.store(data)
    now_s = [time.time()]
    taken: list[int] = []

    def sink(index: int, chunk: memoryview) -> None:
        taken.append(index)
        now_s[0] += 5 * 3600

    # when the first chunk has come
    with border.client(clock=lambda: now_s[0]) as client, pytest.raises(TransferCutError) as cut:
        client.download(digest, chunk=0, size_bytes=len(data), sink=sink)
    # then the gateway reads no further
    assert taken == [0]
    assert cut.value.chunks == 1


def test_silent_connections_do_not_keep_others_out(world: World, tmp_path: Path) -> None:
    # given more connections that never shake hands than the hub waits for
    limits = ServerLimits(handshakes=4, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border:
        silent = [socket.create_connection(("127.0.0.1", border.port)) for _ in range(8)]
        # when a gateway comes
        with border.client() as client:
            view = client.agreement()
        # then it is served, and the oldest of the silent are gone
        assert view.agreement == "terms"
        silent[0].settimeout(5)
        assert silent[0].recv(1) == b""
        for connection in silent:
            connection.close()
