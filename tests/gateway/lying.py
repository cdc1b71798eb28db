"""A hub that answers some questions in its own way, and the others truthfully."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from tests.places.line import Line


class Lying:
    """The line to such a hub; each of `answers` stands in for the method of its name."""

    def __init__(self, line: Line, **answers: Callable[..., Any]) -> None:
        self._line = line
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return self._answers.get(name) or getattr(self._line, name)


def showing(line: Line, **changes: Any) -> Lying:
    """A hub whose views of a lineage differ from the true ones in some fields."""
    return Lying(
        line, lineage=lambda *asked, **how: replace(line.lineage(*asked, **how), **changes)
    )
