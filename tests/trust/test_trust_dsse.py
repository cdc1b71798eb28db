"""Envelopes: sealed once, opened only as they were sealed."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.errors import FormatError, TrustError
from ringfence.trust.dsse import Opened, open_envelope, open_signed, pae, seal, seal_also
from ringfence.trust.keys import Ed25519Signer

KIND = "application/vnd.in-toto+json"
# RFC 8032 §7.1, TEST 1: the seed is public, so this file holds no secret.
SIGNER = Ed25519Signer(
    key=ed25519.Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
)
STRANGER = Ed25519Signer(key=ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32))
FROZEN = (
    b'{"payload":"aGVsbG8gd29ybGQ=","payloadType":"http://example.com/HelloWorld",'
    b'"signatures":[{"keyid":'
    b'"sha256:21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9",'
    b'"sig":"4DHX3Zn4qpBKvEj7maE8O9u9bjXEnPLLnyXVUJ2PXJR8DSLcL3QDpFvfJOj3pB/SPHsl6Jg4boxsMb6KvuYABw=="}]}'
)


def _open(envelope: bytes, *, limit_bytes: int = 1 << 20) -> bytes:
    return open_envelope(
        envelope,
        public_key=SIGNER.public_key,
        payload_type=KIND,
        limit_bytes=limit_bytes,
        what="statement",
    )


def _changed(**fields: Any) -> bytes:
    """A sealed envelope with some fields replaced, in canonical form."""
    envelope = json.loads(seal(b"payload", payload_type=KIND, signer=SIGNER))
    return json.dumps(envelope | fields, sort_keys=True, separators=(",", ":")).encode()


def _signature(**fields: Any) -> dict[str, Any]:
    envelope = json.loads(seal(b"payload", payload_type=KIND, signer=SIGNER))
    signature: dict[str, Any] = envelope["signatures"][0] | fields
    return signature


def test_encodes_what_is_signed_as_the_specification_shows() -> None:
    # given the example of DSSE's protocol.md, "Test Vectors"
    # when it is encoded
    encoded = pae("http://example.com/HelloWorld", b"hello world")
    # then it is the published string
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    # lengths are in bytes, not in letters
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_frozen_envelope_is_still_made_and_still_opens() -> None:
    # given the bytes of an envelope that an earlier version sealed
    # when the same payload is sealed, and the frozen envelope is opened
    sealed = seal(b"hello world", payload_type="http://example.com/HelloWorld", signer=SIGNER)
    payload = open_envelope(
        FROZEN,
        public_key=SIGNER.public_key,
        payload_type="http://example.com/HelloWorld",
        limit_bytes=len(FROZEN),
        what="vector",
    )
    # then nothing has changed
    assert sealed == FROZEN
    assert payload == b"hello world"


def test_openssl_verifies_an_envelope_with_the_public_key_alone(tmp_path: Path) -> None:
    # given an envelope, taken apart by hand, and the public key
    envelope = json.loads(seal(b"payload", payload_type=KIND, signer=SIGNER))
    payload = base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    (tmp_path / "signed").write_bytes(signed)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "public.pem").write_bytes(
        ed25519.Ed25519PublicKey.from_public_bytes(SIGNER.public_key).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    # when OpenSSL's own program verifies it
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public.pem"]
    command += ["-in", "signed", "-sigfile", "signature"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    # then it agrees
    assert outcome.returncode == 0, outcome.stderr


@given(payload=st.binary(max_size=300), kind=st.text(st.characters(codec="utf-8"), max_size=40))
def test_opening_gives_back_what_was_sealed(payload: bytes, kind: str) -> None:
    # given a sealed payload of any type
    envelope = seal(payload, payload_type=kind, signer=SIGNER)
    # when it is opened
    opened = open_envelope(
        envelope,
        public_key=SIGNER.public_key,
        payload_type=kind,
        limit_bytes=len(envelope),
        what="statement",
    )
    # then nothing is lost
    assert opened == payload


@given(data=st.data())
def test_one_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    # given an envelope with one byte replaced by another
    envelope = bytearray(seal(b"payload", payload_type=KIND, signer=SIGNER))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= data.draw(st.integers(1, 255))
    # when it is opened
    # then it is refused, whatever the byte meant
    with pytest.raises((FormatError, TrustError)):
        _open(bytes(envelope))


@given(cut=st.integers(0, 200), tail=st.binary(max_size=8))
def test_a_shortened_or_lengthened_envelope_is_refused(cut: int, tail: bytes) -> None:
    # given an envelope with its end replaced
    sealed = seal(b"payload", payload_type=KIND, signer=SIGNER)
    changed = sealed[: len(sealed) - cut] + tail
    if changed == sealed:
        return
    # when it is opened
    # then it is refused
    with pytest.raises(FormatError):
        _open(changed)


@given(data=st.binary(max_size=200))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    # given bytes that nobody sealed
    # when they are opened
    # then they are refused and nothing else is raised
    with pytest.raises((FormatError, TrustError)):
        _open(data)


def test_refuses_a_strangers_signature_even_under_our_keyid() -> None:
    # given an envelope that a stranger sealed, and one where the stranger claims our key
    honest = seal(b"payload", payload_type=KIND, signer=STRANGER)
    lying = honest.replace(STRANGER.keyid.encode(), SIGNER.keyid.encode())
    # when they are opened
    # then the first is by another key, and the second does not hold
    with pytest.raises(TrustError, match="expected a signature by key"):
        _open(honest)
    with pytest.raises(TrustError, match="signature does not hold"):
        _open(lying)


def test_refuses_a_payload_of_another_type() -> None:
    # given a sealed receipt
    envelope = seal(b"payload", payload_type="application/other", signer=SIGNER)
    # when it is opened as a statement
    # then the types differ; and renaming the type breaks the signature
    with pytest.raises(TrustError, match="expected payload type"):
        _open(envelope)
    with pytest.raises(TrustError, match="signature does not hold"):
        _open(envelope.replace(b"application/other", KIND.encode()))


def test_looks_at_the_length_first() -> None:
    # given an envelope one byte longer than allowed
    envelope = seal(b"payload", payload_type=KIND, signer=SIGNER)
    # when it is opened
    # then nothing of it was parsed
    with pytest.raises(FormatError, match="expected at most"):
        _open(envelope, limit_bytes=len(envelope) - 1)
    assert _open(envelope, limit_bytes=len(envelope)) == b"payload"


MALFORMED = {
    "an unknown field": _changed(note="x"),
    "no signature": _changed(signatures=[]),
    "two signatures": _changed(signatures=[_signature(), _signature()]),
    "an unknown field in the signature": _changed(signatures=[_signature(cert="x")]),
    "a keyid that is missing": _changed(signatures=[{"sig": _signature()["sig"]}]),
    "base64 with the other alphabet": _changed(payload="_-__"),
    "base64 without padding": _changed(payload="cGF5bG9hZA"),
    "base64 with spare bits": _changed(payload="cGF5bG9hZB=="),
    "base64 with a space": _changed(payload="cGF5 bG9hZA=="),
    "base64 with letters beyond ASCII": _changed(payload="é==="),
    "a signature that is no base64": _changed(signatures=[_signature(sig="!")]),
    "a number as payload": _changed(payload=1),
    "spaces between fields": json.dumps(json.loads(_changed())).encode(),
    "a repeated field": _changed().replace(b'{"payload":', b'{"payload":"","payload":', 1),
    "another order of fields": json.dumps(
        dict(reversed(json.loads(_changed()).items())), separators=(",", ":")
    ).encode(),
    "a newline at the end": _changed() + b"\n",
}


@pytest.mark.parametrize("envelope", MALFORMED.values(), ids=MALFORMED.keys())
def test_refuses_an_envelope_with(envelope: bytes) -> None:
    # given an envelope that carries the right signature in the wrong form
    # when it is opened
    # then it is refused as malformed
    with pytest.raises(FormatError, match=r"^statement"):
        _open(envelope)


def test_refuses_a_signature_of_another_length() -> None:
    # given signatures one byte too short and too long
    signature = base64.b64decode(_signature()["sig"])
    for wrong in (signature[:-1], signature + b"\x00", b""):
        envelope = _changed(signatures=[_signature(sig=base64.b64encode(wrong).decode())])
        # when the envelope is opened
        # then it does not hold
        with pytest.raises(TrustError):
            _open(envelope)


# ── several signatures ──

SECOND = Ed25519Signer(key=ed25519.Ed25519PrivateKey.from_private_bytes(b"\x09" * 32))


def _also(envelope: bytes, signer: Ed25519Signer) -> bytes:
    return seal_also(envelope, signer=signer, limit_bytes=1 << 20, what="paper")


def _open_signed(envelope: bytes, *signers: Ed25519Signer) -> Opened:
    return open_signed(
        envelope,
        public_keys=[signer.public_key for signer in signers],
        payload_types=(KIND,),
        limit_bytes=1 << 20,
        what="paper",
    )


def test_several_sign_the_same_bytes_in_any_order() -> None:
    # given two people who sign one after the other, either first
    one = _also(seal(b"payload", payload_type=KIND, signer=SIGNER), SECOND)
    other = _also(seal(b"payload", payload_type=KIND, signer=SECOND), SIGNER)
    # when it is opened
    opened = _open_signed(one, SIGNER, SECOND, STRANGER)
    # then both are said to have signed, and there is one envelope of both
    assert one == other
    assert opened.payload == b"payload"
    assert set(opened.signers) == {SIGNER.public_key, SECOND.public_key}


def test_an_envelope_of_one_signature_is_opened_alike() -> None:
    envelope = seal(b"payload", payload_type=KIND, signer=SIGNER)
    assert _open_signed(envelope, SIGNER).payload == _open(envelope)


def test_no_signature_of_several_is_passed_over() -> None:
    # given an envelope that two have signed, one of whom nobody named
    envelope = _also(seal(b"payload", payload_type=KIND, signer=SIGNER), STRANGER)
    # when it is opened, then nothing of it is believed
    with pytest.raises(TrustError, match="none of the 2 that may sign"):
        _open_signed(envelope, SIGNER, SECOND)


@given(data=st.data())
def test_one_changed_byte_of_several_signatures_is_refused(data: st.DataObject) -> None:
    envelope = bytearray(_also(seal(b"payload", payload_type=KIND, signer=SIGNER), SECOND))
    place = data.draw(st.integers(0, len(envelope) - 1))
    envelope[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((FormatError, TrustError)):
        _open_signed(bytes(envelope), SIGNER, SECOND)


@pytest.mark.parametrize("order", [[], [0, 0], [1, 0], [0, 1, 1]])
def test_signatures_stand_once_each_and_in_order(order: list[int]) -> None:
    # given the signatures of two in another number or order
    envelope = json.loads(_also(seal(b"payload", payload_type=KIND, signer=SIGNER), SECOND))
    signatures = [envelope["signatures"][n] for n in order]
    changed = json.dumps(
        envelope | {"signatures": signatures}, sort_keys=True, separators=(",", ":")
    )
    # when it is opened, then it is malformed
    with pytest.raises(FormatError, match="in order of key id"):
        _open_signed(changed.encode(), SIGNER, SECOND)


def test_nobody_signs_the_same_bytes_twice() -> None:
    with pytest.raises(FormatError, match="has signed it already"):
        _also(seal(b"payload", payload_type=KIND, signer=SIGNER), SIGNER)
