"""A witness of somebody else's log: remembers what it saw, cosigns what is consistent with it.

    seen        the last note that was consistent with all before it
    forks/<id>/ two notes that cannot both be true, kept as evidence

Source: C2SP tlog-witness (what to check, in which order), C2SP tlog-cosignature (what it means).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ringfence.core.clock import Clock
from ringfence.core.errors import ForkError, LogError
from ringfence.ledger.checkpoints import Checkpoint, SignedCheckpoint, open_checkpoint
from ringfence.ledger.files import make_directory, replace_file, sync_directory
from ringfence.ledger.keys import NoteKey, Signer, witness_key
from ringfence.ledger.merkle import verify_consistency
from ringfence.ledger.notes import sign
from ringfence.ledger.retained import read_note

_SEEN = "seen"
_FORKS = "forks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A checkpoint that is consistent with everything seen before, and our line under it."""

    checkpoint: Checkpoint
    cosignature: str
    """One signature line with its newline, for the log's `add_cosignature`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One region's memory of one log, in a directory of its own.

    Guarantees: what was cosigned is remembered durably before the cosignature exists; two
    processes that use one directory wait for one another.
    """

    directory: Path
    log_key: NoteKey
    name: str
    signer: Signer
    clock: Clock

    @property
    def key(self) -> NoteKey:
        """The public key of our cosignatures."""
        return witness_key(self.name, self.signer)

    def last(self) -> Checkpoint | None:
        """Return the last checkpoint seen, None before the first; ask for a proof from its size.

        Raises: TrustError or LogError when the remembered note does not hold any more.
        """
        seen = self._last()
        return seen.checkpoint if seen else None

    def see(self, note: str, *, consistency: Sequence[bytes] = ()) -> Seen:
        """Check a log's newest note against the last one, remember it, and cosign it.

        `consistency` proves from the size of `last()` to the note's; it is empty for the first
        note, for one of the same size, and after one of size 0.
        Raises: FormatError, TrustError or LogError when the note is not this log's; LogError when
        it is older than the last one; ForkError, naming both checkpoints and keeping both notes,
        when the two cannot both be true or the log does not prove that they are.
        """
        # 1. signature and origin
        offered = open_checkpoint(note, log_key=self.log_key)
        with self._alone():
            last = self._last()
            if last is not None:
                # 2. size and consistency
                self._check(last, offered, consistency)
            elif consistency:
                raise LogError(f"{offered.checkpoint}: the first note seen needs no proof")
            # 3. remember, durably, before a signature exists
            if last is None or offered.checkpoint.size > last.checkpoint.size:
                replace_file(self._seen, note.encode(), scratch=self.directory / "scratch")
                sync_directory(self.directory)
            # CRASH POINT: remembered but not cosigned; the same note is cosigned when seen again.
            # 4. cosign
            line = sign(offered.note.text, self.key, self.signer, time_s=int(self.clock()))
        return Seen(checkpoint=offered.checkpoint, cosignature=line.to_line())

    def recall(self, note: str, *, consistency: Sequence[bytes] = ()) -> Checkpoint:
        """Check that a note is one that the last one seen goes on from; remember and sign nothing.

        `consistency` proves from the note's size to that of `last()`; it is empty when the two are
        equal, and for a note of size 0.
        Raises: FormatError, TrustError or LogError when the note is not this log's, or is newer;
        ForkError, keeping both notes, when the two cannot both be true.
        """
        offered = open_checkpoint(note, log_key=self.log_key)
        with self._alone():
            last = self._last()
            if last is None or offered.checkpoint.size > last.checkpoint.size:
                raise LogError(f"{offered.checkpoint}: is newer than what was seen; see it first")
            self._compare(last, offered, consistency)
        return offered.checkpoint

    @property
    def _seen(self) -> Path:
        return self.directory / _SEEN

    def _last(self) -> SignedCheckpoint | None:
        if not self._seen.exists():
            return None
        return open_checkpoint(read_note(self._seen), log_key=self.log_key)

    def _check(
        self, last: SignedCheckpoint, offered: SignedCheckpoint, consistency: Sequence[bytes]
    ) -> None:
        old, new = last.checkpoint, offered.checkpoint
        if new.size < old.size:
            raise LogError(
                f"log {old.origin} went back: expected a checkpoint after {old}, got {new}; "
                "ask for its newest, and if it stays so, the log lost or hides entries"
            )
        self._compare(last, offered, consistency)

    def _compare(
        self, last: SignedCheckpoint, offered: SignedCheckpoint, consistency: Sequence[bytes]
    ) -> None:
        old, new = sorted((last.checkpoint, offered.checkpoint), key=lambda each: each.size)
        try:
            verify_consistency(
                old=old.size,
                new=new.size,
                old_root=old.root,
                new_root=new.root,
                proof=consistency,
            )
        except LogError as error:
            evidence = self._keep_evidence(last, offered)
            raise ForkError(
                f"log {old.origin} forked: {old} and {new} cannot both be true, or it does not "
                f"prove that they are ({error}); both notes are in {evidence}; stop, and show "
                "them to the other regions"
            ) from error

    def _keep_evidence(self, last: SignedCheckpoint, offered: SignedCheckpoint) -> Path:
        notes = {"seen": last.note.to_text().encode(), "offered": offered.note.to_text().encode()}
        folder = self.directory / _FORKS / sha256(b"".join(notes.values())).hexdigest()[:16]
        make_directory(folder)
        for name, data in notes.items():
            replace_file(folder / name, data, scratch=self.directory / "scratch")
        sync_directory(folder)
        return folder

    @contextmanager
    def _alone(self) -> Iterator[None]:
        make_directory(self.directory)
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
