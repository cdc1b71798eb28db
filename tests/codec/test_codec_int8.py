"""int8: within one step, unbiased, repeatable, and honest about what it cannot represent."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st
from tests.codec.codec_world import decoded, encoded, int8_parts
from tests.core.tensor_world import layout_of, normal

from ringfence.codec.int8 import MAX_MAGNITUDE
from ringfence.core.errors import NotFiniteError
from ringfence.core.tensors import SEGMENT_VALUES, Vector

SEED = bytes(range(32))
LARGEST = float(np.nextafter(np.float32(MAX_MAGNITUDE), np.float32(0)))


def errors_in_steps(
    flat_P: Vector, seed: bytes = SEED
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(q·s - v) / s of one tensor, in float64; 0 where s is 0."""
    codes_P, scales_B = int8_parts(flat_P, seed)
    scales_P = np.repeat(scales_B, 256)[: len(flat_P)].astype(np.float64)
    error_P = codes_P * scales_P - flat_P.astype(np.float64)
    return np.divide(error_P, scales_P, out=np.zeros_like(error_P), where=scales_P != 0)


@given(
    numpy_st.arrays(
        np.float32,
        st.integers(1, 600),
        elements=st.floats(-LARGEST, LARGEST, width=32, allow_subnormal=True),
        fill=st.nothing(),
    )
)
def test_every_value_comes_back_within_one_step(flat_P: Vector) -> None:
    # given any finite values, from denormal to huge
    # when they are encoded
    codes_P, scales_B = int8_parts(flat_P, SEED)

    # then codes use 127 steps at most, and no value moves by more than one
    assert np.abs(codes_P.astype(int)).max() <= 127
    assert np.abs(errors_in_steps(flat_P)).max() <= 1 + 1e-5
    assert np.isfinite(127 * scales_B).all()


@pytest.mark.parametrize("power", range(-149, 127, 3))
def test_the_largest_value_of_a_block_does_not_wrap_round(power: int) -> None:
    # given blocks whose largest values have every kind of mantissa, of both signs
    mantissas = np.linspace(1, 2, 509, endpoint=False)
    largest_B = np.minimum(np.ldexp(mantissas, power), LARGEST).astype(np.float32)
    blocks = np.repeat(largest_B, 256) * np.tile(np.float32([1, -1]), 509 * 128)

    # when they are encoded, then each stays within a step, so none turned into its opposite
    assert np.abs(errors_in_steps(blocks)).max() <= 1 + 1e-5


def test_scales_are_the_largest_magnitude_over_127_and_0_for_zeros() -> None:
    # given a block of zeros, one of a single value, and a short one
    flat_P = np.zeros(256 * 2 + 3, np.float32)
    flat_P[300] = -12.7
    flat_P[-1] = 1e-3

    # when it is encoded
    codes_P, scales_B = int8_parts(flat_P, SEED)

    # then
    assert scales_B[0] == 0
    np.testing.assert_allclose(scales_B[1:], [0.1, 1e-3 / 127], rtol=1e-6)
    assert codes_P[300] == -127
    assert np.count_nonzero(codes_P) == 2


