"""A region's measurement of a candidate, as an artifact that crosses like any other."""

from __future__ import annotations

import os

from ringfence.core.artifacts import Input, statement_digest
from ringfence.core.errors import Refused, StateError
from ringfence.core.metrics import check_metrics, round_metrics
from ringfence.core.site_wire import Evaluate, Evaluated, SiteGone
from ringfence.core.terms import Gate
from ringfence.crossing.decide import Draft, decide, declare, still_permitted
from ringfence.crossing.law import judge
from ringfence.crossing.statements import accept_receipt, open_own, record_intent, sign
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.models import HeldModel
from ringfence.gateway.outbound import SiteLeftError
from ringfence.policy.words import Action


def report_candidate(gateway: Gateway, candidate: HeldModel, border: Border) -> None:
    """Have the site measure `candidate`, and send what the agreement lets cross of it.

    Returns when the hub's receipt is recorded; repeated after a crash it sends the same statement,
    as long as its verdict stands.
    Raises: Refused (recorded; after a refusal by the law call again), BorderDownError,
    SiteLeftError.
    """
    report = gateway.models.reported(candidate.lineage, candidate.round)
    try:
        if report is None:
            envelope = _measure(gateway, candidate)
        else:
            envelope = _standing(gateway, candidate, report.envelope)
        receipt = border.offer(envelope).receipt
        if receipt is None:
            raise _refuse("incomplete", "the hub gave no receipt for a statement without payload")
        accept_receipt(
            gateway.region,
            receipt.encode(),
            counterparty=gateway.region.agreement.hub,
            statement=statement_digest(envelope),
            payload="",
        )
    except Refused as refused:
        gateway.record_refusal(refused, lineage=candidate.lineage, round_=candidate.round)
        if refused.stage != "law":
            gateway.models.close_report(candidate, b"")
        raise
    gateway.models.close_report(candidate, receipt.encode())


def _measure(gateway: Gateway, candidate: HeldModel) -> bytes:
    state = gateway.newest_state(candidate.lineage)
    _ask_ahead(gateway, candidate, state)
    with gateway.borrow_site() as site:
        model_fd = gateway.open_model(candidate.model)
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
            # Inside of the loan: the desk lets go of this line and takes in the next site.
            raise SiteLeftError(f"{measured.why}; start the script again")
    return _statement(gateway, candidate, measured, state)


def _statement(gateway: Gateway, candidate: HeldModel, measured: Evaluated, state: str) -> bytes:
    metrics = _gate_metric(gateway, candidate.lineage, measured)
    draft = _draft(gateway, candidate, state, metrics, examples=measured.examples)
    return _sign(gateway, candidate, draft)


def _ask_ahead(gateway: Gateway, candidate: HeldModel, state: str) -> None:
    """Ask the law about a measurement of the least cohort before the site's time is spent on one.

    Raises: Refused at stage `law`.
    """
    agreement = gateway.region.agreement
    terms = agreement.metric(_gate(gateway, candidate.lineage).metric)
    draft = _draft(
        gateway, candidate, state, {terms.name: terms.minimum}, examples=terms.least_cohort
    )
    planned = declare(gateway.region.law, draft, sender=gateway.region.id, recipient=agreement.hub)
    judge(gateway.region.law, planned, action=Action.EXPORT)


def _draft(
    gateway: Gateway,
    candidate: HeldModel,
    state: str,
    metrics: dict[str, float],
    *,
    examples: int,
) -> Draft:
    agreement = gateway.region.agreement
    own = str(agreement.jurisdiction(gateway.region.id))
    return Draft(
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
        examples=examples,
        metrics=tuple(metrics.items()),
    )


def _gate(gateway: Gateway, lineage: str) -> Gate:
    gate = gateway.region.agreement.lineage(lineage).gate
    if gate is None:
        raise StateError(f"lineage {lineage} has no gate; nothing is measured for it")
    return gate


def _gate_metric(gateway: Gateway, lineage: str, measured: Evaluated) -> dict[str, float]:
    """The one number that the gate asks for, as it may cross; whatever else came stays here.

    Raises: Refused when the site did not measure it, or not as agreed.
    """
    agreement = gateway.region.agreement
    name = _gate(gateway, lineage).metric
    if name not in measured.metrics:
        raise _refuse(
            "gate-metric-missing",
            f"expected {name!r}, got {sorted(measured.metrics)}; return it from evaluate=",
        )
    rounded = round_metrics(agreement, {name: measured.metrics[name]})
    check_metrics(agreement, rounded, examples=measured.examples)
    return rounded


def _standing(gateway: Gateway, candidate: HeldModel, envelope: bytes) -> bytes:
    """The statement signed before, or the same measurement under a new verdict."""
    declaration = open_own(gateway.region, envelope)
    if still_permitted(gateway.region, declaration):
        return envelope
    draft = Draft(
        kind="metrics",
        lineage=declaration.lineage,
        round=declaration.round,
        parent=declaration.parent,
        model="",
        layout=declaration.layout,
        codec="none",
        payload=None,
        inputs=declaration.inputs,
        jurisdictions=declaration.jurisdictions,
        examples=declaration.examples,
        metrics=tuple(declaration.metrics.items()),
    )
    return _sign(gateway, candidate, draft)


def _sign(gateway: Gateway, candidate: HeldModel, draft: Draft) -> bytes:
    declaration = decide(gateway.region, draft, recipient=gateway.region.agreement.hub)
    envelope = sign(gateway.region, declaration)
    record_intent(gateway.region, declaration, envelope)
    # If the process dies here, the site measures again; the hub takes the first statement it gets.
    gateway.models.store_report(candidate, envelope)
    return envelope


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="evaluation", reason=reason, detail=detail)
