"""Sample approvals and registered facts: fiction that lets a sample federation run as it is.

Every document that these papers name is invented.  They show which papers counsel would have to
obtain for the planned crossings, and let `ringfence check` be tried: remove one and see the rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ringfence.config import Home, write_private
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import parse_catalogue
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.ids import Jurisdiction, LineageId, digest
from ringfence.core.terms import Lineage, Party
from ringfence.crossing.papers import seal_approval
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.words import ApprovalType, DataClass, ItemKind, Purpose
from ringfence.trust.keys import load_ed25519, read_passphrase

_DAY_S = 86_400.0
_VALID_S = 180 * _DAY_S
_OUT = frozenset({ItemKind.CANDIDATE, ItemKind.RELEASE, ItemKind.SNAPSHOT})
_BOTH = _OUT | {ItemKind.UPDATE}

_FACTS_HEAD = """\
# SAMPLE.  What this region's compliance has registered; a real one is kept by real tools.
# Screenings count for 24 hours, extraction tests for 30 days.

# Operations of the whole training so far.
training_ops = 1e15

# Ids of approvals that were revoked.
revoked = []

# What was exported before Ringfence counted.
[counters]
cn_people = 0
cn_sensitive_people = 0
us_people = 0
us_devices = 0
"""


def write_sample_papers(homes: dict[str, Home], agreement: Agreement, *, clock: Clock) -> None:
    """Have each region's counsel sign the samples it would hold; every region gets a copy."""
    now_s = float(int(clock()))
    signed: dict[str, bytes] = {}
    for approval, holder in sample_approvals(agreement, now_s=now_s):
        home = homes[holder.id]
        counsel = load_ed25519(
            home.keys / "offline" / "counsel.key", read_passphrase(home.passphrase_source())
        )
        signed[approval.id.replace("/", "-")] = seal_approval(approval, counsel)
    facts = sample_facts(agreement, now_s=now_s) + _data_sets(homes.values())
    for home in homes.values():
        for name, envelope in signed.items():
            write_private(home.approvals / f"{name}.dsse.json", envelope)
        write_private(home.facts, facts.encode())


def sample_facts(agreement: Agreement, *, now_s: float) -> str:
    """The text of `facts.toml`: every operator screened now, every lineage tested yesterday."""
    screenings = (
        f'[[screenings]]\noperator = "{party.operator}"\nat = "{to_rfc3339(now_s)}"\n'
        "us_listed = false\ncn_listed = false\nlisted_owners_percent = 0\n"
        for party in agreement.terms.regions
    )
    tests = (
        f'[[extractions]]\nlineage = "{lineage.id}"\npassed = true\n'
        f'tested_at = "{to_rfc3339(now_s - _DAY_S)}"\n'
        f'evidence = "{_document("extraction test", lineage.id)}"\n'
        for lineage in agreement.terms.lineages
    )
    return "\n".join((_FACTS_HEAD, *screenings, *tests))


def _data_sets(homes: Iterable[Home]) -> str:
    """How many subjects each region's catalogue counts, for every other region to know."""
    rows = []
    for home in homes:
        if not home.catalogue.exists():
            continue
        catalogue, name = parse_catalogue(home.catalogue.read_bytes())
        if subjects := catalogue.subjects:
            rows.append(
                f'\n[[data_sets]]\nregion = "{home.region}"\ncatalogue = "{name}"\n'
                f"people = {subjects.people}\nsensitive_people = {subjects.sensitive_people}\n"
                f"devices = {subjects.devices}\n"
            )
    return "".join(rows)


def sample_approvals(agreement: Agreement, *, now_s: float) -> Iterator[tuple[Approval, Party]]:
    """The papers that the planned crossings of every lineage need, each with who holds it."""
    for lineage in agreement.terms.lineages:
        yield from _Samples(agreement, lineage, now_s).all()


class _Samples:
    """The papers of one lineage."""

    def __init__(self, agreement: Agreement, lineage: Lineage, now_s: float) -> None:
        self._agreement = agreement
        self._lineage = lineage
        self._now_s = now_s
        members = {*lineage.recipients, *lineage.contributors, agreement.hub}
        self._parties = [p for p in agreement.terms.regions if p.id in members]
        self._hub = agreement.region(agreement.hub)

    def all(self) -> Iterator[tuple[Approval, Party]]:
        chinese, american = self._of("CN"), self._of("US")
        for party in chinese:
            yield from self._chinese(party)
        for party in american:
            yield self._paper(ApprovalType.BIS_CLASSIFICATION, party, "EU", self._of("EU"), _BOTH)
            if chinese:
                yield self._paper(ApprovalType.BIS_CLASSIFICATION, party, "CN", chinese, _OUT)
        if american:
            for type_ in (ApprovalType.SCC_ID, ApprovalType.TIA_ID, ApprovalType.EU_DUAL_USE_CLASS):
                yield self._paper(type_, self._hub, "US", american, _OUT)
        if chinese:
            # No adequacy decision names China: the European ground is anonymity, not a contract.
            anonymity, holder = self._paper(
                ApprovalType.EDPB_ANONYMITY, self._hub, "CN", chinese, _OUT
            )
            yield replace(anonymity, lowers=frozenset({DataClass.PERSONAL})), holder
            yield self._paper(ApprovalType.EU_DUAL_USE_CLASS, self._hub, "CN", chinese, _OUT)

    def _chinese(self, party: Party) -> Iterator[tuple[Approval, Party]]:
        yield self._paper(
            ApprovalType.MNR_ENTRUSTMENT, party, "CN", [party], frozenset({ItemKind.UPDATE})
        )
        for destination, kinds in (("EU", _BOTH), ("US", _OUT)):
            others = self._of(destination)
            if not others:
                continue
            determination, holder = self._paper(
                ApprovalType.CN_DERIVED_DETERMINATION, party, destination, others, kinds
            )
            lowers = frozenset({DataClass.PERSONAL, DataClass.GEOGRAPHIC})
            yield replace(determination, lowers=lowers), holder
            for type_ in (
                ApprovalType.CAC_ASSESSMENT,
                ApprovalType.CN_TECH_EXPORT,
                ApprovalType.MNR_ENTRUSTMENT,
            ):
                yield self._paper(type_, party, destination, others, kinds)

    def _of(self, jurisdiction: str) -> list[Party]:
        return [party for party in self._parties if party.jurisdiction == jurisdiction]

    def _paper(
        self,
        type_: ApprovalType,
        holder: Party,
        destination: str,
        counterparties: list[Party],
        kinds: frozenset[ItemKind],
    ) -> tuple[Approval, Party]:
        name = f"{type_}/{self._lineage.id}/{holder.id}-{destination.lower()}"
        approval = Approval(
            id=ApprovalId(name),
            type=type_,
            issuer="SAMPLE issuer",
            holder=OperatorId(holder.operator),
            counterparties=frozenset(OperatorId(party.operator) for party in counterparties),
            kinds=kinds,
            origin=Jurisdiction(holder.jurisdiction),
            destination=Jurisdiction(destination),
            lineage=LineageId(self._lineage.id),
            purpose=Purpose(self._agreement.terms.training.purpose),
            scope=self._agreement.scope,
            lowers=frozenset(),
            issued=self._now_s,
            expires=self._now_s + _VALID_S,
            revocation_source="revoked in facts.toml",
            document=digest(_document(type_, name)),
        )
        return approval, holder


def _document(kind: str, name: str) -> str:
    text = f"SAMPLE {kind} {name}: this document does not exist"
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
