"""Payloads at rest and arriving: nothing counts as verified because it exists."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ringfence.core.artifacts import Payload, payload_of
from ringfence.core.chunks import CHUNK_BYTES, ChunkHasher
from ringfence.core.errors import FormatError, StateError
from ringfence.crossing.spool import Spool, hash_file

DATA = bytes(range(256)) * (CHUNK_BYTES // 256) * 2 + b"the last chunk is short"


def announced(data: bytes = DATA) -> Payload:
    hasher = ChunkHasher()
    hasher.update(data)
    return payload_of(hasher.finish())


def chunk(index: int, data: bytes = DATA) -> memoryview:
    return memoryview(data)[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def flip(path: Path, offset: int) -> None:
    """Change one byte, as a machine that lost power or a clumsy administrator may."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_second_transfer_of_a_payload_cannot_damage_the_first(tmp_path: Path) -> None:
    # given a transfer that has written two chunks
    spool = Spool(tmp_path)
    hanging = spool.arriving(announced())
    hanging.write(0, chunk(0))
    # when another begins, and the chunks of both come in between one another
    second = spool.arriving(announced())
    assert second.next_chunk == 1
    hanging.write(1, chunk(1))
    second.write(1, chunk(1))
    second.write(2, chunk(2))
    hanging.write(2, chunk(2))
    # then either may finish, and the file is the one announced
    assert second.finish().read_bytes() == DATA
    assert hanging.finish().read_bytes() == DATA
    assert Spool(tmp_path).holds(announced())


def test_an_offer_that_only_looks_leaves_a_running_transfer_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    running = spool.arriving(announced())
    running.write(0, chunk(0))
    # when somebody asks where to go on, between any two writes
    looking = spool.arriving(announced())
    looking.close()
    running.write(1, chunk(1))
    running.write(2, chunk(2))
    # then
    assert looking.next_chunk == 3
    assert hash_file(running.finish()).digest == announced().digest


def test_a_damaged_whole_file_is_asked_for_again_from_the_damage_on(tmp_path: Path) -> None:
    # given a payload whose second chunk was lost with the machine's power
    arriving = Spool(tmp_path).arriving(announced())
    for index in range(3):
        arriving.write(index, chunk(index))
    flip(arriving.finish(), CHUNK_BYTES + 5)
    # when a new process opens it
    spool = Spool(tmp_path)
    again = spool.arriving(announced())
    # then
    assert (again.next_chunk, again.complete) == (1, False)
    with pytest.raises(StateError, match="1 of 3 chunks"):
        again.finish()
    again.write(1, chunk(1))
    again.write(2, chunk(2))
    assert again.finish().read_bytes() == DATA


def test_what_was_written_since_is_read_again_before_it_counts(tmp_path: Path) -> None:
    # given a payload and a model that this process has verified
    spool = Spool(tmp_path)
    for folder in ("payloads", "models"):
        scratch = spool.scratch(folder)
        scratch.write_bytes(DATA)
        kept = spool.keep_payload if folder == "payloads" else spool.keep_model
        kept(scratch, announced().digest)
    assert spool.holds(announced())
    assert spool.holds_model(announced().digest)
    # when both are written to
    flip(spool.payload(announced().digest), 0)
    flip(spool.model(announced().digest), 0)
    # then neither is what its name says
    assert not spool.holds(announced())
    assert not spool.holds_model(announced().digest)


@pytest.mark.parametrize(
    "left", [b"", DATA[:-1], DATA[:-1] + b"!"], ids=["empty", "short", "other"]
)
def test_a_file_that_only_has_the_name_is_not_held(tmp_path: Path, left: bytes) -> None:
    spool = Spool(tmp_path)
    spool.payload(announced().digest).write_bytes(left)
    spool.model(announced().digest).write_bytes(left)
    assert not spool.holds(announced())
    assert not spool.holds_model(announced().digest)


def test_a_payload_that_was_removed_starts_anew(tmp_path: Path) -> None:
    # given one that was complete when somebody looked
    spool = Spool(tmp_path)
    spool.payload(announced().digest).write_bytes(DATA)
    assert spool.arriving(announced()).complete
    # when it is removed behind our back
    spool.payload(announced().digest).unlink()
    # then
    assert spool.arriving(announced()).next_chunk == 0


def test_a_discarded_payload_takes_nothing_more(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = spool.arriving(announced()), spool.arriving(announced())
    first.write(0, chunk(0))
    # when
    first.discard()
    # then
    with pytest.raises(StateError, match="discarded"):
        second.write(1, chunk(1))
    assert list((tmp_path / "incoming").iterdir()) == []
    assert spool.arriving(announced()).next_chunk == 0


def test_chunks_out_of_order_or_of_other_bytes_are_refused(tmp_path: Path) -> None:
    arriving = Spool(tmp_path).arriving(announced())
    with pytest.raises(FormatError, match="expected chunk 0 next"):
        arriving.write(1, chunk(1))
    with pytest.raises(FormatError, match="differ from the signed digest"):
        arriving.write(0, memoryview(bytes(CHUNK_BYTES)))
    assert arriving.next_chunk == 0


def test_a_nested_spool_is_one_object(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    assert spool.nested("from/cn") is spool.nested("from/cn")
    assert spool.nested("from/cn").payload(announced().digest).is_relative_to(tmp_path / "from/cn")


def test_a_second_fetch_waits_until_the_first_has_used_its_payload_up(tmp_path: Path) -> None:
    # given a thread that has a whole payload and is about to make a model of it
    spool = Spool(tmp_path)
    entered = threading.Event()
    found: list[bool] = []

    def fetch_too() -> None:
        with spool.fetching(announced()) as arriving:
            entered.set()
            found.append(arriving.complete or spool.holds_model(announced().digest))

    second = threading.Thread(target=fetch_too)
    with spool.fetching(announced()) as arriving:
        for index in range(3):
            arriving.write(index, chunk(index))
        path = arriving.finish()
        # when another thread wants the same payload
        second.start()
        # then it waits until the model stands in the payload's place
        assert not entered.wait(0.2)
        spool.keep_model(path, announced().digest)
    second.join(10)
    assert found == [True]
