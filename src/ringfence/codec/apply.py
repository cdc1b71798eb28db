"""New model = base model + decoded update, while the update arrives.

One piece of code serves the hub and every region, so that all arrive at the same bytes: the base
plus `q · s` (or the float32 value), each product and sum rounded once to float32, in files of
canonical bytes.

A line that is cut while the process lives goes on feeding the same `Applier`.  After a crash the
payload's verified chunks lie in the spool (they are kept there to be resumed from, chunk by
chunk), and the applier is fed from them again from the start: 0.2 CPU-seconds for 500 MB, and only
then.  A resumable applier would have to park scales and progress in the model file in every round
and read back what it wrote to hash it, which costs more than it saves.
"""

from __future__ import annotations

import os

import numpy as np

from ringfence.codec.float32 import check_finite
from ringfence.codec.format import PayloadFormat
from ringfence.codec.payload import add_values, check_front, touched_blocks
from ringfence.codec.writer import PayloadWriter, in_order
from ringfence.core.chunks import CHUNK_BYTES, ChunkedDigest
from ringfence.core.errors import FormatError, LayoutError
from ringfence.core.tensorfile import TensorFile, read_exactly
from ringfence.core.tensors import SEGMENT_VALUES, Layout, Segment, Vector, segments

_ONE = np.float32(1)


class Applier:
    """Adds a payload, fed in order, to a base model and writes the new model.

    `model` is the layout of both model files; the payload's layout (`form.layout`) is a part of it
    in the same order.  Tensors outside the payload are copied.
    """

    def __init__(
        self,
        form: PayloadFormat,
        *,
        model: Layout,
        base: TensorFile,
        model_fd: int,
        threads: int = 1,
    ) -> None:
        """Start a model file in `model_fd` (open for reading and writing; former content is lost).

        With two threads decoding runs beside hashing and writing: for the hub, which has nothing
        else to do meanwhile.
        Raises: LayoutError when the base is not a file of `model`, or `model` lacks a tensor.
        """
        base.check_layout(model)
        self._form = form
        self._base = base
        self._model = PayloadFormat(codec="float32", layout=model)
        self._starts = _starts_inside(form.layout, model)
        self._writer = PayloadWriter(
            model_fd, size_bytes=self._model.size_bytes, values_first=self._model.values_first
        )
        self._front = memoryview(bytearray(form.values_first))
        self._front_fill = 0
        self._scales_B: Vector = np.empty(0, np.float32)
        self._applied = 0  # values of the payload
        self._written = 0  # values of the model
        self._threads = threads
        self._buffers = [np.empty(SEGMENT_VALUES, np.float32) for _ in range(threads + 1)]
        self._copied_P = np.empty(SEGMENT_VALUES, np.float32)

    def feed(self, piece: memoryview) -> None:
        """Apply the next bytes of the payload, which the caller has verified.

        Unit: any length for int8; for float32 a multiple of 4 bytes, as chunks are.
        Raises: LayoutError, FormatError, NotFiniteError; the model file is then unusable.
        """
        values = self._take_front(piece)
        count, rest = divmod(len(values), self._form.value_bytes)
        first, end = self._applied, self._applied + count
        if rest or end > self._form.layout.elements:
            raise FormatError(
                f"expected a payload of {self._form.size_bytes} bytes in whole values, got more"
            )

        def work(segment: Segment, buffer_P: Vector) -> None:
            offset = (segment.first - first) * self._form.value_bytes
            size_bytes = segment.elements * self._form.value_bytes
            self._add(segment, values[offset : offset + size_bytes], buffer_P)

        in_order(
            segments(self._form.layout, first=first, end=end),
            work=work,
            keep=self._keep,
            buffers=self._buffers,
            threads=self._threads,
        )
        self._applied = end

    def finish(self) -> ChunkedDigest:
        """Complete the model file and return its digests.

        Raises: FormatError when the payload was not fed to its end.
        """
        if self._applied != self._form.layout.elements:
            raise FormatError(
                f"expected {self._form.layout.elements} values in the payload, "
                f"got {self._applied}; the payload is cut short"
            )
        self._copy_until(self._model.layout.elements)
        return self._writer.finish(self._model.header)

    def _take_front(self, piece: memoryview) -> memoryview:
        """Keep what belongs to header and scales; return the rest."""
        missing = len(self._front) - self._front_fill
        if not missing:
            return piece
        part = piece[:missing]
        self._front[self._front_fill : self._front_fill + len(part)] = part
        self._front_fill += len(part)
        if self._front_fill == len(self._front):
            self._scales_B = check_front(self._form, self._front)
        return piece[missing:]

    def _add(self, segment: Segment, values: memoryview, buffer_P: Vector) -> None:
        """Set the start of `buffer_P` to base plus decoded values."""
        total_P = buffer_P[: segment.elements]
        self._base.read_into(self._starts[segment.tensor] + segment.start, total_P)
        first_block, end_block = touched_blocks(self._form, segment)
        scales_B = self._scales_B[first_block:end_block]
        add_values(self._form, segment, values, scales_B, weight=_ONE, total_P=total_P)
        check_finite(self._form.layout, segment, total_P)

    def _keep(self, segment: Segment, buffer_P: Vector) -> None:
        self._copy_until(self._starts[segment.tensor] + segment.start)
        self._write(buffer_P[: segment.elements])

    def _copy_until(self, flat: int) -> None:
        """Copy the base's tensors that the payload does not hold, up to `flat`."""
        while self._written < flat:
            values_P = self._copied_P[: flat - self._written]
            self._base.read_into(self._written, values_P)
            self._write(values_P)

    def _write(self, values_P: Vector) -> None:
        self._writer.write(values_P.view(np.uint8).data)
        self._written += len(values_P)


def apply_update(
    form: PayloadFormat,
    *,
    model: Layout,
    base: TensorFile,
    payload_fd: int,
    model_fd: int,
    threads: int = 1,
) -> ChunkedDigest:
    """Apply a stored payload to `base`; the same bytes as an `Applier` that was fed with it."""
    applier = Applier(form, model=model, base=base, model_fd=model_fd, threads=threads)
    size_bytes = os.fstat(payload_fd).st_size
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for first in range(0, size_bytes, CHUNK_BYTES):
        piece = buffer[: size_bytes - first]
        read_exactly(payload_fd, first, piece)
        applier.feed(piece)
    return applier.finish()


def _starts_inside(part: Layout, model: Layout) -> tuple[int, ...]:
    """Flat index in `model` of each tensor of `part`, which must come in the model's order."""
    found = dict(zip(model.specs, model.starts, strict=True))
    starts = tuple(found.get(spec, -1) for spec in part.specs)
    if -1 in starts or list(starts) != sorted(starts):
        raise LayoutError("expected the payload's tensors in the model's layout and order")
    return starts
