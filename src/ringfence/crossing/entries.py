"""What a region writes into its log: one kind of entry, strict, canonical.

The log's leaf is a salted commitment to these bytes; the bytes stay in the region.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ringfence.core import canonical
from ringfence.core.errors import FormatError
from ringfence.core.wire import STATEMENT_LIMIT_BYTES, Refusal

EntryKind = Literal[
    "agreement",
    "intent",
    "arrival",
    "receipt",
    "refusal",
    "merge",
    "release",
    "admission",
    "clock",
    "revocation",
    "pack",
    "paper",
    "verdict",
]

ENTRY_LIMIT_BYTES = 4 * STATEMENT_LIMIT_BYTES
"""Longest entry: a statement envelope inside JSON text, with room.

INVARIANT: nothing longer is ever written, or a log could not be read back (`to_bytes` looks).
"""


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that happened at the border.

    agreement   `subject` is the agreement's digest, `envelope` this region's signature of it
    intent      `envelope` is our signed statement, about to leave
    arrival     `envelope` is a counterparty's statement whose payload is here, verified; `inputs`
                are the question that our own law was asked about its import
    receipt     `envelope` is the counterparty's receipt for our statement `subject`
    refusal     `refusal` says why; of the bytes refused, if there were any, `subject` is the
                SHA-256, and `envelope` the text unless they are long or no text
    merge       `subject` is the merged payload; `inputs` are the parent model, the model that
                came out, and the statements merged, in order of region id
    release     `subject` is the model released; `inputs` are the parent model, the merged payload
                and the statements merged; `measurements` are the gate's metric as "region=value",
                sorted.  One of a round, the same for every region, written before any hears of it
    admission   `subject` is the model admitted as a base, `envelope` its release statement
    clock       this region let go of the time at which it had acted (PLAT-CLOCK); `measurements`
                are "because=…" and "acted=…", that time
    revocation  `envelope` is an approver's signed revocation, written when this region first saw
                it; `inputs` are the approval's id, its holder and the reason
    pack        `envelope` is the text of a law pack or of their schema, `subject` its digest;
                `inputs` are its name and the version of this program.  Written once
    paper       `envelope` is an approval as its approvers signed it; `inputs` are its id and its
                holder.  Written once, before the first verdict that rests on it
    verdict     `envelope` is a question to the law with every fact (`policy.record`), `subject` its
                digest, which an intent's statement names, and an arrival in `inputs`;
                `measurements` are what the packs said: "until=…", "pack=…", "approval=…", "flag=…".
                Only permits are written so; a refusal is a `refusal`
    """

    kind: EntryKind
    at: str
    counterparty: str
    lineage: str = ""
    round: int = 0
    subject: str = ""
    envelope: str = ""
    inputs: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    refusal: Refusal | None = None

    def to_bytes(self) -> bytes:
        """Raises `FormatError` when the entry is longer than one may be."""
        data = canonical.to_bytes(self)
        if len(data) > ENTRY_LIMIT_BYTES:
            raise FormatError(
                f"log entry: expected at most {ENTRY_LIMIT_BYTES} bytes, got {len(data)}; record "
                "a digest in the place of what is so long"
            )
        return data

    @staticmethod
    def from_bytes(data: bytes) -> Entry:
        """Raises `FormatError` when `data` is not one entry."""
        return canonical.from_bytes(data, Entry, what="log entry", limit_bytes=ENTRY_LIMIT_BYTES)
