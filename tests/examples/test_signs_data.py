"""The sample of signs: what it holds, how it is read, and how it is made from the full set."""

from __future__ import annotations

import io
from pathlib import Path

import make_sample
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import signs
from PIL import Image

from ringfence.core.catalogue import parse_catalogue
from ringfence.core.errors import StateError

DATA = signs.LABELS.parent
REGIONS = ("be", "cn", "de", "us")


@pytest.mark.parametrize("region", REGIONS)
def test_the_sample_holds_a_fair_part_of_each_region(region: str) -> None:
    # given the region's own file
    data = DATA / f"{region}.parquet"
    # when each split is read
    splits = {split: signs.read_pictures(data, split=split) for split in signs.SPLITS}
    # then it has the promised sizes, and every label that the region keeps is trained
    assert {split: len(part.labels) for split, part in splits.items()} == make_sample.SIZES
    assert splits["train"].images.shape == (2000, 32, 32, 3)
    assert splits["train"].images.dtype == np.uint8
    space = signs.label_space()
    assert {space[n] for n in splits["train"].labels} == signs.kept_labels(region)


@pytest.mark.parametrize("region", REGIONS)
def test_no_sign_stands_on_two_sides_of_the_sample(region: str) -> None:
    # given the group of every row
    columns = ["label", "split", "group"]
    rows = parquet.read_table(DATA / f"{region}.parquet", columns=columns).to_pylist()
    # when the rows are split
    groups = [
        {rows[i]["group"] for i in signs.rows_of(rows, split=split, labels=signs.label_space())}
        for split in signs.SPLITS
    ]
    # then no group is in two splits
    assert len(set().union(*groups)) == sum(map(len, groups))


def test_the_sample_stays_within_the_repositorys_limit() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 24_000_000


def test_the_label_space_is_the_union_of_what_the_regions_keep() -> None:
    # given the labels of each region
    kept = [signs.kept_labels(region) for region in REGIONS]
    # when they are put together
    union = sorted(frozenset().union(*kept))
    # then they are the model's outputs, in that order
    assert tuple(union) == signs.label_space()


def test_a_catalogue_tells_what_a_region_has_and_shows_nothing(tmp_path: Path) -> None:
    # given a region's file and a home for its catalogue
    out = tmp_path / "cn" / "catalogue.json"
    # when the catalogue is written
    written = signs.write_catalogue(DATA / "cn.parquet", out, data_classes=("important",))
    # then it says whose data, under which law, of which kind and how many
    read, _ = parse_catalogue(out.read_bytes())
    assert read == written
    assert (read.region, read.jurisdiction, read.data_classes) == ("cn", "CN", ("important",))
    assert read.counts == make_sample.SIZES
    assert len(signs.open_catalogue(out, split="validation").labels) == 250


def test_a_pilots_catalogue_opens_only_so_many_training_pictures(tmp_path: Path) -> None:
    # given a catalogue for the start of a pilot
    out = tmp_path / "catalogue.json"
    signs.write_catalogue(DATA / "cn.parquet", out, data_classes=(), pilot=200)
    # when its training pictures are opened
    pilot = signs.open_catalogue(out, split="train")
    # then they are the first 200 of the region's own
    whole = signs.read_pictures(DATA / "cn.parquet", split="train")
    np.testing.assert_array_equal(pilot.images, whole.images[:200])


def test_refuses_a_data_file_that_is_not_the_catalogued_one(tmp_path: Path) -> None:
    # given a catalogued file that grew by one byte
    data = tmp_path / "us.parquet"
    data.write_bytes((DATA / "us.parquet").read_bytes())
    signs.write_catalogue(data, tmp_path / "catalogue.json", data_classes=())
    with data.open("ab") as file:
        file.write(b"\0")
    # when the catalogue is opened
    with pytest.raises(StateError, match="as catalogued"):
        signs.open_catalogue(tmp_path / "catalogue.json", split="train")


def test_refuses_a_file_of_two_regions(tmp_path: Path) -> None:
    # given a file in which regions are mixed
    _write_full_set(tmp_path / "de.parquet", regions=("de", "be"))
    # when it is read
    with pytest.raises(ValueError, match="one region"):
        signs.read_pictures(tmp_path / "de.parquet", split="train")


def test_the_sample_keeps_every_pixel_and_side_of_the_full_set(tmp_path: Path) -> None:
    # given a full set of one region, with a label that is too rare to keep
    full, sample = tmp_path / "full", tmp_path / "sample"
    full.mkdir()
    sample.mkdir()
    for region in make_sample.REGIONS:
        _write_full_set(full / f"{region}.parquet", regions=(region,))
    (full / "labels.csv").write_text("class_id,label,family\n0,dip,warning\n1,stop,priority\n")
    # when its sample is made
    make_sample.write_labels(full, sample / "labels.csv")
    make_sample.write_region(
        full / "us.parquet", sample / "us.parquet", labels=sample / "labels.csv"
    )
    # then the loader reads the same from both
    assert signs.label_space(sample / "labels.csv") == ("stop",)
    for split in signs.SPLITS:
        ours = signs.read_pictures(sample / "us.parquet", split=split)
        theirs = signs.read_pictures(full / "us.parquet", split=split)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def _write_full_set(out: Path, *, regions: tuple[str, ...]) -> None:
    """Sixty training pictures of stop signs, ten of dips, ten test pictures; PNG as in the set."""
    draw = np.random.default_rng(7)
    rows = []
    for number in range(80):
        picture = io.BytesIO()
        tiles = draw.integers(0, 256, (2, 2, 3), np.uint8)
        Image.fromarray(np.kron(tiles, np.ones((16, 16, 1), np.uint8))).save(picture, "PNG")
        rows.append(
            {
                "image": picture.getvalue(),
                "label": "dip" if number % 8 == 0 else "stop",
                "region": regions[number % len(regions)],
                "split": "test" if number % 8 == 1 else "train",
                "group": f"sign {number // 2}",
            }
        )
    parquet.write_table(pa.Table.from_pylist(rows), out)
