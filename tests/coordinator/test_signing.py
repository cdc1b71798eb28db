"""Every release is signed, behind the rounds, and none twice."""

from __future__ import annotations

import threading

from tests.places.world import WORLD, World

from ringfence.coordinator.engine import Engine
from ringfence.coordinator.rounds import unsigned_releases


def test_releases_are_signed_in_their_order(world: World) -> None:
    # given two releases that nobody has signed
    world.run_to(WORLD, 1, "released")
    world.run_to(WORLD, 2, "released")
    models = [world.hub.spool.model(r.model) for r in world.hub.journal.releases(WORLD)[1:]]
    assert unsigned_releases(world.hub, WORLD) == models
    # when the first is signed, then the second is next
    world.hub.sign_model(models[0])
    assert unsigned_releases(world.hub, WORLD) == models[1:]
    # when both are, then there is nothing to do
    world.hub.sign_model(models[1])
    assert unsigned_releases(world.hub, WORLD) == []


def test_what_was_released_before_the_end_is_signed(world: World) -> None:
    # given a hub that is stopped as soon as it has released a round
    world.run_to(WORLD, 1, "released")
    stop = threading.Event()
    engine = Engine(world.hub, stop, keep_signatures=lambda signatures: None)
    engine.start()
    # when it ends
    stop.set()
    engine.join()
    engine.raise_fault()
    # then its release is signed, once
    (release,) = world.hub.journal.releases(WORLD)[1:]
    assert world.signed_models == [world.hub.spool.model(release.model)]
