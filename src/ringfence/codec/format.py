"""The bytes of a payload file: which tensors a codec writes for a layout, and where.

    float32   <name> F32, for every tensor in layout order: the same bytes as a model file
    int8      <name>:scale F32 for every tensor, then <name> I8 for every tensor

The scales of all tensors stand in front of the first value, so that a receiver can decode while
the values arrive; they are 1/64 of the model's bytes in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from ringfence.core.tensorfile import Entry, entries_of, header_bytes
from ringfence.core.tensors import SEGMENT_VALUES, Layout
from ringfence.core.terms import Codec

BLOCK_VALUES = 256
"""Values that share one int8 scale; the last block of a tensor may be shorter."""

assert SEGMENT_VALUES % BLOCK_VALUES == 0

_VALUE_BYTES: dict[Codec, int] = {"float32": 4, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadFormat:
    """Where everything stands in the payload files of one codec and layout.

    `header` must open the file byte for byte.  [len(header), `values_first`) are the scales, empty
    for float32; the values fill the rest.  `block_starts[t]` is the index of tensor `t`'s first
    block.  Raises `LayoutError` when a tensor is not F32.
    """

    codec: Codec
    layout: Layout
    header: bytes = field(init=False, repr=False)
    values_first: int = field(init=False)
    value_bytes: int = field(init=False)
    size_bytes: int = field(init=False)
    block_starts: tuple[int, ...] = field(init=False, repr=False)
    blocks: int = field(init=False)

    def __post_init__(self) -> None:
        self.layout.require_float32()
        ends = list(accumulate(block_count(spec.elements) for spec in self.layout.specs))
        entries = _entries(self.codec, self.layout)
        header = header_bytes(entries)
        put = object.__setattr__
        put(self, "header", header)
        put(self, "value_bytes", _VALUE_BYTES[self.codec])
        put(self, "size_bytes", len(header) + entries[-1].end)
        put(self, "values_first", self.size_bytes - self.layout.elements * self.value_bytes)
        put(self, "block_starts", (0, *ends[:-1]))
        put(self, "blocks", ends[-1])


def block_count(elements: int) -> int:
    """Blocks that hold `elements` values of one tensor."""
    return -(-elements // BLOCK_VALUES)


def _entries(codec: Codec, layout: Layout) -> tuple[Entry, ...]:
    specs = layout.specs
    match codec:
        case "float32":
            return entries_of([(spec.name, "F32", spec.shape) for spec in specs])
        case "int8":
            scales = [
                (f"{spec.name}:scale", "F32", (block_count(spec.elements),)) for spec in specs
            ]
            return entries_of(scales + [(spec.name, "I8", spec.shape) for spec in specs])
