"""The whole model of the newest release: to join a lineage, to catch up, or to mend a lost base.

A snapshot is admitted on the same terms as a release: round 0 is the model that the agreement
starts from, and anything later is shown in the hub's log.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.core.artifacts import Declaration, statement_digest
from ringfence.core.ids import Digest, LineageId
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.tensors import SEGMENT_VALUES, segments
from ringfence.core.wire import LineageView
from ringfence.crossing.law import judge
from ringfence.gateway.arrivals import (
    admit,
    equal,
    open_arrival,
    recording,
    refuse,
    require_tags,
    required_payload,
)
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.proving import prove_release
from ringfence.policy.words import Action


def take_snapshot(
    gateway: Gateway, view: LineageView, border: Border, *, release: Declaration | None = None
) -> bool:
    """Fetch and admit a model whole; False when it cannot be admitted yet.

    `release` is the statement addressed to us of the newest release, proven before.  Without one,
    the proof must come with the snapshot.
    Raises: Refused (recorded), ForkError, BorderDownError.
    """
    agreement = gateway.region.agreement
    with recording(gateway, view.lineage, view.round):
        envelope = border.snapshot(LineageId(view.lineage))
        declaration = open_arrival(gateway, envelope, kind="snapshot", lineage=view.lineage)
        equal("layout", agreement.model_layout.digest, declaration.layout)
        equal("codec", "float32", declaration.codec)
        equal("parent", declaration.model, declaration.parent)
        ruling = judge(gateway.region.law, declaration, action=Action.IMPORT)
        if release is not None and declaration.round > release.round:
            return False  # another release came in between: look again
        if release is None and _is_base(gateway, declaration):
            return True  # the hub has nothing newer for us
        if not _is_shown(gateway, declaration, envelope, border, release=release):
            return False
        _fetch_model(gateway, declaration, border)
        statement = (view.release if release else None) or statement_digest(envelope)
        receipt = admit(gateway, declaration, envelope, ruling, statement=statement)
        border.accept(receipt)
    return True


def _is_base(gateway: Gateway, declaration: Declaration) -> bool:
    base = gateway.models.admitted(declaration.lineage)
    return (
        base is not None
        and (base.round, base.model) == (declaration.round, declaration.model)
        and gateway.spool.holds_model(base.model)
    )


def _is_shown(
    gateway: Gateway,
    declaration: Declaration,
    envelope: bytes,
    border: Border,
    *,
    release: Declaration | None,
) -> bool:
    """Whether the agreement, or the hub's log under a majority, says that this is the model.

    Raises: Refused when one of them says that it is another.
    """
    if release is not None:
        equal("round", str(release.round), str(declaration.round))
        equal("model", release.model, declaration.model)
        equal("jurisdictions", " ".join(release.jurisdictions), " ".join(declaration.jurisdictions))
        return True
    if declaration.round == 0:
        start = gateway.region.agreement.lineage(declaration.lineage).start
        equal("model", start.model, declaration.model)
        branched = gateway.models.admitted_in(start.branch_of, start.model)
        if branched is not None:
            require_tags(declaration, branched.jurisdictions)
        return True
    statement = statement_digest(envelope)
    return prove_release(gateway, declaration, statement, border) is not None


def _fetch_model(gateway: Gateway, declaration: Declaration, border: Border) -> None:
    """The payload is the model file itself: a model's digest is that of its file."""
    form = PayloadFormat(codec="float32", layout=gateway.region.agreement.model_layout)
    payload = required_payload(declaration)
    equal("size", str(form.size_bytes), str(payload.size_bytes))
    equal("model", declaration.model, payload.digest)
    with gateway.spool.fetching(payload) as arriving:
        if gateway.spool.holds_model(payload.digest):
            return
        if not arriving.complete:
            border.download(
                Digest(payload.digest),
                chunk=arriving.next_chunk,
                size_bytes=payload.size_bytes,
                sink=arriving.write,
            )
        path = arriving.finish()
        with PayloadFile(form, path) as content:
            content.check_values()
        _check_frozen(gateway, declaration.lineage, path)
        gateway.spool.keep_model(path, payload.digest)


def _check_frozen(gateway: Gateway, lineage: str, path: Path) -> None:
    """Frozen modules never change: they must be those of the base we have, if we have one.

    Raises: Refused, naming the first tensor that differs.
    """
    agreement = gateway.region.agreement
    base = gateway.models.admitted(lineage)
    known = agreement.lineage(lineage).start.model if base is None else base.model
    if not gateway.spool.holds_model(known):
        return
    layout = agreement.model_layout
    ours_P, came_P = np.empty((2, SEGMENT_VALUES), np.float32)
    with open_tensorfile(gateway.spool.model(known)) as ours, open_tensorfile(path) as came:
        for segment in segments(layout):
            spec = layout.specs[segment.tensor]
            if agreement.terms.modules[spec.module] != "frozen":
                continue
            part = slice(0, segment.elements)
            ours.read_segment(segment, ours_P[part])
            came.read_segment(segment, came_P[part])
            if ours_P[part].tobytes() != came_P[part].tobytes():
                raise refuse("frozen-changed", f"tensor {spec.name} is frozen, but came changed")
