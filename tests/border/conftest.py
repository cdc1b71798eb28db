from __future__ import annotations

from tests.places.world import founded, template, world

__all__ = ["founded", "template", "world"]
