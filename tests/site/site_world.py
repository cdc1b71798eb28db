"""A region's home, a model, a real gateway socket, and scripts in processes of their own."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ringfence.core.site_wire import Evaluate, Hello, Train, Welcome
from ringfence.core.tensorfile import write_tensors
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.net.site_socket import SiteLink, SiteListener
from ringfence.site import unix_socket
from ringfence.site.session import Evaluator, Session

WEIGHT = TensorSpec(name="fc.weight", shape=(3, 2), dtype="F32", module="head")
SCALE = TensorSpec(name="scale", shape=(), dtype="F32", module="head")
FROZEN = TensorSpec(name="stem.weight", shape=(4,), dtype="F32", module="stem")
MODEL_LAYOUT = Layout(specs=(FROZEN, WEIGHT, SCALE))
UPDATE_LAYOUT = Layout(specs=(WEIGHT, SCALE))

MODEL = {
    "stem.weight": np.array([9, 8, 7, 6], np.float32),
    "fc.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    "scale": np.array(2, np.float32),
}


def digest(text: str) -> str:
    """Some digest, the same for the same text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


WELCOME = Welcome(region="cn", agreement=digest("agreement"), catalogue=digest("catalogue"))
HELLO = Hello(code=digest("code"), script="train.py", evaluates=True)


def train(number: int = 0, *, lineage: str = "world", state_in: str = "") -> Train:
    return Train(
        lineage=lineage,
        round=number,
        parent=digest(f"release {number}"),
        layout=UPDATE_LAYOUT.digest,
        state_in=state_in,
        settings={"lr": 0.5, "epochs": 2, "name": "demo"},
    )


def evaluate(number: int = 0, *, state_in: str = "") -> Evaluate:
    candidate = digest(f"candidate {number}")
    return Evaluate(lineage="world", round=number, candidate=candidate, state_in=state_in)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A home with a model file in it."""

    home: Path
    model_fd: int

    @property
    def socket_path(self) -> Path:
        return self.home / "run" / "site.sock"

    def environment(self) -> dict[str, str]:
        places = {"RINGFENCE_SOCKET": str(self.socket_path), "RINGFENCE_HOME": str(self.home)}
        return {**os.environ, **places}

    @contextlib.contextmanager
    def script(self, body: str) -> Iterator[subprocess.Popen[str]]:
        """Run `body` as a training script in a process of its own; it is killed at the end."""
        path = self.home / "train.py"
        path.write_text(textwrap.dedent(body))
        with subprocess.Popen(
            [sys.executable, path],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def connect(self, evaluate: Evaluator | None = None, *, patience_s: float = 10.0) -> Session:
        return Session(
            socket_path=self.socket_path,
            state_directory=self.home / "site" / "state",
            hello=HELLO,
            evaluate=evaluate,
            patience_s=patience_s,
        )


@contextlib.contextmanager
def new_region(home: Path) -> Iterator[Region]:
    path = home / "model.safetensors"
    with path.open("xb") as file:
        write_tensors(file.fileno(), MODEL_LAYOUT, MODEL)
    with path.open("rb") as file:
        yield Region(home=home, model_fd=file.fileno())


def welcomed(listener: SiteListener) -> SiteLink:
    """The next site, taken in."""
    link = listener.accept(timeout_s=20)
    assert link is not None
    link.welcome(WELCOME, UPDATE_LAYOUT)
    return link


class Aside:
    """Something done in a thread beside the test; `result` waits for it and raises its error."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(action,), daemon=True)
        self._thread.start()

    def _run(self, action: Callable[[], Any]) -> None:
        try:
            self._result = action()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self._error = error

    def result(self) -> Any:
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


def open_descriptors() -> int:
    """How many descriptors this process holds, those of forgotten mappings not counted."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def bare_site(path: Path) -> Iterator[Any]:
    """A raw connection to the gateway, for sites that do not use our library."""
    with unix_socket.open_socket() as connection:
        connection.settimeout(20)
        with unix_socket.address(path) as address:
            connection.connect(address)
        yield connection
