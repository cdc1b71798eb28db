"""Files named by their digest: payloads and models at rest, and payloads still arriving.

    <root>/payloads/<hex>.safetensors     whole and verified
    <root>/incoming/<hex>.part            the first chunks of a payload, verified one by one
    <root>/models/<hex>.safetensors       models, named by their digest

Nothing under a final name is ever half written: a file is finished under another name and renamed.
Bytes are left to the page cache: a killed process loses nothing, and after a lost machine `holds`
finds what is missing, which is then sent again or forfeited (see each caller).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ringfence.core import ids
from ringfence.core.artifacts import Payload
from ringfence.core.chunks import CHUNK_BYTES, ChunkedDigest, chunk_count, chunk_range
from ringfence.core.errors import FormatError, StateError
from ringfence.core.tensorfile import read_exactly


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPayload:
    """A payload opened for reading from any position; who receives this closes `fd`."""

    fd: int
    size_bytes: int


class Spool:
    """The payload and model files of one place."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for part in ("payloads", "incoming", "models"):
            (root / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def payload(self, digest: str) -> Path:
        return self._root / "payloads" / f"{_hex(digest)}.safetensors"

    def model(self, digest: str) -> Path:
        return self._root / "models" / f"{_hex(digest)}.safetensors"

    def scratch(self, name: str) -> Path:
        """A path for a file that is not finished yet, on the same file system."""
        return self._root / "incoming" / f"{name}.tmp"

    def keep_payload(self, scratch: Path, digest: str) -> Path:
        """Give a finished payload its name."""
        return scratch.replace(self.payload(digest))

    def keep_model(self, scratch: Path, digest: str) -> Path:
        """Give a finished model its name."""
        return scratch.replace(self.model(digest))

    def holds(self, payload: Payload) -> bool:
        """Whether the payload's file is here and every chunk of it verifies; reads it whole."""
        chunked = payload.chunked()
        try:
            fd = os.open(self.payload(payload.digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            whole = os.fstat(fd).st_size == chunked.size_bytes
            return whole and _good_chunks(fd, chunked) == len(chunked.chunks)
        finally:
            os.close(fd)

    def arriving(self, payload: Payload) -> Arriving:
        """Open, or go on with, a payload that comes in chunk by chunk."""
        return Arriving(
            part=self._root / "incoming" / f"{_hex(payload.digest)}.part",
            whole=self.payload(payload.digest),
            chunked=payload.chunked(),
        )


class Arriving:
    """A payload on its way in; chunks come in order, each verified before it is written."""

    def __init__(self, *, part: Path, whole: Path, chunked: ChunkedDigest) -> None:
        self._part = part
        self._whole = whole
        self._chunked = chunked
        self._fd = -1
        self.next_chunk = chunk_count(chunked.size_bytes) if whole.exists() else self._recover()

    @property
    def complete(self) -> bool:
        return self.next_chunk == len(self._chunked.chunks)

    def write(self, index: int, chunk: memoryview) -> None:
        """Verify chunk `index` and append it.

        Raises: FormatError when the bytes are not the announced ones, or out of order.
        """
        if index != self.next_chunk:
            raise FormatError(f"expected chunk {self.next_chunk} next, got chunk {index}")
        self._chunked.verify(index, chunk)
        if self._fd < 0:
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        offset = index * CHUNK_BYTES
        done = 0
        while done < len(chunk):
            done += os.pwrite(self._fd, chunk[done:], offset + done)
        self.next_chunk = index + 1

    def finish(self) -> Path:
        """Give the whole payload its name; returns its path.

        Raises: StateError when chunks are missing.
        """
        if not self.complete:
            raise StateError(
                f"payload {self._chunked.digest}: {self.next_chunk} of "
                f"{len(self._chunked.chunks)} chunks are here; send the rest"
            )
        self.close()
        if not self._whole.exists():
            self._part.replace(self._whole)
        return self._whole

    def chunks(self) -> Iterator[memoryview]:
        """The chunks that are here already, in order; each is valid until the next."""
        path = self._whole if self._whole.exists() else self._part
        buffer = memoryview(bytearray(CHUNK_BYTES))
        if not self.next_chunk:
            return
        with path.open("rb", buffering=0) as file:
            for index in range(self.next_chunk):
                first, last = chunk_range(index, self._chunked.size_bytes)
                read_exactly(file.fileno(), first, buffer[: last - first])
                yield buffer[: last - first]

    def discard(self) -> None:
        """Forget a payload that has been used up."""
        self.close()
        self._part.unlink(missing_ok=True)
        self._whole.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go; what was written stays for the next attempt."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _recover(self) -> int:
        """Count the leading chunks that a former attempt left whole; cut off what is not."""
        try:
            fd = os.open(self._part, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            good = _good_chunks(fd, self._chunked)
            os.ftruncate(fd, min(good * CHUNK_BYTES, self._chunked.size_bytes))
        finally:
            os.close(fd)
        return good


def _good_chunks(fd: int, chunked: ChunkedDigest) -> int:
    buffer = memoryview(bytearray(CHUNK_BYTES))
    for index in range(len(chunked.chunks)):
        first, last = chunk_range(index, chunked.size_bytes)
        got = os.preadv(fd, [buffer[: last - first]], first)
        try:
            chunked.verify(index, buffer[:got])
        except FormatError:
            return index
    return len(chunked.chunks)


def _hex(digest: str) -> str:
    return ids.digest(digest).partition(":")[2]
