"""Write the frozen bytes in `vectors/`: python -m tests.ledger.make_vectors

    log-v1/         a whole log: six entries, two cosigned checkpoints, one entry pending
    proof-v1.json   the proof of its entry 3
    tiles-v1.json   SHA-256 of every file under `tile/` of a log of 700 entries

Keys, salts and times are fixed, so that writing again must give the same bytes.  A change here is
a change of format: keep the old version beside the new one and keep it readable.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from tests.ledger.ledger_world import (
    WITNESS_KEYS,
    WITNESSES,
    content,
    contents,
    cosignature,
    open_log,
)

from ringfence.ledger.disclosure import prove

VECTORS = Path(__file__).parent / "vectors"


def write_vectors(folder: Path) -> None:
    """Write every vector into an empty folder."""
    with open_log(folder / "log-v1") as log:
        for first, stop in ((0, 2), (2, 5)):
            log.append_many(contents(first, stop))
            note = log.checkpoint()
            for witness in WITNESSES[:2]:
                log.add_cosignature(cosignature(note, witness), WITNESS_KEYS)
        (folder / "proof-v1.json").write_bytes(prove(log, 3, log.checkpoint()) + b"\n")
        log.append(content(5))
    for name in ("lock", "scratch"):
        (folder / "log-v1" / name).unlink(missing_ok=True)
    with open_log(folder / "large") as log:
        for first, stop in ((0, 300), (300, 700)):
            log.append_many(contents(first, stop))
            log.checkpoint()
    tiles = {
        path.relative_to(folder / "large").as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in (folder / "large" / "tile").rglob("*")
        if path.is_file()
    }
    (folder / "tiles-v1.json").write_text(json.dumps(tiles, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        write_vectors(Path(scratch))
        shutil.rmtree(Path(scratch) / "large")
        shutil.rmtree(VECTORS, ignore_errors=True)
        shutil.copytree(scratch, VECTORS)
