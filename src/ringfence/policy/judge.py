"""The judge: every pack concerned must answer a clean Allow, or the question is refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ringfence.core.errors import ConfigError, Refused
from ringfence.core.ids import Digest, Jurisdiction, jurisdiction
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Question
from ringfence.policy.packs import (
    DEFAULT_RULE,
    DIRECTION_RULE,
    PLATFORM,
    SCHEMA,
    Effect,
    Pack,
    require_rules,
)
from ringfence.policy.panel import Answer, Panel, RuleNote, ask, note, seat
from ringfence.policy.request import CedarRequest, cedar_request
from ringfence.policy.words import CROSSINGS, GROUPS_OF, ApprovalType, ItemGroup

VERDICT_LIFE_S = 3_600.0
"""A verdict is good for an hour at most; it is asked again before every send or resume."""

SCREENING_LIFE_S = 86_400.0
EXTRACTION_LIFE_S = 30 * 86_400.0
"""How old a screening and an extraction test may be; the packs hold the same numbers."""

_MOST_ANSWERS = 1024

_EFFECT_RANK: dict[Effect, int] = {"DENY": 0, "APPR": 1, "MEAS": 2, "FLAG": 3}

_HANDED_OVER = frozenset({ItemGroup.DERIVED, ItemGroup.TECHNOLOGY})
"""What an operator's parent has, too, once the operator has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackUse:
    """A pack that was consulted, or the schema of all of them, by the digest of its file."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The packs' answer to one question.

    `content` is the digest of the bytes asked about, None for a plan.  `rules` are those that
    refused, bars before missing papers, flags last; empty exactly when `permitted`.  `flags` are
    all that were raised, to be recorded and looked at, whether or not they hold anything.
    `approvals` are all that cover the question.  Valid before `valid_until` (seconds since the
    epoch), which for a refusal is the moment of asking.
    """

    permitted: bool
    content: Digest | None
    rules: tuple[RuleNote, ...]
    flags: tuple[RuleNote, ...]
    packs: tuple[PackUse, ...]
    approvals: tuple[ApprovalId, ...]
    valid_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The packs of one region, as `load_packs` returns them."""

    packs: tuple[Pack, ...]
    # Joined once for each set of jurisdictions that a question has brought up so far.
    _panels: dict[tuple[str, ...], Panel] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _answers: dict[tuple[Panel, CedarRequest], Answer] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        names = [pack.name for pack in self.packs]
        if names[:1] != [PLATFORM] or len(set(names)) != len(names):
            raise ConfigError(
                f"expected the {PLATFORM} pack, then one for each jurisdiction; got {names}"
            )
        if len({pack.vocabulary.digest for pack in self.packs}) != 1:
            raise ConfigError("expected law packs of one schema; load them from one directory")
        require_rules(self.platform, (DEFAULT_RULE, DIRECTION_RULE))

    @property
    def platform(self) -> Pack:
        """The pack that judges every question."""
        return self.packs[0]

    def judge(self, question: Question) -> Verdict:
        """Ask the packs of the platform, the lineage, both ends and the market.

        INVARIANT: `permitted` only if each of them answered Allow without any evaluation error and
        none is missing.  Cedar skips a forbid that fails to evaluate, so an error refuses too.
        """
        notes: list[RuleNote] = []
        flags: list[RuleNote] = []
        approvals: dict[ApprovalId, Approval] = {}
        used: dict[str, Pack] = {}
        for asked in destinations(question):
            covered = coverage(asked)
            wanted = sorted(asked.jurisdictions)
            panel = self._panel_of(wanted)
            answer = self._ask(panel, cedar_request(asked, covered))
            notes.extend(self._no_pack(place) for place in wanted if not self._has_pack(place))
            notes.extend(answer.refusals)
            flags.extend(answer.flags)
            if asked.action in asked.holding:
                notes.extend(
                    flag
                    for flag in answer.flags
                    if not covered.clears(flag.id, _place_of_review(flag.pack, asked))
                )
            approvals.update((approval.id, approval) for approval in covered.approvals)
            used.update((pack.name, pack) for pack in panel.packs)
        return Verdict(
            permitted=not notes,
            content=question.content,
            rules=_in_order(notes),
            flags=_in_order(flags),
            packs=(
                PackUse(name=SCHEMA, digest=self.platform.vocabulary.digest),
                *(PackUse(name=pack.name, digest=pack.digest) for pack in used.values()),
            ),
            approvals=tuple(approvals),
            valid_until=question.now if notes else _valid_until(question, approvals.values()),
        )

    def papers_asked_for(
        self, question: Question, *, rules: Collection[str] | None = None
    ) -> frozenset[ApprovalType]:
        """Types of paper that a pack concerned with `question` asks for, in any of these `rules`.

        Without `rules`, in any at all.
        """
        panel = self._panel_of(sorted(question.jurisdictions))
        return frozenset[ApprovalType]().union(
            *(
                papers
                for pack in panel.packs
                for rule, papers in pack.asks_for.items()
                if rules is None or rule in rules
            )
        )

    def _ask(self, panel: Panel, request: CedarRequest) -> Answer:
        """What the panel answers, which follows from the request and from nothing else.

        Within one second, the finest time that a request knows, a round asks most of its questions
        several times over.
        """
        answer = self._answers.get((panel, request))
        if answer is None:
            answer = ask(panel, request)
            if len(self._answers) >= _MOST_ANSWERS:
                self._answers.clear()
            self._answers[panel, request] = answer
        return answer

    def _panel_of(self, jurisdictions: Sequence[Jurisdiction]) -> Panel:
        packs = [self.platform, *(p for p in self.packs if p.jurisdiction in jurisdictions)]
        key = tuple(pack.name for pack in packs)
        panel = self._panels.get(key)
        if panel is None:
            panel = self._panels[key] = seat(packs)
        return panel

    def _has_pack(self, place: Jurisdiction) -> bool:
        return any(pack.jurisdiction == place for pack in self.packs)

    def _no_pack(self, place: Jurisdiction) -> RuleNote:
        return note(self.platform, self.platform.rule(DIRECTION_RULE), f"no law pack for {place}")


def enforce(verdict: Verdict, *, stage: str) -> None:
    """Raise `Refused` with the rules that decided, unless the verdict permits."""
    if verdict.permitted:
        return
    first = verdict.rules[0]
    raise Refused(
        stage=stage,
        reason="law",
        detail=str(first),
        rules=tuple(dict.fromkeys(note.id for note in verdict.rules)),
    )


def destinations(question: Question) -> Iterator[Question]:
    """The question, and once more with the recipient at its parent's seat where that is elsewhere.

    Weights and know-how that are handed to an operator are exports to its ultimate parent as well
    (US-EAR-HQ; partner-operated regions).
    """
    yield question
    recipient = question.recipient
    handed_over = not GROUPS_OF[question.kind].isdisjoint(_HANDED_OVER)
    if question.action in CROSSINGS and handed_over and recipient.parent != recipient.jurisdiction:
        yield replace(question, recipient=replace(recipient, jurisdiction=recipient.parent))


def _place_of_review(pack: str, asked: Question) -> Jurisdiction | None:
    """Where a review of the pack's flag must come from or go to; None: any of the question's.

    A pack that is asked for the market, a chip or a person alone is at neither end of any review.
    """
    place = None if pack == PLATFORM else jurisdiction(pack.upper())
    at_an_end = place in asked.origins or place == asked.recipient.jurisdiction
    return place if at_an_end else None


def _in_order(notes: Iterable[RuleNote]) -> tuple[RuleNote, ...]:
    """Bars first, then approvals, then measures; what several packs say alike is said once."""
    distinct: dict[tuple[str, str], RuleNote] = {}
    for found in notes:
        distinct.setdefault((found.id, found.detail or found.remedy), found)
    return tuple(sorted(distinct.values(), key=lambda found: _EFFECT_RANK[found.effect]))


def _valid_until(question: Question, relied_on: Iterable[Approval]) -> float:
    """The earliest moment at which a fact that the packs may have relied on runs out.

    The packs see whole seconds, rounded down.
    """
    ends = [question.now + VERDICT_LIFE_S]
    ends.extend(approval.expires for approval in relied_on)
    screenings = (question.sender.screening, question.recipient.screening)
    ends.extend(math.floor(s.at) + SCREENING_LIFE_S for s in screenings if s is not None)
    if question.extraction is not None:
        ends.append(math.floor(question.extraction.tested_at) + EXTRACTION_LIFE_S)
    # What had run out already was not needed for this permit.
    return min(end for end in ends if end > question.now)
