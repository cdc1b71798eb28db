"""`kill -9` at each step of an update's way out, and of a candidate's way in."""

import pytest
from tests.e2e.federations import HUB
from tests.e2e.holds import LawHold, SiteHold
from tests.e2e.invariants import logs_of
from tests.e2e.reading import (
    entries,
    is_whole,
    locked,
    outbound,
    part_bytes,
    received,
    statements,
)
from tests.e2e.stage import MIDDLE_BYTES, OVERHEAD, PAYLOAD_BYTES, Stage

from ringfence.core.chunks import CHUNK_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def start_with_germany_in_training(stage: Stage) -> SiteHold:
    """Round 1 is open; Germany's site stands before its first step, and America's the whole round.

    So whatever crosses next is Germany's update.
    """
    germany = SiteHold(stage.founded.home("de"), "train")
    SiteHold(stage.founded.home("us"), "train")
    stage.start()
    stage.wait_for_round(1, "open")
    stage.wait(germany.reached, "Germany's site trains")
    return germany


def let_america_go_on(stage: Stage) -> None:
    (stage.founded.home("us").site / "hold-train").unlink()


def test_a_gateway_dies_when_its_update_is_encoded(stage: Stage) -> None:
    # given a gateway that has stored its encoding, and asks its law about exactly these bytes
    germany = start_with_germany_in_training(stage)
    home = stage.founded.home("de")
    law = LawHold(home)
    germany.release()
    law = stage.hold_until(law, lambda: outbound(home, 1) == "encoded", "it is encoded")
    before = logs_of(stage.founded)
    # when it is killed and started again
    stage.processes.kill("gateway", "de")
    law.remove()
    meant = statements(home, "intent", "update")
    stage.processes.revive("gateway", "de")
    # then nothing had been said of that update, and exactly those bytes are sent
    assert meant == []
    let_america_go_on(stage)
    stage.finish(before)


def test_a_gateway_dies_when_its_intent_is_recorded(stage: Stage) -> None:
    # given a gateway whose intent is in its log, and a hub that does not answer
    germany = start_with_germany_in_training(stage)
    home = stage.founded.home("de")
    stage.processes.freeze("coordinator", HUB)
    germany.release()
    stage.wait(lambda: outbound(home, 1) == "recorded", "the intent is recorded")
    before = logs_of(stage.founded)
    # when it is killed and started again
    stage.processes.restart("gateway", "de")
    stage.processes.thaw("coordinator", HUB)
    # then the same payload crosses, under an intent that names it
    let_america_go_on(stage)
    stage.finish(before)


@pytest.mark.parametrize("role", ["gateway", "coordinator"])
def test_either_end_dies_in_the_middle_of_an_update(stage: Stage, role: str) -> None:
    # given an update of which the hub has a part
    germany = start_with_germany_in_training(stage)
    sent_before = stage.proxy.carried("up")
    stage.proxy.hold("up", MIDDLE_BYTES)
    germany.release()
    stage.wait(stage.proxy.held, "the update is half over")
    arriving = stage.hub.state / "from" / "de"
    stage.wait(lambda: part_bytes(arriving) >= 2 * CHUNK_BYTES, "two chunks are stored")
    before = logs_of(stage.founded)
    # when one end of the line is killed and started again
    stage.processes.kill(role, HUB if role == "coordinator" else "de")
    stage.proxy.cut()
    stage.processes.revive(role, HUB if role == "coordinator" else "de")
    stage.wait(lambda: received(stage.hub, 1) == {"de"}, "the hub has Germany's update")
    # then at most one chunk was sent twice
    sent = stage.proxy.carried("up") - sent_before
    assert sent <= OVERHEAD * (PAYLOAD_BYTES + CHUNK_BYTES)
    let_america_go_on(stage)
    stage.finish(before)


