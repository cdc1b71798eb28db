"""The way of one update, from the site to the hub, top to bottom.

    0 preflight   is the base ours, would this crossing be lawful, with all whom it counts?
                  reserve counters and budget; only then train
      train       the site hands over y - x in memory that it can no longer change
    1 check       agreed size and nothing else, finite, counts within the catalogue
    2 clip        L2 norm within the agreed bound
    3 encode      once per lineage, round and region; stored
    4 probe       leakage tests over these bytes
    5 mask        secure aggregation
    6 decide      verdict over the exact bytes; grant debited
    7 sign        DSSE over an in-toto statement
    8 record      intent durable in the log, and counted, before a byte leaves
      send        statement first, payload only when it is accepted
    9 receipt     what the hub signed, recorded

After a crash an update goes on behind the last step that the journal knows: a stored payload is
sent again and never encoded again; a grant found open without one is spent if a site had it.  The
law is asked again about a stored payload as long as its round takes updates; any other refusal
closes the round for this region.
"""

from __future__ import annotations

import os
from pathlib import Path

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import encode as encode_payload
from ringfence.core.artifacts import (
    CheckedUpdate,
    ClippedUpdate,
    Declaration,
    EncodedUpdate,
    Grant,
    Input,
    LocalUpdate,
    MaskedUpdate,
    PermittedUpdate,
    ProbedUpdate,
    ReceiptNote,
    RecordedUpdate,
    SignedUpdate,
    payload_of,
    statement_digest,
)
from ringfence.core.errors import FormatError, LayoutError, NotFiniteError, Refused, StateError
from ringfence.core.metrics import check_metrics, round_metrics
from ringfence.core.site_wire import SiteGone, Train
from ringfence.core.tensorfile import TensorFile, layout_entries
from ringfence.core.wire import LineageView
from ringfence.crossing import statements
from ringfence.crossing.decide import Draft, declare, give_back, judge_reserved, still_permitted
from ringfence.crossing.decide import decide as ask_law
from ringfence.gateway.gateway import Border, Gateway, Site
from ringfence.gateway.journal import Outbound
from ringfence.learn.clip import NormMeter, clip_factor, measure_norm
from ringfence.policy.words import Action


class SiteLeftError(StateError):
    """The site went away before it handed its update over; another attempt may come."""


def send_update(gateway: Gateway, view: LineageView, border: Border) -> None:
    """Give this round this region's update, from wherever a former attempt left off.

    Returns when the hub's receipt is recorded.  Raises: Refused when any step says no (recorded;
    after a refusal by the law, ours or the hub's, call again: a cure may have come);
    BorderDownError when the hub cannot be reached (call again: the stored bytes go on);
    SiteLeftError when the site left.
    """
    stored = gateway.journal.outbound(view.lineage, view.round)
    if stored is not None and stored.state in ("refused", "forfeited"):
        return
    encoded = _prepare(gateway, view) if stored is None else _resume(gateway, stored)
    try:
        probed = probe(encoded)
        masked = mask(probed)
        permitted = decide(gateway, masked)
        signed = sign(gateway, permitted)
        recorded = record_intent(gateway, signed)
        receipt = send(gateway, recorded, border)
        record_receipt(gateway, recorded, receipt)
    except Refused as refused:
        if refused.stage == "law":
            _record(gateway, encoded.grant, refused)
        else:
            _close_refused(gateway, encoded.grant, refused)
        raise


def _prepare(gateway: Gateway, view: LineageView) -> EncodedUpdate:
    """Steps 0 to 3, while the site waits for the answer to what it hands over."""
    with gateway.borrow_site() as site:
        grant = preflight(gateway, view)
        local = train(gateway, grant, site)
        try:
            checked = check(gateway, local)
            clipped = clip(gateway, checked)
            encoded = encode(gateway, clipped)
        except Refused as refused:
            gateway.journal.settle(grant, "spent")  # these steps have looked at the update
            _close_refused(gateway, grant, refused)
            site.reject(refused)
            raise
        finally:
            os.close(local.memory_fd)
        site.acknowledge()
        return encoded


