"""Large files give their pages back and take others over; no byte of them ever changes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from ringfence.core.artifacts import Payload, payload_of
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.crossing.pages import LARGE_BYTES, Pages
from ringfence.crossing.spool import Spool

_CHUNKS = LARGE_BYTES // CHUNK_BYTES


def large(seed: int, size_bytes: int = LARGE_BYTES) -> bytes:
    """A large file's bytes, different in every chunk and for every seed."""
    return b"".join(
        os.urandom(16) + bytes([seed]) * (CHUNK_BYTES - 16) for _ in range(_CHUNKS + 1)
    )[:size_bytes]


def announce(data: bytes) -> Payload:
    hasher = ChunkHasher()
    hasher.update(data)
    return payload_of(hasher.finish())


def bring(spool: Spool, data: bytes, *, chunks: int | None = None) -> None:
    """Write the first chunks of a payload, or all of them, into the spool."""
    arriving = spool.arriving(announce(data))
    for index in range(-(-len(data) // CHUNK_BYTES) if chunks is None else chunks):
        piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        arriving.write(index, memoryview(piece))
    arriving.close()


def use_up(spool: Spool, data: bytes) -> None:
    bring(spool, data)
    spool.arriving(announce(data)).discard()


@pytest.mark.parametrize("room_bytes", [1, CHUNK_BYTES, 3 * LARGE_BYTES])
def test_a_file_that_was_let_go_keeps_its_bytes(tmp_path: Path, room_bytes: int) -> None:
    # given two large files that were let go
    pages = Pages()
    contents = {tmp_path / name: large(seed) for seed, name in enumerate(("first", "second"))}
    for path, data in contents.items():
        path.write_bytes(data)
    for path in contents:
        pages.let_go(path)

    # when pages are needed
    pages.make_room(room_bytes)

    # then both files are what they were
    assert {path: path.read_bytes() for path in contents} == contents


def test_a_file_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    # given a file that was let go and removed, and one that never was
    pages = Pages()
    path = tmp_path / "removed"
    path.write_bytes(large(1))
    pages.let_go(path)
    path.unlink()
    pages.let_go(tmp_path / "never")

    # when pages are needed
    pages.make_room(LARGE_BYTES)

    # then nothing happened, and nothing was made
    assert list(tmp_path.iterdir()) == []


def test_a_payload_over_a_used_up_one_is_verified_chunk_by_chunk(tmp_path: Path) -> None:
    # given a large payload that was used up
    spool = Spool(tmp_path)
    use_up(spool, large(1, LARGE_BYTES + CHUNK_BYTES))
    data = large(2)

    # when a shorter one arrives over its pages
    bring(spool, data)
    path = spool.arriving(announce(data)).finish()

    # then it is there whole, and nothing of the other
    assert path.read_bytes() == data
    assert spool.holds(announce(data))


def test_what_a_used_up_payload_left_is_no_chunk_of_the_next(tmp_path: Path) -> None:
    # given a payload that a process brought halfway, over a used-up one, before it died
    spool = Spool(tmp_path)
    use_up(spool, large(1))
    data = large(2)
    bring(spool, data, chunks=3)

    # when the next process goes on
    arriving = Spool(tmp_path).arriving(announce(data))

    # then only the chunks of this payload count
    assert arriving.next_chunk == 3
    assert [bytes(chunk) for chunk in arriving.chunks()] == [
        data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES] for index in range(3)
    ]


@pytest.mark.parametrize(("data", "taken"), [(large(1), True), (b"small", False)])
def test_only_a_large_file_is_written_over(tmp_path: Path, data: bytes, taken: bool) -> None:
    # given a payload that nobody needs any more
    spool = Spool(tmp_path)
    spool.scratch("made").write_bytes(data)
    payload = announce(data)
    path = spool.keep_payload(spool.scratch("made"), payload.digest)

    # when a new file is to take over its pages
    spool.write_over(path, spool.scratch("new"))

    # then a large one has become the new file, and a small one is what it was
    assert (path.exists(), spool.scratch("new").exists()) == (not taken, taken)
    assert spool.holds(payload) == (not taken)


@pytest.mark.parametrize("way", ["opened", "mapped"])
def test_a_file_that_somebody_reads_is_not_written_over(tmp_path: Path, way: str) -> None:
    # given a model that a site has open, or has mapped and closed
    spool = Spool(tmp_path)
    path = spool.scratch("made")
    data = large(1)
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ):
        if way == "mapped":
            os.close(fd)
        # when a new file is to take over its pages
        # then it stays
        assert not spool.write_over(path, spool.scratch("new"))
        assert path.read_bytes() == data
    if way == "opened":
        os.close(fd)
    # when nobody has it any more, then it does
    assert spool.write_over(path, spool.scratch("new"))
    assert not path.exists()
