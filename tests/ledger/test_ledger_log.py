"""The log and its files: forms, proofs out of tiles, cosignatures, one writer, failed writes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.ledger.ledger_world import (
    LOG_KEY,
    LOG_SECRET,
    ORIGIN,
    WITNESS_KEYS,
    WITNESSES,
    content,
    contents,
    cosignature,
    open_log,
    secret,
    slow_consistency,
    slow_inclusion,
    slow_root,
)

from ringfence.core.errors import FormatError, LogError, StateError, TrustError
from ringfence.ledger.checkpoints import Checkpoint, open_checkpoint
from ringfence.ledger.contents import CONTENT_LIMIT_BYTES
from ringfence.ledger.keys import COSIGNATURE
from ringfence.ledger.log import Log
from ringfence.ledger.merkle import EMPTY_ROOT, leaf_hash
from ringfence.ledger.reader import LogReader
from ringfence.ledger.retained import RETAINED
from ringfence.ledger.tiles import number_path, tile_path, widths


def checkpoint_of(note: str) -> Checkpoint:
    return open_checkpoint(note, log_key=LOG_KEY).checkpoint


def test_a_new_log_has_a_signed_checkpoint_of_nothing(tmp_path: Path) -> None:
    # when
    with open_log(tmp_path / "log") as log:
        note = log.checkpoint()
    # then
    assert checkpoint_of(note) == Checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT)
    assert (tmp_path / "log" / "checkpoint").read_text() == note


def test_appended_entries_come_back_after_reopening(tmp_path: Path) -> None:
    # given entries, some under a checkpoint, some not
    with open_log(tmp_path) as log:
        first = log.append(content(0))
        note = log.checkpoint()
        rest = log.append_many(contents(1, 4))
        assert log.checkpoints()[0] == note
    # when
    with open_log(tmp_path, first_salt=4) as log:
        # then
        assert [each.content for each in log.openings()] == contents(0, 4)
        assert [each.commitment for each in log.openings()] == [
            entry.commitment for entry in (first, *rest)
        ]
        assert checkpoint_of(log.checkpoint()).root == slow_root(
            [entry.commitment for entry in (first, *rest)]
        )
        assert log.append(content(4)).index == 4
        assert log.content(2) == content(2)


def test_equal_contents_have_unlike_commitments(tmp_path: Path) -> None:
    # when
    with Log(tmp_path, origin=ORIGIN, signer=LOG_SECRET) as log:
        entries = log.append_many([content(0)] * 3)
    # then: whoever sees the log cannot tell that they are equal
    assert len({entry.commitment for entry in entries}) == 3
    assert all(entry.leaf_hash == leaf_hash(entry.commitment) for entry in entries)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.integers(0, 300), min_size=1, max_size=4), data=st.data())
def test_tiles_prove_what_a_slow_tree_proves(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], data: st.DataObject
) -> None:
    # given a log that grew in groups, with a checkpoint and sometimes a restart after each
    directory = tmp_path_factory.mktemp("log")
    entries: list[bytes] = []
    sizes = [0]
    log = open_log(directory)
    for group in groups:
        added = log.append_many(contents(len(entries), len(entries) + group))
        entries += [entry.commitment for entry in added]
        if data.draw(st.booleans()):
            log.close()
            log = open_log(directory, first_salt=len(entries))
        assert checkpoint_of(log.checkpoint()).root == slow_root(entries)
        sizes.append(len(entries))
    log.close()
    if not entries:
        return
    # when a reader without a lock proves something at any size up to the newest
    reader = LogReader(directory)
    new = data.draw(st.integers(1, len(entries)))
    old = data.draw(st.integers(1, new))
    index = data.draw(st.integers(0, new - 1))
    # then it is what the RFC says
    assert reader.size == len(entries)
    assert reader.inclusion(index, new) == slow_inclusion(index, entries[:new])
    assert reader.consistency(old, new) == slow_consistency(old, entries[:new])
    assert reader.content(index) == content(index)


def test_tile_files_are_named_and_cut_as_the_specification_says(tmp_path: Path) -> None:
    # given 600 entries with checkpoints at 3, 256 and 600
    with open_log(tmp_path) as log:
        for first, stop in ((0, 3), (3, 256), (256, 600)):
            log.append_many(contents(first, stop))
            log.checkpoint()
        # when
        files = {
            path.relative_to(tmp_path).as_posix(): path.stat().st_size
            for path in (tmp_path / "tile").rglob("*")
            if path.is_file()
        }
    # then: partial tiles of full ones are gone, each bundle entry is a length and 32 bytes
    assert files == {
        "tile/0/000": 8192,
        "tile/0/001": 8192,
        "tile/0/002.p/88": 88 * 32,
        "tile/1/000.p/1": 32,
        "tile/1/000.p/2": 64,
        "tile/entries/000": 256 * 34,
        "tile/entries/001": 256 * 34,
        "tile/entries/002.p/88": 88 * 34,
    }


def test_tile_arithmetic_is_that_of_the_specification_s_example() -> None:
    # when, then: 70,000 entries and tile 1234067, as in C2SP tlog-tiles
    assert widths(70_000) == [(273, 112), (1, 17), (0, 1)]
    assert widths(256) == [(1, 0), (0, 1)]
    assert number_path(1234067) == "x001/x234/067"
    assert tile_path(1, 5, 3) == "tile/1/005.p/3"


def test_a_large_log_proves_across_three_tile_levels(tmp_path: Path) -> None:
    # given more than 65,536 entries
    size = 256 * 256 + 300
    with open_log(tmp_path) as log:
        entries = [entry.commitment for entry in log.append_many([b"{}"] * size)]
        log.checkpoint()
        # when, then
        for index in (0, 65_535, 65_536, size - 1):
            assert log.inclusion(index, size) == slow_inclusion(index, entries)
        assert log.consistency(65_537, size) == slow_consistency(65_537, entries)
    with open_log(tmp_path, first_salt=size) as log:
        assert log.size == size


def test_proofs_stop_at_the_newest_checkpoint(tmp_path: Path) -> None:
    # given an entry without a checkpoint over it
    with open_log(tmp_path) as log:
        log.append(content(0))
        # when, then
        with pytest.raises(LogError, match="newest"):
            log.inclusion(0, 1)
        log.checkpoint()
        assert log.inclusion(0, 1) == []
        with pytest.raises(LogError, match="not here"):
            log.content(1)


def test_a_second_writer_is_refused_while_readers_are_not(tmp_path: Path) -> None:
    # given an open log
    program = (
        "import sys; from pathlib import Path; from tests.ledger.ledger_world import open_log\n"
        "from ringfence.ledger.reader import LogReader\n"
        "assert LogReader(Path(sys.argv[1])).content(0) == b'{\"entry\":0}'\n"
        "open_log(Path(sys.argv[1]))"
    )
    with open_log(tmp_path) as log:
        log.append(content(0))
        log.checkpoint()
        # when another process reads and then opens it
        other = subprocess.run(
            [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False
        )
        # then only the opening fails, and so does it in this process
        assert "LogBusyError" in other.stderr
        assert "another process writes this log" in other.stderr
        with pytest.raises(StateError, match="another process writes"):
            open_log(tmp_path)
        assert log.append(content(1)).index == 1
    # and once closed, it opens
    open_log(tmp_path).close()


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    # given
    log = open_log(tmp_path)
    log.close()
    # when, then
    with pytest.raises(StateError, match="open the log again"):
        log.append(content(0))


def test_threads_append_without_losing_or_mixing_entries(tmp_path: Path) -> None:
    # given
    with open_log(tmp_path) as log:

        def append(first: int) -> None:
            for index in range(first, first + 20):
                log.append(content(index))
                log.checkpoint()

        threads = [threading.Thread(target=append, args=(100 * n,)) for n in range(4)]
        # when
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # then
        assert sorted(each.content for each in log.openings()) == sorted(
            content(100 * n + index) for n in range(4) for index in range(20)
        )
        assert checkpoint_of(log.checkpoint()).root == slow_root(
            [each.commitment for each in log.openings()]
        )


def test_keeps_cosignatures_with_the_checkpoint_they_sign(tmp_path: Path) -> None:
    # given two checkpoints
    with open_log(tmp_path) as log:
        log.append(content(0))
        first = log.checkpoint()
        log.append(content(1))
        second = log.checkpoint()
        # when witnesses cosign both, one of them twice
        cosigned = log.add_cosignature(cosignature(first, WITNESSES[0]), WITNESS_KEYS)
        log.add_cosignature(cosignature(second, WITNESSES[0]), WITNESS_KEYS)
        log.add_cosignature(cosignature(second, WITNESSES[0], time_s=2_000_000_000), WITNESS_KEYS)
        log.add_cosignature(cosignature(second, WITNESSES[2]), WITNESS_KEYS)
        # then each is where it belongs, the newer line in the place of the older
        assert (cosigned.witness, cosigned.size) == ("be.example/witness", 1)
    with open_log(tmp_path, first_salt=2) as log:
        names = [
            open_checkpoint(note, log_key=LOG_KEY, witnesses=WITNESS_KEYS).cosigned_by
            for note in log.checkpoints()
        ]
        assert names == [
            {"be.example/witness", "us.example/witness"},
            {"be.example/witness"},
            set(),
        ]
        assert log.checkpoint().count("\n— ") == 3
        assert LogReader(tmp_path).checkpoint() == log.checkpoint()


def test_refuses_cosignatures_of_strangers_and_over_nothing_it_signed(tmp_path: Path) -> None:
    # given
    with open_log(tmp_path) as log:
        note = log.checkpoint()
        foreign = note.replace("\n0\n", "\n5\n")
        refused = {
            cosignature(note, secret("stranger", COSIGNATURE)): TrustError,
            cosignature(foreign, WITNESSES[0]): TrustError,
            "no signature line\n": FormatError,
            cosignature(note, WITNESSES[0]) * 2: FormatError,
        }
        # when, then
        for line, error in refused.items():
            with pytest.raises(error):
                log.add_cosignature(line, WITNESS_KEYS)
        own_line = note.rpartition("\n\n")[2]
        with pytest.raises(TrustError, match="no agreed witness"):
            log.add_cosignature(own_line, [LOG_KEY])
        assert log.checkpoint() == note
        log.append(content(0))


def test_old_checkpoints_go_but_the_best_cosigned_stays(tmp_path: Path) -> None:
    # given a checkpoint that everybody cosigned, and a newer one that one witness cosigned
    with open_log(tmp_path) as log:
        for index in range(RETAINED + 10):
            log.append(content(index))
            note = log.checkpoint()
            for witness in WITNESSES[: {2: 3, 5: 1}.get(log.size, 0)]:
                log.add_cosignature(cosignature(note, witness), WITNESS_KEYS)
        # when
        sizes = [checkpoint_of(note).size for note in log.checkpoints()]
    # then
    assert sizes == [*range(RETAINED + 10, 10, -1), 5, 2]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == set(map(str, sizes))


def test_refuses_contents_over_the_limit_and_goes_on(tmp_path: Path) -> None:
    # given
    with open_log(tmp_path) as log:
        # when
        with pytest.raises(LogError, match="at most"):
            log.append_many([content(0), b" " * (CONTENT_LIMIT_BYTES + 1)])
        # then nothing was written
        assert log.append_many(()) == ()
        assert log.append(content(0)).index == 0


@pytest.mark.parametrize("limit_bytes", [8192, 8193, 8192 + 31, 8192 + 40, 200, 77, 50])
def test_after_a_failed_write_the_log_must_be_opened_again(
    tmp_path: Path, limit_bytes: int
) -> None:
    # given a disk that takes files of so many bytes only: the limits tear a commitment (8192 bytes
    # are there), the contents of the new bundle, or neither
    with open_log(tmp_path) as log:
        log.append_many(contents(0, 256))
        log.checkpoint()
    child = os.fork()
    if not child:
        os._exit(_append_until_refused(tmp_path, limit_bytes))
    # when
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # then the failing process said so and took nothing more; what it had acknowledged is there
    assert status >= 100, "the child must end by the refusal"
    acknowledged = status - 100
    with open_log(tmp_path, first_salt=1000) as log:
        assert log.size >= 256 + acknowledged
        assert [each.content for each in log.openings()] == contents(0, log.size)
        assert checkpoint_of(log.checkpoint()).size == log.size


def _append_until_refused(directory: Path, limit_bytes: int) -> int:
    """Return 100 plus the number of acknowledged entries, or less when something else happened."""
    log = open_log(directory, first_salt=256)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    acknowledged = 0
    try:
        while acknowledged < 50:
            log.append(content(256 + acknowledged))
            acknowledged += 1
    except StateError:
        try:
            log.append(content(999))
        except StateError:
            return 100 + acknowledged
    return 1


def test_refuses_another_key_for_the_same_directory(tmp_path: Path) -> None:
    # given
    open_log(tmp_path).close()
    # when, then
    with pytest.raises(TrustError):
        Log(tmp_path, origin=ORIGIN, signer=secret("another"))
    with pytest.raises(TrustError):
        Log(tmp_path, origin="us.example/log", signer=LOG_SECRET)
    open_log(tmp_path).close()