def preflight(gateway: Gateway, view: LineageView) -> Grant:
    """0: ask the law about a crossing of this kind, then reserve one update of the budget.

    Whom the update counts is reserved before the law is asked, and held until it is refused or its
    intent is recorded: what is trained for may pass no line when it leaves.

    The round must build on the release that this region has admitted: no other is trained from.
    Raises: Refused (recorded); nothing has been trained and nothing is spent.
    """
    try:
        base = gateway.models.admitted(view.lineage)
        if base is None or base.model != view.parent:
            ours = "none" if base is None else base.model
            raise Refused(
                stage="preflight",
                reason="wrong-parent",
                detail=f"expected a round on {ours}, got one on {view.parent}",
            )
        tags = _tags(gateway, view.lineage, view.round, state_in="")
        _ask_ahead(gateway, view.lineage, view.round, tags)
        return gateway.journal.reserve(
            lineage=view.lineage,
            round_=view.round,
            parent=view.parent,
            budget=gateway.region.agreement.terms.budget.updates,
        )
    except Refused as refused:
        _give_back(gateway, view.lineage, view.round)
        gateway.record_refusal(refused, lineage=view.lineage, round_=view.round)
        raise


def train(gateway: Gateway, grant: Grant, site: Site) -> LocalUpdate:
    """Have the site train from the release that this region has admitted.

    If the process dies once the grant is handed over, the grant is spent: data was looked at.
    """
    agreement = gateway.region.agreement
    state = gateway.newest_state(grant.lineage)
    model_fd = gateway.open_model(grant.parent)
    gateway.journal.settle(grant, "handed")
    try:
        taken = site.train(
            Train(
                lineage=grant.lineage,
                round=grant.round,
                parent=grant.parent,
                layout=agreement.update_layout.digest,
                state_in=state,
                settings=agreement.terms.training.settings,
            ),
            model_fd=model_fd,
            update_bytes=agreement.update_layout.size_bytes,
        )
    except Refused as came:
        # Bytes that are not of the agreed layout are treated as what they may be: raw data.
        rules = ("PLAT-RAW",) if came.reason == "update-wrong-size" else came.rules
        refused = Refused(stage=came.stage, reason=came.reason, detail=came.detail, rules=rules)
        gateway.journal.settle(grant, "spent")
        _close_refused(gateway, grant, refused)
        site.reject(refused)
        raise refused from came
    finally:
        os.close(model_fd)
    if isinstance(taken, SiteGone):
        raise SiteLeftError(f"{taken.why}; start the script again")
    message = taken.message
    return LocalUpdate(
        grant=grant,
        memory_fd=taken.fd,
        examples=message.examples,
        metrics=dict(message.metrics),
        inputs=(
            Input(role="base", digest=message.base),
            *((Input(role="state", digest=message.state_in),) if message.state_in else ()),
            Input(role="code", digest=site.hello.code),
            Input(role="catalogue", digest=gateway.catalogue_digest),
        ),
        state_out=message.state_out,
    )


def check(gateway: Gateway, local: LocalUpdate) -> CheckedUpdate:
    """1: finite numbers, metrics as agreed, no more examples than the catalogue holds.

    The size was checked, and sealed, before this type could exist.
    """
    agreement = gateway.region.agreement
    examples = _most_examples(gateway)
    if not 1 <= local.examples <= examples:
        raise _refuse("examples", f"expected 1 to {examples} examples, got {local.examples}")
    rounded = round_metrics(agreement, local.metrics)
    check_metrics(agreement, rounded, examples=local.examples)
    _tags(gateway, local.grant.lineage, local.grant.round, state_in=_state_in(local))
    try:
        norm = measure_norm(_view(gateway, local), agreement.update_layout)
    except (NotFiniteError, LayoutError, FormatError) as error:
        raise _refuse("not-finite", str(error)) from error
    return CheckedUpdate(local=local, norm_l2=norm)


