"""Merging and replaying rest on digests: of payloads, of models, and of momentum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.places.founding import Founded, Template
from tests.places.world import WORLD, World
from tests.places.world import opened as opened_world

from ringfence.cli.auditing import verify_home
from ringfence.coordinator.merging import merge_round
from ringfence.coordinator.replay import replay
from ringfence.core.errors import LogError, StateError
from ringfence.core.terms import Outer, Terms
from ringfence.crossing.signatures import keep_signatures, sign_agreement

replace = msgspec.structs.replace


def with_momentum(terms: Terms) -> Terms:
    outer = Outer(optimizer="nesterov", lr=0.7, momentum=0.9)
    lineages = tuple(replace(line, outer=outer, gate=None) for line in terms.lineages)
    return replace(terms, lineages=lineages)


@pytest.fixture(scope="module")
def keeping(founded: Founded, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """An agreement whose outer optimiser keeps momentum."""
    return founded.agree(tmp_path_factory.mktemp("keeping") / "federation", with_momentum)


@pytest.fixture
def world(keeping: Template, tmp_path: Path) -> Iterator[World]:
    """Nothing is released yet."""
    with opened_world(keeping, tmp_path / "federation") as world:
        signatures = {
            name: sign_agreement(world.agreement, home.region, world.signer(name, "statement"))
            for name, home in world.homes.items()
        }
        keep_signatures(world.homes["hub"].agreement, world.agreement, signatures)
        yield world


def momentum_files(world: World) -> list[Path]:
    return sorted((world.homes["hub"].state / "momentum").glob("world-*"))


def verified(world: World) -> int:
    """Replay the hub's log as it is now; returns how many merges held."""
    world.hub.region.log.checkpoint()
    return verify_home(world.homes["hub"].path, replayed=True).replayed


def test_a_replay_carries_its_own_momentum(world: World) -> None:
    # given three released rounds, and no momentum file at all
    world.run_to(WORLD, 3, "released")
    for path in momentum_files(world):
        path.unlink()
    # when, then
    assert verified(world) == 3


def test_a_replay_finds_a_merge_that_momentum_of_nobodys_making_shaped(world: World) -> None:
    # given a hub that puts another momentum in the place of the one it released with
    world.run_to(WORLD, 1, "released")
    (kept,) = momentum_files(world)
    data = bytearray(kept.read_bytes())
    data[-4:] = b"\x00\x00\x80\x3f"
    scratch = kept.with_name("scratch")
    scratch.write_bytes(data)
    world.hub.spool.keep_file(scratch, kept)
    world.run_to(WORLD, 2, "released")
    # when, then
    with pytest.raises(LogError, match="round 2: the log records payload"):
        verified(world)


@pytest.mark.parametrize("trouble", ["gone", "damaged"])
def test_a_merge_without_the_momentum_of_its_release_is_a_fault(world: World, trouble: str) -> None:
    # given
    world.run_to(WORLD, 1, "released")
    (kept,) = momentum_files(world)
    world.run_to(WORLD, 2, "merging")
    if trouble == "gone":
        kept.unlink()
    else:
        kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    # when, then
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    with pytest.raises(StateError, match="momentum after round 1"):
        merge_round(world.hub, round_)


def test_only_the_momentum_that_a_merge_may_need_is_kept(world: World) -> None:
    world.run_to(WORLD, 3, "released")
    assert [path.name.partition(".")[0] for path in momentum_files(world)] == ["world-2", "world-3"]
    assert (world.homes["hub"].state / "momentum").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["payload", "model"])
def test_damage_that_a_power_cut_left_is_found_before_it_is_merged(world: World, what: str) -> None:
    # given a round that is about to merge, and a hub that starts again over a damaged file
    world.run_to(WORLD, 1, "merging")
    round_ = world.hub.journal.current_round(WORLD)
    assert round_ is not None
    submission = world.hub.inbox.submissions(WORLD, 1)[0]
    spool = world.hub.spool
    path = spool.model(round_.parent)
    if what == "payload":
        path = world.hub.spool_of(submission.region).payload(submission.payload)
    world.restart_hub()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    # when, then
    with pytest.raises(StateError, match="gone or damaged"):
        merge_round(world.hub, round_)


def test_a_replay_reads_nothing_that_is_not_what_the_log_records(world: World) -> None:
    # given
    world.run_to(WORLD, 1, "released")
    submission = world.hub.inbox.submissions(WORLD, 1)[0]
    path = world.hub.spool_of(submission.region).payload(submission.payload)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    # when, then
    with pytest.raises(LogError, match=f"payload .* of {submission.region} is not in the spool"):
        verified(world)


def test_nothing_to_replay_is_no_merge(tmp_path: Path) -> None:
    assert replay([], files=tmp_path) == 0
