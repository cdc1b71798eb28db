from __future__ import annotations

from tests.places.world import (
    evaluating,
    evaluating_template,
    founded,
    released,
    released_template,
    template,
    world,
)

__all__ = [
    "evaluating",
    "evaluating_template",
    "founded",
    "released",
    "released_template",
    "template",
    "world",
]
