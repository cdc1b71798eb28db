"""What would turn a refusal into a permit: found by asking the packs again, not from a list.

With all measures (`measures`) taken at once the packs are asked whether anything bars
the question still; if nothing does, every smallest set of measures that suffices is a route, and
several routes are alternatives that the law gives.  Measures stand in the order in which they are
easier to take, so that the first route asks no government where a private paper would do.

Source: U. Junker, QuickXplain, AAAI 2004, for one smallest set; R. Reiter, A theory of diagnosis
from first principles, Artificial Intelligence 32 (1987), for the tree that finds others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ringfence.policy.approvals import MAY_LOWER
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Question
from ringfence.policy.judge import Judge, Verdict, destinations
from ringfence.policy.measures import (
    Measure,
    Route,
    Step,
    held_for,
    measures_of,
    reviews_of,
    taken,
)
from ringfence.policy.panel import RuleNote
from ringfence.policy.request import cedar_request
from ringfence.policy.stand_in import stand_in
from ringfence.policy.words import CROSSINGS, ApprovalType

MOST_ROUTES = 4
"""As many as a person compares; the law rarely gives more."""

_MOST_NODES = 32

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
class Cures:
    """The routes out of one refusal, each in the order of its steps; none where `bars` remain.

    `bars` are the rules that refuse even with every measure taken: the plan must change.  A rule
    that another law may forbid to obey bars as well: to propose a way to obey it would be to choose
    between the two.
    """

    routes: tuple[tuple[Step, ...], ...]
    bars: tuple[RuleNote, ...]


class CureFinder:
    """Finds cures for many questions: those that differ in names only have the same routes.

    Others on the same way often have the same routes, too, which are then tried first.
    """

    def __init__(self, judge: Judge, *, most: int = MOST_ROUTES) -> None:
        self._judge = judge
        self._most = most
        self._known: dict[tuple[object, ...], Cures] = {}
        self._on_the_way: dict[tuple[object, ...], Cures] = {}

    def find(self, question: Question) -> Cures:
        """As `find_cures`, with the holders of this question."""
        key = tuple(_shape(asked) for asked in destinations(question))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._find(question)
        return replace(
            known, routes=tuple(tuple(held_for(question, s) for s in r) for r in known.routes)
        )

    def _find(self, question: Question) -> Cures:
        # Every pack is told the same of it, and it has far fewer papers.
        question = stand_in(question)
        ends = tuple(asked.recipient.jurisdiction for asked in destinations(question))
        way = (question.action in CROSSINGS, question.lineage, question.origins, ends)
        found = find_cures(self._judge, question, most=self._most, likely=self._on_the_way.get(way))
        if found.routes:
            self._on_the_way[way] = found
        return found


def _shape(question: Question) -> tuple[object, ...]:
    """Everything that the packs see of a question but who acts; names are in no rule."""
    request = cedar_request(question, coverage(question))
    return request.action, request.resource, request.context, question.holding


def find_cures(
    judge: Judge, question: Question, *, most: int = MOST_ROUTES, likely: Cures | None = None
) -> Cures:
    """The smallest sets of measures that would have `question` permitted.

    The routes of `likely`, of another question, are taken where they suffice here as well, without
    what is needless here.

    INVARIANT: each route, taken whole, permits; without any one of its measures it does not.
    """
    verdict = judge.judge(question)
    if conflicting := tuple(n for n in verdict.rules if n.conflict and n.effect != "FLAG"):
        return Cures(routes=(), bars=conflicting)
    search = _Search(judge, question, most)
    everything = judge.judge(taken(question, search.measures))
    if not everything.permitted:
        return Cures(routes=(), bars=everything.rules)
    routes = search.again(likely.routes if likely else ()) or search.routes(verdict)
    return Cures(routes=tuple(_ordered(search.steps(route)) for route in routes), bars=())


class _Search:
    """The search for the routes of one question."""

    def __init__(self, judge: Judge, question: Question, most: int) -> None:
        self._judge = judge
        self._question = question
        self._most = most
        measures = measures_of(judge, question)
        # What a measure changes may raise flags of its own, which a review must then name.
        flags = self._flags(()) | self._flags(measures)
        self._reviews: Route = tuple(reviews_of(question, flags))
        self.measures: Route = (*measures, *self._reviews)
        self._answers: dict[frozenset[Step], bool] = {}

    def suffices(self, chosen: Sequence[Measure]) -> bool:
        key = frozenset(measure.step for measure in chosen)
        if key not in self._answers:
            self._answers[key] = self._judge.judge(taken(self._question, chosen)).permitted
        return self._answers[key]

    def routes(self, verdict: Verdict) -> list[Route]:
        """Distinct smallest sets: of what the refusing rules ask for, where that is enough."""
        asked_for = frozenset[ApprovalType]().union(
            *(
                self._judge.papers_asked_for(asked, rules={note.id for note in verdict.rules})
                for asked in destinations(self._question)
            )
        )
        likely = {*asked_for, *MAY_LOWER, ApprovalType.PLAT_FLAG_REVIEW, None}
        near = tuple(measure for measure in self.measures if measure.step.paper in likely)
        return self._alternatives(near if self.suffices(near) else self.measures)

    def again(self, former: Sequence[tuple[Step, ...]]) -> list[Route]:
        """The former routes, each with what is needless here left out; none unless all suffice."""
        found = list(dict.fromkeys(self._same(route) for route in former))
        if not all(map(self.suffices, found)):
            return []
        return list(dict.fromkeys(map(self._needful, found)))

    def steps(self, route: Route) -> tuple[Step, ...]:
        """The route's steps, one for each paper; a review clears no more than the route raises."""
        raised = self._flags(route)
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

    def _same(self, route: tuple[Step, ...]) -> Route:
        """Its measures in this question, and counsel's looks at what is flagged here."""
        wanted = {(s.what, s.paper, s.origin, s.destination): set(s.lowers) for s in route}
        return tuple(
            measure
            for measure in self.measures
            for s in (measure.step,)
            if measure in self._reviews
            or (
                (lowers := wanted.get((s.what, s.paper, s.origin, s.destination))) is not None
                and lowers.issuperset(s.lowers)
            )
        )

    def _needful(self, route: Route) -> Route:
        """A smallest part of a route that suffices."""
        for measure in route:
            without = tuple(each for each in route if each is not measure)
            if self.suffices(without):
                route = without
        return route

    def _flags(self, chosen: Sequence[Measure]) -> frozenset[str]:
        verdict = self._judge.judge(taken(self._question, chosen))
        return frozenset(note.id for note in verdict.flags)

    def _alternatives(self, measures: Route) -> list[Route]:
        """Distinct smallest sets: each branch of the tree does without one of a former set."""
        found: list[Route] = []
        open_nodes: deque[frozenset[Step]] = deque([frozenset()])
        seen: set[frozenset[Step]] = set()
        while open_nodes and len(found) < self._most and len(seen) < _MOST_NODES:
            without = open_nodes.popleft()
            if without in seen:
                continue
            seen.add(without)
            left = tuple(measure for measure in measures if measure.step not in without)
            if not self.suffices(left):
                continue
            route = _smallest(left, self.suffices)
            if set(route) not in [set(other) for other in found]:
                found.append(route)
            open_nodes.extend(without | {measure.step} for measure in route)
        return found


def _smallest(measures: Route, suffices: Callable[[Sequence[Measure]], bool]) -> Route:
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


NO_CURES = Cures(routes=(), bars=())
"""Of a question that is permitted."""
