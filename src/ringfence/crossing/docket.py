"""What the law was asked, in the region's log: every permit with its facts, packs and papers.

    docket = Docket(log, region, clock, papers.envelope_of, recorded=recorded(log.openings()))
    question = docket.enter(ruling, law.judge.packs, declaration)   # what a statement then names

A pack and a paper are written once, before the first verdict that names them; what is there already
is read back from the log when the region is opened.  Whoever has the log can judge again
(`retrial`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import ringfence
from ringfence.core.artifacts import Declaration, VerdictNote, statement_digest
from ringfence.core.clock import Clock, to_rfc3339
from ringfence.core.ids import Digest, RegionId
from ringfence.crossing.entries import Entry
from ringfence.crossing.law import Ruling
from ringfence.ledger.contents import Opening
from ringfence.ledger.log import Log
from ringfence.policy.approvals import Approval
from ringfence.policy.judge import PackUse, Verdict
from ringfence.policy.packs import SCHEMA, Pack
from ringfence.policy.record import SALT_BYTES, PaperName, Record, relied_on

_MARKS = (b'"kind":"pack"', b'"kind":"paper"')


class Docket:
    """Writes rulings into one region's log; for use from any thread.

    `envelope_of` gives what approvers signed (`Papers.envelope_of`); `recorded` are the packs, as
    `name@digest`, and the papers that the log holds.
    INVARIANT: what a verdict in the log names stands before it.
    """

    def __init__(
        self,
        log: Log,
        region: RegionId,
        clock: Clock,
        envelope_of: Callable[[Approval], bytes],
        *,
        recorded: Iterable[str],
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._log = log
        self._region = region
        self._clock = clock
        self._envelope_of = envelope_of
        self._randomness = randomness
        self._lock = threading.Lock()
        self._recorded = set(recorded)

    def enter(self, ruling: Ruling, packs: Sequence[Pack], declaration: Declaration) -> Digest:
        """Record a permit, durably; returns the digest of its question."""
        with self._lock:
            entries = self._entries(ruling, packs, declaration)
            self._append(entries)
        return Digest(entries[-1].subject)

    def enter_with(
        self,
        ruling: Ruling,
        packs: Sequence[Pack],
        declaration: Declaration,
        *,
        then: Callable[[Digest], Entry],
    ) -> int:
        """Record a permit and, under the same flush, the entry that names its question.

        Returns the index of that entry.
        """
        with self._lock:
            entries = self._entries(ruling, packs, declaration)
            return self._append([*entries, then(Digest(entries[-1].subject))])

    def _append(self, entries: Sequence[Entry]) -> int:
        *_, last = self._log.append_many([entry.to_bytes() for entry in entries])
        # If the process dies before this, the next one reads back what it wrote.
        self._recorded.update(_kept(entries))
        return last.index

    def _entries(
        self, ruling: Ruling, packs: Sequence[Pack], declaration: Declaration
    ) -> list[Entry]:
        """What is new here of packs and papers, and the verdict last."""
        sent = declaration.sender == self._region
        papers = {
            statement_digest(envelope): (approval, envelope)
            for approval in relied_on(ruling.question)
            for envelope in (self._envelope_of(approval),)
        }
        record = Record(
            question=replace(ruling.question, approvals=()),
            papers=tuple(
                PaperName(id=approval.id, holder=approval.holder, envelope=digest)
                for digest, (approval, _) in papers.items()
            ),
            salt=self._randomness(SALT_BYTES).hex(),
        ).to_bytes()
        question = statement_digest(record)
        verdict = Entry(
            kind="verdict",
            at=to_rfc3339(self._clock()),
            counterparty=declaration.recipient if sent else declaration.sender,
            lineage=declaration.lineage,
            round=declaration.round,
            subject=question,
            envelope=record.decode(),
            measurements=said(note_of(ruling.verdict, question)),
        )
        return [
            *self._new_packs(ruling.verdict.packs, packs),
            *self._new_papers(papers),
            verdict,
        ]

    def _new_packs(self, used: Iterable[PackUse], packs: Sequence[Pack]) -> Iterator[Entry]:
        texts = {pack.name: pack.text for pack in packs}
        texts[SCHEMA] = packs[0].vocabulary.text
        for use in used:
            if f"{use.name}@{use.digest}" not in self._recorded:
                yield self._own(
                    "pack", use.digest, texts[use.name], (use.name, ringfence.__version__)
                )

    def _new_papers(self, papers: dict[Digest, tuple[Approval, bytes]]) -> Iterator[Entry]:
        for digest, (approval, envelope) in papers.items():
            if digest not in self._recorded:
                yield self._own("paper", digest, envelope.decode(), (approval.id, approval.holder))

    def _own(
        self, kind: Literal["pack", "paper"], subject: Digest, text: str, inputs: tuple[str, ...]
    ) -> Entry:
        return Entry(
            kind=kind,
            at=to_rfc3339(self._clock()),
            counterparty=self._region,
            subject=subject,
            envelope=text,
            inputs=inputs,
        )


def recorded(openings: Iterable[Opening]) -> Iterator[str]:
    """Packs, as `name@digest`, and digests of papers that this region's own log holds."""
    for opening in openings:
        # Canonical JSON writes the kind in this one way; most entries are parsed no further.
        if any(mark in opening.content for mark in _MARKS):
            yield from _kept([Entry.from_bytes(opening.content)])


def note_of(verdict: Verdict, question: Digest) -> VerdictNote:
    """What a signed statement says of a permit."""
    return VerdictNote(
        question=question,
        packs=tuple(f"{pack.name}@{pack.digest}" for pack in verdict.packs),
        approvals=tuple(sorted(verdict.approvals)),
        valid_until=to_rfc3339(verdict.valid_until),
        flags=tuple(dict.fromkeys(note.id for note in verdict.flags)),
    )


def said(note: VerdictNote) -> tuple[str, ...]:
    """The same in lines, as a `verdict` entry holds it; without the question, which it names."""
    return (
        f"until={note.valid_until}",
        *(f"pack={pack}" for pack in note.packs),
        *(f"approval={approval}" for approval in note.approvals),
        *(f"flag={flag}" for flag in note.flags),
    )


def pack_name(entry: Entry) -> str:
    """How verdicts name the pack of a `pack` entry: two packs may have the same text."""
    return f"{''.join(entry.inputs[:1])}@{entry.subject}"


def _kept(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.kind == "pack":
            yield pack_name(entry)
        elif entry.kind == "paper":
            yield entry.subject
