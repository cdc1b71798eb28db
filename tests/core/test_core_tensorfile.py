"""Tensor files: read by other tools, byte-identical for equal models, strict about everything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.tensor_world import content_of, file_of, layout_of, memory_file, model_of, normal

from ringfence.core.errors import Error, FormatError, LayoutError
from ringfence.core.tensorfile import (
    MAX_HEADER_BYTES,
    header_bytes,
    layout_entries,
    open_tensorfile,
    write_tensors,
)
from ringfence.core.tensors import Layout, TensorSpec

MIXED = Layout(
    specs=(
        TensorSpec(name="conv.weight", shape=(3, 2, 2), dtype="F32", module="body"),
        TensorSpec(name="norm.batches", shape=(), dtype="I64", module="norm"),
        TensorSpec(name="mask", shape=(5,), dtype="U8", module="norm"),
    )
)
TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "conv.weight": normal(1, 12).reshape(3, 2, 2),
    "norm.batches": np.array(7, np.int64),
    "mask": np.arange(5, dtype=np.uint8),
}


def with_header(table: object, data: bytes = bytes(8)) -> int:
    """A file with any JSON (or text) as its header."""
    text = table.encode() if isinstance(table, str) else json.dumps(table).encode()
    return memory_file(len(text).to_bytes(8, "little") + text + data)


def tensor(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_the_safetensors_library_reads_what_we_write() -> None:
    # given a file of ours
    content = content_of(file_of(MIXED, TENSORS))

    # when the library loads it
    loaded = safetensors.numpy.load(content)

    # then it finds the same tensors
    assert list(loaded)
    assert set(loaded) == set(TENSORS)
    for name, values in TENSORS.items():
        assert loaded[name].dtype == values.dtype
        np.testing.assert_array_equal(loaded[name], values)


def test_we_read_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    # given a file of the library, with metadata and in the library's own order
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(TENSORS, path, metadata={"format": "np"})

    # when we open it
    with open_tensorfile(path) as file:
        found = {entry.name: entry for entry in file.entries}
        values = np.empty(TENSORS["conv.weight"].size, np.float32)
        file.read_bytes_into(found["conv.weight"].first, memoryview(values).cast("B"))

    # then the tensors are there
    assert set(found) == set(TENSORS)
    np.testing.assert_array_equal(values, TENSORS["conv.weight"].ravel())


def test_equal_models_give_identical_files() -> None:
    # given equal tensors in another order and in another memory order
    shuffled = {name: np.array(TENSORS[name], order="F") for name in reversed(TENSORS)}

    # when both are written, then the bytes are the same
    assert content_of(file_of(MIXED, shuffled)) == content_of(file_of(MIXED, TENSORS))


def test_the_header_is_frozen() -> None:
    assert header_bytes(layout_entries(MIXED)) == (
        b"\xc0\x00\x00\x00\x00\x00\x00\x00"
        b'{"conv.weight":{"dtype":"F32","shape":[3,2,2],"data_offsets":[0,48]},'
        b'"norm.batches":{"dtype":"I64","shape":[],"data_offsets":[48,56]},'
        b'"mask":{"dtype":"U8","shape":[5],"data_offsets":[56,61]}} '
    )


@given(st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=5))
def test_a_written_layout_is_read_again(shapes: list[list[int]]) -> None:
    # given any layout and a flat vector
    layout = layout_of(*map(tuple, shapes))
    flat_P = normal(2, layout.elements)

    # when it is written and opened
    file = model_of(layout, flat_P)

    # then it is the layout, and any part of the vector comes back
    file.check_layout(layout)
    assert file.data_start % 8 == 0
    part = np.empty(layout.elements - layout.elements // 2, np.float32)
    file.read_into(layout.elements // 2, part)
    np.testing.assert_array_equal(part, flat_P[layout.elements // 2 :])


@pytest.mark.parametrize(
    "table",
    [
        "",
        "[]",
        "{",
        '{"a": NaN}',
        "{" * 5000,
        '{"a":' + "[" * 100_000,
        (
            '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        ),
        '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,8]}}',
        {},
        {"__metadata__": {}},
        {"__metadata__": {"a": 1}, "a": tensor()},
        {"__metadata__": [], "a": tensor()},
        {"a": None},
        {"a": {**tensor(), "more": 1}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": tensor(dtype="F8")},
        {"a": tensor(dtype=4)},
        {"a": tensor(dtype=["F32"])},
        {"a": tensor(shape="2")},
        {"a": tensor(shape=[2.0])},
        {"a": tensor(shape=[True, 2])},
        {"a": tensor(shape=[-1, -2])},
        {"a": tensor(shape=[0], offsets=[0, 0])},
        {"a": tensor(shape=[1 << 62, 1 << 62])},
        {"a": tensor(shape=[1] * 9 + [2])},
        {"a": tensor(offsets=[0, 8.0])},
        {"a": tensor(offsets=[0, 4])},
        {"a": tensor(offsets=[8, 0])},
        {"a": tensor(offsets=[-8, 0])},
        {"a": tensor(offsets=[0])},
        {"a": tensor(offsets=[False, 8])},
        {"a": tensor(shape=[1], offsets=[4, 8])},
        {"a": tensor(shape=[1], offsets=[0, 4])},
        {"a": tensor(), "b": tensor()},
        {"a": tensor(shape=[1], offsets=[0, 4]), "b": tensor(dtype="U8", offsets=[5, 7])},
        {"a": tensor(shape=[3], offsets=[0, 12])},
        {"a\n": tensor()},
        {"": tensor()},
        {"a" * 300: tensor()},
    ],
    ids=lambda table: repr(table)[:60],
)
def test_refuses_a_malformed_header(table: object) -> None:
    fd = with_header(table)
    with pytest.raises(FormatError):
        open_tensorfile(fd)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        bytes(8),
        (9).to_bytes(8, "little") + b"{}",
        (1 << 63).to_bytes(8, "little") + b"{}",
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"\xff\xfe",
    ],
)
def test_refuses_a_length_before_it_allocates(content: bytes) -> None:
    fd = memory_file(content)
    with pytest.raises(FormatError):
        open_tensorfile(fd)


def test_refuses_a_header_longer_than_any_model_needs() -> None:
    # given a large (and sparse) file whose header claims to be a byte too long
    fd = memory_file((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    os.ftruncate(fd, MAX_HEADER_BYTES + 100)

    # when it is opened, then the length alone is looked at
    with pytest.raises(FormatError, match="header of at most"):
        open_tensorfile(fd)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_consistently(data: st.DataObject) -> None:
    # given a file of ours in which some bytes of the header were changed, or that was cut
    content = bytearray(content_of(file_of(MIXED, TENSORS)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 199))] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(content), len(content) - 1, 100, 7]))

    # when it is opened
    try:
        file = open_tensorfile(memory_file(bytes(content[:size])))
    except FormatError:
        return

    # then what was accepted fills the file exactly
    assert file.size_bytes == size
    assert [entry.first for entry in file.entries[1:]] == [e.end for e in file.entries[:-1]]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (layout_of((2,), (4,)), "'t1' F32\\[4\\], got 't1' F32\\[3\\]"),
        (layout_of((2,)), "no tensor 't1'"),
        (layout_of((2,), (3,), (1,)), "'t2' F32\\[1\\], got the end"),
    ],
)
def test_names_the_first_difference_from_the_layout(layout: Layout, message: str) -> None:
    # given a file of another layout
    file = model_of(layout_of((2,), (3,)), normal(3, 5))

    # when it is compared, then the error says where they part
    with pytest.raises(LayoutError, match=message):
        file.check_layout(layout)


@pytest.mark.parametrize(
    "wrong",
    [
        {"t0": normal(4, 3)},
        {"t0": normal(4, 2).view(np.int32)},
        {},
        {"t0": normal(4, 2), "t9": normal(4, 2)},
    ],
    ids=["shape", "dtype", "missing", "unknown"],
)
def test_refuses_to_write_other_tensors_than_the_layouts(
    wrong: dict[str, np.ndarray[Any, Any]],
) -> None:
    with pytest.raises(Error):
        write_tensors(memory_file(), layout_of((2,)), wrong)


def test_reading_past_the_end_is_a_fault() -> None:
    file = model_of(layout_of((4,)), normal(5, 4))

    with pytest.raises(FormatError, match="cut short"):
        file.read_into(1, np.empty(4, np.float32))


def test_closes_only_what_it_opened(tmp_path: Path) -> None:
    # given one file opened by path and one by descriptor
    layout = layout_of((2,))
    path = tmp_path / "a.safetensors"
    path.write_bytes(content_of(file_of(layout, {"t0": normal(6, 2)})))
    fd = memory_file(path.read_bytes())

    # when both are closed, twice
    for file in (open_tensorfile(path), open_tensorfile(fd)):
        file.close()
        file.close()

    # then the descriptor is still the caller's
    assert os.fstat(fd).st_size == path.stat().st_size
