"""Payloads as bytes, for tests that look at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tests.core.tensor_world import content_of, layout_of, memory_file, source_of

from ringfence.codec import PayloadFile, PayloadFormat, encode
from ringfence.core.chunks import ChunkedDigest
from ringfence.core.tensors import Layout, Vector, segments
from ringfence.core.terms import Codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A payload file's bytes and the digests that were taken while it was written."""

    content: bytes
    chunked: ChunkedDigest


def encoded(
    codec: Codec,
    layout: Layout,
    flat_P: Vector,
    *,
    seed: bytes = bytes(32),
    factor: float = 1.0,
    threads: int = 1,
) -> Payload:
    fd = memory_file()
    form = PayloadFormat(codec=codec, layout=layout)
    chunked = encode(form, source_of(flat_P), fd, seed=seed, factor=factor, threads=threads)
    return Payload(content=content_of(fd), chunked=chunked)


def decoded(codec: Codec, layout: Layout, content: bytes) -> Vector:
    payload = PayloadFile(PayloadFormat(codec=codec, layout=layout), memory_file(content))
    flat_P = np.zeros(layout.elements, np.float32)
    for segment in segments(layout):
        part_P = flat_P[segment.first : segment.first + segment.elements]
        payload.add(segment, np.float32(1), part_P)
    return flat_P


def int8_parts(flat_P: Vector, seed: bytes) -> tuple[npt.NDArray[np.int8], Vector]:
    """Codes and scales of one tensor, taken out of its payload by hand."""
    layout = layout_of((len(flat_P),))
    content = encoded("int8", layout, flat_P, seed=seed).content
    codes_first = len(content) - len(flat_P)
    scales_first = codes_first - 4 * -(-len(flat_P) // 256)
    return (
        np.frombuffer(content, np.int8, offset=codes_first),
        np.frombuffer(content[scales_first:codes_first], "<f4"),
    )