def test_the_hub_dies_when_a_payload_is_whole_but_not_yet_counted(stage: Stage) -> None:
    # given a hub that has every byte of an update, and cannot write it down
    germany = start_with_germany_in_training(stage)
    stage.proxy.hold("up", MIDDLE_BYTES)
    germany.release()
    stage.wait(stage.proxy.held, "the update is half over")
    with locked(stage.hub):
        stage.proxy.release()
        stage.wait(lambda: is_whole(stage.hub.state / "from" / "de"), "the payload is whole")
        before = logs_of(stage.founded)
        # when it is killed
        stage.processes.kill("coordinator", HUB)
    sent_before = stage.proxy.carried("up")
    stage.processes.revive("coordinator", HUB)
    # then the gateway learns that nothing is missing, and sends none of it again
    stage.wait(lambda: received(stage.hub, 1) == {"de"}, "the hub has Germany's update")
    assert stage.proxy.carried("up") - sent_before < CHUNK_BYTES
    let_america_go_on(stage)
    stage.finish(before)


def test_a_gateway_dies_before_it_hears_of_its_receipt(stage: Stage) -> None:
    # given a hub that has signed a receipt, and a gateway that has not read it
    germany = start_with_germany_in_training(stage)
    stage.proxy.hold("up", MIDDLE_BYTES)
    germany.release()
    stage.wait(stage.proxy.held, "the update is half over")
    with locked(stage.hub):
        stage.proxy.release()
        stage.wait(lambda: is_whole(stage.hub.state / "from" / "de"), "the payload is whole")
        stage.processes.freeze("gateway", "de")
    stage.wait(lambda: received(stage.hub, 1) == {"de"}, "the hub has signed the receipt")
    before = logs_of(stage.founded)
    # when the gateway is killed and started again
    stage.processes.restart("gateway", "de")
    # then it gets the receipt that was signed for it, and records it
    home = stage.founded.home("de")
    stage.wait(lambda: outbound(home, 1) == "received", "the receipt is recorded")
    (intent,) = (e for e in entries(home, "intent"))
    assert intent.subject in {entry.subject for entry in entries(home, "receipt")}
    let_america_go_on(stage)
    stage.finish(before)


def test_a_gateway_dies_when_its_receipt_is_recorded(stage: Stage) -> None:
    # given a gateway that has its receipt, while the round waits for America
    germany = start_with_germany_in_training(stage)
    germany.release()
    home = stage.founded.home("de")
    stage.wait(lambda: outbound(home, 1) == "received", "the receipt is recorded")
    before = logs_of(stage.founded)
    sent_before = stage.proxy.carried("up")
    # when it is killed and started again
    stage.processes.restart("gateway", "de")
    # then it sends nothing more of this round
    let_america_go_on(stage)
    stage.wait(lambda: received(stage.hub, 1) == {"de", "us"}, "the hub has both updates")
    assert stage.proxy.carried("up") - sent_before < OVERHEAD * PAYLOAD_BYTES
    stage.finish(before)


@pytest.mark.parametrize("role", ["gateway", "coordinator"])
def test_either_end_dies_in_the_middle_of_a_candidate(stage: Stage, role: str) -> None:
    # given a candidate of which Germany has a part
    germany = start_with_germany_in_training(stage)
    let_america_go_on(stage)
    stage.wait(lambda: received(stage.hub, 1) == {"us"}, "the hub has America's update")
    stage.proxy.hold("down", MIDDLE_BYTES)
    germany.release()
    home = stage.founded.home("de")
    stage.wait(lambda: part_bytes(home.state) >= 2 * CHUNK_BYTES, "two chunks are stored")
    before = logs_of(stage.founded)
    # when one end of the line is killed and started again
    stage.processes.kill(role, HUB if role == "coordinator" else "de")
    stage.proxy.cut()
    stage.processes.revive(role, HUB if role == "coordinator" else "de")
    # then the rest arrives, and everything comes out as if nothing had happened
    stage.finish(before)
