"""Updates and measurements as an attacker with a region's real keys would make them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from tests.places.founding import digest_of
from tests.places.world import WORLD, World

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import encode
from ringfence.core.artifacts import (
    Declaration,
    Input,
    Payload,
    VerdictNote,
    payload_of,
)
from ringfence.core.chunks import ChunkedDigest, ChunkHasher
from ringfence.core.clock import to_rfc3339
from ringfence.core.ids import LineageId
from ringfence.core.tensors import Segment, Vector
from ringfence.crossing.decide import Draft, declare
from ringfence.crossing.statements import seal_declaration
from ringfence.trust.keys import Signer


def digests_of(data: bytes) -> ChunkedDigest:
    hasher = ChunkHasher()
    hasher.update(data)
    return hasher.finish()


def write_payload(world: World, path: Path, values: np.ndarray | float = 0.25) -> Payload:
    """A payload of the agreed layout and codec."""
    agreement = world.agreement
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    flat = np.full(form.layout.elements, values, np.float32)

    def source(segment: Segment, values_P: Vector) -> None:
        values_P[:] = flat[segment.first : segment.first + segment.elements]

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        return payload_of(encode(form, source, fd, seed=bytes(32)))
    finally:
        os.close(fd)


def update(
    world: World,
    region: str,
    payload: Payload,
    *,
    lineage: LineageId = WORLD,
    tags: Sequence[str] | None = None,
) -> Declaration:
    """The declaration of an update for the round that is open; in every field as it should be.

    Its verdict is the region's own word: nobody else can know whether a law was asked.
    """
    agreement = world.agreement
    round_ = world.hub.journal.current_round(lineage)
    release = world.hub.journal.release(lineage)
    assert round_ is not None
    assert release is not None
    if tags is None:
        tags = sorted({*release.jurisdictions, agreement.jurisdiction(region)})
    draft = Draft(
        kind="update",
        lineage=lineage,
        round=round_.round,
        parent=round_.parent,
        model="",
        layout=agreement.update_layout.digest,
        codec=agreement.terms.codecs.updates,
        payload=payload,
        inputs=(Input(role="base", digest=round_.parent),),
        jurisdictions=tuple(tags),
        examples=100,
    )
    return _declared(world, region, draft)


def measurement(world: World, region: str, **metrics: float) -> Declaration:
    """The declaration of what `region` measured on the candidate of `world`."""
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    assert round_.candidate is not None
    agreement = world.agreement
    draft = Draft(
        kind="metrics",
        lineage=WORLD,
        round=round_.round,
        parent=round_.candidate.model,
        model="",
        layout=agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=(Input(role="base", digest=round_.candidate.model),),
        jurisdictions=tuple(
            sorted({*round_.candidate.jurisdictions, agreement.jurisdiction(region)})
        ),
        examples=100,
        metrics=tuple(metrics.items()),
    )
    return _declared(world, region, draft)


def sealed(
    world: World, declaration: Declaration, *, signer: Signer | None = None, **changes: Any
) -> bytes:
    """The statement's envelope, some fields changed, signed by its sender unless said otherwise."""
    signer = signer or world.signer(declaration.sender)
    return seal_declaration(replace(declaration, **changes), signer)


def _declared(world: World, region: str, draft: Draft) -> Declaration:
    note = VerdictNote(
        question=digest_of("nobody was asked"),
        packs=(),
        approvals=(),
        valid_until=to_rfc3339(world.clock() + 3600),
    )
    law = world.place(region).region.law
    return replace(declare(law, draft, sender=region, recipient="hub"), verdict=note)
