"""Regions with real keys and packs, and the agreements that they conclude: made once a session."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from ringfence.config import open_home
from ringfence.core import canonical
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.clock import system_clock
from ringfence.core.ids import Digest
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import (
    Budget,
    Gate,
    Lineage,
    Metric,
    Start,
    Target,
    Tensor,
    Terms,
    Training,
)
from ringfence.core.terms import Hub as HubTerms
from ringfence.crossing.signatures import keep_signatures, sign_agreement
from ringfence.policy.judge import Judge
from ringfence.policy.packs import load_packs
from ringfence.trust.keys import Ed25519Signer, load_ed25519, read_passphrase

MEMBERS = ("cn", "de", "us")
EXAMPLES = 300

FOUNDINGS = tuple(
    Founding(
        id=name,
        jurisdiction=jurisdiction,
        operator=f"{name} operator",
        parent=jurisdiction,
        trust_domain=f"{name}.example",
        hardware="uncontrolled",
        data_classes=classes,
        examples=EXAMPLES,
    )
    for name, jurisdiction, classes in (
        ("hub", "EU", ()),
        ("cn", "CN", ("personal", "important", "geographic")),
        ("de", "EU", ("personal",)),
        ("us", "US", ("personal",)),
    )
)
_ROOM_BYTES = 512 * 1024 * 1024
TENSORS = (
    Tensor(name="stem.weight", shape=(5,), dtype="F32", module="stem"),
    Tensor(name="head.weight", shape=(3, 8), dtype="F32", module="head"),
    Tensor(name="head.bias", shape=(3,), dtype="F32", module="head"),
    Tensor(name="norm.shift", shape=(8,), dtype="F32", module="norm"),
)
MODULES = {"stem": "frozen", "head": "federated", "norm": "regional"}


@contextlib.contextmanager
def swift_directory(otherwise: Path) -> Iterator[Path]:
    """A directory in memory where the machine has room for it: a world flushes its files often."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < _ROOM_BYTES:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(prefix="ringfence-", dir=memory) as directory:
        yield Path(directory)


class SettableClock:
    """Stands still unless a test moves it."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def initial_model(directory: Path, tensors: tuple[Tensor, ...] = TENSORS) -> Digest:
    """Write the initial model of a federation into its directory: small, different numbers."""
    layout = Layout(
        specs=tuple(
            TensorSpec(name=t.name, shape=t.shape, dtype=t.dtype, module=t.module)
            for t in tensors
            if MODULES[t.module] != "regional"
        )
    )
    drawn = np.random.default_rng(7)
    values = {spec.name: drawn.normal(size=spec.shape) for spec in layout.specs}
    return write_model(
        directory / "initial.safetensors",
        layout,
        {name: value.astype(np.float32) for name, value in values.items()},
    )


def sample_terms(federation: Federation, *, initial: Digest, **changes: Any) -> Terms:
    """Two lineages: `world` of everybody under a gate, and `us-market`, which bars China."""
    terms = Terms(
        version=1,
        name="places",
        hub=HubTerms(region="hub", address="127.0.0.1:8443"),
        regions=tuple(federation.parties.values()),
        tensors=TENSORS,
        modules=MODULES,
        training=Training(settings={"lr": 0.5}, operations_per_example=1e6),
        clip_l2=100.0,
        budget=Budget(updates=4),
        metrics=(
            Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50),
            Metric(name="loss", minimum=0, maximum=10, resolution=0.01, least_cohort=50),
        ),
        lineages=(
            Lineage(
                id="world",
                contributors=MEMBERS,
                recipients=MEMBERS,
                until_round=3,
                quorum=2,
                deadline_s=600,
                start=Start(model=initial),
                gate=Gate(metric="accuracy", most_loss=10, worst_at_least=5),
            ),
            Lineage(
                id="us-market",
                contributors=("de", "us"),
                recipients=("de", "us"),
                until_round=3,
                quorum=2,
                deadline_s=600,
                start=Start(model=initial, branch_of="world"),
                bars=("CN",),
                target=Target(countries=("US",), sae_level=3, model_year=2027),
            ),
        ),
        packs=least_packs(federation.homes["hub"]),
    )
    return replace(terms, **changes)


@dataclass(frozen=True, kw_only=True)
class Founded:
    """Regions that have keys and packs, and what never changes however often they are copied."""

    federation: Federation
    now_s: float
    signers: Mapping[tuple[str, str], Ed25519Signer]
    judge: Judge

    def agree(
        self, directory: Path, change: Callable[[Terms], Terms] = lambda terms: terms
    ) -> Template:
        """A copy whose regions have signed an agreement, with sample papers for it.

        Every lineage starts from the initial model of whatever tensors `change` leaves.
        """
        federation = copied(self.federation, directory)
        draft = change(sample_terms(federation, initial=digest_of("initial")))
        start = initial_model(directory, draft.tensors)
        lineages = tuple(
            replace(line, start=replace(line.start, model=start)) for line in draft.lineages
        )
        terms = replace(draft, lineages=lineages)
        for founding in FOUNDINGS:
            catalogue = Catalogue(
                region=founding.id,
                jurisdiction=founding.jurisdiction,
                data_classes=founding.data_classes,
                counts={"train": EXAMPLES, "validation": EXAMPLES},
                digest="sha256:" + hashlib.sha256(founding.id.encode()).hexdigest(),
                data="pictures",
                subjects=Subjects(people=EXAMPLES, sensitive_people=0, devices=0),
            )
            home = federation.homes[founding.id]
            home.catalogue.write_bytes(canonical.to_bytes(catalogue))
        agreement = conclude(federation, terms, clock=lambda: self.now_s)
        signatures = {
            region: sign_agreement(agreement, region, self.signers[region, "statement"])
            for region in agreement.regions()
        }
        for home in federation.homes.values():
            keep_signatures(home.agreement, agreement, signatures)
        return Template(founded=self, federation=federation)


def found(directory: Path) -> Founded:
    """Found every region in `directory`."""
    # A little ago: certificates and papers hold from before the first question.
    now_s = float(int(system_clock()) - 60)
    federation = found_federation(directory, FOUNDINGS, clock=lambda: now_s)
    signers = {}
    for name, home in federation.homes.items():
        passphrase = read_passphrase(home.passphrase_source())
        for key in ("statement", "log", "witness", "counsel"):
            folder = home.keys / "offline" if key == "counsel" else home.keys
            signers[name, key] = load_ed25519(folder / f"{key}.key", passphrase)
    judge = Judge(packs=load_packs(federation.homes["hub"].packs))
    return Founded(federation=federation, now_s=now_s, signers=signers, judge=judge)


def copied(federation: Federation, directory: Path) -> Federation:
    shutil.copytree(federation.path, directory)
    homes = {name: open_home(directory / "regions" / name) for name in federation.homes}
    return Federation(path=directory, homes=homes, parties=federation.parties)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A concluded federation in which nothing has happened yet; every test gets a copy."""

    founded: Founded
    federation: Federation


def digest_of(text: str) -> str:
    """Some digest, the same for the same text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
