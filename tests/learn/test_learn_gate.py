"""The release gate: held unless every region is known, keeps what it had, and has enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.core.ids import RegionId
from ringfence.core.terms import Gate
from ringfence.learn import Held, Passed, judge

GATE = Gate(metric="accuracy", most_loss=1.0, worst_at_least=80.0)
BE, CN, US = RegionId("be"), RegionId("cn"), RegionId("us")


def test_passes_and_names_the_region_served_worst() -> None:
    decision = judge(GATE, before={BE: 91.0, CN: 40.0}, after={BE: 90.0, CN: 80.0})

    assert decision == Passed(worst_region=CN, worst=80.0)


@pytest.mark.parametrize(
    ("before", "after", "reason", "region"),
    [
        ({BE: 91.0}, {BE: 89.9}, "region-loses", BE),
        ({BE: 91.0, CN: 40.0}, {BE: 92.0, CN: 79.9}, "region-too-low", CN),
        ({BE: 91.0, CN: 90.0}, {BE: 92.0}, "evaluation-missing", CN),
        ({BE: 91.0}, {BE: 92.0, US: 92.0}, "evaluation-missing", US),
        ({}, {}, "evaluation-missing", ""),
        ({BE: 91.0}, {BE: float("nan")}, "evaluation-invalid", BE),
        ({BE: float("inf")}, {BE: 99.0}, "evaluation-invalid", BE),
        ({CN: 99.0, BE: 99.0}, {CN: 10.0, BE: 10.0}, "region-loses", BE),
    ],
)
def test_holds_a_candidate(
    before: dict[RegionId, float], after: dict[RegionId, float], reason: str, region: str
) -> None:
    decision = judge(GATE, before=before, after=after)

    assert isinstance(decision, Held)
    assert (decision.reason, decision.region) == (reason, region)
    assert decision.detail


@given(
    st.dictionaries(
        st.sampled_from([BE, CN, US]), st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1
    ),
    st.floats(0, 20),
    st.floats(0, 100),
)
def test_passes_exactly_when_every_region_does(
    points: dict[RegionId, tuple[float, float]], most_loss: float, worst_at_least: float
) -> None:
    # given any evaluations and gate
    gate = Gate(metric="accuracy", most_loss=most_loss, worst_at_least=worst_at_least)

    # when they are judged
    decision = judge(
        gate,
        before={region: pair[0] for region, pair in points.items()},
        after={region: pair[1] for region, pair in points.items()},
    )

    # then it passes exactly when each region keeps enough and has enough
    good = all(b - a <= most_loss and a >= worst_at_least for b, a in points.values())
    assert isinstance(decision, Passed) == good
