"""A catalogue says how many subjects its data have, or that nobody has counted them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ringfence.core import canonical
from ringfence.core.catalogue import Catalogue, Subjects, parse_catalogue
from ringfence.core.errors import FormatError

CATALOGUE = Catalogue(
    region="cn",
    jurisdiction="CN",
    data_classes=("personal",),
    counts={"train": 1},
    digest="sha256:" + "1" * 64,
    data="pictures",
)


def test_a_catalogue_without_subjects_keeps_its_bytes_and_says_that_it_does_not_know() -> None:
    # given a catalogue as it was before subjects were counted
    data = (
        b'{"counts":{"train":1},"data":"pictures","data_classes":["personal"],'
        b'"digest":"sha256:%s","jurisdiction":"CN","region":"cn"}' % (b"1" * 64)
    )
    # when it is read
    read, _ = parse_catalogue(data)
    # then it is the same, and the number is unknown, which is not nought
    assert canonical.to_bytes(read) == data
    assert read.subjects is None


def test_counted_subjects_come_back_and_change_the_digest() -> None:
    # given two catalogues of the same data, one of which counts
    counted = replace(CATALOGUE, subjects=Subjects(people=5, sensitive_people=2, devices=1))
    # when both are read
    (plain, one), (read, other) = (
        parse_catalogue(canonical.to_bytes(each)) for each in (CATALOGUE, counted)
    )
    # then each says what it said
    assert (plain, read) == (CATALOGUE, counted)
    assert one != other


@pytest.mark.parametrize(
    ("subjects", "said"),
    [
        ({"people": -1, "sensitive_people": 0, "devices": 0}, "people of at least 0"),
        ({"people": 1, "sensitive_people": 2, "devices": 0}, "at most 1 sensitive_people"),
        ({"people": 1, "sensitive_people": 0}, "devices"),
        ({"people": 1, "sensitive_people": 0, "devices": 0, "names": 1}, "names"),
        ({"people": 1.5, "sensitive_people": 0, "devices": 0}, "people"),
        ({"people": 1 << 53, "sensitive_people": 0, "devices": 0}, "people"),
        ([], "subjects"),
    ],
)
def test_refuses_subjects_that_are_none(subjects: Any, said: str) -> None:
    # given a catalogue whose subjects cannot be counted so
    text = canonical.from_bytes(
        canonical.to_bytes(CATALOGUE), dict, what="catalogue", limit_bytes=1000
    )
    # when it is read, then it says what is wrong
    with pytest.raises(FormatError, match=said):
        parse_catalogue(canonical.to_bytes(text | {"subjects": subjects}))
