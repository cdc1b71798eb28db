"""A failing test shows the end of what every process of its federation has said."""

from collections.abc import Iterator

import pytest
from tests.e2e.processes import open_processes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections += [
            (f"processes of {each.directory}", each.tails()) for each in open_processes()
        ]
    return report
