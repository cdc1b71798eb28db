"""The tlog-tiles files: their names, their forms, and reading tree hashes out of them.

Source: C2SP tlog-tiles.  A *bundle* is 256 entries; tile and bundle `n` of level 0 cover the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger.files import read_file
from ringfence.ledger.merkle import HASH_BYTES, Read, node_hash

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

_TILES_CACHED = 128


def number_path(number: int) -> str:
    """Write a tile's number as path elements: 1234067 is `x001/x234/067`."""
    elements = [f"{number % 1000:03}"]
    while number := number // 1000:
        elements.append(f"x{number % 1000:03}")
    return "/".join(reversed(elements))


def tile_path(level: int, number: int, width: int = TILE_WIDTH) -> str:
    """Name of a tile of hashes, relative to the log's directory."""
    return f"tile/{level}/{number_path(number)}{_partial(width)}"


def bundle_path(number: int, width: int = TILE_WIDTH) -> str:
    """Name of a bundle of entries, relative to the log's directory."""
    return f"tile/entries/{number_path(number)}{_partial(width)}"


def widths(size: int) -> list[tuple[int, int]]:
    """For each tile level of a tree: how many full tiles it has, and the width of its last one.

    The width is 0 when the level has no partial tile.
    """
    levels = []
    while size:
        levels.append(divmod(size, TILE_WIDTH))
        size >>= TILE_HEIGHT
    return levels


def join_bundle(entries: Sequence[bytes]) -> bytes:
    """Write entries as a bundle: each after its length as a big-endian uint16."""
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def split_hashes(data: bytes) -> list[bytes]:
    """Cut a tile into its hashes."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def pyramid(hashes: Sequence[bytes]) -> list[list[bytes]]:
    """Return every complete subtree over `hashes`, row by row from the leaves up."""
    rows = [list(hashes)]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)])
    return rows


def tile_reader(directory: Path, size: int) -> Read:
    """Return a `Read` for the published tree of `size` entries; it reads each tile once.

    Raises (when called): LogError when a tile is missing or has the wrong length.
    """
    levels = widths(size)

    @lru_cache(maxsize=_TILES_CACHED)
    def rows(level: int, number: int) -> list[list[bytes]]:
        full, last = levels[level]
        return pyramid(read_tile(directory, level, number, TILE_WIDTH if number < full else last))

    def read(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, TILE_HEIGHT)
        number, offset = divmod(index << height, TILE_WIDTH)
        return rows(tile_level, number)[height][offset >> height]

    return read


def read_tile(directory: Path, level: int, number: int, width: int) -> list[bytes]:
    """Read the first `width` hashes of a tile.

    A partial tile goes away once the full one is there, never before: look for it first.
    """
    for file in (tile_path(level, number, width), tile_path(level, number)):
        try:
            data = read_file(directory / file, limit_bytes=TILE_BYTES)
        except FileNotFoundError:
            continue
        expected = (TILE_WIDTH if file == tile_path(level, number) else width) * HASH_BYTES
        if len(data) != expected:
            raise LogError(f"{directory / file}: expected {expected} bytes, got {len(data)}")
        return split_hashes(data[: width * HASH_BYTES])
    raise LogError(
        f"{directory / tile_path(level, number, width)}: this tile is missing; "
        "restore the log's directory from a copy"
    )


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"
