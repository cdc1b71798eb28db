"""Which model a gateway needs no more, so that the next one may take over its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.gateway.journal import HeldModel, Journal
from ringfence.store.sql import open_engine


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(open_engine(f"sqlite:///{tmp_path / 'state.db'}"))


def hold(journal: Journal, lineage: str, *models: str, admitted: bool = True) -> None:
    """Rounds 0, 1, ... of a lineage; the last is a candidate unless it was admitted."""
    for number, model in enumerate(models):
        last = number == len(models) - 1
        journal.hold_model(
            HeldModel(
                lineage=lineage,
                round=number,
                model=model,
                jurisdictions=("EU",),
                statement="",
                admitted=admitted or not last,
            )
        )


@pytest.mark.parametrize(
    ("models", "admitted", "expected"),
    [
        ((), True, ""),
        (("a",), True, ""),
        (("a", "b"), True, "a"),
        (("a", "b", "c"), True, "b"),
        (("a", "b", "c"), False, "a"),
        (("a", "b", "a"), True, "b"),
        (("a", "a"), True, ""),
    ],
)
def test_the_release_before_the_base_is_superseded(
    journal: Journal, models: tuple[str, ...], admitted: bool, expected: str
) -> None:
    # given what a lineage has released so far
    hold(journal, "world", *models, admitted=admitted)
    # when the next model is to be made
    # then the release before the base may go, unless it is the base again
    assert journal.superseded("world") == expected


@pytest.mark.parametrize("admitted", [True, False])
def test_what_another_lineage_builds_on_stays(journal: Journal, admitted: bool) -> None:
    # given two lineages, of which the one is on the model that the other has left behind
    hold(journal, "world", "a", "b")
    hold(journal, "us-market", "a", admitted=admitted)
    # when the next model is to be made, then it stays
    assert journal.superseded("world") == ""
    assert journal.superseded("us-market") == ""