def clip(gateway: Gateway, checked: CheckedUpdate) -> ClippedUpdate:
    """2: scale down what is longer than the agreed bound (arXiv:1607.00133, Algorithm 1)."""
    bound = gateway.region.agreement.terms.clip_l2
    return ClippedUpdate(checked=checked, factor=clip_factor(checked.norm_l2, bound_l2=bound))


def encode(gateway: Gateway, clipped: ClippedUpdate) -> EncodedUpdate:
    """3: write the one payload of this round, and remember it before anybody hears of it.

    The site can still write to its memory, so that what was checked and clipped counts only if what
    is encoded measures the same, to the bit.

    If the process dies before the journal has it, the grant is spent and the bytes are orphaned;
    if it dies after, exactly these bytes are sent.
    """
    agreement = gateway.region.agreement
    local = clipped.checked.local
    grant = local.grant
    form = PayloadFormat(codec=agreement.terms.codecs.updates, layout=agreement.update_layout)
    values = NormMeter(_view(gateway, local).read_segment, agreement.update_layout)
    scratch = gateway.spool.scratch(f"update-{grant.lineage}")
    _write_over_last(gateway, grant, scratch)
    fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        chunked = encode_payload(
            form,
            values,
            fd,
            factor=clipped.factor,
            seed=gateway.random_bytes(32),
        )
    except NotFiniteError as error:
        # Finite, and still too large for the codec: int8 scales end below 2^127.
        raise _refuse("not-finite", str(error)) from error
    finally:
        os.close(fd)
    if values.norm_l2 != clipped.checked.norm_l2:
        raise _refuse(
            "update-changed",
            f"checked an update of norm {clipped.checked.norm_l2}, encoded one of "
            f"{values.norm_l2}: the site wrote to it after handing it over; submit it once",
        )
    payload = payload_of(chunked)
    encoded = EncodedUpdate(
        grant=grant,
        codec=form.codec,
        payload=payload,
        path=gateway.spool.keep_payload(scratch, payload.digest),
        examples=local.examples,
        metrics=round_metrics(agreement, local.metrics),
        inputs=local.inputs,
        jurisdictions=_tags(gateway, grant.lineage, grant.round, state_in=_state_in(local)),
        state_out=local.state_out,
    )
    gateway.journal.store_encoded(encoded)
    return encoded


def probe(encoded: EncodedUpdate) -> ProbedUpdate:
    """4: the agreement asks for no leakage tests yet; the stage is where their verdict goes."""
    return ProbedUpdate(encoded=encoded)


def mask(probed: ProbedUpdate) -> MaskedUpdate:
    """5: the agreement asks for no secure aggregation yet; the stage is where masks are added."""
    return MaskedUpdate(probed=probed)


def decide(gateway: Gateway, masked: MaskedUpdate) -> PermittedUpdate:
    """6: judge exactly these bytes; a stored statement stands only while its verdict does."""
    encoded = masked.probed.encoded
    grant = encoded.grant
    stored = gateway.journal.outbound(grant.lineage, grant.round)
    if stored is not None and stored.envelope is not None:
        declaration = statements.open_own(gateway.region, stored.envelope)
        if still_permitted(gateway.region, declaration):
            return PermittedUpdate(masked=masked, declaration=declaration)
    draft = Draft(
        kind="update",
        lineage=grant.lineage,
        round=grant.round,
        parent=grant.parent,
        model="",
        layout=gateway.region.agreement.update_layout.digest,
        codec=encoded.codec,
        payload=encoded.payload,
        inputs=encoded.inputs,
        jurisdictions=encoded.jurisdictions,
        examples=encoded.examples,
        metrics=tuple(encoded.metrics.items()),
    )
    declaration = ask_law(gateway.region, draft, recipient=gateway.region.agreement.hub)
    gateway.journal.settle(grant, "debited")
    return PermittedUpdate(masked=masked, declaration=declaration)


