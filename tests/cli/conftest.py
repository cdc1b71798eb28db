"""A sample federation for commands to look at, written once and copied for who changes it."""

import shutil
from pathlib import Path

import pytest
from tests.cli.calling import Outcome, call


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """Where `ringfence init` wrote a sample, which nobody may change, and what it said."""
    path = tmp_path_factory.mktemp("written") / "federation"
    return path, call("init", path, "--json")


@pytest.fixture
def sample(written: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of it; FIFOs and sockets are not there before a process runs."""
    path = tmp_path / "federation"
    shutil.copytree(written[0], path)
    return path
