"""A failing test shows the end of what every process of its federation has said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.processes import open_processes
from tests.e2e.stage import Stage, open_stage


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections += [
            (f"processes of {each.directory}", each.tails()) for each in open_processes()
        ]
    return report


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path / "federation") as opened:
        yield opened
