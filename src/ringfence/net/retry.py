"""Try again while the border is down: capped exponential back-off with full jitter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ringfence.core.errors import BorderDownError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits of at most `first_s`, then twice as long each time, never above `cap_s`."""

    first_s: float = 0.25
    cap_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.cap_s:
            raise ValueError(f"expected 0 < first_s <= cap_s, got {self.first_s}, {self.cap_s}")


def retry(
    attempt: Callable[[], T],
    *,
    backoff: Backoff,
    attempts: int,
    random: Callable[[], float],
    sleep: Callable[[float], None],
) -> T:
    """Call `attempt` until it returns or raises anything but `BorderDownError`.

    `random` draws from [0, 1); full jitter keeps regions that lost the hub together from coming
    back together (Brooker 2015, "Exponential Backoff And Jitter").  The last of `attempts`
    failures is raised.
    """
    ceilings = _ceilings(backoff)
    for _ in range(attempts - 1):
        try:
            return attempt()
        except BorderDownError:
            sleep(next(ceilings) * random())
    return attempt()


def _ceilings(backoff: Backoff) -> Iterator[float]:
    ceiling_s = backoff.first_s
    while True:
        yield ceiling_s
        ceiling_s = min(2 * ceiling_s, backoff.cap_s)
