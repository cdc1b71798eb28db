"""The local loop against arithmetic done by hand."""

from __future__ import annotations

import pytest
import torch
from tests.training.training_world import net, pictures, shuffled
from torch import nn

import ringfence.torch as rt
from ringfence.core.errors import ConfigError, NotFiniteError


class Point(nn.Module):
    """One number, whose loss is (x - target)²: its gradient is 2 (x - target)."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor(10.0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.x.expand(len(inputs))


def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return ((outputs - targets) ** 2).mean()


ZEROS = [(torch.zeros(4), torch.zeros(4))]


def recipe(**changes: float) -> rt.Recipe:
    return rt.Recipe(**{"steps": 2, "learning_rate": 0.1, "momentum": 0.0, **changes})  # type: ignore[arg-type]


def test_plain_steps_follow_the_gradient() -> None:
    # given a point at 10 and a target at 0
    point = Point()
    # when it takes two steps of 0.1: x - 0.1 · 2x each
    rt.fit(point, ZEROS, squared, recipe=recipe())
    # then it stands at 10 · 0.8²
    assert point.x.item() == pytest.approx(6.4)


def test_momentum_carries_the_last_step_on() -> None:
    # given a point at 10
    point = Point()
    # when it steps twice with momentum 0.5
    rt.fit(point, ZEROS, squared, recipe=recipe(momentum=0.5))
    # then the second step is 0.1 · (0.5 · 20 + 16)
    assert point.x.item() == pytest.approx(8 - 2.6)


def test_the_learning_rate_falls_in_a_straight_line() -> None:
    # given a point at 10
    point = Point()
    # when its rate falls from 0.1 towards 0 over two steps: 0.1, then 0.05
    rt.fit(point, ZEROS, squared, recipe=recipe(final_share=0))
    # then it stands at 10 · 0.8 · 0.9
    assert point.x.item() == pytest.approx(7.2)


def test_fedprox_draws_back_to_the_start() -> None:
    # given a point at 10
    point = Point()
    # when it steps twice with μ = 1: the second gradient is 16 + (8 - 10)
    rt.fit(point, ZEROS, squared, recipe=recipe(proximal=1.0), anchored=["x"])
    # then it stands at 8 - 0.1 · 14
    assert point.x.item() == pytest.approx(6.6)


def test_fedprox_leaves_regional_parameters_free() -> None:
    # given a point that is not anchored
    point = Point()
    # when it trains with μ = 1
    rt.fit(point, ZEROS, squared, recipe=recipe(proximal=1.0), anchored=["y"])
    # then it goes as without
    assert point.x.item() == pytest.approx(6.4)


def test_fedprox_with_mu_zero_is_fedavg_bit_for_bit() -> None:
    # given two equal modules
    plain, proximal = net(), net()
    # when one trains plainly and one with μ = 0
    for module, anchored in ((plain, ()), (proximal, list(proximal.state_dict()))):
        rt.seed_everything("equal")
        rt.fit(module, shuffled(), nn.CrossEntropyLoss(), recipe=recipe(), anchored=anchored)
    # then they are equal in every bit
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, proximal.state_dict()[name])


def test_counts_each_example_once() -> None:
    # given forty pictures in batches of eight
    # when a fit takes 3 batches, and when it goes round the loader more than twice
    some = rt.fit(net(), shuffled(), nn.CrossEntropyLoss(), recipe=recipe(steps=3))
    more = rt.fit(net(), shuffled(), nn.CrossEntropyLoss(), recipe=recipe(steps=11))
    # then it has seen 24 and 40 of them
    assert (some.examples, more.examples) == (24, 40)


def test_learns_to_tell_pictures_apart() -> None:
    # given an untrained module
    module = net()
    # when it trains for sixty steps
    rt.seed_everything(3)
    rt.fit(module, shuffled(), nn.CrossEntropyLoss(), recipe=recipe(steps=60, momentum=0.9))
    # then it names every picture
    batch = [pictures().tensors]
    rt.reestimate_statistics(module, [inputs for inputs, _ in batch])
    assert rt.measure_accuracy(module, batch) == rt.Score(percent=100.0, examples=40)


def test_runs_on_one_thread() -> None:
    # given a process with two
    torch.set_num_threads(2)
    # when something is trained
    rt.fit(Point(), ZEROS, squared, recipe=recipe())
    # then one is left
    assert torch.get_num_threads() == 1


def test_says_when_the_loss_is_no_number() -> None:
    with pytest.raises(NotFiniteError, match="learning rate"):
        rt.fit(Point(), ZEROS, squared, recipe=recipe(steps=200, learning_rate=100.0))


def test_refuses_a_loader_without_batches() -> None:
    with pytest.raises(ConfigError, match="at least one batch"):
        rt.fit(Point(), [], squared, recipe=recipe())


def test_a_recipe_reads_its_own_among_an_agreements_settings() -> None:
    # given settings with a number of the script's own
    settings = {"steps": 7, "learning_rate": 0.05, "proximal": 0.1, "name": "demo"}
    # when the recipe is read
    read = rt.Recipe.from_settings(settings)
    # then it has what concerns it
    assert read == rt.Recipe(steps=7, learning_rate=0.05, proximal=0.1)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps": 7}, "expected steps and learning_rate"),
        ({"steps": 7, "learning_rate": "slow"}, "expected numbers for"),
        ({"steps": 0, "learning_rate": 0.1}, "at least 1 step"),
        ({"steps": 1, "learning_rate": 0.1, "momentum": 1}, "momentum in"),
    ],
)
def test_refuses_settings_that_cannot_train(
    settings: dict[str, float | int | str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        rt.Recipe.from_settings(settings)
