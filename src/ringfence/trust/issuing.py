"""What a region's issuer signs: a leaf for one of its own roles, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from ringfence.core.errors import ConfigError, FormatError, TrustError
from ringfence.trust.certificates import LEAF_LIFETIME_S, constrained_domain, issue_leaf
from ringfence.trust.encoding import public_key_of, to_pem
from ringfence.trust.keys import Signer
from ringfence.trust.names import SpiffeId, parse_spiffe_id

REQUEST_LIMIT_BYTES = 16 * 1024
"""Longest certificate request; one for a P-256 key takes about 400 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The issuer's certificate, the key behind it, and what it may hand out."""

    signer: Signer
    certificate: x509.Certificate
    roles: frozenset[str]
    lifetime_s: float = LEAF_LIFETIME_S

    def __post_init__(self) -> None:
        if public_key_of(self.certificate) != self.signer.public_key:
            raise ConfigError("issuer certificate and issuer key do not belong together")
        if not self.roles:
            raise ConfigError("issuer: expected at least one role, such as 'gateway', got none")
        if self.lifetime_s > LEAF_LIFETIME_S:
            raise ConfigError(
                f"issuer: expected leaves of at most {LEAF_LIFETIME_S} s, got {self.lifetime_s}"
            )
        constrained_domain(self.certificate)


def issue(request_pem: bytes, *, authority: Authority, now_s: float) -> bytes:
    """Answer a PKCS#10 request with the chain leaf, issuer (PEM).

    Of the request only the key and the name are used.  Raises: FormatError when it does not parse
    or its key is not P-256; TrustError when its signature does not hold, it asks for more than one
    name, or the name is of another trust domain or an unlisted role.
    """
    request, public_key = _parse(request_pem)
    identity = _only_name(request)
    domain = constrained_domain(authority.certificate)
    if identity.trust_domain != domain:
        raise TrustError(f"certificate request: expected a name in {domain!r}, got {identity.uri}")
    if identity.role not in authority.roles:
        raise TrustError(
            f"certificate request: expected a role of {sorted(authority.roles)}, "
            f"got {identity.role!r}; the region's settings list the roles"
        )
    leaf = issue_leaf(
        authority.signer,
        authority.certificate,
        public_key=public_key,
        identity=identity,
        now_s=now_s,
        lifetime_s=authority.lifetime_s,
    )
    return to_pem(leaf, authority.certificate)


def _parse(request_pem: bytes) -> tuple[x509.CertificateSigningRequest, bytes]:
    """The request and its public key, of which the sender proved possession."""
    if len(request_pem) > REQUEST_LIMIT_BYTES:
        raise FormatError(
            f"certificate request: expected at most {REQUEST_LIMIT_BYTES} bytes, "
            f"got {len(request_pem)}"
        )
    try:
        request = x509.load_pem_x509_csr(request_pem)
        public_key = request.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        proven = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatError("certificate request: expected PKCS#10 in PEM") from error
    if not proven:
        raise TrustError("certificate request: not signed by the key that it carries")
    return request, public_key


def _only_name(request: x509.CertificateSigningRequest) -> SpiffeId:
    try:
        extensions = list(request.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise FormatError("certificate request: its extensions do not parse") from error
    if len(extensions) != 1 or len(request.subject) != 0:
        raise TrustError("certificate request: expected a subject alternative name, nothing else")
    names = extensions[0].value
    if not isinstance(names, x509.SubjectAlternativeName) or len(list(names)) != 1:
        raise TrustError("certificate request: expected exactly one name")
    (name,) = names
    if not isinstance(name, x509.UniformResourceIdentifier):
        raise TrustError("certificate request: expected a SPIFFE id as its name")
    return parse_spiffe_id(name.value)
