"""The outer optimiser, against traces computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.core.tensor_world import content_of, layout_of, memory_file, model_of, normal, source_of

from ringfence.core.errors import LayoutError
from ringfence.core.tensorfile import TensorFile, open_tensorfile
from ringfence.core.tensors import SEGMENT_VALUES, Layout, Vector, segments
from ringfence.core.terms import Outer
from ringfence.learn import Momentum, keeps_momentum, outer_step

ONE = layout_of((1,))
NESTEROV = Outer(optimizer="nesterov", lr=0.5, momentum=0.5)


def take(
    mean_P: Vector, outer: Outer, old: TensorFile | None, layout: Layout
) -> tuple[Vector, TensorFile]:
    """One step: its values, and the momentum file that it wrote."""
    fd = memory_file()
    momentum = Momentum(old=old, new_fd=fd)
    step = outer_step(source_of(mean_P), layout, outer, momentum=momentum)
    step_P = np.empty(layout.elements, np.float32)
    for segment in segments(layout):
        step(segment, step_P[segment.first : segment.first + segment.elements])
    return step_P, open_tensorfile(fd)


@pytest.mark.parametrize(
    ("outer", "steps", "momenta"),
    [
        # m: 1, .5·1+2 = 2.5, .5·2.5-1 = .25; steps: .5(1+.5), .5(2+1.25), .5(-1+.125)
        (NESTEROV, [0.75, 1.625, -0.4375], [1.0, 2.5, 0.25]),
        # the same m; steps: .5·m
        (Outer(lr=0.5, momentum=0.5), [0.5, 1.25, 0.125], [1.0, 2.5, 0.25]),
    ],
    ids=["nesterov", "sgd with momentum"],
)
def test_three_steps_follow_the_trace_by_hand(
    outer: Outer, steps: list[float], momenta: list[float]
) -> None:
    # given mean updates of 1, 2 and -1
    old = None
    for mean, step, momentum in zip([1.0, 2.0, -1.0], steps, momenta, strict=True):
        # when each is taken on the momentum that the one before left
        step_P, old = take(np.float32([mean]), outer, old, ONE)

        # then step and momentum are those computed by hand
        values_P = np.empty(1, np.float32)
        old.read_into(0, values_P)
        assert (step_P[0], values_P[0]) == (step, momentum)


@pytest.mark.parametrize("lr", [1.0, 0.25])
def test_plain_sgd_scales_the_mean(lr: float) -> None:
    layout = layout_of((5,))
    mean_P = normal(1, 5)
    step_P = np.empty(5, np.float32)

    step = outer_step(source_of(mean_P), layout, Outer(lr=lr), momentum=None)
    step(next(segments(layout)), step_P)

    np.testing.assert_array_equal(step_P, mean_P * np.float32(lr))


def test_a_restart_repeats_step_and_momentum_bit_for_bit() -> None:
    # given a momentum and a mean over several segments
    layout = layout_of((SEGMENT_VALUES + 3,), (7,))
    old = model_of(layout, normal(2, layout.elements))
    mean_P = normal(3, layout.elements)

    # when the step is taken twice from the old file
    first_P, first = take(mean_P, NESTEROV, old, layout)
    again_P, again = take(mean_P, NESTEROV, old, layout)

    # then bytes are equal, and the momentum is a file of the layout
    assert again_P.tobytes() == first_P.tobytes()
    again.check_layout(layout)
    values = [np.empty(layout.elements, np.float32) for _ in range(2)]
    first.read_into(0, values[0])
    again.read_into(0, values[1])
    assert values[0].tobytes() == values[1].tobytes()


def test_momentum_files_are_given_exactly_when_they_are_needed() -> None:
    # given outer optimisers with and without momentum
    assert keeps_momentum(NESTEROV)
    assert not keeps_momentum(Outer(optimizer="nesterov"))

    # when the wrong one is given files, then it is refused before anything is written
    fd = memory_file()
    mean = source_of(normal(4, 1))
    with pytest.raises(ValueError, match="momentum files"):
        outer_step(mean, ONE, NESTEROV, momentum=None)
    with pytest.raises(ValueError, match="momentum files"):
        outer_step(mean, ONE, Outer(), momentum=Momentum(old=None, new_fd=fd))
    assert content_of(fd) == b""


def test_refuses_the_momentum_of_another_layout() -> None:
    other = model_of(layout_of((2,)), normal(5, 2))

    with pytest.raises(LayoutError):
        take(normal(6, 1), NESTEROV, other, ONE)
