"""What processes use: processor time and memory, as the kernel counts them in /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_MEMORY = {"VmHWM": "peak_mb", "RssAnon": "anon_mb", "RssFile": "file_mb", "RssShmem": "shared_mb"}


@dataclass(slots=True)
class Memory:
    """Peak resident memory of one process, in MB of 10⁶ bytes.

    `peak_mb` is the kernel's own high-water mark; the others are the largest values seen of its
    parts: private memory, mapped files (which the page cache holds anyway) and shared memory.
    """

    peak_mb: float = 0.0
    anon_mb: float = 0.0
    file_mb: float = 0.0
    shared_mb: float = 0.0


@dataclass(slots=True)
class Watched:
    """One process and its children: what they have used so far."""

    pid: int
    cpu_s: float = 0.0
    memory: Memory = field(default_factory=Memory)

    def look(self) -> None:
        """Read the counters; a process that has ended keeps what was read last."""
        pids = _family(self.pid)
        cpu_s = sum(map(_cpu_s, pids))
        self.cpu_s = max(self.cpu_s, cpu_s)
        for pid in pids:
            for name, value_mb in _memory(pid).items():
                setattr(self.memory, name, max(getattr(self.memory, name), value_mb))


def _family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in _family(int(child)))]


def _cpu_s(pid: int) -> float:
    """User and system time of all threads; proc(5), fields 14 and 15 of stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    found = (line.partition(":") for line in lines)
    return {
        _MEMORY[name]: int(value.split()[0]) * 1024 / 1e6
        for name, _, value in found
        if name in _MEMORY
    }
