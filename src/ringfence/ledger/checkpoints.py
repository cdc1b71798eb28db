"""Checkpoints: what a log states about itself, signed by it and cosigned by witnesses.

Source: C2SP tlog-checkpoint v1.0.0.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.core.errors import FormatError, LogError, TrustError
from ringfence.ledger.keys import COSIGNATURE, ED25519, NoteKey, distinct, from_base64
from ringfence.ledger.merkle import EMPTY_ROOT, HASH_BYTES, SIZE_LIMIT
from ringfence.ledger.notes import Note, verify_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's origin, its number of entries and the root of their tree.

    `extensions` are opaque lines that other logs may add; ours adds none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all((self.origin, *self.extensions)) or "\n" in "".join(
            (self.origin, *self.extensions)
        ):
            raise FormatError("checkpoint: expected an origin and no empty line")
        if not 0 <= self.size <= SIZE_LIMIT or len(self.root) != HASH_BYTES:
            raise FormatError(
                f"checkpoint of {self.origin}: expected a size below 2^63 and a root of 32 bytes, "
                f"got {self.size} and {len(self.root)} bytes"
            )
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise FormatError(f"checkpoint of {self.origin}: size 0 with a root of entries")

    def __str__(self) -> str:
        return f"{self.origin} size {self.size} root {self.root.hex()}"

    def to_text(self) -> str:
        """Write the note's text."""
        root = base64.b64encode(self.root).decode()
        return "\n".join((self.origin, str(self.size), root, *self.extensions, ""))

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Read a note's text strictly; raises FormatError."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not _SIZE.fullmatch(lines[1]):
            raise FormatError(f"checkpoint: expected origin, size and root, got {text[:120]!r}")
        root = from_base64(lines[2], f"checkpoint of {lines[0]}")
        return cls(origin=lines[0], size=int(lines[1]), root=root, extensions=tuple(lines[3:-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint whose log signature held, with the names of the witnesses whose lines held.

    `cosigned_at` is when, by each witness's own clock: names and seconds since the epoch.
    """

    checkpoint: Checkpoint
    note: Note
    cosigned_by: frozenset[str]
    cosigned_at: tuple[tuple[str, int], ...] = ()


def open_checkpoint(
    note: str, *, log_key: NoteKey, witnesses: Iterable[NoteKey] = ()
) -> SignedCheckpoint:
    """Check a checkpoint's note: signatures first, then origin and text.

    Raises: FormatError when it does not parse; TrustError when the log's signature is missing or
    a line of a known key does not hold; LogError when it is another log's.
    """
    witness_keys = tuple(witnesses)
    if log_key.algorithm != ED25519 or any(key.algorithm != COSIGNATURE for key in witness_keys):
        raise TrustError("expected an Ed25519 log key (type 1) and cosignature witness keys (4)")
    parsed = Note.from_text(note)
    # 1. no byte of the text means anything before a signature over it held
    verified = verify_note(parsed, distinct((log_key, *witness_keys)))
    if all(signature.key != log_key for signature in verified):
        raise TrustError(f"checkpoint without a signature of its log {log_key.name}; refuse it")
    # 2. the key is the log's; the text must be about the log that the key is agreed for
    checkpoint = Checkpoint.from_text(parsed.text)
    if checkpoint.origin != log_key.name:
        raise LogError(f"checkpoint: expected origin {log_key.name}, got {checkpoint.origin}")
    return SignedCheckpoint(
        checkpoint=checkpoint,
        note=parsed,
        cosigned_by=frozenset(each.key.name for each in verified if each.key != log_key),
        cosigned_at=tuple(
            (each.key.name, each.time_s) for each in verified if each.time_s is not None
        ),
    )


def majority(witnesses: int) -> int:
    """How many of `witnesses` are more than half of them."""
    return witnesses // 2 + 1
