"""A question as it is recorded: canonical JSON, from which the packs can be asked once more.

record = Record(question=question, papers=papers, salt=salt)
Record.from_bytes(record.to_bytes()).asked(approvals)     # the question, with its papers again
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec

from ringfence.core.canonical import from_bytes, to_bytes
from ringfence.core.errors import FormatError
from ringfence.core.ids import Digest, digest, jurisdiction, lineage_id, region_id
from ringfence.policy.approvals import Approval, ApprovalId, OperatorId
from ringfence.policy.coverage import mattering, papers_of_lineage
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
from ringfence.policy.judge import destinations
from ringfence.policy.words import Action, Chip, DataClass, ItemKind, Purpose, Trait

RECORD_LIMIT_BYTES = 4 * 1024 * 1024
"""Longest record; a question of a thousand contributors with as many papers fits."""

SALT_BYTES = 16

_END_OF_TIME_S = 253_402_300_800.0
"""The year 10000, of which no calendar here can speak."""

_SALT = re.compile(rf"[0-9a-f]{{{2 * SALT_BYTES}}}")


def relied_on(question: Question) -> tuple[Approval, ...]:
    """The approvals on which the answer can depend, at any seat at which the question is asked.

    The judge answers the same when it is asked with these alone.
    """
    found = frozenset(paper for asked in destinations(question) for paper in mattering(asked))
    return tuple(paper for paper in papers_of_lineage(question) if paper in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperName:
    """An approval by its id and holder, and the digest of the envelope that counsel signed."""

    id: ApprovalId
    holder: OperatorId
    envelope: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One question without its approvals, and the papers that it relied on, in their order.

    `salt` is drawn for each record, in hexadecimal: the digest of a record goes to the other end of
    a crossing, who must not find out by trying how many people were counted.
    """

    question: Question
    papers: tuple[PaperName, ...]
    salt: str

    def __post_init__(self) -> None:
        _expect(not self.question.approvals, "approvals by name")
        for time_s in _times(self.question):
            _expect(0 <= time_s < _END_OF_TIME_S, "times from 1970 to 9999")
        _expect(_SALT.fullmatch(self.salt) is not None, f"a salt of {SALT_BYTES} bytes")

    def asked(self, approvals: Iterable[Approval]) -> Question:
        """The question with its approvals, in the order of `papers`."""
        return replace(self.question, approvals=tuple(approvals))

    def to_bytes(self) -> bytes:
        """Canonical JSON; raises `FormatError` when it is too long."""
        data = to_bytes(
            _Wire(
                question=_question_to_wire(self.question),
                papers=tuple(
                    _Paper(id=each.id, holder=each.holder, envelope=each.envelope)
                    for each in self.papers
                ),
                salt=self.salt,
            )
        )
        _expect(len(data) <= RECORD_LIMIT_BYTES, f"at most {RECORD_LIMIT_BYTES} bytes")
        return data

    @staticmethod
    def from_bytes(data: bytes) -> Record:
        """Raises `FormatError` for anything but what `to_bytes` writes."""
        wire = from_bytes(data, _Wire, what="recorded question", limit_bytes=RECORD_LIMIT_BYTES)
        record = Record(
            question=_question_from_wire(wire.question),
            papers=tuple(
                PaperName(
                    id=ApprovalId(each.id),
                    holder=OperatorId(each.holder),
                    envelope=digest(each.envelope),
                )
                for each in wire.papers
            ),
            salt=wire.salt,
        )
        _expect(record.to_bytes() == data, "canonical JSON (sorted keys and lists, no spaces)")
        return record


