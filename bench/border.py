"""What a round over the border costs, beside the floor of the same bytes: `make bench`.

Four regions and a hub train one model as real processes over mutual TLS 1.3 on loopback, with
everything on: checks, clipping, encoding, law, signatures, logs, spooling, merging, releases.
Sites only add a constant, in empty network namespaces, and nothing is evaluated.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from border_federation import EXAMPLES, Size
from border_floor import Traffic, measure_floor
from border_run import Measured, measure
from ringfence.codec.format import PayloadFormat
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import Codec

_ARRAYS = 200
_ROUNDS = 3
_SMALL = Size(parameters=1_000_000, arrays=40)
_SMALL_ROUNDS = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One federation's figures and the floor that was measured just before it."""

    codec: Codec
    size: Size
    measured: Measured
    floor_s: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.codec}, {self.size.model_bytes / 1e6:.0f} MB"

    @property
    def cpu_s(self) -> float:
        return sum(self.measured.cpu_s.values())

    @property
    def bytes(self) -> int:
        return self.measured.up_bytes + self.measured.down_bytes

    def peak_mb(self, part: str) -> float:
        """Largest peak of the processes whose name starts with `part`."""
        memory = self.measured.memory
        return max(each.peak_mb for name, each in memory.items() if name.startswith(part))

    def to_json(self) -> dict[str, object]:
        measured = self.measured
        return {
            "wall_s": round(measured.wall_s, 3),
            "cpu_s": round(self.cpu_s, 3),
            "coordinator_rss_mb": round(self.peak_mb("coordinator")),
            "gateway_rss_mb": round(self.peak_mb("gateway")),
            "bytes": self.bytes,
            "floor_s": round(self.floor_s["floor"], 3),
            "up_bytes": measured.up_bytes,
            "down_bytes": measured.down_bytes,
            "load_before": round(measured.load, 2),
            "rounds_s": [round(each, 3) for each in measured.rounds_s],
            "phases_s": _rounded(measured.phases_s),
            "floor_parts_s": _rounded(self.floor_s),
            "cpu_parts_s": _rounded(measured.cpu_s),
            "memory_mb": {
                name: {part: round(value) for part, value in asdict(memory).items()}
                for name, memory in sorted(measured.memory.items())
            },
        }


@app.command()
def main(
    small: Annotated[bool, typer.Option("--small", help="Measure the 4 MB model only.")] = False,
    rounds: Annotated[
        int | None,
        typer.Option(min=1, help=f"Rounds to count; {_ROUNDS}, and {_SMALL_ROUNDS} of the small."),
    ] = None,
    codec: Annotated[
        list[str] | None, typer.Option(help="float32 or int8; may be given twice; both by default.")
    ] = None,
    parameters: Annotated[
        int, typer.Option(min=_ARRAYS, help="Values of the large model.")
    ] = 125_000_000,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where federations are founded and removed; the system's by default."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path(
        "build/bench-border.json"
    ),
) -> None:
    """Measure the border; prints a table and writes the figures as JSON."""
    # What a run founded and started is removed and stopped however the run ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    known: tuple[Codec, ...] = get_args(Codec)
    if unknown := set(codec or ()) - set(known):
        raise typer.BadParameter(f"expected a codec of {known}, got {sorted(unknown)}")
    chosen = () if small else tuple(each for each in known if not codec or each in codec)
    size = Size(parameters=parameters, arrays=_ARRAYS)
    with Progress(console=Console(stderr=True)) as progress:
        large = [_run(each, size, rounds or _ROUNDS, directory, progress) for each in chosen]
        tiny = _run("float32", _SMALL, rounds or _SMALL_ROUNDS, directory, progress)
    figures = {
        "cores": len(os.sched_getaffinity(0)),
        "parameters": size.model_bytes // 4,
        "codecs": {case.codec: case.to_json() for case in large},
        "small": tiny.to_json(),
    }
    Console().print(_table([*large, tiny]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")


def _run(codec: Codec, size: Size, rounds: int, directory: Path | None, progress: Progress) -> Case:
    """Measure one federation, from its founding to its removal."""
    task = progress.add_task(f"{codec}, {size.model_bytes / 1e6:.0f} MB", total=rounds + 1)
    form = PayloadFormat(codec=codec, layout=_layout(size))
    floor_s = measure_floor(
        Traffic(regions=len(EXAMPLES), payload_bytes=form.size_bytes, model_bytes=size.model_bytes)
    )
    scratch = Path(tempfile.mkdtemp(prefix="ringfence-bench-", dir=directory))
    try:
        measured = measure(
            scratch,
            codec=codec,
            size=size,
            rounds=rounds,
            progress=lambda done: progress.update(task, completed=done),
        )
    finally:
        shutil.rmtree(scratch)
    return Case(codec=codec, size=size, measured=measured, floor_s=floor_s)


def _layout(size: Size) -> Layout:
    return Layout(
        specs=tuple(
            TensorSpec(name=f"layer-{i:03}", shape=size.shape, dtype="F32", module="model")
            for i in range(size.arrays)
        )
    )


def _table(cases: list[Case]) -> Table:
    table = Table(title="One round over the border, medians", row_styles=["", "dim"])
    table.add_column("", no_wrap=True)
    for case in cases:
        table.add_column(case.title, justify="right")
    rows: list[tuple[str, Callable[[Case], str]]] = [
        ("wall, s", lambda case: f"{case.measured.wall_s:.2f}"),
        ("floor, s", lambda case: f"{case.floor_s['floor']:.2f}"),
        ("wall / floor", lambda case: f"{case.measured.wall_s / case.floor_s['floor']:.2f}"),
        ("CPU, s", lambda case: f"{case.cpu_s:.2f}"),
        *(
            (f"  {part}", lambda case, part=part: f"{case.measured.cpu_s[part]:.2f}")
            for part in cases[0].measured.cpu_s
        ),
        *(
            (f"{phase}, s", lambda case, phase=phase: f"{case.measured.phases_s[phase]:.2f}")
            for phase in cases[0].measured.phases_s
        ),
        ("coordinator's peak, MB", lambda case: f"{case.peak_mb('coordinator'):.0f}"),
        ("largest gateway's peak, MB", lambda case: f"{case.peak_mb('gateway'):.0f}"),
        ("largest site's peak, MB", lambda case: f"{case.peak_mb('site'):.0f}"),
        ("MB to the hub", lambda case: f"{case.measured.up_bytes / 1e6:.1f}"),
        ("MB from the hub", lambda case: f"{case.measured.down_bytes / 1e6:.1f}"),
        ("load average before", lambda case: f"{case.measured.load:.2f}"),
    ]
    for name, value in rows:
        table.add_row(name, *(value(case) for case in cases))
    return table


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in seconds.items()}


if __name__ == "__main__":
    app()
