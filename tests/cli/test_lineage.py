"""`ringfence lineage`: where a release comes from, and where it may be deployed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cli.calling import Outcome, call
from tests.places.founding import Founded, swift_directory
from tests.places.succession import first_round, give_packs, settle, succeeded, west
from tests.places.world import US_MARKET, WORLD, founded, opened

from ringfence.cli.auditing import audit_log, read_agreements
from ringfence.cli.demo.findings import touched_by
from ringfence.core.agreement import parse_agreement
from ringfence.core.clock import system_clock
from ringfence.core.errors import StateError
from ringfence.core.ids import RegionId
from ringfence.crossing.audit import Audit
from ringfence.crossing.papers import REVOKED_SUFFIX, file_name, seal_revocation
from ringfence.crossing.retrial import Retrial
from ringfence.ledger.reader import LogReader
from ringfence.opening import AGREEMENT_NAME
from ringfence.policy.approvals import ApprovalId, OperatorId
from ringfence.policy.revocations import Revocation
from ringfence.trust.keys import Ed25519Signer

__all__ = ["founded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run, which nobody may change: `world` of three rounds and `us-market` of two.

    `signer` is China's counsel.
    """

    homes: dict[str, Path]
    models: dict[str, str]

    signer: Ed25519Signer


@pytest.fixture(scope="module")
def run(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Germany and America release once; then China joins, and `us-market` branches off."""
    path = tmp_path_factory.mktemp("lineage")
    with swift_directory(path) as directory:
        with opened(west(founded, path), directory / "run") as first:
            first_round(first)
        with succeeded(first) as world:
            world.run_to(WORLD, 3, "released")
            world.run_to(US_MARKET, 2, "released")
            settle(world)
            give_packs(world)
            models = {
                f"{release.lineage}:{release.round}": release.model
                for lineage in (WORLD, US_MARKET)
                for release in world.hub.journal.releases(lineage)
            }
        yield Run(
            homes={name: home.path for name, home in world.homes.items()},
            models=models,
            signer=founded.signers["cn", "counsel"],
        )


def lineage(run: Run, release: str, region: str = "hub", *more: object) -> Outcome:
    return call("lineage", release, "--home", run.homes[region], *more)


def traced(run: Run, release: str, region: str = "hub") -> Any:
    return lineage(run, release, region, "--json").json


def verdicts(found: Any) -> dict[tuple[str, str], list[str]]:
    """Rules that refuse, by market and deployer."""
    return {
        (row["market"], row["region"]): [why["rule"] for why in row["why"]]
        for row in found["deployments"]
    }


def revoked(run: Run, tmp_path: Path, region: str, *approvals: str) -> Path:
    """A copy of a home in which papers are revoked."""
    home = tmp_path / region
    shutil.copytree(run.homes[region], home, ignore=shutil.ignore_patterns("run"))
    facts = home / "facts.toml"
    listed = ", ".join(f'"{approval}"' for approval in approvals)
    facts.write_text(
        re.sub(r"^revoked = .*$", f"revoked = [{listed}]", facts.read_text(), flags=re.M)
    )
    return home


# ── ancestry ──


def test_the_hub_shows_whose_updates_are_in_a_release(run: Run) -> None:
    # given a release that China took part in from the second round on
    # when the hub is asked for its ancestry
    found = traced(run, "world:3")
    # then each release comes of the one before, with its updates and their tags
    line = [(each["release"], each["parent"]) for each in found["ancestry"]]
    assert line == [
        ("world:3", "world:2"),
        ("world:2", "world:1"),
        ("world:1", "world:0"),
        ("world:0", ""),
    ]
    merged = [[update["region"] for update in each["updates"]] for each in found["ancestry"]]
    assert merged == [["cn", "de", "us"], ["cn", "de", "us"], ["de", "us"], []]
    tags = [each["tags"] for each in found["ancestry"]]
    assert tags == [["CN", "EU", "US"], ["CN", "EU", "US"], ["EU", "US"], []]
    agreements = [each["agreement"] for each in found["ancestry"]]
    assert agreements[0] == agreements[1] != agreements[2] != ""
    for each in found["ancestry"]:
        for update in each["updates"]:
            (statement,) = update["statements"]
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", statement)


@pytest.mark.parametrize("region", ["hub", "cn", "us"])
def test_verdicts_under_two_agreements_are_judged_again(run: Run, region: str) -> None:
    # given logs of a run in which a successor agreement came into force
    home = run.homes[region]
    agreements = read_agreements(home / "agreement")
    assert len(agreements) == 2
    audit = Audit(owner=RegionId(region), agreements=agreements, retrial=Retrial())
    log = LogReader(home / "log")
    # when each is judged again
    for opening in log.openings(0, log.durable_size):
        audit.read(opening.index, opening.content)
    # then every verdict holds, under the agreement of its own statement
    assert audit.retrial is not None
    assert audit.retrial.judged >= audit.count("intent") > 0


def test_a_branch_leads_back_to_the_release_that_it_left(run: Run) -> None:
    # given a lineage that left `world` before China joined
    # when its newest release is traced
    found = traced(run, "us-market:2")
    # then its line goes through the branch point into `world`, and holds nothing Chinese
    line = [(each["release"], each["branches"]) for each in found["ancestry"]]
    assert line == [
        ("us-market:2", False),
        ("us-market:1", False),
        ("us-market:0", True),
        ("world:1", False),
        ("world:0", False),
    ]
    assert found["tags"] == ["EU", "US"]
    regions = {update["region"] for each in found["ancestry"] for update in each["updates"]}
    assert regions == {"de", "us"}
    # and the branch's first updates started from regional state that `world` left
    first = found["ancestry"][1]["updates"]
    assert all(update["states"] for update in first)


def test_a_region_shows_what_its_own_log_knows(run: Run) -> None:
    # given China's log, which knows other regions' updates by digest, and nothing before it joined
    # when it is asked
    found = traced(run, "world:3", "cn")
    # then it shows its own update by name and the others' payloads, back to where it joined
    line = [each["release"] for each in found["ancestry"]]
    assert line == ["world:3", "world:2", "world:1"]
    for each in found["ancestry"][:2]:
        assert [update["region"] for update in each["updates"]] == ["cn", "", ""]
        assert all(update["payload"] for update in each["updates"])
    assert found["tags"] == ["CN", "EU", "US"]


def test_the_tree_is_shown_to_a_person(run: Run) -> None:
    # given the branch
    # when a person asks
    shown = lineage(run, "us-market:2").output
    # then releases, updates with their regions, the branch point and the law's answer are there
    for words in (
        f"us-market:2 {run.models['us-market:2']}",
        "tags: EU US",
        "update of de (EU) in round 2, statement sha256:",
        "us-market:0",
        "branches off world:1",
        "first under agreement",
        "not legal advice",
    ):
        assert words in " ".join(shown.split()), words


def test_owners_that_contradict_the_agreement_are_why_nobody_may_deploy(
    run: Run, tmp_path: Path
) -> None:
    # given a hub whose facts name an owner of Germany's operator that nobody has screened
    home = revoked(run, tmp_path, "hub")
    facts = home / "facts.toml"
    owner = 'de operator Holding (SAMPLE)", percent'
    assert facts.read_text().count(owner) == 1
    facts.write_text(facts.read_text().replace(owner, 'Stranger", percent'))
    # when a release is traced that Germany had a part in
    found = call("lineage", "world:3", "--home", home, "--json").json
    shown = call("lineage", "world:3", "--home", home).output
    # then no pack is asked about it, and both forms say why
    assert set(map(tuple, verdicts(found).values())) == {("ownership",)}
    for row in found["deployments"]:
        assert not row["permitted"]
        assert "Stranger was never screened, which counts as CN" in row["why"][0]["cure"]
    assert "ownership" in shown


def test_the_graph_tells_the_demo_whom_a_lineage_was_touched_by(run: Run) -> None:
    # given the hub's log
    audit = audit_log(run.homes["hub"])
    # when it is asked whose updates are in a lineage, by whatever way
    touched = [touched_by(audit, lineage=line, region="cn") for line in (WORLD, US_MARKET)]
    # then China is in the one that it joined and not in the branch, and who sent nothing is a fault
    assert touched == [True, False]
    assert touched_by(audit, lineage=US_MARKET, region="us")
    with pytest.raises(StateError, match="holds no update of hub"):
        touched_by(audit, lineage=WORLD, region="hub")


# ── names ──


def test_a_release_is_named_by_round_or_by_the_beginning_of_its_digest(run: Run) -> None:
    # given the digest of a release
    digest = run.models["world:2"]
    algorithm, _, value = digest.partition(":")
    # when it is named in each way
    for name in ("world:2", digest, value, value[:8], f"{algorithm}:{value[:9]}"):
        # then it is the same
        assert traced(run, name)["release"] == "world:2"


def test_a_release_goes_before_a_start_of_the_same_bytes(run: Run) -> None:
    # given a model that is a release of `world` and the start of `us-market`
    assert run.models["world:1"] == run.models["us-market:0"]
    # when it is named by its digest, then it is the release; the start has its own name
    assert traced(run, run.models["world:1"])["release"] == "world:1"
    assert traced(run, "us-market:0")["release"] == "us-market:0"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("world:9", "holds no release 'world:9'; the newest it holds: us-market:1"),
        ("moon:1", "holds no release 'moon:1'"),
        ("0123456789abcdef", "holds no release"),
        ("chunked-blake3:0123456789", "holds no release"),
        ("1234567", "names no release: expected lineage:round"),
        ("world", "names no release: expected lineage:round"),
        ("world:x", "names no release|holds no release"),
        ("", "names no release: expected lineage:round"),
        ("../world:1", "holds no release"),
    ],
)
def test_what_names_no_release_is_a_fault_that_says_so(run: Run, name: str, said: str) -> None:
    for more in ((), ("--json",)):
        outcome = lineage(run, name, "hub", *more)
        assert (outcome.status, outcome.output) == (2, "")
        assert re.search(said, outcome.error), outcome.error


# ── markets ──


def test_every_market_is_answered_by_the_regions_own_law(run: Run) -> None:
    # given the lineage of the American market
    # when the hub asks for its newest release
    outcome = lineage(run, "us-market:2", "hub", "--json")
    # then America may deploy it, nobody else may, and each refusal says rule, citation and cure
    assert outcome.status == 0
    found = outcome.json
    assert verdicts(found)["US", "us"] == []
    assert [row["market"] for row in found["deployments"] if row["permitted"]] == ["US"]
    assert {row["market"] for row in found["deployments"]} == {"CN", "EU", "US"}
    for row in found["deployments"]:
        assert row["target"] == (row["market"] == "US")
        assert row["permitted"] == (not row["why"])
        for why in row["why"]:
            assert why["rule"]
            assert why["citation"]
            assert why["cure"]


def test_a_release_that_may_be_deployed_nowhere_ends_with_status_1(run: Run) -> None:
    # given a lineage whose markets' papers nobody has
    # when it is asked for
    outcome = lineage(run, "world:3", "hub", "--json")
    # then each market names the paper that is missing, and what nobody has looked into
    assert outcome.status == 1
    assert verdicts(outcome.json)["CN", "cn"] == ["CN-OTA"]
    # (which flags hold it as well, depends on the day)
    paper, *flags = verdicts(outcome.json)["EU", "de"]
    assert paper == "EU-TA-R155"
    assert flags
    assert {name.partition("-")[0] for name in flags} == {"EU", "UN"}
    assert verdicts(outcome.json)["US", "us"] == ["US-ICTS-791.307"]
    shown = " ".join(lineage(run, "world:3").output.split())
    assert "US is no agreed market of this lineage" in shown


# ── revoked papers ──


def affected_releases(home: Path, names: list[str]) -> set[str]:
    return {
        name for name in names if call("lineage", name, "--home", home, "--json").json["affected"]
    }


NAMES = ["world:1", "world:2", "world:3", "us-market:1", "us-market:2"]
PAPER = "cn.derived_determination/world/cn-eu"


def test_a_revoked_paper_reaches_every_descendant_and_nothing_else(
    run: Run, tmp_path: Path
) -> None:
    # given the paper that China's updates left with, revoked after they were merged
    home = revoked(run, tmp_path, "hub", PAPER)
    # when every release is asked for
    found = affected_releases(home, NAMES)
    # then those with a Chinese update are affected, and the branch from before is not
    assert found == {"world:2", "world:3"}
    # and status counts them
    status = call("status", "--home", home, "--json").json
    assert status["affected"] == 2
    assert call("status", "--home", run.homes["hub"], "--json").json["affected"] == 0
    assert "2 releases are affected" in " ".join(call("status", "--home", home).output.split())


def test_a_signed_revocation_reaches_as_far_as_the_regions_own_list(
    run: Run, tmp_path: Path
) -> None:
    # given the same paper, revoked by a signature of China's counsel
    home = revoked(run, tmp_path, "hub")
    holder = parse_agreement((home / "agreement" / AGREEMENT_NAME).read_bytes()).region("cn")
    revocation = Revocation(
        approval=ApprovalId(PAPER),
        holder=OperatorId(holder.operator),
        reason="the determination was withdrawn",
        at=system_clock(),
    )
    path = home / "approvals" / file_name(revocation.approval, REVOKED_SUFFIX)
    path.write_bytes(seal_revocation(revocation, run.signer))
    # when every release is asked for
    found = affected_releases(home, NAMES)
    # then as many are affected
    assert found == {"world:2", "world:3"}
    assert call("status", "--home", home, "--json").json["affected"] == 2


def test_an_affected_release_shows_the_way_from_the_paper_and_is_deployed_nowhere(
    run: Run, tmp_path: Path
) -> None:
    # given the same revocation
    home = revoked(run, tmp_path, "hub", PAPER)
    # when a later release is asked for
    outcome = call("lineage", "world:3", "--home", home, "--json")
    # then the way leads from China's statement, every market is refused by rule, and it is status 1
    assert outcome.status == 1
    (reach,) = outcome.json["affected"]
    assert reach["approval"] == PAPER
    assert reach["path"] == ["update of cn in world:3", "world:3"]
    (update,) = (u for u in outcome.json["ancestry"][0]["updates"] if u["region"] == "cn")
    assert (update["affected"], update["statements"]) == ([PAPER], [reach["statement"]])
    for row in outcome.json["deployments"]:
        assert "PLAT-DERIVED" in [why["rule"] for why in row["why"]]
    shown = " ".join(call("lineage", "world:3", "--home", home).output.split())
    assert f"affected by {PAPER}" in shown
    assert "update of cn in world:3 ▶ world:3" in shown


def test_a_permitted_deployment_is_refused_once_its_release_is_affected(
    run: Run, tmp_path: Path
) -> None:
    # given a release that America may deploy, and the paper that America's updates left with
    assert lineage(run, "us-market:2").status == 0
    home = revoked(run, tmp_path, "hub", "bis.classification/us-market/us-eu")
    # when it is asked for again
    outcome = call("lineage", "us-market:2", "--home", home, "--json")
    # then it is refused by the rule on what is derived
    assert outcome.status == 1
    assert verdicts(outcome.json)["US", "us"] == ["PLAT-DERIVED"]
    assert affected_releases(home, NAMES) == {"us-market:1", "us-market:2"}


def test_a_paper_of_one_copy_reaches_that_copy_and_what_came_of_it(
    run: Run, tmp_path: Path
) -> None:
    # given the paper under which the hub sent `world` to China only, revoked
    home = revoked(run, tmp_path, "hub", "eu.dual_use_class/world/hub-cn")
    # when the releases are asked for
    first, second, third = (
        call("lineage", f"world:{number}", "--home", home, "--json").json for number in (1, 2, 3)
    )
    # then of the first only China's copy is reached, and only China may not deploy it for that
    assert [each["path"] for each in first["affected"]] == [["world:1 as sent to cn"]]
    derived = {key for key, rules in verdicts(first).items() if "PLAT-DERIVED" in rules}
    assert derived == {("CN", "cn")}
    # and China's update of it, the release that it was merged into, and whatever came of that
    reached = [
        [update["region"] for update in found["ancestry"][0]["updates"] if update["affected"]]
        for found in (second, third)
    ]
    assert reached == [["cn"], ["cn", "de", "us"]]
    assert second["affected"][0]["path"] == [
        "world:1 as sent to cn",
        "update of cn in world:2",
        "world:2",
    ]
    assert affected_releases(home, NAMES) == {"world:1", "world:2", "world:3"}


def test_an_unknown_revocation_reaches_nothing(run: Run, tmp_path: Path) -> None:
    home = revoked(run, tmp_path, "hub", "cac.assessment/other/paper")
    assert affected_releases(home, NAMES) == set()


def test_facts_that_cannot_be_read_are_a_fault(run: Run, tmp_path: Path) -> None:
    # given a region whose facts somebody is writing
    home = revoked(run, tmp_path, "hub")
    (home / "facts.toml").write_text("revoked = [")
    # when it is asked, then nobody is told that nothing was revoked
    for words in (("lineage", "us-market:2"), ("status",)):
        outcome = call(*words, "--home", home)
        assert (outcome.status, outcome.output) == (2, "")
        assert "facts.toml" in outcome.error
