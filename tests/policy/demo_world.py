"""The four-region demo as the law sees it: parties, flows, planned crossings, approvals.

`planned_crossings` is every question that the demo asks with all its papers in order;
`demo_approvals` are exactly those papers, none to spare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ringfence.core.clock import from_rfc3339
from ringfence.core.ids import Digest, Jurisdiction, LineageId, RegionId
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.bulk import bulk_line
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Market,
    Party,
    Percent,
    Question,
    Screening,
)
from ringfence.policy.words import Action, ApprovalType, Chip, DataClass, ItemKind, Purpose

NOW = from_rfc3339("2026-11-20T09:00:00Z")
ISSUED = from_rfc3339("2026-11-01T00:00:00Z")
EXPIRES = from_rfc3339("2027-05-01T00:00:00Z")
DAY_S = 86_400.0

CN, EU, US = Jurisdiction("CN"), Jurisdiction("EU"), Jurisdiction("US")
WORLD, US_MARKET = LineageId("world"), LineageId("us-market")

MARKETS = {
    WORLD: Market(countries=frozenset({EU, CN}), sae_level=3, model_year=2027),
    US_MARKET: Market(countries=frozenset({US}), sae_level=3, model_year=2027),
}
# One digest a lineage: layout, clip bound and codec as its approvals describe them.
SCOPES = {
    WORLD: Digest("sha256:" + "a1" * 32),
    US_MARKET: Digest("sha256:" + "b2" * 32),
}


def party(region: str, jurisdiction: Jurisdiction) -> Party:
    """A region operated by a company of its own jurisdiction, screened an hour ago."""
    return Party(
        region=RegionId(region),
        jurisdiction=jurisdiction,
        operator=OperatorId(f"{region}-operator"),
        parent=jurisdiction,
        screening=Screening(
            at=NOW - 3600,
            us_listed=False,
            cn_listed=False,
            listed_owners_percent=Percent(0),
            adversary_owners_percent=Percent(0),
        ),
    )


DE, BE, AMERICA, CHINA, HUB = (
    party("de", EU),
    party("be", EU),
    party("us", US),
    party("cn", CN),
    party("hub", EU),
)
WESTERN = frozenset({DE, BE, AMERICA})
EVERYONE = WESTERN | {CHINA}

CLASSES = {
    DE: frozenset({DataClass.PERSONAL}),
    BE: frozenset({DataClass.PERSONAL}),
    AMERICA: frozenset({DataClass.PERSONAL}),
    CHINA: frozenset({DataClass.PERSONAL, DataClass.IMPORTANT, DataClass.GEOGRAPHIC}),
    HUB: frozenset[DataClass](),
}


def question(
    action: Action,
    kind: ItemKind,
    *,
    lineage: LineageId,
    contributors: frozenset[Party],
    sender: Party,
    recipient: Party,
) -> Question:
    """One question of the demo without approvals; classes are those of all contributors.

    What is to be deployed, no revoked paper has reached.
    """
    return Question(
        action=action,
        kind=kind,
        content=None,
        lineage=lineage,
        contributors=contributors,
        sender=sender,
        recipient=recipient,
        classes=frozenset[DataClass]().union(*(CLASSES[p] for p in contributors)),
        carries_seed=False,
        purpose=Purpose.CIVIL_DRIVING,
        scope=SCOPES[lineage],
        market=MARKETS[lineage],
        compute=Compute(chip=Chip.UNCONTROLLED, training_ops=1e15),
        counters=Counters(
            cn_people=0,
            cn_sensitive_people=0,
            us_people=0,
            us_devices=40,
            us_line=bulk_line(name for party in contributors for name in CLASSES[party]),
        ),
        cohort=Cohort(smallest=20, floor=10) if kind is ItemKind.METRICS else None,
        extraction=ExtractionTest(
            passed=True, tested_at=NOW - DAY_S, evidence=Digest("sha256:" + "e5" * 32)
        ),
        approvals=(),
        revoked=frozenset(),
        now=NOW,
        affected=False if action is Action.DEPLOY else None,
    )


def planned_crossings() -> tuple[tuple[str, Question], ...]:
    """Every question of the demo in order, labelled, with all approvals held.

    Phase 1: `world` among de, be, us, then its release is admitted in China.  Phase 2: China
    joins `world`, so that every later item carries its tag; `us-market` goes on without it.
    """
    held = demo_approvals()
    steps = [
        *_opening(),
        *_rounds("phase 1", WORLD, members=WESTERN, ancestry=WESTERN),
        *_delivery("phase 1", ItemKind.SNAPSHOT, WORLD, CHINA, WESTERN),
        *_delivery("phase 1", ItemKind.RELEASE, WORLD, CHINA, WESTERN),
        *_rounds("phase 2", WORLD, members=EVERYONE, ancestry=EVERYONE),
        *_rounds("phase 2", US_MARKET, members=WESTERN, ancestry=WESTERN),
    ]
    return tuple((label, replace(asked, approvals=held)) for label, asked in steps)


def demo_approvals() -> tuple[Approval, ...]:
    """Exactly the approvals that the planned crossings need; take one away and one is refused."""
    return (
        *_chinese_papers(EU, (HUB, DE, BE), MODEL_IN_AND_OUT),
        *_chinese_papers(US, (AMERICA,), MODEL_OUT),
        *_chinese_measures(),
        approval(ApprovalType.BIS_CLASSIFICATION, AMERICA, EU, (HUB, DE, BE), MODEL_IN_AND_OUT),
        approval(ApprovalType.BIS_CLASSIFICATION, AMERICA, CN, (CHINA,), MODEL_OUT),
        *_american_papers(),
        *_european_contract(WORLD),
        # To China the European ground is anonymity, not a contract.
        replace(
            approval(ApprovalType.EDPB_ANONYMITY, HUB, CN, (CHINA,), MODEL_OUT),
            lowers=frozenset({DataClass.PERSONAL}),
        ),
        approval(
            ApprovalType.EU_DUAL_USE_CLASS, HUB, CN, (CHINA,), MODEL_OUT | {ItemKind.ARCHITECTURE}
        ),
        approval(
            ApprovalType.BIS_CLASSIFICATION,
            AMERICA,
            EU,
            (HUB, DE, BE),
            MODEL_IN_AND_OUT,
            lineage=US_MARKET,
        ),
        *_european_contract(US_MARKET),
        *_european_papers(),
    )


MODEL_OUT = frozenset({ItemKind.CANDIDATE, ItemKind.RELEASE, ItemKind.SNAPSHOT})
MODEL_IN_AND_OUT = MODEL_OUT | {ItemKind.UPDATE}


def approval(
    type_: ApprovalType,
    holder: Party,
    destination: Jurisdiction,
    counterparties: tuple[Party, ...],
    kinds: frozenset[ItemKind] | set[ItemKind],
    *,
    lineage: LineageId = WORLD,
    clears: frozenset[str] = frozenset(),
) -> Approval:
    """One approval of the demo, given to the exporter and valid for half a year."""
    return Approval(
        id=ApprovalId(f"{type_}/{lineage}/{holder.jurisdiction}-{destination}"),
        type=type_,
        issuer="sample counsel",
        holder=holder.operator,
        counterparties=frozenset(party.operator for party in counterparties),
        kinds=frozenset(kinds),
        origin=holder.jurisdiction,
        destination=destination,
        lineage=lineage,
        purpose=Purpose.CIVIL_DRIVING,
        scope=SCOPES[lineage],
        lowers=frozenset(),
        clears=clears,
        issued=ISSUED,
        expires=EXPIRES,
        revocation_source="approvals/revoked.json",
        document=Digest("sha256:" + "d0" * 32),
    )


def _chinese_papers(
    destination: Jurisdiction, counterparties: tuple[Party, ...], kinds: frozenset[ItemKind]
) -> Iterator[Approval]:
    """The determination ends two classes; the data stay important, hence the assessment."""
    determination = approval(
        ApprovalType.CN_DERIVED_DETERMINATION, CHINA, destination, counterparties, kinds
    )
    yield replace(determination, lowers=frozenset({DataClass.PERSONAL, DataClass.GEOGRAPHIC}))
    for type_ in (
        ApprovalType.CAC_ASSESSMENT,
        ApprovalType.CN_TECH_EXPORT,
        ApprovalType.MNR_ENTRUSTMENT,
        ApprovalType.CN_IMPORTANT_DUTIES,
        ApprovalType.CN_EXPORT_LOG,
    ):
        yield approval(type_, CHINA, destination, counterparties, kinds)
    yield approval(
        ApprovalType.PLAT_FLAG_REVIEW,
        CHINA,
        destination,
        counterparties,
        kinds,
        clears=frozenset({"CN-PIPL-3", "CN-AUTO-3", "CN-AUTO-13"}),
    )


def _chinese_measures() -> Iterator[Approval]:
    """What training in China needs: China's own training is surveying, of people and cars."""
    for type_ in (
        ApprovalType.CN_MLPS,
        ApprovalType.CN_IMPORTANT_DUTIES,
        ApprovalType.CN_LEGAL_BASIS,
        ApprovalType.CN_ANONYMISER_REPORT,
        ApprovalType.MNR_ENTRUSTMENT,
    ):
        yield approval(type_, CHINA, CN, (CHINA,), {ItemKind.UPDATE})


