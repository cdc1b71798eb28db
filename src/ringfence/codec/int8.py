"""The int8 codec: blocks of 256 values with a scale each, rounded stochastically.

    s = max|v| / 127 of the block, 0 when it holds only zeros
    q = floor(v/s + u), u uniform over the multiples of 2⁻¹⁶ in [0, 1)       -127 ≤ q ≤ 127
    decoded v ≈ q·s

Blocks are cut in flat order inside each tensor.

*Unbiased.*  E[q] = v/s for uniform u.  Three departures from the ideal remain, all at the level of
float32's own rounding: u is a multiple of 2⁻¹⁶, and v/s is first rounded to the nearest such
multiple (a bias of at most 2⁻¹⁷ s, of either sign); v/s is computed in float32 (at most 3 · 2⁻²⁴
of |v|).  The quantisation's own deviation is up to s/2, so the bias is drowned until some 10⁹ draws
of one value are averaged.

*The arithmetic* runs in 16-bit integers, four times as fast as floats: with x = 256·v/s + 32768 +
fine, q + 128 is the high byte of floor(x) + coarse, for the u of `rounding.Keystream.draw`.

Source: Alistarh et al. 2017, arXiv:1610.02132 (QSGD), with blocks and the maximum norm.
"""

from __future__ import annotations

import numpy as np

from ringfence.codec.format import BLOCK_VALUES, PayloadFormat, block_count
from ringfence.codec.rounding import Keystream
from ringfence.codec.writer import PayloadWriter, in_order
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.errors import FormatError, NotFiniteError
from ringfence.core.tensors import SEGMENT_VALUES, Layout, Segment, Source, Vector, segments

MAX_MAGNITUDE = 2.0**127
"""Values must stay below this, so that 127 scales cannot overflow."""

# A little above 1/127: |v|/s, in float32, must not come out above 127 (see `_round`).
_SCALE = np.float32((1 + 2**-21) / 127)
# Below this the reciprocal would overflow; such a block's values get coarser steps instead.
_LEAST_SCALE = np.float32(2.0**-118)
_MAGNITUDE_BITS = 0x7FFF_FFFF
_TOO_LARGE_BITS = int(np.float32(MAX_MAGNITUDE).view(np.int32))
_MAX_SCALE_BITS = int((np.float32(MAX_MAGNITUDE) * _SCALE).view(np.uint32))


