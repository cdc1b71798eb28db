"""Payload files by the agreement's codec: write one, read one, apply one to a model.

The `match` statements here are the only places where a codec is chosen.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np

from ringfence.codec import float32, int8
from ringfence.codec.format import BLOCK_VALUES, PayloadFormat
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.errors import FormatError, LayoutError
from ringfence.core.tensorfile import read_exactly
from ringfence.core.tensors import SEGMENT_VALUES, Segment, Source, Vector, segments


def encode(
    form: PayloadFormat,
    source: Source,
    fd: int,
    *,
    seed: bytes,
    factor: float = 1.0,
    threads: int = 1,
) -> ChunkedDigest:
    """Write `factor * source` as a payload file to `fd` in one pass, hashing it on the way.

    `fd` is open for reading and writing; its former content is lost.  `factor` is the clip factor,
    from 0 to 1.  int8 rounds with the 32 bytes of `seed`, float32 draws nothing from it.  Equal
    arguments give equal bytes, whatever `threads` is.

    Raises: NotFiniteError, naming the tensor, on a NaN or an infinity; the file is then unusable.
    """
    if not 0 <= factor <= 1:
        raise ValueError("expected a clip factor from 0 to 1")
    match form.codec:
        case "float32":
            return float32.encode(form, source, fd, factor=factor, threads=threads)
        case "int8":
            return int8.encode(form, source, fd, factor=factor, seed=seed, threads=threads)


def add_values(
    form: PayloadFormat,
    segment: Segment,
    values: memoryview,
    scales_B: Vector,
    *,
    weight: np.float32,
    total_P: Vector,
) -> None:
    """Decode the `values` (bytes) of a segment and add `weight` times them to `total_P`.

    `scales_B` are the scales of the blocks that the segment touches; none for float32.  A sum that
    overflows becomes infinite, without a warning: whoever writes it out checks it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        match form.codec:
            case "float32":
                float32.add(values, weight=weight, total_P=total_P)
            case "int8":
                int8.add(segment, values, scales_B, weight=weight, total_P=total_P)


def touched_blocks(form: PayloadFormat, segment: Segment) -> tuple[int, int]:
    """First block that a segment touches and the one after its last."""
    start = form.block_starts[segment.tensor]
    end = segment.start + segment.elements
    return start + segment.start // BLOCK_VALUES, start - (-end // BLOCK_VALUES)


def check_front(form: PayloadFormat, front: memoryview) -> Vector:
    """Check a payload's header and scales (its first `values_first` bytes); return the scales.

    Raises: LayoutError when the header differs by one byte from the one that the agreement gives,
    FormatError when a scale is out of range.
    """
    header = len(form.header)
    if front[:header] != form.header:
        raise LayoutError(
            f"expected the {form.codec} payload header of layout {form.layout.digest}, "
            "got another; encode the tensors of the agreed layout, in its order"
        )
    scales_B = np.frombuffer(front[header:], "<f4")
    if len(scales_B):
        int8.check_scales(scales_B)
    return scales_B


class PayloadFile:
    """A stored payload, checked when it is opened; its values are read when they are asked for.

    Holds the scales (1/64 of the model's size in float32), nothing else.  Threads may share one.
    """

    __slots__ = ("_fd", "_form", "_owned", "_scales_B")

    def __init__(self, form: PayloadFormat, source: Path | int) -> None:
        """Open a path, or use an open descriptor, which stays the caller's to close.

        Raises: FormatError, LayoutError.
        """
        self._form = form
        self._owned = isinstance(source, Path)
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._fd = os.open(source, flags) if isinstance(source, Path) else source
        try:
            size_bytes = os.fstat(self._fd).st_size
            if size_bytes != form.size_bytes:
                raise FormatError(
                    f"expected a payload of {form.size_bytes} bytes, got {size_bytes}; "
                    "encode the tensors of the agreed layout"
                )
            front = memoryview(bytearray(form.values_first))
            read_exactly(self._fd, 0, front)
            self._scales_B = check_front(form, front)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PayloadFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if this opened it."""
        if self._owned:
            os.close(self._fd)
            self._owned = False

    def add(self, segment: Segment, weight: np.float32, total_P: Vector) -> None:
        """Add `weight` times the values of a segment of the layout to `total_P`."""
        stored = self._stored(segment)
        scales_B = self._scales_of(segment)
        add_values(self._form, segment, stored, scales_B, weight=weight, total_P=total_P)

    def read_segment(self, segment: Segment, values_P: Vector) -> None:
        """Set `values_P` to the decoded values of a segment of the layout."""
        match self._form.codec:
            case "float32":
                self._read(segment, values_P.view(np.uint8).data)
            case "int8":
                stored = self._stored(segment)
                int8.decode(segment, stored, self._scales_of(segment), values_P)

    def _stored(self, segment: Segment) -> memoryview:
        stored = np.empty(segment.elements * self._form.value_bytes, np.uint8).data
        self._read(segment, stored)
        return stored

    def _read(self, segment: Segment, buffer: memoryview) -> None:
        offset = self._form.values_first + segment.first * self._form.value_bytes
        read_exactly(self._fd, offset, buffer)

    def _scales_of(self, segment: Segment) -> Vector:
        first, end = touched_blocks(self._form, segment)
        return self._scales_B[first:end]

    def check_values(self) -> None:
        """Raise `NotFiniteError`, naming the tensor, on a NaN or an infinity among the values.

        Whoever receives a payload from another region does this before accepting it.  An int8
        payload's values are finite when its scales are, which opening has checked.
        """
        if self._form.codec == "int8":
            return
        buffer_P = np.empty(SEGMENT_VALUES, np.float32)
        for segment in segments(self._form.layout):
            values_P = buffer_P[: segment.elements]
            self.read_segment(segment, values_P)
            float32.check_finite(self._form.layout, segment, values_P)
