"""A paper is missing: `ringfence check` says so beforehand, the gateway says no when it counts."""

from collections.abc import Iterator

import pytest
from tests.cli.calling import call
from tests.e2e.federations import Founded, found, lineage
from tests.e2e.processes import Processes
from tests.e2e.reading import admitted, entries, outbound, releases, statements

MISSING = "cac.assessment-world-cn-eu.dsse.json"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    """China and Germany; nobody is waited for longer than a second, one update is enough."""
    members = ("cn", "de")
    line = lineage("world", members, quorum=1, deadline_s=1.0)
    founded = found(tmp_path_factory.mktemp("law") / "federation", members, [line])
    (founded.home("cn").approvals / MISSING).unlink()
    return founded


@pytest.fixture(scope="module")
def after_the_run(founded: Founded) -> Iterator[Processes]:
    """One round of it, without a word to anybody about the missing paper."""
    with Processes(founded.path) as processes:
        processes.start_all(founded)
        for region in founded.members:
            assert processes.finish("gateway", region) == 0
        assert processes.stop("coordinator", "hub") == 0
        yield processes


def test_check_names_rule_citation_and_cure_of_a_missing_paper(founded: Founded) -> None:
    # given a federation in which China's security assessment is not among the papers
    # when every crossing of the plan is judged, for a person and for a machine
    shown = call("check", founded.path)
    machine = call("check", founded.path, "--json")
    # then exactly China's update out is refused, with its rules, where they stand, and what helps
    refused = [row for row in machine.json["crossings"] if not row["permitted"]]
    assert (shown.status, machine.status) == (1, 1)
    assert machine.json["refused"] == len(refused)
    assert {(r["sender"], r["recipient"], r["kind"], r["action"]) for r in refused} == {
        ("cn", "hub", "update", "export")
    }
    for row in refused:
        assert all((row["rules"], row["citation"], *row["cures"][0]))
        assert row["rules"][0] in shown.output


def test_the_gateway_refuses_the_crossing_and_records_the_rule(
    founded: Founded, after_the_run: Processes
) -> None:
    # given what `check` says will be refused
    checked = call("check", founded.path, "--json").json["crossings"]
    rules = next(row["rules"] for row in checked if not row["permitted"])
    # when China's log is read after the round
    (refusal,) = (entry.refusal for entry in entries(founded.home("cn"), "refusal"))
    # then it holds that refusal, under those rules, before anything was trained or sent
    assert refusal is not None
    assert (refusal.stage, refusal.reason) == ("law", "law")
    assert list(refusal.rules) == rules
    assert outbound(founded.home("cn"), 1) == ""
    assert statements(founded.home("cn"), "intent", "update") == []


def test_the_others_go_on_after_the_deadline(founded: Founded, after_the_run: Processes) -> None:
    # given a round to which only Germany could contribute
    # when it is over
    held = [admitted(founded.home(region)) for region in founded.members]
    # then its release was made of Germany's update, and both regions stand on it
    assert held == [dict(releases(founded.hub))] * 2
    merge = entries(founded.hub, "merge")[-1]
    arrivals = {e.subject: e.counterparty for e in entries(founded.hub, "arrival")}
    assert [arrivals[statement] for statement in merge.inputs[2:]] == ["de"]


def test_a_region_keeps_its_payload_though_the_candidate_has_the_same_bytes(
    founded: Founded, after_the_run: Processes
) -> None:
    # given a round of one contributor, whose candidate is its own update over again
    (update,) = statements(founded.home("de"), "intent", "update")
    (candidate,) = {
        declaration.payload.digest for declaration in statements(founded.hub, "intent", "candidate")
    }
    assert update.payload.digest == candidate
    # when the region has applied the candidate
    kept = [file.stem for file in (founded.home("de").state / "payloads").iterdir()]
    # then the payload that it signed for is still there
    assert kept == [candidate.partition(":")[2]]
