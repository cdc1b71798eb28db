"""The loop of one lineage: look at what the hub shows, do what is due, look again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from ringfence.core.agreement import Agreement
from ringfence.core.errors import BorderDownError, ConfigError, Error, ForkError, Refused
from ringfence.core.ids import LineageId
from ringfence.core.wire import AgreementView, LineageView
from ringfence.crossing.signatures import (
    check_signatures,
    missing_signatures,
    sign_agreement,
)
from ringfence.gateway.arrivals import PeerError, as_refusal, equal, recording, refuse
from ringfence.gateway.evaluation import report_candidate
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.inbound import admit_release, take_candidate
from ringfence.gateway.outbound import SiteLeftError, send_update
from ringfence.gateway.reminding import remind
from ringfence.gateway.snapshots import take_snapshot
from ringfence.gateway.witnessing import watch

_log = logging.getLogger(__name__)

_WAIT_S = 20
"""How long the hub may keep a question about news open."""


def follow(
    gateway: Gateway, lineage: LineageId, border: Border, *, pause: Callable[[int], None]
) -> None:
    """Follow `lineage` until its last agreed round has ended or the gateway stops.

    `pause` waits before attempt n after a failure (n from 1).  Whatever the hub or the site can
    cause is said and recorded once, and tried again.  Raises: ForkError, which stops the region;
    StateError when our own disk contradicts itself.
    """
    seen = failures = 0
    wait_s = _WAIT_S
    said = ""
    while not gateway.stop.is_set():
        view: LineageView | None = None
        problem: Error
        try:
            asked_s = gateway.region.timekeeper.steady_s()
            view = border.lineage(lineage, seen=seen, wait_s=wait_s)
            watch(gateway, view, border, asked_s=asked_s)
            remind(gateway)
            if take_turn(gateway, lineage, view, border) and is_finished(gateway, view):
                return
            seen, wait_s, failures, said = view.version, _WAIT_S, 0, ""
            continue
        except ForkError:
            raise
        except (BorderDownError, SiteLeftError, ConfigError) as fault:
            # The line, the site, or a file that a person is editing: nobody's refusal.
            problem, wait_s = fault, 0
        except (Refused, *PeerError) as error:
            problem = as_refusal(error)
            gateway.record_refusal(problem, lineage=lineage, round_=view.round if view else 0)
            # The next change of the lineage is an occasion, and so is time: a cure may have come.
            seen, wait_s = view.version if view else 0, _WAIT_S
        failures += 1
        if str(problem) != said:
            said = str(problem)
            _log.warning("%s: %s; trying again", lineage, said)
        pause(failures)


def take_turn(gateway: Gateway, lineage: LineageId, view: LineageView, border: Border) -> bool:
    """Do everything that `view` asks of this region; returns whether nothing of it is left.

    Raises: Refused (recorded) when a step says no, or the view is not one that was agreed on.
    """
    with recording(gateway, lineage, view.round):
        _check_view(gateway, lineage, view)
    if not _is_current(gateway, lineage, view, border):
        return False
    if view.round == 0:
        return True
    base = gateway.models.admitted(lineage)
    if base is not None and base.round >= view.round and not _is_over(view):
        return False  # the view is older than the release that came with it: look again
    terms = gateway.region.agreement.lineage(lineage)
    if gateway.region.id in terms.contributors and _update_is_due(gateway, view):
        send_update(gateway, view, border)
        _log.info("%s round %d: update received by the hub", lineage, view.round)
    if view.state == "evaluating" and view.candidate is not None:
        candidate = take_candidate(gateway, view, border)
        report = gateway.models.reported(lineage, view.round)
        if report is None:
            _log.info("%s round %d: candidate held", lineage, view.round)
        if terms.gate is not None and (report is None or not report.closed):
            report_candidate(gateway, candidate, border)
    return True


def _update_is_due(gateway: Gateway, view: LineageView) -> bool:
    """Whether this round lacks our update, or we lack the receipt that the hub signed for it."""
    if not view.submitted:
        return view.state in ("open", "collecting")
    stored = gateway.journal.outbound(view.lineage, view.round)
    return stored is not None and stored.state == "recorded"


def is_finished(gateway: Gateway, view: LineageView) -> bool:
    """Whether the last agreed round has ended and its release, if any, is our base."""
    last = gateway.region.agreement.lineage(view.lineage).until_round
    return view.round >= last and _is_over(view)


def join(gateway: Gateway, border: Border, *, pause: Callable[[int], None]) -> Mapping[str, bytes]:
    """Before anything else: both ends hold the same agreement, signed by every region.

    Waits for the hub and for missing signatures; returns every region's.  Raises: Refused
    (recorded) when the hub runs another agreement: a person must compare the two.
    """
    agreement = gateway.region.agreement
    envelope = sign_agreement(agreement, gateway.region.id, gateway.region.statement_signer)
    failures = 0
    said = ""
    while not gateway.stop.is_set():
        try:
            signatures = _same_agreement(agreement, border.sign_agreement(envelope))
            missing = missing_signatures(agreement, signatures)
            if not missing:
                check_signatures(agreement, signatures)
                return signatures
            problem = f"waiting for the signatures of {', '.join(missing)}"
        except BorderDownError as error:
            problem = f"the hub cannot be reached: {error}; trying again"
        except Refused as refused:
            gateway.record_refusal(refused)
            raise
        except PeerError as error:
            untrue = as_refusal(error)
            gateway.record_refusal(untrue)
            problem = f"{untrue}; trying again"
        if problem != said:
            said = problem
            _log.warning("%s", said)
        failures += 1
        pause(failures)
    return {}


def _same_agreement(agreement: Agreement, shown: AgreementView) -> dict[str, bytes]:
    """The signatures that the hub shows; raises `Refused` when they are of another agreement."""
    if shown.agreement != agreement.digest:
        raise Refused(
            stage="agreement",
            reason="another-agreement",
            detail=f"the hub runs agreement {shown.agreement}, this region holds "
            f"{agreement.digest}; compare the two files byte by byte",
        )
    return {name: text.encode() for name, text in shown.signatures.items()}


def _check_view(gateway: Gateway, lineage: LineageId, view: LineageView) -> None:
    """Raise `Refused` unless the view is of the lineage asked for, in a round that was agreed."""
    equal("lineage", lineage, view.lineage)
    last = gateway.region.agreement.lineage(lineage).until_round
    if not 0 <= view.round <= last:
        raise refuse("wrong-round", f"expected round 0 to {last}, got {view.round}")


def _is_over(view: LineageView) -> bool:
    return view.state in ("released", "held")


def _is_current(gateway: Gateway, lineage: LineageId, view: LineageView, border: Border) -> bool:
    """Whether our base is the release that the hub's round builds on; makes it so if it can."""
    held = gateway.models.admitted(lineage)
    if held is None or not gateway.spool.holds_model(held.model):
        lost = held is not None  # a base whose file is gone or damaged is fetched again
        if lost or view.release is None:
            return take_snapshot(gateway, view, border)
    if view.release is not None and (held is None or held.statement != view.release):
        admission = admit_release(gateway, view, border)
        if admission == "admitted":
            now = gateway.models.admitted(lineage)
            _log.info("%s round %d: release admitted", lineage, now.round if now else 0)
        return admission == "admitted"
    if held is not None and view.release is None and held.model != view.parent:
        # The round builds on a release that was not addressed to us; we may have it by now.
        return _is_over(view) or take_snapshot(gateway, view, border)
    return True
