"""What the hub refuses, written down once a cause, and no more than a region's share of the disk.

A region can make the hub refuse as often as it likes, and every record costs room and a flush.  The
same refusal of the same bytes is therefore written once in an hour; beyond its share a region's
refusals are counted, and the count is written when the hour is over.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from ringfence.core.artifacts import statement_digest
from ringfence.core.clock import to_rfc3339
from ringfence.core.errors import Refused
from ringfence.crossing.region import Region

_WINDOW_S = 3600.0
_SHARE = 200
"""Causes that are written down for one region in one window; 13 MB at most, mostly far less."""


@dataclass(slots=True, kw_only=True)
class _Window:
    since_s: float
    causes: set[tuple[object, ...]] = field(default_factory=set)
    unwritten: int = 0


class Refusals:
    """The refusals of one run of the hub; for use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def record(
        self,
        region: Region,
        refused: Refused,
        *,
        counterparty: str,
        lineage: str = "",
        round_: int = 0,
        envelope: bytes = b"",
    ) -> bool:
        """Write a refusal into the log, unless it stands there; returns whether it was new."""
        digest = str(statement_digest(envelope)) if envelope else ""
        what = digest or refused.detail
        cause = (refused.stage, refused.reason, refused.rules, lineage, round_, what)
        with self._lock:
            window = self._window(region, counterparty)
            if cause in window.causes:
                return False
            # The hub's own troubles come from its own files, and never by the thousand.
            if len(window.causes) >= _SHARE and counterparty != region.id:
                window.unwritten += 1
                return False
            window.causes.add(cause)
            region.record_refusal(
                refused,
                counterparty=counterparty,
                lineage=lineage,
                round_=round_,
                envelope=envelope,
            )
            return True

    def close_windows(self, region: Region) -> None:
        """Write the counts of those windows that are over; the engine calls this now and then."""
        with self._lock:
            over_s = region.clock() - _WINDOW_S
            for counterparty, window in list(self._windows.items()):
                if window.since_s <= over_s:
                    self._window(region, counterparty)

    def _window(self, region: Region, counterparty: str) -> _Window:
        now_s = region.clock()
        window = self._windows.get(counterparty)
        if window is not None and now_s >= window.since_s + _WINDOW_S:
            del self._windows[counterparty]
            if window.unwritten:
                _record_count(region, counterparty, window)
            window = None
        if window is None:
            window = self._windows[counterparty] = _Window(since_s=now_s)
        return window


def _record_count(region: Region, counterparty: str, window: _Window) -> None:
    region.record_refusal(
        Refused(
            stage="record",
            reason="too-many-refusals",
            detail=f"{window.unwritten} more refusals of {counterparty} since "
            f"{to_rfc3339(window.since_s)} than the {_SHARE} that are written down one by one",
        ),
        counterparty=counterparty,
    )
