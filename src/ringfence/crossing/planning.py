"""Every crossing that an agreement will make, as questions to the law before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Kind
from ringfence.core.ids import RegionId
from ringfence.core.terms import Lineage
from ringfence.crossing.decide import Draft, declare
from ringfence.crossing.law import Law, question
from ringfence.policy.facts import Question
from ringfence.policy.words import Action

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


def planned_question(law: Law, step: Planned) -> Question:
    """What `law` is asked about a step of the plan, with the papers that its region holds now."""
    declaration = declare(law, step.draft, sender=step.sender, recipient=step.recipient)
    return question(law, declaration, action=step.action)


def _lineage(agreement: Agreement, lineage: Lineage) -> Iterator[Planned]:
    hub = agreement.hub
    tags = tuple(sorted({str(agreement.jurisdiction(name)) for name in lineage.contributors}))
    update = _draft(agreement, lineage, "update", tags)
    for name in lineage.contributors:
        region = RegionId(name)
        yield Planned(
            action=Action.TRAIN, draft=update, sender=region, recipient=region, judged_by=region
        )
        yield from _crossing(update, region, hub)
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
