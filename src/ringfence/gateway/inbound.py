"""What comes in from the hub: candidates to measure, releases to admit.

    1 open      the hub's statement, addressed to us, under this agreement
    2 check     lineage, round, parent, layout, codec, exact size, and that its tags are lawful here
    3 judge     the packs of hub, region and lineage: may this be imported
    4 fetch     chunk by chunk, each verified; a cut transfer goes on where it stopped
    5 apply     base + update, which must give exactly the model that the statement names
    6 receipt   recorded here, signed, handed to the hub
A release is admitted only when the hub's log is shown to hold its record under a checkpoint that
more than half of the regions cosigned and that our own witness finds consistent (`proving`); a
model that is not held here comes whole (`snapshots`).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Literal

from msgspec.structs import replace

from ringfence.codec.apply import Applier
from ringfence.codec.format import PayloadFormat
from ringfence.core.artifacts import Declaration
from ringfence.core.ids import Digest
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.wire import LineageView
from ringfence.crossing.law import judge
from ringfence.crossing.statements import issue_receipt
from ringfence.gateway.arrivals import (
    admit,
    equal,
    fetch_statement,
    recording,
    refuse,
    require_tags,
    required_payload,
)
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.models import HeldModel
from ringfence.gateway.proving import prove_release
from ringfence.gateway.snapshots import take_snapshot
from ringfence.policy.words import Action


def take_candidate(gateway: Gateway, view: LineageView, border: Border) -> HeldModel:
    """Fetch the round's candidate, unless it is here already, and hold the model that it yields.

    Raises: Refused (recorded), BorderDownError.
    """
    statement = Digest(view.candidate or "")
    held = gateway.models.of_round(view.lineage, view.round)
    made = held is not None and gateway.spool.holds_model(held.model)
    if held is not None and made and held.statement == statement:
        return held
    with recording(gateway, view.lineage, view.round):
        declaration, envelope = fetch_statement(
            gateway, statement, border, kind="candidate", lineage=view.lineage
        )
        equal("round", str(view.round), str(declaration.round))
        _check_ancestry(gateway, declaration)
        ruling = judge(gateway.region.law, declaration, action=Action.IMPORT)
        # Under a renewed statement the same model comes: we made it from our base and the payload.
        if held is None or not made or held.model != declaration.model:
            _fetch_update(gateway, declaration, border)
            # If the line is cut here, only the receipt is still owed: nothing is fetched again.
            gateway.models.hold(_held(declaration, statement=""))
        border.accept(issue_receipt(gateway.region, declaration, envelope, ruling))
    held = _held(declaration, statement=statement)
    gateway.models.hold(held)
    return held


def _held(declaration: Declaration, *, statement: str) -> HeldModel:
    return HeldModel(
        lineage=declaration.lineage,
        round=declaration.round,
        model=declaration.model,
        jurisdictions=declaration.jurisdictions,
        statement=statement,
        admitted=False,
    )


Admission = Literal["admitted", "waiting"]


def admit_release(gateway: Gateway, view: LineageView, border: Border) -> Admission:
    """Make the newest release this lineage's base.

    "waiting": the hub's log does not show it under a majority's cosignatures yet.
    Raises: Refused (recorded), ForkError, BorderDownError.
    """
    statement = Digest(view.release or "")
    with recording(gateway, view.lineage, view.round):
        release, envelope = fetch_statement(
            gateway, statement, border, kind="release", lineage=view.lineage
        )
        equal("layout", gateway.region.agreement.update_layout.digest, release.layout)
        equal("codec", "none", release.codec)
        if not 1 <= release.round <= view.round:
            raise refuse("wrong-round", f"expected round 1 to {view.round}, got {release.round}")
        _require_own_tags(gateway, release)
        ruling = judge(gateway.region.law, release, action=Action.IMPORT)
        base = gateway.models.admitted(view.lineage)
        if base is not None and base.round == release.round:
            # The same release, addressed anew: under a successor agreement, or after a snapshot.
            equal("model", base.model, release.model)
            border.accept(admit(gateway, release, envelope, ruling, statement=statement))
            return "admitted"
    if _missed_candidate(gateway, view, release):
        take_candidate(gateway, replace(view, round=release.round), border)
    with recording(gateway, view.lineage, view.round):
        record = prove_release(gateway, release, statement, border)
        if record is None:
            return "waiting"
        equal("parent", release.parent, record.inputs[0])
        held = gateway.models.of_round(view.lineage, release.round)
        if (
            held is not None
            and held.model == release.model
            and gateway.spool.holds_model(held.model)
        ):
            # We made this model ourselves, from our base and the candidate's payload.
            equal("parent", base.model if base else "none", release.parent)
            equal("jurisdictions", " ".join(held.jurisdictions), " ".join(release.jurisdictions))
            border.accept(admit(gateway, release, envelope, ruling, statement=statement))
            return "admitted"
    return "admitted" if take_snapshot(gateway, view, border, release=release) else "waiting"


def _missed_candidate(gateway: Gateway, view: LineageView, release: Declaration) -> bool:
    """Whether the candidate that became `release` can still be fetched and added to our base."""
    base = gateway.models.admitted(release.lineage)
    if view.candidate is None or base is None or base.model != release.parent:
        return False
    # A round that has a candidate shows that one; before, it is the newest release's.
    if view.state not in ("open", "collecting", "merging") and view.round != release.round:
        return False
    held = gateway.models.of_round(release.lineage, release.round)
    return held is None or held.model != release.model or not gateway.spool.holds_model(held.model)


def _check_ancestry(gateway: Gateway, declaration: Declaration) -> None:
    """A candidate builds on our base, and has the tags of everything that we know went in.

    Raises: Refused.
    """
    agreement = gateway.region.agreement
    base = gateway.models.admitted(declaration.lineage)
    equal("parent", base.model if base else "none", declaration.parent)
    if base is not None and declaration.round <= base.round:
        raise refuse("equivocation", f"round {declaration.round} has been released and admitted")
    bases = [item.digest for item in declaration.inputs if item.role == "base"]
    equal("base", declaration.parent, " ".join(bases))
    equal("layout", agreement.update_layout.digest, declaration.layout)
    equal("codec", agreement.terms.codecs.releases, declaration.codec)
    _require_own_tags(gateway, declaration)


def _require_own_tags(gateway: Gateway, declaration: Declaration) -> None:
    """What our own update was merged into has its tags, a release that comes whole included."""
    sent = gateway.journal.outbound(declaration.lineage, declaration.round)
    merged = {item.digest for item in declaration.inputs if item.role == "update"}
    if sent is not None and sent.encoding and sent.encoding.payload.digest in merged:
        require_tags(declaration, sent.encoding.jurisdictions)


def _fetch_update(gateway: Gateway, declaration: Declaration, border: Border) -> None:
    """Apply the candidate's payload to its base while it arrives; keep the model that it yields.

    If the process dies here, the verified chunks are in the spool: the next attempt feeds those
    first and fetches the rest.
    """
    agreement = gateway.region.agreement
    payload = required_payload(declaration)
    form = PayloadFormat(codec=agreement.terms.codecs.releases, layout=agreement.update_layout)
    equal("size", str(form.size_bytes), str(payload.size_bytes))
    scratch = gateway.spool.scratch(f"candidate-{declaration.lineage}")
    superseded = gateway.models.superseded(declaration.lineage)
    if superseded:
        gateway.spool.write_over(gateway.spool.model(superseded), scratch)
    with ExitStack() as opened:
        arriving = opened.enter_context(gateway.spool.fetching(payload))
        base = opened.enter_context(open_tensorfile(gateway.spool.model(declaration.parent)))
        fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, fd)
        applier = Applier(form, model=agreement.model_layout, base=base, model_fd=fd)
        for chunk in arriving.chunks():
            applier.feed(chunk)

        def take(index: int, chunk: memoryview) -> None:
            arriving.write(index, chunk)
            applier.feed(chunk)

        if not arriving.complete:
            border.download(
                Digest(payload.digest),
                chunk=arriving.next_chunk,
                size_bytes=payload.size_bytes,
                sink=take,
            )
        model = applier.finish().digest
        equal("model", declaration.model, model)
        gateway.spool.keep_model(scratch, model)
        arriving.discard()
