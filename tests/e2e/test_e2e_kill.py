"""`kill -9` of every process at every state of a round."""

import pytest
from tests.e2e.federations import HUB
from tests.e2e.holds import LawHold, SiteHold
from tests.e2e.invariants import logs_of
from tests.e2e.reading import measured, round_of
from tests.e2e.stage import MEMBERS, MIDDLE_BYTES, Stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_everybody_may_die_while_a_round_is_open(stage: Stage) -> None:
    # given a round in which every site trains
    sites = stage.hold_sites("train")
    stage.start()
    stage.wait_for_round(1, "open")
    stage.wait(lambda: all(site.reached() for site in sites.values()), "every site trains")
    before = logs_of(stage.founded)
    # when every process is killed and started again
    stage.restart_everybody()
    assert round_of(stage.hub) == (1, "open")
    # then both rounds end, and nothing is lost
    for site in sites.values():
        site.release()
    stage.finish(before)


def test_everybody_may_die_while_a_round_collects(stage: Stage) -> None:
    # given a round that has Germany's update, while America's site trains
    america = SiteHold(stage.founded.home("us"), "train")
    stage.start()
    stage.wait_for_round(1, "collecting")
    stage.wait(america.reached, "America's site trains")
    before = logs_of(stage.founded)
    # when every process is killed and started again
    stage.restart_everybody()
    assert round_of(stage.hub) == (1, "collecting")
    # then both rounds end, and nothing is lost
    america.release()
    stage.finish(before)


def test_everybody_may_die_while_a_round_is_merged(stage: Stage) -> None:
    # given a hub that has merged, and waits for its law's word on handing the candidate out
    america = SiteHold(stage.founded.home("us"), "train")
    stage.start()
    stage.wait_for_round(1, "collecting")
    stage.wait(america.reached, "America's site trains")
    stage.proxy.hold("up", MIDDLE_BYTES)
    america.release()
    stage.wait(stage.proxy.held, "America's update is on its way")
    law = LawHold(stage.hub)
    stage.proxy.release()
    law = stage.hold_until(law, lambda: round_of(stage.hub) == (1, "merging"), "it has merged")
    before = logs_of(stage.founded)
    # when every process is killed and started again, the coordinator last
    stage.restart_everybody(but=(("coordinator", HUB),))
    assert round_of(stage.hub) == (1, "merging")
    stage.processes.kill("coordinator", HUB)
    law.remove()
    stage.processes.revive("coordinator", HUB)
    # then both rounds end, and nothing is lost
    stage.finish(before)


def test_everybody_may_die_while_a_candidate_is_evaluated(stage: Stage) -> None:
    # given a round whose candidate every site measures
    sites = stage.hold_sites("evaluate")
    stage.start()
    stage.wait_for_round(1, "evaluating")
    stage.wait(lambda: all(site.reached() for site in sites.values()), "every site measures")
    before = logs_of(stage.founded)
    # when every process is killed and started again
    stage.restart_everybody()
    assert round_of(stage.hub) == (1, "evaluating")
    # then both rounds end, and nothing is lost
    for site in sites.values():
        site.release()
    stage.finish(before)


def test_everybody_may_die_when_the_last_round_is_released(stage: Stage) -> None:
    # given a last round that the hub has released, before any region has heard of it
    home = stage.founded.home("us")
    measuring = SiteHold(home, "evaluate")
    stage.start()
    stage.wait(measuring.reached, "America's site measures in round 1")
    training = SiteHold(home, "train")
    measuring.release()
    stage.wait(training.reached, "America's site trains in round 2")
    america = SiteHold(home, "evaluate")
    training.release()
    stage.wait(lambda: measured(stage.hub, 2) == {"de"}, "the hub has Germany's measurement")
    stage.wait(america.reached, "America's site measures in round 2")
    law = LawHold(stage.hub)
    america.release()
    stage.wait(law.reached, "the hub asks its law about America's measurement")
    for region in MEMBERS:
        stage.processes.freeze("gateway", region)
    law.release()
    stage.wait_for_round(2, "released")
    before = logs_of(stage.founded)
    # when every process is killed and started again
    stage.restart_everybody()
    # then every region admits that release all the same, and nothing is lost
    stage.finish(before)
