"""Measurements that the agreement does not let cross: metrics leak, so they are a closed set."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from tests.border.border_world import BorderOf
from tests.places.forging import digests_of, measurement, sealed
from tests.places.founding import digest_of
from tests.places.world import WORLD, World, refused, to_evaluating

from ringfence.coordinator.rounds import advance
from ringfence.core.artifacts import Input, payload_of


@pytest.fixture
def world(evaluating: World) -> World:
    """A world whose first candidate waits to be measured."""
    return evaluating


@pytest.fixture(scope="module")
def shared(shared: BorderOf) -> BorderOf:
    """The same for attacks that change nothing."""
    to_evaluating(shared.world)
    return shared


def test_an_honest_measurement_gets_its_receipt(border: BorderOf) -> None:
    # given nothing but truth
    told = measurement(border.world, "cn", accuracy=50.1)
    # when it is offered
    with border.line() as line:
        reply = line.offer(sealed(border.world, told))
    # then it is received: what the attacks below lack is the attack alone
    assert reply.receipt


@pytest.mark.parametrize(
    ("reason", "metrics"),
    [
        ("unknown-metric", {"accuracy": 50.0, "faces_seen": 12.0}),
        ("unknown-metric", {"accuracy": 50.0, "x" * 100_000: 1.0}),
        ("metric-out-of-range", {"accuracy": 100.1}),
        ("metric-out-of-range", {"accuracy": -0.1}),
        ("metric-out-of-range", {"accuracy": 1e300}),
        ("metric-too-fine", {"accuracy": 50.05}),
        ("metric-too-fine", {"accuracy": 50.123456789}),
    ],
    ids=["unknown", "a long name", "above", "below", "far above", "half a step", "many digits"],
)
def test_refuses_a_metric_that_is_not_as_agreed(
    shared: BorderOf, reason: str, metrics: dict[str, float]
) -> None:
    # given such a measurement of the candidate
    told = measurement(shared.world, "cn", accuracy=50.0)
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, reason, at="metrics"):
        line.offer(sealed(shared.world, told, metrics=metrics))
    # and its record is short, however long the name was
    assert len(shared.world.entries()[-1].to_bytes()) < 500_000


def test_refuses_a_measurement_of_too_few(shared: BorderOf) -> None:
    # given an accuracy over one example less than the agreed cohort
    told = measurement(shared.world, "cn", accuracy=50.0)
    # when it is offered, then the rule is named
    with (
        shared.line() as line,
        refused(shared.world, "cohort-too-small", at="metrics", rules=("PLAT-COHORT",)),
    ):
        line.offer(sealed(shared.world, told, examples=49))


def test_refuses_a_measurement_that_leaves_the_gate_without_its_metric(
    shared: BorderOf,
) -> None:
    # given an agreed metric, but not the one that the gate decides by
    told = measurement(shared.world, "cn", loss=0.5)
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, "incomplete", at="intake"):
        line.offer(sealed(shared.world, told))


def test_refuses_a_measurement_of_nothing(shared: BorderOf) -> None:
    # given no metric at all
    told = measurement(shared.world, "cn")
    # when it is offered, then it is refused
    with shared.line() as line, refused(shared.world, "incomplete", at="intake"):
        line.offer(sealed(shared.world, told))


def test_refuses_a_payload_beside_a_measurement(shared: BorderOf) -> None:
    # given a measurement that announces bytes
    told = measurement(shared.world, "cn", accuracy=50.0)
    payload = payload_of(digests_of(b"raw pictures"))
    # when it is offered, then it is refused: no receipt says that they came
    with shared.line() as line, refused(shared.world, "wrong-codec", at="intake"):
        line.offer(sealed(shared.world, told, payload=payload, codec="float32"))


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("wrong-model", {"parent": digest_of("another model")}),
        ("wrong-round", {"round": 2}),
        ("wrong-recipient", {"recipient": "de"}),
        ("wrong-lineage", {"lineage": "moon-market"}),
        ("tags-missing", {"jurisdictions": ("CN",)}),
        ("tags-missing", {"jurisdictions": ()}),
    ],
)
def test_refuses_a_measurement_of_something_else(
    shared: BorderOf, reason: str, changes: dict[str, Any]
) -> None:
    # given a measurement that is right but for one field
    told = measurement(shared.world, "cn", accuracy=50.0)
    # when it is offered, then the hub says which
    with shared.line() as line, refused(shared.world, reason, at="intake"):
        line.offer(sealed(shared.world, told, **changes))


def test_refuses_a_measurement_by_an_outsider(shared: BorderOf) -> None:
    # given China's measurement of a candidate of a lineage that it gets nothing of
    told = measurement(shared.world, "cn", accuracy=50.0)
    outside = replace(told, lineage="us-market", jurisdictions=("CN", "EU", "US"))
    # when it is offered, then it does not even learn which round it is
    with shared.line() as line, refused(shared.world, "not-a-recipient", at="intake"):
        line.offer(sealed(shared.world, outside, round=77))


def test_a_second_measurement_is_equivocation(border: BorderOf) -> None:
    # given one measurement received
    told = measurement(border.world, "cn", accuracy=50.0)
    with border.line() as line:
        line.offer(sealed(border.world, told))
        # when a better one comes, then it is refused
        better = replace(told, metrics={"accuracy": 99.0})
        with refused(border.world, "equivocation", at="intake"):
            line.offer(sealed(border.world, better))


def test_a_replayed_measurement_gets_the_original_receipt(border: BorderOf) -> None:
    # given one measurement received
    envelope = sealed(border.world, measurement(border.world, "cn", accuracy=50.0))
    with border.line() as line:
        first = line.offer(envelope)
        before, recorded = border.world.remembered(), len(border.world.entries())
        # when it comes again
        again = line.offer(envelope)
    # then the first receipt comes back, and nothing is recorded or changed
    assert again == first
    assert (border.world.remembered(), len(border.world.entries())) == (before, recorded)


def test_a_late_measurement_is_refused(border: BorderOf) -> None:
    # given a candidate that nobody measured in time
    world = border.world
    told = measurement(world, "cn", accuracy=50.0)
    world.clock.now_s += 601
    assert advance(world.hub, WORLD)
    # when the measurement comes, then it is late
    with border.line() as line, refused(world, "late", at="intake"):
        line.offer(sealed(world, told))


def test_what_nobody_declares_does_not_widen_a_statement(border: BorderOf) -> None:
    # given a measurement that names more inputs than there are
    told = measurement(border.world, "cn", accuracy=50.0)
    inputs = tuple(Input(role="update", digest=digest_of(str(i))) for i in range(3))
    # when it is offered
    with border.line() as line:
        reply = line.offer(sealed(border.world, told, inputs=(*told.inputs, *inputs)))
    # then it is taken as it was signed: inputs are the sender's word, digests of what it used
    assert reply.receipt
