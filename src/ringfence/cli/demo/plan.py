"""The demo's regions, and the three agreements under which they work one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from msgspec.structs import replace

from ringfence.cli.founding import Founding
from ringfence.core.terms import (
    Budget,
    Codecs,
    DataClass,
    Gate,
    Hub,
    LawPack,
    Lineage,
    Metric,
    Party,
    Placement,
    Start,
    Target,
    Tensor,
    Terms,
    Training,
)

HUB = "hub"
WESTERN = ("be", "de", "us")
EVERYONE = ("be", "cn", "de", "us")
WORLD, US_MARKET = "world", "us-market"

_OPERATORS = {
    "hub": ("EU", "Demo Hub GmbH"),
    "be": ("EU", "Demo Motors Belgium NV"),
    "cn": ("CN", "Demo Motors (China) Co., Ltd."),
    "de": ("EU", "Demo Motors Deutschland GmbH"),
    "us": ("US", "Demo Motors of America, Inc."),
}
_OPERATIONS_PER_EXAMPLE = 1e10
"""44 million a picture forward, three times that with the way back; room for 70 passes a round."""

_GATE = Gate(metric="accuracy", most_loss=25, worst_at_least=0)
"""Wide, because a model from scratch swings; a maker would pin a point or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long each phase trains, and what every script is told in it."""

    pretraining_rounds: int
    pretraining_settings: Mapping[str, float | int | str]
    joint_rounds: int
    joint_settings: Mapping[str, float | int | str]
    market_rounds: int


def foundings(
    data_classes: Mapping[str, Sequence[DataClass]],
    examples: Mapping[str, int] = MappingProxyType({}),
) -> list[Founding]:
    """The five regions; each trains (or merges) on this machine's processor.

    `examples` are the training counts of the catalogues: the most that an update may count for.
    """
    return [
        Founding(
            id=name,
            jurisdiction=jurisdiction,
            operator=operator,
            parent=jurisdiction,
            trust_domain=f"{name}.example",
            data_classes=tuple(data_classes.get(name, ())),
            hardware="uncontrolled",
            examples=examples.get(name, 0),
        )
        for name, (jurisdiction, operator) in _OPERATORS.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model's tensors and their modules, and the digest of the initial file."""

    tensors: tuple[Tensor, ...]
    modules: Mapping[str, Placement]
    initial: str


def pretraining(
    recipe: Recipe,
    model: Model,
    parties: Mapping[str, Party],
    packs: tuple[LawPack, ...],
    port: int,
) -> Terms:
    """Phase 1: `world` among the regions outside China."""
    return Terms(
        version=1,
        name="signs",
        hub=Hub(region=HUB, address=f"127.0.0.1:{port}"),
        regions=tuple(parties[name] for name in (HUB, *WESTERN)),
        tensors=model.tensors,
        modules=dict(model.modules),
        training=_training(recipe.pretraining_settings),
        clip_l2=50.0,
        codecs=Codecs(updates="int8", releases="float32"),
        budget=Budget(updates=100),
        metrics=(Metric(name="accuracy", minimum=0, maximum=100, resolution=0.1, least_cohort=50),),
        lineages=(
            Lineage(
                id=WORLD,
                contributors=WESTERN,
                recipients=WESTERN,
                until_round=recipe.pretraining_rounds,
                quorum=len(WESTERN),
                deadline_s=900,
                start=Start(model=model.initial),
                gate=_GATE,
            ),
        ),
        packs=packs,
    )


def joining(
    before: Terms, predecessor: str, recipe: Recipe, parties: Mapping[str, Party], release: str
) -> Terms:
    """Phase 2: China joins `world`; `us-market` branches off the last release without China."""
    (world,) = before.lineages
    return replace(
        before,
        predecessor=predecessor,
        training=_training(recipe.joint_settings),
        regions=(*before.regions, parties["cn"]),
        lineages=(
            replace(
                world,
                contributors=EVERYONE,
                recipients=EVERYONE,
                quorum=len(EVERYONE),
                until_round=world.until_round + recipe.joint_rounds,
            ),
            Lineage(
                id=US_MARKET,
                contributors=WESTERN,
                recipients=WESTERN,
                until_round=recipe.market_rounds,
                quorum=len(WESTERN),
                deadline_s=900,
                start=Start(model=release, branch_of=WORLD),
                bars=("CN",),
                gate=_GATE,
                target=Target(countries=("US",), sae_level=3, model_year=2027),
            ),
        ),
    )


def one_more_round(before: Terms, predecessor: str) -> Terms:
    """Phase 3: one more round on each lineage, for attackers to find a door that is open."""
    return replace(
        before,
        predecessor=predecessor,
        lineages=tuple(replace(line, until_round=line.until_round + 1) for line in before.lineages),
    )


def _training(settings: Mapping[str, float | int | str]) -> Training:
    return Training(settings=dict(settings), operations_per_example=_OPERATIONS_PER_EXAMPLE)
