from collections.abc import Iterator

import pytest
from tests.core.tensor_world import close_memory_files


@pytest.fixture(autouse=True)
def _no_file_is_left() -> Iterator[None]:
    yield
    close_memory_files()
