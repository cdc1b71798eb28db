"""The closed set of messages between a gateway and its site, over their Unix socket.

Every message is canonical JSON of at most `SITE_LIMIT_BYTES`; unknown fields are refused.  Tensors
never travel in a message: a message that speaks of tensors comes with one file descriptor.

    site                                  gateway
    Hello                           ->
                                    <-    Welcome [layout of an update, canonical bytes]
                                    <-    Train [base model file]
    Submit [memory file]            ->
                                    <-    Submitted | Rejected
                                    <-    Evaluate [candidate model file]
    Evaluated                       ->
                                    <-    Done

The gateway leads: after `Welcome` the site only answers.  `Rejected` may stand for `Welcome`, too.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from dataclasses import dataclass
from typing import Annotated, cast

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ringfence.core import canonical, ids
from ringfence.core.errors import FormatError, Refused
from ringfence.core.tensors import Layout, TensorSpec

SITE_LIMIT_BYTES = 256 * 1024
"""Longest message; the settings and metrics of an agreement fit in a hundredth of it."""

LAYOUT_LIMIT_BYTES = 8 * 1024 * 1024
"""Longest layout that a site takes; the agreement that it comes from has the same limit."""

Count = Annotated[int, Meta(ge=0)]
Setting = float | int | str

_DETAIL_CHARS = 4096


class _Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="message"
):
    """Parent of every message: immutable, named by its `message` field, unknown fields refused."""


class Hello(_Message, frozen=True, kw_only=True, tag="hello"):
    """A site introduces its script; `code` is the SHA-256 of the script's bytes."""

    code: str
    script: Annotated[str, Meta(max_length=255)]
    evaluates: bool

    def __post_init__(self) -> None:
        ids.digest(self.code)


class Welcome(_Message, frozen=True, kw_only=True, tag="welcome"):
    """The gateway takes the site in: whose it is, under which agreement, over which catalogue."""

    region: str
    agreement: str
    catalogue: str

    def __post_init__(self) -> None:
        ids.region_id(self.region)
        ids.digest(self.agreement)
        ids.digest(self.catalogue)


class Train(_Message, frozen=True, kw_only=True, tag="train"):
    """Train one round from `parent`, the digest of the model file that comes along.

    `layout` is the digest of the layout of the update; `state_in` is the digest of the regional
    state to start from, empty when this lineage has none yet.
    """

    lineage: str
    round: Count
    parent: str
    layout: str
    state_in: str
    settings: dict[str, Setting]

    def __post_init__(self) -> None:
        ids.lineage_id(self.lineage)
        ids.digest(self.parent)
        ids.digest(self.layout)
        _digest_or_empty(self.state_in)


class Submit(_Message, frozen=True, kw_only=True, tag="submit"):
    """What a round gave; y - x comes along as a memory file of fixed size.

    `base` and `state_in` are what the site really started from, `state_out` the regional state
    that it stored (empty when it has none).
    """

    lineage: str
    round: Count
    base: str
    state_in: str
    state_out: str
    examples: Count
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        ids.lineage_id(self.lineage)
        ids.digest(self.base)
        _digest_or_empty(self.state_in)
        _digest_or_empty(self.state_out)


class Submitted(_Message, frozen=True, kw_only=True, tag="submitted"):
    """The gateway has the update of this round and keeps it; the site may forget its own."""

    lineage: str
    round: Count


class Rejected(_Message, frozen=True, kw_only=True, tag="rejected"):
    """A refusal; the site raises it again as `errors.Refused`."""

    stage: str
    reason: str
    detail: Annotated[str, Meta(max_length=_DETAIL_CHARS)]
    rules: tuple[str, ...]


class Evaluate(_Message, frozen=True, kw_only=True, tag="evaluate"):
    """Measure a candidate, the model file that comes along, on the site's validation data."""

    lineage: str
    round: Count
    candidate: str
    state_in: str

    def __post_init__(self) -> None:
        ids.lineage_id(self.lineage)
        ids.digest(self.candidate)
        _digest_or_empty(self.state_in)


