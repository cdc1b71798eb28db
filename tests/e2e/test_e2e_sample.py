"""The federation that `ringfence init` writes, run as its README says, looked at from outside."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.calling import call
from tests.e2e.federations import free_address
from tests.e2e.processes import Processes
from tests.e2e.reading import admitted, entries, releases

from ringfence.cli.sample import write_sample
from ringfence.config import Home, open_home
from ringfence.core.clock import system_clock

MEMBERS = ("cn", "de", "us")
REGIONS = ("hub", *MEMBERS)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample after its three rounds; every process has ended by itself or was asked to."""
    path = tmp_path_factory.mktemp("sample") / "federation"
    write_sample(path, clock=system_clock, address=free_address())
    with Processes(path) as processes:
        for region in REGIONS:
            processes.start("issuer", region)
        processes.start("coordinator", "hub", "--initial", str(path / "initial.safetensors"))
        for region in MEMBERS:
            processes.start("gateway", region)
            processes.start("site", region, str(path / "train.py"))
        ended = [processes.finish("gateway", region) for region in MEMBERS]
        ended += [processes.finish("site", region) for region in MEMBERS]
        ended += [processes.stop("coordinator", "hub")]
        ended += [processes.stop("issuer", region) for region in REGIONS]
        assert set(ended) == {0}, processes.tails()
    return path


def home(sample: Path, region: str) -> Home:
    return open_home(sample / "regions" / region)


def test_three_rounds_give_three_releases_in_every_region(sample: Path) -> None:
    # given the hub's releases
    start, *released = releases(home(sample, "hub"))
    # when each region's admitted models are set beside them
    held = {region: admitted(home(sample, region)) for region in MEMBERS}
    # then all hold the same models, every one another, the start among them
    assert [number for number, _ in released] == [1, 2, 3]
    assert len({model for _, model in (start, *released)}) == 4
    assert held == {region: dict([start, *released]) for region in MEMBERS}


@pytest.mark.parametrize("region", REGIONS)
def test_every_log_verifies_and_its_merges_replay(sample: Path, region: str) -> None:
    # given a region's log
    directory = sample / "regions" / region
    # when it is verified with public keys, and what the hub merged is recomputed
    replay = ["--replay"] if region == "hub" else []
    outcome = call("log", "verify", directory, *replay, "--json")
    # then everything holds, nothing was refused, nothing is missing
    found = outcome.json
    assert outcome.status == 0
    assert (found["refusals"], found["undisclosed"], found["pending"]) == (0, 0, 0)
    # and what each side says of the other is what the other says
    if region == "hub":
        assert (found["merges"], found["replayed"]) == (3, 3)
        # an update and a measurement a region and round; a snapshot, candidates and releases out
        assert (found["arrivals"], found["intents"]) == (18, 21)
        assert len(found["cosigned_by"]) >= 2
    else:
        assert (found["intents"], found["receipts"]) == (6, 6)
        assert (found["arrivals"], found["admissions"]) == (7, 4)


def test_a_replay_names_the_entry_whose_spooled_payload_has_changed(
    sample: Path, tmp_path: Path
) -> None:
    # given a copy of the hub, with one bit of one of its spooled payloads flipped
    copy = tmp_path / "hub"
    shutil.copytree(sample / "regions" / "hub", copy)
    payload = min((copy / "state" / "from" / "cn" / "payloads").iterdir())
    data = bytearray(payload.read_bytes())
    data[-1] ^= 1
    payload.write_bytes(data)
    # when its log is verified with a replay
    outcome = call("log", "verify", copy, "--replay")
    # then one entry does not hold, and is named with the region whose bytes are gone
    assert outcome.status == 2
    assert "entry " in outcome.error
    assert "of cn is not in the spool as recorded" in outcome.error


def test_the_public_model_signing_cli_verifies_the_release(sample: Path) -> None:
    # given the newest release as the hub keeps it
    _, model = releases(home(sample, "hub"))[-1]
    file = home(sample, "hub").state / "models" / f"{model.partition(':')[2]}.safetensors"
    key = home(sample, "hub").trust / "release.pub"
    program = Path(sys.executable).with_name("model_signing")
    # when OpenSSF's own program verifies its signature
    command = [program, "verify", "key", file]
    options = ["--signature", f"{file}.sig", "--public_key", key]
    outcome = subprocess.run([*command, *options], capture_output=True, text=True)
    # then it holds
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_status_tells_what_the_hub_and_the_regions_hold(sample: Path) -> None:
    # given the newest release
    number, model = releases(home(sample, "hub"))[-1]
    # when every region is asked
    found = {
        region: call("status", "--home", sample / "regions" / region, "--json").json
        for region in REGIONS
    }
    # then each tells its round, its model, its budget, and every entry of its log
    lines = {region: each["lineages"][0] for region, each in found.items()}
    assert {(line["round"], line["model"]) for line in lines.values()} == {(number, model)}
    assert lines["hub"]["state"] == "released"
    assert {lines[region]["state"] for region in MEMBERS} == {"admitted"}
    assert {found[region]["updates_used"] for region in MEMBERS} == {3}
    for region in REGIONS:
        assert sum(found[region]["entries"].values()) == len(entries(home(sample, region)))


def test_one_crossing_is_proved_with_nothing_but_public_keys(sample: Path, tmp_path: Path) -> None:
    # given the intent of China's first update, as China's log holds it
    log = entries(home(sample, "cn"))
    index = next(i for i, entry in enumerate(log) if entry.kind == "intent")
    proof = tmp_path / "proof"
    # when China proves it, and somebody checks the proof with the agreement's keys
    proved = call("log", "prove", sample / "regions" / "cn", index, "--out", proof)
    agreement = sample / "federation.toml"
    checked = call("log", "check", proof, "--agreement", agreement, "--region", "cn", "--json")
    # then it holds for that entry, and not for another region's log
    assert proved.status == checked.status == 0
    assert (checked.json["index"], checked.json["kind"]) == (index, "intent")
    assert call("log", "check", proof, "--agreement", agreement, "--region", "de").status == 2
