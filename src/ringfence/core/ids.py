"""Names that look alike and must not be mixed up."""

from __future__ import annotations

import re
from typing import NewType

from ringfence.core.errors import FormatError

RegionId = NewType("RegionId", str)
LineageId = NewType("LineageId", str)
Jurisdiction = NewType("Jurisdiction", str)
Digest = NewType("Digest", str)
"""`algorithm:lowercase-hex`; the algorithm says how the bytes were hashed (`core.chunks`)."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_JURISDICTION = re.compile(r"[A-Z]{2}")
_DIGEST = re.compile(r"(sha256|blake3|chunked-blake3):[0-9a-f]{64}")


def region_id(text: str) -> RegionId:
    """Parse a region's id: lower-case letters, digits and hyphens, at most 32."""
    return RegionId(_match(_NAME, text, "region id, such as 'cn'"))


def lineage_id(text: str) -> LineageId:
    """Parse a lineage's id: lower-case letters, digits and hyphens, at most 32."""
    return LineageId(_match(_NAME, text, "lineage id, such as 'us-market'"))


def jurisdiction(text: str) -> Jurisdiction:
    """Parse an ISO 3166-1 alpha-2 code, or `EU` (exceptionally reserved there)."""
    return Jurisdiction(_match(_JURISDICTION, text, "jurisdiction, such as 'CN'"))


def digest(text: str) -> Digest:
    """Parse a digest; raises `FormatError` when the algorithm or the length is unknown."""
    return Digest(_match(_DIGEST, text, "digest, such as 'blake3:<64 hex>'"))


def _match(pattern: re.Pattern[str], text: str, expected: str) -> str:
    if not pattern.fullmatch(text):
        raise FormatError(f"expected a {expected}; got {text[:80]!r}")
    return text
