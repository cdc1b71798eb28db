"""A self-contained proof of one entry, which anybody checks with public keys alone."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec

from ringfence.core import canonical
from ringfence.core.errors import FormatError, LogError
from ringfence.ledger.checkpoints import Checkpoint, open_checkpoint
from ringfence.ledger.contents import CONTENT_LIMIT_BYTES, SALT_BYTES, Opening
from ringfence.ledger.keys import NoteKey, from_base64
from ringfence.ledger.log import Log
from ringfence.ledger.merkle import leaf_hash, verify_inclusion
from ringfence.ledger.notes import NOTE_LIMIT_BYTES, Note
from ringfence.ledger.reader import LogReader

PROOF_LIMIT_BYTES = 2 * CONTENT_LIMIT_BYTES + 2 * NOTE_LIMIT_BYTES
"""Longest proof: base64 makes a content a third longer, JSON may escape the note."""


class _Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The proof's JSON: content in base64, salt and hashes in lower-case hex."""

    format: Literal["ringfence/log-proof/v1"]
    index: int
    salt: str
    content: str
    inclusion: tuple[str, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """An entry that its log's checkpoint, and these witnesses, stand for.

    `note` is the checkpoint as it was signed and cosigned.
    """

    index: int
    content: bytes
    checkpoint: Checkpoint
    note: str
    cosigned_by: frozenset[str]


def prove(log: Log | LogReader, index: int, note: str) -> bytes:
    """Write the proof that entry `index` is under the checkpoint `note` of this log.

    This discloses the entry's content.
    Raises: LogError when the checkpoint does not cover the entry, or its content is not here.
    """
    opening = log.opening(index)
    size = Checkpoint.from_text(Note.from_text(note).text).size
    return canonical.to_bytes(
        _Proof(
            format="ringfence/log-proof/v1",
            index=index,
            salt=opening.salt.hex(),
            content=base64.b64encode(opening.content).decode(),
            inclusion=tuple(hashed.hex() for hashed in log.inclusion(index, size)),
            checkpoint=note,
        )
    )


def check_proof(
    proof: bytes, *, log_key: NoteKey, witnesses: Iterable[NoteKey] = (), cosignatures: int = 0
) -> Proven:
    """Check a proof; `cosignatures` is how many of `witnesses` must have cosigned.

    Raises: FormatError when it does not parse; TrustError or LogError when it does not hold.
    """
    parsed = canonical.from_bytes(proof, _Proof, what="log proof", limit_bytes=PROOF_LIMIT_BYTES)
    # 1. the checkpoint is this log's
    signed = open_checkpoint(parsed.checkpoint, log_key=log_key, witnesses=witnesses)
    if len(signed.cosigned_by) < cosignatures:
        raise LogError(
            f"log proof: expected {cosignatures} cosignatures under {signed.checkpoint}, "
            f"got {sorted(signed.cosigned_by)}; ask for a proof under a later checkpoint"
        )
    # 2. the content opens a commitment
    opening = Opening(
        index=parsed.index,
        salt=_hex(parsed.salt, SALT_BYTES),
        content=from_base64(parsed.content, "log proof"),
    )
    # 3. the commitment is the entry at this index of the checkpoint's tree
    verify_inclusion(
        leaf=leaf_hash(opening.commitment),
        index=opening.index,
        size=signed.checkpoint.size,
        proof=[_hex(hashed, 32) for hashed in parsed.inclusion],
        root=signed.checkpoint.root,
    )
    return Proven(
        index=opening.index,
        content=opening.content,
        checkpoint=signed.checkpoint,
        note=parsed.checkpoint,
        cosigned_by=signed.cosigned_by,
    )


def _hex(text: str, size_bytes: int) -> bytes:
    """Read lower-case hex of exactly this length: one value has one text."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != size_bytes or raw.hex() != text:
        raise FormatError(f"log proof: expected {size_bytes} bytes as lower-case hex")
    return raw
