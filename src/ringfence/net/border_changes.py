"""Wakes long polls on the event loop when a lineage changes in some thread."""

from __future__ import annotations

import asyncio
import contextlib

from ringfence.core.ids import LineageId


class Changes:
    """The next change of each lineage, as a future that every waiter shares."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._next: dict[LineageId, asyncio.Future[None]] = {}
        self.closed = False

    def after_now(self, lineage: LineageId) -> asyncio.Future[None]:
        """Done at the first change that is told after this call, and when the server closes."""
        if lineage not in self._next:
            self._next[lineage] = self._loop.create_future()
        return self._next[lineage]

    def tell(self, lineage: LineageId) -> None:
        """Call from any thread; once the loop has ended there is nobody to wake."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake, lineage)

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        for lineage in list(self._next):
            self._wake(lineage)

    def _wake(self, lineage: LineageId) -> None:
        change = self._next.pop(lineage, None)
        if change is not None and not change.done():
            change.set_result(None)
