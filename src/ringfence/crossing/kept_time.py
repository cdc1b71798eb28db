"""What a region remembers of the time at which it acted, and what that says of its clock.

One small file, read again after a restart and by `ringfence status`.  The process that runs for the
region writes it; a person's command may (`accept`).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ringfence.core import canonical
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.errors import FormatError, StateError
from ringfence.crossing.cosigned import CLOCK_TOLERANCE_S
from ringfence.ledger.files import make_directory, read_file, replace_file, sync_directory

_LIMIT_BYTES = 64 * 1024

_CURE = (
    "set the clock right and keep it so (NTP); the next attempt then goes on.  If it is right now "
    "and was wrong before, have a person run 'ringfence clock --accept'"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What a machine says about the time.

    `wall` can be set.  `steady` counts seconds since that start of the machine which `boot` names,
    and cannot.
    """

    wall: Clock
    steady: Clock
    boot: str


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered over a restart, in whole seconds.

    `acted_s` is the latest time at which this region acted and `entries` the length of its log
    then.  `anchor_s` and `steady_s` are wall and steady clock at one moment of boot `boot`.
    `accepted` says that a person set this down in the place of `before_s`, which the log does not
    say yet; `problem` is why the clock is refused, or empty.
    """

    acted_s: int
    entries: int
    boot: str = ""
    anchor_s: int = 0
    steady_s: int = 0
    accepted: bool = False
    before_s: int = 0
    problem: str = ""


def read_kept(path: Path) -> Kept | None:
    """What is remembered in `path`, None before the first time.

    Raises: StateError when the file is damaged.
    """
    try:
        data = read_file(path, limit_bytes=_LIMIT_BYTES)
        return canonical.from_bytes(data, Kept, what=str(path), limit_bytes=_LIMIT_BYTES)
    except FileNotFoundError:
        return None
    except FormatError as error:
        raise StateError(
            f"{error}; look whether the clock is right, then run 'ringfence clock --accept'"
        ) from error


def accept(path: Path, clocks: Clocks, *, entries: int) -> Kept:
    """A person's word that the clock is right now: what was remembered before counts no more.

    `entries` is the length of the region's log.  A process that is running takes it up by itself
    and records it; what cosigned time says stands against it.
    """
    now_s = int(clocks.wall())
    before = None
    with contextlib.suppress(StateError):  # a damaged file is what this command is for
        before = read_kept(path)
    kept = Kept(
        acted_s=now_s,
        entries=entries,
        boot=clocks.boot,
        anchor_s=now_s,
        steady_s=int(clocks.steady()),
        accepted=True,
        before_s=0 if before is None else before.before_s if before.accepted else before.acted_s,
    )
    write_kept(path, kept)
    return kept


def own_problem(kept: Kept | None, clocks: Clocks) -> str:
    """Why a clock cannot be right by what its region remembers, or '' when nothing says so."""
    now_s = clocks.wall()
    if kept is None:
        return ""
    steady_says_s = expected_s(kept, clocks)
    if steady_says_s is None:
        if now_s >= kept.acted_s - CLOCK_TOLERANCE_S:
            return ""
        return (
            f"the clock moved back: this region has acted at {to_rfc3339(kept.acted_s)}, so "
            f"expected at most {CLOCK_TOLERANCE_S:.0f} s less, got {to_rfc3339(now_s)}; {_CURE}"
        )
    if abs(now_s - steady_says_s) <= CLOCK_TOLERANCE_S:
        return ""
    moved = "moved back" if now_s < steady_says_s else "jumped forward"
    return (
        f"the clock {moved}: by the time that has passed since {to_rfc3339(kept.anchor_s)} "
        f"expected {to_rfc3339(steady_says_s)}, give or take {CLOCK_TOLERANCE_S:.0f} s, got "
        f"{to_rfc3339(now_s)}; {_CURE}"
    )


def expected_s(kept: Kept, clocks: Clocks) -> float | None:
    """What the wall clock should say by the steady one; None when the machine was started since."""
    if kept.boot != clocks.boot:
        return None
    return kept.anchor_s + clocks.steady() - kept.steady_s


def write_kept(path: Path, kept: Kept) -> None:
    """Write the file whole, or leave what is there; durable when this returns."""
    make_directory(path.parent)
    # A person's command may write at the same time as the process: each has its own scratch.
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    replace_file(path, canonical.to_bytes(kept), scratch=scratch)
    sync_directory(path.parent)
