"""One question as a Cedar request: the same for every pack that judges it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from ringfence.core.ids import Jurisdiction
from ringfence.policy.coverage import Coverage, Held
from ringfence.policy.facts import Party, Question
from ringfence.policy.ownership import ADVERSARIES
from ringfence.policy.words import (
    FOR_THE_MARKET,
    ItemKind,
    Trait,
    at_home,
    for_market,
    of,
    paper_from,
)

_EXA = 1e18

Entity = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CedarRequest:
    """Who does what with which kind of item, and every fact as JSON; equal ones have one answer.

    `flow` are the facts of the flow, `moment` those of the moment (`policy.flow`).
    """

    principal: str
    action: str
    resource: str
    flow: str
    moment: str

    @property
    def context(self) -> str:
        """Every fact, as the packs read them."""
        return f"{self.moment[:-1]},{self.flow[1:]}"

    def to_cedar(self, context: str) -> dict[str, object]:
        """In the form that `cedarpy` takes, with `context` as JSON."""
        return {
            "principal": _entity("Region", self.principal),
            "action": _entity("Action", self.action),
            "resource": _entity("Item", self.resource),
            "context": context,
        }


def cedar_request(question: Question, covered: Coverage) -> CedarRequest:
    """Principal is the region that acts, resource the item's kind, context every known fact.

    A fact that is None is left out: where the schema wants it, Cedar then decides nothing.
    """
    acting = question.recipient if question.action == "import" else question.sender
    return CedarRequest(
        principal=acting.region,
        action=question.action.value,
        resource=ItemKind(question.kind).value,
        flow=_json(_flow(question, covered)),
        moment=_json(_moment(question)),
    )


def _flow(question: Question, covered: Coverage) -> dict[str, object]:
    known: dict[str, object] = {
        "origins": _entities("Jurisdiction", question.origins),
        "to": _entity("Jurisdiction", question.recipient.jurisdiction),
        "sender": _party(question.sender),
        "recipient": _party(question.recipient),
        "classes": _entities("DataClass", question.classes),
        "lowered": [of(low.data_class, low.origin) for low in sorted(covered.lowered)],
        "papers": _papers(covered.held, to=question.recipient.jurisdiction),
        "drifted": _papers(covered.drifted, to=question.recipient.jurisdiction),
        "carries_seed": question.carries_seed,
        "carries_crypto": question.carries_crypto,
        "purpose": _entity("Purpose", question.purpose),
        **_of_parties(question.contributors, question.sender),
    }
    if market := question.market:
        known["market"] = {
            "countries": _entities("Jurisdiction", market.countries),
            "sae_level": market.sae_level,
            "model_year": market.model_year,
        }
    if compute := question.compute:
        known["compute"] = {
            "chip": _entity("Chip", compute.chip),
            "training_exaops": math.ceil(compute.training_ops / _EXA),
        }
    return known


def _moment(question: Question) -> dict[str, object]:
    known: dict[str, object] = {"now": math.floor(question.now)}
    if counters := question.counters:
        known["counters"] = {
            "cn_people": counters.cn_people,
            "cn_sensitive_people": counters.cn_sensitive_people,
            "us_people": counters.us_people,
            "us_devices": counters.us_devices,
            "us_line": counters.us_line,
        }
    if cohort := question.cohort:
        known["cohort"] = {"smallest": cohort.smallest, "floor": cohort.floor}
    if extraction := question.extraction:
        known["extraction"] = {
            "passed": extraction.passed,
            # Rounded so that a test never looks younger than it is.
            "tested_at": math.floor(extraction.tested_at),
        }
    if question.affected is not None:
        known["affected"] = question.affected
    return known


def _party(party: Party) -> dict[str, object]:
    known: dict[str, object] = {
        "jurisdiction": _entity("Jurisdiction", party.jurisdiction),
        "parent": _entity("Jurisdiction", party.parent),
        "traits": _entities("Trait", party.traits),
    }
    if screening := party.screening:
        known["screening"] = {
            "at": math.floor(screening.at),
            "us_listed": screening.us_listed,
            "cn_listed": screening.cn_listed,
            "listed_owners_percent": screening.listed_owners_percent,
            "adversary_owners_percent": screening.adversary_owners_percent,
        }
    return known


def _papers(found: Iterable[Held], *, to: Jurisdiction) -> list[str]:
    """Each paper in the words in which a pack may ask for it."""
    words: list[str] = []
    for held in sorted(found):
        if held.type in FOR_THE_MARKET:
            words.append(for_market(held.type, held.origin, held.destination))
        elif held.destination == to:
            words.append(paper_from(held.type, held.origin))
            if held.origin == to:
                words.append(at_home(held.type))
    return words


@functools.lru_cache(maxsize=256)
def _of_parties(contributors: frozenset[Party], sender: Party) -> Mapping[str, object]:
    """What is said of all whose data may be in the item: many, and the same for a whole flow."""
    parties = contributors | {sender}
    places = {each for party in parties for each in (party.jurisdiction, party.parent)}
    return {
        "controllers": _entities("Jurisdiction", places),
        "adversary_owners_percent": _adversary_owners_percent(parties),
        "makers_listed": any(p.screening is None or p.screening.us_listed for p in parties),
        "makers_listed_owners_percent": max(
            p.screening.listed_owners_percent if p.screening else 0 for p in parties
        ),
        "traits": _traits(parties, frozenset.union),
        "shared_traits": _traits(parties, frozenset.intersection),
    }


def _traits(parties: Iterable[Party], joined: Callable[..., frozenset[Trait]]) -> list[str]:
    """Traits of those whose data are in the item, joined for each jurisdiction.

    On an onward path the sender is not the one whose traits matter: a Chinese public body's data
    stay those of a public body when a European hub sends them on (CN-PIPL-36).
    """
    by_origin: dict[Jurisdiction, list[frozenset[Trait]]] = {}
    for party in parties:
        by_origin.setdefault(party.jurisdiction, []).append(party.traits)
    return [
        of(trait, origin)
        for origin, traits in sorted(by_origin.items())
        for trait in sorted(joined(*traits))
    ]


def _adversary_owners_percent(makers: Iterable[Party]) -> int:
    """The most that persons of China or Russia hold of a contributor or the sender.

    Who sits there, or has its ultimate parent there, is left out: `controllers` names its seat, for
    which a paper may speak.  One that was never screened counts as theirs.
    """
    return max(
        (
            100 if maker.screening is None else maker.screening.adversary_owners_percent
            for maker in makers
            if ADVERSARIES.isdisjoint((maker.jurisdiction, maker.parent))
        ),
        default=0,
    )


def _entities(type_: str, ids: Iterable[str]) -> list[Entity]:
    return [_entity(type_, id_) for id_ in sorted(ids)]


def _entity(type_: str, id_: str) -> Entity:
    return {"type": type_, "id": id_}


def _json(facts: dict[str, object]) -> str:
    return msgspec.json.encode(facts).decode()
