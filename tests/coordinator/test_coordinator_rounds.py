"""The state machine of rounds: quorum, deadline, gate, branches, and steps that are repeated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.places.forging import sealed, update, write_payload
from tests.places.founding import Template, digest_of
from tests.places.world import US_MARKET, WORLD, World, opened, refused

from ringfence.coordinator.journal import Round
from ringfence.coordinator.merging import merge_round
from ringfence.coordinator.rounds import advance, start_lineage
from ringfence.core.errors import ConfigError
from ringfence.core.ids import LineageId, RegionId
from ringfence.core.terms import Start


class Died(BaseException):
    """The process is killed: nothing in it catches this."""


def _round(world: World, lineage: LineageId = WORLD) -> Round:
    round_ = world.hub.journal.current_round(lineage)
    assert round_ is not None
    return round_


def _send(world: World, *names: str) -> None:
    for name in names:
        world.place(name).turn(WORLD)


def _advance_to(world: World, state: str, lineage: LineageId = WORLD) -> Round:
    for _ in range(5):
        if _round(world, lineage).state == state:
            return _round(world, lineage)
        assert advance(world.hub, lineage)
    raise AssertionError(f"came to {_round(world, lineage).state}, not to {state}")


# ── quorum and deadline ──


def test_a_round_closes_when_every_contributor_is_here(world: World) -> None:
    # given two of three
    _send(world, "cn", "de")
    assert _advance_to(world, "collecting").contributors == ()
    assert not advance(world.hub, WORLD)
    # when the third comes
    _send(world, "us")
    advance(world.hub, WORLD)
    # then the round closes with all of them, before its deadline
    assert (_round(world).state, _round(world).contributors) == ("merging", ("cn", "de", "us"))


def test_a_round_closes_at_its_deadline_with_a_quorum(world: World) -> None:
    # given two of three, which is the quorum, until a second before the deadline
    _send(world, "us", "de")
    _advance_to(world, "collecting")
    world.clock.now_s += 599
    assert not advance(world.hub, WORLD)
    # when the deadline has come
    world.clock.now_s += 1
    advance(world.hub, WORLD)
    # then the round closes with those two, in order of region id
    assert (_round(world).state, _round(world).contributors) == ("merging", ("de", "us"))


def test_a_round_without_a_quorum_waits_at_its_deadline(world: World) -> None:
    # given one of three
    _send(world, "de")
    _advance_to(world, "collecting")
    # when the deadline has come
    world.clock.now_s += 600
    moved = advance(world.hub, WORLD)
    # then the others are waited for
    assert not moved
    assert _round(world).state == "collecting"


def test_a_straggler_is_told_that_it_is_late(world: World, tmp_path: Path) -> None:
    # given a round that closed without China
    _send(world, "de", "us")
    world.clock.now_s += 600
    _advance_to(world, "merging")
    late = update(world, "cn", write_payload(world, tmp_path / "payload"))
    # when its update comes, then it is refused as late
    with refused(world, "late", at="intake"):
        world.service.offer(RegionId("cn"), sealed(world, late))


def test_a_straggler_joins_the_next_round(world: World) -> None:
    # given a round that was released without China's update
    _send(world, "de", "us")
    world.clock.now_s += 600
    _advance_to(world, "merging")
    # when the next one is open
    world.run_to(WORLD, 2, "merging")
    # then China is in it
    assert _round(world).contributors == ("cn", "de", "us")
    first = world.hub.journal.round(WORLD, 1)
    assert first is not None
    assert first.contributors == ("de", "us")


def test_a_lineage_ends_with_its_last_agreed_round(world: World) -> None:
    # given the last round released
    world.run_to(WORLD, 3, "released")
    # when the hub looks again
    moved = advance(world.hub, WORLD)
    # then nothing opens
    assert not moved


# ── the gate ──


def test_a_candidate_that_serves_a_region_badly_is_held_and_its_parent_stays(
    world: World,
) -> None:
    # given a candidate on which China measures less than the agreed least
    parent = _round(world).parent
    world.place("cn").script.evaluated = {"accuracy": 4.9}
    # when every region has measured
    world.run_to(WORLD, 1, "held")
    # then the round is held, and the next one builds on the same model
    reason = _round(world).reason
    assert "region-too-low" in reason
    assert "cn" in reason
    advance(world.hub, WORLD)
    assert (_round(world).round, _round(world).parent) == (2, parent)
    release = world.hub.journal.release(WORLD)
    assert release is not None
    assert (release.round, release.model) == (0, parent)


def test_a_candidate_that_costs_a_region_too_much_is_held(world: World) -> None:
    # given a release on which Germany measured 50, and a candidate on which it measures 39.9
    world.run_to(WORLD, 2, "open")
    released = world.hub.journal.release(WORLD)
    assert released is not None
    world.place("de").script.evaluated = {"accuracy": 39.9}
    # when every region has measured
    world.run_to(WORLD, 2, "held")
    # then the round is held, and every region keeps its base
    assert "region-loses" in _round(world).reason
    advance(world.hub, WORLD)
    for name in ("cn", "de", "us"):
        world.place(name).turn(WORLD)
        base = world.place(name).gateway.models.admitted(WORLD)
        assert base is not None
        assert base.model == released.model


def test_a_loss_within_the_agreed_points_is_no_loss(world: World) -> None:
    # given a candidate on which Germany measures exactly the agreed points less
    world.run_to(WORLD, 2, "open")
    world.place("de").script.evaluated = {"accuracy": 40.0}
    # when every region has measured, then it is released
    world.run_to(WORLD, 2, "released")


def test_a_candidate_that_a_region_does_not_measure_is_held(
    evaluating: World,
) -> None:
    # given a candidate that China does not look at
    _send(evaluating, "de", "us")
    evaluating.clock.now_s += 599
    assert not advance(evaluating.hub, WORLD)
    # when the deadline has come
    evaluating.clock.now_s += 1
    advance(evaluating.hub, WORLD)
    # then it is held, and the reason says who is missing
    assert _round(evaluating).state == "held"
    assert "not measured by cn" in _round(evaluating).reason
    assert evaluating.entries()[-1].kind == "refusal"


def test_a_lineage_without_a_gate_releases_what_was_merged(world: World) -> None:
    # given a market without a gate
    for name in ("de", "us"):
        world.place(name).turn(US_MARKET)
    # when its candidate is there
    _advance_to(world, "released", US_MARKET)
    # then nobody had to measure it
    assert world.hub.inbox.evaluations(US_MARKET, 1) == {}


# ── branches ──


def _branch(world: World, start: str, *, bars: tuple[str, ...] = ("CN",)) -> None:
    terms = world.agreement.lineage(US_MARKET)
    branched = replace(terms, id="branch", bars=bars, start=Start(model=start, branch_of="world"))
    start_lineage(world.hub, branched)


def test_a_branch_may_not_start_from_a_release_that_holds_what_it_bars(released: World) -> None:
    # given a release of `world` that China has trained on
    release = released.hub.journal.release(WORLD)
    assert release is not None
    # when a lineage that bars China would start from it, then it does not
    with pytest.raises(ConfigError, match=r"bars \['CN'\]"):
        _branch(released, release.model)
    assert released.hub.journal.release("branch") is None


def test_a_branch_brings_the_tags_of_its_release(released: World) -> None:
    # given the same release, and a lineage that bars nobody
    release = released.hub.journal.release(WORLD)
    assert release is not None
    # when it starts from there
    _branch(released, release.model, bars=())
    # then it has its tags from the first round on
    started = released.hub.journal.release("branch")
    assert started is not None
    assert started.jurisdictions == ("CN", "EU", "US")


def test_a_branch_starts_from_nothing_but_a_release(evaluating: World) -> None:
    # given a candidate that is no release, though the hub holds its file
    candidate = _advance_to(evaluating, "evaluating").candidate
    assert candidate is not None
    # when a lineage would start from it, or from a model that nobody knows, then it does not
    for model in (candidate.model, digest_of("a model from a disk")):
        with pytest.raises(ConfigError, match="no release of 'world'"):
            _branch(evaluating, model)


def test_a_lineage_waits_for_the_file_that_it_starts_from(world: World) -> None:
    # given a lineage whose initial model nobody gave to the hub
    terms = world.agreement.lineage(WORLD)
    start = Start(model="chunked-blake3:" + "7" * 64)
    # when it would start, then the hub says what to do
    with pytest.raises(ConfigError, match="--initial"):
        start_lineage(world.hub, replace(terms, id="new", start=start))


# ── snapshots ──


def test_a_region_that_comes_later_gets_the_newest_release_whole(world: World) -> None:
    # given a release that China had no part in, and was away for
    _send(world, "de", "us")
    world.clock.now_s += 600
    _advance_to(world, "evaluating")
    _send(world, "de", "us")
    world.clock.now_s += 600
    advance(world.hub, WORLD)  # held: China has not measured
    terms = world.agreement.lineage(WORLD)
    assert _round(world).state == "held"
    assert terms.gate is not None
    # when it comes, and everybody goes on
    world.run_to(WORLD, 2, "released")
    for _ in range(2):
        _send(world, "cn", "de", "us")
    # then all stand on the same model, byte for byte
    release = world.hub.journal.release(WORLD)
    assert release is not None
    files = {
        world.place(name).gateway.spool.model(release.model).read_bytes()
        for name in ("cn", "de", "us")
    }
    assert files == {world.hub.spool.model(release.model).read_bytes()}


# ── steps that are repeated ──


def test_merging_twice_gives_the_same_bytes(world: World) -> None:
    # given a round that is merged
    _send(world, "cn", "de", "us")
    round_ = _advance_to(world, "merging")
    first = merge_round(world.hub, round_)
    files = world.remembered()["files"]
    # when it is merged again, as after a crash
    second = merge_round(world.hub, round_)
    # then everything is the same
    assert second == first
    assert world.remembered()["files"] == files


def _killing(world: World, at: str) -> None:
    """Have the hub's process die when it asks its law, once a table of its journal says so."""
    true_law = world.hub.region.law

    def approvals() -> Any:
        if _round(world).state == at:
            raise Died
        return true_law.approvals()

    law = dataclasses.replace(true_law, approvals=approvals)
    region = dataclasses.replace(world.hub.region, law=law)
    world.hub = dataclasses.replace(world.hub, region=region)


@pytest.mark.parametrize("at", ["merging", "evaluating"])
def test_a_step_that_was_cut_short_is_repeated_to_the_same_release(
    template: Template, tmp_path: Path, at: str
) -> None:
    # given two hubs with the same updates, one of which dies in the middle of a step
    released = []
    for name, dies in (("undisturbed", False), ("killed", True)):
        with opened(template, tmp_path / name) as world:
            _send(world, "cn", "de", "us")
            _advance_to(world, at)
            if at == "evaluating":
                _send(world, "cn", "de", "us")
            if dies:
                _killing(world, at)
                with pytest.raises(Died):
                    advance(world.hub, WORLD)
                assert _round(world).state == at
                world.restart_hub()
            # when it goes on
            world.run_to(WORLD, 1, "released")
            release = world.hub.journal.release(WORLD)
            assert release is not None
            released.append(release.model)
    # then both release the same model
    assert released[0] == released[1]
