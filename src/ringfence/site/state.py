"""Regional state (batch statistics, optimiser state) kept at home, each version under its digest.

    <home>/site/state/blake3-<hex>.safetensors

The gateway learns digests only and says which one a lineage goes on from, so that what trained
under one lineage never reaches another unseen.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from blake3 import blake3

from ringfence.core.errors import StateError
from ringfence.core.ids import Digest
from ringfence.core.tensorfile import parse_header, write_tensors
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.site.tensorviews import Tensors, dtype_name, views

_LENGTH_BYTES = 8


def save_state(directory: Path, tensors: Tensors) -> Digest:
    """Store `tensors` durably and return the BLAKE3 digest of the file.

    Equal tensors give the equal file, whatever order they come in.  `tensors` must not be empty.
    Raises: LayoutError when a name, shape or dtype does not fit into a tensor file.

    If the process dies before the rename, a temporary file stays and no digest was given out.
    """
    layout = Layout(
        specs=tuple(
            TensorSpec(
                name=name, dtype=dtype_name(name, tensor), shape=tensor.shape, module="regional"
            )
            for name, tensor in sorted(tensors.items())
        )
    )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=directory)
    try:
        with os.fdopen(descriptor, "rb") as file:
            write_tensors(descriptor, layout, tensors)
            os.fsync(descriptor)
            digest = Digest("blake3:" + blake3(file.read()).hexdigest())
        Path(temporary).replace(state_path(directory, digest))
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_directory(directory)
    return digest


def load_state(directory: Path, digest: Digest) -> Tensors:
    """Return the tensors stored under `digest`, read-only.

    Raises: StateError when there is no such file or its bytes are others.
    """
    path = state_path(directory, digest)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise StateError(
            f"regional state {digest}: expected {path}, got no such file; restore it from a backup "
            "of the site's home"
        ) from error
    came = "blake3:" + blake3(data).hexdigest()
    if came != digest:
        raise StateError(
            f"regional state {path}: expected {digest}, got bytes of {came}; restore the file "
            "from a backup of the site's home"
        )
    data_start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    entries = parse_header(data[_LENGTH_BYTES:data_start], data_bytes=len(data) - data_start)
    return views(data, entries, data_start=data_start)


def state_path(directory: Path, digest: Digest) -> Path:
    """Where the regional state of this digest lies."""
    return directory / f"{digest.replace(':', '-')}.safetensors"


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
