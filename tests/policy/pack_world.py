"""One crossing out of one jurisdiction: what a pack is asked when nothing else is in the way."""

from __future__ import annotations

from dataclasses import replace

from tests.policy.demo_world import WORLD, approval, party, question

from ringfence.core.ids import Jurisdiction
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.facts import Cohort, Market, Party, Question
from ringfence.policy.judge import Judge
from ringfence.policy.words import Action, ApprovalType, DataClass, ItemKind

AE, CN, EU, IN, JP, KR, UK, US = (
    Jurisdiction(code) for code in ("AE", "CN", "EU", "IN", "JP", "KR", "UK", "US")
)

RAW = (ItemKind.RAW, ItemKind.EMBEDDINGS, ItemKind.EXAMPLE_GRADIENTS)
MODELS = (
    ItemKind.UPDATE,
    ItemKind.CANDIDATE,
    ItemKind.RELEASE,
    ItemKind.SNAPSHOT,
    ItemKind.ADAPTER,
    ItemKind.INFERENCE_MODEL,
)
TECHNOLOGY = (ItemKind.ARCHITECTURE, ItemKind.CODE)
INHERITING = (ItemKind.LABELS, *MODELS, ItemKind.LOGITS)
# Section 7, rows 11, 12 and the digests of row 13: neither persons nor technology.
PLAIN = (ItemKind.METRICS, ItemKind.MECHANISM, ItemKind.CHECKPOINT, ItemKind.APPROVAL)

PERSONAL = frozenset({DataClass.PERSONAL})
NOWHERE = Market(countries=frozenset(), sae_level=0, model_year=0)


def at(place: Jurisdiction) -> Party:
    """A region of `place`, operated by a company of `place`."""
    return party(place.lower(), place)


def crossing(
    sender: Party,
    recipient: Party,
    kind: ItemKind,
    *papers: Approval,
    classes: frozenset[DataClass] = PERSONAL,
    contributors: frozenset[Party] | None = None,
) -> Question:
    """The export of one item that the sender alone contributed to, for no market."""
    asked = question(
        Action.EXPORT,
        kind,
        lineage=WORLD,
        contributors=frozenset(),
        sender=sender,
        recipient=recipient,
    )
    return replace(
        asked,
        contributors=frozenset({sender}) if contributors is None else contributors,
        classes=classes,
        market=NOWHERE,
        cohort=Cohort(smallest=20, floor=10),
        approvals=papers,
    )


def at_home(
    action: Action,
    region: Party,
    kind: ItemKind,
    *papers: Approval,
    classes: frozenset[DataClass] = PERSONAL,
    sae_level: int = 3,
) -> Question:
    """Training or deployment of what the region alone contributed to, for its own market."""
    asked = question(
        action,
        kind,
        lineage=WORLD,
        contributors=frozenset(),
        sender=region,
        recipient=region,
    )
    market = Market(
        countries=frozenset({region.jurisdiction}), sae_level=sae_level, model_year=2027
    )
    return replace(
        asked,
        contributors=frozenset({region}),
        classes=classes,
        market=market,
        approvals=papers,
    )


def paper(type_: ApprovalType, holder: Party, other: Party) -> Approval:
    """A paper of `holder` for every kind of item that goes to `other`."""
    return approval(type_, holder, other.jurisdiction, (other,), frozenset(ItemKind))


def received(type_: ApprovalType, holder: Party, exporter: Party) -> Approval:
    """A paper that the recipient holds: given to it, for what `exporter` sends."""
    given = paper(type_, exporter, holder)
    return replace(given, holder=holder.operator, counterparties=frozenset({exporter.operator}))


def review(region: Party, other: Party, *rules: str) -> Approval:
    """A person has looked into the flags of `rules` for what goes from `region` to `other`."""
    # A review is none without a rule to clear, so that another type stands in for a moment.
    blank = paper(ApprovalType.SCC_ID, region, other)
    return replace(
        blank,
        id=ApprovalId(f"{ApprovalType.PLAT_FLAG_REVIEW}/{region.region}-{other.region}"),
        type=ApprovalType.PLAT_FLAG_REVIEW,
        clears=frozenset(rules),
    )


def objections(judge: Judge, asked: Question, *packs: str) -> list[str]:
    """The rules of these packs that refuse; what other packs say is for their own tests."""
    return [note.id for note in judge.judge(asked).rules if note.pack in packs]
