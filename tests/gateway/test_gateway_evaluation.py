"""A region's measurement of a candidate: what may cross of it, and what a cut leaves of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.lying import Lying
from tests.places.world import WORLD, Place, World, refused

from ringfence.core.errors import BorderDownError
from ringfence.core.site_wire import Evaluate
from ringfence.crossing.statements import open_own
from ringfence.gateway.evaluation import report_candidate
from ringfence.gateway.inbound import take_candidate
from ringfence.gateway.models import HeldModel


def _held(evaluating: World) -> tuple[Place, HeldModel]:
    """A region that holds the first candidate and has not measured it."""
    place = evaluating.place("de")
    return place, take_candidate(place.gateway, place.view(), place.line)


def _measured(place: Place) -> int:
    return sum(isinstance(order, Evaluate) for order in place.script.orders)


@pytest.mark.parametrize(
    ("reason", "stage", "changes"),
    [
        ("metric-out-of-range", "metrics", {"evaluated": {"accuracy": 100.1}}),
        ("metric-out-of-range", "metrics", {"evaluated": {"accuracy": -1.0}}),
        ("cohort-too-small", "metrics", {"evaluated_examples": 49}),
        ("cohort-too-small", "metrics", {"evaluated_examples": 0}),
        ("gate-metric-missing", "evaluation", {"evaluated": {}}),
        ("gate-metric-missing", "evaluation", {"evaluated": {"loss": 0.5}}),
    ],
)
def test_refuses_a_measurement_that_may_not_cross(
    evaluating: World, reason: str, stage: str, changes: dict[str, Any]
) -> None:
    # given a site that measures out of range, over too few, or something else
    de, candidate = _held(evaluating)
    for name, value in changes.items():
        setattr(de.script, name, value)
    before = evaluating.remembered()
    # when the gateway reports
    with refused(
        evaluating, reason, at=stage, by="de", counterparty="hub", may_change=("gateway_reported",)
    ):
        report_candidate(de.gateway, candidate, de.line)
    # then the hub has heard nothing
    assert evaluating.remembered() == before


def test_only_the_number_that_the_gate_asks_for_crosses(evaluating: World) -> None:
    # given a site that measures more, and more finely, than was agreed
    de, candidate = _held(evaluating)
    de.script.evaluated = {"accuracy": 51.23456, "loss": 0.123, "faces_seen": 12.0}
    # when the gateway reports
    report_candidate(de.gateway, candidate, de.line)
    # then one rounded number has crossed
    report = de.gateway.models.reported(WORLD, 1)
    assert report is not None
    assert open_own(de.region, report.envelope).metrics == {"accuracy": 51.2}


def test_a_measurement_that_was_signed_is_not_made_again(evaluating: World) -> None:
    # given a measurement whose offer was cut
    de, candidate = _held(evaluating)

    def cut(envelope: bytes) -> Any:
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        report_candidate(de.gateway, candidate, Lying(de.line, offer=cut))
    signed = de.gateway.models.reported(WORLD, 1)
    de.script.evaluated = {"accuracy": 99.0}
    # when the line holds again
    report_candidate(de.gateway, candidate, de.line)
    # then what was signed first has crossed
    report = de.gateway.models.reported(WORLD, 1)
    assert report is not None
    assert signed is not None
    assert (report.envelope, report.closed) == (signed.envelope, True)
    assert _measured(de) == 1


def test_a_measurement_whose_verdict_ran_out_is_decided_anew(evaluating: World) -> None:
    # given a measurement that was signed ten minutes ago, and never arrived
    de, candidate = _held(evaluating)

    def cut(envelope: bytes) -> Any:
        raise BorderDownError("the line was cut")

    with pytest.raises(BorderDownError):
        report_candidate(de.gateway, candidate, Lying(de.line, offer=cut))
    first = de.gateway.models.reported(WORLD, 1)
    evaluating.clock.now_s += 599
    # when the line holds again
    report_candidate(de.gateway, candidate, de.line)
    # then the same number crossed under a new verdict, and the site was asked once
    report = de.gateway.models.reported(WORLD, 1)
    assert report is not None
    assert first is not None
    assert report.envelope != first.envelope
    metrics = [open_own(de.region, each.envelope).metrics for each in (first, report)]
    assert metrics[0] == metrics[1]
    assert _measured(de) == 1
