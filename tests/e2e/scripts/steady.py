"""A site that adds the same numbers every time, and stands still where a test holds it.

`site/hold-STEP` in the region's home holds it (STEP is `train` or `evaluate`); while it stands
there, `site/at-STEP` says so.
"""

import os
import time
import zlib
from pathlib import Path

import numpy as np

import ringfence

EXAMPLES = 300
PLACE = Path(os.environ["RINGFENCE_HOME"]) / "site"


def stand(step):
    (PLACE / f"at-{step}").touch()
    while (PLACE / f"hold-{step}").exists():
        time.sleep(0.002)
    (PLACE / f"at-{step}").unlink(missing_ok=True)


def evaluate(weights, state):
    stand("evaluate")
    return ringfence.Evaluation(metrics={"accuracy": 50.0}, examples=EXAMPLES)


session = ringfence.connect(evaluate=evaluate)
for work in session.rounds():
    stand("train")
    seed = zlib.crc32(f"{session.region}/{work.lineage}/{work.number}".encode())
    noise = np.random.default_rng(seed).normal(scale=0.01, size=4096).astype(np.float32)
    trained = {
        name: work.weights[name] + np.resize(noise, work.weights[name].shape)
        for name in session.federated
    }
    shift = work.state.get("shift", np.zeros(8, np.float32)) + noise[:8]
    work.submit(trained, examples=EXAMPLES, state={"shift": shift})
