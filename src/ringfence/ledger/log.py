"""A region's append-only log in a directory, and its one writer.

    lock                flock of the writer; readers need none
    contents/<N>        salts and contents, 256 entries a file (`contents.py`); stay in the region
    commitments         32 bytes for every acknowledged entry
    tile/…              C2SP tlog-tiles: hashes, and commitments as the entries
    checkpoints/<size>  retained signed notes with their cosignatures
    checkpoint          the newest of them

Steps of a write, each durable before the next; `recovery.py` says what each crash leaves:

    append      A1 contents   A2 commitments (acknowledged from here on)
    checkpoint  P1 tiles      P2 sign and retain      P3 remove outgrown partial tiles
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ringfence.core.errors import Error, LogError, StateError
from ringfence.ledger.checkpoints import Checkpoint, SignedCheckpoint
from ringfence.ledger.contents import SALT_BYTES, ContentsFile, Opening
from ringfence.ledger.edge import Edge
from ringfence.ledger.files import make_directory, replace_file, sync_directory, write_at
from ringfence.ledger.keys import NoteKey, Signer, log_key
from ringfence.ledger.merkle import HASH_BYTES
from ringfence.ledger.notes import Note, sign
from ringfence.ledger.reader import LogReader
from ringfence.ledger.recovery import COMMITMENTS, recover
from ringfence.ledger.retained import CHECKPOINTS, Retained
from ringfence.ledger.tiles import TILE_WIDTH, bundle_path, tile_path, widths

_LOCK = "lock"
_SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """An entry that is durable: its place, and what the log holds for it."""

    index: int
    commitment: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A cosignature that was kept: whose, when, and over which checkpoint."""

    witness: str
    time_s: int
    size: int


class LogBusyError(StateError):
    """Another process is the writer of this log."""


