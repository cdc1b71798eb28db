"""PLAT-CLOCK end to end: under a wrong clock nothing crosses, and nothing is lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from tests.cli.calling import call
from tests.places.world import WORLD, Place, World

from ringfence.cli.auditing import verify_home
from ringfence.coordinator.rounds import advance
from ringfence.core.errors import Refused
from ringfence.core.site_wire import Evaluate, Train
from ringfence.crossing.entries import Entry
from ringfence.gateway.witnessing import watch
from ringfence.opening import machine_clocks

HOUR_S = 3600.0


@contextlib.contextmanager
def _refuses(world: World, name: str) -> Iterator[None]:
    """What is done inside is refused for the clock, and that stands in the log once."""
    before = len(world.entries(name))
    with pytest.raises(Refused) as refused:
        yield
    said = refused.value
    assert (said.stage, said.reason, said.rules) == ("law", "clock", ("PLAT-CLOCK",))
    (entry,) = world.entries(name)[before:]
    _is_of_the_clock(entry)


def _is_of_the_clock(entry: Entry) -> None:
    assert entry.kind == "refusal"
    assert entry.refusal is not None
    assert (entry.refusal.stage, entry.refusal.reason) == ("law", "clock")
    assert entry.refusal.rules == ("PLAT-CLOCK",)
    assert "expected" in entry.refusal.detail


def _orders(world: World, name: str, kind: type) -> int:
    return sum(isinstance(order, kind) for order in world.place(name).script.orders)


# ── a gateway ──


@pytest.mark.parametrize("off_s", [-HOUR_S, HOUR_S])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_gateway_whose_clock_was_set_trains_and_sends_nothing_until_it_is_right(
    world: World, off_s: float, restarted: bool
) -> None:
    # given a region that has admitted its base
    cn = world.place("cn")
    cn.region.timekeeper.require()
    # when its clock is set, with or without a restart
    world.off_s["cn"] = off_s
    if restarted:
        cn = world.restart_place("cn")
    # then nothing is trained, nothing spent and nothing sent, and the refusal is recorded once
    with _refuses(world, "cn"):
        cn.turn()
    with pytest.raises(Refused):
        cn.turn()
    assert _orders(world, "cn", Train) == 0
    assert cn.grants() == []
    assert world.hub.inbox.submission(WORLD, 1, "cn") is None
    # and when it is right again, the round goes on as if nothing had been
    world.off_s["cn"] = 0
    world.run_to(WORLD, 1, "released")
    assert world.hub.inbox.submission(WORLD, 1, "cn") is not None
    verify_home(cn.home.path, judged=True)


def test_a_stored_update_waits_for_the_clock_and_goes_as_it_was(world: World) -> None:
    # given an update that is encoded and signed when the line is cut
    cn = world.place("cn")
    line, cn.line = cn.line, _Cut(cn.line)  # type: ignore[assignment]
    with pytest.raises(ConnectionError):
        cn.turn()
    cn.line = line
    stored = cn.gateway.journal.outbound(WORLD, 1)
    assert stored is not None
    assert stored.encoding is not None
    # when the clock is set back before the next attempt
    world.off_s["cn"] = -HOUR_S
    with _refuses(world, "cn"):
        cn.turn()
    # then the same payload goes once it is right, and nothing was trained twice
    world.off_s["cn"] = 0
    cn.turn()
    came = world.hub.inbox.submission(WORLD, 1, "cn")
    assert came is not None
    assert came.payload == stored.encoding.payload.digest
    assert _orders(world, "cn", Train) == 1


class _Cut:
    """A line that is cut when a statement is offered."""

    def __init__(self, line: object) -> None:
        self._line = line

    def __getattr__(self, name: str) -> object:
        return getattr(self._line, name)

    def offer(self, envelope: bytes) -> object:
        raise ConnectionError("cut")


def test_no_candidate_is_fetched_or_measured_under_a_wrong_clock(evaluating: World) -> None:
    # given a candidate that waits for a region
    de = evaluating.place("de")
    de.region.timekeeper.require()
    # when that region's clock is an hour ahead
    evaluating.off_s["de"] = HOUR_S
    with _refuses(evaluating, "de"):
        de.turn()
    # then nothing came in and nothing was measured
    assert de.line.downloads == []
    assert _orders(evaluating, "de", Evaluate) == 0
    # and it is when the clock is right
    evaluating.off_s["de"] = 0
    evaluating.run_to(WORLD, 1, "released")


def test_no_release_is_admitted_under_a_wrong_clock(released: World) -> None:
    # given a release, and a region whose machine starts again with a clock that was set back
    de = released.place("de")
    de.region.timekeeper.require()
    before = de.gateway.models.admitted(WORLD)
    released.boots["de"] = "second"
    released.off_s["de"] = -HOUR_S
    de = released.restart_place("de")
    # when it looks, then it admits nothing
    with _refuses(released, "de"):
        de.turn()
    assert de.gateway.models.admitted(WORLD) == before
    # and does once its clock is right
    released.off_s["de"] = 0
    released.run_to(WORLD, 2, "open", "collecting", "merging")
    now = de.gateway.models.admitted(WORLD)
    assert now is not None
    assert now.round == 1


@pytest.mark.parametrize("off_s", [-299.0, 299.0])
def test_a_federation_whose_clocks_differ_a_little_works(world: World, off_s: float) -> None:
    # given a region whose clock is off by less than five minutes, and papers that hold by it
    world.clock.now_s += 600
    world.off_s["us"] = off_s
    # when a round is run, then it is released
    world.run_to(WORLD, 1, "released")


def test_a_region_that_was_always_ahead_learns_it_from_the_others(world: World) -> None:
    # given a region whose clock was an hour ahead before it first looked at the hub
    world.off_s["us"] = HOUR_S
    us = world.place("us")
    us.region.timekeeper.require()
    _look(us)
    # when the two others have cosigned what came after that
    for name in ("cn", "de"):
        world.place(name).turn()
    world.hub.publication.publish()
    for name in ("cn", "de"):
        _look(world.place(name))
    # then it refuses before it trains
    with _refuses(world, "us"):
        us.turn()
    assert _orders(world, "us", Train) == 0
    # and goes on once its clock is right, although its own memory is of the wrong one
    world.off_s["us"] = 0
    world.run_to(WORLD, 1, "released")
    assert "clock" in [entry.kind for entry in world.entries("us")]
    verify_home(us.home.path, judged=True)


def _look(place: Place) -> None:
    """Look at the hub and cosign what it shows, and do no more."""
    asked_s = place.region.timekeeper.steady_s()
    watch(place.gateway, place.view(), place.line, asked_s=asked_s)


def test_one_region_whose_clock_is_wrong_stops_no_other(world: World) -> None:
    # given a region that cosigns with a clock that is an hour ahead, and is heard first
    world.off_s["cn"] = HOUR_S
    with contextlib.suppress(Refused):
        world.place("cn").turn()
    # when the others do what is due
    for name in ("de", "us"):
        assert world.place(name).turn()
    # then they, and the hub, go on
    assert world.hub.inbox.submission(WORLD, 1, "us") is not None
    assert world.hub.region.timekeeper.problem() == ""


# ── the hub ──


@pytest.mark.parametrize("off_s", [-HOUR_S, 24 * HOUR_S])
def test_a_hub_whose_clock_is_wrong_ends_no_round_and_hands_nothing_out(
    world: World, off_s: float
) -> None:
    # given a round to which one region has sent its update
    cn = world.place("cn")
    assert cn.turn()
    assert advance(world.hub, WORLD)
    # when the hub's clock is set, as if every deadline had passed or none
    world.off_s["hub"] = off_s
    before = len(world.entries())
    assert not advance(world.hub, WORLD)
    assert not advance(world.hub, WORLD)
    # then the round stands, and the refusal is recorded once
    (entry,) = world.entries()[before:]
    _is_of_the_clock(entry)
    now = world.hub.journal.current_round(WORLD)
    assert now is not None
    assert now.state == "collecting"
    # and what others offer is refused, and is theirs to offer again
    with pytest.raises(Refused, match="clock"):
        world.place("de").turn()
    world.off_s["hub"] = 0
    world.run_to(WORLD, 1, "released")
    verify_home(world.homes["hub"].path, judged=True)


def test_a_hub_that_is_behind_learns_it_from_those_who_cosign(world: World) -> None:
    # given a hub whose clock was behind when its log was last published
    world.off_s["hub"] = -HOUR_S
    world.boots["hub"] = "another"
    world.homes["hub"].clock.unlink(missing_ok=True)
    world.restart_hub()
    world.hub.publication.publish()
    # when the regions cosign
    for name in ("cn", "de", "us"):
        with contextlib.suppress(Refused):
            world.place(name).turn()
    # then it refuses every step
    before = world.hub.journal.current_round(WORLD)
    assert not advance(world.hub, WORLD)
    assert world.hub.journal.current_round(WORLD) == before
    assert world.hub.region.timekeeper.problem()
    # until it is right
    world.off_s["hub"] = 0
    world.run_to(WORLD, 1, "released")


# ── what a person sees ──


def test_the_status_says_what_is_wrong_and_a_person_can_accept(world: World) -> None:
    # given a region that acted while this machine's clock was a year ahead
    cn = world.place("cn")
    clocks = machine_clocks()
    world.boots["cn"] = clocks.boot
    cn = world.restart_place("cn")
    world.off_s["cn"] = 365 * 24 * HOUR_S
    cn.home.clock.unlink(missing_ok=True)
    cn = world.restart_place("cn")
    cn.region.timekeeper.require()
    # when its status is asked for
    shown = call("status", "--home", cn.home.path, "--json").json
    # then it says what is wrong
    assert "moved back" in shown["clock"] or "jumped forward" in shown["clock"]
    assert shown["clock_acted"]
    assert call("clock", "--home", cn.home.path).status == 1
    # and once a person has accepted the clock, that it is right
    accepted = call("clock", "--accept", "--home", cn.home.path, "--json")
    assert (accepted.status, accepted.json["clock"]) == (0, "right")
    assert call("status", "--home", cn.home.path, "--json").json["clock"] == "right"
