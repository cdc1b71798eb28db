"""Tensors of a file as numpy arrays that share the file's bytes and cannot be written."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringfence.core.errors import FormatError, LayoutError
from ringfence.core.tensorfile import Entry, open_tensorfile
from ringfence.core.tensors import Layout

Tensor = NDArray[Any]
Tensors = Mapping[str, Tensor]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def dtype_name(name: str, tensor: Tensor) -> str:
    """The safetensors name of an array's dtype; `LayoutError` when the format has none."""
    if not isinstance(tensor, np.ndarray) or tensor.dtype not in _NAMES:
        raise LayoutError(
            f"tensor {name}: expected a numpy array of {sorted(_NAMES.values())}, "
            f"got {type(tensor).__name__} of {getattr(tensor, 'dtype', 'no dtype')}; convert it"
        )
    return _NAMES[tensor.dtype]


def views(buffer: bytes | mmap.mmap, entries: Sequence[Entry], *, data_start: int) -> Tensors:
    """Read-only arrays over `buffer`, a whole file whose tensors start at `data_start`."""
    arrays: dict[str, Tensor] = {}
    for entry in entries:
        if entry.dtype not in _DTYPES:
            raise FormatError(f"tensor {entry.name}: numpy has no dtype {entry.dtype}")
        flat = np.frombuffer(
            buffer,
            dtype=_DTYPES[entry.dtype],
            count=(entry.end - entry.first) // _DTYPES[entry.dtype].itemsize,
            offset=data_start + entry.first,
        )
        flat.flags.writeable = False
        arrays[entry.name] = flat.reshape(entry.shape)
    return MappingProxyType(arrays)


def map_model(descriptor: int, update_layout: Layout) -> Tensors:
    """Map a model file and return its tensors; the descriptor stays the caller's to close.

    The pages belong to the file: nothing is copied, and they are given back when the last view
    goes.  Raises: FormatError when it is no tensor file; LayoutError when a tensor of
    `update_layout` is missing or differs.
    """
    file = open_tensorfile(descriptor)
    held = {entry.name: (entry.dtype, entry.shape) for entry in file.entries}
    for spec in update_layout.specs:
        if held.get(spec.name) != (spec.dtype, spec.shape):
            raise LayoutError(
                f"model file: expected tensor {spec.name} {spec.dtype}{list(spec.shape)}, "
                f"got {held.get(spec.name)}; the gateway holds another model than it agreed to"
            )
    mapped = mmap.mmap(descriptor, file.size_bytes, prot=mmap.PROT_READ)
    return views(mapped, file.entries, data_start=file.data_start)
