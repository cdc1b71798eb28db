"""A panel: the packs that judge one question, asked together about all their policies.

Cedar says which policies match; the panel decides.  Each policy is asked as a permit, because
Cedar names every permit that matches and, beside a forbid, none: so one answer names what forbids,
what permits and what is flagged.  A policy stands for itself in Cedar, so that those which look at
facts of the flow alone are asked once for a flow, and at each moment only the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cedarpy import Decision, Entities, PolicySet, is_authorized

from ringfence.policy.flow import FLOW, reads_moment
from ringfence.policy.packs import DEFAULT_RULE, Confidence, Effect, Pack, Rule, policy_set
from ringfence.policy.request import CedarRequest

_POLICY_ID = re.compile(r"policy\d+")
_NO_POLICIES = PolicySet.from_str("")
_MOST_FLOWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleNote:
    """One rule that refused; `detail` says what Cedar could not decide, and is mostly empty.

    `conflict` names the law that may forbid to obey this one.
    """

    id: str
    pack: str
    effect: Effect
    cite: str
    confidence: Confidence
    remedy: str
    detail: str
    conflict: str

    def __str__(self) -> str:
        """What it is about, for a person: what is missing or what to do, and both laws if two."""
        said = self.detail or self.remedy
        if self.conflict:
            said = f"conflict of laws with {self.conflict}, which nothing here resolves: {said}"
        return f"{self.id} ({self.cite}): {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a panel has against a request, and what it wants a person to look at."""

    refusals: tuple[RuleNote, ...]
    flags: tuple[RuleNote, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seat:
    """One policy: what is said of it, and whether it is the permit of its pack."""

    note: RuleNote
    permits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matched:
    """The policies that match, and what Cedar says of those that it could not evaluate."""

    policies: frozenset[str]
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Flow:
    """The facts of a flow, parsed, and what matches by them alone."""

    entities: Entities
    matched: _Matched


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Packs in the order in which they are named, platform first, with all their policies.

    `seats` are in the order of the packs' rules, by the ids under which Cedar knows the policies;
    `of_moment` are those that look at a fact of the moment.
    """

    packs: tuple[Pack, ...]
    seats: Mapping[str, _Seat]
    of_flow: PolicySet
    of_moment: PolicySet
    _flows: dict[tuple[str, str, str, str], _Flow] = field(
        default_factory=dict, init=False, repr=False
    )


def seat(packs: Sequence[Pack]) -> Panel:
    """Join the policies of `packs`, all parsed with one vocabulary."""
    seats: dict[str, _Seat] = {}
    of_flow: dict[str, object] = {}
    of_moment: dict[str, object] = {}
    for pack in packs:
        for rule, policy in zip(pack.rules, pack.policies, strict=True):
            id_ = f"policy{len(seats)}"
            seats[id_] = _Seat(note=note(pack, rule), permits=policy["effect"] == "permit")
            group = of_moment if reads_moment(policy["conditions"]) else of_flow
            group[id_] = {**policy, "effect": "permit"}
    return Panel(
        packs=tuple(packs),
        seats=seats,
        of_flow=policy_set(of_flow),
        of_moment=policy_set(of_moment),
    )


def ask(panel: Panel, request: CedarRequest) -> Answer:
    """What the panel has against the request, in the order of its rules.

    INVARIANT: `refusals` are empty only if no policy of any pack forbids, none fails to evaluate,
    and the one permit of every pack matches.  Flags permit nothing (PLAT-FLAG).  Cedar skips a
    policy that fails to evaluate, and decides nothing at all when a fact is missing.
    """
    try:
        flow = _read_flow(panel, request)
        moment = _match(panel, panel.of_moment, request, flow.entities)
    except ValueError as error:
        return Answer(refusals=(_undecided(panel, _complaint(panel, request, error)),), flags=())
    policies = flow.matched.policies | moment.policies
    matched = [found for id_, found in panel.seats.items() if id_ in policies]
    against = _notes(found for found in matched if not found.permits and not _flags(found))
    if errors := (*flow.matched.errors, *moment.errors):
        named = _POLICY_ID.sub(lambda id_: _named(panel, id_[0]), "; ".join(errors))
        return Answer(refusals=(*against, _undecided(panel, named)), flags=())
    permitting = {found.note.pack for found in matched if found.permits}
    missing = tuple(_unmatched(pack) for pack in panel.packs if pack.name not in permitting)
    return Answer(refusals=against or missing, flags=_notes(filter(_flags, matched)))


def note(pack: Pack, rule: Rule, detail: str = "") -> RuleNote:
    """`rule` of `pack` as the reason of a refusal."""
    return RuleNote(
        id=rule.id,
        pack=pack.name,
        effect=rule.effect,
        cite=rule.cite,
        confidence=rule.confidence,
        remedy=rule.remedy,
        detail=detail,
        conflict=rule.conflict,
    )


def _read_flow(panel: Panel, request: CedarRequest) -> _Flow:
    """Kept for as long as nothing of it changes; raises ValueError when a fact is missing."""
    key = (request.principal, request.action, request.resource, request.flow)
    flow = panel._flows.get(key)
    if flow is None:
        vocabulary = panel.packs[0].vocabulary
        entity = f'[{{"uid":{json.dumps(FLOW)},"attrs":{request.flow},"parents":[]}}]'
        entities = vocabulary.items.with_added_json_str(entity, vocabulary.split)
        matched = _match(panel, panel.of_flow, request, entities)
        if len(panel._flows) >= _MOST_FLOWS:
            panel._flows.clear()
        flow = panel._flows[key] = _Flow(entities=entities, matched=matched)
    return flow


def _match(
    panel: Panel, policies: PolicySet, request: CedarRequest, entities: Entities
) -> _Matched:
    """Raises: ValueError when Cedar cannot read the facts of the moment, and so decides nothing."""
    asked = request.to_cedar(request.moment)
    result = is_authorized(asked, policies, entities, panel.packs[0].vocabulary.split)
    errors = tuple(result.diagnostics.errors)
    if result.decision is Decision.NoDecision:
        raise ValueError("; ".join(errors))
    return _Matched(policies=frozenset(result.diagnostics.reasons), errors=errors)


def _complaint(panel: Panel, request: CedarRequest, error: ValueError) -> str:
    """What is wrong with a request that Cedar could not read: of an entity it does not say."""
    vocabulary = panel.packs[0].vocabulary
    asked = request.to_cedar(request.context)
    whole = is_authorized(asked, _NO_POLICIES, vocabulary.items, vocabulary.schema)
    return "; ".join(whole.diagnostics.errors) or str(error)


def _flags(found: _Seat) -> bool:
    return found.note.effect == "FLAG"


def _notes(found: Iterable[_Seat]) -> tuple[RuleNote, ...]:
    return tuple(each.note for each in found)


def _undecided(panel: Panel, detail: str) -> RuleNote:
    return note(panel.packs[0], panel.packs[0].rule(DEFAULT_RULE), detail)


def _unmatched(pack: Pack) -> RuleNote:
    return note(pack, pack.rule(DEFAULT_RULE), f"nothing in pack {pack.name} permits this")


def _named(panel: Panel, policy_id: str) -> str:
    found = panel.seats.get(policy_id)
    return f"{found.note.id} of pack {found.note.pack}" if found else policy_id
