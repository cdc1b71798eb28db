"""A region's training script, in a thread at the other end of a real site socket."""

from __future__ import annotations

import fcntl
import os
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tests.places.founding import digest_of

from ringfence.core.site_wire import (
    Evaluate,
    Evaluated,
    FromGateway,
    FromSite,
    Hello,
    Rejected,
    Submit,
    Submitted,
    Train,
    from_gateway,
)
from ringfence.net.site_socket import SiteLink
from ringfence.site import frames
from ringfence.site.handover import SEALS


@dataclass
class Script:
    """What a region's training script does; tests change it, honest unless they do.

    `orders` is what the gateway asked of it; `answers` what became of each update.
    """

    name: str
    update: np.ndarray
    examples: int = 100
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated: dict[str, float] = field(default_factory=lambda: {"accuracy": 50.0})
    evaluated_examples: int = 100
    submit: Callable[[Submit], FromSite] = lambda message: message
    seals: int = SEALS
    kept: list[int] | None = None
    orders: list[FromGateway] = field(default_factory=list)
    answers: queue.SimpleQueue[Submitted | Rejected] = field(default_factory=queue.SimpleQueue)

    def connect(self) -> SiteLink:
        """A new line with the script at its other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threading.Thread(target=self._run, args=(theirs,), daemon=True).start()
        hello = Hello(code=digest_of("script"), script="train.py", evaluates=True)
        return SiteLink(ours, hello, lock=threading.Lock())

    def _run(self, connection: socket.socket) -> None:
        with connection:
            while (received := frames.receive(connection, from_gateway)) is not None:
                message, descriptors = received
                if isinstance(message, Submitted | Rejected):
                    self.answers.put(message)
                else:
                    self.orders.append(message)
                if isinstance(message, Train):
                    self._train(connection, message)
                elif isinstance(message, Evaluate):
                    frames.send(connection, self._evaluate(message))
                frames.close_all(descriptors)

    def _train(self, connection: socket.socket, order: Train) -> None:
        message = Submit(
            lineage=order.lineage,
            round=order.round,
            base=order.parent,
            state_in=order.state_in,
            state_out=digest_of(f"state of {self.name}: {order.lineage} {order.round}"),
            examples=self.examples,
            metrics=self.metrics,
        )
        memory_fd = os.memfd_create("update", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(memory_fd, self.update.tobytes())
            fcntl.fcntl(memory_fd, fcntl.F_ADD_SEALS, self.seals)
            if self.kept is not None:
                self.kept.append(os.dup(memory_fd))
            answer = self.submit(message)
            frames.send(connection, answer, [memory_fd] * isinstance(answer, Submit))
        finally:
            os.close(memory_fd)

    def _evaluate(self, order: Evaluate) -> Evaluated:
        return Evaluated(
            lineage=order.lineage,
            round=order.round,
            candidate=order.candidate,
            examples=self.evaluated_examples,
            metrics=self.evaluated,
        )
