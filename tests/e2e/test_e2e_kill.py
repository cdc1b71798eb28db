"""`kill -9` of every process, at every state of a round and at every step of an update's way."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.federations import HUB, Founded, found, free_address, lineage
from tests.e2e.holds import LawHold, SiteHold
from tests.e2e.invariants import check_nothing_was_lost, logs_of
from tests.e2e.processes import Name, Processes
from tests.e2e.proxy import Proxy
from tests.e2e.reading import (
    measured,
    round_of,
)

from ringfence.config import Home

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MEMBERS = ("de", "us")
WEIGHTS = 6_000_000
PAYLOAD_BYTES = 4 * WEIGHTS
"""Six chunks, the last of them short."""
MIDDLE_BYTES = 10_000_000
"""Inside of the third chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A federation of two rounds, its processes, and the line between gateways and hub."""

    founded: Founded
    processes: Processes
    proxy: Proxy
    listen: str

    @property
    def hub(self) -> Home:
        return self.founded.hub

    def start(self) -> None:
        self.processes.start_all(self.founded, "--listen", self.listen)

    def hold_sites(self, step: str) -> dict[str, SiteHold]:
        return {region: SiteHold(self.founded.home(region), step) for region in MEMBERS}

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        self.processes.wait_until(ready, what)

    def wait_for_round(self, number: int, state: str) -> None:
        self.wait(lambda: round_of(self.hub) == (number, state), f"round {number} is {state}")

    def hold_the_hub_in(self, state: str, law: LawHold) -> LawHold:
        """Let the hub ask its law until it asks in `state`."""
        while True:
            self.wait(law.reached, "the hub asks its law")
            if round_of(self.hub)[1] == state:
                return law
            law = law.pass_on()

    def restart_everybody(self, *, but: tuple[Name, ...] = ()) -> None:
        """Kill each process once and start it again, one after the other."""
        names: list[Name] = [("coordinator", HUB), ("issuer", HUB)]
        for region in MEMBERS:
            names += [("issuer", region), ("site", region), ("gateway", region)]
        for role, region in names:
            if (role, region) not in but:
                self.processes.restart(role, region)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    listen, address = free_address(), free_address()
    world = lineage("world", MEMBERS, until_round=2)
    founded = found(tmp_path / "federation", MEMBERS, [world], address=address, weights=WEIGHTS)
    with (
        Proxy(address, listen) as proxy,
        Processes(founded.path) as processes,
    ):
        yield Stage(founded=founded, processes=processes, proxy=proxy, listen=listen)
    shutil.rmtree(founded.path)


# ── every process at every state of a round ──


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
    stage.processes.finish_all(stage.founded)
    check_nothing_was_lost(stage.founded, before)


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
    stage.processes.finish_all(stage.founded)
    check_nothing_was_lost(stage.founded, before)


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
    law = stage.hold_the_hub_in("merging", law)
    before = logs_of(stage.founded)
    # when every process is killed and started again, the coordinator last
    stage.restart_everybody(but=(("coordinator", HUB),))
    assert round_of(stage.hub) == (1, "merging")
    stage.processes.kill("coordinator", HUB)
    law.remove()
    stage.processes.revive("coordinator", HUB)
    # then both rounds end, and nothing is lost
    stage.processes.finish_all(stage.founded)
    check_nothing_was_lost(stage.founded, before)


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
    stage.processes.finish_all(stage.founded)
    check_nothing_was_lost(stage.founded, before)


def test_everybody_may_die_when_the_last_round_is_released(stage: Stage) -> None:
    # given a last round that the hub has released, before any region has heard of it
    stage.start()
    stage.wait_for_round(1, "released")
    america = SiteHold(stage.founded.home("us"), "evaluate")
    stage.wait_for_round(2, "evaluating")
    stage.wait(lambda: measured(stage.hub, 2) == {"de"}, "the hub has Germany's measurement")
    law = LawHold(stage.hub)
    america.release()
    stage.wait(law.reached, "the hub asks its law about America's measurement")
    with ExitStack() as still:
        for region in MEMBERS:
            still.enter_context(stage.processes.frozen("gateway", region))
        law.release()
        stage.wait_for_round(2, "released")
        before = logs_of(stage.founded)
        # when every process is killed and started again
        stage.restart_everybody()
    # then every region admits that release all the same, and nothing is lost
    stage.processes.finish_all(stage.founded)
    check_nothing_was_lost(stage.founded, before)
