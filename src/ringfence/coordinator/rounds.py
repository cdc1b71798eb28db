"""A lineage's rounds as a persisted state machine.

    open ─▶ collecting ─▶ merging ─▶ evaluating ─▶ released ─▶ (next round opens)
      └─────────┴────────────┴────────────┴──────▶ held     ─▶ (next round, same parent)

A round is held when its candidate does not pass the gate, when too few updates came, when its
agreement was succeeded, when its tags are not those of what went in, or when a step of it failed;
the reason is recorded in the hub's log.

`advance` takes one step when one is due.  Each step does its work first and then writes the new
state in one transaction, and repeats to the same bytes: a process that dies at any point of it does
the step again after its restart.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ringfence.coordinator.hub import Hub
from ringfence.coordinator.intake import may_merge
from ringfence.coordinator.journal import Candidate, Release, Round
from ringfence.coordinator.merging import candidate_tags, merge_round
from ringfence.coordinator.release import deliver_candidate, deliver_release, record_release
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import ConfigError, Refused, StateError
from ringfence.core.ids import LineageId, RegionId
from ringfence.core.terms import Lineage
from ringfence.learn.gate import Held, judge

_log = logging.getLogger(__name__)


def start_lineage(hub: Hub, lineage: Lineage) -> None:
    """Enter the model that the agreement starts `lineage` from, unless it has started already.

    Raises: ConfigError when the initial model's file or the branching release is not here, or the
    release holds a tag that the lineage bars.
    """
    if hub.journal.release(lineage.id) is not None:
        return
    jurisdictions: tuple[str, ...] = ()
    if lineage.start.branch_of:
        branch = _branching_release(hub, lineage)
        jurisdictions = branch.jurisdictions
    if not hub.spool.model(lineage.start.model).exists():
        raise ConfigError(
            f"lineage {lineage.id!r} starts from model {lineage.start.model}, which is not in the "
            "hub's models; give its file to 'ringfence coordinator --initial'"
        )
    hub.journal.start_lineage(
        Release(lineage=lineage.id, round=0, model=lineage.start.model, jurisdictions=jurisdictions)
    )


def advance(hub: Hub, lineage: LineageId) -> bool:
    """Take the next step of `lineage` if it is due; returns whether anything changed.

    While the hub's clock is wrong no step is: a deadline must not pass by a wrong clock.  The
    refusal is recorded, and nothing is lost.
    """
    try:
        return _take_step(hub, lineage)
    except Refused as refused:
        if refused.reason != "clock":
            raise
        if hub.refusals.record(hub.region, refused, counterparty=hub.region.id, lineage=lineage):
            _log.error("%s: %s", lineage, refused)
        return False


def _take_step(hub: Hub, lineage: LineageId) -> bool:
    hub.region.timekeeper.require()
    terms = hub.region.agreement.lineage(lineage)
    round_ = hub.journal.current_round(lineage)
    if round_ is None or round_.state in ("released", "held"):
        changed = _open_next(hub, terms, round_)
    elif round_.state in ("open", "collecting"):
        changed = _close_intake(hub, terms, round_)
    elif round_.state == "merging":
        changed = _merge(hub, round_)
    else:
        changed = _conclude(hub, terms, round_)
    if changed:
        hub.changes.announce(lineage)
        now = hub.journal.current_round(lineage)
        if now is not None:
            _log.info("%s round %d: %s", lineage, now.round, now.state)
    return changed


def hold_succeeded(hub: Hub, lineage: LineageId) -> bool:
    """After a start: hold a round that was opened under an agreement which is not in force.

    Its statements name that agreement, so that nobody could take them any more.
    """
    round_ = hub.journal.current_round(lineage)
    if round_ is None or round_.state in ("released", "held"):
        return False
    if round_.agreement == hub.region.agreement.digest:
        return False
    said = f"the round was opened under {round_.agreement}"
    _hold(hub, round_, _refuse("agreement-changed", said))
    return True


def hold_failed(hub: Hub, lineage: LineageId, fault: Exception) -> bool:
    """Hold the round whose step raised `fault`; returns whether there was one to hold."""
    round_ = hub.journal.current_round(lineage)
    if round_ is None or round_.state in ("released", "held"):
        return False
    said = f"{round_.state}: {type(fault).__name__}: {fault}"
    _hold(hub, round_, _refuse("step-failed", said))
    hub.changes.announce(lineage)
    return True


def _open_next(hub: Hub, terms: Lineage, last: Round | None) -> bool:
    number = 1 if last is None else last.round + 1
    if number > terms.until_round:
        return False
    parent = _require_release(hub, terms.id)
    hub.journal.open_round(
        lineage=terms.id,
        round_=number,
        agreement=hub.region.agreement.digest,
        parent=parent.model,
        now_s=hub.region.clock(),
    )
    return True


def _close_intake(hub: Hub, terms: Lineage, round_: Round) -> bool:
    """Close when everybody is here, or the deadline has passed and the quorum is here.

    A region that is cut off for a while is waited for: a round to which nobody has come stays
    open.  One to which some came and the others did not is held after a second deadline, or it
    would wait for ever for a region whose law says no.
    """
    with hub.lock:
        arrived = [
            submission
            for submission in hub.inbox.submissions(round_.lineage, round_.round)
            if submission.receipt is not None
        ]
        late_s = hub.region.clock() - round_.opened_s - terms.deadline_s
        if len(arrived) == len(terms.contributors) or (
            late_s >= 0 and len(arrived) >= terms.quorum
        ):
            merged = tuple(s.region for s in arrived if may_merge(hub, s))
            if len(merged) >= terms.quorum:
                hub.journal.start_merging(
                    lineage=round_.lineage, round_=round_.round, contributors=merged
                )
                return True
        if arrived and late_s >= terms.deadline_s:
            came = ", ".join(s.region for s in arrived)
            _hold(
                hub,
                round_,
                _refuse(
                    "no-quorum",
                    f"expected {terms.quorum} updates that may be merged, "
                    f"came of {came}, twice the deadline ago or longer",
                ),
            )
            return True
        if arrived and round_.state == "open":
            hub.journal.start_collecting(lineage=round_.lineage, round_=round_.round)
            return True
        return False


def _merge(hub: Hub, round_: Round) -> bool:
    submissions = hub.inbox.submissions(round_.lineage, round_.round)
    chosen = [s for s in submissions if s.region in round_.contributors]
    if len([s for s in chosen if may_merge(hub, s)]) < len(chosen):
        # The law has changed since intake was closed; who may still be merged is found anew.
        hub.journal.start_collecting(lineage=round_.lineage, round_=round_.round)
        return True
    try:
        candidate = merge_round(hub, round_)
    except Refused as refused:
        _hold(hub, round_, refused)
        return True
    hub.region.timekeeper.require()  # merging took its time, and a deadline is reckoned from now
    deliver_candidate(hub, round_, candidate)
    hub.journal.start_evaluating(
        lineage=round_.lineage,
        round_=round_.round,
        candidate=candidate,
        now_s=hub.region.clock(),
    )
    return True


def _conclude(hub: Hub, terms: Lineage, round_: Round) -> bool:
    if round_.candidate is None or round_.evaluating_s is None:
        raise StateError(f"{round_.lineage} round {round_.round}: evaluating without a candidate")
    if terms.gate is not None:
        evaluations = hub.inbox.evaluations(round_.lineage, round_.round)
        missing = sorted(set(terms.recipients) - set(evaluations) - {hub.region.id})
        if missing:
            if hub.region.clock() < round_.evaluating_s + terms.deadline_s:
                return False
            said = f"not measured by {', '.join(missing)} before the deadline"
            _hold(hub, round_, _refuse("not-measured", said))
            return True
        after = {
            RegionId(region): evaluation.metrics[terms.gate.metric]
            for region, evaluation in evaluations.items()
        }
        before = _scores_before(hub, round_, terms.gate.metric)
        # A region that measures for the first time has nothing to lose yet.
        decision = judge(
            terms.gate,
            before={region: before.get(region, score) for region, score in after.items()},
            after=after,
        )
        if isinstance(decision, Held):
            _hold(hub, round_, _refuse("gate", f"{decision.reason}: {decision.detail}"))
            return True
    try:
        _check_tags(hub, round_, round_.candidate)
    except Refused as refused:
        _hold(hub, round_, refused)
        return True
    # 1. one record for all, 2. a statement for each, 3. the journal, 4. a checkpoint over it all.
    # If the process dies between two of them, each finds what it did before.
    index = record_release(hub, round_, round_.candidate)
    deliver_release(hub, round_, round_.candidate)
    hub.journal.release_round(
        Release(
            lineage=round_.lineage,
            round=round_.round,
            model=round_.candidate.model,
            jurisdictions=round_.candidate.jurisdictions,
            log_index=index,
        )
    )
    hub.publication.publish()
    return True


def _check_tags(hub: Hub, round_: Round, candidate: Candidate) -> None:
    """Raise `Refused` unless the candidate's tags are the union of everything merged into it."""
    tags = candidate_tags(hub, round_)
    if tags != candidate.jurisdictions:
        raise _refuse(
            "wrong-tags",
            f"expected the jurisdictions {list(tags)} of everything that was merged, got "
            f"{list(candidate.jurisdictions)}: the journal was changed behind the log; restore it",
        )


