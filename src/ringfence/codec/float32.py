"""The exact codec: float32 values as they are, scaled by the clip factor."""

from __future__ import annotations

import numpy as np

from ringfence.codec.format import PayloadFormat
from ringfence.codec.writer import PayloadWriter, in_order
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.errors import NotFiniteError
from ringfence.core.tensors import SEGMENT_VALUES, Layout, Segment, Source, Vector, segments


def encode(
    form: PayloadFormat, source: Source, fd: int, *, factor: float, threads: int
) -> ChunkedDigest:
    """Write `factor * source` to `fd`, as `codec.payload.encode` says."""
    scale = np.float32(factor)
    writer = PayloadWriter(fd, size_bytes=form.size_bytes, values_first=form.values_first)

    def fill(segment: Segment, buffer_P: Vector) -> None:
        values_P = buffer_P[: segment.elements]
        source(segment, values_P)
        if scale != 1:
            with np.errstate(invalid="ignore"):  # an infinity is reported by name, just below
                values_P *= scale
        check_finite(form.layout, segment, values_P)

    def keep(segment: Segment, buffer_P: Vector) -> None:
        writer.write(buffer_P[: segment.elements].view(np.uint8).data)

    in_order(
        segments(form.layout),
        work=fill,
        keep=keep,
        buffers=[np.empty(SEGMENT_VALUES, np.float32) for _ in range(threads + 1)],
        threads=threads,
    )
    return writer.finish(form.header)


def add(values: memoryview, *, weight: np.float32, total_P: Vector) -> None:
    """Add `weight * values` (little-endian float32 bytes) to `total_P`, each step rounded once."""
    values_P = np.frombuffer(values, "<f4")
    if weight == 1:
        np.add(total_P, values_P, out=total_P)
    else:
        np.add(total_P, values_P * weight, out=total_P)


def check_finite(layout: Layout, segment: Segment, values_P: Vector) -> None:
    """Raise `NotFiniteError`, naming the tensor, unless all values of a segment are finite."""
    if not np.isfinite(values_P).all():
        raise NotFiniteError(
            f"tensor {layout.specs[segment.tensor].name}: expected finite numbers, got a NaN or "
            "an infinity; look at the training's loss and learning rate"
        )
