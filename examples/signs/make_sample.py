"""Makes the sample in `data/` from the full sign set: a fair part of each region's pictures.

    python examples/signs/make_sample.py PATH/TO/signs examples/signs/data

The full set's rows are shuffled, so the first rows of each split are a fair sample.  Pictures are
stored as lossless WebP, a fifth smaller than PNG and equal in every pixel.  Deterministic: the same
input and the same versions of pyarrow and Pillow give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import signs
from PIL import Image

REGIONS = ("de", "be", "us", "cn")
SIZES: dict[signs.Split, int] = {"train": 2000, "validation": 250, "test": 500}
LEAST_TRAINING_PICTURES = 50


def write_labels(source: Path, out: Path) -> None:
    """Write `labels.csv`: the union of the labels that the regions keep, sorted, with counts.

    A region's column holds its training pictures of the label in the full set (validation
    included) where there are at least 50, and is empty where the region does not use the label.
    """
    counts = {region: _training_counts(source / f"{region}.parquet") for region in REGIONS}
    families: dict[str, str] = {}
    with (source / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            families[row["label"]] = row["family"]
    kept = sorted(set().union(*counts.values()))
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class_id", "label", "family", *REGIONS])
        for number, label in enumerate(kept):
            numbers = [counts[region].get(label, "") for region in REGIONS]
            table.writerow([number, label, families[label], *numbers])


def write_region(source: Path, out: Path, *, labels: Path) -> None:
    """Write the sample of one region's file, its rows in the full set's order."""
    table = parquet.read_table(source)
    rows = table.select(["label", "split", "group"]).to_pylist()
    kept = signs.kept_labels(out.stem, labels)
    chosen: list[int] = []
    for split, size in SIZES.items():
        chosen += signs.rows_of(rows, split=split, labels=kept)[:size]
    part = table.take(sorted(chosen))
    images = pa.array([_webp(image) for image in part.column("image").to_pylist()], pa.binary())
    part = part.set_column(part.schema.get_field_index("image"), "image", images)
    # Pictures are compressed already; the words beside them repeat.
    words = [name for name in part.column_names if name != "image"]
    parquet.write_table(
        part,
        out,
        use_dictionary=words,
        compression={name: "zstd" if name in words else "none" for name in part.column_names},
        write_statistics=False,
    )


def _training_counts(data: Path) -> dict[str, int]:
    rows = parquet.read_table(data, columns=["label", "split"]).to_pylist()
    counts = Counter(row["label"] for row in rows if row["split"] == "train")
    return {label: n for label, n in counts.items() if n >= LEAST_TRAINING_PICTURES}


def _webp(image: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(image)) as picture:
        picture.convert("RGB").save(out, "WEBP", lossless=True, quality=100, method=6)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the sample from the full sign set.")
    parser.add_argument("source", type=Path, help="folder of the full set")
    parser.add_argument("out", type=Path, help="folder of the sample")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    labels = given.out / "labels.csv"
    write_labels(given.source, labels)
    for region in REGIONS:
        write_region(
            given.source / f"{region}.parquet", given.out / f"{region}.parquet", labels=labels
        )


if __name__ == "__main__":
    main()