def unsigned_releases(hub: Hub, lineage: LineageId) -> list[Path]:
    """Files of releases, oldest first, that are here and have no signature beside them yet.

    They are signed in this order, so that everything before a signed one is signed.
    """
    found: list[Path] = []
    for release in reversed(hub.journal.releases(lineage)):
        model = hub.spool.model(release.model)
        if release.round == 0 or model.with_name(model.name + ".sig").exists():
            break
        if model.exists():
            found.append(model)
    return found[::-1]


def _hold(hub: Hub, round_: Round, refused: Refused) -> None:
    """Record why, then end the round without a release; repeated after a crash it says so twice."""
    hub.region.record_refusal(
        refused,
        counterparty=hub.region.id,
        lineage=round_.lineage,
        round_=round_.round,
    )
    hub.journal.hold_round(
        lineage=round_.lineage,
        round_=round_.round,
        reason=f"{to_rfc3339(hub.region.clock())}: {refused.reason}: {refused.detail}",
    )


def _refuse(reason: str, detail: str) -> Refused:
    return Refused(stage="round", reason=reason, detail=detail)


def _scores_before(hub: Hub, round_: Round, metric: str) -> dict[RegionId, float]:
    """What each region measured on the newest released round before this one."""
    for number in range(round_.round - 1, 0, -1):
        past = hub.journal.round(round_.lineage, number)
        if past is not None and past.state == "released":
            evaluations = hub.inbox.evaluations(round_.lineage, number)
            # An agreement before this one may have had its gate on another metric.
            return {
                RegionId(region): evaluation.metrics[metric]
                for region, evaluation in evaluations.items()
                if metric in evaluation.metrics
            }
    return {}


def _branching_release(hub: Hub, lineage: Lineage) -> Release:
    for release in hub.journal.releases(lineage.start.branch_of):
        if release.model == lineage.start.model:
            if barred := set(lineage.bars).intersection(release.jurisdictions):
                raise ConfigError(
                    f"lineage {lineage.id!r} bars {sorted(barred)}, but the release of "
                    f"{lineage.start.branch_of!r} it starts from holds them"
                )
            return release
    raise ConfigError(
        f"lineage {lineage.id!r} starts from model {lineage.start.model}, which is no release of "
        f"{lineage.start.branch_of!r} here"
    )


def _require_release(hub: Hub, lineage: str) -> Release:
    release = hub.journal.release(lineage)
    if release is None:
        raise StateError(f"lineage {lineage!r} has no release to start a round from")
    return release
