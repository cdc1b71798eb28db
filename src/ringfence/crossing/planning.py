"""Every crossing that an agreement will make, as questions to the law before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Kind
from ringfence.core.errors import Refused
from ringfence.core.ids import RegionId
from ringfence.core.terms import Lineage
from ringfence.crossing.counters import PlannedCounts
from ringfence.crossing.decide import Draft, declare
from ringfence.crossing.exports import Export
from ringfence.crossing.law import Law, export, question
from ringfence.policy.facts import Question
from ringfence.policy.words import CROSSINGS, Action

_MODELS: tuple[Kind, ...] = ("candidate", "release", "snapshot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One planned step: what `judge` is asked about it, and which region must ask."""

    action: Action
    draft: Draft
    sender: RegionId
    recipient: RegionId
    judged_by: RegionId


def plan(agreement: Agreement) -> Iterator[Planned]:
    """Training, updates in, merging, models out and metrics in, of every lineage.

    Tags are those of a lineage in full swing: every contributor's.
    """
    for lineage in agreement.terms.lineages:
        yield from _lineage(agreement, lineage)


def planned_questions(
    law: Law, steps: Iterable[Planned]
) -> Iterator[tuple[Planned, Question | Refused]]:
    """What is asked about each of `steps`, by the papers and facts that lie here as they are now.

    Whoever judges several counts them together: a plan that passes a line anywhere is refused from
    its first step.  Other regions ask their own law; this one's copies stand in for theirs.  Where
    the facts refuse a step before any pack is asked, the refusal stands in for the question.
    """
    steps = tuple(steps)
    papers, registry, now_s = law.approvals(), law.registry(), law.clock()
    still = replace(law, approvals=lambda: papers, registry=lambda: registry, clock=lambda: now_s)
    laws = {step.judged_by: replace(still, region=step.judged_by) for step in steps}
    declared = [
        declare(laws[step.judged_by], step.draft, sender=step.sender, recipient=step.recipient)
        for step in steps
    ]
    exports: dict[RegionId, list[Export]] = {name: [] for name in laws}
    for step, declaration in zip(steps, declared, strict=True):
        if step.action in CROSSINGS:
            exports[step.judged_by].append(export(still, declaration))
    counted = () if law.ledger is None else law.ledger.all(now_s=now_s)
    counts = {name: PlannedCounts(counted, planned) for name, planned in exports.items()}
    for step, declaration in zip(steps, declared, strict=True):
        name = step.judged_by
        try:
            asked = question(laws[name], declaration, action=step.action, counts=counts[name])
        except Refused as refused:
            yield step, refused
        else:
            yield step, asked


def _lineage(agreement: Agreement, lineage: Lineage) -> Iterator[Planned]:
    hub = agreement.hub
    tags = tuple(sorted({str(agreement.jurisdiction(name)) for name in lineage.contributors}))
    update = _draft(agreement, lineage, "update", tags)
    for name in lineage.contributors:
        region = RegionId(name)
        own = replace(update, examples=agreement.region(name).examples)
        yield Planned(
            action=Action.TRAIN, draft=own, sender=region, recipient=region, judged_by=region
        )
        yield from _crossing(own, region, hub)
    yield Planned(action=Action.MERGE, draft=update, sender=hub, recipient=hub, judged_by=hub)
    for name in lineage.recipients:
        region = RegionId(name)
        if region == hub:
            continue
        for kind in _MODELS:
            yield from _crossing(_draft(agreement, lineage, kind, tags), hub, region)
        if lineage.gate is not None:
            metrics = _draft(agreement, lineage, "metrics", tags)
            yield from _crossing(metrics, region, hub)


def _crossing(draft: Draft, sender: RegionId, recipient: RegionId) -> Iterator[Planned]:
    """Both halves: the sender asks whether it may leave, the recipient whether it may come in."""
    for action, judge in ((Action.EXPORT, sender), (Action.IMPORT, recipient)):
        yield Planned(
            action=action, draft=draft, sender=sender, recipient=recipient, judged_by=judge
        )


def _draft(agreement: Agreement, lineage: Lineage, kind: Kind, tags: tuple[str, ...]) -> Draft:
    metrics: tuple[tuple[str, float], ...] = ()
    examples = 0
    if kind == "metrics" and lineage.gate is not None:
        terms = agreement.metric(lineage.gate.metric)
        metrics = ((terms.name, terms.minimum),)
        examples = terms.least_cohort
    return Draft(
        kind=kind,
        lineage=lineage.id,
        round=0,
        parent=lineage.start.model,
        model="",
        layout=agreement.update_layout.digest,
        codec="none",
        payload=None,
        inputs=(),
        jurisdictions=tags,
        examples=examples,
        metrics=metrics,
    )
