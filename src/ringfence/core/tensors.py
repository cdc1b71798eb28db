"""The layout of a model: which tensors it has, in which order, shape, type and module.

    weight = TensorSpec(name="fc.weight", shape=(10, 4), dtype="F32", module="head")
    layout = Layout(specs=(weight,))
    layout.elements            # 40
    layout.select({"head"})    # the tensors of a module, in the same order

A layout's tensors, one behind the other in layout order, are its *flat* vector.  Every pass over
one goes segment by segment, in buffers that stay in the processor's cache; a `Source` computes or
reads a segment when it is asked, so that no pass ever holds a model.
"""

from __future__ import annotations

import hashlib
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ringfence.core import canonical
from ringfence.core.errors import LayoutError
from ringfence.core.ids import Digest

ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
}
"""Every dtype that a file may hold, by its safetensors name.  Only F32 crosses a border."""

MAX_TENSORS = 65_536
MAX_DIMS = 8
MAX_NAME_CHARS = 200
MAX_TOTAL_BYTES = 1 << 40

SEGMENT_VALUES = 262_144
"""Most values of one segment: 1 MiB of float32.  A multiple of every codec's block."""

Vector = npt.NDArray[np.float32]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_MODULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor: its name, shape (`()` is a scalar), safetensors dtype and module.

    Raises `LayoutError` when a part breaks the limits above; no dimension may be 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    module: str

    def __post_init__(self) -> None:
        if len(self.name) > MAX_NAME_CHARS or not _NAME.fullmatch(self.name):
            raise LayoutError(
                f"tensor {self.name[:80]!r}: expected a name of 1 to {MAX_NAME_CHARS} letters, "
                "digits and '_./-' that starts with a letter, digit or '_'; rename it"
            )
        if self.name == "__metadata__":
            raise LayoutError("tensor '__metadata__': safetensors keeps this name; rename it")
        if not _MODULE.fullmatch(self.module):
            raise LayoutError(
                f"tensor {self.name}: expected a module name of 1 to 64 letters, digits and "
                f"'_.-', got {self.module[:80]!r}"
            )
        check_shape(self.name, self.dtype, self.shape)

    @property
    def elements(self) -> int:
        """Number of values; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An ordered, non-empty tuple of tensors with distinct names.

    `starts[t]` is the flat index of the first element of tensor `t`.
    """

    specs: tuple[TensorSpec, ...]
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    elements: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self.specs) <= MAX_TENSORS:
            raise LayoutError(f"expected 1 to {MAX_TENSORS} tensors, got {len(self.specs)}")
        seen: set[str] = set()
        for spec in self.specs:
            if spec.name in seen:
                raise LayoutError(f"tensor {spec.name}: named twice in one layout; rename one")
            seen.add(spec.name)
        ends = list(accumulate(spec.elements for spec in self.specs))
        object.__setattr__(self, "starts", (0, *ends[:-1]))
        object.__setattr__(self, "elements", ends[-1])
        if self.size_bytes > MAX_TOTAL_BYTES:
            raise LayoutError(
                f"expected at most {MAX_TOTAL_BYTES} bytes of tensors, got {self.size_bytes}"
            )

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors, without a file's header."""
        return sum(spec.size_bytes for spec in self.specs)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON of names, dtypes, shapes and modules, in order."""
        rows = [[spec.name, spec.dtype, list(spec.shape), spec.module] for spec in self.specs]
        return Digest("sha256:" + hashlib.sha256(canonical.to_bytes(rows)).hexdigest())

    def select(self, modules: Collection[str]) -> Layout:
        """The tensors of `modules`, in this order; `LayoutError` when a module has none."""
        missing = set(modules) - {spec.module for spec in self.specs}
        if missing or not modules:
            raise LayoutError(
                f"expected modules of this layout, got {sorted(missing) or 'none at all'}"
            )
        return Layout(specs=tuple(spec for spec in self.specs if spec.module in modules))

    def require_float32(self) -> None:
        """Raise `LayoutError` unless every tensor is F32: nothing else crosses a border."""
        for spec in self.specs:
            if spec.dtype != "F32":
                raise LayoutError(
                    f"tensor {spec.name}: expected F32 in a module that crosses, got {spec.dtype}; "
                    "convert it, or make its module regional"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of values inside one tensor.

    `tensor` is its index in the layout, `start` the first value counted from the tensor's start,
    `first` the same value counted in the flat vector.
    """

    tensor: int
    start: int
    first: int
    elements: int


Source = Callable[[Segment, Vector], None]
"""Fills its second argument (contiguous, `segment.elements` long) with the values of a segment.

INVARIANT: equal segments get equal values, whatever was asked before and from whichever thread.
"""


def segments(layout: Layout, *, first: int = 0, end: int | None = None) -> Iterator[Segment]:
    """Cut the flat range [`first`, `end`) where tensors end and at multiples of `SEGMENT_VALUES`.

    Multiples are counted from each tensor's start, so that a range's inner cuts are always the
    same ones.  `end` is the layout's end unless given.
    """
    end = layout.elements if end is None else end
    tensor = bisect_right(layout.starts, first) - 1
    while first < end:
        start = first - layout.starts[tensor]
        tensor_ends = layout.specs[tensor].elements
        cut = min(tensor_ends, (start // SEGMENT_VALUES + 1) * SEGMENT_VALUES)
        elements = min(cut - start, end - first)
        yield Segment(tensor=tensor, start=start, first=first, elements=elements)
        first += elements
        tensor += start + elements == tensor_ends


def check_shape(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Raise `LayoutError` unless dtype and shape are known, positive and within the limits."""
    if dtype not in ITEM_BYTES:
        raise LayoutError(
            f"tensor {name}: expected a dtype of {sorted(ITEM_BYTES)}, got {dtype[:16]!r}"
        )
    if len(shape) > MAX_DIMS or any(type(dim) is not int or dim < 1 for dim in shape):
        raise LayoutError(
            f"tensor {name}: expected at most {MAX_DIMS} dimensions of 1 or more, "
            f"got {len(shape)} dimensions"
        )
    # Dimensions are bounded one by one, so that the product cannot become a huge integer.
    if any(dim > MAX_TOTAL_BYTES for dim in shape) or math.prod(shape) > MAX_TOTAL_BYTES:
        raise LayoutError(f"tensor {name}: expected at most {MAX_TOTAL_BYTES} elements")