def _times(question: Question) -> Iterator[float]:
    yield question.now
    for party in (question.sender, question.recipient, *question.contributors):
        if party.screening is not None:
            yield party.screening.at
    if question.extraction is not None:
        yield question.extraction.tested_at


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parent of every part: immutable, unknown fields refused; `facts` documents the fields."""


class _Screening(_Table, frozen=True, kw_only=True):
    at: float
    us_listed: bool
    cn_listed: bool
    listed_owners_percent: int
    adversary_owners_percent: int


class _Party(_Table, frozen=True, kw_only=True):
    region: str
    jurisdiction: str
    operator: str
    parent: str
    screening: _Screening | None
    traits: tuple[Trait, ...]


class _Market(_Table, frozen=True, kw_only=True):
    countries: tuple[str, ...]
    sae_level: int
    model_year: int


class _Compute(_Table, frozen=True, kw_only=True):
    chip: Chip
    training_ops: float


class _Counters(_Table, frozen=True, kw_only=True):
    cn_people: int
    cn_sensitive_people: int
    us_people: int
    us_devices: int
    us_line: int


class _Cohort(_Table, frozen=True, kw_only=True):
    smallest: int
    floor: int


class _Extraction(_Table, frozen=True, kw_only=True):
    passed: bool
    tested_at: float
    evidence: str


class _Question(_Table, frozen=True, kw_only=True):
    """Lists are sorted, parties by their text."""

    action: Action
    kind: ItemKind
    content: str | None
    lineage: str
    contributors: tuple[_Party, ...]
    sender: _Party
    recipient: _Party
    classes: tuple[DataClass, ...]
    carries_seed: bool
    carries_crypto: bool
    purpose: Purpose
    scope: str
    market: _Market | None
    compute: _Compute | None
    counters: _Counters | None
    cohort: _Cohort | None
    extraction: _Extraction | None
    revoked: tuple[str, ...]
    now: float
    holding: tuple[Action, ...]
    affected: bool | None


class _Paper(_Table, frozen=True, kw_only=True):
    id: str
    holder: str
    envelope: str


class _Wire(_Table, frozen=True, kw_only=True):
    question: _Question
    papers: tuple[_Paper, ...]
    salt: str


def _question_to_wire(question: Question) -> _Question:
    market, compute, counters = question.market, question.compute, question.counters
    cohort, extraction = question.cohort, question.extraction
    return _Question(
        action=question.action,
        kind=question.kind,
        content=question.content,
        lineage=question.lineage,
        contributors=tuple(sorted(map(_party_to_wire, question.contributors), key=to_bytes)),
        sender=_party_to_wire(question.sender),
        recipient=_party_to_wire(question.recipient),
        classes=tuple(sorted(question.classes)),
        carries_seed=question.carries_seed,
        carries_crypto=question.carries_crypto,
        purpose=question.purpose,
        scope=question.scope,
        market=None
        if market is None
        else _Market(
            countries=tuple(sorted(market.countries)),
            sae_level=market.sae_level,
            model_year=market.model_year,
        ),
        compute=None
        if compute is None
        else _Compute(chip=compute.chip, training_ops=float(compute.training_ops)),
        counters=None
        if counters is None
        else _Counters(
            cn_people=counters.cn_people,
            cn_sensitive_people=counters.cn_sensitive_people,
            us_people=counters.us_people,
            us_devices=counters.us_devices,
            us_line=counters.us_line,
        ),
        cohort=None if cohort is None else _Cohort(smallest=cohort.smallest, floor=cohort.floor),
        extraction=None
        if extraction is None
        else _Extraction(
            passed=extraction.passed,
            tested_at=float(extraction.tested_at),
            evidence=extraction.evidence,
        ),
        revoked=tuple(sorted(question.revoked)),
        now=float(question.now),
        holding=tuple(sorted(question.holding)),
        affected=question.affected,
    )


def _question_from_wire(wire: _Question) -> Question:
    market, compute, counters = wire.market, wire.compute, wire.counters
    cohort, extraction = wire.cohort, wire.extraction
    return Question(
        action=wire.action,
        kind=wire.kind,
        content=None if wire.content is None else digest(wire.content),
        lineage=lineage_id(wire.lineage),
        contributors=frozenset(map(_party_from_wire, wire.contributors)),
        sender=_party_from_wire(wire.sender),
        recipient=_party_from_wire(wire.recipient),
        classes=frozenset(wire.classes),
        carries_seed=wire.carries_seed,
        carries_crypto=wire.carries_crypto,
        purpose=wire.purpose,
        scope=digest(wire.scope),
        market=None
        if market is None
        else Market(
            countries=frozenset(map(jurisdiction, market.countries)),
            sae_level=market.sae_level,
            model_year=market.model_year,
        ),
        compute=None
        if compute is None
        else Compute(chip=compute.chip, training_ops=compute.training_ops),
        counters=None
        if counters is None
        else Counters(
            cn_people=counters.cn_people,
            cn_sensitive_people=counters.cn_sensitive_people,
            us_people=counters.us_people,
            us_devices=counters.us_devices,
            us_line=counters.us_line,
        ),
        cohort=None if cohort is None else Cohort(smallest=cohort.smallest, floor=cohort.floor),
        extraction=None
        if extraction is None
        else ExtractionTest(
            passed=extraction.passed,
            tested_at=extraction.tested_at,
            evidence=digest(extraction.evidence),
        ),
        approvals=(),
        revoked=frozenset(map(ApprovalId, wire.revoked)),
        now=wire.now,
        holding=frozenset(wire.holding),
        affected=wire.affected,
    )


def _party_to_wire(party: Party) -> _Party:
    screening = party.screening
    return _Party(
        region=party.region,
        jurisdiction=party.jurisdiction,
        operator=party.operator,
        parent=party.parent,
        screening=None
        if screening is None
        else _Screening(
            at=float(screening.at),
            us_listed=screening.us_listed,
            cn_listed=screening.cn_listed,
            listed_owners_percent=screening.listed_owners_percent,
            adversary_owners_percent=screening.adversary_owners_percent,
        ),
        traits=tuple(sorted(party.traits)),
    )


def _party_from_wire(wire: _Party) -> Party:
    screening = wire.screening
    return Party(
        region=region_id(wire.region),
        jurisdiction=jurisdiction(wire.jurisdiction),
        operator=OperatorId(wire.operator),
        parent=jurisdiction(wire.parent),
        screening=None
        if screening is None
        else Screening(
            at=screening.at,
            us_listed=screening.us_listed,
            cn_listed=screening.cn_listed,
            listed_owners_percent=Percent(screening.listed_owners_percent),
            adversary_owners_percent=Percent(screening.adversary_owners_percent),
        ),
        traits=frozenset(wire.traits),
    )


def _expect(holds: bool, expected: str) -> None:
    if not holds:
        raise FormatError(
            f"recorded question: expected {expected}; it was not written by this program"
        )