def sign(gateway: Gateway, permitted: PermittedUpdate) -> SignedUpdate:
    """7: Ed25519 is deterministic, so signing the same declaration again gives the same bytes."""
    return SignedUpdate(
        permitted=permitted, envelope=statements.sign(gateway.region, permitted.declaration)
    )


def record_intent(gateway: Gateway, signed: SignedUpdate) -> RecordedUpdate:
    """8: durable in the log, and in the counters, before a byte leaves.

    If the process dies between log and journal, the intent is recorded once more: two intents of
    one statement are still one crossing.
    """
    grant = signed.permitted.masked.probed.encoded.grant
    stored = gateway.journal.outbound(grant.lineage, grant.round)
    if stored is not None and stored.envelope == signed.envelope and stored.log_index is not None:
        return RecordedUpdate(signed=signed, log_index=stored.log_index)
    index = statements.record_intent(gateway.region, signed.permitted.declaration, signed.envelope)
    gateway.journal.store_recorded(grant, envelope=signed.envelope, log_index=index)
    return RecordedUpdate(signed=signed, log_index=index)


def send(gateway: Gateway, recorded: RecordedUpdate, border: Border) -> bytes:
    """Offer the statement; send the payload from the chunk that the hub asks for."""
    encoded = recorded.signed.permitted.masked.probed.encoded
    reply = border.offer(recorded.signed.envelope)
    if reply.receipt is not None:
        return reply.receipt.encode()
    if reply.next_chunk is None:
        raise FormatError("offer: expected a chunk to start at or a receipt, got neither")
    statement = statement_digest(recorded.signed.envelope)
    return border.upload(statement, encoded.path, chunk=reply.next_chunk)


def record_receipt(gateway: Gateway, recorded: RecordedUpdate, receipt: bytes) -> ReceiptNote:
    """9: the hub's word, verified and recorded; the site's new state belongs to the lineage."""
    encoded = recorded.signed.permitted.masked.probed.encoded
    note = statements.accept_receipt(
        gateway.region,
        receipt,
        counterparty=gateway.region.agreement.hub,
        statement=statement_digest(recorded.signed.envelope),
        payload=encoded.payload.digest,
    )
    gateway.journal.store_receipt(encoded.grant, receipt)
    return note


# ── what the steps share ──


def _write_over_last(gateway: Gateway, grant: Grant, scratch: Path) -> None:
    """A large payload whose round is over is needed no more: the new one takes its file.

    INVARIANT: no round that may still be sent has the same payload.
    """
    last = gateway.journal.outbound(grant.lineage, grant.round - 1)
    if last is None or last.encoding is None or last.state not in ("received", "refused"):
        return
    digest = last.encoding.payload.digest
    if digest not in gateway.journal.unsent():
        gateway.spool.write_over(gateway.spool.payload(digest), scratch)


def _resume(gateway: Gateway, stored: Outbound) -> EncodedUpdate:
    """Take up the stored payload; if its bytes are lost the round is forfeited.

    Raises: Refused (recorded) when the file no longer holds what was encoded.
    """
    encoding = stored.encoding
    if encoding is None:
        raise StateError(f"{stored.grant.lineage} round {stored.grant.round}: nothing is stored")
    if not gateway.spool.holds(encoding.payload):
        refused = _refuse(
            "payload-lost",
            f"the stored payload {encoding.payload.digest} is gone or damaged; encoding again "
            "would be a second release, so this round is forfeited",
        )
        gateway.journal.settle(stored.grant, "spent")
        _give_back(gateway, stored.grant.lineage, stored.grant.round)
        gateway.journal.close_outbound(stored.grant, "forfeited")
        _record(gateway, stored.grant, refused)
        raise refused
    return EncodedUpdate(
        grant=stored.grant,
        codec=encoding.codec,
        payload=encoding.payload,
        path=gateway.spool.payload(encoding.payload.digest),
        examples=encoding.examples,
        metrics=encoding.metrics,
        inputs=encoding.inputs,
        jurisdictions=encoding.jurisdictions,
        state_out=encoding.state_out,
    )


