"""Time as an argument: seconds since the Unix epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from ringfence.core.errors import FormatError

Clock = Callable[[], float]

system_clock: Clock = time.time


def system_steady() -> float:
    """Seconds since the machine was started, sleep included; nobody can set it (Linux)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def to_rfc3339(time_s: float) -> str:
    """`2026-11-20T09:47:00Z`; whole seconds, rounded down."""
    return datetime.fromtimestamp(int(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str) -> float:
    """Parse the one form that `to_rfc3339` writes; raises `FormatError` on any other."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise FormatError(
            f"expected a time such as '2026-11-20T09:47:00Z'; got {text[:40]!r}"
        ) from error
