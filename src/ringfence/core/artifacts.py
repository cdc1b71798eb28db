"""What may cross a border, what is said of it, and the stages one update goes through.

A statement is an in-toto Statement v1 whose predicate is a `Declaration`; a receipt is one whose
predicate is a `ReceiptNote`.  Both travel in a DSSE envelope.  The stage types at the end are the
steps of `gateway/outbound.py`: each holds the one before it, so that a skipped step does not
type-check.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from ringfence.core import canonical, ids
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest
from ringfence.core.wire import STATEMENT_LIMIT_BYTES

Kind = Literal[
    "update",
    "candidate",
    "release",
    "snapshot",
    "metrics",
    "architecture",
    "logits",
    "checkpoint",
    "approval",
    "evidence",
]
PayloadCodec = Literal["none", "float32", "int8"]
InputRole = Literal["base", "state", "code", "catalogue", "update"]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
CROSSING_PREDICATE: Final = "https://ringfence.dev/crossing/v1"
RECEIPT_PREDICATE: Final = "https://ringfence.dev/receipt/v1"
PAYLOAD_NAME: Final = "payload.safetensors"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every part of a statement: immutable, unknown fields refused."""


class Payload(_Part, frozen=True, kw_only=True):
    """The bytes that a statement announces; `chunks` are the hex digests of its 4 MiB chunks."""

    digest: str
    size_bytes: int
    chunks: tuple[str, ...]

    def chunked(self) -> ChunkedDigest:
        """The digests as bytes, to check chunks with.

        Raises: FormatError when the digest is not that of the size and chunks beside it.
        """
        try:
            chunks = tuple(bytes.fromhex(chunk) for chunk in self.chunks)
        except ValueError as error:
            raise FormatError("payload: expected chunk digests in hexadecimal") from error
        chunked = ChunkedDigest(size_bytes=self.size_bytes, chunks=chunks)
        if chunked.digest != self.digest:
            raise FormatError("payload: its digest is not that of its size and chunk digests")
        return chunked


def payload_of(chunked: ChunkedDigest) -> Payload:
    """Announce a file by its digests."""
    return Payload(
        digest=chunked.digest,
        size_bytes=chunked.size_bytes,
        chunks=tuple(chunk.hex() for chunk in chunked.chunks),
    )


class Input(_Part, frozen=True, kw_only=True):
    """Something that went into an artifact, by digest."""

    role: InputRole
    digest: str


class VerdictNote(_Part, frozen=True, kw_only=True):
    """The permit that an artifact leaves with: the packs that said yes, and until when it holds.

    `question` is the digest of the question that was asked, which stands in the sender's log with
    every fact.  `packs` are `name@digest`, `approvals` the ids of those that cover the crossing,
    `flags` the rules that want a person to look at it.
    """

    question: str
    packs: tuple[str, ...]
    approvals: tuple[str, ...]
    valid_until: str
    flags: tuple[str, ...] = ()


class Declaration(_Part, frozen=True, kw_only=True):
    """What an artifact is.

    `parent` is the digest of the model it builds on, `model` of the model it yields (empty for an
    update or a metric).  `jurisdictions` are the tags of the whole lineage, sorted.
    """

    agreement: str
    kind: Kind
    lineage: str
    round: int
    sender: str
    recipient: str
    parent: str
    model: str
    layout: str
    codec: PayloadCodec
    payload: Payload | None
    inputs: tuple[Input, ...]
    jurisdictions: tuple[str, ...]
    data_classes: tuple[str, ...]
    hardware: str
    purpose: str
    examples: int
    metrics: dict[str, float]
    verdict: VerdictNote
    issued: str


class ReceiptNote(_Part, frozen=True, kw_only=True):
    """The recipient's word that a statement and its payload arrived whole and were recorded."""

    statement: str
    payload: str
    sender: str
    recipient: str
    received: str
    log_index: int


class _Subject(_Part, frozen=True, kw_only=True):
    name: str
    digest: dict[str, str]


class _CrossingStatement(_Part, frozen=True, kw_only=True):
    type_: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject]
    predicate_type: Literal["https://ringfence.dev/crossing/v1"] = msgspec.field(
        name="predicateType"
    )
    predicate: Declaration


class _ReceiptStatement(_Part, frozen=True, kw_only=True):
    type_: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject]
    predicate_type: Literal["https://ringfence.dev/receipt/v1"] = msgspec.field(
        name="predicateType"
    )
    predicate: ReceiptNote


def declaration_to_bytes(declaration: Declaration) -> bytes:
    """The in-toto statement of an artifact; its subject is the payload, the model or the parent."""
    return canonical.to_bytes(
        _CrossingStatement(
            type_=STATEMENT_TYPE,
            subject=(_subject(declaration),),
            predicate_type=CROSSING_PREDICATE,
            predicate=declaration,
        )
    )


