"""What a region writes into its log: one kind of entry, strict, canonical.

The log's leaf is a salted commitment to these bytes; the bytes stay in the region.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ringfence.core import canonical
from ringfence.core.wire import STATEMENT_LIMIT_BYTES, Refusal

EntryKind = Literal["agreement", "intent", "arrival", "receipt", "refusal", "merge", "admission"]

ENTRY_LIMIT_BYTES = 4 * STATEMENT_LIMIT_BYTES
"""Longest entry: a statement envelope inside JSON text, with room."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened at the border.

    agreement   `subject` is the agreement's digest, `envelope` this region's signature of it
    intent      `envelope` is our signed statement, about to leave
    arrival     `envelope` is a counterparty's statement whose payload is here, verified
    receipt     `envelope` is the counterparty's receipt for our statement `subject`
    refusal     `refusal` says why; `envelope` is the statement refused, if there was one
    merge       `subject` is the model that came out, `inputs` the statements merged, in order
    admission   `subject` is the model admitted as a base, `envelope` its release statement
    """

    kind: EntryKind
    at: str
    counterparty: str
    lineage: str = ""
    round: int = 0
    subject: str = ""
    envelope: str = ""
    inputs: tuple[str, ...] = ()
    refusal: Refusal | None = None

    def to_bytes(self) -> bytes:
        return canonical.to_bytes(self)

    @staticmethod
    def from_bytes(data: bytes) -> Entry:
        """Raises `FormatError` when `data` is not one entry."""
        return canonical.from_bytes(data, Entry, what="log entry", limit_bytes=ENTRY_LIMIT_BYTES)
