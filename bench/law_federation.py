"""Founds the plan that the law's benchmark checks: many regions, several lineages, every paper."""

from __future__ import annotations

import hashlib
from itertools import cycle, islice
from pathlib import Path

from ringfence.cli.federation import Federation, conclude, found_federation, least_packs
from ringfence.cli.founding import Founding
from ringfence.core import canonical
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.clock import system_clock
from ringfence.core.terms import (
    Budget,
    DataClass,
    Gate,
    Hub,
    Lineage,
    Metric,
    Start,
    Target,
    Tensor,
    Terms,
    Training,
)

HUB = "hub"

_PLACES = ("EU", "US", "CN")
_CLASSES: dict[str, tuple[DataClass, ...]] = {
    "EU": ("personal",),
    "US": ("personal",),
    "CN": ("personal", "important", "geographic"),
}
_EXAMPLES = 100
_NO_MODEL = "blake3:" + "0" * 64


def plan_federation(
    directory: Path, *, regions: int, lineages: int
) -> tuple[Federation, Agreement]:
    """Regions over three jurisdictions; every other lineage is for American cars, without China."""
    places = dict(
        zip((f"r{n:02}" for n in range(regions)), islice(cycle(_PLACES), regions), strict=True)
    )
    foundings = [_founding(HUB, "EU"), *(_founding(name, at) for name, at in places.items())]
    federation = found_federation(directory, foundings, clock=system_clock)
    for name, at in places.items():
        federation.homes[name].catalogue.write_bytes(canonical.to_bytes(_catalogue(name, at)))
    terms = Terms(
        version=1,
        name="bench-law",
        hub=Hub(region=HUB, address="127.0.0.1:8443"),
        regions=tuple(federation.parties.values()),
        tensors=(Tensor(name="w", shape=(4,), dtype="F32", module="model"),),
        modules={"model": "federated"},
        training=Training(operations_per_example=1e9),
        clip_l2=1.0,
        budget=Budget(updates=10),
        metrics=(Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50),),
        lineages=tuple(_lineage(n, places) for n in range(lineages)),
        packs=least_packs(federation.homes[HUB]),
    )
    return federation, conclude(federation, terms, clock=system_clock)


def _lineage(number: int, places: dict[str, str]) -> Lineage:
    american = number % 2 == 1
    members = tuple(name for name, at in places.items() if not (american and at == "CN"))
    countries = ("US",) if american else ("CN", "EU")
    return Lineage(
        id=f"line-{number}",
        contributors=members,
        recipients=members,
        bars=("CN",) if american else (),
        until_round=10,
        quorum=2,
        deadline_s=3600,
        start=Start(model=_NO_MODEL),
        gate=Gate(metric="accuracy", most_loss=1, worst_at_least=0),
        target=Target(countries=countries, sae_level=3, model_year=2027),
    )


def _catalogue(name: str, jurisdiction: str) -> Catalogue:
    return Catalogue(
        region=name,
        jurisdiction=jurisdiction,
        data_classes=_CLASSES[jurisdiction],
        counts={"train": _EXAMPLES},
        digest="sha256:" + hashlib.sha256(name.encode()).hexdigest(),
        data="none",
        subjects=Subjects(people=_EXAMPLES, sensitive_people=0, devices=0),
    )


def _founding(name: str, jurisdiction: str) -> Founding:
    return Founding(
        id=name,
        jurisdiction=jurisdiction,
        operator=f"Bench {name.upper()} Ltd.",
        parent=jurisdiction,
        trust_domain=f"{name}.example",
        data_classes=() if name == HUB else _CLASSES[jurisdiction],
        hardware="uncontrolled",
        examples=0 if name == HUB else _EXAMPLES,
    )
