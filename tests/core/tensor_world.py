"""Layouts, values and memory files for tests of everything numerical."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ringfence.core.tensorfile import (
    TensorFile,
    header_bytes,
    layout_entries,
    open_tensorfile,
    write_all,
    write_tensors,
)
from ringfence.core.tensors import Layout, Segment, Source, TensorSpec, Vector

F32 = np.float32

_memory_files: list[int] = []


def close_memory_files() -> None:
    """Close what `memory_file` opened."""
    while _memory_files:
        os.close(_memory_files.pop())


def layout_of(*shapes: tuple[int, ...], module: str = "body") -> Layout:
    """A float32 layout of tensors `t0`, `t1`, …"""
    return Layout(
        specs=tuple(
            TensorSpec(name=f"t{index}", shape=shape, dtype="F32", module=module)
            for index, shape in enumerate(shapes)
        )
    )


def memory_file(content: bytes = b"") -> int:
    """An open, anonymous file; it goes with the test."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    _memory_files.append(fd)
    write_all(fd, 0, memoryview(content))
    return fd


def content_of(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def model_of(layout: Layout, flat_P: Vector) -> TensorFile:
    """A file of `layout` with the given flat vector."""
    header = header_bytes(layout_entries(layout))
    return open_tensorfile(memory_file(header + flat_P.astype("<f4").tobytes()))


def file_of(layout: Layout, tensors: Mapping[str, npt.NDArray[Any]]) -> int:
    fd = memory_file()
    write_tensors(fd, layout, tensors)
    return fd


def source_of(flat_P: Vector) -> Source:
    """The flat vector as a source."""

    def fill(segment: Segment, values_P: Vector) -> None:
        values_P[:] = flat_P[segment.first : segment.first + segment.elements]

    return fill


def normal(seed: int, elements: int, scale: float = 1.0) -> Vector:
    """Standard normal float32 values, times `scale`."""
    return np.random.default_rng(seed).standard_normal(elements, dtype=F32) * F32(scale)
