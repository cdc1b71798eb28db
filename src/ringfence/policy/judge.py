"""The judge: every pack concerned must answer a clean Allow, or the question is refused."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cedarpy import AuthzResult, Decision, is_authorized

from ringfence.core.errors import ConfigError, Refused
from ringfence.core.ids import Digest, Jurisdiction
from ringfence.policy.approvals import Approval, ApprovalId
from ringfence.policy.coverage import coverage
from ringfence.policy.facts import Question
from ringfence.policy.packs import (
    DEFAULT_RULE,
    DIRECTION_RULE,
    PLATFORM,
    SCHEMA,
    Confidence,
    Effect,
    Pack,
    Rule,
    require_rules,
)
from ringfence.policy.request import cedar_request

VERDICT_LIFE_S = 3_600.0
"""A verdict is good for an hour at most; it is asked again before every send or resume."""

SCREENING_LIFE_S = 86_400.0
EXTRACTION_LIFE_S = 30 * 86_400.0
"""How old a screening and an extraction test may be; the packs hold the same numbers."""

_EFFECT_RANK: dict[Effect, int] = {"DENY": 0, "APPR": 1, "MEAS": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleNote:
    """One rule that refused; `detail` says what Cedar could not decide, and is mostly empty."""

    id: str
    pack: str
    effect: Effect
    cite: str
    confidence: Confidence
    remedy: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackUse:
    """A pack that was consulted, or the schema of all of them, by the digest of its file."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The packs' answer to one question.

    `rules` are those that refused, bars before missing papers; empty exactly when `permitted`.
    `approvals` are all that cover the question.  Valid before `valid_until` (seconds since the
    epoch), which for a refusal is the moment of asking.
    """

    permitted: bool
    rules: tuple[RuleNote, ...]
    packs: tuple[PackUse, ...]
    approvals: tuple[ApprovalId, ...]
    valid_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The packs of one region, as `load_packs` returns them; holds no other state."""

    packs: tuple[Pack, ...]

    def __post_init__(self) -> None:
        names = [pack.name for pack in self.packs]
        if names[:1] != [PLATFORM] or len(set(names)) != len(names):
            raise ConfigError(
                f"expected the {PLATFORM} pack, then one for each jurisdiction; got {names}"
            )
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
        covered = coverage(question)
        request = cedar_request(question, covered)
        consulted = [self.platform]
        notes: list[RuleNote] = []
        for wanted in sorted(question.jurisdictions):
            pack = self._pack_of(wanted)
            if pack is None:
                notes.append(self._no_pack(wanted))
            else:
                consulted.append(pack)
        for pack in consulted:
            notes.extend(_refusals(pack, request))
        return Verdict(
            permitted=not notes,
            rules=_in_order(notes),
            packs=(
                PackUse(name=SCHEMA, digest=self.platform.vocabulary.digest),
                *(PackUse(name=pack.name, digest=pack.digest) for pack in consulted),
            ),
            approvals=tuple(approval.id for approval in covered.approvals),
            valid_until=question.now if notes else _valid_until(question, covered.approvals),
        )

    def _pack_of(self, wanted: Jurisdiction) -> Pack | None:
        return next((pack for pack in self.packs if pack.jurisdiction == wanted), None)

    def _no_pack(self, wanted: Jurisdiction) -> RuleNote:
        rule = self.platform.rule(DIRECTION_RULE)
        return _note(self.platform, rule, f"no law pack for {wanted}")


def enforce(verdict: Verdict, *, stage: str) -> None:
    """Raise `Refused` with the rules that decided, unless the verdict permits."""
    if verdict.permitted:
        return
    first = verdict.rules[0]
    raise Refused(
        stage=stage,
        reason="law",
        detail=f"{first.id} ({first.cite}): {first.detail or first.remedy}",
        rules=tuple(dict.fromkeys(note.id for note in verdict.rules)),
    )


def _refusals(pack: Pack, request: dict[str, object]) -> list[RuleNote]:
    """What `pack` has against the request; empty only for a clean Allow."""
    result = is_authorized(request, pack.policies, pack.vocabulary.items, pack.vocabulary.schema)
    errors = result.diagnostics.errors
    if result.decision is Decision.Allow and not errors:
        return []
    notes = [_note(pack, rule, "") for rule in _forbidding(pack, result)]
    if errors or not notes:
        detail = "; ".join(errors) or "no rule of this pack permits it"
        notes.append(_note(pack, pack.rule(DEFAULT_RULE), detail))
    return notes


def _forbidding(pack: Pack, result: AuthzResult) -> list[Rule]:
    if result.decision is not Decision.Deny:
        return []
    found = (pack.rules[policy_id] for policy_id in result.diagnostics.reasons)
    return sorted(found, key=lambda rule: rule.order)


def _note(pack: Pack, rule: Rule, detail: str) -> RuleNote:
    return RuleNote(
        id=rule.id,
        pack=pack.name,
        effect=rule.effect,
        cite=rule.cite,
        confidence=rule.confidence,
        remedy=rule.remedy,
        detail=detail,
    )


def _in_order(notes: Iterable[RuleNote]) -> tuple[RuleNote, ...]:
    """Bars first, then approvals, then measures; what several packs say alike is said once."""
    distinct: dict[tuple[str, str], RuleNote] = {}
    for note in notes:
        distinct.setdefault((note.id, note.detail or note.remedy), note)
    return tuple(sorted(distinct.values(), key=lambda note: _EFFECT_RANK[note.effect]))


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
