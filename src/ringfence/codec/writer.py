"""Writes a payload or model file in one pass, hashing what it writes while it is in the cache."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ringfence.core.chunks import CHUNK_BYTES, ChunkedDigest, ChunkHasher
from ringfence.core.errors import StateError
from ringfence.core.tensorfile import read_exactly, write_all
from ringfence.core.tensors import Segment

B = TypeVar("B")


class PayloadWriter:
    """A file of known size whose values come first in time and whose front comes last.

    The front (header and scales) is known only after the last value.  A file's digest needs just
    the digests of its chunks, so the values are hashed on the way from the first chunk without
    front on, and only the chunks that hold the front are read again, from the page cache.
    """

    __slots__ = ("_fd", "_hash_from", "_hasher", "_position", "_size_bytes")

    def __init__(self, fd: int, *, size_bytes: int, values_first: int) -> None:
        """Make room for `size_bytes` in `fd`; what it held before is overwritten.

        A full disk is found here, before any work.  An old file of the same size saves the kernel
        from finding new pages, three quarters of the cost of writing.
        """
        os.ftruncate(fd, size_bytes)
        os.posix_fallocate(fd, 0, size_bytes)
        self._fd = fd
        self._size_bytes = size_bytes
        self._position = values_first
        self._hash_from = min(size_bytes, -(-values_first // CHUNK_BYTES) * CHUNK_BYTES)
        self._hasher = ChunkHasher()

    def write(self, piece: memoryview) -> None:
        """Write and hash the next values, as bytes."""
        self._hasher.update(piece[max(0, self._hash_from - self._position) :])
        write_all(self._fd, self._position, piece)
        self._position += len(piece)

    def finish(self, front: bytes) -> ChunkedDigest:
        """Write the front and return the digests of the whole file."""
        if self._position != self._size_bytes:
            raise StateError(
                f"expected {self._size_bytes} bytes in a file of tensors, wrote {self._position}"
            )
        write_all(self._fd, 0, memoryview(front))
        hasher = ChunkHasher()
        buffer = memoryview(bytearray(min(CHUNK_BYTES, self._hash_from)))
        for first in range(0, self._hash_from, CHUNK_BYTES):
            chunk = buffer[: self._hash_from - first]
            read_exactly(self._fd, first, chunk)
            hasher.update(chunk)
        return ChunkedDigest(
            size_bytes=self._size_bytes,
            chunks=hasher.finish().chunks + self._hasher.finish().chunks,
        )


def in_order(
    segments: Iterable[Segment],
    *,
    work: Callable[[Segment, B], None],
    keep: Callable[[Segment, B], None],
    buffers: Sequence[B],
    threads: int,
) -> None:
    """Call `work` on every segment, then `keep` on each, always in order and in this thread.

    With one thread the two alternate, and one buffer is enough.  With more, up to `threads` calls
    of `work` run ahead in a pool, each with a buffer of its own until it is kept: give one more
    buffer than threads.  What is kept is the same either way.
    """
    if threads == 1:
        for segment in segments:
            work(segment, buffers[0])
            keep(segment, buffers[0])
        return
    free = deque(buffers)
    ahead: deque[tuple[Future[None], Segment, B]] = deque()

    def keep_oldest() -> None:
        future, segment, buffer = ahead.popleft()
        future.result()
        keep(segment, buffer)
        free.append(buffer)

    with ThreadPoolExecutor(threads) as pool:
        for segment in segments:
            if not free:
                keep_oldest()
            buffer = free.popleft()
            ahead.append((pool.submit(work, segment, buffer), segment, buffer))
        while ahead:
            keep_oldest()
