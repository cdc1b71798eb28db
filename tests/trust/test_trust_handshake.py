"""Who may speak over the border, decided in real handshakes."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.trust.trust_world import (
    CN,
    EU,
    Credential,
    Forgery,
    World,
    forge_issuer,
    meet,
    new_region,
    uri,
)

from ringfence.core.errors import TrustError
from ringfence.trust.encoding import to_pem
from ringfence.trust.keys import P256Signer
from ringfence.trust.peers import Anchor, check_anchors, require_peer
from ringfence.trust.tls import client_context, server_context, verify_peer


def test_hub_and_gateway_know_each_other_by_name(world: World) -> None:
    # given a leaf of each region
    # when they meet
    server, client = meet(world.hub(), world.gateway(), anchors=world.anchors)
    # then each knows the other's region and role, and both can speak
    assert server.error is None
    assert client.error is None
    assert (server.peer.region, server.peer.role, server.read) == (CN, "gateway", b"welcome")
    assert (client.peer.region, client.peer.role, client.read) == (EU, "coordinator", b"welcome")
    assert time.time() < client.peer.not_after_s <= time.time() + 4 * 3600
    require_peer(client.peer, region=EU, role="coordinator")


def test_client_refuses_a_hub_of_another_region_or_role(world: World) -> None:
    # given a verified coordinator of eu
    _, client = meet(world.hub(), world.gateway(), anchors=world.anchors)
    # when someone else was expected
    # then the client says whom it got
    with pytest.raises(TrustError, match="expected coordinator of region 'cn'"):
        require_peer(client.peer, region=CN, role="coordinator")
    with pytest.raises(TrustError, match="got coordinator of 'eu'"):
        require_peer(client.peer, region=EU, role="gateway")


def test_server_refuses_tls_1_2(world: World) -> None:
    # given a client that speaks no more than TLS 1.2
    old = world.gateway()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    # when it dials the hub
    server, client = meet(world.hub(), old, anchors=world.anchors)
    # then neither end gets a connection
    assert isinstance(server.error, ssl.SSLError)
    assert isinstance(client.error, ssl.SSLError)
    assert client.read == b""


def test_client_refuses_tls_1_2(world: World) -> None:
    # given a hub that speaks no more than TLS 1.2
    old = world.hub()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    # when the gateway dials it
    server, client = meet(old, world.gateway(), anchors=world.anchors)
    # then neither end gets a connection
    assert isinstance(server.error, ssl.SSLError)
    assert isinstance(client.error, ssl.SSLError)


def test_client_without_certificate_learns_of_its_refusal_when_it_reads(world: World) -> None:
    # given a client that has no certificate
    nobody = client_context(hub=world.eu.anchor)
    # when it dials the hub
    server, client = meet(world.hub(), nobody, anchors=world.anchors)
    # then its own handshake went well, and its first read brought the alert and no byte
    assert isinstance(server.error, ssl.SSLError)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(server.error)
    assert client.peer is not None
    assert isinstance(client.error, ssl.SSLError)
    assert "CERTIFICATE_REQUIRED" in str(client.error)
    assert client.read == b""


def test_server_refuses_a_stranger(world: World) -> None:
    # given a region that the agreement does not name
    stranger = new_region(CN)
    # when its gateway dials the hub
    server, client = meet(
        world.hub(), world.gateway(stranger.leaf("gateway")), anchors=world.anchors
    )
    # then the hub refuses, and the stranger's first read brings the alert
    assert "CERTIFICATE_VERIFY_FAILED" in str(server.error)
    assert isinstance(client.error, ssl.SSLError)
    assert client.read == b""


def test_client_trusts_no_root_but_the_hubs(world: World) -> None:
    # given a coordinator of cn, which the agreement names, but not as the hub
    impostor = world.cn.leaf("coordinator").load_into(server_context(anchors=world.anchors))
    # when a gateway of eu dials it
    _, client = meet(impostor, world.gateway(world.eu.leaf("gateway")), anchors=world.anchors)
    # then its handshake fails
    assert "CERTIFICATE_VERIFY_FAILED" in str(client.error)


def test_openssl_stops_a_constrained_issuer_that_names_another_region(world: World) -> None:
    # given a leaf with eu's name under cn's own issuer
    forged = Forgery(names=(uri("spiffe://eu.example/gateway"),)).mint(
        world.cn.issuer_signer, world.cn.issuer
    )
    # when it dials the hub
    server, client = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the handshake itself fails on the name constraint
    assert "permitted subtree violation" in str(server.error)
    assert isinstance(client.error, ssl.SSLError)


def _by_issuer(world: World, permitted: str | None, name: str) -> Credential:
    """A leaf under an intermediate that cn's root signed with any constraint."""
    signer, issuer = forge_issuer(world.cn.root_signer, world.cn.root, permitted=permitted)
    return Forgery(names=(uri(name),)).mint(signer, issuer)


