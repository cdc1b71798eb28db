"""Sample approvals and registered facts: fiction that lets a sample federation run as it is.

Every document that these papers name is invented.  They show which papers counsel would have to
obtain for the planned crossings, and let `ringfence check` be tried: remove one and see the rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ringfence.config import Home, write_private
from ringfence.core.agreement import Agreement
from ringfence.core.catalogue import parse_catalogue
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.errors import ConfigError, Refused
from ringfence.core.ids import digest
from ringfence.core.terms import Party
from ringfence.crossing.law import Law
from ringfence.crossing.papers import seal_approval
from ringfence.crossing.planning import plan, planned_questions
from ringfence.crossing.registry import parse_registry
from ringfence.crossing.requests import joined
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.cures import CureFinder
from ringfence.policy.judge import Judge
from ringfence.policy.measures import papers_of
from ringfence.policy.packs import load_packs
from ringfence.trust.keys import load_ed25519, read_passphrase

_DAY_S = 86_400.0
_FINDERS: dict[tuple[str, ...], CureFinder] = {}
_VALID_S = 180 * _DAY_S
_FACTS_HEAD = """\
# SAMPLE.  What this region's compliance has registered; a real one is kept by real tools.
# Screenings count for 24 hours, extraction tests for 30 days.  Each screening is of one company,
# person or state; a company names its owners, each of which has a screening of its own.

# Operations of the whole training before this agreement; the agreement bounds what it adds.
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


def write_sample_papers(homes: Mapping[str, Home], agreement: Agreement, *, clock: Clock) -> None:
    """Have each region's counsel sign the samples it would hold; every region gets a copy.

    Raises: ConfigError when the law bars a planned crossing whatever is held.
    """
    now_s = float(int(clock()))
    signed: dict[str, bytes] = {}
    judge = Judge(packs=load_packs(homes[agreement.hub].packs))
    for approval, holder in sample_approvals(homes, agreement, judge, now_s=now_s):
        home = homes[holder.id]
        counsel = load_ed25519(
            home.keys / "offline" / "counsel.key", read_passphrase(home.passphrase_source())
        )
        signed[approval.id.replace("/", "-")] = seal_approval(approval, counsel)
    facts = sample_facts(homes, agreement, now_s=now_s)
    for home in homes.values():
        for name, envelope in signed.items():
            write_private(home.approvals / f"{name}.dsse.json", envelope)
        write_private(home.facts, facts.encode())


def sample_facts(homes: Mapping[str, Home], agreement: Agreement, *, now_s: float) -> str:
    """The text of `facts.toml`: operators screened now, lineages tested yesterday, data counted.

    An operator has one holding at the seat of its ultimate parent, and that a founder and dispersed
    holders.
    """
    operators = {party.operator: party for party in reversed(agreement.terms.regions)}
    screenings = (
        table
        for party in reversed(operators.values())
        for table in _screenings(party, at=to_rfc3339(now_s))
    )
    tests = (
        f'[[extractions]]\nlineage = "{lineage.id}"\npassed = true\n'
        f'tested_at = "{to_rfc3339(now_s - _DAY_S)}"\n'
        f'evidence = "{_document("extraction test", lineage.id)}"\n'
        for lineage in agreement.terms.lineages
    )
    return "\n".join((_FACTS_HEAD, *screenings, *tests, *_data_sets(homes)))


def _data_sets(homes: Mapping[str, Home]) -> Iterator[str]:
    """How many subjects each region's catalogue counts, for every other region to know."""
    for name, home in sorted(homes.items()):
        if not home.catalogue.exists():
            continue
        catalogue, digest_ = parse_catalogue(home.catalogue.read_bytes())
        if subjects := catalogue.subjects:
            yield (
                f'[[data_sets]]\nregion = "{name}"\ncatalogue = "{digest_}"\n'
                f"people = {subjects.people}\nsensitive_people = {subjects.sensitive_people}\n"
                f"devices = {subjects.devices}\n"
            )


def _screenings(party: Party, *, at: str) -> Iterator[str]:
    """The chain of one operator, from below; nobody in it is on a list."""
    holding = f"{party.operator} Holding (SAMPLE)"
    founder = f"Founder of {party.operator} (SAMPLE)"
    searched = f'at = "{at}"\nus_listed = false\ncn_listed = false\n'
    yield (
        f'[[screenings]]\nname = "{party.operator}"\nseat = "{party.jurisdiction}"\n{searched}'
        f'owners = [{{ name = "{holding}", percent = 100 }}]\n'
    )
    yield (
        f'[[screenings]]\nname = "{holding}"\nseat = "{party.parent}"\n{searched}'
        f'owners = [{{ name = "{founder}", percent = 37.5 }}]\ndispersed = 62.5\n'
    )
    yield (
        f'[[screenings]]\nname = "{founder}"\nkind = "person"\nseat = "{party.parent}"\n{searched}'
    )


def sample_approvals(
    homes: Mapping[str, Home], agreement: Agreement, judge: Judge, *, now_s: float
) -> Iterator[tuple[Approval, Party]]:
    """The papers that the planned crossings of every lineage need, each with who holds it.

    They are what `ringfence check` would propose: the first route out of every refusal.
    """
    # Asked as of midnight, so that plans of one day that differ in names are asked once.
    asked_s = now_s - now_s % _DAY_S
    facts = parse_registry(sample_facts(homes, agreement, now_s=asked_s).encode())
    law = Law(
        region=agreement.hub,
        agreement=agreement,
        judge=judge,
        approvals=lambda: (),
        registry=lambda: facts,
        clock=lambda: asked_s,
    )
    finder = _finder(judge)
    papers: dict[tuple[str, ...], Approval] = {}
    for step, asked in planned_questions(law, plan(agreement)):
        if isinstance(asked, Refused):
            raise asked
        cures = finder.find(asked)
        if cures.bars:
            raise ConfigError(
                f"lineage {step.draft.lineage}: {step.action} {step.draft.kind} from {step.sender} "
                f"to {step.recipient} is refused by {cures.bars[0].id} whatever is held; "
                "change the plan"
            )
        for needed in cures.routes[0]:
            for paper in papers_of(asked, needed):
                key = (paper.type, paper.lineage, paper.holder, paper.origin, paper.destination)
                papers[key] = joined(papers.get(key, paper), paper)
    holders = {party.operator: party for party in agreement.terms.regions}
    for paper in papers.values():
        holder = holders[paper.holder]
        yield _sample(paper, holder, now_s=now_s), holder


def _finder(judge: Judge) -> CureFinder:
    """The finder for these packs; it remembers what it has found."""
    packs = tuple(pack.digest for pack in judge.packs)
    if packs not in _FINDERS:
        _FINDERS[packs] = CureFinder(judge, most=1)
    return _FINDERS[packs]


def _sample(paper: Approval, holder: Party, *, now_s: float) -> Approval:
    name = f"{paper.type}/{paper.lineage}/{holder.id}-{paper.destination.lower()}"
    return replace(
        paper,
        id=ApprovalId(name),
        issuer="SAMPLE issuer",
        issued=now_s,
        expires=now_s + _VALID_S,
        revocation_source="revoked in facts.toml",
        document=digest(_document(paper.type, name)),
    )


def _document(kind: str, name: str) -> str:
    text = f"SAMPLE {kind} {name}: this document does not exist"
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
