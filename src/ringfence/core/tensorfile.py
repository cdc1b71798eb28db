"""Files of tensors in the safetensors format, read strictly and written canonically.

    8 bytes       length N of the header, unsigned, little-endian
    N bytes       JSON {name: {"dtype", "shape", "data_offsets": [first, end]}}, padded with spaces
    to the end    the tensors' bytes, little-endian, row-major, without a gap

Equal layouts give byte-identical headers, so equal models give byte-identical files, and a file
that must have an agreed layout can be compared without being parsed.
Source: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ringfence.core.errors import FormatError, LayoutError
from ringfence.core.tensors import (
    ITEM_BYTES,
    MAX_NAME_CHARS,
    MAX_TENSORS,
    Layout,
    Segment,
    Vector,
    check_shape,
)

MAX_HEADER_BYTES = 32 * 1024 * 1024
"""Longest header we read; the format allows 100 MB.  65,536 tensors need about 20 MB."""

NUMPY_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
}
"""The array type of each dtype; numpy has no BF16, whose bits travel as U16."""

_LENGTH_BYTES = 8
_SUFFIX_CHARS = 16  # a payload's tensor is a layout's name and a codec's suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a file: name, dtype, shape and its bytes [`first`, `end`) behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    end: int


def entries_of(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> tuple[Entry, ...]:
    """Lay out (name, dtype, shape) triples one behind the other."""
    entries: list[Entry] = []
    first = 0
    for name, dtype, shape in tensors:
        end = first + math.prod(shape) * ITEM_BYTES[dtype]
        entries.append(Entry(name=name, dtype=dtype, shape=shape, first=first, end=end))
        first = end
    return tuple(entries)


def layout_entries(layout: Layout) -> tuple[Entry, ...]:
    """The entries of a file that holds `layout` and nothing else, in layout order."""
    return entries_of([(spec.name, spec.dtype, spec.shape) for spec in layout.specs])


def header_bytes(entries: Sequence[Entry]) -> bytes:
    """The canonical start of a file: length and JSON in entry order, padded to 8 bytes."""
    table = {
        entry.name: {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.first, entry.end],
        }
        for entry in entries
    }
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise LayoutError(f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {len(text)}")
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def parse_header(text: bytes, *, data_bytes: int) -> tuple[Entry, ...]:
    """Parse a header's JSON (without its length) of a file with `data_bytes` behind it.

    Returns the entries in the order of their bytes; `__metadata__` is checked and left out.
    Raises `FormatError` when a key is doubled or unknown, a dtype unknown, a size not exact, or
    when the tensors overlap, leave a gap or do not fill the file.
    """
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"expected a header of at most {MAX_HEADER_BYTES} bytes, got {len(text)}")
    if not text.startswith(b"{"):
        raise FormatError("expected a safetensors header that starts with '{'")
    try:
        table = json.loads(text.decode("utf-8"), object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise FormatError("expected a safetensors header of valid JSON") from error
    _check_metadata(table.pop("__metadata__", {}))
    if not 1 <= len(table) <= MAX_TENSORS:
        raise FormatError(f"expected 1 to {MAX_TENSORS} tensors in a file, got {len(table)}")
    entries = sorted(
        (_entry(name, value) for name, value in table.items()), key=lambda entry: entry.first
    )
    position = 0
    for entry in entries:
        if entry.first != position:
            raise FormatError(
                f"tensor {entry.name!r}: expected its bytes to start at {position}, "
                f"got {entry.first}; tensors may neither overlap nor leave a gap"
            )
        position = entry.end
    if position != data_bytes:
        raise FormatError(f"expected {position} bytes of tensors in the file, got {data_bytes}")
    return tuple(entries)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise FormatError("expected distinct keys in a safetensors header, got one twice")
    return table


def _check_metadata(value: object) -> None:
    if not isinstance(value, dict) or any(not isinstance(text, str) for text in value.values()):
        raise FormatError("expected '__metadata__' to map strings to strings")


def _entry(name: str, value: object) -> Entry:
    if not 1 <= len(name) <= MAX_NAME_CHARS + _SUFFIX_CHARS or not name.isprintable():
        raise FormatError(f"tensor {name[:80]!r}: expected a shorter, printable name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {name!r}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise FormatError(f"tensor {name!r}: expected a dtype string and a shape list")
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise FormatError(f"tensor {name!r}: expected data_offsets of two integers")
    try:
        check_shape(name, dtype, tuple(shape))
    except LayoutError as error:
        raise FormatError(str(error)) from error
    first, end = offsets
    size_bytes = math.prod(shape) * ITEM_BYTES[dtype]
    if first < 0 or end - first != size_bytes:
        raise FormatError(
            f"tensor {name!r}: expected data_offsets {size_bytes} bytes apart, got {end - first}"
        )
    return Entry(name=name, dtype=dtype, shape=tuple(shape), first=first, end=end)


class TensorFile:
    """An open file of tensors, read with `pread` into the caller's buffers.

    Nothing is mapped: a mapped file's pages would count as this process's memory.  Reads keep no
    position, so threads may share one.
    """

    __slots__ = ("_fd", "_owned", "data_start", "entries", "size_bytes")

    def __init__(
        self, fd: int, *, owned: bool, entries: tuple[Entry, ...], data_start: int
    ) -> None:
        self._fd = fd
        self._owned = owned
        self.entries = entries
        self.data_start = data_start
        self.size_bytes = data_start + entries[-1].end

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if `open_tensorfile` opened it."""
        if self._owned:
            os.close(self._fd)
            self._owned = False

    def check_layout(self, layout: Layout) -> None:
        """Raise `LayoutError`, naming the first difference, unless the file holds just `layout`."""
        for want, got in zip_longest(layout_entries(layout), self.entries):
            if want == got:
                continue
            if want is None:
                raise LayoutError(f"expected no tensor {got.name!r}: the agreement has none such")
            came = f"{got.name!r} {got.dtype}{list(got.shape)}" if got else "the end of the file"
            raise LayoutError(
                f"expected tensor {want.name!r} {want.dtype}{list(want.shape)}, got {came}; "
                "write the tensors of the agreed layout, in its order"
            )

    def read_into(self, offset_elements: int, buffer: Vector) -> None:
        """Fill `buffer` with the flat vector from element `offset_elements` on.

        Shape: `buffer` is contiguous float32; every tensor of the file must be F32 (`check_layout`
        with a layout that crosses).  Raises `FormatError` when the file ends before.
        """
        self.read_bytes_into(offset_elements * 4, buffer.data.cast("B"))

    def read_segment(self, segment: Segment, values_P: Vector) -> None:
        """Fill `values_P` with a segment of the file's own layout: the file as a `Source`."""
        self.read_into(segment.first, values_P)

    def read_bytes_into(self, offset_bytes: int, buffer: memoryview) -> None:
        """Fill `buffer` with the tensors' bytes from `offset_bytes` behind the header on."""
        read_exactly(self._fd, self.data_start + offset_bytes, buffer)


