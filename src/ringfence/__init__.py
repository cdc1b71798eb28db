"""Ringfence trains one model across borders that its data may not cross."""

__version__ = "0.1.0"
