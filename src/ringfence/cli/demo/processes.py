"""Starts, watches and stops the processes of a federation on one machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.config import Home
from ringfence.core.errors import StateError

_LOOK_S = 0.1
_STOP_S = 15.0
_LOG_TAIL = 1200


@dataclass(slots=True, kw_only=True)
class Running:
    """One process, and where what it says is kept."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path

    def tail(self) -> str:
        return self.output.read_text(errors="replace")[-_LOG_TAIL:]


@dataclass(slots=True, kw_only=True)
class Processes:
    """The processes of one demo; every one of them is stopped when the context ends."""

    logs: Path
    running: dict[str, Running] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> Running:
        """Run `ringfence ARGUMENTS` under `name`; its output goes to a file of that name."""
        self.logs.mkdir(parents=True, exist_ok=True)
        output = self.logs / f"{name}.log"
        with output.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                [sys.executable, "-m", "ringfence.cli.main", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        running = Running(name=name, process=process, output=output)
        self.running[name] = running
        return running

    def issuers(self, homes: Iterable[Home]) -> None:
        """Start an issuer in every home that has none running, and wait for their sockets."""
        for home in homes:
            name = f"issuer-{home.region}"
            if name not in self.running:
                self.start(name, "issuer", "--home", str(home.path))
        self.wait(lambda: all(home.issuer_socket.exists() for home in homes), "issuers")

    def wait(self, ready: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
        """Wait until `ready()`; raises `StateError` when a process fails first, or in time."""
        give_up = time.monotonic() + timeout_s
        while not ready():
            self.require_alive()
            if time.monotonic() > give_up:
                raise StateError(f"{what}: not ready after {timeout_s:.0f} s; see {self.logs}")
            time.sleep(_LOOK_S)

    def finish(
        self, names: Sequence[str], *, meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[str]:
        """Yield each of `names` as it ends by itself; raises `StateError` when one fails.

        `meanwhile` is called about ten times a second.
        """
        waiting = set(names)
        while waiting:
            for name in sorted(waiting):
                running = self.running[name]
                status = running.process.poll()
                if status is None:
                    continue
                if status != 0:
                    raise StateError(
                        f"{name} ended with status {status}; {running.output} ends with:\n"
                        f"{running.tail()}"
                    )
                waiting.remove(name)
                del self.running[name]
                yield name
            self.require_alive(but=waiting)
            meanwhile()
            time.sleep(_LOOK_S)

    def require_alive(self, *, but: Iterable[str] = ()) -> None:
        """Raise `StateError` when a process that should run has ended with a failure."""
        for name, running in self.running.items():
            status = running.process.poll()
            if name not in but and status not in (None, 0):
                raise StateError(
                    f"{name} ended with status {status}; {running.output} ends with:\n"
                    f"{running.tail()}"
                )

    def stop(self, *names: str) -> None:
        """Ask processes to end, and wait until they have; all of them when none is named."""
        chosen = [self.running[name] for name in names or tuple(self.running)]
        for running in chosen:
            with contextlib.suppress(ProcessLookupError):
                running.process.terminate()
        for running in chosen:
            try:
                running.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
            self.running.pop(running.name, None)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
