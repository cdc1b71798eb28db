"""Logs of a hub that never ran: any history of rounds over four lineages, every statement signed.

    told = telling(template)
    told.round("world", ("cn", "de"))                    # merged and released
    told.round("world", ("de", "us"), released=False)    # merged and held
    told.audit()

`a` branches off `world:1`, `b` off `a:1`, and `c` off the start of `b`.  What each item comes of is
kept apart from the log, so that a slow and obvious recursion can be held against the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace
from tests.places.founding import MEMBERS, Template, digest_of
from tests.places.records import paper_entry, told_question, verdict_entry

from ringfence.cli.agreement_text import render
from ringfence.core.agreement import Agreement, parse_agreement
from ringfence.core.artifacts import (
    Declaration,
    Input,
    Kind,
    Payload,
    VerdictNote,
    payload_of,
    statement_digest,
)
from ringfence.core.chunks import ChunkHasher
from ringfence.core.ids import RegionId
from ringfence.core.terms import Lineage, Start
from ringfence.crossing.audit import Audit
from ringfence.crossing.entries import Entry
from ringfence.crossing.signatures import sign_agreement
from ringfence.crossing.statements import seal_declaration
from ringfence.opening import read_agreement
from ringfence.policy.words import Action
from ringfence.trust.keys import Signer

LINEAGES = ("world", "a", "b", "c")
BRANCHES = {"a": ("world", 1), "b": ("a", 1), "c": ("b", 0)}
_AT = "2026-11-20T09:00:00Z"

Name = tuple[str, ...]
"""`("model", "world", "2")`, `("update", "world", "2", "cn")`, `("copy", "world", "2", "cn")`."""


def model_of(lineage: str, round_: int) -> str:
    """Digest of a round's model; a branch's start is the model that it leaves."""
    if round_ == 0 and lineage in BRANCHES:
        return model_of(*BRANCHES[lineage])
    return digest_of(f"model {lineage} {round_}")


def paper_of(item: Name) -> str:
    """The one approval that an item's statement relies on."""
    return "/".join(item)


