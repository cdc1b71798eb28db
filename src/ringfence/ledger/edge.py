"""The right edge of a growing tree: what adding entries and publishing tiles needs, no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger.merkle import leaf_hash, peaks_root, push, read_peaks
from ringfence.ledger.tiles import (
    TILE_WIDTH,
    bundle_path,
    join_bundle,
    pyramid,
    read_tile,
    tile_path,
    tile_reader,
    widths,
)


class Edge:
    """A tree of commitments in memory: its peaks, and each level's last, unfilled tile.

    Memory: 255 hashes a level, and 64 bytes for every entry since the last `published`.
    """

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []
        self._bundle: list[bytes] = []
        self._open: list[list[bytes]] = []
        self._full: list[tuple[str, bytes]] = []
        self._published = 0

    @classmethod
    def read(cls, directory: Path, size: int, bundle: Sequence[bytes]) -> Edge:
        """Read the edge of a published tree; `bundle` is the commitments of its unfilled bundle.

        Raises: LogError when tiles are missing, or the last one does not fit `bundle`.
        """
        edge = cls()
        edge.size = edge._published = size
        edge._bundle = list(bundle)
        edge._peaks = read_peaks(tile_reader(directory, size), size)
        edge._open = [
            read_tile(directory, level, full, last) if last else []
            for level, (full, last) in enumerate(widths(size))
        ]
        last_tile = edge._open[0] if edge._open else []
        if last_tile != [leaf_hash(commitment) for commitment in bundle]:
            raise LogError(
                f"{directory}: the commitments since entry {size - len(last_tile)} do not fit tile "
                f"{tile_path(0, size // TILE_WIDTH, len(last_tile) or TILE_WIDTH)}; verify the log"
            )
        return edge

    @property
    def root(self) -> bytes:
        """Root over everything added."""
        return peaks_root(self._peaks)

    def add(self, commitment: bytes) -> bytes:
        """Add one entry; returns its leaf hash."""
        leaf = hashed = leaf_hash(commitment)
        push(self._peaks, self.size, leaf)
        self.size += 1
        self._bundle.append(commitment)
        if len(self._bundle) == TILE_WIDTH:
            path = bundle_path(self.size // TILE_WIDTH - 1)
            self._full.append((path, join_bundle(self._bundle)))
            self._bundle = []
        for level, (full, _) in enumerate(widths(self.size)):
            if level == len(self._open):
                self._open.append([])
            self._open[level].append(hashed)
            if len(self._open[level]) < TILE_WIDTH:
                break
            # INVARIANT: only a full tile is hashed into the level above (C2SP tlog-tiles).
            self._full.append((tile_path(level, full - 1), b"".join(self._open[level])))
            hashed = pyramid(self._open[level])[-1][0]
            self._open[level] = []
        return leaf

    def unpublished(self) -> list[tuple[str, bytes]]:
        """Return the files that a checkpoint of this tree needs and the last one had not."""
        files = list(self._full)
        before = widths(self._published)
        for level, (full, last) in enumerate(widths(self.size)):
            if last and (level >= len(before) or before[level] != (full, last)):
                files.append((tile_path(level, full, last), b"".join(self._open[level])))
                if level == 0:
                    files.append((bundle_path(full, last), join_bundle(self._bundle)))
        return files

    def published(self) -> None:
        """Note that the files of `unpublished` are durable."""
        self._published = self.size
        self._full.clear()
