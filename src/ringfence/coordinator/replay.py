"""Recomputes every merge that a hub's log records, from the spooled payloads.

What comes out must be, digest by digest, what the log says came out.  This works for plain merging:
under secure aggregation the hub does not hold what it would take.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence.coordinator.merging import (
    SpooledUpdate,
    apply_merged,
    encode_merged,
    momentum_path,
)
from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.errors import LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.spool import Spool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedMerge:
    """One merge as the log tells it: what went in, in order, and what came out.

    `released_before` is the newest round of the lineage that was released before this one.
    """

    index: int
    agreement: Agreement
    lineage: str
    round: int
    parent: str
    payload: str
    model: str
    updates: Sequence[Declaration]
    released_before: int


def replay(merges: Sequence[RecordedMerge], *, files: Path) -> int:
    """Recompute `merges` over the hub's state directory `files`; returns how many held.

    Raises: LogError naming the entry whose payload or model comes out otherwise, or whose spooled
    bytes are gone.
    """
    with tempfile.TemporaryDirectory(dir=files) as scratch:
        for merge in merges:
            _replay(merge, files=files, scratch=Path(scratch))
    return len(merges)


def _replay(merge: RecordedMerge, *, files: Path, scratch: Path) -> None:
    base = Spool(files).model(merge.parent)
    updates = [_spooled(files, declaration) for declaration in merge.updates]
    for path in (base, *(update.path for update in updates)):
        if not path.exists():
            raise LogError(f"entry {merge.index}: {path.name} is no longer in the spool")
    payload = encode_merged(
        merge.agreement,
        merge.agreement.lineage(merge.lineage),
        updates,
        parent=merge.parent,
        momentum_before=momentum_path(files, merge.lineage, merge.released_before),
        momentum_after=scratch / "momentum.safetensors",
        out=scratch / "payload.safetensors",
    )
    model = apply_merged(
        merge.agreement,
        payload=scratch / "payload.safetensors",
        base=base,
        out=scratch / "model.safetensors",
    )
    for what, recorded, came in (
        ("payload", merge.payload, payload.digest),
        ("model", merge.model, model.digest),
    ):
        if recorded != came:
            raise LogError(
                f"entry {merge.index}: {merge.lineage} round {merge.round}: the log records "
                f"{what} {recorded}, replaying its inputs gives {came}"
            )


def _spooled(files: Path, declaration: Declaration) -> SpooledUpdate:
    if declaration.payload is None:
        raise LogError(
            f"update of {declaration.sender} in round {declaration.round} has no payload"
        )
    spool = Spool(files / "from" / declaration.sender)
    return SpooledUpdate(
        region=RegionId(declaration.sender),
        examples=declaration.examples,
        payload=declaration.payload.digest,
        path=spool.payload(declaration.payload.digest),
    )
