"""Merging: the weighted mean of a slow oracle, the same bits in any order of arrival."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.tensor_world import layout_of, model_of, normal

from ringfence.core.ids import RegionId
from ringfence.core.tensors import (
    SEGMENT_VALUES,
    Layout,
    Segment,
    Source,
    Vector,
    segments,
)
from ringfence.learn import Contribution, weighted_mean, weights

LAYOUT = layout_of((3, 5), (SEGMENT_VALUES + 7,), ())
REGIONS = ("be", "cn", "de", "us")


def contribution(region: str, examples: int, update_P: Vector) -> Contribution:
    def add(segment: Segment, weight: np.float32, total_P: Vector) -> None:
        total_P += update_P[segment.first : segment.first + segment.elements] * weight

    return Contribution(region=RegionId(region), examples=examples, add=add)


def flat(source: Source, layout: Layout = LAYOUT) -> Vector:
    """Everything that a source gives, last segment first."""
    flat_P = np.full(layout.elements, np.nan, np.float32)
    for segment in reversed(list(segments(layout))):
        source(segment, flat_P[segment.first : segment.first + segment.elements])
    return flat_P


@given(
    st.dictionaries(st.sampled_from(REGIONS), st.integers(1, 10**9), min_size=1),
    st.integers(0, 1000),
)
def test_the_mean_is_that_of_a_slow_oracle(examples: Mapping[str, int], seed: int) -> None:
    # given regions of any sizes
    layout = layout_of((50,))
    updates = {region: normal(seed + k, 50) for k, region in enumerate(examples)}

    # when they are merged
    mean_P = flat(
        weighted_mean([contribution(r, n, updates[r]) for r, n in examples.items()]), layout
    )

    # then the mean is that of float64, within float32's rounding
    total = sum(examples.values())
    terms = [updates[r].astype(np.float64) * (n / total) for r, n in examples.items()]
    np.testing.assert_allclose(mean_P, sum(terms), atol=1e-6 * max(abs(t).max() for t in terms))


@given(st.permutations(REGIONS))
def test_the_order_of_arrival_changes_no_bit(order: list[str]) -> None:
    # given the same contributions in another order
    by_region = {
        region: contribution(region, 100 + 37 * k, normal(k, LAYOUT.elements))
        for k, region in enumerate(REGIONS)
    }

    # when they are merged
    mean_P = flat(weighted_mean([by_region[region] for region in order]))

    # then every bit is the same
    reference_P = flat(weighted_mean([by_region[region] for region in REGIONS]))
    assert mean_P.tobytes() == reference_P.tobytes()


def test_weights_are_shares_of_the_examples() -> None:
    nothing = np.zeros(1, np.float32)

    shares = weights([contribution("be", 1, nothing), contribution("cn", 3, nothing)])

    assert shares == (np.float32(0.25), np.float32(0.75))
    assert all(share.dtype == np.float32 for share in shares)


def test_one_full_batch_step_equals_pooled_gradient_descent() -> None:
    # given least squares on four silos of different sizes, all at the same model
    rng = np.random.default_rng(5)
    model_P = rng.standard_normal(20)
    sizes = dict(zip(REGIONS, (10, 40, 25, 125), strict=True))
    data = {r: (rng.standard_normal((n, 20)), rng.standard_normal(n)) for r, n in sizes.items()}
    lr = 0.1

    def step(inputs_NP: np.ndarray, targets_N: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return -lr * inputs_NP.T @ (inputs_NP @ model_P - targets_N) / len(targets_N)

    # when each takes one full-batch step and the steps are merged
    mean_P = flat(
        weighted_mean(
            [contribution(r, n, step(*data[r]).astype(np.float32)) for r, n in sizes.items()]
        ),
        layout_of((20,)),
    )

    # then it is one step on the pooled data
    pooled_P = step(
        np.concatenate([data[r][0] for r in REGIONS]), np.concatenate([data[r][1] for r in REGIONS])
    )
    np.testing.assert_allclose(mean_P, pooled_P, rtol=0, atol=1e-6)


def test_memory_does_not_grow_with_the_regions() -> None:
    # given models in files, for two regions and for twelve
    layout = layout_of((1_000_000,))
    file = model_of(layout, np.zeros(layout.elements, np.float32))

    def add(segment: Segment, weight: np.float32, total_P: Vector) -> None:
        values_P = np.empty(segment.elements, np.float32)
        file.read_segment(segment, values_P)
        total_P += values_P * weight

    def peak(regions: int) -> int:
        mean = weighted_mean(
            [Contribution(region=RegionId(f"r{k}"), examples=1, add=add) for k in range(regions)]
        )
        buffer_P = np.empty(SEGMENT_VALUES, np.float32)
        tracemalloc.start()
        try:
            for segment in segments(layout):
                mean(segment, buffer_P[: segment.elements])
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # when they are merged, then the peak is the same
    assert peak(12) < peak(2) + 10_000


def test_refuses_to_merge_nothing_or_a_region_twice() -> None:
    one = contribution("be", 1, np.zeros(1, np.float32))

    for contributions in ([], [one, one]):
        with pytest.raises(ValueError, match="one contribution a region"):
            weighted_mean(contributions)
    with pytest.raises(ValueError, match="at least 1 example"):
        contribution("be", 0, np.zeros(1, np.float32))
