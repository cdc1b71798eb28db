"""The sign example as the demo uses it: its scripts, each run where its region's data are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ringfence.cli.demo.plan import Model, Recipe
from ringfence.cli.demo.processes import Processes
from ringfence.config import Home
from ringfence.core import ids
from ringfence.core.errors import ConfigError
from ringfence.core.terms import DataClass, Placement, Tensor
from ringfence.site.state import state_path

DATA_CLASSES: Mapping[str, tuple[DataClass, ...]] = {
    "be": ("personal",),
    "cn": ("personal", "important", "geographic"),
    "de": ("personal",),
    "us": ("personal",),
}
"""What counsel would say of street pictures of each country, the safe reading each time."""

_SCRIPTS = ("signs.py", "model.py", "train.py", "measure.py", "attacks/dishonest_site.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Accuracy on a region's own test pictures, per cent.

    `before` is the release that trained without China: in China with batch statistics re-estimated
    on its unlabelled pictures, elsewhere as the region's own model.  `after_regional` is the
    region's own model after both phases, `after_global` the bare release; `local_only` a model of
    the same number of local steps on this region's pictures alone, where it is measured.
    """

    before: float
    after_regional: float
    after_global: float
    local_only: float | None = None


class _Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tensors: tuple[Tensor, ...]
    modules: dict[str, Placement]
    model: str
    pretraining_rounds: int
    pretraining_settings: dict[str, float | int | str]
    joint_rounds: int
    joint_settings: dict[str, float | int | str]
    market_rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The folder of the example, the folder of its pictures, and the seed of the training."""

    folder: Path
    data: Path
    seed: int

    def require(self) -> None:
        """Raise `ConfigError` unless scripts and pictures are where they should be."""
        wanted = [self.folder / name for name in _SCRIPTS]
        wanted += [self.pictures(region) for region in DATA_CLASSES]
        missing = [str(path) for path in wanted if not path.exists()]
        if missing:
            raise ConfigError(
                f"{missing[0]}: expected the sign example; run the demo in a clone of the "
                "repository, or say where with --examples and --data"
            )

    def pictures(self, region: str) -> Path:
        return self.data / f"{region}.parquet"

    def describe(self, model: Path) -> tuple[Recipe, Model]:
        """Draw the initial model into `model`; returns how it is trained and what it is made of."""
        said = self._run("model.py", "--seed", str(self.seed), "--out", str(model))
        described = msgspec.json.decode(said, type=_Description, strict=True)
        recipe = Recipe(
            pretraining_rounds=described.pretraining_rounds,
            pretraining_settings=described.pretraining_settings,
            joint_rounds=described.joint_rounds,
            joint_settings=described.joint_settings,
            market_rounds=described.market_rounds,
        )
        return recipe, Model(
            tensors=described.tensors, modules=described.modules, initial=described.model
        )

    def write_catalogue(self, home: Home, *, pilot: int | None) -> None:
        """Write the catalogue of a region's pictures into its home."""
        classes = [word for name in DATA_CLASSES[home.region] for word in ("--data-class", name)]
        limit = [] if pilot is None else ["--pilot", str(pilot)]
        pictures = str(self.pictures(home.region))
        self._run("signs.py", pictures, "--out", str(home.catalogue), *classes, *limit)

    def start_training(self, processes: Processes, home: Home) -> str:
        """Start a region's site; returns the name of its process."""
        script = str(self.folder / "train.py")
        name = f"site-{home.region}"
        processes.start(name, "train", script, "--home", str(home.path))
        return name

    def start_measuring(
        self, processes: Processes, home: Home, *, what: str, model: Path, state: str
    ) -> str:
        """Start one measurement behind the region's own fence; returns the process's name.

        `what` is `before`, `regional`, `global` or `local`, `model` a model file, and `state` the
        digest of a regional state in the region's home, or empty.
        """
        name = f"measure-{home.region}-{what}"
        own = state_path(home.site / "state", ids.digest(state)) if state else None
        processes.start(
            name,
            "train",
            str(self.folder / "measure.py"),
            what,
            *("--model", str(model)),
            *(("--state", str(own)) if own else ()),
            *("--seed", str(self.seed)),
            *("--out", str(_result(home, what))),
            *("--home", str(home.path)),
        )
        return name

    def measured(self, home: Home, what: str) -> float:
        """What a measurement found, per cent."""
        return float(msgspec.json.decode(_result(home, what).read_bytes(), type=float))

    def _run(self, script: str, *arguments: str) -> bytes:
        command = [sys.executable, str(self.folder / script), *arguments]
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")[-1200:]
            raise ConfigError(f"{script} failed with status {done.returncode}:\n{said}")
        return done.stdout


def _result(home: Home, what: str) -> Path:
    return home.site / f"measured-{what}.json"
