"""Kill the writer before each of its system calls, tear its files, and look what is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from tests.ledger.ledger_world import (
    LOG_KEY,
    WITNESS_KEYS,
    WITNESSES,
    content,
    contents,
    cosignature,
    open_log,
)

from ringfence.core.errors import LogError
from ringfence.ledger.checkpoints import Checkpoint, open_checkpoint
from ringfence.ledger.contents import Opening
from ringfence.ledger.merkle import verify_consistency
from ringfence.ledger.recovery import COMMITMENTS
from ringfence.ledger.verify import verify_log

CHANGES_THE_DISK = frozenset(
    {
        os.fdatasync,
        os.fsync,
        os.ftruncate,
        os.mkdir,
        os.open,
        os.pwrite,
        os.rename,
        os.rmdir,
        os.unlink,
    }
)

# The default run tries some of the moments at which a process can die, `make check` every one.
every = pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])

Report = Callable[[bytes], None]


def run_killed(work: Callable[[Report], None], *, at_call: int) -> tuple[bool, list[bytes]]:
    """Run `work` in a child that dies before its `at_call`-th call that changes the disk.

    Returns whether it died, and the lines that it reported before.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        calls = 0

        def before_each_call(frame: FrameType, event: str, function: object) -> None:
            nonlocal calls
            if event == "c_call" and function in CHANGES_THE_DISK:
                calls += 1
                if calls == at_call:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(before_each_call)
        work(lambda line: os.write(write_end, line + b"\0") and None)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        reported = pipe.read().split(b"\0")[:-1]
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0, reported


def check_after_crash(directory: Path, reported: list[bytes]) -> int:
    """Reopen, compare with everything that the dead process had told; returns the size."""
    notes = [line.decode() for line in reported if line.endswith(b"\n")]
    acknowledged = [int(line) for line in reported if not line.endswith(b"\n")]
    with open_log(directory, first_salt=5000) as log:
        # no acknowledged entry is lost, and every kept one is what was appended
        assert all(index < log.size for index in acknowledged)
        assert [each.content for each in log.openings()] == contents(0, log.size)
        # no checkpoint that somebody saw is contradicted
        newest = open_checkpoint(log.checkpoint(), log_key=LOG_KEY).checkpoint
        for note in notes:
            seen = open_checkpoint(note, log_key=LOG_KEY).checkpoint
            check_consistent(log.consistency(seen.size, newest.size), seen, newest)
        # and it goes on
        log.append(content(log.size))
        log.checkpoint()
        size = log.size
    report = verify_log(directory, log_key=LOG_KEY, witnesses=WITNESS_KEYS)
    assert (report.disclosed, report.undisclosed, report.pending) == (size, 0, 0)
    return size


def check_consistent(proof: list[bytes], old: Checkpoint, new: Checkpoint) -> None:
    verify_consistency(
        old=old.size, new=new.size, old_root=old.root, new_root=new.root, proof=proof
    )


def busy_writer(directory: Path, report: Report) -> None:
    """Everything that a log does to the disk, across the end of a bundle."""
    with open_log(directory, first_salt=254) as log:
        report(b"%d" % log.append(content(log.size)).index)
        report(log.checkpoint().encode())
        for entry in log.append_many(contents(log.size, log.size + 3)):
            report(b"%d" % entry.index)
        note = log.checkpoint()
        report(note.encode())
        log.add_cosignature(cosignature(note, WITNESSES[0]), WITNESS_KEYS)
        report(b"%d" % log.append(content(log.size)).index)


@pytest.fixture(scope="module")
def nearly_full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log two entries before the end of its first bundle, one of them not yet checkpointed."""
    directory = tmp_path_factory.mktemp("nearly-full") / "log"
    with open_log(directory) as log:
        log.append_many(contents(0, 250))
        log.checkpoint()
        log.append_many(contents(250, 253))
        log.checkpoint()
        log.append(content(253))
    return directory


@every
def test_killed_before_any_call_it_loses_nothing(
    nearly_full: Path, tmp_path: Path, step: int
) -> None:
    # given a log whose writer is killed before its first call, its second, and so on to its end
    sizes, died, at_call = set(), True, 1 - step
    while died:
        at_call += step
        directory = tmp_path / str(at_call)
        shutil.copytree(nearly_full, directory)
        # when
        died, reported = run_killed(
            lambda report, to=directory: busy_writer(to, report), at_call=at_call
        )
        # then
        sizes.add(check_after_crash(directory, reported))
        shutil.rmtree(directory)
    # and the deaths were spread over all it did
    assert at_call > 80
    assert {255, 256, 260} <= sizes <= {255, 256, 259, 260}


def test_killed_while_it_is_founded_it_opens_again(tmp_path: Path) -> None:
    # given
    died, at_call = True, 0
    while died:
        at_call += 1
        directory = tmp_path / str(at_call) / "log"
        # when
        died, _ = run_killed(lambda _, to=directory: open_log(to).close(), at_call=at_call)
        # then
        assert check_after_crash(directory, []) == 1
    assert at_call > 15


def half_done(nearly_full: Path, directory: Path) -> None:
    """A group over two bundles whose contents are there and whose commitments are torn."""
    shutil.copytree(nearly_full, directory)
    with open_log(directory, first_salt=254) as log:
        log.append_many(contents(254, 260))
        log.append_many(contents(260, 520))
    shutil.rmtree(directory / "tile")
    shutil.rmtree(directory / "checkpoints")
    for name in ("tile", "checkpoints", "checkpoint"):
        source = nearly_full / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, directory / name)
    os.truncate(directory / COMMITMENTS, 258 * 32 + 5)
    with (directory / "contents" / "002").open("ab") as file:
        file.write(b"torn")


@every
def test_killed_while_it_recovers_it_recovers_again(
    nearly_full: Path, tmp_path: Path, step: int
) -> None:
    # given a log with much to repair
    died, at_call = True, 1 - step
    while died:
        at_call += step
        directory = tmp_path / str(at_call)
        half_done(nearly_full, directory)
        # when
        died, _ = run_killed(lambda _, to=directory: open_log(to).close(), at_call=at_call)
        # then: the torn record's content was durable, so its entry is kept
        assert check_after_crash(directory, [b"258"]) == 260
        assert not (directory / "contents" / "002").exists()
        shutil.rmtree(directory)
    assert at_call > 20


@pytest.fixture(scope="module")
def four_and_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five entries: two under a checkpoint, and the fifth as the one in flight."""
    directory = tmp_path_factory.mktemp("four-and-one") / "log"
    with open_log(directory) as log:
        log.append_many(contents(0, 2))
        log.checkpoint()
        for index in (2, 3, 4):
            log.append(content(index))
    return directory


