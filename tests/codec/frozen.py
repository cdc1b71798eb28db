"""The frozen payloads in `vectors/`: `python -m tests.codec.frozen` writes them anew.

They may change only with a new format: a reader of today must still read them then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tests.codec.codec_world import encoded
from tests.core.tensor_world import content_of, layout_of, memory_file, model_of

from ringfence.codec import PayloadFormat, apply_update
from ringfence.core.tensors import Vector
from ringfence.core.terms import Codec

VECTORS = Path(__file__).parent / "vectors"
CODECS: tuple[Codec, ...] = ("float32", "int8")
LAYOUT = layout_of((3, 5), (), (2, 257), (256,))
SEED = bytes(range(32))
FACTOR = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """What one codec makes of the frozen values: payload, its digest, and the new model's."""

    payload: bytes
    digests: dict[str, str]


def pseudo_random(multiplier: int, elements: int) -> Vector:
    """Values from -1 to 1 that need no random generator, the last 256 of them zero."""
    integers = np.arange(elements, dtype=np.int64) * multiplier % (1 << 24) - (1 << 23)
    values_P = (integers / (1 << 23)).astype(np.float32)
    values_P[-256:] = 0
    return values_P


def freeze(codec: Codec) -> Frozen:
    """Encode the frozen update and apply it to the frozen base."""
    update_P = pseudo_random(10_007 * 613, LAYOUT.elements)
    base_P = pseudo_random(7919 * 1021, LAYOUT.elements)
    payload = encoded(codec, LAYOUT, update_P, seed=SEED, factor=FACTOR)
    model_fd = memory_file()
    model = apply_update(
        PayloadFormat(codec=codec, layout=LAYOUT),
        model=LAYOUT,
        base=model_of(LAYOUT, base_P),
        payload_fd=memory_file(payload.content),
        model_fd=model_fd,
    )
    assert model.size_bytes == len(content_of(model_fd))
    return Frozen(
        payload=payload.content,
        digests={"payload": payload.chunked.digest, "model": model.digest},
    )


def main() -> None:
    digests = {}
    for codec in CODECS:
        frozen = freeze(codec)
        (VECTORS / f"{codec}.safetensors").write_bytes(frozen.payload)
        digests[codec] = frozen.digests
    (VECTORS / "digests.json").write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    main()
