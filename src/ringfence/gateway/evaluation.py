"""A region's measurement of a candidate, as an artifact that crosses like any other."""

from __future__ import annotations

import os

from ringfence.core.artifacts import Input
from ringfence.core.errors import Refused
from ringfence.core.metrics import check_metrics, round_metrics
from ringfence.core.site_wire import Evaluate, Evaluated, SiteGone
from ringfence.crossing.decide import Draft, decide
from ringfence.crossing.statements import accept_receipt, record_intent, sign
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.journal import HeldModel
from ringfence.gateway.outbound import SiteLeftError


def report_candidate(gateway: Gateway, candidate: HeldModel, border: Border) -> None:
    """Have the site measure `candidate`, and send what the agreement lets cross of it.

    Returns when the hub's receipt is recorded; repeated after a crash it sends the same statement.
    Raises: Refused (recorded), BorderDownError, SiteLeftError.
    """
    report = gateway.journal.reported(candidate.lineage, candidate.round)
    try:
        envelope = report.envelope if report else _measure(gateway, candidate)
        receipt = border.offer(envelope).receipt
        if receipt is None:
            raise _refuse("incomplete", "the hub gave no receipt for a statement without payload")
        accept_receipt(gateway.region, receipt.encode(), counterparty=gateway.region.agreement.hub)
    except Refused as refused:
        gateway.region.record_refusal(
            refused,
            counterparty=gateway.region.agreement.hub,
            lineage=candidate.lineage,
            round_=candidate.round,
        )
        gateway.journal.close_report(candidate, b"")
        raise
    gateway.journal.close_report(candidate, receipt.encode())


def _measure(gateway: Gateway, candidate: HeldModel) -> bytes:
    state = gateway.newest_state(candidate.lineage)
    with gateway.borrow_site() as site:
        model_fd = os.open(gateway.spool.model(candidate.model), os.O_RDONLY | os.O_CLOEXEC)
        try:
            measured = site.evaluate(
                Evaluate(
                    lineage=candidate.lineage,
                    round=candidate.round,
                    candidate=candidate.model,
                    state_in=state,
                ),
                model_fd=model_fd,
            )
        finally:
            os.close(model_fd)
    if isinstance(measured, SiteGone):
        raise SiteLeftError(f"{measured.why}; start the script again")
    return _statement(gateway, candidate, measured, state)


def _statement(gateway: Gateway, candidate: HeldModel, measured: Evaluated, state: str) -> bytes:
    agreement = gateway.region.agreement
    metrics = round_metrics(agreement, dict(measured.metrics))
    check_metrics(agreement, metrics, examples=measured.examples)
    own = str(agreement.jurisdiction(gateway.region.id))
    draft = Draft(
        kind="metrics",
        lineage=candidate.lineage,
        round=candidate.round,
        parent=candidate.model,
        model="",
        layout=agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=(
            Input(role="base", digest=candidate.model),
            *((Input(role="state", digest=state),) if state else ()),
            Input(role="catalogue", digest=gateway.catalogue_digest),
        ),
        jurisdictions=tuple(sorted({own, *candidate.jurisdictions})),
        examples=measured.examples,
        metrics=tuple(sorted(metrics.items())),
    )
    declaration = decide(gateway.region, draft, recipient=agreement.hub)
    envelope = sign(gateway.region, declaration)
    record_intent(gateway.region, declaration, envelope)
    # If the process dies here, the site measures again; the hub takes the first statement it gets.
    gateway.journal.store_report(candidate, envelope)
    return envelope


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="evaluation", reason=reason, detail=detail)
