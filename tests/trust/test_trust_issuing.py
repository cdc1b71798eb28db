"""What a region's issuer signs, and its socket, with a real process behind it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID
from tests.trust.trust_world import CN, World, new_region, new_signer, uri

from ringfence.core.errors import BorderDownError, ConfigError, FormatError, TrustError
from ringfence.net.issuer_socket import IssuerSocket, ask_issuer
from ringfence.trust.certificates import create_issuer, create_request, issue_leaf
from ringfence.trust.encoding import chain_from_pem, from_der, from_pem, to_der, to_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import create_p256, new_passphrase
from ringfence.trust.names import SpiffeId, parse_spiffe_id
from ringfence.trust.peers import judge_chain

GATEWAY = SpiffeId(trust_domain="cn.example", role="gateway")
UID = os.geteuid()


def _request(
    *names: x509.GeneralName,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    subject: str | None = None,
    authority: bool = False,
) -> bytes:
    """A request of any shape, in PEM."""
    attributes = [] if subject is None else [x509.NameAttribute(NameOID.COMMON_NAME, subject)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if authority:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
    key = key or ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# ---- issuing ----------------------------------------------------------------------------------


def test_issuer_answers_with_a_chain_that_peers_accept(world: World) -> None:
    # given a request of the gateway
    key = ec.generate_private_key(ec.SECP256R1())
    now_s = time.time()
    # when the issuer answers
    answer = issue(
        create_request(key, identity=GATEWAY),
        authority=world.cn.authority("gateway"),
        now_s=now_s,
    )
    # then leaf and issuer come back, for that key, that name and four hours
    leaf, issuer = chain_from_pem(answer, what="answer")
    peer = judge_chain(
        [to_der(leaf), to_der(issuer), world.cn.anchor.root_der],
        anchors=world.anchors,
        now_s=now_s,
    )
    assert (peer.region, peer.role) == (CN, "gateway")
    assert leaf.public_key() == key.public_key()
    assert leaf.not_valid_before_utc.timestamp() == int(now_s) - 60
    assert peer.not_after_s == int(now_s) - 60 + 4 * 3600


def test_certificates_have_the_shape_that_the_design_names(world: World) -> None:
    # given a region's certificates
    leaf, issuer = world.cn.leaf("gateway").chain
    # when their extensions are read
    by_certificate = [
        {type(e.value): (e.critical, e.value) for e in c.extensions}
        for c in (world.cn.root, issuer, leaf)
    ]
    constraints = [extensions[x509.BasicConstraints] for extensions in by_certificate]
    # then the issuer signs leaves only, for one trust domain, and a leaf signs no certificate
    assert constraints == [
        (True, x509.BasicConstraints(ca=True, path_length=1)),
        (True, x509.BasicConstraints(ca=True, path_length=0)),
        (True, x509.BasicConstraints(ca=False, path_length=None)),
    ]
    assert by_certificate[1][x509.NameConstraints] == (
        True,
        x509.NameConstraints(permitted_subtrees=[uri("cn.example")], excluded_subtrees=None),
    )
    assert by_certificate[2][x509.SubjectAlternativeName] == (
        True,
        x509.SubjectAlternativeName([uri("spiffe://cn.example/gateway")]),
    )
    assert [e[x509.KeyUsage][1].key_cert_sign for e in by_certificate] == [True, True, False]
    assert world.cn.root.not_valid_after_utc > issuer.not_valid_after_utc


NAME = uri(GATEWAY.uri)
REFUSED = {
    "another region's name": _request(uri("spiffe://eu.example/gateway")),
    "a role that is not listed": _request(uri("spiffe://cn.example/coordinator")),
    "two names": _request(NAME, uri("spiffe://cn.example/prober")),
    "a host name": _request(x509.DNSName("cn.example")),
    "no name": _request(),
    "a subject": _request(NAME, subject="cn.example"),
    "rights of an authority": _request(NAME, authority=True),
    "rights of an authority and no name": _request(authority=True),
    "a port": _request(uri("spiffe://cn.example:443/gateway")),
    "a key of another curve": _request(NAME, key=ec.generate_private_key(ec.SECP384R1())),
    "an RSA key": _request(NAME, key=rsa.generate_private_key(65537, 2048)),
    "no request at all": b"-----BEGIN CERTIFICATE REQUEST-----\n",
    "too many bytes": b"x" * (16 * 1024 + 1),
}


@pytest.mark.parametrize("request_pem", REFUSED.values(), ids=REFUSED.keys())
def test_issuer_refuses_a_request_with(world: World, request_pem: bytes) -> None:
    # given a request that the gateway should not make
    # when the issuer sees it
    # then it signs nothing
    with pytest.raises((TrustError, FormatError)):
        issue(request_pem, authority=world.cn.authority("gateway"), now_s=time.time())


def test_issuer_refuses_a_key_that_the_sender_does_not_hold(world: World) -> None:
    # given a request whose signature was made by another key
    honest = x509.load_pem_x509_csr(
        create_request(ec.generate_private_key(ec.SECP256R1()), identity=GATEWAY)
    )
    der = bytearray(honest.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    # when the issuer sees it
    # then it misses the proof of possession
    with pytest.raises(TrustError, match="not signed by the key that it carries"):
        issue(forged, authority=world.cn.authority("gateway"), now_s=time.time())


@pytest.mark.parametrize("lifetime_s", [4 * 3600 + 1, 60, 0, -5])
def test_no_leaf_lives_longer_than_four_hours_or_not_at_all(
    world: World, lifetime_s: float
) -> None:
    # given an issuer's key and certificate
    # when a leaf of another lifetime is asked of it
    # then it refuses
    with pytest.raises(TrustError, match="expected a lifetime"):
        issue_leaf(
            world.cn.issuer_signer,
            world.cn.issuer,
            public_key=new_signer().public_key,
            identity=GATEWAY,
            now_s=time.time(),
            lifetime_s=lifetime_s,
        )


def test_a_leaf_never_outlives_its_issuer() -> None:
    # given an issuer that ends in an hour
    now_s = time.time()
    region = new_region(CN, now_s=now_s - 365 * 86400 + 3600)
    # when it issues now, and again after its end
    (leaf, _) = region.leaf("gateway", now_s=now_s).chain
    # then the first leaf ends with it, and there is no second
    assert leaf.not_valid_after_utc == region.issuer.not_valid_after_utc
    with pytest.raises(TrustError, match="expired at"):
        region.leaf("gateway", now_s=now_s + 3601)


def test_an_issuer_is_made_with_its_own_root_key(world: World) -> None:
    # given the root of cn and the key of eu's root
    # when an issuer is made of both
    # then they do not belong together
    with pytest.raises(TrustError, match="do not belong together"):
        create_issuer(
            world.eu.root_signer,
            world.cn.root,
            public_key=new_signer().public_key,
            trust_domain="cn.example",
            now_s=time.time(),
        )


def test_an_authority_must_fit_together(world: World) -> None:
    # given pieces that do not fit
    cn = world.cn
    good = {"signer": cn.issuer_signer, "certificate": cn.issuer, "roles": frozenset({"gateway"})}
    # when an authority is made of them
    # then it says which
    for change, error, expected in (
        ({"signer": cn.root_signer}, ConfigError, "do not belong together"),
        ({"roles": frozenset()}, ConfigError, "at least one role"),
        ({"lifetime_s": 4 * 3600 + 1}, ConfigError, "at most 14400 s"),
        ({"signer": cn.root_signer, "certificate": cn.root}, TrustError, "name constraint"),
    ):
        with pytest.raises(error, match=expected):
            Authority(**(good | change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe://cn.example",
        "spiffe:///gateway",
        "spiffe://cn/gateway",
        "spiffe://cn..example/gateway",
        "spiffe://-cn.example/gateway",
        "spiffe://cn.example./gateway",
        "spiffe://cn.example/gateway\n",
        "spiffe://cn.example/9",
        "spiffe://cn.example/" + "a" * 33,
        "spiffe://" + "a" * 64 + ".example/gateway",
        "spiffe://" + "a." * 126 + "example/gateway",
        "SPIFFE://cn.example/gateway",
        " spiffe://cn.example/gateway",
        "spiffe://cn.ex\u0430mple/gateway",
    ],
)
def test_refuses_a_name_that_is_not_in_the_one_form(text: str) -> None:
    # given a text
    # when it is parsed as a name
    # then it is none
    with pytest.raises(FormatError):
        parse_spiffe_id(text)
    assert parse_spiffe_id(GATEWAY.uri) == GATEWAY


def test_certificates_survive_both_encodings_and_nothing_else_parses(world: World) -> None:
    # given a certificate
    root = world.cn.root
    # when it goes to bytes and back
    # then it is the same, and other bytes are refused
    assert from_pem(to_pem(root), what="root") == root
    assert from_der(to_der(root), what="root") == root
    for call in (
        lambda: from_pem(to_pem(root, root), what="root"),
        lambda: from_pem(b"", what="root"),
        lambda: from_pem(b"x" * 70000, what="root"),
        lambda: from_der(to_der(root)[:-1], what="root"),
        lambda: from_der(b"x" * 70000, what="root"),
    ):
        with pytest.raises(FormatError, match=r"^root: expected"):
            call()


# ---- the socket -------------------------------------------------------------------------------


@contextmanager
def _serving(
    path: Path,
    answer: Callable[[bytes], bytes],
    *,
    uids: frozenset[int] = frozenset({UID}),
    timeout_s: float = 5.0,
) -> Iterator[None]:
    stop = threading.Event()
    with IssuerSocket(path, issue=answer, allowed_uids=uids, timeout_s=timeout_s) as issuer:
        thread = threading.Thread(target=issuer.serve, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "issuer.sock"


def test_socket_is_its_owners_alone_and_goes_with_the_issuer(path: Path) -> None:
    # given a listening issuer
    with _serving(path, bytes.upper):
        # when its files are looked at
        # then only the owner may enter or connect
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert ask_issuer(path, b"chain", issuer_uid=UID) == b"CHAIN"
    # then nothing of it is left
    assert list(path.parent.iterdir()) == []


def test_many_clients_are_answered_at_once(path: Path) -> None:
    # given twenty clients that ask ten times each
    answers: list[bytes] = []

    def ask(name: bytes) -> None:
        answers.extend(ask_issuer(path, name, issuer_uid=UID) for _ in range(10))

    threads = [threading.Thread(target=ask, args=(b"c%d" % n,)) for n in range(20)]
    # when they all ask
    with _serving(path, bytes.upper):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # then each got its own answers
    assert sorted(answers) == sorted(b"C%d" % n for n in range(20) for _ in range(10))


def _raw(path: Path, data: bytes) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(os.fspath(path))
    connection.sendall(data)
    return connection


def test_bad_clients_harm_nobody_else(path: Path) -> None:
    # given clients that say nothing, half a frame, or announce four gigabytes
    def fail(request: bytes) -> bytes:
        if request == b"crash":
            raise RuntimeError("a defect")
        return request.upper()

    with _serving(path, fail, timeout_s=1.0):
        idle = [_raw(path, data) for data in (b"", b"\x00\x00", struct.pack(">I", 9) + b"half")]
        huge = _raw(path, struct.pack(">I", 0xFFFFFFFF))
        gone = _raw(path, struct.pack(">I", 4) + b"gone")
        gone.close()
        # when they are there, and a request meets a defect
        with pytest.raises(TrustError, match="internal error; see the issuer's log"):
            ask_issuer(path, b"crash", issuer_uid=UID)
        # then another client is answered, and they are dropped without an answer
        assert ask_issuer(path, b"good", issuer_uid=UID) == b"GOOD"
        for connection in [*idle, huge]:
            with connection:
                assert connection.recv(1) == b""


def test_refusal_reaches_the_client_with_its_reason(world: World, path: Path) -> None:
    # given a real issuer and a request for another role
    authority = world.cn.authority("gateway")
    request = create_request(
        ec.generate_private_key(ec.SECP256R1()),
        identity=SpiffeId(trust_domain="cn.example", role="coordinator"),
    )
    # when it is sent
    with (
        _serving(path, lambda data: issue(data, authority=authority, now_s=time.time())),
        pytest.raises(TrustError, match="expected a role of"),
    ):
        ask_issuer(path, request, issuer_uid=UID)
    # then the client was told why


def test_each_end_checks_which_user_is_on_the_other(path: Path) -> None:
    # given an issuer for another user only
    with _serving(path, bytes.upper, uids=frozenset({UID + 1})):
        # when we ask, or expect another user to answer
        # then neither gets anywhere
        with pytest.raises(BorderDownError):
            ask_issuer(path, b"", issuer_uid=UID)
        with pytest.raises(
            TrustError, match=f"expected the issuer to be of uid .{UID + 1}., got {UID}"
        ):
            ask_issuer(path, b"", issuer_uid=UID + 1)


def test_client_survives_an_issuer_that_misbehaves(path: Path) -> None:
    # given issuers that answer too much, nothing sensible, or nothing in time
    path.parent.mkdir(mode=0o700)
    for answer, error, timeout_s in (
        (struct.pack(">I", 1 << 20), FormatError, 10),
        (struct.pack(">I", 1) + b"\x07", FormatError, 10),
        (struct.pack(">I", 0), FormatError, 10),
        (b"\x00", BorderDownError, 0.2),
        (b"", BorderDownError, 0.2),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fspath(path))
            listener.listen()
            # the kernel lets a client connect and send before anyone accepts
            threading.Thread(target=_answer_once, args=(listener, answer)).start()
            # when a client asks
            # then it gets an error within its time
            with pytest.raises(error):
                ask_issuer(path, b"request", issuer_uid=UID, timeout_s=timeout_s)
        path.unlink()


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(answer)
        while connection.recv(4096):
            pass


def test_a_second_issuer_does_not_take_the_socket(path: Path) -> None:
    # given an issuer that listens
    with _serving(path, bytes.upper):
        # when a second one starts
        with (
            pytest.raises(ConfigError, match="expected no listener"),
            IssuerSocket(path, issue=bytes.lower, allowed_uids=frozenset({UID})),
        ):
            pass
        # then the first still answers
        assert ask_issuer(path, b"first", issuer_uid=UID) == b"FIRST"


def test_an_issuer_leaves_its_successors_socket_alone(path: Path) -> None:
    # given an issuer whose socket file somebody removed, and a second one that took its place
    with ExitStack() as successor:
        with _serving(path, bytes.lower):
            path.unlink()
            successor.enter_context(_serving(path, bytes.upper))
        # when the first has ended
        # then the second still answers
        assert ask_issuer(path, b"still here", issuer_uid=UID) == b"STILL HERE"


def test_a_home_may_lie_deep(tmp_path: Path) -> None:
    # given a path longer than the 107 bytes that a socket's address holds
    path = tmp_path / ("d" * 100) / ("e" * 100) / "issuer.sock"
    # when an issuer listens there
    with _serving(path, bytes.upper):
        # then it answers
        assert ask_issuer(path, b"deep", issuer_uid=UID) == b"DEEP"


def test_issuer_refuses_a_place_that_is_not_its_own(tmp_path: Path) -> None:
    # given a directory that others may enter, and a file in the way
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "own" / "issuer.sock").write_text("not a socket")
    for path, expected in (
        (tmp_path / "open" / "issuer.sock", "with mode 0700"),
        (tmp_path / "own" / "issuer.sock", "expected a socket or nothing"),
    ):
        # when an issuer is to listen there
        # then it says what to change
        with (
            pytest.raises(ConfigError, match=expected),
            IssuerSocket(path, issue=bytes.upper, allowed_uids=frozenset({UID})),
        ):
            pass
    assert (tmp_path / "own" / "issuer.sock").read_text() == "not a socket"


ISSUER_PROCESS = """
import os, signal, sys, threading, time
from pathlib import Path
from ringfence.net.issuer_socket import IssuerSocket
from ringfence.trust.encoding import from_pem
from ringfence.trust.issuing import Authority, issue
from ringfence.trust.keys import load_p256, read_passphrase