class Log:
    """The one writer of a log; a context manager that holds the directory's lock.

    Guarantees: an entry is durable when `append` returns; a checkpoint is durable before
    `checkpoint` returns it; sizes of signed checkpoints never fall and no size gets two roots.
    Methods may be called from any thread.  After a failed write every further one is refused
    until the log is opened again, because only reading the disk tells what was written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        origin: str,
        signer: Signer,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Open a log, or begin one; finishes or cuts what a crash left.

        Raises: LogBusyError when another process has it open; LogError when an acknowledged entry
        is damaged or gone, or the tree does not fit the checkpoint.
        """
        self._directory = directory
        self._key = log_key(origin, signer)
        self._signer = signer
        self._randomness = randomness
        self._mutex = threading.RLock()
        self._failed = False
        self._contents = ContentsFile(directory)
        self._commitments = -1
        self._reader = LogReader(directory)
        make_directory(directory)
        self._lock = _acquire(directory / _LOCK)
        try:
            self._retained = Retained(directory, self._key, directory / _SCRATCH)
            self._edge = self._open()
            self._commitments = os.open(directory / COMMITMENTS, os.O_WRONLY | os.O_CLOEXEC)
            self.checkpoint()
        except BaseException:
            self.close()
            raise

    @property
    def key(self) -> NoteKey:
        """The public key of this log's checkpoints."""
        return self._key

    @property
    def size(self) -> int:
        """How many entries are durable; the newest checkpoint may cover fewer."""
        return self._edge.size

    def append(self, content: bytes) -> Appended:
        """Add one entry; it is durable when this returns.  Raises StateError when it may not be."""
        return self.append_many((content,))[0]

    def append_many(self, contents: Sequence[bytes]) -> tuple[Appended, ...]:
        """Add entries under one flush; all are durable when this returns.

        A crash before that leaves the first few of them, or none.
        """
        with self._mutex, self._writing():
            openings = [
                Opening(index=index, salt=self._randomness(SALT_BYTES), content=content)
                for index, content in enumerate(contents, start=self.size)
            ]
            frames = [opening.to_bytes() for opening in openings]
            # A1. Contents first: a commitment on disk says that its content is durable.
            self._contents.append(self.size, frames)
            # CRASH POINT: contents without commitments; never acknowledged, cut at the next open.
            # A2. The commitments are the acknowledgement.
            commitments = [opening.commitment for opening in openings]
            write_at(self._commitments, b"".join(commitments), self.size * HASH_BYTES)
            os.fdatasync(self._commitments)
            # CRASH POINT: durable though the caller never heard of it; kept at the next open.
            return tuple(
                Appended(
                    index=opening.index,
                    commitment=commitment,
                    leaf_hash=self._edge.add(commitment),
                )
                for opening, commitment in zip(openings, commitments, strict=True)
            )

    def checkpoint(self) -> str:
        """Return a signed note over every entry, with the cosignatures so far; signs when needed.

        Raises: StateError when it could not be made durable.
        """
        with self._mutex:
            if self._retained and self._retained.newest.checkpoint.size == self.size:
                return self._retained.newest.note.to_text()
            with self._writing():
                self._publish_tiles()  # P1
                # CRASH POINT: tiles without a checkpoint; the next one writes the same again.
                signed, since = self._sign(), self._retained.newest_size
                self._retained.add(signed)  # P2
                # CRASH POINT: outgrown partial tiles; the next open removes them.
                self._remove_outgrown(since)  # P3
                return signed.note.to_text()

    def checkpoints(self) -> tuple[str, ...]:
        """Return the retained notes with their cosignatures, the newest first.

        The newest few dozen are kept, and of the older ones the newest with the most cosignatures.
        """
        with self._mutex:
            return self._retained.notes()

    def add_cosignature(self, line: str, witnesses: Iterable[NoteKey]) -> Cosigned:
        """Keep a witness's signature line with the retained checkpoint that it signs.

        Raises: FormatError, or TrustError when it is of none of `witnesses` or of no checkpoint.
        """
        with self._mutex, self._writing():
            signed, verified = self._retained.cosign(line, witnesses)
            assert verified.time_s is not None
            return Cosigned(
                witness=verified.key.name,
                time_s=verified.time_s,
                size=signed.checkpoint.size,
            )

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Prove entry `index` in the tree of `size`, at most the newest checkpoint's."""
        return self._reader.inclusion(index, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of `new` entries begins with the tree of `old`."""
        return self._reader.consistency(old, new)

    def opening(self, index: int) -> Opening:
        """Return an entry's salt and content."""
        return self._reader.opening(index)

    def content(self, index: int) -> bytes:
        """Return an entry's content."""
        return self._reader.content(index)

    def openings(self, start: int = 0, stop: int | None = None) -> Iterator[Opening]:
        """Yield every durable entry's salt and content in order, checkpointed or not."""
        return self._reader.openings(start, self.size if stop is None else min(stop, self.size))

    def close(self) -> None:
        """Let go of the directory; nothing is left to write."""
        with self._mutex:
            self._failed = True
            self._contents.close()
            for fd in (self._commitments, self._lock):
                if fd >= 0:
                    os.close(fd)
            self._commitments = self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Refuse writes after a failed one, and let a failed one be the last."""
        if self._failed:
            raise StateError(
                f"{self._directory}: closed, or a write to it failed; open the log again"
            )
        try:
            yield
        except Error:
            raise  # from a check, before anything was written
        except OSError as error:
            self._failed = True
            raise StateError(
                f"{self._directory}: a write failed ({error.strerror}); mend the disk, then open "
                "the log again: it will say what was kept"
            ) from error
        except BaseException:
            self._failed = True
            raise

    def _open(self) -> Edge:
        for name in (CHECKPOINTS, "contents", "tile"):
            make_directory(self._directory / name)
        (self._directory / COMMITMENTS).touch(mode=0o600)
        sync_directory(self._directory)
        self._retained.load()
        if not self._retained:
            # A new log signs size 0 before it takes an entry, so entries prove a lost checkpoint.
            if (self._directory / COMMITMENTS).stat().st_size:
                raise LogError(
                    f"{self._directory}: entries but no checkpoint; restore it from a copy"
                )
            return Edge()
        signed = self._retained.newest.checkpoint
        self._remove_outgrown(self._retained.size_before_newest)
        commitments = recover(self._directory, signed.size)
        unfilled = signed.size % TILE_WIDTH
        edge = Edge.read(self._directory, signed.size, commitments[:unfilled])
        if edge.root != signed.root:
            raise LogError(
                f"{self._directory}: expected the tree of checkpoint {signed}, got root "
                f"{edge.root.hex()}; verify the log, then restore it from a copy"
            )
        for commitment in commitments[unfilled:]:
            edge.add(commitment)
        return edge

    def _publish_tiles(self) -> None:
        parents = set()
        for name, data in self._edge.unpublished():
            path = self._directory / name
            make_directory(path.parent)
            replace_file(path, data, scratch=self._directory / _SCRATCH)
            parents.add(path.parent)
        for parent in parents:
            sync_directory(parent)
        self._edge.published()

    def _sign(self) -> SignedCheckpoint:
        checkpoint = Checkpoint(origin=self._key.name, size=self.size, root=self._edge.root)
        signature = sign(checkpoint.to_text(), self._key, self._signer)
        note = Note(text=checkpoint.to_text(), signatures=(signature,))
        return SignedCheckpoint(checkpoint=checkpoint, note=note, cosigned_by=frozenset())

    def _remove_outgrown(self, since: int) -> None:
        """Remove the partial tiles of those tiles that became full after size `since`."""
        before = widths(since)
        for level, (full, _) in enumerate(widths(self._retained.newest.checkpoint.size)):
            for number in range(before[level][0] if level < len(before) else 0, full):
                names = [tile_path(level, number)] + [bundle_path(number)] * (level == 0)
                for name in names:
                    # Readers look for a partial tile first and then for the full one.
                    shutil.rmtree(self._directory / f"{name}.p", ignore_errors=True)


def _acquire(path: Path) -> int:
    """Take the writer's lock, which the kernel releases when the process ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise LogBusyError(f"{path}: another process writes this log; stop it first") from error
    return fd
