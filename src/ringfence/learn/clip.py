"""One look at an update: is it finite, how long is it, by which factor must it shrink.

The values themselves are scaled when they are encoded, on a pass that happens anyway.
"""

from __future__ import annotations

import math

import numpy as np

from ringfence.core.errors import NotFiniteError
from ringfence.core.tensorfile import TensorFile
from ringfence.core.tensors import SEGMENT_VALUES, Layout, Segment, Source, Vector, segments

LEAST_BOUND_L2 = 1e-9
"""Smallest clip bound: squares of values below 1e-19 vanish in float32, and a norm with them."""

# Values of one float32 dot product; their sum goes on in float64.  Also far below the 10,000 from
# which OpenBLAS would start threads of its own.
_ROW_VALUES = 1024
# Most that a norm from such rows can come out too small: the rounding errors of the additions of
# one lane among at least 16, halved by the square root.
_NORM_ERROR = 2.0**-18


def measure_norm(update: TensorFile, layout: Layout) -> float:
    """The L2 norm of an update that lies in a file of `layout`; as `norm_of`."""
    return norm_of(update.read_segment, layout)


def norm_of(update: Source, layout: Layout) -> float:
    """The L2 norm of a float32 update over all its tensors, in one pass through a 1 MiB buffer.

    Accurate to 4e-6, relative.  Shape: `update` gives the values of `layout`.
    Raises: NotFiniteError, naming the tensor, on a NaN or an infinity.
    """
    buffer_P = np.empty(SEGMENT_VALUES, np.float32)
    meter = NormMeter(update, layout)
    for segment in segments(layout):
        meter(segment, buffer_P[: segment.elements])
    return meter.norm_l2


class NormMeter:
    """A source that passes another's values on and measures what it has passed, as `norm_of` does.

    Who reads an update a second time measures it a second time: equal values have equal norms, in
    whatever order and from whichever threads their segments were asked for.
    """

    __slots__ = ("_layout", "_source", "_squares")

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source = source
        self._layout = layout
        self._squares: dict[int, float] = {}

    def __call__(self, segment: Segment, values_P: Vector) -> None:
        """Raises: NotFiniteError, naming the tensor, on a NaN or an infinity."""
        self._source(segment, values_P)
        square_sum = _square_sum(values_P)
        if not math.isfinite(square_sum):
            if not np.isfinite(values_P).all():
                raise NotFiniteError(
                    f"tensor {self._layout.specs[segment.tensor].name}: expected finite numbers, "
                    "got a NaN or an infinity; look at the training's loss and learning rate"
                )
            # Finite, but above 1e19, where squares overflow in float32.
            square_sum = float(np.sum(np.square(values_P, dtype=np.float64)))
        self._squares[segment.first] = square_sum

    @property
    def norm_l2(self) -> float:
        """The norm of everything that was passed on so far."""
        return math.sqrt(math.fsum(self._squares.values()))


def clip_factor(norm_l2: float, *, bound_l2: float) -> float:
    """The factor, at most 1 and exact in float32, that brings `norm_l2` to at most `bound_l2`.

    It leaves room for the error of `measure_norm`, so a clipped update is never longer than the
    bound; it may be shorter by 4e-6 of it.

    Unit: both in parameter units; `bound_l2` is at least 1e-9.
    Source: Abadi et al. 2016, arXiv:1607.00133, Algorithm 1.
    """
    if not LEAST_BOUND_L2 <= bound_l2 < math.inf:
        raise ValueError(f"expected a finite clip bound of at least {LEAST_BOUND_L2}")
    longest = norm_l2 * (1 + _NORM_ERROR)
    if longest <= bound_l2:
        return 1.0
    exact = bound_l2 / longest
    # Towards zero: rounding up would put the norm above the bound again.
    rounded = np.float32(exact)
    return float(rounded if rounded <= exact else np.nextafter(rounded, np.float32(0)))


def _square_sum(values_P: Vector) -> float:
    """Sum of squares, from float32 rows added up in float64; not finite if a row overflows."""
    whole = len(values_P) // _ROW_VALUES * _ROW_VALUES
    rows_KN = values_P[:whole].reshape(-1, _ROW_VALUES)
    rest_N = values_P[whole:]
    with np.errstate(over="ignore", invalid="ignore"):
        squares_K = np.vecdot(rows_KN, rows_KN)
        return float(np.sum(squares_K, dtype=np.float64)) + float(np.dot(rest_N, rest_N))
