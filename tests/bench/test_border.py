"""The border's benchmark runs as `make bench` runs it; no figure of it is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_BENCHMARK = Path(__file__).parents[2] / "bench" / "border.py"


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory whose path is short: Unix sockets will lie in it."""
    with tempfile.TemporaryDirectory(prefix="rf-") as directory:
        yield Path(directory)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_measures_a_tiny_model_and_removes_what_it_made(scratch: Path, tmp_path: Path) -> None:
    # given a directory for its federations
    figures = tmp_path / "figures.json"

    # when the benchmark runs one counted round of each of its models
    arguments = ["--codec", "int8", "--parameters", "20000", "--rounds", "1"]
    subprocess.run(
        [sys.executable, _BENCHMARK, *arguments, "--directory", scratch, "--out", figures],
        check=True,
        timeout=500,
    )

    # then the figures are there, every byte of the payloads was counted, and nothing is left
    found = json.loads(figures.read_text())
    assert found["small"]["wall_s"] > 0
    case = found["codecs"]["int8"]
    assert {"wall_s", "cpu_s", "coordinator_rss_mb", "gateway_rss_mb", "floor_s"} <= set(case)
    assert case["up_bytes"] >= 4 * 20_000
    assert case["bytes"] == case["up_bytes"] + case["down_bytes"]
    assert list(scratch.iterdir()) == []
