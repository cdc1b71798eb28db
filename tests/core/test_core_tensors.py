"""Layouts: names, limits, modules, and the segments that every pass walks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.tensor_world import layout_of

from ringfence.core.errors import LayoutError
from ringfence.core.tensors import (
    MAX_TOTAL_BYTES,
    SEGMENT_VALUES,
    Layout,
    TensorSpec,
    segments,
)


def spec(name: str = "w", dtype: str = "F32", module: str = "body") -> TensorSpec:
    return TensorSpec(name=name, shape=(2, 3), dtype=dtype, module=module)


@pytest.mark.parametrize(
    "name",
    ["", "a" * 201, "__metadata__", "a:scale", "a b", "-a", "../a", "a\n", "ä", "a\0"],
)
def test_refuses_a_tensor_name(name: str) -> None:
    with pytest.raises(LayoutError):
        spec(name)


@pytest.mark.parametrize("module", ["", "a/b", "m" * 65, "a\n"])
def test_refuses_a_module_name(module: str) -> None:
    with pytest.raises(LayoutError):
        spec(module=module)


@pytest.mark.parametrize(
    "shape",
    [(0,), (-1,), (1,) * 9, (MAX_TOTAL_BYTES + 1,), (1 << 30, 1 << 30), (True,), (2.0,)],
)
def test_refuses_a_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError):
        TensorSpec(name="w", shape=shape, dtype="F32", module="body")


def test_refuses_an_unknown_dtype() -> None:
    with pytest.raises(LayoutError, match="F8"):
        spec(dtype="F8_E4M3")


def test_refuses_two_tensors_of_one_name_and_none_at_all() -> None:
    for specs in ((spec(), spec(module="head")), ()):
        with pytest.raises(LayoutError):
            Layout(specs=specs)


def test_refuses_more_bytes_than_any_model_has() -> None:
    # given two tensors, each within the limits
    half = [
        TensorSpec(name=name, shape=(MAX_TOTAL_BYTES // 8 + 1,), dtype="F32", module="m")
        for name in "ab"
    ]

    # when both are to be one model, then it is too large
    Layout(specs=(half[0],))
    with pytest.raises(LayoutError):
        Layout(specs=tuple(half))


def test_counts_elements_bytes_and_flat_starts() -> None:
    layout = layout_of((2, 3), (), (5,))

    assert layout.elements == 12
    assert layout.size_bytes == 48
    assert layout.starts == (0, 6, 7)


def test_selects_modules_in_layout_order() -> None:
    # given three tensors of two modules
    layout = Layout(specs=(spec("a"), spec("b", module="norm"), spec("c")))

    # when one module is selected, then its tensors keep their order
    assert [s.name for s in layout.select({"body"}).specs] == ["a", "c"]
    assert layout.select({"norm", "body"}) == layout
    for modules in ({"head"}, set[str]()):
        with pytest.raises(LayoutError):
            layout.select(modules)


def test_only_float32_may_cross() -> None:
    layout = Layout(specs=(spec("a"), spec("b", dtype="I64")))

    layout_of((2,)).require_float32()
    with pytest.raises(LayoutError, match="tensor b"):
        layout.require_float32()


def test_the_digest_is_frozen_and_sees_every_part() -> None:
    # given a layout and its neighbours, each different in one part
    layout = Layout(specs=(spec("a"), spec("b")))
    others = [
        Layout(specs=(spec("b"), spec("a"))),
        Layout(specs=(spec("a"), spec("c"))),
        Layout(specs=(spec("a"), spec("b", dtype="I32"))),
        Layout(specs=(spec("a"), spec("b", module="head"))),
        Layout(specs=(spec("a"),)),
    ]

    # when digests are taken, then all differ and the first is what it was when it was frozen
    assert len({layout.digest, *(other.digest for other in others)}) == 6
    assert layout.digest.startswith("sha256:35e05c1012cb732c")


@given(
    st.lists(
        st.sampled_from([1, 255, 256, 257, SEGMENT_VALUES - 1, SEGMENT_VALUES + 1, 600_000]),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_segments_cover_any_range_once_and_stay_inside_tensors(
    sizes: list[int], data: st.DataObject
) -> None:
    # given a layout and a range of its flat vector
    layout = layout_of(*((size,) for size in sizes))
    first = data.draw(st.integers(0, layout.elements))
    end = data.draw(st.integers(first, layout.elements))

    # when the range is cut
    cut = list(segments(layout, first=first, end=end))

    # then the segments follow one another, inside their tensors and their multiples
    position = first
    for segment in cut:
        assert segment.first == position
        assert segment.first - segment.start == layout.starts[segment.tensor]
        assert 0 < segment.elements <= SEGMENT_VALUES
        last = segment.start + segment.elements - 1
        assert last < sizes[segment.tensor]
        assert segment.start // SEGMENT_VALUES == last // SEGMENT_VALUES
        position += segment.elements
    assert position == end
