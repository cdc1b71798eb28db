"""The processes of a federation under test: started, watched, killed, and always cleaned up.

    with Processes(directory) as processes:
        processes.start("coordinator", "hub", "--initial", str(initial))
        processes.wait_until(lambda: round_of(hub, "world") == (1, "open"), "round 1 is open")
        processes.kill("coordinator", "hub")

Nothing here waits for a time: whoever waits names a state, and hears at once when a process has
ended that should be running.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.e2e import command
from tests.e2e.federations import HUB, SCRIPT, Founded

Role = Literal["issuer", "coordinator", "gateway", "site"]
Name = tuple[Role, str]
"""A process: its role and its region."""

TIMEOUT_S = 60.0
_LOOK_S = 0.005
_TAIL_CHARS = 2500
_AT_WORK = "new leaf until"
"""What coordinator and gateway say when they have a certificate to show."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(command.PRELOADED))

_open: list["Processes"] = []


def open_processes() -> tuple["Processes", ...]:
    """Every federation whose processes may be running now."""
    return tuple(_open)


class Processes:
    """The processes of the federation in `directory`; killed when the context ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._logs = directory / "logs"
        self._running: dict[Name, ForkServerProcess] = {}
        self._arguments: dict[Name, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        _open.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill_all()
        _open.remove(self)

    # ── start ──

    def start(self, role: Role, region: str, *arguments: str) -> None:
        """Start `role` of `region` as the program's command with `arguments`."""
        assert (role, region) not in self._running, f"{role} of {region} is running already"
        home = str(self.directory / "regions" / region)
        words = ["train", *arguments] if role == "site" else [role, *arguments]
        process = _FORKS.Process(
            target=command.run, args=([*words, "--home", home], str(self._log(role, region)))
        )
        process.start()
        self._running[role, region] = process
        self._arguments[role, region] = arguments

    def revive(self, role: Role, region: str) -> None:
        """Start a process again that was killed; returns when a place is at work again."""
        lives = self.said(role, region).count(_AT_WORK)
        self.start(role, region, *self._arguments[role, region])
        if role in ("coordinator", "gateway"):
            self.wait_until(
                lambda: self.said(role, region).count(_AT_WORK) > lives,
                f"the {role} of {region} is at work again",
            )

    def restart(self, role: Role, region: str) -> None:
        """Kill, and revive."""
        self.kill(role, region)
        self.revive(role, region)

    def start_all(self, founded: Founded, *options: str) -> None:
        """Every process, with the steady script; `options` are the coordinator's."""
        homes = founded.federation.homes
        for region in homes:
            self.start("issuer", region)
        self.wait_until(
            lambda: all(home.issuer_socket.exists() for home in homes.values()),
            "every issuer listens",
        )
        self.start("coordinator", HUB, "--initial", str(founded.initial), *options)
        for region in founded.members:
            self.start("gateway", region)
            self.start("site", region, str(SCRIPT))

    # ── end ──

    def finish_all(self, founded: Founded) -> None:
        """Wait until gateways and sites have ended by themselves, then stop the others."""
        for role in ("gateway", "site"):
            for region in founded.members:
                assert self.finish(role, region) == 0, self.tails()
        assert self.stop("coordinator", HUB) == 0, self.tails()
        for region in founded.federation.homes:
            assert self.stop("issuer", region) == 0, self.tails()

    def kill(self, role: Role, region: str) -> None:
        """`kill -9`, a site's script included; returns when the process is gone."""
        process = self._running.pop((role, region))
        self._signal(process, signal.SIGKILL)
        process.join()

    def kill_all(self) -> None:
        """`kill -9` of everything that runs."""
        for name in list(self._running):
            self.kill(*name)

    def stop(self, role: Role, region: str) -> int:
        """Ask a process to end (SIGTERM); returns its exit status."""
        self._signal(self._running[role, region], signal.SIGTERM)
        return self.finish(role, region)

    def finish(self, role: Role, region: str) -> int:
        """Wait until a process has ended by itself; returns its exit status."""
        process = self._running[role, region]
        self.wait_until(lambda: process.exitcode is not None, f"the {role} of {region} has ended")
        del self._running[role, region]
        return process.exitcode

    # ── hold ──

    def freeze(self, role: Role, region: str) -> None:
        """Stop a process in its tracks (SIGSTOP); it can still be killed."""
        self._signal(self._running[role, region], signal.SIGSTOP)

    def thaw(self, role: Role, region: str) -> None:
        self._signal(self._running[role, region], signal.SIGCONT)

    # ── look ──

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Look until `ready()`; fails when a process ends with a fault first, or at the time-out.

        `what` completes the sentence "waited until …".
        """
        give_up = time.monotonic() + TIMEOUT_S
        while not ready():
            failed = [
                f"{role} of {region} ended with status {process.exitcode}"
                for (role, region), process in self._running.items()
                if process.exitcode
            ]
            if time.monotonic() > give_up:
                failed.append(f"{TIMEOUT_S:.0f} s are over")
            if failed:
                raise AssertionError(f"waited until {what}: {'; '.join(failed)}\n{self.tails()}")
            time.sleep(_LOOK_S)

    def said(self, role: Role, region: str) -> str:
        """What a process has said so far, in every life of it."""
        log = self._log(role, region)
        return log.read_text(errors="replace") if log.exists() else ""

    def tails(self) -> str:
        """The end of what each process has said."""
        return "\n".join(
            f"── {path.stem} ──\n{path.read_text(errors='replace')[-_TAIL_CHARS:]}"
            for path in sorted(self._logs.glob("*.log"))
        )

    def _log(self, role: str, region: str) -> Path:
        return self._logs / f"{role}-{region}.log"

    @staticmethod
    def _signal(process: ForkServerProcess, number: signal.Signals) -> None:
        assert process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                os.kill(process.pid, number)  # so young that it heads no group yet
