"""A successor agreement: the run goes on under it, a region joins, a lineage branches off."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.calling import call
from tests.e2e.federations import Founded, found, lineage, succeed
from tests.e2e.holds import SiteHold
from tests.e2e.processes import Processes
from tests.e2e.reading import admitted, entries, received, releases, rounds, statements

from ringfence.core.terms import Outer, Start

NESTEROV = Outer(optimizer="nesterov", lr=0.7, momentum=0.9)
WEST, ALL = ("de", "us"), ("cn", "de", "us")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the hub had released before China joined, and the federation at the end."""

    before: list[tuple[int, str]]
    after: Founded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two rounds of Germany and America; then China joins `world`, and `us-market` branches off."""
    path = tmp_path_factory.mktemp("succession") / "federation"
    world = lineage("world", WEST, until_round=2, outer=NESTEROV)
    founded = found(path, WEST, [world])
    with Processes(path) as processes:
        processes.start_all(founded)
        processes.finish_all(founded)
        before = releases(founded.hub)
        branch = Start(model=before[-1][1], branch_of="world")
        market = lineage("us-market", WEST, start=branch, bars=("CN",))
        joined = lineage(
            "world", ALL, until_round=3, outer=NESTEROV, start=Start(model=before[0][1])
        )
        after = succeed(founded, [joined, market], joining=["cn"])
        processes.start_all(after)
        processes.finish_all(after)
    return Run(before=before, after=after)


def test_a_lineage_goes_on_under_the_successor_where_it_stood(run: Run) -> None:
    # given the releases from before
    # when they are set beside those of all
    found = releases(run.after.hub)
    # then the next round followed, and the regions that were there hold every one of them
    assert found[:3] == run.before
    assert [number for number, _ in found] == [0, 1, 2, 3]
    assert [admitted(run.after.home(region)) for region in WEST] == [dict(found)] * 2


def test_a_region_joins_from_a_signed_snapshot(run: Run) -> None:
    # given a region that was not there for the first two rounds
    china = run.after.home("cn")
    # when the hub's statements that it has admitted are read
    snapshots = statements(china, "admission", "snapshot")
    # then one snapshot of the newest release brought it in, and it went on with the others
    assert [(s.sender, s.round, s.model) for s in snapshots] == [("hub", 2, run.before[-1][1])]
    assert admitted(china) == dict(releases(run.after.hub)[2:])
    (update,) = statements(china, "intent", "update")
    assert (update.round, update.parent) == (3, run.before[-1][1])


def test_a_branch_starts_from_a_release_and_bears_no_tag_that_it_bars(run: Run) -> None:
    # given the lineage that branched off before China joined, and every statement about it
    start, first = releases(run.after.hub, "us-market")
    said = [
        declaration
        for kind in ("candidate", "release", "snapshot")
        for declaration in statements(run.after.hub, "intent", kind)
        if declaration.lineage == "us-market"
    ]
    # when its members' models and its statements' tags are read
    held = [admitted(run.after.home(region), "us-market") for region in ALL]
    tags = {tag for declaration in said for tag in declaration.jurisdictions}
    # then it began with world's release, its members stand on it, and nothing of it is Chinese
    assert start[1] == run.before[-1][1]
    assert held == [{}, dict([start, first]), dict([start, first])]
    assert tags == {"EU", "US"}
    assert {declaration.recipient for declaration in said} == set(WEST)


def test_a_round_in_progress_is_held_when_its_agreement_is_succeeded(tmp_path: Path) -> None:
    # given a round that has Germany's update and not yet America's, when everything is stopped
    founded = found(tmp_path / "federation", WEST, [lineage("world", WEST)])
    america = SiteHold(founded.home("us"), "train")
    with Processes(founded.path) as processes:
        processes.start_all(founded)
        processes.wait_until(
            lambda: received(founded.hub, 1) == {"de"} and america.reached(),
            "the hub has Germany's update, and America trains",
        )
        processes.kill_all()
        america.release()
        # when all sign a successor, and start again
        start = founded.agreement.lineage("world").start
        after = succeed(founded, [lineage("world", WEST, until_round=2, start=start)], joining=[])
        processes.start_all(after)
        processes.finish_all(after)
    # then the round that nobody could end is held, and the next one stands on the same release
    assert rounds(after.hub) == [(1, "held"), (2, "released")]
    assert [number for number, _ in releases(after.hub)] == [0, 2]
    assert [admitted(after.home(region)) for region in WEST] == [dict(releases(after.hub))] * 2
    # and no region's payload of it went into the release
    for region in ("hub", *WEST):
        assert call("log", "verify", after.home(region).path).status == 0
    merges = entries(after.hub, "merge")
    assert [merge.round for merge in merges] == [2]


@pytest.mark.parametrize("region", ["hub", *ALL])
def test_every_log_verifies_under_both_agreements(run: Run, region: str) -> None:
    # given a log with statements under one agreement and then another
    directory = run.after.path / "regions" / region
    # when it is verified, and what the hub merged is recomputed with its momentum
    replay = ["--replay"] if region == "hub" else []
    outcome = call("log", "verify", directory, *replay, "--json")
    # then it all holds
    assert outcome.status == 0, outcome.error
    assert outcome.json["refusals"] == 0
    assert outcome.json["replayed"] == (4 if region == "hub" else 0)
