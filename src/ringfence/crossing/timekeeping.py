"""Whether this region's clock may be believed, asked before every decision (PLAT-CLOCK).

    keeper = Timekeeper(clocks, path=home.state / "clock.json", log=log, region=region, ...)
    keeper.require()      # Refused at stage `law`, reason `clock`, while the clock is wrong

Three things are held against the wall clock, and each proves something else:

    1 cosigned time   of the other regions (`cosigned.py`): wrong now, whatever we remember
    2 the steady clock, which nobody can set, from a moment of this boot at which we acted: the wall
      clock was set, back or forward.  It is remembered in a file, so that a restart changes nothing
    3 the latest time at which we acted, from that file or, after it, from the log: what remains
      after a reboot.  A clock before it was set back; one after it proves nothing by itself

What we remember (2, 3) may itself come from a clock that was wrong.  It gives way when more than
half of the other regions show that it is wrong, or the clock right, and when a person has said so
(`ringfence clock --accept`); both are recorded in the log.  Cosigned time gives way to nobody.

The packs cannot see any of this: they are asked about one time, and not where it came from.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import Refused
from ringfence.core.ids import RegionId
from ringfence.crossing.cosigned import CLOCK_TOLERANCE_S, CosignedTime, Deviation, Signed, Source
from ringfence.crossing.entries import Entry
from ringfence.crossing.kept_time import (
    Clocks,
    Kept,
    expected_s,
    own_problem,
    read_kept,
    write_kept,
)
from ringfence.ledger.checkpoints import SignedCheckpoint
from ringfence.ledger.log import Cosigned, Log

_KEEP_EVERY_S = 30.0
"""The file may lag behind what was done by so much; far less than what the clock may be off."""

_SAME_S = 10.0
"""A clock that was set by less says the same as before."""

_REMEMBERED = 256
"""Of so many statements and checkpoints it is known when they came about; older ones may be old."""


class Timekeeper:
    """The guard of one region's clock; for use from any thread.

    `witnesses` are the other regions' witness keys of the hub's log: region by name of the key.
    INVARIANT: `acted_s` never falls but by a majority's proof or a person's word, both recorded.
    """

    def __init__(
        self,
        clocks: Clocks,
        *,
        path: Path,
        log: Log,
        region: RegionId,
        witnesses: Mapping[str, RegionId],
    ) -> None:
        """Raises: StateError when the file at `path` is damaged."""
        self._clocks = clocks
        self._path = path
        self._log = log
        self._region = region
        self._witnesses = dict(witnesses)
        self._lock = threading.RLock()
        self._cosigned = CosignedTime(others=len(self._witnesses))
        self._made: dict[str, float] = {}
        self._shown: tuple[int, float] | None = None
        self._kept = self._with_log(read_kept(path))
        self._written_s = 0
        self._said: tuple[tuple[str, ...], float, str] | None = None

    # ── the question ──

    def require(self) -> None:
        """Return when the clock may be believed.

        Raises: Refused (PLAT-CLOCK) while it may not; asked again, it looks again.
        """
        if problem := self.problem():
            raise Refused(stage="law", reason="clock", detail=problem, rules=("PLAT-CLOCK",))

    def problem(self) -> str:
        """What is wrong with the clock now: expected, got, and what to do; '' when nothing is."""
        with self._lock:
            problem = self._look()
            self._keep(problem)
            return problem

    def _look(self) -> str:
        now_s, steady_s = self._clocks.wall(), self._clocks.steady()
        deviation = self._cosigned.convicts(now_s, steady_s)
        if deviation or own_problem(self._kept, self._clocks):
            self._take_up_acceptance()
        # 1. cosigned time
        if deviation:
            said = _cosigned_problem(deviation, now_s)
            return self._once(("cosigned", *deviation.regions), said, now_s - steady_s)
        # 2. and 3. what we remember
        problem = own_problem(self._kept, self._clocks)
        if not problem:
            return ""
        if self._is_overruled(now_s, steady_s):
            self._begin_anew("more than half of the other regions show that the clock is right")
            return ""
        return self._once(("remembered",), problem, now_s - steady_s)

    def _once(self, cause: tuple[str, ...], problem: str, set_to_s: float) -> str:
        """The same words for the same trouble, though time goes on: it is one refusal, not many.

        `set_to_s`, the wall clock less the steady one, changes only when somebody sets the clock.
        """
        known = self._said
        if known is not None and known[0] == cause and abs(known[1] - set_to_s) < _SAME_S:
            return known[2]
        self._said = (cause, set_to_s, problem)
        return problem

    def _is_overruled(self, now_s: float, steady_s: float) -> bool:
        """Whether cosigned time shows that what we remember is wrong, and not the clock."""
        kept = self._kept
        assert kept is not None  # or there was no problem
        says_s = expected_s(kept, self._clocks)
        if says_s is None:
            return self._cosigned.clears(now_s, steady_s, of_being_ahead=False)
        return bool(self._cosigned.convicts(says_s, steady_s)) or self._cosigned.clears(
            now_s, steady_s, of_being_ahead=now_s > says_s
        )

    # ── what is remembered ──

    def _with_log(self, kept: Kept | None) -> Kept | None:
        """What the file remembers and, unless a steady clock bears it out, what was done since.

        Refusals are no acts: they are recorded whatever the clock says.
        """
        if kept is not None and kept.boot == self._clocks.boot:
            return kept
        acted_s = 0.0 if kept is None else float(kept.acted_s)
        for opening in self._log.openings(0 if kept is None else kept.entries):
            entry = Entry.from_bytes(opening.content)
            if entry.kind != "refusal":
                acted_s = max(acted_s, from_rfc3339(entry.at))
        if kept is None:
            return Kept(acted_s=int(acted_s), entries=self._log.size) if acted_s else None
        return replace(kept, acted_s=int(acted_s))

    def _keep(self, problem: str) -> None:
        """Remember that we act now, or that the clock is refused from now on.

        If the process dies before the file is written, what it did in the log is found there.
        """
        now_s, kept = int(self._clocks.wall()), self._kept
        if problem:
            if kept is None:
                self._write(Kept(acted_s=0, entries=self._log.size, problem=problem))
            elif kept.problem != problem:
                self._write(replace(kept, problem=problem))
            return
        if kept is None or kept.boot != self._clocks.boot:
            acted_s = now_s if kept is None else max(kept.acted_s, now_s)
            self._write(self._anchored(now_s, acted_s=acted_s))
            return
        if kept.accepted:
            self._begin_anew("a person said that the clock is right")
        elif kept.problem or now_s >= self._written_s + _KEEP_EVERY_S:
            acted_s = max(kept.acted_s, now_s)
            self._write(replace(kept, acted_s=acted_s, entries=self._log.size, problem=""))

    def _take_up_acceptance(self) -> None:
        """If a person has said meanwhile that the clock is right (`accept`), go by that.

        `_keep` records it, once nothing else speaks against the clock.
        """
        kept = read_kept(self._path)
        if kept is not None and kept.accepted:
            self._kept = kept

    def _begin_anew(self, because: str) -> None:
        """Let go of what was remembered: recorded first, so that it can be held against us."""
        now_s = int(self._clocks.wall())
        kept = self._kept
        assert kept is not None  # what is let go of
        before_s = kept.before_s if kept.accepted else kept.acted_s
        self._log.append(
            Entry(
                kind="clock",
                at=to_rfc3339(now_s),
                counterparty=self._region,
                measurements=(f"because={because}", f"acted={to_rfc3339(before_s)}"),
            ).to_bytes()
        )
        # CRASH POINT: recorded and not kept; the next look comes to the same end.
        self._write(self._anchored(now_s, acted_s=now_s))

    def _anchored(self, now_s: int, *, acted_s: int) -> Kept:
        return Kept(
            acted_s=acted_s,
            entries=self._log.size,
            boot=self._clocks.boot,
            anchor_s=now_s,
            steady_s=int(self._clocks.steady()),
        )

    def _write(self, kept: Kept) -> None:
        write_kept(self._path, kept)
        self._kept = kept
        self._written_s = kept.acted_s

    # ── what is heard of others ──

    def made(self, name: str) -> None:
        """Something that others sign for did not exist before now: a statement's digest."""
        with self._lock:
            self._made[name] = self._clocks.steady()
            while len(self._made) > _REMEMBERED:
                del self._made[next(iter(self._made))]

    def hear_receipt(self, region: str, *, statement: str, received: str, index: int) -> None:
        """A verified receipt of ours: `received` is what its signer's clock said.

        It is fresh when the statement was made in this run.  Raises: FormatError when it is no
        time.
        """
        time_s = from_rfc3339(received)
        with self._lock:
            self._hear(region, "receipt", index, time_s, since_s=self._made.get(statement))

    def published(self, size: int, *, since_s: float) -> None:
        """Our own log signed a tree of `size`, which no steady clock before `since_s` has seen."""
        with self._lock:
            self._made.setdefault(_tree(size), since_s)

    def hear_cosignature(self, cosigned: Cosigned) -> None:
        """A verified cosignature of our own log; fresh when the tree was signed in this run."""
        with self._lock:
            self._hear_witness(
                cosigned.witness,
                cosigned.size,
                cosigned.time_s,
                self._made.get(_tree(cosigned.size)),
            )

    def steady_s(self) -> float:
        """A reading to keep before a question is put, for `hear_checkpoint`."""
        return self._clocks.steady()

    def hear_checkpoint(self, signed: SignedCheckpoint, *, asked_s: float | None = None) -> None:
        """A checkpoint of the hub's log, its cosignatures verified.

        `asked_s` is when the hub was asked for its newest one.  A larger tree than the newest that
        it showed before came about after that was asked for.  That much is the hub's word: if it
        keeps a tree back, it can make our clock seem ahead, which only refuses.
        """
        size = signed.checkpoint.size
        with self._lock:
            if self._shown is not None and size > self._shown[0]:
                self._made.setdefault(_tree(size), self._shown[1])
            for witness, time_s in signed.cosigned_at:
                self._hear_witness(witness, size, time_s, self._made.get(_tree(size)))
            if asked_s is not None and (self._shown is None or (size, asked_s) > self._shown):
                self._shown = (size, asked_s)

    def _hear_witness(self, name: str, size: int, time_s: int, since_s: float | None) -> None:
        region = self._witnesses.get(name)
        if region is not None:
            self._hear(region, "cosignature", size, float(time_s), since_s=since_s)

    def _hear(
        self,
        region: str,
        source: Source,
        order: int,
        time_s: float,
        *,
        since_s: float | None,
    ) -> None:
        self._cosigned.hear(
            Signed(
                region=region,
                source=source,
                order=order,
                time_s=time_s,
                heard_s=self._clocks.steady(),
                since_s=since_s,
            )
        )


def _cosigned_problem(deviation: Deviation, now_s: float) -> str:
    side = "ahead of" if deviation.ahead else "behind"
    return (
        f"the clock says {to_rfc3339(now_s)} and is {deviation.seconds:.0f} s or more {side} the "
        f"time that {', '.join(deviation.regions)} signed; expected at most "
        f"{CLOCK_TOLERANCE_S:.0f} s between them; set the clock right (NTP), and the next attempt "
        "goes on; if it is right, have those regions set theirs"
    )


def _tree(size: int) -> str:
    return f"tree {size}"
