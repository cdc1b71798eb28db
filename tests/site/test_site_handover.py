"""y - x in a memory file, and regional state under its digest."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from tests.site.site_world import open_descriptors

from ringfence.core.errors import FormatError, LayoutError, StateError
from ringfence.core.ids import Digest
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.site.handover import KEPT_BYTES, UpdateMemory, check_sealed
from ringfence.site.state import load_state, save_state
from ringfence.site.tensorviews import Tensor, Tensors

SHAPES = st.lists(st.integers(1, 7), max_size=4).map(tuple)


def layout_of(*shapes: tuple[int, ...]) -> Layout:
    return Layout(
        specs=tuple(
            TensorSpec(name=f"t{index}", shape=shape, dtype="F32", module="m")
            for index, shape in enumerate(shapes)
        )
    )


def difference(after: Tensors, before: Tensors, layout: Layout) -> Tensor:
    """What the gateway reads of an update that is handed over."""
    memory = UpdateMemory(layout)
    values_P = read(memory.write_difference(after, before), layout)
    memory.close()
    return values_P


def read(descriptor: int, layout: Layout) -> Tensor:
    check_sealed(descriptor, size_bytes=layout.size_bytes)
    return np.frombuffer(os.pread(descriptor, layout.size_bytes, 0), dtype="<f4")


def laid_out(values: Tensor, way: int) -> Tensor:
    """The same values in another order in memory: as they are, transposed, or with gaps."""
    if way == 1:
        return np.asfortranarray(values)
    if way == 2:
        wide = np.zeros((*values.shape, 3), values.dtype)
        wide[..., 1] = values
        return wide[..., 1]
    return values


@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=4),
    ways=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    seed=st.integers(0, 2**32),
)
def test_the_update_is_the_difference_however_the_arrays_lie_in_memory(
    shapes: list[tuple[int, ...]], ways: tuple[int, int], seed: int
) -> None:
    # given two models
    layout = layout_of(*shapes)
    draw = np.random.default_rng(seed)
    before = {s.name: draw.standard_normal(s.shape).astype("f4") for s in layout.specs}
    after = {s.name: draw.standard_normal(s.shape).astype("f4") for s in layout.specs}
    # when their difference is handed over
    update = difference(
        {name: laid_out(np.asarray(value), ways[0]) for name, value in after.items()},
        {name: laid_out(np.asarray(value), ways[1]) for name, value in before.items()},
        layout,
    )
    # then it is the plain one, flat, in layout order
    plain = [np.asarray(after[s.name] - before[s.name]).reshape(-1) for s in layout.specs]
    np.testing.assert_array_equal(update, np.concatenate(plain))


@pytest.mark.parametrize("turned", [False, True])
def test_a_big_update_needs_no_memory_beside_its_file(turned: bool) -> None:
    # given a model of 64 MB, its tensors longer than a block and no multiple of it
    layout = layout_of((4001, 2003), (1,), (2001, 4007))
    before = {s.name: np.full(s.shape, 0.5, "f4") for s in layout.specs}
    after = {s.name: np.full(s.shape[::-1], 2.0, "f4").T for s in layout.specs}
    if not turned:
        after = {name: np.ascontiguousarray(value) for name, value in after.items()}
    tracemalloc.start()
    # when it is handed over
    memory = UpdateMemory(layout)
    update = memory.write_difference(after, before)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # then a few blocks of 256 KiB were all that it took
    assert peak_bytes < 4 * 2**20
    assert np.array_equal(read(update, layout), np.full(layout.elements, 1.5, "f4"))
    memory.close()


def test_an_update_that_overflows_is_left_to_the_gateway() -> None:
    # given values whose difference is no float32
    layout = layout_of((2,))
    most = np.finfo("f4").max
    after = {"t0": np.array([most, np.nan], "f4")}
    before = {"t0": np.array([-most, 0], "f4")}
    # when it is handed over
    values = difference(after, before, layout)
    # then it says so, without a warning in the script
    assert np.isinf(values[0])
    assert np.isnan(values[1])


def test_every_update_goes_into_the_same_memory() -> None:
    # given a site that has handed an update over
    layout = layout_of((3,), (2,))
    zeros = {spec.name: np.zeros(spec.shape, "f4") for spec in layout.specs}
    ones = {spec.name: np.ones(spec.shape, "f4") for spec in layout.specs}
    memory = UpdateMemory(layout)
    first = os.fstat(memory.write_difference(ones, zeros)).st_ino
    memory.rest()
    # when it hands over the next
    second = memory.write_difference(zeros, ones)
    # then that has taken the place of the first
    assert os.fstat(second).st_ino == first
    assert (read(second, layout) == -1).all()
    memory.close()


def test_a_huge_update_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # given an update above the bound, which stands at its place in miniature
    layout = layout_of((3,))
    monkeypatch.setattr("ringfence.site.handover.KEPT_BYTES", layout.size_bytes - 1)
    assert KEPT_BYTES == 4 * 2**30
    held = open_descriptors()
    memory = UpdateMemory(layout)
    memory.write_difference({"t0": np.ones(3, "f4")}, {"t0": np.zeros(3, "f4")})
    # when it is answered
    memory.rest()
    # then no memory file stays
    assert open_descriptors() == held


# ---- regional state ----------------------------------------------------------------------------


def test_state_comes_back_as_it_was_stored_and_read_only(tmp_path: Path) -> None:
    # given state of several types, in any memory order
    state = {
        "bn.mean": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        "bn.count": np.array(7, np.int64),
        "mask": np.array([True, False]),
        "half": np.ones(3, np.float16),
        "steps": np.arange(10, dtype=np.uint8)[::3],
    }
    # when it is stored and loaded
    digest = save_state(tmp_path / "site" / "state", state)
    loaded = load_state(tmp_path / "site" / "state", digest)
    # then nothing changed, and nothing can
    for name, value in state.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype
        assert not loaded[name].flags.writeable
    assert set(loaded) == set(state)


def test_equal_state_has_one_digest_and_one_file(tmp_path: Path) -> None:
    # given the same state in two orders
    one = {"a": np.ones(2), "b": np.zeros(3)}
    two = {"b": np.zeros(3), "a": np.ones(2)}
    # when both are stored
    digests = {save_state(tmp_path, one), save_state(tmp_path, two)}
    # then there is one of them, readable by its owner only, and no leavings
    (path,) = tmp_path.iterdir()
    assert [path.name] == [f"{digest.replace(':', '-')}.safetensors" for digest in digests]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_digest_of_state_is_frozen(tmp_path: Path) -> None:
    # given a state whose file earlier versions have stored
    state = {"bn.mean": np.array([1, 2], "f4"), "bn.count": np.array(3, np.int64)}
    # when it is stored again
    digest = save_state(tmp_path, state)
    # then it has the digest that gateways remember
    assert digest == "blake3:90a27df8f03a6f2466dd9af2b129e3691e512a2cef6ea148627d439a3b8f040c"


@pytest.mark.parametrize("way", ["flipped", "cut", "longer", "empty", "another"])
def test_state_whose_bytes_are_others_is_refused(tmp_path: Path, way: str) -> None:
    # given a stored state that was tampered with
    digest = save_state(tmp_path, {"a": np.arange(4.0)})
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    another = save_state(tmp_path, {"a": np.arange(5.0)})
    changed = {
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "cut": data[:-8],
        "longer": data + bytes(8),
        "empty": b"",
        "another": (tmp_path / f"{another.replace(':', '-')}.safetensors").read_bytes(),
    }
    path.write_bytes(changed[way])
    # when it is loaded
    with pytest.raises(StateError, match=f"expected {digest}"):
        load_state(tmp_path, digest)
    # then (above) it is refused


def test_state_that_is_not_there_says_where_it_should_be(tmp_path: Path) -> None:
    # given a home without that state
    digest = Digest("blake3:" + "0" * 64)
    # when it is loaded
    with pytest.raises(StateError, match=r"blake3-0+\.safetensors, got no such file"):
        load_state(tmp_path, digest)
    # then (above) it says where it looked


def test_state_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    # given state that no tensor file can hold
    for value in (np.ones(2, complex), np.ones((0, 2)), np.ones(2, ">f4"), [1.0, 2.0]):
        # when it is stored
        with pytest.raises(LayoutError, match="tensor bad"):
            save_state(tmp_path, {"good": np.ones(2), "bad": value})  # type: ignore[dict-item]
    # then there is no file
    assert list(tmp_path.iterdir()) == []


def test_state_of_a_type_that_numpy_lacks_is_a_format_error(tmp_path: Path) -> None:
    # given a file that another program stored as state, with a dtype of its own
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(2)
    digest = Digest("blake3:" + blake3(data).hexdigest())
    (tmp_path / f"{digest.replace(':', '-')}.safetensors").write_bytes(data)
    # when it is loaded
    with pytest.raises(FormatError, match="numpy has no dtype BF16"):
        load_state(tmp_path, digest)
    # then (above) it says so
