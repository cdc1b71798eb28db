"""A region's catalogue: which data a site trains on, by counts and digest, never by content."""

from __future__ import annotations

import hashlib

import msgspec

from ringfence.core import canonical, ids
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest
from ringfence.core.terms import DataClass

_LIMIT_BYTES = 64 * 1024
_MOST = 1 << 53
"""Counts stay below what every JSON reader takes exactly."""


class Subjects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many distinct people and devices a data set tells something about.

    `people` are all of them, `sensitive_people` those among them of whom it holds sensitive
    personal information (PIPL Art 28), `devices` the vehicles and other devices that it locates
    (28 CFR 202.242).
    """

    people: int
    sensitive_people: int
    devices: int

    def __post_init__(self) -> None:
        for name in ("people", "sensitive_people", "devices"):
            count = getattr(self, name)
            if not 0 <= count < _MOST:
                raise FormatError(f"subjects: expected {name} of at least 0, got {count}")
        if self.sensitive_people > self.people:
            raise FormatError(
                f"subjects: expected at most {self.people} sensitive_people, as many as there are "
                f"people, got {self.sensitive_people}; count the sensitive among the people"
            )


class Catalogue(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What one region trains on.

    `counts` has at least `train`; `digest` is that of the data file `data`, whose path is relative
    to the catalogue's own folder.  The gateway reads the catalogue and never the data.
    `subjects` None means that nobody has counted them: what the law must know the number for is
    then refused.
    """

    region: str
    jurisdiction: str
    data_classes: tuple[DataClass, ...]
    counts: dict[str, int]
    digest: str
    data: str
    subjects: Subjects | None = None

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
