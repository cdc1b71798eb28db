"""What would turn a refusal into a permit: found by asking the packs again, not from a list.

A *measure* is one thing that somebody could obtain or do: a paper for one direction, a fresh
screening, a passed test.  With all measures taken at once the packs are asked whether anything bars
the question still; if nothing does, every smallest set of measures that suffices is a route, and
several routes are alternatives that the law gives.  Measures stand in the order in which they are
easier to take, so that the first route asks no government where a private paper would do.

Source: U. Junker, QuickXplain, AAAI 2004, for one smallest set; R. Reiter, A theory of diagnosis
from first principles, Artificial Intelligence 32 (1987), for the tree that finds others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import MAY_LOWER, Approval, ApprovalId, OperatorId
from ringfence.policy.bulk import IDENTIFIERS_LINE
from ringfence.policy.coverage import Held, coverage, holders_of, papers_of_lineage, partners_of
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
from ringfence.policy.panel import RuleNote
from ringfence.policy.request import cedar_request
from ringfence.policy.words import CROSSINGS, ApprovalType, Chip, DataClass

MOST_ROUTES = 4
"""As many as a person compares; the law rarely gives more."""

_MOST_NODES = 32
_DAY_S = 86_400.0

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

_BEFORE: dict[ApprovalType, frozenset[ApprovalType]] = {
    # PIPL Arts 55-56: the impact assessment comes before the export and goes into the filing.
    ApprovalType.CAC_ASSESSMENT: frozenset(
        {ApprovalType.CN_PIPIA, ApprovalType.CN_DERIVED_DETERMINATION}
    ),
    ApprovalType.CAC_SCC: frozenset({ApprovalType.CN_PIPIA}),
    ApprovalType.CAC_CERT: frozenset({ApprovalType.CN_PIPIA}),
    # A licensed unit processes the data before anything made of them can be reviewed.
    ApprovalType.MNR_OUTBOUND: frozenset({ApprovalType.MNR_ENTRUSTMENT}),
    # Schrems II: the clauses rest on an assessment of the recipient's law.
    ApprovalType.SCC_ID: frozenset({ApprovalType.TIA_ID}),
    ApprovalType.BCR_ID: frozenset({ApprovalType.TIA_ID}),
    # A licence is asked for under a classification.
    ApprovalType.BIS_LICENSE: frozenset({ApprovalType.BIS_CLASSIFICATION}),
    ApprovalType.BIS_ENC: frozenset({ApprovalType.BIS_CLASSIFICATION}),
}
"""What must be there before an application can be made (reference, sections 1 to 3)."""


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
class Cures:
    """The routes out of one refusal, each in the order of its steps; none where `bars` remain.

    `bars` are the rules that refuse even with every measure taken: the plan must change.  A rule
    that another law may forbid to obey bars as well: to propose a way to obey it would be to choose
    between the two.
    """

    routes: tuple[tuple[Step, ...], ...]
    bars: tuple[RuleNote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    step: Step
    take: Callable[[Question], Question] = field(compare=False)
    late: bool = False


Route = tuple[_Measure, ...]


class CureFinder:
    """Finds cures for many questions: those that differ in names only have the same routes."""

    def __init__(self, judge: Judge, *, most: int = MOST_ROUTES) -> None:
        self._judge = judge
        self._most = most
        self._known: dict[tuple[object, ...], Cures] = {}
        self._likely: set[ApprovalType] = set()

    def find(self, question: Question) -> Cures:
        """As `find_cures`, with the holders of this question."""
        key = tuple(_shape(asked) for asked in destinations(question))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = find_cures(
                self._judge, question, most=self._most, likely=frozenset(self._likely)
            )
            steps = (step for route in known.routes for step in route)
            self._likely.update(step.paper for step in steps if step.paper is not None)
        return replace(
            known, routes=tuple(tuple(_for(question, s) for s in route) for route in known.routes)
        )


def _shape(question: Question) -> tuple[object, ...]:
    """Everything that the packs see of a question but who acts; names are in no rule."""
    request = cedar_request(question, coverage(question))
    return request.action, request.resource, request.context, question.holding


def _for(question: Question, step: Step) -> Step:
    if step.paper is None or step.origin is None or step.destination is None:
        return step
    held = Held(type=step.paper, origin=step.origin, destination=step.destination)
    return replace(step, holders=tuple(sorted(holders_of(held, _where(held, question)))))


def _where(held: Held, question: Question) -> Question:
    """The question at the destination that a paper is for: the recipient's seat or its parent's.

    One for a market is for neither, and its parties are the same at both.
    """
    asked = tuple(destinations(question))
    return next((q for q in asked if q.recipient.jurisdiction == held.destination), asked[0])


def find_cures(
    judge: Judge,
    question: Question,
    *,
    most: int = MOST_ROUTES,
    likely: frozenset[ApprovalType] = frozenset(),
) -> Cures:
    """The smallest sets of measures that would have `question` permitted.

    Where one route is enough, it is looked for among the `likely` papers first: a plan's steps have
    most of their papers in common.

    INVARIANT: each route, taken whole, permits; without any one of its steps it does not.
    """
    if conflicting := tuple(
        note for note in judge.judge(question).rules if note.conflict and note.effect != "FLAG"
    ):
        return Cures(routes=(), bars=conflicting)
    question = replace(question, approvals=papers_of_lineage(question))
    measures = _measures(judge, question)
    # What a measure changes may raise flags of its own, which a review must then name.
    flags = _flags(judge, question) | _flags(judge, _taken(question, measures))
    measures = (*measures, *_reviews(question, flags))
    everything = judge.judge(_taken(question, measures))
    if not everything.permitted:
        return Cures(routes=(), bars=everything.rules)

    def suffices(chosen: Sequence[_Measure]) -> bool:
        return judge.judge(_taken(question, chosen)).permitted

    first = tuple(m for m in measures if m.step.paper is None or m.step.paper in likely)
    if most == 1 and suffices(first):
        routes = [_smallest(first, suffices)]
    else:
        routes = _alternatives(measures, suffices, most=most)
    return Cures(
        routes=tuple(_ordered(_steps(judge, question, route)) for route in routes), bars=()
    )


def _flags(judge: Judge, question: Question) -> frozenset[str]:
    return frozenset(note.id for note in judge.judge(question).flags)


def _steps(judge: Judge, question: Question, route: Route) -> tuple[Step, ...]:
    """The route's steps, one for each paper; a review clears no more than the route raises."""
    raised = _flags(judge, _taken(question, route))
    steps: dict[tuple[object, ...], Step] = {}
    for step in (measure.step for measure in route):
        key = (step.what, step.paper, step.origin, step.destination)
        known = steps.get(key, step)
        steps[key] = replace(
            known,
            lowers=tuple(sorted({*known.lowers, *step.lowers})),
            clears=tuple(rule for rule in step.clears if rule in raised),
        )
    return tuple(steps.values())


