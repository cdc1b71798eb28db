"""Digests of payload files in chunks of 4 MiB, so that each chunk can be checked by itself.

    chunk digest = BLAKE3(chunk)                                            32 bytes
    file digest  = BLAKE3("ringfence/chunked/v1\\0" ‖ u64le(size) ‖ chunk digests)

The file digest needs only the chunk digests, so chunks may be written, hashed and verified in any
order, and a cut transfer resends at most one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blake3 import blake3

from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest

CHUNK_BYTES = 4 * 1024 * 1024
DIGEST_BYTES = 32

Buffer = bytes | bytearray | memoryview

_DOMAIN = b"ringfence/chunked/v1\0"
_MAX_SIZE_BYTES = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedDigest:
    """Size of a file and the BLAKE3 digest of each of its 4 MiB chunks, in order.

    An empty file has no chunks; every chunk but the last is full.
    """

    size_bytes: int
    chunks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        want = chunk_count(self.size_bytes)
        if len(self.chunks) != want:
            raise FormatError(
                f"expected {want} chunk digests for {self.size_bytes} bytes, "
                f"got {len(self.chunks)}; hash the file again"
            )
        if any(len(chunk) != DIGEST_BYTES for chunk in self.chunks):
            raise FormatError(f"expected chunk digests of {DIGEST_BYTES} bytes each")

    @property
    def digest(self) -> Digest:
        """The file's digest, `chunked-blake3:<hex>`."""
        hasher = blake3(_DOMAIN + self.size_bytes.to_bytes(8, "little"))
        hasher.update(b"".join(self.chunks))
        return Digest(f"chunked-blake3:{hasher.hexdigest()}")

    def chunk_size(self, index: int) -> int:
        """Length in bytes of chunk `index`."""
        first, last = chunk_range(index, self.size_bytes)
        return last - first

    def verify(self, index: int, chunk: Buffer) -> None:
        """Raise `FormatError` unless `chunk` is exactly chunk `index` of this file."""
        want = self.chunk_size(index)
        if len(chunk) != want:
            raise FormatError(
                f"chunk {index} of {self.digest}: expected {want} bytes, got {len(chunk)}; "
                "send the chunk again"
            )
        if digest_chunk(chunk) != self.chunks[index]:
            raise FormatError(
                f"chunk {index} of {self.digest}: its bytes differ from the signed digest; "
                "send the chunk again"
            )


def chunk_count(size_bytes: int) -> int:
    """How many chunks a file of `size_bytes` has; raises `FormatError` on an absurd size."""
    if not 0 <= size_bytes <= _MAX_SIZE_BYTES:
        raise FormatError(f"expected a size from 0 to 2^62 bytes, got {size_bytes}")
    return -(-size_bytes // CHUNK_BYTES)


def chunk_range(index: int, size_bytes: int) -> tuple[int, int]:
    """First byte of chunk `index` and the one after its last; `FormatError` when there is none."""
    count = chunk_count(size_bytes)
    if not 0 <= index < count:
        raise FormatError(f"expected a chunk index below {count}, got {index}")
    first = index * CHUNK_BYTES
    return first, min(first + CHUNK_BYTES, size_bytes)


def digest_chunk(chunk: Buffer, *, threads: int = 1) -> bytes:
    """BLAKE3 of one whole chunk, 32 bytes.  The GIL is released meanwhile."""
    return blake3(chunk, max_threads=threads).digest()


class ChunkHasher:
    """Hashes a file that arrives in order, in pieces of any length.

    Pieces of 64 KiB and more hash at full speed.  Not for use from two threads at once.
    """

    __slots__ = ("_chunks", "_fill", "_hasher", "_threads")

    def __init__(self, *, chunks: tuple[bytes, ...] = (), threads: int = 1) -> None:
        """Start at the beginning, or behind the full chunks whose digests `chunks` holds."""
        self._chunks: list[bytes] = list(chunks)
        self._threads = threads
        self._hasher = blake3(max_threads=threads)
        self._fill = 0

    @property
    def size_bytes(self) -> int:
        """Bytes hashed so far, those behind `chunks` included."""
        return len(self._chunks) * CHUNK_BYTES + self._fill

    def update(self, piece: Buffer) -> None:
        """Hash the next bytes of the file."""
        for part in _cut(piece, CHUNK_BYTES - self._fill):
            self._hasher.update(part)
            self._fill += len(part)
            if self._fill == CHUNK_BYTES:
                self._close_chunk()

    def finish(self) -> ChunkedDigest:
        """The digests of everything hashed.  Call once, at the end of the file."""
        size_bytes = self.size_bytes
        if self._fill:
            self._close_chunk()
        return ChunkedDigest(size_bytes=size_bytes, chunks=tuple(self._chunks))

    def _close_chunk(self) -> None:
        self._chunks.append(self._hasher.digest())
        self._hasher = blake3(max_threads=self._threads)
        self._fill = 0


def _cut(piece: Buffer, room: int) -> Iterator[memoryview]:
    """Cut `piece` where chunks end: `room` bytes first, then whole chunks, then the rest."""
    view = memoryview(piece).cast("B")
    start = 0
    while start < len(view):
        end = min(start + room, len(view))
        yield view[start:end]
        start, room = end, CHUNK_BYTES