@dataclass(kw_only=True)
class Telling:
    """A history as it is told; `parents` says what each item comes of."""

    agreement: Agreement
    signers: Mapping[str, Signer]
    counsel: Signer
    entries: list[Entry] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)
    released: set[tuple[str, int]] = field(default_factory=set)
    parents: dict[Name, list[Name]] = field(default_factory=dict)
    own: dict[Name, set[str]] = field(default_factory=dict)

    def may(self, lineage: str) -> bool:
        """Whether what the lineage starts from has been released."""
        of, round_ = BRANCHES.get(lineage, ("", 0))
        return not of or (self.may(of) if round_ == 0 else (of, round_) in self.released)

    def round(
        self,
        lineage: str,
        senders: Sequence[str],
        *,
        released: bool = True,
        state: Sequence[str] = (),
    ) -> None:
        """One round; the first sender's update also bears the tags of its regional `state`."""
        number = self.rounds[lineage] = self.rounds.get(lineage, 0) + 1
        if lineage in BRANCHES and number == 1:
            self._start(lineage)
        base = self.newest.get(lineage, 0)
        before = sorted(self.naive_tags(("model", lineage, str(base))))
        statements, payloads, tags = [], [], set(before)
        for place, sender in enumerate(sorted(senders)):
            extra = state if place == 0 else ()
            declared = sorted({*before, *extra, self.agreement.jurisdiction(sender)})
            item = ("update", lineage, str(number), sender)
            self.own[item] = {*extra, self.agreement.jurisdiction(sender)}
            self.parents[item] = [("model", lineage, str(base))]
            if (copy := self._copy(lineage, base, sender)) is not None:
                self.parents[item].append(copy)
            declaration = self._declared(
                "update", item, lineage, number, model_of(lineage, base), sender, "hub", declared
            )
            if extra:
                given = (*declaration.inputs, Input(role="state", digest=digest_of("state")))
                declaration = replace(declaration, inputs=given)
            statements.append(self._said("arrival", declaration, sender))
            assert declaration.payload is not None
            payloads.append(declaration.payload.digest)
            tags.update(declared)
        self._merge(lineage, number, base, sorted(senders), statements)
        inputs = tuple(Input(role="update", digest=payload) for payload in payloads)
        self._hand_out("candidate", lineage, number, base, inputs, sorted(tags))
        if released:
            self._record("release", lineage, number, base, statements)
            self._hand_out("release", lineage, number, base, inputs, sorted(tags))
            self.newest[lineage] = number
            self.released.add((lineage, number))

    def audit(self, entries: Sequence[Entry] | None = None) -> Audit:
        audit = Audit(owner=RegionId("hub"), agreements={self.agreement.digest: self.agreement})
        for index, entry in enumerate(self.entries if entries is None else entries):
            audit.read(index, entry.to_bytes())
        return audit

    # ── slow and obvious ──

    def naive_tags(self, item: Name) -> set[str]:
        """The union of the tags of everything that an item comes of, and of its own."""
        return {tag for each in self._naive(item, {}) for tag in self.own.get(each, ())}

    def naive_reached(self, item: Name, source: Name) -> bool:
        """Whether an item is, or comes of, the one whose paper was revoked."""
        return source in self._naive(item, {})

    def _naive(self, item: Name, known: dict[Name, set[Name]]) -> set[Name]:
        """An item and all that it comes of; `known` saves the doubling with every round."""
        if item not in known:
            found = [self._naive(parent, known) for parent in self.parents.get(item, ())]
            known[item] = {item}.union(*found)
        return known[item]

    # ── how it is told ──

    def _start(self, lineage: str) -> None:
        of, round_ = BRANCHES[lineage]
        if round_ == 0 and ("model", of, "0") not in self.parents:
            self._start(of)
        self.parents["model", lineage, "0"] = [("model", of, str(round_))]

    def _copy(self, lineage: str, round_: int, region: str) -> Name | None:
        """What a region had of a model; of a branch's start, its copy of what the branch left."""
        while round_ == 0 and lineage in BRANCHES:
            lineage, round_ = BRANCHES[lineage]
        item = ("copy", lineage, str(round_), region)
        return item if item in self.parents else None

    def _merge(
        self, lineage: str, number: int, base: int, senders: list[str], statements: list[str]
    ) -> None:
        model = ("model", lineage, str(number))
        self.parents[model] = [
            ("model", lineage, str(base)),
            *(("update", lineage, str(number), sender) for sender in senders),
        ]
        self._record("merge", lineage, number, base, statements)

    def _record(
        self, kind: str, lineage: str, number: int, base: int, statements: Sequence[str]
    ) -> None:
        parent, model = model_of(lineage, base), model_of(lineage, number)
        payload = _payload(f"merged {lineage} {number}").digest
        merge = kind == "merge"
        self.entries.append(
            Entry(
                kind="merge" if merge else "release",
                at=_AT,
                counterparty="hub",
                lineage=lineage,
                round=number,
                subject=payload if merge else model,
                inputs=(parent, model if merge else payload, *statements),
            )
        )

    def _hand_out(
        self,
        kind: Kind,
        lineage: str,
        number: int,
        base: int,
        inputs: tuple[Input, ...],
        tags: list[str],
    ) -> None:
        for region in MEMBERS:
            item = ("copy", lineage, str(number), region)
            self.parents[item] = [("model", lineage, str(number))]
            declaration = self._declared(
                kind, item, lineage, number, model_of(lineage, base), "hub", region, tags
            )
            declaration = replace(
                declaration,
                model=model_of(lineage, number),
                inputs=(*declaration.inputs, *inputs),
                payload=_payload(f"merged {lineage} {number}") if kind == "candidate" else None,
                codec="float32" if kind == "candidate" else "none",
            )
            self._said("intent", declaration, region)

    def _declared(
        self,
        kind: Kind,
        item: Name,
        lineage: str,
        round_: int,
        parent: str,
        sender: str,
        recipient: str,
        tags: Sequence[str],
    ) -> Declaration:
        return Declaration(
            agreement=self.agreement.digest,
            kind=kind,
            lineage=lineage,
            round=round_,
            sender=sender,
            recipient=recipient,
            parent=parent,
            model="",
            layout=self.agreement.update_layout.digest,
            codec="float32",
            payload=_payload("/".join(item)),
            inputs=(Input(role="base", digest=parent),),
            jurisdictions=tuple(tags),
            data_classes=(),
            hardware="uncontrolled",
            purpose="civil_driving",
            examples=1,
            metrics={},
            verdict=VerdictNote(
                question="", packs=(), approvals=(paper_of(item),), valid_until=_AT
            ),
            issued=_AT,
        )

    def _said(self, kind: str, declaration: Declaration, counterparty: str) -> str:
        """The statement in its entry, behind the verdict of the hub's own law."""
        arrived = kind == "arrival"
        papers = () if arrived else (self._paper(declaration),)
        asked = told_question(
            self.agreement,
            declaration,
            action=Action.IMPORT if arrived else Action.EXPORT,
            region="hub",
        )
        verdict = verdict_entry(asked, declaration, declaration.verdict, papers)
        note = replace(declaration.verdict, question=verdict.subject)
        envelope = seal_declaration(
            replace(declaration, verdict=note), self.signers[declaration.sender]
        )
        digest = statement_digest(envelope)
        self.entries += [
            *papers,
            verdict,
            Entry(
                kind="arrival" if arrived else "intent",
                at=_AT,
                counterparty=counterparty,
                lineage=declaration.lineage,
                round=declaration.round,
                subject=digest,
                envelope=envelope.decode(),
                inputs=(verdict.subject,) if arrived else (),
            ),
        ]
        return digest

    def _paper(self, declaration: Declaration) -> Entry:
        (id_,) = declaration.verdict.approvals
        hub = self.agreement.region("hub")
        return paper_entry(
            id_, hub.operator, hub.jurisdiction, declaration.lineage, _AT, self.counsel
        )


def telling(template: Template) -> Telling:
    """An agreement on the four lineages, signed by the hub, and nothing that came of it."""
    federation = template.federation
    terms = read_agreement(federation.homes["hub"]).terms
    (world, _) = terms.lineages
    lineages = tuple(_lineage(world, name) for name in LINEAGES)
    agreement = parse_agreement(render(replace(terms, lineages=lineages)).encode())
    signers = {name: template.founded.signers[name, "statement"] for name in agreement.regions()}
    counsel = template.founded.signers["hub", "counsel"]
    told = Telling(agreement=agreement, signers=signers, counsel=counsel)
    told.entries.append(
        Entry(
            kind="agreement",
            at=_AT,
            counterparty="hub",
            subject=agreement.digest,
            envelope=sign_agreement(agreement, RegionId("hub"), signers["hub"]).decode(),
        )
    )
    return told


def _lineage(world: Lineage, name: str) -> Lineage:
    start = Start(model=model_of(name, 0), branch_of=BRANCHES.get(name, ("", 0))[0])
    return replace(world, id=name, quorum=1, until_round=99, gate=None, start=start)


def _payload(text: str) -> Payload:
    hasher = ChunkHasher()
    hasher.update(text.encode())
    return payload_of(hasher.finish())