def _taken(question: Question, measures: Sequence[_Measure]) -> Question:
    # What a paper says comes after the paper.
    for measure in sorted(measures, key=lambda measure: measure.late):
        question = measure.take(question)
    return question


def _alternatives(
    measures: Route,
    suffices: Callable[[Sequence[_Measure]], bool],
    *,
    most: int,
) -> list[Route]:
    """Distinct smallest sets: each branch of the tree does without one measure of a former set."""
    found: list[Route] = []
    open_nodes: deque[frozenset[Step]] = deque([frozenset()])
    seen: set[frozenset[Step]] = set()
    while open_nodes and len(found) < most and len(seen) < _MOST_NODES:
        without = open_nodes.popleft()
        if without in seen:
            continue
        seen.add(without)
        left = tuple(measure for measure in measures if measure.step not in without)
        if not suffices(left):
            continue
        route = _smallest(left, suffices)
        if set(route) not in [set(other) for other in found]:
            found.append(route)
        open_nodes.extend(without | {measure.step} for measure in route)
    return found


def _smallest(measures: Route, suffices: Callable[[Sequence[_Measure]], bool]) -> Route:
    """One smallest set of `measures`, which suffice together; the first ones are preferred."""

    def explain(base: Route, added: bool, left: Route) -> Route:
        if added and suffices(base):
            return ()
        if len(left) == 1:
            return left
        half = len(left) // 2
        first, second = left[:half], left[half:]
        later = explain((*base, *first), bool(first), second)
        return (*explain((*base, *later), bool(later), first), *later)

    return () if suffices(()) else explain((), False, measures)


def _ordered(route: tuple[Step, ...]) -> tuple[Step, ...]:
    """What must be done first comes first; otherwise in the order of the measures."""
    left = list(route)
    ordered: list[Step] = []
    while left:
        papers = {step.paper for step in left}
        ready = next(
            (s for s in left if s.paper is None or not (_BEFORE.get(s.paper, set()) & papers)),
            left[0],
        )
        left.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _measures(judge: Judge, question: Question) -> Route:
    """Everything that could be done or obtained but reviews of flags, what is easier first."""
    distinct = {
        measure.step: measure
        for asked in destinations(question)
        for measure in _papers(asked, judge.papers_asked_for(asked))
    }
    papers = sorted(distinct.values(), key=lambda measure: measure.step.needs_government)
    return (*_facts(question), *papers)


def _reviews(question: Question, flags: frozenset[str]) -> Iterator[_Measure]:
    """Counsel of every region at either end looks into what was flagged."""
    if not flags:
        return
    for asked in destinations(question):
        for held in _directions(asked, ApprovalType.PLAT_FLAG_REVIEW):
            yield _paper(held, asked, clears=flags)