@pytest.mark.parametrize("permitted", [None, "eu.example"])
def test_a_region_cannot_mint_anothers_name_under_its_own_root(
    world: World, permitted: str | None
) -> None:
    # given a leaf with eu's name under an issuer that cn's root let name anyone, or just eu
    forged = _by_issuer(world, permitted, "spiffe://eu.example/gateway")
    # when it dials the hub, whose OpenSSL has no reason to object
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the hub sees that the chain does not end in eu's root
    assert isinstance(server.error, TrustError)
    assert "another region minted it" in str(server.error)
    assert server.peer is None


@pytest.mark.parametrize("permitted", [None, "eu.example"])
def test_a_region_cannot_pose_as_the_hub(world: World, permitted: str | None) -> None:
    # given a coordinator's leaf with eu's name under cn's root, and a client that trusts all roots
    forged = _by_issuer(world, permitted, "spiffe://eu.example/coordinator")
    trusting = world.gateway(world.eu.leaf("gateway"))
    trusting.load_verify_locations(cadata=world.cn.anchor.root_der)
    # when the client dials it
    impostor = forged.load_into(server_context(anchors=world.anchors))
    _, client = meet(impostor, trusting, anchors=world.anchors)
    # then the client sees that the chain does not end in eu's root
    assert isinstance(client.error, TrustError)
    assert "another region minted it" in str(client.error)


def test_refuses_an_issuer_without_its_own_name_constraint(world: World) -> None:
    # given a leaf with cn's name under an issuer that could name anyone
    forged = _by_issuer(world, None, "spiffe://cn.example/gateway")
    # when it dials the hub
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the hub refuses
    assert isinstance(server.error, TrustError)
    assert "name constraint" in str(server.error)


def test_refuses_a_name_constraint_that_software_may_skip(world: World) -> None:
    # given an issuer whose constraint is right but not critical
    signer, issuer = forge_issuer(
        world.cn.root_signer, world.cn.root, permitted="cn.example", critical=False
    )
    forged = Forgery(names=(GATEWAY,)).mint(signer, issuer)
    # when its leaf dials the hub
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the hub refuses
    assert isinstance(server.error, TrustError)
    assert "one critical name constraint" in str(server.error)


def test_nobody_is_a_peer_before_the_handshake_or_without_a_chain(world: World) -> None:
    # given a connection that has not begun, and one whose server asked for no certificate
    unborn = world.hub().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    lenient = world.hub()
    lenient.verify_mode = ssl.CERT_NONE
    # when the peer is verified
    server, _ = meet(lenient, client_context(hub=world.eu.anchor), anchors=world.anchors)
    # then there is none
    with pytest.raises(TrustError, match="handshake done, got none yet"):
        verify_peer(unborn, anchors=world.anchors, now_s=time.time())
    assert "expected a chain of leaf, issuer and root, got 0" in str(server.error)


GATEWAY = uri("spiffe://cn.example/gateway")

