"""Certificates to bytes and back."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ringfence.core.errors import FormatError

_PEM_LIMIT_BYTES = 64 * 1024


def to_pem(*certificates: x509.Certificate) -> bytes:
    """Certificates one after the other, leaf first, as TLS sends them."""
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def to_der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def chain_from_pem(data: bytes, *, what: str) -> tuple[x509.Certificate, ...]:
    """Parse one or more certificates; raises `FormatError`."""
    if len(data) > _PEM_LIMIT_BYTES:
        raise FormatError(f"{what}: expected at most {_PEM_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return tuple(x509.load_pem_x509_certificates(data))
    except (ValueError, x509.InvalidVersion) as error:
        raise FormatError(f"{what}: expected certificates in PEM") from error


def from_pem(data: bytes, *, what: str) -> x509.Certificate:
    """Parse exactly one certificate; raises `FormatError`."""
    chain = chain_from_pem(data, what=what)
    if len(chain) != 1:
        raise FormatError(f"{what}: expected one certificate, got {len(chain)}")
    return chain[0]


def from_der(data: bytes, *, what: str) -> x509.Certificate:
    """Parse one certificate; raises `FormatError`."""
    if len(data) > _PEM_LIMIT_BYTES:
        raise FormatError(f"{what}: expected at most {_PEM_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        return x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise FormatError(f"{what}: expected a certificate in DER") from error


def public_key_of(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
