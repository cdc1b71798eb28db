"""Signed notes: a text, Ed25519 signatures and timestamped witness cosignatures under it.

Sources: C2SP signed-note v1.0.0, C2SP tlog-cosignature v1.0.0 (Ed25519 form).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ringfence.core.errors import FormatError, TrustError
from ringfence.ledger.keys import (
    COSIGNATURE,
    ED25519,
    NoteKey,
    Signer,
    check_name,
    distinct,
    from_base64,
    log_key,
    witness_key,
)

# Whoever reads notes needs their keys too, so both are to be had here.
__all__ = [
    "COSIGNATURE",
    "ED25519",
    "NOTE_LIMIT_BYTES",
    "SIGNATURES_LIMIT",
    "Note",
    "NoteKey",
    "Signature",
    "Signer",
    "Verified",
    "log_key",
    "sign",
    "verify_note",
    "verify_signature",
    "witness_key",
]

NOTE_LIMIT_BYTES = 64 * 1024
SIGNATURES_LIMIT = 100
"""Unknown signature lines are ignored, but they count (the specification asks for at least 16)."""

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH}"
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_TIME_LIMIT = 2**63 - 1


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
        check_name(parts[0])
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


def _message(text: str, key: NoteKey, stamp: bytes) -> bytes:
    """What is really signed: the text, under a cosignature with header and time before it."""
    if key.algorithm == ED25519:
        return text.encode()
    return b"cosignature/v1\ntime %d\n" % int.from_bytes(stamp) + text.encode()


def _stamp(time_s: int) -> bytes:
    if not 0 <= time_s <= _TIME_LIMIT:
        raise ValueError(f"a cosignature's time lies in 0 to 2^63 - 1, got {time_s}")
    return time_s.to_bytes(_TIME_BYTES)


def _check_text(text: str) -> None:
    """Limits and characters of a whole note or of its text."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise FormatError("signed note: expected valid UTF-8") from error
    if size_bytes > NOTE_LIMIT_BYTES:
        raise FormatError(f"signed note: expected at most {NOTE_LIMIT_BYTES} bytes")
    if _CONTROL.search(text):
        raise FormatError("signed note: expected no control characters but newlines")
