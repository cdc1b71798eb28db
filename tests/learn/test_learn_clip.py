"""Clipping: the norm of a slow oracle, and never an update longer than the bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.tensor_world import layout_of, model_of, normal

from ringfence.core.errors import NotFiniteError
from ringfence.core.tensors import SEGMENT_VALUES
from ringfence.learn import clip_factor, measure_norm

ODD = layout_of((3, 5), (), (2 * SEGMENT_VALUES + 1023,), (1024,), (1025,))


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e15, 1e30])
def test_the_norm_is_that_of_a_slow_oracle(scale: float) -> None:
    # given an update, also one whose squares overflow in float32
    update_P = normal(1, ODD.elements, scale)

    # when it is measured
    norm_l2 = measure_norm(model_of(ODD, update_P), ODD)

    # then it is the norm in float64
    assert norm_l2 == pytest.approx(np.linalg.norm(update_P.astype(np.float64)), rel=4e-6)


def test_the_norm_of_one_huge_value_among_small_ones_is_right() -> None:
    update_P = normal(2, ODD.elements)
    update_P[100] = 3e38

    assert measure_norm(model_of(ODD, update_P), ODD) == pytest.approx(3e38, rel=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("flat", "name"), [(0, "t0"), (15, "t1"), (16 + SEGMENT_VALUES, "t2")])
def test_names_the_tensor_that_is_not_finite(wrong: float, flat: int, name: str) -> None:
    # given one bad value
    update_P = normal(3, ODD.elements)
    update_P[flat] = wrong

    # when it is measured, then the tensor is named, and the value is not
    with pytest.raises(NotFiniteError, match=f"tensor {name}: ") as fault:
        measure_norm(model_of(ODD, update_P), ODD)
    assert "-inf" not in str(fault.value)


@given(
    st.floats(1e-9, 1e30),
    st.integers(1, 3000),
    st.integers(0, 1000),
    st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_clipping_never_lengthens_and_ends_within_the_bound(
    bound_l2: float, elements: int, seed: int, scale: float
) -> None:
    # given any update and bound
    layout = layout_of((elements,))
    update_P = normal(seed, elements, scale)
    true_l2 = float(np.linalg.norm(update_P.astype(np.float64)))

    # when the factor is applied
    factor = clip_factor(measure_norm(model_of(layout, update_P), layout), bound_l2=bound_l2)
    clipped_P = update_P.astype(np.float64) * factor

    # then the update is no longer than it was, nor than the bound, nor much shorter
    assert 0 <= factor <= 1
    assert np.float32(factor) == factor
    clipped_l2 = float(np.linalg.norm(clipped_P))
    assert clipped_l2 <= bound_l2
    assert clipped_l2 >= min(true_l2, bound_l2) * (1 - 1e-5)


def test_an_update_within_the_bound_is_left_alone() -> None:
    assert clip_factor(0.0, bound_l2=1.0) == 1.0
    assert clip_factor(0.9999, bound_l2=1.0) == 1.0


@pytest.mark.parametrize("bound_l2", [0.0, -1.0, 1e-10, float("inf"), float("nan")])
def test_refuses_a_bound_that_bounds_nothing(bound_l2: float) -> None:
    with pytest.raises(ValueError, match="clip bound"):
        clip_factor(1.0, bound_l2=bound_l2)
