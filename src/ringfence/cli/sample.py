"""`ringfence init`: a small federation with a numpy script, which runs as it is."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

from ringfence.cli.federation import conclude, found_federation, least_packs, write_model
from ringfence.cli.founding import Founding
from ringfence.core import canonical
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import Catalogue, Subjects
from ringfence.core.clock import Clock
from ringfence.core.errors import ConfigError
from ringfence.core.ids import Digest
from ringfence.core.tensors import Layout, TensorSpec
from ringfence.core.terms import (
    Budget,
    Gate,
    Hub,
    Lineage,
    Metric,
    Start,
    Tensor,
    Terms,
    Training,
)

_EXAMPLES = 300
_REGIONS = (
    Founding(
        id="hub",
        jurisdiction="EU",
        operator="Sample Hub GmbH",
        parent="EU",
        trust_domain="hub.example",
    ),
    Founding(
        id="cn",
        jurisdiction="CN",
        operator="Sample Motors (China) Co., Ltd.",
        parent="CN",
        trust_domain="cn.example",
        hardware="uncontrolled",
        data_classes=("personal", "important", "geographic"),
        examples=_EXAMPLES,
    ),
    Founding(
        id="de",
        jurisdiction="EU",
        operator="Sample Motors Deutschland GmbH",
        parent="EU",
        trust_domain="de.example",
        hardware="uncontrolled",
        data_classes=("personal",),
        examples=_EXAMPLES,
    ),
    Founding(
        id="us",
        jurisdiction="US",
        operator="Sample Motors of America, Inc.",
        parent="US",
        trust_domain="us.example",
        hardware="uncontrolled",
        data_classes=("personal",),
        examples=_EXAMPLES,
    ),
)
_CLASSES, _FEATURES = 3, 8
_TENSORS = (
    Tensor(name="weight", shape=(_CLASSES, _FEATURES), dtype="F32", module="head"),
    Tensor(name="bias", shape=(_CLASSES,), dtype="F32", module="head"),
    Tensor(name="shift", shape=(_FEATURES,), dtype="F32", module="norm"),
)
_SCRIPT = Path(__file__).parent / "sample_train.txt"

_README = """\
# A sample federation

Three regions (cn, de, us) and a hub, each with its own directory under `regions/`, its own keys,
law packs, papers and log. The papers in `approvals/` and `facts.toml` are SAMPLES: the documents
that they name do not exist. `federation.toml` is the agreement that all four have signed.

See what the law will say before anything runs (remove a file of `regions/cn/approvals` and look
again):

    ringfence check .

Run it, each line in a terminal of its own (or with `&`):

    for region in hub cn de us; do ringfence issuer --home regions/$region & done
    ringfence coordinator --home regions/hub --initial initial.safetensors &
    for region in cn de us; do
        ringfence gateway --home regions/$region &
        ringfence train train.py --home regions/$region &
    done

The gateways end when the agreed rounds have ended. Then:

    ringfence status --home regions/hub
    ringfence log verify regions/hub --replay
"""


def write_sample(directory: Path, *, clock: Clock, address: str = "127.0.0.1:8443") -> Agreement:
    """Found, agree and equip the sample federation in `directory`.

    Raises: ConfigError when `directory` exists and is not empty.
    """
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory}: is not empty; choose a directory that does not exist yet")
    directory.mkdir(parents=True, exist_ok=True)
    federation = found_federation(directory, _REGIONS, clock=clock)
    model = write_model(
        directory / "initial.safetensors",
        Layout(
            specs=tuple(
                TensorSpec(name=t.name, shape=t.shape, dtype=t.dtype, module=t.module)
                for t in _TENSORS
                if t.module == "head"
            )
        ),
        {
            "weight": np.zeros((_CLASSES, _FEATURES), np.float32),
            "bias": np.zeros(_CLASSES, np.float32),
        },
    )
    members = tuple(founding.id for founding in _REGIONS if founding.id != "hub")
    terms = Terms(
        version=1,
        name="sample",
        hub=Hub(region="hub", address=address),
        regions=tuple(federation.parties.values()),
        tensors=_TENSORS,
        modules={"head": "federated", "norm": "regional"},
        training=Training(settings={"epochs": 5, "lr": 0.5}, operations_per_example=1e6),
        clip_l2=100.0,
        budget=Budget(updates=100),
        metrics=(Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50),),
        lineages=(
            Lineage(
                id="world",
                contributors=members,
                recipients=members,
                until_round=3,
                quorum=2,
                deadline_s=600,
                start=Start(model=model),
                gate=Gate(metric="accuracy", most_loss=10, worst_at_least=0),
            ),
        ),
        packs=least_packs(federation.homes["hub"]),
    )
    for founding in _REGIONS:
        if founding.id != "hub":
            catalogue = _catalogue(founding)
            federation.homes[founding.id].catalogue.write_bytes(canonical.to_bytes(catalogue))
    shutil.copyfile(_SCRIPT, directory / "train.py")
    (directory / "README.md").write_text(_README)
    return conclude(federation, terms, clock=clock)


def _catalogue(founding: Founding) -> Catalogue:
    """The sample draws its data in the script; the digest is that of the script's text."""
    return Catalogue(
        region=founding.id,
        jurisdiction=founding.jurisdiction,
        data_classes=founding.data_classes,
        counts={"train": _EXAMPLES, "validation": _EXAMPLES},
        digest=_digest(_SCRIPT),
        data="train.py",
        subjects=Subjects(people=_EXAMPLES, sensitive_people=0, devices=0),
    )


def _digest(path: Path) -> Digest:
    return Digest("sha256:" + hashlib.sha256(path.read_bytes()).hexdigest())
