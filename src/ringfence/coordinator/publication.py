"""The checkpoint that the hub shows: it stands still between releases, so that witnesses meet.

Every entry would make a new tree, and cosignatures over different trees never add up.  The hub
therefore shows one checkpoint until there is something to admit, and collects cosignatures on it.
Cosignatures outlive the run: they lie with the retained checkpoint that they sign, and both what is
shown after a start and what a proof is given under are looked for among those.
"""

from __future__ import annotations

import threading

from ringfence.core.errors import LogError
from ringfence.crossing.timekeeping import Timekeeper
from ringfence.ledger.checkpoints import Checkpoint, majority, open_checkpoint
from ringfence.ledger.log import Log
from ringfence.ledger.notes import Note, NoteKey


class Publication:
    """The shown checkpoint of a log, and the best one for each entry."""

    def __init__(self, log: Log, witnesses: tuple[NoteKey, ...], *, timekeeper: Timekeeper) -> None:
        """`timekeeper` hears when each witness cosigned, and what it could not have before."""
        self._log = log
        self._timekeeper = timekeeper
        self._keys = witnesses
        self._witnesses = {(key.name, key.key_id) for key in witnesses}
        self._lock = threading.Lock()
        self._note = log.checkpoint()
        # What was signed in a former run still says that it is not earlier than that.
        for note in log.checkpoints():
            timekeeper.hear_checkpoint(open_checkpoint(note, log_key=log.key, witnesses=witnesses))

    def resume(self, *, covering: int) -> None:
        """After a start: show again what the former run had cosigned, if it covers `covering`.

        A newer tree would need every cosignature anew, from gateways that may have gone home.
        """
        with self._lock:
            self._note = self._best(covering)

    def publish(self) -> None:
        """Show a checkpoint over everything recorded so far."""
        with self._lock:
            signed, before_s = self.newest_size(), self._timekeeper.steady_s()
            self._note = self._log.checkpoint()
            if (size := self.newest_size()) > signed:
                self._timekeeper.published(size, since_s=before_s)

    def note(self) -> str:
        """The shown checkpoint as a signed note with its cosignatures."""
        with self._lock:
            return self._note

    def newest_size(self) -> int:
        """How many entries the newest signed checkpoint covers."""
        return _size(self._log.checkpoints()[0])

    def best(self, index: int) -> str:
        """The retained checkpoint over entry `index` with the most cosignatures, the newest of it.

        Raises: LogError when none covers it yet.
        """
        with self._lock:
            return self._best(index)

    def cosign(self, line: str) -> bool:
        """Keep a witness's line; returns whether its checkpoint just reached a majority.

        Raises: FormatError or TrustError when the line is of no witness, or of no checkpoint.
        """
        with self._lock:
            before = {_size(note): self._count(note) for note in self._log.checkpoints()}
            cosigned = self._log.add_cosignature(line, self._keys)
            self._timekeeper.hear_cosignature(cosigned)
            size = cosigned.size
            (note,) = (note for note in self._log.checkpoints() if _size(note) == size)
            if size == _size(self._note):
                self._note = note
            return before[size] < majority(len(self._witnesses)) <= self._count(note)

    def _best(self, index: int) -> str:
        covering = [note for note in self._log.checkpoints() if _size(note) > index]
        if not covering:
            raise LogError(f"no checkpoint covers entry {index} yet")
        return max(covering, key=lambda note: (self._count(note), _size(note)))

    def _count(self, note: str) -> int:
        """Lines of agreed witnesses; each was verified before the log kept it."""
        signatures = Note.from_text(note).signatures
        return sum((line.name, line.key_id) in self._witnesses for line in signatures)


def _size(note: str) -> int:
    return Checkpoint.from_text(Note.from_text(note).text).size
