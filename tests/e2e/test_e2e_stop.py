"""Processes that are asked to end do so at once and in order, whatever they are waiting for."""

from pathlib import Path

from tests.e2e.federations import found, lineage
from tests.e2e.holds import SiteHold
from tests.e2e.invariants import check_nothing_was_lost, logs_of
from tests.e2e.processes import Processes

MEMBERS = ("de", "us")


def test_everybody_ends_when_asked_in_the_middle_of_training_and_goes_on(tmp_path: Path) -> None:
    # given a round in which every site trains
    founded = found(tmp_path / "federation", MEMBERS, [lineage("world", MEMBERS)])
    sites = [SiteHold(founded.home(region), "train") for region in MEMBERS]
    with Processes(founded.path) as processes:
        processes.start_all(founded)
        processes.wait_until(lambda: all(site.reached() for site in sites), "every site trains")
        before = logs_of(founded)
        # when gateways, hub and issuers are asked to end, and started again
        for region in MEMBERS:
            assert processes.stop("gateway", region) == 0
            assert processes.said("gateway", region).endswith("stopped\n")
        assert processes.stop("coordinator", "hub") == 0
        for region in ("hub", *MEMBERS):
            assert processes.stop("issuer", region) == 0
            processes.revive("issuer", region)
        processes.revive("coordinator", "hub")
        for region in MEMBERS:
            processes.revive("gateway", region)
        # then the sites, which were never asked, hand over what they trained meanwhile
        for site in sites:
            site.release()
        processes.finish_all(founded)
    check_nothing_was_lost(founded, before)
