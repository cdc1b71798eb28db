"""What crosses the border in messages, and what the hub does not even read."""

from __future__ import annotations

import gzip
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.net.border_hub import WORLD, Border, ask, expect_hub, read_all, running
from tests.trust.trust_world import CN, World

from ringfence.core.errors import (
    BorderDownError,
    FormatError,
    LayoutError,
    Refused,
    StateError,
    TrustError,
)
from ringfence.core.ids import Digest
from ringfence.core.wire import CONTROL_LIMIT_BYTES, AgreementView, LogProof, OfferReply
from ringfence.net.border_client import BorderClient
from ringfence.net.http_limits import ServerLimits
from ringfence.trust.peers import Peer

STATEMENT = Digest("sha256:" + "7" * 64)
TERMS = AgreementView(agreement="terms", signatures={"cn": "signed"})

REQUESTS: dict[str, tuple[Callable[[BorderClient], object], object, tuple[object, ...]]] = {
    "agreement": (lambda c: c.agreement(), TERMS, ("agreement_view", CN)),
    "sign_agreement": (
        lambda c: c.sign_agreement(b"signed"),
        TERMS,
        ("accept_signature", CN, b"signed"),
    ),
    "snapshot": (lambda c: c.snapshot(WORLD), b"snapshot", ("snapshot", CN, WORLD)),
    "offer": (
        lambda c: c.offer(b"x" * 3_000_000),
        OfferReply(next_chunk=0, receipt=None),
        ("offer", CN, b"x" * 3_000_000),
    ),
    "statement": (lambda c: c.statement(STATEMENT), b"statement", ("statement", CN, STATEMENT)),
    "accept": (lambda c: c.accept(b"receipt"), None, ("accept_receipt", CN, b"receipt")),
    "checkpoint": (lambda c: c.checkpoint(), "hub log\n5\nroot — é\n", ("checkpoint", CN)),
    "disclosure": (
        lambda c: c.disclosure(STATEMENT),
        b"disclosure",
        ("disclosure", CN, STATEMENT),
    ),
    "consistency": (
        lambda c: c.consistency(old=4, new=9),
        LogProof(hashes=("bb", "cc")),
        ("consistency", CN, 4, 9),
    ),
    "cosign": (lambda c: c.cosign("— cn ÄÄ=="), None, ("cosign", CN, "— cn ÄÄ==")),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_reaches_the_hub_under_the_region_of_its_certificate(
    border: Border, name: str
) -> None:
    # given a gateway of region cn
    request, answer, call = REQUESTS[name]
    with border.client() as client:
        # when it asks
        got = request(client)
    # then the hub was asked in the name of cn, and its answer came back
    assert got == answer
    assert border.hub.calls == [call]


def test_requests_share_one_connection(border: Border) -> None:
    # given a verification that counts handshakes
    handshakes: list[float] = []
    verify = expect_hub(border.world)

    def counting(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer:
        handshakes.append(time.monotonic())
        return verify(connection)

    with border.client(verify=counting) as client:
        # when many requests follow one another
        for _ in range(5):
            client.agreement()
    # then one handshake was enough
    assert len(handshakes) == 1


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FormatError("chunk 3 differs"), FormatError),
        (LayoutError("expected 12 tensors"), FormatError),
        (TrustError("signature does not hold"), TrustError),
        (BorderDownError("spool is full"), BorderDownError),
        (StateError("secret path /var/hub"), BorderDownError),
        (KeyError("secret path /var/hub"), BorderDownError),
    ],
)
def test_an_error_of_the_hub_is_raised_at_the_gateway(
    border: Border, raised: Exception, expected: type[Exception]
) -> None:
    # given a hub that fails
    border.hub.error = raised
    with border.client() as client:
        # when a gateway asks
        with pytest.raises(expected) as caught:
            client.agreement()
        # then it learns what it may know
        assert type(caught.value) is expected
        assert "secret" not in str(caught.value)
        if isinstance(raised, FormatError | LayoutError | TrustError):
            assert str(raised) in str(caught.value)
        # and the connection goes on
        border.hub.error = None
        assert client.agreement() == TERMS


def test_a_refusal_comes_back_whole(border: Border) -> None:
    # given a hub that refuses
    refusal = Refused(stage="intake", reason="late", detail="round 3 is over", rules=("CN-1", "P"))
    border.hub.error = refusal
    with border.client() as client, pytest.raises(Refused) as caught:
        # when a statement is offered
        client.offer(b"{}")
    # then stage, reason, detail and rules are those of the hub
    got = caught.value
    assert (got.stage, got.reason, got.detail, got.rules) == (
        "intake",
        "late",
        "round 3 is over",
        ("CN-1", "P"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET /v1/agreement/",
        "GET /v1/agreement?x=1",
        "GET //v1/agreement",
        "GET http://hub/v1/agreement",
        "GET /v1/%61greement",
        "POST /v1/agreement",
        "DELETE /v1/agreement",
        "GET /v1/lineages/world",
        "GET /v1/lineages/world?seen=-1&wait_s=0",
        "GET /v1/lineages/world?seen=0&wait_s=0&seen=1",
        "GET /v1/lineages/../snapshot",
        "GET /v1/statements/7777",
        f"GET /v1/payloads/{STATEMENT}",
        f"PUT /v1/payloads/{STATEMENT}?chunk=0x1",
        "GET /v1/log/disclosures/7777",
        "GET /v1/log/consistency?old=%31&new=5",
        "GET /v1/log/consistency?old=1&new=" + "9" * 19,
    ],
)
def test_anything_else_is_not_found(border: Border, line: str) -> None:
    # given a connection of a known gateway
    with border.connect() as connection:
        # when it asks for what is not in the list
        head = f"{line} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        answer = ask(connection, head.encode())
    # then the hub does not know it
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert border.hub.calls == []