def in_flight(directory: Path) -> tuple[int, int]:
    """Where the last entry's opening begins in its file, and where it ends."""
    end = (directory / "contents" / "000").stat().st_size
    frame = Opening(index=4, salt=bytes(32), content=content(4)).to_bytes()
    return end - len(frame), end


@every
def test_a_torn_content_that_was_not_acknowledged_is_cut(
    four_and_one: Path, tmp_path: Path, step: int
) -> None:
    # given the fifth content torn at each byte, or there in length only, without its commitment
    start, end = in_flight(four_and_one)
    for kept in range(start, end + 1, step):
        for filler in (b"", b"\0" * (end - kept), b"\xff" * (end - kept)):
            directory = tmp_path / "log"
            shutil.copytree(four_and_one, directory)
            os.truncate(directory / COMMITMENTS, 4 * 32)
            os.truncate(directory / "contents" / "000", kept)
            with (directory / "contents" / "000").open("ab") as file:
                file.write(filler)
            # when, then: the four are there and the fifth may come again
            assert check_after_crash(directory, [b"3"]) == 5
            shutil.rmtree(directory)


@every
def test_a_torn_commitment_is_completed_from_its_content(
    four_and_one: Path, tmp_path: Path, step: int
) -> None:
    # given the fifth commitment torn at each byte, or there in length only
    for kept in range(1, 32, step):
        for filler in (b"", b"\0" * (32 - kept)):
            directory = tmp_path / "log"
            shutil.copytree(four_and_one, directory)
            os.truncate(directory / COMMITMENTS, 4 * 32 + kept)
            with (directory / COMMITMENTS).open("ab") as file:
                file.write(filler)
            # when, then
            assert check_after_crash(directory, [b"4"]) == 6
            shutil.rmtree(directory)


@every
def test_damage_to_an_acknowledged_content_is_refused_and_nothing_cut(
    four_and_one: Path, tmp_path: Path, step: int
) -> None:
    # given each byte since the start of the third opening damaged, all being acknowledged
    start = in_flight(four_and_one)[0] // 4 * 2
    end = in_flight(four_and_one)[1]
    for position in range(start, end, step):
        directory = tmp_path / "log"
        shutil.copytree(four_and_one, directory)
        path = directory / "contents" / "000"
        data = bytearray(path.read_bytes())
        data[position] ^= 0x10
        path.write_bytes(data)
        before = (directory / COMMITMENTS).read_bytes()
        # when
        with pytest.raises(LogError, match=r"contents/000: the content of the acknowledged entry"):
            open_log(directory)
        # then
        assert path.read_bytes() == data
        assert (directory / COMMITMENTS).read_bytes() == before
        shutil.rmtree(directory)


@pytest.mark.parametrize("name", ["checkpoint", "contents/000", COMMITMENTS, "tile/0/000.p/2"])
def test_a_lost_file_is_refused_where_it_held_what_was_acknowledged(
    four_and_one: Path, tmp_path: Path, name: str
) -> None:
    # given
    directory = tmp_path / "log"
    shutil.copytree(four_and_one, directory)
    (directory / name).unlink()
    if name == "checkpoint":
        shutil.rmtree(directory / "checkpoints")
    # when, then
    with pytest.raises(LogError, match="restore"):
        open_log(directory)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoints/2"])
def test_a_lost_note_comes_back_from_the_other_copy(
    four_and_one: Path, tmp_path: Path, name: str
) -> None:
    # given
    directory = tmp_path / "log"
    shutil.copytree(four_and_one, directory)
    (directory / name).unlink()
    # when, then
    assert check_after_crash(directory, [b"4"]) == 6


@pytest.mark.slow
def test_killed_at_random_moments_it_loses_nothing(tmp_path: Path) -> None:
    # given a process that appends as fast as it can, and dies again and again
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.ledger.ledger_world import content, open_log\n"
        "with open_log(Path(sys.argv[1]), first_salt=int(sys.argv[2])) as log:\n"
        "    while True:\n"
        "        print(log.append(content(log.size)).index, flush=True)\n"
        "        if log.size % 5 == 0: log.checkpoint()\n"
    )
    size = 0
    for round_ in range(25):
        command = [sys.executable, "-c", program, tmp_path, str(10_000 * round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            # when
            time.sleep(0.003 * round_)
            child.kill()
            lines = child.stdout.read().split("\n")[:-1]
        # then
        last = max(map(int, lines), default=size)
        with open_log(tmp_path, first_salt=10_000 * round_ + 9_000) as log:
            assert log.size > last
            assert [each.content for each in log.openings(size)] == contents(size, log.size)
            size = log.size
    assert verify_log(tmp_path, log_key=LOG_KEY).disclosed == size
