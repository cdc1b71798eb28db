"""Which model a gateway needs no more, so that the next one may take over its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.gateway.models import HeldModel, Models
from ringfence.store.sql import open_engine


@pytest.fixture
def held(tmp_path: Path) -> Models:
    return Models(open_engine(f"sqlite:///{tmp_path / 'state.db'}"))


def hold(held: Models, lineage: str, *models: str, admitted: bool = True) -> None:
    """Rounds 0, 1, ... of a lineage; the last is a candidate unless it was admitted."""
    for number, model in enumerate(models):
        last = number == len(models) - 1
        held.hold(
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
    held: Models, models: tuple[str, ...], admitted: bool, expected: str
) -> None:
    # given what a lineage has released so far
    hold(held, "world", *models, admitted=admitted)
    # when the next model is to be made
    # then the release before the base may go, unless it is the base again
    assert held.superseded("world") == expected


@pytest.mark.parametrize("admitted", [True, False])
def test_what_another_lineage_builds_on_stays(held: Models, admitted: bool) -> None:
    # given two lineages, of which the one is on the model that the other has left behind
    hold(held, "world", "a", "b")
    hold(held, "us-market", "a", admitted=admitted)
    # when the next model is to be made, then it stays
    assert held.superseded("world") == ""
    assert held.superseded("us-market") == ""