home = Path(sys.argv[1])
authority = Authority(
    signer=load_p256(home / "issuer.key", read_passphrase(sys.argv[2])),
    certificate=from_pem((home / "issuer.pem").read_bytes(), what="issuer"),
    roles=frozenset({"gateway"}),
)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
with IssuerSocket(
    home / "run" / "issuer.sock",
    issue=lambda pem: issue(pem, authority=authority, now_s=time.time()),
    allowed_uids=frozenset({os.geteuid()}),
) as issuer:
    print("listening", flush=True)
    issuer.serve(stop)
print("stopped", flush=True)
"""


def _start(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", ISSUER_PROCESS, str(home), f"file:{home / 'passphrase'}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    return process


def test_a_killed_issuer_process_comes_back_on_the_same_socket(
    world: World, tmp_path: Path
) -> None:
    # given an issuer process with an encrypted key file, whose first life ends by kill -9
    passphrase = new_passphrase()
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_bytes(passphrase + b"\n")
    signer = create_p256(tmp_path / "issuer.key", passphrase)
    certificate = create_issuer(
        world.cn.root_signer,
        world.cn.root,
        public_key=signer.public_key,
        trust_domain="cn.example",
        now_s=time.time(),
    )
    (tmp_path / "issuer.pem").write_bytes(to_pem(certificate))
    path = tmp_path / "run" / "issuer.sock"
    request = create_request(ec.generate_private_key(ec.SECP256R1()), identity=GATEWAY)
    with _start(tmp_path) as process:
        first = ask_issuer(path, request, issuer_uid=UID)
        process.kill()
        process.wait()
    with pytest.raises(BorderDownError, match="start it with"):
        ask_issuer(path, request, issuer_uid=UID)
    # when it is started again, with nobody at hand
    with _start(tmp_path) as process:
        second = ask_issuer(path, request, issuer_uid=UID)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
    # then it issued as before, and stopped cleanly when asked to
    assert process.returncode == 0
    assert not path.exists()
    for answer in (first, second):
        chain = [to_der(c) for c in chain_from_pem(answer, what="answer")]
        judge_chain([*chain, world.cn.anchor.root_der], anchors=world.anchors, now_s=time.time())