def test_an_answer_does_not_name_its_software(border: Border) -> None:
    # given a connection
    with border.connect() as connection:
        # when one request is answered and one is refused
        good = ask(
            connection, b"GET /v1/agreement HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        )
    with border.connect() as connection:
        bad = ask(connection, b"\x00\x01\x02\r\n\r\n")
    # then neither head has a banner
    assert good.startswith(b"HTTP/1.1 200 ")
    for answer in (good, bad):
        assert b"server:" not in answer.lower()
        assert b"python" not in answer.lower()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (f"Content-Length: {CONTROL_LIMIT_BYTES + 1}", 413),
        ("Content-Length: 99999999999999999", 413),
        ("Connection: close", 411),
        ("Transfer-Encoding: chunked", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: -5", 400),
        ("Content-Length: five", 400),
        ("X-Long: " + "a" * 5000, 400),
        ("\r\n".join(f"X-{i}: 1" for i in range(60)), 400),
    ],
)
def test_a_body_of_unlawful_length_is_refused_before_it_is_read(
    border: Border, fields: str, status: int
) -> None:
    # given a request whose body never comes
    head = f"POST /v1/agreement/signature HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"
    with border.connect() as connection:
        # when only its head is sent
        answer = ask(connection, head.encode())
    # then the answer is there already, and the hub was not asked
    assert answer.split(b" ", 2)[1] == str(status).encode()
    assert border.hub.calls == []


@pytest.mark.parametrize("fields", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_question_has_no_body(border: Border, fields: str) -> None:
    # given a GET that announces a body
    head = f"GET /v1/agreement HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n"
    with border.connect() as connection:
        # when it is sent
        answer = ask(connection, head.encode())
    # then it is refused
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert border.hub.calls == []


def test_a_compressed_body_is_not_inflated(border: Border) -> None:
    # given a body that says it is compressed
    body = gzip.compress(b"0" * 100_000)
    head = f"POST /v1/offers HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n"
    with border.connect() as connection:
        # when it is sent
        ask(
            connection,
            head.encode() + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + body,
        )
    # then the hub gets the bytes as they came
    assert border.hub.calls == [("offer", CN, body)]


@pytest.mark.parametrize("start", [b"", b"GET /v1/agree", b"GET /v1/agreement HTTP/1.1\r\nX: "])
def test_a_client_that_is_slow_with_its_head_is_cut(
    world: World, tmp_path: Path, start: bytes
) -> None:
    # given a hub with little patience
    limits = ServerLimits(header_timeout_s=0.3, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border, border.connect() as connection:
        # when a head does not end
        begun = time.monotonic()
        answer = ask(connection, start)
    # then the connection ends without an answer
    assert answer == b""
    assert time.monotonic() - begun < 5


def test_a_client_that_is_slow_with_its_body_is_told_and_cut(world: World, tmp_path: Path) -> None:
    # given a hub with little patience
    limits = ServerLimits(body_timeout_s=0.3, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border, border.connect() as connection:
        # when a body stops half way
        head = b"POST /v1/offers HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345"
        answer = ask(connection, head)
        # then the hub says so and never saw it
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert border.hub.calls == []


def test_a_client_that_leaves_in_its_body_is_forgotten(border: Border) -> None:
    # given a request that stops half way
    with border.connect() as connection:
        connection.sendall(
            b"POST /v1/offers HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345"
        )
    # when another comes
    with border.client() as client:
        client.agreement()
    # then only that one was asked
    assert border.hub.calls == [("agreement_view", CN)]


def test_a_region_has_only_so_many_connections(world: World, tmp_path: Path) -> None:
    # given a hub that grants two
    limits = ServerLimits(connections_per_region=2, linger_s=0.2)
    with (
        running(world, tmp_path, limits=limits) as border,
        border.client() as first,
        border.client() as second,
        border.client() as third,
    ):
        first.agreement()
        second.agreement()
        # when the region opens a third
        # then it is turned away
        with pytest.raises(BorderDownError):
            third.agreement()
        # and let in once one of the two has gone
        first.close()
        _eventually(third.agreement)


def test_an_old_connection_is_closed_after_its_request(world: World, tmp_path: Path) -> None:
    # given a hub on which every connection is old
    with running(world, tmp_path, limits=ServerLimits(age_s=0, linger_s=0.2)) as border:
        with border.connect() as connection:
            # when a request is sent that asks for nothing of the kind
            answer = ask(connection, b"GET /v1/agreement HTTP/1.1\r\nHost: h\r\n\r\n")
        with border.client() as client:
            views = [client.agreement() for _ in range(3)]
    # then it is answered and the connection closed, and a client does not mind
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    assert views == [TERMS] * 3


def test_an_idle_connection_that_the_hub_closed_is_dialled_anew(
    world: World, tmp_path: Path
) -> None:
    # given a client whose connection the hub has closed
    limits = ServerLimits(header_timeout_s=0.2, linger_s=0.2)
    with running(world, tmp_path, limits=limits) as border, border.client() as client:
        client.agreement()
        with border.connect() as witness:
            read_all(witness)  # opened later, so closed later
        # when it asks again
        # then it gets its answer
        assert client.agreement() == TERMS


def _eventually(work: Callable[[], object], *, within_s: float = 5.0) -> None:
    """The hub learns of a closed connection a little after the client closed it."""
    end = time.monotonic() + within_s
    while True:
        try:
            work()
        except BorderDownError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
