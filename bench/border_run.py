"""Runs the benchmark's federation as real processes and measures its rounds.

    hub, gateways   say in their own logs when a round's state changes, and what crossed the border
    sites           say when they were ordered to train, had trained, and were relieved
    the kernel      says what each process used (`border_usage`)

A round begins when it is open and every region holds its parent, and ends when every region has
admitted its release.  The first round and the last one are not counted: in the one files and
buffers are made that later ones use again, in the other processes end.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np

from border_federation import (
    EXAMPLES,
    HUB,
    INITIAL,
    LINEAGE,
    SCRIPT,
    Size,
    expected_value,
    found,
)
from border_usage import Memory, Watched
from ringfence.cli.demo.processes import Processes
from ringfence.cli.federation import Federation
from ringfence.coordinator.journal import Journal
from ringfence.core.errors import StateError
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.terms import Codec
from ringfence.crossing.spool import Spool
from ringfence.store.sql import open_engine

_LOOK_S = 0.05
_MEMORY_EVERY = 5
_PATIENCE_S = 600.0

Progress = Callable[[int], None]
"""Told how many rounds have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians over the counted rounds; `cpu_s` by part, `memory` by process, bytes of one round."""

    rounds_s: tuple[float, ...]
    phases_s: dict[str, float]
    cpu_s: dict[str, float]
    memory: dict[str, Memory]
    up_bytes: int
    down_bytes: int
    load: float

    @property
    def wall_s(self) -> float:
        return median(self.rounds_s)


@dataclass(slots=True, kw_only=True)
class _Story:
    """What the processes have said so far: when each round reached what, on whose word."""

    logs: Path
    said_s: dict[tuple[str, str, int], float] = field(default_factory=dict)
    traffic: dict[str, tuple[int, int]] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    def listen(self) -> None:
        """Take in what was written since the last call, whole lines only."""
        for path in self.logs.glob("*.log"):
            with path.open("rb") as file:
                file.seek(self._read.get(path.stem, 0))
                text, newline, _ = file.read().rpartition(b"\n")
            self._read[path.stem] = self._read.get(path.stem, 0) + len(text) + len(newline)
            for line in text.splitlines():
                self._hear(path.stem, line)

    def _hear(self, who: str, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            return  # a traceback, which the process's end will make known
        if "sent_bytes" in said:
            self.traffic[who] = said["sent_bytes"], said["received_bytes"]
        elif "event" in said:
            self.said_s[who, said["event"], said["round"]] = said["time_s"]
        elif said.get("message", "").startswith(f"{LINEAGE} round "):
            head, _, event = said["message"].partition(": ")
            time_s = datetime.fromisoformat(said["at"]).timestamp()
            self.said_s[who, event, int(head.rpartition(" ")[2])] = time_s

    def everywhere(self, part: str, event: str, round_: int) -> float | None:
        """When the last region reached `event`; None while one has not."""
        times = [self.said_s.get((f"{part}-{name}", event, round_)) for name in EXAMPLES]
        return None if None in times else max(t for t in times if t is not None)

    def delivered(self, round_: int) -> float | None:
        """When the last region had made the model; one that came late admitted it in one go."""
        held = [self.said_s.get((f"gateway-{name}", "candidate held", round_)) for name in EXAMPLES]
        return max((time_s for time_s in held if time_s is not None), default=self.admitted(round_))

    def admitted(self, round_: int) -> float | None:
        return self.everywhere("gateway", "release admitted", round_)

    def begun(self, round_: int) -> float:
        """The round is open and every region holds its parent."""
        parent = self.admitted(round_ - 1) or 0.0
        return max(parent, self.said_s["coordinator", "open", round_])


def measure(
    directory: Path, *, codec: Codec, size: Size, rounds: int, progress: Progress
) -> Measured:
    """Run `rounds` counted rounds in `directory` (which the caller removes).

    Raises: StateError when a process fails, takes too long, or the model comes out wrong.
    """
    load = os.getloadavg()[0]
    total = rounds + 2
    federation = found(directory, codec=codec, size=size, rounds=total)
    story = _Story(logs=directory / "logs")
    with Processes(logs=story.logs) as processes:
        _start(processes, federation)
        watched = {name: Watched(run.process.pid) for name, run in processes.running.items()}
        _wait(processes, story, watched, until=1, progress=progress)
        before_s = {name: each.cpu_s for name, each in watched.items()}
        _wait(processes, story, watched, until=rounds + 1, progress=progress)
        cpu_s = {name: (each.cpu_s - before_s[name]) / rounds for name, each in watched.items()}
        for _ in processes.finish([f"gateway-{name}" for name in EXAMPLES]):
            pass
        story.listen()
    _check_result(federation, size, rounds=total)
    counted = range(2, rounds + 2)
    sent, received = (sum(part) for part in zip(*story.traffic.values(), strict=True))
    # Before its first round each region was sent the whole initial model, once.
    received -= len(EXAMPLES) * (directory / INITIAL).stat().st_size
    return Measured(
        rounds_s=tuple((story.admitted(n) or math.nan) - story.begun(n) for n in counted),
        phases_s=_phases(story, counted),
        cpu_s={
            part: sum(used for name, used in cpu_s.items() if name.startswith(part))
            for part in ("coordinator", "gateway", "site", "issuer")
        },
        memory={name: each.memory for name, each in watched.items()},
        up_bytes=sent // total,
        down_bytes=received // total,
        load=load,
    )


def _start(processes: Processes, federation: Federation) -> None:
    homes = federation.homes
    processes.issuers(homes.values())
    initial = federation.path / INITIAL
    processes.start(
        "coordinator",
        "coordinator",
        "--json",
        "--home",
        f"{homes[HUB].path}",
        "--initial",
        f"{initial}",
    )
    for name in EXAMPLES:
        home = str(homes[name].path)
        processes.start(f"gateway-{name}", "gateway", "--json", "--home", home)
        script = str(federation.path / SCRIPT)
        processes.wait(homes[name].site_socket.exists, f"gateway of {name}")
        processes.start(f"site-{name}", "train", script, "--home", home)


def _wait(
    processes: Processes,
    story: _Story,
    watched: dict[str, Watched],
    *,
    until: int,
    progress: Progress,
) -> None:
    """Return as soon as every region has admitted the release of round `until`."""
    give_up = time.monotonic() + _PATIENCE_S
    looks = 0
    while story.admitted(until) is None:
        processes.require_alive()
        if time.monotonic() > give_up:
            raise StateError(f"round {until} has not ended after {_PATIENCE_S} s")
        time.sleep(_LOOK_S)
        story.listen()
        looks += 1
        if looks % _MEMORY_EVERY == 0:
            for each in watched.values():
                each.look()
            progress(sum(story.admitted(n) is not None for n in range(1, until + 1)))
    for each in watched.values():
        each.look()
    progress(until)


def _phases(story: _Story, rounds: range) -> dict[str, float]:
    """Median seconds between the last region's (or the hub's) arrival at one step and the next."""
    marks: dict[str, Callable[[int], float | None]] = {
        "train": lambda n: story.everywhere("site", "trained", n),
        "encode": lambda n: story.everywhere("site", "kept", n),
        "upload": lambda n: story.said_s.get(("coordinator", "merging", n)),
        "merge": lambda n: story.said_s.get(("coordinator", "evaluating", n)),
        "deliver": story.delivered,
        "admit": story.admitted,
    }
    phases: dict[str, list[float]] = {name: [] for name in marks}
    for number in rounds:
        last_s = story.begun(number)
        for name, mark in marks.items():
            time_s = mark(number) or math.nan
            phases[name].append(time_s - last_s)
            last_s = time_s
    return {name: median(values) for name, values in phases.items()}


def _check_result(federation: Federation, size: Size, *, rounds: int) -> None:
    """The hub's last release must hold what the sites' constants add up to."""
    home = federation.homes[HUB]
    release = Journal(open_engine(home.database_url())).release(LINEAGE)
    if release is None or release.round != rounds:
        raise StateError(f"expected a release of round {rounds}, got {release}")
    want = expected_value(rounds)
    values_P = np.empty(min(size.parameters, 1 << 20), np.float32)
    with open_tensorfile(Spool(home.state).model(release.model)) as model:
        model.read_into(0, values_P)
    off_P = values_P / want - 1
    mean, worst = abs(float(off_P.mean(dtype=np.float64))), float(np.abs(off_P).max())
    # int8 rounds stochastically: a value may be a step of 1/127 off, the mean may not.
    if mean > 1e-4 or worst > 1 / 64:
        raise StateError(f"expected {want} everywhere, got {mean:.1e} off, {worst:.1e} at worst")
