"""Applying updates: the same bytes at the hub and in every region, however they arrive."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codec.codec_world import decoded, encoded
from tests.core.tensor_world import content_of, layout_of, memory_file, model_of, normal

from ringfence.codec import Applier, PayloadFormat, apply_update
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.core.errors import FormatError, LayoutError, NotFiniteError
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.tensors import SEGMENT_VALUES, Layout, TensorSpec, Vector
from ringfence.core.terms import Codec

CODECS: tuple[Codec, ...] = ("float32", "int8")
# Frozen tensors in front, between and behind the federated ones; odd sizes, several segments.
MODEL = Layout(
    specs=tuple(
        TensorSpec(name=f"{module}.{index}", shape=shape, dtype="F32", module=module)
        for index, (module, shape) in enumerate(
            [
                ("stem", (SEGMENT_VALUES + 3,)),
                ("body", (300, 7)),
                ("body", ()),
                ("stem", (5,)),
                ("body", (2 * SEGMENT_VALUES + 131,)),
                ("stem", (2,)),
            ]
        )
    )
)
UPDATE = MODEL.select({"body"})
BASE_P = normal(1, MODEL.elements)
UPDATE_P = normal(2, UPDATE.elements, scale=1e-2)


def expected_model(codec: Codec) -> Vector:
    """Base plus decoded update, the slow and obvious way."""
    decoded_P = decoded(codec, UPDATE, encoded(codec, UPDATE, UPDATE_P).content)
    new_P = BASE_P.copy()
    position = 0
    for spec, start in zip(MODEL.specs, MODEL.starts, strict=True):
        if spec.module == "body":
            new_P[start : start + spec.elements] += decoded_P[position : position + spec.elements]
            position += spec.elements
    return new_P


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("codec", CODECS)
def test_the_new_model_is_base_plus_decoded_update(codec: Codec, threads: int) -> None:
    # given a stored payload
    form = PayloadFormat(codec=codec, layout=UPDATE)
    payload_fd = memory_file(encoded(codec, UPDATE, UPDATE_P).content)
    model_fd = memory_file(b"an older file")

    # when it is applied
    base = model_of(MODEL, BASE_P)
    chunked = apply_update(
        form, model=MODEL, base=base, payload_fd=payload_fd, model_fd=model_fd, threads=threads
    )

    # then the new file is a model of the layout, with frozen tensors as they were
    new = open_tensorfile(model_fd)
    new.check_layout(MODEL)
    new_P = np.empty(MODEL.elements, np.float32)
    new.read_into(0, new_P)
    np.testing.assert_array_equal(new_P, expected_model(codec))
    hasher = ChunkHasher()
    hasher.update(content_of(model_fd))
    assert chunked == hasher.finish()


@settings(max_examples=15)
@given(st.sampled_from(CODECS), st.randoms(use_true_random=False))
def test_pieces_of_any_length_give_the_same_model(codec: Codec, chance: random.Random) -> None:
    # given a payload that arrives cut anywhere (at whole values)
    form = PayloadFormat(codec=codec, layout=UPDATE)
    content = memoryview(encoded(codec, UPDATE, UPDATE_P).content)
    cuts = sorted(4 * chance.randrange(len(content) // 4) for _ in range(chance.randrange(12)))
    model_fd = memory_file()

    # when the pieces are fed
    applier = Applier(form, model=MODEL, base=model_of(MODEL, BASE_P), model_fd=model_fd)
    for first, end in pairwise([0, *cuts, len(content)]):
        applier.feed(content[first:end])
    applier.finish()

    # then the model is the same
    values = np.frombuffer(content_of(model_fd), "<f4")[-MODEL.elements :]
    np.testing.assert_array_equal(values, expected_model(codec))


def test_a_region_that_starts_again_arrives_at_the_hubs_digest() -> None:
    # given the hub's model, and a region whose download broke off after the first chunk
    layout = layout_of((CHUNK_BYTES + 1000,))
    form = PayloadFormat(codec="int8", layout=layout)
    base = model_of(layout, normal(3, layout.elements))
    content = memoryview(encoded("int8", layout, normal(4, layout.elements)).content)
    hub = apply_update(
        form,
        model=layout,
        base=base,
        payload_fd=memory_file(bytes(content)),
        model_fd=memory_file(),
    )
    model_fd = memory_file()
    Applier(form, model=layout, base=base, model_fd=model_fd).feed(content[:CHUNK_BYTES])

    # when it feeds a new applier from its spool and then from the line
    applier = Applier(form, model=layout, base=base, model_fd=model_fd)
    applier.feed(content[:CHUNK_BYTES])
    applier.feed(content[CHUNK_BYTES:])

    # then both hold the same model
    assert applier.finish() == hub


def test_a_payload_cut_short_or_too_long_makes_no_model() -> None:
    # given a payload
    form = PayloadFormat(codec="int8", layout=UPDATE)
    content = memoryview(encoded("int8", UPDATE, UPDATE_P).content)
    base = model_of(MODEL, BASE_P)

    # when its end is missing, or something follows it, then there is no digest
    for cut in (0, 10, form.values_first, len(content) - 1):
        applier = Applier(form, model=MODEL, base=base, model_fd=memory_file())
        applier.feed(content[:cut])
        with pytest.raises(FormatError, match="cut short"):
            applier.finish()
    applier = Applier(form, model=MODEL, base=base, model_fd=memory_file())
    applier.feed(content)
    with pytest.raises(FormatError, match="got more"):
        applier.feed(memoryview(b"x"))


def test_a_wrong_header_is_found_before_the_first_value() -> None:
    # given a payload of another layout with the same sizes
    other = Layout(
        specs=tuple(
            TensorSpec(name=s.name.replace("body", "tail"), shape=s.shape, dtype="F32", module="b")
            for s in UPDATE.specs
        )
    )
    content = encoded("int8", other, UPDATE_P).content
    applier = Applier(
        PayloadFormat(codec="int8", layout=UPDATE),
        model=MODEL,
        base=model_of(MODEL, BASE_P),
        model_fd=memory_file(),
    )

    # when it is fed, then it is refused
    with pytest.raises(LayoutError, match="payload header"):
        applier.feed(memoryview(content))


def test_a_sum_that_overflows_makes_no_model() -> None:
    # given a base and an update that are finite, but not together
    layout = layout_of((4,))
    huge_P = np.full(4, 3e38, np.float32)
    applier = Applier(
        PayloadFormat(codec="float32", layout=layout),
        model=layout,
        base=model_of(layout, huge_P),
        model_fd=memory_file(),
    )

    # when the update is applied, then the tensor is named
    with pytest.raises(NotFiniteError, match="tensor t0"):
        applier.feed(memoryview(encoded("float32", layout, huge_P).content))


def test_refuses_a_base_of_another_layout_and_an_update_out_of_order() -> None:
    form = PayloadFormat(codec="int8", layout=UPDATE)
    base = model_of(UPDATE, UPDATE_P)
    backwards = Layout(specs=tuple(reversed(MODEL.specs)))

    with pytest.raises(LayoutError):
        Applier(form, model=MODEL, base=base, model_fd=memory_file())
    with pytest.raises(LayoutError, match="order"):
        Applier(form, model=backwards, base=model_of(backwards, BASE_P), model_fd=memory_file())
    with pytest.raises(LayoutError, match="order"):
        Applier(
            PayloadFormat(codec="int8", layout=MODEL),
            model=UPDATE,
            base=base,
            model_fd=memory_file(),
        )
