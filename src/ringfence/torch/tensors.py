"""A module's tensors as an agreement names them, and their way in and out as numpy arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ringfence.core.errors import LayoutError
from ringfence.core.tensors import Layout, TensorSpec

REGIONAL_MODULE = "norm"
"""What `describe` calls the module of every normalisation layer."""

_DTYPE_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.float32: "F32",
    torch.float64: "F64",
}


def describe(module: nn.Module, *, regional: tuple[type[nn.Module], ...] = (_BatchNorm,)) -> Layout:
    """The layout of `module` for an agreement: every parameter and buffer, in its own order.

    Tensors of layers of the `regional` types belong to the module "norm": affine parameters,
    running statistics and their counter, which FedBN never sends.  Every other tensor belongs to
    the module that its name starts with, such as "body" for `body.0.weight`.

    Raises: LayoutError when a dtype has no name in a tensor file or a name does not fit.
    Source: Li et al. 2021, arXiv:2102.07623 (FedBN).
    """
    at_home = {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in module.named_modules()
        if isinstance(layer, regional)
        for name in layer.state_dict()
    }
    return Layout(
        specs=tuple(
            TensorSpec(
                name=name,
                shape=tuple(tensor.shape),
                dtype=_dtype_name(name, tensor),
                module=REGIONAL_MODULE if name in at_home else name.partition(".")[0],
            )
            for name, tensor in module.state_dict().items()
        )
    )


def load(module: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Copy arrays into the parameters and buffers of the same name; the others stay as they are.

    Raises: LayoutError, naming the first tensor that is unknown or of another shape or dtype,
    before any is copied.
    """
    own = module.state_dict()
    values = {name: torch.tensor(array) for name, array in tensors.items()}
    for name, value in values.items():
        if name not in own:
            raise LayoutError(
                f"tensor {name}: the module has none of that name; build the module that the "
                "agreement describes"
            )
        if (own[name].shape, own[name].dtype) != (value.shape, value.dtype):
            raise LayoutError(
                f"tensor {name}: expected {own[name].dtype}{list(own[name].shape)} as in the "
                f"module, got {value.dtype}{list(value.shape)}"
            )
    for name, value in values.items():
        own[name].copy_(value)


def take(module: nn.Module, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Copies of the named parameters and buffers, row-major.

    Raises: LayoutError when the module lacks one.
    """
    own = module.state_dict()
    if missing := sorted(set(names) - own.keys()):
        raise LayoutError(
            f"expected tensors {missing[:3]} in the module, which has none of that name; build the "
            "module that the agreement describes"
        )
    return {
        name: own[name].cpu().clone(memory_format=torch.contiguous_format).numpy() for name in names
    }


def _dtype_name(name: str, tensor: torch.Tensor) -> str:
    if tensor.dtype not in _DTYPE_NAMES:
        raise LayoutError(
            f"tensor {name}: expected a dtype of {sorted(_DTYPE_NAMES.values())}, "
            f"got {tensor.dtype}; convert it"
        )
    return _DTYPE_NAMES[tensor.dtype]
