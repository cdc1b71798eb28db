"""A region that did not look while a round was measured: it fetches the update, if it still can."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.places.script import digest_of
from tests.places.world import WORLD, Place, World

from ringfence.coordinator.rounds import advance
from ringfence.core.ids import Digest
from ringfence.core.wire import RoundState
from ringfence.crossing.statements import open_own
from ringfence.gateway.inbound import admit_release
from ringfence.gateway.models import HeldModel


@pytest.mark.parametrize("state", ["released", "evaluating"])
def test_a_missed_candidate_is_fetched_after_its_release(world: World, state: RoundState) -> None:
    # given a release whose candidate a region does not hold, in a view from before or after it
    de = _missed(world)
    candidate = open_own(world.hub.region, de.line.statement(Digest(de.view().candidate or "")))
    assert candidate.payload is not None
    # when it admits the release
    assert admit_release(de.gateway, replace(de.view(), state=state), de.line) == "admitted"
    # then it fetched the encoded update, and stands on what that makes of its base
    assert de.line.downloads == [candidate.payload.digest]
    assert _base(de).model == candidate.model


def test_the_next_round_still_shows_the_candidate_of_the_release(world: World) -> None:
    # given a region that missed a candidate, and a hub that has opened the next round meanwhile
    de = _missed(world)
    shown = de.view().candidate
    advance(world.hub, WORLD)
    # when the region looks
    view = de.view()
    # then the candidate of the release is there to be fetched
    assert (view.round, view.state, view.candidate) == (2, "open", shown)


def test_without_the_candidate_the_model_comes_whole(world: World) -> None:
    # given a region that missed a candidate which the hub does not show
    de = _missed(world)
    view = replace(de.view(), candidate=None)
    # when it admits the release
    assert admit_release(de.gateway, view, de.line) == "admitted"
    # then it fetched a snapshot
    assert de.line.downloads == [_base(de).model]


def _missed(world: World) -> Place:
    """Round 1 is released and vouched for; `de` holds another model in its candidate's place."""
    world.run_to(WORLD, 1, "released")
    for name in ("cn", "us"):
        world.place(name).turn()
    de = world.place("de")
    held = de.gateway.models.of_round(WORLD, 1)
    assert held is not None
    de.gateway.spool.model(held.model).unlink()
    de.gateway.models.hold(
        HeldModel(
            lineage=held.lineage,
            round=held.round,
            model=digest_of("another"),
            jurisdictions=held.jurisdictions,
            statement="",
            admitted=False,
        )
    )
    de.line.downloads.clear()
    return de


def _base(place: Place) -> HeldModel:
    base = place.gateway.models.admitted(WORLD)
    assert base is not None
    return base