FORGERIES = {
    "no name but a common name": Forgery(common_name="cn.example"),
    "two names": Forgery(names=(GATEWAY, uri("spiffe://cn.example/prober"))),
    "a host name beside the name": Forgery(names=(GATEWAY, x509.DNSName("cn.example"))),
    "a host name only": Forgery(names=(x509.DNSName("cn.example"),)),
    "a wildcard role": Forgery(names=(uri("spiffe://cn.example/*"),)),
    "a port": Forgery(names=(uri("spiffe://cn.example:443/gateway"),)),
    "a query": Forgery(names=(uri("spiffe://cn.example/gateway?as=hub"),)),
    "a fragment": Forgery(names=(uri("spiffe://cn.example/gateway#hub"),)),
    "a longer path": Forgery(names=(uri("spiffe://cn.example/gateway/one"),)),
    "an escaped letter": Forgery(names=(uri("spiffe://cn.example/%67ateway"),)),
    "another scheme": Forgery(names=(uri("https://cn.example/gateway"),)),
    "upper case": Forgery(names=(uri("spiffe://CN.example/gateway"),)),
    "no role": Forgery(names=(uri("spiffe://cn.example/"),)),
    "more than four hours": Forgery(names=(GATEWAY,), lifetime_s=4 * 3600 + 1),
    "a client's purpose only": Forgery(
        names=(GATEWAY,), purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)
    ),
    "a third purpose": Forgery(
        names=(GATEWAY,),
        purposes=(
            ExtendedKeyUsageOID.CLIENT_AUTH,
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CODE_SIGNING,
        ),
    ),
    "rights of an authority": Forgery(names=(GATEWAY,), authority=True, common_name="authority"),
    # The hub looks at the time itself, so that it can say whose leaf has expired.
    "expired": Forgery(names=(GATEWAY,), start_s=time.time() - 7200, lifetime_s=7100),
    "not yet valid": Forgery(names=(GATEWAY,), start_s=time.time() + 3600),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
def test_verify_peer_refuses_what_openssl_lets_through(world: World, forgery: Forgery) -> None:
    # given a leaf that cn's own issuer signed, odd in one point
    forged = forgery.mint(world.cn.issuer_signer, world.cn.issuer)
    # when it dials the hub
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then verify_peer refuses it
    assert isinstance(server.error, TrustError)
    assert server.peer is None
    assert server.read == b""


STOPPED_BY_OPENSSL = {
    "a wildcard domain": Forgery(names=(uri("spiffe://*.cn.example/gateway"),)),
    "a user name": Forgery(names=(uri("spiffe://root@cn.example/gateway"),)),
    "no link to its issuer": Forgery(names=(GATEWAY,), linked=False),
    "a server's purpose only": Forgery(
        names=(GATEWAY,), purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)
    ),
}


@pytest.mark.parametrize("forgery", STOPPED_BY_OPENSSL.values(), ids=STOPPED_BY_OPENSSL.keys())
def test_handshake_refuses(world: World, forgery: Forgery) -> None:
    # given a leaf that cn's own issuer signed, wrong in a way that OpenSSL knows
    forged = forgery.mint(world.cn.issuer_signer, world.cn.issuer)
    # when it dials the hub
    server, client = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the handshake fails, and the client's read brings nothing
    assert "CERTIFICATE_VERIFY_FAILED" in str(server.error)
    assert isinstance(client.error, ssl.SSLError)
    assert client.read == b""


@pytest.mark.parametrize("authority", [False, True])
def test_a_leaf_cannot_sign_another_leaf(world: World, authority: bool) -> None:
    # given a leaf, marked as an authority or not, that signed one of its own
    above = Forgery(names=(GATEWAY,), authority=authority, common_name="above").mint(
        world.cn.issuer_signer, world.cn.issuer
    )
    forged = Forgery(names=(GATEWAY,)).mint(P256Signer(key=above.key), *above.chain)
    # when the signed one dials the hub
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the handshake fails
    assert "CERTIFICATE_VERIFY_FAILED" in str(server.error)


