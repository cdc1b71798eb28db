"""From a draft to a declaration that carries the law's permit."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ringfence.core.artifacts import (
    Declaration,
    Input,
    Kind,
    Payload,
    PayloadCodec,
    VerdictNote,
)
from ringfence.core.clock import from_rfc3339, to_rfc3339
from ringfence.crossing.law import Law, data_classes, judge
from ringfence.crossing.region import Region
from ringfence.policy.judge import Verdict
from ringfence.policy.words import Action

_UNDECIDED = VerdictNote(packs=(), approvals=(), valid_until="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a place knows of an artifact before the law has spoken."""

    kind: Kind
    lineage: str
    round: int
    parent: str
    model: str
    layout: str
    codec: PayloadCodec
    payload: Payload | None
    inputs: tuple[Input, ...]
    jurisdictions: tuple[str, ...]
    examples: int = 0
    metrics: tuple[tuple[str, float], ...] = ()


def decide(region: Region, draft: Draft, *, recipient: str) -> Declaration:
    """Judge the export of `draft` to `recipient`; returns the declaration with its verdict.

    Raises: Refused at stage `law`, naming the rules, when any pack says no.
    """
    undecided = declare(region.law, draft, sender=region.id, recipient=recipient)
    verdict = judge(region.law, undecided, action=Action.EXPORT)
    return msgspec.structs.replace(undecided, verdict=_note(verdict))


def still_permitted(region: Region, declaration: Declaration) -> bool:
    """Ask again before a send or resume; whether the signed verdict is still the law's answer.

    Raises: Refused when the law now says no.
    """
    verdict = _note(judge(region.law, declaration, action=Action.EXPORT))
    signed = declaration.verdict
    return (verdict.packs, verdict.approvals) == (
        signed.packs,
        signed.approvals,
    ) and region.clock() < from_rfc3339(signed.valid_until)


def declare(law: Law, draft: Draft, *, sender: str, recipient: str) -> Declaration:
    """Everything that is said of an artifact but the verdict."""
    agreement = law.agreement
    return Declaration(
        agreement=agreement.digest,
        kind=draft.kind,
        lineage=draft.lineage,
        round=draft.round,
        sender=sender,
        recipient=recipient,
        parent=draft.parent,
        model=draft.model,
        layout=draft.layout,
        codec=draft.codec,
        payload=draft.payload,
        inputs=draft.inputs,
        jurisdictions=draft.jurisdictions,
        data_classes=data_classes(agreement, draft.jurisdictions),
        hardware=agreement.region(sender).hardware,
        purpose=agreement.terms.training.purpose,
        examples=draft.examples,
        metrics=dict(draft.metrics),
        verdict=_UNDECIDED,
        issued=to_rfc3339(law.clock()),
    )


def _note(verdict: Verdict) -> VerdictNote:
    return VerdictNote(
        packs=tuple(f"{pack.name}@{pack.digest}" for pack in verdict.packs),
        approvals=tuple(sorted(verdict.approvals)),
        valid_until=to_rfc3339(verdict.valid_until),
    )
