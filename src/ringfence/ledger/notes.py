"""Signed notes and their keys: Ed25519 signatures and timestamped witness cosignatures.

Sources: C2SP signed-note v1.0.0, C2SP tlog-cosignature v1.0.0 (Ed25519 form).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ringfence.core.errors import FormatError, TrustError

ED25519 = 0x01
"""Signature type of a log's own signature (C2SP signed-note, signature types)."""

COSIGNATURE = 0x04
"""Signature type of a witness's timestamped cosignature (C2SP tlog-cosignature)."""

NOTE_LIMIT_BYTES = 64 * 1024
SIGNATURES_LIMIT = 100
"""Unknown signature lines are ignored, but they count (the specification asks for at least 16)."""

_DASH = "\N{EM DASH}"
_NAME_LIMIT = 255
_KEY_HASH = re.compile(r"[0-9a-f]{8}")
_PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_TIME_LIMIT = 2**63 - 1


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
        _check_name(self.name)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature line; `blob` is what follows the key id."""

    name: str
    key_id: bytes
    blob: bytes

    def to_line(self) -> str:
        """Write the line, with its newline."""
        encoded = base64.b64encode(self.key_id + self.blob).decode()
        return f"{_DASH} {self.name} {encoded}\n"

    @classmethod
    def from_line(cls, line: str) -> Signature:
        """Read exactly one line, with its newline; raises FormatError."""
        start, end = f"{_DASH} ", "\n"
        parts = line[len(start) : -1].split(" ")
        if not (line.startswith(start) and line.endswith(end) and len(parts) == 2):
            raise FormatError(f"expected a signature line '{_DASH} name base64', got {line[:80]!r}")
        _check_name(parts[0])
        raw = from_base64(parts[1], "signature line")
        if len(raw) <= 4:
            raise FormatError(f"signature line of {parts[0]}: expected more than a key id")
        return cls(name=parts[0], key_id=raw[:4], blob=raw[4:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text that ends in a newline, and the signature lines under it."""

    text: str
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        _check_text(self.text)
        if not self.text.endswith("\n"):
            raise FormatError("signed note: expected a text that ends in a newline")
        if not 1 <= len(self.signatures) <= SIGNATURES_LIMIT:
            raise FormatError(
                f"signed note: expected 1 to {SIGNATURES_LIMIT} signature lines, "
                f"got {len(self.signatures)}"
            )

    def to_text(self) -> str:
        """Write the note: text, empty line, signature lines."""
        return self.text + "\n" + "".join(line.to_line() for line in self.signatures)

    @classmethod
    def from_text(cls, note: str) -> Note:
        """Read a note strictly; raises FormatError."""
        _check_text(note)
        # The *last* empty line separates: the text itself may hold empty lines.
        text, separator, lines = note.rpartition("\n\n")
        if not separator or not lines.endswith("\n"):
            raise FormatError("signed note: expected a text, an empty line and signature lines")
        # Not splitlines(): it also splits at characters that are no newline to the specification.
        signature_lines = lines[:-1].split("\n")
        if len(signature_lines) > SIGNATURES_LIMIT:
            raise FormatError(f"signed note: expected at most {SIGNATURES_LIMIT} signature lines")
        signatures = tuple(Signature.from_line(line + "\n") for line in signature_lines)
        return cls(text=text + "\n", signatures=signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A signature that held; `time_s` is set for cosignatures only."""

    key: NoteKey
    time_s: int | None


def log_key(name: str, signer: Signer) -> NoteKey:
    """The key under which a log with origin `name` signs its checkpoints."""
    return NoteKey(name=name, algorithm=ED25519, public_key=signer.public_key)


def witness_key(name: str, signer: Signer) -> NoteKey:
    """The key under which the witness `name` cosigns."""
    return NoteKey(name=name, algorithm=COSIGNATURE, public_key=signer.public_key)


def sign(text: str, key: NoteKey, signer: Signer, *, time_s: int | None = None) -> Signature:
    """Sign a note's text; a cosignature key needs `time_s` (whole seconds since the epoch).

    Raises: TrustError when the signer returned what does not verify.
    """
    if (key.algorithm == COSIGNATURE) != (time_s is not None):
        raise ValueError("a cosignature has a time and an Ed25519 signature has none")
    stamp = b"" if time_s is None else _stamp(time_s)
    blob = stamp + signer.sign(_message(text, key, stamp))
    signature = Signature(name=key.name, key_id=key.key_id, blob=blob)
    # A signer may be a device; a signature that nobody can verify must not be kept or sent.
    verify_signature(text, key, signature)
    return signature


def verify_signature(text: str, key: NoteKey, signature: Signature) -> Verified:
    """Check one signature line over `text`; raises TrustError when it does not hold."""
    stamp_bytes = _TIME_BYTES if key.algorithm == COSIGNATURE else 0
    stamp, blob = signature.blob[:stamp_bytes], signature.blob[stamp_bytes:]
    if (signature.name, signature.key_id) != (key.name, key.key_id):
        raise TrustError(f"signature of {signature.name}: expected key {key.to_text()}")
    try:
        if len(blob) != _SIGNATURE_BYTES or int.from_bytes(stamp) > _TIME_LIMIT:
            raise InvalidSignature
        public_key = Ed25519PublicKey.from_public_bytes(key.public_key)
        public_key.verify(blob, _message(text, key, stamp))
    except InvalidSignature as error:
        raise TrustError(
            f"signature of {key.name} does not hold over the note beginning "
            f"{text[:60]!r}; ask for the note again, and if it stays so, distrust its sender"
        ) from error
    return Verified(key=key, time_s=int.from_bytes(stamp) if stamp else None)


def verify_note(note: Note, keys: Iterable[NoteKey]) -> tuple[Verified, ...]:
    """Check every line whose key is among `keys`; lines of other keys are ignored.

    Raises: TrustError when one of the known keys' lines does not hold, or when no line is of a
    known key.
    Source: C2SP signed-note, Signatures ("MUST ignore", "SHOULD reject the whole note").
    """
    known = {(key.name, key.key_id): key for key in distinct(keys)}
    verified = tuple(
        verify_signature(note.text, known[line.name, line.key_id], line)
        for line in note.signatures
        if (line.name, line.key_id) in known
    )
    if not verified:
        names = sorted({line.name for line in note.signatures})
        wanted = sorted(name for name, _ in known)
        raise TrustError(
            f"note signed by {names[:5]}: expected a signature of {wanted[:5]}, found none; "
            "check the agreed keys"
        )
    return verified


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


def _message(text: str, key: NoteKey, stamp: bytes) -> bytes:
    """What is really signed: the text, under a cosignature with header and time before it."""
    if key.algorithm == ED25519:
        return text.encode()
    return b"cosignature/v1\ntime %d\n" % int.from_bytes(stamp) + text.encode()


def _stamp(time_s: int) -> bytes:
    if not 0 <= time_s <= _TIME_LIMIT:
        raise ValueError(f"a cosignature's time lies in 0 to 2^63 - 1, got {time_s}")
    return time_s.to_bytes(_TIME_BYTES)


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


def _check_name(name: str) -> None:
    if (
        not 1 <= len(name) <= _NAME_LIMIT
        or "+" in name
        or any(char.isspace() or ord(char) < 0x20 for char in name)
    ):
        raise FormatError(
            f"expected a key name of 1 to {_NAME_LIMIT} characters without spaces and plus signs, "
            f"got {name[:80]!r}"
        )


def _check_text(text: str) -> None:
    """Limits and characters of a whole note or of its text."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise FormatError("signed note: expected valid UTF-8") from error
    if size_bytes > NOTE_LIMIT_BYTES:
        raise FormatError(f"signed note: expected at most {NOTE_LIMIT_BYTES} bytes")
    if any(ord(char) < 0x20 and char != "\n" for char in text):
        raise FormatError("signed note: expected no control characters but newlines")
