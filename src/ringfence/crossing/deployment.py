"""The question whether a model may be put on the road somewhere, by somebody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ringfence.core import ids
from ringfence.core.agreement import Agreement
from ringfence.core.ids import Jurisdiction, RegionId
from ringfence.crossing.affected import Affected
from ringfence.crossing.decide import Draft, declare
from ringfence.crossing.descent import Model
from ringfence.crossing.law import Law, question
from ringfence.policy.facts import Question
from ringfence.policy.words import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployer:
    """Who would deploy in a market: a region that sits there, or the asking one from abroad."""

    market: Jurisdiction
    region: RegionId


def deployers(law: Law, lineage: str) -> Iterator[Deployer]:
    """For each market, sorted, every region there that receives the lineage's releases.

    Markets are the countries of every lineage's target and the jurisdictions of all members.  The
    hub has every release; where no region sits, the asking region's own operator would deploy.
    """
    agreement = law.agreement
    holding = {*agreement.lineage(lineage).recipients, agreement.hub}
    for market in _markets(agreement):
        there = [
            name
            for name in agreement.regions()
            if name in holding and agreement.jurisdiction(name) == market
        ]
        for name in there or [law.region]:
            yield Deployer(market=market, region=name)


def deployment(law: Law, model: Model, affected: Affected, deployer: Deployer) -> Question:
    """What the region's own packs are asked: may `deployer` put `model` on the road.

    Facts come from where `law.question` takes them, the tags from the log, and whether the model is
    affected from the log and the revocations registered here.
    """
    agreement = law.agreement
    draft = Draft(
        kind="release",
        lineage=model.id.lineage,
        round=model.id.round,
        parent=model.parent_digest or model.digest,
        model=model.digest,
        layout=agreement.model_layout.digest,
        codec="none",
        payload=None,
        inputs=(),
        jurisdictions=model.tags,
    )
    # The deployer is the one party to it, as this region's own agreement and registry know it.
    there = replace(law, region=deployer.region)
    declared = declare(there, draft, sender=deployer.region, recipient=deployer.region)
    asked = question(there, declared, action=Action.DEPLOY)
    party = replace(asked.sender, jurisdiction=deployer.market)
    traces = affected.deployed_by(model.id, deployer.region)
    return replace(asked, sender=party, recipient=party, affected=bool(traces))


def _markets(agreement: Agreement) -> list[Jurisdiction]:
    countries = {
        code for line in agreement.terms.lineages if line.target for code in line.target.countries
    }
    members = {agreement.jurisdiction(name) for name in agreement.regions()}
    return sorted({ids.jurisdiction(code) for code in countries} | members)
