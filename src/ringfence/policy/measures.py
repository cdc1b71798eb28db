"""What somebody could obtain or do about a refusal: papers for each direction, and measures.

A *measure* is one such thing, as it would change the question: a paper for one direction, a class
that such a paper ends, a fresh screening, a passed test.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ringfence.core.ids import Jurisdiction
from ringfence.policy.approvals import MAY_LOWER, Approval, OperatorId
from ringfence.policy.bulk import IDENTIFIERS_LINE
from ringfence.policy.coverage import (
    NO_DOCUMENT,
    Granted,
    Held,
    holders_of,
    papers_that_grant,
    partners_of,
)
from ringfence.policy.facts import (
    Cohort,
    Compute,
    Counters,
    ExtractionTest,
    Party,
    Percent,
    Question,
    Screening,
)
from ringfence.policy.judge import Judge, destinations
from ringfence.policy.words import CROSSINGS, ApprovalType, Chip, DataClass

Direction = tuple[ApprovalType, Jurisdiction, Jurisdiction]

GOVERNMENT = frozenset(
    {
        ApprovalType.CAC_ASSESSMENT,
        ApprovalType.CAC_SCC,  # filed with the provincial CAC
        ApprovalType.CAC_CERT,
        ApprovalType.FTZ_CLEARANCE,
        ApprovalType.MNR_OUTBOUND,
        ApprovalType.CN_TECH_EXPORT,
        ApprovalType.CN_OTA_FILING,
        ApprovalType.CN_FOREIGN_AUTHORITY_APPROVAL,
        ApprovalType.BIS_LICENSE,
        ApprovalType.BIS_ICTS_AUTH,
        ApprovalType.BIS_DOC,
        ApprovalType.BCR_ID,
        ApprovalType.DPF_CERT,
        ApprovalType.TYPE_APPROVAL_ID,
    }
)
"""Papers that an authority gives, files or certifies; all others are written by the parties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One measure of a route.

    `paper` is None for something to do, which `what` names.  `origin`, `destination` and `holders`
    say whose paper it is; `lowers` and `clears` what it must say.
    """

    what: str
    paper: ApprovalType | None = None
    origin: Jurisdiction | None = None
    destination: Jurisdiction | None = None
    holders: tuple[OperatorId, ...] = ()
    lowers: tuple[DataClass, ...] = ()
    clears: tuple[str, ...] = ()

    @property
    def needs_government(self) -> bool:
        """Whether an authority must act, and not only the parties."""
        return self.paper in GOVERNMENT

    def __str__(self) -> str:
        if self.paper is None:
            return self.what
        who = " and ".join(self.holders)
        text = f"{self.paper} {self.origin} > {self.destination} held by {who}"
        if self.lowers:
            text += f", ending {', '.join(self.lowers)}"
        if self.clears:
            text += f", clearing {', '.join(self.clears)}"
        return text + (" (government)" if self.needs_government else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing to do: `papers` to hold, a class that papers of a direction end, or a `change`."""

    step: Step
    papers: tuple[Approval, ...] = field(default=(), compare=False)
    ends: DataClass | None = None
    change: Callable[[Question], Question] | None = field(default=None, compare=False)


Route = tuple[Measure, ...]


def taken(question: Question, measures: Sequence[Measure]) -> Question:
    """The question with all of `measures` taken; what a paper says comes after the paper."""
    papers = list(question.approvals)
    ended: dict[Direction, set[DataClass]] = {}
    for measure in measures:
        papers.extend(measure.papers)
        if measure.ends is not None:
            ended.setdefault(_direction(measure.step), set()).add(measure.ends)
        if measure.change is not None:
            question = measure.change(question)
    if ended:
        papers = [_ending(paper, ended) for paper in papers]
    return replace(question, approvals=tuple(papers))


def measures_of(judge: Judge, question: Question) -> Route:
    """Everything that could be done or obtained but reviews of flags, what is easier first."""
    distinct = {
        measure.step: measure
        for asked in destinations(question)
        for measure in _papers(asked, judge.papers_asked_for(asked))
    }
    papers = sorted(distinct.values(), key=lambda measure: measure.step.needs_government)
    return (*_facts(question), *papers)


def reviews_of(question: Question, flags: Collection[str]) -> Iterator[Measure]:
    """Counsel of every region at either end looks into what was flagged."""
    if not flags:
        return
    for asked in destinations(question):
        for held in _directions(asked, ApprovalType.PLAT_FLAG_REVIEW):
            yield _paper(held, asked, clears=frozenset(flags))


def held_for(question: Question, step: Step) -> Step:
    """The step with those who must hold its paper for `question`."""
    if step.paper is None or step.origin is None or step.destination is None:
        return step
    held = Held(type=step.paper, origin=step.origin, destination=step.destination)
    return replace(step, holders=tuple(sorted(holders_of(held, _where(held, question)))))


def papers_of(question: Question, step: Step) -> tuple[Approval, ...]:
    """The papers of a step, one for each holder, as they would have to read for `question`."""
    if step.paper is None or step.origin is None or step.destination is None:
        return ()
    held = Held(type=step.paper, origin=step.origin, destination=step.destination)
    granted = Granted(held=held, lowers=frozenset(step.lowers), clears=frozenset(step.clears))
    return papers_that_grant(granted, _where(held, question), holders=step.holders)


