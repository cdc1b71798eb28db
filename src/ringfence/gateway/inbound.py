"""What comes in from the hub: candidates to measure, releases to admit, snapshots to start from.

    1 open      the hub's statement, addressed to us, under this agreement
    2 check     lineage, round, parent, layout, codec, exact size, and that its tags are lawful here
    3 judge     the packs of hub, region and lineage: may this be imported
    4 fetch     chunk by chunk, each verified; a cut transfer goes on where it stopped
    5 apply     base + update, which must give exactly the model that the statement names
    6 receipt   recorded here, signed, handed to the hub
A release is admitted only when the hub's log is shown to hold it under a checkpoint that more than
half of the regions cosigned.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Literal

from ringfence.codec.apply import Applier
from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.core.artifacts import Declaration, Payload, statement_digest
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import (
    FormatError,
    LayoutError,
    LogError,
    NotFiniteError,
    Refused,
    TrustError,
)
from ringfence.core.ids import Digest, LineageId
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.wire import LineageView
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import judge
from ringfence.crossing.statements import issue_receipt, open_statement
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.journal import HeldModel
from ringfence.ledger.checkpoints import majority
from ringfence.ledger.disclosure import check_proof
from ringfence.policy.words import Action


def take_candidate(gateway: Gateway, view: LineageView, border: Border) -> HeldModel:
    """Fetch the round's candidate, unless it is here already, and hold the model that it yields.

    Raises: Refused (recorded), BorderDownError.
    """
    held = gateway.journal.model_of_round(view.lineage, view.round)
    if held is not None and held.statement == view.candidate:
        return held
    agreement = gateway.region.agreement
    with _recording(gateway, view.lineage, view.round):
        envelope = border.statement(Digest(view.candidate or ""))
        declaration = open_statement(gateway.region, envelope, sender=agreement.hub)
        _check_statement(gateway, declaration, kind="candidate", lineage=view.lineage)
        _equal("round", str(view.round), str(declaration.round))
        _equal("parent", view.parent, declaration.parent)
        _equal("layout", agreement.update_layout.digest, declaration.layout)
        judge(gateway.region.law, declaration, action=Action.IMPORT)
        model = _fetch_update(gateway, declaration, border)
        border.accept(issue_receipt(gateway.region, declaration, envelope))
    held = HeldModel(
        lineage=view.lineage,
        round=view.round,
        model=model,
        jurisdictions=declaration.jurisdictions,
        statement=view.candidate or "",
        admitted=False,
    )
    gateway.journal.hold_model(held)
    return held


Admission = Literal["admitted", "waiting", "behind"]


def admit_release(gateway: Gateway, view: LineageView, border: Border) -> Admission:
    """Make the newest release this lineage's base.

    "waiting": its log entry is not cosigned by a majority yet.  "behind": its candidate is not held
    here, so that only a snapshot helps.  Raises: Refused (recorded), BorderDownError, LogError.
    """
    release = Digest(view.release or "")
    with _recording(gateway, view.lineage, view.round):
        envelope = border.statement(release)
        declaration = open_statement(gateway.region, envelope, sender=gateway.region.agreement.hub)
        _check_statement(gateway, declaration, kind="release", lineage=view.lineage)
        held = gateway.journal.model_of_round(view.lineage, declaration.round)
        if held is None or held.model != declaration.model:
            return "behind"
        if held.admitted:
            return "admitted"
        judge(gateway.region.law, declaration, action=Action.IMPORT)
        if not _recorded_by_hub(gateway, release, envelope, border):
            return "waiting"
        receipt = _admit(gateway, declaration, envelope)
        border.accept(receipt)
        return "admitted"


def take_snapshot(gateway: Gateway, lineage: LineageId, border: Border) -> None:
    """Fetch the whole model of the newest release: to join a lineage, or to catch up.

    Raises: Refused (recorded), BorderDownError.
    """
    agreement = gateway.region.agreement
    with _recording(gateway, lineage, 0):
        envelope = border.snapshot(lineage)
        declaration = open_statement(gateway.region, envelope, sender=agreement.hub)
        _check_statement(gateway, declaration, kind="snapshot", lineage=lineage)
        _equal("layout", agreement.model_layout.digest, declaration.layout)
        judge(gateway.region.law, declaration, action=Action.IMPORT)
        payload = _payload(declaration)
        form = PayloadFormat(codec="float32", layout=agreement.model_layout)
        _equal("size", str(form.size_bytes), str(payload.size_bytes))
        _equal("model", declaration.model, payload.digest)
        if not gateway.spool.model(payload.digest).exists():
            arriving = gateway.spool.arriving(payload)
            border.download(
                Digest(payload.digest),
                chunk=arriving.next_chunk,
                size_bytes=payload.size_bytes,
                sink=arriving.write,
            )
            path = arriving.finish()
            with PayloadFile(form, path) as content:
                content.check_values()
            gateway.spool.keep_model(path, payload.digest)
        receipt = _admit(gateway, declaration, envelope)
        border.accept(receipt)


# ── what the ways in share ──


def _fetch_update(gateway: Gateway, declaration: Declaration, border: Border) -> str:
    """Apply the candidate's payload to its base while it arrives; returns the model's digest.

    If the process dies here, the verified chunks are in the spool: the next attempt feeds those
    first and fetches the rest.
    """
    agreement = gateway.region.agreement
    payload = _payload(declaration)
    form = PayloadFormat(codec=agreement.terms.codecs.releases, layout=agreement.update_layout)
    _equal("size", str(form.size_bytes), str(payload.size_bytes))
    arriving = gateway.spool.arriving(payload)
    scratch = gateway.spool.scratch(f"candidate-{declaration.lineage}")
    fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with open_tensorfile(gateway.spool.model(declaration.parent)) as base:
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
    finally:
        arriving.close()
        os.close(fd)
    _equal("model", declaration.model, model)
    gateway.spool.keep_model(scratch, model)
    arriving.discard()
    return model


def _recorded_by_hub(gateway: Gateway, release: Digest, envelope: bytes, border: Border) -> bool:
    """Whether the hub's log holds this statement under a checkpoint that a majority cosigned.

    Raises: LogError when the proof holds for something else.
    """
    witnesses = gateway.witness_keys
    proven = check_proof(
        border.disclosure(release), log_key=gateway.hub_log_key, witnesses=witnesses
    )
    entry = Entry.from_bytes(proven.content)
    if entry.kind != "intent" or entry.envelope.encode() != envelope:
        raise LogError(f"release {release}: the hub proved another entry, index {proven.index}")
    return len(proven.cosigned_by) >= majority(len(witnesses))


def _admit(gateway: Gateway, declaration: Declaration, envelope: bytes) -> bytes:
    """Record the admission, then let the journal make the model the lineage's base."""
    receipt = issue_receipt(gateway.region, declaration, envelope)
    gateway.region.record(
        Entry(
            kind="admission",
            at=to_rfc3339(gateway.region.clock()),
            counterparty=declaration.sender,
            lineage=declaration.lineage,
            round=declaration.round,
            subject=declaration.model,
            envelope=envelope.decode(),
        )
    )
    gateway.journal.hold_model(
        HeldModel(
            lineage=declaration.lineage,
            round=declaration.round,
            model=declaration.model,
            jurisdictions=declaration.jurisdictions,
            statement=statement_digest(envelope),
            admitted=True,
        )
    )
    return receipt


