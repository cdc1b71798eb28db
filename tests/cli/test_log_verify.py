"""`ringfence log verify --judge`: a copied log is judged again, by whoever has public keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.calling import call
from tests.places.founding import Template
from tests.places.world import WORLD, World, founded, opened, template

from ringfence.core.ids import RegionId
from ringfence.crossing.signatures import keep_signatures, sign_agreement

__all__ = ["founded", "template"]


@pytest.fixture(scope="module")
def copies(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs and agreements after one released round, by region, and nothing else of any home."""
    path = tmp_path_factory.mktemp("judged")
    with opened(template, path / "federation") as world:
        world.run_to(WORLD, 1, "released")
        for name in ("cn", "de", "us"):
            world.place(name).turn(WORLD)
        for name in ("hub", "cn"):
            _copy(world, name, path / "copies" / name)
    return path / "copies"


def _copy(world: World, name: str, copy: Path) -> None:
    region = world.hub.region if name == "hub" else world.place(name).region
    region.log.checkpoint()
    home = world.homes[name]
    signatures = {
        each: sign_agreement(world.agreement, RegionId(each), world.signer(each))
        for each in world.agreement.regions()
    }
    keep_signatures(home.agreement, world.agreement, signatures)
    for part in ("log", "agreement"):
        shutil.copytree(home.path / part, copy / part)


@pytest.mark.parametrize("region", ["hub", "cn"])
def test_a_copied_log_is_judged_again_without_its_home(copies: Path, region: str) -> None:
    # given a copy that holds a log and an agreement
    # when somebody verifies it, and judges again
    found = call("log", "verify", copies / region, "--judge", "--json")
    # then every crossing's verdict held, and it says how many those were
    assert (found.status, found.json["holds"]) == (0, True), found.error
    assert found.json["judged"] == found.json["intents"] + found.json["arrivals"] > 0
    assert f"{found.json['judged']} verdicts judged again" in " ".join(
        call("log", "verify", copies / region, "--judge").output.split()
    )


def test_nothing_is_judged_unless_it_is_asked_for(copies: Path) -> None:
    assert call("log", "verify", copies / "hub", "--json").json["judged"] == 0


def test_a_copy_without_its_packs_is_not_judged_again(copies: Path, tmp_path: Path) -> None:
    # given a copy without any content
    for part in ("log", "agreement"):
        shutil.copytree(copies / "cn" / part, tmp_path / part)
    shutil.rmtree(tmp_path / "log/contents")
    (tmp_path / "log/commitments").unlink()
    # when it is to be judged again all the same
    refused = call("log", "verify", tmp_path, "--judge", "--allow-undisclosed")
    # then it says what for the contents are needed
    assert refused.status != 0
    assert "not to judge again" in " ".join(refused.error.split())