def _american_papers() -> Iterator[Approval]:
    """The notice to residents, and counsel's look at what the hub makes abroad for China."""
    for lineage in (WORLD, US_MARKET):
        yield approval(
            ApprovalType.US_STATE_NOTICE,
            AMERICA,
            US,
            (AMERICA,),
            {ItemKind.UPDATE},
            lineage=lineage,
        )
        yield approval(
            ApprovalType.DOJ_ONWARD_CLAUSE,
            AMERICA,
            EU,
            (HUB, DE, BE),
            MODEL_IN_AND_OUT,
            lineage=lineage,
        )
    yield approval(
        ApprovalType.PLAT_FLAG_REVIEW,
        AMERICA,
        CN,
        (CHINA,),
        MODEL_OUT,
        clears=frozenset({"US-EAR-FDPR"}),
    )


def _european_contract(lineage: LineageId) -> Iterator[Approval]:
    for type_ in (ApprovalType.SCC_ID, ApprovalType.TIA_ID, ApprovalType.EU_DUAL_USE_CLASS):
        yield approval(type_, HUB, US, (AMERICA,), MODEL_OUT, lineage=lineage)


def _european_papers() -> Iterator[Approval]:
    """What European regions hold to train, and the user's contract for what goes to China."""
    for lineage in (WORLD, US_MARKET):
        for region in (DE, BE):
            for type_ in (
                ApprovalType.LEGAL_BASIS_ID,
                ApprovalType.DPIA_ID,
                ApprovalType.USER_CONTRACT_ID,
            ):
                paper = approval(type_, region, EU, (region,), {ItemKind.UPDATE}, lineage=lineage)
                yield replace(paper, id=ApprovalId(f"{type_}/{lineage}/{region.region}-EU"))
    yield approval(ApprovalType.USER_CONTRACT_ID, HUB, CN, (CHINA,), MODEL_OUT)