def _facts(question: Question) -> Iterator[_Measure]:
    now = question.now
    if any(maker.screening is None for maker in question.contributors):
        yield _Measure(
            step=Step(what="screen the contributors within a day, and find nothing"),
            take=lambda q: replace(
                q, contributors=frozenset(_screened(maker, now) for maker in q.contributors)
            ),
        )
    ends = {"recipient": question.recipient, "sender": question.sender}
    if question.action not in CROSSINGS:
        ends.pop("sender")  # it is the same party
    for end, party in ends.items():
        screening = party.screening
        if screening is None or not (screening.us_listed or screening.cn_listed):
            yield _Measure(
                step=Step(what=f"screen the {end} within a day, and find nothing"),
                take=_screen(end, now),
            )
    yield _Measure(
        step=Step(what="pass the extraction test on these bytes"),
        take=lambda q: replace(
            q, extraction=ExtractionTest(passed=True, tested_at=now, evidence=_NO_DOCUMENT)
        ),
    )
    if question.cohort is not None and question.cohort.smallest < question.cohort.floor:
        floor = question.cohort.floor
        yield _Measure(
            step=Step(what=f"measure on at least {floor} examples"),
            take=lambda q: replace(q, cohort=Cohort(smallest=floor, floor=floor)),
        )
    if question.carries_seed:
        yield _Measure(
            step=Step(what="leave the seed out"), take=lambda q: replace(q, carries_seed=False)
        )
    if question.carries_crypto:
        yield _Measure(
            step=Step(what="leave the encryption code out"),
            take=lambda q: replace(q, carries_crypto=False),
        )
    if question.counters is None:
        yield _Measure(
            step=Step(what="count the people and devices behind the item"), take=_count_none
        )
    elif question.counters != _NOBODY:
        yield _Measure(
            step=Step(what="make the item of data of fewer people and devices"), take=_count_none
        )
    if question.compute is None or question.compute.chip is not Chip.UNCONTROLLED:
        yield _Measure(step=Step(what="train on attested, uncontrolled chips"), take=_uncontrolled)


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


def _papers(question: Question, asked_for: frozenset[ApprovalType]) -> Iterator[_Measure]:
    """Every paper that some pack asks for, in every direction in which it could cover.

    One that ends classes is a measure for each class, so that a route ends no more than it must.
    """
    for type_ in sorted((asked_for | set(MAY_LOWER)) - {ApprovalType.PLAT_FLAG_REVIEW}):
        for held in _directions(question, type_):
            yield _paper(held, question)
            _, lowerable = MAY_LOWER.get(type_, (held.origin, frozenset()))
            for ended in sorted(lowerable & question.classes):
                yield _ending(held, question, ended)


def _ending(held: Held, question: Question, ended: DataClass) -> _Measure:
    """The papers of one direction, whichever there are, end one more class."""

    def take(question: Question) -> Question:
        return replace(
            question,
            approvals=tuple(
                replace(each, lowers=each.lowers | {ended})
                if each.type is held.type
                and each.origin == held.origin
                and each.destination == held.destination
                and ended not in each.lowers
                else each
                for each in question.approvals
            ),
        )

    return _Measure(
        step=Step(
            what="",
            paper=held.type,
            origin=held.origin,
            destination=held.destination,
            holders=tuple(sorted(holders_of(held, question))),
            lowers=(ended,),
        ),
        take=take,
        late=True,
    )


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


def _paper(held: Held, question: Question, *, clears: frozenset[str] = frozenset()) -> _Measure:
    step = Step(
        what="",
        paper=held.type,
        origin=held.origin,
        destination=held.destination,
        holders=tuple(sorted(holders_of(held, question))),
        clears=tuple(sorted(clears)),
    )
    approvals = papers_of(question, step)
    return _Measure(step=step, take=lambda q: replace(q, approvals=(*q.approvals, *approvals)))


def papers_of(question: Question, step: Step) -> tuple[Approval, ...]:
    """The papers of a step, one for each holder, as they would have to read for `question`."""
    if step.paper is None or step.origin is None or step.destination is None:
        return ()
    held = Held(type=step.paper, origin=step.origin, destination=step.destination)
    partners = partners_of(held, _where(held, question))
    return tuple(
        Approval(
            id=ApprovalId(f"{held.type}/{held.origin}-{held.destination}/{holder}"),
            type=held.type,
            issuer="to be obtained",
            holder=holder,
            counterparties=partners,
            kinds=frozenset({question.kind}),
            origin=held.origin,
            destination=held.destination,
            lineage=question.lineage,
            purpose=question.purpose,
            scope=question.scope,
            lowers=frozenset(step.lowers),
            clears=frozenset(step.clears),
            issued=question.now,
            expires=question.now + _DAY_S,
            revocation_source="none yet",
            document=_NO_DOCUMENT,
        )
        for holder in step.holders
    )


NO_CURES = Cures(routes=(), bars=())
"""Of a question that is permitted."""

_NOBODY = Counters(
    cn_people=0, cn_sensitive_people=0, us_people=0, us_devices=0, us_line=IDENTIFIERS_LINE
)
_NO_DOCUMENT = Digest("sha256:" + "0" * 64)
