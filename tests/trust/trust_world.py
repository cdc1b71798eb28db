"""Regions with real keys and certificates, the certificates that an attacker would like to have,
and one real handshake over loopback."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringfence.core.ids import RegionId
from ringfence.trust.certificates import create_issuer, create_root, issue_leaf
from ringfence.trust.encoding import to_der, to_pem
from ringfence.trust.issuing import Authority
from ringfence.trust.keys import P256Signer
from ringfence.trust.names import SpiffeId
from ringfence.trust.peers import Anchor, Peer
from ringfence.trust.tls import client_context, load_leaf, server_context, verify_peer

EU = RegionId("eu")
CN = RegionId("cn")
BOTH_PURPOSES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def new_signer() -> P256Signer:
    return P256Signer(key=ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A chain as TLS sends it, and the key of its leaf."""

    chain: tuple[x509.Certificate, ...]
    key: ec.EllipticCurvePrivateKey

    def load_into(self, context: ssl.SSLContext) -> ssl.SSLContext:
        load_leaf(context, chain_pem=to_pem(*self.chain), key=self.key)
        return context


@dataclass(frozen=True, kw_only=True)
class Region:
    """One region's offline root and online issuer."""

    id: RegionId
    domain: str
    root_signer: P256Signer
    root: x509.Certificate
    issuer_signer: P256Signer
    issuer: x509.Certificate

    @property
    def anchor(self) -> Anchor:
        return Anchor(trust_domain=self.domain, root_der=to_der(self.root))

    def authority(self, *roles: str) -> Authority:
        return Authority(signer=self.issuer_signer, certificate=self.issuer, roles=frozenset(roles))

    def leaf(self, role: str, *, now_s: float | None = None) -> Credential:
        """A leaf as the issuer would hand it out."""
        signer = new_signer()
        leaf = issue_leaf(
            self.issuer_signer,
            self.issuer,
            public_key=signer.public_key,
            identity=SpiffeId(trust_domain=self.domain, role=role),
            now_s=time.time() if now_s is None else now_s,
        )
        return Credential(chain=(leaf, self.issuer), key=signer.key)


def new_region(id_: RegionId, *, now_s: float | None = None) -> Region:
    now_s = time.time() if now_s is None else now_s
    domain = f"{id_}.example"
    root_signer, issuer_signer = new_signer(), new_signer()
    root = create_root(root_signer, trust_domain=domain, now_s=now_s)
    issuer = create_issuer(
        root_signer,
        root,
        public_key=issuer_signer.public_key,
        trust_domain=domain,
        now_s=now_s,
    )
    return Region(
        id=id_,
        domain=domain,
        root_signer=root_signer,
        root=root,
        issuer_signer=issuer_signer,
        issuer=issuer,
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """The hub's region and another one, as an agreement would name them."""

    eu: Region
    cn: Region

    @property
    def anchors(self) -> Mapping[RegionId, Anchor]:
        return {EU: self.eu.anchor, CN: self.cn.anchor}

    def hub(self) -> ssl.SSLContext:
        return self.eu.leaf("coordinator").load_into(server_context(anchors=self.anchors))

    def gateway(self, credential: Credential | None = None) -> ssl.SSLContext:
        credential = credential or self.cn.leaf("gateway")
        return credential.load_into(client_context(hub=self.eu.anchor))


def new_world() -> World:
    return World(eu=new_region(EU), cn=new_region(CN))


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """A leaf of any shape, signed by whoever was persuaded to sign it."""

    names: tuple[x509.GeneralName, ...] = ()
    common_name: str | None = None
    lifetime_s: float = 3600
    start_s: float = field(default_factory=lambda: time.time() - 60)
    purposes: tuple[x509.ObjectIdentifier, ...] = BOTH_PURPOSES
    authority: bool = False
    linked: bool = True

    def mint(
        self, signer: P256Signer, issuer: x509.Certificate, *above: x509.Certificate
    ) -> Credential:
        key = ec.generate_private_key(ec.SECP256R1())
        common = []
        if self.common_name is not None:
            common.append(x509.NameAttribute(NameOID.COMMON_NAME, self.common_name))
        builder = _base(x509.Name(common), issuer, key.public_key(), self.start_s, self.lifetime_s)
        if self.linked:
            builder = builder.add_extension(_link(issuer), critical=False)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=self.authority, path_length=None), critical=True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=False)
        builder = builder.add_extension(_usage(authority=self.authority), critical=True)
        if self.names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(self.names), critical=not common
            )
        return Credential(
            chain=(builder.sign(signer.key, hashes.SHA256()), issuer, *above), key=key
        )


def forge_issuer(
    signer: P256Signer, root: x509.Certificate, *, permitted: str | None, critical: bool = True
) -> tuple[P256Signer, x509.Certificate]:
    """An intermediate with any name constraint, or none."""
    own = new_signer()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")])
    builder = _base(name, root, own.key.public_key(), time.time() - 60, 86400)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    builder = builder.add_extension(_link(root), critical=False)
    if permitted is not None:
        uri = x509.UniformResourceIdentifier(permitted)
        builder = builder.add_extension(
            x509.NameConstraints(permitted_subtrees=[uri], excluded_subtrees=None),
            critical=critical,
        )
    return own, builder.sign(signer.key, hashes.SHA256())


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def _base(
    subject: x509.Name,
    issuer: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    start_s: float,
    lifetime_s: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(start_s), UTC))
        .not_valid_after(datetime.fromtimestamp(int(start_s + lifetime_s), UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _link(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, kw_only=True)
class End:
    """What one end of a connection came to: the peer it verified, the bytes it read, or neither.

    `ticket` says whether a session came that could be resumed.
    """

    peer: Peer | None = None
    read: bytes = b""
    ticket: bool | None = None
    error: Exception | None = None


def meet(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    *,
    anchors: Mapping[RegionId, Anchor],
    now_s: float | None = None,
) -> tuple[End, End]:
    """Let both ends shake hands over loopback, verify each other, then exchange 7 bytes.

    The server speaks first, so that a client that was refused reads before it writes.  Returns the
    server's end and the client's.
    """
    judge = partial(verify_peer, anchors=anchors, now_s=time.time() if now_s is None else now_s)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        ends: list[End] = []
        thread = threading.Thread(target=lambda: ends.append(_serve(listener, server, judge)))
        thread.start()
        raw = socket.create_connection(listener.getsockname()[:2], timeout=10)
        client_end = _one_end(raw, partial(client.wrap_socket, server_side=False), judge)
        thread.join()
    return ends[0], client_end


def _serve(
    listener: socket.socket, context: ssl.SSLContext, judge: Callable[[ssl.SSLSocket], Peer]
) -> End:
    raw, _ = listener.accept()
    raw.settimeout(10)
    return _one_end(raw, partial(context.wrap_socket, server_side=True), judge)


def _one_end(
    raw: socket.socket,
    wrap: Callable[[socket.socket], ssl.SSLSocket],
    judge: Callable[[ssl.SSLSocket], Peer],
) -> End:
    peer = None
    try:
        with raw, wrap(raw) as connection:
            peer = judge(connection)
            if connection.server_side:
                connection.sendall(b"welcome")
            read = connection.recv(7)
            if not connection.server_side:
                connection.sendall(b"welcome")
            return End(peer=peer, read=read, ticket=connection.session.has_ticket)
    except Exception as error:  # noqa: BLE001 — the test looks at it
        return End(peer=peer, error=error)
