"""The terms of a federation, as the tables of `federation.toml` spell them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ringfence.core.errors import ConfigError

Codec = Literal["float32", "int8"]
Hardware = Literal["uncontrolled", "3a090", "prc_3a090", "unknown", "attested"]
Placement = Literal["federated", "regional", "frozen", "withheld"]
DataClass = Literal[
    "personal",
    "sensitive",
    "important",
    "geographic",
    "biometric",
    "government",
    "per_sample",
    "raw",
]
Trait = Literal["ciio", "public_body", "ftz", "us_person", "covered_person"]
HeldAction = Literal["train", "export", "import", "merge", "deploy", "disclose"]

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
ClipBound = Annotated[float, Meta(ge=1e-9)]
"""Squares of values below 1e-19 vanish in float32, and so would a norm below this bound."""


class Term(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every table of the agreement: immutable, unknown keys refused."""


class Hub(Term, frozen=True, kw_only=True):
    """The region whose coordinator the others dial, and where it listens (`host:port`)."""

    region: str
    address: str

    def host_and_port(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"hub.address: expected 'host:port', got {self.address!r}")
        return host, int(port)


class ChipLot(Term, frozen=True, kw_only=True):
    """Chips of one model, bought on one day, that train in a region: `[[regions.chips]]`.

    `model` is the maker's name, `bought` a date such as `2023-05-17` (empty: no proof of it),
    `licence` the number of the licence or notification under which they are held (empty: none),
    `evidence` the digest of the document that shows it; without one nothing is attested.
    """

    model: str
    count: Count
    bought: str = ""
    licence: str = ""
    evidence: str = ""


COUNSEL = "counsel"
"""The role of `counsel_keys`, and the one that signs what no rule gives to others."""


class Approver(Term, frozen=True, kw_only=True):
    """Who may sign a region's papers: a role, and the base64 raw Ed25519 key of its holder.

    `person` names who holds the key, so that one person's two keys are not taken for two people;
    left empty, the key is the person.
    """

    role: str
    key: str
    person: str = ""

    def public_key(self) -> bytes:
        return _unbase64(self.key, f"approver {self.role!r}")


class TwoPerson(Term, frozen=True, kw_only=True):
    """Papers of these types need all of these roles: different keys, held by different people."""

    types: tuple[str, ...]
    roles: tuple[str, ...]


class Party(Term, frozen=True, kw_only=True):
    """One region: who operates it, under which law, and the public keys that speak for it.

    `root` is the base64 DER of the region's offline root certificate; `statement_key` and
    `counsel_keys` are base64 raw Ed25519 public keys; `log_key` and `witness_key` are C2SP
    verifier keys.  `approvers` are others than counsel who may sign papers.
    `parent` is the jurisdiction of the operator's ultimate parent, `hardware` the export-control
    class of the most restricted chip that trains here; `attested` says that it follows from
    `chips`, which list every chip that trains here.  `traits` are what else the law asks about the
    operator.  `examples` is the most that one update of this region may count for: its catalogue's
    training count, 0 where nothing trains.
    """

    id: str
    jurisdiction: str
    operator: str
    parent: str
    trust_domain: str
    root: str
    statement_key: str
    log_key: str
    witness_key: str
    counsel_keys: tuple[str, ...] = ()
    data_classes: tuple[DataClass, ...] = ()
    traits: tuple[Trait, ...] = ()
    hardware: Hardware = "unknown"
    chips: tuple[ChipLot, ...] = ()
    examples: Natural = 0
    approvers: tuple[Approver, ...] = ()

    def root_der(self) -> bytes:
        return _unbase64(self.root, f"regions.{self.id}.root")

    def statement_public_key(self) -> bytes:
        return _unbase64(self.statement_key, f"regions.{self.id}.statement_key")

    def signatories(self) -> tuple[Approver, ...]:
        """Everybody who may sign this region's papers: counsel, then the approvers."""
        counsel = (Approver(role=COUNSEL, key=key) for key in self.counsel_keys)
        return (*counsel, *self.approvers)


class Tensor(Term, frozen=True, kw_only=True):
    """One tensor of the model and the module it belongs to."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    module: str


class Metric(Term, frozen=True, kw_only=True):
    """A number that may cross: its range, the step it is rounded to, and the least cohort."""

    name: str
    minimum: float
    maximum: float
    resolution: Positive
    least_cohort: Count


class Outer(Term, frozen=True, kw_only=True):
    """The outer optimiser that turns a merged update into a step."""

    optimizer: Literal["sgd", "nesterov"] = "sgd"
    lr: Positive = 1.0
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class Gate(Term, frozen=True, kw_only=True):
    """When a candidate becomes a release: in points of `metric`, on validation data."""

    metric: str
    most_loss: NotNegative
    worst_at_least: float


class Target(Term, frozen=True, kw_only=True):
    """The market in which a lineage's releases are meant to be deployed."""

    countries: tuple[str, ...]
    sae_level: Annotated[int, Meta(ge=0, le=5)]
    model_year: Annotated[int, Meta(ge=2000)]


class Start(Term, frozen=True, kw_only=True):
    """Where a lineage begins: an initial model file, or a release of another lineage.

    `model` is the digest of the model file either way; `branch_of` names the other lineage.
    """

    model: str
    branch_of: str = ""


class Lineage(Term, frozen=True, kw_only=True):
    """A line of releases and the rule on what may be merged into it."""

    id: str
    contributors: tuple[str, ...]
    recipients: tuple[str, ...]
    until_round: Count
    quorum: Count
    deadline_s: Positive
    start: Start
    bars: tuple[str, ...] = ()
    outer: Outer = Outer()
    gate: Gate | None = None
    target: Target | None = None


class Training(Term, frozen=True, kw_only=True):
    """What every region's script is told: numbers and words, read by name.

    `operations_per_example` is the most that one example costs in one round, in operations as the
    law counts them (a multiplication and an addition are two), all passes over it included.  It has
    no default: a plan that takes nothing is none.
    """

    settings: dict[str, float | int | str] = {}
    purpose: Literal["civil_driving"] = "civil_driving"
    operations_per_example: Positive


class Codecs(Term, frozen=True, kw_only=True):
    """How updates and merged updates are encoded."""

    updates: Codec = "float32"
    releases: Codec = "float32"


class Budget(Term, frozen=True, kw_only=True):
    """How many updates one region's catalogue may give; without noise the unit is a release."""

    updates: Count


class Flags(Term, frozen=True, kw_only=True):
    """What a flag of a law pack holds until counsel has looked into it, and whom it is for.

    PLAT-FLAG: by default exports, disclosures and deployments; elsewhere it is recorded.
    """

    hold: tuple[HeldAction, ...] = ("export", "disclose", "deploy")
    role: str = COUNSEL


class LawPack(Term, frozen=True, kw_only=True):
    """The least that the pack of one jurisdiction (or `platform`) must hold."""

    name: str
    rules: tuple[str, ...]


class Terms(Term, frozen=True, kw_only=True):
    """The whole file, as it is written."""

    version: Literal[1]
    name: str
    predecessor: str = ""
    hub: Hub
    regions: tuple[Party, ...]
    tensors: tuple[Tensor, ...]
    modules: dict[str, Placement]
    training: Training
    clip_l2: ClipBound
    codecs: Codecs = Codecs()
    budget: Budget
    metrics: tuple[Metric, ...] = ()
    lineages: tuple[Lineage, ...]
    packs: tuple[LawPack, ...] = ()
    flags: Flags = Flags()
    two_person: tuple[TwoPerson, ...] = ()


def _unbase64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ConfigError(f"{what}: expected base64, got {text[:24]!r}") from error