def open_tensorfile(source: Path | int) -> TensorFile:
    """Open a path, or look at an open file descriptor, which stays the caller's to close.

    Lengths are checked before anything is allocated.  Raises `FormatError`.
    """
    owned = isinstance(source, Path)
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC) if isinstance(source, Path) else source
    try:
        size_bytes = os.fstat(fd).st_size
        prefix = bytearray(_LENGTH_BYTES)
        read_exactly(fd, 0, memoryview(prefix))
        header_length = int.from_bytes(prefix, "little")
        data_start = _LENGTH_BYTES + header_length
        if header_length > MAX_HEADER_BYTES or data_start > size_bytes:
            raise FormatError(
                f"expected a header of at most {min(MAX_HEADER_BYTES, size_bytes)} bytes, "
                f"got one of {header_length}"
            )
        text = bytearray(header_length)
        read_exactly(fd, _LENGTH_BYTES, memoryview(text))
        entries = parse_header(bytes(text), data_bytes=size_bytes - data_start)
    except BaseException:
        if owned:
            os.close(fd)
        raise
    return TensorFile(fd, owned=owned, entries=entries, data_start=data_start)


def write_tensors(fd: int, layout: Layout, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write `tensors` as a canonical file of `layout` at the start of `fd`.

    Raises `LayoutError` when a tensor is missing, unknown or of another shape or dtype.  The
    arrays are the caller's whole model: for a site, which holds one anyway.
    """
    unknown = set(tensors) - {spec.name for spec in layout.specs}
    if unknown:
        raise LayoutError(f"expected only tensors of the layout, got {sorted(unknown)[:3]} as well")
    entries = layout_entries(layout)
    header = header_bytes(entries)
    write_all(fd, 0, memoryview(header))
    for entry in entries:
        tensor = tensors.get(entry.name)
        if tensor is None:
            raise LayoutError(f"expected tensor {entry.name}, got none of that name")
        if tensor.shape != entry.shape or tensor.dtype != NUMPY_DTYPES[entry.dtype]:
            raise LayoutError(
                f"tensor {entry.name}: expected {entry.dtype}{list(entry.shape)}, "
                f"got {tensor.dtype}{list(tensor.shape)}"
            )
        flat = np.ascontiguousarray(tensor).reshape(-1)
        write_all(fd, len(header) + entry.first, flat.view(np.uint8).data)


def write_all(fd: int, offset: int, data: memoryview) -> None:
    """Write all of `data` (of bytes) at `offset`; the kernel may take it in several pieces."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)


def read_exactly(fd: int, offset: int, buffer: memoryview) -> None:
    """Fill `buffer` (of bytes) from `offset`; raises `FormatError` when the file ends before."""
    done = 0
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if count == 0:
            raise FormatError(
                f"expected {len(buffer)} bytes at offset {offset} of a tensor file, got {done}; "
                "the file is cut short"
            )
        done += count
