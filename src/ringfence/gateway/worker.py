"""The loop of one lineage: look at what the hub shows, do what is due, look again."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ringfence.core.errors import BorderDownError, Refused
from ringfence.core.ids import LineageId
from ringfence.core.wire import AgreementView, LineageView
from ringfence.crossing.signatures import (
    check_signatures,
    missing_signatures,
    sign_agreement,
)
from ringfence.gateway.evaluation import report_candidate
from ringfence.gateway.gateway import Border, Gateway
from ringfence.gateway.inbound import admit_release, take_candidate, take_snapshot
from ringfence.gateway.outbound import SiteLeftError, send_update
from ringfence.gateway.witnessing import watch

_log = logging.getLogger(__name__)

_WAIT_S = 20
"""How long the hub may keep a question about news open."""


def follow(
    gateway: Gateway, lineage: LineageId, border: Border, *, pause: Callable[[int], None]
) -> None:
    """Follow `lineage` until its last agreed round has ended or the gateway stops.

    `pause` waits before attempt n after a failure (n from 1).  Raises: every fault that no retry
    mends, a fork of the hub's log above all.
    """
    seen = 0
    failures = 0
    while not gateway.stop.is_set():
        try:
            view = border.lineage(lineage, seen=seen, wait_s=_WAIT_S if not failures else 0)
            watch(gateway, view, border)
            if take_turn(gateway, lineage, view, border) and is_finished(gateway, view):
                return
            seen, failures = view.version, 0
        except (BorderDownError, SiteLeftError) as error:
            failures += 1
            _log.warning("%s: %s; trying again", lineage, error)
        except Refused as refused:
            # Recorded where it was raised; the next change of the lineage is the next occasion.
            _log.warning("%s: %s", lineage, refused)
            seen, failures = view.version, 0
        if failures:
            pause(failures)


def take_turn(gateway: Gateway, lineage: LineageId, view: LineageView, border: Border) -> bool:
    """Do everything that `view` asks of this region; returns whether nothing of it is left."""
    if not _is_current(gateway, lineage, view, border):
        return False
    if view.round == 0:
        return True
    terms = gateway.region.agreement.lineage(lineage)
    if view.state in ("open", "collecting") and gateway.region.id in terms.contributors:
        if not view.submitted:
            send_update(gateway, view, border)
            _log.info("%s round %d: update received by the hub", lineage, view.round)
    elif view.state == "evaluating" and view.candidate is not None:
        candidate = take_candidate(gateway, view, border)
        _log.info("%s round %d: candidate held", lineage, view.round)
        report = gateway.journal.reported(lineage, view.round)
        if terms.gate is not None and (report is None or not report.closed):
            report_candidate(gateway, candidate, border)
    return True


def is_finished(gateway: Gateway, view: LineageView) -> bool:
    """Whether the last agreed round has ended and its release, if any, is our base."""
    last = gateway.region.agreement.lineage(view.lineage).until_round
    return view.round >= last and view.state in ("released", "held")


def join(gateway: Gateway, border: Border, *, pause: Callable[[int], None]) -> None:
    """Before anything else: both ends hold the same agreement, signed by every region.

    Waits for the hub and for missing signatures.  Raises: Refused when the hub runs another
    agreement, or a signature on it does not hold.
    """
    agreement = gateway.region.agreement
    envelope = sign_agreement(agreement, gateway.region.id, gateway.region.statement_signer)
    failures = 0
    while not gateway.stop.is_set():
        try:
            missing = _still_missing(gateway, border.sign_agreement(envelope))
        except BorderDownError as error:
            _log.warning("the hub cannot be reached: %s; trying again", error)
        except Refused as refused:
            gateway.record_refusal(refused)
            raise
        else:
            if not missing:
                return
            _log.info("waiting for the signatures of %s", ", ".join(missing))
        failures += 1
        pause(failures)


def _still_missing(gateway: Gateway, shown: AgreementView) -> list[str]:
    """Regions whose signature the hub lacks; raises `Refused` unless all others are over ours."""
    agreement = gateway.region.agreement
    if shown.agreement != agreement.digest:
        raise Refused(
            stage="agreement",
            reason="another-agreement",
            detail=f"the hub runs agreement {shown.agreement}, this region holds "
            f"{agreement.digest}; compare the two files byte by byte",
        )
    signatures = {name: text.encode() for name, text in shown.signatures.items()}
    missing = missing_signatures(agreement, signatures)
    if not missing:
        check_signatures(agreement, signatures)
    return missing


def _is_current(gateway: Gateway, lineage: LineageId, view: LineageView, border: Border) -> bool:
    """Whether our base is the release that the hub's round builds on; makes it so if it can."""
    held = gateway.journal.admitted(lineage)
    if view.release is not None and (held is None or held.statement != view.release):
        admission = admit_release(gateway, view, border)
        if admission == "admitted":
            now = gateway.journal.admitted(lineage)
            _log.info("%s round %d: release admitted", lineage, now.round if now else 0)
        if admission == "behind":
            take_snapshot(gateway, lineage, border)
        return admission != "waiting"
    if held is None:
        take_snapshot(gateway, lineage, border)
    return True
