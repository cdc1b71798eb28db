"""Reads one region's traffic signs, from the sample beside this file or from the full set.

Both are Parquet files of the same columns (`data/README.md`), so the same code reads them: it
keeps the labels that `labels.csv` names for the region and tells validation from training
pictures by their group.  A region opens its own file and no other; its catalogue says which.

    python examples/signs/signs.py examples/signs/data/cn.parquet --out cn/catalogue.json
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

from ringfence.core import canonical
from ringfence.core.catalogue import Catalogue, Subjects, parse_catalogue
from ringfence.core.errors import StateError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
JURISDICTIONS = {"de": "EU", "be": "EU", "us": "US", "cn": "CN"}
LABELS = Path(__file__).parent / "data" / "labels.csv"
VALIDATION_EVERY = 9
"""One group in nine of the training pictures is for validation: 250 of 2,250 pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures and their labels.

    Shape: `images` N × 32 × 32 × 3, uint8; `labels` N, int64, rows of `labels.csv`.
    """

    images: np.ndarray
    labels: np.ndarray


def label_space(labels: Path = LABELS) -> tuple[str, ...]:
    """Every label that some region keeps, in the fixed order that numbers the model's outputs."""
    with labels.open(newline="", encoding="utf-8") as file:
        return tuple(row["label"] for row in csv.DictReader(file))


def kept_labels(region: str, labels: Path = LABELS) -> frozenset[str]:
    """Labels of which `region` has at least 50 training pictures in the full set."""
    with labels.open(newline="", encoding="utf-8") as file:
        return frozenset(row["label"] for row in csv.DictReader(file) if row[region])


def is_validation(group: str) -> bool:
    """Whether the training pictures of `group`, one physical sign or track, are for validation.

    The group's name alone decides.  So no sign stands on two sides, and a picture of the sample
    stands on the same side in the full set.
    """
    draw = hashlib.sha256(b"ringfence/signs/validation/" + group.encode()).digest()
    return int.from_bytes(draw[:8], "big") % VALIDATION_EVERY == 0


def rows_of(
    rows: Collection[Mapping[str, str]], *, split: Split, labels: Collection[str]
) -> list[int]:
    """Indices of the rows of one split and of `labels`, in file order.

    Rows need `label`, `split` (train or test) and `group`.
    """
    return [
        index
        for index, row in enumerate(rows)
        if row["label"] in labels and _split(row["split"], row["group"]) == split
    ]


def read_pictures(data: Path, *, split: Split, limit: int | None = None) -> Pictures:
    """Read the first `limit` pictures of a split; rows are shuffled, so they are a fair part.

    Shape: N × 32 × 32 × 3.  Raises: ValueError when the file is not one region's.
    """
    rows = parquet.read_table(data, columns=["region", "label", "split", "group"]).to_pylist()
    chosen = rows_of(rows, split=split, labels=kept_labels(_region(data, rows)))[:limit]
    images = parquet.read_table(data, columns=["image"]).column("image").take(chosen).to_pylist()
    number = {label: index for index, label in enumerate(label_space())}
    return Pictures(
        images=np.stack([_decode(image) for image in images]),
        labels=np.array([number[rows[index]["label"]] for index in chosen], dtype=np.int64),
    )


def write_catalogue(
    data: Path, out: Path, *, data_classes: tuple[str, ...], pilot: int | None = None
) -> Catalogue:
    """Write the catalogue of a region's data file to `out` and return it.

    `pilot` gives the region only its first so many training pictures.
    """
    rows = parquet.read_table(data, columns=["region", "label", "split", "group"]).to_pylist()
    region = _region(data, rows)
    labels = kept_labels(region)
    counts = {split: len(rows_of(rows, split=split, labels=labels)) for split in SPLITS}
    if pilot is not None:
        counts["train"] = min(pilot, counts["train"])
    catalogue = Catalogue(
        region=region,
        jurisdiction=JURISDICTIONS[region],
        data_classes=data_classes,
        counts=counts,
        digest=_digest(data),
        data=os.path.relpath(data, out.parent),
        # Cut-out signs and the kind of each: nobody is in the picture, and no place is told.
        subjects=Subjects(people=0, sensitive_people=0, devices=0),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(canonical.to_bytes(catalogue))
    return catalogue


def open_catalogue(path: Path, *, split: Split) -> Pictures:
    """Read the pictures of one split that a catalogue names, and no more than it counts.

    Raises: StateError when the data file is not the one that was catalogued.
    """
    catalogue, _ = parse_catalogue(path.read_bytes())
    data = path.parent / catalogue.data
    came = _digest(data)
    if came != catalogue.digest:
        raise StateError(
            f"{data}: expected {catalogue.digest} as catalogued, got {came}; restore the file or "
            "write the catalogue anew"
        )
    return read_pictures(data, split=split, limit=catalogue.counts[split])


def _region(data: Path, rows: Collection[Mapping[str, str]]) -> str:
    regions = {row["region"] for row in rows}
    if len(regions) != 1 or not regions <= JURISDICTIONS.keys():
        raise ValueError(
            f"{data}: expected pictures of one region of {sorted(JURISDICTIONS)}, "
            f"got {sorted(regions)}; give one region's own file"
        )
    return str(regions.pop())


def _split(split: str, group: str) -> Split:
    if split == "test":
        return "test"
    return "validation" if is_validation(group) else "train"


def _decode(image: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(image)) as picture:
        return np.asarray(picture.convert("RGB"))


def _digest(data: Path) -> str:
    with data.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the catalogue of a region's signs.")
    parser.add_argument("data", type=Path, help="the region's own Parquet file")
    parser.add_argument("--out", type=Path, required=True, help="catalogue.json to write")
    parser.add_argument("--data-class", action="append", default=[], help="such as 'personal'")
    parser.add_argument("--pilot", type=int, help="use only so many training pictures")
    given = parser.parse_args()
    catalogue = write_catalogue(
        given.data, given.out, data_classes=tuple(given.data_class), pilot=given.pilot
    )
    print(canonical.to_bytes(catalogue).decode())


if __name__ == "__main__":
    main()
