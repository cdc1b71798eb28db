from __future__ import annotations

import pytest
from tests.trust.trust_world import World, new_world


@pytest.fixture(scope="session")
def world() -> World:
    """Two regions; immutable, so every test may share them."""
    return new_world()