class _Buffers:
    """What one segment needs on its way; R = blocks of a segment, N = values of a block."""

    __slots__ = ("bytes_RN", "codes_RN", "keystream", "scales_R", "values_RN", "work_RN")

    def __init__(self, seed: bytes) -> None:
        shape_RN = (SEGMENT_VALUES // BLOCK_VALUES, BLOCK_VALUES)
        self.keystream = Keystream(seed)
        self.values_RN = np.empty(shape_RN, np.float32)
        self.work_RN = np.empty(shape_RN, np.float32)
        self.codes_RN = np.empty(shape_RN, np.uint16)
        self.bytes_RN = np.empty(shape_RN, np.uint8)
        self.scales_R = np.empty(shape_RN[0], np.float32)


def encode(
    form: PayloadFormat, source: Source, fd: int, *, factor: float, seed: bytes, threads: int
) -> ChunkedDigest:
    """Write `factor * source` to `fd`, as `codec.payload.encode` says.

    Scaling by the factor changes s and not v/s, so it costs one product a block.
    """
    scales_B = np.empty(form.blocks, np.float32)
    writer = PayloadWriter(fd, size_bytes=form.size_bytes, values_first=form.values_first)

    def quantise(segment: Segment, buffers: _Buffers) -> None:
        flat_P = buffers.values_RN.reshape(-1)
        source(segment, flat_P[: segment.elements])
        rows = block_count(segment.elements)
        flat_P[segment.elements : rows * BLOCK_VALUES] = 0
        _scale(form.layout, segment, rows, buffers)
        _round(segment, rows, buffers)

    def keep(segment: Segment, buffers: _Buffers) -> None:
        block = form.block_starts[segment.tensor] + segment.start // BLOCK_VALUES
        rows = block_count(segment.elements)
        scales_B[block : block + rows] = buffers.scales_R[:rows]
        writer.write(buffers.bytes_RN.reshape(-1)[: segment.elements].data)

    in_order(
        segments(form.layout),
        work=quantise,
        keep=keep,
        buffers=[_Buffers(seed) for _ in range(threads + 1)],
        threads=threads,
    )
    scales_B *= np.float32(factor)
    return writer.finish(form.header + scales_B.tobytes())


def _scale(layout: Layout, segment: Segment, rows: int, buffers: _Buffers) -> None:
    """Set `scales_R` from `values_RN`; raises `NotFiniteError` when a value is out of range."""
    # Magnitudes of float32 numbers order like their bits, and NaN above infinity above all;
    # whole numbers have a row maximum twice as fast.
    bits_RN = buffers.work_RN[:rows].view(np.int32)
    np.bitwise_and(buffers.values_RN[:rows].view(np.int32), _MAGNITUDE_BITS, out=bits_RN)
    largest_R = np.maximum.reduce(bits_RN, axis=1)
    if largest_R.max() >= _TOO_LARGE_BITS:
        raise NotFiniteError(
            f"tensor {layout.specs[segment.tensor].name}: expected finite numbers below 2^127, "
            "got a NaN, an infinity or a larger one; look at the training's loss and learning rate"
        )
    scales_R = buffers.scales_R[:rows]
    np.multiply(largest_R.view(np.float32), _SCALE, out=scales_R)
    np.maximum(scales_R, _LEAST_SCALE, out=scales_R)
    scales_R[largest_R == 0] = 0


def _round(segment: Segment, rows: int, buffers: _Buffers) -> None:
    """Set `bytes_RN` from `values_RN` and `scales_R`."""
    scales_R = buffers.scales_R[:rows]
    steps_RN, codes_RN = buffers.work_RN[:rows], buffers.codes_RN[:rows]
    coarse, fine = buffers.keystream.draw(segment.first, rows * BLOCK_VALUES)
    fine += np.float32(32768)
    inverse_R = np.zeros(rows, np.float32)
    np.divide(np.float32(256), scales_R, out=inverse_R, where=scales_R != 0)
    np.multiply(buffers.values_RN[:rows], inverse_R[:, None], out=steps_RN)
    _add_repeated(steps_RN.reshape(-1), fine)
    # INVARIANT: 256 ≤ x < 65281, so that x fits, and x + 255 does too.  The scale's 2⁻²¹ is more
    # than the four roundings on the way (1/127, s, 256/s, the product) can take away, and
    # 32512 + 32768 + 255/256 is itself a float32 number, which rounding cannot pass.
    np.copyto(codes_RN, steps_RN, casting="unsafe")
    np.add(codes_RN, coarse.reshape(rows, BLOCK_VALUES), out=codes_RN)
    np.right_shift(codes_RN, 8, out=codes_RN)
    np.copyto(buffers.bytes_RN[:rows], codes_RN, casting="unsafe")
    np.bitwise_xor(buffers.bytes_RN[:rows], 0x80, out=buffers.bytes_RN[:rows])  # q + 128 to q


def _add_repeated(values_P: Vector, period_F: Vector) -> None:
    """Add `period_F` to `values_P`, over and over to the end."""
    whole = len(values_P) // len(period_F) * len(period_F)
    repeats_KF = values_P[:whole].reshape(-1, len(period_F))
    np.add(repeats_KF, period_F, out=repeats_KF)
    values_P[whole:] += period_F[: len(values_P) - whole]


def check_scales(scales_B: Vector) -> None:
    """Raise `FormatError` unless every scale is one that the encoder can write."""
    # As unsigned bits, a negative number, an infinity and a NaN are all larger.
    if scales_B.view(np.uint32).max() > _MAX_SCALE_BITS:
        raise FormatError("expected scales from 0 to 2^127/127 in an int8 payload; encode it again")


def add(
    segment: Segment,
    values: memoryview,
    scales_B: Vector,
    *,
    weight: np.float32,
    total_P: Vector,
) -> None:
    """Add `q · (weight · s)` to `total_P`, the two products and the sum rounded once each.

    `values` holds the segment's I8 bytes; it may start and end inside a block.  `scales_B` are
    the checked scales of the blocks that it touches.
    """
    decoded_P = np.empty(segment.elements, np.float32)
    decode(segment, values, scales_B * weight, decoded_P)
    np.add(total_P, decoded_P, out=total_P)


def decode(segment: Segment, values: memoryview, scales_B: Vector, values_P: Vector) -> None:
    """Set `values_P` to `q · s`, the product rounded once; arguments as for `add`."""
    np.copyto(values_P, np.frombuffer(values, np.int8))
    head = min(-segment.start % BLOCK_VALUES, segment.elements)
    rows = (segment.elements - head) // BLOCK_VALUES
    tail = head + rows * BLOCK_VALUES
    inner_B = scales_B[1:] if head else scales_B
    values_P[:head] *= scales_B[0]
    values_P[head:tail].reshape(rows, BLOCK_VALUES)[...] *= inner_B[:rows, None]
    if tail < segment.elements:
        values_P[tail:] *= inner_B[rows]