def test_rounding_is_unbiased() -> None:
    # given 64 values, spread over one step and over the whole range, near-integers among them
    draws = 100_000
    values_V = np.concatenate(
        [np.linspace(0, 1, 31), np.linspace(-126, 126, 30), [127, 3.001, -2.999]]
    ).astype(np.float32)
    flat_P = np.tile(np.repeat(values_V, 4), draws // 4)

    # when each is encoded 1e5 times
    codes_P, scales_B = int8_parts(flat_P, SEED)

    # then its mean is off by less than 4 standard errors (and float32's own rounding)
    codes_DV = codes_P.reshape(-1, 64, 4).transpose(0, 2, 1).reshape(draws, 64).astype(np.float64)
    bias_V = codes_DV.mean(axis=0) * scales_B[0] - values_V
    error_V = codes_DV.std(axis=0) * scales_B[0] / np.sqrt(draws)
    assert (scales_B == scales_B[0]).all()
    assert np.abs(bias_V / (4 * error_V + 2**-16)).max() < 1


def test_errors_of_a_tensor_cancel() -> None:
    # given a million normal values, so that no fine part of the rounding stands alone
    error_P = errors_in_steps(normal(1, 1_000_000))

    # when the errors are summed over the tensor, over its columns of 1024 and of 8192 values
    means = [
        error_P.mean(),
        *error_P[: 976 * 1024].reshape(-1, 1024).mean(axis=0) * np.sqrt(976 / 1e6),
        *error_P[: 122 * 8192].reshape(-1, 8192).mean(axis=0) * np.sqrt(122 / 1e6),
    ]

    # then none is more than chance allows (5.5 standard errors, of 9217)
    assert np.abs(means).max() < 5.5 * error_P.std() / np.sqrt(1e6)
    assert 0.40 < error_P.std() < 0.42  # sqrt(E[f(1-f)]) = 0.408 for uniform fractions


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_seed_repeats_the_bytes_whatever_the_threads(threads: int) -> None:
    # given odd sizes, some of several segments
    layout = layout_of((3,), (SEGMENT_VALUES + 1,), (257, 3), (), (2 * SEGMENT_VALUES + 100,))
    flat_P = normal(2, layout.elements)

    # when the layout is encoded again, and with another seed
    first = encoded("int8", layout, flat_P, seed=SEED)
    again = encoded("int8", layout, flat_P, seed=SEED, threads=threads)
    other = encoded("int8", layout, flat_P, seed=bytes(32), threads=threads)

    # then the seed decides
    assert again == first
    assert other.content != first.content


def test_no_two_segments_are_rounded_alike() -> None:
    # given the same values in many tensors, small and large
    layout = layout_of(*[(24,)] * 50, *[(SEGMENT_VALUES,)] * 2)
    values_P = normal(3, SEGMENT_VALUES)
    flat_P = np.concatenate([np.tile(values_P[:24], 50), values_P, values_P])

    # when they are encoded
    tensors = safetensors.numpy.load(encoded("int8", layout, flat_P, seed=SEED).content)

    # then no two tensors got the same codes
    assert len({tensors[f"t{index}"].tobytes() for index in range(52)}) == 52


def test_the_clip_factor_scales_what_is_decoded() -> None:
    # given values encoded with and without a factor
    layout = layout_of((1000,), (7,))
    flat_P = normal(4, layout.elements)
    whole_P = decoded("int8", layout, encoded("int8", layout, flat_P, seed=SEED).content)

    # when both are decoded
    half = encoded("int8", layout, flat_P, seed=SEED, factor=0.5)
    half_P = decoded("int8", layout, half.content)

    # then one is half the other
    np.testing.assert_array_equal(half_P, whole_P * np.float32(0.5))


@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf, -np.inf, MAX_MAGNITUDE, -MAX_MAGNITUDE])
@pytest.mark.parametrize("threads", [1, 2])
def test_names_the_tensor_that_is_not_finite_and_not_the_value(wrong: float, threads: int) -> None:
    # given one bad value, in the second of three tensors
    layout = layout_of((300,), (SEGMENT_VALUES + 10,), (2,))
    flat_P = normal(5, layout.elements)
    flat_P[300 + SEGMENT_VALUES + 5] = wrong

    # when it is encoded, then the error says where
    with pytest.raises(NotFiniteError, match="tensor t1: expected finite"):
        encoded("int8", layout, flat_P, seed=SEED, threads=threads)


def test_the_safetensors_library_reads_the_payload() -> None:
    # given a payload of odd sizes
    layout = layout_of((3, 5), (), (257,))
    flat_P = normal(6, layout.elements)
    content = encoded("int8", layout, flat_P, seed=SEED).content

    # when the library loads it
    tensors = safetensors.numpy.load(content)

    # then codes have the layout's shapes, scales one number a block, and they give our values
    assert {name: (t.dtype.str, t.shape) for name, t in tensors.items()} == {
        "t0": ("|i1", (3, 5)),
        "t0:scale": ("<f4", (1,)),
        "t1": ("|i1", ()),
        "t1:scale": ("<f4", (1,)),
        "t2": ("|i1", (257,)),
        "t2:scale": ("<f4", (2,)),
    }
    expected = tensors["t2"] * np.repeat(tensors["t2:scale"], 256)[:257]
    np.testing.assert_array_equal(decoded("int8", layout, content)[16:], expected)