class Evaluated(_Message, frozen=True, kw_only=True, tag="evaluated"):
    """What the site measured on `candidate`."""

    lineage: str
    round: Count
    candidate: str
    examples: Count
    metrics: dict[str, float]

    def __post_init__(self) -> None:
        ids.lineage_id(self.lineage)
        ids.digest(self.candidate)


class Done(_Message, frozen=True, kw_only=True, tag="done"):
    """Every lineage has ended; the script may finish."""


FromSite = Hello | Submit | Evaluated
FromGateway = Welcome | Train | Submitted | Rejected | Evaluate | Done

_WITH_FILE = (Welcome, Train, Submit, Evaluate)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteGone:
    """The site closed its link, or its process ended; another may come."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedUpdate:
    """A site's answer to `Train`, with the bytes that it can no longer change.

    INVARIANT: `fd` is a readable memory file of exactly the agreed size that holds the seals
    against writing, growing, shrinking and unsealing.  Whoever got this closes it.
    """

    message: Submit
    fd: int

    def values(self) -> NDArray[np.float32]:
        """y - x as one read-only flat view, in layout order, without a copy."""
        size_bytes = os.fstat(self.fd).st_size
        return np.frombuffer(mmap.mmap(self.fd, size_bytes, prot=mmap.PROT_READ), dtype="<f4")

    def close(self) -> None:
        os.close(self.fd)


def from_site(data: bytes) -> FromSite:
    """Parse what a site sends; raises `FormatError`."""
    type_ = cast("type[FromSite]", FromSite)
    return canonical.from_bytes(
        data, type_, what="message from the site", limit_bytes=SITE_LIMIT_BYTES
    )


def from_gateway(data: bytes) -> FromGateway:
    """Parse what a gateway sends; raises `FormatError`."""
    type_ = cast("type[FromGateway]", FromGateway)
    return canonical.from_bytes(
        data, type_, what="message from the gateway", limit_bytes=SITE_LIMIT_BYTES
    )


def layout_to_bytes(layout: Layout) -> bytes:
    """The bytes whose SHA-256 is `layout.digest`: rows of name, dtype, shape and module."""
    rows = [[spec.name, spec.dtype, list(spec.shape), spec.module] for spec in layout.specs]
    return canonical.to_bytes(rows)


def layout_from_bytes(data: bytes) -> Layout:
    """Parse what `layout_to_bytes` writes; raises `FormatError` or `LayoutError`."""
    rows = canonical.from_bytes(
        data,
        tuple[tuple[str, str, tuple[int, ...], str], ...],
        what="layout from the gateway",
        limit_bytes=LAYOUT_LIMIT_BYTES,
    )
    layout = Layout(
        specs=tuple(
            TensorSpec(name=name, shape=shape, dtype=dtype, module=module)
            for name, dtype, shape, module in rows
        )
    )
    if layout.digest != "sha256:" + hashlib.sha256(data).hexdigest():
        raise FormatError("layout from the gateway: expected its canonical bytes")
    return layout


def rejection(refused: Refused) -> Rejected:
    """The message that carries a refusal to the site."""
    return Rejected(
        stage=refused.stage,
        reason=refused.reason,
        detail=refused.detail[:_DETAIL_CHARS],
        rules=refused.rules,
    )


def refusal(rejected: Rejected) -> Refused:
    """The refusal that a message carries."""
    return Refused(
        stage=rejected.stage,
        reason=rejected.reason,
        detail=rejected.detail,
        rules=rejected.rules,
    )


def files_with(message: FromSite | FromGateway) -> int:
    """How many file descriptors come with `message`: one where it speaks of tensors, else none."""
    return 1 if isinstance(message, _WITH_FILE) else 0


def _digest_or_empty(text: str) -> None:
    if text:
        ids.digest(text)
