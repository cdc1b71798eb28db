"""What a training script holds: the session, its rounds, and the handing over of an update."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType

from ringfence.core.errors import ConfigError, FormatError, LayoutError, NotFiniteError
from ringfence.core.ids import Digest
from ringfence.core.site_wire import (
    Done,
    Evaluate,
    Evaluated,
    FromGateway,
    FromSite,
    Hello,
    Rejected,
    Setting,
    Submit,
    Submitted,
    Train,
    from_gateway,
    refusal,
)
from ringfence.core.tensors import Layout
from ringfence.site import frames
from ringfence.site.handover import UpdateMemory, check_tensors
from ringfence.site.link import dial
from ringfence.site.state import load_state, save_state
from ringfence.site.tensorviews import Tensors, map_model

_NO_TENSORS: Tensors = MappingProxyType({})


class Outcome(StrEnum):
    """What became of a submitted round; a refusal is raised instead, as `Refused`."""

    ACKNOWLEDGED = "acknowledged"
    """The gateway holds the update."""

    SUPERSEDED = "superseded"
    """The gateway restarted and went on to something else; it may or may not hold the update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a script measured on its validation data, over `examples` of them."""

    metrics: Mapping[str, float]
    examples: int


Evaluator = Callable[[Tensors, Tensors], Evaluation]
"""`evaluate(weights, state)`: measure the model of `weights` with this region's own `state`."""


class Round:
    """One round to train, until `submit`.

    `weights` are read-only views of the base model (frozen tensors, if the model has any,
    included), `state` this lineage's regional state (empty at first), `settings` the training
    settings of the agreement.  Copy what you train.
    """

    def __init__(self, session: Session, order: Train, weights: Tensors, state: Tensors) -> None:
        self.lineage = order.lineage
        self.number = order.round
        self.weights = weights
        self.state = state
        self.settings: Mapping[str, Setting] = MappingProxyType(order.settings)
        self.answered = False
        self._session = session
        self._order = order

    def submit(
        self,
        tensors: Tensors,
        *,
        examples: int,
        metrics: Mapping[str, float] = MappingProxyType({}),
        state: Tensors = _NO_TENSORS,
    ) -> Outcome:
        """Hand over the trained `tensors` (y, by name); what leaves the site is y - x.

        Blocks until the gateway answers; if it restarts meanwhile, the same bytes are offered
        again.  `state` is stored in this region and becomes `round.state` of a later round.

        Raises: Refused when the gateway says no (catch it to go on with the next round);
        LayoutError, NotFiniteError or ConfigError when an argument is wrong, before anything is
        handed over.
        """
        if self.answered:
            raise ConfigError(
                f"{self.lineage} round {self.number}: expected one submit, got a second; "
                "take the next round"
            )
        work = self._order
        layout = self._session._link.layout
        check_tensors(tensors, layout, known=self.weights)
        count, numbers = _count(examples), _finite(metrics)
        message = Submit(
            lineage=work.lineage,
            round=work.round,
            base=work.parent,
            state_in=work.state_in,
            state_out=self._session._keep(state) if state else "",
            examples=count,
            metrics=numbers,
        )
        memory = self._session._memory_for(layout)
        update = memory.write_difference(tensors, self.weights)
        try:
            return self._session._offer(self, message, update)
        finally:
            memory.rest()


