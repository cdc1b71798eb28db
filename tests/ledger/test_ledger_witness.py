"""A witness: what it cosigns, what it refuses, and what it keeps of a fork."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ledger.ledger_world import (
    LOG_KEY,
    LOG_SECRET,
    NOW_S,
    ORIGIN,
    content,
    contents,
    new_witness,
    open_log,
    secret,
)

from ringfence.core.errors import ForkError, FormatError, LogError, TrustError
from ringfence.ledger.checkpoints import Checkpoint, open_checkpoint
from ringfence.ledger.log import Log
from ringfence.ledger.notes import Note, sign


def signed(size: int, root: bytes, origin: str = ORIGIN) -> str:
    text = Checkpoint(origin=origin, size=size, root=root).to_text()
    return Note(text=text, signatures=(sign(text, LOG_KEY, LOG_SECRET),)).to_text()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """An open log of three entries."""
    log = open_log(tmp_path / "log")
    log.append_many(contents(0, 3))
    return log


def test_cosigns_the_first_note_and_every_consistent_one_after(log: Log, tmp_path: Path) -> None:
    # given a witness that saw size 3
    witness = new_witness(tmp_path / "witness")
    assert witness.last() is None
    witness.see(log.checkpoint())
    # when the log grows and proves it
    log.append(content(3))
    note = log.checkpoint()
    seen = witness.see(note, consistency=log.consistency(3, 4))
    # then its line counts for the log, and it remembers across a restart
    kept = log.add_cosignature(seen.cosignature, [witness.key])
    assert (kept.size, kept.time_s) == (4, NOW_S)
    assert open_checkpoint(
        log.checkpoint(), log_key=LOG_KEY, witnesses=[witness.key]
    ).cosigned_by == {"us.example/witness"}
    assert new_witness(tmp_path / "witness").last() == seen.checkpoint
    log.close()


def test_cosigns_the_same_checkpoint_again(log: Log, tmp_path: Path) -> None:
    # given
    witness = new_witness(tmp_path / "witness")
    first = witness.see(log.checkpoint())
    # when it comes again, now with a cosignature under it
    log.add_cosignature(first.cosignature, [witness.key])
    again = witness.see(log.checkpoint())
    # then
    assert again == first
    log.close()


def test_a_second_root_for_one_size_is_a_fork_and_both_notes_are_kept(
    log: Log, tmp_path: Path
) -> None:
    # given a witness that saw the log, and another note of the same size under the log's key
    witness = new_witness(tmp_path / "witness")
    honest = log.checkpoint()
    root = open_checkpoint(honest, log_key=LOG_KEY).checkpoint.root
    forked = signed(3, bytes(32))
    witness.see(honest)
    # when
    with pytest.raises(ForkError) as fork:
        witness.see(forked)
    # then both are named, and both notes, still signed by the log, lie in the directory
    for part in ("size 3", root.hex(), bytes(32).hex()):
        assert part in str(fork.value)
    (folder,) = (tmp_path / "witness" / "forks").iterdir()
    assert str(folder) in str(fork.value)
    assert (folder / "seen").read_text() == honest
    assert (folder / "offered").read_text() == forked
    # and the witness still stands by what it saw
    assert witness.last() == open_checkpoint(honest, log_key=LOG_KEY).checkpoint
    log.close()


def test_a_rewritten_history_is_a_fork(log: Log, tmp_path: Path) -> None:
    # given a witness that saw the log, and a longer log of the same key with another first entry
    witness = new_witness(tmp_path / "witness")
    witness.see(log.checkpoint())
    with open_log(tmp_path / "rewritten", first_salt=7) as rewritten:
        rewritten.append_many(contents(7, 12))
        note = rewritten.checkpoint()
        # when it is shown with that log's own best proof
        with pytest.raises(ForkError) as fork:
            witness.see(note, consistency=rewritten.consistency(3, 5))
    # then
    assert "size 3" in str(fork.value)
    assert "size 5" in str(fork.value)
    log.close()


def test_growth_without_a_proof_is_not_cosigned(log: Log, tmp_path: Path) -> None:
    # given
    witness = new_witness(tmp_path / "witness")
    witness.see(log.checkpoint())
    log.append(content(3))
    note, proof = log.checkpoint(), log.consistency(3, 4)
    # when no proof, half a proof or another proof comes with it, then it is refused
    for wrong in ((), proof[:-1], [*proof, bytes(32)], [bytes(32)] * len(proof)):
        with pytest.raises(ForkError):
            witness.see(note, consistency=wrong)
    # and the right one still passes
    assert witness.see(note, consistency=proof).checkpoint.size == 4
    log.close()


def test_a_log_that_goes_back_is_refused(log: Log, tmp_path: Path) -> None:
    # given a witness that saw size 4
    witness = new_witness(tmp_path / "witness")
    older = log.checkpoint()
    log.append(content(3))
    witness.see(log.checkpoint())
    # when
    with pytest.raises(LogError, match="went back") as error:
        witness.see(older)
    # then: an old note may be late, so it is no fork
    assert not isinstance(error.value, ForkError)
    assert witness.last() == open_checkpoint(log.checkpoint(), log_key=LOG_KEY).checkpoint
    log.close()


def test_what_is_not_this_log_s_changes_nothing(log: Log, tmp_path: Path) -> None:
    # given a fresh witness
    witness = new_witness(tmp_path / "witness")
    good = log.checkpoint()
    text = Note.from_text(good).text
    stranger = secret("stranger")
    refused = {
        "no note": FormatError,
        good.replace("\n3\n", "\n4\n"): TrustError,
        Note(text=text, signatures=(sign(text, stranger.key, stranger),)).to_text(): TrustError,
        signed(3, bytes(32), origin="us.example/log"): LogError,
    }
    # when, then
    for note, error in refused.items():
        with pytest.raises(error):
            witness.see(note)
    with pytest.raises(LogError, match="needs no proof"):
        witness.see(good, consistency=[bytes(32)])
    assert witness.last() is None
    log.close()


def test_a_damaged_memory_is_not_trusted(log: Log, tmp_path: Path) -> None:
    # given a witness whose remembered note was changed on disk
    witness = new_witness(tmp_path / "witness")
    witness.see(log.checkpoint())
    path = tmp_path / "witness" / "seen"
    path.write_text(path.read_text().replace("\n3\n", "\n2\n"))
    # when, then
    with pytest.raises(TrustError):
        witness.see(log.checkpoint())
    with pytest.raises(TrustError):
        witness.last()
    log.close()


def test_a_log_that_grows_from_nothing_needs_no_proof(tmp_path: Path) -> None:
    # given a witness that saw an empty log
    witness = new_witness(tmp_path / "witness")
    with open_log(tmp_path / "log") as log:
        witness.see(log.checkpoint())
        log.append(content(0))
        # when, then
        assert witness.see(log.checkpoint(), consistency=log.consistency(0, 1)).checkpoint.size == 1
