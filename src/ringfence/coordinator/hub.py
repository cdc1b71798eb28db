"""What the coordinator works with, put together by `wiring`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.coordinator.inbox import Inbox
from ringfence.coordinator.journal import Journal
from ringfence.coordinator.outbox import Outbox
from ringfence.coordinator.publication import Publication
from ringfence.coordinator.refusals import Refusals
from ringfence.coordinator.signatures import Signatures
from ringfence.core.ids import LineageId
from ringfence.crossing.region import Region
from ringfence.crossing.spool import Spool

SignModel = Callable[[Path], Path]
"""Writes an OpenSSF model-signing signature beside a released model file."""


class Changes:
    """Counts the changes of each lineage and tells those who wait for the next one."""

    def __init__(self, *, start: int) -> None:
        # Starts at the time of boot, so that a caller's number from before a restart never fits.
        self._start = start
        self._counts: dict[LineageId, int] = {}
        self._total = 0
        self._callbacks: list[Callable[[LineageId], None]] = []
        self._changed = threading.Condition()

    def subscribe(self, callback: Callable[[LineageId], None]) -> None:
        with self._changed:
            self._callbacks.append(callback)

    def version(self, lineage: LineageId) -> int:
        with self._changed:
            return self._start + self._counts.get(lineage, 0)

    def announce(self, lineage: LineageId) -> None:
        """Something that a region can see of `lineage` has changed, durably."""
        with self._changed:
            self._counts[lineage] = self._counts.get(lineage, 0) + 1
            self._total += 1
            self._changed.notify_all()
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback(lineage)

    def total(self) -> int:
        """How many changes there were in all; read it before looking, then `wait` for the next."""
        with self._changed:
            return self._total

    def wait(self, seen: int, timeout_s: float) -> None:
        """Return once there were more than `seen` changes, or after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._total > seen, timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """The coordinator's region, memory and files.

    Each region's payloads lie in a spool of their own: whether another region sent the same bytes
    must not show in an answer.
    """

    region: Region
    journal: Journal
    inbox: Inbox
    outbox: Outbox
    signatures: Signatures
    files: Path
    spool: Spool
    sign_model: SignModel
    publication: Publication
    changes: Changes
    refusals: Refusals = field(default_factory=Refusals)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def spool_of(self, sender: str) -> Spool:
        return self.spool.nested(f"from/{sender}")