class Session:
    """An open line to the gateway; made by `connect`."""

    def __init__(
        self,
        *,
        socket_path: Path,
        state_directory: Path,
        hello: Hello,
        evaluate: Evaluator | None,
        patience_s: float,
    ) -> None:
        self._socket_path = socket_path
        self._state_directory = state_directory
        self._hello = hello
        self._evaluate = evaluate
        self._patience_s = patience_s
        self._ahead: list[Round | Done] = []
        self._memory: UpdateMemory | None = None
        self._link = dial(socket_path, hello, patience_s=patience_s)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def region(self) -> str:
        """Id of the region that this site belongs to."""
        return self._link.welcome.region

    @property
    def federated(self) -> tuple[str, ...]:
        """Names of the tensors that `submit` expects, in layout order."""
        return tuple(spec.name for spec in self._link.layout.specs)

    def close(self) -> None:
        """Hang up; the gateway waits for the next script."""
        self._link.close()
        if self._memory is not None:
            self._memory.close()

    def rounds(self) -> Iterator[Round]:
        """Yield each round that the gateway asks for, until it says that the run is complete.

        Calls `evaluate` when the gateway wants a candidate measured, and dials again when the
        gateway restarts.  Raises: ConfigError when a round was not submitted before the next;
        Refused when the gateway wants no more of this script.
        """
        while isinstance(order := self._ahead.pop() if self._ahead else self._next(), Round):
            yield order
            if not order.answered:
                raise ConfigError(
                    f"{order.lineage} round {order.number}: expected a submit before the next "
                    "round, got none; call round.submit"
                )
        self.close()

    def _memory_for(self, layout: Layout) -> UpdateMemory:
        """The memory of the last update, unless the gateway came back with another layout."""
        if self._memory is None or self._memory.layout != layout:
            if self._memory is not None:
                self._memory.close()
            self._memory = UpdateMemory(layout)
        return self._memory

    def _offer(self, round_: Round, message: Submit, update: int) -> Outcome:
        """Offer the `update` until it is answered, over a restart of the gateway, too."""
        while True:
            answer = self._ask(message, update)
            if answer is not None:
                round_.answered = True
                if isinstance(answer, Rejected):
                    raise refusal(answer)
                return Outcome.ACKNOWLEDGED
            # The gateway died before it answered.  Restarted, it offers the same work again, which
            # the same bytes answer as they are, or it goes on to other work.
            following = self._next()
            if not isinstance(following, Round) or following._order != round_._order:
                round_.answered = True
                self._ahead.append(following)
                return Outcome.SUPERSEDED

    def _ask(self, message: Submit, update: int) -> Submitted | Rejected | None:
        if not self._send(message, update):
            return None
        answer = self._receive()
        if answer is None:
            return None
        reply, descriptors = answer
        frames.close_all(descriptors)
        expected = Submitted(lineage=message.lineage, round=message.round)
        if not isinstance(reply, Rejected) and reply != expected:
            raise FormatError(f"gateway: expected {expected}, got {type(reply).__name__}")
        return reply

    def _next(self) -> Round | Done:
        """Wait for the next round; evaluations are answered on the way."""
        while True:
            answer = self._receive()
            if answer is None:
                self._link.close()
                self._link = dial(self._socket_path, self._hello, patience_s=self._patience_s)
                continue
            message, descriptors = answer
            try:
                match message:
                    case Train():
                        return self._open(message, descriptors[0])
                    case Evaluate():
                        self._send(self._measure(message, descriptors[0]))
                    case Done():
                        return message
                    case Rejected():
                        raise refusal(message)
                    case _:
                        raise FormatError(
                            f"gateway: expected Train, Evaluate or Done, "
                            f"got {type(message).__name__}"
                        )
            finally:
                frames.close_all(descriptors)

    def _open(self, order: Train, model: int) -> Round:
        layout = self._link.layout
        if order.layout != layout.digest:
            raise LayoutError(
                f"{order.lineage} round {order.round}: expected layout {layout.digest}, "
                f"got {order.layout}; restart the script"
            )
        return Round(self, order, map_model(model, layout), self._state(order.state_in))

    def _measure(self, order: Evaluate, model: int) -> Evaluated:
        if self._evaluate is None:
            raise ConfigError(
                f"{order.lineage} round {order.round}: expected a function that evaluates, as the "
                "agreement has a gate; pass evaluate= to ringfence.connect"
            )
        weights = map_model(model, self._link.layout)
        evaluation = self._evaluate(weights, self._state(order.state_in))
        return Evaluated(
            lineage=order.lineage,
            round=order.round,
            candidate=order.candidate,
            examples=_count(evaluation.examples),
            metrics=_finite(evaluation.metrics),
        )

    def _keep(self, state: Tensors) -> Digest:
        return save_state(self._state_directory, state)

    def _state(self, digest: str) -> Tensors:
        return load_state(self._state_directory, Digest(digest)) if digest else _NO_TENSORS

    def _send(self, message: FromSite, *descriptors: int) -> bool:
        return frames.send(self._link.connection, message, descriptors)

    def _receive(self) -> tuple[FromGateway, list[int]] | None:
        return frames.receive(self._link.connection, from_gateway)


def _count(examples: int) -> int:
    try:
        count = operator.index(examples)
    except TypeError:
        count = -1
    if count < 0:
        raise ConfigError(f"examples: expected a whole number, 0 or more, got {examples!r}")
    return count


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"metric {name}: expected a finite number, got NaN or infinity")
    return values
