"""What a log does when it opens: finish or cut whatever a crash left half done.

What may be on disk, in the order in which `Log` writes it (numbers as in `log.py`):

    A1 contents        whole openings without commitment: never acknowledged, cut
                       a torn opening without commitment: never acknowledged, cut
    A2 commitments     durable after A1; a torn record says that its content is durable: completed
                       from the content.  A record whose content is damaged is damage, not a
                       crash: refused
    P1 tiles           files beyond the last checkpoint: written again by the next checkpoint
    P2 checkpoints/N   without `checkpoint`: finished by `Retained.load`
    P3 clean-up        outgrown partial tiles: removed at the next open
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger.contents import Stored, contents_path, read_openings
from ringfence.ledger.files import sync_directory, write_at
from ringfence.ledger.merkle import HASH_BYTES
from ringfence.ledger.tiles import TILE_WIDTH, split_hashes

COMMITMENTS = "commitments"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """The entries behind the last checkpoint, and where the last kept opening ends."""

    commitments: list[bytes]
    last: int
    end: int


def recover(directory: Path, signed_size: int) -> list[bytes]:
    """Repair contents and commitments behind the last checkpoint.

    Returns the commitments from the start of the bundle of entry `signed_size` on, that is, of
    the unfilled bundle and of everything since.
    Raises: LogError when an acknowledged entry is damaged or gone; nothing is changed then.
    """
    path = directory / COMMITMENTS
    start = signed_size - signed_size % TILE_WIDTH
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        known_bytes = os.fstat(fd).st_size
        if known_bytes < signed_size * HASH_BYTES:
            raise LogError(
                f"{path}: expected the commitments of {signed_size} entries, as the checkpoint "
                f"says, got {known_bytes // HASH_BYTES}; restore the log's directory from a copy"
            )
        # A record that is only begun counts: it was written when its content was durable.
        size = -(-known_bytes // HASH_BYTES)
        kept = _kept(directory, signed_size, size)
        # CRASH POINT: every step from here leaves what `recover` accepts; it may run again.
        _cut_contents(directory, size, kept)
        # Written even when they look right: after a failed fsync they may be in memory only.
        write_at(fd, b"".join(kept.commitments), signed_size * HASH_BYTES)
        os.ftruncate(fd, size * HASH_BYTES)
        os.fsync(fd)
        data = os.pread(fd, (size - start) * HASH_BYTES, start * HASH_BYTES)
    finally:
        os.close(fd)
    return split_hashes(data)


def _kept(directory: Path, signed_size: int, size: int) -> _Kept:
    """Check every opening from the unfilled bundle up to `size`.

    Entries below `signed_size` may be absent (their contents may have been erased lawfully), but
    none may be damaged: behind damage nobody can tell where the last kept opening ends.
    """
    commitments: list[bytes] = []
    last, end = -1, 0
    try:
        for stored in _openings(directory, signed_size // TILE_WIDTH):
            index = stored.opening.index
            if index >= size:
                break
            if index >= signed_size:
                if index != signed_size + len(commitments):
                    break
                commitments.append(stored.commitment)
            last, end = index, stored.end
    except LogError as error:
        # Torn behind everything acknowledged: a crash while A1 was written.
        if last != size - 1 and not (last == -1 and size == signed_size):
            raise _damaged(directory, last + 1) from error
    if signed_size + len(commitments) != size:
        raise _damaged(directory, signed_size + len(commitments))
    return _Kept(commitments=commitments, last=last, end=end)


def _openings(directory: Path, number: int) -> Iterator[Stored]:
    while (path := directory / contents_path(number)).exists():
        yield from read_openings(path)
        number += 1


def _damaged(directory: Path, index: int) -> LogError:
    return LogError(
        f"{directory / contents_path(index // TILE_WIDTH)}: the content of the acknowledged entry "
        f"{index} is damaged or gone; restore the log's directory from a copy"
    )


def _cut_contents(directory: Path, size: int, kept: _Kept) -> None:
    """Cut everything behind the last kept opening, the last file first."""
    number = last_number = size // TILE_WIDTH
    while (directory / contents_path(last_number + 1)).exists():
        last_number += 1
    for extra in range(last_number, number, -1):
        path = directory / contents_path(extra)
        path.unlink()
        sync_directory(path.parent)
    path = directory / contents_path(number)
    if path.exists():
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, kept.end if kept.last // TILE_WIDTH == number else 0)
            os.fsync(fd)
        finally:
            os.close(fd)
