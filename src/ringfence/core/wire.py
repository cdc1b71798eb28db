"""The closed set of control messages that a gateway and the hub exchange beside statements.

Every message is JSON with a hard length limit; unknown fields are refused.  Artifacts never travel
here: they travel as a statement (`core.artifacts`) and a payload file.
"""

from __future__ import annotations

from typing import Literal

import msgspec

CONTROL_LIMIT_BYTES = 256 * 1024
"""Longest control message; a checkpoint with fifty cosignatures fits in a tenth of it."""

STATEMENT_LIMIT_BYTES = 4 * 1024 * 1024
"""Longest statement envelope; chunk digests of a 100 GB payload fit."""

RoundState = Literal["open", "collecting", "merging", "evaluating", "released", "held"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every message: immutable, keyword-only, unknown fields refused."""


class LineageView(Message, frozen=True, kw_only=True):
    """What one region may know about one lineage now.

    `version` grows with every change, so that a caller can wait for the next one.  `candidate` and
    `release` are digests of statements addressed to the caller; `checkpoint` is the hub log's
    signed note with the cosignatures collected so far.
    """

    version: int
    lineage: str
    round: int
    state: RoundState
    parent: str
    deadline: str
    submitted: bool
    candidate: str | None
    release: str | None
    checkpoint: str


class AgreementView(Message, frozen=True, kw_only=True):
    """The agreement that the hub runs under and the signatures (DSSE envelopes) it holds."""

    agreement: str
    signatures: dict[str, str]


class OfferReply(Message, frozen=True, kw_only=True):
    """Answer to a statement: send the payload from `next_chunk` on, or take the receipt.

    Exactly one of the two is set; `receipt` is the original receipt's envelope when this digest
    had already arrived, or when the statement has no payload.
    """

    next_chunk: int | None
    receipt: str | None


class Refusal(Message, frozen=True, kw_only=True):
    """A refusal on the wire; the client raises it again as `errors.Refused`."""

    stage: str
    reason: str
    detail: str
    rules: tuple[str, ...]


class LogProof(Message, frozen=True, kw_only=True):
    """Hashes of an RFC 6962 proof, lower-case hex, leaf side first."""

    hashes: tuple[str, ...]
