"""y - x in a memory file of fixed size: formed by the site, read by the gateway.

The file is used again in every round, for its pages are a third of what handing over costs.  So a
site can write to it at any time, and the gateway believes no byte that it has not just read: what
it encodes is measured while it is encoded (`gateway/outbound.py`).
"""

from __future__ import annotations

import fcntl
import os
from typing import cast

import numpy as np

from ringfence.core.errors import LayoutError, Refused
from ringfence.core.tensorfile import write_all
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.site.tensorviews import Tensor, Tensors

SEALS = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
"""What keeps a memory file at its size, and the seal that keeps the seals (memfd_create(2))."""

KEPT_BYTES = 4 * 1024**3
"""A larger file is given back between rounds: training may need the memory more."""

_BLOCK_ELEMENTS = 1 << 16
"""256 KiB of float32: stays in the second-level cache between subtraction and write."""


def check_tensors(after: Tensors, layout: Layout, *, known: Tensors) -> None:
    """Raise `LayoutError`, naming the first difference, unless `after` holds all of `layout`.

    Besides the layout's tensors only those that the model has anyway (`known`, frozen ones) may
    stand in `after`; they do not travel.
    """
    if unknown := sorted(set(after) - set(known)):
        raise LayoutError(
            f"submit: expected only tensors of the model, got {unknown[:3]} as well; hand regional "
            "ones over as state="
        )
    for spec in layout.specs:
        tensor = after.get(spec.name)
        if not isinstance(tensor, np.ndarray):
            raise LayoutError(
                f"submit: expected a numpy array for tensor {spec.name}, got "
                f"{type(tensor).__name__}; pass the trained value under the name it came with"
            )
        if tensor.shape != spec.shape or tensor.dtype != np.float32:
            raise LayoutError(
                f"submit: tensor {spec.name}: expected float32{list(spec.shape)}, "
                f"got {tensor.dtype}{list(tensor.shape)}"
            )


class UpdateMemory:
    """The memory file in which a site hands its updates of one layout over."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._descriptor = -1

    @property
    def layout(self) -> Layout:
        """What the file holds."""
        return self._layout

    def write_difference(self, after: Tensors, before: Tensors) -> int:
        """Write `after - before`, float32, flat, in layout order; returns the open descriptor.

        `after` has passed `check_tensors`; arrays need not be contiguous.  One pass: beside the
        memory file only a block of 256 KiB is allocated.  The descriptor stays this object's.
        """
        layout = self._layout
        if self._descriptor < 0:
            self._descriptor = _sealed_file(layout.size_bytes)
        for start, spec in zip(layout.starts, layout.specs, strict=True):
            _write_difference(
                self._descriptor, start * 4, after[spec.name], before[spec.name], spec
            )
        return self._descriptor

    def rest(self) -> None:
        """The update is answered: give a large file's memory back."""
        if self._layout.size_bytes > KEPT_BYTES:
            self.close()

    def close(self) -> None:
        """Give the memory back; the next update gets a new file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _sealed_file(size_bytes: int) -> int:
    descriptor = os.memfd_create("ringfence-update", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, size_bytes)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_sealed(descriptor: int, *, size_bytes: int) -> None:
    """Raise `Refused` unless this is a memory file of `size_bytes` that nobody can resize.

    The seals hold for every process, and none can be taken off (memfd_create(2)).
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    except OSError:
        seals, flags = 0, os.O_WRONLY
    if seals & SEALS != SEALS or flags & os.O_ACCMODE == os.O_WRONLY:
        raise Refused(
            stage="take",
            reason="update-not-sealed",
            detail="expected a readable memory file sealed against grow, shrink and unsealing, got "
            "another; hand updates over with round.submit",
        )
    # Looked at after the seals: from here on the size is fixed as well.
    came_bytes = os.fstat(descriptor).st_size
    if came_bytes != size_bytes:
        raise Refused(
            stage="take",
            reason="update-wrong-size",
            detail=f"expected {size_bytes} bytes of float32 as agreed, got {came_bytes}",
        )


def _write_difference(
    descriptor: int, offset: int, after: Tensor, before: Tensor, spec: TensorSpec
) -> None:
    difference = np.empty(min(_BLOCK_ELEMENTS, spec.elements), dtype="<f4")
    blocks = np.nditer(
        [after, before],
        flags=["external_loop", "buffered"],
        op_flags=[["readonly"], ["readonly"]],
        order="C",
        buffersize=_BLOCK_ELEMENTS,
    )
    # Values may overflow to infinity here; the gateway refuses what is not finite.
    with blocks, np.errstate(all="ignore"):
        for pair in blocks:
            after_B, before_B = cast("tuple[Tensor, Tensor]", pair)
            block_B = np.subtract(after_B, before_B, out=difference[: after_B.size])
            write_all(descriptor, offset, block_B.data.cast("B"))
            offset += block_B.nbytes
