"""How many distinct subjects several data sets have together, known by digest and by number only.

    distinct([january, february], overlaps)     # people count once where that is proven

A gateway holds no personal identifiers, so that the union of two data sets cannot be computed
here: the same digest is the same people, and other digests add up unless an overlap is proven
(reference, section 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from ringfence.core.catalogue import Subjects
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import OperatorId

Measure = Literal["people", "sensitive_people", "devices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One catalogue's data: whose it is, where its subjects are, of which classes, how many.

    `digest` is the SHA-256 of the catalogue, and names the data set.
    """

    digest: Digest
    operator: OperatorId
    jurisdiction: Jurisdiction
    classes: tuple[str, ...]
    subjects: Subjects


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """At least so many subjects are in both data sets; `evidence` is the record that shows it."""

    one: Digest
    other: Digest
    shared: Subjects
    evidence: Digest

    def __post_init__(self) -> None:
        if self.one == self.other:
            raise FormatError(f"overlap: expected two data sets, got {self.one} twice")


def distinct(data_sets: Iterable[DataSet], overlaps: Iterable[Overlap] = ()) -> Subjects:
    """The most distinct subjects that the data sets can have together.

    Exact where no overlap is proven, and where each data set is proven to hold the one before.
    Source of the bound: D. Hunter, "An upper bound for the probability of a union", Journal of
    Applied Probability 13 (1976): the sum, less a heaviest spanning forest of the overlaps.
    """
    known = _by_digest(data_sets)
    proven = [each for each in overlaps if {each.one, each.other} <= known.keys()]
    people = _union(known, proven, "people")
    return Subjects(
        people=people,
        # Bounded by two overlaps of its own, and by the people among whom they are.
        sensitive_people=min(people, _union(known, proven, "sensitive_people")),
        devices=_union(known, proven, "devices"),
    )


def _by_digest(data_sets: Iterable[DataSet]) -> dict[Digest, Subjects]:
    """One data set a digest; of two counts of the same data set the larger stands."""
    known: dict[Digest, Subjects] = {}
    for each in data_sets:
        before = known.get(each.digest)
        known[each.digest] = each.subjects if before is None else larger(before, each.subjects)
    return known


def larger(one: Subjects, other: Subjects) -> Subjects:
    """The larger of each count."""
    return Subjects(
        people=max(one.people, other.people),
        sensitive_people=max(one.sensitive_people, other.sensitive_people),
        devices=max(one.devices, other.devices),
    )


def _union(known: Mapping[Digest, Subjects], overlaps: list[Overlap], measure: Measure) -> int:
    sizes = {digest: int(getattr(subjects, measure)) for digest, subjects in known.items()}
    edges = sorted(
        (
            # No more can be shared than the smaller has: a record that says so is not believed.
            (min(int(getattr(each.shared, measure)), sizes[each.one], sizes[each.other]), each)
            for each in overlaps
        ),
        key=lambda edge: edge[0],
        reverse=True,
    )
    total = sum(sizes.values())
    tree = {digest: digest for digest in sizes}
    for shared, each in edges:  # Kruskal: heaviest first, never closing a circle
        one, other = _root(tree, each.one), _root(tree, each.other)
        if one != other:
            tree[one] = other
            total -= shared
    return total


def _root(tree: dict[Digest, Digest], digest: Digest) -> Digest:
    while tree[digest] != digest:
        digest = tree[digest]
    return digest
