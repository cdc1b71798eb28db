"""Recomputes every merge that a hub's log records, from the spooled payloads.

What comes out must be, digest by digest, what the log says came out.  This works for plain merging:
under secure aggregation the hub does not hold what it would take.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ringfence.coordinator.merging import SpooledUpdate, apply_merged, encode_merged
from ringfence.core.artifacts import Declaration
from ringfence.core.errors import LogError
from ringfence.core.ids import RegionId
from ringfence.crossing.ancestry import Merge
from ringfence.crossing.spool import Spool
from ringfence.learn.outer import keeps_momentum


def replay(merges: Sequence[Merge], *, files: Path) -> int:
    """Recompute `merges` over the hub's state directory `files`; returns how many held.

    `merges` are all of a log's, in its order.  Momentum is carried along from the start of each
    lineage: what lies in the hub's own momentum files is not asked.
    Raises: LogError naming the entry whose payload or model comes out otherwise, or whose spooled
    bytes are gone or not those that the log records.
    """
    spool = Spool(files)
    with tempfile.TemporaryDirectory(dir=files) as scratch:
        for merge in merges:
            _replay(merge, spool=spool, scratch=Path(scratch))
    return len(merges)


def _replay(merge: Merge, *, spool: Spool, scratch: Path) -> None:
    if not spool.holds_model(merge.parent):
        raise LogError(f"entry {merge.index}: model {merge.parent} is not in the spool as recorded")
    updates = [_spooled(merge, spool, declaration) for declaration in merge.updates]
    lineage = merge.agreement.lineage(merge.lineage)
    payload = encode_merged(
        merge.agreement,
        lineage,
        updates,
        parent=merge.parent,
        momentum_before=_momentum_before(merge, scratch) if keeps_momentum(lineage.outer) else None,
        momentum_after=_momentum(merge.lineage, merge.round, scratch),
        out=scratch / "payload.safetensors",
    )
    model = apply_merged(
        merge.agreement,
        payload=scratch / "payload.safetensors",
        base=spool.model(merge.parent),
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
    for number in range(1, merge.released_before):
        _momentum(merge.lineage, number, scratch).unlink(missing_ok=True)


def _momentum_before(merge: Merge, scratch: Path) -> Path | None:
    """The momentum that replaying the lineage's last release gave, None before the first."""
    if not merge.released_before:
        return None
    path = _momentum(merge.lineage, merge.released_before, scratch)
    if not path.exists():
        raise LogError(
            f"entry {merge.index}: {merge.lineage} round {merge.released_before} was released, but "
            "no merge of it is recorded, so that its momentum cannot be replayed"
        )
    return path


def _momentum(lineage: str, round_: int, scratch: Path) -> Path:
    return scratch / f"momentum-{lineage}-{round_}.safetensors"


def _spooled(merge: Merge, spool: Spool, declaration: Declaration) -> SpooledUpdate:
    if declaration.payload is None:
        raise LogError(f"entry {merge.index}: the update of {declaration.sender} has no payload")
    sent = spool.nested(f"from/{declaration.sender}")
    if not sent.holds(declaration.payload):
        raise LogError(
            f"entry {merge.index}: payload {declaration.payload.digest} of {declaration.sender} is "
            "not in the spool as recorded"
        )
    return SpooledUpdate(
        region=RegionId(declaration.sender),
        examples=declaration.examples,
        payload=declaration.payload.digest,
        path=sent.payload(declaration.payload.digest),
    )
