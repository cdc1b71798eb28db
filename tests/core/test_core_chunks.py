"""Chunked digests: frozen, the same however the bytes arrive, wrong for any other bytes."""

from __future__ import annotations

import itertools
import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.core import ids
from ringfence.core.chunks import (
    CHUNK_BYTES,
    ChunkedDigest,
    ChunkHasher,
    chunk_range,
    digest_chunk,
)
from ringfence.core.errors import FormatError

CONTENT = random.Random(1).randbytes(2 * CHUNK_BYTES + 5)


def chunked(content: bytes) -> ChunkedDigest:
    hasher = ChunkHasher()
    hasher.update(content)
    return hasher.finish()


def chunk(content: bytes, index: int) -> bytes:
    return content[slice(*chunk_range(index, len(content)))]


def test_the_digest_is_the_documented_formula() -> None:
    # given the formula, written out
    chunks = [blake3(chunk(CONTENT, index)).digest() for index in range(3)]
    root = blake3(b"ringfence/chunked/v1\0" + len(CONTENT).to_bytes(8, "little") + b"".join(chunks))

    # when the file is hashed
    result = chunked(CONTENT)

    # then they agree, and the digest is one that the wire knows
    assert result.chunks == tuple(chunks)
    assert ids.digest(result.digest) == f"chunked-blake3:{root.hexdigest()}"


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"", "b869284acd43124a"),
        (b"ringfence", "8c2abec004f7dbc8"),
        (bytes(CHUNK_BYTES), "bc432358d6a24b7b"),
        (bytes(CHUNK_BYTES + 1), "a90095ffeed3ba30"),
    ],
    ids=["empty", "short", "one chunk", "one chunk and a byte"],
)
def test_digests_are_frozen(content: bytes, digest: str) -> None:
    assert chunked(content).digest.startswith(f"chunked-blake3:{digest}")


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(CONTENT)), max_size=5), st.sampled_from([1, 2]))
def test_any_cut_into_pieces_gives_the_same_digest(cuts: list[int], threads: int) -> None:
    # given the content cut anywhere, and a hasher of one or two threads
    bounds = [0, *sorted(cuts), len(CONTENT)]
    hasher = ChunkHasher(threads=threads)

    # when the pieces are hashed
    for first, end in itertools.pairwise(bounds):
        hasher.update(memoryview(CONTENT)[first:end])

    # then the digest is that of the whole
    assert hasher.size_bytes == len(CONTENT)
    assert hasher.finish() == chunked(CONTENT)


def test_hashing_goes_on_behind_chunks_that_are_known() -> None:
    # given the digest of the first chunk
    hasher = ChunkHasher(chunks=(digest_chunk(chunk(CONTENT, 0)),))

    # when only the rest is hashed
    hasher.update(CONTENT[CHUNK_BYTES:])

    # then the digest is that of the whole
    assert hasher.finish() == chunked(CONTENT)


def test_every_chunk_verifies_by_itself_and_nowhere_else() -> None:
    # given a file's digests
    result = chunked(CONTENT)

    # when each chunk is verified, last one first
    for index in (2, 1, 0):
        result.verify(index, chunk(CONTENT, index))

    # then another chunk of the same length, a tampered, a short and a missing one do not
    tampered = bytearray(chunk(CONTENT, 1))
    tampered[-1] ^= 1
    for index, wrong in (
        (0, chunk(CONTENT, 1)),
        (1, bytes(tampered)),
        (1, chunk(CONTENT, 1)[:-1]),
        (3, b""),
        (-1, chunk(CONTENT, 2)),
    ):
        with pytest.raises(FormatError):
            result.verify(index, wrong)


@pytest.mark.parametrize(
    ("size_bytes", "chunks"),
    [(0, (bytes(32),)), (1, ()), (1, (bytes(31),)), (CHUNK_BYTES + 1, (bytes(32),)), (-1, ())],
)
def test_refuses_digests_that_do_not_fit_the_size(
    size_bytes: int, chunks: tuple[bytes, ...]
) -> None:
    with pytest.raises(FormatError):
        ChunkedDigest(size_bytes=size_bytes, chunks=chunks)
