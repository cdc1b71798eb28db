"""Nothing starts before every region has signed the same bytes; a successor takes over what is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.calling import call
from tests.e2e.federations import Founded, found, lineage
from tests.e2e.processes import Processes
from tests.e2e.reading import admitted, entries, refusals, round_of

MEMBERS = ("de", "us")


@pytest.fixture
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Founded, Processes]]:
    """The hub and every issuer; no gateway yet, so that only the hub's own signature is there."""
    line = lineage("world", MEMBERS)
    founded = found(tmp_path_factory.mktemp("agreement") / "federation", MEMBERS, [line])
    with Processes(founded.path) as processes:
        for region in ("hub", *MEMBERS):
            processes.start("issuer", region)
        processes.start("coordinator", "hub", "--initial", str(founded.initial))
        yield founded, processes


def test_nothing_starts_before_every_region_has_signed(
    started: tuple[Founded, Processes],
) -> None:
    # given a gateway of one region, which has handed its signature over
    founded, processes = started
    processes.start("gateway", "de")
    processes.wait_until(
        lambda: "waiting for the signatures of us" in processes.said("gateway", "de"),
        "Germany's gateway waits for America's signature",
    )
    before = round_of(founded.hub), [entry.kind for entry in entries(founded.home("de"))]
    # when the other region's comes in
    processes.start("gateway", "us")
    processes.wait_until(lambda: round_of(founded.hub) == (1, "open"), "a round is open")
    # then there was no round before, and nothing had crossed but the signature
    assert before == ((0, ""), ["agreement"])
    # and `status` tells how it stands while everybody is at work
    processes.wait_until(
        lambda: 0 in admitted(founded.home("de")), "Germany stands on the first model"
    )
    hub = call("status", "--home", founded.hub.path, "--json").json
    assert [(line["round"], line["state"]) for line in hub["lineages"]] == [(1, "open")]
    germany = call("status", "--home", founded.home("de").path, "--json").json
    assert sum(germany["entries"].values()) == len(entries(founded.home("de")))


def test_regions_whose_agreements_differ_in_one_byte_do_not_start(
    started: tuple[Founded, Processes],
) -> None:
    # given a region whose file says the same with one letter of a comment in lower case
    founded, processes = started
    file = founded.home("us").agreement / "federation.toml"
    agreed = file.read_bytes()
    file.write_bytes(agreed.replace(b"# The federation", b"# the federation", 1))
    processes.start("gateway", "de")
    # when its gateway joins
    processes.start("gateway", "us")
    status = processes.finish("gateway", "us")
    # then it ends with a refusal that says what to do, recorded on both sides, and nothing runs
    assert status == 1
    assert "(another-agreement)" in processes.said("gateway", "us")
    assert "compare the two files byte by byte" in processes.said("gateway", "us")
    assert refusals(founded.home("us")) == [("hub", "another-agreement")]
    assert refusals(founded.hub) == [("us", "another-agreement")]
    assert round_of(founded.hub) == (0, "")
    # and when it holds what the others hold, the run starts
    file.write_bytes(agreed)
    processes.start("gateway", "us")
    processes.wait_until(lambda: round_of(founded.hub) == (1, "open"), "a round is open")


def test_a_hub_without_its_initial_model_ends_and_says_which(tmp_path: Path) -> None:
    # given a coordinator that was not given the model that its lineage starts from
    founded = found(tmp_path / "federation", MEMBERS, [lineage("world", MEMBERS)])
    model = founded.agreement.lineage("world").start.model
    with Processes(founded.path) as processes:
        processes.start("issuer", "hub")
        # when it starts
        processes.start("coordinator", "hub")
        status = processes.finish("coordinator", "hub")
        # then it ends in order, with what it needs
        assert status == 2
        assert f"error: lineage 'world' starts from model {model}" in processes.said(
            "coordinator", "hub"
        )
        assert "--initial" in processes.said("coordinator", "hub")
