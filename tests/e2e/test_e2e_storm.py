"""A storm of kills, drawn from a seed: any process, at any moment, again and again."""

import random
import time

import pytest
from tests.e2e.federations import HUB
from tests.e2e.invariants import check_nothing_was_lost, logs_of
from tests.e2e.processes import Name
from tests.e2e.reading import round_of
from tests.e2e.stage import MEMBERS, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

KILLS = 24
LONGEST_CALM_S = 0.6


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_kills_loses_nothing(stage: Stage, seed: int) -> None:
    # given a federation at work
    draw = random.Random(seed)
    names: list[Name] = [("coordinator", HUB)] * 3
    for region in MEMBERS:
        names += [("gateway", region)] * 3 + [("site", region), ("issuer", region)]
    stage.start()
    stage.wait_for_round(1, "open")
    before = logs_of(stage.founded)
    # when one process after the other is killed, at moments that mean nothing, until it is done
    for _ in range(KILLS):
        time.sleep(draw.uniform(0, LONGEST_CALM_S))
        if round_of(stage.hub) == (2, "released"):
            break
        stage.processes.restart(*draw.choice(names))
    # then both rounds end, and nothing is lost
    for region in MEMBERS:
        assert stage.processes.finish("gateway", region) == 0
        stage.processes.kill("site", region)  # it may have come back when its gateway had gone
    assert stage.processes.stop("coordinator", HUB) == 0
    check_nothing_was_lost(stage.founded, before)
