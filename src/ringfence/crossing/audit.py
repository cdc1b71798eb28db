"""Reads a log as an outsider: every signature in it, and how its entries belong together.

agreement   signed by the log's owner
intent      signed by the owner under an agreement that it signed before; the question that it
            names stands before it, is about it, and got the answer that it says (`retrial`); what a
            hub hands out must be what its log says came of recorded updates (`ancestry`)
arrival     signed by the counterparty, addressed to the owner, whose own question stands before it
receipt     signed by the counterparty, for an intent that stands before it, and for its payload
merge       of updates of this round on this parent, whose arrivals stand before it; the parent is
            what the lineage stood on, and each update bears the tags of its ancestry
release     of the merge that stands before it
admission   of a release or snapshot, signed by the hub, whose arrival stands before it
revocation  signed by somebody who may sign the holder's papers under an agreement that is here
pack        the text is that of its digest
paper       signed by all who must under an agreement that is here; what relies on it was decided
            under such a one
verdict     its packs and papers stand before it; with `retrial`, the packs say the same once more
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ringfence.core.agreement import Agreement
from ringfence.core.artifacts import (
    Declaration,
    declaration_from_bytes,
    receipt_from_bytes,
    statement_digest,
)
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.core.errors import Error, LogError
from ringfence.core.ids import RegionId
from ringfence.core.wire import STATEMENT_LIMIT_BYTES
from ringfence.crossing.ancestry import (
    Base,
    Merge,
    ReleaseRecord,
    check_candidate,
    check_received,
    check_release,
    check_snapshot,
    read_merge,
    read_release,
    start_of,
)
from ringfence.crossing.docket import pack_name, said
from ringfence.crossing.entries import Entry
from ringfence.crossing.papers import open_approval
from ringfence.crossing.retrial import Retrial, Trial, check_agreed, read_trial
from ringfence.crossing.revoking import check_recorded
from ringfence.crossing.signatures import check_signature
from ringfence.crossing.statements import STATEMENT_PAYLOAD_TYPE
from ringfence.policy.approvals import Approval
from ringfence.policy.judge import VERDICT_LIFE_S
from ringfence.policy.words import Action
from ringfence.trust.dsse import open_envelope

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One entry that held, with the declaration that it carries, if any."""

    index: int
    entry: Entry
    declaration: Declaration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPaper:
    """A recorded approval, and the agreements under which it counts, by digest."""

    approval: Approval
    under: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Audit:
    """Checks entries one by one, in order; `owner` is the region whose log it is.

    `agreements` are all that lie beside the log, by digest: a statement names its own.  With
    `whole` unset some entries are not disclosed, and a reference to one that is not here passes.
    With `retrial`, which needs them all, every recorded question is judged again.
    """

    owner: RegionId
    agreements: Mapping[str, Agreement]
    whole: bool = True
    retrial: Retrial | None = None
    seen: list[Seen] = field(default_factory=list)
    signed: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    intents: dict[str, Declaration] = field(default_factory=dict)
    arrivals: dict[str, Declaration] = field(default_factory=dict)
    merges: dict[tuple[str, int], list[Merge]] = field(default_factory=dict)
    releases: dict[tuple[str, int], ReleaseRecord] = field(default_factory=dict)
    sent: dict[tuple[str, int], list[Declaration]] = field(default_factory=dict)
    admitted: dict[str, Declaration] = field(default_factory=dict)
    packs: dict[str, Entry] = field(default_factory=dict)
    papers: dict[str, SeenPaper] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)

    def read(self, index: int, content: bytes) -> Seen:
        """Check the next entry.

        Raises: LogError naming the entry when a signature does not hold, or it refers to
        something that does not stand before it.
        """
        try:
            entry = Entry.from_bytes(content)
            seen = Seen(index=index, entry=entry, declaration=self._check(entry, index))
        except Error as error:
            raise LogError(f"entry {index}: {error}") from error
        self.seen.append(seen)
        return seen

    def count(self, kind: str) -> int:
        """How many entries of a kind there were."""
        return sum(seen.entry.kind == kind for seen in self.seen)

    def _check(self, entry: Entry, index: int) -> Declaration | None:
        match entry.kind:
            case "agreement":
                self._check_agreement(entry)
            case "intent":
                return self._check_intent(entry)
            case "arrival":
                return self._check_arrival(entry)
            case "receipt":
                self._check_receipt(entry)
            case "merge":
                self._check_merge(entry, index)
            case "release":
                self._check_release(entry, index)
            case "admission":
                return self._check_admission(entry)
            case "revocation":
                self._check_revocation(entry)
            case "pack":
                self._check_pack(entry)
            case "paper":
                self._check_paper(entry)
            case "verdict":
                self._check_verdict(entry)
            case "refusal":
                if entry.refusal is None:
                    raise LogError("a refusal that says no reason")
        return None

    # ── what is signed ──

    def _check_agreement(self, entry: Entry) -> None:
        agreement = self.agreements.get(entry.subject)
        if agreement is None:
            raise LogError(f"signs agreement {entry.subject}, which is not here")
        check_signature(agreement, self.owner, entry.envelope.encode())
        self.signed.add(agreement.digest)

    def _check_intent(self, entry: Entry) -> Declaration:
        recipient = entry.counterparty
        declaration = self._statement(entry, signer=self.owner, recipient=recipient)
        if declaration.kind in ("candidate", "release", "snapshot"):
            self._check_handed_out(declaration)
        elif declaration.kind == "update":
            self.sent.setdefault((entry.lineage, entry.round), []).append(declaration)
        self._check_asked(declaration, declaration.verdict.question, Action.EXPORT)
        self.intents[entry.subject] = declaration
        return declaration

    def _check_handed_out(self, declaration: Declaration) -> None:
        """What a hub sends must be what its log says came of recorded updates."""
        agreement = self.agreements[declaration.agreement]
        _same("hub", agreement.hub, self.owner)
        round_ = (declaration.lineage, declaration.round)
        if declaration.kind == "candidate":
            if merges := self._require(self.merges.get(round_), "merge"):
                check_candidate(declaration, merges)
        elif declaration.kind == "release":
            if record := self._require(self.releases.get(round_), "release"):
                check_release(declaration, record)
        elif self.whole:
            check_snapshot(declaration, agreement, self.releases)

    def _check_arrival(self, entry: Entry) -> Declaration:
        signer = RegionId(entry.counterparty)
        declaration = self._statement(entry, signer=signer, recipient=self.owner)
        if declaration.kind in ("candidate", "release"):
            base = self.admitted.get(declaration.lineage)
            sent = self.sent.get((declaration.lineage, declaration.round), ())
            check_received(declaration, sent, base_tags=base.jurisdictions if base else ())
        if len(entry.inputs) != 1:
            raise LogError("expected the question that our own law was asked about the import")
        self._check_asked(declaration, entry.inputs[0], Action.IMPORT)
        self.arrivals[entry.subject] = declaration
        return declaration

    def _check_receipt(self, entry: Entry) -> None:
        signer = RegionId(entry.counterparty)
        envelope = entry.envelope.encode()
        data, _ = self._open(envelope, signer)
        note = receipt_from_bytes(data)
        _same("statement", entry.subject, note.statement)
        sent = self._require(self.intents.get(note.statement), "intent")
        if sent is not None:
            _same("sender", self.owner, note.sender)
            _same("recipient", signer, sent.recipient)
            _same("recipient", signer, note.recipient)
            _same("payload", "" if sent.payload is None else sent.payload.digest, note.payload)

    def _check_admission(self, entry: Entry) -> Declaration:
        signer = RegionId(entry.counterparty)
        declaration = self._statement(entry, signer=signer, recipient=self.owner)
        _same("hub", self.agreements[declaration.agreement].hub, signer)
        if declaration.kind not in ("release", "snapshot"):
            raise LogError(f"admits a {declaration.kind}; expected a release or a snapshot")
        _same("model", declaration.model, entry.subject)
        self._require(self.arrivals.get(statement_digest(entry.envelope.encode())), "arrival")
        self.admitted[declaration.lineage] = declaration
        return declaration

    def _check_revocation(self, entry: Entry) -> None:
        check_recorded(
            entry,
            keys={
                approver.public_key()
                for agreement in self.agreements.values()
                for party in agreement.terms.regions
                if party.operator in entry.inputs[1:2]  # its holder
                for approver in party.signatories()
            },
        )

    # ── what was asked ──

    def _check_pack(self, entry: Entry) -> None:
        _same("digest", entry.subject, statement_digest(entry.envelope.encode()))
        if len(entry.inputs) != 2:
            raise LogError("expected the pack's name and the version that wrote it")
        self.packs[pack_name(entry)] = entry

    def _check_paper(self, entry: Entry) -> None:
        envelope = entry.envelope.encode()
        _same("digest", entry.subject, statement_digest(envelope))
        counts: dict[str, Approval] = {}
        problem: Error = LogError("no agreement is here that names who may sign it")
        for digest, agreement in self.agreements.items():
            try:
                counts[digest] = open_approval(agreement, envelope, what="recorded paper")
            except Error as error:
                problem = error
        if not counts:
            raise problem
        approval = next(iter(counts.values()))
        _same("paper", (approval.id, approval.holder), entry.inputs)
        self.papers[entry.subject] = SeenPaper(approval=approval, under=frozenset(counts))

    def _check_verdict(self, entry: Entry) -> None:
        trial = read_trial(entry)
        for pack in trial.packs:
            self._require(self.packs.get(pack), f"pack {pack}")
        papers = [
            self._require(self.papers.get(paper.envelope), f"paper {paper.id} of {paper.holder}")
            for paper in trial.record.papers
        ]
        found = [paper.approval for paper in papers if paper is not None]
        if len(found) == len(papers):
            named = [(paper.id, paper.holder) for paper in trial.record.papers]
            _same("papers", [(each.id, each.holder) for each in found], named)
        self.trials[entry.subject] = trial
        if self.retrial is not None:
            self.retrial.judge(trial, self.packs, found)

    def _check_asked(self, declaration: Declaration, question: str, action: Action) -> None:
        """The owner's law was asked exactly this, and answered what the statement says."""
        trial = self._require(self.trials.get(question), f"verdict on question {question}")
        if trial is None:
            return
        agreement = self.agreements[declaration.agreement]
        check_agreed(
            trial.record.question, agreement, declaration, action=action, region=self.owner
        )
        for paper in trial.record.papers:
            seen = self.papers.get(paper.envelope)
            if seen is not None and agreement.digest not in seen.under:
                raise LogError(f"rests on paper {paper.id}, which does not count as agreed")
        if self.retrial is not None:
            self.retrial.require_pinned(trial, agreement)
        if action is Action.EXPORT:
            note = declaration.verdict
            _same("answer", trial.lines, said(note))
            issued_s, asked_s = from_rfc3339(declaration.issued), trial.record.question.now
            if from_rfc3339(note.valid_until) < issued_s or asked_s > issued_s + VERDICT_LIFE_S:
                raise LogError(
                    f"issued {declaration.issued} under a verdict of {to_rfc3339(asked_s)}, which "
                    f"held until {note.valid_until}"
                )

    # ── what came of what ──

    def _check_merge(self, entry: Entry, index: int) -> None:
        updates = self._named_updates(entry)
        if not updates:
            return
        agreement = self.agreements[updates[0].agreement]
        _same("hub", agreement.hub, self.owner)
        before = [of for line, of in self.releases if line == entry.lineage and of < entry.round]
        released_before = max(before, default=0)
        merge = read_merge(
            entry,
            index,
            updates,
            agreement,
            released_before=released_before,
            base=self._base(agreement, entry, released_before),
        )
        self.merges.setdefault((entry.lineage, entry.round), []).append(merge)

    def _base(self, agreement: Agreement, entry: Entry, released_before: int) -> Base | None:
        """What the lineage stood on before a merge; None when an entry may be missing for it."""
        if released_before:
            record = self.releases[entry.lineage, released_before]
            base = Base(model=record.model, tags=record.merge.jurisdictions)
        else:
            base = start_of(agreement, agreement.lineage(entry.lineage), self.releases)
        if self.whole:
            self._require(base.tags, "release")
            return base
        return base if entry.inputs[:1] == (base.model,) else None

    def _check_release(self, entry: Entry, index: int) -> None:
        round_ = (entry.lineage, entry.round)
        merges = self._require(self.merges.get(round_), "merge")
        updates = self._named_updates(entry)
        if not merges or not updates:
            return
        record = read_release(entry, index, updates, merges)
        if round_ in self.releases:
            _same("model of the round", self.releases[round_].model, record.model)
        self.releases[round_] = record

    def _named_updates(self, entry: Entry) -> list[Declaration]:
        """The arrivals that a merge or a release names; none when one is not disclosed."""
        if not entry.inputs[2:]:
            raise LogError(f"a {entry.kind} of nothing")
        updates = [
            self._require(self.arrivals.get(statement), f"arrival of {statement}")
            for statement in entry.inputs[2:]
        ]
        known = [update for update in updates if update is not None]
        return known if len(known) == len(updates) else []

    # ── shared ──

    def _require(self, found: T | None, what: str) -> T | None:
        """Raise `LogError` when something that must stand before this entry does not."""
        if found is None and self.whole:
            raise LogError(f"no {what} that it refers to is recorded before it")
        return found

    def _statement(self, entry: Entry, *, signer: RegionId, recipient: str) -> Declaration:
        """Open the entry's statement, under the key of `signer` in the agreement that it names."""
        envelope = entry.envelope.encode()
        data, key = self._open(envelope, signer)
        declaration = declaration_from_bytes(data)
        agreement = self.agreements.get(declaration.agreement)
        if agreement is None or agreement.region(signer).statement_public_key() != key:
            raise LogError(f"not signed as agreement {declaration.agreement} asks, if it is here")
        self._require(agreement if agreement.digest in self.signed else None, "agreement")
        self.used.add(agreement.digest)
        for what, want, got in (
            ("sender", signer, declaration.sender),
            ("recipient", recipient, declaration.recipient),
            ("lineage", entry.lineage, declaration.lineage),
            ("round", entry.round, declaration.round),
        ):
            _same(what, want, got)
        if entry.kind != "admission":
            _same("statement", statement_digest(envelope), entry.subject)
        return declaration

    def _open(self, envelope: bytes, signer: RegionId) -> tuple[bytes, bytes]:
        """What `signer` signed, and with which of the keys that agreements here name for it."""
        keys = {
            agreement.region(signer).statement_public_key()
            for agreement in self.agreements.values()
            if signer in agreement.regions()
        }
        problem: Error = LogError(f"no agreement names region {signer!r}")
        for key in sorted(keys):
            try:
                data = open_envelope(
                    envelope,
                    public_key=key,
                    payload_type=STATEMENT_PAYLOAD_TYPE,
                    limit_bytes=STATEMENT_LIMIT_BYTES,
                    what=f"statement of {signer}",
                )
            except Error as error:
                problem = error
            else:
                return data, key
        raise problem


def _same(what: str, want: object, got: object) -> None:
    if want != got:
        raise LogError(f"expected {what} {want or 'none'}, got {got or 'none'}")
