from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.net.border_hub import Border, running
from tests.trust.trust_world import World, new_world


@pytest.fixture(scope="session")
def world() -> World:
    """Two regions: the hub's and another; immutable, so every test may share them."""
    return new_world()


@pytest.fixture
def border(world: World, tmp_path: Path) -> Iterator[Border]:
    """A running border server with an empty hub behind it."""
    with running(world, tmp_path) as border:
        yield border
