"""A small module with its pictures, and a gateway that has it trained over a real socket."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ringfence.torch as rt
from ringfence.core.site_wire import Evaluate, Evaluated, Hello, Submit, SubmittedUpdate, Welcome
from ringfence.core.site_wire import Train as Order
from ringfence.core.tensorfile import write_tensors
from ringfence.core.tensors import Layout
from ringfence.net.site_socket import SiteListener
from ringfence.site.session import Evaluator, Session

SETTINGS: Mapping[str, float | int | str] = {"steps": 5, "learning_rate": 0.1, "name": "demo"}


class Net(nn.Module):
    """Convolution, batch normalisation, dropout and a head: one of each kind that matters."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(inputs).mean(dim=(2, 3)))


def net() -> Net:
    torch.manual_seed(1)
    return Net()


def pictures() -> TensorDataset:
    """Forty pictures of three kinds, each bright in a colour of its own."""
    draw = torch.Generator().manual_seed(2)
    labels = torch.arange(40) % 3
    images = torch.rand(40, 3, 8, 8, generator=draw)
    images[torch.arange(40), labels] += 1
    return TensorDataset(images, labels)


def shuffled() -> DataLoader[Any]:
    return DataLoader(pictures(), batch_size=8, shuffle=True)


def trainer() -> rt.Trainer:
    return rt.Trainer(net(), shuffled(), nn.CrossEntropyLoss())


def federated(module: nn.Module) -> Layout:
    """What of `module` travels, batch normalisation being regional."""
    return rt.describe(module).select({"body", "head"})


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def order(
    number: int = 0,
    *,
    lineage: str = "world",
    state_in: str = "",
    layout: Layout | None = None,
    settings: Mapping[str, float | int | str] = SETTINGS,
) -> Order:
    return Order(
        lineage=lineage,
        round=number,
        parent=digest(f"release {number}"),
        layout=(layout or federated(net())).digest,
        state_in=state_in,
        settings=dict(settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A region's gateway on a real socket, with one model file for every order."""

    home: Path
    listener: SiteListener
    layout: Layout
    model_fd: int

    def session(self, evaluate: Evaluator | None = None) -> Session:
        return Session(
            socket_path=self.home / "run" / "site.sock",
            state_directory=self.home / "site" / "state",
            hello=Hello(code=digest("code"), script="train.py", evaluates=evaluate is not None),
            evaluate=evaluate,
            patience_s=20,
        )

    def serve(self, work: Sequence[Order | Evaluate]) -> Future[list[Any]]:
        """Have a site do `work`, in a thread; gives each update (y - x, flat) or measurement."""
        pool = ThreadPoolExecutor(max_workers=1)
        answers = pool.submit(self._serve, work)
        pool.shutdown(wait=False)
        return answers

    def _serve(self, work: Sequence[Order | Evaluate]) -> list[Any]:
        answers: list[Any] = []
        link = self.listener.accept(timeout_s=60)
        assert link is not None
        with link:
            link.welcome(
                Welcome(region="cn", agreement=digest("terms"), catalogue=digest("pictures")),
                self.layout,
            )
            for order in work:
                if isinstance(order, Evaluate):
                    measured = link.evaluate(order, model_fd=self.model_fd)
                    assert isinstance(measured, Evaluated)
                    answers.append(measured)
                    continue
                taken = link.train(
                    order, model_fd=self.model_fd, update_bytes=self.layout.size_bytes
                )
                assert isinstance(taken, SubmittedUpdate)
                answers.append((taken.message, taken.values().copy()))
                taken.close()
                link.acknowledge()
            link.done()
        return answers


@contextlib.contextmanager
def gateway(
    home: Path, model: Mapping[str, NDArray[Any]], *, model_layout: Layout, update_layout: Layout
) -> Iterator[Gateway]:
    """Open a gateway whose base model holds `model`."""
    path = home / "model.safetensors"
    with path.open("xb") as file:
        write_tensors(file.fileno(), model_layout, model)
    socket_path = home / "run" / "site.sock"
    with path.open("rb") as file, SiteListener(socket_path) as listener:
        yield Gateway(home=home, listener=listener, layout=update_layout, model_fd=file.fileno())


def train_rounds(
    home: Path, trainer: rt.Trainer, *orders: Order
) -> list[tuple[Submit, NDArray[np.float32]]]:
    """What a gateway gets when `trainer` trains `orders` from the weights of `net()`."""
    layout = federated(net())
    weights = rt.take(net(), [spec.name for spec in layout.specs])
    home.mkdir(exist_ok=True)
    with gateway(home, weights, model_layout=layout, update_layout=layout) as region:
        answers = region.serve(orders)
        with region.session() as session:
            for round_ in session.rounds():
                trained = trainer.train(round_, federated=session.federated)
                round_.submit(trained.tensors, examples=trained.examples, state=trained.state)
        return answers.result(timeout=60)
