"""Modules described for an agreement, and tensors in and out of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.training_world import net
from torch import nn

import ringfence.torch as rt
from ringfence.core.errors import LayoutError


def test_batch_normalisation_is_regional_and_everything_else_goes_by_its_name() -> None:
    # given a module with a normalised body and a head
    module = net()
    # when it is described for an agreement
    layout = rt.describe(module)
    # then each tensor has its module, shape and dtype
    assert [(s.name, s.shape, s.dtype, s.module) for s in layout.specs] == [
        ("body.0.weight", (4, 3, 3, 3), "F32", "body"),
        ("body.0.bias", (4,), "F32", "body"),
        ("body.1.weight", (4,), "F32", "norm"),
        ("body.1.bias", (4,), "F32", "norm"),
        ("body.1.running_mean", (4,), "F32", "norm"),
        ("body.1.running_var", (4,), "F32", "norm"),
        ("body.1.num_batches_tracked", (), "I64", "norm"),
        ("head.weight", (3, 4), "F32", "head"),
        ("head.bias", (3,), "F32", "head"),
    ]


def test_other_layers_can_be_regional() -> None:
    # given a module whose layer normalisation is to stay at home
    module = nn.ModuleDict({"body": nn.Linear(2, 2), "scale": nn.LayerNorm(2)})
    # when it is described so
    layout = rt.describe(module, regional=(nn.LayerNorm,))
    # then that layer is regional
    assert {s.name for s in layout.specs if s.module == "norm"} == {"scale.weight", "scale.bias"}


def test_a_dtype_that_no_tensor_file_names_is_refused() -> None:
    # given a module of complex numbers
    module = nn.ParameterDict({"wave": nn.Parameter(torch.zeros(2, dtype=torch.complex64))})
    # when it is described
    with pytest.raises(LayoutError, match="tensor wave: expected a dtype"):
        rt.describe(module)


def test_what_is_taken_out_of_one_module_makes_another_equal() -> None:
    # given a module in the layout in memory that convolutions like, and another
    ours = net().to(memory_format=torch.channels_last)
    theirs = net()
    nn.init.normal_(ours.body[0].weight)
    # when all tensors of the one are loaded into the other
    tensors = rt.take(ours, list(ours.state_dict()))
    rt.load(theirs, tensors)
    # then both are equal, and the arrays are row-major copies
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name])
        assert tensors[name].flags.c_contiguous
    tensors["body.0.weight"][:] = 0
    assert ours.body[0].weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "array", "complaint"),
    [
        ("tail.weight", np.zeros(2, np.float32), "has none of that name"),
        ("head.bias", np.zeros(4, np.float32), "expected torch.float32\\[3\\]"),
        ("head.bias", np.zeros(3, np.float64), "got torch.float64"),
    ],
)
def test_refuses_tensors_of_another_module_and_changes_nothing(
    name: str, array: np.ndarray, complaint: str
) -> None:
    # given a module, and tensors of which one does not fit
    module = net()
    tensors = {"head.weight": np.zeros((3, 4), np.float32), name: array}
    # when they are loaded
    with pytest.raises(LayoutError, match=complaint):
        rt.load(module, tensors)
    # then the module is as it was
    assert torch.equal(module.head.weight, net().head.weight)


def test_refuses_to_take_what_is_not_there() -> None:
    with pytest.raises(LayoutError, match=r"tail\.weight"):
        rt.take(net(), ["head.bias", "tail.weight"])
