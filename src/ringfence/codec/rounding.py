"""Random numbers for stochastic rounding: an AES-128-CTR keystream that a seed repeats."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from ringfence.core.ids import Digest
from ringfence.core.tensors import SEGMENT_VALUES, Vector

SEED_BYTES = 32
FINE_VALUES = 8192
"""Values of a segment that get fine parts of their own; later ones reuse them (see `draw`)."""

_STRIDE = 64  # counter blocks set aside for each value of the flat vector


def release_seed(*, parent: Digest, payloads: Sequence[Digest]) -> bytes:
    """The hub's rounding seed for the merge of `payloads` (in merge order) onto `parent`.

    It follows from what was merged, so that a restart, and an auditor, get the same bytes.  A
    region draws its seed from the operating system instead and keeps it to itself.
    """
    inputs = "\n".join(("ringfence/rounding/v1", parent, *payloads))
    return hashlib.sha256(inputs.encode()).digest()


class Keystream:
    """Uniform numbers for one segment at a time; one per thread."""

    __slots__ = ("_bytes", "_context", "_counter", "_zeros")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"expected a seed of {SEED_BYTES} bytes, got {len(seed)}")
        key, counter = seed[:16], seed[16:]
        self._context: CipherContext = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
        self._counter = int.from_bytes(counter, "big")
        self._zeros = memoryview(bytes(SEGMENT_VALUES + FINE_VALUES))
        self._bytes = np.empty(SEGMENT_VALUES + FINE_VALUES, np.uint8)

    def draw(self, first: int, elements: int) -> tuple[npt.NDArray[np.uint8], Vector]:
        """Coarse and fine parts for the segment whose first value has flat index `first`.

        Value `i` of the segment is to use u = (coarse[i] + fine[i mod len(fine)]) / 256.  The
        coarse part is a whole number of 0 to 255, drawn for each value; the fine part a multiple
        of 1/256 below 1, drawn for the first 8192 values and used again after them.  So each u by
        itself is uniform over the multiples of 2⁻¹⁶ below 1.  Values that share a fine part are
        independent but for the last 1/256 of a step: their errors' covariance is at most 2⁻¹⁶
        steps², against a variance of up to 2⁻².  That halves the keystream's cost.

        Range: `elements` is at most a segment, rounded up to whole blocks of 256.  The arrays are
        overwritten by the next call.
        """
        # INVARIANT: no two segments of a file share a counter.  A segment uses 1/16 block a value
        # for each part, in all at most (elements + 255) / 8 ≤ 64 · elements blocks.
        counter = (self._counter + _STRIDE * first) % (1 << 128)
        self._context.reset_nonce(counter.to_bytes(16, "big"))
        fine_count = min(elements, FINE_VALUES)
        count = fine_count + elements
        self._context.update_into(self._zeros[:count], self._bytes.data)
        fine = self._bytes[:fine_count] * np.float32(1 / 256)
        return self._bytes[fine_count:count], fine
