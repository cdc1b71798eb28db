"""The checkpoints that a log signed and keeps, with the cosignatures that came in for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ringfence.core.errors import ForkError, LogError, TrustError
from ringfence.ledger.checkpoints import SignedCheckpoint, open_checkpoint
from ringfence.ledger.files import read_file, replace_file, sync_directory
from ringfence.ledger.keys import COSIGNATURE, NoteKey, distinct
from ringfence.ledger.notes import NOTE_LIMIT_BYTES, Note, Signature, Verified, verify_signature

RETAINED = 32
"""So many of the newest checkpoints still take cosignatures; witnesses may lag that far."""

CHECKPOINT = "checkpoint"
CHECKPOINTS = "checkpoints"


class Retained:
    """Notes by size: one file each in `checkpoints/`, the newest also in `checkpoint`.

    `checkpoints/<size>` is written first, then `checkpoint`; if the process dies between the two,
    the next `load` finishes.
    """

    def __init__(self, directory: Path, log_key: NoteKey, scratch: Path) -> None:
        self._directory = directory
        self._log_key = log_key
        self._scratch = scratch
        self._by_size: dict[int, SignedCheckpoint] = {}

    def load(self) -> None:
        """Read what is on disk and finish a half-written change.

        Raises: LogError or TrustError when a note does not hold; ForkError when two notes of one
        size differ in their root.
        """
        names = [*sorted((self._directory / CHECKPOINTS).iterdir()), self._directory / CHECKPOINT]
        for path in names:
            if not path.exists():
                continue
            signed = open_checkpoint(read_note(path), log_key=self._log_key)
            size = signed.checkpoint.size
            known = self._by_size.setdefault(size, signed)
            if known.checkpoint != signed.checkpoint:
                raise ForkError(
                    f"{path}: this log signed both {known.checkpoint} and {signed.checkpoint}; "
                    "stop it and tell its witnesses"
                )
            if path.name not in (str(size), CHECKPOINT):
                raise LogError(f"{path}: expected a checkpoint of size {path.name}, got {size}")
        if self._by_size:
            self._write(self.newest)

    @property
    def newest(self) -> SignedCheckpoint:
        """The checkpoint with the largest size."""
        return self._by_size[max(self._by_size)]

    @property
    def newest_size(self) -> int:
        """Size of the newest checkpoint; 0 before the first."""
        return max(self._by_size, default=0)

    @property
    def size_before_newest(self) -> int:
        """Size of the checkpoint before the newest; 0 when there is none."""
        return max(self._by_size.keys() - {self.newest_size}, default=0)

    def __bool__(self) -> bool:
        return bool(self._by_size)

    def notes(self) -> tuple[str, ...]:
        """Every retained note, the newest first."""
        return tuple(self._by_size[size].note.to_text() for size in sorted(self._by_size)[::-1])

    def add(self, signed: SignedCheckpoint) -> None:
        """Keep a new, larger checkpoint durably; then let go of those nobody needs."""
        if self and signed.checkpoint.size <= self.newest.checkpoint.size:
            raise LogError(
                f"expected a checkpoint larger than {self.newest.checkpoint}, "
                f"got {signed.checkpoint}"
            )
        self._write(signed)
        for size in self._unneeded():
            # CRASH POINT: the old note stays; the next `add` removes it.
            (self._directory / CHECKPOINTS / str(size)).unlink(missing_ok=True)
            del self._by_size[size]

    def cosign(self, line: str, witnesses: Iterable[NoteKey]) -> tuple[SignedCheckpoint, Verified]:
        """Put one witness's line under the retained checkpoint that it signs.

        Raises: FormatError when it is no signature line; TrustError when it is of no known witness
        or over no retained checkpoint.
        """
        signature = Signature.from_line(line if line.endswith("\n") else line + "\n")
        for key in distinct(witnesses):
            known = (key.name, key.key_id) == (signature.name, signature.key_id)
            if known and key.algorithm == COSIGNATURE:
                signed, verified = self._find(signature, key)
                self._write(_with_line(signed, signature))
                return signed, verified
        raise TrustError(f"cosignature of {signature.name}: no agreed witness has this key")

    def _find(self, signature: Signature, key: NoteKey) -> tuple[SignedCheckpoint, Verified]:
        for size in sorted(self._by_size)[::-1]:
            try:
                verified = verify_signature(self._by_size[size].note.text, key, signature)
            except TrustError:
                continue
            return self._by_size[size], verified
        raise TrustError(
            f"cosignature of {key.name}: it holds over none of the {len(self._by_size)} retained "
            "checkpoints; cosign the newest"
        )

    def _unneeded(self) -> list[int]:
        """Sizes that are neither recent nor the newest with their number of signatures or more."""
        keep, most = set(sorted(self._by_size)[-RETAINED:]), 0
        for size in sorted(self._by_size)[::-1]:
            lines = len(self._by_size[size].note.signatures)
            if lines > most:
                keep.add(size)
                most = lines
        return [size for size in self._by_size if size not in keep]

    def _write(self, signed: SignedCheckpoint) -> None:
        size, data = signed.checkpoint.size, signed.note.to_text().encode()
        folder = self._directory / CHECKPOINTS
        replace_file(folder / str(size), data, scratch=self._scratch)
        sync_directory(folder)
        # CRASH POINT: the new note is retained, `checkpoint` is the one before; `load` finishes.
        if size >= self.newest_size:
            replace_file(self._directory / CHECKPOINT, data, scratch=self._scratch)
            sync_directory(self._directory)
        self._by_size[size] = signed


def read_note(path: Path) -> str:
    """Read a note's file; raises LogError when it is not UTF-8 or too long."""
    data = read_file(path, limit_bytes=NOTE_LIMIT_BYTES)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise LogError(f"{path}: expected a signed note in UTF-8") from error


def _with_line(signed: SignedCheckpoint, signature: Signature) -> SignedCheckpoint:
    """Add the line, or put it in the place of the same witness's earlier one."""
    others = tuple(
        line
        for line in signed.note.signatures
        if (line.name, line.key_id) != (signature.name, signature.key_id)
    )
    return replace(signed, note=Note(text=signed.note.text, signatures=(*others, signature)))
