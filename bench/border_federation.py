"""Founds the benchmark's federation: four regions and a hub, every paper in place, no gate."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ringfence.cli.federation import (
    Federation,
    conclude,
    found_federation,
    least_packs,
    write_model,
)
from ringfence.cli.founding import Founding
from ringfence.core import canonical
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.clock import system_clock
from ringfence.core.ids import Digest
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import (
    Budget,
    Codec,
    Codecs,
    Hub,
    Lineage,
    Start,
    Tensor,
    Terms,
    Training,
)

HUB = "hub"
LINEAGE = "world"
INITIAL = "initial.safetensors"
SCRIPT = "add_constant.py"

EXAMPLES = {"be": 100, "cn": 400, "de": 200, "us": 300}
"""How many examples each region counts for; the regions are its keys."""

_JURISDICTIONS = {HUB: "EU", "be": "EU", "cn": "CN", "de": "EU", "us": "US"}
_BASE_STEP, _ROUND_STEP = 1e-3, 1e-4

_SCRIPT_TEXT = '''\
"""A site that only adds a constant, another one in each region and round, and says when."""

import json
import math
import time

import numpy as np

import ringfence

session = ringfence.connect()
trained = {{}}


def say(event, round):
    print(json.dumps({{"event": event, "round": round.number, "time_s": time.time()}}), flush=True)


for round in session.rounds():
    say("ordered", round)
    if not trained:
        # Memory that is used again in every round, as a training script's would be.
        flat = np.empty(sum(math.prod(w.shape) for w in round.weights.values()), np.float32)
        for name, weights in round.weights.items():
            trained[name], flat = flat[: weights.size].reshape(weights.shape), flat[weights.size :]
    number = {regions}.index(session.region) + 1
    for name, weights in round.weights.items():
        np.add(weights, np.float32({base} * number + {step} * round.number), out=trained[name])
    say("trained", round)
    round.submit(trained, examples={examples}[session.region])
    say("kept", round)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many float32 values the model has, in how many arrays of equal size."""

    parameters: int
    arrays: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.parameters // self.arrays,)

    @property
    def model_bytes(self) -> int:
        return 4 * self.arrays * self.shape[0]


def found(directory: Path, *, codec: Codec, size: Size, rounds: int) -> Federation:
    """Found, agree and equip the federation in `directory`, with its model and training script."""
    federation = found_federation(
        directory,
        [_founding(name, place) for name, place in _JURISDICTIONS.items()],
        clock=system_clock,
    )
    tensors = tuple(
        Tensor(name=f"layer-{i:03}", shape=size.shape, dtype="F32", module="model")
        for i in range(size.arrays)
    )
    script = directory / SCRIPT
    script.write_text(
        _SCRIPT_TEXT.format(
            regions=sorted(EXAMPLES), base=_BASE_STEP, step=_ROUND_STEP, examples=EXAMPLES
        )
    )
    members = tuple(sorted(EXAMPLES))
    terms = Terms(
        version=1,
        name="bench",
        hub=Hub(region=HUB, address=f"127.0.0.1:{_free_port()}"),
        regions=tuple(federation.parties.values()),
        tensors=tensors,
        modules={"model": "federated"},
        training=Training(operations_per_example=1e9),
        # Longer than any constant, so that float32 stays exact; the norm is measured all the same.
        clip_l2=1e3,
        codecs=Codecs(updates=codec, releases=codec),
        budget=Budget(updates=rounds),
        lineages=(
            Lineage(
                id=LINEAGE,
                contributors=members,
                recipients=members,
                until_round=rounds,
                quorum=len(members),
                deadline_s=3600,
                start=Start(model=_write_initial(directory / INITIAL, tensors)),
            ),
        ),
        packs=least_packs(federation.homes[HUB]),
    )
    for name in members:
        catalogue = _catalogue(name, script)
        federation.homes[name].catalogue.write_bytes(canonical.to_bytes(catalogue))
    conclude(federation, terms, clock=system_clock)
    return federation


def expected_value(rounds: int) -> float:
    """What every parameter must be after `rounds` rounds, from 0: the sum of weighted means."""
    total = sum(EXAMPLES.values())
    weighted = sum(
        _BASE_STEP * number * EXAMPLES[name] / total
        for number, name in enumerate(sorted(EXAMPLES), start=1)
    )
    return rounds * weighted + _ROUND_STEP * rounds * (rounds + 1) / 2


def _founding(name: str, jurisdiction: str) -> Founding:
    return Founding(
        id=name,
        jurisdiction=jurisdiction,
        operator=f"Bench {name.upper()} Ltd.",
        parent=jurisdiction,
        trust_domain=f"{name}.example",
        data_classes=() if name == HUB else ("personal",),
        hardware="uncontrolled",
        examples=EXAMPLES.get(name, 0),
    )


def _write_initial(path: Path, tensors: tuple[Tensor, ...]) -> Digest:
    layout = Layout(
        specs=tuple(
            TensorSpec(name=t.name, shape=t.shape, dtype=t.dtype, module=t.module) for t in tensors
        )
    )
    zeros = np.zeros(tensors[0].shape, np.float32)
    return write_model(path, layout, {tensor.name: zeros for tensor in tensors})


def _catalogue(name: str, script: Path) -> Catalogue:
    return Catalogue(
        region=name,
        jurisdiction=_JURISDICTIONS[name],
        data_classes=("personal",),
        counts={"train": EXAMPLES[name], "validation": EXAMPLES[name]},
        digest=Digest("sha256:" + hashlib.sha256(script.read_bytes()).hexdigest()),
        data=SCRIPT,
        subjects=Subjects(people=EXAMPLES[name], sensitive_people=0, devices=0),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
