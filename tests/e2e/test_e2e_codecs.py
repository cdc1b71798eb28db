"""Eight bits both ways, with and without momentum: the same bytes everywhere, and replayed."""

import pytest
from tests.cli.calling import call
from tests.e2e.federations import Founded, found, lineage
from tests.e2e.processes import Processes
from tests.e2e.reading import admitted, releases, statements

from ringfence.core.terms import Codecs, Outer

MEMBERS = ("de", "us")
LINEAGES = ("plain", "fast")


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    """Two rounds of two lineages at once, int8 both ways; one keeps Nesterov momentum."""
    path = tmp_path_factory.mktemp("codecs") / "federation"
    nesterov = Outer(optimizer="nesterov", lr=0.7, momentum=0.9)
    lines = [
        lineage("plain", MEMBERS, until_round=2),
        lineage("fast", MEMBERS, until_round=2, outer=nesterov),
    ]
    eight_bits = Codecs(updates="int8", releases="int8")
    founded = found(path, MEMBERS, lines, codecs=eight_bits, weights=5000)
    with Processes(path) as processes:
        processes.start_all(founded)
        processes.finish_all(founded)
    return founded


@pytest.mark.parametrize("line", LINEAGES)
def test_every_region_arrives_at_the_hubs_model(founded: Founded, line: str) -> None:
    # given the models that the hub got by applying its own rounded releases
    found = releases(founded.hub, line)
    # when the regions have applied them too
    held = [admitted(founded.home(region), line) for region in MEMBERS]
    # then they hold the same bytes, round by round
    assert [number for number, _ in found] == [0, 1, 2]
    assert held == [dict(found)] * 2


def test_updates_cross_in_a_quarter_of_the_bytes(founded: Founded) -> None:
    # given what an update of 5,000 float32 values takes
    exact_bytes = 4 * 5000
    # when the updates' statements are read
    updates = statements(founded.home("de"), "intent", "update")
    # then each is of eight bits a value, a scale a block and a header
    assert {update.codec for update in updates} == {"int8"}
    assert all(update.payload.size_bytes < 0.3 * exact_bytes for update in updates)


def test_rounded_merges_with_momentum_replay_to_the_same_bytes(founded: Founded) -> None:
    # given the hub's log and its spool
    # when each merge is recomputed, its rounding and its momentum with it
    outcome = call("log", "verify", founded.hub.path, "--replay", "--json")
    # then all four come out as they were released
    assert outcome.status == 0, outcome.error
    assert outcome.json["replayed"] == 4
