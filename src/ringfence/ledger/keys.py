"""Keys that sign notes, in the text forms of C2SP: verifier keys and private keys.

Source: C2SP signed-note v1.0.0, C2SP tlog-cosignature v1.0.0 (Ed25519 form).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringfence.core.errors import FormatError, TrustError

ED25519 = 0x01
"""Signature type of a log's own signature (C2SP signed-note, signature types)."""

COSIGNATURE = 0x04
"""Signature type of a witness's timestamped cosignature (C2SP tlog-cosignature)."""

_NAME_LIMIT = 255
_KEY_HASH = re.compile(r"[0-9a-f]{8}")
_PUBLIC_BYTES = 32


class Signer(Protocol):
    """A private Ed25519 key that somebody else holds.

    Guarantees: `sign` returns the 64-byte RFC 8032 signature of `message` under `public_key`, may
    be called from any thread, and raises rather than return anything else.
    """

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of RFC 8032."""

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; 64 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public key that signs notes: what `vkey` text says."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.algorithm not in (ED25519, COSIGNATURE):
            raise FormatError(
                f"note key {self.name}: expected signature type 1 (Ed25519) or 4 (cosignature), "
                f"got {self.algorithm}"
            )
        if len(self.public_key) != _PUBLIC_BYTES:
            raise FormatError(
                f"note key {self.name}: expected a public key of 32 bytes, "
                f"got {len(self.public_key)}"
            )

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand for this key in a signature line."""
        return sha256(
            self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        ).digest()[:4]

    def to_text(self) -> str:
        """Write the verifier key: `name+hash+base64(type || key)`."""
        material = base64.b64encode(bytes([self.algorithm]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @classmethod
    def from_text(cls, text: str) -> NoteKey:
        """Read a verifier key; raises FormatError when any part of it is wrong."""
        name, key_hash, material = _split_key(text, "a note's verifier key (vkey)")
        key = cls(name=name, algorithm=material[0], public_key=material[1:])
        if key.key_id.hex() != key_hash:
            raise FormatError(f"vkey of {name}: expected key id {key.key_id.hex()}, got {key_hash}")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSecret:
    """A private key in the text form `PRIVATE+KEY+name+hash+base64(type || seed)`.

    It is a `Signer`.  The text is the whole secret, unencrypted: regions keep their keys in the
    trust room; this form is for witnesses and tools that only know the C2SP one.
    """

    key: NoteKey
    seed: bytes

    def __post_init__(self) -> None:
        if _public_of(self.seed) != self.key.public_key:
            raise FormatError(f"private key of {self.key.name}: it does not fit the public key")

    def __repr__(self) -> str:
        return f"NoteSecret({self.key.name})"

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of RFC 8032."""
        return self.key.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign `message`; 64 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)

    def to_text(self) -> str:
        """Write the private key's text; handle it like the key itself."""
        material = base64.b64encode(bytes([self.key.algorithm]) + self.seed).decode()
        return f"PRIVATE+KEY+{self.key.name}+{self.key.key_id.hex()}+{material}"

    @classmethod
    def from_text(cls, text: str) -> NoteSecret:
        """Read a private key's text; raises FormatError, which never repeats the text."""
        what = "a note's private key (PRIVATE+KEY+...)"
        if not text.startswith("PRIVATE+KEY+"):
            raise FormatError(f"expected {what}")
        name, key_hash, material = _split_key(text.removeprefix("PRIVATE+KEY+"), what)
        public_key = _public_of(material[1:])
        key = NoteKey(name=name, algorithm=material[0], public_key=public_key)
        if key.key_id.hex() != key_hash:
            raise FormatError(f"private key of {name}: its key id does not fit")
        return cls(key=key, seed=material[1:])


def log_key(name: str, signer: Signer) -> NoteKey:
    """The key under which a log with origin `name` signs its checkpoints."""
    return NoteKey(name=name, algorithm=ED25519, public_key=signer.public_key)


def witness_key(name: str, signer: Signer) -> NoteKey:
    """The key under which the witness `name` cosigns."""
    return NoteKey(name=name, algorithm=COSIGNATURE, public_key=signer.public_key)


def distinct(keys: Iterable[NoteKey]) -> tuple[NoteKey, ...]:
    """Return the keys once each; raises TrustError when two names share one public key.

    An Ed25519 cosignature does not name its signer, so that one key under two names would count
    twice (C2SP tlog-cosignature: "MUST use distinct public keys").
    """
    unique = tuple(dict.fromkeys(keys))
    for number, first in enumerate(unique):
        for second in unique[:number]:
            if first.public_key == second.public_key:
                raise TrustError(f"{first.name} and {second.name} share one key; use one each")
            if (first.name, first.key_id) == (second.name, second.key_id):
                raise TrustError(f"two keys of {first.name} have the same key id; replace one")
    return unique


def from_base64(text: str, what: str) -> bytes:
    """Read canonical base64 (RFC 4648 §4): one value has one text; raises FormatError."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise FormatError(f"{what}: expected base64") from error
    if base64.b64encode(raw).decode() != text:
        raise FormatError(f"{what}: expected canonical base64 (RFC 4648 §4)")
    return raw


def check_name(name: str) -> None:
    """Raise FormatError unless `name` may stand in a signature line."""
    if (
        not 1 <= len(name) <= _NAME_LIMIT
        or "+" in name
        or any(char.isspace() or char < " " or "\ud800" <= char <= "\udfff" for char in name)
    ):
        raise FormatError(
            f"expected a key name of 1 to {_NAME_LIMIT} characters without spaces and plus signs, "
            f"got {name[:80]!r}"
        )


def _public_of(seed: bytes) -> bytes:
    if len(seed) != _PUBLIC_BYTES:
        raise FormatError(f"private key: expected 32 bytes, got {len(seed)}")
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def _split_key(text: str, what: str) -> tuple[str, str, bytes]:
    # A name holds no plus, base64 may: split twice from the left.
    parts = text.split("+", 2)
    if len(parts) != 3 or not _KEY_HASH.fullmatch(parts[1]):
        raise FormatError(f"expected {what}: name, 8 hex digits and base64, joined by plus signs")
    material = from_base64(parts[2], what)
    if len(material) < 2:
        raise FormatError(f"expected {what}: its key is missing")
    return parts[0], parts[1], material
