"""A region's catalogue: which data a site trains on, by counts and digest, never by content."""

from __future__ import annotations

import hashlib

import msgspec

from ringfence.core import canonical, ids
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest

_LIMIT_BYTES = 64 * 1024


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one region trains on.

    `counts` has at least `train`; `digest` is that of the data file `data`, whose path is relative
    to the catalogue's own folder.  The gateway reads the catalogue and never the data.
    """

    region: str
    jurisdiction: str
    data_classes: tuple[str, ...]
    counts: dict[str, int]
    digest: str
    data: str

    def __post_init__(self) -> None:
        ids.region_id(self.region)
        ids.jurisdiction(self.jurisdiction)
        ids.digest(self.digest)
        if self.counts.get("train", 0) < 1 or min(self.counts.values()) < 0:
            raise FormatError(
                f"catalogue of {self.region}: expected counts with 'train' of at least 1"
            )


def parse_catalogue(data: bytes) -> tuple[Catalogue, Digest]:
    """Parse `catalogue.json`; returns it with the SHA-256 of its bytes.

    Raises: FormatError when a field is unknown, missing or malformed.
    """
    catalogue = canonical.from_bytes(data, Catalogue, what="catalogue", limit_bytes=_LIMIT_BYTES)
    return catalogue, Digest("sha256:" + hashlib.sha256(data).hexdigest())
