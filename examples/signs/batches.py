"""Batches of pictures as tensors: shuffled and shaken for training, plain for measuring."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from signs import Pictures
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

BATCH = 32
MEASURED = 250
"""Batch size where nothing is learnt."""

SHIFT_PIXELS = 2.0
SCALE = 0.1
TURN_RAD = 0.15


class _Signs(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pictures by the batch: an index is a list of them."""

    def __init__(self, pictures: Pictures, *, shaken: bool) -> None:
        self._images_NHWC = torch.from_numpy(pictures.images)
        self._labels_N = torch.from_numpy(pictures.labels)
        self._shaken = shaken

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, chosen: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.tensor(chosen)
        images_NCHW = self._images_NHWC[index].permute(0, 3, 1, 2).float() / 255
        return shake(images_NCHW) if self._shaken else images_NCHW, self._labels_N[index]


def training_batches(pictures: Pictures) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches of 32 shaken pictures; an unfull last batch is left out."""
    data = _Signs(pictures, shaken=True)
    size = min(BATCH, len(data))
    order = BatchSampler(RandomSampler(data), batch_size=size, drop_last=True)
    return DataLoader(data, sampler=order, batch_size=None)


def plain_batches(pictures: Pictures) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Every picture once, as it is."""
    data = _Signs(pictures, shaken=False)
    order = BatchSampler(SequentialSampler(data), batch_size=MEASURED, drop_last=False)
    return DataLoader(data, sampler=order, batch_size=None)


def unlabelled_batches(pictures: Pictures, *, limit: int | None = None) -> list[torch.Tensor]:
    """The first `limit` pictures without their labels, for batch statistics."""
    first = Pictures(images=pictures.images[:limit], labels=pictures.labels[:limit])
    return [images for images, _ in plain_batches(first)]


def shake(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Shift, turn and scale each picture a little, as a car that comes nearer would."""
    count = len(images_NCHW)

    def draw(most: float) -> torch.Tensor:
        return (torch.rand(count) * 2 - 1) * most

    shift = 2 * SHIFT_PIXELS / images_NCHW.shape[-1]
    turn, scale = draw(TURN_RAD), 1 + draw(SCALE)
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = (torch.stack((cos, -sin, draw(shift)), 1), torch.stack((sin, cos, draw(shift)), 1))
    grid = nn.functional.affine_grid(
        torch.stack(rows, 1), list(images_NCHW.shape), align_corners=False
    )
    return nn.functional.grid_sample(images_NCHW, grid, padding_mode="border", align_corners=False)
