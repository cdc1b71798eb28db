"""A panel: the packs that judge one question, in one evaluation over all their policies.

Reading a request costs Cedar ten times what evaluating fifty policies does, so the packs are asked
together.  A clean Allow of the whole panel is a clean Allow of each pack: no policy of any pack
forbids, none fails to evaluate, and the one permit of every pack is among the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cedarpy import AuthzResult, Decision, PolicySet, is_authorized

from ringfence.core.errors import ConfigError
from ringfence.policy.packs import DEFAULT_RULE, Confidence, Effect, Pack, Rule
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Packs in the order in which they are named, platform first.

    `rules` maps the ids that Cedar gives the joined policies to pack and rule.
    """

    packs: tuple[Pack, ...]
    policies: PolicySet
    rules: Mapping[str, tuple[Pack, Rule]]


def seat(packs: Sequence[Pack]) -> Panel:
    """Join the policies of `packs`, all parsed with one vocabulary."""
    rules = [(pack, rule) for pack in packs for rule in pack.rules]
    # Each text parses alone and ends its own line, so the joined text parses to the same policies,
    # which Cedar numbers by their place: policy0, policy1, ...
    policies = PolicySet.from_str("\n".join(pack.text for pack in packs))
    if len(policies) != len(rules):
        raise ConfigError(
            f"law packs {[pack.name for pack in packs]}: expected {len(rules)} policies together, "
            f"got {len(policies)}; restore the packs"
        )
    return Panel(
        packs=tuple(packs),
        policies=policies,
        rules={f"policy{place}": found for place, found in enumerate(rules)},
    )


def refusals(panel: Panel, request: CedarRequest) -> tuple[RuleNote, ...]:
    """What the panel has against the request, in the order of its rules.

    INVARIANT: empty only if Cedar decided Allow without any error and every pack's permit agrees.
    Cedar skips a forbid that fails to evaluate, and decides nothing at all when a fact is missing.
    """
    vocabulary = panel.packs[0].vocabulary
    result = is_authorized(request.to_cedar(), panel.policies, vocabulary.items, vocabulary.schema)
    notes = [note(pack, rule) for pack, rule in _forbidding(panel, result)]
    if errors := result.diagnostics.errors:
        detail = _POLICY_ID.sub(lambda id_: _named(panel, id_[0]), "; ".join(errors))
        notes.append(note(panel.packs[0], panel.packs[0].rule(DEFAULT_RULE), detail))
    elif result.decision is Decision.Allow:
        permitting = {panel.rules[policy][0].name for policy in result.diagnostics.reasons}
        notes.extend(_unmatched(pack) for pack in panel.packs if pack.name not in permitting)
    elif not notes:
        notes.extend(_unmatched(pack) for pack in panel.packs)
    return tuple(notes)


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


def _forbidding(panel: Panel, result: AuthzResult) -> list[tuple[Pack, Rule]]:
    if result.decision is not Decision.Deny:
        return []
    # Cedar reports reasons in no particular order.
    reasons = set(result.diagnostics.reasons)
    return [found for policy, found in panel.rules.items() if policy in reasons]


def _unmatched(pack: Pack) -> RuleNote:
    return note(pack, pack.rule(DEFAULT_RULE), f"nothing in pack {pack.name} permits this")


def _named(panel: Panel, policy_id: str) -> str:
    found = panel.rules.get(policy_id)
    return f"{found[1].id} of pack {found[0].name}" if found else policy_id
