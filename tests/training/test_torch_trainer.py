"""Rounds over a real socket: what travels, what stays at home, and what repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.training.training_world import (
    Net,
    digest,
    federated,
    gateway,
    net,
    order,
    pictures,
    shuffled,
    train_rounds,
    trainer,
)
from torch import nn

import ringfence.torch as rt
from ringfence.core.ids import Digest
from ringfence.core.site_wire import Evaluate
from ringfence.core.tensors import Layout
from ringfence.site.state import load_state


def test_normalisation_stays_in_the_region_and_the_rest_travels(tmp_path: Path) -> None:
    # given a site with a normalised module
    # when it trains a round
    [(message, update_P)] = train_rounds(tmp_path, trainer(), order())
    # then the update is the federated tensors alone, and they have moved
    layout = federated(net())
    assert len(update_P) == layout.elements
    assert np.abs(update_P).max() > 0
    assert message.examples == 40
    # and the region keeps the whole of its normalisation
    state = load_state(tmp_path / "site" / "state", Digest(message.state_out))
    assert set(state) == _regional(rt.describe(net()))
    assert state["body.1.num_batches_tracked"] == 5
    assert np.abs(state["body.1.weight"] - 1).max() > 0


def test_a_round_trained_again_gives_the_same_bytes(tmp_path: Path) -> None:
    # given a site that was killed before it handed its round over
    [(first, first_P)] = train_rounds(tmp_path / "first", trainer(), order(3))
    # when a fresh process trains that round
    [(again, again_P)] = train_rounds(tmp_path / "again", trainer(), order(3))
    # then update and state are the same in every bit
    assert first_P.tobytes() == again_P.tobytes()
    assert first.state_out == again.state_out


def test_each_round_shuffles_anew(tmp_path: Path) -> None:
    # given two rounds from equal weights and equal state
    # when both are trained
    [(_, first_P), (_, second_P)] = train_rounds(tmp_path, trainer(), order(1), order(2))
    # then they saw the pictures in another order
    assert first_P.tobytes() != second_P.tobytes()


def test_state_goes_on_from_the_lineages_own(tmp_path: Path) -> None:
    # given a lineage whose first round gave a state
    [(first, _)] = train_rounds(tmp_path, trainer(), order(0))
    (tmp_path / "model.safetensors").unlink()
    # when its second round starts from that state
    [(second, _)] = train_rounds(tmp_path, trainer(), order(1, state_in=first.state_out))
    # then the counter of batches goes on
    state = load_state(tmp_path / "site" / "state", Digest(second.state_out))
    assert state["body.1.num_batches_tracked"] == 10


def test_nothing_of_one_lineage_shows_in_another(tmp_path: Path) -> None:
    # given a site that trains us-market alone
    [(alone, alone_P)] = train_rounds(tmp_path / "alone", trainer(), order(lineage="us-market"))
    # when the same process trains world before it
    [_, (after, after_P)] = train_rounds(
        tmp_path / "both", trainer(), order(), order(lineage="us-market")
    )
    # then us-market gets the same in every bit
    assert alone_P.tobytes() == after_P.tobytes()
    assert alone.state_out == after.state_out


def test_a_frozen_module_is_not_trained(tmp_path: Path) -> None:
    # given an agreement that freezes the body
    module = net()
    model = rt.describe(module).select({"body", "head"})
    update = model.select({"head"})
    frozen = rt.take(module, ["body.0.weight", "body.0.bias"])
    weights = rt.take(module, [spec.name for spec in model.specs])
    # when a round is trained
    with gateway(tmp_path, weights, model_layout=model, update_layout=update) as region:
        answers = region.serve([order(layout=update)])
        site = rt.Trainer(module, shuffled(), nn.CrossEntropyLoss())
        with region.session() as session:
            for round_ in session.rounds():
                trained = site.train(round_, federated=session.federated)
                round_.submit(trained.tensors, examples=trained.examples, state=trained.state)
        [(_, update_P)] = answers.result(timeout=60)
    # then the body stands, and the head alone travels
    for name, array in frozen.items():
        np.testing.assert_array_equal(rt.take(module, [name])[name], array)
    assert len(update_P) == update.elements
    assert set(trained.state) == _regional(rt.describe(module))


def test_a_candidate_is_measured_with_the_regions_own_statistics(tmp_path: Path) -> None:
    # given a trainer that has gone on training since the candidate was made
    module: Net = net()
    site = rt.Trainer(module, shuffled(), nn.CrossEntropyLoss())
    batch = pictures().tensors
    evaluate = site.evaluator([batch], unlabelled=[batch[0]])
    rt.fit(module, shuffled(), nn.CrossEntropyLoss(), recipe=rt.Recipe(steps=9, learning_rate=0.1))
    layout = federated(module)
    candidate = rt.take(module, [spec.name for spec in layout.specs])
    # when the gateway wants the candidate measured
    question = Evaluate(lineage="world", round=0, candidate=digest("candidate"), state_in="")
    with gateway(tmp_path, candidate, model_layout=layout, update_layout=layout) as region:
        answers = region.serve([question])
        with region.session(evaluate) as session:
            assert list(session.rounds()) == []
        [measured] = answers.result(timeout=60)
    # then it is what the module scores with normalisation as it began and statistics from here
    fresh = net()
    rt.load(fresh, candidate)
    rt.reestimate_statistics(fresh, [batch[0]])
    assert measured.metrics == {"accuracy": rt.measure_accuracy(fresh, [batch]).percent}
    assert measured.examples == 40


def _regional(layout: Layout) -> set[str]:
    return {spec.name for spec in layout.specs if spec.module == "norm"}