def _check_statement(
    gateway: Gateway, declaration: Declaration, *, kind: str, lineage: str
) -> None:
    _equal("kind", kind, declaration.kind)
    _equal("lineage", lineage, declaration.lineage)
    barred = set(declaration.jurisdictions).intersection(
        gateway.region.agreement.lineage(lineage).bars
    )
    if barred:
        raise _refuse("barred-tag", f"lineage {lineage} bars {sorted(barred)}")


def _payload(declaration: Declaration) -> Payload:
    if declaration.payload is None:
        raise _refuse("incomplete", f"expected a payload with a {declaration.kind}")
    return declaration.payload


def _equal(field: str, want: str, got: str) -> None:
    if want != got:
        raise _refuse(f"wrong-{field}", f"expected {field} {want}, got {got}")


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="inbound", reason=reason, detail=detail)


@contextlib.contextmanager
def _recording(gateway: Gateway, lineage: str, round_: int) -> Iterator[None]:
    """Write whatever is refused on the way in into our own log, and let it travel up."""
    try:
        yield
    except (Refused, FormatError, LayoutError, NotFiniteError, TrustError) as error:
        refused = error if isinstance(error, Refused) else _refuse("malformed", str(error))
        gateway.region.record_refusal(
            refused, counterparty=gateway.region.agreement.hub, lineage=lineage, round_=round_
        )
        raise refused from error
