"""Signed envelopes: DSSE v1 with exactly one Ed25519 signature.

Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from ringfence.core import canonical
from ringfence.core.errors import FormatError, TrustError
from ringfence.trust.keys import Signer, keyid_of, verify_ed25519


class _Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed (protocol.md, "Signature Definition").

    Lengths come before what they measure, so no two pairs encode alike.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, *, payload_type: str, signer: Signer) -> bytes:
    """Sign `payload` as `payload_type`; returns the envelope's canonical JSON."""
    signature = _Signature(keyid=signer.keyid, sig=_base64(signer.sign(pae(payload_type, payload))))
    return canonical.to_bytes(
        _Envelope(payload=_base64(payload), payload_type=payload_type, signatures=(signature,))
    )


def open_envelope(
    envelope: bytes, *, public_key: bytes, payload_type: str, limit_bytes: int, what: str
) -> bytes:
    """Verify `envelope` under the raw Ed25519 `public_key` and return its payload.

    `limit_bytes` bounds the envelope and is looked at first.  Raises: FormatError when the bytes
    are not one canonical envelope with one signature; TrustError when the payload has another
    type, the key is another, or the signature does not hold.
    """
    parsed = canonical.from_bytes(envelope, _Envelope, what=what, limit_bytes=limit_bytes)
    # INVARIANT: one payload under one key has one envelope, byte for byte.  Else a courier could
    # add spaces or a repeated field and make a second digest for the same statement.
    if canonical.to_bytes(parsed) != envelope:
        raise FormatError(f"{what}: expected canonical JSON; send the envelope as it was sealed")
    if len(parsed.signatures) != 1:
        raise FormatError(f"{what}: expected exactly one signature, got {len(parsed.signatures)}")
    (signature,) = parsed.signatures
    if parsed.payload_type != payload_type:
        raise TrustError(
            f"{what}: expected payload type {payload_type!r}, got {parsed.payload_type[:80]!r}"
        )
    if signature.keyid != keyid_of(public_key):
        raise TrustError(
            f"{what}: expected a signature by key {keyid_of(public_key)}, "
            f"got one by {signature.keyid[:80]!r}"
        )
    payload = _unbase64(parsed.payload, what=f"{what}: payload")
    sig = _unbase64(signature.sig, what=f"{what}: signature")
    verify_ed25519(public_key, pae(payload_type, payload), sig, what=what)
    return payload


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str, *, what: str) -> bytes:
    """Standard alphabet, padded, no spare bits (RFC 4648 §3.5): one text for one value."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"{what}: expected standard base64") from error
    if _base64(data) != text:
        raise FormatError(f"{what}: expected canonical base64")
    return data
