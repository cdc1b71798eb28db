"""A border that is down, cut, slow, or whose certificates end: what was on its way goes on."""

import pytest
from tests.e2e.federations import HUB
from tests.e2e.holds import SiteHold
from tests.e2e.invariants import logs_of
from tests.e2e.proxy import Direction
from tests.e2e.reading import held_model, received
from tests.e2e.stage import MEMBERS, OVERHEAD, PAYLOAD_BYTES, Stage

from ringfence.config import SETTINGS_NAME
from ringfence.core.chunks import CHUNK_BYTES
from ringfence.trust.certificates import BACKDATE_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ATTEMPTS = 6
STRETCH_BYTES = 7_000_000
"""What a connection carries before it is cut: one chunk whole, the second in part."""


def start_in_training(stage: Stage) -> dict[str, SiteHold]:
    """Round 1 is open, and the site of every region stands before its first step."""
    sites = {region: SiteHold(stage.founded.home(region), "train") for region in MEMBERS}
    stage.start()
    stage.wait_for_round(1, "open")
    stage.wait(lambda: all(site.reached() for site in sites.values()), "every site trains")
    return sites


def live_for(stage: Stage, leaf_s: float) -> None:
    """Have every region's issuer hand out certificates that are valid for `leaf_s` seconds more."""
    for home in stage.founded.federation.homes.values():
        file = home.path / SETTINGS_NAME
        settings = file.read_text()
        assert "leaf_s = 14400.0" in settings
        file.write_text(settings.replace("leaf_s = 14400.0", f"leaf_s = {BACKDATE_S + leaf_s}"))


@pytest.mark.parametrize("what", ["the line", "the coordinator"])
def test_gateways_keep_trying_while_the_border_is_down(stage: Stage, what: str) -> None:
    # given a round that every site trains for
    sites = start_in_training(stage)
    before = logs_of(stage.founded)
    # when the hub cannot be reached for as long as it takes to try several times, updates at hand
    if what == "the line":
        stage.proxy.close_door()
    else:
        assert stage.processes.stop("coordinator", HUB) == 0
    for site in sites.values():
        site.release()
    stage.wait(lambda: stage.proxy.turned_away() >= ATTEMPTS, "the gateways have tried often")
    if what == "the line":
        stage.proxy.open_door()
    else:
        stage.processes.revive("coordinator", HUB)
    # then they go on by themselves
    stage.finish(before)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_cut_sends_at_most_one_chunk_twice(stage: Stage, direction: Direction) -> None:
    # given a transfer of six chunks to come: Germany's update, or the candidate on its way there
    sites = start_in_training(stage)
    before = logs_of(stage.founded)
    if direction == "down":
        sites.pop("us").release()
        stage.wait(lambda: received(stage.hub, 1) == {"us"}, "the hub has America's update")
        stage.processes.freeze("gateway", "us")
    carried_before = stage.proxy.carried(direction)
    stage.proxy.hold(direction, STRETCH_BYTES)
    sites.pop("de").release()

    def arrived() -> bool:
        if direction == "up":
            return received(stage.hub, 1) == {"de"}
        return held_model(stage.founded.home("de"), 1) != ""

    # when the line is cut each time that it has carried a stretch of it
    cuts = 0
    while not arrived():
        stage.wait(lambda: stage.proxy.held() or arrived(), "a stretch is carried")
        if stage.proxy.held():
            cuts += 1
            stage.proxy.cut(direction)
            stage.proxy.hold(direction, STRETCH_BYTES)
    stage.proxy.release()
    # then no cut made more than one chunk cross again
    carried = stage.proxy.carried(direction) - carried_before
    assert cuts >= 3
    assert carried <= OVERHEAD * (PAYLOAD_BYTES + cuts * CHUNK_BYTES)
    # and the run goes on
    stage.processes.thaw("gateway", "us")
    for site in sites.values():
        site.release()
    stage.finish(before)


def test_certificates_are_renewed_under_a_running_transfer(stage: Stage) -> None:
    # given certificates that are renewed every second, and a line that takes eight for an update
    live_for(stage, 60)
    sites = start_in_training(stage)
    before = logs_of(stage.founded)
    stage.proxy.pace("up", PAYLOAD_BYTES / 8)
    carried_before = stage.proxy.connections()
    leaves_before = stage.processes.said("gateway", "de").count("new leaf until")
    # when Germany's update crosses
    sites["de"].release()
    stage.wait(lambda: received(stage.hub, 1) == {"de"}, "the hub has Germany's update")
    leaves = stage.processes.said("gateway", "de").count("new leaf until") - leaves_before
    # then it crosses whole on one connection, whatever came after that connection's certificate
    carried = stage.proxy.connections()
    for old, new in zip(carried_before, carried, strict=False):
        new["up"] -= old["up"]
    assert leaves >= 3
    assert max(each["up"] for each in carried) >= PAYLOAD_BYTES
    assert "was cut" not in stage.processes.said("gateway", "de")
    stage.proxy.unpace()
    sites["us"].release()
    stage.finish(before)


def test_a_connection_ends_with_its_certificate_and_the_transfer_goes_on(stage: Stage) -> None:
    # given certificates of six seconds, and a line that takes twelve for an update
    live_for(stage, 6)
    sites = start_in_training(stage)
    before = logs_of(stage.founded)
    stage.proxy.pace("up", PAYLOAD_BYTES / 12)
    carried_before = stage.proxy.carried("up")
    connections_before = len(stage.proxy.connections())
    # when Germany's update crosses
    sites["de"].release()
    stage.wait(lambda: received(stage.hub, 1) == {"de"}, "the hub has Germany's update")
    # then no connection carried it all, and hardly anything of it crossed twice
    carried = stage.proxy.connections()[connections_before:]
    cuts = sum(each["up"] > CHUNK_BYTES for each in carried)
    assert max(each["up"] for each in carried) < PAYLOAD_BYTES
    assert stage.proxy.carried("up") - carried_before <= OVERHEAD * (
        PAYLOAD_BYTES + cuts * CHUNK_BYTES
    )
    stage.proxy.unpace()
    sites["us"].release()
    stage.finish(before)