def declaration_from_bytes(data: bytes) -> Declaration:
    """Parse what `declaration_to_bytes` writes.

    Raises: FormatError when a field is unknown, missing or malformed, or the subject is not what
    the predicate declares.
    """
    statement = canonical.from_bytes(
        data, _CrossingStatement, what="statement", limit_bytes=STATEMENT_LIMIT_BYTES
    )
    declaration = statement.predicate
    _check_declaration(declaration)
    if statement.subject != (_subject(declaration),):
        raise FormatError("statement: its subject is not the artifact that its predicate declares")
    return declaration


def receipt_to_bytes(note: ReceiptNote) -> bytes:
    """The in-toto statement of a receipt; its subject is the statement received."""
    return canonical.to_bytes(
        _ReceiptStatement(
            type_=STATEMENT_TYPE,
            subject=(_name("statement", note.statement),),
            predicate_type=RECEIPT_PREDICATE,
            predicate=note,
        )
    )


def receipt_from_bytes(data: bytes) -> ReceiptNote:
    """Parse what `receipt_to_bytes` writes; raises `FormatError`."""
    statement = canonical.from_bytes(
        data, _ReceiptStatement, what="receipt", limit_bytes=STATEMENT_LIMIT_BYTES
    )
    note = statement.predicate
    ids.digest(note.statement)
    if statement.subject != (_name("statement", note.statement),):
        raise FormatError("receipt: its subject is not the statement that its predicate names")
    return note


def statement_digest(envelope: bytes) -> Digest:
    """SHA-256 of a signed envelope's bytes: how a crossing is named everywhere."""
    return Digest("sha256:" + hashlib.sha256(envelope).hexdigest())


def _subject(declaration: Declaration) -> _Subject:
    if declaration.payload is not None:
        return _name(PAYLOAD_NAME, declaration.payload.digest)
    return _name("model", declaration.model or declaration.parent)


def _name(name: str, digest_text: str) -> _Subject:
    algorithm, _, value = ids.digest(digest_text).partition(":")
    return _Subject(name=name, digest={algorithm: value})


def _check_declaration(declaration: Declaration) -> None:
    ids.digest(declaration.agreement)
    ids.digest(declaration.layout)
    ids.digest(declaration.verdict.question)
    ids.lineage_id(declaration.lineage)
    ids.region_id(declaration.sender)
    ids.region_id(declaration.recipient)
    for text in (declaration.parent, declaration.model):
        if text:
            ids.digest(text)
    for item in declaration.inputs:
        ids.digest(item.digest)
    for code in declaration.jurisdictions:
        ids.jurisdiction(code)
    if list(declaration.jurisdictions) != sorted(set(declaration.jurisdictions)):
        raise FormatError("statement: jurisdictions must be sorted and named once")
    if declaration.round < 0 or declaration.examples < 0:
        raise FormatError("statement: round and examples must not be negative")
    if (declaration.payload is None) != (declaration.codec == "none"):
        raise FormatError("statement: a payload needs a codec, and no payload needs codec 'none'")
    if declaration.payload is not None:
        declaration.payload.chunked()


# ── The stages of one update (design §4).  P = parameters of the federated modules, flattened. ──


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A piece of the privacy budget, reserved before training (step 0)."""

    id: str
    lineage: str
    round: int
    parent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUpdate:
    """What the site hands over: a memory file of y − x, float32, layout order.

    `memory_fd` is of the agreed size for good; its bytes the site can still change.  Whoever made
    this closes it.
    """

    grant: Grant
    memory_fd: int
    examples: int
    metrics: dict[str, float]
    inputs: tuple[Input, ...]
    state_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedUpdate:
    """Layout as agreed and nothing else, every number finite, counts within the catalogue."""

    local: LocalUpdate
    norm_l2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedUpdate:
    """The update with the factor (at most 1) that brings its L2 norm under the agreed bound."""

    checked: CheckedUpdate
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedUpdate:
    """The one payload of this (lineage, round, region), stored; a retry sends these bytes."""

    grant: Grant
    codec: PayloadCodec
    payload: Payload
    path: Path
    examples: int
    metrics: dict[str, float]
    inputs: tuple[Input, ...]
    jurisdictions: tuple[str, ...]
    state_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedUpdate:
    """Encoded bytes that the leakage tests have looked at."""

    encoded: EncodedUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedUpdate:
    """Bytes as they will cross, under secure aggregation when the agreement has it."""

    probed: ProbedUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class PermittedUpdate:
    """The law said yes to exactly these bytes; the declaration carries its verdict."""

    masked: MaskedUpdate
    declaration: Declaration


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUpdate:
    """The statement in its envelope, signed with the region's statement key."""

    permitted: PermittedUpdate
    envelope: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUpdate:
    """The intent is durable in the region's log; only this type can be sent."""

    signed: SignedUpdate
    log_index: int
