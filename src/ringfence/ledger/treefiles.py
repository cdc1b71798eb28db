"""The files under `tile/` held against the entries in them: what verification reads of a tree."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set
from pathlib import Path

from ringfence.core.errors import LogError
from ringfence.ledger.files import read_file
from ringfence.ledger.merkle import HASH_BYTES, leaf_hash, peaks_root, push
from ringfence.ledger.tiles import (
    TILE_BYTES,
    TILE_WIDTH,
    bundle_path,
    join_bundle,
    pyramid,
    split_hashes,
    tile_path,
    widths,
)

_ENTRY_BYTES = 2 + HASH_BYTES
_TILE_NAME = re.compile(
    r"tile/(?P<level>entries|[0-9]{1,2})/(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[0-9]{1,3}))?"
)


def read_entries(directory: Path, size: int) -> bytes:
    """Read the entries (32-byte commitments, end to end) of a tree of `size` from its bundles.

    Raises: LogError naming the file and the entry when one is missing or of another form.
    """
    entries = bytearray()
    while (first := len(entries) // HASH_BYTES) < size:
        number, width = first // TILE_WIDTH, min(TILE_WIDTH, size - first)
        path = directory / bundle_path(number, width)
        if not path.is_file():
            raise LogError(f"{path}: the entries {first} to {first + width - 1} are missing")
        data = read_file(path, limit_bytes=width * _ENTRY_BYTES)
        for index in range(first, first + width):
            entry = data[(index - first) * _ENTRY_BYTES :][:_ENTRY_BYTES]
            if len(entry) < _ENTRY_BYTES or entry[:2] != HASH_BYTES.to_bytes(2):
                raise LogError(
                    f"{path}: entry {index}: expected {HASH_BYTES} bytes and their length"
                )
            entries += entry[2:]
    return bytes(entries)


def build_tree(entries: bytes, sizes: Set[int]) -> tuple[list[bytes], dict[int, bytes]]:
    """Hash entries; returns each tile level's hashes, end to end, and the root at each size."""
    peaks: list[bytes] = []
    leaves = bytearray()
    roots = {0: peaks_root(peaks)}
    for index in range(len(entries) // HASH_BYTES):
        leaf = leaf_hash(entries[index * HASH_BYTES : (index + 1) * HASH_BYTES])
        leaves += leaf
        push(peaks, index, leaf)
        if index + 1 in sizes:
            roots[index + 1] = peaks_root(peaks)
    levels = [bytes(leaves)]
    while len(levels[-1]) >= TILE_BYTES:
        below = levels[-1]
        starts = range(0, len(below) - TILE_BYTES + 1, TILE_BYTES)
        tops = (pyramid(split_hashes(below[at : at + TILE_BYTES]))[-1][0] for at in starts)
        levels.append(b"".join(tops))
    return levels, roots


def check_tiles(directory: Path, size: int, entries: bytes, levels: list[bytes]) -> int:
    """Compare every file under `tile/` with the tree and look for those that must be there.

    Returns how many there are.
    Raises: LogError naming the file and the entries it is about.
    """
    found = set()
    for path in files_under(directory / "tile"):
        name = path.relative_to(directory).as_posix()
        _check_tile(path, name, entries, levels)
        found.add(name)
    for level, (full, last) in enumerate(widths(size)):
        for number in range(full + (last > 0)):
            width = TILE_WIDTH if number < full else last
            if (name := tile_path(level, number, width)) not in found:
                raise LogError(f"{directory / name}: this tile of the checkpoint's tree is missing")
    return len(found)


def files_under(folder: Path) -> Iterator[Path]:
    """Yield every file, in a fixed order; raises LogError for what is neither file nor folder."""
    for parent, folders, names in os.walk(folder, onerror=_fail):
        folders.sort()
        for name in [*folders, *sorted(names)]:
            path = Path(parent, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise LogError(f"{path}: expected a plain file; a log has no links or devices")
            if path.is_file():
                yield path


def _check_tile(path: Path, name: str, entries: bytes, levels: list[bytes]) -> None:
    parsed = _TILE_NAME.fullmatch(name)
    if not parsed:
        raise LogError(f"{path}: expected only tiles here; remove it and find out who wrote it")
    number = int(parsed["number"].replace("x", "").replace("/", ""))
    width = int(parsed["width"] or TILE_WIDTH)
    if parsed["level"] == "entries":
        level, canonical = 0, bundle_path(number, width)
        hashes = entries[number * TILE_BYTES :][: width * HASH_BYTES]
        expected, each_bytes = join_bundle(split_hashes(hashes)), _ENTRY_BYTES
    else:
        level = int(parsed["level"])
        canonical = tile_path(level, number, width)
        row = levels[level] if level < len(levels) else b""
        expected = hashes = row[number * TILE_BYTES :][: width * HASH_BYTES]
        each_bytes = HASH_BYTES
    if name != canonical or not width or len(hashes) != width * HASH_BYTES:
        raise LogError(
            f"{path}: the checkpoint's tree has no such tile; if the log's process died, open the "
            "log once, then verify again"
        )
    got = read_file(path, limit_bytes=len(expected))
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), -1)
        position = (min(len(got), len(expected)) if at < 0 else at) // each_bytes
        first = (number * TILE_WIDTH + position) << 8 * level
        covers = (
            f"entry {first}" if not level else f"entries {first} to {first + (1 << 8 * level) - 1}"
        )
        raise LogError(f"{path}: what it holds for {covers} does not fit the rest of the tree")


def _fail(error: OSError) -> None:
    raise LogError(f"{error.filename}: {error.strerror}") from error
