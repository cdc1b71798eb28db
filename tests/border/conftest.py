from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.border.border_world import BorderOf, Certificates, listening
from tests.places.founding import Founded, Template, swift_directory
from tests.places.world import (
    World,
    evaluating,
    evaluating_template,
    founded,
    opened,
    template,
    world,
)

__all__ = ["evaluating", "evaluating_template", "founded", "template", "world"]


@pytest.fixture(scope="session")
def certificates(founded: Founded) -> Certificates:
    """Certificates of the four regions."""
    return Certificates(founded)


@pytest.fixture
def border(world: World, certificates: Certificates) -> Iterator[BorderOf]:
    """The border of a hub whose first rounds are open."""
    with listening(world, certificates) as border:
        yield border


@pytest.fixture(scope="module")
def shared(
    template: Template, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BorderOf]:
    """The same for attacks that change nothing: each asserts that it did not."""
    with (
        swift_directory(tmp_path_factory.mktemp("shared")) as directory,
        opened(template, directory / "federation") as world,
        listening(world, certificates) as border,
    ):
        yield border
