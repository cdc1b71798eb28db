"""X.509 of one region: its offline root, its online issuer, and the short-lived leaves.

    root = create_root(root_signer, trust_domain="cn.example", now_s=clock())
    issuer = create_issuer(root_signer, root, public_key=issuer_signer.public_key,
                           trust_domain="cn.example", now_s=clock())
    leaf = issue_leaf(issuer_signer, issuer, identity=gateway, public_key=key, now_s=clock())

All keys are P-256, all signatures ECDSA with SHA-256.  Source: RFC 5280; X509-SVID §4 (SPIFFE).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import FormatError, TrustError
from ringfence.trust.encoding import public_key_of
from ringfence.trust.keys import Signer
from ringfence.trust.names import SpiffeId, parse_trust_domain

DAY_S = 24 * 3600
ROOT_LIFETIME_S = 3652 * DAY_S
"""Ten years."""
ISSUER_LIFETIME_S = 365 * DAY_S
LEAF_LIFETIME_S = 4 * 3600
"""Longest life of a leaf from notBefore to notAfter; nobody accepts a longer one."""
BACKDATE_S = 60
"""How far notBefore lies in the past, so that a peer whose clock is a little behind accepts."""

_EXTENDED_USAGE = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def create_root(
    signer: Signer,
    *,
    trust_domain: str,
    now_s: float,
    lifetime_s: float = ROOT_LIFETIME_S,
) -> x509.Certificate:
    """Self-signed CA of a region; `signer` holds the offline P-256 key."""
    name = _name(trust_domain, "root")
    builder = _builder(
        subject=name,
        issuer=name,
        public_key=_public_key(signer.public_key),
        not_before_s=now_s - BACKDATE_S,
        not_after_s=now_s + lifetime_s,
    )
    return _sign(_authority(builder, path_length=1), signer, parent=None)


def create_issuer(
    root_signer: Signer,
    root: x509.Certificate,
    *,
    public_key: bytes,
    trust_domain: str,
    now_s: float,
    lifetime_s: float = ISSUER_LIFETIME_S,
) -> x509.Certificate:
    """Online intermediate that can name processes of `trust_domain` and nobody else.

    `public_key` is the issuer's P-256 key (SubjectPublicKeyInfo, DER).  Raises: TrustError when
    `root` is another key's, or ends before now.
    """
    if public_key_of(root) != root_signer.public_key:
        raise TrustError("root certificate and root key do not belong together; load the other one")
    builder = _builder(
        subject=_name(trust_domain, "issuer"),
        issuer=root.subject,
        public_key=_public_key(public_key),
        not_before_s=now_s - BACKDATE_S,
        not_after_s=_capped(now_s + lifetime_s, root, now_s=now_s),
    )
    # RFC 5280 §4.2.1.10: for a URI the constraint is its host, so the trust domain itself.
    builder = _authority(builder, path_length=0).add_extension(
        x509.NameConstraints(
            permitted_subtrees=[x509.UniformResourceIdentifier(trust_domain)],
            excluded_subtrees=None,
        ),
        critical=True,
    )
    return _sign(builder, root_signer, parent=root)


def issue_leaf(
    signer: Signer,
    issuer: x509.Certificate,
    *,
    public_key: bytes,
    identity: SpiffeId,
    now_s: float,
    lifetime_s: float = LEAF_LIFETIME_S,
) -> x509.Certificate:
    """Leaf for `public_key` (P-256, SubjectPublicKeyInfo, DER) under the name `identity`.

    `lifetime_s` counts from notBefore, one minute ago; the leaf never outlives its issuer.
    Raises: TrustError when more than four hours are asked for, or the issuer has expired.
    """
    if not BACKDATE_S < lifetime_s <= LEAF_LIFETIME_S:
        raise TrustError(
            f"leaf {identity.uri}: expected a lifetime above {BACKDATE_S} s and at most "
            f"{LEAF_LIFETIME_S} s, got {lifetime_s:.0f} s"
        )
    not_before_s = now_s - BACKDATE_S
    builder = _builder(
        subject=x509.Name([]),
        issuer=issuer.subject,
        public_key=_public_key(public_key),
        not_before_s=not_before_s,
        not_after_s=_capped(not_before_s + lifetime_s, issuer, now_s=now_s),
    )
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_EXTENDED_USAGE), critical=False)
        # Critical because the subject is empty (RFC 5280 §4.2.1.6).
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)]),
            critical=True,
        )
    )
    return _sign(builder, signer, parent=issuer)


def create_request(key: ec.EllipticCurvePrivateKey, *, identity: SpiffeId) -> bytes:
    """PKCS#10 request in PEM: `key` asks to be named `identity`."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri)])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(names, critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def constrained_domain(issuer: x509.Certificate) -> str:
    """The one trust domain that `issuer` may name; raises `TrustError` when it may name others."""
    try:
        extension = issuer.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound as error:
        raise TrustError("issuer certificate: expected a name constraint, got none") from error
    permitted = extension.value.permitted_subtrees or []
    if (
        not extension.critical
        or len(permitted) != 1
        or not isinstance(permitted[0], x509.UniformResourceIdentifier)
    ):
        raise TrustError(
            "issuer certificate: expected one critical name constraint on a URI's host; "
            "issue it again from the region's root"
        )
    return parse_trust_domain(permitted[0].value)


class _SignerKey:
    """A `Signer` in the shape that cryptography's builders ask for."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.curve = ec.SECP256R1()

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return _public_key(self._signer.public_key)

    def sign(self, data: bytes, algorithm: ec.ECDSA) -> bytes:
        return self._signer.sign(data)


# The builders look for this abstract class; registered, a signer in hardware passes as well.
ec.EllipticCurvePrivateKey.register(_SignerKey)


def _sign(
    builder: x509.CertificateBuilder, signer: Signer, *, parent: x509.Certificate | None
) -> x509.Certificate:
    if parent is not None:
        identifier = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    return builder.sign(cast(ec.EllipticCurvePrivateKey, _SignerKey(signer)), hashes.SHA256())


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    not_before_s: float,
    not_after_s: float,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(not_before_s), UTC))
        .not_valid_after(datetime.fromtimestamp(int(not_after_s), UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority(builder: x509.CertificateBuilder, *, path_length: int) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    return builder.add_extension(constraints, critical=True).add_extension(
        _usage(signs_certificates=True), critical=True
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(trust_domain: str, purpose: str) -> x509.Name:
    """RFC 2247: one domain component a label, so that two regions never share a subject."""
    labels = reversed(parse_trust_domain(trust_domain).split("."))
    return x509.Name(
        [x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in labels]
        + [x509.NameAttribute(NameOID.COMMON_NAME, purpose)]
    )


def _public_key(data: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FormatError("expected a P-256 public key in DER") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise FormatError(f"expected a P-256 public key, got {type(key).__name__}")
    return key


def _capped(not_after_s: float, parent: x509.Certificate, *, now_s: float) -> float:
    parent_end_s = parent.not_valid_after_utc.timestamp()
    if parent_end_s <= now_s:
        raise TrustError(
            f"certificate {parent.subject.rfc4514_string()} expired at "
            f"{to_rfc3339(parent_end_s)}; renew it before it signs"
        )
    return min(not_after_s, parent_end_s)
