"""What the hub takes from regions, round by round."""

from __future__ import annotations

import numpy as np
from tests.places.world import US_MARKET, WORLD, World


def test_two_lineages_may_get_equal_payloads(world: World) -> None:
    # given a site whose training gives the same update in both lineages, as after a branch
    us = world.place("us")
    us.script.update = np.zeros_like(us.script.update)
    # when its gateway sends one for each
    us.turn(WORLD)
    us.turn(US_MARKET)
    # then both have arrived
    assert us.view(WORLD).submitted
    assert us.view(US_MARKET).submitted
