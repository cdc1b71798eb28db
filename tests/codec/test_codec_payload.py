"""Payload files: exact float32, digests taken on the way, and every damage found on opening."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from tests.codec.codec_world import decoded, encoded
from tests.core.tensor_world import (
    content_of,
    file_of,
    layout_of,
    memory_file,
    model_of,
    normal,
    source_of,
)

from ringfence.codec import PayloadFile, PayloadFormat, encode, release_seed
from ringfence.codec.writer import PayloadWriter
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.core.errors import Error, FormatError, LayoutError, NotFiniteError, StateError
from ringfence.core.ids import Digest
from ringfence.core.tensors import SEGMENT_VALUES, Layout, TensorSpec, Vector, segments
from ringfence.core.terms import Codec

CODECS: tuple[Codec, ...] = ("float32", "int8")
SMALL = layout_of((3, 5), (), (257,))


@given(st.integers(0, 100), st.sampled_from([1.0, 0.75, 0.0]))
def test_float32_gives_back_exactly_what_was_scaled(seed: int, factor: float) -> None:
    flat_P = normal(seed, SMALL.elements)

    payload = encoded("float32", SMALL, flat_P, factor=factor)

    np.testing.assert_array_equal(
        decoded("float32", SMALL, payload.content), flat_P * np.float32(factor)
    )


def test_a_float32_payload_is_a_model_file() -> None:
    # given a model written by a site
    flat_P = normal(1, SMALL.elements)
    tensors = {"t0": flat_P[:15].reshape(3, 5), "t1": flat_P[15], "t2": flat_P[16:]}
    written = content_of(file_of(SMALL, {name: np.asarray(t) for name, t in tensors.items()}))

    # when the same values are encoded, then the files are equal, and the library reads both
    content = encoded("float32", SMALL, flat_P).content
    assert content == written
    np.testing.assert_array_equal(safetensors.numpy.load(content)["t0"], tensors["t0"])


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("elements", [1, 256, CHUNK_BYTES, 5 * CHUNK_BYTES // 4 + 3])
def test_digests_taken_while_writing_are_those_of_the_file(codec: Codec, elements: int) -> None:
    # given sizes around a chunk
    layout = layout_of((7,), (elements,))

    # when a payload is written
    payload = encoded(codec, layout, normal(2, layout.elements))

    # then its digests are those of reading it
    hasher = ChunkHasher()
    hasher.update(payload.content)
    assert payload.chunked == hasher.finish()


def test_a_front_longer_than_a_chunk_is_hashed_too() -> None:
    # given a file with a front of two chunks and a bit, and one that is nearly all front
    for values in (b"v" * (3 * CHUNK_BYTES), b"v"):
        front = os.urandom(2 * CHUNK_BYTES + 17)
        fd = memory_file()
        writer = PayloadWriter(fd, size_bytes=len(front) + len(values), values_first=len(front))

        # when the values are written in pieces, then the front
        for first in range(0, len(values), 1_000_000):
            writer.write(memoryview(values)[first : first + 1_000_000])
        chunked = writer.finish(front)

        # then the digest is that of the whole
        hasher = ChunkHasher()
        hasher.update(front + values)
        assert content_of(fd) == front + values
        assert chunked == hasher.finish()


def test_an_old_longer_file_leaves_nothing_behind() -> None:
    # given a file that held something longer
    fd = memory_file(b"old" * 10_000)
    form = PayloadFormat(codec="int8", layout=SMALL)
    flat_P = normal(3, SMALL.elements)

    # when a payload is written over it, then the bytes are the payload's alone
    encode(form, source_of(flat_P), fd, seed=bytes(32))
    assert content_of(fd) == encoded("int8", SMALL, flat_P).content


def test_a_source_that_gives_too_little_is_a_fault() -> None:
    writer = PayloadWriter(memory_file(), size_bytes=10, values_first=8)

    with pytest.raises(StateError, match="expected 10 bytes"):
        writer.finish(bytes(8))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("threads", [1, 2])
def test_encoding_holds_no_model(codec: Codec, threads: int) -> None:
    # given a model of 64 MB in a file, read segment by segment
    layout = layout_of((4, 1000, 1000), (4, 1000, 1000), (4, 1000, 1000), (4, 1000, 1000))
    model = model_of(layout, np.zeros(layout.elements, np.float32))
    form = PayloadFormat(codec=codec, layout=layout)

    # when it is encoded and decoded
    tracemalloc.start()
    try:
        fd = memory_file()
        encode(form, model.read_segment, fd, seed=bytes(32), threads=threads)
        total_P = np.zeros(SEGMENT_VALUES, np.float32)
        with PayloadFile(form, fd) as payload:
            for segment in segments(layout):
                payload.add(segment, np.float32(1), total_P[: segment.elements])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # then a few buffers of 1 MiB and one chunk were all it took
    assert peak < 20_000_000


def damage(content: bytes, offset: int, new: bytes) -> bytes:
    return content[:offset] + new + content[offset + len(new) :]


@pytest.mark.parametrize("codec", CODECS)
def test_refuses_another_header_or_size(codec: Codec) -> None:
    # given a payload
    form = PayloadFormat(codec=codec, layout=SMALL)
    content = encoded(codec, SMALL, normal(4, SMALL.elements)).content
    header = len(form.header)

    # when a byte of the header changes, or the size does, then it does not open
    for offset in (0, 7, 8, 20, header - 1):
        changed = bytes([content[offset] ^ 1])
        with pytest.raises(LayoutError, match="payload header"):
            PayloadFile(form, memory_file(damage(content, offset, changed)))
    for size in (0, 8, header, len(content) - 1):
        with pytest.raises(FormatError, match="payload of"):
            PayloadFile(form, memory_file(content[:size]))
    with pytest.raises(FormatError, match="payload of"):
        PayloadFile(form, memory_file(content + b"\0"))


def test_refuses_the_payload_of_another_layout_or_codec() -> None:
    # given a layout of the same sizes under other names
    other = Layout(
        specs=tuple(
            TensorSpec(name=f"u{i}", shape=spec.shape, dtype="F32", module="body")
            for i, spec in enumerate(SMALL.specs)
        )
    )
    flat_P = normal(5, SMALL.elements)

    # when one is opened as the other
    for codec in CODECS:
        with pytest.raises(LayoutError):
            PayloadFile(
                PayloadFormat(codec=codec, layout=other),
                memory_file(encoded(codec, SMALL, flat_P).content),
            )
    with pytest.raises(Error):
        PayloadFile(
            PayloadFormat(codec="int8", layout=SMALL),
            memory_file(encoded("float32", SMALL, flat_P).content),
        )


@pytest.mark.parametrize("scale", [np.nan, -np.nan, np.inf, -np.inf, -1e-3, -0.0, 1.35e36, 3e38])
def test_refuses_a_scale_that_no_encoder_writes(scale: float) -> None:
    # given an int8 payload with one other scale
    form = PayloadFormat(codec="int8", layout=SMALL)
    content = encoded("int8", SMALL, normal(6, SMALL.elements)).content
    offset = form.values_first - 4
    changed = damage(content, offset, np.float32(scale).astype("<f4").tobytes())

    # when it is opened, then it is refused
    with pytest.raises(FormatError, match="scales from 0"):
        PayloadFile(form, memory_file(changed))


def test_the_extreme_payload_decodes_to_finite_numbers() -> None:
    # given the largest scale and codes an attacker can write
    form = PayloadFormat(codec="int8", layout=layout_of((2,)))
    largest = encoded("int8", form.layout, np.float32([1.7e38, 0])).content
    content = damage(largest, form.values_first, b"\x80\x7f")

    # when it is decoded, then nothing overflows
    assert np.isfinite(decoded("int8", form.layout, content)).all()


def test_finds_the_tensor_of_a_float32_payload_that_is_not_finite() -> None:
    # given a payload with a NaN, as a careless or hostile region may send it
    form = PayloadFormat(codec="float32", layout=SMALL)
    content = encoded("float32", SMALL, normal(7, SMALL.elements)).content
    nan = np.float32(np.nan).astype("<f4").tobytes()

    # when its values are checked, then the tensor is named
    with PayloadFile(form, memory_file(content)) as payload:
        payload.check_values()
    with (
        PayloadFile(form, memory_file(damage(content, len(content) - 4, nan))) as payload,
        pytest.raises(NotFiniteError, match="tensor t2"),
    ):
        payload.check_values()


@pytest.mark.parametrize("codec", CODECS)
def test_decoding_adds_the_weighted_values(codec: Codec) -> None:
    # given a payload and a total
    layout = layout_of((600,), (3,))
    flat_P = normal(8, layout.elements)
    content = encoded(codec, layout, flat_P).content
    total_P = normal(9, layout.elements)
    before_P = total_P.copy()

    # when it is added with a weight
    payload = PayloadFile(PayloadFormat(codec=codec, layout=layout), memory_file(content))
    for segment in segments(layout):
        part_P = total_P[segment.first : segment.first + segment.elements]
        payload.add(segment, np.float32(0.3), part_P)

    # then the total grew by that much
    expected_P = before_P + 0.3 * decoded(codec, layout, content).astype(np.float64)
    np.testing.assert_allclose(total_P, expected_P, rtol=1e-6, atol=1e-7)


def test_opens_and_closes_a_path(tmp_path: Path) -> None:
    # given a payload on disk, and a damaged one
    form = PayloadFormat(codec="int8", layout=SMALL)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.write_bytes(encoded("int8", SMALL, normal(10, SMALL.elements)).content)
    cut.write_bytes(b"cut")
    before = len(list(Path("/proc/self/fd").iterdir()))

    # when both are opened and closed
    with PayloadFile(form, whole) as payload:
        payload.check_values()
    with pytest.raises(FormatError):
        PayloadFile(form, cut)

    # then no descriptor is left open
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_only_float32_layouts_have_payloads() -> None:
    counter = TensorSpec(name="count", shape=(), dtype="I64", module="norm")

    with pytest.raises(LayoutError, match="tensor count"):
        PayloadFormat(codec="int8", layout=Layout(specs=(counter,)))


@pytest.mark.parametrize("factor", [-0.1, 1.001, float("nan")])
def test_a_factor_never_lengthens(factor: float) -> None:
    with pytest.raises(ValueError, match="clip factor"):
        encoded("int8", SMALL, normal(11, SMALL.elements), factor=factor)


def test_the_hubs_seed_follows_from_what_was_merged() -> None:
    # given a parent and two payloads
    parent, one, two = (Digest(f"chunked-blake3:{digit * 64}") for digit in "012")

    # when seeds are derived
    seed = release_seed(parent=parent, payloads=(one, two))

    # then they repeat, and differ with any input or its order
    assert seed == release_seed(parent=parent, payloads=[one, two])
    others = {
        release_seed(parent=parent, payloads=(two, one)),
        release_seed(parent=one, payloads=(one, two)),
        release_seed(parent=parent, payloads=(one,)),
    }
    assert len(others | {seed}) == 4
    assert seed.hex().startswith("6b323febc3f3f338")


def test_rounding_needs_a_whole_seed() -> None:
    flat_P: Vector = normal(12, SMALL.elements)

    with pytest.raises(ValueError, match="seed of 32 bytes"):
        encoded("int8", SMALL, flat_P, seed=bytes(16))
