"""Ringfence trains one model across borders that its data may not cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringfence.site.connect import connect as connect
    from ringfence.site.session import Evaluation as Evaluation

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load what scripts use only when they use it: `import ringfence` alone needs no numpy."""
    if name == "connect":
        from ringfence.site.connect import connect

        return connect
    if name == "Evaluation":
        from ringfence.site.session import Evaluation

        return Evaluation
    raise AttributeError(f"module 'ringfence' has no attribute {name!r}")
