"""The checkpoint that the hub shows: it stands still between releases, so that witnesses meet.

Every entry would make a new tree, and cosignatures over different trees never add up.  The hub
therefore shows one checkpoint until there is something to admit, and collects cosignatures on it.
"""

from __future__ import annotations

import threading

from ringfence.ledger.checkpoints import count_cosignatures, majority
from ringfence.ledger.log import Log
from ringfence.ledger.notes import Note, NoteKey


class Publication:
    """The newest shown checkpoint of a log, with the cosignatures that came in for it."""

    def __init__(self, log: Log, witnesses: tuple[NoteKey, ...]) -> None:
        self._log = log
        self._witnesses = witnesses
        self._lock = threading.Lock()
        self._note = log.checkpoint()

    def publish(self) -> None:
        """Show a checkpoint over everything recorded so far."""
        with self._lock:
            self._note = self._log.checkpoint()

    def note(self) -> str:
        """The shown checkpoint as a signed note with its cosignatures."""
        with self._lock:
            return self._note

    def cosign(self, line: str) -> bool:
        """Keep a witness's line; returns whether the shown checkpoint just reached a majority.

        Raises: FormatError or TrustError when the line is of no witness, or of no checkpoint.
        """
        with self._lock:
            before = self._count()
            self._log.add_cosignature(line, self._witnesses)
            text = Note.from_text(self._note).text
            for note in self._log.checkpoints():
                if Note.from_text(note).text == text:
                    self._note = note
            least = majority(len(self._witnesses))
            return before < least <= self._count()

    def _count(self) -> int:
        return len(count_cosignatures(self._note, log_key=self._log.key, witnesses=self._witnesses))
