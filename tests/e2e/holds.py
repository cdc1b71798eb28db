"""Ways to make a process stand still at one exact step, from outside and without a race.

A process that asks its law reads every file of its `approvals/`; one of them can be a pipe.
"""

from __future__ import annotations

import errno
import os

from ringfence.config import Home


class LawHold:
    """Lets nobody of a region get an answer from its law until it is released.

        hold = LawHold(home)
        processes.wait_until(hold.reached, "Germany's gateway asks its law")
        processes.kill("gateway", "de")
        hold.remove()

    One thread of the region may ask meanwhile.
    """

    def __init__(self, home: Home, *, number: int = 0) -> None:
        self._home = home
        self._number = number
        self._path = home.approvals / f"held-{number}.dsse.json"
        self._pipe = -1
        os.mkfifo(self._path)

    def reached(self) -> bool:
        """Whether the process stands in it: somebody has opened the pipe for reading."""
        if self._pipe < 0:
            try:
                self._pipe = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
        return self._pipe >= 0

    def release(self) -> None:
        """Let the process read a paper that it has anyway, and go on."""
        papers = self._home.approvals.glob("*.dsse.json")
        paper = next(path for path in papers if path.is_file())
        self._path.unlink()
        os.write(self._pipe, paper.read_bytes())
        os.close(self._pipe)
        self._pipe = -1

    def pass_on(self) -> LawHold:
        """Let the process go on to the next time that it asks, and hold it there."""
        following = LawHold(self._home, number=self._number + 1)
        self.release()
        return following

    def remove(self) -> None:
        """Take the hold away from where nobody stands in it any more."""
        self._path.unlink()
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


class SiteHold:
    """Holds a steady script before it trains or evaluates (`scripts/steady.py`)."""

    def __init__(self, home: Home, step: str) -> None:
        self._hold = home.site / f"hold-{step}"
        self._at = home.site / f"at-{step}"
        self._hold.touch()

    def reached(self) -> bool:
        """Whether the script stands there."""
        return self._at.exists()

    def forget(self) -> None:
        """After a kill: what the script said of itself is no longer so."""
        self._at.unlink(missing_ok=True)

    def release(self) -> None:
        """Let the script go on, now and in every later round."""
        self._hold.unlink()