def _opening() -> Iterator[tuple[str, Question]]:
    """What opens the run: the architecture to all, and approvals and checkpoints both ways."""
    regions = (BE, CHINA, DE, AMERICA)
    for region in regions:
        yield from _delivery("opening", ItemKind.ARCHITECTURE, WORLD, region, frozenset())
    for region in regions:
        for sender, recipient in ((HUB, region), (region, HUB)):
            for kind in (ItemKind.APPROVAL, ItemKind.CHECKPOINT):
                yield (
                    f"opening: disclose {kind} {sender.region} > {recipient.region}",
                    question(
                        Action.DISCLOSE,
                        kind,
                        lineage=WORLD,
                        contributors=frozenset({sender}),
                        sender=sender,
                        recipient=recipient,
                    ),
                )


def _rounds(
    phase: str, lineage: LineageId, *, members: frozenset[Party], ancestry: frozenset[Party]
) -> Iterator[tuple[str, Question]]:
    """One round: train, update to the hub, merge, candidate back, metrics, release, snapshot."""
    regions = sorted(members, key=lambda member: member.region)
    for region in regions:
        yield (
            f"{phase}: {lineage} train {region.region}",
            question(
                Action.TRAIN,
                ItemKind.UPDATE,
                lineage=lineage,
                contributors=ancestry,
                sender=region,
                recipient=region,
            ),
        )
        yield from _crossing(phase, ItemKind.UPDATE, lineage, region, HUB, ancestry)
    yield (
        f"{phase}: {lineage} merge update hub",
        question(
            Action.MERGE,
            ItemKind.UPDATE,
            lineage=lineage,
            contributors=ancestry,
            sender=HUB,
            recipient=HUB,
        ),
    )
    for region in regions:
        yield from _delivery(phase, ItemKind.CANDIDATE, lineage, region, ancestry)
        yield from _crossing(phase, ItemKind.METRICS, lineage, region, HUB, ancestry)
        yield from _delivery(phase, ItemKind.RELEASE, lineage, region, ancestry)
        yield from _delivery(phase, ItemKind.SNAPSHOT, lineage, region, ancestry)


def _delivery(
    phase: str,
    kind: ItemKind,
    lineage: LineageId,
    recipient: Party,
    ancestry: frozenset[Party],
) -> Iterator[tuple[str, Question]]:
    yield from _crossing(phase, kind, lineage, HUB, recipient, ancestry)


def _crossing(
    phase: str,
    kind: ItemKind,
    lineage: LineageId,
    sender: Party,
    recipient: Party,
    ancestry: frozenset[Party],
) -> Iterator[tuple[str, Question]]:
    """Both halves of one crossing."""
    for action in (Action.EXPORT, Action.IMPORT):
        yield (
            f"{phase}: {lineage} {action} {kind} {sender.region} > {recipient.region}",
            question(
                action,
                kind,
                lineage=lineage,
                contributors=ancestry,
                sender=sender,
                recipient=recipient,
            ),
        )
