from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.site.site_world import Region, new_region

from ringfence.net.site_socket import SiteListener


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    """A region's home with a model in it, and nobody listening yet."""
    with new_region(tmp_path) as made:
        yield made


@pytest.fixture
def listener(region: Region) -> Iterator[SiteListener]:
    """The region's gateway socket, in this process."""
    with SiteListener(region.socket_path) as made:
        yield made
