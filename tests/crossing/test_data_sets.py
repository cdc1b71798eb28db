"""Sets of people of whom only numbers are known: they add up unless an overlap is proven."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.catalogue import Subjects
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.crossing.data_sets import DataSet, Overlap, distinct
from ringfence.policy.approvals import OperatorId


def named(name: str) -> Digest:
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


def _set(name: str, people: int, *, sensitive: int = 0, devices: int = 0) -> DataSet:
    return DataSet(
        digest=named(name),
        operator=OperatorId("Motors"),
        jurisdiction=Jurisdiction("CN"),
        classes=("personal",),
        subjects=Subjects(people=people, sensitive_people=sensitive, devices=devices),
    )


def _overlap(one: str, other: str, people: int, *, sensitive: int = 0, devices: int = 0) -> Overlap:
    return Overlap(
        one=named(one),
        other=named(other),
        shared=Subjects(people=people, sensitive_people=sensitive, devices=devices),
        evidence=named("record"),
    )


def test_the_same_data_set_counts_once_and_others_add_up() -> None:
    # given one catalogue exported twice, and another one
    # when they are counted, then nobody in the first counts twice
    found = distinct([_set("a", 100), _set("a", 100), _set("b", 30, sensitive=3, devices=2)])
    assert found == Subjects(people=130, sensitive_people=3, devices=2)


def test_of_two_counts_of_one_data_set_the_larger_stands() -> None:
    # given a number that was corrected, in either direction
    for first, second in ((100, 90), (90, 100)):
        assert distinct([_set("a", first), _set("a", second)]).people == 100


def test_a_catalogue_that_grew_counts_each_person_once_where_that_is_proven() -> None:
    # given three catalogues, each of which holds the one before
    grown = [_set("jan", 100, devices=5), _set("feb", 150, devices=6), _set("mar", 180, devices=9)]
    proven = [
        _overlap("jan", "feb", 100, devices=5),
        _overlap("feb", "mar", 150, devices=6),
        _overlap("jan", "mar", 100, devices=5),
    ]
    # when they are counted with the proof, and without
    # then it is the last one's number, or the sum
    assert distinct(grown, proven) == Subjects(people=180, sensitive_people=0, devices=9)
    assert distinct(grown).people == 430


def test_an_overlap_with_what_was_not_exported_takes_nothing_off() -> None:
    assert distinct([_set("a", 100)], [_overlap("a", "b", 100)]).people == 100


def test_an_overlap_of_more_than_there_is_takes_off_no_more_than_there_is() -> None:
    # given a record that says too much
    found = distinct([_set("a", 100), _set("b", 10)], [_overlap("a", "b", 5000)])
    # then the larger data set still counts whole
    assert found.people == 100


def test_the_sensitive_are_never_more_than_the_people() -> None:
    # given an overlap that is proven for people and not for the sensitive among them
    sets = [_set("a", 10, sensitive=10), _set("b", 10, sensitive=10)]
    # when they are counted, then at most everybody is sensitive
    assert distinct(sets, [_overlap("a", "b", 10)]).sensitive_people == 10


def test_refuses_an_overlap_of_a_data_set_with_itself() -> None:
    with pytest.raises(FormatError, match="two data sets"):
        _overlap("a", "a", 1)


@given(
    people=st.lists(st.frozensets(st.integers(0, 12)), min_size=1, max_size=6),
    proven=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15),
    told=st.floats(0, 1),
)
def test_never_less_than_there_are_and_never_more_than_the_sum(
    people: list[Collection[int]], proven: set[tuple[int, int]], told: float
) -> None:
    # given real people in data sets, and true records of some overlaps, some of them cautious
    sets = [_set(str(i), len(each)) for i, each in enumerate(people)]
    records = [
        _overlap(str(i), str(j), int(len(set(people[i]) & set(people[j])) * told))
        for i, j in sorted(proven)
        if i < j < len(people)
    ]
    # when they are counted by number alone
    found = distinct(sets, records).people
    # then nobody is left out, no order matters, and a further record never adds anybody
    assert len(set().union(*people)) <= found <= sum(len(each) for each in people)
    assert distinct(sets[::-1], records[::-1]).people == found
    assert all(distinct(sets, records[:n]).people >= found for n in range(len(records)))
    if not records:
        assert found == sum(len(each) for each in people)
