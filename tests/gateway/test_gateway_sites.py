"""What a gateway takes from its site, which it trusts with its data and with nothing else."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace
from tests.places.founding import EXAMPLES, Founded, digest_of
from tests.places.world import US_MARKET, WORLD, Place, World, opened, refused

from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import PayloadFile
from ringfence.core.errors import Error
from ringfence.core.site_wire import Evaluated, FromSite, Hello, Rejected, Submit, Train
from ringfence.core.tensors import Segment
from ringfence.core.terms import Codecs, Terms
from ringfence.gateway.outbound import SiteLeftError
from ringfence.gateway.snapshots import take_snapshot
from ringfence.gateway.witnessing import watch

JOURNAL = ("gateway_grants", "gateway_outbound")
"""What keeps that the round is closed for this region and its grant spent."""


@pytest.fixture
def us(world: World) -> Iterator[Place]:
    """A gateway that stands on the first model; afterwards the hub must have heard nothing."""
    us = world.place("us")
    watch(us.gateway, us.view(WORLD), us.line)
    take_snapshot(us.gateway, us.view(WORLD), us.line)
    heard = world.remembered()
    yield us
    assert world.remembered() == heard
    assert us.line.uploads == []


def _turn_is_refused(
    world: World, reason: str, *, at: str = "check", lineage: Any = WORLD, **how: Any
) -> Any:
    return refused(world, reason, at=at, by="us", counterparty="hub", may_change=JOURNAL, **how)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_an_update_that_is_not_finite(world: World, us: Place, value: float) -> None:
    # given training that diverged in one parameter
    us.script.update = us.script.update.copy()
    us.script.update[-1] = value
    # when the site hands its update over
    with _turn_is_refused(world, "not-finite") as caught:
        us.turn(WORLD)
    # then the tensor is named, the site told, and the grant spent: the data was looked at
    assert "head.bias" in caught.value.detail
    told = us.script.answers.get(timeout=10)
    assert isinstance(told, Rejected)
    assert told.reason == "not-finite"
    assert us.grants()[-1] == "spent"


def test_an_update_too_large_for_the_codec_is_refused(founded: Founded, tmp_path: Path) -> None:
    # given an agreement with int8, whose scales end at 2^127, and a finite number above it
    def int8(terms: Terms) -> Terms:
        return replace(terms, codecs=Codecs(updates="int8", releases="int8"))

    template = founded.agree(tmp_path / "template", int8)
    with opened(template, tmp_path / "federation") as world:
        us = world.place("us")
        us.script.update = us.script.update.copy()
        us.script.update[0] = 3e38
        # when the site hands its update over, then it is refused like one that is not finite
        with pytest.raises(Error) as caught:
            us.turn(WORLD)
        assert getattr(caught.value, "reason", "") == "not-finite"
        assert us.grants() == ["spent"]


@pytest.mark.parametrize("elements", [0, 1, 26, 28, 3000], ids=lambda count: f"{count} values")
def test_refuses_an_update_of_another_size(world: World, us: Place, elements: int) -> None:
    # given a site that hands over other bytes than the agreed tensors: pictures, for example
    us.script.update = np.zeros(elements, np.float32)
    # when it does, then they are refused as what they may be
    with _turn_is_refused(world, "update-wrong-size", at="take", rules=("PLAT-RAW",)):
        us.turn(WORLD)
    assert us.grants()[-1] == "spent"


@pytest.mark.parametrize(
    "seals",
    [
        fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL,
        fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
        fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK,
        0,
    ],
    ids=["may grow", "may shrink", "not sealed up", "no seal"],
)
def test_refuses_memory_that_the_site_can_still_resize(world: World, us: Place, seals: int) -> None:
    # given memory without one of the seals
    us.script.seals = seals
    # when the site hands it over, then not a byte of it is read
    with _turn_is_refused(world, "update-not-sealed", at="take"):
        us.turn(WORLD)


@pytest.mark.parametrize("values", [[1e30], [0.5, -0.5], [np.nan]], ids=str)
def test_refuses_what_the_site_changed_after_handing_it_over(
    world: World, us: Place, values: list[float]
) -> None:
    # given a site that writes to its memory between the two looks of the gateway
    kept = us.script.kept = []

    def meanwhile(count: int) -> bytes:
        os.pwrite(kept[0], np.asarray(values, np.float32).tobytes(), 0)
        return bytes(count)

    us.gateway = dataclasses.replace(us.gateway, random_bytes=meanwhile)
    # when the gateway encodes what it has checked
    # then it sees that these are not the same numbers
    reason = "update-changed" if np.isfinite(values).all() else "not-finite"
    with _turn_is_refused(world, reason):
        us.turn(WORLD)
    assert us.grants()[-1] == "spent"
    os.close(kept[0])


@pytest.mark.parametrize("examples", [0, EXAMPLES + 1, 10**12])
def test_refuses_more_examples_than_there_are(world: World, us: Place, examples: int) -> None:
    # given a site that counts for more than its catalogue holds, or for nothing
    us.script.examples = examples
    # when it hands its update over, then it is refused
    with _turn_is_refused(world, "examples"):
        us.turn(WORLD)


@pytest.mark.parametrize(
    ("reason", "metrics"),
    [
        ("unknown-metric", {"face_of_example_7": 0.5}),
        ("metric-out-of-range", {"accuracy": 100.5}),
        ("metric-out-of-range", {"accuracy": -1.0}),
        ("metric-out-of-range", {"loss": 1e300}),
    ],
)
def test_refuses_metrics_that_were_not_agreed(
    world: World, us: Place, reason: str, metrics: dict[str, float]
) -> None:
    # given a site that tells more than the agreement lets it
    us.script.metrics = metrics
    # when it hands its update over, then it is refused
    with _turn_is_refused(world, reason, at="metrics"):
        us.turn(WORLD)


def test_rounds_what_a_site_measures_too_finely(world: World) -> None:
    # given a loss with more digits than were agreed
    us = world.place("us")
    us.script.metrics = {"loss": 0.123456789}
    # when the update crosses
    us.turn(WORLD)
    # then they have not crossed with it
    stored = us.gateway.journal.outbound(WORLD, 1)
    assert stored is not None
    assert stored.encoding is not None
    assert stored.encoding.metrics == {"loss": 0.12}


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 0},
        {"round": 2},
        {"lineage": "us-market"},
        {"base": digest_of("another model")},
    ],
    ids=["the round before", "the next round", "another lineage", "another base"],
)
def test_refuses_an_update_of_another_round(
    world: World, us: Place, changes: dict[str, Any]
) -> None:
    # given a site that answers something else than it was asked
    us.script.submit = lambda message: msgspec.structs.replace(message, **changes)
    # when it does, then it is refused
    with _turn_is_refused(world, "update-of-another-round", at="take"):
        us.turn(WORLD)


# ── regional state ──


def _from(state: str) -> Callable[[Submit], Submit]:
    return lambda message: replace(message, state_in=state)


def test_refuses_regional_state_that_nobody_has_seen(world: World, us: Place) -> None:
    # given a site that started from state of unknown descent
    us.script.submit = _from(digest_of("state from a disk"))
    # when it hands its update over, then it is refused
    with _turn_is_refused(world, "unknown-state"):
        us.turn(WORLD)


def test_refuses_world_state_for_american_roads(world: World) -> None:
    # given regional state that trained in `world` on a release with China in it
    world.run_to(WORLD, 2, "collecting", "merging")
    us = world.place("us")
    tainted = us.gateway.newest_state(WORLD)
    assert us.gateway.journal.closure(tainted) == {"CN", "EU", "US"}
    us.script.submit = _from(tainted)
    take_snapshot(us.gateway, us.view(US_MARKET), us.line)
    before = world.remembered()
    # when the site uses it for the American market, then the law says no, by name
    with refused(
        world,
        "law",
        at="law",
        by="us",
        counterparty="hub",
        rules=("US-ICTS-791.303",),
        may_change=JOURNAL,
    ):
        us.turn(US_MARKET)
    # and the hub has not heard of it
    assert world.remembered() == before
    assert us.grants()[-1] == "spent"


def test_a_branch_starts_from_the_newest_state_that_it_may_hold(world: World) -> None:
    # given state of `world` from before and after China's first release
    us = world.place("us")
    us.turn(WORLD)
    clean = us.gateway.newest_state(WORLD)
    world.run_to(WORLD, 2, "collecting", "merging")
    # when the American market begins
    us.turn(US_MARKET)
    # then its site is told to start from the one without China
    asked = [order for order in us.script.orders if isinstance(order, Train)]
    assert asked[-1].lineage == US_MARKET
    assert asked[-1].state_in == clean
    assert us.gateway.newest_state(WORLD) != clean


def test_state_is_kept_by_lineage(world: World) -> None:
    # given a region that trains in both lineages
    us = world.place("us")
    us.turn(WORLD)
    us.turn(US_MARKET)
    # when the newest state of each is looked for
    states = {lineage: us.gateway.newest_state(lineage) for lineage in (WORLD, US_MARKET)}
    # then each has its own
    assert states[WORLD] != states[US_MARKET]
    assert us.gateway.journal.closure(states[US_MARKET]) == {"US"}


# ── sites that break the protocol ──


def _evaluation(message: Submit) -> FromSite:
    return Evaluated(
        lineage=message.lineage,
        round=message.round,
        candidate=message.base,
        examples=1,
        metrics={},
    )


def _greeting(message: Submit) -> FromSite:
    return Hello(code=digest_of("script"), script="train.py", evaluates=True)


@pytest.mark.parametrize("answer", [_evaluation, _greeting], ids=["evaluation", "greeting"])
def test_a_site_that_breaks_the_protocol_makes_room_for_the_next(
    world: World, answer: Callable[[Submit], FromSite]
) -> None:
    # given a site that answers another question
    us = world.place("us")
    us.script.submit = answer
    with pytest.raises(SiteLeftError):
        us.turn(WORLD)
    # when another comes
    us.script.submit = lambda message: message
    us.turn(WORLD)
    # then the round goes on, under one grant
    assert us.view(WORLD).submitted
    assert us.grants() == ["debited"]


# ── clipping ──


def test_what_crosses_is_within_the_agreed_bound(world: World) -> None:
    # given an update a thousand times as long as was agreed
    us = world.place("us")
    us.script.update = us.script.update * np.float32(1e5)
    # when it crosses
    us.turn(WORLD)
    # then it has the agreed length (and float32's margin below it), in the same direction
    stored = us.gateway.journal.outbound(WORLD, 1)
    assert stored is not None
    assert stored.encoding is not None
    form = PayloadFormat(codec="float32", layout=world.agreement.update_layout)
    sent = np.zeros(form.layout.elements, np.float32)
    path = us.gateway.spool.payload(stored.encoding.payload.digest)
    with PayloadFile(form, path) as payload:
        for tensor, spec in enumerate(form.layout.specs):
            first = form.layout.starts[tensor]
            segment = Segment(tensor=tensor, start=0, first=first, elements=spec.elements)
            part = sent[first : first + spec.elements]
            payload.add(segment, np.float32(1), part)
    assert 99.99 < np.linalg.norm(sent.astype(np.float64)) <= 100.0
    cosine = sent @ us.script.update / (np.linalg.norm(sent) * np.linalg.norm(us.script.update))
    assert cosine == pytest.approx(1.0, abs=1e-6)
