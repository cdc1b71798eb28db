"""What a place holds of the page cache: new pages are paid for with old ones.

A round writes gigabytes that are read once more at most, and finding pages for them costs more
than filling them.  Above all in a virtual machine that gives free memory back to its host: there
pages that were free for two seconds cost twenty times as much as those that are taken over at once
(Linux 6.18, free page reporting: 1.2 against 0.05 CPU-seconds for 480 MB).  So who has read a large
file for the last time says so, and its pages are given back to the kernel just before others are
taken.  The files stay: nothing here changes a byte.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LARGE_BYTES = 64 * 1024 * 1024
"""Files below this are left to the kernel: their pages are few, and their writing can wait."""

_MOST_SPARE = 64


@dataclass(slots=True, kw_only=True)
class _Spare:
    """A file whose pages may go; those before `gone_bytes` have gone."""

    path: Path
    size_bytes: int
    gone_bytes: int = 0


class Pages:
    """The pages of one place's large files.  Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: deque[_Spare] = deque(maxlen=_MOST_SPARE)
        self._behind = ThreadPoolExecutor(1, thread_name_prefix="pages")

    def let_go(self, path: Path) -> None:
        """Nobody will read this file soon: its pages may go as soon as others are needed.

        It is written to disk first, behind the round: what is not there yet cannot go.
        """
        if _size_bytes(path) >= LARGE_BYTES:
            self._behind.submit(self._let_go, path)

    def make_room(self, size_bytes: int) -> None:
        """Give back as many spare pages as are about to be taken."""
        while size_bytes > 0:
            with self._lock:
                if not self._spare:
                    return
                spare = self._spare[0]
                first = spare.gone_bytes
                count = min(size_bytes, spare.size_bytes - first)
                spare.gone_bytes += count
                if spare.gone_bytes == spare.size_bytes:
                    self._spare.popleft()
            size_bytes -= count
            with contextlib.suppress(OSError), _opened(spare.path) as fd:
                os.posix_fadvise(fd, first, count, os.POSIX_FADV_DONTNEED)

    def _let_go(self, path: Path) -> None:
        with contextlib.suppress(OSError), _opened(path) as fd:
            os.fdatasync(fd)
        with self._lock:
            self._spare.append(_Spare(path=path, size_bytes=_size_bytes(path)))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
