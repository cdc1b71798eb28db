"""Federations for tests: founded, signed and equipped in a temporary directory."""

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from ringfence.cli.federation import (
    Federation,
    conclude,
    found_federation,
    least_packs,
    write_model,
)
from ringfence.cli.founding import Founding
from ringfence.config import Home
from ringfence.core import canonical
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.clock import system_clock
from ringfence.core.ids import digest
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import (
    Budget,
    Codecs,
    Gate,
    Hub,
    Lineage,
    Metric,
    Outer,
    Start,
    Tensor,
    Terms,
    Training,
)

HUB = "hub"
EXAMPLES = 300
FOUNDINGS = {
    founding.id: founding
    for founding in (
        Founding(
            id=HUB,
            jurisdiction="EU",
            operator="Test Hub GmbH",
            parent="EU",
            trust_domain="hub.test",
        ),
        Founding(
            id="cn",
            jurisdiction="CN",
            operator="Test Motors (China) Co., Ltd.",
            parent="CN",
            trust_domain="cn.test",
            hardware="uncontrolled",
            data_classes=("personal", "important", "geographic"),
            examples=EXAMPLES,
        ),
        Founding(
            id="de",
            jurisdiction="EU",
            operator="Test Motors Deutschland GmbH",
            parent="EU",
            trust_domain="de.test",
            hardware="uncontrolled",
            data_classes=("personal",),
            examples=EXAMPLES,
        ),
        Founding(
            id="us",
            jurisdiction="US",
            operator="Test Motors of America, Inc.",
            parent="US",
            trust_domain="us.test",
            hardware="uncontrolled",
            data_classes=("personal",),
            examples=EXAMPLES,
        ),
    )
}
SCRIPT = Path(__file__).parent / "scripts" / "steady.py"
EXACT = Codecs()
METRIC = Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """A federation that has agreed, and the model file that its first lineage starts from."""

    federation: Federation
    agreement: Agreement
    initial: Path

    @property
    def path(self) -> Path:
        return self.federation.path

    @property
    def members(self) -> tuple[str, ...]:
        """The regions that train, in the agreement's order."""
        return tuple(name for name in self.federation.homes if name != HUB)

    @property
    def hub(self) -> Home:
        return self.federation.homes[HUB]

    def home(self, region: str) -> Home:
        return self.federation.homes[region]


def free_addresses(count: int) -> list[str]:
    """Different `host:port` that nobody else uses: on a loopback address of this process's own."""
    pid = os.getpid()
    host = f"127.{1 + (pid >> 16) % 250}.{(pid >> 8) & 255}.{pid & 255}"
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server((host, 0))) for _ in range(count)]
        return [f"{host}:{probe.getsockname()[1]}" for probe in probes]


def free_address() -> str:
    (address,) = free_addresses(1)
    return address


def lineage(
    id_: str, members: Sequence[str], *, until_round: int = 1, **changes: object
) -> Lineage:
    """A lineage of `members` that waits for all of them; its start is filled in by `found`."""
    fields = {
        "quorum": len(members),
        "deadline_s": 600.0,
        "start": Start(model=f"sha256:{'0' * 64}"),
        "outer": Outer(),
        "gate": Gate(metric=METRIC.name, most_loss=100, worst_at_least=0),
    }
    return Lineage(
        id=id_,
        contributors=tuple(members),
        recipients=tuple(members),
        until_round=until_round,
        **(fields | changes),
    )


def found(
    path: Path,
    members: Sequence[str],
    lineages: Sequence[Lineage],
    *,
    address: str = "",
    weights: int = 1000,
    codecs: Codecs = EXACT,
) -> Founded:
    """Found the hub and `members`; every lineage starts from one model of `weights` zeros."""
    federation = found_federation(
        path, [FOUNDINGS[name] for name in (HUB, *members)], clock=system_clock
    )
    tensors = (
        Tensor(name="weight", shape=(weights,), dtype="F32", module="head"),
        Tensor(name="shift", shape=(8,), dtype="F32", module="norm"),
    )
    initial = path / "initial.safetensors"
    spec = TensorSpec(name="weight", shape=(weights,), dtype="F32", module="head")
    model = write_model(initial, Layout(specs=(spec,)), {"weight": np.zeros(weights, np.float32)})
    terms = Terms(
        version=1,
        name="test",
        hub=Hub(region=HUB, address=address or free_address()),
        regions=tuple(federation.parties.values()),
        tensors=tensors,
        modules={"head": "federated", "norm": "regional"},
        training=Training(operations_per_example=1e6),
        clip_l2=1e6,
        codecs=codecs,
        budget=Budget(updates=100),
        metrics=(METRIC,),
        lineages=tuple(_starting(line, model) for line in lineages),
        packs=least_packs(federation.homes[HUB]),
    )
    for name in members:
        write_catalogue(federation.homes[name])
    agreement = conclude(federation, terms, clock=system_clock)
    return Founded(federation=federation, agreement=agreement, initial=initial)


def succeed(founded: Founded, lineages: Sequence[Lineage], *, joining: Sequence[str]) -> Founded:
    """A successor agreement with these lineages, signed by all; `joining` regions are new."""
    before = founded.federation
    new = found_federation(before.path, [FOUNDINGS[name] for name in joining], clock=system_clock)
    federation = Federation(
        path=before.path,
        homes={**before.homes, **new.homes},
        parties={**before.parties, **new.parties},
    )
    for name in joining:
        write_catalogue(federation.homes[name])
    terms = replace(
        founded.agreement.terms,
        predecessor=founded.agreement.digest,
        regions=tuple(federation.parties.values()),
        lineages=tuple(lineages),
    )
    agreement = conclude(federation, terms, clock=system_clock)
    return Founded(federation=federation, agreement=agreement, initial=founded.initial)


def write_catalogue(home: Home) -> None:
    """The catalogue of a region whose script makes its data up."""
    founding = FOUNDINGS[home.region]
    catalogue = Catalogue(
        region=founding.id,
        jurisdiction=founding.jurisdiction,
        data_classes=founding.data_classes,
        counts={"train": EXAMPLES, "validation": EXAMPLES},
        digest=digest(f"sha256:{'1' * 64}"),
        data=SCRIPT.name,
        subjects=Subjects(people=EXAMPLES, sensitive_people=0, devices=0),
    )
    home.catalogue.write_bytes(canonical.to_bytes(catalogue))


def _starting(line: Lineage, model: str) -> Lineage:
    if line.start.branch_of:
        return line
    return replace(line, start=Start(model=model))
