"""A federation of two rounds whose line between gateways and hub a test can interfere with."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.federations import HUB, Founded, found, free_addresses, lineage
from tests.e2e.holds import LawHold, SiteHold
from tests.e2e.invariants import Logs, check_nothing_was_lost
from tests.e2e.processes import Name, Processes
from tests.e2e.proxy import Proxy
from tests.e2e.reading import round_of

from ringfence.config import Home

MEMBERS = ("de", "us")
WEIGHTS = 6_000_000
PAYLOAD_BYTES = 4 * WEIGHTS
"""Six chunks, the last of them short."""
MIDDLE_BYTES = 10_000_000
"""Inside of the third chunk."""
OVERHEAD = 1.02
"""TLS records, control messages and statements beside the payloads' own bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A federation of two rounds, its processes, and the line between gateways and hub."""

    founded: Founded
    processes: Processes
    proxy: Proxy
    listen: str

    @property
    def hub(self) -> Home:
        return self.founded.hub

    def start(self) -> None:
        self.processes.start_all(self.founded, "--listen", self.listen)

    def hold_sites(self, step: str) -> dict[str, SiteHold]:
        return {region: SiteHold(self.founded.home(region), step) for region in MEMBERS}

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        self.processes.wait_until(ready, what)

    def wait_for_round(self, number: int, state: str) -> None:
        self.wait(lambda: round_of(self.hub) == (number, state), f"round {number} is {state}")

    def hold_until(self, law: LawHold, there: Callable[[], bool], what: str) -> LawHold:
        """Let a region ask its law until it asks when it is `there`; returns the hold it is in."""
        while True:
            self.wait(law.reached, f"the law is asked and {what}")
            if there():
                return law
            law = law.pass_on()

    def restart_everybody(self, *, but: tuple[Name, ...] = ()) -> None:
        """Kill each process once and start it again, one after the other."""
        names: list[Name] = [("coordinator", HUB), ("issuer", HUB)]
        for region in MEMBERS:
            names += [("issuer", region), ("site", region), ("gateway", region)]
        for role, region in names:
            if (role, region) not in but:
                self.processes.restart(role, region)

    def finish(self, before: Logs) -> None:
        """Let the run end by itself; nothing that was in the logs before may be missing."""
        self.processes.finish_all(self.founded)
        check_nothing_was_lost(self.founded, before)


@contextlib.contextmanager
def open_stage(path: Path) -> Iterator[Stage]:
    """Found the federation in `path`, where nothing is left of it afterwards."""
    address, listen = free_addresses(2)
    world = lineage("world", MEMBERS, until_round=2)
    founded = found(path, MEMBERS, [world], address=address, weights=WEIGHTS)
    try:
        with Proxy(address, listen) as proxy, Processes(path) as processes:
            yield Stage(founded=founded, processes=processes, proxy=proxy, listen=listen)
    finally:
        shutil.rmtree(path)