def _where(held: Held, question: Question) -> Question:
    """The question at the destination that a paper is for: the recipient's seat or its parent's.

    One for a market is for neither, and its parties are the same at both.
    """
    asked = tuple(destinations(question))
    return next((q for q in asked if q.recipient.jurisdiction == held.destination), asked[0])


def _papers(question: Question, asked_for: frozenset[ApprovalType]) -> Iterator[Measure]:
    """Every paper that some pack asks for, in every direction in which it could cover.

    One that ends classes is a measure for each class, so that a route ends no more than it must.
    """
    for type_ in sorted((asked_for | set(MAY_LOWER)) - {ApprovalType.PLAT_FLAG_REVIEW}):
        for held in _directions(question, type_):
            paper = _paper(held, question)
            yield paper
            _, lowerable = MAY_LOWER.get(type_, (held.origin, frozenset()))
            for ended in sorted(lowerable & question.classes):
                yield Measure(step=replace(paper.step, lowers=(ended,)), ends=ended)


def _paper(held: Held, question: Question, *, clears: frozenset[str] = frozenset()) -> Measure:
    step = Step(
        what="",
        paper=held.type,
        origin=held.origin,
        destination=held.destination,
        holders=tuple(sorted(holders_of(held, question))),
        clears=tuple(sorted(clears)),
    )
    return Measure(step=step, papers=papers_of(question, step))


def _ending(paper: Approval, ended: dict[Direction, set[DataClass]]) -> Approval:
    more = ended.get((paper.type, paper.origin, paper.destination), set())
    return paper if more <= paper.lowers else replace(paper, lowers=paper.lowers | more)


def _direction(step: Step) -> Direction:
    assert step.paper is not None
    assert step.origin is not None
    assert step.destination is not None
    return step.paper, step.origin, step.destination


def _directions(question: Question, type_: ApprovalType) -> Iterator[Held]:
    markets = question.market.countries if question.market else frozenset()
    for origin in sorted(question.origins):
        seat, _ = MAY_LOWER.get(type_, (origin, frozenset()))
        if origin != seat:
            continue
        for destination in sorted({question.recipient.jurisdiction} | markets):
            held = Held(type=type_, origin=origin, destination=destination)
            if holders_of(held, question) and partners_of(held, question):
                yield held


def _facts(question: Question) -> Iterator[Measure]:
    now = question.now
    if any(maker.screening is None for maker in question.contributors):
        yield Measure(
            step=Step(what="screen the contributors within a day, and find nothing"),
            change=lambda q: replace(
                q, contributors=frozenset(_screened(maker, now) for maker in q.contributors)
            ),
        )
    ends = {"recipient": question.recipient, "sender": question.sender}
    if question.action not in CROSSINGS:
        ends.pop("sender")  # it is the same party
    for end, party in ends.items():
        screening = party.screening
        if screening is None or not (screening.us_listed or screening.cn_listed):
            yield Measure(
                step=Step(what=f"screen the {end} within a day, and find nothing"),
                change=_screen(end, now),
            )
    yield Measure(
        step=Step(what="pass the extraction test on these bytes"),
        change=lambda q: replace(
            q, extraction=ExtractionTest(passed=True, tested_at=now, evidence=NO_DOCUMENT)
        ),
    )
    if question.cohort is not None and question.cohort.smallest < question.cohort.floor:
        floor = question.cohort.floor
        yield Measure(
            step=Step(what=f"measure on at least {floor} examples"),
            change=lambda q: replace(q, cohort=Cohort(smallest=floor, floor=floor)),
        )
    if question.carries_seed:
        yield Measure(
            step=Step(what="leave the seed out"), change=lambda q: replace(q, carries_seed=False)
        )
    if question.carries_crypto:
        yield Measure(
            step=Step(what="leave the encryption code out"),
            change=lambda q: replace(q, carries_crypto=False),
        )
    if question.counters is None:
        yield Measure(
            step=Step(what="count the people and devices behind the item"), change=_count_none
        )
    elif question.counters != _NOBODY:
        yield Measure(
            step=Step(what="make the item of data of fewer people and devices"), change=_count_none
        )
    if question.compute is None or question.compute.chip is not Chip.UNCONTROLLED:
        yield Measure(step=Step(what="train on attested, uncontrolled chips"), change=_uncontrolled)


def _screen(end: str, now: float) -> Callable[[Question], Question]:
    def take(question: Question) -> Question:
        sender, recipient = question.sender, question.recipient
        if end == "recipient":
            recipient = _screened(recipient, now)
        if end == "sender" or question.action not in CROSSINGS:
            sender = _screened(sender, now)
        return replace(question, sender=sender, recipient=recipient)

    return take


def _screened(party: Party, now: float) -> Party:
    """A party whose search is new; its owners are those that are known, and only those."""
    known = party.screening or Screening(
        at=now,
        us_listed=False,
        cn_listed=False,
        listed_owners_percent=Percent(0),
        adversary_owners_percent=Percent(0),
    )
    return replace(party, screening=replace(known, at=now))


def _count_none(question: Question) -> Question:
    return replace(question, counters=_NOBODY)


def _uncontrolled(question: Question) -> Question:
    ops = question.compute.training_ops if question.compute else 0.0
    return replace(question, compute=Compute(chip=Chip.UNCONTROLLED, training_ops=ops))


_NOBODY = Counters(
    cn_people=0, cn_sensitive_people=0, us_people=0, us_devices=0, us_line=IDENTIFIERS_LINE
)