def test_a_leaf_directly_under_the_root_is_refused(world: World) -> None:
    # given a leaf that cn's root signed itself
    forged = Forgery(names=(GATEWAY,)).mint(world.cn.root_signer, world.cn.root)
    # when it dials the hub
    server, _ = meet(world.hub(), world.gateway(forged), anchors=world.anchors)
    # then the hub misses the issuer in between
    assert "expected a chain of leaf, issuer and root, got 2" in str(server.error)


def test_peer_is_judged_by_the_callers_clock(world: World) -> None:
    # given a handshake that OpenSSL accepts now
    for now_s in (time.time() + 4 * 3600, time.time() - 3600):
        # when the caller's clock says that the leaf has ended, or not begun
        server, _ = meet(world.hub(), world.gateway(), anchors=world.anchors, now_s=now_s)
        # then the peer is refused
        assert "renew it, or set the clock" in str(server.error)


def test_no_session_can_be_resumed(world: World) -> None:
    # given a hub, and the same hub with tickets allowed again
    hub, generous = world.hub(), world.hub()
    generous.num_tickets = 2
    # when a gateway has read from each
    _, client = meet(hub, world.gateway(), anchors=world.anchors)
    _, other = meet(generous, world.gateway(), anchors=world.anchors)
    # then it holds a ticket of the second only, so every new connection shows its certificate
    assert client.ticket is False
    assert other.ticket is True


def test_the_environment_cannot_make_tls_log_its_keys(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # given the variable that tells TLS libraries to write session keys to a file
    keylog = tmp_path / "keylog"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keylog))
    # when contexts are made and used
    hub, gateway = world.hub(), world.gateway()
    meet(hub, gateway, anchors=world.anchors)
    # then nothing was written
    assert hub.keylog_filename is None
    assert gateway.keylog_filename is None
    assert not keylog.exists()


def test_anchors_must_differ_in_domain_key_and_subject(world: World) -> None:
    # given agreements in which two regions share something
    same_domain = Anchor(trust_domain="cn.example", root_der=world.eu.anchor.root_der)
    same_root = Anchor(trust_domain="eu.example", root_der=world.cn.anchor.root_der)
    same_subject = Anchor(trust_domain="eu.example", root_der=new_region(CN).anchor.root_der)
    # when a listener is made of them
    # then it says what they share
    for anchor, what in (
        (same_domain, "trust domain"),
        (same_root, "root key"),
        (same_subject, "root subject"),
    ):
        with pytest.raises(TrustError, match=what):
            server_context(anchors={CN: world.cn.anchor, EU: anchor})
    with pytest.raises(TrustError, match="at least one region"):
        check_anchors({})


def test_openssl_itself_verifies_a_chain(world: World, tmp_path: Path) -> None:
    # given a leaf, its issuer and its root as files
    leaf, issuer = world.cn.leaf("gateway").chain
    forged, _ = (
        Forgery(names=(uri("spiffe://eu.example/gateway"),))
        .mint(world.cn.issuer_signer, world.cn.issuer)
        .chain
    )
    for name, certificate in (
        ("leaf", leaf),
        ("issuer", issuer),
        ("root", world.cn.root),
        ("forged", forged),
    ):
        (tmp_path / name).write_bytes(to_pem(certificate))
    # when OpenSSL's own program verifies them strictly, once with a name of another region
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient"]
    verify += ["-CAfile", "root", "-untrusted", "issuer"]
    good = subprocess.run([*verify, "leaf"], cwd=tmp_path, capture_output=True, text=True)
    bad = subprocess.run([*verify, "forged"], cwd=tmp_path, capture_output=True, text=True)
    # then it agrees with us
    assert good.returncode == 0, good.stderr
    assert bad.returncode != 0
    assert "permitted subtree violation" in bad.stderr
