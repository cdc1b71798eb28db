"""Who may not speak at the hub's border at all, and whose name the hub's log then holds."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from tests.border.border_world import BorderOf
from tests.trust.trust_world import Forgery, new_region, uri

from ringfence.core.clock import system_clock
from ringfence.core.errors import BorderDownError
from ringfence.core.ids import RegionId
from ringfence.crossing.entries import Entry
from ringfence.net.border_service import OwnLeaf
from ringfence.trust.certificates import LEAF_LIFETIME_S

ASK = b"GET /v1/agreement HTTP/1.1\r\nHost: hub\r\n\r\n"


@contextlib.contextmanager
def _nothing_happens(border: BorderOf, *, recorded_under: str | None = None) -> Iterator[None]:
    """Nothing changes, and the log holds a refusal under this region's name, or none."""
    before, recorded = border.world.remembered(), len(border.world.entries())
    yield
    entries = border.world.entries()[recorded:]
    if recorded_under is not None and not entries:
        entries = _wait_for_entries(border, recorded)
    assert border.world.remembered() == before
    names = [(entry.kind, entry.counterparty) for entry in entries]
    assert names == ([] if recorded_under is None else [("refusal", recorded_under)])


def _wait_for_entries(border: BorderOf, recorded: int) -> list[Entry]:
    """The record is written by a thread of the hub's, which the attacker need not wait for."""
    end_s = time.monotonic() + 10
    while len(border.world.entries()) == recorded and time.monotonic() < end_s:
        time.sleep(0.005)
    return border.world.entries()[recorded:]


def _leaf(border: BorderOf, credential: object) -> OwnLeaf:
    context = credential.load_into(border.certificates.client())  # type: ignore[attr-defined]
    return OwnLeaf(context=context, not_after_s=system_clock() + 3600)


def _stranger(border: BorderOf) -> OwnLeaf:
    return _leaf(border, new_region(RegionId("cn")).leaf("gateway"))


def _name_of_another_region(border: BorderOf) -> OwnLeaf:
    authority = border.certificates.authority("cn", "gateway")
    forged = Forgery(names=(uri("spiffe://de.example/gateway"),))
    return _leaf(border, forged.mint(authority.signer, authority.certificate))  # type: ignore[arg-type]


def _two_names(border: BorderOf) -> OwnLeaf:
    authority = border.certificates.authority("cn", "gateway")
    names = (uri("spiffe://cn.example/gateway"), uri("spiffe://cn.example/coordinator"))
    forged = Forgery(names=names)
    return _leaf(border, forged.mint(authority.signer, authority.certificate))  # type: ignore[arg-type]


@pytest.mark.parametrize("mint", [_stranger, _name_of_another_region, _two_names])
def test_a_certificate_that_names_nobody_gets_no_word_in(
    shared: BorderOf, mint: Callable[[BorderOf], OwnLeaf]
) -> None:
    # given a certificate from outside, in another region's name, or in two names
    # when its holder asks, then it reads nothing; no region's name stands for it
    with (
        _nothing_happens(shared),
        shared.line(leaf=mint(shared)) as line,
        pytest.raises(BorderDownError),
    ):
        line.agreement()


def test_an_expired_certificate_is_recorded_under_its_region(shared: BorderOf) -> None:
    # given the leaf of yesterday
    stale = shared.certificates.leaf("cn", issued_ago_s=6 * LEAF_LIFETIME_S)
    # when its holder asks, then it reads nothing, and the log says whose it was
    with (
        _nothing_happens(shared, recorded_under="cn"),
        shared.line(leaf=stale) as line,
        pytest.raises(BorderDownError),
    ):
        line.agreement()
    refusal = shared.world.entries()[-1].refusal
    assert refusal is not None
    assert (refusal.stage, refusal.reason) == ("connect", "untrusted-peer")
    assert "spiffe://cn.example/gateway" in refusal.detail


def test_a_region_cannot_speak_under_the_certificate_of_another(shared: BorderOf) -> None:
    # given Germany's certificate in the hands of whoever asks
    # when a lineage is asked for that bars China
    with shared.line(leaf=shared.certificates.leaf("de")) as line:
        view = line.lineage(next(iter(shared.world.agreement.lineages_of("us"))), seen=0, wait_s=0)
    # then the hub answers as to Germany: the certificate is all that says who it is
    assert view.lineage == "world"


def test_only_a_gateway_may_stand_before_the_hub(shared: BorderOf) -> None:
    # given China's certificate for another role
    issuer = shared.certificates.leaf("cn", "prober")
    # when its holder asks, then it reads nothing
    with (
        _nothing_happens(shared),
        shared.line(leaf=issuer) as line,
        pytest.raises(BorderDownError),
    ):
        line.agreement()


def test_the_hub_reads_nothing_without_a_certificate(shared: BorderOf) -> None:
    # given a dialler without one, whose own handshake completes under TLS 1.3
    context = shared.certificates.client()
    answer = b""
    # when it asks and reads, then there is nothing to read
    with (
        _nothing_happens(shared),
        shared.connect(context) as connection,
        contextlib.suppress(ssl.SSLError, ConnectionError),
    ):
        connection.sendall(ASK)
        answer = connection.recv(1000)
    assert answer == b""


def test_the_hub_speaks_no_tls_1_2(shared: BorderOf) -> None:
    # given a good certificate, and a dialler that knows nothing newer
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=shared.certificates.anchors[RegionId("hub")].root_der)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # when it connects, then the handshake itself fails
    with _nothing_happens(shared), pytest.raises(ssl.SSLError):
        shared.connect(context)


def test_the_hub_speaks_no_plain_text(shared: BorderOf) -> None:
    # given no TLS at all
    answer = b""
    # when a request is sent, then nothing answers
    with (
        _nothing_happens(shared),
        socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(ASK)
        answer = connection.recv(1000)
    assert b"HTTP" not in answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/agreement?region=de HTTP/1.1",
        b"GET /v1/../etc/passwd HTTP/1.1",
        b"DELETE /v1/agreement HTTP/1.1",
        b"GET /v1/payloads/sha256:" + b"0" * 63 + b"?chunk=0 HTTP/1.1",
        b"GET /v1/lineages/world?seen=-1&wait_s=0 HTTP/1.1",
    ],
    ids=["a region in the query", "a path outside", "another method", "half a digest", "minus one"],
)
def test_an_unknown_request_is_refused_and_recorded(border: BorderOf, request_line: bytes) -> None:
    # given a good certificate
    leaf = border.certificates.leaf("cn")
    # when something is asked that no gateway asks, then it is not found, and recorded
    with (
        _nothing_happens(border, recorded_under="cn"),
        border.connect(leaf.context) as connection,
    ):
        connection.sendall(request_line + b"\r\nHost: hub\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET /v1/agreement HTTP/1.1\r\nHost hub\r\n\r\n",
        b"GET /v1/agreement HTTP/1.1\r\n" + b"X: y\r\n" * 40 + b"\r\n",
        b"GET /v1/" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/offers HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["another protocol", "half a header", "forty headers", "a long line", "a negative length"],
)
def test_what_is_no_request_at_all_is_refused_and_recorded(border: BorderOf, said: bytes) -> None:
    # given a good certificate
    leaf = border.certificates.leaf("cn")
    # when something is said that is no HTTP as we speak it, then it is refused, and recorded
    with (
        _nothing_happens(border, recorded_under="cn"),
        border.connect(leaf.context) as connection,
    ):
        connection.sendall(said)
        assert connection.recv(1000).split()[1] == b"400"
