"""The example's scripts at work: a region that trains, and one that measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import batches
import measure
import model
import numpy as np
import pytest
import recipe
import signs
import torch
from tests.training.training_world import digest, gateway, order

import ringfence.torch as rt
from ringfence.core.ids import Digest
from ringfence.core.site_wire import Evaluate
from ringfence.core.tensorfile import open_tensorfile
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.site.state import load_state

EXAMPLE = Path(signs.__file__).parent
LABELS = len(signs.label_space())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A region at the start of a pilot, with 64 training pictures."""
    return _home(tmp_path_factory.mktemp("cn"), pilot=64)


def test_the_script_trains_and_measures_what_its_gateway_asks_for(home: Path) -> None:
    # given a region's home and gateway, and the initial model
    net = model.build(LABELS)
    layout = rt.describe(net).select({"body", "head"})
    weights = rt.take(net, [spec.name for spec in layout.specs])
    work = [
        order(layout=layout, settings={"steps": 2, "learning_rate": 0.05}),
        Evaluate(lineage="world", round=0, candidate=digest("candidate"), state_in=""),
    ]
    # when the script runs as a site does
    with gateway(home, weights, model_layout=layout, update_layout=layout) as region:
        answers = region.serve(work)
        places = {"RINGFENCE_HOME": str(home), "RINGFENCE_SOCKET": str(home / "run" / "site.sock")}
        script = subprocess.run(
            [sys.executable, EXAMPLE / "train.py"],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
        )
    # then it hands over an update and a measurement, and keeps its normalisation
    assert script.returncode == 0, script.stderr
    (message, update_P), measured = answers.result(timeout=60)
    assert message.examples == 64
    assert np.isfinite(update_P).all()
    assert np.abs(update_P).max() > 0
    state = load_state(home / "site" / "state", Digest(message.state_out))
    assert {name.split(".")[-1] for name in state} >= {"running_mean", "num_batches_tracked"}
    assert measured.examples == 250
    assert 0 <= measured.metrics["accuracy"] <= 100


def test_at_most_ten_lines_of_the_script_are_ours() -> None:
    # given the training script
    lines = (EXAMPLE / "train.py").read_text().splitlines()
    # when the lines are counted that speak of Ringfence, its trainer, session or rounds
    code = [line for line in lines[lines.index("import os") :] if line.strip()]
    ours = [line for line in code if any(word in line for word in ("ringfence", " # "))]
    # then they are as few as the readme says
    assert len(ours) <= 10


def test_the_initial_model_comes_with_what_an_agreement_says_of_it(tmp_path: Path) -> None:
    # given a place for the model file
    out = tmp_path / "initial.safetensors"
    # when it is drawn
    command = [sys.executable, EXAMPLE / "model.py", "--seed", "3", "--out", out]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    # then every tensor has a module with a placement, and the file holds what travels
    assert {tensor["module"] for tensor in said["tensors"]} == set(said["modules"])
    specs = [
        TensorSpec(**{**tensor, "shape": tuple(tensor["shape"])})
        for tensor in said["tensors"]
        if said["modules"][tensor["module"]] == "federated"
    ]
    with open_tensorfile(out) as file:
        file.check_layout(Layout(specs=tuple(specs)))
    # and it is the model of that seed
    weights = rt.take(model.build(LABELS, seed=3), [spec.name for spec in specs])
    for name, tensor in measure.read_tensors(out).items():
        np.testing.assert_array_equal(tensor, weights[name])


def test_the_recogniser_is_small_and_names_every_label() -> None:
    # given a fresh recogniser
    net = model.build(LABELS)
    # when it looks at two pictures
    outputs = net.eval()(torch.rand(2, 3, 32, 32))
    # then it has a number for each label, from three blocks of two convolutions
    assert outputs.shape == (2, LABELS)
    channels = [m.out_channels for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert channels == [24, 24, 48, 48, 96, 96]


def test_pictures_are_shaken_the_same_way_under_the_same_seed() -> None:
    # given some pictures
    images = torch.rand(4, 3, 32, 32)
    # when they are shaken twice under one seed
    shaken = []
    for _ in range(2):
        rt.seed_everything("shake")
        shaken.append(batches.shake(images))
    # then both are the same, other than before, and still pictures
    assert torch.equal(*shaken)
    assert not torch.allclose(shaken[0], images, atol=0.05)
    assert shaken[0].shape == images.shape
    assert 0 <= shaken[0].min() <= shaken[0].max() <= 1


def test_measuring_looks_at_every_picture_once_as_it_is() -> None:
    # given a region's validation pictures
    pictures = signs.read_pictures(EXAMPLE / "data" / "us.parquet", split="validation")
    # when they come as plain batches
    images, labels = map(torch.cat, zip(*batches.plain_batches(pictures), strict=True))
    # then nothing is missing, moved or out of order
    assert labels.tolist() == pictures.labels.tolist()
    np.testing.assert_array_equal((images * 255).round().permute(0, 2, 3, 1), pictures.images)


def test_a_few_local_steps_make_a_release_a_regions_own(home: Path) -> None:
    # given a pilot region, and a release that never saw its signs
    region = measure.Region(home / "catalogue.json", seed=0)
    weights = rt.take(model.build(LABELS), [s.name for s in _federated().specs])
    # when the release and the regional model made from it are measured
    before = measure.measure(region, "before", weights, None)
    regional = measure.measure(region, "regional", weights, None)
    again = measure.measure(region, "regional", weights, None)
    # then the region's own model knows its signs better, and the same in every run
    assert before < 10 < regional
    assert regional == again


def test_training_alone_has_as_many_steps_as_the_rounds_and_the_fine_tuning(
    tmp_path: Path,
) -> None:
    # given a region with few pictures, and the network whose normalisation counts its batches
    region = measure.Region(_home(tmp_path, pilot=4) / "catalogue.json", seed=0)
    weights = rt.take(model.build(LABELS), [s.name for s in _federated().specs])
    net = region.open(weights, {})
    # when it trains alone
    measure.measure(region, "local", weights, None)
    # then it took every step that a region takes in the joint rounds and behind them
    rounds_steps = recipe.JOINT.rounds * recipe.JOINT.each.steps
    taken = int(net.state_dict()["body.0.1.num_batches_tracked"])
    assert taken == rounds_steps + region.fine_tuning().steps


def _home(home: Path, *, pilot: int) -> Path:
    data = EXAMPLE / "data" / "cn.parquet"
    signs.write_catalogue(data, home / "catalogue.json", data_classes=(), pilot=pilot)
    return home


def _federated() -> Layout:
    return rt.describe(model.build(LABELS)).select({"body", "head"})
