"""Durable file writes: what a function here returned from survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`; not yet durable."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, durably, for this user alone."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    sync_directory(path.parent)


def replace_file(path: Path, data: bytes, *, scratch: Path) -> None:
    """Put `data` at `path` whole or not at all; the name is durable after `sync_directory`.

    `scratch` is a file on the same disk that only the caller uses.  Crash points: before the
    rename `path` is as it was and `scratch` is litter; after it `path` is whole.
    """
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_at(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)
    scratch.rename(path)


def read_file(path: Path, *, limit_bytes: int) -> bytes:
    """Read at most `limit_bytes` + 1 bytes, so that a caller can tell too long from whole."""
    with path.open("rb") as file:
        return file.read(limit_bytes + 1)
