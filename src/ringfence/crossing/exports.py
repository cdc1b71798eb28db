"""What one crossing would add to the counters: whose data it carries, for whom, and for what."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import Declaration
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.ids import Digest, Jurisdiction, RegionId
from ringfence.crossing.data_sets import DataSet, larger
from ringfence.crossing.registry import Registry
from ringfence.policy.approvals import OperatorId
from ringfence.policy.words import GROUPS_OF, ItemGroup, ItemKind

CN, US = Jurisdiction("CN"), Jurisdiction("US")

_COUNTED = (CN, US)
"""The jurisdictions whose law asks how many subjects were exported."""

_NOBODYS = frozenset(
    {
        ItemGroup.TECHNOLOGY,
        ItemGroup.STATISTICS,
        ItemGroup.MECHANISM,
        ItemGroup.CONTROL,
        ItemGroup.CONTENTS,
    }
)
"""Groups that carry nobody's data: reference, section 7, rows 9 to 13 (reading CN-AUTO-2026)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Exports within one scope add up, whatever company sends them (reading "CN splitting").

    `group` are the companies of one federation, `model` the lineage that the model began with, so
    that a branch is no other model; `recipient` is the company that receives.
    """

    group: str
    model: str
    recipient: OperatorId
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Crossings that follow one another: in a later round an earlier one is not under way."""

    kind: str
    lineage: str
    sender: RegionId
    recipient: RegionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One crossing, and the data sets of counted subjects that it takes out of their jurisdiction.

    `uncounted` are contributors of whose data nobody has stated the number of subjects.
    """

    flow: Flow
    round: int
    scope: Scope
    data_sets: tuple[DataSet, ...]
    uncounted: tuple[RegionId, ...]

    @property
    def id(self) -> str:
        """The same for every attempt at this crossing."""
        return _id(self.flow, self.round)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogued:
    """The data of the region that asks: its catalogue, and the digest that names it."""

    catalogue: Catalogue
    digest: Digest


def export_of(
    agreement: Agreement,
    registry: Registry,
    own: Catalogued | None,
    declaration: Declaration,
    contributors: tuple[str, ...],
) -> Export:
    """The export that `declaration` declares, with every contributor's data (PLAT-DERIVED).

    How many subjects a contributor's data have is the region's own catalogue's word, or its
    registry's.  What the counterparty names can only add: a catalogue that nobody here has
    registered leaves the number unknown.
    """
    recipient = agreement.region(declaration.recipient)
    places = {recipient.jurisdiction, recipient.parent}
    data_sets: list[DataSet] = []
    uncounted: list[RegionId] = []
    for name in contributors if _carries_subjects(declaration) else ():
        party = agreement.region(name)
        if party.jurisdiction not in _COUNTED or places == {party.jurisdiction}:
            continue
        known = _known(registry, own, name)
        named = {
            each.digest
            for each in declaration.inputs
            if each.role == "catalogue" and name == declaration.sender
        }
        if not known or not named <= known.keys():
            uncounted.append(RegionId(name))
        data_sets += (
            DataSet(
                digest=digest,
                operator=OperatorId(party.operator),
                jurisdiction=Jurisdiction(party.jurisdiction),
                classes=tuple(sorted(party.data_classes)),
                subjects=subjects,
            )
            for digest, subjects in sorted(known.items())
        )
    return Export(
        flow=_flow(declaration),
        round=declaration.round,
        scope=Scope(
            group=agreement.terms.name,
            model=_first_lineage(agreement, declaration.lineage),
            recipient=OperatorId(recipient.operator),
            purpose=declaration.purpose,
        ),
        data_sets=tuple(data_sets),
        uncounted=tuple(uncounted),
    )


def crossing_id(declaration: Declaration) -> str:
    """The id of the crossing that `declaration` is about: `Export.id`."""
    return _id(_flow(declaration), declaration.round)


def _id(flow: Flow, round_: int) -> str:
    return f"{flow.kind}/{flow.lineage}/{round_}/{flow.sender}/{flow.recipient}"


def _flow(declaration: Declaration) -> Flow:
    return Flow(
        kind=declaration.kind,
        lineage=declaration.lineage,
        sender=RegionId(declaration.sender),
        recipient=RegionId(declaration.recipient),
    )


def _carries_subjects(declaration: Declaration) -> bool:
    """A kind without a group counts: nobody has said that it tells nothing about anybody."""
    groups = GROUPS_OF.get(ItemKind(declaration.kind))
    return not groups or not groups <= _NOBODYS


def _known(registry: Registry, own: Catalogued | None, region: str) -> dict[Digest, Subjects]:
    """Every data set of `region` that is registered here; empty when one of them is not counted."""
    known = registry.data_sets(region)
    if own is None or own.catalogue.region != region:
        return known
    if own.catalogue.subjects is None:
        return {}
    stated = known.get(own.digest, own.catalogue.subjects)
    return known | {own.digest: larger(stated, own.catalogue.subjects)}


def _first_lineage(agreement: Agreement, lineage: str) -> str:
    """The lineage at the root of `lineage`'s branches."""
    while before := agreement.lineage(lineage).start.branch_of:
        lineage = before
    return lineage