def _tags(gateway: Gateway, lineage: str, round_: int, *, state_in: str) -> tuple[str, ...]:
    """Every jurisdiction that an update carries: ours, the base's, and the regional state's.

    Raises: Refused when the closure is unknown, or holds a tag that the lineage bars.
    """
    agreement = gateway.region.agreement
    base = gateway.models.admitted(lineage)
    tags = {str(agreement.jurisdiction(gateway.region.id)), *(base.jurisdictions if base else ())}
    if state_in:
        closure = gateway.journal.closure(state_in)
        if closure is None:
            raise _refuse(
                "unknown-state",
                f"regional state {state_in} is not one that this gateway has seen; start from the "
                f"state that round {round_} was opened with",
            )
        tags |= closure
    if barred := tags.intersection(agreement.lineage(lineage).bars):
        # The law first: its verdict names the rule, where the agreement would only say no.
        _ask_ahead(gateway, lineage, round_, tuple(sorted(tags)))
        raise _refuse(
            "barred-tag", f"lineage {lineage} bars {sorted(barred)}, which its inputs carry"
        )
    return tuple(sorted(tags))


def _ask_ahead(gateway: Gateway, lineage: str, round_: int, tags: tuple[str, ...]) -> None:
    """Ask the law about training for, and exporting, an update with these tags; or raise."""
    planned = _planned(gateway, lineage, round_, tags)
    judge_reserved(gateway.region.law, planned, Action.TRAIN, Action.EXPORT)


def _planned(gateway: Gateway, lineage: str, round_: int, tags: tuple[str, ...]) -> Declaration:
    """What will be declared of an update that is not there yet."""
    agreement = gateway.region.agreement
    draft = Draft(
        kind="update",
        lineage=lineage,
        round=round_,
        parent="",
        model="",
        layout=agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=(),
        jurisdictions=tags,
        examples=_most_examples(gateway),
    )
    return declare(gateway.region.law, draft, sender=gateway.region.id, recipient=agreement.hub)


def _most_examples(gateway: Gateway) -> int:
    """What the catalogue holds, and no more than was agreed."""
    agreed = gateway.region.agreement.region(gateway.region.id).examples
    return min(gateway.catalogue.counts["train"], agreed)


def _give_back(gateway: Gateway, lineage: str, round_: int) -> None:
    """Whom an update reserved that does not leave; what was counted with its intent stays so."""
    give_back(gateway.region.law, _planned(gateway, lineage, round_, ()))


def _state_in(local: LocalUpdate) -> str:
    return next((item.digest for item in local.inputs if item.role == "state"), "")


def _view(gateway: Gateway, local: LocalUpdate) -> TensorFile:
    """The handed-over memory as a file of the update's tensors without a header."""
    entries = layout_entries(gateway.region.agreement.update_layout)
    return TensorFile(local.memory_fd, owned=False, entries=entries, data_start=0)


def _close_refused(gateway: Gateway, grant: Grant, refused: Refused) -> None:
    """A refusal that read only metadata gives the grant back; `settle` keeps one spent before."""
    gateway.journal.settle(grant, "returned")
    _give_back(gateway, grant.lineage, grant.round)
    gateway.journal.close_outbound(grant, "refused")
    _record(gateway, grant, refused)


def _record(gateway: Gateway, grant: Grant, refused: Refused) -> None:
    gateway.record_refusal(refused, lineage=grant.lineage, round_=grant.round)


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="check", reason=reason, detail=detail)
