"""Entries' contents, which stay in the region, and the salted commitments that stand for them.

    commitment = SHA-256("ringfence/log-entry/v1" 00 || salt || SHA-256(content))

The commitment is the log's entry (the leaf is its RFC 6962 hash): whoever holds salt and content
can show them, and nobody can guess a content from it, however few contents are possible.

A file `contents/<N>` holds the openings of one bundle in order of index, each as

    u64 index || u32 length || commitment || salt || content        (big-endian)

An opening that is absent is not disclosed, so that a copy may leave some out; one that is present
must fit its commitment.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger.files import make_directory, sync_directory, write_at
from ringfence.ledger.tiles import TILE_WIDTH, number_path

SALT_BYTES = 32
CONTENT_LIMIT_BYTES = 32 * 1024 * 1024
"""Longest content; the longest statement with every byte escaped in JSON fits."""

_DOMAIN = b"ringfence/log-entry/v1\0"
_HEADER = struct.Struct(">QI32s32s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opens one commitment: the entry's index, its salt and its content."""

    index: int
    salt: bytes
    content: bytes

    def __post_init__(self) -> None:
        if len(self.salt) != SALT_BYTES or len(self.content) > CONTENT_LIMIT_BYTES:
            raise LogError(
                f"log entry {self.index}: expected a salt of {SALT_BYTES} bytes and at most "
                f"{CONTENT_LIMIT_BYTES} bytes of content, got {len(self.salt)} and "
                f"{len(self.content)}"
            )

    @property
    def commitment(self) -> bytes:
        """The 32 bytes that the log holds for this content."""
        return sha256(_DOMAIN + self.salt + sha256(self.content).digest()).digest()

    def to_bytes(self) -> bytes:
        """Write the opening as it stands in a contents file."""
        header = _HEADER.pack(self.index, len(self.content), self.commitment, self.salt)
        return header + self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An opening with the place behind it in its file."""

    opening: Opening
    commitment: bytes
    end: int


class ContentsFile:
    """The contents file that the log's writer appends to; it opens the next one by itself."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._bundle = self._fd = -1
        self._end = 0

    def append(self, first: int, frames: Sequence[bytes]) -> None:
        """Write the openings of the entries from `first` on; durable when this returns.

        One write and one flush a file; after an exception the writer must not go on.
        """
        done = 0
        while done < len(frames):
            index = first + done
            self._open(index // TILE_WIDTH)
            stop = min(len(frames), done + TILE_WIDTH - index % TILE_WIDTH)
            data = b"".join(frames[done:stop])
            write_at(self._fd, data, self._end)
            os.fdatasync(self._fd)
            self._end += len(data)
            done = stop

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
        self._bundle = self._fd = -1

    def _open(self, bundle: int) -> None:
        if bundle == self._bundle:
            return
        self.close()
        path = self._directory / contents_path(bundle)
        make_directory(path.parent)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._bundle, self._end = bundle, os.fstat(self._fd).st_size
        sync_directory(path.parent)


def contents_path(number: int) -> str:
    """Name of one bundle's contents, relative to the log's directory."""
    return f"contents/{number_path(number)}"


def read_openings(path: Path, *, from_index: int = 0) -> Iterator[Stored]:
    """Read a contents file from the first entry at or after `from_index` on, checking each.

    Raises: LogError naming the file and the index when an opening is cut off, out of order or
    does not fit the commitment beside it; FileNotFoundError when there is no such file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset, last = 0, -1
        while header := os.pread(fd, _HEADER.size, offset):
            if len(header) < _HEADER.size:
                raise LogError(f"{path}: the opening after entry {last} is cut off at {offset}")
            index, length, commitment, salt = _HEADER.unpack(header)
            _check_header(path, index, length, last)
            start, offset, last = offset + _HEADER.size, offset + _HEADER.size + length, index
            if index < from_index:
                continue
            content = os.pread(fd, length, start)
            opening = Opening(index=index, salt=salt, content=content)
            if len(content) != length or opening.commitment != commitment:
                raise LogError(f"{path}: the content of entry {index} does not fit its commitment")
            yield Stored(opening=opening, commitment=commitment, end=offset)
    finally:
        os.close(fd)


def read_opening(directory: Path, index: int) -> Opening:
    """Return one entry's opening; raises LogError when it is not here or does not fit."""
    path = directory / contents_path(index // TILE_WIDTH)
    try:
        for stored in read_openings(path, from_index=index):
            if stored.opening.index == index:
                return stored.opening
            break
    except FileNotFoundError:
        pass
    raise LogError(f"{path}: the content of entry {index} is not here; ask the log's region for it")


def _check_header(path: Path, index: int, length: int, last: int) -> None:
    in_bundle = last < 0 or index // TILE_WIDTH == last // TILE_WIDTH
    if index <= last or not in_bundle or length > CONTENT_LIMIT_BYTES:
        raise LogError(
            f"{path}: after entry {last}: expected a later entry of the same bundle with at most "
            f"{CONTENT_LIMIT_BYTES} bytes, got entry {index} with {length}"
        )
