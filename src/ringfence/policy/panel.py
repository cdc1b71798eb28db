"""A panel: the packs that judge one question, in one evaluation over all their policies.

Reading a request costs Cedar ten times what evaluating fifty policies does, so the packs are asked
together.  A clean Allow of the whole panel is a clean Allow of each pack: no policy of any pack
forbids, none fails to evaluate, and the one permit of every pack is among the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cedarpy import AuthzResult, Decision, PolicySet, is_authorized

from ringfence.core.errors import ConfigError
from ringfence.policy.packs import DEFAULT_RULE, Confidence, Effect, Pack, Rule, parse_rules
from ringfence.policy.request import CedarRequest

_POLICY_ID = re.compile(r"policy\d+")


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
    """Packs in the order in which they are named, platform first; `firm` leaves the flags out."""

    packs: tuple[Pack, ...]
    whole: _Bench
    firm: _Bench


def seat(packs: Sequence[Pack]) -> Panel:
    """Join the policies of `packs`, all parsed with one vocabulary."""
    return Panel(
        packs=tuple(packs),
        whole=_join(packs, lambda pack: pack.text),
        firm=_join(packs, lambda pack: pack.firm_text),
    )


def ask(panel: Panel, request: CedarRequest) -> Answer:
    """What the panel has against the request, in the order of its rules.

    A flag is written as a forbid, so that it is evaluated like any rule; where nothing but flags
    forbid, the rest is asked again without them, for it may lack a permit (PLAT-FLAG: a flag never
    permits).

    INVARIANT: `refusals` are empty only if Cedar decided Allow without any error on all rules that
    are no flags, and every pack's permit agrees.  Cedar skips a forbid that fails to evaluate, and
    decides nothing at all when a fact is missing.
    """
    notes = _against(panel, panel.whole, request)
    flags = tuple(found for found in notes if found.effect == "FLAG")
    if flags and len(flags) == len(notes):
        return Answer(refusals=tuple(_against(panel, panel.firm, request)), flags=flags)
    return Answer(refusals=tuple(n for n in notes if n.effect != "FLAG"), flags=flags)


def _against(panel: Panel, bench: _Bench, request: CedarRequest) -> list[RuleNote]:
    vocabulary = panel.packs[0].vocabulary
    result = is_authorized(request.to_cedar(), bench.policies, vocabulary.items, vocabulary.schema)
    notes = [note(pack, rule) for pack, rule in _forbidding(bench, result)]
    if errors := result.diagnostics.errors:
        detail = _POLICY_ID.sub(lambda id_: _named(bench, id_[0]), "; ".join(errors))
        notes.append(note(panel.packs[0], panel.packs[0].rule(DEFAULT_RULE), detail))
    elif result.decision is Decision.Allow:
        permitting = {bench.rules[policy][0].name for policy in result.diagnostics.reasons}
        notes.extend(_unmatched(pack) for pack in panel.packs if pack.name not in permitting)
    elif not notes:
        notes.extend(_unmatched(pack) for pack in panel.packs)
    return notes


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
    )


def _forbidding(bench: _Bench, result: AuthzResult) -> list[tuple[Pack, Rule]]:
    if result.decision is not Decision.Deny:
        return []
    # Cedar reports reasons in no particular order.
    reasons = set(result.diagnostics.reasons)
    return [found for policy, found in bench.rules.items() if policy in reasons]


def _unmatched(pack: Pack) -> RuleNote:
    return note(pack, pack.rule(DEFAULT_RULE), f"nothing in pack {pack.name} permits this")


def _named(bench: _Bench, policy_id: str) -> str:
    found = bench.rules.get(policy_id)
    return f"{found[1].id} of pack {found[0].name}" if found else policy_id
