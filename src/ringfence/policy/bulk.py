"""From how many American people or devices on a category of data is bulk (28 CFR 202.205)."""

from __future__ import annotations

from collections.abc import Iterable

LEAST_LINE = 1_000
"""The lowest line of all categories but genomes; what is not said to be less is counted with it."""

IDENTIFIERS_LINE = 100_000
"""Covered personal identifiers have the highest line of all."""

_LINES = {"biometric": LEAST_LINE, "geographic": LEAST_LINE, "sensitive": LEAST_LINE}
"""`sensitive` may hold biometric identifiers, so that it takes their line."""


def bulk_line(classes: Iterable[str]) -> int:
    """The lowest line among the categories present: mixed sets add up against it (section 8)."""
    lines = (_LINES.get(name, IDENTIFIERS_LINE) for name in classes)
    return min(lines, default=IDENTIFIERS_LINE)
