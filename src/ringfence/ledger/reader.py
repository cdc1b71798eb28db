"""Reading a log's directory without a lock, while another process may write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger import merkle
from ringfence.ledger.checkpoints import Checkpoint
from ringfence.ledger.contents import Opening, contents_path, read_opening, read_openings
from ringfence.ledger.notes import Note
from ringfence.ledger.recovery import COMMITMENTS
from ringfence.ledger.retained import CHECKPOINT, CHECKPOINTS, read_note
from ringfence.ledger.tiles import TILE_WIDTH, tile_reader


class LogReader:
    """A log as of its newest checkpoint each time a method is called.

    It trusts its own region's directory: it checks forms and commitments, not signatures
    (`verify.verify_log` does).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: tuple[int, merkle.Read] = (0, tile_reader(directory, 0))

    def checkpoint(self) -> str:
        """Return the newest signed note, with the cosignatures that came in so far."""
        return read_note(self._directory / CHECKPOINT)

    def checkpoints(self) -> tuple[str, ...]:
        """The retained notes with their cosignatures, the newest first."""
        folder = self._directory / CHECKPOINTS
        sizes = sorted((int(path.name) for path in folder.iterdir()), reverse=True)
        return tuple(read_note(folder / str(size)) for size in sizes)

    @property
    def size(self) -> int:
        """How many entries the newest checkpoint covers."""
        return Checkpoint.from_text(Note.from_text(self.checkpoint()).text).size

    @property
    def durable_size(self) -> int:
        """How many entries are durable; the newest checkpoint may cover fewer."""
        try:
            return (self._directory / COMMITMENTS).stat().st_size // merkle.HASH_BYTES
        except FileNotFoundError:
            return 0

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Prove that entry `index` is in the tree of `size`; raises LogError when unpublished."""
        return merkle.inclusion(self._reads(size), index, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of `new` begins with that of `old`; raises LogError likewise."""
        return merkle.consistency(self._reads(new), old, new)

    def opening(self, index: int) -> Opening:
        """Return an entry's salt and content; raises LogError when it is not here."""
        return read_opening(self._directory, index)

    def content(self, index: int) -> bytes:
        """Return an entry's content; raises LogError when it is not here."""
        return self.opening(index).content

    def openings(self, start: int = 0, stop: int | None = None) -> Iterator[Opening]:
        """Yield the openings that are here, in order, from `start` to before `stop`.

        `stop` defaults to the size of the newest checkpoint.
        """
        end = self.size if stop is None else stop
        for number in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
            path = self._directory / contents_path(number)
            if not path.exists():
                continue
            for stored in read_openings(path, from_index=start):
                if stored.opening.index >= end:
                    return
                yield stored.opening

    def _reads(self, size: int) -> merkle.Read:
        published, read = self._read
        if size > published:
            published = self.size
            read = tile_reader(self._directory, published)
            self._read = (published, read)
        if size > published:
            raise LogError(
                f"{self._directory}: expected a size of at most {published}, the newest "
                f"checkpoint's, got {size}"
            )
        return read
