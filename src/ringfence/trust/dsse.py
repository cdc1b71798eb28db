"""Signed envelopes: DSSE v1 with one Ed25519 signature, or several over the same bytes.

Source: https://github.com/secure-systems-lab/dsse, protocol.md and envelope.md, v1.0.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What an envelope held, and the raw public keys whose signatures over it all hold."""

    payload: bytes
    payload_type: str
    signers: tuple[bytes, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: the bytes that are signed (protocol.md, "Signature Definition").

    Lengths come before what they measure, so no two pairs encode alike.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, *, payload_type: str, signer: Signer) -> bytes:
    """Sign `payload` as `payload_type`; returns the envelope's canonical JSON."""
    signature = _sign(payload, payload_type, signer)
    return canonical.to_bytes(
        _Envelope(payload=_base64(payload), payload_type=payload_type, signatures=(signature,))
    )


def seal_also(envelope: bytes, *, signer: Signer, limit_bytes: int, what: str) -> bytes:
    """Add `signer`'s signature over the same bytes; the ones that are there stay as they are.

    The caller has verified `envelope` (`open_signed`).  Raises: FormatError when it is none, or
    `signer` has signed it already.
    """
    parsed = _parse(envelope, limit_bytes=limit_bytes, what=what)
    if signer.keyid in {signature.keyid for signature in parsed.signatures}:
        raise FormatError(f"{what}: key {signer.keyid} has signed it already; ask another person")
    payload = _unbase64(parsed.payload, what=f"{what}: payload")
    added = _sign(payload, parsed.payload_type, signer)
    signatures = sorted((*parsed.signatures, added), key=_keyid)
    return canonical.to_bytes(
        msgspec.structs.replace(parsed, signatures=tuple(signatures)),
    )


def open_envelope(
    envelope: bytes, *, public_key: bytes, payload_type: str, limit_bytes: int, what: str
) -> bytes:
    """Verify `envelope` under the raw Ed25519 `public_key` and return its payload.

    `limit_bytes` bounds the envelope and is looked at first.  Raises: FormatError when the bytes
    are not one canonical envelope with one signature; TrustError when the payload has another
    type, the key is another, or the signature does not hold.
    """
    parsed = _parse(envelope, limit_bytes=limit_bytes, what=what)
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
    _verify(signature, public_key, payload_type, payload, what=what)
    return payload


def open_signed(
    envelope: bytes,
    *,
    public_keys: Collection[bytes],
    payload_types: Collection[str],
    limit_bytes: int,
    what: str,
) -> Opened:
    """Verify every signature of `envelope`; each must be by one of the raw Ed25519 `public_keys`.

    INVARIANT: no signature is passed over.  One by a stranger, or two by one key, and nothing of
    the envelope is believed; who must have signed is for the caller to say.
    Raises: FormatError when the bytes are not one canonical envelope, with signatures in order of
    key id and one for each key; TrustError when the payload has another type, a key is another, or
    a signature does not hold.
    """
    parsed = _parse(envelope, limit_bytes=limit_bytes, what=what)
    keyids = [signature.keyid for signature in parsed.signatures]
    if not keyids or keyids != sorted(set(keyids)):
        raise FormatError(
            f"{what}: expected signatures in order of key id, one for each key, "
            f"got {len(keyids)} by {len(set(keyids))} keys"
        )
    if parsed.payload_type not in payload_types:
        raise TrustError(
            f"{what}: expected payload type {' or '.join(sorted(payload_types))}, "
            f"got {parsed.payload_type[:80]!r}"
        )
    known = {keyid_of(key): key for key in public_keys}
    payload = _unbase64(parsed.payload, what=f"{what}: payload")
    for signature in parsed.signatures:
        if signature.keyid not in known:
            raise TrustError(
                f"{what}: is signed by key {signature.keyid[:80]!r}, which is none of the "
                f"{len(known)} that may sign it; take that signature away or name the key"
            )
        _verify(signature, known[signature.keyid], parsed.payload_type, payload, what=what)
    return Opened(
        payload=payload,
        payload_type=parsed.payload_type,
        signers=tuple(known[keyid] for keyid in keyids),
    )


def _parse(envelope: bytes, *, limit_bytes: int, what: str) -> _Envelope:
    parsed = canonical.from_bytes(envelope, _Envelope, what=what, limit_bytes=limit_bytes)
    # INVARIANT: one payload under one key has one envelope, byte for byte.  Else a courier could
    # add spaces or a repeated field and make a second digest for the same statement.
    if canonical.to_bytes(parsed) != envelope:
        raise FormatError(f"{what}: expected canonical JSON; send the envelope as it was sealed")
    return parsed


def _sign(payload: bytes, payload_type: str, signer: Signer) -> _Signature:
    return _Signature(keyid=signer.keyid, sig=_base64(signer.sign(pae(payload_type, payload))))


def _verify(
    signature: _Signature, public_key: bytes, payload_type: str, payload: bytes, *, what: str
) -> None:
    sig = _unbase64(signature.sig, what=f"{what}: signature")
    verify_ed25519(public_key, pae(payload_type, payload), sig, what=what)


def _keyid(signature: _Signature) -> str:
    return signature.keyid


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
