"""A whole federation on one machine: founded at once, for the sample, the demo and benchmarks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ringfence.cli.agreeing import agree
from ringfence.cli.agreement_text import render
from ringfence.cli.founding import Founding, found_region
from ringfence.cli.sample_papers import write_sample_papers
from ringfence.config import Home
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.chunks import ChunkHasher
from ringfence.core.clock import Clock
from ringfence.core.ids import Digest
from ringfence.core.tensorfile import write_tensors
from ringfence.core.tensors import Layout
from ringfence.core.terms import LawPack, Party, Terms
from ringfence.policy.packs import load_packs


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The homes of every region under `path/regions`, and what the agreement says of each."""

    path: Path
    homes: dict[str, Home]
    parties: dict[str, Party]

    @property
    def agreement_path(self) -> Path:
        return self.path / "federation.toml"


def found_federation(path: Path, foundings: Sequence[Founding], *, clock: Clock) -> Federation:
    """Found every region; nobody has agreed to anything yet."""
    homes: dict[str, Home] = {}
    parties: dict[str, Party] = {}
    for founding in foundings:
        home, party = found_region(path / "regions" / founding.id, founding, clock=clock)
        homes[founding.id], parties[founding.id] = home, party
    return Federation(path=path, homes=homes, parties=parties)


def conclude(federation: Federation, terms: Terms, *, clock: Clock) -> Agreement:
    """Write the agreement, have its regions sign it, and give them sample papers for it."""
    federation.agreement_path.write_text(render(terms))
    agreement = parse_agreement(federation.agreement_path.read_bytes())
    homes: dict[str, Home] = {name: federation.homes[name] for name in agreement.regions()}
    for home in homes.values():
        agree(home, federation.agreement_path)
    write_sample_papers(homes, agreement, clock=clock)
    return agreement


def least_packs(home: Home) -> tuple[LawPack, ...]:
    """Every rule of the packs in `home`, as the least that an agreement pins."""
    return tuple(
        LawPack(name=pack.name, rules=tuple(sorted(pack.rule_ids)))
        for pack in load_packs(home.packs)
    )


def write_model(path: Path, layout: Layout, tensors: dict[str, NDArray[np.float32]]) -> Digest:
    """Write an initial model file; returns the digest that the agreement starts a lineage from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_tensors(fd, layout, tensors)
    finally:
        os.close(fd)
    hasher = ChunkHasher()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            hasher.update(piece)
    return hasher.finish().digest
