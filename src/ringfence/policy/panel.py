"""A panel: the packs that judge one question, in one evaluation over all their policies.

Reading a request costs Cedar ten times what evaluating fifty policies does, so the packs are asked
together.  A clean Allow of the whole panel is a clean Allow of each pack: no policy of any pack
forbids, none fails to evaluate, and the one permit of every pack is among the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cedarpy import AuthzResult, Decision, PolicySet, is_authorized

from ringfence.core.errors import ConfigError
from ringfence.policy.packs import DEFAULT_RULE, Confidence, Effect, Pack, Rule, parse_rules
from ringfence.policy.request import CedarRequest

_POLICY_ID = re.compile(r"policy\d+")


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Bench:
    """Joined policies, and the pack and rule behind each id that Cedar gives them."""

    policies: PolicySet
    rules: Mapping[str, tuple[Pack, Rule]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Packs in the order in which they are named, platform first, and all their flags alone."""

    packs: tuple[Pack, ...]
    whole: _Bench
    flags: _Bench


def seat(packs: Sequence[Pack]) -> Panel:
    """Join the policies of `packs`, all parsed with one vocabulary."""
    return Panel(
        packs=tuple(packs),
        whole=_join(packs, lambda pack: pack.judging_text),
        flags=_join(packs, lambda pack: pack.flags_text),
    )


def ask(panel: Panel, request: CedarRequest) -> Answer:
    """What the panel has against the request, in the order of its rules.

    Flags are asked as permits, because Cedar names every permit that matched beside an Allow.  They
    permit nothing: each pack's own permit must be among the reasons too (PLAT-FLAG).  A Deny names
    no permits, and the flags are asked alone.

    INVARIANT: `refusals` are empty only if Cedar decided Allow without any error and every pack's
    permit agrees.  Cedar skips a policy that fails to evaluate, and decides nothing at all when a
    fact is missing.
    """
    result = _decide(panel, panel.whole, request)
    reasons = set(result.diagnostics.reasons)
    matched = [found for policy, found in panel.whole.rules.items() if policy in reasons]
    if errors := result.diagnostics.errors:
        detail = _POLICY_ID.sub(lambda id_: _named(panel.whole, id_[0]), "; ".join(errors))
        failed = note(panel.packs[0], panel.packs[0].rule(DEFAULT_RULE), detail)
        denied = matched if result.decision is Decision.Deny else []
        return Answer(refusals=(*_notes(denied), failed), flags=())
    if result.decision is Decision.Allow:
        permitting = {pack.name for pack, rule in matched if rule.id == DEFAULT_RULE}
        missing = [_unmatched(pack) for pack in panel.packs if pack.name not in permitting]
        return Answer(refusals=tuple(missing), flags=_notes(_flags(matched)))
    refusals = _notes(matched) or tuple(_unmatched(pack) for pack in panel.packs)
    raised = set(_decide(panel, panel.flags, request).diagnostics.reasons)
    flags = [found for policy, found in panel.flags.rules.items() if policy in raised]
    return Answer(refusals=refusals, flags=_notes(flags))


def _decide(panel: Panel, bench: _Bench, request: CedarRequest) -> AuthzResult:
    vocabulary = panel.packs[0].vocabulary
    return is_authorized(request.to_cedar(), bench.policies, vocabulary.items, vocabulary.schema)


def _notes(found: Iterable[tuple[Pack, Rule]]) -> tuple[RuleNote, ...]:
    return tuple(note(pack, rule) for pack, rule in found)


def _flags(found: Iterable[tuple[Pack, Rule]]) -> Iterator[tuple[Pack, Rule]]:
    return ((pack, rule) for pack, rule in found if rule.effect == "FLAG")


def _join(packs: Sequence[Pack], text_of: Callable[[Pack], str]) -> _Bench:
    rules = [(pack, rule) for pack in packs for rule in parse_rules(pack.name, text_of(pack))]
    # Each text parses alone and ends its own line, so the joined text parses to the same policies,
    # which Cedar numbers by their place: policy0, policy1, ...
    policies = PolicySet.from_str("\n".join(text_of(pack) for pack in packs))
    if len(policies) != len(rules):
        raise ConfigError(
            f"law packs {[pack.name for pack in packs]}: expected {len(rules)} policies together, "
            f"got {len(policies)}; restore the packs"
        )
    return _Bench(
        policies=policies,
        rules={f"policy{place}": found for place, found in enumerate(rules)},
    )


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


def _unmatched(pack: Pack) -> RuleNote:
    return note(pack, pack.rule(DEFAULT_RULE), f"nothing in pack {pack.name} permits this")


def _named(bench: _Bench, policy_id: str) -> str:
    found = bench.rules.get(policy_id)
    return f"{found[1].id} of pack {found[0].name}" if found else policy_id
