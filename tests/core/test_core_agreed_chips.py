"""The chips that an agreement lists: written, read again, and refused when they make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from ringfence.cli.agreement_text import render
from ringfence.cli.sample import write_sample
from ringfence.core.agreement import parse_agreement
from ringfence.core.clock import system_clock
from ringfence.core.errors import ConfigError, FormatError
from ringfence.core.terms import ChipLot, Terms

EVIDENCE = "sha256:" + "e5" * 32
LOTS = (
    ChipLot(
        model="NVIDIA H100 80GB HBM3",
        count=64,
        bought="2024-02-19",
        licence="D1234567",
        evidence=EVIDENCE,
    ),
    ChipLot(model="RTX 4090", count=2),
)


@pytest.fixture(scope="module")
def terms(tmp_path_factory: pytest.TempPathFactory) -> Terms:
    path = tmp_path_factory.mktemp("federation")
    write_sample(path, clock=system_clock)
    return parse_agreement((path / "federation.toml").read_bytes()).terms


def listing(terms: Terms, **changes: Any) -> Terms:
    """The agreement with `changes` to its first region."""
    first, *rest = terms.regions
    return replace(terms, regions=(replace(first, **changes), *rest))


def test_listed_chips_are_read_as_they_were_written(terms: Terms) -> None:
    # given an agreement that lists chips of its first region
    listed = listing(terms, hardware="attested", chips=LOTS)
    # when it is written and read
    text = render(listed)
    # then nothing is lost, and each entry is a table of its own
    assert parse_agreement(text.encode()).terms == listed
    assert text.count("[[regions.chips]]") == 2


def test_an_agreement_without_chips_says_nothing_of_them(terms: Terms) -> None:
    # given an agreement in plain words, when it is written, then its bytes are as they were before
    assert "chips" not in render(terms)
    assert parse_agreement(render(terms).encode()).terms == terms


def test_a_plain_word_stays_what_it_was(terms: Terms) -> None:
    for word in ("uncontrolled", "3a090", "prc_3a090", "unknown"):
        listed = listing(terms, hardware=word)
        assert parse_agreement(render(listed).encode()).terms.regions[0].hardware == word


@pytest.mark.parametrize("word", ["uncontrolled", "3a090", "prc_3a090", "unknown"])
def test_a_list_of_chips_beside_a_plain_word_is_refused(terms: Terms, word: str) -> None:
    with pytest.raises(ConfigError, match="hardware = 'attested' and"):
        parse_agreement(render(listing(terms, hardware=word, chips=LOTS)).encode())


def test_attested_hardware_without_a_list_is_refused(terms: Terms) -> None:
    with pytest.raises(ConfigError, match="list every chip"):
        parse_agreement(render(listing(terms, hardware="attested")).encode())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": ""}, "expected a model"),
        ({"model": " H100"}, "model"),
        ({"model": "H\u200b100"}, "model"),
        ({"model": "H" * 201}, "model"),
        ({"licence": "D1\nD2"}, "licence"),
        ({"licence": "D" * 201}, "licence"),
        ({"bought": "19.2.2024"}, "2023-05-17"),
        ({"bought": "20240219"}, "2023-05-17"),
        ({"bought": "2024-02-30"}, "2023-05-17"),
        ({"bought": "2024-02-19T00:00:00Z"}, "2023-05-17"),
        ({"evidence": "invoice.pdf"}, "evidence"),
    ],
)
def test_a_malformed_entry_is_refused_and_named(
    terms: Terms, changes: dict[str, str], expected: str
) -> None:
    # given a list whose second entry is wrong
    wrong = listing(terms, hardware="attested", chips=(LOTS[0], replace(LOTS[0], **changes)))
    # when the agreement is read, then the error says which and what was expected
    with pytest.raises(ConfigError, match="entry 2") as caught:
        parse_agreement(render(wrong).encode())
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("count = 64", "count = 0", ">= 1"),
        ("count = 64", 'count = "64"', "Expected `int`"),
        ("count = 64", "", "count"),
        ("count = 64", "count = 64\ntpp = 15824.0", "unknown field"),
        ('"2024-02-19"', "2024-02-19", "Expected `str`"),
    ],
)
def test_an_entry_of_the_wrong_form_is_refused(
    terms: Terms, before: str, after: str, expected: str
) -> None:
    text = render(listing(terms, hardware="attested", chips=LOTS))
    assert before in text
    with pytest.raises(FormatError, match=expected):
        parse_agreement(text.replace(before, after).encode())
